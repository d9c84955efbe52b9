//! Which paths are routes. Byte for byte: whatever is spelled in another way is another path, and has no route.

use http::Method;

use super::{
    CANCEL, CHAT, COMPLETIONS, EMBEDDINGS, INPUT_TOKENS, MODEL_BYTES_MAX, MODELS, MODERATIONS, RESPONSES, STORED,
};
use crate::provider::Route;

/// The longest query.
const QUERY_BYTES_MAX: usize = 1024;
/// Parameters with which a stored response is read.
const STORED_PARAMETERS: [&str; 9] = [
    "include",
    "include[]",
    "include%5B%5D",
    "include_obfuscation",
    "starting_after",
    "stream",
    "after",
    "limit",
    "order",
];

/// OpenAI's routes, with the `/v1` before them.
pub fn openai(method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
    let path = path.strip_prefix("/v1")?;
    match (method, path) {
        (&Method::POST, "/moderations") if query.is_none() => Some(MODERATIONS),
        // Free, and exact: the only way to know the tokens of images and files.
        (&Method::POST, "/responses/input_tokens") if query.is_none() => Some(INPUT_TOKENS),
        _ => shared(method, path, query),
    }
}

/// The routes that OpenAI and Azure have in common.
pub fn shared(method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
    if let Some(route) = stored(method, path, query) {
        return Some(route);
    }
    if query.is_some() {
        return None;
    }
    match (method, path) {
        (&Method::POST, "/chat/completions") => Some(CHAT),
        (&Method::POST, "/completions") => Some(COMPLETIONS),
        (&Method::POST, "/responses") => Some(RESPONSES),
        (&Method::POST, "/embeddings") => Some(EMBEDDINGS),
        _ => models(method, path),
    }
}

/// `GET /models`, and one of them.
pub fn models(method: &Method, path: &str) -> Option<Route> {
    if method != Method::GET {
        return None;
    }
    let rest = path.strip_prefix("/models")?;
    (rest.is_empty() || is_segment(rest.strip_prefix('/')?)).then_some(MODELS)
}

/// Reading, cancelling and deleting a response that was paid for.
fn stored(method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
    let rest = path.strip_prefix("/responses/")?;
    let (id, action) = rest.split_once('/').map_or((rest, None), |(id, action)| (id, Some(action)));
    if !id.starts_with("resp_") || !is_segment(id) {
        return None;
    }
    match (method, action) {
        (&Method::GET, None | Some("input_items")) => query.is_none_or(is_stored_query).then_some(STORED),
        (&Method::DELETE, None) => query.is_none().then_some(STORED),
        (&Method::POST, Some("cancel")) => query.is_none().then_some(CANCEL),
        _ => None,
    }
}

/// `limit=20&order=asc`: known names, plain values.
fn is_stored_query(query: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    query.len() <= QUERY_BYTES_MAX
        && query.split('&').all(|pair| {
            pair.split_once('=')
                .is_some_and(|(name, value)| STORED_PARAMETERS.contains(&name) && value.bytes().all(is_plain))
        })
}

/// The characters of a name that is one segment of a path.
pub fn is_segment(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    !name.is_empty() && name.len() <= MODEL_BYTES_MAX && name != "." && name != ".." && name.bytes().all(is_plain)
}

//! Which paths and queries are proxied, and what they say: the model, and how a stream is framed.

use http::Method;

use crate::provider::Route;

pub const GENERATE: Route = Route { label: "generate_content", metered: true, body: true };
/// A stream of server-sent events (`alt=sse`).
pub const STREAM: Route = Route { label: "stream_generate_content", metered: true, body: true };
/// A stream that is one JSON array, written piece by piece.
pub const STREAM_ARRAY: Route = Route { label: "stream_generate_content_array", metered: true, body: true };
pub const EMBED: Route = Route { label: "embed_content", metered: true, body: true };
pub const BATCH_EMBED: Route = Route { label: "batch_embed_contents", metered: true, body: true };
pub const COUNT: Route = Route { label: "count_tokens", metered: false, body: true };
pub const MODELS: Route = Route { label: "models", metered: false, body: false };

/// The longest model name.
const MODEL_BYTES_MAX: usize = 128;
/// The colon before a verb, as clients write it.
const COLONS: [&str; 3] = [":", "%3A", "%3a"];

/// The route of a request. Byte for byte: whatever is spelled in another way has none.
pub fn find(method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
    let rest = below_models(path)?;
    let query = Query::read(query)?;
    if method == Method::GET {
        let is_known = rest.is_empty() || rest.strip_prefix('/').is_some_and(is_model_name);
        return (is_known && !query.is_sse && (rest.is_empty() || !query.is_page)).then_some(MODELS);
    }
    let (model, verb) = split(rest)?;
    if method != Method::POST || !is_model_name(model) || query.is_page {
        return None;
    }
    match (verb, query.is_sse) {
        ("streamGenerateContent", true) => Some(STREAM),
        ("streamGenerateContent", false) => Some(STREAM_ARRAY),
        ("generateContent", false) => Some(GENERATE),
        ("embedContent", false) => Some(EMBED),
        ("batchEmbedContents", false) => Some(BATCH_EMBED),
        ("countTokens", false) => Some(COUNT),
        _ => None,
    }
}

/// The model that a path names.
pub fn model(path: &str) -> Option<&str> {
    split(below_models(path)?).map(|(model, _)| model)
}

/// What follows `/v1/models` or `/v1beta/models`.
fn below_models(path: &str) -> Option<&str> {
    ["/v1beta/models", "/v1/models"].into_iter().find_map(|prefix| path.strip_prefix(prefix))
}

/// `/{model}:{verb}`.
fn split(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('/')?;
    COLONS.into_iter().find_map(|colon| rest.split_once(colon))
}

/// The characters of a model's name.
fn is_model_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= MODEL_BYTES_MAX && name != "." && name != ".." && name.bytes().all(is_plain)
}

/// The parameters that are known. All others have no route: `fields` hides the usage, `callback` changes the framing.
#[derive(Default)]
struct Query {
    is_sse: bool,
    is_page: bool,
}

impl Query {
    fn read(query: Option<&str>) -> Option<Query> {
        let mut found = Query::default();
        let mut seen = Vec::new();
        for (name, value) in query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .map(|pair| pair.split_once('='))
            .collect::<Option<Vec<_>>>()?
        {
            let name = name.strip_prefix('$').unwrap_or(name);
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                ("alt", "sse") => found.is_sse = true,
                ("alt", "json") | ("prettyPrint", "true" | "false") => {}
                ("pageSize" | "pageToken", value) if is_page_value(value) => found.is_page = true,
                _ => return None,
            }
        }
        Some(found)
    }
}

fn is_page_value(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 1024
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=%".contains(&b))
}

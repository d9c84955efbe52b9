//! Azure's paths: `/openai/deployments/{D}/…?api-version=…`, `/openai/responses?api-version=…`, `/openai/v1/…`.

use http::Method;

use crate::provider::Route;
use crate::provider::openai::{CHAT, COMPLETIONS, EMBEDDINGS, routes};

/// The longest version.
const VERSION_BYTES_MAX: usize = 40;

/// The route of a request.
pub fn find(method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
    let path = path.strip_prefix("/openai")?;
    if let Some(path) = path.strip_prefix("/v1") {
        return routes::shared(method, path, without_version(query)?);
    }
    // The dated surface is nothing without its version.
    let rest = without_version(query).filter(|rest| *rest != query)?;
    if let Some(path) = path.strip_prefix("/deployments/") {
        let (deployment, path) = path.split_at(path.find('/')?);
        let is_right = method == Method::POST && rest.is_none() && routes::is_segment(deployment);
        return match path {
            "/chat/completions" if is_right => Some(CHAT),
            "/completions" if is_right => Some(COMPLETIONS),
            "/embeddings" if is_right => Some(EMBEDDINGS),
            _ => None,
        };
    }
    let is_known = path == "/responses" || path.starts_with("/responses/") || path.starts_with("/models");
    if is_known { routes::shared(method, path, rest) } else { None }
}

/// The deployment that a path of the dated surface names.
pub fn deployment(path: &str) -> Option<&str> {
    path.strip_prefix("/openai/deployments/")?.split('/').next()
}

/// The `api-version` of a query.
pub fn version(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("api-version="))
}

/// `2024-10-21`, with or without `-preview`.
pub fn is_date(version: &str) -> bool {
    version.len() >= 10
        && version.bytes().take(10).enumerate().all(|(at, b)| match at {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// A query without its version, which stands first or last. `None`: the version is not one, or stands twice.
fn without_version(query: Option<&str>) -> Option<Option<&str>> {
    let Some(query) = query else { return Some(None) };
    let mut versions = query.split('&').filter(|pair| pair.starts_with("api-version="));
    let Some(pair) = versions.next() else { return Some(Some(query)) };
    let version = &pair["api-version=".len()..];
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    let is_right = !version.is_empty() && version.len() <= VERSION_BYTES_MAX && version.bytes().all(is_plain);
    if !is_right || versions.next().is_some() {
        return None;
    }
    if query == pair {
        return Some(None);
    }
    let before = query.strip_suffix(pair).and_then(|rest| rest.strip_suffix('&'));
    let after = || query.strip_prefix(pair).and_then(|rest| rest.strip_prefix('&'));
    before.or_else(after).map(Some)
}

//! What the admin listener answers: a pure function from request to answer.
//!
//! `/metrics`, `/healthz` and `/readyz` are open; everything under `/admin` needs the admin token, and takes nothing from a
//! web page: no `Origin`, no foreign `Host`, no form bodies.

mod api;
mod ready;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::observe::metrics;
use crate::pricing::PriceTable;
use crate::secret::Secret;

pub use ready::Readiness;

/// The largest body of an admin request.
pub const BODY_BYTES_MOST: usize = 64 * 1024;

/// What the admin listener knows.
pub struct AdminState {
    /// The books.
    pub ledger: Ledger,
    /// The prices in force, which a reload may replace: new keys may only name models that have one.
    pub prices: Arc<ArcSwap<PriceTable>>,
    /// What `/admin` asks for.
    pub token: Option<Secret>,
    /// Where it listens; on a loopback address, only requests for a loopback host are heard.
    pub listen: SocketAddr,
    /// The gateway takes no more calls.
    pub draining: Arc<AtomicBool>,
    clock: Clock,
    readiness: Readiness,
}

impl AdminState {
    /// The state of a new listener.
    pub fn new(
        ledger: Ledger,
        prices: Arc<ArcSwap<PriceTable>>,
        token: Option<Secret>,
        listen: SocketAddr,
        draining: Arc<AtomicBool>,
    ) -> Self {
        AdminState { ledger, prices, token, listen, draining, clock: Clock::System, readiness: Readiness::default() }
    }

    /// Whether a call would be admitted now: the reason why not, otherwise. Runs a real hold and release, at most one at a
    /// time and at most five a second.
    pub async fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining".into());
        }
        self.readiness.check(&self.ledger).await
    }
}

/// Answers one request. `path` is without the query.
pub async fn respond(
    state: &AdminState,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response<Vec<u8>> {
    let reading = method == Method::GET || method == Method::HEAD;
    match path {
        "/healthz" if reading => text(StatusCode::OK, "ok\n"),
        "/readyz" if reading => match state.ready().await {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
        },
        "/metrics" if reading => match foreign(state, headers) {
            Some(problem) => error(StatusCode::FORBIDDEN, problem, ""),
            None => metrics_page(),
        },
        "/healthz" | "/readyz" | "/metrics" => error(StatusCode::METHOD_NOT_ALLOWED, "only GET", ""),
        _ if path == "/admin" || path.starts_with("/admin/") => match kept_out(state, headers) {
            Some(refused) => refused,
            None => admin(state, method, path, headers, &body).await,
        },
        _ => error(StatusCode::NOT_FOUND, "there is nothing here", ""),
    }
}

async fn admin(
    state: &AdminState,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Vec<u8>> {
    if body.len() > BODY_BYTES_MOST {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large", "");
    }
    if !body.is_empty() && !is_json(headers) {
        return error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON",
            "send content-type: application/json",
        );
    }
    let rest = path.strip_prefix("/admin/v1/").unwrap_or_default();
    let Some(parts) = rest.split('/').map(decoded).collect::<Option<Vec<String>>>() else {
        return error(StatusCode::BAD_REQUEST, "the path is not well encoded", "");
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let call = api::Call { state, now: state.clock.now(), body };
    match api::route(&call, method, &parts).await {
        Some(answer) => answer.unwrap_or_else(|refused| api::refusal(&refused)),
        None => error(StatusCode::NOT_FOUND, "there is no such route or method", "docs/API.md lists the routes"),
    }
}

/// The answer to who has no token, or was sent by a web page; `None` lets the request in.
fn kept_out(state: &AdminState, headers: &HeaderMap) -> Option<Response<Vec<u8>>> {
    let Some(token) = &state.token else {
        let hint = "set admin.token in loopers.yaml, e.g. env:LOOPERS_ADMIN_TOKEN, and start again";
        return Some(error(StatusCode::FORBIDDEN, "the admin API is off: no admin token is configured", hint));
    };
    if let Some(problem) = foreign(state, headers) {
        return Some(error(StatusCode::FORBIDDEN, problem, ""));
    }
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let presented = match (given.next(), given.next()) {
        (Some(value), None) => value.as_bytes().strip_prefix(b"Bearer "),
        _ => None,
    };
    // Digests of both are compared: how long that takes says nothing about the token.
    let same = presented.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.expose().as_bytes()));
    if same {
        return None;
    }
    let mut refused =
        error(StatusCode::UNAUTHORIZED, "the admin token is missing or wrong", "send Authorization: Bearer TOKEN");
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(refused)
}

/// What shows that a web page sent the request: its `Origin`, or a name that was made to point at this machine.
fn foreign(state: &AdminState, headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(ORIGIN) {
        return Some("requests from web pages are not answered");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let local = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_loopback_host),
        _ => false,
    };
    (state.listen.ip().is_loopback() && !local)
        .then_some("the Host header must name this machine: localhost or 127.0.0.1")
}

fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// One path segment without its percent signs.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn metrics_page() -> Response<Vec<u8>> {
    let mut page = text(StatusCode::OK, &metrics::render());
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    page
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    answer(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

/// A value as JSON.
fn json_page(status: StatusCode, value: &impl Serialize) -> Response<Vec<u8>> {
    match serde_json::to_vec(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(problem) => {
            log::error!("an answer cannot be written as JSON: {problem}");
            answer(StatusCode::INTERNAL_SERVER_ERROR, "application/json", b"{}".to_vec())
        }
    }
}

fn error(status: StatusCode, message: &str, hint: &str) -> Response<Vec<u8>> {
    json_page(status, &json!({ "error": { "message": message, "hint": hint } }))
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

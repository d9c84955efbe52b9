//! What arrived over the wire, kept for tests to look at.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How many requests the log remembers.
const KEEP: usize = 1000;
/// How much of each body it keeps.
const KEEP_BODY: usize = 64 * 1024;

/// One request, copied out of the connection's buffers so that it pins no memory but its own.
#[derive(Debug, Default)]
pub struct RequestInfo {
    /// Counts from 1 since the start.
    pub seq: u64,
    /// HTTP method.
    pub method: String,
    /// Path and query as they came.
    pub path: String,
    /// `name\0value\n`, in order. Neither byte can occur in a header.
    headers: Vec<u8>,
    body: Vec<u8>,
    body_bytes: usize,
    auth: OnceLock<&'static str>,
}

impl RequestInfo {
    fn new(seq: u64, parts: &Parts, body: &[u8]) -> RequestInfo {
        let mut headers = Vec::with_capacity(512);
        for (name, value) in &parts.headers {
            headers.extend_from_slice(name.as_str().as_bytes());
            headers.push(0);
            headers.extend_from_slice(value.as_bytes());
            headers.push(b'\n');
        }
        RequestInfo {
            seq,
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path_and_query().map_or("", |p| p.as_str()).to_owned(),
            headers,
            body: body[..body.len().min(KEEP_BODY)].to_vec(),
            body_bytes: body.len(),
            auth: OnceLock::new(),
        }
    }

    /// Notes how the caller proved who they are: `bearer`, `x-api-key`, `sigv4_ok` …
    pub fn set_auth(&self, how: &'static str) {
        let _ = self.auth.set(how);
    }

    /// All headers, in order, repeated ones repeated.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> {
        self.headers.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| {
            let mut halves = line.splitn(2, |b| *b == 0);
            let mut half = || String::from_utf8_lossy(halves.next().unwrap_or_default()).into_owned();
            (half(), half())
        })
    }

    /// Whose call it says it is, in `x-mock-account`; empty if it does not say.
    pub fn account(&self) -> String {
        self.headers().find(|(name, _)| name == "x-mock-account").map_or_else(String::new, |(_, value)| value)
    }

    /// The names of all headers.
    pub fn header_names(&self) -> Vec<String> {
        self.headers().map(|(name, _)| name).collect()
    }

    /// The bearer token if it is plainly a test key, otherwise `sha256:` and its hash.
    pub fn authorization(&self) -> String {
        let Some((_, value)) = self.headers().find(|(name, _)| name == "authorization") else {
            return String::new();
        };
        let token = value.strip_prefix("Bearer ").unwrap_or(&value);
        if token.len() <= 64 && ["test", "mock", "fake"].iter().any(|word| token.contains(word)) {
            return token.to_owned();
        }
        let hex: String = Sha256::digest(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        format!("sha256:{hex}")
    }

    fn to_json(&self) -> Value {
        json!({
            "seq": self.seq,
            "method": self.method,
            "path": self.path,
            "headers": self.headers().map(|(n, v)| json!([n, v])).collect::<Vec<_>>(),
            "body": String::from_utf8_lossy(&self.body),
            "body_bytes": self.body_bytes,
            "auth": self.auth.get(),
        })
    }
}

/// The last requests on any route but the control routes.
#[derive(Debug, Default)]
pub struct RequestLog {
    seq: AtomicU64,
    ring: Mutex<VecDeque<Arc<RequestInfo>>>,
}

impl RequestLog {
    /// Adds a request.
    pub fn add(&self, parts: &Parts, body: &Bytes) -> Arc<RequestInfo> {
        let seq = self.seq.fetch_add(1, Relaxed) + 1;
        let info = Arc::new(RequestInfo::new(seq, parts, body));
        let mut ring = self.ring.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let oldest = if ring.len() >= KEEP { ring.pop_front() } else { None };
        ring.push_back(info.clone());
        drop(ring);
        drop(oldest);
        info
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.ring.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }

    /// The log, oldest first.
    pub fn to_json(&self) -> Value {
        let ring: Vec<_> = self.ring.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().cloned().collect();
        json!({ "requests": ring.iter().map(|info| info.to_json()).collect::<Vec<_>>() })
    }
}

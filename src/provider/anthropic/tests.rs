//! Requests: what is priced, forced and refused, row by row; routes; and the attacks of that side.

mod attacks;
mod fields;
mod routes;
mod shapes;

use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::money::Money;
use crate::pricing::PriceTable;
use crate::provider::{Fee, Options};

pub static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

/// Options with these fields admitted, and web search and fetch at a cent for five uses if `fees`.
pub fn options(allow: &[&str], fees: bool) -> Options {
    let fee = Fee { usd: Money::from_nano(10_000_000), calls: 5 };
    let names = if fees { vec!["web_search", "web_fetch"] } else { Vec::new() };
    Options {
        allow_fields: allow.iter().map(|name| name.to_string()).collect(),
        fees: names.into_iter().map(|name| (name.to_string(), fee)).collect(),
        ..Options::default()
    }
}

pub fn read_with(body: &str, headers: &[(&'static str, &str)], options: &Options) -> Result<Call, Reject> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let reading = Reading { options, ..Reading::plain("anthropic", &PRICES) };
    let body = Bytes::copy_from_slice(body.as_bytes());
    Anthropic.read(Request { headers: &map, ..Request::plain(MESSAGES, "", body) }, &reading)
}

pub fn read(body: &str) -> Result<Call, Reject> {
    read_with(body, &[], &Options::default())
}

/// A small request for Haiku 4.5 with these fields on top.
pub fn with(fields: Value) -> Value {
    let mut body = json!({"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The call of such a request.
#[track_caller]
pub fn call(fields: Value) -> Call {
    read(&with(fields).to_string()).unwrap_or_else(|reject| panic!("{reject:?}"))
}

/// The refusal of such a request.
#[track_caller]
pub fn refused(fields: Value) -> Reject {
    read(&with(fields.clone()).to_string()).err().unwrap_or_else(|| panic!("{fields} was taken"))
}

/// The refusal of a request whose one message has this content.
#[track_caller]
pub fn refused_content(content: Value) -> Reject {
    refused(json!({"messages": [{"role": "user", "content": content}]}))
}

/// What is forwarded.
pub fn sent(call: &Call, limit: Option<u64>) -> Value {
    serde_json::from_slice(&call.body.render(limit)).unwrap()
}

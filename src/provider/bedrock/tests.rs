//! Requests: what is priced, forced and refused, row by row, and the attacks of that side.

mod attacks;
mod fields;
mod natives;
mod shapes;

use std::sync::LazyLock;

use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::pricing::PriceTable;
use crate::provider::Options;

pub static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

pub const OPUS: &str = "us.anthropic.claude-opus-5-5";
pub const NOVA: &str = "amazon.nova-pro-v1%3A0";

/// What the operator says in these tests.
pub fn options() -> Options {
    Options { region: Some("us-east-1".into()), ..Options::default() }
}

/// A request to `/model/{id}/{operation}`.
pub fn read_with(
    options: &Options,
    headers: &[(&'static str, &str)],
    (id, operation): (&str, &str),
    body: &str,
) -> Result<Call, Reject> {
    let path = format!("/model/{id}/{operation}");
    let route = Bedrock.route(&Method::POST, &path, None).unwrap_or_else(|| panic!("{path} is no route"));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    let reading = Reading { provider: "bedrock", prices: &PRICES, options };
    Bedrock.read(Request { route, path: &path, query: None, headers: &map, body }, &reading)
}

pub fn read(id: &str, operation: &str, body: &str) -> Result<Call, Reject> {
    read_with(&options(), &[], (id, operation), body)
}

/// A small Converse request with these fields on top.
pub fn with(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": [{"text": "Say hello."}]}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The call of such a request to a model.
#[track_caller]
pub fn call_to(id: &str, fields: Value) -> Call {
    read(id, "converse", &with(fields).to_string()).unwrap_or_else(|reject| panic!("{reject:?}"))
}

/// The call of such a request to Claude.
#[track_caller]
pub fn call(fields: Value) -> Call {
    call_to(OPUS, fields)
}

/// How such a request to a model is refused.
#[track_caller]
pub fn refused_by(id: &str, fields: Value) -> Reject {
    let read = read(id, "converse", &with(fields.clone()).to_string());
    read.err().unwrap_or_else(|| panic!("{fields} was taken"))
}

/// How such a request to Claude is refused.
#[track_caller]
pub fn refused(fields: Value) -> Reject {
    refused_by(OPUS, fields)
}

/// A small `invoke` request in Claude's own format.
pub fn claude(fields: Value) -> Value {
    let mut body = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100,
        "messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// What is forwarded.
pub fn sent(call: &Call, limit: Option<u64>) -> Value {
    serde_json::from_slice(&call.body.render(limit)).unwrap()
}

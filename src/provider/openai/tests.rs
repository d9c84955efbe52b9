//! Requests: what is priced, forced and refused, row by row, and the attacks of that side.

mod attacks;
pub mod family;
mod fields;
mod shapes;

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::pricing::PriceTable;
use crate::provider::Options;

pub static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

pub fn read_route(route: Route, body: &str, allow: &[&str]) -> Result<Call, Reject> {
    let allow: Vec<String> = allow.iter().map(|name| name.to_string()).collect();
    let options = Options { allow_fields: allow, ..Options::default() };
    let reading = Reading { options: &options, ..Reading::plain("openai", &PRICES) };
    OpenAi.read(Request::plain(route, "", Bytes::copy_from_slice(body.as_bytes())), &reading)
}

pub fn read(body: &str) -> Result<Call, Reject> {
    read_route(CHAT, body, &[])
}

/// A small request for gpt-4o with these fields on top.
pub fn with(fields: Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The call of such a request.
pub fn call(fields: Value) -> Call {
    read(&with(fields).to_string()).unwrap_or_else(|reject| panic!("{reject:?}"))
}

/// The code with which such a request is refused.
#[track_caller]
pub fn refused(fields: Value) -> Reject {
    read(&with(fields.clone()).to_string()).err().unwrap_or_else(|| panic!("{fields} was taken"))
}

/// What is forwarded.
pub fn sent(call: &Call, limit: Option<u64>) -> Value {
    serde_json::from_slice(&call.body.render(limit)).unwrap()
}

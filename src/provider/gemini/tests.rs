//! Requests: what is priced, forced and refused, row by row; routes; the attacks of that side.

mod attacks;
mod bounds;
mod embeddings;
mod parameters;
mod routes;

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::money::Money;
use crate::pricing::PriceTable;
use crate::provider::{Fee, Options};

/// Prices typed from the reference's table, and rows that no real model has.
const ROWS: &str = r#"
gemini/gemini-3.8-flash:
  {input: "0.75", output: "3.75", cache_read: "0.075", audio_in: "0.75", image_in: "0.75", video_in: "0.75", hidden_output: true,
   flex: {input: "0.375", output: "1.875"}, priority: {input: "1.35", output: "6.75"},
   fees: {web_search: "0.014", maps: "0.014", per_query: true}, context_window: 1114112, max_output: 65536}
gemini/gemini-3.1-pro-preview:
  {input: "2", output: "12", cache_read: "0.2", audio_in: "2", image_in: "2", video_in: "2", hidden_output: true,
   long_context: {above: 200000, input: "4", output: "18", cache_read: "0.4"},
   fees: {web_search: "0.014", per_query: true}, context_window: 1114112, max_output: 65536}
gemini/gemini-2.5-flash:
  {input: "0.3", output: "2.5", cache_read: "0.03", audio_in: "1", audio_in_cached: "0.1", image_in: "0.3", video_in: "0.3",
   hidden_output: true, fees: {web_search: "0.035", maps: "0.025"}, context_window: 1114112, max_output: 65536}
gemini/gemini-4-argon:
  {input: "2", output: "10", cache_read: "0.1", hidden_output: true, context_window: 2097152, max_output: 1048576}
gemini/gemini-plain: {input: "1", output: "2", context_window: 40000, max_output: 8192}
gemini/gemini-paints: {input: "1", output: "2", image_out: "30", context_window: 65536, max_output: 32768}
gemini/gemini-speaks: {input: "1", output: "2", audio_out: "20", context_window: 32768, max_output: 16384}
gemini/gemini-embedding-001: {mode: embedding, input: "0.15", context_window: 2048}
gemini/gemini-embedding-2:
  {mode: embedding, input: "0.2", audio_in: "6.5", image_in: "0.45", video_in: "12", context_window: 8192}
"#;

pub static PRICES: LazyLock<PriceTable> =
    LazyLock::new(|| PriceTable::load(&[("prices.yaml".into(), ROWS.into())]).unwrap());

/// The prices of tools that the operator of these tests set.
pub fn fees() -> Options {
    let fee = |nano: u64, calls: u64| Fee { usd: Money::from_nano(nano), calls };
    let fees = [
        ("web_search", fee(14_000_000, 5)),
        ("maps", fee(25_000_000, 2)),
        ("url_context", fee(0, 3)),
        ("code_execution", fee(0, 4)),
        ("file_search", fee(2_500_000, 1)),
    ];
    Options { fees: fees.map(|(name, fee)| (name.to_string(), fee)).into(), ..Options::default() }
}

pub fn path(model: &str, verb: &str) -> String {
    format!("/v1beta/models/{model}:{verb}")
}

pub fn read_with(path: &str, query: Option<&str>, body: &str, options: &Options) -> Result<Call, Reject> {
    let route = Gemini.route(&Method::POST, path, query).unwrap();
    let reading = Reading { options, ..Reading::plain("gemini", &PRICES) };
    let request = Request { query, ..Request::plain(route, path, Bytes::copy_from_slice(body.as_bytes())) };
    Gemini.read(request, &reading)
}

pub fn read_text(model: &str, body: &str) -> Result<Call, Reject> {
    read_with(&path(model, "generateContent"), None, body, &Options::default())
}

/// A small request with these fields on top.
pub fn with(fields: Value) -> Value {
    let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

pub fn call_of(model: &str, fields: Value) -> Call {
    read_text(model, &with(fields).to_string()).unwrap_or_else(|reject| panic!("{reject:?}"))
}

/// The call of such a request to gemini-3.8-flash.
pub fn call(fields: Value) -> Call {
    call_of("gemini-3.8-flash", fields)
}

#[track_caller]
pub fn refused_of(model: &str, fields: Value) -> Reject {
    read_text(model, &with(fields.clone()).to_string()).err().unwrap_or_else(|| panic!("{fields} was taken"))
}

#[track_caller]
pub fn refused(fields: Value) -> Reject {
    refused_of("gemini-3.8-flash", fields)
}

/// What is forwarded.
pub fn sent(call: &Call, limit: Option<u64>) -> Value {
    serde_json::from_slice(&call.body.render(limit)).unwrap()
}

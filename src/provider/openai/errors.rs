//! How OpenAI's SDKs want to be told of a refusal.

use serde_json::{Value, json};

use crate::provider::{ErrorAnswer, ErrorReply};

/// The `type` that OpenAI itself would send.
fn kind(error: &ErrorAnswer<'_>) -> &'static str {
    match (error.code, error.status) {
        ("budget_exceeded" | "session_budget_exceeded" | "session_steps_exceeded", _) => "insufficient_quota",
        (_, 401) => "authentication_error",
        (_, 403) => "permission_error",
        (_, 429) => "rate_limit_error",
        (_, 500..) => "server_error",
        _ => "invalid_request_error",
    }
}

/// `{…}`, as it stands under `error`.
fn detail(error: &ErrorAnswer<'_>) -> Value {
    json!({
        "message": error.message,
        "type": kind(error),
        "param": null,
        "code": error.code,
        "loopers": error.loopers,
    })
}

/// `{"error":{…}}`.
fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
    json!({ "error": detail(error) }).to_string().into_bytes()
}

/// The whole answer.
pub fn reply(error: &ErrorAnswer<'_>) -> ErrorReply {
    ErrorReply { status: error.status, headers: Vec::new(), body: body(error) }
}

/// The event on which OpenAI's SDKs raise: any data with a true `error`. Nothing follows it, least of all `[DONE]`.
pub fn closing_event(error: &ErrorAnswer<'_>) -> Vec<u8> {
    [b"data: ", body(error).as_slice(), b"\n\n"].concat()
}

/// The same in a stream of responses, with the `sequence_number` that each of its events has (the AI SDK takes no
/// event without one). The SDKs raise on an event of type `error` only if it holds an `error`.
pub fn closing_response_event(error: &ErrorAnswer<'_>, number: u64) -> Vec<u8> {
    let body = json!({ "type": "error", "sequence_number": number, "error": detail(error) });
    format!("event: error\ndata: {body}\n\n").into_bytes()
}

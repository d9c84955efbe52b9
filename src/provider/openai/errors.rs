//! How OpenAI's SDKs want to be told of a refusal.

use serde_json::json;

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

/// `{"error":{…}}`.
fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let body = json!({
        "error": {
            "message": error.message,
            "type": kind(error),
            "param": null,
            "code": error.code,
            "loopers": error.loopers,
        }
    });
    body.to_string().into_bytes()
}

/// The whole answer.
pub fn reply(error: &ErrorAnswer<'_>) -> ErrorReply {
    ErrorReply { status: error.status, headers: Vec::new(), body: body(error) }
}

/// The event on which OpenAI's SDKs raise: any data with a true `error`. Nothing follows it, least of all `[DONE]`.
pub fn closing_event(error: &ErrorAnswer<'_>) -> Vec<u8> {
    [b"data: ", body(error).as_slice(), b"\n\n"].concat()
}

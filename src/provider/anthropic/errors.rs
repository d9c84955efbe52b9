//! How Anthropic's SDKs want to be told of a refusal.

use serde_json::json;

use crate::provider::{ErrorAnswer, ErrorReply};

/// The `type` that Anthropic itself sends with a status.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// `{"type":"error","error":{…},"request_id":…}`.
fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let body = json!({
        "type": "error",
        "error": {
            "type": kind(error.status),
            "message": error.message,
            "code": error.code,
            "loopers": error.loopers,
        },
        "request_id": error.request_id,
    });
    body.to_string().into_bytes()
}

/// The whole answer.
pub fn reply(error: &ErrorAnswer<'_>) -> ErrorReply {
    let headers = vec![("request-id", error.request_id.to_string())];
    ErrorReply { status: error.status, headers, body: body(error) }
}

/// The event on which Anthropic's SDKs raise: they go by its name. Nothing follows it.
pub fn closing_event(error: &ErrorAnswer<'_>) -> Vec<u8> {
    [b"event: error\ndata: ", body(error).as_slice(), b"\n\n"].concat()
}

//! How Google's SDKs want to be told of a refusal.

use serde_json::json;

use super::route;
use crate::provider::{ErrorAnswer, ErrorReply};

/// The status word that goes with an HTTP status.
fn word(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        400..500 => "INVALID_ARGUMENT",
        500 => "INTERNAL",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNAVAILABLE",
    }
}

/// `{"error":{…}}`.
pub fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let body = json!({
        "error": {
            "code": error.status,
            "message": error.message,
            "status": word(error.status),
            "details": [],
            "loopers": error.loopers,
        }
    });
    body.to_string().into_bytes()
}

/// The whole answer; in an array where the client reads one.
pub fn reply(error: &ErrorAnswer<'_>) -> ErrorReply {
    let body = body(error);
    let body = if error.route == Some(route::STREAM_ARRAY) { [b"[", body.as_slice(), b"]"].concat() } else { body };
    ErrorReply { status: error.status, headers: Vec::new(), body }
}

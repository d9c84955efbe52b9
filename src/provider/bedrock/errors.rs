//! How AWS's SDKs want to be told of a refusal.

use serde_json::json;

use super::frames;
use crate::provider::{ErrorAnswer, ErrorReply};

/// The exception that an SDK raises, whatever the status. None of these names is retried; the throttling and unavailable ones would be.
fn exception(status: u16) -> &'static str {
    match status {
        401..=403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ServiceQuotaExceededException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
    json!({ "message": error.message, "loopers": error.loopers }).to_string().into_bytes()
}

/// The whole answer. Bedrock has no 402: a budget that is used up is no access.
pub fn reply(error: &ErrorAnswer<'_>) -> ErrorReply {
    let status = if error.status == 402 { 403 } else { error.status };
    let headers =
        vec![("x-amzn-errortype", exception(status).to_string()), ("x-amzn-requestid", error.request_id.to_string())];
    ErrorReply { status, headers, body: body(error) }
}

/// The frame on which AWS's SDKs raise: an exception that both streaming operations know. What went wrong here is a validation error, which
/// nothing retries; what went wrong at the provider is its model's.
pub fn closing_event(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let kind = if error.status >= 500 { "modelStreamErrorException" } else { "validationException" };
    let headers = [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    frames::encode(&headers, &body(error))
}

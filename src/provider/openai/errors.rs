//! Refusals, and how OpenAI's SDKs want to be told of them.

use serde_json::json;

use crate::pricing::PriceTable;
use crate::provider::{ErrorAnswer, Reject};
use crate::wire::json::JsonError;

/// The request is not one that the API would take.
pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Reject {
    Reject { code: "invalid_request", message: message.into(), hint: hint.into() }
}

/// Two readers could read two requests.
pub fn ambiguous(message: impl Into<String>, hint: impl Into<String>) -> Reject {
    Reject { code: "ambiguous_request", message: message.into(), hint: hint.into() }
}

/// The request could cost more than can be known beforehand.
pub fn unpriceable(message: impl Into<String>, hint: impl Into<String>) -> Reject {
    Reject { code: "unpriceable_request", message: message.into(), hint: hint.into() }
}

/// A body that the strict parser does not take.
pub fn unreadable(error: &JsonError) -> Reject {
    let hint = "send one JSON object in UTF-8, with every key once";
    match error {
        JsonError::DuplicateKey(_) => ambiguous(error.to_string(), hint),
        _ => invalid(error.to_string(), hint),
    }
}

/// A field that nobody knows here.
pub fn unknown_field(name: &str) -> Reject {
    let name: String = name.chars().take(64).map(|c| if c.is_control() || c == '`' { '?' } else { c }).collect();
    let hint = format!(
        "add it to providers.openai.allow_fields in loopers.yaml if it cannot raise the bill: `allow_fields: [{name}]`"
    );
    unpriceable(format!("`{name}` is not a field whose cost is known"), hint)
}

/// A model without a row of its own. The hint is the row to add.
pub fn no_price(model: &str, prices: &PriceTable) -> Reject {
    let rows = format!(
        "add to a file of `prices:` in loopers.yaml, in USD per million tokens:\nopenai/{model}:\n  input: \"…\"\n  output: \"…\"\n  \
         context_window: …\n  max_output: …"
    );
    // `ft:gpt-4o:…`, `azure/gpt-4o`: the model is known, its price here is not.
    let base = model.strip_prefix("ft:").map_or(model, |rest| rest.split(':').next().unwrap_or(rest));
    let is_known = base != model && prices.for_model("openai", base).is_some()
        || prices.iter().any(|row| row.id.split_once('/').is_some_and(|(_, name)| name == base));
    let code = if is_known { "unpriced_model" } else { "unknown_model" };
    Reject { code, message: format!("there is no price for the model `{model}`"), hint: rows }
}

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
pub fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
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

/// The event on which OpenAI's SDKs raise: any data with a true `error`. Nothing follows it, least of all `[DONE]`.
pub fn closing_event(error: &ErrorAnswer<'_>) -> Vec<u8> {
    [b"data: ", body(error).as_slice(), b"\n\n"].concat()
}

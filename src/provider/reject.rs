//! Why a request is refused before any money is looked at.

use crate::pricing::PriceTable;
use crate::wire::json::JsonError;

/// A refusal of a request that cannot be read, bounded or priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The contract's code: `invalid_request`, `ambiguous_request`, `unpriceable_request`, `unknown_model`, `unpriced_model`.
    pub code: &'static str,
    /// What is wrong, for the person who reads it.
    pub message: String,
    /// What to do about it: the field to drop, or the line of the file that would allow it.
    pub hint: String,
}

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
pub fn unknown_field(provider: &str, name: &str) -> Reject {
    let name = printable(name);
    let hint = format!(
        "add it to providers.{provider}.allow_fields in loopers.yaml if it cannot raise the bill: `allow_fields: [{name}]`"
    );
    unpriceable(format!("`{name}` is not a field whose cost is known"), hint)
}

/// A name of the client's, fit to be shown: short, without control characters and back-ticks.
pub fn printable(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_control() || c == '`' { '?' } else { c }).collect()
}

/// A model without a row of its own. The hint is the row to add.
pub fn no_price(provider: &str, model: &str, prices: &PriceTable) -> Reject {
    let rows = format!(
        "add to a file of `prices:` in loopers.yaml (prices: [builtin, mine.yaml]), in USD per million tokens:\n{provider}/{model}:\n  input: \"…\"\n  output: \"…\"\n  \
         context_window: …\n  max_output: …"
    );
    // `ft:gpt-4o:…`, `azure/gpt-4o`: the model is known, its price here is not.
    let base = model.strip_prefix("ft:").map_or(model, |rest| rest.split(':').next().unwrap_or(rest));
    let is_known = base != model && prices.for_model(provider, base).is_some()
        || prices.iter().any(|row| row.id.split_once('/').is_some_and(|(_, name)| name == base));
    let code = if is_known { "unpriced_model" } else { "unknown_model" };
    Reject { code, message: format!("there is no price for the model `{model}`"), hint: rows }
}

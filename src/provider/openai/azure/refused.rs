//! A 400 of Azure: it is billed when the content filter, or a limit on the input, stopped the call after it was processed.

use crate::money::Money;
use crate::pricing::{Tokenizer, Usage};
use crate::provider::openai::usage;
use crate::provider::output::Output;
use crate::provider::reader::{Dialect, Show};
use crate::provider::{Call, Ceiling, ErrorAnswer, Observed};
use crate::wire::json::{self, Duplicates, Value};
use crate::wire::sse::Event;

/// Codes of requests that were turned away for their form, before any model saw them. Any other code may be billed.
const FREE: [&str; 14] = [
    "BadRequest",
    "OperationNotSupported",
    "InvalidRequest",
    "invalid_request_error",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "unknown_parameter",
    "unsupported_parameter",
    "unsupported_value",
    "unsupported_country_region_territory",
    "integer_below_min_value",
    "integer_above_max_value",
    "invalid_json",
];

/// Reads the body of a 400.
pub struct Refused {
    output: Output,
    observed: Observed,
    /// What the input costs at most.
    input: Money,
    is_free: bool,
}

impl Refused {
    /// A reader for the answer to a call.
    pub fn new(call: &Call, ceiling: Ceiling) -> Refused {
        let input = call.body.exact_input().unwrap_or(call.input_max).min(call.input_max);
        let tokenizer: Option<Tokenizer> = call.price.tokenizer;
        Refused {
            output: Output::new(tokenizer, ceiling),
            observed: Observed::default(),
            input: call.worst(input, 0),
            is_free: false,
        }
    }

    fn read(&mut self, root: Value<'_>) {
        let error = root.get("error");
        let code = error.and_then(|error| error.get("code"));
        self.is_free = match code.filter(|code| !code.is_null()) {
            // A complaint about the request's form has no code, or one of its own.
            None => error.is_some_and(|error| text(error, "type") == "invalid_request_error"),
            Some(code) => code.as_str().is_some_and(|code| FREE.contains(&code.as_ref())),
        };
        // What the content filter stopped says so beside its code.
        self.is_free &= error.is_some_and(|error| error.get("innererror").is_none_or(Value::is_null));
        self.observed.error = true;
    }
}

fn text<'a>(value: Value<'a>, name: &str) -> std::borrow::Cow<'a, str> {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Dialect for Refused {
    fn event(&mut self, _event: &Event<'_>) -> Show {
        Show::Always
    }

    fn object(&mut self, body: &[u8]) -> bool {
        let mut nodes = Vec::new();
        let root =
            std::str::from_utf8(body).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let Some(root) = root.filter(|root| root.is_object()) else { return false };
        self.read(root);
        true
    }

    fn garbage(&mut self, data: &[u8]) {
        self.observed.odd_usage |= usage::may_be_in(data);
    }

    /// No tokens are reported: the input at its dearest is charged, or nothing.
    fn complete(&mut self) {
        self.observed.usage = Some(Usage::default());
        self.observed.fees = if self.is_free { Money::ZERO } else { self.input };
        self.observed.finished = true;
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn observed(&mut self, _exact: bool) -> &Observed {
        &self.observed
    }

    fn closing_event(&mut self, _error: &ErrorAnswer<'_>, _begun: bool) -> Vec<u8> {
        Vec::new()
    }
}

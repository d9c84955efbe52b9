//! The top-level fields of a chat request, and what each does to the bill.

use super::errors;
use crate::provider::Reject;
use crate::wire::json::{Kind, Value};

/// What a field does to the bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it is not in the prompt and starts nothing.
    Free,
    /// Its text may become part of the prompt.
    Prompt,
    /// Read on its own.
    Read,
    /// More than can be bounded. Says why.
    Denied(&'static str),
}

/// Every field that is known, exactly as it must be spelled.
pub const CHAT: &[(&str, Rule)] = &[
    ("model", Rule::Read),
    ("messages", Rule::Read),
    ("stream", Rule::Read),
    ("stream_options", Rule::Read),
    ("max_completion_tokens", Rule::Read),
    ("max_tokens", Rule::Read),
    ("n", Rule::Read),
    ("service_tier", Rule::Read),
    ("temperature", Rule::Free),
    ("top_p", Rule::Free),
    ("tools", Rule::Read),
    ("tool_choice", Rule::Prompt),
    ("response_format", Rule::Read),
    ("parallel_tool_calls", Rule::Free),
    ("reasoning_effort", Rule::Prompt),
    ("verbosity", Rule::Prompt),
    ("stop", Rule::Free),
    ("seed", Rule::Free),
    ("user", Rule::Free),
    ("metadata", Rule::Free),
    ("store", Rule::Free),
    ("presence_penalty", Rule::Free),
    ("frequency_penalty", Rule::Free),
    ("logit_bias", Rule::Free),
    ("logprobs", Rule::Free),
    ("top_logprobs", Rule::Free),
    ("safety_identifier", Rule::Free),
    ("moderation", Rule::Free),
    ("prompt_cache_key", Rule::Free),
    ("prompt_cache_retention", Rule::Free),
    ("prompt_cache_options", Rule::Read),
    ("modalities", Rule::Read),
    ("prediction", Rule::Read),
    ("functions", Rule::Read),
    ("function_call", Rule::Prompt),
    ("audio", Rule::Denied("audio output is billed apart from text")),
    ("web_search_options", Rule::Denied("web search is billed by the call, and its results as input")),
    ("previous_response_id", Rule::Denied("the earlier conversation is billed as input, and is not in the body")),
    ("conversation", Rule::Denied("the earlier conversation is billed as input, and is not in the body")),
    ("prompt", Rule::Denied("a stored prompt is billed as input, and is not in the body")),
    ("context_management", Rule::Denied("compaction runs the model once more")),
    ("background", Rule::Denied("the call goes on, and is billed, without an answer to read")),
    ("reasoning", Rule::Denied("its modes may run more than the one bounded generation; use `reasoning_effort`")),
    ("multi_agent", Rule::Denied("sub-agents have no bound")),
    ("max_tool_calls", Rule::Denied("it belongs to built-in tools, which are billed by the call")),
    ("max_output_tokens", Rule::Denied("this API's limit is `max_completion_tokens`")),
    ("best_of", Rule::Denied("it multiplies the output")),
    ("container", Rule::Denied("containers are billed by the minute")),
];

/// Every field of an embeddings request.
pub const EMBEDDINGS: &[(&str, Rule)] = &[
    ("model", Rule::Read),
    ("input", Rule::Read),
    ("dimensions", Rule::Free),
    ("encoding_format", Rule::Free),
    ("user", Rule::Free),
];

/// The rule of a top-level key. `None`: unknown to us, but the operator admits it.
pub fn rule(key: Value<'_>, name: &str, known: &[(&str, Rule)], allowed: &[String]) -> Result<Option<Rule>, Reject> {
    let hint = |name: &str| format!("spell it `{name}`, without escapes");
    if let Some((name, rule)) = known.iter().find(|(known, _)| *known == name) {
        if key.kind() == Kind::Escaped {
            return Err(errors::ambiguous(format!("`{name}` is spelled with escapes"), hint(name)));
        }
        return match rule {
            Rule::Denied(why) => {
                Err(errors::unpriceable(format!("`{name}`: {why}"), format!("send the request without `{name}`")))
            }
            rule => Ok(Some(*rule)),
        };
    }
    if let Some((name, _)) = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Err(errors::ambiguous(format!("a field is spelled like `{name}` in another case"), hint(name)));
    }
    if allowed.iter().any(|allowed| allowed == name) {
        return Ok(None);
    }
    Err(errors::unknown_field(name))
}

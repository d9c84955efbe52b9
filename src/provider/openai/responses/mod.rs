//! Responses: the request.

pub mod answer;
mod input;
mod tools;
mod uses;

use bytes::Bytes;

use self::input::Input;
use self::tools::Tools;
use super::messages::TOKENS_PER_MESSAGE;
use super::params::{self, Beside, CLAMP_MIN, Change, StreamOptions};
use super::profile::{Api, Model};
use crate::pricing::{Terms, Tokenizer};
use crate::provider::fields::{Rule, rule};
use crate::provider::tokens::COUNTED_BYTES_MAX;
use crate::provider::{Call, CallBody, CountAsk, Fee, Reject, reject};
use crate::wire::json::{self, Document, Value};

/// The fields of a response that the route knows that counts its input.
const COUNTED: [&str; 10] = [
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "parallel_tool_calls",
    "truncation",
];

/// A request, read and checked.
struct Response {
    document: Document,
    tier: Change,
    /// The most calls of built-in tools, where there are any.
    max_tool_calls: Option<u64>,
    /// What a call of each of them costs.
    held: Vec<(&'static str, Fee)>,
    tokenizer: Option<Tokenizer>,
    /// Input tokens beside instructions and input.
    beside: u64,
    input_max: u64,
    /// True when OpenAI's own count is that of the call.
    is_counted: bool,
}

/// What the top-level fields say.
#[derive(Default)]
struct Parts<'a> {
    model: Option<Value<'a>>,
    input: Input,
    has_input: bool,
    limit: Option<u64>,
    max_tool_calls: Option<u64>,
    is_stream: bool,
    tier: Option<Value<'a>>,
    tools: Tools,
    beside: Beside,
    uses_cache_options: bool,
}

/// Reads and bounds a request.
pub fn read(body: Bytes, api: &Api<'_>) -> Result<Call, Reject> {
    let document = super::document(body)?;
    let mut parts = parts(&document, api)?;
    let Model { name: model, price, mut terms } = api.model(parts.model)?;
    if price.embedding {
        return Err(reject::invalid(format!("`{model}` makes embeddings, not responses"), "name a chat model"));
    }
    if !parts.has_input {
        return Err(reject::invalid("`input` is missing", "send text, or an array of messages"));
    }
    params::cache_writes(&model, parts.uses_cache_options || parts.input.has_breakpoint, &price)?;
    let tier = params::tier(api, parts.tier, &price)?;
    terms.tiers = params::open_tiers(api, parts.tier, &price);
    let output_max = parts.limit.unwrap_or(price.max_output).min(price.context_window);
    parts.tools.raise_to_listed(&price);
    let calls = parts.tools.calls(parts.max_tool_calls);
    // What is not in the body, and what built-in tools bring, may fill the window; each of their calls is one more pass.
    let is_hidden = parts.input.is_opaque || calls.is_some();
    let bytes = parts.beside.input_bound(&document, parts.input.items, TOKENS_PER_MESSAGE, &price);
    let input_max = bytes.filter(|_| !is_hidden).map_or(price.context_window, |bytes| bytes.min(price.context_window));
    let terms = match calls {
        None => terms,
        Some(calls) => Terms { passes: calls.saturating_add(1), fees: parts.tools.fees_at_most(calls), ..terms },
    };
    let is_countable = !is_hidden && !parts.beside.is_endless && document.len() <= COUNTED_BYTES_MAX;
    let stream = parts.is_stream;
    let hides_tools = api.profile.whole_tool_calls && parts.beside.tools > 0;
    let response = Response {
        tier,
        max_tool_calls: calls,
        held: parts.tools.held,
        tokenizer: price.tokenizer.filter(|_| is_countable),
        beside: parts.beside.tokens(),
        input_max,
        // What built-in tools find is not counted.
        is_counted: api.profile.counts_input && calls.is_none() && !parts.input.may_change,
        document,
    };
    Ok(Call {
        model,
        stream,
        shows_usage: true,
        samples: 1,
        input_max,
        output_max,
        output_min: output_max.min(CLAMP_MIN),
        // Reasoning, and the passes of built-in tools, are billed without being seen.
        cuttable: stream && !price.hidden_output && calls.is_none() && !hides_tools,
        price,
        terms,
        body: Box::new(response),
    })
}

fn parts<'a>(document: &'a Document, api: &Api<'_>) -> Result<Parts<'a>, Reject> {
    let mut parts = Parts::default();
    let root = document.root();
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        match rule(api.reading, (key, value), &name, api.profile.responses)? {
            Some(Rule::Read) => field(&mut parts, &name, value, api)?,
            Some(Rule::Prompt) | None => parts.beside.field(value),
            Some(Rule::Free | Rule::Denied(_)) => {}
        }
    }
    Ok(parts)
}

fn field<'a>(parts: &mut Parts<'a>, name: &str, value: Value<'a>, api: &Api<'_>) -> Result<(), Reject> {
    match name {
        "model" => parts.model = Some(value),
        "service_tier" => parts.tier = Some(value),
        _ if value.is_null() => {}
        "input" => {
            input::read(value, api, &mut parts.input)?;
            parts.has_input = true;
        }
        "instructions" => {
            if value.as_str().is_none() {
                return Err(reject::invalid("`instructions` is not a string", "send text, or leave it out"));
            }
            parts.input.items += 1;
        }
        "max_output_tokens" => parts.limit = Some(params::limit(name, value, 1)?),
        "max_tool_calls" => parts.max_tool_calls = Some(params::limit(name, value, 1)?),
        "stream" => parts.is_stream = params::truth(name, value)?,
        "stream_options" => drop(StreamOptions::read(value)?),
        "tools" => tools::read(value, api, &mut parts.tools, &mut parts.beside)?,
        "text" => read_text(&mut parts.beside, value)?,
        "reasoning" => read_reasoning(&mut parts.beside, value)?,
        "background" => {
            if params::truth(name, value)? {
                let message = "`background`: the call goes on, and is billed, without an answer to read";
                return Err(reject::unpriceable(message, "send the request without `background`"));
            }
        }
        // The earlier conversation is billed as input, and is not in the body.
        "previous_response_id" | "conversation" => {
            parts.input.may_change |= name == "conversation";
            parts.input.is_opaque = true;
            parts.has_input = true;
        }
        "prompt_cache_options" => {
            params::cache_options(value)?;
            parts.uses_cache_options = true;
        }
        _ => parts.beside.field(value),
    }
    Ok(())
}

/// `text`: the form of the answer, whose schema goes into the prompt.
fn read_text(beside: &mut Beside, value: Value<'_>) -> Result<(), Reject> {
    let bad = |what: &str| {
        Err(reject::unpriceable(format!("`text`: {what}"), "send `format` of type text, json_object or json_schema"))
    };
    if !value.is_object() {
        return bad("is not an object");
    }
    beside.field(value);
    for (key, value) in value.fields() {
        match key.as_ref() {
            "verbosity" => {}
            "format" if value.is_null() => {}
            "format" => {
                let kind = value.get("type").and_then(Value::as_str);
                if !matches!(kind.as_deref(), Some("text" | "json_object" | "json_schema")) {
                    return bad("`format.type` is none that can be held for");
                }
                beside.schema(value.get("schema"));
            }
            _ => return bad("has a field whose cost is not known"),
        }
    }
    Ok(())
}

/// `reasoning`: effort and summary stay within the output limit; modes may not.
fn read_reasoning(beside: &mut Beside, value: Value<'_>) -> Result<(), Reject> {
    let is_known = |key: &str| matches!(key, "effort" | "summary" | "generate_summary");
    if !value.is_object() {
        return Err(reject::invalid("`reasoning` is not an object", "send {\"effort\": \"low\"}"));
    }
    if let Some((key, _)) = value.fields().find(|(key, value)| !is_known(key) && !value.is_null()) {
        let message =
            format!("`reasoning.{}`: it may run more than the one bounded generation", reject::printable(&key));
        return Err(reject::unpriceable(message, "send `effort` and `summary` only"));
    }
    beside.field(value);
    Ok(())
}

impl CallBody for Response {
    fn exact_input(&self) -> Option<u64> {
        let (root, tokenizer) = (self.document.root(), self.tokenizer?);
        let texts = ["instructions", "input"].into_iter().filter_map(|name| root.get(name));
        let counted = texts.fold(0, |sum: u64, value| sum.saturating_add(input::count(value, tokenizer)));
        Some(counted.saturating_add(self.beside).min(self.input_max))
    }

    fn count(&self, _path: &str) -> Option<CountAsk> {
        let fields = self.document.root().fields().filter(|(name, _)| COUNTED.contains(&name.as_ref()));
        let body = json::write_object(fields.map(|(name, value)| (name, value.raw())));
        let path = "/v1/responses/input_tokens".to_string();
        self.is_counted.then(|| CountAsk { path, body: body.into(), field: "input_tokens", slack: (0, 0) })
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let limit = output_limit.map(|limit| limit.to_string());
        let calls = self.max_tool_calls.map(|calls| calls.to_string());
        let mut changes: Vec<(&str, Option<&str>)> = Vec::with_capacity(3);
        self.tier.push("service_tier", &mut changes);
        if let Some(calls) = &calls {
            changes.push(("max_tool_calls", Some(calls)));
        }
        if let Some(limit) = &limit {
            changes.push(("max_output_tokens", Some(limit)));
        }
        self.document.render(&changes)
    }

    fn held_tools(&self) -> &[(&'static str, Fee)] {
        &self.held
    }
}

#[cfg(test)]
mod tests;

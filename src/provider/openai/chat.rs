//! Chat completions: the request.

use std::borrow::Cow;

use bytes::Bytes;

use super::{fields, messages};
use crate::pricing::{ModelPrice, Terms, Tier, Tokenizer};
use crate::provider::fields::{Rule, rule};
use crate::provider::tokens::COUNTED_BYTES_MAX;
use crate::provider::{Call, CallBody, Reading, Reject, reject, schema};
use crate::wire::json::{Document, Value};

/// Tokens that a request may add beyond its messages and tools: priming, and what tools and formats say around themselves.
const TOKENS_PER_REQUEST: u64 = 1024;
/// The same for a request of messages alone; the published figure is 3.
const TOKENS_PER_PLAIN_REQUEST: u64 = 64;
/// Tokens around the definition of one tool.
const TOKENS_PER_TOOL: u64 = 64;
/// The most samples that the API makes.
const SAMPLES_MAX: u64 = 128;
/// The largest limit that every JSON reader takes for the same number.
const LIMIT_MAX: u64 = 1 << 53;
/// A clamp does not go below this many output tokens, unless the request itself does.
const CLAMP_MIN: u64 = 16;

/// A chat request, read and checked.
struct Chat {
    document: Document,
    /// The limit that a clamp rewrites.
    limit_field: &'static str,
    /// True when the service tier must be set to `default`.
    sets_tier: bool,
    /// The stream options to send, for streams.
    stream_options: Option<&'static str>,
    /// The exact tokenizer, where the whole input is text that it can count.
    tokenizer: Option<Tokenizer>,
    input_max: u64,
    /// Input tokens that no tokenizer sees: tools, formats, and what else may be in the prompt.
    beside_messages: u64,
    /// See [`Parts::prediction_tokens`], converted to input.
    prediction_as_input: u64,
}

/// What the top-level fields say.
#[derive(Default)]
struct Parts<'a> {
    model: Option<Value<'a>>,
    messages: Option<messages::Traits>,
    samples: u64,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    is_stream: bool,
    include_usage: bool,
    include_obfuscation: Option<bool>,
    tier: Option<Value<'a>>,
    tools: u64,
    /// What expanded references add; `None` when that has no bound.
    expansion: Option<u64>,
    /// Bytes of fields that may be in the prompt beside the messages.
    prompt_bytes: u64,
    uses_cache_options: bool,
    /// Rejected tokens of a prediction are billed as output. They should be within the limit, which is not documented, so they are
    /// held on top of it, as input tokens worth as much.
    prediction_tokens: u64,
}

/// Reads and bounds a chat request.
pub fn read(body: Bytes, reading: &Reading<'_>) -> Result<Call, Reject> {
    let document = super::document(body)?;
    let parts = parts(&document, reading)?;
    let (model, price) = super::model(parts.model, reading)?;
    if price.embedding {
        return Err(reject::invalid(format!("`{model}` makes embeddings, not chat"), "name a chat model"));
    }
    let Some(messages) = parts.messages else {
        return Err(reject::invalid("`messages` is missing", "send at least one message"));
    };
    if (parts.uses_cache_options || messages.has_breakpoint) && !price.implicit_cache_writes {
        let hint = "send the request without `prompt_cache_options` and `prompt_cache_breakpoint`, or set `implicit_cache_writes: true` \
                    in the model's row of the price file, so that cache writes are held for";
        return Err(reject::unpriceable(format!("`{model}` has no price of cache writes"), hint));
    }
    let limit = parts.max_completion_tokens.or(parts.max_tokens);
    let output_max = limit.unwrap_or(price.max_output).min(price.context_window);
    let input = input_bound(&document, &parts, &messages, &price);
    let sets_tier = sets_tier(parts.tier, &price)?;
    let prediction_as_input = parts.prediction_tokens.saturating_mul(output_per_input(&price));
    let (is_stream, shows_usage, samples) = (parts.is_stream, !parts.is_stream || parts.include_usage, parts.samples);
    let has_prediction = parts.prediction_tokens > 0;
    let chat = Chat {
        // Models that take predictions do not take `max_completion_tokens` with them.
        limit_field: if parts.max_tokens.is_some() || (limit.is_none() && has_prediction) {
            "max_tokens"
        } else {
            "max_completion_tokens"
        },
        sets_tier,
        stream_options: stream_options(&parts),
        tokenizer: price
            .tokenizer
            .filter(|_| !messages.has_image && parts.expansion.is_some() && document.len() <= COUNTED_BYTES_MAX),
        input_max: input.saturating_add(prediction_as_input),
        beside_messages: beside_messages(&parts),
        prediction_as_input,
        document,
    };
    Ok(Call {
        model,
        stream: is_stream,
        shows_usage,
        samples,
        input_max: chat.input_max,
        output_max,
        output_min: output_max.min(CLAMP_MIN),
        // Reasoning and rejected predictions are billed without being seen.
        cuttable: is_stream && !price.hidden_output && !has_prediction,
        price,
        terms: Terms::default(),
        body: Box::new(chat),
    })
}

/// The most input tokens: every byte of the body could be one, and nothing exceeds the context window.
fn input_bound(document: &Document, parts: &Parts<'_>, messages: &messages::Traits, price: &ModelPrice) -> u64 {
    // The size of an image in pixels is not known here: with one, the input may fill the window.
    let (false, Some(expansion)) = (messages.has_image, parts.expansion) else { return price.context_window };
    (document.len() as u64)
        .saturating_add(expansion)
        .saturating_add(messages.count.saturating_mul(messages::TOKENS_PER_MESSAGE))
        .saturating_add(parts.tools.saturating_mul(TOKENS_PER_TOOL))
        .saturating_add(TOKENS_PER_REQUEST)
        .min(price.context_window)
}

/// The same for an exact count: what is beside the messages, still by its bytes.
fn beside_messages(parts: &Parts<'_>) -> u64 {
    let Some(expansion) = parts.expansion else { return u64::MAX };
    if parts.prompt_bytes == 0 && parts.tools == 0 {
        return TOKENS_PER_PLAIN_REQUEST;
    }
    let tools = parts.tools.saturating_mul(TOKENS_PER_TOOL);
    parts.prompt_bytes.saturating_add(expansion).saturating_add(tools).saturating_add(TOKENS_PER_REQUEST)
}

/// How many input tokens cost at least as much as one output token, long prompts included.
fn output_per_input(price: &ModelPrice) -> u64 {
    let plain = Terms::default();
    let (input, output) = (
        price.worst_input_rate(&plain, 0).femto().max(1),
        price.worst_output_rate(&plain, price.context_window).femto(),
    );
    u64::try_from(output.div_ceil(input)).unwrap_or(u64::MAX)
}

/// True when the tier must be forced to `default`: the provider's own default follows a project setting, which may cost double.
fn sets_tier(tier: Option<Value<'_>>, price: &ModelPrice) -> Result<bool, Reject> {
    let Some(tier) = tier.filter(|tier| !tier.is_null()) else { return Ok(true) };
    let Some(name) = tier.as_str() else {
        return Err(reject::invalid("`service_tier` is not a string", "send \"default\", or leave it out"));
    };
    match name.as_ref() {
        "default" => Ok(false),
        "auto" => Ok(true),
        // Held at standard prices, which are never below flex (the price table sees to it); settled by the tier that answers.
        "flex" => Ok(!price.tiers.iter().any(|(tier, _)| *tier == Tier::Flex)),
        _ => {
            let message = "`service_tier`: only `default`, `auto` and `flex` are held for; other tiers cost a multiple";
            Err(reject::unpriceable(message, "send \"default\", or leave it out"))
        }
    }
}

/// Usage is asked for in every stream; obfuscation stays as the client wants it.
fn stream_options(parts: &Parts<'_>) -> Option<&'static str> {
    parts.is_stream.then_some(match parts.include_obfuscation {
        None => r#"{"include_usage":true}"#,
        Some(true) => r#"{"include_usage":true,"include_obfuscation":true}"#,
        Some(false) => r#"{"include_usage":true,"include_obfuscation":false}"#,
    })
}

/// Reads all top-level fields.
fn parts<'a>(document: &'a Document, reading: &Reading<'_>) -> Result<Parts<'a>, Reject> {
    let mut parts = Parts { samples: 1, expansion: Some(0), ..Parts::default() };
    let root = document.root();
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        match rule(reading, key, &name, fields::CHAT)? {
            Some(Rule::Read) => field(&mut parts, &name, value, reading)?,
            Some(Rule::Prompt) | None => parts.prompt_bytes += value.raw().len() as u64,
            Some(Rule::Free | Rule::Denied(_)) => {}
        }
    }
    if parts.max_tokens.is_some() && parts.max_completion_tokens.is_some() {
        let message = "`max_tokens` and `max_completion_tokens` are both given";
        return Err(reject::ambiguous(message, "send `max_completion_tokens` alone"));
    }
    Ok(parts)
}

fn field<'a>(parts: &mut Parts<'a>, name: &str, value: Value<'a>, reading: &Reading<'_>) -> Result<(), Reject> {
    if name == "model" {
        parts.model = Some(value);
        return Ok(());
    }
    if name == "messages" {
        parts.messages = Some(messages::check(value, reading)?);
        return Ok(());
    }
    if value.is_null() {
        return Ok(());
    }
    match name {
        "stream" => {
            parts.is_stream =
                value.as_bool().ok_or_else(|| reject::invalid("`stream` is not true or false", "send true or false"))?
        }
        "stream_options" => read_stream_options(parts, value)?,
        "n" => match value.as_u64() {
            Some(samples @ 1..=SAMPLES_MAX) => parts.samples = samples,
            _ => return Err(reject::invalid("`n` is not a whole number from 1 to 128", "leave it out for one answer")),
        },
        "max_tokens" => parts.max_tokens = Some(limit(name, value)?),
        "max_completion_tokens" => parts.max_completion_tokens = Some(limit(name, value)?),
        "service_tier" => parts.tier = Some(value),
        "tools" => read_tools(parts, value)?,
        "functions" => read_functions(parts, value)?,
        "response_format" => read_format(parts, value)?,
        "modalities" => {
            if !value.is_array() || value.items().any(|item| item.as_str().as_deref() != Some("text")) {
                return Err(reject::unpriceable(
                    "`modalities`: only text can be held for",
                    "send [\"text\"], or leave it out",
                ));
            }
        }
        "prediction" => {
            parts.prediction_tokens = value.raw().len() as u64;
            parts.prompt_bytes += parts.prediction_tokens;
        }
        "prompt_cache_options" => {
            let is_known = |(key, value): (Cow<'_, str>, Value<'_>)| {
                key == "mode" || key == "ttl" && (value.is_null() || value.as_str().as_deref() == Some("30m"))
            };
            if !value.is_object() || !value.fields().all(is_known) {
                let message = "`prompt_cache_options`: only `mode`, and a `ttl` of \"30m\", have a known price";
                return Err(reject::unpriceable(message, "send only these"));
            }
            parts.uses_cache_options = true;
        }
        _ => parts.prompt_bytes += value.raw().len() as u64,
    }
    Ok(())
}

fn limit(name: &str, value: Value<'_>) -> Result<u64, Reject> {
    match value.as_u64() {
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        _ => Err(reject::invalid(
            format!("`{name}` is not a whole number of at least 1"),
            "send a number of tokens, e.g. 1000",
        )),
    }
}

fn read_stream_options(parts: &mut Parts<'_>, value: Value<'_>) -> Result<(), Reject> {
    let not_bool =
        || reject::invalid("`stream_options` is not an object of truth values", "send {\"include_usage\": true}");
    if !value.is_object() {
        return Err(not_bool());
    }
    for (key, value) in value.fields() {
        match key.as_ref() {
            "include_usage" | "include_obfuscation" if value.is_null() => {}
            "include_usage" => parts.include_usage = value.as_bool().ok_or_else(not_bool)?,
            "include_obfuscation" => parts.include_obfuscation = Some(value.as_bool().ok_or_else(not_bool)?),
            _ => {
                let message = "`stream_options` has a field whose cost is not known";
                return Err(reject::unpriceable(message, "send `include_usage` and `include_obfuscation` only"));
            }
        }
    }
    Ok(())
}

fn read_tools(parts: &mut Parts<'_>, value: Value<'_>) -> Result<(), Reject> {
    if !value.is_array() {
        return Err(reject::invalid("`tools` is not an array", "send an array of tools"));
    }
    parts.prompt_bytes += value.raw().len() as u64;
    for (at, tool) in value.items().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str);
        let Some(kind @ ("function" | "custom")) = kind.as_deref() else {
            let message = format!(
                "`tools[{at}].type`: only `function` and `custom` can be held for; built-in tools are billed by the call"
            );
            return Err(reject::unpriceable(message, "send tools that your own code runs"));
        };
        if let Some((name, _)) = tool.fields().find(|(name, _)| name != "type" && name != kind) {
            let name: String = name.chars().take(64).collect();
            let message = format!("`tools[{at}].{name}` is not a field whose cost is known");
            return Err(reject::unpriceable(message, "send `type` and the definition only"));
        }
        parts.tools += 1;
        expand(parts, tool.get("function").and_then(|function| function.get("parameters")));
    }
    Ok(())
}

fn read_functions(parts: &mut Parts<'_>, value: Value<'_>) -> Result<(), Reject> {
    if !value.is_array() {
        return Err(reject::invalid("`functions` is not an array", "send `tools`"));
    }
    parts.prompt_bytes += value.raw().len() as u64;
    for function in value.items() {
        parts.tools += 1;
        expand(parts, function.get("parameters"));
    }
    Ok(())
}

fn read_format(parts: &mut Parts<'_>, value: Value<'_>) -> Result<(), Reject> {
    let kind = value.get("type").and_then(Value::as_str);
    if !matches!(kind.as_deref(), Some("text" | "json_object" | "json_schema")) {
        let message = "`response_format.type` is none of text, json_object, json_schema";
        return Err(reject::unpriceable(message, "send one of them, or leave the field out"));
    }
    parts.prompt_bytes += value.raw().len() as u64;
    expand(parts, value.get("json_schema").and_then(|format| format.get("schema")));
    Ok(())
}

fn expand(parts: &mut Parts<'_>, schema: Option<Value<'_>>) {
    if let Some(schema) = schema {
        parts.expansion = parts.expansion.and_then(|sum| sum.checked_add(schema::expansion(schema)?));
    }
}

impl CallBody for Chat {
    fn exact_input(&self) -> Option<u64> {
        let messages = self.document.root().get("messages")?;
        let exact = messages::count(messages, self.tokenizer?).saturating_add(self.beside_messages);
        Some(exact.saturating_add(self.prediction_as_input).min(self.input_max))
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let limit = output_limit.map(|limit| limit.to_string());
        let mut changes: Vec<(&str, Option<&str>)> = Vec::with_capacity(3);
        if self.sets_tier {
            changes.push(("service_tier", Some("\"default\"")));
        }
        if let Some(options) = self.stream_options {
            changes.push(("stream_options", Some(options)));
        }
        if let Some(limit) = &limit {
            changes.push((self.limit_field, Some(limit)));
        }
        self.document.render(&changes)
    }
}

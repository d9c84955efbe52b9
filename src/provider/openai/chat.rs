//! Chat completions: the request.

use bytes::Bytes;

use super::messages;
use super::params::{self, Beside, Change, StreamOptions};
use super::profile::{Api, Model};
use crate::pricing::{ModelPrice, Tokenizer};
use crate::provider::fields::{Rule, rule};
use crate::provider::tokens::COUNTED_BYTES_MAX;
use crate::provider::{Call, CallBody, Reject, reject};
use crate::wire::json::{Document, Value};

/// Tokens that a request of messages alone may add to them; the published figure is 3.
const TOKENS_PER_PLAIN_REQUEST: u64 = 64;

/// A chat request, read and checked.
struct Chat {
    document: Document,
    /// The limit that a clamp rewrites.
    limit_field: &'static str,
    /// The request's own limit under another name, which is sent under `limit_field`.
    renamed: Option<(&'static str, u64)>,
    tier: Change,
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
    min_tokens: u64,
    is_stream: bool,
    stream_options: StreamOptions,
    tier: Option<Value<'a>>,
    beside: Beside,
    uses_cache_options: bool,
    /// Rejected tokens of a prediction are billed as output. They should be within the limit, which is not documented, so they are
    /// held on top of it, as input tokens worth as much.
    prediction_tokens: u64,
}

/// Reads and bounds a chat request.
pub fn read(body: Bytes, api: &Api<'_>) -> Result<Call, Reject> {
    let document = super::document(body)?;
    let parts = parts(&document, api)?;
    let Model { name: model, price, mut terms } = api.model(parts.model)?;
    if price.embedding {
        return Err(reject::invalid(format!("`{model}` makes embeddings, not chat"), "name a chat model"));
    }
    let Some(messages) = parts.messages else {
        return Err(reject::invalid("`messages` is missing", "send at least one message"));
    };
    params::cache_writes(&model, parts.uses_cache_options || messages.has_breakpoint, &price)?;
    let limit = parts.max_completion_tokens.or(parts.max_tokens);
    let output_max = limit.unwrap_or(price.max_output).min(price.context_window);
    // A model that reasons takes no `max_tokens`: where that is all that could be written, the request's limit stays as it is.
    let can_clamp = limit.is_some() || api.knows.completion_limit || !price.hidden_output;
    let output_min = if can_clamp { params::clamp_min(output_max, parts.min_tokens)? } else { output_max };
    let input = input_bound(&document, &parts, &messages, &price);
    let tier = params::tier(api, parts.tier, &price)?;
    terms.tiers = params::open_tiers(api, parts.tier, &price);
    let rejected = parts.prediction_tokens.saturating_mul(parts.samples);
    let prediction_as_input = rejected.saturating_mul(params::output_per_input(&price, &terms));
    let (limit_field, renamed) = limit_field(api, &parts);
    let (is_stream, samples) = (parts.is_stream, parts.samples);
    let asks_usage = is_stream && api.profile.asks_usage;
    let shows_usage = !asks_usage || parts.stream_options.include_usage;
    let has_prediction = parts.prediction_tokens > 0;
    let hides_tools = api.profile.whole_tool_calls && parts.beside.tools > 0;
    let is_countable =
        !messages.has_image && messages.sealed == 0 && !parts.beside.is_endless && document.len() <= COUNTED_BYTES_MAX;
    let chat = Chat {
        limit_field,
        renamed,
        tier,
        stream_options: asks_usage.then(|| parts.stream_options.sent()),
        tokenizer: price.tokenizer.filter(|_| is_countable),
        input_max: input.saturating_add(prediction_as_input),
        beside_messages: if parts.beside.is_empty() { TOKENS_PER_PLAIN_REQUEST } else { parts.beside.tokens() },
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
        output_min,
        // Reasoning and rejected predictions are billed without being seen.
        cuttable: is_stream && !price.hidden_output && !has_prediction && !hides_tools,
        price,
        terms,
        body: Box::new(chat),
    })
}

/// The most input tokens: every byte of the body could be one, and nothing exceeds the context window.
fn input_bound(document: &Document, parts: &Parts<'_>, messages: &messages::Traits, price: &ModelPrice) -> u64 {
    // The size of an image in pixels is not known here: with one, the input may fill the window.
    let bytes = parts.beside.input_bound(document, messages.count, messages::TOKENS_PER_MESSAGE, price);
    let bytes = bytes.map(|bytes| bytes.saturating_add(messages.sealed));
    bytes.filter(|_| !messages.has_image).map_or(price.context_window, |bytes| bytes.min(price.context_window))
}

/// The field that carries the limit, and the request's own where it came under another name.
fn limit_field(api: &Api<'_>, parts: &Parts<'_>) -> (&'static str, Option<(&'static str, u64)>) {
    let given = match (parts.max_tokens, parts.max_completion_tokens) {
        (Some(limit), _) => Some(("max_tokens", limit)),
        (_, Some(limit)) => Some(("max_completion_tokens", limit)),
        _ => None,
    };
    match (api.reading.options.limit_field, given) {
        (Some(field), Some(given)) if field.name() != given.0 => (field.name(), Some(given)),
        (Some(field), _) => (field.name(), None),
        (None, Some((name, _))) => (name, None),
        // Models that take predictions do not take `max_completion_tokens` with them.
        (None, None) if parts.prediction_tokens > 0 || !api.knows.completion_limit => ("max_tokens", None),
        (None, None) => (api.profile.limit_field, None),
    }
}

/// Reads all top-level fields.
fn parts<'a>(document: &'a Document, api: &Api<'_>) -> Result<Parts<'a>, Reject> {
    let mut parts = Parts { samples: 1, ..Parts::default() };
    let root = document.root();
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        match rule(api.reading, (key, value), &name, api.profile.chat)? {
            Some(Rule::Read) => field(&mut parts, &name, value, api)?,
            Some(Rule::Prompt) | None => parts.beside.field(value),
            Some(Rule::Free | Rule::Denied(_)) => {}
        }
    }
    if parts.max_tokens.is_some() && parts.max_completion_tokens.is_some() {
        let message = "`max_tokens` and `max_completion_tokens` are both given";
        return Err(reject::ambiguous(message, "send `max_completion_tokens` alone"));
    }
    Ok(parts)
}

fn field<'a>(parts: &mut Parts<'a>, name: &str, value: Value<'a>, api: &Api<'_>) -> Result<(), Reject> {
    if name == "model" {
        parts.model = Some(value);
        return Ok(());
    }
    if name == "messages" {
        parts.messages = Some(messages::check(value, api.profile.messages, api.reading)?);
        return Ok(());
    }
    if value.is_null() {
        // A field without a value is sent as it came, and a tier is put in its place.
        if name == "service_tier" {
            parts.tier = Some(value);
        }
        return Ok(());
    }
    match name {
        "stream" => parts.is_stream = params::truth(name, value)?,
        "stream_options" => parts.stream_options = StreamOptions::read(value)?,
        "n" => parts.samples = params::samples(name, value)?,
        "max_tokens" => parts.max_tokens = Some(params::limit(name, value, 1)?),
        "max_completion_tokens" => parts.max_completion_tokens = Some(params::limit(name, value, 1)?),
        "min_tokens" => parts.min_tokens = params::limit(name, value, 0)?,
        "service_tier" => parts.tier = Some(value),
        "tools" => read_tools(&mut parts.beside, value)?,
        "functions" => read_functions(&mut parts.beside, value)?,
        "response_format" => read_format(&mut parts.beside, value)?,
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
            parts.beside.field(value);
        }
        "prompt_cache_options" => {
            params::cache_options(value)?;
            parts.uses_cache_options = true;
        }
        _ => parts.beside.field(value),
    }
    Ok(())
}

fn read_tools(beside: &mut Beside, value: Value<'_>) -> Result<(), Reject> {
    if !value.is_array() {
        return Err(reject::invalid("`tools` is not an array", "send an array of tools"));
    }
    beside.field(value);
    for (at, tool) in value.items().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str);
        let Some(kind @ ("function" | "custom")) = kind.as_deref() else {
            let message = format!(
                "`tools[{at}].type`: only `function` and `custom` can be held for; built-in tools are billed by the call"
            );
            return Err(reject::unpriceable(message, "send tools that your own code runs"));
        };
        // SDKs that write a tool out in full write `null` for what it is not.
        let is_known = |name: &str, value: Value<'_>| name == "type" || name == kind || value.is_null();
        if let Some((name, _)) = tool.fields().find(|(name, value)| !is_known(name, *value)) {
            let message = format!("`tools[{at}].{}` is not a field whose cost is known", reject::printable(&name));
            return Err(reject::unpriceable(message, "send `type` and the definition only"));
        }
        beside.tools += 1;
        beside.schema(tool.get("function").and_then(|function| function.get("parameters")));
    }
    Ok(())
}

fn read_functions(beside: &mut Beside, value: Value<'_>) -> Result<(), Reject> {
    if !value.is_array() {
        return Err(reject::invalid("`functions` is not an array", "send `tools`"));
    }
    beside.field(value);
    for function in value.items() {
        beside.tools += 1;
        beside.schema(function.get("parameters"));
    }
    Ok(())
}

fn read_format(beside: &mut Beside, value: Value<'_>) -> Result<(), Reject> {
    let kind = value.get("type").and_then(Value::as_str);
    if !matches!(kind.as_deref(), Some("text" | "json_object" | "json_schema")) {
        let message = "`response_format.type` is none of text, json_object, json_schema";
        return Err(reject::unpriceable(message, "send one of them, or leave the field out"));
    }
    beside.field(value);
    beside.schema(value.get("json_schema").and_then(|format| format.get("schema")));
    Ok(())
}

impl CallBody for Chat {
    fn exact_input(&self) -> Option<u64> {
        let messages = self.document.root().get("messages")?;
        let exact = messages::count(messages, self.tokenizer?).saturating_add(self.beside_messages);
        Some(exact.saturating_add(self.prediction_as_input).min(self.input_max))
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let own = self.renamed.map(|(_, limit)| limit);
        let limit = output_limit.or(own).map(|limit| limit.to_string());
        let mut changes: Vec<(&str, Option<&str>)> = Vec::with_capacity(4);
        self.tier.push("service_tier", &mut changes);
        if let Some(options) = self.stream_options {
            changes.push(("stream_options", Some(options)));
        }
        if let Some((name, _)) = self.renamed {
            changes.push((name, None));
        }
        if let Some(limit) = &limit {
            changes.push((self.limit_field, Some(limit)));
        }
        self.document.render(&changes)
    }
}

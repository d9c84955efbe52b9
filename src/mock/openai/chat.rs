//! Chat completions, request side: what is valid, what it costs to read, what will be generated.

use serde_json::Value;

use super::super::cache::Hit;
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Plan, Wish};
use super::super::order::{Sale, conditions, split_prompt};
use super::super::prices::Model;
use super::super::read::{boolean, integer, json_tokens, parse_body, script_for, words};
use super::super::script::{Script, Tier};
use super::super::words::seed_of;
use super::chat_out::ChatAnswer;
use super::shop::Shop;

/// Checks a chat request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, shop: &Shop) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let named = shop.named(&body)?;
    let messages = messages_of(&body)?;
    let script = script_for(app, incoming, &named, &last_user_text(messages))?;
    let (requested, model) = shop.model(&named, &script)?;
    if model.embeds() {
        let message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint.";
        return Err(ApiError::bad("model", None, message).with_status(404));
    }
    let options = Options::check(&body, model)?;
    let tier = script.tier.or(options.tier).unwrap_or(app.auto_tier);
    let total = count_prompt(&body, messages);
    if total > model.context {
        let message = format!("Input tokens exceed the configured limit of {} tokens.", model.context);
        return Err(ApiError::bad("messages", Some("context_length_exceeded"), message));
    }
    let wish = Wish {
        choices: options.choices,
        limit: options.limit,
        max_output: model.max_output,
        stream: options.stream,
        thinks: model.reasoning && body["reasoning_effort"] != "none",
    };
    let plan = Plan::new(seed_of(&incoming.body), &wish, &script);
    let prompt = split_prompt(total, &implicit_writes(&body, model, total, &script), &script);
    let is_tool_call = script.tool_call && body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let tool = body["tools"][0]["function"]["name"].as_str().unwrap_or("tool").to_owned();
    let sale = Sale { provider: shop.provider, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = options.stream;
    let answer = ChatAnswer::new(&order.facts, shop.provider, options.include_usage, is_tool_call.then_some(tool));
    order.answer = Box::new(answer);
    shop.finish(&mut order);
    Ok(order)
}

/// Models since gpt-5.6 write prompts of 1,024 tokens and more to the cache, in blocks of 128, unless told that
/// caching is explicit; reads only happen by script.
pub fn implicit_writes(body: &Value, model: &Model, total: u64, script: &Script) -> Hit {
    let is_explicit = body["prompt_cache_options"]["mode"] == "explicit";
    let writes = model.writes_cache && !is_explicit && total >= 1024;
    let cached = script.cached.unwrap_or(0).min(total);
    Hit { short: if writes { (total - cached) / 128 * 128 } else { 0 }, ..Hit::default() }
}

/// The fields of a chat request that change what happens.
struct Options {
    stream: bool,
    include_usage: bool,
    choices: u64,
    limit: u64,
    tier: Option<Tier>,
}

impl Options {
    fn check(body: &Value, model: &Model) -> Result<Options, ApiError> {
        let stream = boolean(body, "stream")?;
        let stream_options = &body["stream_options"];
        if !stream && !stream_options.is_null() {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(ApiError::bad("stream_options", None, message));
        }
        if !(stream_options.is_null() || stream_options.is_object()) {
            return Err(ApiError::bad("stream_options", Some("invalid_type"), "'stream_options' must be an object."));
        }
        let include_usage = boolean(stream_options, "include_usage")?;
        let old = integer(body, "max_tokens", 1, model.max_output)?;
        let new = integer(body, "max_completion_tokens", 1, model.max_output)?;
        if old.is_some() && new.is_some() {
            let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
            return Err(ApiError::bad("max_tokens", Some("invalid_parameter_combination"), message));
        }
        if old.is_some() && model.reasoning {
            let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                           'max_completion_tokens' instead.";
            return Err(ApiError::bad("max_tokens", Some("unsupported_parameter"), message));
        }
        let temperature = &body["temperature"];
        if !(temperature.is_null() || temperature.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t))) {
            return Err(ApiError::bad("temperature", Some("invalid_value"), "'temperature' must be between 0 and 2."));
        }
        if !(body["tools"].is_null() || body["tools"].is_array()) {
            return Err(ApiError::bad("tools", Some("invalid_type"), "'tools' must be an array."));
        }
        Ok(Options {
            stream,
            include_usage,
            choices: integer(body, "n", 1, 128)?.unwrap_or(1),
            limit: old.or(new).unwrap_or(model.max_output),
            tier: tier_of(body)?,
        })
    }
}

/// The tier that a request asks for, if it leaves no choice.
pub fn tier_of(body: &Value) -> Result<Option<Tier>, ApiError> {
    match &body["service_tier"] {
        Value::Null => Ok(None),
        Value::String(name) if name == "auto" => Ok(None),
        Value::String(name) if name == "scale" => Ok(Some(Tier::Default)),
        other => match other.as_str().and_then(Tier::from_name) {
            Some(tier) => Ok(Some(tier)),
            None => Err(ApiError::bad("service_tier", Some("invalid_value"), "Invalid value for 'service_tier'.")),
        },
    }
}

/// The messages of a request, roles and kinds of content checked.
pub fn messages_of(body: &Value) -> Result<&[Value], ApiError> {
    let Some(messages) = body["messages"].as_array() else {
        let message = "Missing required parameter: 'messages'.";
        return Err(ApiError::bad("messages", Some("missing_required_parameter"), message));
    };
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1.";
        return Err(ApiError::bad("messages", Some("empty_array"), message));
    }
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if !matches!(role, "system" | "developer" | "user" | "assistant" | "tool" | "function") {
            let param = format!("messages[{at}].role");
            return Err(ApiError::bad(&param, Some("invalid_value"), format!("Invalid value for '{param}'.")));
        }
        if !matches!(message["content"], Value::Null | Value::String(_) | Value::Array(_)) {
            let param = format!("messages[{at}].content");
            return Err(ApiError::bad(&param, Some("invalid_type"), format!("Invalid type for '{param}'.")));
        }
    }
    Ok(messages)
}

/// The text of the last user message, all its text parts together.
pub fn last_user_text(messages: &[Value]) -> String {
    match messages.iter().rev().find(|m| m["role"] == "user").map(|m| &m["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// Prompt tokens: one for each word of every text, 3 a message and 3 more; flat
/// prices for parts that are not text; a quarter of the JSON of tools and of a response format.
pub fn count_prompt(body: &Value, messages: &[Value]) -> u64 {
    let messages: u64 = messages
        .iter()
        .map(|message| {
            let content = match &message["content"] {
                Value::String(text) => words(text),
                Value::Array(parts) => parts.iter().map(count_part).sum(),
                _ => 0,
            };
            let name = message["name"].as_str().map_or(0, words);
            3 + content + name + json_tokens(&message["tool_calls"])
        })
        .sum();
    messages + 3 + json_tokens(&body["tools"]) + json_tokens(&body["response_format"])
}

fn count_part(part: &Value) -> u64 {
    match part["type"].as_str().unwrap_or_default() {
        "text" => part["text"].as_str().map_or(0, words),
        "refusal" => part["refusal"].as_str().map_or(0, words),
        "image_url" => 765,
        "input_audio" | "file" => 1000,
        _ => 0,
    }
}

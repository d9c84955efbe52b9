//! Chat and fill-in-the-middle completions, request side.

use serde_json::Value;

use super::super::cache::{Hit, Life, Prefixes};
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Plan, Wish};
use super::super::openai::chat::{count_prompt, last_user_text, messages_of};
use super::super::openai::chat_out::ChatAnswer;
use super::super::openai::shop::Shop;
use super::super::order::{Sale, conditions, split_prompt};
use super::super::prices::Provider;
use super::super::read::{boolean, integer, parse_body, script_for, words};
use super::super::script::Tier;
use super::super::words::seed_of;

/// Prompts are cached in blocks of this many tokens.
const BLOCK: u64 = 64;

/// The fields of the schema. What is not among them is refused.
const KNOWN: [&str; 27] = [
    "model",
    "messages",
    "prompt",
    "suffix",
    "stream",
    "max_tokens",
    "min_tokens",
    "n",
    "temperature",
    "top_p",
    "stop",
    "random_seed",
    "metadata",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "presence_penalty",
    "frequency_penalty",
    "prediction",
    "prompt_mode",
    "reasoning_effort",
    "safe_prompt",
    "guardrails",
    "service_tier",
    "prompt_cache_key",
    "context",
];

/// Checks a request and says what it will be billed. `is_fim`: the prompt is a text and what comes after it.
pub fn order(app: &App, incoming: &Incoming, shop: &Shop, is_fim: bool) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    if let Some(unknown) = body.as_object().and_then(|body| body.keys().find(|key| !KNOWN.contains(&key.as_str()))) {
        let message = "Extra inputs are not permitted";
        return Err(ApiError::bad(unknown, Some("extra_forbidden"), message).with_status(422));
    }
    let read = Read::new(&body, is_fim)?;
    let named = shop.named(&body)?;
    let script = script_for(app, incoming, &named, &read.text)?;
    let (requested, model) = shop.model(&named, &script)?;
    if model.embeds() {
        let message = format!("Invalid model: {requested}");
        return Err(ApiError::bad("model", Some("model_not_found"), message));
    }
    let checked = |error: ApiError| error.with_status(422);
    let limit = integer(&body, "max_tokens", 0, model.max_output).map_err(checked)?;
    let choices = integer(&body, "n", 1, 128).map_err(checked)?.unwrap_or(1);
    let stream = boolean(&body, "stream").map_err(checked)?;
    if !matches!(body["service_tier"].as_str(), None | Some("auto" | "standard_only")) {
        let message = "Input should be 'auto' or 'standard_only'";
        return Err(ApiError::bad("service_tier", Some("enum"), message).with_status(422));
    }
    let room = model.context.saturating_sub(read.tokens);
    if limit.unwrap_or(0) > room {
        let message = format!("Prompt contains {} tokens and max_tokens is too large for this model", read.tokens);
        return Err(ApiError::bad("max_tokens", None, message));
    }
    let wish = Wish {
        choices,
        limit: limit.unwrap_or(room),
        max_output: model.max_output,
        stream,
        thinks: model.reasoning || body["prompt_mode"] == "reasoning",
    };
    let plan = Plan::new(seed_of(&incoming.body), &wish, &script);
    let hit = look_up(app, &body, &requested);
    let prompt = split_prompt(read.tokens, &hit, &script);
    let tool = body["tools"].as_array().and_then(|tools| tools.first()).filter(|_| script.tool_call);
    let tool = tool.map(|tool| tool["function"]["name"].as_str().unwrap_or("tool").to_owned());
    let tier = script.tier.unwrap_or(Tier::Default);
    let sale = Sale { provider: Provider::Mistral, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = stream;
    order.remember = hit.remember;
    order.answer = Box::new(ChatAnswer::new(&order.facts, Provider::Mistral, true, tool));
    Ok(order)
}

/// A prompt of either kind.
struct Read {
    tokens: u64,
    text: String,
}

impl Read {
    fn new(body: &Value, is_fim: bool) -> Result<Read, ApiError> {
        if is_fim {
            let Some(prompt) = body["prompt"].as_str() else {
                return Err(ApiError::bad("prompt", Some("missing"), "Field required").with_status(422));
            };
            let suffix = body["suffix"].as_str().unwrap_or_default();
            return Ok(Read { tokens: words(prompt) + words(suffix) + 3, text: prompt.to_owned() });
        }
        let messages = messages_of(body).map_err(|error| error.with_status(422))?;
        Ok(Read { tokens: count_prompt(body, messages), text: last_user_text(messages) })
    }
}

/// With a cache key, what earlier calls with that key began with is read, in whole blocks. Writing costs nothing.
fn look_up(app: &App, body: &Value, model: &str) -> Hit {
    let (Some(key), Some(messages)) = (body["prompt_cache_key"].as_str(), body["messages"].as_array()) else {
        return Hit::default();
    };
    let mut prefixes = Prefixes::new(model);
    prefixes.add(key, 0);
    for at in 0..messages.len() {
        let before = prefixes.tokens();
        let tokens = count_prompt(&Value::Null, &messages[..=at]);
        prefixes.add(&messages[at].to_string(), tokens - before);
        prefixes.breakpoint(Life::Short);
    }
    let hit = app.cache.look_up(&prefixes);
    Hit { read: hit.read / BLOCK * BLOCK, remember: hit.remember, ..Hit::default() }
}

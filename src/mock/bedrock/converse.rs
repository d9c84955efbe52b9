//! Converse, request side; Nova's own bodies have the same shape.

use serde_json::Value;

use super::super::cache::{Life, Prefixes};
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Plan, Wish};
use super::super::order::{Sale, conditions, split_prompt};
use super::super::prices::Provider;
use super::super::read::{integer, json_tokens, parse_body, script_for, words};
use super::super::words::seed_of;
use super::converse_out::{ConverseAnswer, Frames};
use super::{Target, last_user_text, tier_of};

/// Checks a Converse request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, target: Target, stream: bool) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let more = &body["additionalModelRequestFields"];
    let limit = integer(&body["inferenceConfig"], "maxTokens", 1, target.model.max_output)?;
    // The fields that the model itself understands are merged over the others, its limit too.
    let merged = integer(more, "max_tokens", 1, target.model.max_output)?;
    let thinks = more["thinking"]["type"].as_str().is_some_and(|kind| kind != "disabled");
    let frames = if stream { Frames::Events } else { Frames::Whole };
    build(app, incoming, &body, target, Wanted { limit: merged.or(limit), thinks, stream, frames })
}

/// What a request asks for beyond its prompt.
pub struct Wanted {
    /// The output limit.
    pub limit: Option<u64>,
    /// Thought?
    pub thinks: bool,
    /// A stream?
    pub stream: bool,
    /// How the answer is wrapped.
    pub frames: Frames,
}

/// Builds the order of a body in Converse's shape.
pub fn build(app: &App, incoming: &Incoming, body: &Value, target: Target, wanted: Wanted) -> Result<Order, ApiError> {
    let Target { model, requested, named } = target;
    let script = script_for(app, incoming, &named, &last_user_text(body))?;
    if model.embeds() {
        return Err(ApiError::bad("", None, "This model doesn't support the Converse API."));
    }
    let prefixes = count(body, &requested)?;
    if prefixes.tokens() > model.context {
        return Err(ApiError::bad("", None, "Input is too long for requested model."));
    }
    let wish = Wish {
        choices: 1,
        limit: wanted.limit.unwrap_or(model.max_output),
        max_output: model.max_output,
        stream: wanted.stream,
        thinks: wanted.thinks || model.reasoning,
    };
    let plan = Plan::new(seed_of(&incoming.body), &wish, &script);
    let hit = app.cache.look_up(&prefixes);
    let prompt = split_prompt(prefixes.tokens(), &hit, &script);
    let tool =
        body["toolConfig"]["tools"].as_array().and_then(|tools| tools.iter().find(|t| t["toolSpec"].is_object()));
    let tool = tool.filter(|_| script.tool_call).map(|t| t["toolSpec"]["name"].as_str().unwrap_or("tool").to_owned());
    let tier = script.tier.unwrap_or(tier_of(incoming, body)?);
    let sale = Sale { provider: Provider::Bedrock, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = wanted.stream;
    order.remember = hit.remember;
    order.answer = Box::new(ConverseAnswer::new(&order.facts, wish.thinks, tool, wanted.frames));
    Ok(order)
}

/// Tools, system and messages, with their cache points. Tokens: one for each word of every text, 3 a message and 3
/// more, a quarter of the JSON of tools, flat prices for media.
pub fn count(body: &Value, model: &str) -> Result<Prefixes, ApiError> {
    let mut prefixes = Prefixes::new(model);
    prefixes.add("", 3);
    let lists = [&body["toolConfig"]["tools"], &body["system"]];
    for block in lists.into_iter().filter_map(Value::as_array).flatten() {
        add(&mut prefixes, block)?;
    }
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return Err(ApiError::bad("", None, "messages: at least one message is required"));
    };
    for message in messages {
        let (role, content) = (message["role"].as_str().unwrap_or_default(), message["content"].as_array());
        let Some(content) = content.filter(|_| matches!(role, "user" | "assistant")) else {
            return Err(ApiError::bad(
                "",
                None,
                "messages: each needs a role, user or assistant, and a list of content",
            ));
        };
        prefixes.add(role, 3);
        for block in content {
            add(&mut prefixes, block)?;
        }
    }
    Ok(prefixes)
}

fn add(prefixes: &mut Prefixes, block: &Value) -> Result<(), ApiError> {
    if !block["cachePoint"].is_null() {
        let life = match block["cachePoint"]["ttl"].as_str() {
            None | Some("5m") => Life::Short,
            Some("1h") => Life::Hour,
            _ => return Err(ApiError::bad("", None, "cachePoint.ttl: expected 5m or 1h")),
        };
        prefixes.breakpoint(life);
        return Ok(());
    }
    let tokens = match (&block["text"], &block["toolResult"]["content"]) {
        (Value::String(text), _) => words(text),
        (_, Value::Array(blocks)) => {
            blocks.iter().map(|b| b["text"].as_str().map_or(json_tokens(&b["json"]), words)).sum()
        }
        _ if !block["image"].is_null() => 1_568,
        _ if !block["document"].is_null() || !block["video"].is_null() => 3_000,
        _ => json_tokens(&block["toolSpec"]) + json_tokens(&block["toolUse"]),
    };
    prefixes.add(&block.to_string(), tokens);
    Ok(())
}

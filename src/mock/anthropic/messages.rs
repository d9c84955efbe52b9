//! Messages, request side: what is valid, what it costs to read, what will be generated. Bedrock sells them too.

use serde_json::Value;

use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Plan, Wish};
use super::super::order::{Sale, conditions, split_prompt};
use super::super::prices::{Model, Provider};
use super::super::read::{integer, script_for};
use super::super::script::{Script, Tier};
use super::super::words::seed_of;
use super::count;
use super::out::{ClaudeAnswer, Frames};

/// Who sells which model.
pub struct Seller {
    /// Whose prices.
    pub provider: Provider,
    /// Which line of them.
    pub model: &'static Model,
    /// The model as the request names it, without a script in it.
    pub requested: String,
    /// The same with it.
    pub named: String,
    /// Is the answer a stream?
    pub stream: bool,
}

/// Checks a request and says what it will be billed.
pub fn order(
    app: &App,
    incoming: &Incoming,
    body: &Value,
    seller: Seller,
    frames: impl FnOnce(&Script) -> Frames,
) -> Result<Order, ApiError> {
    let Seller { provider, model, requested, named, stream } = seller;
    let prefixes = count::prompt(body, &requested)?;
    let mut script = script_for(app, incoming, &named, &count::last_user_text(body))?;
    let Some(limit) = integer(body, "max_tokens", 0, model.max_output)? else {
        return Err(ApiError::bad("max_tokens", None, "max_tokens: Field required"));
    };
    let thinks = check_thinking(body, limit)? || model.reasoning;
    check_choices(body, model)?;
    if prefixes.tokens() > model.context {
        let message = format!("prompt is too long: {} tokens > {} maximum", prefixes.tokens(), model.context);
        return Err(ApiError::bad("", None, message));
    }
    script.geo = script.geo.or_else(|| body["inference_geo"].as_str().map(str::to_owned));
    script.speed = script.speed.or_else(|| body["speed"].as_str().map(str::to_owned));
    let wish = Wish { choices: 1, limit, max_output: model.max_output, stream, thinks };
    let plan = Plan::new(seed_of(&incoming.body), &wish, &script);
    let hit = app.cache.look_up(&prefixes);
    let prompt = split_prompt(prefixes.tokens(), &hit, &script);
    let tool = body["tools"].as_array().and_then(|tools| tools.iter().find(|tool| tool["input_schema"].is_object()));
    let tool = tool.filter(|_| script.tool_call).map(|tool| tool["name"].as_str().unwrap_or("tool").to_owned());
    let tier = script.tier.unwrap_or(Tier::Default);
    let sale = Sale { provider, model, requested, conditions: conditions(&script, tier) };
    let frames = frames(&script);
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = stream;
    order.remember = hit.remember;
    order.answer = Box::new(ClaudeAnswer::new(&order.facts, thinks, tool, frames));
    Ok(order)
}

/// Does the request ask for thought?
fn check_thinking(body: &Value, limit: u64) -> Result<bool, ApiError> {
    let thinking = &body["thinking"];
    let bad = |message: &str| Err(ApiError::bad("thinking", None, message));
    match thinking["type"].as_str() {
        None if thinking.is_null() => Ok(false),
        Some("disabled") => Ok(false),
        Some("adaptive" | "between_tools") => Ok(true),
        Some("enabled") => match thinking["budget_tokens"].as_u64() {
            Some(budget) if budget < 1024 => {
                bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
            }
            Some(budget) if budget >= limit => bad("`max_tokens` must be greater than `thinking.budget_tokens`"),
            Some(_) => Ok(true),
            None => bad("thinking.enabled.budget_tokens: Field required"),
        },
        _ => bad("thinking.type: Input should be 'enabled', 'adaptive', 'between_tools' or 'disabled'"),
    }
}

/// Fields with few allowed values.
fn check_choices(body: &Value, model: &Model) -> Result<(), ApiError> {
    for (field, allowed) in [
        ("service_tier", &["auto", "standard_only"][..]),
        ("inference_geo", &["us", "global"]),
        ("speed", &["standard", "fast"]),
    ] {
        let value = &body[field];
        if !(value.is_null() || value.as_str().is_some_and(|value| allowed.contains(&value))) {
            return Err(ApiError::bad(field, None, format!("{field}: Input should be one of {allowed:?}")));
        }
    }
    if body["speed"] == "fast" && !model.fast {
        return Err(ApiError::bad("speed", None, "speed: fast mode is not supported on this model"));
    }
    if !(body["tools"].is_null() || body["tools"].is_array()) {
        return Err(ApiError::bad("tools", None, "tools: Input should be a valid list"));
    }
    Ok(())
}

/// Counts the input of a request.
pub fn count(body: &Value, model: &str) -> Result<u64, ApiError> {
    Ok(count::prompt(body, model)?.tokens())
}

//! The responses API, request side, and the responses that can be asked for again.

mod out;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Plan, Wish};
use super::super::invoice::Call;
use super::super::order::{Sale, conditions, split_prompt};
use super::super::prices::Provider;
use super::super::read::{boolean, integer, json_tokens, parse_body, script_for, words};
use super::super::script::Tier;
use super::super::words::seed_of;
use super::chat::{implicit_writes, tier_of};
use super::shop::Shop;
use out::{ResponseAnswer, Status};

/// How many responses are kept.
const KEEP: usize = 1000;

/// Responses by id.
#[derive(Default)]
pub struct Stored {
    kept: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    by_id: HashMap<String, Kept>,
    order: VecDeque<String>,
}

/// A response that can be asked for again.
struct Kept {
    call: Arc<Call>,
    answer: ResponseAnswer,
    is_background: bool,
}

impl Stored {
    fn keep(&self, id: String, kept: Kept) {
        let mut shelf = self.lock();
        if shelf.by_id.insert(id.clone(), kept).is_none() {
            shelf.order.push_back(id);
        }
        if shelf.order.len() > KEEP
            && let Some(oldest) = shelf.order.pop_front()
        {
            shelf.by_id.remove(&oldest);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Shelf::default();
    }

    /// All tokens of an earlier response: what a response that goes on from it has for input, unseen.
    fn tokens_of(&self, id: &str) -> Result<u64, ApiError> {
        let shelf = self.lock();
        let kept = shelf.by_id.get(id).ok_or_else(|| missing(id, "previous_response_id", 400))?;
        Ok(kept.answer.facts.prompt.total + kept.call.generated())
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn missing(id: &str, param: &str, status: u16) -> ApiError {
    let code = if status == 400 { "previous_response_not_found" } else { "not_found" };
    ApiError::bad(param, Some(code), format!("Response with id '{id}' not found.")).with_status(status)
}

/// Answers `GET`, `DELETE` and `POST …/cancel`.
pub fn by_id(app: &App, method: &str, id: &str) -> Result<Value, ApiError> {
    let (id, is_cancel) = id.strip_suffix("/cancel").map_or((id, false), |id| (id, true));
    let mut shelf = app.stored.lock();
    let kept = shelf.by_id.get(id).ok_or_else(|| missing(id, "", 404))?;
    if is_cancel && !kept.is_background {
        return Err(ApiError::bad("", None, "Cannot cancel a synchronous response."));
    }
    if is_cancel && !kept.call.is_closed() {
        kept.call.cancel();
    }
    if method == "DELETE" {
        shelf.by_id.remove(id);
        shelf.order.retain(|kept| kept != id);
        return Ok(json!({ "id": id, "object": "response", "deleted": true }));
    }
    let generated = kept.call.generated();
    let bytes = match (kept.call.is_cancelled(), kept.call.is_closed()) {
        (true, _) => kept.answer.object(Status::Cancelled, 0, Some(generated)),
        (false, false) => kept.answer.object(Status::InProgress, 0, None),
        (false, true) => kept.answer.whole(),
    };
    serde_json::from_slice(&bytes).map_err(|_| ApiError::failing())
}

/// Counts the input of a request, for nothing.
pub fn input_tokens(app: &App, incoming: &Incoming, shop: &Shop) -> Result<Value, ApiError> {
    let body = parse_body(incoming)?;
    shop.find(&shop.named(&body)?)?;
    Ok(json!({ "object": "response.input_tokens", "input_tokens": count(app, &body)? }))
}

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, shop: &Shop) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let named = shop.named(&body)?;
    let total = count(app, &body)?;
    let script = script_for(app, incoming, &named, &last_user_text(&body["input"]))?;
    let (requested, model) = shop.model(&named, &script)?;
    if model.embeds() {
        let message = format!("The model `{requested}` is not supported with the Responses API.");
        return Err(ApiError::bad("model", None, message));
    }
    if total > model.context {
        let message = "Your input exceeds the context window of this model. Please adjust your input and try again.";
        return Err(ApiError::bad("input", Some("context_length_exceeded"), message));
    }
    let stream = boolean(&body, "stream")?;
    let is_background = boolean(&body, "background")?;
    let store = body["store"].is_null() || boolean(&body, "store")?;
    if is_background && !store {
        return Err(ApiError::bad("background", None, "Background mode requires store=true."));
    }
    let limit = integer(&body, "max_output_tokens", 16, model.max_output)?;
    let own = if shop.provider == Provider::Mistral { Tier::Default } else { app.auto_tier };
    let tier = script.tier.or(tier_of(&body)?).unwrap_or(own);
    let wish = Wish {
        choices: 1,
        limit: limit.unwrap_or(model.max_output),
        max_output: model.max_output,
        stream,
        thinks: model.reasoning && body["reasoning"]["effort"] != "none",
    };
    let plan = Plan::new(seed_of(&incoming.body), &wish, &script);
    let prompt = split_prompt(total, &implicit_writes(&body, model, total, &script), &script);
    let tool = body["tools"].as_array().and_then(|tools| tools.iter().find(|tool| tool["type"] == "function"));
    let tool = tool.filter(|_| script.tool_call).map(|tool| tool["name"].as_str().unwrap_or("tool").to_owned());
    let sale = Sale { provider: shop.provider, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = stream;
    let answer = ResponseAnswer::new(&order.facts, &body, tool);
    if is_background && !stream {
        order.at_once = Some(answer.object(Status::Queued, 0, None));
    }
    if store {
        let (id, answer) = (answer.id(), answer.clone());
        order.on_open = Some(Box::new(move |app, call| {
            app.stored.keep(id, Kept { call: call.clone(), answer, is_background });
        }));
    }
    order.answer = Box::new(answer);
    shop.finish(&mut order);
    Ok(order)
}

/// Input tokens: one for each word of every text, 3 an item and 3 more, flat prices for what is not text, a quarter of
/// the JSON of tools and formats, and everything that a response to go on from had.
fn count(app: &App, body: &Value) -> Result<u64, ApiError> {
    let input = match &body["input"] {
        Value::String(text) => 3 + words(text),
        Value::Array(items) if !items.is_empty() => items.iter().map(count_item).sum(),
        Value::Null if !body["previous_response_id"].is_null() => 0,
        _ => {
            let message = "Missing required parameter: 'input'.";
            return Err(ApiError::bad("input", Some("missing_required_parameter"), message));
        }
    };
    let earlier = match &body["previous_response_id"] {
        Value::Null => 0,
        id => app.stored.tokens_of(id.as_str().unwrap_or_default())?,
    };
    let rest = json_tokens(&body["tools"]) + json_tokens(&body["text"]["format"]);
    Ok(3 + input + earlier + rest + body["instructions"].as_str().map_or(0, words))
}

fn count_item(item: &Value) -> u64 {
    let text = |value: &Value| value.as_str().map_or(0, words);
    let content = match &item["content"] {
        Value::String(text) => words(text),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["type"].as_str().unwrap_or_default() {
                "input_image" => 765,
                "input_file" | "input_audio" => 1000,
                _ => text(&part["text"]),
            })
            .sum(),
        _ => 0,
    };
    3 + content + text(&item["output"]) + text(&item["arguments"])
}

fn last_user_text(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        Value::Array(items) => match items.iter().rev().find(|item| item["role"] == "user").map(|i| &i["content"]) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

//! Contents, request side: what is valid, what it costs to read, what will be generated.

use serde_json::{Value, json};

use super::super::cache::Hit;
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Plan, Wish};
use super::super::invoice::Prompt;
use super::super::order::{Sale, conditions, split_prompt};
use super::super::prices::{Model, Provider};
use super::super::read::{bare_model, integer, json_tokens, parse_body, query, script_for, words};
use super::super::script::{Script, Tier};
use super::super::words::seed_of;
use super::out::{Frames, GeminiAnswer};
use super::{field, find};

/// Tokens that a `cachedContent` stands for, unless the script says otherwise.
const CACHED_CONTENT: u64 = 2_048;
/// Most candidates of one call.
const MAX_CANDIDATES: u64 = 8;

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, named: &str, stream: bool) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let script = script_for(app, incoming, named, &last_user_text(&body))?;
    let model = find(named)?;
    if model.embeds() {
        return Err(ApiError::bad("", None, format!("{named} does not generate content")).with_status(404));
    }
    let counted = count(&body)?;
    let prompt = prompt_of(&body, &counted, &script);
    if prompt.total > model.context && script.prompt.is_none() {
        let message = format!("The input token count exceeds the maximum number of tokens allowed {}.", model.context);
        return Err(ApiError::bad("", None, message));
    }
    let config = field(&body, "generationConfig");
    let choices = limited(config, "candidateCount", MAX_CANDIDATES)?.unwrap_or(1);
    let limit = limited(config, "maxOutputTokens", model.max_output)?.unwrap_or(model.max_output);
    let thinking = field(config, "thinkingConfig");
    let wish = Wish {
        choices,
        limit,
        max_output: model.max_output,
        stream,
        thinks: model.reasoning && field(thinking, "thinkingBudget") != &json!(0),
    };
    let seed = seed_of(&incoming.body);
    let is_blocked = script.finish.as_deref() == Some("blocked");
    let plan = if is_blocked { Plan::nothing(seed) } else { Plan::new(seed, &wish, &script) };
    let tier = script.tier.or(tier_of(&body)?).unwrap_or(app.auto_tier);
    let tool = function_name(&body).filter(|_| script.tool_call);
    let frames = match (stream, query(incoming, "alt")) {
        (true, Some("sse")) => Frames::sse(&script),
        _ => Frames::Array,
    };
    let shows_thoughts = field(thinking, "includeThoughts") == &json!(true) && !script.hidden;
    let requested = bare_model(named).to_owned();
    let sale = Sale { provider: Provider::Gemini, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = stream;
    let answer = GeminiAnswer::new(&order.facts, tool, shows_thoughts, frames);
    order.headers.push(("x-gemini-service-tier", answer.tier().to_owned()));
    order.answer = Box::new(answer);
    Ok(order)
}

/// Counts a prompt, for nothing.
pub fn count_tokens(incoming: &Incoming, named: &str) -> Result<Value, ApiError> {
    let body = parse_body(incoming)?;
    let model: &Model = find(named)?;
    let inner = field(&body, "generateContentRequest");
    let counted = count(if inner.is_null() { &body } else { inner })?;
    let total = counted.text + counted.audio + counted.image;
    let details = [("TEXT", counted.text), ("AUDIO", counted.audio), ("IMAGE", counted.image)];
    let details: Vec<Value> = details
        .iter()
        .filter(|(_, tokens)| *tokens > 0)
        .map(|(modality, tokens)| json!({ "modality": modality, "tokenCount": tokens }))
        .collect();
    Ok(json!({ "totalTokens": total.min(model.context), "promptTokensDetails": details }))
}

/// Tokens of a prompt by what they are.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    text: u64,
    audio: u64,
    image: u64,
}

/// One token for each word of every text, flat counts for media, a quarter of the JSON of tools and schemas.
fn count(body: &Value) -> Result<Counted, ApiError> {
    let mut counted = Counted::default();
    let contents = match field(body, "contents") {
        Value::Array(contents) if !contents.is_empty() => contents,
        _ => {
            let message = "* GenerateContentRequest.contents: contents is not specified";
            return Err(ApiError::bad("", None, message));
        }
    };
    for content in contents.iter().chain([field(body, "systemInstruction")]) {
        for part in content["parts"].as_array().into_iter().flatten() {
            count_part(part, &mut counted);
        }
    }
    let config = field(body, "generationConfig");
    counted.text += json_tokens(&body["tools"]) + json_tokens(field(config, "responseSchema"));
    counted.text += json_tokens(field(config, "responseJsonSchema"));
    Ok(counted)
}

fn count_part(part: &Value, counted: &mut Counted) {
    counted.text += part["text"].as_str().map_or(0, words);
    counted.text += json_tokens(field(part, "functionCall")) + json_tokens(field(part, "functionResponse"));
    let data = [field(part, "inlineData"), field(part, "fileData")].into_iter().find(|data| !data.is_null());
    if let Some(data) = data {
        let kind = field(data, "mimeType").as_str().unwrap_or_default();
        match kind.split('/').next() {
            Some("audio") => counted.audio += 320,
            Some("image") => counted.image += 258,
            _ => counted.text += 1_000,
        }
    }
}

fn prompt_of(body: &Value, counted: &Counted, script: &Script) -> Prompt {
    let hidden = if field(body, "cachedContent").is_null() { 0 } else { CACHED_CONTENT };
    let mut script = script.clone();
    script.audio_in = script.audio_in.or(Some(counted.audio));
    script.image_in = script.image_in.or(Some(counted.image));
    let total = counted.text + counted.audio + counted.image + hidden;
    split_prompt(total, &Hit { read: hidden, ..Hit::default() }, &script)
}

/// An integer of the configuration, in either spelling.
fn limited(config: &Value, camel: &str, most: u64) -> Result<Option<u64>, ApiError> {
    let value = field(config, camel);
    integer(&json!({ camel: value }), camel, 1, most)
}

fn tier_of(body: &Value) -> Result<Option<Tier>, ApiError> {
    match field(body, "serviceTier") {
        Value::Null => Ok(None),
        Value::String(name) if matches!(name.as_str(), "standard" | "flex" | "priority") => Ok(Tier::from_name(name)),
        other => Err(ApiError::bad("", None, format!("Invalid value at 'service_tier': {other}"))),
    }
}

fn function_name(body: &Value) -> Option<String> {
    let tools = body["tools"].as_array()?;
    let declared = tools.iter().find_map(|tool| field(tool, "functionDeclarations").as_array());
    Some(declared?.first()?["name"].as_str()?.to_owned())
}

/// All texts of the last content of the user together.
pub fn last_user_text(body: &Value) -> String {
    let contents = field(body, "contents").as_array();
    let is_user = |content: &&Value| content["role"].is_null() || content["role"] == "user";
    let last = contents.and_then(|contents| contents.iter().rev().find(is_user));
    let parts = last.and_then(|content| content["parts"].as_array());
    parts.into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
}

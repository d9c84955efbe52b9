//! OpenAI's dialect, request side: what is valid, what it costs to read, what will be generated.

use serde_json::Value;

use super::embeddings;
use super::flow::{Answer, App, Incoming, Order, Reply, error_reply, json_reply, run};
use super::generate::{Plan, mix, seed_of, word};
use super::invoice::Prompt;
use super::openai_out::ChatAnswer;
use super::prices::{self, MODELS, Model};
use super::script::{Script, Tier};

/// An error in the shape that OpenAI's clients parse.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// For people.
    pub message: String,
    /// The `type` field.
    pub kind: &'static str,
    /// The request field at fault.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// A 400 that blames `param`.
    pub fn bad(param: &str, code: Option<&'static str>, message: impl Into<String>) -> ApiError {
        let param = (!param.is_empty()).then(|| param.to_owned());
        ApiError { status: 400, message: message.into(), kind: "invalid_request_error", param, code }
    }

    /// Another status.
    pub fn with_status(mut self, status: u16) -> ApiError {
        self.status = status;
        self
    }

    /// The inner object: `{"message","type","param","code"}`.
    pub fn to_json(&self) -> Value {
        serde_json::json!({ "message": self.message, "type": self.kind, "param": self.param, "code": self.code })
    }
}

/// Routes a request of this dialect.
pub async fn handle(app: &App, incoming: Incoming) -> std::io::Result<Reply> {
    match route(app, &incoming) {
        Ok(Routed::Reply(reply)) => Ok(reply),
        Ok(Routed::Order(order)) => run(app, *order).await,
        Err(error) => Ok(error_reply(app, &error)),
    }
}

enum Routed {
    Reply(Reply),
    Order(Box<Order>),
}

fn route(app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
    let path = incoming.parts.uri.path();
    let method = incoming.parts.method.as_str();
    let wants = match path {
        "/v1/chat/completions" | "/v1/embeddings" => "POST",
        "/v1/models" => "GET",
        _ if path.strip_prefix("/v1/models/").is_some_and(|id| !id.is_empty()) => "GET",
        _ => {
            let message = format!("Invalid URL ({method} {path})");
            return Err(ApiError::bad("", None, message).with_status(404));
        }
    };
    if method != wants {
        let message = format!("Not allowed to {method} on {path} (HINT: Perhaps you meant to make a {wants} request).");
        return Err(ApiError::bad("", Some("method_not_supported"), message).with_status(405));
    }
    authorize(incoming)?;
    match path {
        "/v1/chat/completions" => Ok(Routed::Order(Box::new(chat(app, incoming)?))),
        "/v1/embeddings" => Ok(Routed::Order(Box::new(embeddings::order(app, incoming)?))),
        "/v1/models" => {
            let data: Vec<Value> = MODELS.iter().map(|m| model_json(m.name)).collect();
            Ok(Routed::Reply(json_reply(app, 200, &serde_json::json!({ "object": "list", "data": data }))))
        }
        _ => {
            let id = path.strip_prefix("/v1/models/").unwrap_or_default();
            find_model(id)?;
            Ok(Routed::Reply(json_reply(app, 200, &model_json(id))))
        }
    }
}

fn model_json(id: &str) -> Value {
    serde_json::json!({ "id": id, "object": "model", "created": 1_767_225_600, "owned_by": "system" })
}

fn authorize(incoming: &Incoming) -> Result<(), ApiError> {
    let value = incoming.parts.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    match value.strip_prefix("Bearer ").map(str::trim) {
        Some(token) if !token.is_empty() => Ok(()),
        _ => {
            let message = "You didn't provide an API key. You need to provide your API key in an Authorization header \
                           using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
            Err(ApiError::bad("", Some("invalid_api_key"), message).with_status(401))
        }
    }
}

/// Parses the body: an object, or an error.
pub fn parse_body(incoming: &Incoming) -> Result<Value, ApiError> {
    match serde_json::from_slice::<Value>(&incoming.body) {
        Ok(body) if body.is_object() => Ok(body),
        _ => Err(ApiError::bad("", None, "We could not parse the JSON body of your request.")),
    }
}

/// The model named in the body.
pub fn model_of(body: &Value) -> Result<(String, usize, &'static Model), ApiError> {
    let Some(name) = body["model"].as_str().filter(|name| !name.is_empty()) else {
        return Err(ApiError::bad("model", None, "you must provide a model parameter"));
    };
    let (index, model) = find_model(name)?;
    Ok((name.to_owned(), index, model))
}

fn find_model(name: &str) -> Result<(usize, &'static Model), ApiError> {
    prices::find(name).ok_or_else(|| {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        ApiError::bad("model", Some("model_not_found"), message).with_status(404)
    })
}

/// The script in force: config, then marker, then header, later ones winning.
pub fn script_for(app: &App, incoming: &Incoming, message: &str) -> Result<Script, ApiError> {
    let mut script = app.default_script.clone();
    let header = incoming.parts.headers.get("x-mock-script").map(|v| v.to_str().unwrap_or("?"));
    for text in [Script::marker(message), header].into_iter().flatten() {
        script.apply(text).map_err(|why| ApiError::bad("", Some("mock_script"), why))?;
    }
    Ok(script)
}

fn chat(app: &App, incoming: &Incoming) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let (requested, index, model) = model_of(&body)?;
    if model.embeds() {
        let message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint.";
        return Err(ApiError::bad("model", None, message).with_status(404));
    }
    let messages = messages_of(&body)?;
    let script = script_for(app, incoming, &last_user_text(messages))?;
    let options = Options::check(&body, model)?;
    let tier = match script.tier.or(options.tier) {
        Some(tier) => tier,
        None => app.auto_tier,
    };
    let total = count_prompt(&body, messages);
    if total > model.context {
        let message = format!("Input tokens exceed the configured limit of {} tokens.", model.context);
        return Err(ApiError::bad("messages", Some("context_length_exceeded"), message));
    }
    let plan = plan(&body, &options, model, &script, seed_of(&incoming.body));
    let prompt = split_prompt(&body, model, total, &script);
    let is_tool_call = script.tool_call && body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let tool = body["tools"][0]["function"]["name"].as_str().unwrap_or("tool").to_owned();
    let mut order = Order::new(incoming, requested, index, tier, prompt, plan, script);
    order.stream = options.stream;
    order.answer = Answer::Chat(Box::new(ChatAnswer::new(&order, options.include_usage, is_tool_call.then_some(tool))));
    Ok(order)
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

fn tier_of(body: &Value) -> Result<Option<Tier>, ApiError> {
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

fn boolean(body: &Value, field: &str) -> Result<bool, ApiError> {
    match &body[field] {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(*value),
        _ => {
            Err(ApiError::bad(field, Some("invalid_type"), format!("Invalid type for '{field}': expected a boolean.")))
        }
    }
}

fn integer(body: &Value, field: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
    let value = &body[field];
    if value.is_null() {
        return Ok(None);
    }
    match value.as_u64() {
        Some(number) if number < min => {
            let message = format!("Invalid '{field}': integer below minimum value. Expected a value >= {min}.");
            Err(ApiError::bad(field, Some("integer_below_min_value"), message))
        }
        Some(number) if number > max => {
            let message = format!("Invalid '{field}': integer above maximum value. Expected a value <= {max}.");
            Err(ApiError::bad(field, Some("integer_above_max_value"), message))
        }
        Some(number) => Ok(Some(number)),
        None if value.as_i64().is_some() => {
            let message = format!("Invalid '{field}': integer below minimum value. Expected a value >= {min}.");
            Err(ApiError::bad(field, Some("integer_below_min_value"), message))
        }
        None => {
            let message = format!("Invalid type for '{field}': expected an integer.");
            Err(ApiError::bad(field, Some("invalid_type"), message))
        }
    }
}

fn messages_of(body: &Value) -> Result<&[Value], ApiError> {
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
fn last_user_text(messages: &[Value]) -> String {
    match messages.iter().rev().find(|m| m["role"] == "user").map(|m| &m["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// Prompt tokens: one for each word of every text, 3 a message and 3 more; flat
/// prices for parts that are not text; a quarter of the JSON of tools and of a response format.
fn count_prompt(body: &Value, messages: &[Value]) -> u64 {
    let json = |value: &Value| {
        if value.is_null() { 0 } else { quarter(&value.to_string()) }
    };
    let messages: u64 = messages
        .iter()
        .map(|message| {
            let content = match &message["content"] {
                Value::String(text) => words(text),
                Value::Array(parts) => parts.iter().map(count_part).sum(),
                _ => 0,
            };
            let name = message["name"].as_str().map_or(0, words);
            3 + content + name + json(&message["tool_calls"])
        })
        .sum();
    messages + 3 + json(&body["tools"]) + json(&body["response_format"])
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

/// The mock's idea of how many tokens a text has: one for each word, never more than any real tokenizer finds.
pub fn words(text: &str) -> u64 {
    (text.split_whitespace().count() as u64).max(u64::from(!text.is_empty()))
}

/// The mock's idea of how many tokens JSON has, which a provider renders in some way of its own.
pub fn quarter(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// Splits the prompt by how it is billed. Models since gpt-5.6 write prompts of 1,024 tokens and more
/// to the cache, in blocks of 128, unless told that caching is explicit; reads only happen by script.
pub fn split_prompt(body: &Value, model: &Model, total: u64, script: &Script) -> Prompt {
    let is_explicit = body["prompt_cache_options"]["mode"] == "explicit";
    let cached = script.cached.unwrap_or(0).min(total);
    let writes = model.writes_cache && !is_explicit && total >= 1024;
    let implied = if writes { (total - cached) / 128 * 128 } else { 0 };
    let cache_write = script.cache_write.unwrap_or(implied).min(total - cached);
    Prompt { total, cached, cache_write }
}

fn plan(body: &Value, options: &Options, model: &Model, script: &Script, seed: u64) -> Plan {
    let wanted = script.tokens.unwrap_or(5 + mix(seed) % 56);
    let thinks = model.reasoning && body["reasoning_effort"] != "none" && script.tokens.is_none();
    let implied = if thinks { mix(seed ^ 1) % 32 } else { 0 };
    let reasoning = script.reasoning.unwrap_or(implied);
    // A scripted total includes its reasoning; otherwise reasoning comes on top.
    let mut wanted = if script.tokens.is_some() { wanted.max(reasoning) } else { wanted + reasoning };
    let first_event = first_event(seed, script);
    wanted += first_event;
    let obeys = script.obey.unwrap_or(u64::from(!script.endless)) == 1;
    if script.endless && options.stream {
        wanted = u64::MAX;
    }
    Plan {
        seed,
        choices: options.choices,
        wanted,
        limit: if obeys { options.limit } else { u64::MAX },
        reasoning,
        first_event,
        endless: (script.endless && options.stream && !obeys).then_some(model.max_output),
    }
}

/// How many words make up a first event of that many bytes.
fn first_event(seed: u64, script: &Script) -> u64 {
    let size = script.large_event.unwrap_or(0);
    let (mut bytes, mut count) = (0, 0);
    while bytes < size {
        bytes += word(seed, script.unicode, 0, count).len() as u64;
        count += 1;
    }
    count
}

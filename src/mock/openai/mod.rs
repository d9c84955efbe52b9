//! OpenAI's dialect.

pub mod chat;
pub mod chat_out;
pub mod completions;
pub mod embeddings;
pub mod responses;
pub mod shop;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::dialect::{Dialect, Routed, put};
use super::error::ApiError;
use super::flow::{App, Incoming, json_reply};
use super::prices::Provider;
use super::read::{bearer, parse_body};
use shop::Shop;

/// See the module.
pub struct OpenAi;

impl Dialect for OpenAi {
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
        let path = incoming.path.as_str();
        let method = incoming.parts.method.as_str();
        let Some(rest) = path.strip_prefix("/v1/") else {
            return Err(ApiError::no_route(method, path));
        };
        check_method(method, path, rest)?;
        authorize(incoming)?;
        route(app, incoming, &Shop::openai(), rest)
    }

    fn error_body(&self, error: &ApiError, _: &str) -> Vec<u8> {
        json!({ "error": error_object(error) }).to_string().into_bytes()
    }

    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        put(headers, "x-request-id", request_id);
        put(headers, "openai-processing-ms", "1");
    }
}

/// The inner object: `{"message","type","param","code"}`.
pub fn error_object(error: &ApiError) -> Value {
    json!({ "message": error.message, "type": error.kind, "param": error.param, "code": error.code })
}

fn check_method(method: &str, path: &str, rest: &str) -> Result<(), ApiError> {
    let wants: &[&str] = match rest {
        "chat/completions" | "completions" | "embeddings" | "moderations" | "responses" | "responses/input_tokens" => {
            &["POST"]
        }
        "models" => &["GET"],
        _ => match rest.split_once('/') {
            Some(("models", id)) if !id.is_empty() => &["GET"],
            Some(("responses", id)) if id.ends_with("/cancel") => &["POST"],
            Some(("responses", id)) if !id.is_empty() && !id.contains('/') => &["GET", "DELETE"],
            _ => return Err(ApiError::no_route(method, path)),
        },
    };
    if wants.contains(&method) {
        return Ok(());
    }
    let wants = wants[0];
    let message = format!("Not allowed to {method} on {path} (HINT: Perhaps you meant to make a {wants} request).");
    Err(ApiError::bad("", Some("method_not_supported"), message).with_status(405))
}

/// Routes `rest`, the path after `/v1/`, of a request whose method fits.
pub fn route(app: &App, incoming: &Incoming, shop: &Shop, rest: &str) -> Result<Routed, ApiError> {
    let free = |value: &Value| Ok(Routed::Reply(json_reply(app, incoming.dialect, 200, value)));
    match rest {
        "chat/completions" => Ok(chat::order(app, incoming, shop)?.into()),
        "completions" => Ok(completions::order(app, incoming, shop)?.into()),
        "embeddings" => Ok(embeddings::order(app, incoming, shop)?.into()),
        "responses" => Ok(responses::order(app, incoming, shop)?.into()),
        "responses/input_tokens" => free(&responses::input_tokens(app, incoming, shop)?),
        "moderations" => free(&moderation(incoming)?),
        "models" => {
            let data: Vec<Value> = shop.provider.models().iter().map(|m| model_json(m.name)).collect();
            free(&json!({ "object": "list", "data": data }))
        }
        _ => match rest.split_once('/') {
            Some(("models", id)) => {
                shop.find(id)?;
                free(&model_json(id))
            }
            Some((_, id)) => free(&responses::by_id(app, incoming.parts.method.as_str(), id)?),
            None => Err(ApiError::no_route(incoming.parts.method.as_str(), &incoming.path)),
        },
    }
}

fn model_json(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_767_225_600, "owned_by": Provider::Openai.name() })
}

/// Free of charge, and finds nothing to object to.
fn moderation(incoming: &Incoming) -> Result<Value, ApiError> {
    let body = parse_body(incoming)?;
    let inputs = match &body["input"] {
        Value::String(_) => 1,
        Value::Array(list) if !list.is_empty() => list.len(),
        _ => return Err(ApiError::bad("input", Some("missing_required_parameter"), "Missing parameter: 'input'.")),
    };
    let result =
        json!({ "flagged": false, "categories": {}, "category_scores": {}, "category_applied_input_types": {} });
    let model = body["model"].as_str().unwrap_or("omni-moderation-latest");
    Ok(json!({ "id": "modr-mock", "model": model, "results": vec![result; inputs] }))
}

fn authorize(incoming: &Incoming) -> Result<(), ApiError> {
    if bearer(incoming).is_some() {
        incoming.info.set_auth("bearer");
        return Ok(());
    }
    let message = "You didn't provide an API key. You need to provide your API key in an Authorization header using \
                   Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
    Err(ApiError::bad("", Some("invalid_api_key"), message).with_status(401))
}

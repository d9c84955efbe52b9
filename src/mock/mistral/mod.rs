//! Mistral's dialect: close to OpenAI's, stricter about what it does not know.

mod chat;
#[cfg(test)]
mod tests;

use std::io::Write as _;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::dialect::{Dialect, Routed, put};
use super::error::ApiError;
use super::flow::{App, Incoming, json_reply};
use super::openai::{embeddings, responses, shop::Shop};
use super::order::Facts;
use super::prices::Provider;
use super::read::{bearer, quoted};
use super::script::{Tier, UsageMode};

/// See the module.
pub struct Mistral;

impl Dialect for Mistral {
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
        let path = incoming.path.as_str();
        let method = incoming.parts.method.as_str();
        if bearer(incoming).is_none() {
            return Err(ApiError::bad("", None, "Unauthorized").with_status(401));
        }
        incoming.info.set_auth("bearer");
        let shop = Shop { provider: Provider::Mistral, deployment: None };
        match (method, path) {
            ("POST", "/v1/chat/completions") => Ok(chat::order(app, incoming, &shop, false)?.into()),
            ("POST", "/v1/fim/completions") => Ok(chat::order(app, incoming, &shop, true)?.into()),
            ("POST", "/v1/embeddings") => Ok(embeddings::order(app, incoming, &shop)?.into()),
            ("POST", "/v1/responses") => Ok(responses::order(app, incoming, &shop)?.into()),
            ("POST", "/v1/responses/input_tokens") => {
                let counted = responses::input_tokens(app, incoming, &shop)?;
                Ok(Routed::Reply(json_reply(app, self, 200, &counted)))
            }
            ("GET", "/v1/models") => {
                let data: Vec<Value> = Provider::Mistral.models().iter().map(|m| model_json(m.name)).collect();
                Ok(Routed::Reply(json_reply(app, self, 200, &json!({ "object": "list", "data": data }))))
            }
            ("GET", _) if path.starts_with("/v1/models/") => {
                let id = path.strip_prefix("/v1/models/").unwrap_or_default();
                shop.find(id)?;
                Ok(Routed::Reply(json_reply(app, self, 200, &model_json(id))))
            }
            _ => Err(ApiError::no_route(method, path)),
        }
    }

    /// What does not fit the schema gets a list of details, a missing key one word, all else an object.
    fn error_body(&self, error: &ApiError, _: &str) -> Vec<u8> {
        let body = match error.status {
            401 => json!({ "detail": error.message }),
            422 => {
                let place: Vec<&str> = std::iter::once("body").chain(error.param.as_deref()).collect();
                let kind = error.code.unwrap_or("value_error");
                json!({ "detail": [{ "loc": place, "msg": error.message, "type": kind }] })
            }
            _ => error_object(error),
        };
        body.to_string().into_bytes()
    }

    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        put(headers, "mistral-correlation-id", request_id);
    }
}

/// `{"object":"error","message","type","param","code"}`
pub fn error_object(error: &ApiError) -> Value {
    let (kind, code) = match error.status {
        400 | 404 if error.code == Some("model_not_found") => ("invalid_model", "1500"),
        400..=428 => ("invalid_request_error", "3051"),
        429 => ("rate_limited", "1300"),
        _ => ("internal_server_error", "1000"),
    };
    json!({ "object": "error", "message": error.message, "type": kind, "param": error.param, "code": code })
}

fn model_json(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_767_225_600, "owned_by": "mistralai", "type": "base",
            "capabilities": { "completion_chat": true, "function_calling": true } })
}

/// Writes `,"usage":{…}`, truly or as the script has it. Without `completion` (embeddings) there is no output.
pub fn write_usage(out: &mut Vec<u8>, facts: &Facts, completion: Option<u64>) {
    if facts.script.usage == UsageMode::Null {
        out.extend_from_slice(b",\"usage\":null");
        return;
    }
    let (prompt, say) = (&facts.prompt, |n| facts.say(n));
    let total = prompt.total.saturating_add(completion.unwrap_or(0));
    let _ = write!(out, ",\"usage\":{{\"prompt_tokens\":{},\"total_tokens\":{},", say(prompt.total), say(total));
    let _ = write!(out, "\"completion_tokens\":{},", say(completion.unwrap_or(0)));
    let cached = say(prompt.cached);
    let tier = if facts.script.tier == Some(Tier::Priority) { "priority" } else { "standard" };
    let tier = quoted(facts.tier_name(tier));
    let _ = write!(out, "\"num_cached_tokens\":{cached},\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}},");
    let _ = write!(out, "\"prompt_audio_seconds\":null,\"service_tier\":{tier}{}}}", facts.extra());
}

//! Gemini's dialect.

mod embed;
mod generate;
mod out;
#[cfg(test)]
mod tests;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::dialect::{Dialect, Routed};
use super::error::ApiError;
use super::flow::{App, Incoming, json_reply};
use super::prices::{Model, Provider};
use super::read::{bare_model, bearer, header, percent_decoded, query};

/// See the module.
pub struct Gemini;

impl Dialect for Gemini {
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
        let path = percent_decoded(&incoming.path);
        let method = incoming.parts.method.as_str();
        let versions = ["/v1beta/models", "/v1/models", "/v1alpha/models"];
        let Some(rest) = versions.into_iter().find_map(|version| path.strip_prefix(version)) else {
            return Err(ApiError::no_route(method, &path));
        };
        authorize(incoming)?;
        let free = |value: &Value| Ok(Routed::Reply(json_reply(app, self, 200, value)));
        let named = match rest.strip_prefix('/') {
            None if rest.is_empty() && method == "GET" => {
                let models: Vec<Value> = Provider::Gemini.models().iter().map(model_json).collect();
                return free(&json!({ "models": models }));
            }
            Some(named) if !named.is_empty() => named,
            _ => return Err(ApiError::no_route(method, &path)),
        };
        let Some((model, verb)) = named.rsplit_once(':') else {
            return free(&model_json(find(named)?));
        };
        if method != "POST" {
            return Err(ApiError::no_route(method, &path));
        }
        match verb {
            "generateContent" => Ok(generate::order(app, incoming, model, false)?.into()),
            "streamGenerateContent" => Ok(generate::order(app, incoming, model, true)?.into()),
            "countTokens" => free(&generate::count_tokens(incoming, model)?),
            "embedContent" => Ok(embed::order(app, incoming, model, false)?.into()),
            "batchEmbedContents" => Ok(embed::order(app, incoming, model, true)?.into()),
            _ => Err(ApiError::no_route(method, &path)),
        }
    }

    fn error_body(&self, error: &ApiError, _: &str) -> Vec<u8> {
        error_object(error).to_string().into_bytes()
    }

    fn headers(&self, _: &str, _: &mut HeaderMap) {}
}

/// `{"error":{"code","message","status","details"}}`
fn error_object(error: &ApiError) -> Value {
    let status = match error.status {
        400 | 413 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNKNOWN",
    };
    json!({ "error": { "code": error.status, "message": error.message, "status": status, "details": [] } })
}

fn model_json(model: &Model) -> Value {
    let methods = if model.embeds() { json!(["embedContent"]) } else { json!(["generateContent", "countTokens"]) };
    json!({ "name": format!("models/{}", model.name), "version": "001", "displayName": model.name,
            "inputTokenLimit": model.context, "outputTokenLimit": model.max_output,
            "supportedGenerationMethods": methods })
}

fn authorize(incoming: &Incoming) -> Result<(), ApiError> {
    let how = match (header(incoming, "x-goog-api-key"), query(incoming, "key"), bearer(incoming)) {
        ("", None | Some(""), None) => {
            let message = "Method doesn't allow unregistered callers (callers without established identity). Please \
                           use API Key or other form of API consumer identity to call this API.";
            return Err(ApiError::bad("", None, message).with_status(403));
        }
        ("", None | Some(""), Some(_)) => "bearer",
        ("", Some(_), _) => "key in the query",
        _ => "x-goog-api-key",
    };
    incoming.info.set_auth(how);
    Ok(())
}

fn find(named: &str) -> Result<&'static Model, ApiError> {
    let name = bare_model(named);
    Provider::Gemini.find(name).ok_or_else(|| {
        let message = format!("models/{name} is not found for API version v1beta, or is not supported.");
        ApiError::bad("", None, message).with_status(404)
    })
}

/// A field in either spelling.
fn field<'a>(object: &'a Value, camel: &str) -> &'a Value {
    let snake: String = camel
        .chars()
        .flat_map(|c| if c.is_ascii_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
        .collect();
    match &object[camel] {
        Value::Null => &object[snake.as_str()],
        found => found,
    }
}

//! Anthropic's dialect.

mod count;
pub mod messages;
pub mod out;
#[cfg(test)]
mod tests;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::dialect::{Dialect, Routed, put};
use super::error::ApiError;
use super::flow::{App, Incoming, json_reply};
use super::prices::Provider;
use super::read::{bare_model, bearer, boolean, header, parse_body};
use messages::Seller;
use out::Frames;

/// See the module.
pub struct Anthropic;

impl Dialect for Anthropic {
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
        let path = incoming.path.as_str();
        let method = incoming.parts.method.as_str();
        let wants = match path {
            "/v1/messages" | "/v1/messages/count_tokens" => "POST",
            "/v1/models" => "GET",
            _ if path.strip_prefix("/v1/models/").is_some_and(|id| !id.is_empty()) => "GET",
            _ => return Err(ApiError::no_route(method, path)),
        };
        if method != wants {
            return Err(ApiError::bad("", None, "Method Not Allowed").with_status(405));
        }
        let version = check_headers(incoming)?;
        let free = |value: &Value| Ok(Routed::Reply(json_reply(app, self, 200, value)));
        match path {
            "/v1/messages" => Ok(messages(app, incoming, version)?.into()),
            "/v1/messages/count_tokens" => {
                let body = parse_body(incoming)?;
                find(named(&body)?)?;
                free(&json!({ "input_tokens": messages::count(&body, named(&body)?)? }))
            }
            "/v1/models" => {
                let data: Vec<Value> = Provider::Anthropic.models().iter().map(|m| model_json(m.name)).collect();
                let ends = (data[0]["id"].clone(), data[data.len() - 1]["id"].clone());
                free(&json!({ "data": data, "has_more": false, "first_id": ends.0, "last_id": ends.1 }))
            }
            _ => {
                let id = path.strip_prefix("/v1/models/").unwrap_or_default();
                find(id)?;
                free(&model_json(id))
            }
        }
    }

    fn error_body(&self, error: &ApiError, request_id: &str) -> Vec<u8> {
        let mut body = error_object(error);
        body["request_id"] = request_id.into();
        body.to_string().into_bytes()
    }

    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        put(headers, "request-id", request_id);
    }
}

/// `{"type":"error","error":{"type","message"}}`; the type follows from the status.
pub fn error_object(error: &ApiError) -> Value {
    let kind = match error.status {
        400 | 405 | 422 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": error.message } })
}

fn model_json(id: &str) -> Value {
    json!({ "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z" })
}

/// A key in either of two headers, and a version that is known; returns the version.
fn check_headers(incoming: &Incoming) -> Result<&str, ApiError> {
    match (header(incoming, "x-api-key"), bearer(incoming)) {
        ("", None) => {
            let message = "x-api-key header is required";
            return Err(ApiError::bad("", None, message).with_status(401));
        }
        ("", Some(_)) => incoming.info.set_auth("bearer"),
        (_, None) => incoming.info.set_auth("x-api-key"),
        (_, Some(_)) => incoming.info.set_auth("x-api-key and bearer"),
    }
    match header(incoming, "anthropic-version") {
        "" => Err(ApiError::bad("", None, "anthropic-version: header is required")),
        known @ ("2023-06-01" | "2026-10-21") => Ok(known),
        other => Err(ApiError::bad("", None, format!("anthropic-version: \"{other}\" is not a valid version"))),
    }
}

fn named(body: &Value) -> Result<&str, ApiError> {
    body["model"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        let message = "model: Field required";
        ApiError::bad("model", None, message)
    })
}

fn find(name: &str) -> Result<&'static super::prices::Model, ApiError> {
    let name = bare_model(name);
    Provider::Anthropic.find(name).ok_or_else(|| ApiError::bad("", None, format!("model: {name}")).with_status(404))
}

fn messages(app: &App, incoming: &Incoming, version: &str) -> Result<super::flow::Order, ApiError> {
    let body = parse_body(incoming)?;
    let named = named(&body)?;
    let old = ["temperature", "top_p", "top_k"].into_iter().find(|field| !body[*field].is_null());
    if let Some(field) = old.filter(|_| version == "2026-10-21") {
        return Err(ApiError::bad(field, None, format!("{field}: not supported in this API version")));
    }
    let seller = Seller {
        provider: Provider::Anthropic,
        model: find(named)?,
        requested: bare_model(named).to_owned(),
        named: named.to_owned(),
        stream: boolean(&body, "stream")?,
    };
    let sse = super::dialect::Sse::new;
    messages::order(app, incoming, &body, seller, |script| Frames::Sse(sse(script)))
}

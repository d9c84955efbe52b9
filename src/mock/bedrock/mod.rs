//! Bedrock's dialect.

mod converse;
mod converse_out;
pub mod eventstream;
mod invoke;
mod sigv4;
#[cfg(test)]
mod tests;
mod vendors;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::dialect::{Dialect, Routed, put};
use super::error::ApiError;
use super::flow::{App, Incoming, json_reply};
use super::prices::{Model, Provider};
use super::read::{bare_model, bearer, header, percent_decoded};
use super::script::Tier;

/// See the module.
pub struct Bedrock;

/// The model of a request.
pub struct Target {
    /// Its line in the price list.
    pub model: &'static Model,
    /// Its id, without a script in it.
    pub requested: String,
    /// The same with it.
    pub named: String,
}

impl Dialect for Bedrock {
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
        let (path, method) = (incoming.path.as_str(), incoming.parts.method.as_str());
        authorize(incoming)?;
        let place = path.strip_prefix("/model/").and_then(|rest| rest.rsplit_once('/'));
        let Some((id, verb)) = place.filter(|_| method == "POST") else {
            return Err(ApiError::bad("", Some("UnknownOperationException"), "Unknown operation").with_status(404));
        };
        let target = target(&percent_decoded(id))?;
        match verb {
            "converse" => Ok(converse::order(app, incoming, target, false)?.into()),
            "converse-stream" => Ok(converse::order(app, incoming, target, true)?.into()),
            "invoke" => Ok(invoke::order(app, incoming, target, false)?.into()),
            "invoke-with-response-stream" => Ok(invoke::order(app, incoming, target, true)?.into()),
            "count-tokens" => {
                let tokens = invoke::count_tokens(incoming, &target)?;
                Ok(Routed::Reply(json_reply(app, self, 200, &json!({ "inputTokens": tokens }))))
            }
            _ => Err(ApiError::bad("", Some("UnknownOperationException"), "Unknown operation").with_status(404)),
        }
    }

    fn error_body(&self, error: &ApiError, _: &str) -> Vec<u8> {
        json!({ "message": error.message }).to_string().into_bytes()
    }

    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        put(headers, "x-amzn-requestid", request_id);
    }

    fn error_headers(&self, error: &ApiError, headers: &mut HeaderMap) {
        let name = match (error.code, error.status) {
            (Some(code), _) if code.ends_with("Exception") => code,
            (_, 400 | 413) => "ValidationException",
            (_, 401 | 403) => "AccessDeniedException",
            (_, 404) => "ResourceNotFoundException",
            (_, 408) => "ModelTimeoutException",
            (_, 424) => "ModelErrorException",
            (_, 429) => "ThrottlingException",
            (_, 503) => "ServiceUnavailableException",
            (_, 500..) => "InternalServerException",
            _ => "ValidationException",
        };
        put(headers, "x-amzn-errortype", name);
    }
}

fn authorize(incoming: &Incoming) -> Result<(), ApiError> {
    let authorization = header(incoming, "authorization");
    if bearer(incoming).is_some() {
        incoming.info.set_auth("bearer");
        return Ok(());
    }
    if authorization.starts_with("AWS4-HMAC-SHA256") {
        incoming.info.set_auth(sigv4::check(&incoming.parts, &incoming.body, authorization)?);
        return Ok(());
    }
    let message = "Missing Authentication Token";
    Err(ApiError::bad("", Some("MissingAuthenticationTokenException"), message).with_status(403))
}

/// The model of an id or of the ARN of a foundation model or inference profile.
fn target(named: &str) -> Result<Target, ApiError> {
    let bare = bare_model(named);
    let opaque = ["application-inference-profile", "provisioned-model", "prompt"];
    let id = match bare.strip_prefix("arn:") {
        Some(arn) if opaque.iter().any(|kind| arn.contains(&format!(":{kind}/"))) => "",
        Some(arn) => arn.rsplit('/').next().unwrap_or_default(),
        None => bare,
    };
    let exact = Provider::Bedrock.models().iter().find(|model| model.name == id);
    match exact {
        Some(model) => Ok(Target { model, requested: bare.to_owned(), named: named.to_owned() }),
        None => {
            let message = "The provided model identifier is invalid.";
            Err(ApiError::bad("", Some("ValidationException"), message))
        }
    }
}

/// The tier that body or header asks for.
fn tier_of(incoming: &Incoming, body: &Value) -> Result<Tier, ApiError> {
    let in_header = header(incoming, "x-amzn-bedrock-service-tier");
    let asked = body["serviceTier"]["type"].as_str().unwrap_or(in_header);
    match asked {
        "" | "default" | "reserved" => Ok(Tier::Default),
        "priority" => Ok(Tier::Priority),
        "flex" => Ok(Tier::Flex),
        other => Err(ApiError::bad("", None, format!("Invalid service tier: {other}"))),
    }
}

/// All texts of the last message of the user together, in the shape that Converse and Nova share.
fn last_user_text(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.iter().rev().find(|m| m["role"] == "user"));
    let content = last.and_then(|message| message["content"].as_array());
    content.into_iter().flatten().filter_map(|block| block["text"].as_str()).collect()
}

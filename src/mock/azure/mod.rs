//! Azure's dialect: OpenAI's, under other paths, with deployments for models and its own errors.

#[cfg(test)]
mod tests;

use hyper::HeaderMap;
use serde_json::json;

use super::dialect::{Dialect, Routed, put};
use super::error::ApiError;
use super::flow::{App, Incoming};
use super::openai::{self, shop::Shop};
use super::prices::Provider;
use super::read::{bearer, header, percent_decoded, query};
use super::script::Script;

/// See the module.
pub struct Azure;

impl Dialect for Azure {
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError> {
        authorize(incoming)?;
        let (deployment, rest) = place(incoming)?;
        let method = incoming.parts.method.as_str();
        let is_get = rest == "models" || rest.starts_with("models/");
        let by_id = rest.strip_prefix("responses/").is_some_and(|id| id != "input_tokens");
        if !by_id && (method == "GET") != is_get {
            return Err(ApiError::no_route(method, &incoming.path).with_status(405));
        }
        openai::route(app, incoming, &Shop { provider: Provider::Azure, deployment }, rest)
    }

    fn error_body(&self, error: &ApiError, _: &str) -> Vec<u8> {
        let status = error.status.to_string();
        let code = error.code.unwrap_or(&status);
        let mut body = json!({ "error": { "code": code, "message": error.message } });
        if code == "content_filter" {
            body["error"]["param"] = json!("prompt");
            body["error"]["type"] = json!(null);
            body["error"]["status"] = json!(error.status);
            body["error"]["innererror"] = json!({
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": { "violence": { "filtered": true, "severity": "medium" } },
            });
        }
        body.to_string().into_bytes()
    }

    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        put(headers, "apim-request-id", request_id);
        put(headers, "x-request-id", request_id);
        put(headers, "x-ms-region", "East US");
    }

    /// Azure bills what its filter read and what took too long.
    fn bills_error(&self, status: u16, script: &Script) -> bool {
        status == 408 || script.content_filter
    }
}

fn authorize(incoming: &Incoming) -> Result<(), ApiError> {
    if !header(incoming, "api-key").is_empty() {
        incoming.info.set_auth("api-key");
    } else if bearer(incoming).is_some() {
        incoming.info.set_auth("bearer");
    } else {
        let message = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a \
                       valid key for an active subscription and use a correct regional API endpoint for your resource.";
        return Err(ApiError::bad("", None, message).with_status(401));
    }
    Ok(())
}

/// The deployment that the path names, if it does, and the route behind it.
fn place(incoming: &Incoming) -> Result<(Option<String>, &str), ApiError> {
    let path = incoming.path.as_str();
    let lost = || {
        let message = "Resource not found";
        ApiError::bad("", None, message).with_status(404)
    };
    if let Some(rest) = path.strip_prefix("/openai/v1/") {
        let known = ["chat/completions", "responses", "embeddings", "models"];
        let is_known = known.iter().any(|route| rest == *route || rest.starts_with(&format!("{route}/")));
        return if is_known { Ok((None, rest)) } else { Err(lost()) };
    }
    let rest = path.strip_prefix("/openai/").ok_or_else(lost)?;
    if query(incoming, "api-version").is_none_or(str::is_empty) {
        return Err(lost());
    }
    match rest.strip_prefix("deployments/").and_then(|rest| rest.split_once('/')) {
        Some((deployment, rest @ ("chat/completions" | "completions" | "embeddings"))) => {
            Ok((Some(percent_decoded(deployment)), rest))
        }
        None if rest == "responses" || rest.starts_with("responses/") || rest == "models" => Ok((None, rest)),
        _ => Err(lost()),
    }
}

//! OpenAI: chat completions and embeddings.
//!
//! The request is read by an allow-list: a field that is not known to leave the bill alone is refused, so a parameter that OpenAI
//! invents tomorrow cannot raise it unseen. The answer is read by usage, and by what was streamed when there is none.

mod answer;
mod chat;
mod embeddings;
mod errors;
mod fields;
mod messages;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::reader::{Events, Whole};
use super::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, ErrorReply, Outgoing, Provider, Reading, Reject, Request,
    Route, reject,
};
use crate::pricing::ModelPrice;
use crate::secret::Secret;
use crate::wire::json::{Document, Value};

const CHAT: Route = Route { label: "chat_completions", metered: true, body: true };
const EMBEDDINGS: Route = Route { label: "embeddings", metered: true, body: true };
const MODELS: Route = Route { label: "models", metered: false, body: false };

/// The longest model name.
const MODEL_BYTES_MAX: usize = 200;

/// The provider `openai`.
pub struct OpenAi;

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        // Byte for byte: whatever is spelled in another way is another path, and has no route.
        if query.is_some() {
            return None;
        }
        match (method, path) {
            (&Method::POST, "/v1/chat/completions") => Some(CHAT),
            (&Method::POST, "/v1/embeddings") => Some(EMBEDDINGS),
            (&Method::GET, "/v1/models") => Some(MODELS),
            (&Method::GET, path) => is_model_name(path.strip_prefix("/v1/models/")?).then_some(MODELS),
            _ => None,
        }
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        match request.route {
            CHAT => chat::read(request.body, reading),
            EMBEDDINGS => embeddings::read(request.body, reading),
            _ => Err(reject::invalid("this route takes no body", "send it without one")),
        }
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        let meter = answer::Meter::new(call, route == EMBEDDINGS, ceiling);
        if head.is("text/event-stream") {
            Box::new(<Events<_>>::new(meter, call.shows_usage))
        } else {
            Box::new(Whole::new(meter))
        }
    }

    fn authorize(&self, _request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        Ok(vec![("authorization", format!("Bearer {}", key.expose()))])
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        errors::reply(error)
    }

    /// A 4xx is taken as free (documented for flex's 429 only); a 5xx may come after tokens were generated.
    fn unbilled_status(&self, status: u16) -> bool {
        (400..500).contains(&status)
    }

    /// Nothing is documented that would end the bill with the connection.
    fn drop_stops_bill(&self) -> bool {
        false
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        // Beta switches change what a request may do; organisation and project change whose settings (tier, region) apply;
        // a second credential may win over ours.
        &["openai-beta", "openai-organization", "openai-project", "api-key", "x-api-key", "x-goog-api-key"]
    }
}

/// The characters of a model's name.
fn is_model_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    !name.is_empty() && name.len() <= MODEL_BYTES_MAX && name != "." && name != ".." && name.bytes().all(is_plain)
}

/// Parses a body, which must be an object.
fn document(body: Bytes) -> Result<Document, Reject> {
    let document = Document::parse(body).map_err(|e| reject::unreadable(&e))?;
    if document.root().is_object() {
        Ok(document)
    } else {
        Err(reject::invalid("the body is not a JSON object", "send an object with `model` and the fields of the API"))
    }
}

/// The model that a request names, and its row of the price table.
fn model(value: Option<Value<'_>>, reading: &Reading<'_>) -> Result<(Arc<str>, Arc<ModelPrice>), Reject> {
    let Some(name) = value.and_then(Value::as_str) else {
        return Err(reject::invalid("`model` is missing or not a string", "name a model, e.g. \"gpt-5-mini\""));
    };
    if let Some(price) = reading.prices.for_model(reading.provider, &name) {
        return Ok((name.as_ref().into(), price.clone()));
    }
    let is_name = !name.is_empty()
        && name.len() <= MODEL_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
    if !is_name {
        let message = "`model` is not a model name: letters, digits and `._:/-` only";
        return Err(reject::invalid(message, "send the name as the provider lists it"));
    }
    Err(reject::no_price(reading.provider, &name, reading.prices))
}

#[cfg(test)]
mod tests;

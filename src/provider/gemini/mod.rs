//! Gemini: `generateContent`, `streamGenerateContent` in both framings, `embedContent`, `batchEmbedContents`, `countTokens`, models.
//!
//! The model stands in the path. A request is protocol buffers' JSON: each field has two spellings, and both at once are refused. It is
//! read by an allow-list, message by message. No tokenizer of current models is public: text is bounded by its bytes, and by those of its
//! normal form; media by what is known of it, or by the context window. The answer is read by its cumulative usage.

mod answer;
mod array;
mod config;
mod contents;
mod embed;
mod errors;
mod fields;
mod generate;
mod grounding;
mod names;
mod route;
mod tools;
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

/// The provider `gemini`.
pub struct Gemini;

impl Provider for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        route::find(method, path, query)
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        is_json(&request)?;
        match request.route {
            route::GENERATE | route::STREAM | route::STREAM_ARRAY => generate::read(request, reading),
            route::EMBED | route::BATCH_EMBED => embed::read(request, reading),
            _ => Err(reject::invalid("this route takes no body", "send it without one")),
        }
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        let meter = answer::Meter::new(route, call, head, ceiling);
        // Errors are one object, or one array of one, in either framing.
        let is_good = (200..300).contains(&head.status);
        if is_good && head.is("text/event-stream") {
            Box::new(<Events<_>>::new(meter, call.shows_usage))
        } else if is_good && call.stream {
            Box::new(Events::<_, array::Elements>::new(meter, call.shows_usage))
        } else {
            Box::new(Whole::new(meter))
        }
    }

    fn authorize(&self, _request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        Ok(vec![("x-goog-api-key", key.expose().to_string())])
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        errors::reply(error)
    }

    /// Only answers with status 200 are charged (Gemini API's billing FAQ).
    fn unbilled_status(&self, status: u16) -> bool {
        (400..600).contains(&status)
    }

    /// What a dropped connection means for the bill is not documented.
    fn drop_stops_bill(&self) -> bool {
        false
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        // Another method, another project's bill, a tier, an answer without its usage; and what belongs to Vertex.
        &[
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-goog-user-project",
            "x-goog-authuser",
            "x-goog-fieldmask",
            "x-goog-request-params",
            "x-gemini-service-tier",
            "x-vertex-ai-llm-request-type",
            "x-vertex-ai-llm-shared-request-type",
        ]
    }
}

/// The body is read as JSON in UTF-8, so it must be said to be that, or nothing.
fn is_json(request: &Request<'_>) -> Result<(), Reject> {
    let mut kinds = request.headers.get_all("content-type").iter();
    let Some(kind) = kinds.next() else { return Ok(()) };
    let kind = kind.to_str().unwrap_or("?").to_ascii_lowercase();
    let (essence, parameters) = kind.split_once(';').unwrap_or((&kind, ""));
    let is_utf8 = matches!(parameters.trim(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    if kinds.next().is_none() && essence.trim() == "application/json" && is_utf8 {
        return Ok(());
    }
    Err(reject::invalid("the body is not said to be JSON in UTF-8", "send `Content-Type: application/json`"))
}

/// Parses a body, which must be an object.
fn document(body: Bytes) -> Result<Document, Reject> {
    let document = Document::parse(body).map_err(|e| reject::unreadable(&e))?;
    if document.root().is_object() {
        Ok(document)
    } else {
        Err(reject::invalid("the body is not a JSON object", "send an object with the fields of the API"))
    }
}

/// The model that a path names, and its row of the price table.
fn model(path: &str, reading: &Reading<'_>) -> Result<(Arc<str>, Arc<ModelPrice>), Reject> {
    let Some(name) = route::model(path) else {
        return Err(reject::invalid("the path names no model", "call /v1beta/models/{model}:generateContent"));
    };
    match reading.prices.for_model(reading.provider, name) {
        Some(price) => Ok((name.into(), price.clone())),
        None => Err(reject::no_price(reading.provider, name, reading.prices)),
    }
}

/// A body that names a model must name the one of its path.
fn same_model(value: Value<'_>, model: &str, field: &str) -> Result<(), Reject> {
    if value.as_str().and_then(|name| name.strip_prefix("models/").map(|name| name == model)) == Some(true) {
        return Ok(());
    }
    let message = format!("`{field}` is another model than the path's");
    Err(reject::ambiguous(message, format!("send \"models/{model}\", or leave it out")))
}

#[cfg(test)]
mod tests;

//! OpenAI, and the APIs that are made like it: chat, responses, completions, embeddings.
//!
//! The request is read by an allow-list: a field that is not known to leave the bill alone is refused, so a parameter that OpenAI
//! invents tomorrow cannot raise it unseen. The answer is read by usage, and by what was streamed when there is none.
//! `profile` says how the APIs of the family differ; Azure and Mistral have routes and errors of their own.

mod answer;
pub mod azure;
mod bill;
mod chat;
mod completions;
mod embeddings;
mod errors;
mod fields;
mod messages;
pub mod mistral;
mod params;
mod profile;
mod responses;
mod routes;
mod usage;

use bytes::Bytes;
use http::Method;

use self::profile::{Api, Knows, Profile};
use super::reader::{Events, Whole};
use super::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, ErrorReply, Outgoing, Provider, Reading, Reject, Request,
    Route, reject,
};
use crate::secret::Secret;
use crate::wire::json::Document;

const CHAT: Route = Route { label: "chat_completions", metered: true, body: true };
const COMPLETIONS: Route = Route { label: "completions", metered: true, body: true };
const RESPONSES: Route = Route { label: "responses", metered: true, body: true };
const EMBEDDINGS: Route = Route { label: "embeddings", metered: true, body: true };
/// Reads, cancels or deletes a response that was paid for.
const STORED: Route = Route { label: "stored_response", metered: false, body: false };
/// The same with a body, which is empty.
const CANCEL: Route = Route { label: "cancel_response", metered: false, body: true };
const INPUT_TOKENS: Route = Route { label: "input_tokens", metered: false, body: true };
const MODERATIONS: Route = Route { label: "moderations", metered: false, body: true };
const MODELS: Route = Route { label: "models", metered: false, body: false };

/// The longest model name.
const MODEL_BYTES_MAX: usize = 200;

/// The provider `openai`.
pub struct OpenAi;

/// A provider with another name that speaks OpenAI's API. Only what costs tokens is proxied: nobody knows what is free with it.
pub struct Compatible;

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        routes::openai(method, path, query)
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        read(request, Api { profile: &profile::OPENAI, reading, deployment: None, knows: Knows::ALL })
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        answer(&profile::OPENAI, route, call, head, ceiling)
    }

    fn authorize(&self, _request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        Ok(vec![bearer(key)])
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

impl Provider for Compatible {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        routes::openai(method, path, query).filter(|route| ![INPUT_TOKENS, MODERATIONS].contains(route))
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        read(request, Api { profile: &profile::COMPATIBLE, reading, deployment: None, knows: Knows::ALL })
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        answer(&profile::COMPATIBLE, route, call, head, ceiling)
    }

    fn authorize(&self, request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        OpenAi.authorize(request, key)
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        OpenAi.refusal(error)
    }

    fn unbilled_status(&self, status: u16) -> bool {
        OpenAi.unbilled_status(status)
    }

    fn drop_stops_bill(&self) -> bool {
        false
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        OpenAi.dropped_headers()
    }
}

/// Reads a request of the family.
fn read(request: Request<'_>, api: Api<'_>) -> Result<Call, Reject> {
    match request.route {
        CHAT => chat::read(request.body, &api),
        COMPLETIONS => completions::read(request.body, &api),
        RESPONSES => responses::read(request.body, &api),
        EMBEDDINGS => embeddings::read(request.body, &api),
        _ => Err(reject::invalid("this route takes no body", "send it without one")),
    }
}

/// A reader for an answer of the family.
fn answer(
    profile: &Profile,
    route: Route,
    call: &Call,
    head: &AnswerHead<'_>,
    ceiling: Ceiling,
) -> Box<dyn AnswerReader> {
    let is_stream = head.is("text/event-stream");
    if route == RESPONSES {
        let meter = responses::answer::Meter::new(profile, call, ceiling);
        return if is_stream { Box::new(<Events<_>>::new(meter, true)) } else { Box::new(Whole::new(meter)) };
    }
    let may_lack_output = route == EMBEDDINGS || route == COMPLETIONS;
    let meter = answer::Meter::new(profile, call, may_lack_output, ceiling);
    if is_stream { Box::new(<Events<_>>::new(meter, call.shows_usage)) } else { Box::new(Whole::new(meter)) }
}

fn bearer(key: &Secret) -> (&'static str, String) {
    ("authorization", format!("Bearer {}", key.expose()))
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

#[cfg(test)]
mod tests;

//! Mistral: OpenAI's API with fields, errors and a fill-in-the-middle of its own.
//!
//! Its tokenizers are public, but which of them the hosted models use is not said, so bytes bound the input.

use http::Method;
use serde_json::json;

use super::profile::{self, Api, Knows};
use super::{CHAT, COMPLETIONS, EMBEDDINGS, INPUT_TOKENS, RESPONSES, answer, routes};
use crate::provider::reader::{Events, Whole};
use crate::provider::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, ErrorReply, Outgoing, Provider, Reading, Reject, Request,
    Route,
};
use crate::secret::Secret;

const FIM: Route = Route { label: "fim_completions", metered: true, body: true };

/// The provider `mistral`.
pub struct Mistral;

impl Provider for Mistral {
    fn name(&self) -> &'static str {
        "mistral"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        if query.is_some() {
            return None;
        }
        match (method, path.strip_prefix("/v1")?) {
            (&Method::POST, "/chat/completions") => Some(CHAT),
            (&Method::POST, "/fim/completions") => Some(FIM),
            (&Method::POST, "/embeddings") => Some(EMBEDDINGS),
            (&Method::POST, "/responses") => Some(RESPONSES),
            (&Method::POST, "/responses/input_tokens") => Some(INPUT_TOKENS),
            (method, path) => routes::models(method, path),
        }
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        let route = if request.route == FIM { COMPLETIONS } else { request.route };
        super::read(
            Request { route, ..request },
            Api { profile: &profile::MISTRAL, reading, deployment: None, knows: Knows::ALL },
        )
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        if route == RESPONSES {
            // An `error` event with an object of that name is none of the events that Mistral's SDKs know, and raises as well.
            return super::answer(&profile::MISTRAL, route, call, head, ceiling);
        }
        let meter = answer::Meter::new(&profile::MISTRAL, call, route == EMBEDDINGS, ceiling);
        let meter = meter.closing_with(closing_event);
        if head.is("text/event-stream") { Box::new(<Events<_>>::new(meter, true)) } else { Box::new(Whole::new(meter)) }
    }

    fn authorize(&self, _request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        Ok(vec![super::bearer(key)])
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        ErrorReply { status: error.status, headers: Vec::new(), body: body(error) }
    }

    /// Errors are taken as free where nothing was generated yet; nothing is documented.
    fn unbilled_status(&self, status: u16) -> bool {
        (400..500).contains(&status)
    }

    /// Nothing is documented that would end the bill with the connection.
    fn drop_stops_bill(&self) -> bool {
        false
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        &["api-key", "x-api-key", "x-goog-api-key"]
    }
}

/// Mistral's error. Its SDKs read a 422 by `detail`, and show all others as they are.
fn body(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let mut body = json!({
        "object": "error",
        "message": error.message,
        "type": error.code,
        "param": null,
        "code": "3000",
        "loopers": error.loopers,
    });
    if error.status == 422 {
        body["detail"] = json!([{ "loc": ["body"], "msg": error.message, "type": error.code }]);
    }
    body.to_string().into_bytes()
}

/// What ends a stream: no chunk, so that Mistral's SDKs raise on it.
fn closing_event(error: &ErrorAnswer<'_>) -> Vec<u8> {
    [b"data: ", body(error).as_slice(), b"\n\n"].concat()
}

#[cfg(test)]
mod tests;

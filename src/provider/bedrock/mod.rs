//! AWS Bedrock's runtime: Converse for every model, and `invoke` in the formats of some vendors.
//!
//! The model stands in the path, and its price depends on the geography that its id begins with and on the region that calls go to.
//! Answers stream as binary frames, which pass unchanged. A stream that is dropped is billed to its end, so nothing is ever gained by a
//! cut: calls are bounded beforehand, and streams are read to their usage.

mod answer;
mod blocks;
mod body;
mod bound;
mod claude;
mod converse;
mod errors;
mod extra;
mod frames;
mod invoke;
mod model;
mod read;
mod sign;
mod terms;
mod texts;
mod usage;

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;

use super::reader::{Events, Whole};
use super::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, ErrorReply, Outgoing, Provider, Reading, Reject, Request,
    Route, reject,
};
use crate::secret::Secret;
use crate::wire::json::Document;

const CONVERSE: Route = Route { label: "converse", metered: true, body: true };
const CONVERSE_STREAM: Route = Route { label: "converse_stream", metered: true, body: true };
const INVOKE: Route = Route { label: "invoke", metered: true, body: true };
const INVOKE_STREAM: Route = Route { label: "invoke_stream", metered: true, body: true };
const COUNT_TOKENS: Route = Route { label: "count_tokens", metered: false, body: true };

/// The content type of streams.
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// The provider `bedrock`.
pub struct Bedrock;

impl Provider for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        if query.is_some() || method != Method::POST {
            return None;
        }
        match model::split(path)?.1 {
            "converse" => Some(CONVERSE),
            "converse-stream" => Some(CONVERSE_STREAM),
            "invoke" => Some(INVOKE),
            "invoke-with-response-stream" => Some(INVOKE_STREAM),
            "count-tokens" => Some(COUNT_TOKENS),
            _ => None,
        }
    }

    fn sent_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        model::canonical(path).map_or(Cow::Borrowed(path), Cow::Owned)
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        let Some((id, _)) = model::split(request.path) else {
            return Err(reject::invalid("the path names no model", "send the request to /model/MODEL/converse"));
        };
        let parts = match request.route {
            CONVERSE => converse::read(&id, false, &request, reading),
            CONVERSE_STREAM => converse::read(&id, true, &request, reading),
            INVOKE => invoke::read(&id, false, &request, reading),
            INVOKE_STREAM => invoke::read(&id, true, &request, reading),
            _ => Err(reject::invalid("this route is not metered", "send the request to /model/MODEL/converse")),
        };
        body::call(parts?)
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        let meter = answer::Meter::new(call, matches!(route, INVOKE | INVOKE_STREAM), head, ceiling);
        if head.is(EVENT_STREAM) {
            Box::new(Events::<_, frames::Frames>::new(meter, call.shows_usage))
        } else {
            Box::new(Whole::new(meter))
        }
    }

    fn authorize(&self, request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        sign::authorize(request, key)
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        errors::reply(error)
    }

    /// A request that was turned away ran nothing. One that failed or took too long inside the model (424, 408) may have, and so may a 5xx;
    /// what of that is billed is not documented.
    fn unbilled_status(&self, status: u16) -> bool {
        (400..500).contains(&status) && !matches!(status, 408 | 424)
    }

    /// The opposite: a generation goes on, and is billed, when its client leaves.
    fn drop_stops_bill(&self) -> bool {
        false
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        // Every `x-amz-*` header must be under the signature, so none but ours may go out; the client's own signature is void.
        // Anthropic's clients say beta switches in the body as well, where they are checked.
        &[
            "anthropic-beta",
            "x-amz-date",
            "x-amz-security-token",
            "x-amz-content-sha256",
            "x-amz-user-agent",
            "x-amz-target",
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-signature",
            "x-amz-signedheaders",
            "x-amz-expires",
            "x-amz-region-set",
            "x-amz-sdk-checksum-algorithm",
            "x-amz-trailer",
            "x-amz-decoded-content-length",
            "x-amz-cf-id",
        ]
    }
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

#[cfg(test)]
mod tests;

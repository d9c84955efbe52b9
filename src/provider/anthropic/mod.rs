//! Anthropic: the Messages API.
//!
//! The request is read by an allow-list at every level where a field can move the bill: top level, beta switches, messages, blocks and
//! tools. The answer is read by its usage, which streams in two halves. Claude's request bodies and answers also travel through other
//! clouds: `request::ask`, `answer::Meter` and `betas::check` do not depend on how they came.

pub(crate) mod answer;
pub(crate) mod betas;
mod blocks;
mod bound;
mod errors;
mod fields;
pub(crate) mod request;
mod tools;
pub(crate) mod usage;

use http::Method;

use super::reader::{Events, Whole};
use super::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, ErrorReply, Outgoing, Provider, Reading, Reject, Request,
    Route, reject,
};
use crate::secret::Secret;

const MESSAGES: Route = Route { label: "messages", metered: true, body: true };
const COUNT_TOKENS: Route = Route { label: "count_tokens", metered: false, body: true };
const MODELS: Route = Route { label: "models", metered: false, body: false };

/// The longest model name.
const MODEL_BYTES_MAX: usize = 200;
/// Keys of this kind are OAuth tokens, which go by `Authorization` only.
const OAUTH_PREFIX: &str = "sk-ant-oat";
/// Parameters of a list of models.
const LIST_PARAMETERS: [&str; 7] =
    ["limit", "after_id", "before_id", "lifecycle", "lifecycle[]", "lifecycle%5B%5D", "beta"];

/// The provider `anthropic`.
pub struct Anthropic;

impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        // Byte for byte: whatever is spelled in another way is another path, and has no route. Beta methods of the SDK say so.
        let is_plain = matches!(query, None | Some("beta=true"));
        match (method, path) {
            (&Method::POST, "/v1/messages") => is_plain.then_some(MESSAGES),
            (&Method::POST, "/v1/messages/count_tokens") => is_plain.then_some(COUNT_TOKENS),
            (&Method::GET, "/v1/models") => query.is_none_or(is_list_query).then_some(MODELS),
            (&Method::GET, path) => {
                let name = path.strip_prefix("/v1/models/")?;
                (is_plain && is_model_name(name)).then_some(MODELS)
            }
            _ => None,
        }
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        match request.route {
            MESSAGES => request::read(request.body, request.headers, reading),
            _ => Err(reject::invalid("this route is not metered", "send it as it is")),
        }
    }

    fn answer(&self, _route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        let facts = call.body.facts().and_then(|facts| facts.downcast_ref::<answer::Facts>());
        // A call of this provider always has facts; without them the worst is taken.
        let facts = facts.cloned().unwrap_or_else(|| answer::Facts::worst(&call.price));
        let meter = answer::Meter::new(facts, ceiling);
        if head.is("text/event-stream") { Box::new(<Events<_>>::new(meter, true)) } else { Box::new(Whole::new(meter)) }
    }

    fn authorize(&self, _request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        let key = key.expose();
        let header = if key.starts_with(OAUTH_PREFIX) {
            ("authorization", format!("Bearer {key}"))
        } else {
            ("x-api-key", key.to_string())
        };
        Ok(vec![header])
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        errors::reply(error)
    }

    /// Failed requests are documented as free, 5xx and 529 included.
    fn unbilled_status(&self, status: u16) -> bool {
        (400..600).contains(&status)
    }

    /// A call whose client leaves is billed for what was processed until then: documented.
    fn drop_stops_bill(&self) -> bool {
        true
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        // They change whose settings apply: a workspace has a default region, a profile its own bill.
        &["anthropic-workspace-id", "anthropic-user-profile-id"]
    }
}

/// The characters of a model's name.
fn is_model_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    !name.is_empty() && name.len() <= MODEL_BYTES_MAX && name != "." && name != ".." && name.bytes().all(is_plain)
}

/// The query of a list of models: known parameters with plain values.
fn is_list_query(query: &str) -> bool {
    let is_plain = |value: &str| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let is_known = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, value)| LIST_PARAMETERS.contains(&name) && is_plain(value))
    };
    query.len() <= MODEL_BYTES_MAX * 2 && query.split('&').all(is_known)
}

#[cfg(test)]
mod tests;

//! Azure OpenAI: OpenAI's API over deployments, on a dated surface and on a `v1` surface, with errors that are billed.

pub mod deployments;
mod refused;
mod routes;

use http::Method;

use self::refused::Refused;
use super::profile::{self, Api, Knows};
use super::{OpenAi, errors};
use crate::provider::reader::Whole;
use crate::provider::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, ErrorReply, Outgoing, Provider, Reading, Reject, Request,
    Route, reject,
};
use crate::secret::Secret;

/// The first version of the dated surface that knows `stream_options`, with which streams report usage, and `max_completion_tokens`:
/// 2024-09-01-preview, and of the stable ones 2024-10-21.
const USAGE_AND_LIMIT_SINCE: &str = "2024-09-01";
/// The first version that is documented to know `service_tier`: 2025-10-01-preview.
const TIER_SINCE: &str = "2025-10-01";

/// The provider `azure`.
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route> {
        routes::find(method, path, query)
    }

    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
        let deployment = routes::deployment(request.path);
        let version = request.query.and_then(routes::version).unwrap_or_default().to_string();
        let knows = knows(&version);
        let api = Api { profile: &profile::AZURE, reading, deployment, knows };
        let call = super::read(request, api)?;
        if call.stream && !knows.completion_limit {
            let message = format!("`api-version={version}` does not report the usage of streams");
            return Err(reject::unpriceable(message, "use api-version=2024-10-21 or later, or the v1 surface"));
        }
        Ok(call)
    }

    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader> {
        if head.status == 400 {
            return Box::new(Whole::new(Refused::new(call, ceiling)));
        }
        super::answer(&profile::AZURE, route, call, head, ceiling)
    }

    /// A key goes into `api-key`, a token of Microsoft Entra into `Authorization`.
    fn authorize(&self, _request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
        if is_token(key.expose()) {
            return Ok(vec![super::bearer(key)]);
        }
        Ok(vec![("api-key", key.expose().to_string())])
    }

    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply {
        errors::reply(error)
    }

    /// A 408 is billed in full; of a 400 its body tells, which `Refused` reads.
    fn unbilled_status(&self, status: u16) -> bool {
        (400..500).contains(&status) && status != 400 && status != 408
    }

    fn drop_stops_bill(&self) -> bool {
        OpenAi.drop_stops_bill()
    }

    fn dropped_headers(&self) -> &'static [&'static str] {
        // A spill-over deployment has a price of its own; other services' parameters pass unread with `extra-parameters`.
        &[
            "openai-beta",
            "openai-organization",
            "openai-project",
            "x-api-key",
            "x-goog-api-key",
            "x-ms-spillover-deployment",
            "extra-parameters",
            "ocp-apim-subscription-key",
        ]
    }
}

/// What a version knows. One that is no date (`preview`, `latest`, none) is the `v1` surface's, which has no old ones.
fn knows(version: &str) -> Knows {
    let is_since = |first: &str| !routes::is_date(version) || *version >= *first;
    Knows { completion_limit: is_since(USAGE_AND_LIMIT_SINCE), service_tier: is_since(TIER_SINCE) }
}

/// True for a JSON web token: three parts, of which the first begins an object.
fn is_token(key: &str) -> bool {
    key.starts_with("eyJ") && key.split('.').count() == 3
}

#[cfg(test)]
mod tests;

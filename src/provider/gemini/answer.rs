//! What an answer says of its bill: a whole one, or a chunk of a stream. Each chunk repeats the usage so far; the last one counts.

use std::collections::HashSet;
use std::sync::Arc;

use super::usage::{self, Reported};
use super::{errors, grounding, route};
use crate::money::Money;
use crate::pricing::{ModelPrice, Terms, Tier};
use crate::provider::output::{Field, Output, TextId};
use crate::provider::reader::{Dialect, Show};
use crate::provider::{AnswerHead, BillLine, Call, Ceiling, ErrorAnswer, Fee, Observed, Route};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::Event;

/// The header that names the tier.
const TIER_HEADER: &str = "x-gemini-service-tier";
/// More candidates than any request can ask for are not told apart.
const CANDIDATES_MAX: u64 = 64;
/// Fields of a candidate, and of a part, that the model did not write.
const NOT_WRITTEN: [&str; 22] = [
    "index",
    "finishReason",
    "finishMessage",
    "tokenCount",
    "avgLogprobs",
    "logprobsResult",
    "safetyRatings",
    "citationMetadata",
    "groundingMetadata",
    "groundingAttributions",
    "urlContextMetadata",
    "continuationToken",
    "thought",
    "thoughtSignature",
    "inlineData",
    "fileData",
    "videoMetadata",
    "partMetadata",
    "codeExecutionResult",
    "toolResponse",
    "functionResponse",
    "mediaResolution",
];

/// Sums up an answer.
pub struct Meter {
    price: Arc<ModelPrice>,
    terms: Terms,
    route: Route,
    samples: u64,
    served: Vec<(&'static str, Fee)>,
    grounding: grounding::Counts,
    output: Output,
    reported: Option<Reported>,
    /// The tier that the head of the answer names.
    head_tier: Option<Tier>,
    /// Candidates that were seen, and those that are at their end.
    seen: HashSet<u64>,
    ended: HashSet<u64>,
    /// The prompt was refused: there will be no candidates.
    is_blocked: bool,
    /// The usage came with the end of all candidates, or after it.
    is_usage_final: bool,
    /// The answer is one object, and it is complete.
    is_complete: bool,
    /// Something that could not be read may have told of searches.
    lacks_searches: bool,
    observed: Observed,
    nodes: Vec<Node>,
}

impl Meter {
    /// A meter for the answer to a call.
    pub fn new(route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Meter {
        let named = head.headers.get(TIER_HEADER).map(|value| value.to_str().map_or(Tier::Ultrafast, usage::tier));
        // Until the answer says otherwise, the tier that was asked for, unless that is the cheap one.
        let asked = call.terms.tiers.first().copied().unwrap_or_default();
        Meter {
            price: call.price.clone(),
            terms: call.terms.clone(),
            route,
            samples: call.samples,
            served: call.body.held_tools().to_vec(),
            grounding: grounding::Counts::default(),
            output: Output::new(call.price.tokenizer, ceiling),
            reported: None,
            head_tier: named,
            seen: HashSet::new(),
            ended: HashSet::new(),
            is_blocked: false,
            is_usage_final: false,
            is_complete: false,
            lacks_searches: false,
            observed: Observed { tier: named.unwrap_or(asked), ..Observed::default() },
            nodes: Vec::new(),
        }
    }

    /// Takes one JSON object. False: it is none.
    fn read(&mut self, data: &[u8]) -> bool {
        let mut nodes = std::mem::take(&mut self.nodes);
        let root =
            std::str::from_utf8(data).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let is_object = root.filter(|root| root.is_object()).map(|root| self.fields(root)).is_some();
        self.nodes = nodes;
        is_object
    }

    fn fields(&mut self, root: Value<'_>) {
        let mut reported = None;
        for (key, value) in root.fields().filter(|(_, value)| !value.is_null()) {
            match key.as_ref() {
                "candidates" => {
                    value.items().enumerate().for_each(|(at, candidate)| self.candidate(at as u64, candidate))
                }
                "usageMetadata" => reported = Some(value),
                "modelVersion" => {
                    let name = value.as_str().unwrap_or_default();
                    self.observed.model = Some(name.strip_prefix("models/").unwrap_or(&name).to_string());
                }
                "promptFeedback" => self.is_blocked |= value.get("blockReason").is_some_and(|reason| !reason.is_null()),
                "error" => self.observed.error = true,
                _ => {}
            }
        }
        if let Some(reported) = reported {
            self.report(reported);
        }
    }

    /// Takes a usage object. A later one replaces an earlier one, as it is the sum so far; one that is cheaper does not.
    fn report(&mut self, reported: Value<'_>) {
        self.tier(reported);
        let Ok(new) = usage::read(reported, &self.price.standard.short, &self.terms) else {
            (self.observed.odd_usage, self.reported, self.is_usage_final) = (true, None, false);
            return;
        };
        self.observed.odd_usage |= new.has_unknown;
        self.is_usage_final = self.is_at_end();
        if let Some(old) = self.reported
            && (new.usage.total_output() < old.usage.total_output()
                || new.usage.total_input() < old.usage.total_input())
        {
            self.observed.odd_usage = true;
            let cost = |reported: &Reported| self.price.cost(&reported.usage, self.observed.tier);
            if cost(&new) < cost(&old) {
                return;
            }
        }
        self.reported = Some(new);
    }

    /// The tier that the usage names; where the head names another one, the dearer.
    fn tier(&mut self, reported: Value<'_>) {
        let name = |field: &str| reported.get(field).and_then(Value::as_str).map(|name| usage::tier(&name));
        let named = name("serviceTier").or_else(|| if self.head_tier.is_none() { name("trafficType") } else { None });
        if let Some(named) = named {
            self.observed.tier = self.head_tier.map_or(named, |head| usage::dearer(head, named));
        }
    }

    /// True when no candidate that was seen goes on.
    fn is_at_end(&self) -> bool {
        self.is_blocked || (!self.seen.is_empty() && self.seen.is_subset(&self.ended))
    }

    fn candidate(&mut self, at: u64, candidate: Value<'_>) {
        let index = candidate.get("index").and_then(Value::as_u64).unwrap_or(at).min(CANDIDATES_MAX);
        self.seen.insert(index);
        for (key, value) in candidate.fields().filter(|(_, value)| !value.is_null()) {
            match key.as_ref() {
                "content" => {
                    let parts = value.get("parts").into_iter().flat_map(Value::items);
                    parts.for_each(|part| self.part(index, part));
                }
                "finishReason" => {
                    if value.as_str().is_some_and(|reason| reason != "FINISH_REASON_UNSPECIFIED") {
                        self.ended.insert(index);
                    }
                }
                "groundingMetadata" => self.grounding.take(value),
                key if NOT_WRITTEN.contains(&key) => {}
                _ => self.output.others(value),
            }
        }
    }

    fn part(&mut self, choice: u64, part: Value<'_>) {
        let is_thought = part.get("thought").and_then(Value::as_bool) == Some(true);
        for (key, value) in part.fields().filter(|(_, value)| !value.is_null()) {
            match key.as_ref() {
                // Thoughts are shown as a summary, whose tokens are not those that are billed.
                "text" if is_thought => {}
                "text" => self.output.string(TextId { choice, part: 0, field: Field::Content }, value),
                "executableCode" => self.output.others(value.get("code").unwrap_or(value)),
                key if NOT_WRITTEN.contains(&key) => {}
                // Calls of functions and tools: names, arguments, ids.
                _ => self.output.others(value),
            }
        }
    }

    /// What the tools cost that Google ran.
    fn fees(&self) -> Money {
        // Without a candidate nothing says how often they ran: as often as was held for.
        if self.seen.is_empty() && !self.is_blocked {
            return self.terms.fees;
        }
        let per_query = self.price.fees.per_query || self.price.fees.web_search.is_none();
        let counted = self.grounding.fees(&self.served, per_query);
        // What was not read may have told of more: as often as was held for.
        if self.lacks_searches { counted.max(self.terms.fees) } else { counted }
    }
}

impl Dialect for Meter {
    fn event(&mut self, event: &Event<'_>) -> Show {
        if let Some(data) = event.data.as_deref().map(<[u8]>::trim_ascii)
            && !data.is_empty()
            && !self.read(data)
        {
            self.garbage(data);
        }
        Show::Always
    }

    fn object(&mut self, body: &[u8]) -> bool {
        self.read(body)
    }

    fn lost_items(&mut self) {
        self.lacks_searches = true;
    }

    fn garbage(&mut self, data: &[u8]) {
        self.output.bytes(data.len() as u64);
        self.lacks_searches |= data.windows(17).any(|window| window == b"groundingMetadata");
        // It may have been the usage.
        if data.windows(13).any(|window| window == b"usageMetadata") {
            (self.observed.odd_usage, self.reported, self.is_usage_final) = (true, None, false);
        }
    }

    fn complete(&mut self) {
        self.is_complete = true;
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.observed.streamed_tokens = self.output.streamed_tokens(exact);
        // In a stream, usage counts once all is generated: it grows until then.
        let is_final = self.is_complete || (self.is_usage_final && self.is_at_end());
        let counts = is_final && !self.observed.error;
        let bill = self.reported.filter(|_| counts).map(|reported| reported.bill(self.price.long_above));
        let (mut usage, apart) = bill.map_or((None, Vec::new()), |(usage, apart)| (Some(usage), apart));
        let reported = usage.iter().chain(&apart).fold(0, |sum: u64, usage| sum.saturating_add(usage.total_output()));
        if usage.is_some() && self.output.belies(reported) {
            self.observed.odd_usage = true;
            usage = None;
        }
        let (tier, model) = (self.observed.tier, &self.observed.model);
        self.observed.others =
            apart.into_iter().map(|usage| BillLine { usage, tier, model: model.clone(), thousandths: 1000 }).collect();
        self.observed.usage = usage;
        self.observed.fees = self.fees();
        let has_all = self.is_blocked || self.is_complete || self.ended.len() as u64 >= self.samples;
        self.observed.finished = self.observed.usage.is_some() && has_all;
        &self.observed
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>, begun: bool) -> Vec<u8> {
        let body = errors::body(error);
        let (before, after): (&[u8], &[u8]) = match (self.route == route::STREAM_ARRAY, begun) {
            (true, true) => (b",", b"]"),
            (true, false) => (b"[", b"]"),
            (false, _) => (b"data: ", b"\r\n\r\n"),
        };
        [before, body.as_slice(), after].concat()
    }
}

#[cfg(test)]
mod tests;

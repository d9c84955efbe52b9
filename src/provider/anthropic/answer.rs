//! What an answer says of its bill: `message_start` has the input, each `message_delta` the sums so far, the later one wins.

use super::{errors, usage};
use crate::money::Money;
use crate::pricing::{ModelPrice, Tier, Usage};
use crate::provider::output::{Field, Output, TextId};
use crate::provider::reader::{Dialect, Show};
use crate::provider::{BillLine, Ceiling, ErrorAnswer, Observed};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::Event;
use usage::{Counts, Iteration};

/// What a region in the United States costs where a price row does not say: a tenth more.
const US_THOUSANDTHS: u64 = 1100;
/// What fast mode costs where a price row does not say: twice as much.
const FAST_THOUSANDTHS: u64 = 2000;
/// Categories of refusals that are billed although nothing was generated.
const BILLED_REFUSALS: [&str; 3] = ["bio", "frontier_llm", "reasoning_extraction"];
/// Categories of refusals that are known not to be.
const FREE_REFUSALS: [&str; 2] = ["cyber", "general_harms"];

/// What the reader of an answer must know of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The factor of the region in thousandths when the answer names none.
    pub silent_geo: u64,
    /// The same when it names the United States.
    pub us: u64,
    /// The factor of the speed in thousandths when the answer names none.
    pub silent_speed: u64,
    /// The same when it names fast mode.
    pub fast: u64,
    /// True when a cache write may be for an hour.
    pub writes_hour: bool,
    /// What one web search costs.
    pub web_search: Money,
    /// What one fetched page costs.
    pub web_fetch: Money,
}

impl Facts {
    /// Of a request without cache, tools and modes, whose region nobody set.
    pub(crate) fn of(price: &ModelPrice) -> Facts {
        Facts {
            silent_geo: price.multiplier("us").unwrap_or(1000),
            us: price.multiplier("us").unwrap_or(US_THOUSANDTHS),
            silent_speed: 1000,
            fast: price.multiplier("fast").unwrap_or(FAST_THOUSANDTHS),
            writes_hour: false,
            // One that nobody asked for is billed all the same if it is counted.
            web_search: price.listed_fee("web_search"),
            web_fetch: Money::ZERO,
        }
    }

    /// Of a request of which nothing is known.
    pub(crate) fn worst(price: &ModelPrice) -> Facts {
        Facts { writes_hour: true, ..Facts::of(price) }
    }
}

/// Sums up an answer.
pub(crate) struct Meter {
    facts: Facts,
    output: Output,
    /// All that was said of usage, and whether it was said to the end.
    counts: Counts,
    is_output_said: bool,
    is_ended: bool,
    /// The passes of the last usage that lists them.
    iterations: Vec<Iteration>,
    /// Usage came that could not be read.
    is_unreadable: bool,
    geo: Option<String>,
    speed: Option<String>,
    stop: Stop,
    observed: Observed,
    nodes: Vec<Node>,
}

/// How the answer ended.
#[derive(Debug, Default)]
struct Stop {
    is_refusal: bool,
    /// Why it was refused: `None`, nothing was said; `Some(None)`, no category.
    category: Option<Option<String>>,
    /// A block of the answer was seen, or may have been in what could not be read.
    has_block: bool,
}

impl Meter {
    /// A meter for the answer to a call.
    pub(crate) fn new(facts: Facts, ceiling: Ceiling) -> Meter {
        Meter {
            facts,
            output: Output::new(None, ceiling),
            counts: Counts::default(),
            is_output_said: false,
            is_ended: false,
            iterations: Vec::new(),
            is_unreadable: false,
            geo: None,
            speed: None,
            stop: Stop::default(),
            observed: Observed::default(),
            nodes: Vec::new(),
        }
    }

    /// Takes one JSON object: an event of a stream, or a whole message. False if it is none.
    pub(crate) fn take(&mut self, data: &[u8]) -> bool {
        let mut nodes = std::mem::take(&mut self.nodes);
        let root =
            std::str::from_utf8(data).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let is_object = root.is_some_and(|root| root.is_object());
        if let (Some(root), true) = (root, is_object) {
            self.event_of(root);
        }
        self.nodes = nodes;
        is_object
    }

    fn event_of(&mut self, root: Value<'_>) {
        let index = root.get("index").and_then(Value::as_u64).unwrap_or(0);
        match root.get("type").and_then(Value::as_str).as_deref() {
            Some("message_start") => root.get("message").into_iter().for_each(|message| self.message(message, false)),
            Some("message") => self.message(root, true),
            Some("content_block_start") => {
                root.get("content_block").into_iter().for_each(|block| self.block(index, block))
            }
            Some("content_block_delta") => root.get("delta").into_iter().for_each(|delta| self.delta(index, delta)),
            Some("message_delta") => {
                root.get("delta").into_iter().for_each(|delta| self.stop(delta));
                root.get("usage").into_iter().for_each(|usage| self.report(usage, true));
            }
            Some("message_stop") => self.is_ended = true,
            Some("content_block_stop" | "ping") => {}
            Some("error") => self.observed.error = true,
            _ => self.output.others(root),
        }
    }

    /// A message: its head, or the whole.
    fn message(&mut self, message: Value<'_>, is_whole: bool) {
        for (key, value) in message.fields() {
            match key.as_ref() {
                "model" if self.observed.model.is_none() => {
                    self.observed.model = value.as_str().map(|name| name.into_owned())
                }
                "content" => value.items().enumerate().for_each(|(at, block)| self.block(at as u64, block)),
                "usage" => self.report(value, is_whole),
                _ => {}
            }
        }
        self.stop(message);
    }

    fn stop(&mut self, holder: Value<'_>) {
        if let Some(reason) = holder.get("stop_reason").and_then(Value::as_str) {
            self.stop.is_refusal = reason == "refusal";
        }
        if let Some(details) = holder.get("stop_details").filter(|details| details.is_object()) {
            self.stop.category = match details.get("category") {
                Some(category) if category.is_null() => Some(None),
                Some(category) => category.as_str().map(|name| Some(name.into_owned())),
                None => None,
            };
        }
    }

    /// Takes a usage object. What `message_start` says of the output is no more than a place-holder.
    fn report(&mut self, reported: Value<'_>, is_output_said: bool) {
        if reported.is_null() {
            return;
        }
        let writes_hour = self.facts.writes_hour;
        let Ok(mut counts) = Counts::read(reported) else {
            self.is_unreadable = true;
            self.observed.odd_usage = true;
            return;
        };
        if is_output_said {
            self.is_output_said |= counts.output.is_some();
        } else {
            (counts.output, counts.thinking) = (None, None);
        }
        self.observed.odd_usage |= self.counts.update(&counts) || self.counts.has_unknown || self.counts.is_split_odd();
        match reported.get("iterations").filter(|list| !list.is_null()).map(|list| usage::iterations(list, writes_hour))
        {
            Some(Ok(list)) => self.iterations = list,
            Some(Err(_)) => (self.is_unreadable, self.observed.odd_usage) = (true, true),
            None => {}
        }
        let name = |key: &str| reported.get(key).and_then(Value::as_str).map(|name| name.into_owned());
        if let Some(tier) = name("service_tier") {
            self.tier(&tier);
        }
        self.geo = name("inference_geo").or(self.geo.take());
        self.speed = name("speed").or(self.speed.take());
    }

    /// The tier that the answer names. A batch is never ours, and nothing becomes cheaper for its name.
    fn tier(&mut self, name: &str) {
        self.observed.tier = match name {
            "standard" | "batch" => Tier::Standard,
            "priority" => Tier::Priority,
            _ => {
                self.observed.odd_usage = true;
                Tier::Ultrafast
            }
        };
    }

    /// The factor on every rate, by the region and the speed that the answer names.
    fn thousandths(&mut self) -> u64 {
        let facts = &self.facts;
        let (geo, is_geo_odd) = match self.geo.as_deref() {
            None => (facts.silent_geo, false),
            Some("us") => (facts.us, false),
            Some("global" | "not_available") => (1000, false),
            Some(_) => (facts.us.max(facts.silent_geo), true),
        };
        let (speed, is_speed_odd) = match self.speed.as_deref() {
            None => (facts.silent_speed, false),
            Some("fast") => (facts.fast, false),
            Some("standard") => (1000, false),
            Some(_) => (facts.fast.max(facts.silent_speed), true),
        };
        self.observed.odd_usage |= is_geo_odd || is_speed_odd;
        product(geo, speed)
    }

    /// The beginning of a block, or the whole of it.
    fn block(&mut self, index: u64, block: Value<'_>) {
        self.stop.has_block = true;
        let kind = block.get("type").and_then(Value::as_str);
        let part = |name: &str| block.get(name).filter(|value| !value.is_null());
        match kind.as_deref() {
            Some("text") => self.say(index, Field::Content, part("text")),
            Some("thinking") => self.say(index, Field::Reasoning, part("thinking")),
            // What is encrypted has no text to count.
            Some("redacted_thinking") => {}
            Some("tool_use" | "server_tool_use" | "mcp_tool_use") => {
                self.say(index, Field::Name, part("name"));
                if let Some(input) = part("input").filter(|input| input.fields().next().is_some()) {
                    self.arguments(index, input.raw());
                }
            }
            // Results come from tools, not from the model.
            Some(name) if name.ends_with("_tool_result") => {}
            _ => self.output.others(block),
        }
    }

    fn delta(&mut self, index: u64, delta: Value<'_>) {
        let part = |name: &str| delta.get(name).filter(|value| !value.is_null());
        match delta.get("type").and_then(Value::as_str).as_deref() {
            Some("text_delta") => self.say(index, Field::Content, part("text")),
            Some("thinking_delta") => self.say(index, Field::Reasoning, part("thinking")),
            Some("input_json_delta") => {
                if let Some(json) = part("partial_json").and_then(Value::as_str) {
                    self.arguments(index, &json);
                }
            }
            // Proof of thinking, and where a text was cited from: neither is generated text.
            Some("signature_delta" | "citations_delta") => {}
            _ => self.output.others(delta),
        }
    }

    fn say(&mut self, index: u64, field: Field, text: Option<Value<'_>>) {
        if let Some(text) = text {
            self.output.string(TextId { choice: 0, part: index, field }, text);
        }
    }

    /// A tool's input. The model wrote it in another form than the JSON that is shown, in up to twice as many tokens as this has bytes.
    fn arguments(&mut self, index: u64, json: &str) {
        self.output.text(TextId { choice: 0, part: index, field: Field::Arguments }, json);
        self.output.bytes(json.len() as u64);
    }

    /// True when the provider documents that this refusal costs nothing.
    fn is_free_refusal(&self, usage: &Usage) -> bool {
        let is_free = match &self.stop.category {
            // Nothing was said of the reason: it may be one that is billed.
            None => false,
            Some(None) => true,
            Some(Some(name)) => FREE_REFUSALS.contains(&name.as_str()) && !BILLED_REFUSALS.contains(&name.as_str()),
        };
        self.stop.is_refusal && is_free && !self.stop.has_block && usage.reasoning == 0
    }

    /// The bill, if the answer said it to the end.
    fn settle(&mut self) {
        self.observed.usage = None;
        self.observed.others.clear();
        self.observed.thousandths = self.thousandths();
        self.observed.finished = self.is_ended && self.is_output_said;
        if !self.observed.finished || self.is_unreadable || self.observed.error {
            return;
        }
        let Ok(usage) = self.counts.usage(self.facts.writes_hour) else {
            self.observed.odd_usage = true;
            return;
        };
        if self.is_free_refusal(&usage) {
            self.observed.usage = Some(Usage::default());
            return;
        }
        // Every request has input.
        if usage.total_input() == 0 {
            self.observed.odd_usage = true;
            return;
        }
        let fee = |price: Money, count: Option<u64>| times(price, count.unwrap_or(0));
        self.observed.fees = fee(self.facts.web_search, self.counts.web_searches)
            .saturating_add(fee(self.facts.web_fetch, self.counts.web_fetches));
        let usage = self.not_less_than_seen(usage);
        self.bill(usage);
    }

    /// A usage far below the words of the text is not true: what was seen is charged.
    fn not_less_than_seen(&mut self, usage: Usage) -> Usage {
        if !self.output.has_more_words_than(usage.output.saturating_mul(2)) {
            return usage;
        }
        self.observed.odd_usage = true;
        let seen = self.output.streamed_tokens(false);
        Usage { output: usage.output.saturating_add(seen), ..usage }
    }

    /// Bills the passes one by one where they are listed, and what the sum has beyond them: passes of other models are not in the sum.
    fn bill(&mut self, whole: Usage) {
        let Some((first, rest)) = self.iterations.split_first() else {
            self.observed.usage = Some(whole);
            return;
        };
        let beyond = usage::beyond(&whole, &self.iterations);
        self.observed.odd_usage |= beyond != Usage::default();
        let (tier, thousandths) = (self.observed.tier, self.observed.thousandths);
        let own = self.observed.model.clone();
        let line = |usage: Usage, model: &Option<String>| BillLine {
            usage,
            tier,
            model: model.clone().or_else(|| own.clone()),
            thousandths,
        };
        let mut others: Vec<BillLine> = rest.iter().map(|pass| line(pass.usage, &pass.model)).collect();
        let is_own = first.model.is_none() || first.model == own;
        let usage = if is_own {
            usage::plus(&first.usage, &beyond)
        } else {
            others.push(line(first.usage, &first.model));
            beyond
        };
        (self.observed.usage, self.observed.others) = (Some(usage), others);
    }
}

/// So many at a price each.
pub(crate) fn times(price: Money, count: u64) -> Money {
    Money::from_nano(price.nano().saturating_mul(count))
}

/// Two factors in thousandths, one after the other, rounded up.
pub(crate) fn product(one: u64, other: u64) -> u64 {
    one.saturating_mul(other).div_ceil(1000)
}

impl Dialect for Meter {
    fn event(&mut self, event: &Event<'_>) -> Show {
        if let Some(data) = event.data.as_deref().map(<[u8]>::trim_ascii)
            && !data.is_empty()
            && !self.take(data)
        {
            self.garbage(data);
        }
        self.observed.error |= event.name == Some(b"error");
        Show::Always
    }

    fn object(&mut self, body: &[u8]) -> bool {
        self.take(body)
    }

    fn lost_items(&mut self) {
        self.stop.has_block = true;
    }

    fn garbage(&mut self, data: &[u8]) {
        self.output.bytes(data.len() as u64);
        self.stop.has_block = true;
        // It may have been the usage, or the model's own words for it.
        let is_usage = data.windows(7).any(|window| window == b"\"usage\"");
        self.is_unreadable |= is_usage;
        self.observed.odd_usage |= is_usage;
    }

    fn complete(&mut self) {
        self.is_ended = true;
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.observed.streamed_tokens = self.output.streamed_tokens(exact);
        self.settle();
        &self.observed
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>, _begun: bool) -> Vec<u8> {
        errors::closing_event(error)
    }
}

#[cfg(test)]
mod tests;

//! What differs between provider APIs: routes, request fields that move the bill, framing, usage, error shapes.
//!
//! A provider is one file behind [`Provider`], plus its rows in `conf/`. It knows tokens and prices, never the ledger.

pub mod openai;
pub mod tokens;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Method;

use crate::money::Money;
use crate::pricing::{ModelPrice, PriceTable, Tier, Usage};

/// Every provider there is.
pub static ALL: [&dyn Provider; 1] = [&openai::OpenAi];

/// The provider of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    ALL.into_iter().find(|provider| provider.name() == name)
}

/// Where a request goes, decided by method and path alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// A fixed name for metrics and logs, e.g. `chat_completions`.
    pub label: &'static str,
    /// Whether it costs money.
    pub metered: bool,
    /// Whether it takes a request body.
    pub body: bool,
}

/// What a provider needs to know to read a request.
pub struct Reading<'a> {
    /// The prices in force.
    pub prices: &'a PriceTable,
    /// Request fields that the operator admits beyond the known ones (`providers.<name>.allow_fields`).
    pub allow_fields: &'a [String],
}

/// Why a request is refused before any money is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The contract's code: `invalid_request`, `ambiguous_request`, `unpriceable_request`, `unknown_model`, `unpriced_model`.
    pub code: &'static str,
    /// What is wrong, for the person who reads it.
    pub message: String,
    /// What to do about it: the field to drop, or the line of the file that would allow it.
    pub hint: String,
}

/// A metered call, read and bounded. Input and output are counted in tokens.
pub struct Call {
    /// The model, as the request names it.
    pub model: Arc<str>,
    /// Its row of the price table at this moment: reserve and settle see the same prices.
    pub price: Arc<ModelPrice>,
    /// True when the answer is streamed.
    pub stream: bool,
    /// False when the client did not ask for the usage that a stream ends with: it is then kept from it.
    pub shows_usage: bool,
    /// Answers asked for (`n`); each may have the whole output. At least 1.
    pub samples: u64,
    /// The most input tokens that the body can make.
    pub input_max: u64,
    /// The most output tokens of one sample as the request stands: its own limit, or the model's.
    pub output_max: u64,
    /// The least output limit that a clamp may set: 16, or less when the request asks for less; 0 for embeddings.
    pub output_min: u64,
    /// True when the cut mode may run it: streamed, and nothing billed is hidden from the stream.
    pub cuttable: bool,
    /// The provider's own part: the parsed body.
    pub body: Box<dyn CallBody>,
}

/// The provider's part of a call.
pub trait CallBody: Send + Sync {
    /// A smaller bound of the input by an exact tokenizer, or `None` where there is none for this call. Costs CPU time.
    fn exact_input(&self) -> Option<u64>;

    /// The body to forward: what was parsed, with what must be forced, and `output_limit` tokens a sample if given.
    fn render(&self, output_limit: Option<u64>) -> Bytes;
}

impl Call {
    /// The most that the call can cost with at most `input` input tokens and `output` output tokens a sample.
    pub fn bound(&self, input: u64, output: u64) -> Money {
        self.price.worst_text(input, output.saturating_mul(self.samples)).rounded_up()
    }

    /// The largest output limit a sample whose bound stays within `money`, at most `output_max`. `None`: not even none fits.
    pub fn output_within(&self, input: u64, money: Money) -> Option<u64> {
        let spent = self.price.worst_text(input, 0);
        if spent.rounded_up() > money {
            return None;
        }
        let units = spent.units_within(money, self.price.worst_output_rate(input));
        Some(units.map_or(self.output_max, |units| (units / self.samples.max(1)).min(self.output_max)))
    }
}

/// How much output may pass before an answer is cut. Counts are output tokens, all samples together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// The provider was told a limit that the hold pays for: cut only what *certainly* has more, so that no honest stream is cut.
    /// Certain is the exact count of the text that was streamed, or one token for each piece of it where no tokenizer is public.
    Certain(u64),
    /// The hold does not pay for all that the provider may generate (cut mode): cut what *may* have more. Counted by bytes,
    /// and by the tokenizer, where one is public, when the bytes reach the ceiling.
    Possible(u64),
}

/// What one piece of an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Go on.
    More,
    /// More output than the ceiling was seen: the answer must be cut before the event that crossed it, which was not emitted.
    Ceiling,
    /// The answer cannot be read any further (a frame beyond the limit, a broken checksum): it must be cut.
    Unreadable,
}

/// What an answer said of its own bill so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The usage that the provider reported, if it did, and it is plausible.
    pub usage: Option<Usage>,
    /// The tier that the answer names.
    pub tier: Tier,
    /// The model that the answer names.
    pub model: Option<String>,
    /// An upper bound of the output tokens seen in the stream itself (all samples), whatever usage says.
    pub streamed_tokens: u64,
    /// Usage that was missing its meaning: negative, not an integer, smaller than what was streamed. Raises a metric.
    pub odd_usage: bool,
    /// The provider's own terminal event was seen.
    pub finished: bool,
    /// The provider sent an error inside a stream.
    pub error: bool,
}

/// Reads an answer, in any split of its bytes, and decides which bytes the client gets.
pub trait AnswerReader: Send + Sync {
    /// Takes the next bytes of the answer and appends to `emit` what the client may have of it by now: whole events only
    /// in a stream, without those that the client did not ask for.
    fn push(&mut self, bytes: &[u8], emit: &mut BytesMut) -> Progress;

    /// The answer is at its end: appends what is left.
    fn finish(&mut self, emit: &mut BytesMut) -> Progress;

    /// What is known of the bill. May run a tokenizer over text that was not counted yet when `exact` is asked for.
    fn observed(&mut self, exact: bool) -> &Observed;
}

/// A refusal or failure to be said in the provider's own shape.
#[derive(Clone, Debug)]
pub struct ErrorAnswer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The contract's code.
    pub code: &'a str,
    /// What happened, for people.
    pub message: &'a str,
    /// The `loopers` object of the contract.
    pub loopers: serde_json::Value,
    /// The request's id.
    pub request_id: &'a str,
}

/// One provider's API, as far as money goes.
pub trait Provider: Send + Sync {
    /// The first path segment, the config's key, the price table's prefix.
    fn name(&self) -> &'static str;

    /// The route of a request; `None` for everything that must not go through.
    /// `path` is what follows `/{provider}`, exactly as it came: nothing is decoded or normalised.
    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route>;

    /// Reads the body of a metered request strictly, and bounds it.
    fn read(&self, route: Route, path: &str, body: Bytes, reading: &Reading<'_>) -> Result<Call, Reject>;

    /// A reader for the answer to a call. `event_stream`: the answer said `text/event-stream`.
    fn answer(&self, route: Route, call: &Call, event_stream: bool, ceiling: Ceiling) -> Box<dyn AnswerReader>;

    /// The header that carries the provider's key: name and value.
    fn credential(&self, key: &str) -> (&'static str, String);

    /// An error answer's body (JSON).
    fn error_body(&self, error: &ErrorAnswer<'_>) -> Vec<u8>;

    /// The last bytes of a stream that is cut: an error event that the provider's SDKs raise.
    fn closing_event(&self, error: &ErrorAnswer<'_>) -> Vec<u8>;

    /// True when an answer with this status is documented, or taken, as not billed.
    fn unbilled_status(&self, status: u16) -> bool;

    /// True when the provider documents that dropping the connection stops the bill.
    fn drop_stops_bill(&self) -> bool;

    /// Headers of the client that must not reach the provider although others do (beta switches, organisation, …), lower case.
    fn dropped_headers(&self) -> &'static [&'static str];
}

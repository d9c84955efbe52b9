//! What differs between provider APIs: routes, request fields that move the bill, framing, usage, error shapes.
//!
//! A provider is one file behind [`Provider`], plus its rows in `conf/`. It knows tokens and prices, never the ledger. What all of
//! them need stands beside it: [`call`] (a request, read and bounded), [`reader`] (an answer, metered), [`output`] (text that
//! streams), [`fields`], [`schema`], [`sealed`], [`reject`],
//! [`tokens`].

pub mod anthropic;
pub mod bedrock;
pub mod call;
pub mod fields;
pub mod gemini;
pub mod nfkc;
pub mod openai;
pub mod output;
pub mod reader;
pub mod reject;
pub mod schema;
pub mod sealed;
pub mod skim;
pub mod tokens;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::money::Money;
use crate::pricing::PriceTable;
use crate::secret::Secret;

pub use call::{Call, CallBody, CountAsk};
pub use reader::{AnswerReader, BillLine, Ceiling, Observed, Progress};
pub use reject::Reject;

/// Every provider there is.
pub static ALL: [&dyn Provider; 6] = [
    &openai::OpenAi,
    &anthropic::Anthropic,
    &gemini::Gemini,
    &bedrock::Bedrock,
    &openai::azure::Azure,
    &openai::mistral::Mistral,
];

/// The provider of a config: whose API it speaks, under which name.
pub fn find(api: &str, name: &str) -> Option<&'static dyn Provider> {
    match api {
        "openai" if name != api => Some(&openai::Compatible),
        _ => ALL.into_iter().find(|provider| provider.name() == api),
    }
}

/// True for what may be a provider's name in the config: the first segment of a path, the prefix of its prices, a label.
pub fn is_name(name: &str) -> bool {
    const CHARS_MAX: usize = 32;
    // The gateway's own paths, and the label of a request that names no provider.
    const TAKEN: [&str; 6] = ["loopers", "healthz", "readyz", "metrics", "admin", "none"];
    if TAKEN.contains(&name) || name.starts_with(crate::secret::KEY_PREFIX) {
        return false;
    }
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    name.len() <= CHARS_MAX && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(is_plain)
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

/// What an operator says of a provider, as far as reading its requests goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Request fields admitted beyond the known ones (`allow_fields`).
    pub allow_fields: Vec<String>,
    /// Names in requests to models of the price table (`deployments`).
    pub deployments: BTreeMap<String, String>,
    /// The region that calls go to, where prices or signatures depend on it (`region`).
    pub region: Option<String>,
    /// Flat prices of what cannot be bounded by tokens, by name (`fees`).
    pub fees: BTreeMap<String, Fee>,
    /// The name of the output limit that the provider reads, where it is not the API's own (`limit_field`).
    pub limit_field: Option<LimitField>,
    /// True where the provider's own count of a call's input is asked for when the bound does not fit (`count: provider`).
    pub counts_by_provider: bool,
    /// True for a provider without service tiers (`service_tier: none`): the field is never sent.
    pub no_service_tier: bool,
}

/// The names that the output limit of a chat has with providers that speak OpenAI's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

impl LimitField {
    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            LimitField::MaxTokens => "max_tokens",
            LimitField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// A flat price that an operator sets for something that a request may start inside the provider, such as a web search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    /// For each call of it.
    pub usd: Money,
    /// The most calls of it in one request; they are held for.
    pub calls: u64,
}

/// What a provider needs to know to read a request.
pub struct Reading<'a> {
    /// The provider's name in the config and in the price table.
    pub provider: &'a str,
    /// The prices in force.
    pub prices: &'a PriceTable,
    /// What the operator says of this provider.
    pub options: &'a Options,
}

impl<'a> Reading<'a> {
    /// A reading without any options of the operator's.
    pub fn plain(provider: &'a str, prices: &'a PriceTable) -> Self {
        static NONE: LazyLock<Options> = LazyLock::new(Options::default);
        Reading { provider, prices, options: &NONE }
    }

    /// True when the operator admits a field that is not known.
    pub fn admits(&self, field: &str) -> bool {
        self.options.allow_fields.iter().any(|allowed| allowed == field)
    }
}

/// A metered request, whole.
pub struct Request<'a> {
    /// Its route.
    pub route: Route,
    /// What follows `/{provider}`, exactly as it came.
    pub path: &'a str,
    /// The query without its proxy key.
    pub query: Option<&'a str>,
    /// Its headers, as the client sent them.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl<'a> Request<'a> {
    /// A request without query and headers.
    pub fn plain(route: Route, path: &'a str, body: Bytes) -> Self {
        Request { route, path, query: None, headers: no_headers(), body }
    }
}

/// No headers at all.
pub(crate) fn no_headers() -> &'static HeaderMap {
    static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    &NONE
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    /// The status.
    pub status: u16,
    /// The `content-type`, if it has one.
    pub content_type: Option<&'a str>,
    /// All headers, where usage may stand.
    pub headers: &'a HeaderMap,
}

impl<'a> AnswerHead<'a> {
    /// A good answer of this content type, without other headers.
    pub fn plain(content_type: &'a str) -> Self {
        AnswerHead { status: 200, content_type: Some(content_type), headers: no_headers() }
    }

    /// True when the content type is `kind`, whatever its parameters.
    pub fn is(&self, kind: &str) -> bool {
        let essence = self.content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(kind)
    }
}

/// A request on its way out, for whoever signs it.
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a Method,
    /// The value of `Host`.
    pub authority: &'a str,
    /// Path and query as sent.
    pub path_and_query: &'a str,
    /// The headers of the client that are sent.
    pub headers: &'a HeaderMap,
    /// The body as sent.
    pub body: &'a [u8],
    /// What the operator says of this provider.
    pub options: &'a Options,
}

#[cfg(test)]
impl Outgoing<'static> {
    /// A request of no body and no headers, for tests of who adds which headers.
    pub(crate) fn bare() -> Self {
        static OPTIONS: LazyLock<Options> = LazyLock::new(Options::default);
        let headers = no_headers();
        Outgoing { method: &Method::POST, authority: "h", path_and_query: "/", headers, body: b"", options: &OPTIONS }
    }
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
    /// The route, if the request had got that far.
    pub route: Option<Route>,
}

/// An error answer in a provider's own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The status that its SDKs understand best.
    pub status: u16,
    /// Headers beyond those that every refusal has.
    pub headers: Vec<(&'static str, String)>,
    /// The body, JSON.
    pub body: Vec<u8>,
}

/// One provider's API, as far as money goes.
pub trait Provider: Send + Sync {
    /// The API's name: what `api:` says in the config, where it is not the provider's own name.
    fn name(&self) -> &'static str;

    /// The route of a request; `None` for everything that must not go through.
    /// `path` is what follows `/{provider}`, exactly as it came: nothing is decoded or normalised.
    fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Option<Route>;

    /// The path to send in the place of a route's own, where an API has several spellings of it: the provider, and a signature, see one.
    fn sent_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(path)
    }

    /// Reads a metered request strictly, and bounds it.
    fn read(&self, request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject>;

    /// A reader for the answer to a call.
    fn answer(&self, route: Route, call: &Call, head: &AnswerHead<'_>, ceiling: Ceiling) -> Box<dyn AnswerReader>;

    /// The headers that carry the provider's key, or a signature made with it. An error says what is wrong with the key.
    fn authorize(&self, request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String>;

    /// An error answer.
    fn refusal(&self, error: &ErrorAnswer<'_>) -> ErrorReply;

    /// True when an answer with this status is documented, or taken, as not billed.
    fn unbilled_status(&self, status: u16) -> bool;

    /// True when the provider documents that dropping the connection stops the bill.
    fn drop_stops_bill(&self) -> bool;

    /// Headers of the client that must not reach the provider although others do (beta switches, organisation, …), lower case.
    fn dropped_headers(&self) -> &'static [&'static str];
}

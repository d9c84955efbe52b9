//! Prices, providers and readings that these tests share.

use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::Method;
use loopers::money::Money;
use loopers::pricing::PriceTable;
use loopers::provider::{
    self, AnswerHead, Call, Ceiling, Fee, Observed, Options, Progress, Provider, Reading, Reject, Request,
};
use serde_json::Value;

pub static PRICES: LazyLock<PriceTable> = LazyLock::new(|| {
    let text = include_str!("../fixtures/openai_family/prices.yaml");
    PriceTable::load(&[(PathBuf::from("prices.yaml"), text.to_string())]).unwrap()
});

/// What the operator says in these tests: a fee for each tool, and deployments in three zones.
pub fn options() -> Options {
    let fee = |name: &str, nano, calls| (name.to_string(), Fee { usd: Money::from_nano(nano), calls });
    let deployments = [
        ("g", "gpt-4o"),
        ("fast", "gpt-4.1"),
        ("us", "us/gpt-4o"),
        ("eu6", "eu/gpt-6-sol"),
        ("five", "gpt-5"),
        ("e", "text-embedding-3-small"),
    ];
    Options {
        fees: [fee("web_search", 10_000_000, 5), fee("code_interpreter", 30_000_000, 3)].into(),
        deployments: deployments.iter().map(|(name, model)| (name.to_string(), model.to_string())).collect(),
        ..Options::default()
    }
}

/// The provider of that name; one that has no API of its own speaks OpenAI's.
pub fn provider(name: &str) -> &'static dyn Provider {
    provider::find(name, name).or_else(|| provider::find("openai", name)).unwrap()
}

/// Reads a request.
pub fn call(name: &str, target: &str, body: &Value) -> Result<Call, Reject> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let provider = provider(name);
    let route = provider.route(&Method::POST, path, query).unwrap_or_else(|| panic!("{target} is no route"));
    // OpenAI keeps the data in Europe, which makes the models dearer that say so.
    let region = (name == "openai").then(|| "eu".to_string());
    let options = Options { region, ..options() };
    let reading = Reading { options: &options, ..Reading::plain(name, &PRICES) };
    let body = Bytes::from(body.to_string());
    provider.read(Request { query, ..Request::plain(route, path, body) }, &reading)
}

/// Reads the answer in these pieces to its end.
pub fn answer(name: &str, target: &str, call: &Call, status: u16, chunks: &[&[u8]]) -> (Vec<u8>, Observed) {
    let provider = provider(name);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let route = provider.route(&Method::POST, path, query).unwrap();
    let kind = if call.stream && status == 200 { "text/event-stream" } else { "application/json" };
    let head = AnswerHead { status, ..AnswerHead::plain(kind) };
    let mut reader = provider.answer(route, call, &head, Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    for chunk in chunks {
        assert_eq!(reader.push(chunk, &mut emit), Progress::More);
    }
    assert_eq!(reader.finish(&mut emit), Progress::More);
    (emit.to_vec(), reader.observed(true).clone())
}

/// What the gateway charges for an answer, in nano-dollars: the model that the answer names, its tier and its fees.
pub fn charged(name: &str, call: &Call, observed: &Observed) -> Option<u64> {
    observed.cost(&call.price, &PRICES, name).map(|(cost, _)| cost.nano())
}

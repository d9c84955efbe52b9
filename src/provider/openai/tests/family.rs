//! What the tests of the family share: prices of their own, and requests to each API under any options.

use std::path::PathBuf;

use super::*;
use crate::money::Money;
use crate::provider::{Fee, Provider};

pub static PRICES: LazyLock<PriceTable> = LazyLock::new(|| {
    let text = include_str!("../../../../tests/fixtures/openai_family/prices.yaml");
    PriceTable::load(&[(PathBuf::from("prices.yaml"), text.to_string())]).unwrap()
});

/// Reads a request of a provider under these options.
pub fn ask(provider: &dyn Provider, path: &str, body: &Value, options: &Options) -> Result<Call, Reject> {
    ask_as(provider.name(), provider, path, body, options)
}

/// The same for a provider with a name of its own.
pub fn ask_as(
    name: &str,
    provider: &dyn Provider,
    path: &str,
    body: &Value,
    options: &Options,
) -> Result<Call, Reject> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let route = provider.route(&Method::POST, path, query).unwrap_or_else(|| panic!("{path} is no route"));
    assert!(route.metered && route.body, "{path}");
    let reading = Reading { options, ..Reading::plain(name, &PRICES) };
    let body = Bytes::from(body.to_string());
    provider.read(Request { query, ..Request::plain(route, path, body) }, &reading)
}

/// Options with a fee of `nano` nano-dollars for each of these tools.
pub fn fees(list: &[(&str, u64, u64)]) -> Options {
    let fee = |(name, nano, calls): &(&str, u64, u64)| {
        (name.to_string(), Fee { usd: Money::from_nano(*nano), calls: *calls })
    };
    Options { fees: list.iter().map(fee).collect(), ..Options::default() }
}

//! Tools: functions of the client, which are text, and tools that Google runs, which only an operator's flat price admits.

use super::{fields, names};
use crate::money::Money;
use crate::pricing::ModelPrice;
use crate::provider::{Fee, Reading, Reject, nfkc, reject, schema};
use crate::wire::json::Value;

/// Tokens around the declaration of one function.
const TOKENS_PER_FUNCTION: u64 = 64;

/// No text's normal form has more bytes than this for each of its own (U+FDFA: 33 for 3).
const NORMAL_PER_BYTE_MAX: u64 = 11;

/// The tools that Google runs, and the names of their prices in the config.
const SERVED: [(&str, &str); 5] = [
    ("googleSearch", "web_search"),
    ("googleMaps", "maps"),
    ("urlContext", "url_context"),
    ("codeExecution", "code_execution"),
    ("fileSearch", "file_search"),
];

/// What the tools of a request may cost.
#[derive(Debug, Default)]
pub struct Tools {
    /// Tokens to add to the bytes of the body. `None`: no bound, the context window counts.
    pub extra: Option<u64>,
    /// Each tool that Google runs: its name in the config, what one use costs, and the most uses.
    pub served: Vec<(&'static str, Fee)>,
}

impl Tools {
    /// How often the model may read its prompt: each use of a tool that Google runs is followed by another pass.
    pub fn passes(&self) -> u64 {
        self.served.iter().fold(1, |sum, (_, fee)| sum.saturating_add(fee.calls))
    }

    /// What all uses together may cost. An answer lists the queries of searches and of maps as one: each may be billed as either.
    pub fn fees(&self) -> Money {
        let searches = self.served.iter().find(|(name, _)| *name == "web_search").map_or(0, |(_, fee)| fee.calls);
        let uses = |name: &str, fee: &Fee| if name == "maps" { fee.calls.max(searches) } else { fee.calls };
        self.served.iter().fold(Money::ZERO, |sum, (name, fee)| sum.saturating_add(times(fee.usd, uses(name, fee))))
    }
}

/// An amount, so many times.
pub fn times(amount: Money, count: u64) -> Money {
    Money::from_nano(amount.nano().saturating_mul(count))
}

/// Reads `tools`.
pub fn read(value: Option<Value<'_>>, reading: &Reading<'_>, price: &ModelPrice) -> Result<Tools, Reject> {
    let mut tools = Tools { extra: Some(0), served: Vec::new() };
    for tool in value.into_iter().flat_map(names::items) {
        for field in names::read(reading, tool, "tools[]", fields::TOOL)? {
            match SERVED.iter().find(|(name, _)| *name == field.name) {
                Some((name, fee_name)) => serve(&mut tools, name, fee_name, reading, price)?,
                None => functions(&mut tools, field.value, reading)?,
            }
        }
    }
    Ok(tools)
}

fn functions(tools: &mut Tools, value: Value<'_>, reading: &Reading<'_>) -> Result<(), Reject> {
    for function in names::items(value) {
        tools.extra = tools.extra.and_then(|sum| sum.checked_add(TOKENS_PER_FUNCTION));
        for field in names::read(reading, function, "tools[].functionDeclarations[]", fields::FUNCTION)? {
            tools.extra = tools.extra.and_then(|sum| sum.checked_add(expansion(field.value)?));
        }
    }
    Ok(())
}

fn serve(
    tools: &mut Tools,
    name: &str,
    fee_name: &'static str,
    reading: &Reading<'_>,
    price: &ModelPrice,
) -> Result<(), Reject> {
    let Some(fee) = reading.options.fees.get(fee_name) else {
        let message = format!("`tools[].{name}`: Google runs it as often as the model likes, and bills for it");
        let hint = format!(
            "send the request without it, or set a flat price and the most uses that are held for: \
             providers.{}.fees in loopers.yaml: `{fee_name}: {{ usd: \"0.014\", calls: 5 }}`",
            reading.provider
        );
        return Err(reject::unpriceable(message, hint));
    };
    // What the price table knows is never undercut.
    let listed = price.listed_fee(fee_name);
    if !tools.served.iter().any(|(known, _)| *known == fee_name) {
        tools.served.push((fee_name, Fee { usd: fee.usd.max(listed), calls: fee.calls }));
    }
    Ok(())
}

/// What a schema may grow by when its references are written out, in the longer of its two forms. `None`: no bound.
pub fn expansion(value: Value<'_>) -> Option<u64> {
    let mut refers = false;
    // The API's own kind of schema refers by `ref`, to places that are not looked up here.
    value.each_string(&mut |key, _| refers |= key == "ref");
    let bytes = if refers { None } else { schema::expansion(value) }?;
    if bytes > 0 && nfkc::growth(value) > 0 { bytes.checked_mul(NORMAL_PER_BYTE_MAX) } else { Some(bytes) }
}

//! Fields of a row beside its rates: fees, factors, announced changes, days and notes.

use std::sync::Arc;

use super::lines::{Node, Pairs};
use crate::clock::Millis;
use crate::money::{Money, Rate};
use crate::pricing::{ModelPrice, Rates, TierRates};

/// What a factor must look like.
pub const FACTOR: &str = "write a factor of 1 to 10 with at most three decimals as a string, e.g. \"1.1\"";
/// What a day must look like.
pub const DAY: &str = "write a day as YYYY-MM-DD";
/// What a fee must look like.
const FEE: &str = "write USD a call as a string, above 0 and below 1000, e.g. \"0.01\" for 10 USD per thousand";
/// The names of the factors.
const FACTORS: [&str; 3] = ["us", "eu", "fast"];
/// Femto-dollars in a nano-dollar.
const FEMTO_PER_NANO: u128 = 1_000_000;

/// Problems, each with the dotted path of its field within the row.
type Problems = Vec<(String, String)>;

/// A price change: the day of it, and the factor in thousandths.
pub type Change = (Arc<str>, Millis, u64);

/// Takes one of these fields. False if it is none of them.
pub fn field(price: &mut ModelPrice, key: &str, node: &Node, problems: &mut Problems) -> bool {
    let mut say = |problem: &str| problems.push((key.into(), problem.into()));
    match (key, node) {
        ("fees", Node::Map(fields)) => fees(price, fields, problems),
        ("fees", _) => say("write a map, e.g. `{web_search: \"0.01\"}`"),
        ("multipliers", Node::Map(fields)) => multipliers(price, fields, problems),
        ("multipliers", _) => say("write a map, e.g. `{us: \"1.1\"}`"),
        ("deprecation_date", Node::Text(day)) if is_day(day) => price.deprecation_date = Some(day.as_str().into()),
        ("deprecation_date", _) => say(DAY),
        ("note", Node::Text(note)) => price.note = Some(note.as_str().into()),
        ("note", _) => say("write a text"),
        _ => return false,
    }
    true
}

fn fees(price: &mut ModelPrice, fields: &Pairs, problems: &mut Problems) {
    let mut sizes: [Option<Rate>; 3] = [None; 3];
    for (at, (name, node)) in fields.iter().enumerate() {
        let mut say = |problem: &str| problems.push((format!("fees.{name}"), problem.into()));
        if fields[..at].iter().any(|(before, _)| before == name) {
            say("this field stands twice: delete one");
            continue;
        }
        if name == "per_query" {
            match node {
                Node::Bool(value) => price.fees.per_query = *value,
                _ => say("write `true` or `false`"),
            }
            continue;
        }
        let Some(fee) = fee(node) else {
            say(FEE);
            continue;
        };
        match name.as_str() {
            "web_search" => sizes = [Some(fee); 3],
            "web_search_low" => sizes[0] = Some(fee),
            "web_search_medium" => sizes[1] = Some(fee),
            "web_search_high" => sizes[2] = Some(fee),
            "maps" => price.fees.maps = Some(fee),
            _ => say(
                "unknown fee: there is `web_search` (or `web_search_low`, `_medium`, `_high`), `maps` and `per_query`",
            ),
        }
    }
    // A size without a price costs what the dearest one does.
    let dearest = sizes.iter().flatten().max().copied();
    price.fees.web_search = dearest.map(|dearest| sizes.map(|size| size.unwrap_or(dearest)));
}

/// USD a call.
fn fee(node: &Node) -> Option<Rate> {
    let Node::Text(text) = node else { return None };
    let money: Money = text.parse().ok()?;
    let is_believed = !text.starts_with('$') && (1..1_000_000_000_000).contains(&money.nano());
    is_believed.then(|| Rate::from_femto(u128::from(money.nano()) * FEMTO_PER_NANO))
}

fn multipliers(price: &mut ModelPrice, fields: &Pairs, problems: &mut Problems) {
    for (name, node) in fields {
        let mut say = |problem: String| problems.push((format!("multipliers.{name}"), problem));
        match factor(node) {
            _ if !FACTORS.contains(&name.as_str()) => say(format!("unknown factor: there is {}", FACTORS.join(", "))),
            _ if price.multiplier(name).is_some() => say("this field stands twice: delete one".into()),
            Some(thousandths) => price.multipliers.push((name.as_str().into(), thousandths)),
            None => say(FACTOR.into()),
        }
    }
}

/// A factor in thousandths.
pub fn factor(node: &Node) -> Option<u64> {
    let Node::Text(text) = node else { return None };
    // A decimal is read as a rate; thousandths of it are exact if the rest is divisible.
    let thousandth = 1_000_000;
    let rate = Rate::per_million(text).ok().filter(|rate| rate.femto() % thousandth == 0)?;
    u64::try_from(rate.femto() / thousandth).ok().filter(|thousandths| (1000..=10_000).contains(thousandths))
}

/// True for `YYYY-MM-DD`, if there is such a day.
pub fn is_day(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok_and(|day| day.to_string() == text)
}

/// The first instant of a day, in UTC: providers west of it change their prices later, so nothing is charged too low.
pub fn start_of(day: &str) -> Option<Millis> {
    let instant: jiff::Timestamp = format!("{day}T00:00:00Z").parse().ok()?;
    Some(instant.as_millisecond())
}

/// `{day: "2027-01-01", times: "2"}`
pub fn change(node: &Node, problems: &mut Problems) -> Option<Change> {
    let mut parts = (None, None);
    let mut is_understood = matches!(node, Node::Map(_));
    if let Node::Map(fields) = node {
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("day", Node::Text(day)) if is_day(day) && parts.0.is_none() => parts.0 = Some(day.as_str()),
                ("times", value) if parts.1.is_none() => parts.1 = factor(value),
                _ => is_understood = false,
            }
        }
    }
    if let ((Some(day), Some(times)), true) = (parts, is_understood)
        && let Some(start) = start_of(day)
    {
        return Some((day.into(), start, times));
    }
    let words = "write the day and the factor of 1 to 10 of all prices, e.g. `{day: \"2027-01-01\", times: \"2\"}`";
    problems.push(("change".into(), words.into()));
    None
}

/// Gives a row the price that follows it.
pub fn announce(price: &mut ModelPrice, change: Option<Change>) {
    let Some((day, start, times)) = change else { return };
    let scaled = |rates: &TierRates| {
        let by = |rates: &Rates| rates.scaled(times);
        TierRates { short: by(&rates.short), long: by(&rates.long) }
    };
    let mut next = price.clone();
    next.standard = scaled(&price.standard);
    next.tiers = price.tiers.iter().map(|(tier, rates)| (*tier, scaled(rates))).collect();
    (next.valid_from, next.valid_to) = (Some(day.clone()), price.valid_to.take());
    price.valid_to = Some(day);
    price.next = Some((start, Arc::new(next)));
}

//! One entry of the file: understood in full, or refused with the field that is not.

use std::fmt;

use super::decimal::{self, NotExact};
use super::grammar::{self, Price};
use super::row::Row;
use crate::money::Rate;
use crate::pricing::Tier;
use crate::wire::json::{Kind, Value};

/// Modes whose calls are billed by tokens on routes that are metered.
const MODES: [&str; 4] = ["chat", "completion", "responses", "embedding"];

/// Fields that say nothing about money, or nothing that a bound may count on.
const PLAIN: [&str; 20] = [
    "bedrock_output_config_effort_ceiling",
    "comment",
    "default_reasoning_effort",
    "litellm_provider",
    "metadata",
    "mode",
    "output_vector_size",
    "prompt_cache_min_tokens",
    "reasoning_effort_levels",
    "rpm",
    // Free quotas lower a bill, never raise it.
    "search_free_requests",
    "source",
    "supported_endpoints",
    "supported_output_modalities",
    "thinking_always_on",
    "token_count_framing",
    "token_count_model",
    "token_count_tokenizer",
    "tpm",
    "use_openai_responses_path",
];

/// Why an entry is not a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Of a mode whose routes are denied.
    Mode(String),
    /// It says no mode.
    NoMode,
    /// Hourly capacity.
    Commitment,
    /// A router: its fee comes on top of the model that it chooses.
    Router,
    /// Each call searches, and is billed for it beside its tokens.
    PerCall,
    /// It answers with sound.
    Speech,
    /// No input, or no output price per token.
    NoPrice(&'static str),
    /// A price of nothing.
    Zero(String),
    /// A price of another unit than tokens.
    Unit(String),
    /// A field that is not known.
    Unknown(String),
    /// A field with a value that cannot be.
    Value(String, String),
    /// A name that no request can have.
    Name,
    /// The same model as another entry, at other prices: neither is believed.
    Twin(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Mode(mode) => write!(f, "mode {mode}: its routes are denied"),
            Refusal::NoMode => f.write_str("no mode: nobody knows what it is billed by"),
            Refusal::Commitment => f.write_str("a commitment, billed by the hour"),
            Refusal::Router => f.write_str("a router: the price is only its fee, the chosen model comes on top"),
            Refusal::PerCall => f.write_str("searches on each call: fees that tokens do not bound"),
            Refusal::Speech => f.write_str("answers with sound"),
            Refusal::NoPrice(side) => write!(f, "no {side} price per token"),
            Refusal::Zero(field) => write!(f, "{field} is 0: calls would pass for nothing"),
            Refusal::Unit(field) => write!(f, "{field}: no meter counts that"),
            Refusal::Unknown(field) => write!(f, "the field {field} is not known"),
            Refusal::Value(field, why) => write!(f, "{field} {why}"),
            Refusal::Name => f.write_str("a name that no request can have"),
            Refusal::Twin(other) => write!(f, "the same model as {other}, at other prices"),
        }
    }
}

/// What an entry says beside its prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The most input tokens, where it says so.
    pub max_input: Option<u64>,
    /// The most output tokens.
    pub max_output: Option<u64>,
    /// An old name of one of the two.
    pub max_tokens: Option<u64>,
    /// It thinks.
    pub reasoning: bool,
    /// It takes sound.
    pub takes_audio: bool,
    /// Float noise was rounded away in some field.
    pub noise: bool,
}

/// Reads the fields of an entry into a row of that name.
pub fn read(id: String, entry: Value<'_>) -> Result<(Row, Facts), Refusal> {
    let mode = entry.get("mode").and_then(Value::as_str).ok_or(Refusal::NoMode)?;
    if !MODES.contains(&mode.as_ref()) {
        return Err(Refusal::Mode(mode.into_owned()));
    }
    let mut row = Row { id, embedding: mode == "embedding", ..Row::default() };
    row.tiers.entry(Tier::Standard).or_default();
    let mut facts = Facts::default();
    for (field, value) in entry.fields() {
        self::field(&mut row, &mut facts, &field, value)?;
    }
    Ok((row, facts))
}

fn field(row: &mut Row, facts: &mut Facts, field: &str, value: Value<'_>) -> Result<(), Refusal> {
    match field {
        "max_input_tokens" => facts.max_input = Some(count(field, value)?),
        "max_output_tokens" => facts.max_output = Some(count(field, value)?),
        "max_tokens" => facts.max_tokens = Some(count(field, value)?),
        "deprecation_date" => row.deprecation_date = Some(day(field, value)?),
        "supports_reasoning" => facts.reasoning = value.as_bool() == Some(true),
        "supported_modalities" => {
            facts.takes_audio = value.items().any(|item| item.as_str().as_deref() == Some("audio"))
        }
        "search_context_cost_per_query" => row.web_search = Some(searches(facts, field, value)?),
        "google_maps_grounding_cost_per_query" => row.maps = Some(usd(facts, field, value)?),
        "web_search_billing_unit" => match value.as_str().as_deref() {
            Some("per_query") => row.web_search_per_query = true,
            _ => return Err(Refusal::Value(field.into(), "is not `per_query`".into())),
        },
        "provider_specific_entry" => multipliers(row, field, value)?,
        "regional_processing_uplift_multiplier_us" => _ = row.multipliers.insert("us", factor(field, value)?),
        "regional_processing_uplift_multiplier_eu" => _ = row.multipliers.insert("eu", factor(field, value)?),
        _ if PLAIN.contains(&field) || is_ability(field) => {}
        _ => price(row, facts, field, value)?,
    }
    Ok(())
}

/// `supports_…`, `bedrock_converse_supports_…`: what a model can do. None of them is money.
fn is_ability(field: &str) -> bool {
    let words = ["cost", "price", "pricing", "uplift", "multiplier", "billing", "fee"];
    (field.starts_with("supports_") || field.starts_with("bedrock_converse_supports_"))
        && !field.split('_').any(|word| words.contains(&word))
}

fn price(row: &mut Row, facts: &mut Facts, field: &str, value: Value<'_>) -> Result<(), Refusal> {
    match grammar::price(field) {
        Some(Price::Token { meter, tier, above }) => {
            let rate = usd(facts, field, value)?;
            if rate == Rate::ZERO && row.embedding && meter.is_output() {
                return Ok(());
            }
            if rate == Rate::ZERO {
                return Err(Refusal::Zero(field.into()));
            }
            if above.is_some() && row.above.is_some_and(|known| Some(known) != above) {
                return Err(Refusal::Value(field.into(), "is a second long-context threshold".into()));
            }
            row.above = row.above.or(above);
            let prices = row.tiers.entry(tier).or_default();
            let meters = if above.is_some() { &mut prices.long } else { &mut prices.short };
            meters.insert(meter, rate);
            Ok(())
        }
        // Read, so that a value that is none is told; not used, since its route is denied.
        Some(Price::DeniedRoute) => usd(facts, field, value).map(|_| ()),
        None if field.contains("cost_per_") || field.contains("token_cost") => Err(Refusal::Unit(field.into())),
        None => Err(Refusal::Unknown(field.into())),
    }
}

fn usd(facts: &mut Facts, field: &str, value: Value<'_>) -> Result<Rate, Refusal> {
    let exact = match value.kind() {
        Kind::Number => decimal::usd(value.raw()),
        _ => Err(NotExact::Malformed),
    };
    let exact = exact.map_err(|why| Refusal::Value(field.into(), why.to_string()))?;
    facts.noise |= exact.noise;
    Ok(exact.rate)
}

fn searches(facts: &mut Facts, field: &str, value: Value<'_>) -> Result<[Rate; 3], Refusal> {
    let names = ["search_context_size_low", "search_context_size_medium", "search_context_size_high"];
    if value.fields().any(|(name, _)| !names.contains(&name.as_ref())) {
        return Err(Refusal::Value(field.into(), "has a context size that is not known".into()));
    }
    let mut prices = [Rate::ZERO; 3];
    for (price, name) in prices.iter_mut().zip(names) {
        let given = value.get(name).ok_or_else(|| Refusal::Value(field.into(), format!("lacks {name}")))?;
        *price = usd(facts, field, given)?;
    }
    Ok(prices)
}

fn multipliers(row: &mut Row, field: &str, value: Value<'_>) -> Result<(), Refusal> {
    for (name, value) in value.fields() {
        match name.as_ref() {
            "us" => _ = row.multipliers.insert("us", factor(field, value)?),
            "fast" => _ = row.multipliers.insert("fast", factor(field, value)?),
            // How the body of a request is laid out.
            "bedrock_invocation_schema" => {}
            _ => return Err(Refusal::Unknown(format!("{field}.{name}"))),
        }
    }
    Ok(())
}

/// A factor of 1 to 10 with at most three decimals, in the fewest digits.
fn factor(field: &str, value: Value<'_>) -> Result<String, Refusal> {
    let wrong = || Refusal::Value(field.into(), format!("{} is not a factor of 1 to 10", value.raw()));
    let rate = Rate::per_million(value.raw()).map_err(|_| wrong())?;
    let (one, thousandth) = (1_000_000_000, 1_000_000);
    let fits =
        value.kind() == Kind::Number && (one..=10 * one).contains(&rate.femto()) && rate.femto() % thousandth == 0;
    if fits { Ok(rate.to_per_million()) } else { Err(wrong()) }
}

/// A count of tokens, also where it is written as `4096.0`.
fn count(field: &str, value: Value<'_>) -> Result<u64, Refusal> {
    let raw = value.raw().strip_suffix(".0").unwrap_or(value.raw());
    let count = raw.parse::<u64>().ok().filter(|count| *count > 0 && value.kind() == Kind::Number);
    count.ok_or_else(|| Refusal::Value(field.into(), format!("{} is not a number of tokens", value.raw())))
}

fn day(field: &str, value: Value<'_>) -> Result<String, Refusal> {
    let text = value.as_str().unwrap_or_default();
    let day = text.parse::<jiff::civil::Date>().ok().filter(|day| day.to_string() == text);
    day.map(|day| day.to_string()).ok_or_else(|| Refusal::Value(field.into(), format!("{text} is not a day")))
}

//! What a request says, in its body or its headers, of tiers, latency and guardrails.

use http::HeaderMap;

use super::read::{self, denied, malformed};
use crate::pricing::{ModelPrice, Tier};
use crate::provider::reject::{self, Reject};
use crate::provider::{Fee, Reading};
use crate::wire::json::Value;

/// The name of the operator's flat price of a guardrail.
pub const GUARDRAIL: &str = "guardrail";

const TIER: &str = "x-amzn-bedrock-service-tier";
const LATENCY: &str = "x-amzn-bedrock-performanceconfig-latency";
const GUARDRAIL_ID: &str = "x-amzn-bedrock-guardrailidentifier";
const GUARDRAIL_VERSION: &str = "x-amzn-bedrock-guardrailversion";
const PROJECT: &str = "x-amzn-bedrock-projectidentifier";
/// Headers of Bedrock's that do nothing to the bill: metadata only marks the lines of the account's own log.
const FREE: [&str; 3] = ["x-amzn-bedrock-trace", "x-amzn-bedrock-accept", "x-amzn-bedrock-request-metadata"];

/// What was asked for beside the model's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The tier, if it is not the ordinary one.
    pub tier: Option<Tier>,
    /// The operator's flat price of the guardrail that the request names.
    pub guardrail: Option<Fee>,
}

/// Reads Bedrock's headers. Only `invoke` has any that mean something; `converse` says the same in its body.
pub fn headers(headers: &HeaderMap, is_invoke: bool, reading: &Reading<'_>) -> Result<Extras, Reject> {
    let mut extras = Extras::default();
    content_type(headers)?;
    for name in headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-amzn-bedrock-")) {
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(reject::ambiguous(format!("the header {name} was sent twice"), "send it once"));
        };
        let value = value.to_str().map_err(|_| malformed(name, "is not plain text"))?.trim();
        match name {
            TIER if is_invoke => extras.tier = tier(value, name)?,
            LATENCY if is_invoke => latency(value, name)?,
            GUARDRAIL_ID | GUARDRAIL_VERSION if is_invoke => extras.guardrail = Some(guardrail(name, reading)?),
            PROJECT if is_invoke => project(value, name)?,
            name if FREE.contains(&name) => {}
            PROJECT | TIER | LATENCY | GUARDRAIL_ID | GUARDRAIL_VERSION => {
                return Err(denied(name, "this route says it in the body, and only that is priced"));
            }
            name => return Err(denied(name, "not a header whose cost is known")),
        }
    }
    Ok(extras)
}

/// The body is read as JSON in UTF-8: nobody may be told that it is something else.
fn content_type(headers: &HeaderMap) -> Result<(), Reject> {
    for value in headers.get_all("content-type") {
        let is_json = value.to_str().is_ok_and(|value| {
            let mut parts = value.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
                && parts.all(|part| part.is_empty() || part.eq_ignore_ascii_case("charset=utf-8"))
        });
        if !is_json {
            return Err(malformed("content-type", "is not application/json"));
        }
    }
    Ok(())
}

/// The tier of `serviceTier`.
pub fn service_tier(value: Value<'_>) -> Result<Option<Tier>, Reject> {
    read::members(value, "serviceTier", &["type"])?;
    let name = value.get("type").and_then(Value::as_str);
    tier(name.as_deref().ok_or_else(|| malformed("serviceTier.type", "is not a string"))?, "serviceTier.type")
}

fn tier(name: &str, path: &str) -> Result<Option<Tier>, Reject> {
    match name {
        "default" => Ok(None),
        "flex" => Ok(Some(Tier::Flex)),
        "priority" => Ok(Some(Tier::Priority)),
        _ => {
            let message = format!("`{path}`: only default, flex and priority are billed by the token");
            Err(reject::unpriceable(message, "send \"default\", or leave it out"))
        }
    }
}

/// A tier that was asked for must have a price of its own.
pub fn check_tier(tier: Option<Tier>, model: &str, price: &ModelPrice) -> Result<Vec<Tier>, Reject> {
    let Some(tier) = tier else { return Ok(Vec::new()) };
    if price.tiers.iter().any(|(known, _)| *known == tier) {
        return Ok(vec![tier]);
    }
    let name = tier.name();
    let hint = format!(
        "send the request without a service tier, or add `{name}: {{input: …, output: …}}` to the price row {}",
        price.id
    );
    Err(Reject { code: "unpriced_model", message: format!("`{model}` has no price of the tier `{name}`"), hint })
}

/// `performanceConfig`.
pub fn performance(value: Value<'_>) -> Result<(), Reject> {
    read::members(value, "performanceConfig", &["latency"])?;
    match read::given(value, "latency").map(Value::as_str) {
        None => Ok(()),
        Some(name) => latency(name.as_deref().unwrap_or_default(), "performanceConfig.latency"),
    }
}

fn latency(name: &str, path: &str) -> Result<(), Reject> {
    if name == "standard" {
        Ok(())
    } else {
        Err(denied(path, "optimized latency has a price of its own, which is not known"))
    }
}

/// The account's own project is what is meant without one; another brings its own settings, and somebody else's bill.
pub fn project(name: &str, path: &str) -> Result<(), Reject> {
    if name == "default" { Ok(()) } else { Err(denied(path, "another project may have settings that cost more")) }
}

/// The operator's price of a guardrail.
pub fn guardrail(path: &str, reading: &Reading<'_>) -> Result<Fee, Reject> {
    reading.options.fees.get(GUARDRAIL).copied().ok_or_else(|| {
        let hint = format!(
            "send the request without a guardrail, or set its price for each text unit, and the most units of one request, in loopers.yaml: \
             providers.{}.fees: {{ {GUARDRAIL}: {{ usd: \"…\", calls: … }} }}",
            reading.provider
        );
        reject::unpriceable(format!("`{path}`: a guardrail is billed by the text unit and policy"), hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Money;
    use crate::pricing::PriceTable;
    use crate::provider::Options;

    #[test]
    fn headers_that_move_the_bill() {
        let prices = PriceTable::default();
        let mut options = Options::default();
        let read = |options: &Options, is_invoke: bool, pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.append(*name, value.parse().unwrap());
            }
            headers(&map, is_invoke, &Reading { provider: "bedrock", prices: &prices, options })
        };
        let tier = |name| read(&options, true, &[(TIER, name)]).map(|extras| extras.tier);
        assert_eq!(tier("default"), Ok(None));
        assert_eq!(tier("flex"), Ok(Some(Tier::Flex)));
        assert_eq!(tier("priority"), Ok(Some(Tier::Priority)));
        assert!(tier("reserved").is_err() && tier("Priority").is_err() && tier("").is_err());
        assert!(read(&options, false, &[(TIER, "default")]).is_err());
        assert!(read(&options, true, &[(TIER, "default"), (TIER, "flex")]).is_err());
        assert!(read(&options, true, &[(LATENCY, "standard"), ("x-amzn-bedrock-trace", "ENABLED")]).is_ok());
        assert!(read(&options, true, &[(LATENCY, "optimized")]).is_err());
        for is_invoke in [true, false] {
            let tags = ("x-amzn-bedrock-request-metadata", r#"{"team": "search", "environment": "test"}"#);
            assert_eq!(read(&options, is_invoke, &[tags]), Ok(Extras::default()));
            assert!(read(&options, is_invoke, &[tags, tags]).is_err());
        }
        assert!(read(&options, true, &[(PROJECT, "default")]).is_ok());
        assert!(read(&options, true, &[(PROJECT, "proj_1")]).is_err());
        assert!(read(&options, true, &[("x-amzn-bedrock-new", "1")]).is_err());
        assert!(
            read(&options, true, &[("accept", "*/*"), ("content-type", "application/json; charset=UTF-8")]).is_ok()
        );
        assert!(read(&options, true, &[("content-type", "application/json; charset=utf-16")]).is_err());
        assert!(read(&options, true, &[("content-type", "text/plain")]).is_err());
        let refused = read(&options, true, &[(GUARDRAIL_ID, "g")]).unwrap_err();
        assert!(refused.hint.contains("fees: { guardrail:"), "{refused:?}");
        let fee = Fee { usd: Money::from_nano(150_000), calls: 10 };
        options.fees.insert(GUARDRAIL.into(), fee);
        assert_eq!(
            read(&options, true, &[(GUARDRAIL_ID, "g"), (GUARDRAIL_VERSION, "1")]).unwrap().guardrail,
            Some(fee)
        );
        assert!(read(&options, false, &[(GUARDRAIL_ID, "g")]).is_err());
    }
}

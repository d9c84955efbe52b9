//! Which model a deployment runs, and what that costs where it runs.
//!
//! A request names a deployment, whose name says nothing; the operator says what it is. Price rows of a data zone are
//! `azure/us/gpt-5`, `azure/eu/…`, `azure/apac/…`; where there is none, the surcharge of data zones goes on the global row.

use crate::pricing::Terms;
use crate::provider::openai::profile::{Model, is_model_name};
use crate::provider::{Reading, Reject, reject};

/// What a data zone or a region costs more, in thousandths of the global price.
const ZONE: u64 = 1100;
/// The same for GPT-6 outside the United States, and where the zone is not known.
const ZONE_GPT_6: u64 = 1200;
/// Deployments that pick a model for each request: the price file has the router's fee only.
const ROUTER: &str = "model-router";

/// The model behind the deployment that a request names.
pub fn model(deployment: Option<&str>, reading: &Reading<'_>) -> Result<Model, Reject> {
    let Some(deployment) = deployment else {
        return Err(reject::invalid("`model` is missing or not a string", "name a deployment"));
    };
    if !is_model_name(deployment) {
        let message = "`model` is not a deployment's name: letters, digits and `._:/-` only";
        return Err(reject::invalid(message, "send the name as Azure lists it"));
    }
    let Some(mapped) = reading.options.deployments.get(deployment) else {
        return Err(unknown(deployment, reading));
    };
    let (zone, name) = mapped.rsplit_once('/').map_or((None, mapped.as_str()), |(zone, name)| (Some(zone), name));
    if name.starts_with(ROUTER) {
        let message = format!("`{deployment}` is a model router, whose model is not known beforehand");
        return Err(reject::unpriceable(message, "call a deployment of one model"));
    }
    let zone = zone.or(reading.options.region.as_deref()).filter(|zone| !zone.starts_with("global"));
    let row = |id: &str| reading.prices.for_model(reading.provider, id).cloned();
    let in_zone = zone.and_then(|zone| row(&format!("{zone}/{name}")));
    let (price, thousandths) = match (in_zone, zone) {
        (Some(price), _) => (price, 1000),
        (None, None) => (row(mapped).or_else(|| row(name)).ok_or_else(|| unpriced(mapped, reading))?, 1000),
        (None, Some(zone)) => (row(name).ok_or_else(|| unpriced(mapped, reading))?, surcharge(zone, name)),
    };
    Ok(Model { name: name.into(), price, terms: Terms { thousandths, ..Terms::default() } })
}

/// What a data zone or a region costs more than the global price, in thousandths of it.
pub fn surcharge(zone: &str, model: &str) -> u64 {
    if model.starts_with("gpt-6") && zone != "us" { ZONE_GPT_6 } else { ZONE }
}

fn unknown(deployment: &str, reading: &Reading<'_>) -> Reject {
    Reject {
        code: "unknown_model",
        message: format!("nobody said which model the deployment `{deployment}` runs"),
        hint: format!(
            "add it to providers.{}.deployments in loopers.yaml: `deployments: {{ {deployment}: gpt-5 }}`; \
             `us/gpt-5` where it runs in a data zone",
            reading.provider
        ),
    }
}

fn unpriced(mapped: &str, reading: &Reading<'_>) -> Reject {
    let reject = reject::no_price(reading.provider, mapped, reading.prices);
    Reject { code: "unpriced_model", ..reject }
}

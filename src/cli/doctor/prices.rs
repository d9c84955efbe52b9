//! Prices: there for everything that is configured, and not too old.

use std::collections::BTreeSet;

use super::report::Report;
use crate::clock::{Clock, rfc3339};
use crate::config::Settings;
use crate::pricing::PriceTable;
use crate::pricing::table::About;

/// Days after which somebody should compare prices with the provider's page.
const DAYS_FRESH: i32 = 60;
/// Names that a message lists.
const NAMES_MAX: usize = 4;

/// Looks at the prices of every configured provider.
pub fn examine(report: &mut Report, settings: &Settings) {
    let prices = &settings.prices;
    let priced = prices.providers();
    for (name, provider) in &settings.providers {
        if !priced.contains(name.as_str()) {
            let message =
                format!("no model of {name} has a price: every call to it is refused with 422 unpriced_model");
            let fix =
                format!("prices: [builtin, {name}.yaml]    (with a row {name}/MODEL for each model; docs/PRICES.md)");
            report.error("provider_without_prices", &format!("providers.{name}"), message, fix);
            continue;
        }
        for (deployment, model) in &provider.options.deployments {
            if !has_price(prices, name, model) {
                let field = format!("providers.{name}.deployments.{deployment}");
                let message = format!("`{model}` has no price: calls to {deployment} are refused");
                let fix =
                    format!("{deployment}: a model of `loopers prices show MODEL`, or a row {name}/{model} in prices");
                report.error("model_without_price", &field, message, fix);
            }
        }
        age(report, prices, name);
    }
    over(report, settings);
    if !report.has_errors() {
        let count = prices.iter().count();
        report.ok("prices", format!("prices of {count} models, {}", source(settings)));
    }
}

fn source(settings: &Settings) -> String {
    format!("version {}", settings.prices.version().get(..12).unwrap_or_default())
}

/// True when calls to a model can be priced, wherever it runs.
pub fn has_price(prices: &PriceTable, provider: &str, model: &str) -> bool {
    let bare = model.rsplit_once('/').map_or(model, |(_, name)| name);
    [model, bare].iter().any(|name| prices.for_model(provider, name).is_some())
}

fn age(report: &mut Report, prices: &PriceTable, provider: &str) {
    let Some(day) = prices.looked_at(provider) else { return };
    let today = rfc3339(Clock::System.now());
    let dates = (day.parse::<jiff::civil::Date>(), today.get(..10).unwrap_or_default().parse::<jiff::civil::Date>());
    let (Ok(then), Ok(now)) = dates else { return };
    let days = now.since(then).map_or(0, |span| span.get_days());
    if days > DAYS_FRESH {
        let message = format!("nobody has looked at the prices of {provider} since {day}, {days} days ago");
        let fix =
            "prices: [prices.yaml]    (made by `loopers prices import FILE --output prices.yaml`; docs/PRICES.md)";
        report.warning("prices_old", &format!("providers.{provider}"), message, fix);
    }
}

/// Prices whose time is over.
fn over(report: &mut Report, settings: &Settings) {
    let is_configured = |id: &str| id.split_once('/').is_some_and(|(name, _)| settings.providers.contains_key(name));
    let notices = settings.prices.notices(Clock::System.now());
    let over =
        notices.into_iter().filter(|notice| matches!(notice.about, About::NoLonger(_)) && is_configured(&notice.id));
    let ids: BTreeSet<String> = over.map(|notice| notice.id).collect();
    if ids.is_empty() {
        return;
    }
    let more = ids.len().saturating_sub(NAMES_MAX);
    let names: Vec<&str> = ids.iter().take(NAMES_MAX).map(String::as_str).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let message = format!("prices that no longer hold: {}{more}", names.join(", "));
    let fix = "correct `valid_to` in that row, or import the price file again; `loopers prices check` lists all";
    report.warning("prices_out_of_date", "prices", message, fix);
}

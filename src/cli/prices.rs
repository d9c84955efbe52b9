//! `prices show` and `prices check`.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::PricesCommand;
use super::output::{Failure, answer};
use super::service::settings;
use crate::config::Purpose;
use crate::pricing::{ModelPrice, PriceTable, Rates};

/// Runs one of the two.
pub fn run(config: Option<&Path>, command: &PricesCommand) -> Result<(), Failure> {
    let prices = settings(config, Purpose::Books)?.prices;
    match command {
        PricesCommand::Show { model, format } => show(&prices, model, format.json),
        PricesCommand::Check(format) => {
            let models = prices.iter().count();
            let report = json!({ "ok": true, "version": prices.version(), "models": models });
            answer(format.json, &report, |_| format!("ok: {models} models, version {}", short(&prices)))
        }
    }
}

/// The start of the table's version, enough to tell one from another.
pub fn short(prices: &PriceTable) -> &str {
    prices.version().get(..12).unwrap_or(prices.version())
}

fn show(prices: &PriceTable, model: &str, json: bool) -> Result<(), Failure> {
    let found = find(prices, model);
    if found.is_empty() {
        let near: Vec<String> =
            prices.iter().filter(|row| row.id.contains(model)).take(8).map(|row| row.id.to_string()).collect();
        let hint = if near.is_empty() {
            "`loopers prices check` counts the models there are".into()
        } else {
            format!("there is: {}", near.join(", "))
        };
        return Err(Failure::new(format!("no model `{model}` has a price"), hint));
    }
    let rows: Vec<Value> = found.iter().map(|row| row_json(row)).collect();
    answer(json, &rows, |_| {
        let texts: Vec<String> = found.iter().map(|row| PriceTable::explain(row)).collect();
        texts.join("\n")
    })
}

/// The rows that a name means: one of `provider/model`, or one for each provider that has the model.
fn find<'a>(prices: &'a PriceTable, model: &str) -> Vec<&'a Arc<ModelPrice>> {
    if let Some(row) = prices.get(model) {
        return vec![row];
    }
    if let Some((provider, name)) = model.split_once('/')
        && let Some(row) = prices.for_model(provider, name)
    {
        return vec![row];
    }
    prices.providers().into_iter().filter_map(|provider| prices.for_model(provider, model)).collect()
}

fn row_json(row: &ModelPrice) -> Value {
    json!({
        "id": &*row.id,
        "usd_per_million": rates(&row.standard.short),
        "usd_per_million_long": row.long_above.map(|_| rates(&row.standard.long)),
        "long_above": row.long_above,
        "context_window": row.context_window,
        "max_output": row.max_output,
        "valid_from": row.valid_from.as_deref(),
        "valid_to": row.valid_to.as_deref(),
        "source": &*row.source,
    })
}

fn rates(rates: &Rates) -> Value {
    json!({
        "input": rates.input.to_per_million(),
        "cache_read": rates.cache_read.to_per_million(),
        "cache_write_5m": rates.cache_write_5m.to_per_million(),
        "cache_write_1h": rates.cache_write_1h.to_per_million(),
        "audio_in": rates.audio_in.to_per_million(),
        "output": rates.output.to_per_million(),
        "reasoning": rates.reasoning.to_per_million(),
        "audio_out": rates.audio_out.to_per_million(),
    })
}

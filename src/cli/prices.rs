//! `prices import`, `prices show` and `prices check`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{ImportArgs, PricesCommand};
use super::output::{Failure, answer, print, say};
use super::service::settings;
use crate::clock::{Clock, rfc3339};
use crate::config::Purpose;
use crate::pricing::import::{Import, Origin, PROVIDERS, sha256};
use crate::pricing::{ModelPrice, PriceTable, Rates, Usage};

/// The most notices of one kind that are told one by one.
const NOTICES_MAX: usize = 12;

/// Runs one of the three.
pub fn run(config: Option<&Path>, command: &PricesCommand) -> Result<(), Failure> {
    match command {
        PricesCommand::Import(args) => import(args),
        PricesCommand::Show { model, input, output, format } => {
            let prices = settings(config, Purpose::Books)?.prices;
            show(&prices, model, &Usage { input: *input, output: *output, ..Usage::default() }, format.json)
        }
        PricesCommand::Check(format) => check(&settings(config, Purpose::Books)?.prices, format.json),
    }
}

/// The start of the table's version, enough to tell one from another.
pub fn short(prices: &PriceTable) -> &str {
    prices.version().get(..12).unwrap_or(prices.version())
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let file = args.file.display();
    let bytes = std::fs::read(&args.file).map_err(|error| Failure::new(format!("{file}: {error}"), WHERE))?;
    let text =
        std::str::from_utf8(&bytes).map_err(|error| Failure::new(format!("{file}: not UTF-8: {error}"), WHERE))?;
    let is_plain = !args.source.is_empty() && args.source.chars().all(|c| !c.is_control() && c != '"' && c != '\\');
    if !is_plain {
        return Err(Failure::new(
            "--source has a quote, a backslash or a control character",
            "write a name and a version",
        ));
    }
    let today = || rfc3339(Clock::System.now()).chars().take_while(|c| *c != 'T').collect();
    let day = args.date.map_or_else(today, |day| day.to_string());
    let origin = Origin { name: args.source.clone(), sha256: sha256(&bytes), day };
    let all = || PROVIDERS.iter().map(|(name, _)| *name).collect();
    let asked: Vec<&str> = args.providers.iter().map(String::as_str).collect();
    let providers: Vec<&str> = if asked.is_empty() { all() } else { asked };
    let import =
        Import::read(text, origin, &providers).map_err(|error| Failure::new(format!("{file}: {error}"), WHERE))?;
    let yaml = import.to_yaml();
    // What was made must be read as it will be when it is used.
    PriceTable::load(&[(args.output.clone().unwrap_or_else(|| "(import)".into()), yaml.clone())])
        .map_err(|errors| Failure { messages: errors.iter().map(ToString::to_string).collect(), hint: FAULT.into() })?;
    match &args.output {
        Some(path) if path.as_os_str() != "-" => {
            std::fs::write(path, &yaml).map_err(|error| Failure::new(format!("{}: {error}", path.display()), ""))?;
        }
        None if args.json => {}
        _ => print(&yaml),
    }
    report(&import, args.json)
}

const WHERE: &str = "take model_prices_and_context_window_backup.json out of the litellm package (docs/PRICES.md)";
const FAULT: &str = "entries of the file contradict each other: leave their provider out, or report it";

fn report(import: &Import, json: bool) -> Result<(), Failure> {
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (entry, refusal) in import.refused() {
        reasons.entry(refusal.to_string()).or_default().push(entry);
    }
    if json {
        let rules = import.corrected();
        let rules = rules.iter().map(|(name, why, rows)| json!({ "rule": name, "why": why, "rows": rows }));
        let report = json!({
            "entries": import.entries(),
            "rows": import.imported(),
            "refused": reasons,
            "corrections": rules.collect::<Vec<_>>(),
        });
        return answer(true, &report, |_| String::new());
    }
    say(&format!("{} entries, {} rows", import.entries(), import.imported().len()));
    for (name, why, rows) in import.corrected().iter().filter(|(_, _, rows)| !rows.is_empty()) {
        say(&format!("corrected {:4}  {name}: {why}", rows.len()));
    }
    for (reason, entries) in &reasons {
        say(&format!("left out  {:4}  {reason}", entries.len()));
    }
    Ok(())
}

fn check(prices: &PriceTable, json: bool) -> Result<(), Failure> {
    let models = prices.iter().count();
    let mut notices: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for notice in prices.notices(Clock::System.now()) {
        notices.entry(notice.about).or_default().push(notice.id);
    }
    let listed: Vec<Value> =
        notices.iter().map(|(about, rows)| json!({ "notice": about.to_string(), "models": rows })).collect();
    let report = json!({ "ok": true, "version": prices.version(), "models": models, "notices": listed });
    answer(json, &report, |_| {
        let mut text = format!("ok: {models} models, version {}", short(prices));
        for (about, rows) in &notices {
            let more = rows.len().saturating_sub(NOTICES_MAX);
            let names = rows.iter().take(NOTICES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if more == 0 { String::new() } else { format!(", and {more} more (--json lists them)") };
            text.push_str(&format!("\nnotice: {about}: {names}{more}"));
        }
        text
    })
}

fn show(prices: &PriceTable, model: &str, call: &Usage, json: bool) -> Result<(), Failure> {
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
    let rows: Vec<Value> = found.iter().map(|row| row_json(row, call)).collect();
    answer(json, &rows, |_| {
        let texts: Vec<String> = found.iter().map(|row| PriceTable::explain(row, call)).collect();
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

fn row_json(row: &ModelPrice, call: &Usage) -> Value {
    let call = if row.embedding { Usage { output: 0, ..*call } } else { *call };
    let tiers = row.all_tiers().map(|(tier, prices)| {
        let cost = row.cost(&call, tier).rounded_up();
        let long = row.long_above.map(|_| rates(&prices.long));
        let tier_json = json!({ "usd_per_million": rates(&prices.short), "usd_per_million_long": long, "call_usd": cost.to_string() });
        (tier.name().to_string(), tier_json)
    });
    let factors: BTreeMap<&str, String> =
        row.multipliers.iter().map(|(name, thousandths)| (&**name, times(*thousandths))).collect();
    let fee = |rate: crate::money::Rate| crate::money::ExactCost::ZERO.plus(1, rate).rounded_up().to_string();
    json!({
        "id": &*row.id,
        "call": { "input": call.input, "output": call.output },
        "usd_per_million": rates(&row.standard.short),
        "usd_per_million_long": row.long_above.map(|_| rates(&row.standard.long)),
        "tiers": tiers.collect::<serde_json::Map<_, _>>(),
        "long_above": row.long_above,
        "uplift": times(row.uplift_thousandths),
        "multipliers": factors,
        "fees_usd_per_call": {
            "web_search": row.fees.web_search.map(|sizes| sizes.map(fee)),
            "maps": row.fees.maps.map(fee),
            "per_query": row.fees.per_query,
        },
        "implicit_cache_writes": row.implicit_cache_writes,
        "hidden_output": row.hidden_output,
        "context_window": row.context_window,
        "max_output": row.max_output,
        "deprecation_date": row.deprecation_date.as_deref(),
        "valid_from": row.valid_from.as_deref(),
        "valid_to": row.valid_to.as_deref(),
        "next": row.next.as_ref().map(|(_, next)| row_json(next, &call)),
        "note": row.note.as_deref(),
        "source": &*row.source,
    })
}

fn times(thousandths: u64) -> String {
    crate::money::Rate::from_femto(u128::from(thousandths) * 1_000_000).to_per_million()
}

fn rates(rates: &Rates) -> Value {
    rates.named().into_iter().map(|(name, rate)| (name.to_string(), Value::String(rate.to_per_million()))).collect()
}

//! The tools of a response: those of the client, which cost tokens, and built-in ones, which cost a fee and passes of the model.

use crate::money::Money;
use crate::pricing::ModelPrice;
use crate::provider::openai::params::Beside;
use crate::provider::openai::profile::Api;
use crate::provider::{Fee, Reject, reject};
use crate::wire::json::Value;

/// A built-in tool: its types in a request, its name under `fees:`, and its fields beside `type`.
struct BuiltIn {
    kinds: &'static [&'static str],
    fee: &'static str,
    fields: &'static [&'static str],
}

const BUILT_IN: [BuiltIn; 4] = [
    BuiltIn {
        kinds: &["web_search", "web_search_2025_08_26"],
        fee: "web_search",
        fields: &["filters", "user_location", "search_context_size"],
    },
    BuiltIn {
        kinds: &["web_search_preview", "web_search_preview_2025_03_11"],
        fee: "web_search_preview",
        fields: &["user_location", "search_context_size"],
    },
    BuiltIn {
        kinds: &["file_search"],
        fee: "file_search",
        fields: &["vector_store_ids", "max_num_results", "ranking_options", "filters"],
    },
    BuiltIn { kinds: &["code_interpreter"], fee: "code_interpreter", fields: &["container"] },
];

/// Fields of tools that the client's own code runs.
const OWN: [(&str, &[&str]); 2] =
    [("function", &["name", "description", "parameters", "strict"]), ("custom", &["name", "description", "format"])];

/// The built-in tools of a request.
#[derive(Debug, Default)]
pub struct Tools {
    /// What a call of each costs, and how many of it are held for.
    pub held: Vec<(&'static str, Fee)>,
}

impl Tools {
    /// The most calls to ask the provider for; `None` where there are no built-in tools.
    pub fn calls(&self, asked: Option<u64>) -> Option<u64> {
        if self.held.is_empty() {
            return None;
        }
        let most = self.held.iter().fold(0, |sum: u64, (_, fee)| sum.saturating_add(fee.calls));
        Some(asked.unwrap_or(most).min(most))
    }

    /// What the price table knows of a call's price is never undercut.
    pub fn raise_to_listed(&mut self, price: &ModelPrice) {
        for (name, fee) in &mut self.held {
            fee.usd = fee.usd.max(price.listed_fee(name));
        }
    }

    /// What so many calls cost at most: each may be one of the dearest tool.
    pub fn fees_at_most(&self, calls: u64) -> Money {
        let dearest = self.held.iter().map(|(_, fee)| fee.usd.nano()).max().unwrap_or(0);
        Money::from_nano(dearest.saturating_mul(calls))
    }
}

/// Reads the tools.
pub fn read(value: Value<'_>, api: &Api<'_>, tools: &mut Tools, beside: &mut Beside) -> Result<(), Reject> {
    if !value.is_array() {
        return Err(reject::invalid("`tools` is not an array", "send an array of tools"));
    }
    beside.field(value);
    for (at, tool) in value.items().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
        beside.tools += 1;
        if let Some((_, fields)) = OWN.iter().find(|(known, _)| *known == kind) {
            only(tool, at, fields)?;
            beside.schema(tool.get("parameters"));
        } else if let Some(built_in) = BUILT_IN.iter().find(|known| known.kinds.contains(&kind.as_ref())) {
            only(tool, at, built_in.fields)?;
            read_container(tool, at)?;
            add(built_in.fee, at, api, tools)?;
        } else {
            let known: Vec<&str> = BUILT_IN.iter().map(|known| known.fee).collect();
            let message = format!(
                "`tools[{at}].type`: only `function` and `custom` can be held for, and with a fee {}",
                known.join(", ")
            );
            return Err(reject::unpriceable(message, "send tools that your own code runs"));
        }
    }
    Ok(())
}

fn only(tool: Value<'_>, at: usize, fields: &[&str]) -> Result<(), Reject> {
    // An optional field that is null is none; Mistral's SDK says of every function that it is not deferred.
    let is_known = |name: &str, value: Value<'_>| {
        name == "type"
            || fields.contains(&name)
            || value.is_null()
            || name == "defer_loading" && value.as_bool() == Some(false)
    };
    let Some((name, _)) = tool.fields().find(|(name, value)| !is_known(name, *value)) else { return Ok(()) };
    let message = format!("`tools[{at}].{}` is not a field whose cost is known", reject::printable(&name));
    Err(reject::unpriceable(message, format!("send only: type, {}", fields.join(", "))))
}

/// A container of the smallest size: larger ones cost a multiple.
fn read_container(tool: Value<'_>, at: usize) -> Result<(), Reject> {
    let Some(container) = tool.get("container").filter(|container| container.is_object()) else { return Ok(()) };
    let is_known = |key: &str| matches!(key, "type" | "file_ids");
    if container.fields().all(|(key, value)| is_known(&key) || value.is_null()) {
        return Ok(());
    }
    let message = format!("`tools[{at}].container`: only an automatic container of the smallest size is held for");
    Err(reject::unpriceable(message, "send {\"type\": \"auto\"}"))
}

/// A built-in tool is admitted for the fee that the operator sets.
fn add(name: &'static str, at: usize, api: &Api<'_>, tools: &mut Tools) -> Result<(), Reject> {
    let Some(fee) = api.reading.options.fees.get(name) else {
        let message = format!("`tools[{at}]`: a call of `{name}` is billed apart from tokens");
        let hint = format!(
            "leave the tool out, or add what a call costs to providers.{}.fees in loopers.yaml: `{name}: {{ usd: \"…\", calls: 5 }}`",
            api.reading.provider
        );
        return Err(reject::unpriceable(message, hint));
    };
    if !tools.held.iter().any(|(known, _)| *known == name) {
        tools.held.push((name, *fee));
    }
    Ok(())
}

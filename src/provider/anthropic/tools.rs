//! Tools: those that the client runs are text; those that the provider runs need a fee of the operator's.

use super::answer::{Facts, times};
use super::blocks::{Traits, unknown};
use super::bound::{NORMALISED_GROWTH_MAX, TOKENS_PER_TOOL, normalised_excess};
use crate::money::Money;
use crate::pricing::ModelPrice;
use crate::provider::{Reading, Reject, reject, schema};
use crate::wire::json::Value;

/// Tools of Anthropic's that the client runs, the most tokens of their definitions, and whether screenshots come with them.
/// Published: bash 325, editor 700, computer 4,590, browser 7,550; each is rounded up to a power of two.
const BUILT_IN: [(&str, u64, bool); 12] = [
    ("bash_20241022", 512, false),
    ("bash_20250124", 512, false),
    ("text_editor_20241022", 1024, false),
    ("text_editor_20250124", 1024, false),
    ("text_editor_20250429", 1024, false),
    ("text_editor_20250728", 1024, false),
    ("computer_20241022", 8192, true),
    ("computer_20250124", 8192, true),
    ("computer_20251124", 8192, true),
    ("computer_toolset_20260801", 8192, true),
    ("browser_toolset_20260801", 8192, true),
    ("custom", 0, false),
];
/// Tools that the provider runs, and that a fee admits: their types, and the fee's name.
const SERVER: [(&str, &str); 7] = [
    ("web_search_20250305", "web_search"),
    ("web_search_20260209", "web_search"),
    ("web_search_20260318", "web_search"),
    ("web_fetch_20250910", "web_fetch"),
    ("web_fetch_20260209", "web_fetch"),
    ("web_fetch_20260309", "web_fetch"),
    ("web_fetch_20260318", "web_fetch"),
];
/// Tools that no fee admits, by how their types begin, and why.
const DENIED: [(&str, &str); 5] = [
    ("code_execution", "containers are billed by the hour, which no answer counts"),
    ("advisor", "an advisor is another model, with its own price and no bound"),
    ("mcp_toolset", "the provider calls servers itself, and bills what they answer"),
    ("tool_search", "the provider samples the model again after each search, and its definitions are not in the body"),
    ("memory", "what its definition and its instructions add to the prompt is not published"),
];
/// Fields that tools may have.
const CLIENT_FIELDS: [&str; 17] = [
    "type",
    "name",
    "description",
    "input_schema",
    "cache_control",
    "strict",
    "defer_loading",
    "eager_input_streaming",
    "input_examples",
    "allowed_callers",
    "max_characters",
    "display_width_px",
    "display_height_px",
    "display_number",
    "enable_zoom",
    "configs",
    "default_config",
];
const SERVER_FIELDS: [&str; 15] = [
    "type",
    "name",
    "cache_control",
    "strict",
    "defer_loading",
    "allowed_callers",
    "allowed_domains",
    "blocked_domains",
    "max_uses",
    "user_location",
    "response_inclusion",
    "max_content_tokens",
    "citations",
    "use_cache",
    "url_sources",
];

/// What all tools together add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Input tokens beside the bytes of the body.
    pub tokens: u64,
    /// What expanded references of schemas add; `None` when that has no bound.
    pub expansion: Option<u64>,
    /// The largest definition, in bytes, normalised or not.
    pub largest: u64,
    /// Screenshots may come with a tool.
    pub has_screenshots: bool,
    /// A call of one may be shown only once a whole value of its input is written, and is billed until then without being seen.
    pub hides_input: bool,
    /// The provider runs one, and samples the model again with what it found.
    pub has_server: bool,
    /// What the tools that the provider runs may cost beside tokens.
    pub fees: Money,
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            tokens: 0,
            expansion: Some(0),
            largest: 0,
            has_screenshots: false,
            hides_input: false,
            has_server: false,
            fees: Money::ZERO,
        }
    }
}

impl Tools {
    /// Reads `tools`.
    pub fn read(
        value: Value<'_>,
        traits: &mut Traits,
        facts: &mut Facts,
        price: &ModelPrice,
        reading: &Reading<'_>,
    ) -> Result<Tools, Reject> {
        let mut tools = Tools::default();
        if value.is_null() {
            return Ok(tools);
        }
        if !value.is_array() {
            return Err(reject::invalid("`tools` is not an array", "send an array of tools"));
        }
        for (at, tool) in value.items().enumerate() {
            let path = format!("tools[{at}]");
            if !tool.is_object() {
                return Err(reject::invalid(format!("`{path}` is not an object"), "send a tool"));
            }
            tools.tokens = tools.tokens.saturating_add(TOKENS_PER_TOOL);
            let size = (tool.raw().len() as u64).saturating_add(normalised_excess(tool));
            tools.largest = tools.largest.max(size);
            tools.hides_input |= tool.get("eager_input_streaming").and_then(Value::as_bool) != Some(true);
            tools.one(tool, &path, traits, facts, price, reading)?;
        }
        Ok(tools)
    }

    fn one(
        &mut self,
        tool: Value<'_>,
        path: &str,
        traits: &mut Traits,
        facts: &mut Facts,
        price: &ModelPrice,
        reading: &Reading<'_>,
    ) -> Result<(), Reject> {
        let kind = match tool.get("type") {
            None => "custom".into(),
            Some(kind) if kind.is_null() => "custom".into(),
            Some(kind) => kind.as_str().unwrap_or_default(),
        };
        if let Some((_, why)) = DENIED.iter().find(|(start, _)| kind.starts_with(start)) {
            let message = format!("`{path}` of type {}: {why}", reject::printable(&kind));
            return Err(reject::unpriceable(message, "send tools that your own code runs"));
        }
        let fields = if let Some((_, tokens, has_screenshots)) = BUILT_IN.iter().find(|(name, ..)| *name == kind) {
            self.tokens = self.tokens.saturating_add(*tokens);
            self.has_screenshots |= has_screenshots;
            &CLIENT_FIELDS[..]
        } else if let Some((_, fee)) = SERVER.iter().find(|(name, _)| *name == kind) {
            self.server(tool, path, fee, facts, price, reading)?;
            &SERVER_FIELDS[..]
        } else {
            let message = format!("`{path}.type`: `{}` is not a tool whose cost is known", reject::printable(&kind));
            return Err(reject::unpriceable(
                message,
                "send it as a tool of your own: `name`, `description`, `input_schema`",
            ));
        };
        for (key, value) in tool.fields() {
            match key.as_ref() {
                "cache_control" => traits.cache(value, &format!("{path}."))?,
                "allowed_callers" if !is_direct(value) => {
                    let message = format!(
                        "`{path}.allowed_callers`: code that calls tools runs in containers, which are billed by the hour"
                    );
                    return Err(reject::unpriceable(message, "send [\"direct\"], or leave it out"));
                }
                "input_schema" => self.expand(value),
                name if fields.contains(&name) || reading.admits(name) => {}
                name => return Err(unknown(path, name, reading)),
            }
        }
        Ok(())
    }

    /// A tool that the provider runs: as often as the operator's fee holds for, and not more.
    fn server(
        &mut self,
        tool: Value<'_>,
        path: &str,
        name: &str,
        facts: &mut Facts,
        price: &ModelPrice,
        reading: &Reading<'_>,
    ) -> Result<(), Reject> {
        let Some(fee) = reading.options.fees.get(name) else {
            let hint = format!(
                "an operator can admit it in loopers.yaml: `providers.{}.fees: {{ {name}: {{ usd: \"0.01\", calls: 5 }} }}`",
                reading.provider
            );
            let message = format!("`{path}`: the provider runs {name}, and bills its uses and what they find");
            return Err(reject::unpriceable(message, hint));
        };
        let uses = tool.get("max_uses").and_then(Value::as_u64).filter(|uses| (1..=fee.calls).contains(uses));
        let Some(uses) = uses else {
            let message =
                format!("`{path}.max_uses` is not a whole number from 1 to {}, the uses that are held for", fee.calls);
            return Err(reject::unpriceable(message, format!("send `max_uses`: {}", fee.calls)));
        };
        // What the operator says is not below what the price table knows.
        let each = fee.usd.max(price.listed_fee(name));
        let known = if name == "web_search" { &mut facts.web_search } else { &mut facts.web_fetch };
        *known = each;
        self.has_server = true;
        self.fees = self.fees.saturating_add(times(each, uses));
        Ok(())
    }

    /// Takes a schema, which may be written out with all its references.
    pub fn expand(&mut self, schema: Value<'_>) {
        let growth = if normalised_excess(schema) > 0 { NORMALISED_GROWTH_MAX } else { 1 };
        let added = schema::expansion(schema).and_then(|bytes| bytes.checked_mul(growth));
        self.expansion = self.expansion.and_then(|sum| sum.checked_add(added?));
    }
}

/// True when only the model itself calls the tool.
fn is_direct(value: Value<'_>) -> bool {
    value.is_null() || value.is_array() && value.items().all(|caller| caller.as_str().as_deref() == Some("direct"))
}

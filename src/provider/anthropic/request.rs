//! A Messages request, read and bounded.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::answer::{Facts, product};
use super::blocks::{Traits, unknown};
use super::bound::{PASSES_MAX, TOKENS_PER_REQUEST, normalised_excess};
use super::tools::Tools;
use super::{MODEL_BYTES_MAX, betas, fields};
use crate::pricing::{ModelPrice, Terms};
use crate::provider::fields::{Rule, rule};
use crate::provider::{Call, CallBody, Reading, Reject, reject};
use crate::wire::json::{Document, Value};

/// The largest limit that every JSON reader takes for the same number.
const LIMIT_MAX: u64 = 1 << 53;
/// A clamp does not go below this many output tokens, unless the request itself does.
const CLAMP_MIN: u64 = 16;
/// Families that always think, whatever they are told.
const ALWAYS_THINKING: [&str; 4] = ["claude-fable-5", "claude-mythos-5", "claude-opus-5-5", "claude-sonnet-5-5"];

/// Generations that think only when they are told to.
const THINKING_ON_REQUEST: [&str; 2] = ["-4-5", "-4-6"];

/// Whose form of the request body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Anthropic's own.
    Own,
    /// Another cloud's: without model, stream, tier and region.
    #[allow(dead_code)] // for Claude on Bedrock
    Cloud,
}

/// What a request body asks for, bounded. Counts are tokens.
pub(crate) struct Asked {
    /// True when the body asks for a stream.
    pub(crate) stream: bool,
    /// How often the model may be sampled; each sample may have the whole output.
    pub(crate) samples: u64,
    /// The most input of one pass.
    pub(crate) input_max: u64,
    /// The most output of one pass, and the least that a clamp may set.
    pub(crate) output_max: u64,
    pub(crate) output_min: u64,
    /// True when nothing that is billed is hidden from a stream.
    pub(crate) is_visible: bool,
    /// What else may be billed.
    pub(crate) terms: Terms,
    /// What the reader of the answer must know.
    pub(crate) facts: Facts,
    /// Top-level fields that must be sent as they are here, beside `max_tokens`.
    pub(crate) forced: Vec<(&'static str, &'static str)>,
}

/// Reads and bounds a request to Anthropic.
pub fn read(body: Bytes, headers: &HeaderMap, reading: &Reading<'_>) -> Result<Call, Reject> {
    let document = Document::parse(body).map_err(|e| reject::unreadable(&e))?;
    let (model, price) = model(document.root().get("model"), reading)?;
    betas::check_headers(headers, &price, reading)?;
    let asked = ask(&document, &price, reading, Form::Own)?;
    Ok(Call {
        model,
        stream: asked.stream,
        shows_usage: true,
        samples: asked.samples,
        input_max: asked.input_max,
        output_max: asked.output_max,
        output_min: asked.output_min,
        cuttable: asked.stream && asked.is_visible,
        price,
        terms: asked.terms,
        body: Box::new(Messages { document, forced: asked.forced, facts: asked.facts }),
    })
}

/// The model that a request names, and its row of the price table.
fn model(value: Option<Value<'_>>, reading: &Reading<'_>) -> Result<(Arc<str>, Arc<ModelPrice>), Reject> {
    let Some(name) = value.and_then(Value::as_str) else {
        return Err(reject::invalid("`model` is missing or not a string", "name a model, e.g. \"claude-haiku-4-5\""));
    };
    if let Some(price) = reading.prices.for_model(reading.provider, &name) {
        return Ok((name.as_ref().into(), price.clone()));
    }
    let is_name = !name.is_empty()
        && name.len() <= MODEL_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@/-".contains(&b));
    if !is_name {
        let message = "`model` is not a model name: letters, digits and `._:@/-` only";
        return Err(reject::invalid(message, "send the name as the provider lists it"));
    }
    Err(reject::no_price(reading.provider, &name, reading.prices))
}

/// Reads a body of Claude's and bounds what it asks of a model with this price.
pub(crate) fn ask(document: &Document, price: &ModelPrice, reading: &Reading<'_>, form: Form) -> Result<Asked, Reject> {
    let root = document.root();
    if !root.is_object() {
        let hint = "send an object with `model`, `max_tokens` and `messages`";
        return Err(reject::invalid("the body is not a JSON object", hint));
    }
    let known = if form == Form::Own { fields::MESSAGES } else { fields::CLOUD_BODY };
    let mut parts = Parts::new(price, reading);
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        if rule(reading, (key, value), &name, known)? == Some(Rule::Read) {
            parts.field(&name, value)?;
        }
    }
    parts.bound(document, form)
}

/// What the top-level fields say.
struct Parts<'a> {
    price: &'a ModelPrice,
    reading: &'a Reading<'a>,
    traits: Traits,
    tools: Tools,
    facts: Facts,
    stream: bool,
    max_tokens: Option<u64>,
    /// The thinking that must fit below `max_tokens`.
    budget: u64,
    /// Whether the request says that something may be thought.
    thinks: Option<bool>,
    geo: Option<u64>,
    speed: u64,
}

impl<'a> Parts<'a> {
    fn new(price: &'a ModelPrice, reading: &'a Reading<'a>) -> Self {
        Parts {
            price,
            reading,
            traits: Traits::default(),
            tools: Tools::default(),
            facts: Facts::of(price),
            stream: false,
            max_tokens: None,
            budget: 0,
            thinks: None,
            geo: None,
            speed: 1000,
        }
    }

    fn field(&mut self, name: &str, value: Value<'_>) -> Result<(), Reject> {
        let reading = self.reading;
        match name {
            "messages" => return self.traits.messages(value, reading),
            "max_tokens" => {
                let limit = value.as_u64().filter(|&limit| limit <= LIMIT_MAX);
                let refuse = || reject::invalid("`max_tokens` is not a whole number of at least 0", "send e.g. 1024");
                self.max_tokens = Some(limit.ok_or_else(refuse)?);
                return Ok(());
            }
            _ if value.is_null() => return Ok(()),
            _ => {}
        }
        match name {
            "system" => self.traits.system(value, reading)?,
            "cache_control" => self.traits.cache(value, "")?,
            "stream" => {
                self.stream = value
                    .as_bool()
                    .ok_or_else(|| reject::invalid("`stream` is not true or false", "send true or false"))?
            }
            "tools" => {
                // Schemas of formats may have come before.
                let before = std::mem::take(&mut self.tools.expansion);
                self.tools = Tools::read(value, &mut self.traits, &mut self.facts, self.price, reading)?;
                self.tools.expansion = self.tools.expansion.and_then(|sum| sum.checked_add(before?));
            }
            "thinking" => self.thinking(value)?,
            // Sent as `standard_only` in any case: `auto` may use a capacity that has its own bill.
            "service_tier" if !matches!(value.as_str().as_deref(), Some("auto" | "standard_only")) => {
                let message = "`service_tier`: only `standard_only` and `auto` are held for";
                return Err(reject::unpriceable(message, "send \"standard_only\", or leave it out"));
            }
            "speed" => self.speed(value)?,
            "inference_geo" => self.geo(value)?,
            "output_config" => self.output_config(value)?,
            "output_format" => self.format(value)?,
            "context_management" => context_management(value)?,
            "anthropic_beta" => self.betas(value)?,
            _ => {}
        }
        Ok(())
    }

    fn thinking(&mut self, value: Value<'_>) -> Result<(), Reject> {
        let kind = value.get("type").and_then(Value::as_str);
        for (key, field) in value.fields() {
            match key.as_ref() {
                "type" | "display" | "block_binding" => {}
                "budget_tokens" if field.is_null() => {}
                "budget_tokens" => {
                    let budget = field.as_u64().filter(|&budget| budget <= LIMIT_MAX).ok_or_else(|| {
                        reject::invalid("`thinking.budget_tokens` is not a whole number", "send e.g. 2048")
                    })?;
                    self.budget = budget;
                }
                other if self.reading.admits(other) => {}
                other => return Err(unknown("thinking", other, self.reading)),
            }
        }
        match kind.as_deref() {
            Some("disabled") => self.thinks = Some(false),
            Some("enabled" | "adaptive" | "between_tools") => self.thinks = Some(true),
            _ => {
                let message = "`thinking.type` is none of enabled, adaptive, between_tools, disabled";
                return Err(reject::unpriceable(message, "send one of them, or leave the field out"));
            }
        }
        Ok(())
    }

    /// Fast mode multiplies every rate.
    fn speed(&mut self, value: Value<'_>) -> Result<(), Reject> {
        match value.as_str().as_deref() {
            Some("standard") => Ok(()),
            Some("fast") => {
                self.speed = self.price.multiplier("fast").ok_or_else(|| Reject {
                    code: "unpriced_model",
                    message: format!("`speed`: `{}` has no price for fast mode", self.price.id),
                    hint: format!("send \"standard\", or add to a file of `prices:` in loopers.yaml, to the row {}:\n  multipliers: {{fast: \"2\"}}", self.price.id),
                })?;
                Ok(())
            }
            _ => {
                Err(reject::unpriceable("`speed`: only `standard` and `fast` have a known price", "send \"standard\""))
            }
        }
    }

    /// A region may cost more; without one, a setting of the workspace decides, and the dearer one is held for.
    fn geo(&mut self, value: Value<'_>) -> Result<(), Reject> {
        match value.as_str().as_deref() {
            Some("global") => self.geo = Some(1000),
            Some("us") => self.geo = Some(self.facts.us),
            _ => {
                let message = "`inference_geo`: only `global` and `us` have a known price";
                return Err(reject::unpriceable(message, "send \"global\", or leave it out"));
            }
        }
        Ok(())
    }

    fn output_config(&mut self, value: Value<'_>) -> Result<(), Reject> {
        if !value.is_object() {
            return Err(reject::invalid("`output_config` is not an object", "send e.g. {\"effort\": \"low\"}"));
        }
        for (key, value) in value.fields() {
            match key.as_ref() {
                "effort" | "task_budget" => {}
                "format" => self.format(value)?,
                other if self.reading.admits(other) => {}
                other => return Err(unknown("output_config", other, self.reading)),
            }
        }
        Ok(())
    }

    /// A format of the answer: its schema may be written out in the prompt.
    fn format(&mut self, value: Value<'_>) -> Result<(), Reject> {
        if value.is_null() {
            return Ok(());
        }
        if value.get("type").and_then(Value::as_str).as_deref() != Some("json_schema") {
            let message = "a format whose `type` is not json_schema has no known cost";
            return Err(reject::unpriceable(message, "send {\"type\": \"json_schema\", \"schema\": …}"));
        }
        self.tools.expand(value);
        Ok(())
    }

    fn betas(&mut self, value: Value<'_>) -> Result<(), Reject> {
        let invalid = || reject::invalid("`anthropic_beta` is not an array of strings", "send an array of strings");
        if !value.is_array() {
            return Err(invalid());
        }
        for name in value.items() {
            betas::check(name.as_str().ok_or_else(invalid)?.trim(), self.price, self.reading)?;
        }
        Ok(())
    }

    /// The bound of it all.
    fn bound(mut self, document: &Document, form: Form) -> Result<Asked, Reject> {
        let Some(max_tokens) = self.max_tokens else {
            return Err(reject::invalid("`max_tokens` is missing", "send the most output tokens, e.g. 1024"));
        };
        if self.traits.messages == 0 {
            return Err(reject::invalid("`messages` is missing", "send at least one message"));
        }
        let input_max = self.input_max(document);
        let output_max = max_tokens.min(self.price.context_window);
        let passes = if self.tools.has_server { PASSES_MAX } else { 1 };
        self.facts.silent_geo = match form {
            Form::Own => self.geo.unwrap_or(self.facts.silent_geo),
            Form::Cloud => 1000,
        };
        self.facts.silent_speed = self.speed;
        self.facts.writes_hour = self.traits.writes_1h;
        Ok(Asked {
            stream: self.stream,
            samples: passes,
            input_max,
            output_max,
            // A limit must stay above the thinking it has to hold, or the API refuses the call.
            output_min: output_max.min(self.budget.saturating_add(CLAMP_MIN)),
            is_visible: self.is_visible(),
            terms: Terms {
                cache_write_5m: self.traits.writes_5m,
                cache_write_1h: self.traits.writes_1h,
                thousandths: product(self.facts.silent_geo, self.speed),
                passes,
                fees: self.tools.fees,
                ..Terms::default()
            },
            facts: self.facts,
            forced: if form == Form::Own { vec![("service_tier", "\"standard_only\"")] } else { Vec::new() },
        })
    }

    /// The most input tokens of one pass: every byte could be one, and nothing exceeds the context window.
    fn input_max(&self, document: &Document) -> u64 {
        let window = self.price.context_window;
        let (false, false, Some(expansion)) = (self.traits.fills_window, self.tools.has_server, self.tools.expansion)
        else {
            return window;
        };
        (document.len() as u64)
            .saturating_sub(self.traits.image_bytes)
            .saturating_add(normalised_excess(document.root()))
            .saturating_add(expansion)
            .saturating_add(self.traits.tokens(self.tools.has_screenshots))
            .saturating_add(self.tools.tokens)
            .saturating_add(self.traits.tool_references.saturating_mul(self.tools.largest))
            .saturating_add(TOKENS_PER_REQUEST)
            .min(window)
    }

    /// True when all that is billed can be seen as it streams: no thinking, no passes between, no input of tools held back.
    fn is_visible(&self) -> bool {
        let model = self.price.id.rsplit('/').next().unwrap_or_default();
        let is_of = |names: &[&str]| names.iter().any(|name| model.contains(name));
        let thinks = self.thinks.unwrap_or(self.price.hidden_output && !is_of(&THINKING_ON_REQUEST));
        !(thinks
            || is_of(&ALWAYS_THINKING)
            || self.tools.has_server
            || self.tools.hides_input
            || self.traits.fills_window)
    }
}

/// Only edits that take something out of the prompt run nothing.
fn context_management(value: Value<'_>) -> Result<(), Reject> {
    let is_known = |edit: Value<'_>| {
        let kind = edit.get("type").and_then(Value::as_str);
        matches!(kind.as_deref(), Some("clear_tool_uses_20250919" | "clear_thinking_20251015"))
    };
    let has_others = value.fields().any(|(key, edits)| key != "edits" || !edits.is_null() && !edits.is_array());
    if !value.is_object() || has_others || !value.get("edits").into_iter().flat_map(Value::items).all(is_known) {
        let message = "`context_management`: only clear_tool_uses_20250919 and clear_thinking_20251015 run nothing; compaction runs \
                       the model beyond `max_tokens`";
        return Err(reject::unpriceable(message, "send only these edits"));
    }
    Ok(())
}

/// A request to Anthropic, as it is forwarded.
struct Messages {
    document: Document,
    forced: Vec<(&'static str, &'static str)>,
    facts: Facts,
}

impl CallBody for Messages {
    /// No tokenizer is public.
    fn exact_input(&self) -> Option<u64> {
        None
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let limit = output_limit.map(|limit| limit.to_string());
        let mut changes: Vec<(&str, Option<&str>)> =
            self.forced.iter().map(|(name, value)| (*name, Some(*value))).collect();
        if let Some(limit) = &limit {
            changes.push(("max_tokens", Some(limit)));
        }
        self.document.render(&changes)
    }

    fn facts(&self) -> Option<&dyn Any> {
        Some(&self.facts)
    }
}

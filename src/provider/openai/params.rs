//! Parameters that several requests of the family share.

use super::profile::{Api, Tiers};
use crate::pricing::{ModelPrice, Tier};
use crate::provider::{Reject, nfkc, reject, schema};
use crate::wire::json::{Document, Value};

/// Tokens that a request may add beyond its messages and tools: priming, and what tools and formats say around themselves.
pub const TOKENS_PER_REQUEST: u64 = 1024;
/// Tokens around the definition of one tool.
const TOKENS_PER_TOOL: u64 = 64;
/// The most samples that an API makes.
pub const SAMPLES_MAX: u64 = 128;
/// The largest limit that every JSON reader takes for the same number.
const LIMIT_MAX: u64 = 1 << 53;
/// A clamp does not go below this many output tokens, unless the request itself does.
pub const CLAMP_MIN: u64 = 16;

/// What happens to a field on its way to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it came.
    Keep,
    /// It gets this JSON text.
    Set(&'static str),
    /// It is left out.
    Remove,
}

impl Change {
    /// Adds itself to the changes of a body.
    pub fn push<'a>(self, field: &'a str, changes: &mut Vec<(&'a str, Option<&'a str>)>) {
        match self {
            Change::Keep => {}
            Change::Set(text) => changes.push((field, Some(text))),
            Change::Remove => changes.push((field, None)),
        }
    }
}

/// What may stand in the prompt beside messages and inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Tools that are defined.
    pub tools: u64,
    /// What expanded references add.
    expansion: u64,
    /// True when references have no end, or cannot be followed.
    pub is_endless: bool,
    /// Bytes of the fields.
    pub bytes: u64,
}

impl Beside {
    /// Takes a field that may be in the prompt.
    pub fn field(&mut self, value: Value<'_>) {
        self.bytes = self.bytes.saturating_add(value.raw().len() as u64);
    }

    /// Takes a schema whose references the provider may write out. Its bytes are counted with its field.
    pub fn schema(&mut self, schema: Option<Value<'_>>) {
        match schema.map_or(Some(0), schema::expansion) {
            Some(added) => self.expansion = self.expansion.saturating_add(added),
            None => self.is_endless = true,
        }
    }

    /// The most input tokens of a body with so many messages: every byte of it could be one. `None`: no bound but the window.
    pub fn input_bound(&self, document: &Document, messages: u64, per_message: u64, price: &ModelPrice) -> Option<u64> {
        // A tokenizer that nobody knows may normalise the text, and then written-out references once more each time.
        let growth = if price.tokenizer.is_some() { 0 } else { nfkc::growth(document.root()) };
        if self.is_endless || (growth > 0 && self.expansion > 0) {
            return None;
        }
        let bytes = (document.len() as u64).saturating_add(growth).saturating_add(self.expansion);
        Some(bytes.saturating_add(messages.saturating_mul(per_message)).saturating_add(self.frames()))
    }

    /// The tokens of all this for an exact count of the rest: still by bytes.
    pub fn tokens(&self) -> u64 {
        self.bytes.saturating_add(self.expansion).saturating_add(self.frames())
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.tools == 0
    }

    fn frames(&self) -> u64 {
        self.tools.saturating_mul(TOKENS_PER_TOOL).saturating_add(TOKENS_PER_REQUEST)
    }
}

/// How many input tokens cost at least as much as one output token, long prompts included: what is billed as output but is not
/// within the output limit is held for as so much more input.
pub fn output_per_input(price: &ModelPrice, terms: &crate::pricing::Terms) -> u64 {
    let input = price.worst_input_rate(terms, 0).femto().max(1);
    let output = price.worst_output_rate(terms, price.context_window).femto();
    u64::try_from(output.div_ceil(input)).unwrap_or(u64::MAX)
}

/// The tiers beside the ordinary one that a request may be billed in, since nothing can be said of the tier: a version of the API that does
/// not know the field would answer 400 to it, and the deployment's own setting decides.
pub fn open_tiers(api: &Api<'_>, tier: Option<Value<'_>>, price: &ModelPrice) -> Vec<Tier> {
    let is_said = api.knows.service_tier || tier.is_some_and(|tier| !tier.is_null());
    let may_be = |tier: Tier| tier == Tier::Priority && !is_said && !api.reading.options.no_service_tier;
    price.tiers.iter().map(|(tier, _)| *tier).filter(|tier| may_be(*tier)).collect()
}

/// What becomes of `service_tier`: it is forced to the ordinary tier, since the provider's own default may follow a setting of the
/// account that costs double. See [`open_tiers`] for where it is not.
pub fn tier(api: &Api<'_>, tier: Option<Value<'_>>, price: &ModelPrice) -> Result<Change, Reject> {
    let named =
        match tier.filter(|tier| !tier.is_null()) {
            None => None,
            Some(tier) => Some(tier.as_str().ok_or_else(|| {
                reject::invalid("`service_tier` is not a string", "send \"default\", or leave it out")
            })?),
        };
    if api.reading.options.no_service_tier {
        return match named.as_deref() {
            None | Some("auto" | "default") => Ok(if tier.is_some() { Change::Remove } else { Change::Keep }),
            Some(_) => Err(reject::unpriceable(
                format!("`service_tier`: providers.{}.service_tier says that there are none", api.reading.provider),
                "leave it out",
            )),
        };
    }
    match (api.profile.tiers, named.as_deref()) {
        (Tiers::Default, None) if !api.knows.service_tier => {
            Ok(if tier.is_some() { Change::Remove } else { Change::Keep })
        }
        (Tiers::Default, Some("default")) | (Tiers::StandardOnly, Some("standard_only") | None) => Ok(Change::Keep),
        (Tiers::Default, None | Some("auto")) => Ok(Change::Set("\"default\"")),
        (Tiers::StandardOnly, Some("auto")) => Ok(Change::Set("\"standard_only\"")),
        // Held at standard prices, which are never below flex (the price table sees to it); settled by the tier that answers.
        (Tiers::Default, Some("flex")) => {
            let has_price = price.tiers.iter().any(|(tier, _)| *tier == Tier::Flex);
            Ok(if has_price { Change::Keep } else { Change::Set("\"default\"") })
        }
        (tiers, Some(_)) => {
            let known = match tiers {
                Tiers::Default => "`default`, `auto` and `flex`",
                Tiers::StandardOnly => "`auto` and `standard_only`",
            };
            let message = format!("`service_tier`: only {known} are held for; other tiers cost a multiple");
            Err(reject::unpriceable(message, "leave it out"))
        }
    }
}

/// An output limit of at least `least`.
pub fn limit(name: &str, value: Value<'_>, least: u64) -> Result<u64, Reject> {
    match value.as_u64() {
        Some(limit) if (least..=LIMIT_MAX).contains(&limit) => Ok(limit),
        _ => Err(reject::invalid(
            format!("`{name}` is not a whole number of at least {least}"),
            "send a number of tokens, e.g. 1000",
        )),
    }
}

/// The least limit that a clamp may set under `output_max`: a request that demands `least` tokens of output gets no lower one.
pub fn clamp_min(output_max: u64, least: u64) -> Result<u64, Reject> {
    if least > output_max {
        let message = format!("`min_tokens` is above the output limit of {output_max}");
        return Err(reject::invalid(message, "leave it out, or send a larger `max_tokens`"));
    }
    Ok(output_max.min(CLAMP_MIN.max(least)))
}

/// A number of samples.
pub fn samples(name: &str, value: Value<'_>) -> Result<u64, Reject> {
    match value.as_u64() {
        Some(samples @ 1..=SAMPLES_MAX) => Ok(samples),
        _ => Err(reject::invalid(
            format!("`{name}` is not a whole number from 1 to {SAMPLES_MAX}"),
            "leave it out for one answer",
        )),
    }
}

/// A truth value.
pub fn truth(name: &str, value: Value<'_>) -> Result<bool, Reject> {
    value.as_bool().ok_or_else(|| reject::invalid(format!("`{name}` is not true or false"), "send true or false"))
}

/// `stream_options`, as the client wants them.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    /// The client wants the usage.
    pub include_usage: bool,
    include_obfuscation: Option<bool>,
}

impl StreamOptions {
    /// Reads them.
    pub fn read(value: Value<'_>) -> Result<StreamOptions, Reject> {
        let not_bool =
            || reject::invalid("`stream_options` is not an object of truth values", "send {\"include_usage\": true}");
        if !value.is_object() {
            return Err(not_bool());
        }
        let mut options = StreamOptions::default();
        for (key, value) in value.fields() {
            match key.as_ref() {
                "include_usage" | "include_obfuscation" if value.is_null() => {}
                "include_usage" => options.include_usage = value.as_bool().ok_or_else(not_bool)?,
                "include_obfuscation" => options.include_obfuscation = Some(value.as_bool().ok_or_else(not_bool)?),
                _ => {
                    let message = "`stream_options` has a field whose cost is not known";
                    return Err(reject::unpriceable(message, "send `include_usage` and `include_obfuscation` only"));
                }
            }
        }
        Ok(options)
    }

    /// What is sent: usage is asked for in every stream; obfuscation stays as the client wants it.
    pub fn sent(&self) -> &'static str {
        match self.include_obfuscation {
            None => r#"{"include_usage":true}"#,
            Some(true) => r#"{"include_usage":true,"include_obfuscation":true}"#,
            Some(false) => r#"{"include_usage":true,"include_obfuscation":false}"#,
        }
    }
}

/// `prompt_cache_options`: what of them has a known price.
pub fn cache_options(value: Value<'_>) -> Result<(), Reject> {
    let is_known = |(key, value): (std::borrow::Cow<'_, str>, Value<'_>)| {
        key == "mode" || key == "ttl" && (value.is_null() || value.as_str().as_deref() == Some("30m"))
    };
    if value.is_object() && value.fields().all(is_known) {
        return Ok(());
    }
    let message = "`prompt_cache_options`: only `mode`, and a `ttl` of \"30m\", have a known price";
    Err(reject::unpriceable(message, "send only these"))
}

/// Cache writes that a request asks for must have a price.
pub fn cache_writes(model: &str, asked: bool, price: &ModelPrice) -> Result<(), Reject> {
    if !asked || price.implicit_cache_writes {
        return Ok(());
    }
    let hint = "send the request without `prompt_cache_options` and `prompt_cache_breakpoint`, or set `implicit_cache_writes: true` \
                in the model's row of the price file, so that cache writes are held for";
    Err(reject::unpriceable(format!("`{model}` has no price of cache writes"), hint))
}

//! How the APIs of the family differ in what moves the bill: OpenAI, those that copy it, Azure, Mistral.

use std::sync::Arc;

use super::messages::{self, Messages};
use super::{MODEL_BYTES_MAX, fields};
use crate::pricing::{ModelPrice, Terms};
use crate::provider::fields::Rule;
use crate::provider::{Reading, Reject, reject};
use crate::wire::json::Value;

/// The top-level fields of a request, each exactly as it must be spelled.
pub type Fields = &'static [(&'static str, Rule)];

/// One API of the family.
pub struct Profile {
    /// Fields of a chat request.
    pub chat: Fields,
    /// Fields of a legacy completion, or of a completion in the middle.
    pub completions: Fields,
    /// Fields of an embeddings request.
    pub embeddings: Fields,
    /// Fields of a response.
    pub responses: Fields,
    /// Forms of a chat's messages.
    pub messages: &'static Messages,
    /// What a service tier is called.
    pub tiers: Tiers,
    /// True when a stream says its usage only if asked to (`stream_options`).
    pub asks_usage: bool,
    /// The field that limits the output of a chat where the request names none.
    pub limit_field: &'static str,
    /// The output limit of a completion that names none; `None`: the model's.
    pub completion_default: Option<u64>,
    /// True when a completion may take several prompts at once, as texts or token ids.
    pub many_prompts: bool,
    /// The most inputs of one embeddings request.
    pub inputs_max: usize,
    /// The most tokens of all its inputs together.
    pub input_tokens_max: u64,
    /// True when a stream may show a call of a tool only once all of it is written: until then it is billed without being seen.
    pub whole_tool_calls: bool,
    /// True when there is a route that counts the input of a response, exactly and free of charge.
    pub counts_input: bool,
    /// True when requests name deployments, which `deployments:` maps to models.
    pub deployments: bool,
}

/// What an API calls its ordinary tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// `default`; without the field a setting of the account decides.
    Default,
    /// `standard_only`, which is also meant without the field.
    StandardOnly,
}

const BASE: Profile = Profile {
    chat: fields::CHAT,
    completions: fields::COMPLETIONS,
    embeddings: fields::EMBEDDINGS,
    responses: fields::RESPONSES,
    messages: &messages::OPENAI,
    tiers: Tiers::Default,
    asks_usage: true,
    limit_field: "max_completion_tokens",
    completion_default: Some(16),
    many_prompts: true,
    inputs_max: 2048,
    input_tokens_max: 300_000,
    whole_tool_calls: false,
    counts_input: false,
    deployments: false,
};

/// OpenAI's own API.
pub static OPENAI: Profile = Profile { counts_input: true, ..BASE };

/// APIs that copy OpenAI's: nothing is known of their limits on embeddings but the model's window, and not how they stream.
pub static COMPATIBLE: Profile =
    Profile { inputs_max: usize::MAX, input_tokens_max: u64::MAX, whole_tool_calls: true, ..BASE };

/// Azure's: OpenAI's, with deployments in the place of models.
pub static AZURE: Profile = Profile { deployments: true, ..BASE };

/// Mistral's: its own fields, usage in every stream, tool calls in one piece, fill-in-the-middle instead of completions.
pub static MISTRAL: Profile = Profile {
    chat: fields::MISTRAL_CHAT,
    completions: fields::MISTRAL_FIM,
    embeddings: fields::MISTRAL_EMBEDDINGS,
    responses: fields::MISTRAL_RESPONSES,
    messages: &messages::MISTRAL,
    tiers: Tiers::StandardOnly,
    asks_usage: false,
    limit_field: "max_tokens",
    completion_default: None,
    many_prompts: false,
    inputs_max: usize::MAX,
    input_tokens_max: u64::MAX,
    whole_tool_calls: true,
    counts_input: false,
    deployments: false,
};

/// An API and what the operator says of it, while one request is read.
#[derive(Clone, Copy)]
pub struct Api<'a> {
    /// The API.
    pub profile: &'static Profile,
    /// The prices in force, and the operator's options.
    pub reading: &'a Reading<'a>,
    /// The deployment that the path names, where it does.
    pub deployment: Option<&'a str>,
    /// What its version knows of the parameters that a gateway adds.
    pub knows: Knows,
}

/// Parameters that a gateway adds to a request, where the version of the API knows them: another one answers 400 to them, and the client
/// did not send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knows {
    /// `max_completion_tokens`; before it, `max_tokens` was the limit.
    pub completion_limit: bool,
    /// `service_tier`; without it, whoever set up the account or the deployment decides on the tier.
    pub service_tier: bool,
}

impl Knows {
    /// An API that has all of them.
    pub const ALL: Knows = Knows { completion_limit: true, service_tier: true };
}

/// A model that has a price.
pub struct Model {
    /// Its name, for policies.
    pub name: Arc<str>,
    /// Its row of the price table.
    pub price: Arc<ModelPrice>,
    /// What every call of it may cost.
    pub terms: Terms,
}

impl Api<'_> {
    /// The model that a request names, and its row of the price table.
    pub fn model(&self, value: Option<Value<'_>>) -> Result<Model, Reject> {
        let named = value.and_then(Value::as_str);
        if self.profile.deployments {
            let name = self.deployment.map(Into::into).or(named);
            return super::azure::deployments::model(name.as_deref(), self.reading);
        }
        let Some(name) = named else {
            return Err(reject::invalid("`model` is missing or not a string", "name a model, e.g. \"gpt-5-mini\""));
        };
        let Some(price) = self.reading.prices.for_model(self.reading.provider, &name) else {
            return Err(self.unknown(&name));
        };
        // Where the data stays in a region, some models cost more.
        let region = self.reading.options.region.as_deref();
        let thousandths = region.and_then(|region| price.multiplier(region)).unwrap_or(1000);
        let terms = Terms { thousandths, ..Terms::default() };
        Ok(Model { name: name.as_ref().into(), price: price.clone(), terms })
    }

    fn unknown(&self, name: &str) -> Reject {
        if !is_model_name(name) {
            let message = "`model` is not a model name: letters, digits and `._:/-` only";
            return reject::invalid(message, "send the name as the provider lists it");
        }
        reject::no_price(self.reading.provider, name, self.reading.prices)
    }
}

/// True for what may be a model's name in a body.
pub fn is_model_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MODEL_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

//! Converse and ConverseStream: the request.

use super::body::{LimitField, Parts};
use super::bound::Traits;
use super::model::{self, Vendor};
use super::read::{self, denied, malformed};
use super::terms::{self, Extras};
use super::{blocks, extra};
use crate::pricing::ModelPrice;
use crate::provider::fields::{Rule, rule};
use crate::provider::{Reading, Reject, Request, reject};
use crate::wire::json::{Document, Value};

const NO_PROMPTS: &str = "a stored prompt is billed as input, and is not in the body";

/// Every field that is known, exactly as it must be spelled.
pub const FIELDS: &[(&str, Rule)] = &[
    ("messages", Rule::Read),
    ("system", Rule::Read),
    ("inferenceConfig", Rule::Read),
    ("toolConfig", Rule::Read),
    ("outputConfig", Rule::Read),
    ("additionalModelRequestFields", Rule::Read),
    ("serviceTier", Rule::Read),
    ("performanceConfig", Rule::Read),
    ("guardrailConfig", Rule::Read),
    ("projectIdentifier", Rule::Read),
    ("requestMetadata", Rule::Free),
    ("additionalModelResponseFieldPaths", Rule::Free),
    ("promptVariables", Rule::Denied(NO_PROMPTS)),
    ("modelId", Rule::Denied("the model stands in the path")),
];

/// Reads a request.
pub fn read(id: &str, is_stream: bool, request: &Request<'_>, reading: &Reading<'_>) -> Result<Parts, Reject> {
    let mut extras = terms::headers(request.headers, false, reading)?;
    let document = super::document(request.body.clone())?;
    let (model, price) = model::priced(id, reading)?;
    let vendor = Vendor::of(&model);
    let mut traits = Traits::default();
    let limit = fields(&document, vendor, &price, reading, (&mut traits, &mut extras))?;
    let limit_field = LimitField::In("inferenceConfig", "maxTokens");
    Ok(Parts { model, price, vendor, document, traits, extras, limit, limit_field, is_stream, is_native: false })
}

/// Reads all top-level fields; returns the output limit.
fn fields(
    document: &Document,
    vendor: Vendor,
    price: &ModelPrice,
    reading: &Reading<'_>,
    (traits, extras): (&mut Traits, &mut Extras),
) -> Result<Option<u64>, Reject> {
    let root = document.root();
    let (mut limit, mut has_messages) = (None, false);
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        let is_absent = value.is_null() && name != "messages";
        if rule(reading, (key, value), &name, FIELDS)? != Some(Rule::Read) || is_absent {
            continue;
        }
        match name.as_ref() {
            "messages" => {
                blocks::messages(value, traits)?;
                has_messages = true;
            }
            "system" => blocks::system(value, traits)?,
            "toolConfig" => blocks::tool_config(value, traits)?,
            "inferenceConfig" => limit = inference(value)?,
            "outputConfig" => output_config(value, traits)?,
            "additionalModelRequestFields" => extra::read(value, vendor, price, reading, traits)?,
            "serviceTier" => extras.tier = terms::service_tier(value)?,
            "performanceConfig" => terms::performance(value)?,
            "projectIdentifier" => terms::project(value.as_str().as_deref().unwrap_or_default(), &name)?,
            "guardrailConfig" => {
                const KNOWN: [&str; 4] = ["guardrailIdentifier", "guardrailVersion", "trace", "streamProcessingMode"];
                read::members(value, &name, &KNOWN)?;
                extras.guardrail = Some(terms::guardrail(&name, reading)?);
            }
            other => return Err(reject::unknown_field(reading.provider, other)),
        }
    }
    if has_messages { Ok(limit) } else { Err(malformed("messages", "is missing: send at least one message")) }
}

fn inference(value: Value<'_>) -> Result<Option<u64>, Reject> {
    read::members(value, "inferenceConfig", &["maxTokens", "temperature", "topP", "stopSequences"])?;
    value.get("maxTokens").map(|limit| read::limit(limit, "inferenceConfig.maxTokens")).transpose()
}

fn output_config(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, "outputConfig", &["textFormat", "effort"])?;
    if let Some(effort) = read::given(value, "effort") {
        read::text(effort, "outputConfig.effort")?;
    }
    let Some(format) = read::given(value, "textFormat") else { return Ok(()) };
    let path = "outputConfig.textFormat";
    read::members(format, path, &["type", "structure"])?;
    let structure = format.get("structure").ok_or_else(|| malformed(path, "has no `structure`"))?;
    let (_, definition) = read::one_of(structure, path, &["jsonSchema"])?;
    read::members(definition, path, &["schema", "name", "description"])?;
    traits.tools += 1;
    // The schema is a text that holds JSON.
    let text = definition.get("schema").and_then(Value::as_str);
    let text = text.ok_or_else(|| malformed(path, "has no `schema` that is a string"))?;
    match Document::parse(text.into_owned().into()) {
        Ok(schema) => traits.schema(schema.root()),
        Err(error) => return Err(denied(path, &format!("its schema cannot be read: {error}"))),
    }
    Ok(())
}

//! InvokeModel and InvokeModelWithResponseStream: the request, in the format of the model's vendor.

use super::body::{LimitField, Parts};
use super::bound::Traits;
use super::model::{self, Vendor};
use super::read::{self, denied, malformed};
use super::{blocks, claude, extra, terms};
use crate::provider::fields::{Rule, rule};
use crate::provider::{Reading, Reject, Request, reject};
use crate::wire::json::{Document, Value};

/// The most texts of one request for embeddings.
const TEXTS_MAX: usize = 96;
/// Output limits at the top level of a request.
const LIMITS: [&str; 2] = ["max_tokens", "max_gen_len"];
/// What a Nova request may call its limit; the first is written where there is none.
const NOVA_LIMITS: [&str; 2] = ["maxTokens", "max_new_tokens"];

/// Nova's fields.
pub const NOVA: &[(&str, Rule)] = &[
    ("schemaVersion", Rule::Free),
    ("messages", Rule::Read),
    ("system", Rule::Read),
    ("inferenceConfig", Rule::Read),
    ("toolConfig", Rule::Read),
    ("reasoningConfig", Rule::Read),
];
/// Mistral's fields: those of a text completion and those of a chat.
pub const MISTRAL: &[(&str, Rule)] = &[
    ("prompt", Rule::Read),
    ("messages", Rule::Read),
    ("tools", Rule::Read),
    ("tool_choice", Rule::Prompt),
    ("max_tokens", Rule::Read),
    ("temperature", Rule::Free),
    ("top_p", Rule::Free),
    ("top_k", Rule::Free),
    ("stop", Rule::Free),
    ("seed", Rule::Free),
    ("n", Rule::Denied("it multiplies the output")),
    ("stream", Rule::Denied("the path of the request says it")),
    ("model", Rule::Denied("the path of the request says it")),
];
/// Llama's fields.
pub const LLAMA: &[(&str, Rule)] = &[
    ("prompt", Rule::Read),
    ("images", Rule::Read),
    ("max_gen_len", Rule::Read),
    ("temperature", Rule::Free),
    ("top_p", Rule::Free),
];
/// The fields of Titan's text models.
pub const TITAN_TEXT: &[(&str, Rule)] = &[("inputText", Rule::Read), ("textGenerationConfig", Rule::Read)];
/// The fields of Titan's embedding models.
pub const TITAN_EMBED: &[(&str, Rule)] = &[
    ("inputText", Rule::Read),
    ("dimensions", Rule::Free),
    ("normalize", Rule::Free),
    ("embeddingTypes", Rule::Free),
    ("inputImage", Rule::Denied("images have a price of their own, which is not known")),
    ("embeddingConfig", Rule::Denied("it belongs to embeddings of images")),
];
/// The fields of Cohere's embedding models.
pub const COHERE_EMBED: &[(&str, Rule)] = &[
    ("texts", Rule::Read),
    ("input_type", Rule::Read),
    ("truncate", Rule::Free),
    ("embedding_types", Rule::Free),
    ("output_dimension", Rule::Free),
    ("images", Rule::Denied("images have a price of their own, which is not known")),
    ("inputs", Rule::Denied("images have a price of their own, which is not known; send `texts`")),
];

/// Reads a request.
pub fn read(id: &str, is_stream: bool, request: &Request<'_>, reading: &Reading<'_>) -> Result<Parts, Reject> {
    let extras = terms::headers(request.headers, true, reading)?;
    let document = super::document(request.body.clone())?;
    let (model, price) = model::priced(id, reading)?;
    let vendor = Vendor::of(&model);
    let mut traits = Traits::default();
    let (limit, limit_field) = match vendor {
        Vendor::Claude => (Some(claude::read(&document, &price, reading, &mut traits)?), LimitField::Top("max_tokens")),
        Vendor::Nova => nova(&document, reading, &mut traits)?,
        Vendor::Mistral => (mistral(&document, reading, &mut traits)?, LimitField::Top("max_tokens")),
        Vendor::Llama => (llama(&document, reading, &mut traits)?, LimitField::Top("max_gen_len")),
        Vendor::TitanText => {
            (titan(&document, reading, &mut traits)?, LimitField::In("textGenerationConfig", "maxTokenCount"))
        }
        Vendor::TitanEmbed | Vendor::CohereEmbed if is_stream => {
            return Err(reject::invalid("embeddings are not streamed", "send the request to `invoke`"));
        }
        Vendor::TitanEmbed => (embed_one(&document, reading, &mut traits)?, LimitField::None),
        Vendor::CohereEmbed => (embed_many(&document, reading, &mut traits)?, LimitField::None),
        Vendor::OpenAi | Vendor::Other => {
            let message = format!("the request format of `{model}` is not one that can be bounded here");
            return Err(reject::unpriceable(message, "send the request to `converse` or `converse-stream`"));
        }
    };
    Ok(Parts { model, price, vendor, document, traits, extras, limit, limit_field, is_stream, is_native: true })
}

/// Calls `each` for every field that is read on its own, and is there.
fn each_field<'a>(
    document: &'a Document,
    known: &[(&str, Rule)],
    reading: &Reading<'_>,
    mut each: impl FnMut(&str, Value<'a>) -> Result<(), Reject>,
) -> Result<(), Reject> {
    let root = document.root();
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        // A limit is a number, or is not written: whether a vendor takes `null` for its ordinary limit is not known.
        let is_absent = value.is_null() && !LIMITS.contains(&name.as_ref());
        if rule(reading, (key, value), &name, known)? == Some(Rule::Read) && !is_absent {
            each(&name, value)?;
        }
    }
    Ok(())
}

fn missing(name: &str) -> Reject {
    malformed(name, "is missing")
}

fn nova(document: &Document, reading: &Reading<'_>, traits: &mut Traits) -> Result<(Option<u64>, LimitField), Reject> {
    let (mut limit, mut field, mut has_messages) = (None, NOVA_LIMITS[0], false);
    each_field(document, NOVA, reading, |name, value| {
        match name {
            "messages" => {
                blocks::messages(value, traits)?;
                has_messages = true;
            }
            "system" => blocks::system(value, traits)?,
            "toolConfig" => blocks::tool_config(value, traits)?,
            "reasoningConfig" => extra::nova_reasoning(value, name)?,
            _ => (limit, field) = nova_inference(value)?,
        }
        Ok(())
    })?;
    if !has_messages {
        return Err(missing("messages"));
    }
    Ok((limit, LimitField::In("inferenceConfig", field)))
}

fn nova_inference(value: Value<'_>) -> Result<(Option<u64>, &'static str), Reject> {
    const FIELD: &str = "inferenceConfig";
    const KNOWN: [&str; 7] =
        ["maxTokens", "max_new_tokens", "temperature", "topP", "topK", "stopSequences", "reasoningConfig"];
    read::members(value, FIELD, &KNOWN)?;
    if let Some(reasoning) = read::given(value, "reasoningConfig") {
        extra::nova_reasoning(reasoning, "inferenceConfig.reasoningConfig")?;
    }
    let mut given = NOVA_LIMITS.into_iter().filter_map(|name| Some((name, value.get(name)?)));
    match (given.next(), given.next()) {
        (Some(_), Some(_)) => {
            let message = "`inferenceConfig.maxTokens` and `inferenceConfig.max_new_tokens` are both given";
            Err(reject::ambiguous(message, "send `maxTokens` alone"))
        }
        (Some((name, value)), None) => Ok((Some(read::limit(value, &format!("{FIELD}.{name}"))?), name)),
        _ => Ok((None, NOVA_LIMITS[0])),
    }
}

fn mistral(document: &Document, reading: &Reading<'_>, traits: &mut Traits) -> Result<Option<u64>, Reject> {
    let (mut limit, mut prompts) = (None, 0);
    each_field(document, MISTRAL, reading, |name, value| {
        match name {
            "max_tokens" => limit = Some(read::limit(value, name)?),
            "tools" => {
                for (path, tool) in read::list(value, name)? {
                    read::members(tool, &path, &["type", "function"])?;
                    let function = tool.get("function").ok_or_else(|| malformed(&path, "has no `function`"))?;
                    read::members(function, &path, &["name", "description", "parameters", "strict"])?;
                    traits.tools += 1;
                    function.get("parameters").into_iter().for_each(|schema| traits.schema(schema));
                }
            }
            "prompt" => {
                read::text(value, name)?;
                (prompts, traits.messages) = (prompts + 1, 1);
            }
            _ => {
                mistral_messages(value, traits)?;
                prompts += 1;
            }
        }
        Ok(())
    })?;
    match prompts {
        1 => Ok(limit),
        0 => Err(missing("prompt")),
        _ => Err(reject::ambiguous("`prompt` and `messages` are both given", "send one of them")),
    }
}

fn mistral_messages(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    for (path, message) in read::list(value, "messages")? {
        read::members(message, &path, &["role", "content", "tool_calls", "tool_call_id", "name", "prefix"])?;
        traits.messages += 1;
        let content = message.get("content").filter(|content| !content.is_null() && content.as_str().is_none());
        for (path, part) in content.map(|content| read::list(content, &path)).transpose()?.into_iter().flatten() {
            read::members(part, &path, &["type", "text"])?;
        }
    }
    Ok(())
}

fn llama(document: &Document, reading: &Reading<'_>, traits: &mut Traits) -> Result<Option<u64>, Reject> {
    let (mut limit, mut has_prompt) = (None, false);
    each_field(document, LLAMA, reading, |name, value| {
        match name {
            "max_gen_len" => limit = Some(read::limit(value, name)?),
            "images" => {
                for (path, image) in read::list(value, name)? {
                    read::text(image, &path)?;
                    traits.image(image);
                }
            }
            _ => {
                read::text(value, name)?;
                (has_prompt, traits.messages) = (true, 1);
            }
        }
        Ok(())
    })?;
    if has_prompt { Ok(limit) } else { Err(missing("prompt")) }
}

fn titan(document: &Document, reading: &Reading<'_>, traits: &mut Traits) -> Result<Option<u64>, Reject> {
    const CONFIG: &str = "textGenerationConfig";
    let (mut limit, mut has_text) = (None, false);
    each_field(document, TITAN_TEXT, reading, |name, value| {
        if name == CONFIG {
            read::members(value, CONFIG, &["maxTokenCount", "stopSequences", "temperature", "topP"])?;
            let count = value.get("maxTokenCount");
            limit = count.map(|count| read::limit(count, "textGenerationConfig.maxTokenCount")).transpose()?;
            return Ok(());
        }
        (has_text, traits.messages) = (true, 1);
        read::text(value, name)
    })?;
    if has_text { Ok(limit) } else { Err(missing("inputText")) }
}

fn embed_one(document: &Document, reading: &Reading<'_>, traits: &mut Traits) -> Result<Option<u64>, Reject> {
    let mut has_text = false;
    each_field(document, TITAN_EMBED, reading, |name, value| {
        (has_text, traits.messages) = (true, 1);
        read::text(value, name)
    })?;
    if has_text { Ok(None) } else { Err(missing("inputText")) }
}

fn embed_many(document: &Document, reading: &Reading<'_>, traits: &mut Traits) -> Result<Option<u64>, Reject> {
    let mut texts = 0;
    each_field(document, COHERE_EMBED, reading, |name, value| {
        if name == "input_type" {
            let is_image = value.as_str().is_none_or(|kind| kind == "image");
            return if is_image {
                Err(denied(name, "images have a price of their own, which is not known"))
            } else {
                Ok(())
            };
        }
        for (path, text) in read::list(value, name)? {
            read::text(text, &path)?;
            texts += 1;
        }
        Ok(())
    })?;
    traits.messages = texts as u64;
    match texts {
        0 => Err(missing("texts")),
        1..=TEXTS_MAX => Ok(None),
        _ => Err(malformed("texts", "has more than 96 entries")),
    }
}

//! Claude's own request format, as far as Bedrock's `invoke` takes it.

use super::blocks;
use super::bound::Traits;
use super::extra;
use super::read::{self, denied, malformed};
use crate::pricing::ModelPrice;
use crate::provider::fields::{Rule, rule};
use crate::provider::{Reading, Reject, reject};
use crate::wire::json::{Document, Value};

const IN_PATH: &str = "the path of the request says it";

/// Every field that is known, exactly as it must be spelled.
pub const FIELDS: &[(&str, Rule)] = &[
    ("anthropic_version", Rule::Free),
    ("anthropic_beta", Rule::Read),
    ("max_tokens", Rule::Read),
    ("messages", Rule::Read),
    ("system", Rule::Read),
    ("tools", Rule::Read),
    ("tool_choice", Rule::Prompt),
    ("thinking", Rule::Read),
    ("output_config", Rule::Read),
    ("cache_control", Rule::Read),
    ("stop_sequences", Rule::Free),
    ("temperature", Rule::Free),
    ("top_p", Rule::Free),
    ("top_k", Rule::Free),
    ("metadata", Rule::Free),
    ("model", Rule::Denied(IN_PATH)),
    ("stream", Rule::Denied(IN_PATH)),
    ("mcp_servers", Rule::Denied("tools that run inside the provider run the model again, without a bound")),
    ("container", Rule::Denied("what runs in a container is billed by the hour, and its files are input")),
    ("context_management", Rule::Denied("compaction runs the model once more")),
    ("fallbacks", Rule::Denied("each further attempt is billed at its own model's price")),
    ("fallback_credit_token", Rule::Denied("each further attempt is billed at its own model's price")),
    ("thread", Rule::Denied("the earlier conversation is billed as input, and is not in the body")),
    ("speed", Rule::Denied("the fast mode costs a multiple")),
    ("inference_geo", Rule::Denied("the model id in the path says the geography, and with it the price")),
    ("service_tier", Rule::Denied("the header X-Amzn-Bedrock-Service-Tier says it")),
    ("billing_policy", Rule::Denied("it decides what is charged")),
    ("prompt", Rule::Denied("text completions have no price; send `messages`")),
    ("max_tokens_to_sample", Rule::Denied("this format's limit is `max_tokens`")),
];

/// Reads a body; returns its output limit.
pub fn read(
    document: &Document,
    price: &ModelPrice,
    reading: &Reading<'_>,
    traits: &mut Traits,
) -> Result<u64, Reject> {
    let root = document.root();
    let (mut limit, mut has_messages) = (None, false);
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        let is_absent = value.is_null() && !matches!(name.as_ref(), "max_tokens" | "messages");
        if rule(reading, (key, value), &name, FIELDS)? != Some(Rule::Read) || is_absent {
            continue;
        }
        match name.as_ref() {
            "max_tokens" => limit = Some(read::limit(value, &name)?),
            "messages" => {
                messages(value, traits)?;
                has_messages = true;
            }
            "system" => {
                traits.messages += 1;
                content(value, "system", &["text"], traits)?;
            }
            "tools" => tools(value, traits)?,
            "thinking" => extra::thinking(value, &name, traits)?,
            "anthropic_beta" => extra::betas(value, &name, price, reading)?,
            "output_config" => output_config(value, traits)?,
            "cache_control" => cache_control(value, &name, traits)?,
            other => return Err(reject::unknown_field(reading.provider, other)),
        }
    }
    if !has_messages {
        return Err(malformed("messages", "is missing: send at least one message"));
    }
    limit.ok_or_else(|| malformed("max_tokens", "is missing: it is required"))
}

fn messages(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    let mut seen = 0;
    for (path, message) in read::list(value, "messages")? {
        read::members(message, &path, &["role", "content"])?;
        let role = message.get("role").and_then(Value::as_str);
        if !matches!(role.as_deref(), Some("user" | "assistant")) {
            return Err(malformed(&format!("{path}.role"), "is neither user nor assistant"));
        }
        let inner = message.get("content").ok_or_else(|| malformed(&path, "has no `content`"))?;
        const KINDS: [&str; 8] =
            ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "search_result"];
        content(inner, &format!("{path}.content"), &KINDS, traits)?;
        traits.messages += 1;
        seen += 1;
    }
    if seen == 0 { Err(malformed("messages", "is empty: send at least one message")) } else { Ok(()) }
}

/// A text, or blocks of these kinds.
fn content(value: Value<'_>, path: &str, kinds: &[&str], traits: &mut Traits) -> Result<(), Reject> {
    if value.as_str().is_some() {
        return Ok(());
    }
    for (path, block) in read::list(value, path)? {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
        if !kinds.contains(&kind.as_ref()) {
            let kind = reject::printable(&kind);
            return Err(denied(&path, &format!("a block of type `{kind}` is not one whose cost is known here")));
        }
        block_of(&kind, block, &path, traits)?;
    }
    Ok(())
}

fn block_of(kind: &str, block: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    let known: &[&str] = match kind {
        "text" => &["type", "text", "cache_control", "citations"],
        "image" => &["type", "source", "cache_control"],
        "document" => &["type", "source", "title", "context", "citations", "cache_control"],
        "tool_use" => &["type", "id", "name", "input", "caller", "cache_control"],
        "tool_result" => &["type", "tool_use_id", "content", "is_error", "cache_control"],
        "thinking" => &["type", "thinking", "signature"],
        "redacted_thinking" => &["type", "data"],
        _ => &["type", "source", "title", "content", "citations", "cache_control"],
    };
    read::members(block, path, known)?;
    if let Some(control) = block.get("cache_control") {
        cache_control(control, path, traits)?;
    }
    match kind {
        "image" => {
            let source = source(block, path, &["base64"])?;
            let data = source.get("data").filter(|data| data.as_str().is_some());
            traits.image(data.ok_or_else(|| malformed(path, "has no `data` that is a string"))?);
        }
        "document" => {
            let source = source(block, path, &["base64", "text", "content"])?;
            match source.get("type").and_then(Value::as_str).as_deref() {
                Some("text") => {}
                Some("content") => {
                    let inner = source.get("content").ok_or_else(|| malformed(path, "has no `content`"))?;
                    content(inner, &format!("{path}.source.content"), &["text", "image"], traits)?;
                }
                // A PDF is compressed, and its pages are read as images too.
                _ => traits.fills_window = true,
            }
            citations(block, path, traits)?;
        }
        "tool_result" => {
            if let Some(inner) = read::given(block, "content") {
                let kinds = ["text", "image", "document", "search_result"];
                content(inner, &format!("{path}.content"), &kinds, traits)?;
            }
        }
        "thinking" | "redacted_thinking" => {
            ["signature", "data"].into_iter().filter_map(|name| block.get(name)).for_each(|value| traits.sealed(value));
        }
        "search_result" => {
            let inner = block.get("content").ok_or_else(|| malformed(path, "has no `content`"))?;
            content(inner, &format!("{path}.content"), &["text"], traits)?;
            citations(block, path, traits)?;
        }
        _ => {}
    }
    Ok(())
}

/// Citations mark every passage of what may be cited, which adds to the prompt.
fn citations(block: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    let Some(citations) = read::given(block, "citations") else { return Ok(()) };
    read::members(citations, path, &["enabled"])?;
    if let Some(enabled) = read::given(citations, "enabled") {
        traits.fills_window |= read::truth(enabled, path)?;
    }
    Ok(())
}

/// The source of an image or document, of one of these kinds: an address or a file id says nothing of its tokens.
fn source<'a>(block: Value<'a>, path: &str, kinds: &[&str]) -> Result<Value<'a>, Reject> {
    let path = format!("{path}.source");
    let source = block.get("source").ok_or_else(|| malformed(&path, "is missing"))?;
    read::members(source, &path, &["type", "media_type", "data", "content", "url", "file_id"])?;
    let kind = source.get("type").and_then(Value::as_str).unwrap_or_default();
    let is_elsewhere = ["url", "file_id"].iter().any(|name| read::given(source, name).is_some());
    if !kinds.contains(&kind.as_ref()) || is_elsewhere {
        return Err(denied(&path, "its content is not in the request, so its input tokens cannot be known"));
    }
    Ok(source)
}

fn tools(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    const CUSTOM: [&str; 7] =
        ["type", "name", "description", "input_schema", "strict", "eager_input_streaming", "cache_control"];
    const KNOWN: [&str; 8] = [
        "type",
        "name",
        "cache_control",
        "max_characters",
        "display_width_px",
        "display_height_px",
        "display_number",
        "enable_zoom",
    ];
    for (path, tool) in read::list(value, "tools")? {
        let kind = match read::given(tool, "type").map(Value::as_str) {
            None => "custom".into(),
            Some(kind) => kind.unwrap_or_default(),
        };
        if kind == "custom" {
            read::members(tool, &path, &CUSTOM)?;
            traits.tools += 1;
            traits.schema(tool.get("input_schema").ok_or_else(|| malformed(&path, "has no `input_schema`"))?);
        } else if ["bash_20", "text_editor_20", "computer_20"].iter().any(|start| kind.starts_with(start)) {
            read::members(tool, &path, &KNOWN)?;
            traits.known_tools += 1;
        } else {
            let why = format!("`{}` is not a tool that your own code runs", reject::printable(&kind));
            return Err(denied(&format!("{path}.type"), &why));
        }
        if let Some(control) = tool.get("cache_control") {
            cache_control(control, &path, traits)?;
        }
    }
    Ok(())
}

fn output_config(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, "output_config", &["effort", "format"])?;
    if let Some(effort) = read::given(value, "effort") {
        read::text(effort, "output_config.effort")?;
    }
    if let Some(format) = read::given(value, "format") {
        read::members(format, "output_config.format", &["type", "schema"])?;
        traits.tools += 1;
        format.get("schema").into_iter().for_each(|schema| traits.schema(schema));
    }
    Ok(())
}

fn cache_control(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    if value.is_null() {
        return Ok(());
    }
    let path = format!("{path}.cache_control");
    read::members(value, &path, &["type", "ttl"])?;
    if value.get("type").and_then(Value::as_str).as_deref() != Some("ephemeral") {
        return Err(denied(&path, "only the type \"ephemeral\" has a known price"));
    }
    blocks::ttl(read::given(value, "ttl"), &path, traits)
}

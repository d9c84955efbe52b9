//! Messages in the form of Converse, which Nova's own format shares: which blocks are admitted, and what they put into the prompt.

use super::bound::Traits;
use super::read::{self, denied, malformed};
use crate::provider::Reject;
use crate::wire::json::Value;

const S3: &str = "its content is not in the request, so its input tokens cannot be known";

/// All messages; there is at least one.
pub fn messages(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    let mut seen = 0;
    for (path, message) in read::list(value, "messages")? {
        read::members(message, &path, &["role", "content"])?;
        let role = message.get("role").and_then(Value::as_str);
        if !matches!(role.as_deref(), Some("user" | "assistant")) {
            return Err(malformed(&format!("{path}.role"), "is neither user nor assistant"));
        }
        let content = message.get("content").ok_or_else(|| malformed(&format!("{path}.content"), "is missing"))?;
        for (path, block) in read::list(content, &format!("{path}.content"))? {
            content_block(block, &path, traits)?;
        }
        traits.messages += 1;
        seen += 1;
    }
    if seen == 0 { Err(malformed("messages", "is empty: send at least one message")) } else { Ok(()) }
}

/// The system prompt.
pub fn system(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    traits.messages += 1;
    for (path, block) in read::list(value, "system")? {
        match read::one_of(block, &path, &["text", "guardContent", "cachePoint"])? {
            ("text", text) => read::text(text, &format!("{path}.text"))?,
            ("guardContent", content) => guard_content(content, &format!("{path}.guardContent"), traits)?,
            (_, point) => cache_point(point, &format!("{path}.cachePoint"), traits)?,
        }
    }
    Ok(())
}

/// Tools that the client runs.
pub fn tool_config(value: Value<'_>, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, "toolConfig", &["tools", "toolChoice"])?;
    let tools = value.get("tools").ok_or_else(|| malformed("toolConfig.tools", "is missing"))?;
    for (path, tool) in read::list(tools, "toolConfig.tools")? {
        match read::one_of(tool, &path, &["toolSpec", "cachePoint", "systemTool"])? {
            ("toolSpec", spec) => {
                read::members(spec, &path, &["name", "description", "inputSchema", "strict"])?;
                traits.tools += 1;
                let schema = spec.get("inputSchema").ok_or_else(|| malformed(&path, "has no `inputSchema`"))?;
                let (_, schema) = read::one_of(schema, &format!("{path}.inputSchema"), &["json"])?;
                traits.schema(schema);
            }
            ("cachePoint", point) => cache_point(point, &format!("{path}.cachePoint"), traits)?,
            _ => {
                let path = format!("{path}.systemTool");
                return Err(denied(&path, "it runs inside Bedrock, is billed by the call, and runs the model again"));
            }
        }
    }
    if let Some(choice) = read::given(value, "toolChoice") {
        read::one_of(choice, "toolConfig.toolChoice", &["auto", "any", "tool"])?;
    }
    Ok(())
}

fn content_block(block: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    const KINDS: [&str; 12] = [
        "text",
        "image",
        "document",
        "video",
        "audio",
        "toolUse",
        "toolResult",
        "guardContent",
        "cachePoint",
        "reasoningContent",
        "citationsContent",
        "searchResult",
    ];
    let (kind, value) = read::one_of(block, path, &KINDS)?;
    let path = format!("{path}.{kind}");
    match kind {
        "text" => read::text(value, &path),
        "image" => image(value, &path, traits),
        "document" => document(value, &path, traits),
        "video" => video(value, &path, traits),
        "toolUse" => {
            // `type: server_tool_use` belongs to tools that run inside Bedrock.
            read::members(value, &path, &["toolUseId", "name", "input"])
        }
        "toolResult" => {
            read::members(value, &path, &["toolUseId", "content", "status"])?;
            let content = value.get("content").ok_or_else(|| malformed(&path, "has no `content`"))?;
            for (path, part) in read::list(content, &format!("{path}.content"))? {
                result_part(part, &path, traits)?;
            }
            Ok(())
        }
        "guardContent" => guard_content(value, &path, traits),
        "cachePoint" => cache_point(value, &path, traits),
        "reasoningContent" => {
            let (kind, value) = read::one_of(value, &path, &["reasoningText", "redactedContent"])?;
            match kind {
                "reasoningText" => {
                    read::members(value, &path, &["text", "signature"])?;
                    value.get("signature").into_iter().for_each(|signature| traits.sealed(signature));
                    Ok(())
                }
                _ => {
                    traits.sealed(value);
                    read::text(value, &path)
                }
            }
        }
        "citationsContent" => read::members(value, &path, &["content", "citations"]),
        "searchResult" => search_result(value, &path, traits),
        _ => Err(denied(&path, "audio input is billed apart, and usage does not say how much it was")),
    }
}

fn result_part(part: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    match read::one_of(part, path, &["text", "json", "image", "document", "video", "searchResult"])? {
        ("text", text) => read::text(text, path),
        ("image", value) => image(value, path, traits),
        ("document", value) => document(value, path, traits),
        ("video", value) => video(value, path, traits),
        ("searchResult", value) => search_result(value, path, traits),
        _ => Ok(()),
    }
}

fn image(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, path, &["format", "source"])?;
    traits.image(source(value, path, &["bytes", "s3Location"])?.1);
    Ok(())
}

fn video(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, path, &["format", "source"])?;
    source(value, path, &["bytes", "s3Location"])?;
    (traits.has_video, traits.fills_window) = (true, true);
    Ok(())
}

fn document(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, path, &["format", "name", "source", "context", "citations"])?;
    match source(value, path, &["bytes", "text", "content", "s3Location"])? {
        ("text", text) => read::text(text, path)?,
        ("content", content) => {
            for (path, part) in read::list(content, path)? {
                read::text(read::one_of(part, &path, &["text"])?.1, &path)?;
            }
        }
        // A PDF or a spreadsheet is compressed, and its pages may be read as images too.
        _ => traits.fills_window = true,
    }
    citations(value, path, traits)
}

fn search_result(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, path, &["source", "title", "content", "citations"])?;
    citations(value, path, traits)
}

/// Citations mark every passage of what may be cited, which adds to the prompt.
fn citations(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    let Some(citations) = read::given(value, "citations") else { return Ok(()) };
    read::members(citations, path, &["enabled"])?;
    if let Some(enabled) = read::given(citations, "enabled") {
        traits.fills_window |= read::truth(enabled, path)?;
    }
    Ok(())
}

fn source<'a>(value: Value<'a>, path: &str, kinds: &[&'static str]) -> Result<(&'static str, Value<'a>), Reject> {
    let path = format!("{path}.source");
    let source = value.get("source").ok_or_else(|| malformed(&path, "is missing"))?;
    let (kind, inner) = read::one_of(source, &path, kinds)?;
    match kind {
        "s3Location" => Err(denied(&format!("{path}.s3Location"), S3)),
        "bytes" => read::text(inner, &path).map(|()| (kind, inner)),
        _ => Ok((kind, inner)),
    }
}

fn guard_content(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    match read::one_of(value, path, &["text", "image"])? {
        ("text", text) => read::members(text, path, &["text", "qualifiers"]),
        (_, picture) => image(picture, path, traits),
    }
}

fn cache_point(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, path, &["type", "ttl"])?;
    if value.get("type").and_then(Value::as_str).as_deref() != Some("default") {
        return Err(malformed(&format!("{path}.type"), "is not \"default\""));
    }
    ttl(value.get("ttl"), path, traits)
}

/// How long a cache entry lives decides what writing it costs.
pub fn ttl(value: Option<Value<'_>>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    match value.map(Value::as_str) {
        None => traits.writes_5m = true,
        Some(Some(ttl)) if ttl == "5m" => traits.writes_5m = true,
        // The rest of a prompt with an entry of an hour may be written for five minutes.
        Some(Some(ttl)) if ttl == "1h" => (traits.writes_5m, traits.writes_1h) = (true, true),
        Some(_) => return Err(denied(&format!("{path}.ttl"), "only \"5m\" and \"1h\" have a known price")),
    }
    Ok(())
}

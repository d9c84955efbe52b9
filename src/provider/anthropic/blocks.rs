//! System prompt, messages and their blocks: which forms are admitted, and what each adds to the input.

use super::bound::{TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, TOKENS_PER_SCREENSHOT};
use crate::provider::{Reading, Reject, reject, sealed};
use crate::wire::json::Value;

/// The most messages of a request.
const MESSAGES_MAX: u64 = 100_000;
/// The most images of a request.
const IMAGES_MAX: u64 = 600;

/// Blocks that are known, with their fields.
const BLOCKS: [(&str, &[&str]); 12] = [
    ("text", &["text", "citations"]),
    ("image", &["source"]),
    ("document", &["source", "title", "context", "citations"]),
    ("search_result", &["content", "source", "title", "citations"]),
    ("thinking", &["thinking", "signature"]),
    ("redacted_thinking", &["data"]),
    ("tool_use", &["id", "name", "input", "caller", "toolset_name"]),
    ("tool_result", &["tool_use_id", "content", "is_error", "toolset_name"]),
    ("tool_reference", &["tool_name"]),
    ("server_tool_use", &["id", "name", "input", "caller"]),
    ("web_search_tool_result", &["tool_use_id", "content", "caller"]),
    ("web_fetch_tool_result", &["tool_use_id", "content", "caller"]),
];
/// Blocks that cannot be held for, and why.
const DENIED: [(&str, &str); 8] = [
    ("container_upload", "a container is billed by the hour"),
    ("compaction", "it stands for a conversation that is not in the body"),
    ("tool_addition", "tools in messages cannot be held for"),
    ("tool_removal", "tools in messages cannot be held for"),
    ("fallback", "it belongs to fallbacks, which are further attempts"),
    ("mcp_tool_use", "the provider calls such tools itself"),
    ("mcp_tool_result", "the provider calls such tools itself"),
    ("mcp_tool_listing", "the provider calls such tools itself"),
];

/// What the bound must know of the whole body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// How many messages there are.
    pub messages: u64,
    /// How many images.
    pub images: u64,
    /// Bytes of the body that are an image's, and so no text.
    pub image_bytes: u64,
    /// Something is in the input whose tokens the body does not tell: it may fill the context window.
    pub fills_window: bool,
    /// References to tools, each of which may repeat a definition.
    pub tool_references: u64,
    /// What sealed thoughts may hold beyond a token a byte. A signature holds them whole, where the text beside it is their summary.
    pub sealed: u64,
    /// Something is cached for five minutes.
    pub writes_5m: bool,
    /// Something is cached for an hour.
    pub writes_1h: bool,
}

impl Traits {
    /// Tokens of messages, images and sealed thoughts beside the bytes of the body; screenshots are images that are not scaled down.
    pub fn tokens(&self, has_screenshots: bool) -> u64 {
        let per_image = if has_screenshots { TOKENS_PER_SCREENSHOT } else { TOKENS_PER_IMAGE };
        let images = self.images.saturating_mul(per_image);
        self.messages.saturating_mul(TOKENS_PER_MESSAGE).saturating_add(images).saturating_add(self.sealed)
    }

    /// Reads `cache_control`.
    pub fn cache(&mut self, value: Value<'_>, path: &str) -> Result<(), Reject> {
        if value.is_null() {
            return Ok(());
        }
        let refuse = || {
            let message = format!(
                "`{path}cache_control`: only type \"ephemeral\" with a ttl of \"5m\" or \"1h\" has a known price"
            );
            reject::unpriceable(message, "send {\"type\": \"ephemeral\"}")
        };
        let (mut is_ephemeral, mut is_hour) = (false, false);
        for (key, value) in value.fields() {
            match (key.as_ref(), value.as_str().as_deref()) {
                ("type", Some("ephemeral")) => is_ephemeral = true,
                ("ttl", Some("5m")) => {}
                ("ttl", Some("1h")) => is_hour = true,
                ("ttl", None) if value.is_null() => {}
                _ => return Err(refuse()),
            }
        }
        if !is_ephemeral {
            return Err(refuse());
        }
        self.writes_1h |= is_hour;
        self.writes_5m |= !is_hour;
        Ok(())
    }

    /// Reads `system`.
    pub fn system(&mut self, value: Value<'_>, reading: &Reading<'_>) -> Result<(), Reject> {
        self.content(value, "system", &["text"], reading)
    }

    /// Reads `messages`.
    pub fn messages(&mut self, value: Value<'_>, reading: &Reading<'_>) -> Result<(), Reject> {
        for (at, message) in value.items().enumerate() {
            self.messages += 1;
            self.message(message, at, reading)?;
        }
        if self.messages == 0 || self.messages > MESSAGES_MAX {
            let message = "`messages` is not an array with 1 to 100000 messages in it";
            return Err(reject::invalid(message, "send at least one message"));
        }
        if self.images > IMAGES_MAX {
            return Err(reject::invalid("the request has more than 600 images", "send fewer"));
        }
        Ok(())
    }

    fn message(&mut self, message: Value<'_>, at: usize, reading: &Reading<'_>) -> Result<(), Reject> {
        let invalid = |what: &str| Err(reject::invalid(format!("`messages[{at}]`: {what}"), "see the API's reference"));
        if !message.is_object() {
            return invalid("not an object");
        }
        let mut has_role = false;
        for (key, value) in message.fields() {
            match key.as_ref() {
                "role" => has_role = matches!(value.as_str().as_deref(), Some("user" | "assistant" | "system")),
                "content" => {
                    let kinds: Vec<&str> = BLOCKS.iter().map(|(kind, _)| *kind).collect();
                    self.content(value, &format!("messages[{at}].content"), &kinds, reading)?;
                }
                other if reading.admits(other) => {}
                other => return Err(unknown(&format!("messages[{at}]"), other, reading)),
            }
        }
        if has_role { Ok(()) } else { invalid("`role` is none of user, assistant, system") }
    }

    /// Text, or blocks of these kinds.
    fn content(&mut self, content: Value<'_>, path: &str, kinds: &[&str], reading: &Reading<'_>) -> Result<(), Reject> {
        if content.as_str().is_some() {
            return Ok(());
        }
        if !content.is_array() {
            return Err(reject::invalid(format!("`{path}` is neither text nor an array of blocks"), "send text"));
        }
        for (index, block) in content.items().enumerate() {
            self.block(block, &format!("{path}[{index}]"), kinds, reading)?;
        }
        Ok(())
    }

    fn block(&mut self, block: Value<'_>, path: &str, kinds: &[&str], reading: &Reading<'_>) -> Result<(), Reject> {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
        if let Some((_, why)) = DENIED.iter().find(|(name, _)| *name == kind) {
            return Err(reject::unpriceable(format!("`{path}` of type {kind}: {why}"), "send its content as text"));
        }
        let known = BLOCKS.iter().find(|(name, _)| *name == kind && kinds.contains(name));
        let Some((kind, fields)) = known else {
            let message = format!("`{path}` is not a block of a type whose cost is known: {}", kinds.join(", "));
            return Err(reject::unpriceable(message, "send its content as text"));
        };
        for (key, value) in block.fields() {
            match key.as_ref() {
                "type" => {}
                "cache_control" => self.cache(value, &format!("{path}."))?,
                name if fields.contains(&name) => self.field(kind, name, value, path, reading)?,
                name if reading.admits(name) => {}
                name => return Err(unknown(path, name, reading)),
            }
        }
        match *kind {
            "tool_reference" => self.tool_references += 1,
            // What it was generated from, or found, is not in the body but encrypted.
            "server_tool_use" | "web_search_tool_result" | "web_fetch_tool_result" => self.fills_window = true,
            _ => {}
        }
        Ok(())
    }

    fn field(
        &mut self,
        kind: &str,
        name: &str,
        value: Value<'_>,
        path: &str,
        reading: &Reading<'_>,
    ) -> Result<(), Reject> {
        let inner = || format!("{path}.{name}");
        match (kind, name) {
            ("image", "source") => self.image(value, path),
            ("document", "source") => self.document(value, path, reading),
            ("tool_result", "content") if value.is_null() => Ok(()),
            ("tool_result", "content") => {
                let kinds = ["text", "image", "document", "search_result", "tool_reference"];
                self.content(value, &inner(), &kinds, reading)
            }
            ("search_result", "content") => self.content(value, &inner(), &["text"], reading),
            // Each sentence gets a mark of its own when it may be cited.
            ("document" | "search_result", "citations") => {
                let is_off =
                    value.is_null() || value.fields().all(|(key, on)| key == "enabled" && on.as_bool() == Some(false));
                self.fills_window |= !is_off;
                Ok(())
            }
            ("text", "text") | ("thinking", _) | ("redacted_thinking", _) if value.as_str().is_none() => {
                Err(reject::invalid(format!("`{}` is not text", inner()), "send a string"))
            }
            ("thinking", "signature") | ("redacted_thinking", "data") => {
                self.sealed = self.sealed.saturating_add(sealed::beyond_bytes(value));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn image(&mut self, source: Value<'_>, path: &str) -> Result<(), Reject> {
        self.images += 1;
        let data = source.get("data");
        match source.get("type").and_then(Value::as_str).as_deref() {
            Some("base64") if data.is_some_and(|data| data.as_str().is_some()) => {
                only(source, &["type", "media_type", "data"], path)?;
                self.image_bytes += data.map_or(0, |data| data.raw().len() as u64);
            }
            Some("url") => {
                only(source, &["type", "url"], path)?;
                self.fills_window = true;
            }
            Some("file") => {
                only(source, &["type", "file_id"], path)?;
                self.fills_window = true;
            }
            _ => return Err(bad_source(path)),
        }
        Ok(())
    }

    fn document(&mut self, source: Value<'_>, path: &str, reading: &Reading<'_>) -> Result<(), Reject> {
        match source.get("type").and_then(Value::as_str).as_deref() {
            Some("text") => only(source, &["type", "media_type", "data"], path),
            Some("content") => {
                only(source, &["type", "content"], path)?;
                let Some(content) = source.get("content") else { return Err(bad_source(path)) };
                self.content(content, &format!("{path}.source.content"), &["text", "image"], reading)
            }
            // Pages, their texts and their pictures: their bytes tell nothing.
            Some("base64") => {
                self.fills_window = true;
                only(source, &["type", "media_type", "data"], path)
            }
            Some("url") => {
                self.fills_window = true;
                only(source, &["type", "url"], path)
            }
            Some("file") => {
                self.fills_window = true;
                only(source, &["type", "file_id"], path)
            }
            _ => Err(bad_source(path)),
        }
    }
}

fn only(value: Value<'_>, fields: &[&str], path: &str) -> Result<(), Reject> {
    match value.fields().find(|(key, _)| !fields.contains(&key.as_ref())) {
        None => Ok(()),
        Some((key, _)) => {
            let message = format!("`{path}.source.{}` is not a field whose cost is known", reject::printable(&key));
            Err(reject::unpriceable(message, format!("send only {}", fields.join(", "))))
        }
    }
}

fn bad_source(path: &str) -> Reject {
    let message = format!("`{path}.source` is not of a form whose cost is known");
    reject::unpriceable(message, "send {\"type\": \"base64\", \"media_type\": …, \"data\": …}, or the content as text")
}

/// A field that nobody knows; the hint names the bare field, as `allow_fields` takes it.
pub fn unknown(path: &str, name: &str, reading: &Reading<'_>) -> Reject {
    let whole = reject::unknown_field(reading.provider, &format!("{path}.{}", reject::printable(name)));
    Reject { hint: reject::unknown_field(reading.provider, name).hint, ..whole }
}

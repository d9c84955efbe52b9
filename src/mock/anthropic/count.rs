//! What a prompt for Claude has for tokens, and where it may be cached.

use serde_json::Value;

use super::super::cache::{Life, Prefixes};
use super::super::error::ApiError;
use super::super::read::{json_tokens, words};

/// Walks tools, system and messages in the order in which they are cached. Tokens: one for each word of every text,
/// 3 a message and 3 more, a quarter of the JSON of tools and tool calls, flat prices for images and documents.
pub fn prompt(body: &Value, model: &str) -> Result<Prefixes, ApiError> {
    let mut prefixes = Prefixes::new(model);
    prefixes.add("", 3);
    for tool in body["tools"].as_array().into_iter().flatten() {
        let mut bare = tool.clone();
        let life = bare.as_object_mut().and_then(|tool| tool.remove("cache_control")).map(|control| life(&control));
        prefixes.add(&bare.to_string(), json_tokens(&bare));
        point(&mut prefixes, life.transpose()?);
    }
    content(&mut prefixes, "system", &body["system"])?;
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return Err(ApiError::bad("messages", None, "messages: at least one message is required"));
    };
    for (at, message) in messages.iter().enumerate() {
        if !matches!(message["role"].as_str(), Some("user" | "assistant" | "system")) {
            let message = format!("messages.{at}.role: Input should be 'user' or 'assistant'");
            return Err(ApiError::bad("messages", None, message));
        }
        if !matches!(message["content"], Value::String(_) | Value::Array(_)) {
            let message = format!("messages.{at}.content: Field required");
            return Err(ApiError::bad("messages", None, message));
        }
        prefixes.add(message["role"].as_str().unwrap_or_default(), 3);
        content(&mut prefixes, &format!("messages.{at}"), &message["content"])?;
    }
    if !body["cache_control"].is_null() {
        prefixes.breakpoint(life(&body["cache_control"])?);
    }
    Ok(prefixes)
}

fn content(prefixes: &mut Prefixes, place: &str, content: &Value) -> Result<(), ApiError> {
    match content {
        Value::String(text) => prefixes.add(text, words(text)),
        Value::Array(blocks) => {
            for block in blocks {
                prefixes.add(&text_of(block), tokens_of(block));
                let control = &block["cache_control"];
                point(prefixes, (!control.is_null()).then(|| life(control)).transpose()?);
            }
        }
        Value::Null => {}
        _ => return Err(ApiError::bad("", None, format!("{place}: Input should be a valid string or list"))),
    }
    Ok(())
}

fn point(prefixes: &mut Prefixes, life: Option<Life>) {
    if let Some(life) = life {
        prefixes.breakpoint(life);
    }
}

fn life(control: &Value) -> Result<Life, ApiError> {
    match (control["type"].as_str(), control["ttl"].as_str()) {
        (Some("ephemeral"), None | Some("5m")) => Ok(Life::Short),
        (Some("ephemeral"), Some("1h")) => Ok(Life::Hour),
        _ => Err(ApiError::bad("cache_control", None, "cache_control: expected type ephemeral, ttl 5m or 1h")),
    }
}

fn text_of(block: &Value) -> String {
    match block["text"].as_str() {
        Some(text) => text.to_owned(),
        None => {
            let mut bare = block.clone();
            if let Some(block) = bare.as_object_mut() {
                block.remove("cache_control");
            }
            bare.to_string()
        }
    }
}

fn tokens_of(block: &Value) -> u64 {
    match block["type"].as_str().unwrap_or_default() {
        "text" => block["text"].as_str().map_or(0, words),
        "image" => 1_568,
        "document" => 3_000,
        "thinking" => block["thinking"].as_str().map_or(0, words),
        "tool_result" => match &block["content"] {
            Value::String(text) => words(text),
            Value::Array(blocks) => blocks.iter().map(tokens_of).sum(),
            _ => 0,
        },
        _ => json_tokens(&block["input"]),
    }
}

/// All texts of the last user message together.
pub fn last_user_text(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.iter().rev().find(|m| m["role"] == "user"));
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => String::new(),
    }
}

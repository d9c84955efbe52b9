//! The input of a response: which items are admitted, and how many tokens they make at most.

use crate::pricing::Tokenizer;
use crate::provider::openai::messages::TOKENS_PER_MESSAGE;
use crate::provider::openai::profile::Api;
use crate::provider::{Reject, reject, tokens};
use crate::wire::json::Value;

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];
/// Items that stand for something that is not in the body, or was encrypted or compressed: the input may fill the window.
const OPAQUE: [&str; 6] =
    ["item_reference", "reasoning", "compaction", "web_search_call", "file_search_call", "code_interpreter_call"];
/// Items that are what they say, with the field that holds text or parts.
const CALLS: [(&str, &str); 4] = [
    ("function_call", "arguments"),
    ("custom_tool_call", "input"),
    ("function_call_output", "output"),
    ("custom_tool_call_output", "output"),
];
/// Fields of such items beside that one.
const CALL_FIELDS: [&str; 5] = ["type", "id", "call_id", "name", "status"];

/// What the bound must know of the input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input {
    /// Items, instructions included.
    pub items: u64,
    /// Something is billed that is not in the body.
    pub is_opaque: bool,
    /// One asks for a cache breakpoint.
    pub has_breakpoint: bool,
    /// Something is fetched from an address, or grows with other calls: it may be another input when the call is made.
    pub may_change: bool,
}

/// Checks the input.
pub fn read(value: Value<'_>, api: &Api<'_>, input: &mut Input) -> Result<(), Reject> {
    if value.as_str().is_some() {
        input.items += 1;
        return Ok(());
    }
    if !value.is_array() {
        return Err(reject::invalid("`input` is neither text nor an array of items", "send text"));
    }
    for (at, item) in value.items().enumerate() {
        input.items += 1;
        read_item(item, &format!("input[{at}]"), api, input)?;
    }
    Ok(())
}

fn read_item(item: Value<'_>, path: &str, api: &Api<'_>, input: &mut Input) -> Result<(), Reject> {
    if !item.is_object() {
        return Err(reject::invalid(format!("`{path}` is not an object"), "send messages, or text"));
    }
    let kind = item.get("type").filter(|kind| !kind.is_null());
    let kind = match kind.map(Value::as_str) {
        None => "message".into(),
        Some(Some(kind)) => kind,
        Some(None) => return Err(reject::invalid(format!("`{path}.type` is not a string"), "send \"message\"")),
    };
    if kind == "message" {
        return read_message(item, path, api, input);
    }
    if OPAQUE.contains(&kind.as_ref()) {
        input.is_opaque = true;
        return Ok(());
    }
    let Some((_, field)) = CALLS.iter().find(|(known, _)| *known == kind) else {
        let message = format!("`{path}`: an item of type `{}` cannot be held for", reject::printable(&kind));
        return Err(reject::unpriceable(message, "send messages, and calls of your own functions with their outputs"));
    };
    for (key, value) in item.fields() {
        match key.as_ref() {
            key if key == *field => read_content(value, &format!("{path}.{key}"), input)?,
            key if CALL_FIELDS.contains(&key) || api.reading.admits(key) => {}
            key if says_nothing(key, value) => {}
            key => return Err(unknown(api, path, key)),
        }
    }
    Ok(())
}

/// True for a field with which an item comes back that an SDK wrote out in full: what it is not is `null`, and a call is the model's own.
/// A call that a program makes runs in a container.
fn says_nothing(key: &str, value: Value<'_>) -> bool {
    let is_direct = || value.get("type").and_then(Value::as_str).as_deref() == Some("direct");
    value.is_null() || key == "caller" && is_direct() && value.fields().count() == 1
}

fn unknown(api: &Api<'_>, path: &str, key: &str) -> Reject {
    let whole = reject::unknown_field(api.reading.provider, &format!("{path}.{key}"));
    // The hint names the bare field, as `allow_fields` takes it.
    Reject { hint: reject::unknown_field(api.reading.provider, key).hint, ..whole }
}

fn read_message(item: Value<'_>, path: &str, api: &Api<'_>, input: &mut Input) -> Result<(), Reject> {
    let mut has_role = false;
    for (key, value) in item.fields() {
        match key.as_ref() {
            "type" | "id" | "status" | "phase" => {}
            "role" => has_role = value.as_str().is_some_and(|role| ROLES.contains(&role.as_ref())),
            "content" => read_content(value, &format!("{path}.content"), input)?,
            key if api.reading.admits(key) || value.is_null() => {}
            key => return Err(unknown(api, path, key)),
        }
    }
    if has_role {
        return Ok(());
    }
    Err(reject::invalid(format!("`{path}.role` is none of {}", ROLES.join(", ")), "send a role"))
}

/// Text, or an array of parts.
fn read_content(content: Value<'_>, path: &str, input: &mut Input) -> Result<(), Reject> {
    if content.as_str().is_some() {
        return Ok(());
    }
    if !content.is_array() {
        return Err(reject::invalid(format!("`{path}` is neither text nor an array of parts"), "send text"));
    }
    for (at, part) in content.items().enumerate() {
        read_part(part, &format!("{path}[{at}]"), input)?;
    }
    Ok(())
}

fn read_part(part: Value<'_>, path: &str, input: &mut Input) -> Result<(), Reject> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let fields: &[&str] = match kind.as_ref() {
        "input_text" => &["text"],
        "output_text" => &["text", "annotations", "logprobs"],
        "refusal" => &["refusal"],
        // Pixels and pages are not known here.
        "input_image" => &["image_url", "file_id", "detail"],
        "input_file" => &["file_id", "file_url", "file_data", "filename", "detail"],
        _ => {
            let message = format!("`{path}`: the input tokens of such a part cannot be known beforehand");
            return Err(reject::unpriceable(message, "send its content as text, an image or a file"));
        }
    };
    let is_text = kind.ends_with("text") || kind == "refusal";
    input.is_opaque |= !is_text;
    for (key, value) in part.fields() {
        let is_right = match key.as_ref() {
            "type" => true,
            "text" | "refusal" => value.as_str().is_some(),
            _ => true,
        };
        let is_address = matches!(key.as_ref(), "image_url" | "file_url") && !value.is_null();
        input.may_change |= is_address && !value.as_str().is_some_and(|url| url.starts_with("data:"));
        if key == "prompt_cache_breakpoint" {
            input.has_breakpoint |= !value.is_null();
        } else if !is_right || key != "type" && !fields.contains(&key.as_ref()) {
            let message =
                format!("`{path}` has a field that does not belong to a part of type {kind}, or is not of its form");
            return Err(reject::unpriceable(message, "send only the fields of the API's reference"));
        }
    }
    Ok(())
}

/// The tokens of input or instructions at most: every text counted exactly, everything else by its bytes.
pub fn count(value: Value<'_>, tokenizer: Tokenizer) -> u64 {
    if let Some(text) = value.as_str() {
        return tokens::count(tokenizer, &text) + TOKENS_PER_MESSAGE;
    }
    value.items().fold(0, |sum: u64, item| sum.saturating_add(count_item(item, tokenizer)))
}

fn count_item(item: Value<'_>, tokenizer: Tokenizer) -> u64 {
    let is_message = item.get("role").is_some();
    if !is_message {
        // Calls and their outputs are rendered in a way that is not public.
        return item.raw().len() as u64 + TOKENS_PER_MESSAGE;
    }
    let mut sum = TOKENS_PER_MESSAGE;
    for (key, value) in item.fields().filter(|(key, _)| !matches!(key.as_ref(), "type" | "role" | "id" | "status")) {
        sum += match key.as_ref() {
            "content" => value.as_str().map_or_else(
                || value.items().map(|part| count_part(part, tokenizer)).sum(),
                |text| tokens::count(tokenizer, &text),
            ),
            _ => value.raw().len() as u64,
        };
    }
    sum
}

/// Tokens that each further part of a message may add where parts are joined.
const TOKENS_PER_PART: u64 = 4;

fn count_part(part: Value<'_>, tokenizer: Tokenizer) -> u64 {
    let mut sum = TOKENS_PER_PART;
    for (key, value) in part.fields() {
        sum += match key.as_ref() {
            "type" | "prompt_cache_breakpoint" | "logprobs" => 0,
            "text" | "refusal" => value.as_str().map_or(0, |text| tokens::count(tokenizer, &text)),
            _ => value.raw().len() as u64,
        };
    }
    sum
}

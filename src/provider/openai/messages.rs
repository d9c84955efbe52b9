//! The messages of a chat: which forms are admitted, and how many tokens they make at most.

use crate::pricing::Tokenizer;
use crate::provider::{Reading, Reject, reject, tokens};
use crate::wire::json::Value;

/// Tokens of a message's frame at most; the published figure is 3, and 1 for a name.
pub const TOKENS_PER_MESSAGE: u64 = 16;
/// Tokens that each further part of a message may add where parts are joined.
const TOKENS_PER_PART: u64 = 4;

const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];

/// What the bound must know of all messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// How many there are.
    pub count: u64,
    /// One holds an image, whose tokens depend on its size in pixels.
    pub has_image: bool,
    /// One asks for a cache breakpoint.
    pub has_breakpoint: bool,
}

/// Checks all messages.
pub fn check(messages: Value<'_>, reading: &Reading<'_>) -> Result<Traits, Reject> {
    let mut traits = Traits::default();
    for message in messages.items() {
        traits.count += 1;
        check_message(message, traits.count - 1, reading, &mut traits)?;
    }
    if traits.count == 0 {
        return Err(reject::invalid("`messages` is not an array with messages in it", "send at least one message"));
    }
    Ok(traits)
}

fn check_message(message: Value<'_>, at: u64, reading: &Reading<'_>, traits: &mut Traits) -> Result<(), Reject> {
    let invalid = |what: &str| Err(reject::invalid(format!("`messages[{at}]`: {what}"), "see the API's reference"));
    if !message.is_object() {
        return invalid("not an object");
    }
    let mut has_role = false;
    for (key, value) in message.fields() {
        match key.as_ref() {
            "role" => has_role = value.as_str().is_some_and(|role| ROLES.contains(&role.as_ref())),
            "content" => check_content(value, at, traits)?,
            "name" | "refusal" | "tool_call_id" if value.is_null() || value.as_str().is_some() => {}
            "name" | "refusal" | "tool_call_id" => return invalid("`name`, `refusal` and `tool_call_id` are strings"),
            "tool_calls" | "annotations" if value.is_null() || value.is_array() => {}
            "function_call" if value.is_null() || value.is_object() => {}
            "tool_calls" | "annotations" | "function_call" => {
                return invalid("`tool_calls` is an array, `function_call` an object");
            }
            "audio" if value.is_null() => {}
            "audio" => {
                let message = format!("`messages[{at}].audio` is billed as audio input, and is not in the body");
                return Err(reject::unpriceable(message, "send the transcript as text"));
            }
            other if reading.admits(other) => {}
            other => {
                let whole = reject::unknown_field(reading.provider, &format!("messages[{at}].{other}"));
                // The hint names the bare field, as `allow_fields` takes it.
                return Err(Reject { hint: reject::unknown_field(reading.provider, other).hint, ..whole });
            }
        }
    }
    if has_role { Ok(()) } else { invalid("`role` is none of developer, system, user, assistant, tool, function") }
}

fn check_content(content: Value<'_>, at: u64, traits: &mut Traits) -> Result<(), Reject> {
    if content.is_null() || content.as_str().is_some() {
        return Ok(());
    }
    if !content.is_array() {
        return Err(reject::invalid(
            format!("`messages[{at}].content` is neither text nor an array of parts"),
            "send text",
        ));
    }
    for (index, part) in content.items().enumerate() {
        let path = format!("messages[{at}].content[{index}]");
        let kind = part.get("type").and_then(Value::as_str);
        let text = match kind.as_deref() {
            Some("text") => "text",
            Some("refusal") => "refusal",
            Some("image_url") => "image_url",
            Some(other @ ("input_audio" | "file" | "video_url" | "input_file" | "input_image")) => {
                let message =
                    format!("`{path}`: the input tokens of a part of type `{other}` cannot be known beforehand");
                return Err(reject::unpriceable(message, "send its content as text"));
            }
            _ => {
                let message = format!("`{path}` is not a part of type text, refusal or image_url");
                return Err(reject::unpriceable(message, "send its content as text"));
            }
        };
        for (key, value) in part.fields() {
            match key.as_ref() {
                "type" => {}
                "image_url" if text == "image_url" && value.is_object() => traits.has_image = true,
                key if key == text && value.as_str().is_some() && text != "image_url" => {}
                "prompt_cache_breakpoint" => traits.has_breakpoint |= !value.is_null(),
                _ => {
                    let message = format!(
                        "`{path}` has a field that does not belong to a part of type {text}, or is not of its form"
                    );
                    return Err(reject::unpriceable(message, "send only the fields of the API's reference"));
                }
            }
        }
    }
    Ok(())
}

/// The tokens of all messages at most: every text counted exactly, everything else by its bytes.
pub fn count(messages: Value<'_>, tokenizer: Tokenizer) -> u64 {
    messages.items().fold(0, |sum: u64, message| sum.saturating_add(count_message(message, tokenizer)))
}

fn count_message(message: Value<'_>, tokenizer: Tokenizer) -> u64 {
    let mut sum = TOKENS_PER_MESSAGE;
    let text = |value: Value<'_>| value.as_str().map_or(0, |text| tokens::count(tokenizer, &text));
    for (key, value) in message.fields() {
        sum += match key.as_ref() {
            "role" => 0,
            "content" if value.is_array() => value.items().map(|part| count_part(part, tokenizer)).sum(),
            "content" | "name" => text(value),
            _ if value.is_null() => 0,
            // Tool calls and the like are rendered in a way that is not public.
            _ => value.raw().len() as u64 + TOKENS_PER_MESSAGE,
        };
    }
    sum
}

fn count_part(part: Value<'_>, tokenizer: Tokenizer) -> u64 {
    let texts = part.fields().filter(|(key, _)| key == "text" || key == "refusal");
    TOKENS_PER_PART
        + texts.filter_map(|(_, value)| value.as_str()).map(|text| tokens::count(tokenizer, &text)).sum::<u64>()
}

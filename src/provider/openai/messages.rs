//! The messages of a chat: which forms are admitted, and how many tokens they make at most.

use crate::pricing::Tokenizer;
use crate::provider::{Reading, Reject, reject, sealed, tokens};
use crate::wire::json::Value;

/// Tokens of a message's frame at most; the published figure is 3, and 1 for a name.
pub const TOKENS_PER_MESSAGE: u64 = 16;
/// Tokens that each further part of a message may add where parts are joined.
const TOKENS_PER_PART: u64 = 4;

/// What a field of a message or of a part must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    Text,
    /// Text or null.
    OptionalText,
    /// An array or null.
    Array,
    /// An object or null.
    Object,
    /// True, false or null.
    Flag,
    /// An image, whose tokens depend on its size in pixels.
    Image,
    /// A mark where the prompt is written to a cache.
    Breakpoint,
    /// Thoughts that are sealed, or null.
    Sealed,
    /// Null, or refused: says why.
    Absent(&'static str),
}

/// The forms that an API admits.
pub struct Messages {
    /// Who may speak.
    pub roles: &'static [&'static str],
    /// Fields of a message beside `role` and `content`.
    pub fields: &'static [(&'static str, Shape)],
    /// Kinds of parts, with their fields beside `type`.
    pub parts: &'static [(&'static str, &'static [(&'static str, Shape)])],
}

/// OpenAI's.
pub static OPENAI: Messages = Messages {
    roles: &["developer", "system", "user", "assistant", "tool", "function"],
    fields: &[
        ("name", Shape::OptionalText),
        ("refusal", Shape::OptionalText),
        ("tool_call_id", Shape::OptionalText),
        ("tool_calls", Shape::Array),
        ("annotations", Shape::Array),
        ("function_call", Shape::Object),
        ("audio", Shape::Absent("is billed as audio input, and is not in the body")),
    ],
    parts: &[
        ("text", &[("text", Shape::Text), ("prompt_cache_breakpoint", Shape::Breakpoint)]),
        ("refusal", &[("refusal", Shape::Text), ("prompt_cache_breakpoint", Shape::Breakpoint)]),
        ("image_url", &[("image_url", Shape::Image), ("prompt_cache_breakpoint", Shape::Breakpoint)]),
    ],
};

/// Mistral's.
pub static MISTRAL: Messages = Messages {
    roles: &["system", "user", "assistant", "tool"],
    fields: &[
        ("name", Shape::OptionalText),
        ("tool_call_id", Shape::OptionalText),
        ("tool_calls", Shape::Array),
        ("prefix", Shape::Flag),
    ],
    parts: &[
        ("text", &[("text", Shape::Text)]),
        ("image_url", &[("image_url", Shape::Image)]),
        ("reference", &[("reference_ids", Shape::Array)]),
        ("thinking", &[("thinking", Shape::Array), ("closed", Shape::Flag), ("signature", Shape::Sealed)]),
    ],
};

/// What the bound must know of all messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// How many there are.
    pub count: u64,
    /// One holds an image.
    pub has_image: bool,
    /// One asks for a cache breakpoint.
    pub has_breakpoint: bool,
    /// What sealed thoughts may hold beyond a token a byte.
    pub sealed: u64,
}

impl Traits {
    /// Checks a value against a shape. False: it is of another one.
    fn takes(&mut self, shape: Shape, value: Value<'_>) -> bool {
        match shape {
            Shape::Text => value.as_str().is_some(),
            Shape::OptionalText => value.is_null() || value.as_str().is_some(),
            Shape::Array => value.is_null() || value.is_array(),
            Shape::Object => value.is_null() || value.is_object(),
            Shape::Flag => value.is_null() || value.as_bool().is_some(),
            Shape::Image => {
                self.has_image = true;
                value.is_object() || value.as_str().is_some()
            }
            Shape::Breakpoint => {
                self.has_breakpoint |= !value.is_null();
                true
            }
            Shape::Sealed => {
                self.sealed = self.sealed.saturating_add(sealed::beyond_bytes(value));
                value.is_null() || value.as_str().is_some()
            }
            Shape::Absent(_) => value.is_null(),
        }
    }
}

/// Checks all messages.
pub fn check(messages: Value<'_>, forms: &Messages, reading: &Reading<'_>) -> Result<Traits, Reject> {
    let mut traits = Traits::default();
    for message in messages.items() {
        traits.count += 1;
        check_message(message, traits.count - 1, forms, reading, &mut traits)?;
    }
    if traits.count == 0 {
        return Err(reject::invalid("`messages` is not an array with messages in it", "send at least one message"));
    }
    Ok(traits)
}

fn check_message(
    message: Value<'_>,
    at: u64,
    forms: &Messages,
    reading: &Reading<'_>,
    traits: &mut Traits,
) -> Result<(), Reject> {
    let invalid = |what: String| Err(reject::invalid(format!("`messages[{at}]`: {what}"), "see the API's reference"));
    if !message.is_object() {
        return invalid("not an object".into());
    }
    let mut has_role = false;
    for (key, value) in message.fields() {
        match key.as_ref() {
            "role" => has_role = value.as_str().is_some_and(|role| forms.roles.contains(&role.as_ref())),
            "content" => check_content(value, at, forms, traits)?,
            key => match forms.fields.iter().find(|(name, _)| *name == key) {
                Some((_, shape)) if traits.takes(*shape, value) => {}
                Some((name, Shape::Absent(why))) => {
                    let message = format!("`messages[{at}].{name}` {why}");
                    return Err(reject::unpriceable(message, "send its content as text"));
                }
                Some((name, _)) => return invalid(format!("`{name}` is not of its form")),
                None if reading.admits(key) => {}
                None => {
                    let whole = reject::unknown_field(reading.provider, &format!("messages[{at}].{key}"));
                    // The hint names the bare field, as `allow_fields` takes it.
                    return Err(Reject { hint: reject::unknown_field(reading.provider, key).hint, ..whole });
                }
            },
        }
    }
    if has_role { Ok(()) } else { invalid(format!("`role` is none of {}", forms.roles.join(", "))) }
}

fn check_content(content: Value<'_>, at: u64, forms: &Messages, traits: &mut Traits) -> Result<(), Reject> {
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
        check_part(part, &format!("messages[{at}].content[{index}]"), forms, traits)?;
    }
    Ok(())
}

fn check_part(part: Value<'_>, path: &str, forms: &Messages, traits: &mut Traits) -> Result<(), Reject> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let Some((_, fields)) = forms.parts.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = forms.parts.iter().map(|(known, _)| *known).collect();
        let message = format!(
            "`{path}`: only parts of type {} are held for; the input tokens of others cannot be known beforehand",
            known.join(", ")
        );
        return Err(reject::unpriceable(message, "send its content as text"));
    };
    for (key, value) in part.fields().filter(|(key, _)| key != "type") {
        let shape = fields.iter().find(|(name, _)| *name == key);
        if !shape.is_some_and(|(_, shape)| traits.takes(*shape, value)) {
            let message =
                format!("`{path}` has a field that does not belong to a part of type {kind}, or is not of its form");
            return Err(reject::unpriceable(message, "send only the fields of the API's reference"));
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

/// The tokens of one part: its texts exactly, what else is in it by its bytes.
fn count_part(part: Value<'_>, tokenizer: Tokenizer) -> u64 {
    let tokens = |(key, value): (std::borrow::Cow<'_, str>, Value<'_>)| match value.as_str() {
        _ if key == "type" || key == "prompt_cache_breakpoint" => 0,
        Some(text) => tokens::count(tokenizer, &text),
        None => value.raw().len() as u64,
    };
    TOKENS_PER_PART + part.fields().map(tokens).sum::<u64>()
}

//! The `usage` object of an answer, in the words of the price table.

use crate::pricing::{Tier, Usage};
use crate::wire::json::{Kind, Value};

/// More tokens than any call can have: a number above it is a fault, not a bill.
const TOKENS_MAX: u64 = 1 << 40;

/// A usage object that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

/// Members of a usage object that are read, or say nothing of tokens.
const KNOWN: [&str; 8] = [
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "num_cached_tokens",
    "prompt_audio_seconds",
    "service_tier",
];
/// Members of its details. Those that are not read are parts of the text, and billed as it.
const KNOWN_DETAILS: [&str; 8] = [
    "cached_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "text_tokens",
    "image_tokens",
    "reasoning_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
];

/// What an API calls the parts of its usage.
struct Names {
    input: &'static str,
    output: &'static str,
    input_details: &'static str,
    output_details: &'static str,
}

const CHAT: Names = Names {
    input: "prompt_tokens",
    output: "completion_tokens",
    input_details: "prompt_tokens_details",
    output_details: "completion_tokens_details",
};
const RESPONSES: Names = Names {
    input: "input_tokens",
    output: "output_tokens",
    input_details: "input_tokens_details",
    output_details: "output_tokens_details",
};

/// The usage of a chat, a completion or embeddings. The latter two may have no output, and then do not name it.
pub fn of_chat(usage: Value<'_>, may_lack_output: bool) -> Result<Usage, Odd> {
    let read = read(usage, &CHAT, may_lack_output)?;
    // Audio has a price by the second with Mistral, and is not admitted.
    let audio = usage.get("prompt_audio_seconds").filter(|seconds| seconds.kind() == Kind::Number);
    if audio.is_some_and(|seconds| seconds.as_u64() != Some(0)) {
        return Err(Odd);
    }
    // Mistral's way to say it; where both stand, the dearer one counts.
    let details = usage.get("prompt_tokens_details").filter(|details| !details.is_null());
    let is_said = details.is_some_and(|details| details.get("cached_tokens").is_some_and(|cached| !cached.is_null()));
    let Some(cached) = count(usage, "num_cached_tokens")? else { return Ok(read) };
    let cache_read = if is_said { cached.min(read.cache_read) } else { cached };
    let input = (read.input + read.cache_read).checked_sub(cache_read).ok_or(Odd)?;
    Ok(Usage { input, cache_read, ..read })
}

/// The usage of a response.
pub fn of_responses(usage: Value<'_>) -> Result<Usage, Odd> {
    read(usage, &RESPONSES, false)
}

/// Reads a usage object. Input and output hold everything; the details say what part is billed otherwise.
fn read(usage: Value<'_>, names: &Names, may_lack_output: bool) -> Result<Usage, Odd> {
    let input = count(usage, names.input)?.ok_or(Odd)?;
    let total = count(usage, "total_tokens")?;
    let output = match count(usage, names.output)? {
        Some(output) => output,
        None if may_lack_output => 0,
        None => return Err(Odd),
    };
    // Every request has input; a total that is not the sum hides something.
    if input == 0 || total.is_some_and(|total| total != input + output) {
        return Err(Odd);
    }
    let detail = |group: &str, name: &str| match usage.get(group).filter(|details| !details.is_null()) {
        None => Ok(0),
        Some(details) if details.is_object() => Ok(count(details, name)?.unwrap_or(0)),
        Some(_) => Err(Odd),
    };
    let of_input = |name| detail(names.input_details, name);
    let of_output = |name| detail(names.output_details, name);
    let (cache_read, cache_write, audio_in) =
        (of_input("cached_tokens")?, of_input("cache_write_tokens")?, of_input("audio_tokens")?);
    let (reasoning, audio_out) = (of_output("reasoning_tokens")?, of_output("audio_tokens")?);
    let text = output.checked_sub(audio_out).ok_or(Odd)?;
    if reasoning > text {
        return Err(Odd);
    }
    Ok(Usage {
        input: input.checked_sub(cache_read + cache_write + audio_in).ok_or(Odd)?,
        cache_read,
        cache_write_5m: cache_write,
        audio_in,
        output: text,
        reasoning,
        audio_out,
        ..Usage::default()
    })
}

/// True when something is counted that nobody knows here.
pub fn has_unknown(usage: Value<'_>) -> bool {
    usage.fields().any(|(name, value)| match name.as_ref() {
        name if name.ends_with("_tokens_details") => {
            value.fields().any(|(name, value)| !KNOWN_DETAILS.contains(&name.as_ref()) && counts_something(value))
        }
        name => !KNOWN.contains(&name) && counts_something(value),
    })
}

/// True for a usage object that counts nothing: all its counts are zeros, or there are none.
pub fn is_blank(usage: Value<'_>) -> bool {
    match usage.kind() {
        Kind::Object => usage.fields().all(|(name, value)| is_blank(value) || is_measure(&name, value)),
        // A count that is none, such as a fraction, may be meant for one.
        Kind::Number => usage.as_u64() == Some(0),
        _ => true,
    }
}

/// True for a number that counts no tokens: a time, say.
fn is_measure(name: &str, value: Value<'_>) -> bool {
    value.kind() == Kind::Number && !name.contains("token")
}

/// True for data that may have been a usage: it has the name, and not only with `null`, as most chunks of a stream do.
pub fn may_be_in(data: &[u8]) -> bool {
    const NAME: &[u8] = b"\"usage\"";
    let is_null = |rest: &[u8]| {
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| value.starts_with(b"null"))
    };
    (0..data.len()).any(|at| data[at..].strip_prefix(NAME).is_some_and(|rest| !is_null(rest)))
}

/// True for a count above zero, or an object with one in it.
fn counts_something(value: Value<'_>) -> bool {
    value.as_u64().is_some_and(|count| count > 0) || value.fields().any(|(_, value)| counts_something(value))
}

/// A count of tokens; `None` where it is missing or null.
fn count(object: Value<'_>, name: &str) -> Result<Option<u64>, Odd> {
    match object.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => value.as_u64().filter(|&count| count <= TOKENS_MAX).map(Some).ok_or(Odd),
    }
}

/// The tier that an answer names. A name that nobody knows is taken for the dearest.
pub fn tier(name: &str) -> Tier {
    match name {
        "default" | "auto" | "standard" | "standard_only" => Tier::Standard,
        // Tokens beyond a prepaid unit fall to the default price, and those within are not ours to bill.
        "scale" => Tier::Standard,
        "flex" => Tier::Flex,
        "priority" | "fast" => Tier::Priority,
        _ => Tier::Ultrafast,
    }
}

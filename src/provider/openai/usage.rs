//! The `usage` object of an answer, in the words of the price table.

use crate::pricing::{Tier, Usage};
use crate::wire::json::Value;

/// More tokens than any call can have: a number above it is a fault, not a bill.
const TOKENS_MAX: u64 = 1 << 40;

/// A usage object that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

/// Reads a usage object. `prompt_tokens` and `completion_tokens` hold everything; the details say what part is billed otherwise.
pub fn read(usage: Value<'_>, is_embedding: bool) -> Result<Usage, Odd> {
    let prompt = count(usage, "prompt_tokens")?.ok_or(Odd)?;
    let completion = match count(usage, "completion_tokens")? {
        Some(completion) => completion,
        None if is_embedding => 0,
        None => return Err(Odd),
    };
    let total = count(usage, "total_tokens")?;
    // Every request has input; a total that is not the sum hides something.
    if prompt == 0 || total.is_some_and(|total| total != prompt + completion) {
        return Err(Odd);
    }
    let detail = |group: &str, name: &str| match usage.get(group).filter(|details| !details.is_null()) {
        None => Ok(0),
        Some(details) if details.is_object() => Ok(count(details, name)?.unwrap_or(0)),
        Some(_) => Err(Odd),
    };
    let of_prompt = |name| detail("prompt_tokens_details", name);
    let of_completion = |name| detail("completion_tokens_details", name);
    let (cache_read, cache_write, audio_in) =
        (of_prompt("cached_tokens")?, of_prompt("cache_write_tokens")?, of_prompt("audio_tokens")?);
    let (reasoning, audio_out) = (of_completion("reasoning_tokens")?, of_completion("audio_tokens")?);
    let output = completion.checked_sub(audio_out).ok_or(Odd)?;
    if reasoning > output {
        return Err(Odd);
    }
    Ok(Usage {
        input: prompt.checked_sub(cache_read + cache_write + audio_in).ok_or(Odd)?,
        cache_read,
        cache_write_5m: cache_write,
        audio_in,
        output,
        reasoning,
        audio_out,
        ..Usage::default()
    })
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
        "default" | "auto" | "standard" => Tier::Standard,
        // Tokens beyond a prepaid unit fall to the default price, and those within are not ours to bill.
        "scale" => Tier::Standard,
        "flex" => Tier::Flex,
        "priority" | "fast" => Tier::Priority,
        _ => Tier::Ultrafast,
    }
}

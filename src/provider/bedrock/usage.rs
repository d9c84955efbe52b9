//! What an answer says of its tokens, in the words of Bedrock and of the vendors, in the words of the price table.

use http::HeaderMap;

use super::model::Vendor;
use crate::pricing::{Terms, Tier, Usage};
use crate::wire::json::Value;

/// More tokens than any call can have: a number above it is a fault, not a bill.
const TOKENS_MAX: u64 = 1 << 40;

/// Usage that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

/// Counts as far as they were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input that no cache served or took.
    pub input: Option<u64>,
    /// Output.
    pub output: Option<u64>,
    /// Read from the cache.
    pub read: Option<u64>,
    /// Written to the cache, for whatever time.
    pub write: Option<u64>,
    /// The part written for five minutes.
    pub write_5m: Option<u64>,
    /// The part written for an hour.
    pub write_1h: Option<u64>,
}

/// Names of the same count in Bedrock's own answers, in its metrics, and in the vendors' answers.
const INPUT: [&str; 5] = ["inputTokens", "inputTokenCount", "input_tokens", "prompt_tokens", "prompt_token_count"];
const OUTPUT: [&str; 5] =
    ["outputTokens", "outputTokenCount", "output_tokens", "completion_tokens", "generation_token_count"];
const READ: [&str; 3] = ["cacheReadInputTokens", "cacheReadInputTokenCount", "cache_read_input_tokens"];
const WRITE: [&str; 3] = ["cacheWriteInputTokens", "cacheWriteInputTokenCount", "cache_creation_input_tokens"];
/// Members of usage objects that are no count of tokens, or are read on their own.
const OTHERS: [&str; 5] =
    ["service_tier", "output_tokens_details", "inference_geo", "invocationLatency", "firstByteLatency"];

impl Counts {
    /// Takes counts that say the same as these in other words: the larger of each. True when they disagree.
    pub fn join(&mut self, other: &Counts) -> bool {
        let mut differ = false;
        let mut join = |mine: &mut Option<u64>, other: Option<u64>| {
            differ |= mine.zip(other).is_some_and(|(mine, other)| mine != other);
            *mine = (*mine).max(other);
        };
        join(&mut self.input, other.input);
        join(&mut self.output, other.output);
        join(&mut self.read, other.read);
        join(&mut self.write, other.write);
        join(&mut self.write_5m, other.write_5m);
        join(&mut self.write_1h, other.write_1h);
        differ
    }

    /// Takes counts of a later moment: each replaces the earlier one, where it is there. True when one shrank, which is then not believed.
    pub fn replace(&mut self, later: &Counts) -> bool {
        let mut shrank = false;
        let mut take = |mine: &mut Option<u64>, later: Option<u64>| {
            shrank |= later.is_some() && later < *mine;
            *mine = (*mine).max(later);
        };
        take(&mut self.input, later.input);
        take(&mut self.output, later.output);
        take(&mut self.read, later.read);
        take(&mut self.write, later.write);
        take(&mut self.write_5m, later.write_5m);
        take(&mut self.write_1h, later.write_1h);
        shrank
    }

    /// What is billed. `None` unless input (and output, where there is any) was told; nothing at all is plausible only where `may_be_nothing`.
    pub fn usage(
        &self,
        vendor: Vendor,
        terms: &Terms,
        is_embedding: bool,
        may_be_nothing: bool,
    ) -> Result<Option<Usage>, Odd> {
        let (Some(input), Some(output)) = (self.input, self.output.or(is_embedding.then_some(0))) else {
            return Ok(None);
        };
        let (short, hour) = (self.write_5m.unwrap_or(0), self.write_1h.unwrap_or(0));
        let split = short.saturating_add(hour);
        let write = self.write.unwrap_or(split).max(split);
        // What no detail names was written at the dearer of the rates that the request allows.
        let rest = write - split;
        let (short, hour) = if terms.cache_write_1h { (short, hour + rest) } else { (short + rest, hour) };
        let read = self.read.unwrap_or(0);
        let usage = match vendor {
            // Nova bills what it writes as plain input.
            Vendor::Nova => Usage { input: input.saturating_add(write), cache_read: read, output, ..Usage::default() },
            _ => Usage {
                input,
                cache_read: read,
                cache_write_5m: short,
                cache_write_1h: hour,
                output,
                ..Usage::default()
            },
        };
        if usage.total_input() == 0 && !(may_be_nothing && output == 0) { Err(Odd) } else { Ok(Some(usage)) }
    }
}

/// Reads a usage object of any of these names. The second value is true when it has a member that nobody knows.
pub fn read(usage: Value<'_>) -> Result<(Counts, bool), Odd> {
    if !usage.is_object() {
        return Err(Odd);
    }
    let mut counts = Counts::default();
    let (mut is_odd, mut total) = (false, None);
    for (name, value) in usage.fields() {
        if value.is_null() {
            continue;
        }
        let name = name.as_ref();
        let slot = match name {
            _ if INPUT.contains(&name) => &mut counts.input,
            _ if OUTPUT.contains(&name) => &mut counts.output,
            _ if READ.contains(&name) => &mut counts.read,
            _ if WRITE.contains(&name) => &mut counts.write,
            "totalTokens" | "total_tokens" => &mut total,
            "cacheDetails" => {
                details(value, &mut counts)?;
                continue;
            }
            "cache_creation" => {
                counts.write_5m = member(value, "ephemeral_5m_input_tokens")?;
                counts.write_1h = member(value, "ephemeral_1h_input_tokens")?;
                continue;
            }
            // Tools that run inside the provider are refused: only a count of nothing is expected of them.
            "serverToolUsage" | "server_tool_use" => {
                is_odd |= value.raw().contains(|c: char| matches!(c, '1'..='9'));
                continue;
            }
            _ => {
                is_odd |= !OTHERS.contains(&name);
                continue;
            }
        };
        // Two names of one count may stand side by side.
        *slot = (*slot).max(Some(tokens(value)?));
    }
    if let (Some(total), Some(input), Some(output)) = (total, counts.input, counts.output) {
        // Whether the sum holds what the cache served is told differently in different places.
        let plain = input + output;
        let all = plain + counts.read.unwrap_or(0) + counts.write.unwrap_or(0);
        if !(plain..=all).contains(&total) {
            return Err(Odd);
        }
    }
    Ok((counts, is_odd))
}

/// `[{"ttl":"1h","inputTokens":5}]`: a time that nobody knows is taken for the dearest.
fn details(value: Value<'_>, counts: &mut Counts) -> Result<(), Odd> {
    for detail in value.items() {
        let tokens = member(detail, "inputTokens")?.ok_or(Odd)?;
        let is_short = detail.get("ttl").and_then(Value::as_str).is_some_and(|ttl| ttl == "5m");
        let slot = if is_short { &mut counts.write_5m } else { &mut counts.write_1h };
        *slot = Some(slot.unwrap_or(0).saturating_add(tokens));
    }
    if value.is_array() { Ok(()) } else { Err(Odd) }
}

/// A count at the top level of an object; `None` where it is missing or null.
pub fn member(object: Value<'_>, name: &str) -> Result<Option<u64>, Odd> {
    object.get(name).filter(|value| !value.is_null()).map(tokens).transpose()
}

fn tokens(value: Value<'_>) -> Result<u64, Odd> {
    value.as_u64().filter(|&count| count <= TOKENS_MAX).ok_or(Odd)
}

/// The counts in an answer's head.
pub fn headers(headers: &HeaderMap) -> Result<Counts, Odd> {
    let count = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let digits = value.to_str().map_err(|_| Odd)?.trim();
        let is_whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let count =
            digits.parse::<u64>().ok().filter(|&count| is_whole && count <= TOKENS_MAX && values.next().is_none());
        count.map(Some).ok_or(Odd)
    };
    Ok(Counts {
        input: count("x-amzn-bedrock-input-token-count")?,
        output: count("x-amzn-bedrock-output-token-count")?,
        read: count("x-amzn-bedrock-cache-read-input-token-count")?,
        write: count("x-amzn-bedrock-cache-write-input-token-count")?,
        ..Counts::default()
    })
}

/// The tier that an answer names. A name that nobody knows is taken for the dearest.
pub fn tier(name: &str) -> Tier {
    match name {
        // What was paid for beforehand is not ours to bill; it is charged as if it were not.
        "default" | "reserved" => Tier::Standard,
        "flex" => Tier::Flex,
        "priority" => Tier::Priority,
        _ => Tier::Ultrafast,
    }
}

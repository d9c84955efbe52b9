//! The `usage` of an answer, which comes in several parts, in the words of the price table.

use crate::pricing::Usage;
use crate::wire::json::Value;

/// More tokens than any call can have: a number above it is a fault, not a bill.
const TOKENS_MAX: u64 = 1 << 40;

/// A usage object that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

/// The counts of one usage object, or of all that came so far. `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input tokens beside the cache's.
    pub input: Option<u64>,
    /// Input tokens read from the cache.
    pub cache_read: Option<u64>,
    /// Input tokens written to the cache, for whatever time.
    pub cache_write: Option<u64>,
    /// Those written for five minutes.
    pub write_5m: Option<u64>,
    /// Those written for an hour.
    pub write_1h: Option<u64>,
    /// Output tokens, thinking included.
    pub output: Option<u64>,
    /// The part that was thinking.
    pub thinking: Option<u64>,
    /// Web searches.
    pub web_searches: Option<u64>,
    /// Web pages fetched.
    pub web_fetches: Option<u64>,
    /// Something was counted that nobody knows here.
    pub has_unknown: bool,
}

impl Counts {
    /// Reads a usage object.
    pub fn read(usage: Value<'_>) -> Result<Counts, Odd> {
        if !usage.is_object() {
            return Err(Odd);
        }
        let mut counts = Counts::default();
        for (key, value) in usage.fields().filter(|(_, value)| !value.is_null()) {
            match key.as_ref() {
                "input_tokens" => counts.input = Some(count(value)?),
                "cache_read_input_tokens" => counts.cache_read = Some(count(value)?),
                "cache_creation_input_tokens" => counts.cache_write = Some(count(value)?),
                "output_tokens" => counts.output = Some(count(value)?),
                "cache_creation" => counts.writes(value)?,
                "output_tokens_details" => counts.details(value)?,
                "server_tool_use" => counts.tools(value)?,
                "service_tier" | "inference_geo" | "speed" | "iterations" | "type" | "model" => {}
                _ => counts.has_unknown |= counts_something(value),
            }
        }
        Ok(counts)
    }

    fn writes(&mut self, value: Value<'_>) -> Result<(), Odd> {
        for (key, value) in object(value)? {
            match key.as_ref() {
                "ephemeral_5m_input_tokens" => self.write_5m = Some(count(value)?),
                "ephemeral_1h_input_tokens" => self.write_1h = Some(count(value)?),
                _ => self.has_unknown |= counts_something(value),
            }
        }
        Ok(())
    }

    fn details(&mut self, value: Value<'_>) -> Result<(), Odd> {
        for (key, value) in object(value)? {
            match key.as_ref() {
                "thinking_tokens" => self.thinking = Some(count(value)?),
                // A part of the output that is not named here is billed as output.
                _ => self.has_unknown |= counts_something(value),
            }
        }
        Ok(())
    }

    fn tools(&mut self, value: Value<'_>) -> Result<(), Odd> {
        for (key, value) in object(value)? {
            match key.as_ref() {
                "web_search_requests" => self.web_searches = Some(count(value)?),
                "web_fetch_requests" => self.web_fetches = Some(count(value)?),
                _ => self.has_unknown |= counts_something(value),
            }
        }
        Ok(())
    }

    /// Takes later counts, which are sums so far: each replaces what was said before, unless it is smaller. True if one was.
    pub fn update(&mut self, later: &Counts) -> bool {
        let mut shrank = false;
        let mut take = |old: &mut Option<u64>, new: Option<u64>| {
            shrank |= new.is_some_and(|new| old.is_some_and(|old| new < old));
            *old = (*old).max(new);
        };
        take(&mut self.input, later.input);
        take(&mut self.cache_read, later.cache_read);
        take(&mut self.cache_write, later.cache_write);
        take(&mut self.write_5m, later.write_5m);
        take(&mut self.write_1h, later.write_1h);
        take(&mut self.output, later.output);
        take(&mut self.thinking, later.thinking);
        take(&mut self.web_searches, later.web_searches);
        take(&mut self.web_fetches, later.web_fetches);
        self.has_unknown |= later.has_unknown;
        shrank
    }

    /// The usage that these counts come to; `writes_hour` when a write whose time is not said may be for an hour.
    pub fn usage(&self, writes_hour: bool) -> Result<Usage, Odd> {
        let (input, output) = (self.input.ok_or(Odd)?, self.output.ok_or(Odd)?);
        let (mut write_5m, mut write_1h) = (self.write_5m.unwrap_or(0), self.write_1h.unwrap_or(0));
        // The split is said once, at the start: what was written later is only in the sum.
        let rest = self.cache_write.unwrap_or(0).saturating_sub(write_5m.saturating_add(write_1h));
        if writes_hour || self.has_unknown {
            write_1h += rest
        } else {
            write_5m += rest
        }
        let thinking = self.thinking.unwrap_or(0);
        if thinking > output {
            return Err(Odd);
        }
        Ok(Usage {
            input,
            cache_read: self.cache_read.unwrap_or(0),
            cache_write_5m: write_5m,
            cache_write_1h: write_1h,
            output,
            reasoning: thinking,
            ..Usage::default()
        })
    }

    /// True when the split of the writes has more than their sum.
    pub fn is_split_odd(&self) -> bool {
        let split = self.write_5m.unwrap_or(0).saturating_add(self.write_1h.unwrap_or(0));
        self.cache_write.is_some_and(|sum| sum < split)
    }
}

/// One pass of a model, as `usage.iterations` lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iteration {
    /// What it used.
    pub usage: Usage,
    /// Its model; `None`: the answer's.
    pub model: Option<String>,
}

/// Reads `usage.iterations`.
pub fn iterations(value: Value<'_>, writes_hour: bool) -> Result<Vec<Iteration>, Odd> {
    if !value.is_array() {
        return Err(Odd);
    }
    let read = |entry: Value<'_>| {
        let counts = Counts::read(entry)?;
        let model = entry.get("model").and_then(Value::as_str).map(|name| name.into_owned());
        Ok(Iteration { usage: counts.usage(writes_hour)?, model })
    };
    value.items().map(read).collect()
}

/// What `whole` has beyond the sum of `parts`, meter by meter.
pub fn beyond(whole: &Usage, parts: &[Iteration]) -> Usage {
    let rest = |meter: fn(&Usage) -> u64| {
        let sum = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(meter(&part.usage)));
        meter(whole).saturating_sub(sum)
    };
    Usage {
        input: rest(|usage| usage.input),
        cache_read: rest(|usage| usage.cache_read),
        cache_write_5m: rest(|usage| usage.cache_write_5m),
        cache_write_1h: rest(|usage| usage.cache_write_1h),
        output: rest(|usage| usage.output),
        ..Usage::default()
    }
}

/// The sum of two usages of the same pass.
pub fn plus(one: &Usage, other: &Usage) -> Usage {
    Usage {
        input: one.input.saturating_add(other.input),
        cache_read: one.cache_read.saturating_add(other.cache_read),
        cache_write_5m: one.cache_write_5m.saturating_add(other.cache_write_5m),
        cache_write_1h: one.cache_write_1h.saturating_add(other.cache_write_1h),
        output: one.output.saturating_add(other.output),
        ..*one
    }
}

fn object<'a>(value: Value<'a>) -> Result<impl Iterator<Item = (std::borrow::Cow<'a, str>, Value<'a>)>, Odd> {
    if value.is_object() { Ok(value.fields().filter(|(_, value)| !value.is_null())) } else { Err(Odd) }
}

fn count(value: Value<'_>) -> Result<u64, Odd> {
    value.as_u64().filter(|&count| count <= TOKENS_MAX).ok_or(Odd)
}

/// True for anything but zero and emptiness.
fn counts_something(value: Value<'_>) -> bool {
    match value.as_u64() {
        Some(count) => count > 0,
        None => !(value.is_object() || value.is_array()) || value.fields().any(|(_, value)| counts_something(value)),
    }
}

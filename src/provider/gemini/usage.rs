//! `usageMetadata`, in the words of the price table.

use crate::pricing::{Rates, Terms, Tier, Usage};
use crate::wire::json::Value;

/// More tokens than any call can have: a number above it is a fault, not a bill.
const TOKENS_MAX: u64 = 1 << 40;
/// More parts of a bill than any call can have; a larger bill is not split, which can only make it dearer.
const PARTS_MAX: u64 = 1 << 12;
/// Every count of the object, and where it is split by modality.
const COUNTS: [&str; 6] = [
    "promptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "totalTokenCount",
];

/// A usage object that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd;

/// What a usage object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The prompt, and what was generated.
    pub usage: Usage,
    /// What tools put into the prompt: input that does not count towards the threshold of long prompts.
    pub tool_use: Usage,
    /// Something in it has no known meaning; it was taken at the dearest.
    pub has_unknown: bool,
}

/// Kinds of tokens, in the order in which a cache is taken to hold them when the answer does not say: the least saving first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Image,
    Video,
    Audio,
}

const KINDS: [Kind; 4] = [Kind::Text, Kind::Image, Kind::Video, Kind::Audio];

/// Tokens by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split([u64; 4]);

impl Split {
    fn get(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    fn add(&mut self, kind: Kind, tokens: u64) {
        self.0[kind as usize] = self.0[kind as usize].saturating_add(tokens);
    }

    /// Takes at most `tokens` of a kind away, and returns how many.
    fn take(&mut self, kind: Kind, tokens: u64) -> u64 {
        let taken = tokens.min(self.0[kind as usize]);
        self.0[kind as usize] -= taken;
        taken
    }
}

/// Reads a usage object. What it does not attribute is billed at the dearest that the request could mean.
pub fn read(usage: Value<'_>, rates: &Rates, terms: &Terms) -> Result<Reported, Odd> {
    let [prompt, cached, candidates, thoughts, tool_use, total] = counts(usage)?;
    let sum = prompt + candidates + thoughts + tool_use;
    // Every request has input; a total above the sum hides something.
    if prompt == 0 || cached > prompt || total > sum {
        return Err(Odd);
    }
    let mut has_unknown = unknown_fields(usage) || (total != 0 && total < sum);
    let input_kind = dearest_input(rates, terms);
    // Embeddings spell it without the s.
    let name = if usage.get("promptTokenDetails").is_some() { "promptTokenDetails" } else { "promptTokensDetails" };
    let mut input = split(usage, name, prompt, input_kind, &mut has_unknown)?;
    let tools = split(usage, "toolUsePromptTokensDetails", tool_use, input_kind, &mut has_unknown)?;
    let output_kind = dearest_output(rates, terms);
    let output = split(usage, "candidatesTokensDetails", candidates, output_kind, &mut has_unknown)?;
    let (cache_read, audio_in_cached) = cached_parts(usage, cached, &mut input, &mut has_unknown)?;
    let usage = Usage {
        input: input.get(Kind::Text),
        cache_read,
        audio_in: input.get(Kind::Audio),
        audio_in_cached,
        image_in: input.get(Kind::Image),
        video_in: input.get(Kind::Video),
        // Video has no meter of its own in the output.
        output: output.get(Kind::Text) + output.get(Kind::Video) + thoughts,
        reasoning: thoughts,
        audio_out: output.get(Kind::Audio),
        image_out: output.get(Kind::Image),
        ..Usage::default()
    };
    let tool_use = Usage {
        input: tools.get(Kind::Text),
        audio_in: tools.get(Kind::Audio),
        image_in: tools.get(Kind::Image),
        video_in: tools.get(Kind::Video),
        ..Usage::default()
    };
    Ok(Reported { usage, tool_use, has_unknown })
}

impl Reported {
    /// Everything in one usage, and what must be billed apart: tokens of tools that would lift a short prompt above the threshold.
    pub fn bill(&self, long_above: Option<u64>) -> (Usage, Vec<Usage>) {
        let (mut usage, tools) = (self.usage, self.tool_use);
        let prompt = usage.total_input();
        let above = long_above.unwrap_or(u64::MAX).max(1);
        let fits = prompt.saturating_add(tools.total_input()) <= above;
        if prompt > above || fits || tools.total_input() / above > PARTS_MAX {
            usage.input += tools.input;
            usage.audio_in += tools.audio_in;
            usage.image_in += tools.image_in;
            usage.video_in += tools.video_in;
            return (usage, Vec::new());
        }
        // None of the parts is above the threshold on its own.
        let parts = |tokens: u64, part: fn(u64) -> Usage| {
            let whole = std::iter::repeat_n(above, usize::try_from(tokens / above).unwrap_or(usize::MAX));
            whole.chain([tokens % above]).filter(|tokens| *tokens > 0).map(part)
        };
        let apart = parts(tools.input, |input| Usage { input, ..Usage::default() })
            .chain(parts(tools.audio_in, |audio_in| Usage { audio_in, ..Usage::default() }))
            .chain(parts(tools.image_in, |image_in| Usage { image_in, ..Usage::default() }))
            .chain(parts(tools.video_in, |video_in| Usage { video_in, ..Usage::default() }));
        (usage, apart.collect())
    }
}

/// The tokens that were read from a cache, audio apart; they are taken from `input`. Where the answer does not say what they
/// were, they are what a cache saves least on.
fn cached_parts(usage: Value<'_>, cached: u64, input: &mut Split, has_unknown: &mut bool) -> Result<(u64, u64), Odd> {
    let mut rest = cached;
    let (mut plain, mut audio) = (0, 0);
    let mut take = |kind: Kind, tokens: u64, rest: &mut u64| {
        let taken = input.take(kind, tokens.min(*rest));
        *rest -= taken;
        *(if kind == Kind::Audio { &mut audio } else { &mut plain }) += taken;
    };
    if let Some(details) = details(usage, "cacheTokensDetails")? {
        for detail in details.items() {
            let (kind, tokens) = modality(detail)?;
            match kind {
                Some(kind) => take(kind, tokens, &mut rest),
                None => *has_unknown = true,
            }
        }
    }
    for kind in KINDS {
        take(kind, rest, &mut rest);
    }
    Ok((plain, audio))
}

/// Splits `total` by the modalities that the answer names; the rest is of kind `other`.
fn split(usage: Value<'_>, name: &str, total: u64, other: Kind, has_unknown: &mut bool) -> Result<Split, Odd> {
    let mut split = Split::default();
    let mut rest = total;
    for detail in details(usage, name)?.into_iter().flat_map(Value::items) {
        let (kind, tokens) = modality(detail)?;
        *has_unknown |= kind.is_none();
        split.add(kind.unwrap_or(other), tokens);
        rest = rest.checked_sub(tokens).ok_or(Odd)?;
    }
    split.add(other, rest);
    Ok(split)
}

/// One entry of the details. No kind: a modality that nobody knows.
fn modality(detail: Value<'_>) -> Result<(Option<Kind>, u64), Odd> {
    let tokens = count(detail, "tokenCount")?.unwrap_or(0);
    let name = detail.get("modality").and_then(Value::as_str);
    let kind = match name.as_deref() {
        Some("TEXT") => Some(Kind::Text),
        Some("IMAGE" | "DOCUMENT") => Some(Kind::Image),
        Some("VIDEO") => Some(Kind::Video),
        Some("AUDIO") => Some(Kind::Audio),
        _ => None,
    };
    Ok((kind, tokens))
}

fn details<'a>(usage: Value<'a>, name: &str) -> Result<Option<Value<'a>>, Odd> {
    match usage.get(name).filter(|details| !details.is_null()) {
        Some(details) if !details.is_array() => Err(Odd),
        details => Ok(details),
    }
}

/// The dearest kind that the input of such a request may be of.
fn dearest_input(rates: &Rates, terms: &Terms) -> Kind {
    let possible = [
        (Kind::Image, terms.image_in, rates.image_in),
        (Kind::Video, terms.video_in, rates.video_in),
        (Kind::Audio, terms.audio_in, rates.audio_in),
    ];
    let dearer = possible.into_iter().filter(|(_, may_be, rate)| *may_be && *rate > rates.input);
    dearer.max_by_key(|(_, _, rate)| *rate).map_or(Kind::Text, |(kind, _, _)| kind)
}

/// The same of the output.
fn dearest_output(rates: &Rates, terms: &Terms) -> Kind {
    let possible = [(Kind::Image, terms.image_out, rates.image_out), (Kind::Audio, terms.audio_out, rates.audio_out)];
    let dearer = possible.into_iter().filter(|(_, may_be, rate)| *may_be && *rate > rates.output);
    dearer.max_by_key(|(_, _, rate)| *rate).map_or(Kind::Text, |(kind, _, _)| kind)
}

/// All counts; a field that is missing is zero.
fn counts(usage: Value<'_>) -> Result<[u64; 6], Odd> {
    if !usage.is_object() {
        return Err(Odd);
    }
    let mut counts = [0; 6];
    for (at, name) in COUNTS.into_iter().enumerate() {
        counts[at] = count(usage, name)?.unwrap_or(0);
    }
    Ok(counts)
}

/// A count of tokens, as a number or as a string of digits; `None` where it is missing or null.
fn count(object: Value<'_>, name: &str) -> Result<Option<u64>, Odd> {
    let Some(value) = object.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let number = match value.as_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Some(_) => None,
        None => value.as_u64(),
    };
    number.filter(|&count| count <= TOKENS_MAX).map(Some).ok_or(Odd)
}

/// True when there is a count that nobody knows.
fn unknown_fields(usage: Value<'_>) -> bool {
    usage.fields().any(|(name, value)| {
        let is_known = COUNTS.contains(&name.as_ref())
            || name.ends_with("TokensDetails")
            || value.is_null()
            || matches!(name.as_ref(), "serviceTier" | "trafficType" | "promptTokenDetails");
        !is_known && value.as_u64() != Some(0)
    })
}

/// The tier that a name stands for, as `serviceTier`, as `trafficType` or in a header. Unknown names are taken for the dearest.
pub fn tier(name: &str) -> Tier {
    match name.to_ascii_lowercase().as_str() {
        "" | "standard" | "unspecified" | "on_demand" | "on_demand_offpeak" | "traffic_type_unspecified" => {
            Tier::Standard
        }
        // Prepaid: not ours to bill, and never dearer.
        "provisioned_throughput" => Tier::Standard,
        "flex" | "on_demand_flex" => Tier::Flex,
        "priority" | "on_demand_priority" => Tier::Priority,
        _ => Tier::Ultrafast,
    }
}

/// The dearer of two tiers.
pub fn dearer(a: Tier, b: Tier) -> Tier {
    let rank = |tier: Tier| match tier {
        Tier::Flex => 0,
        Tier::Standard => 1,
        Tier::Priority => 2,
        Tier::Ultrafast => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

//! The mock provider's own price lists, typed by hand from the providers' published tables.
//!
//! Every rate is in pico-dollars per token: $1 per million tokens is 1,000,000 of them. Nothing here
//! is shared with the gateway's price table; the point of the mock is that the two can disagree.

mod anthropic;
mod azure;
mod bedrock;
mod gemini;
mod mistral;
mod openai;
#[cfg(test)]
mod tests;

use super::script::Tier;

/// Whose prices, whose section of the invoice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names say it.
pub enum Provider {
    #[default]
    Openai,
    Anthropic,
    Gemini,
    Mistral,
    Azure,
    Bedrock,
}

impl Provider {
    /// The name on the invoice and in paths.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Openai => "openai",
            Provider::Anthropic => "anthropic",
            Provider::Gemini => "gemini",
            Provider::Mistral => "mistral",
            Provider::Azure => "azure",
            Provider::Bedrock => "bedrock",
        }
    }

    /// The provider's price list.
    pub fn models(self) -> &'static [Model] {
        match self {
            Provider::Openai => &openai::MODELS,
            Provider::Anthropic => &anthropic::MODELS,
            Provider::Gemini => &gemini::MODELS,
            Provider::Mistral => &mistral::MODELS,
            Provider::Azure => &azure::MODELS,
            Provider::Bedrock => &bedrock::MODELS,
        }
    }

    /// Finds a model by its exact name, or by its name without a date at the end (`-2026-01-01`, `-20260101`).
    pub fn find(self, name: &str) -> Option<&'static Model> {
        let named = |name: &str| self.models().iter().find(|m| m.name == name);
        named(name).or_else(|| named(without_date(name)))
    }
}

/// What one token costs, in pico-dollars (10^-12 USD), by meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Prompt token that no cache is involved with.
    pub input: u64,
    /// Generated token that is not one of the kinds below.
    pub output: u64,
    /// Prompt token read from the cache.
    pub cache_read: u64,
    /// Prompt token written to the cache (for five minutes, where there is a choice).
    pub cache_write: u64,
    /// Prompt token written to the cache for an hour.
    pub cache_write_1h: u64,
    /// Prompt token of audio.
    pub audio_in: u64,
    /// Prompt token of an image.
    pub image_in: u64,
    /// Generated token that is silent reasoning.
    pub reasoning: u64,
    /// Generated token of audio.
    pub audio_out: u64,
    /// Generated token of an image.
    pub image_out: u64,
}

impl Rates {
    /// All rates times `by / over`. The lists hold no rate that this would make a fraction of a pico-dollar.
    const fn scaled(self, by: u64, over: u64) -> Rates {
        Rates {
            input: self.input * by / over,
            output: self.output * by / over,
            cache_read: self.cache_read * by / over,
            cache_write: self.cache_write * by / over,
            cache_write_1h: self.cache_write_1h * by / over,
            audio_in: self.audio_in * by / over,
            image_in: self.image_in * by / over,
            reasoning: self.reasoning * by / over,
            audio_out: self.audio_out * by / over,
            image_out: self.image_out * by / over,
        }
    }

    const fn hour(self, cache_write_1h: u64) -> Rates {
        Rates { cache_write_1h, ..self }
    }

    const fn audio(self, audio_in: u64) -> Rates {
        Rates { audio_in, ..self }
    }

    const fn image(self, image_in: u64) -> Rates {
        Rates { image_in, ..self }
    }
}

/// One line of a price list.
#[derive(Debug)]
pub struct Model {
    /// Name without a date.
    pub name: &'static str,
    /// Largest prompt, in tokens.
    pub context: u64,
    /// Largest output, in tokens; 0 for an embedding model.
    pub max_output: u64,
    /// Thinks before it speaks (and at OpenAI refuses `max_tokens`).
    pub reasoning: bool,
    /// Writes its cache without being asked, and bills that.
    pub writes_cache: bool,
    /// Nano-dollars for one web search, on top of the tokens.
    pub search: u64,
    /// Searches of one call are billed once, however many they are.
    pub search_once: bool,
    /// Costs a tenth more when it runs in a chosen region.
    pub geo: bool,
    /// Costs a tenth more always.
    pub uplifted: bool,
    /// Can run fast, for twice the price.
    pub fast: bool,
    base: Rates,
    /// A prompt of more tokens than this is billed, as a whole, at the long-context rates.
    long_above: u64,
    long: Option<Rates>,
    priority: Option<Rates>,
    priority_long: Option<Rates>,
    flex: bool,
    ultrafast: bool,
}

/// No tiers, no long rates; the lists override what a model has.
const PLAIN: Model = Model {
    name: "",
    context: 128_000,
    max_output: 128_000,
    reasoning: false,
    writes_cache: false,
    search: 0,
    search_once: false,
    geo: false,
    uplifted: false,
    fast: false,
    base: r(0, 0, 0, 0),
    long_above: 272_000,
    long: None,
    priority: None,
    priority_long: None,
    flex: false,
    ultrafast: false,
};

/// What a call is billed at: rates, a multiplier, fees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Price of tokens.
    pub rates: Rates,
    /// The tokens cost this …
    pub times: u64,
    /// … over this.
    pub over: u64,
    /// Nano-dollars on top, whatever the tokens.
    pub fees: u64,
}

impl Terms {
    /// Nothing is billed.
    pub const FREE: Terms = Terms { rates: r(0, 0, 0, 0), times: 1, over: 1, fees: 0 };
}

/// How a call runs, in so far as the price depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Service tier.
    pub tier: Tier,
    /// In a chosen region?
    pub regional: bool,
    /// At twice the speed?
    pub fast: bool,
    /// Web searches made.
    pub searches: u64,
}

impl Model {
    /// Is this an embedding model?
    pub fn embeds(&self) -> bool {
        self.max_output == 0
    }

    /// The rates of a call, and the tier it really ran in: a tier that the model is not sold in
    /// runs (and is reported) as default.
    pub fn rates(&self, tier: Tier, prompt_tokens: u64) -> (Rates, Tier) {
        let is_long = prompt_tokens > self.long_above;
        let list = if is_long { self.long.unwrap_or(self.base) } else { self.base };
        match tier {
            Tier::Priority => match self.priority {
                Some(normal) if is_long => (self.priority_long.unwrap_or(normal), tier),
                Some(normal) => (normal, tier),
                None => (list, Tier::Default),
            },
            Tier::Flex if self.flex => (list.scaled(1, 2), tier),
            Tier::Ultrafast if self.ultrafast => (list.scaled(6, 1), tier),
            _ => (list, Tier::Default),
        }
    }

    /// What a call is billed at, and the tier it really ran in.
    pub fn terms(&self, conditions: &Conditions, prompt_tokens: u64) -> (Terms, Tier) {
        let (rates, tier) = self.rates(conditions.tier, prompt_tokens);
        let (mut times, mut over) = (1, 1);
        if self.uplifted || (self.geo && conditions.regional) {
            (times, over) = (11, 10);
        }
        if self.fast && conditions.fast {
            times *= 2;
        }
        let searches = if self.search_once { conditions.searches.min(1) } else { conditions.searches };
        (Terms { rates, times, over, fees: searches * self.search }, tier)
    }
}

/// A name without the date at its end.
pub fn without_date(name: &str) -> &str {
    let bytes = name.as_bytes();
    let is_date = |tail: &[u8], dashes: &[usize]| {
        let fits = |(i, b): (usize, &u8)| if dashes.contains(&i) { *b == b'-' } else { b.is_ascii_digit() };
        tail.iter().enumerate().all(fits)
    };
    for (length, dashes) in [(11, &[0, 5, 8][..]), (9, &[0][..])] {
        if let Some(at) = bytes.len().checked_sub(length)
            && is_date(&bytes[at..], dashes)
        {
            return &name[..at];
        }
    }
    name
}

/// Input, output, cache read, cache write. The other meters cost what their tokens cost as input or output.
const fn r(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Rates {
    Rates {
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h: cache_write,
        audio_in: input,
        image_in: input,
        reasoning: output,
        audio_out: output,
        image_out: output,
    }
}

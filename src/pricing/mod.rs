//! What a call costs and the most that it can cost: pure arithmetic over a price table.

pub mod import;
pub mod table;
mod terms;

use std::sync::Arc;

use crate::clock::Millis;
use crate::money::{ExactCost, Money, Rate};

pub use table::PriceTable;
pub use terms::Terms;

/// Units of one call as the provider bills them. No unit is counted twice: `input` leaves out what the cache and audio fields count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens at the ordinary rate.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cache_read: u64,
    /// Input tokens written to a cache for five minutes, or for the provider's only duration.
    pub cache_write_5m: u64,
    /// Input tokens written to a cache for an hour.
    pub cache_write_1h: u64,
    /// Audio input tokens.
    pub audio_in: u64,
    /// Audio input tokens read from a cache.
    pub audio_in_cached: u64,
    /// Image input tokens, where they have a price of their own.
    pub image_in: u64,
    /// Video input tokens, where they have a price of their own.
    pub video_in: u64,
    /// Output tokens, reasoning included, audio and images left out.
    pub output: u64,
    /// The part of `output` that was hidden reasoning.
    pub reasoning: u64,
    /// Audio output tokens.
    pub audio_out: u64,
    /// Image output tokens.
    pub image_out: u64,
}

impl Usage {
    /// All input units: what decides the long-context tier.
    pub fn total_input(&self) -> u64 {
        [
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.audio_in,
            self.audio_in_cached,
            self.image_in,
            self.video_in,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// All output units.
    pub fn total_output(&self) -> u64 {
        self.output.saturating_add(self.audio_out).saturating_add(self.image_out)
    }
}

/// A rate for each meter of a model. A meter without a price of its own carries the worst rate that it could be billed at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Per ordinary input token.
    pub input: Rate,
    /// Per input token read from a cache.
    pub cache_read: Rate,
    /// Per input token written to a cache for five minutes.
    pub cache_write_5m: Rate,
    /// Per input token written to a cache for an hour.
    pub cache_write_1h: Rate,
    /// Per audio input token.
    pub audio_in: Rate,
    /// Per audio input token read from a cache.
    pub audio_in_cached: Rate,
    /// Per image input token.
    pub image_in: Rate,
    /// Per video input token.
    pub video_in: Rate,
    /// Per output token.
    pub output: Rate,
    /// Per reasoning token, where it differs from output.
    pub reasoning: Rate,
    /// Per audio output token.
    pub audio_out: Rate,
    /// Per image output token.
    pub image_out: Rate,
}

/// A service tier that a provider bills apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The ordinary tier.
    #[default]
    Standard,
    /// Slower and cheaper.
    Flex,
    /// Faster and dearer.
    Priority,
    /// OpenAI's fastest.
    Ultrafast,
}

impl Tier {
    /// Its name in the price table.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Standard => "standard",
            Tier::Flex => "flex",
            Tier::Priority => "priority",
            Tier::Ultrafast => "ultrafast",
        }
    }
}

/// The rates of one tier: below the long-context threshold, and above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierRates {
    /// Rates of ordinary prompts.
    pub short: Rates,
    /// Rates of the whole request when its input is above the threshold; equal to `short` where there is no such tier.
    pub long: Rates,
}

/// A public tokenizer whose counts are exact for plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// GPT-3.5, GPT-4, embedding-3.
    Cl100kBase,
    /// GPT-4o and later.
    O200kBase,
}

/// One model of one provider: its row of the price table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// `provider/model`.
    pub id: Arc<str>,
    /// The ordinary tier.
    pub standard: TierRates,
    /// Other tiers that have a price.
    pub tiers: Vec<(Tier, TierRates)>,
    /// Input above which `long` applies to the whole request.
    pub long_above: Option<u64>,
    /// True when the provider may write to its cache, and bill for that, without being asked.
    pub implicit_cache_writes: bool,
    /// Every rate times this many thousandths (data residency: 1100). 1000 changes nothing.
    pub uplift_thousandths: u64,
    /// The most input and output tokens of a call together.
    pub context_window: u64,
    /// The most output tokens of one answer; 0 for embeddings.
    pub max_output: u64,
    /// The exact tokenizer, where one is public.
    pub tokenizer: Option<Tokenizer>,
    /// True when the model bills output that it does not stream (reasoning).
    pub hidden_output: bool,
    /// True for embedding models.
    pub embedding: bool,
    /// First day of the price, `YYYY-MM-DD`.
    pub valid_from: Option<Arc<str>>,
    /// First day on which it no longer holds.
    pub valid_to: Option<Arc<str>>,
    /// Where the price was read.
    pub source: Arc<str>,
    /// Prices of what is counted by the call, not by the token.
    pub fees: Fees,
    /// Factors in thousandths that a request, a host or an account puts on every rate, by name: `us` and `eu` (data
    /// residency, Anthropic's `inference_geo`), `fast` (Anthropic's fast mode).
    pub multipliers: Vec<(Arc<str>, u64)>,
    /// The day on which the provider takes the model away, or points its name at another one, `YYYY-MM-DD`.
    pub deprecation_date: Option<Arc<str>>,
    /// What a person should know before relying on the row.
    pub note: Option<Arc<str>>,
    /// The price that is announced, and the instant from which the table hands it out instead of this one.
    pub next: Option<(Millis, Arc<ModelPrice>)>,
}

/// What a provider bills by the call, in 10⁻¹⁵ USD each. `None`: no price is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// One web search, by the size of its context: low, medium, high.
    pub web_search: Option<[Rate; 3]>,
    /// One grounding in maps.
    pub maps: Option<Rate>,
    /// True when a call is billed for each query that it made, however many, and not once.
    pub per_query: bool,
}

impl ModelPrice {
    /// The rates that apply to a request with `input` tokens in all, in `tier`. A tier without a price is billed at the dearest tier known.
    pub fn rates(&self, tier: Tier, input: u64) -> Rates {
        let rates = match tier {
            Tier::Standard => &self.standard,
            other => match self.tiers.iter().find(|(tier, _)| *tier == other) {
                Some((_, rates)) => rates,
                None => self.dearest(),
            },
        };
        let rates = if self.long_above.is_some_and(|above| input > above) { rates.long } else { rates.short };
        if self.uplift_thousandths == 1000 { rates } else { rates.scaled(self.uplift_thousandths) }
    }

    /// The standard tier, and the others that have a price.
    pub fn all_tiers(&self) -> impl Iterator<Item = (Tier, &TierRates)> {
        let others = self.tiers.iter().map(|(tier, rates)| (*tier, rates));
        std::iter::once((Tier::Standard, &self.standard)).chain(others)
    }

    /// The factor of that name in thousandths; `None` where the model has none.
    pub fn multiplier(&self, name: &str) -> Option<u64> {
        self.multipliers.iter().find(|(known, _)| **known == *name).map(|(_, thousandths)| *thousandths)
    }

    /// What the table says that one use of a built-in tool costs at most, by the tool's name under `fees:`; zero where it says nothing.
    pub fn listed_fee(&self, tool: &str) -> Money {
        let rate = match tool {
            "web_search" | "web_search_preview" => self.fees.web_search.and_then(|sizes| sizes.into_iter().max()),
            "maps" => self.fees.maps,
            _ => None,
        };
        rate.map_or(Money::ZERO, |rate| ExactCost::ZERO.plus(1, rate).rounded_up())
    }

    /// The exact cost of what was used.
    pub fn cost(&self, usage: &Usage, tier: Tier) -> ExactCost {
        self.cost_scaled(usage, tier, 1000)
    }

    /// The same with every rate times this many thousandths, where the answer names a region or a mode that costs more.
    pub fn cost_scaled(&self, usage: &Usage, tier: Tier, thousandths: u64) -> ExactCost {
        let rates = self.rates(tier, usage.total_input());
        let rates = if thousandths == 1000 { rates } else { rates.scaled(thousandths) };
        let reasoning = usage.reasoning.min(usage.output);
        ExactCost::ZERO
            .plus(usage.input, rates.input)
            .plus(usage.cache_read, rates.cache_read)
            .plus(usage.cache_write_5m, rates.cache_write_5m)
            .plus(usage.cache_write_1h, rates.cache_write_1h)
            .plus(usage.audio_in, rates.audio_in)
            .plus(usage.audio_in_cached, rates.audio_in_cached)
            .plus(usage.image_in, rates.image_in)
            .plus(usage.video_in, rates.video_in)
            .plus(usage.output - reasoning, rates.output)
            .plus(reasoning, rates.reasoning)
            .plus(usage.audio_out, rates.audio_out)
            .plus(usage.image_out, rates.image_out)
    }

    fn dearest(&self) -> &TierRates {
        self.tiers
            .iter()
            .map(|(_, rates)| rates)
            .chain([&self.standard])
            .max_by_key(|r| r.short.output.max(r.short.input))
            .unwrap_or(&self.standard)
    }
}

impl Rates {
    /// Each rate with the name of its meter in the price table, input first. `cache_write_5m` is `cache_write` there.
    pub fn named(&self) -> [(&'static str, Rate); 12] {
        [
            ("input", self.input),
            ("cache_read", self.cache_read),
            ("cache_write_5m", self.cache_write_5m),
            ("cache_write_1h", self.cache_write_1h),
            ("audio_in", self.audio_in),
            ("audio_in_cached", self.audio_in_cached),
            ("image_in", self.image_in),
            ("video_in", self.video_in),
            ("output", self.output),
            ("reasoning", self.reasoning),
            ("audio_out", self.audio_out),
            ("image_out", self.image_out),
        ]
    }

    /// Every rate times thousandths, rounded up.
    pub fn scaled(&self, thousandths: u64) -> Rates {
        let by = |rate: Rate| rate.scaled(thousandths);
        Rates {
            input: by(self.input),
            cache_read: by(self.cache_read),
            cache_write_5m: by(self.cache_write_5m),
            cache_write_1h: by(self.cache_write_1h),
            audio_in: by(self.audio_in),
            audio_in_cached: by(self.audio_in_cached),
            image_in: by(self.image_in),
            video_in: by(self.video_in),
            output: by(self.output),
            reasoning: by(self.reasoning),
            audio_out: by(self.audio_out),
            image_out: by(self.image_out),
        }
    }
}

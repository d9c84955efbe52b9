//! The names of prices: `<meter>[_above_1hr][_above_<N>k_tokens][_<tier>]`, read from the right.
//!
//! A suffix that nobody knows leaves a meter that nobody knows, and the entry is refused: a new tier must not be read as
//! the base price.

use crate::pricing::Tier;

/// What is counted, in the order in which a row shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meter {
    /// Text input.
    Input,
    /// Text output.
    Output,
    /// Input read from a cache.
    CacheRead,
    /// Input written to a cache for five minutes, or for the provider's only duration.
    CacheWrite,
    /// Input written to a cache for an hour.
    CacheWrite1h,
    /// Audio input.
    AudioIn,
    /// Audio input read from a cache.
    AudioInCached,
    /// Image input.
    ImageIn,
    /// Video input.
    VideoIn,
    /// Reasoning.
    Reasoning,
    /// Audio output.
    AudioOut,
    /// Image output.
    ImageOut,
}

impl Meter {
    /// Its name in the price table.
    pub fn name(self) -> &'static str {
        match self {
            Meter::Input => "input",
            Meter::Output => "output",
            Meter::CacheRead => "cache_read",
            Meter::CacheWrite => "cache_write",
            Meter::CacheWrite1h => "cache_write_1h",
            Meter::AudioIn => "audio_in",
            Meter::AudioInCached => "audio_in_cached",
            Meter::ImageIn => "image_in",
            Meter::VideoIn => "video_in",
            Meter::Reasoning => "reasoning",
            Meter::AudioOut => "audio_out",
            Meter::ImageOut => "image_out",
        }
    }

    /// True for what the model writes.
    pub fn is_output(self) -> bool {
        matches!(self, Meter::Output | Meter::Reasoning | Meter::AudioOut | Meter::ImageOut)
    }
}

/// What a price field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// A price per token of a meter.
    Token {
        /// What is counted.
        meter: Meter,
        /// In which tier.
        tier: Tier,
        /// Above how many input tokens.
        above: Option<u64>,
    },
    /// A price that belongs to a route that is denied: batches and decisions.
    DeniedRoute,
}

/// Reads the name of a price field. `None`: not a price per token, or not one that is understood in full.
pub fn price(field: &str) -> Option<Price> {
    let (rest, tier) = tier(field);
    let (rest, above) = above(rest)?;
    let (rest, hour) = match rest.strip_suffix("_above_1hr") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let meter = match (rest, hour) {
        ("input_cost_per_token", false) => Meter::Input,
        ("output_cost_per_token", false) => Meter::Output,
        ("output_cost_per_reasoning_token", false) => Meter::Reasoning,
        ("cache_read_input_token_cost", false) => Meter::CacheRead,
        ("cache_creation_input_token_cost", false) => Meter::CacheWrite,
        ("cache_creation_input_token_cost", true) => Meter::CacheWrite1h,
        ("input_cost_per_audio_token", false) => Meter::AudioIn,
        ("cache_read_input_audio_token_cost", false) => Meter::AudioInCached,
        ("input_cost_per_image_token", false) => Meter::ImageIn,
        ("input_cost_per_video_token", false) => Meter::VideoIn,
        ("output_cost_per_audio_token", false) => Meter::AudioOut,
        ("output_cost_per_image_token", false) => Meter::ImageOut,
        _ => return None,
    };
    Some(match tier {
        Some(tier) => Price::Token { meter, tier, above },
        None => Price::DeniedRoute,
    })
}

/// The field without its tier, and the tier; `None` for tiers of routes that are denied.
fn tier(field: &str) -> (&str, Option<Tier>) {
    for (suffix, tier) in [
        ("_priority", Some(Tier::Priority)),
        ("_flex", Some(Tier::Flex)),
        ("_ultrafast", Some(Tier::Ultrafast)),
        ("_batches", None),
        ("_decisions", None),
    ] {
        if let Some(rest) = field.strip_suffix(suffix) {
            return (rest, tier);
        }
    }
    (field, Some(Tier::Standard))
}

/// The field without `_above_<N>k_tokens`, and that many tokens.
fn above(field: &str) -> Option<(&str, Option<u64>)> {
    let Some(rest) = field.strip_suffix("k_tokens") else { return Some((field, None)) };
    let (rest, thousands) = rest.rsplit_once("_above_")?;
    if thousands.is_empty() || !thousands.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((rest, Some(thousands.parse::<u64>().ok()?.checked_mul(1000)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_right() {
        let token = |meter, tier, above| Some(Price::Token { meter, tier, above });
        for (field, expected) in [
            ("input_cost_per_token", token(Meter::Input, Tier::Standard, None)),
            ("input_cost_per_token_above_272k_tokens_priority", token(Meter::Input, Tier::Priority, Some(272_000))),
            ("cache_creation_input_token_cost_above_1hr", token(Meter::CacheWrite1h, Tier::Standard, None)),
            (
                "cache_creation_input_token_cost_above_1hr_above_100k_tokens",
                token(Meter::CacheWrite1h, Tier::Standard, Some(100_000)),
            ),
            ("cache_read_input_token_cost_ultrafast", token(Meter::CacheRead, Tier::Ultrafast, None)),
            ("output_cost_per_token_flex", token(Meter::Output, Tier::Flex, None)),
            ("input_cost_per_token_batches", Some(Price::DeniedRoute)),
            ("output_cost_per_token_above_272k_tokens_decisions", Some(Price::DeniedRoute)),
        ] {
            assert_eq!(price(field), expected, "{field}");
        }
    }

    #[test]
    fn a_suffix_that_is_not_known_is_not_the_base_price() {
        for field in [
            "input_cost_per_token_balanced",
            "input_cost_per_token_above_k_tokens",
            "input_cost_per_token_above_1hr",
            "input_cost_per_token_priority_flex",
            "input_cost_per_token_above_272k_tokens_above_128k_tokens",
            "input_cost_per_token_cache_hit",
            "output_cost_per_video_token",
            "input_cost_per_second",
            "input_cost_per_tokens",
            "cache_creation_input_audio_token_cost",
        ] {
            assert_eq!(price(field), None, "{field}");
        }
    }
}

//! The most that a call can cost, whatever its answer turns out to be.

use super::{ModelPrice, Rates, Tier};
use crate::money::{ExactCost, Money, Rate};

/// What a call may be billed for beside plain text in the ordinary tier. Decides its worst case; the default is plain text, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// It may write to a cache for five minutes, or for the provider's only duration.
    pub cache_write_5m: bool,
    /// It may write to a cache for an hour.
    pub cache_write_1h: bool,
    /// Its input may hold audio.
    pub audio_in: bool,
    /// Its input may hold images.
    pub image_in: bool,
    /// Its input may hold video.
    pub video_in: bool,
    /// Its output may hold audio.
    pub audio_out: bool,
    /// Its output may hold images.
    pub image_out: bool,
    /// Tiers, beside the ordinary one, in which it may be billed.
    pub tiers: Vec<Tier>,
    /// Every rate times this many thousandths, e.g. 1100 for a region that costs a tenth more.
    pub thousandths: u64,
    /// How often its input may be billed: passes of the model.
    pub passes: u64,
    /// What may be billed beside tokens: tool calls, sessions.
    pub fees: Money,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            cache_write_5m: false,
            cache_write_1h: false,
            audio_in: false,
            image_in: false,
            video_in: false,
            audio_out: false,
            image_out: false,
            tiers: Vec::new(),
            thousandths: 1000,
            passes: 1,
            fees: Money::ZERO,
        }
    }
}

impl ModelPrice {
    /// The most that at most `input` input tokens a pass and `output` output tokens in all can cost under these terms.
    pub fn worst(&self, terms: &Terms, input: u64, output: u64) -> ExactCost {
        ExactCost::of(terms.fees)
            .plus(input.saturating_mul(terms.passes), self.worst_input_rate(terms, input))
            .plus(output, self.worst_output_rate(terms, input))
    }

    /// The dearest rate of an input token in a request of at most `input` tokens.
    pub fn worst_input_rate(&self, terms: &Terms, input: u64) -> Rate {
        self.over_reachable(terms, input, |rates| {
            let reached = |reached: bool, rate: Rate| if reached { rate } else { Rate::ZERO };
            rates
                .input
                .max(rates.cache_read)
                .max(reached(terms.cache_write_5m || self.implicit_cache_writes, rates.cache_write_5m))
                .max(reached(terms.cache_write_1h, rates.cache_write_1h))
                .max(reached(terms.audio_in, rates.audio_in.max(rates.audio_in_cached)))
                .max(reached(terms.image_in, rates.image_in))
                .max(reached(terms.video_in, rates.video_in))
        })
    }

    /// The dearest rate of an output token in a request of at most `input` input tokens.
    pub fn worst_output_rate(&self, terms: &Terms, input: u64) -> Rate {
        self.over_reachable(terms, input, |rates| {
            let reached = |reached: bool, rate: Rate| if reached { rate } else { Rate::ZERO };
            rates
                .output
                .max(rates.reasoning)
                .max(reached(terms.audio_out, rates.audio_out))
                .max(reached(terms.image_out, rates.image_out))
        })
    }

    /// The most of `rate` over the tiers that a request of at most `input` tokens can fall into.
    fn over_reachable(&self, terms: &Terms, input: u64, rate: impl Fn(&Rates) -> Rate) -> Rate {
        let mut worst = Rate::ZERO;
        for tier in std::iter::once(Tier::Standard).chain(terms.tiers.iter().copied()) {
            worst = worst.max(rate(&self.rates(tier, 0))).max(rate(&self.rates(tier, input)));
        }
        if terms.thousandths == 1000 { worst } else { worst.scaled(terms.thousandths) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::PriceTable;

    #[test]
    fn each_term_can_only_raise_the_bound() {
        let prices = PriceTable::builtin().unwrap();
        let plain = Terms::default();
        for row in prices.iter() {
            let base = row.worst(&plain, 1_000, 100);
            let terms = [
                Terms { cache_write_5m: true, ..plain.clone() },
                Terms { cache_write_1h: true, ..plain.clone() },
                Terms { audio_in: true, image_in: true, video_in: true, ..plain.clone() },
                Terms { audio_out: true, image_out: true, ..plain.clone() },
                Terms { tiers: vec![Tier::Priority], ..plain.clone() },
            ];
            for terms in terms {
                assert!(row.worst(&terms, 1_000, 100) >= base, "{} {terms:?}", row.id);
            }
            let twice = row.worst(&Terms { passes: 2, ..plain.clone() }, 1_000, 100);
            assert_eq!(twice, base.plus(1_000, row.worst_input_rate(&plain, 1_000)));
            let fee = Money::from_nano(7);
            assert_eq!(row.worst(&Terms { fees: fee, ..plain.clone() }, 1_000, 100), base.and(ExactCost::of(fee)));
            // A tenth more on every rate is at least a tenth more in all.
            let uplifted = row.worst(&Terms { thousandths: 1_100, ..plain.clone() }, 1_000, 100).rounded_up();
            assert!(uplifted.nano() >= base.rounded_up().nano() / 10 * 11, "{}", row.id);
        }
    }
}

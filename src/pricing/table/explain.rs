//! A row of the price table in words, for `loopers prices show`.

use std::fmt::Write as _;

use super::PriceTable;
use crate::money::Rate;
use crate::pricing::{ModelPrice, Rates, Tier, TierRates, Usage};

impl PriceTable {
    /// The rates of a model per million tokens, and what a call of 1,000 input and 1,000 output tokens costs in each tier.
    pub fn explain(price: &ModelPrice) -> String {
        let mut text = format!("{} (USD per million tokens)\n", price.id);
        let mut line = |words: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{words}");
        };
        let tiers = std::iter::once((Tier::Standard, &price.standard))
            .chain(price.tiers.iter().map(|(tier, rates)| (*tier, rates)));
        for (tier, TierRates { short, long }) in tiers {
            let name = format!("{tier:?}").to_lowercase();
            line(format_args!("  {name}"));
            line(format_args!("    {}", words(short, price.embedding)));
            if let Some(above) = price.long_above {
                line(format_args!("    above {above} input tokens: {}", words(long, price.embedding)));
            }
            let output = if price.embedding { 0 } else { 1000 };
            let usage = Usage { input: 1000, output, ..Usage::default() };
            let cost = price.cost(&usage, tier).rounded_up();
            line(format_args!("    1,000 in + {} out: {cost} USD", if price.embedding { "0" } else { "1,000" }));
        }
        if price.implicit_cache_writes {
            line(format_args!("  holds count input as cache writes: the provider writes its cache unasked"));
        }
        if price.uplift_thousandths != 1000 {
            let factor = Rate::from_femto(u128::from(price.uplift_thousandths) * 1_000_000).to_per_million();
            line(format_args!("  every rate above is billed times {factor} (uplift; costs shown include it)"));
        }
        line(format_args!("  context window {} tokens, output at most {}", price.context_window, price.max_output));
        if price.hidden_output {
            line(format_args!("  bills output that it does not stream (reasoning)"));
        }
        if let Some(from) = &price.valid_from {
            line(format_args!("  valid from {from}"));
        }
        if let Some(to) = &price.valid_to {
            line(format_args!("  valid to {to} (first day on which it no longer holds)"));
        }
        line(format_args!("  source: {}", price.source));
        text
    }
}

fn words(rates: &Rates, is_embedding: bool) -> String {
    let mut words = format!("input {}", rates.input.to_per_million());
    if is_embedding {
        return words;
    }
    for (name, rate, unless) in [
        ("cache read", rates.cache_read, rates.input),
        ("cache write", rates.cache_write_5m, Rate::ZERO),
        ("audio in", rates.audio_in, Rate::ZERO),
        ("output", rates.output, Rate::ZERO),
        ("reasoning", rates.reasoning, rates.output),
        ("audio out", rates.audio_out, rates.output),
    ] {
        if rate != unless {
            let _ = write!(words, ", {name} {}", rate.to_per_million());
        }
    }
    words
}

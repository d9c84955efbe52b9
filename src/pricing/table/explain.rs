//! A row of the price table in words, for `loopers prices show`.

use std::fmt::Write as _;

use super::PriceTable;
use crate::money::{ExactCost, Rate};
use crate::pricing::{ModelPrice, Rates, Tier, TierRates, Usage};

impl PriceTable {
    /// The rates of a model per million tokens, and what a call costs in each tier, meter by meter.
    pub fn explain(price: &ModelPrice, call: &Usage) -> String {
        let mut text = format!("{} (USD per million tokens)\n", price.id);
        let mut line = |words: std::fmt::Arguments<'_>| _ = writeln!(text, "{words}");
        let call = if price.embedding { Usage { output: 0, ..*call } } else { *call };
        for (tier, TierRates { short, long }) in price.all_tiers() {
            line(format_args!("  {}", tier.name()));
            line(format_args!("    {}", words(short, price.embedding)));
            if let Some(above) = price.long_above {
                line(format_args!("    above {above} input tokens: {}", words(long, price.embedding)));
            }
            line(format_args!("    {}", cost(price, tier, &call)));
        }
        if price.implicit_cache_writes {
            line(format_args!("  holds count input as cache writes: the provider writes its cache unasked"));
        }
        if price.uplift_thousandths != 1000 {
            let factor = factor(price.uplift_thousandths);
            line(format_args!("  every rate above is billed times {factor} (uplift; costs shown include it)"));
        }
        for (name, thousandths) in &price.multipliers {
            let factor = factor(*thousandths);
            line(format_args!("  times {factor} where `{name}` applies (costs shown leave it out)"));
        }
        for fee in fees(price) {
            line(format_args!("  {fee}"));
        }
        line(format_args!("  context window {} tokens, output at most {}", price.context_window, price.max_output));
        if price.hidden_output {
            line(format_args!("  bills output that it does not stream (reasoning)"));
        }
        if let Some(day) = &price.deprecation_date {
            line(format_args!("  deprecated on {day}"));
        }
        if let Some(from) = &price.valid_from {
            line(format_args!("  valid from {from}"));
        }
        if let Some(to) = &price.valid_to {
            line(format_args!("  valid to {to} (first day on which it no longer holds)"));
        }
        if let Some((_, next)) = &price.next {
            line(format_args!("  then: {}", words(&next.standard.short, next.embedding)));
        }
        if let Some(note) = &price.note {
            line(format_args!("  note: {note}"));
        }
        line(format_args!("  source: {}", price.source));
        text
    }
}

/// `1000 in + 1000 out: 0.0175 USD (input 0.0025 + output 0.015)`
fn cost(price: &ModelPrice, tier: Tier, call: &Usage) -> String {
    let alone = |usage: Usage| {
        // The threshold is that of the whole call.
        let rates = price.rates(tier, call.total_input());
        ExactCost::ZERO.plus(usage.input, rates.input).plus(usage.output, rates.output).rounded_up()
    };
    let input = alone(Usage { input: call.input, ..Usage::default() });
    let output = alone(Usage { output: call.output, ..Usage::default() });
    let whole = price.cost(call, tier).rounded_up();
    format!("{} in + {} out: {whole} USD (input {input} + output {output})", grouped(call.input), grouped(call.output))
}

/// `1,050,000`
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn factor(thousandths: u64) -> String {
    Rate::from_femto(u128::from(thousandths) * 1_000_000).to_per_million()
}

fn fees(price: &ModelPrice) -> Vec<String> {
    let usd = |rate: Rate| ExactCost::ZERO.plus(1, rate).rounded_up();
    let each = if price.fees.per_query { "query" } else { "call" };
    let mut lines = Vec::new();
    if let Some([low, medium, high]) = price.fees.web_search {
        let sizes = if low == medium && medium == high {
            usd(low).to_string()
        } else {
            format!("{}, {}, {} (low, medium, high context)", usd(low), usd(medium), usd(high))
        };
        lines.push(format!("web search: {sizes} USD a {each}"));
    }
    lines.extend(price.fees.maps.map(|maps| format!("maps: {} USD a {each}", usd(maps))));
    lines
}

fn words(rates: &Rates, is_embedding: bool) -> String {
    let mut words = format!("input {}", rates.input.to_per_million());
    if is_embedding {
        return words;
    }
    for (name, rate, unless) in [
        ("cache read", rates.cache_read, rates.input),
        ("cache write", rates.cache_write_5m, Rate::ZERO),
        ("cache write 1h", rates.cache_write_1h, Rate::ZERO),
        ("audio in", rates.audio_in, Rate::ZERO),
        ("audio in cached", rates.audio_in_cached, rates.audio_in),
        ("image in", rates.image_in, rates.audio_in),
        ("video in", rates.video_in, rates.image_in),
        ("output", rates.output, Rate::ZERO),
        ("reasoning", rates.reasoning, rates.output),
        ("audio out", rates.audio_out, rates.output),
        ("image out", rates.image_out, rates.output),
    ] {
        if rate != unless {
            let _ = write!(words, ", {name} {}", rate.to_per_million());
        }
    }
    words
}

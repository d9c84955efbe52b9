//! Models that are released and missing in the file, with prices from elsewhere; and those that are named somewhere
//! without a price.

use std::collections::BTreeMap;

use super::grammar::Meter;
use super::row::{Meters, Row, TierPrices};
use crate::money::Rate;
use crate::pricing::Tier;

/// Models that exist, of which nobody published a price: calls to them are refused.
pub const UNPRICED: [&str; 3] = ["gemini/gemini-4-carbon", "anthropic/claude-fable-5-2", "anthropic/claude-mythos-5-2"];

/// Where the prices of [`rows`] were read.
pub const SOURCE: &str = "the provider's announcement of 2026-10-26";

/// The rows that the file lacks.
pub fn rows() -> Vec<Row> {
    vec![gpt_6_1_terra()]
}

/// GPT-6.1 Terra: 1/5 from 2026-10-26. Threshold, window and factors as its siblings have them; cache reads have no published
/// price and cost the input price, other tiers are not sold.
fn gpt_6_1_terra() -> Row {
    // 10⁻¹⁵ USD a token: USD per million times 10⁹.
    let usd = |thousandths: u128| Rate::from_femto(thousandths * 1_000_000);
    let short: Meters = [(Meter::Input, usd(1000)), (Meter::Output, usd(5000)), (Meter::CacheWrite, usd(1250))].into();
    let long: Meters = [(Meter::Input, usd(2000)), (Meter::Output, usd(7500)), (Meter::CacheWrite, usd(2500))].into();
    Row {
        id: "openai/gpt-6.1-terra".into(),
        tiers: BTreeMap::from([(Tier::Standard, TierPrices { short, long })]),
        above: Some(272_000),
        multipliers: [("eu", "1.1".to_string()), ("us", "1.1".to_string())].into(),
        web_search: Some([Rate::from_femto(25_000_000_000_000); 3]),
        implicit_cache_writes: true,
        hidden_output: true,
        context_window: 1_050_000,
        max_output: 128_000,
        added: true,
        ..Row::default()
    }
}

//! One row on its way from the file to the price table.

use std::collections::BTreeMap;

use super::grammar::Meter;
use crate::money::Rate;
use crate::pricing::Tier;

/// Prices by meter.
pub type Meters = BTreeMap<Meter, Rate>;

/// The prices of one tier, as far as the file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierPrices {
    /// Below the long-context threshold.
    pub short: Meters,
    /// Above it.
    pub long: Meters,
}

/// A row of the price table, in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `provider/model`.
    pub id: String,
    /// True for embedding models.
    pub embedding: bool,
    /// Prices by tier; the standard tier is always there.
    pub tiers: BTreeMap<Tier, TierPrices>,
    /// The long-context threshold.
    pub above: Option<u64>,
    /// USD per web search, by context size: low, medium, high.
    pub web_search: Option<[Rate; 3]>,
    /// True when one call may be billed for several searches.
    pub web_search_per_query: bool,
    /// USD per call grounded in maps.
    pub maps: Option<Rate>,
    /// Factors by name, as decimals.
    pub multipliers: BTreeMap<&'static str, String>,
    /// The provider may write its cache unasked, and bill for it.
    pub implicit_cache_writes: bool,
    /// Output may be billed that is not streamed.
    pub hidden_output: bool,
    /// The most tokens of a call; 0 until it is known.
    pub context_window: u64,
    /// The most output tokens; 0 for embeddings, or until it is known.
    pub max_output: u64,
    /// The exact tokenizer.
    pub tokenizer: Option<&'static str>,
    /// The day on which the provider takes it away.
    pub deprecation_date: Option<String>,
    /// The day on which all prices are multiplied, and the factor.
    pub change: Option<(&'static str, &'static str)>,
    /// What a person should know.
    pub note: Option<&'static str>,
    /// The corrections that were applied, by name.
    pub corrected: Vec<&'static str>,
    /// True when the row does not come from the file at all.
    pub added: bool,
}

impl Row {
    /// The price of a meter in the standard tier.
    pub fn standard(&self, meter: Meter) -> Option<Rate> {
        self.tiers.get(&Tier::Standard)?.short.get(&meter).copied()
    }

    /// Sets a price of the standard tier.
    pub fn set(&mut self, meter: Meter, rate: Rate) {
        self.tiers.entry(Tier::Standard).or_default().short.insert(meter, rate);
    }

    /// Every price times thousandths.
    pub fn scale(&mut self, thousandths: u64) {
        for prices in self.tiers.values_mut() {
            for rate in prices.short.values_mut().chain(prices.long.values_mut()) {
                *rate = rate.scaled(thousandths);
            }
        }
    }

    /// The model's name without provider, data zone, region and geography: what its family can be told by.
    pub fn model(&self) -> &str {
        let last = self.id.rsplit('/').next().unwrap_or(&self.id);
        last.strip_prefix("ft:").unwrap_or(last)
    }

    /// Takes over what another entry of the same model says. False if their prices contradict each other.
    pub fn merge(&mut self, other: &Row) -> bool {
        let agree = |(tier, prices): (&Tier, &TierPrices)| self.tiers.get(tier).is_none_or(|own| own == prices);
        let same = other.tiers.iter().all(agree) && self.above == other.above && self.embedding == other.embedding;
        if !same {
            return false;
        }
        for (tier, prices) in &other.tiers {
            self.tiers.entry(*tier).or_insert_with(|| prices.clone());
        }
        self.hidden_output |= other.hidden_output;
        self.implicit_cache_writes |= other.implicit_cache_writes;
        self.web_search_per_query |= other.web_search_per_query;
        self.web_search = self.web_search.max(other.web_search);
        self.maps = self.maps.max(other.maps);
        for (name, factor) in &other.multipliers {
            self.multipliers.entry(name).or_insert_with(|| factor.clone());
        }
        self.context_window = self.context_window.max(other.context_window);
        self.max_output = self.max_output.max(other.max_output);
        self.deprecation_date = self.deprecation_date.take().or_else(|| other.deprecation_date.clone());
        true
    }

    /// The provider's part of the id.
    pub fn provider(&self) -> &str {
        self.id.split('/').next().unwrap_or("")
    }
}

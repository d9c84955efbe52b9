//! The mock provider's own price list, typed by hand from OpenAI's published table.
//!
//! Every number is in pico-dollars per token: $1 per million tokens is 1,000,000 of them. Nothing here
//! is shared with the gateway's price table; the point of the mock is that the two can disagree.

use super::script::Tier;

/// What one token costs, in pico-dollars (10^-12 USD), by meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Prompt token that no cache is involved with.
    pub input: u64,
    /// Generated token, reasoning included.
    pub output: u64,
    /// Prompt token read from the cache.
    pub cache_read: u64,
    /// Prompt token written to the cache.
    pub cache_write: u64,
}

impl Rates {
    fn times(self, by: u64) -> Rates {
        Rates {
            input: self.input * by,
            output: self.output * by,
            cache_read: self.cache_read * by,
            cache_write: self.cache_write * by,
        }
    }

    fn halved(self) -> Rates {
        Rates {
            input: self.input / 2,
            output: self.output / 2,
            cache_read: self.cache_read / 2,
            cache_write: self.cache_write / 2,
        }
    }
}

/// One line of the price list.
#[derive(Debug)]
pub struct Model {
    /// Name without a date.
    pub name: &'static str,
    /// Largest prompt, in tokens.
    pub context: u64,
    /// Largest output, in tokens; 0 for an embedding model.
    pub max_output: u64,
    /// Thinks before it speaks, and refuses `max_tokens`.
    pub reasoning: bool,
    /// Writes its cache without being asked, and bills that.
    pub writes_cache: bool,
    base: Rates,
    long: Option<Rates>,
    priority: Option<Rates>,
    priority_long: Option<Rates>,
    flex: bool,
    ultrafast: bool,
}

/// A prompt above this many tokens is billed, as a whole, at the long-context rates.
pub const LONG_ABOVE: u64 = 272_000;

impl Model {
    /// Is this an embedding model?
    pub fn embeds(&self) -> bool {
        self.max_output == 0
    }

    /// The rates of a call, and the tier it really ran in: a tier that the model is not sold in
    /// runs (and is reported) as default.
    pub fn rates(&self, tier: Tier, prompt_tokens: u64) -> (Rates, Tier) {
        let is_long = prompt_tokens > LONG_ABOVE;
        let list = if is_long { self.long.unwrap_or(self.base) } else { self.base };
        match tier {
            Tier::Priority => match self.priority {
                Some(normal) if is_long => (self.priority_long.unwrap_or(normal), tier),
                Some(normal) => (normal, tier),
                None => (list, Tier::Default),
            },
            Tier::Flex if self.flex => (list.halved(), tier),
            Tier::Ultrafast if self.ultrafast => (list.times(6), tier),
            _ => (list, Tier::Default),
        }
    }
}

/// Finds a model by its name, with or without a date at the end (`-2026-01-01`).
pub fn find(name: &str) -> Option<(usize, &'static Model)> {
    let bare = without_date(name);
    MODELS.iter().enumerate().find(|(_, m)| m.name == bare)
}

fn without_date(name: &str) -> &str {
    let bytes = name.as_bytes();
    let Some(at) = bytes.len().checked_sub(11) else {
        return name;
    };
    let dated = bytes[at..].iter().enumerate().all(|(i, b)| match i {
        0 | 5 | 8 => *b == b'-',
        _ => b.is_ascii_digit(),
    });
    if dated { &name[..at] } else { name }
}

const fn r(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Rates {
    Rates { input, output, cache_read, cache_write }
}

/// No tiers, no long rates; the table below overrides what a model has.
const PLAIN: Model = Model {
    name: "",
    context: 128_000,
    max_output: 128_000,
    reasoning: false,
    writes_cache: false,
    base: r(0, 0, 0, 0),
    long: None,
    priority: None,
    priority_long: None,
    flex: false,
    ultrafast: false,
};
/// The families since gpt-5.6.
const SIX: Model = Model { context: 922_000, reasoning: true, writes_cache: true, flex: true, ..PLAIN };
/// gpt-5 up to gpt-5.5.
const FIVE: Model = Model { context: 272_000, reasoning: true, flex: true, ..PLAIN };
/// Embedding models.
const EMBED: Model = Model { context: 300_000, max_output: 0, ..PLAIN };

/// The list. Columns of `r`: input, output, cache read, cache write. Models without a price for cache
/// writes (or reads) bill those tokens as input.
pub static MODELS: [Model; 22] = [
    Model {
        name: "gpt-6-astra",
        base: r(10_000_000, 50_000_000, 1_000_000, 12_500_000),
        long: Some(r(20_000_000, 75_000_000, 2_000_000, 25_000_000)),
        priority: Some(r(20_000_000, 100_000_000, 2_000_000, 25_000_000)),
        priority_long: Some(r(40_000_000, 150_000_000, 4_000_000, 50_000_000)),
        ultrafast: true,
        ..SIX
    },
    Model {
        name: "gpt-6.1-sol",
        base: r(2_000_000, 10_000_000, 100_000, 2_500_000),
        long: Some(r(4_000_000, 15_000_000, 200_000, 5_000_000)),
        priority: Some(r(4_000_000, 20_000_000, 200_000, 5_000_000)),
        priority_long: Some(r(8_000_000, 30_000_000, 400_000, 10_000_000)),
        ultrafast: true,
        ..SIX
    },
    Model {
        name: "gpt-6-sol",
        base: r(2_000_000, 10_000_000, 200_000, 2_500_000),
        long: Some(r(4_000_000, 15_000_000, 400_000, 5_000_000)),
        priority: Some(r(4_000_000, 20_000_000, 400_000, 5_000_000)),
        priority_long: Some(r(8_000_000, 30_000_000, 800_000, 10_000_000)),
        ..SIX
    },
    Model {
        name: "gpt-6-luna",
        base: r(100_000, 500_000, 10_000, 125_000),
        long: Some(r(200_000, 750_000, 20_000, 250_000)),
        priority: Some(r(200_000, 1_000_000, 20_000, 250_000)),
        priority_long: Some(r(400_000, 1_500_000, 40_000, 500_000)),
        ..SIX
    },
    Model {
        name: "gpt-5.6-sol",
        base: r(4_000_000, 20_000_000, 400_000, 5_000_000),
        long: Some(r(8_000_000, 30_000_000, 800_000, 10_000_000)),
        priority: Some(r(8_000_000, 40_000_000, 800_000, 10_000_000)),
        priority_long: Some(r(16_000_000, 60_000_000, 1_600_000, 20_000_000)),
        ..SIX
    },
    Model {
        name: "gpt-5.6-terra",
        base: r(2_000_000, 12_000_000, 200_000, 2_500_000),
        long: Some(r(4_000_000, 18_000_000, 400_000, 5_000_000)),
        priority: Some(r(4_000_000, 24_000_000, 400_000, 5_000_000)),
        priority_long: Some(r(8_000_000, 36_000_000, 800_000, 10_000_000)),
        ..SIX
    },
    Model {
        name: "gpt-5.6-luna",
        base: r(200_000, 1_200_000, 20_000, 250_000),
        long: Some(r(400_000, 1_800_000, 40_000, 500_000)),
        priority: Some(r(400_000, 2_400_000, 40_000, 500_000)),
        priority_long: Some(r(800_000, 3_600_000, 80_000, 1_000_000)),
        ..SIX
    },
    Model {
        name: "gpt-5.5",
        context: 1_050_000,
        base: r(5_000_000, 30_000_000, 500_000, 5_000_000),
        long: Some(r(10_000_000, 45_000_000, 1_000_000, 10_000_000)),
        priority: Some(r(12_500_000, 75_000_000, 1_250_000, 12_500_000)),
        priority_long: Some(r(25_000_000, 112_500_000, 2_500_000, 25_000_000)),
        ..FIVE
    },
    Model {
        name: "gpt-5.4",
        context: 1_050_000,
        base: r(2_500_000, 15_000_000, 250_000, 2_500_000),
        long: Some(r(5_000_000, 22_500_000, 500_000, 5_000_000)),
        priority: Some(r(5_000_000, 30_000_000, 500_000, 5_000_000)),
        priority_long: Some(r(10_000_000, 45_000_000, 1_000_000, 10_000_000)),
        ..FIVE
    },
    Model {
        name: "gpt-5.4-mini",
        base: r(750_000, 4_500_000, 75_000, 750_000),
        priority: Some(r(1_500_000, 9_000_000, 150_000, 1_500_000)),
        ..FIVE
    },
    Model { name: "gpt-5.4-nano", base: r(200_000, 1_250_000, 20_000, 200_000), ..FIVE },
    Model {
        name: "gpt-5",
        base: r(1_250_000, 10_000_000, 125_000, 1_250_000),
        priority: Some(r(2_500_000, 20_000_000, 250_000, 2_500_000)),
        ..FIVE
    },
    Model {
        name: "gpt-5-mini",
        base: r(250_000, 2_000_000, 25_000, 250_000),
        priority: Some(r(450_000, 3_600_000, 45_000, 450_000)),
        ..FIVE
    },
    Model { name: "gpt-5-nano", base: r(50_000, 400_000, 5_000, 50_000), ..FIVE },
    Model {
        name: "gpt-4.1",
        context: 1_047_576,
        max_output: 32_768,
        base: r(2_000_000, 8_000_000, 500_000, 2_000_000),
        priority: Some(r(3_500_000, 14_000_000, 875_000, 3_500_000)),
        ..PLAIN
    },
    Model {
        name: "gpt-4.1-mini",
        context: 1_047_576,
        max_output: 32_768,
        base: r(400_000, 1_600_000, 100_000, 400_000),
        priority: Some(r(700_000, 2_800_000, 175_000, 700_000)),
        ..PLAIN
    },
    Model {
        name: "gpt-4o",
        max_output: 16_384,
        base: r(2_500_000, 10_000_000, 1_250_000, 2_500_000),
        priority: Some(r(4_250_000, 17_000_000, 2_125_000, 4_250_000)),
        ..PLAIN
    },
    Model {
        name: "gpt-4o-mini",
        max_output: 16_384,
        base: r(150_000, 600_000, 75_000, 150_000),
        priority: Some(r(250_000, 1_000_000, 125_000, 250_000)),
        ..PLAIN
    },
    Model {
        name: "o3",
        context: 200_000,
        max_output: 100_000,
        reasoning: true,
        base: r(2_000_000, 8_000_000, 500_000, 2_000_000),
        priority: Some(r(3_500_000, 14_000_000, 875_000, 3_500_000)),
        flex: true,
        ..PLAIN
    },
    Model {
        name: "o4-mini",
        context: 200_000,
        max_output: 100_000,
        reasoning: true,
        base: r(1_100_000, 4_400_000, 275_000, 1_100_000),
        priority: Some(r(2_000_000, 8_000_000, 500_000, 2_000_000)),
        flex: true,
        ..PLAIN
    },
    Model { name: "text-embedding-3-small", base: r(20_000, 0, 20_000, 20_000), ..EMBED },
    Model { name: "text-embedding-3-large", base: r(130_000, 0, 130_000, 130_000), ..EMBED },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_date() {
        assert_eq!(find("gpt-4o-mini").unwrap().1.name, "gpt-4o-mini");
        assert_eq!(find("gpt-4o-mini-2026-01-01").unwrap().1.name, "gpt-4o-mini");
        for name in ["", "gpt", "gpt-4o-mini-2026-1-1", "gpt-4o-", "-2026-01-01", "é-2026-01-01"] {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn tiers_and_long_context() {
        let sol = find("gpt-6-sol").unwrap().1;
        assert_eq!(sol.rates(Tier::Default, 272_000).0, r(2_000_000, 10_000_000, 200_000, 2_500_000));
        assert_eq!(sol.rates(Tier::Default, 272_001).0, r(4_000_000, 15_000_000, 400_000, 5_000_000));
        assert_eq!(sol.rates(Tier::Priority, 1).0, r(4_000_000, 20_000_000, 400_000, 5_000_000));
        assert_eq!(sol.rates(Tier::Priority, 272_001).0.output, 30_000_000);
        assert_eq!(sol.rates(Tier::Flex, 1).0.output, 5_000_000);
        assert_eq!(sol.rates(Tier::Ultrafast, 1).1, Tier::Default);
        let astra = find("gpt-6-astra").unwrap().1;
        assert_eq!(astra.rates(Tier::Ultrafast, 1).0.output, 300_000_000);
        assert_eq!(astra.rates(Tier::Ultrafast, 272_001).0.input, 120_000_000);
        let nano = find("gpt-5-nano").unwrap().1;
        assert_eq!(nano.rates(Tier::Priority, 1), (r(50_000, 400_000, 5_000, 50_000), Tier::Default));
    }
}

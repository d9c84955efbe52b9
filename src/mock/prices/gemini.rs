//! Google's prices for the Gemini API. The models have no price for cache writes; priority costs 1.8 times the list.

use super::{Model, PLAIN, Rates, r};

const GEMINI: Model = Model {
    context: 1_048_576,
    max_output: 65_536,
    reasoning: true,
    search: 14_000_000,
    flex: true,
    long_above: 200_000,
    ..PLAIN
};
/// Bills a grounded prompt once, however many queries it took.
const GEMINI_2: Model = Model { search: 35_000_000, search_once: true, ..GEMINI };
/// Embedding models.
const EMBED: Model = Model { context: 8_192, max_output: 0, ..PLAIN };

const FLASH_3: Rates = r(750_000, 3_750_000, 75_000, 750_000);
const FLASH_35: Rates = r(1_500_000, 9_000_000, 150_000, 1_500_000).audio(1_500_000);
const LITE_35: Rates = r(300_000, 2_500_000, 30_000, 300_000);
const ARGON: Rates = r(2_000_000, 10_000_000, 100_000, 2_000_000);
const PRO_31: Rates = r(2_000_000, 12_000_000, 200_000, 2_000_000);
const PRO_31_LONG: Rates = r(4_000_000, 18_000_000, 400_000, 4_000_000);
const LITE_31: Rates = r(250_000, 1_500_000, 25_000, 250_000).audio(500_000);
const PRO_25: Rates = r(1_250_000, 10_000_000, 125_000, 1_250_000);
const PRO_25_LONG: Rates = r(2_500_000, 15_000_000, 250_000, 2_500_000);
const FLASH_25: Rates = r(300_000, 2_500_000, 30_000, 300_000).audio(1_000_000);
const LITE_25: Rates = r(100_000, 400_000, 10_000, 100_000).audio(300_000);

const fn priority(rates: Rates) -> Option<Rates> {
    Some(rates.scaled(18, 10))
}

/// The list.
pub static MODELS: [Model; 13] = [
    Model { name: "gemini-4-argon", max_output: 1_048_576, base: ARGON, priority: priority(ARGON), ..GEMINI },
    Model { name: "gemini-3.8-flash", base: FLASH_3, priority: priority(FLASH_3), ..GEMINI },
    Model { name: "gemini-3.7-flash", base: FLASH_3, priority: priority(FLASH_3), ..GEMINI },
    Model { name: "gemini-3.6-flash", base: FLASH_3, priority: priority(FLASH_3), ..GEMINI },
    Model { name: "gemini-3.5-flash", base: FLASH_35, priority: priority(FLASH_35), ..GEMINI },
    Model { name: "gemini-3.5-flash-lite", base: LITE_35, priority: priority(LITE_35), ..GEMINI },
    Model {
        name: "gemini-3.1-pro-preview",
        base: PRO_31,
        long: Some(PRO_31_LONG),
        priority: priority(PRO_31),
        priority_long: priority(PRO_31_LONG),
        ..GEMINI
    },
    Model { name: "gemini-3.1-flash-lite", base: LITE_31, priority: priority(LITE_31), ..GEMINI },
    Model {
        name: "gemini-2.5-pro",
        base: PRO_25,
        long: Some(PRO_25_LONG),
        priority: priority(PRO_25),
        priority_long: priority(PRO_25_LONG),
        ..GEMINI_2
    },
    Model { name: "gemini-2.5-flash", base: FLASH_25, priority: priority(FLASH_25), ..GEMINI_2 },
    Model { name: "gemini-2.5-flash-lite", base: LITE_25, priority: priority(LITE_25), ..GEMINI_2 },
    Model { name: "gemini-embedding-001", context: 2_048, base: r(150_000, 0, 150_000, 150_000), ..EMBED },
    Model {
        name: "gemini-embedding-2",
        base: r(200_000, 0, 200_000, 200_000).audio(6_500_000).image(450_000),
        ..EMBED
    },
];

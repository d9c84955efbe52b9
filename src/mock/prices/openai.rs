//! OpenAI's prices.

use super::{Model, PLAIN, r};

/// The families since gpt-5.6.
const SIX: Model =
    Model { context: 922_000, reasoning: true, writes_cache: true, flex: true, geo: true, search: 10_000_000, ..PLAIN };
/// gpt-5 up to gpt-5.5.
const FIVE: Model = Model { context: 272_000, reasoning: true, flex: true, search: 10_000_000, ..PLAIN };
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
        geo: true,
        context: 1_050_000,
        base: r(5_000_000, 30_000_000, 500_000, 5_000_000),
        long: Some(r(10_000_000, 45_000_000, 1_000_000, 10_000_000)),
        priority: Some(r(12_500_000, 75_000_000, 1_250_000, 12_500_000)),
        priority_long: Some(r(25_000_000, 112_500_000, 2_500_000, 25_000_000)),
        ..FIVE
    },
    Model {
        name: "gpt-5.4",
        geo: true,
        context: 1_050_000,
        base: r(2_500_000, 15_000_000, 250_000, 2_500_000),
        long: Some(r(5_000_000, 22_500_000, 500_000, 5_000_000)),
        priority: Some(r(5_000_000, 30_000_000, 500_000, 5_000_000)),
        priority_long: Some(r(10_000_000, 45_000_000, 1_000_000, 10_000_000)),
        ..FIVE
    },
    Model {
        name: "gpt-5.4-mini",
        geo: true,
        base: r(750_000, 4_500_000, 75_000, 750_000),
        priority: Some(r(1_500_000, 9_000_000, 150_000, 1_500_000)),
        ..FIVE
    },
    Model { name: "gpt-5.4-nano", geo: true, base: r(200_000, 1_250_000, 20_000, 200_000), ..FIVE },
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
        search: 25_000_000,
        context: 1_047_576,
        max_output: 32_768,
        base: r(2_000_000, 8_000_000, 500_000, 2_000_000),
        priority: Some(r(3_500_000, 14_000_000, 875_000, 3_500_000)),
        ..PLAIN
    },
    Model {
        name: "gpt-4.1-mini",
        search: 25_000_000,
        context: 1_047_576,
        max_output: 32_768,
        base: r(400_000, 1_600_000, 100_000, 400_000),
        priority: Some(r(700_000, 2_800_000, 175_000, 700_000)),
        ..PLAIN
    },
    Model {
        name: "gpt-4o",
        search: 25_000_000,
        max_output: 16_384,
        base: r(2_500_000, 10_000_000, 1_250_000, 2_500_000),
        priority: Some(r(4_250_000, 17_000_000, 2_125_000, 4_250_000)),
        ..PLAIN
    },
    Model {
        name: "gpt-4o-mini",
        search: 25_000_000,
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
        search: 10_000_000,
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
        search: 10_000_000,
        base: r(1_100_000, 4_400_000, 275_000, 1_100_000),
        priority: Some(r(2_000_000, 8_000_000, 500_000, 2_000_000)),
        flex: true,
        ..PLAIN
    },
    Model { name: "text-embedding-3-small", base: r(20_000, 0, 20_000, 20_000), ..EMBED },
    Model { name: "text-embedding-3-large", base: r(130_000, 0, 130_000, 130_000), ..EMBED },
];

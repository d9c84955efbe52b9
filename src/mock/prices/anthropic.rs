//! Anthropic's prices.

use super::{Model, PLAIN, Rates, r};

const CLAUDE: Model = Model { context: 1_000_000, geo: true, search: 10_000_000, ..PLAIN };

const OPUS_5: Rates = r(5_000_000, 25_000_000, 500_000, 6_250_000).hour(10_000_000);

/// The list. `hour` is the price of a cache write that lives for an hour.
pub static MODELS: [Model; 11] = [
    Model {
        name: "claude-fable-5-1",
        reasoning: true,
        base: r(10_000_000, 50_000_000, 250_000, 12_500_000).hour(20_000_000),
        ..CLAUDE
    },
    Model {
        name: "claude-mythos-5-1",
        reasoning: true,
        base: r(10_000_000, 50_000_000, 250_000, 12_500_000).hour(20_000_000),
        ..CLAUDE
    },
    Model {
        name: "claude-opus-5-5",
        reasoning: true,
        fast: true,
        base: r(4_000_000, 20_000_000, 200_000, 5_000_000).hour(8_000_000),
        ..CLAUDE
    },
    Model { name: "claude-opus-5", fast: true, base: OPUS_5, ..CLAUDE },
    Model { name: "claude-opus-4-8", fast: true, base: OPUS_5, ..CLAUDE },
    Model { name: "claude-opus-4-6", base: OPUS_5, ..CLAUDE },
    Model {
        name: "claude-sonnet-5-5",
        reasoning: true,
        base: r(2_000_000, 10_000_000, 100_000, 2_500_000).hour(4_000_000),
        ..CLAUDE
    },
    Model { name: "claude-sonnet-5", base: r(2_000_000, 10_000_000, 200_000, 2_500_000).hour(4_000_000), ..CLAUDE },
    Model { name: "claude-sonnet-4-6", base: r(3_000_000, 15_000_000, 300_000, 3_750_000).hour(6_000_000), ..CLAUDE },
    Model {
        name: "claude-haiku-5-5",
        base: r(100_000, 500_000, 10_000, 125_000).hour(200_000),
        long_above: 100_000,
        long: Some(r(500_000, 2_500_000, 50_000, 625_000).hour(1_000_000)),
        ..CLAUDE
    },
    Model {
        name: "claude-haiku-4-5",
        context: 200_000,
        max_output: 64_000,
        geo: false,
        base: r(1_000_000, 5_000_000, 100_000, 1_250_000).hour(2_000_000),
        ..CLAUDE
    },
];

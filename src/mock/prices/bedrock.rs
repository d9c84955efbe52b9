//! Bedrock's prices. A Claude id without `global.` or `us.` before it runs in one region, for a tenth more than
//! its line says. Llama, Mistral and Titan: AWS's on-demand prices of us-east-1.

use super::{Model, PLAIN, r};

const CLAUDE: Model = Model { context: 1_000_000, search: 10_000_000, ..PLAIN };
/// Nova bills cache writes as input.
const NOVA: Model = Model { context: 300_000, max_output: 10_000, ..PLAIN };

/// The list.
pub static MODELS: [Model; 19] = [
    Model {
        name: "global.anthropic.claude-fable-5-1",
        reasoning: true,
        base: r(10_000_000, 50_000_000, 250_000, 12_500_000).hour(20_000_000),
        ..CLAUDE
    },
    Model {
        name: "global.anthropic.claude-opus-5-5",
        reasoning: true,
        base: r(4_000_000, 20_000_000, 200_000, 5_000_000).hour(8_000_000),
        ..CLAUDE
    },
    Model {
        name: "us.anthropic.claude-opus-5-5",
        reasoning: true,
        base: r(4_400_000, 22_000_000, 220_000, 5_500_000).hour(8_800_000),
        ..CLAUDE
    },
    Model {
        name: "anthropic.claude-opus-5-5",
        reasoning: true,
        uplifted: true,
        base: r(4_000_000, 20_000_000, 200_000, 5_000_000).hour(8_000_000),
        ..CLAUDE
    },
    Model {
        name: "us.anthropic.claude-sonnet-5-5",
        reasoning: true,
        base: r(2_200_000, 11_000_000, 110_000, 2_750_000).hour(4_400_000),
        ..CLAUDE
    },
    Model {
        name: "us.anthropic.claude-haiku-5-5",
        base: r(110_000, 550_000, 11_000, 137_500).hour(220_000),
        long_above: 100_000,
        long: Some(r(550_000, 2_750_000, 55_000, 687_500).hour(1_100_000)),
        ..CLAUDE
    },
    Model {
        name: "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        context: 200_000,
        max_output: 64_000,
        search: 0,
        base: r(1_100_000, 5_500_000, 110_000, 1_375_000).hour(2_200_000),
        ..CLAUDE
    },
    Model {
        name: "us.anthropic.claude-sonnet-4-6",
        max_output: 64_000,
        base: r(3_300_000, 16_500_000, 330_000, 4_125_000).hour(6_600_000),
        ..CLAUDE
    },
    Model {
        name: "us.amazon.nova-2-lite-v1:0",
        context: 1_000_000,
        max_output: 64_000,
        base: r(330_000, 2_750_000, 82_500, 330_000),
        priority: Some(r(577_500, 4_812_500, 144_375, 577_500)),
        flex: true,
        ..NOVA
    },
    Model {
        name: "eu.amazon.nova-2-lite-v1:0",
        context: 1_000_000,
        max_output: 64_000,
        base: r(429_000, 3_597_000, 107_250, 429_000),
        ..NOVA
    },
    Model {
        name: "amazon.nova-premier-v1:0",
        context: 1_000_000,
        base: r(2_500_000, 12_500_000, 625_000, 2_500_000),
        priority: Some(r(4_375_000, 21_875_000, 1_093_750, 4_375_000)),
        ..NOVA
    },
    Model {
        name: "amazon.nova-pro-v1:0",
        base: r(800_000, 3_200_000, 200_000, 800_000),
        priority: Some(r(1_400_000, 5_600_000, 350_000, 1_400_000)),
        flex: true,
        ..NOVA
    },
    Model { name: "amazon.nova-lite-v1:0", base: r(60_000, 240_000, 15_000, 60_000), ..NOVA },
    Model { name: "amazon.nova-micro-v1:0", context: 128_000, base: r(35_000, 140_000, 8_750, 35_000), ..NOVA },
    Model {
        name: "meta.llama3-3-70b-instruct-v1:0",
        max_output: 8_192,
        base: r(720_000, 720_000, 720_000, 720_000),
        ..PLAIN
    },
    Model {
        name: "mistral.mistral-7b-instruct-v0:2",
        context: 32_000,
        max_output: 8_192,
        base: r(150_000, 200_000, 150_000, 150_000),
        ..PLAIN
    },
    Model {
        name: "mistral.mistral-large-2402-v1:0",
        context: 32_000,
        max_output: 8_192,
        base: r(4_000_000, 12_000_000, 4_000_000, 4_000_000),
        ..PLAIN
    },
    Model {
        name: "amazon.titan-text-express-v1",
        context: 8_192,
        max_output: 8_192,
        base: r(200_000, 600_000, 200_000, 200_000),
        ..PLAIN
    },
    Model {
        name: "amazon.titan-embed-text-v2:0",
        context: 8_192,
        max_output: 0,
        base: r(20_000, 0, 20_000, 20_000),
        ..PLAIN
    },
];

//! Mistral's prices: a cached token costs a tenth, writing the cache costs nothing extra.

use super::{Model, PLAIN, Rates, r};

const MISTRAL: Model = Model { context: 262_144, max_output: 262_144, ..PLAIN };

const fn list(input: u64, output: u64) -> Rates {
    r(input, output, input / 10, input)
}

/// The list.
pub static MODELS: [Model; 12] = [
    Model { name: "mistral-large-latest", base: list(500_000, 1_500_000), ..MISTRAL },
    Model {
        name: "mistral-large-4",
        context: 1_048_576,
        max_output: 1_048_576,
        base: list(680_000, 2_090_000),
        ..MISTRAL
    },
    Model { name: "mistral-medium-3.5", base: list(1_500_000, 7_500_000), ..MISTRAL },
    Model { name: "mistral-medium-latest", base: list(1_500_000, 7_500_000), ..MISTRAL },
    Model { name: "mistral-small-latest", base: list(150_000, 600_000), ..MISTRAL },
    Model { name: "codestral-latest", context: 128_000, max_output: 128_000, base: list(300_000, 900_000), ..MISTRAL },
    Model { name: "devstral-latest", context: 256_000, max_output: 256_000, base: list(400_000, 2_000_000), ..MISTRAL },
    Model { name: "magistral-medium-latest", reasoning: true, base: list(1_500_000, 7_500_000), ..MISTRAL },
    Model { name: "ministral-8b-latest", base: list(150_000, 150_000), ..MISTRAL },
    Model {
        name: "ministral-3b-latest",
        context: 131_072,
        max_output: 131_072,
        base: list(100_000, 100_000),
        ..MISTRAL
    },
    Model {
        name: "pixtral-large-latest",
        context: 128_000,
        max_output: 128_000,
        base: list(2_000_000, 6_000_000),
        ..MISTRAL
    },
    Model { name: "mistral-embed", context: 8_192, max_output: 0, base: list(100_000, 0), ..PLAIN },
];

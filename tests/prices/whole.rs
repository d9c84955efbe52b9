//! All entries and all rows, against the file read in another way.

use std::collections::{BTreeMap, BTreeSet};

use loopers::pricing::{ModelPrice, PriceTable, Rates, Tier};
use serde_json::Value;

use crate::{FIXTURE, IMPORT, SIX, TABLE};

fn entries() -> BTreeMap<String, Value> {
    serde_json::from_str(&FIXTURE).unwrap()
}

#[test]
fn the_shipped_table_is_what_the_import_makes() {
    let shipped = PriceTable::builtin_text();
    let made = IMPORT.to_yaml();
    let different = shipped.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        shipped == made,
        "conf/prices.yaml differs from the import, first in line {:?}",
        different.map(|at| at + 1)
    );
}

#[test]
fn every_entry_is_a_row_or_listed_with_its_reason() {
    let all: BTreeSet<String> = entries().into_keys().collect();
    let rows: BTreeSet<String> = IMPORT.imported().values().flatten().cloned().collect();
    let refused: BTreeSet<String> = IMPORT.refused().iter().map(|(entry, _)| entry.clone()).collect();
    assert_eq!((IMPORT.entries(), all.len()), (1315, 1315));
    assert!(rows.is_disjoint(&refused));
    let told: BTreeSet<String> = rows.union(&refused).cloned().collect();
    assert_eq!(told, all);
    // The list stands in the shipped file.
    let text = PriceTable::builtin_text();
    let (_, list) = text.split_once("# Entries without a row, by reason:").unwrap();
    let listed: BTreeSet<&str> = list.split_whitespace().collect();
    assert!(refused.iter().all(|entry| listed.contains(entry.as_str())));
    // Whatever is billed by tokens is a row, but for these.
    let modes = ["chat", "completion", "responses", "embedding"];
    let by_token = |value: &Value| {
        let above_zero = |name: &str| value[name].as_f64().is_some_and(|price| price > 0.0);
        modes.contains(&value["mode"].as_str().unwrap())
            && above_zero("input_cost_per_token")
            && above_zero("output_cost_per_token")
    };
    let left_out: BTreeSet<String> = entries()
        .into_iter()
        .filter(|(name, value)| by_token(value) && refused.contains(name))
        .map(|(name, _)| name)
        .collect();
    for name in &left_out {
        let known = ["search", "research", "-tts", "omni"];
        assert!(known.iter().any(|part| name.contains(part)), "{name} has token prices and no row");
    }
    assert_eq!(left_out.len(), 19, "{left_out:?}");
}

#[test]
fn every_row_loads_and_has_its_provider() {
    assert_eq!(TABLE.iter().count(), IMPORT.imported().len());
    for provider in SIX {
        assert!(TABLE.iter().any(|row| row.id.starts_with(&format!("{provider}/"))), "{provider}");
    }
}

/// The rows that a rule changed the rates of.
fn is_corrected(row: &ModelPrice) -> bool {
    ["priority-slip", "half-tier", "write-below-input", "bare-bedrock", "mantle-global", "long-tier", "announcement"]
        .iter()
        .any(|rule| row.source.contains(rule))
}

/// USD per million tokens, as a float: close enough to see a wrong digit, and read by other code than the import's.
fn is_near(rate: loopers::money::Rate, per_token: f64) -> bool {
    let rate: f64 = rate.to_per_million().parse().unwrap();
    (rate - per_token * 1e6).abs() <= rate.abs() * 1e-9
}

/// A field of the file, and where it arrives.
type Meter = (&'static str, fn(&Rates) -> loopers::money::Rate);

#[test]
fn every_price_of_the_file_arrives_in_its_meter() {
    let entries = entries();
    let meters: [Meter; 11] = [
        ("input_cost_per_token", |rates| rates.input),
        ("output_cost_per_token", |rates| rates.output),
        ("output_cost_per_reasoning_token", |rates| rates.reasoning),
        ("cache_read_input_token_cost", |rates| rates.cache_read),
        ("cache_creation_input_token_cost", |rates| rates.cache_write_5m),
        ("input_cost_per_audio_token", |rates| rates.audio_in),
        ("cache_read_input_audio_token_cost", |rates| rates.audio_in_cached),
        ("input_cost_per_image_token", |rates| rates.image_in),
        ("input_cost_per_video_token", |rates| rates.video_in),
        ("output_cost_per_audio_token", |rates| rates.audio_out),
        ("cache_creation_input_token_cost_above_1hr", |rates| rates.cache_write_1h),
    ];
    let tiers =
        [(Tier::Standard, ""), (Tier::Flex, "_flex"), (Tier::Priority, "_priority"), (Tier::Ultrafast, "_ultrafast")];
    let mut compared = 0;
    for (id, names) in IMPORT.imported().iter().filter(|(_, names)| !names.is_empty()) {
        let row = TABLE.get_at(id, 0).unwrap();
        for name in names.iter().filter(|_| !is_corrected(row)) {
            let above = row.long_above.map(|above| format!("_above_{}k_tokens", above / 1000));
            for (meter, rate) in meters {
                for (tier, suffix) in tiers {
                    let short = entries[name].get(format!("{meter}{suffix}")).map(|price| (price, 0));
                    let long = above.as_ref().and_then(|above| entries[name].get(format!("{meter}{above}{suffix}")));
                    for (price, input) in short.into_iter().chain(long.map(|price| (price, u64::MAX))) {
                        let rate = rate(&row.rates(tier, input));
                        assert!(
                            is_near(rate, price.as_f64().unwrap()),
                            "{id} {meter}{suffix} at {input}: {rate:?}, not {price}"
                        );
                        compared += 1;
                    }
                }
            }
        }
    }
    // A comparison that compares nothing proves nothing.
    assert!(compared > 4000, "{compared}");
}

#[test]
fn no_meter_is_cheaper_than_the_safe_side() {
    for row in TABLE.iter() {
        for (_, rates) in row.all_tiers() {
            for rates in [&rates.short, &rates.long] {
                assert!(rates.cache_read <= rates.input, "{}: cache reads dearer than input", row.id);
                assert!(
                    rates.cache_write_5m >= rates.input && rates.cache_write_1h >= rates.cache_write_5m,
                    "{}",
                    row.id
                );
                assert!(rates.reasoning >= rates.output, "{}", row.id);
            }
            assert!(rates.long.input >= rates.short.input && rates.long.output >= rates.short.output, "{}", row.id);
        }
    }
}

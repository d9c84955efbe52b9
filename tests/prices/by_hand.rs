//! Prices typed from the providers' tables, not read from the import.

use loopers::pricing::{ModelPrice, Tier};

use crate::TABLE;

/// The row as it is before any announced change.
fn row(id: &str) -> &'static ModelPrice {
    TABLE.get_at(id, 0).unwrap_or_else(|| panic!("no row {id}"))
}

/// `input/output`, in a tier, for a prompt of that many tokens.
fn price(row: &ModelPrice, tier: Tier, input: u64) -> String {
    let rates = row.rates(tier, input);
    format!("{}/{}", rates.input.to_per_million(), rates.output.to_per_million())
}

/// One model: id, in/out, cache read, cache write (5 min), long tier as `above in/out`, flex, priority, ultrafast.
/// An empty cell is not published.
type Typed =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const TYPED: [Typed; 62] = [
    ("openai/gpt-6-astra", "10/50", "1", "12.5", "272000 20/75", "5/25", "20/100", "60/300"),
    ("openai/gpt-6.1-sol", "2/10", "0.1", "2.5", "272000 4/15", "1/5", "4/20", "12/60"),
    ("openai/gpt-6-sol", "2/10", "0.2", "2.5", "272000 4/15", "1/5", "4/20", ""),
    ("openai/gpt-6-luna", "0.1/0.5", "0.01", "0.125", "272000 0.2/0.75", "0.05/0.25", "0.2/1", ""),
    ("openai/gpt-5.6-sol", "4/20", "0.4", "5", "272000 8/30", "2/10", "8/40", ""),
    ("openai/gpt-5.6-terra", "2/12", "0.2", "2.5", "272000 4/18", "1/6", "4/24", ""),
    ("openai/gpt-5.6-luna", "0.2/1.2", "0.02", "0.25", "272000 0.4/1.8", "0.1/0.6", "0.4/2.4", ""),
    ("openai/gpt-5.5", "5/30", "0.5", "", "272000 10/45", "2.5/15", "12.5/75", ""),
    ("openai/gpt-5.5-pro", "30/180", "", "", "272000 60/270", "15/90", "", ""),
    ("openai/gpt-5.4", "2.5/15", "0.25", "", "272000 5/22.5", "1.25/7.5", "5/30", ""),
    ("openai/gpt-5.4-mini", "0.75/4.5", "0.075", "", "", "0.375/2.25", "1.5/9", ""),
    ("openai/gpt-5.4-nano", "0.2/1.25", "0.02", "", "", "0.1/0.625", "", ""),
    ("openai/gpt-5", "1.25/10", "0.125", "", "", "0.625/5", "2.5/20", ""),
    ("openai/gpt-5-mini", "0.25/2", "0.025", "", "", "0.125/1", "0.45/3.6", ""),
    ("openai/gpt-4.1", "2/8", "0.5", "", "", "", "3.5/14", ""),
    ("openai/gpt-4.1-mini", "0.4/1.6", "0.1", "", "", "", "0.7/2.8", ""),
    ("openai/gpt-4o", "2.5/10", "1.25", "", "", "", "4.25/17", ""),
    ("openai/gpt-4o-mini", "0.15/0.6", "0.075", "", "", "", "0.25/1", ""),
    ("openai/o3", "2/8", "0.5", "", "", "1/4", "3.5/14", ""),
    ("openai/o4-mini", "1.1/4.4", "0.275", "", "", "0.55/2.2", "2/8", ""),
    ("openai/o1-pro", "150/600", "", "", "", "", "", ""),
    ("openai/text-embedding-3-small", "0.02/0", "", "", "", "", "", ""),
    ("openai/text-embedding-3-large", "0.13/0", "", "", "", "", "", ""),
    ("anthropic/claude-fable-5-1", "10/50", "0.25", "12.5", "", "", "", ""),
    ("anthropic/claude-opus-5-5", "4/20", "0.2", "5", "", "", "", ""),
    ("anthropic/claude-opus-4-8", "5/25", "0.5", "6.25", "", "", "", ""),
    ("anthropic/claude-sonnet-5-5", "2/10", "0.1", "2.5", "", "", "", ""),
    ("anthropic/claude-sonnet-4-6", "3/15", "0.3", "3.75", "", "", "", ""),
    ("anthropic/claude-haiku-5-5", "0.1/0.5", "0.01", "0.125", "100000 0.5/2.5", "", "", ""),
    ("anthropic/claude-haiku-4-5", "1/5", "0.1", "1.25", "", "", "", ""),
    ("gemini/gemini-4-argon", "2/10", "0.1", "", "", "1/5", "3.6/18", ""),
    ("gemini/gemini-3.8-flash", "0.75/3.75", "0.075", "", "", "0.375/1.875", "1.35/6.75", ""),
    ("gemini/gemini-3.5-flash", "1.5/9", "0.15", "", "", "0.75/4.5", "2.7/16.2", ""),
    ("gemini/gemini-3.1-pro-preview", "2/12", "0.2", "", "200000 4/18", "1/6", "3.6/21.6", ""),
    ("gemini/gemini-2.5-pro", "1.25/10", "0.125", "", "200000 2.5/15", "0.625/5", "2.25/18", ""),
    ("gemini/gemini-2.5-flash", "0.3/2.5", "0.03", "", "", "0.15/1.25", "0.54/4.5", ""),
    ("gemini/gemini-embedding-001", "0.15/0", "", "", "", "", "", ""),
    ("bedrock/global.anthropic.claude-opus-5-5", "4/20", "0.2", "5", "", "", "", ""),
    ("bedrock/us.anthropic.claude-opus-5-5", "4.4/22", "0.22", "5.5", "", "", "", ""),
    ("bedrock_mantle/anthropic.claude-opus-5-5", "4.4/22", "0.22", "5.5", "", "", "", ""),
    ("bedrock/us.anthropic.claude-haiku-5-5", "0.11/0.55", "0.011", "0.1375", "100000 0.55/2.75", "", "", ""),
    ("bedrock/us.anthropic.claude-sonnet-4-6", "3.3/16.5", "0.33", "4.125", "", "", "", ""),
    ("bedrock/us.openai.gpt-6-astra", "11/55", "1.1", "13.75", "272000 22/82.5", "", "", "66/330"),
    ("bedrock_mantle/openai.gpt-5.6-luna", "0.22/1.32", "0.022", "0.275", "272000 0.44/1.98", "", "", ""),
    ("bedrock_mantle/openai.gpt-oss-120b", "0.15/0.6", "", "", "", "0.075/0.3", "0.2625/1.05", ""),
    ("bedrock/us.amazon.nova-2-lite-v1:0", "0.33/2.75", "0.0825", "", "", "0.165/1.375", "0.5775/4.8125", ""),
    ("bedrock/eu.amazon.nova-2-lite-v1:0", "0.429/3.597", "0.10725", "", "", "", "", ""),
    ("bedrock/amazon.nova-premier-v1:0", "2.5/12.5", "0.625", "", "", "", "4.375/21.875", ""),
    ("bedrock/amazon.nova-micro-v1:0", "0.035/0.14", "0.00875", "", "", "", "", ""),
    ("azure/gpt-6.1-sol", "2/10", "0.1", "2.5", "272000 4/15", "", "", ""),
    ("azure/us/gpt-6.1-sol", "2.2/11", "0.11", "2.75", "272000 4.4/16.5", "", "", ""),
    ("azure/eu/gpt-6.1-sol", "2.4/12", "0.12", "3", "272000 4.8/18", "", "", ""),
    ("azure/gpt-5.6-sol", "4/20", "0.4", "5", "272000 8/30", "2/10", "8/40", ""),
    ("azure/us/gpt-5.5", "5.5/33", "0.55", "", "272000 11/49.5", "", "13.75/82.5", ""),
    ("azure/gpt-5", "1.25/10", "0.125", "", "", "", "2.5/20", ""),
    ("azure/gpt-4o", "2.5/10", "1.25", "", "", "", "", ""),
    ("azure/text-embedding-3-large", "0.143/0", "", "", "", "", "", ""),
    ("mistral/mistral-large-latest", "0.5/1.5", "0.05", "", "", "", "", ""),
    ("mistral/mistral-large-4", "0.68/2.09", "0.068", "", "", "", "", ""),
    ("mistral/mistral-medium-3.5", "1.5/7.5", "0.15", "", "", "", "", ""),
    ("mistral/codestral-latest", "0.3/0.9", "0.03", "", "", "", "", ""),
    ("mistral/mistral-embed", "0.1/0", "", "", "", "", "", ""),
];

#[test]
fn prices_are_those_of_the_providers_tables() {
    for (id, base, read, write, long, flex, priority, ultrafast) in TYPED {
        let row = row(id);
        assert_eq!(price(row, Tier::Standard, 0), base, "{id}");
        let rates = row.standard.short;
        // Without a price of its own, a cache read costs the input price, and a write 1.25 times as much.
        let read = if read.is_empty() { base.split('/').next().unwrap() } else { read };
        assert_eq!(rates.cache_read.to_per_million(), read, "{id}: cache read");
        let write = if write.is_empty() { rates.input.scaled(1250).to_per_million() } else { write.to_string() };
        assert_eq!(rates.cache_write_5m.to_per_million(), write, "{id}: cache write");
        match long.split_once(' ') {
            Some((above, prices)) => {
                let above: u64 = above.parse().unwrap();
                assert_eq!(row.long_above, Some(above), "{id}");
                assert_eq!(price(row, Tier::Standard, above), base, "{id}: at the threshold");
                assert_eq!(price(row, Tier::Standard, above + 1), prices, "{id}: above it");
            }
            None => assert_eq!(row.long_above, None, "{id}"),
        }
        for (tier, typed) in [(Tier::Flex, flex), (Tier::Priority, priority), (Tier::Ultrafast, ultrafast)] {
            let has_it = row.tiers.iter().any(|(known, _)| *known == tier);
            assert_eq!(has_it, !typed.is_empty(), "{id}: {}", tier.name());
            if has_it {
                assert_eq!(price(row, tier, 0), typed, "{id}: {}", tier.name());
            }
        }
    }
}

#[test]
fn writes_of_an_hour_cost_twice_the_input() {
    for (id, hour) in [
        ("anthropic/claude-fable-5-1", "20"),
        ("anthropic/claude-opus-5-5", "8"),
        ("anthropic/claude-haiku-5-5", "0.2"),
        ("bedrock/us.anthropic.claude-opus-5-5", "8.8"),
        ("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0", "2.2"),
    ] {
        assert_eq!(row(id).standard.short.cache_write_1h.to_per_million(), hour, "{id}");
    }
    let haiku = row("anthropic/claude-haiku-5-5").rates(Tier::Standard, 100_001);
    let long = [haiku.cache_read, haiku.cache_write_5m, haiku.cache_write_1h].map(|rate| rate.to_per_million());
    assert_eq!(long, ["0.05", "0.625", "1"]);
}

#[test]
fn sound_pictures_and_films_have_their_prices() {
    let short = |id: &str| row(id).standard.short;
    assert_eq!(short("gemini/gemini-2.5-flash").audio_in.to_per_million(), "1");
    assert_eq!(short("gemini/gemini-2.5-flash-lite").audio_in.to_per_million(), "0.3");
    assert_eq!(short("gemini/gemini-3.1-flash-lite").audio_in.to_per_million(), "0.5");
    assert_eq!(short("gemini/gemini-2.5-flash").image_in.to_per_million(), "0.3");
    let embedding = short("gemini/gemini-embedding-2");
    let typed =
        [embedding.input, embedding.audio_in, embedding.image_in, embedding.video_in].map(|rate| rate.to_per_million());
    assert_eq!(typed, ["0.2", "6.5", "0.45", "12"]);
    assert_eq!(short("openai/gpt-audio").audio_out.to_per_million(), "64");
    assert_eq!(short("bedrock/us.amazon.nova-2-pro-preview-20251202-v1:0").audio_in.to_per_million(), "1.375");
}

#[test]
fn windows_are_those_of_the_providers_tables() {
    for (id, window, output) in [
        ("openai/gpt-6-astra", 1_050_000, 128_000),
        ("openai/gpt-5.5", 1_050_000, 128_000),
        ("openai/gpt-5", 400_000, 128_000),
        ("openai/gpt-4.1", 1_047_576, 32_768),
        ("openai/gpt-4o", 128_000, 16_384),
        ("openai/o3", 200_000, 100_000),
        ("openai/text-embedding-3-large", 8192, 0),
        ("anthropic/claude-opus-5-5", 1_000_000, 128_000),
        ("anthropic/claude-haiku-4-5", 200_000, 64_000),
        // Limits of their own for input and output.
        ("gemini/gemini-2.5-pro", 1_048_576 + 65_536, 65_536),
        ("bedrock/us.openai.gpt-6-astra", 1_050_000, 128_000),
        ("mistral/mistral-large-latest", 262_144, 262_144),
        // No limits in the file: those of azure/gpt-5.
        ("azure/us/gpt-5", 400_000, 128_000),
    ] {
        assert_eq!((row(id).context_window, row(id).max_output), (window, output), "{id}");
    }
}

#[test]
fn factors_and_fees_are_kept() {
    let usd = |rate: loopers::money::Rate| loopers::money::ExactCost::ZERO.plus(1000, rate).rounded_up().to_string();
    let search = |id: &str| row(id).fees.web_search.map(|sizes| sizes.map(usd));
    let thousand = |price: &str| Some([price, price, price].map(String::from));
    assert_eq!(search("openai/gpt-5"), thousand("10"));
    assert_eq!(search("openai/gpt-4.1"), thousand("25"));
    assert_eq!(search("anthropic/claude-opus-5-5"), thousand("10"));
    assert_eq!(search("gemini/gemini-3.8-flash"), thousand("14"));
    assert_eq!(search("gemini/gemini-2.5-pro"), thousand("35"));
    assert_eq!(search("bedrock_mantle/openai.gpt-5.6-luna"), thousand("12"));
    assert_eq!(search("openai/gpt-3.5-turbo"), None);
    assert!(row("gemini/gemini-3.8-flash").fees.per_query && !row("gemini/gemini-2.5-pro").fees.per_query);
    assert_eq!(row("gemini/gemini-2.5-flash").fees.maps.map(usd).as_deref(), Some("25"));
    for (id, name, factor) in [
        ("openai/gpt-5.5", "us", Some(1100)),
        ("openai/gpt-5.5", "eu", Some(1100)),
        ("openai/gpt-5", "us", None),
        ("anthropic/claude-opus-5-5", "us", Some(1100)),
        ("anthropic/claude-opus-5-5", "fast", Some(2000)),
        ("anthropic/claude-sonnet-5-5", "fast", None),
        ("anthropic/claude-haiku-4-5", "us", None),
    ] {
        assert_eq!(row(id).multiplier(name), factor, "{id} {name}");
    }
}

#[test]
fn the_known_errors_of_the_file_do_not_survive() {
    // Bare Bedrock ids carry the global price in the file.
    assert_eq!(price(row("bedrock/anthropic.claude-opus-5-5"), Tier::Standard, 0), "4.4/22");
    assert_eq!(price(row("bedrock/anthropic.claude-haiku-5-5"), Tier::Standard, 100_001), "0.55/2.75");
    assert_eq!(price(row("bedrock/openai.gpt-6-luna"), Tier::Standard, 0), "0.11/0.55");
    assert_eq!(price(row("bedrock_mantle/anthropic.claude-haiku-4-5"), Tier::Standard, 0), "1.1/5.5");
    // Before Claude 4.5 there was one price.
    assert_eq!(price(row("bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0"), Tier::Standard, 0), "3/15");
    // Priority at 50 times the base, without an output price.
    for id in ["openai/gpt-5-nano", "openai/gpt-5-nano-2025-08-07"] {
        assert_eq!(price(row(id), Tier::Standard, 0), "0.05/0.4");
        assert_eq!(price(row(id), Tier::Priority, 0), "0.125/1");
    }
    // Cache writes below the input price.
    for (id, write) in [("azure/us/gpt-4o", "3.4375"), ("openai/ft:gpt-4o-2024-11-20", "4.6875")] {
        assert_eq!(row(id).standard.short.cache_write_5m.to_per_million(), write, "{id}");
        assert!(!row(id).implicit_cache_writes, "{id}");
    }
    // A flex tier without an output price has no discount there.
    assert_eq!(price(row("azure/gpt-5.5"), Tier::Flex, 0), "2.5/30");
    // Priority above 272,000 tokens: long times priority over standard.
    assert_eq!(price(row("openai/gpt-5.4"), Tier::Priority, 272_001), "10/45");
    // No price for long prompts although the window is larger.
    assert_eq!(price(row("bedrock_mantle/us-gov-west-1/openai.gpt-5.4"), Tier::Standard, 272_001), "6.75/30.375");
    // No price of a web search although the tool works.
    for id in ["openai/gpt-4o", "openai/gpt-5.4", "azure/gpt-5", "azure/gpt-4.1"] {
        assert!(row(id).fees.web_search.is_some(), "{id}");
    }
    // Released, and missing in the file.
    assert_eq!(price(row("openai/gpt-6.1-terra"), Tier::Standard, 0), "1/5");
    for id in
        ["gemini/gemini-4-carbon", "anthropic/claude-fable-5-2", "anthropic/claude-mythos-5-2", "openai/gpt-6-terra"]
    {
        assert!(TABLE.get(id).is_none(), "{id} has no published price");
    }
    // The promotion is told.
    assert!(row("openai/gpt-5.6-sol").note.as_deref().is_some_and(|note| note.contains("promotion")));
    // What searches by itself, routes, answers with sound or costs nothing is no row.
    for id in [
        "openai/gpt-4o-search-preview",
        "openai/o3-deep-research",
        "azure/model-router",
        "gemini/gemini-2.5-pro-preview-tts",
        "gemini/gemma-4-31b-it",
        "openai/whisper-1",
    ] {
        assert!(TABLE.get(id).is_none(), "{id}");
    }
}

#[test]
fn flash_doubles_with_the_year() {
    let year = 1_798_761_600_000; // 2027-01-01T00:00:00Z
    for id in
        ["gemini/gemini-3.6-flash", "gemini/gemini-3.7-flash", "gemini/gemini-3.8-flash", "gemini/gemini-flash-latest"]
    {
        assert_eq!(price(TABLE.get_at(id, year - 1).unwrap(), Tier::Standard, 0), "0.75/3.75");
        let next = TABLE.get_at(id, year).unwrap();
        assert_eq!(price(next, Tier::Standard, 0), "1.5/7.5", "{id}");
        assert_eq!(price(next, Tier::Priority, 0), "2.7/13.5", "{id}");
        assert_eq!(next.standard.short.cache_read.to_per_million(), "0.15", "{id}");
    }
}

#[test]
fn a_region_finds_its_price() {
    let of =
        |api: &str, region: &str, model: &str| price(TABLE.for_region(api, region, model).unwrap(), Tier::Standard, 0);
    assert_eq!(of("bedrock", "us-east-1", "anthropic.claude-opus-5-5"), "4.4/22");
    assert_eq!(of("bedrock", "us-gov-west-1", "anthropic.claude-opus-5-5"), "4.8/24");
    assert_eq!(of("bedrock", "eu-west-2", "global.anthropic.claude-opus-5-5"), "4/20");
    assert_eq!(of("bedrock", "eu-central-1", "amazon.nova-2-lite-v1:0"), "0.429/3.597");
    assert_eq!(of("bedrock", "us-west-2", "amazon.nova-2-lite-v1:0"), "0.33/2.75");
    assert_eq!(of("bedrock_mantle", "us-gov-west-1", "openai.gpt-5.6-luna"), "0.27/1.62");
}

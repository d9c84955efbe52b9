use super::*;
use crate::money::{Money, Rate};
use crate::pricing::{Tier, Tokenizer, Usage};

fn load(text: &str) -> Result<PriceTable, Vec<PriceError>> {
    PriceTable::load(&[("p.yaml".into(), text.into())])
}

/// The only problem of a row that is otherwise sound.
fn problem(field: &str) -> PriceError {
    let row = format!("# prices\nx/m:\n  input: \"1\"\n  output: \"2\"\n  context_window: 1000\n  {field}\n");
    let mut errors = load(&row).expect_err(field);
    assert_eq!(errors.len(), 1, "{field}: {errors:?}");
    errors.remove(0)
}

fn rate(text: &str) -> Rate {
    Rate::per_million(text).unwrap()
}

fn builtin() -> PriceTable {
    PriceTable::builtin().unwrap_or_else(|errors| panic!("{errors:?}"))
}

#[test]
fn the_builtin_table_is_the_published_one() {
    let table = builtin();
    assert!(table.iter().count() > 900);
    let sol = table.get("openai/gpt-6.1-sol").unwrap();
    assert_eq!(sol.standard.short.input, rate("2"));
    assert_eq!(sol.standard.short.cache_read, rate("0.1"));
    assert_eq!(sol.standard.short.cache_write_5m, rate("2.5"));
    assert_eq!(sol.standard.long.output, rate("15"));
    assert_eq!(sol.long_above, Some(272_000));
    assert_eq!(sol.tokenizer, None);
    assert!(sol.implicit_cache_writes && sol.hidden_output && !sol.embedding);
    assert_eq!(sol.rates(Tier::Ultrafast, 0).output, rate("60"));
    let small = table.get("openai/text-embedding-3-small").unwrap();
    assert!(small.embedding);
    assert_eq!((small.max_output, small.standard.short.output), (0, Rate::ZERO));
    assert_eq!(small.tokenizer, Some(Tokenizer::Cl100kBase));
    for row in table.iter().filter(|row| row.id.starts_with("openai/gpt-5") || row.id.starts_with("openai/gpt-6")) {
        let name = row.id.strip_prefix("openai/").unwrap();
        let is_six = name.starts_with("gpt-6");
        let writes = is_six || name.starts_with("gpt-5.6");
        assert_eq!(row.implicit_cache_writes, writes, "{name}");
        assert!(row.hidden_output, "{name}");
        assert_eq!(row.tokenizer.is_none(), is_six || name.contains("cyber"), "{name}");
        assert_eq!(row.uplift_thousandths, 1000);
    }
    for row in table.iter() {
        assert!(row.valid_from.is_some() && row.context_window > 0, "{}", row.id);
        assert!(row.embedding || row.max_output > 0, "{}", row.id);
    }
}

#[test]
fn a_snapshot_has_the_price_of_its_alias_unless_it_has_its_own() {
    let table = builtin();
    let id = |model: &str| table.for_model("openai", model).map(|row| row.id.to_string());
    assert_eq!(id("gpt-5-2027-01-02").unwrap(), "openai/gpt-5");
    assert_eq!(id("gpt-4o-2024-08-06").unwrap(), "openai/gpt-4o-2024-08-06");
    assert_eq!(id("gpt-4o-2024-05-13").unwrap(), "openai/gpt-4o-2024-05-13");
    assert_eq!(id("ft:gpt-4o-2024-08-06:acme::a1b2").unwrap(), "openai/ft:gpt-4o-2024-08-06");
    for unknown in [
        "gpt-5-2025-8-7",
        "gpt-5-20250807",
        "ft:gpt-99:acme::a1b2",
        "ft:gpt-4o",
        "gpt-5-2025-08-07-2025-08-07",
        "gpt-4o-0513",
        "",
        "-2025-08-07",
        "gpt-5 ",
        "GPT-5",
        "é-2025-08-07",
    ] {
        assert_eq!(id(unknown), None, "{unknown}");
    }
}

#[test]
fn a_gap_is_filled_at_the_worst() {
    let table = load("x/m: {input: \"2\", output: \"10\", reasoning: \"12\", context_window: 100}").unwrap();
    let rates = table.get("x/m").unwrap().standard.short;
    assert_eq!(rates.cache_read, rate("2"));
    assert_eq!((rates.cache_write_5m, rates.cache_write_1h), (rate("2.5"), rate("4")));
    assert_eq!((rates.audio_in, rates.image_in, rates.video_in), (rate("2.5"), rate("2.5"), rate("2.5")));
    assert_eq!((rates.audio_out, rates.image_out), (rate("12"), rate("12")));
    assert_eq!(table.get("x/m").unwrap().max_output, 100);
    assert_eq!(&*table.get("x/m").unwrap().source, "p.yaml");
}

#[test]
fn a_tier_fills_its_gaps_in_proportion() {
    // gpt-5.5: priority 12.5/75 against 5/30, no cache price, no long prices.
    let table = builtin();
    let row = table.get("openai/gpt-5.5").unwrap();
    let priority = row.rates(Tier::Priority, 0);
    assert_eq!((priority.input, priority.output, priority.cache_read), (rate("12.5"), rate("75"), rate("1.25")));
    // Above the threshold: 10/45/1 times 2.5.
    let long = row.rates(Tier::Priority, 272_001);
    assert_eq!((long.input, long.output, long.cache_read), (rate("25"), rate("112.5"), rate("2.5")));
    // A tier that has only one price speaks with it for all; thirds are rounded up.
    let table = load("x/m: {input: \"3\", output: \"10\", cache_read: \"1\", context_window: 9, priority: {output: \"20\"}, ultrafast: {input: \"7\"}}").unwrap();
    let row = table.get("x/m").unwrap();
    assert_eq!(row.rates(Tier::Priority, 0).input, rate("6"));
    assert_eq!(row.rates(Tier::Ultrafast, 0).cache_read, rate("2.333333334"));
    // A long tier of a tier wins over the proportion.
    let table = load(
        "x/m:\n  input: \"1\"\n  output: \"2\"\n  context_window: 9\n  long_context: {above: 5, input: \"2\"}\n  \
         priority: {input: \"2\", output: \"4\", long_context: {input: \"9\"}}\n",
    )
    .unwrap();
    let row = table.get("x/m").unwrap();
    assert_eq!(row.rates(Tier::Standard, 6).output, rate("4"));
    assert_eq!(row.rates(Tier::Priority, 6).input, rate("9"));
    assert_eq!(row.rates(Tier::Priority, 6).output, rate("18"));
}

#[test]
fn a12_a_price_that_cannot_be_meant_is_refused() {
    for (field, path, words) in [
        ("cache_read:", "x/m.cache_read", "empty"),
        ("cache_read: null", "x/m.cache_read", "empty"),
        ("cache_read: \"0\"", "x/m.cache_read", "zero"),
        ("cache_read: \"-1\"", "x/m.cache_read", "not a price"),
        ("cache_read: \"NaN\"", "x/m.cache_read", "not a price"),
        ("cache_read: NaN", "x/m.cache_read", "not a price"),
        ("cache_read: .nan", "x/m.cache_read", "in quotes"),
        ("cache_read: .inf", "x/m.cache_read", "in quotes"),
        ("cache_read: 0.5", "x/m.cache_read", "in quotes"),
        ("cache_read: 1", "x/m.cache_read", "in quotes"),
        ("cache_read: -1", "x/m.cache_read", "in quotes"),
        ("cache_read: \"1e-6\"", "x/m.cache_read", "not a price"),
        ("cache_read: \"1,5\"", "x/m.cache_read", "not a price"),
        ("cache_read: \"\"", "x/m.cache_read", "not a price"),
        ("cache_read: [\"1\"]", "x/m.cache_read", "as a string"),
        ("cache_read: true", "x/m.cache_read", "as a string"),
        ("cache_read: \"0.00000125\"", "x/m.cache_read", "per token, write \"1.25\""),
        ("cache_read: \"0.0000000125\"", "x/m.cache_read", "per token"),
        ("cache_read: \"100001\"", "x/m.cache_read", "above 100000"),
        ("batch: {input: \"1\"}", "x/m.batch", "unknown field"),
        ("flex: {input: \"0.5\", inptu: \"1\"}", "x/m.flex.inptu", "unknown field"),
        ("flex: {input: \"1.5\", output: \"2\"}", "x/m.flex", "dearer"),
        ("flex: {cache_read: \"0.5\"}", "x/m.flex", "input or output"),
        ("flex: \"0.5\"", "x/m.flex", "map"),
        ("priority: {input: 3}", "x/m.priority.input", "in quotes"),
        ("long_context: {input: \"2\"}", "x/m.long_context.above", "missing"),
        ("long_context: {above: \"9\", input: \"2\"}", "x/m.long_context.above", "whole number"),
        ("priority: {input: \"2\", long_context: {input: \"3\"}}", "x/m.priority.long_context", "of its own"),
        ("uplift: 1.1", "x/m.uplift", "string"),
        ("uplift: \"0.9\"", "x/m.uplift", "1 to 10"),
        ("uplift: \"1.0001\"", "x/m.uplift", "three decimals"),
        ("uplift: \"11\"", "x/m.uplift", "1 to 10"),
        ("max_output: 0", "x/m.max_output", "whole number"),
        ("max_output: 1001", "x/m.max_output", "context_window"),
        ("max_output: \"8\"", "x/m.max_output", "whole number"),
        ("tokenizer: gpt2", "x/m.tokenizer", "o200k_base"),
        ("hidden_output: yes please", "x/m.hidden_output", "true"),
        ("mode: completion", "x/m.mode", "chat"),
        ("valid_from: \"2026-02-30\"", "x/m.valid_from", "YYYY-MM-DD"),
        ("source: 7", "x/m.source", "text"),
    ] {
        let error = problem(field);
        assert_eq!((error.line, error.path.as_str()), (6, path), "{field}");
        assert!(error.problem.contains(words), "{field}: {}", error.problem);
    }
    assert!(problem("input: \"3\"").problem.contains("twice"));
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let text = "x/a:\n  output: \"2\"\n  context_window: 10\n\nx/b:\n  input: \"1\"\n  flex:\n    output: \"0\"\n  output: \"2\"\n\nbad name:\n  input: \"1\"\n\nx/a:\n  input: 1\n";
    let errors = load(text).unwrap_err();
    let seen: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.path.as_str())).collect();
    assert_eq!(
        seen,
        [(1, "x/a.input"), (8, "x/b.flex.output"), (5, "x/b.context_window"), (11, "bad name"), (14, "x/a")]
    );
    assert!(errors[0].to_string().starts_with("p.yaml:1: x/a.input: missing"), "{}", errors[0]);
    assert_eq!(load("x/a: [\n").unwrap_err()[0].path, "(file)");
    assert_eq!(load("- 1\n").unwrap_err().len(), 1);
    assert!(load("").unwrap().iter().next().is_none());
    assert!(load("x/a: 5").unwrap_err()[0].problem.contains("map"));
}

#[test]
fn later_files_win_and_the_version_names_the_texts() {
    let row = |input: &str| {
        format!(
            "x/m: {{input: \"{input}\", output: \"2\", context_window: 9}}\nx/{input}: {{input: \"1\", output: \"1\", context_window: 9}}\n"
        )
    };
    let files = [("a".into(), row("1")), ("b".into(), row("3"))];
    let table = PriceTable::load(&files).unwrap();
    assert_eq!(table.get("x/m").unwrap().standard.short.input, rate("3"));
    assert!(table.get("x/1").is_some() && table.get("x/3").is_some());
    assert_eq!(table.version().len(), 64);
    assert_ne!(table.version(), load(&row("1")).unwrap().version());
    assert_eq!(table.version(), PriceTable::load(&files).unwrap().version());
}

#[test]
fn uplift_raises_every_rate() {
    let table = load("x/m: {input: \"1\", output: \"2\", context_window: 9, uplift: \"1.1\"}").unwrap();
    let row = table.get("x/m").unwrap();
    assert_eq!(row.uplift_thousandths, 1100);
    let usage = Usage { input: 1_000_000, output: 1_000_000, ..Usage::default() };
    assert_eq!(row.cost(&usage, Tier::Standard).rounded_up(), Money::from_nano(3_300_000_000));
}

#[test]
fn a_row_explains_itself() {
    let table = builtin();
    let call = Usage { input: 1000, output: 1000, ..Usage::default() };
    let text = PriceTable::explain(table.get("openai/gpt-5.4").unwrap(), &call);
    // 1,000 × 2.5 + 1,000 × 15 per million = 0.0175 USD; flex half, priority double.
    for part in [
        "input 2.5, cache read 0.25",
        "output 15",
        "1,000 in + 1,000 out: 0.0175 USD (input 0.0025 + output 0.015)",
        "0.00875 USD",
        "0.035 USD",
        "above 272000",
        "times 1.1 where `us` applies",
        "web search: 0.025 USD a call",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // Above the threshold, the whole call: 300,000 × 5 + 10 × 22.5 per million.
    let long = Usage { input: 300_000, output: 10, ..Usage::default() };
    let text = PriceTable::explain(table.get("openai/gpt-5.4").unwrap(), &long);
    assert!(text.contains("300,000 in + 10 out: 1.500225 USD"), "{text}");
    let embedding = table.get("openai/text-embedding-3-small").unwrap();
    assert!(PriceTable::explain(embedding, &call).contains("1,000 in + 0 out: 0.00002 USD"));
}

#[test]
fn fees_factors_and_days_are_read_strictly() {
    let table = load(
        "x/m:\n  input: \"1\"\n  output: \"2\"\n  context_window: 9\n  fees: {web_search_low: \"0.01\", web_search_high: \"0.03\", maps: \"0.014\", per_query: true}\n  \
         multipliers: {us: \"1.1\", fast: \"2\"}\n  deprecation_date: \"2027-01-01\"\n  note: look\n",
    )
    .unwrap();
    let row = table.get("x/m").unwrap();
    // 10⁻¹⁵ USD: a size without a price costs what the dearest does.
    let cents = |count: u128| Rate::from_femto(count * 10_000_000_000_000);
    assert_eq!(row.fees.web_search, Some([cents(1), cents(3), cents(3)]));
    assert!(row.fees.per_query && row.fees.maps == Some(Rate::from_femto(14_000_000_000_000)));
    assert_eq!((row.multiplier("us"), row.multiplier("fast"), row.multiplier("eu")), (Some(1100), Some(2000), None));
    assert_eq!((row.deprecation_date.as_deref(), row.note.as_deref()), (Some("2027-01-01"), Some("look")));
    for (field, path) in [
        ("fees: 1", "x/m.fees"),
        ("fees: {web_search: 0.01}", "x/m.fees.web_search"),
        ("fees: {web_search: \"0\"}", "x/m.fees.web_search"),
        ("fees: {web_search: \"$1\"}", "x/m.fees.web_search"),
        ("fees: {web_search: \"1000\"}", "x/m.fees.web_search"),
        ("fees: {moon: \"1\"}", "x/m.fees.moon"),
        ("fees: {maps: \"1\", maps: \"1\"}", "x/m.fees.maps"),
        ("fees: {per_query: 1}", "x/m.fees.per_query"),
        ("multipliers: {us: \"0.9\"}", "x/m.multipliers.us"),
        ("multipliers: {us: 1.1}", "x/m.multipliers.us"),
        ("multipliers: {us: \"1.1\", us: \"1.1\"}", "x/m.multipliers.us"),
        ("multipliers: {moon: \"1.1\"}", "x/m.multipliers.moon"),
        ("deprecation_date: \"2027-02-30\"", "x/m.deprecation_date"),
        ("note: 1", "x/m.note"),
        ("change: {day: \"2027-01-01\"}", "x/m.change"),
        ("change: {day: \"2027-01-01\", times: \"0.5\"}", "x/m.change"),
        ("change: {day: \"2027-13-01\", times: \"2\"}", "x/m.change"),
        ("change: {day: \"2027-01-01\", times: \"2\", input: \"1\"}", "x/m.change"),
    ] {
        let error = problem(field);
        assert_eq!((error.line, error.path.as_str()), (6, path), "{field}");
    }
}

#[test]
fn an_announced_price_is_taken_from_its_day_on() {
    let table = load("x/m: {input: \"1\", output: \"2\", context_window: 9, flex: {input: \"0.5\"}, change: {day: \"2027-01-01\", times: \"2\"}}").unwrap();
    let start = 1_798_761_600_000; // 2027-01-01T00:00:00Z
    let at = |now| table.get_at("x/m", now).unwrap();
    assert_eq!(at(start - 1).standard.short.output, rate("2"));
    assert_eq!(at(start).standard.short.output, rate("4"));
    assert_eq!(at(start).rates(Tier::Flex, 0).input, rate("1"));
    assert_eq!(
        (at(start).valid_from.as_deref(), at(start - 1).valid_to.as_deref()),
        (Some("2027-01-01"), Some("2027-01-01"))
    );
    let notices = |now| table.notices(now).iter().map(|notice| notice.about.to_string()).collect::<Vec<_>>();
    assert!(notices(start - 1)[0].contains("announced for 2027-01-01"));
    assert_eq!(notices(start), Vec::<String>::new());
}

#[test]
fn what_may_be_out_of_date_is_told() {
    let table = load(
        "x/a: {input: \"1\", output: \"2\", context_window: 9, deprecation_date: \"2027-01-01\", note: look}\n\
         x/b: {input: \"1\", output: \"2\", context_window: 9, valid_from: \"2026-12-01\", valid_to: \"2027-01-01\"}\n",
    )
    .unwrap();
    let told = |now| table.notices(now).iter().map(|n| format!("{}: {}", n.id, n.about)).collect::<Vec<_>>();
    let start = 1_798_761_600_000; // 2027-01-01T00:00:00Z
    let before = told(start - 40 * 86_400_000);
    assert_eq!((before[0].as_str(), before.len()), ("x/a: look", 2));
    assert!(before[1].starts_with("x/b: its price holds from 2026-12-01"));
    assert_eq!(told(start - 1), ["x/a: look"]);
    let after = told(start);
    assert!(
        after[0].starts_with("x/a: deprecated on 2027-01-01") && after[2].starts_with("x/b: its price does not hold")
    );
}

#[test]
fn a_region_without_a_row_is_taken_at_its_dearest() {
    let row = |id: &str, input: &str| format!("{id}: {{input: \"{input}\", output: \"9\", context_window: 9}}\n");
    let table = load(
        &[("bedrock/m", "1"), ("bedrock/eu.m", "1.4"), ("bedrock/us.m", "1.1"), ("bedrock/eu-west-2/m", "2")]
            .into_iter()
            .chain([
                ("bedrock/sa-east-1/n", "3"),
                ("bedrock/n", "2"),
                ("bedrock/us-gov-west-1/n", "7"),
                ("bedrock/us-gov.o", "5"),
            ])
            .map(|(id, input)| row(id, input))
            .collect::<String>(),
    )
    .unwrap();
    let id = |region: &str, model: &str| table.for_region("bedrock", region, model).map(|row| row.id.to_string());
    for (region, model, expected) in [
        ("eu-west-2", "m", Some("bedrock/eu-west-2/m")),
        ("eu-central-1", "m", Some("bedrock/eu-west-2/m")),
        ("us-east-1", "m", Some("bedrock/us.m")),
        ("us-west-1", "m", Some("bedrock/eu-west-2/m")),
        ("eu-central-1", "us.m", Some("bedrock/us.m")),
        ("us-east-1", "n", Some("bedrock/n")),
        ("ap-south-1", "n", Some("bedrock/sa-east-1/n")),
        ("us-gov-west-1", "n", Some("bedrock/us-gov-west-1/n")),
        ("us-gov-east-1", "n", None),
        ("us-gov-east-1", "o", Some("bedrock/us-gov.o")),
        ("us-east-1", "p", None),
    ] {
        assert_eq!(id(region, model).as_deref(), expected, "{model} in {region}");
    }
}

use super::*;
use crate::pricing::{PriceTable, Tier};

const ALL: [&str; 6] = ["anthropic", "azure", "bedrock", "gemini", "mistral", "openai"];

fn origin() -> Origin {
    Origin { name: "litellm test".into(), sha256: "00".into(), day: "2026-11-23".into() }
}

fn import(entries: &str) -> Import {
    Import::read(&format!("{{{entries}}}"), origin(), &ALL).unwrap()
}

/// The table that entries make.
fn table(entries: &str) -> PriceTable {
    let yaml = import(entries).to_yaml();
    PriceTable::load(&[("import.yaml".into(), yaml.clone())]).unwrap_or_else(|errors| panic!("{errors:?}\n{yaml}"))
}

/// The only refusal of a chat entry with this field beside its prices.
fn refusal(field: &str) -> Refusal {
    let entry = format!(
        r#""m": {{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06, "max_input_tokens": 1000, "max_output_tokens": 100, {field}}}"#
    );
    let import = import(&entry);
    assert_eq!(import.refused().len(), 1, "{field}");
    import.refused()[0].1.clone()
}

fn per_million(table: &PriceTable, id: &str, tier: Tier, input: u64) -> (String, String) {
    let rates = table.get(id).unwrap_or_else(|| panic!("no {id}")).rates(tier, input);
    (rates.input.to_per_million(), rates.output.to_per_million())
}

#[test]
fn an_entry_is_understood_in_full_or_refused_by_name() {
    let unit = |field: &str| Refusal::Unit(field.into());
    let unknown = |field: &str| Refusal::Unknown(field.into());
    for (field, why) in [
        (r#""input_cost_per_token_balanced": 1e-06"#, unit("input_cost_per_token_balanced")),
        (r#""input_cost_per_second": 1e-06"#, unit("input_cost_per_second")),
        (r#""output_cost_per_video_token": 1e-06"#, unit("output_cost_per_video_token")),
        (r#""citation_cost_per_token": 1e-06"#, unit("citation_cost_per_token")),
        (r#""tiered_pricing": []"#, unknown("tiered_pricing")),
        (r#""off_peak_pricing": {}"#, unknown("off_peak_pricing")),
        (r#""weekend_surcharge": 2"#, unknown("weekend_surcharge")),
        (r#""supports_extra_fee": true"#, unknown("supports_extra_fee")),
        (r#""regional_processing_uplift_multiplier_ap": 1.1"#, unknown("regional_processing_uplift_multiplier_ap")),
        (r#""provider_specific_entry": {"moon": 3}"#, unknown("provider_specific_entry.moon")),
        (r#""cache_read_input_token_cost": 0"#, Refusal::Zero("cache_read_input_token_cost".into())),
    ] {
        assert_eq!(refusal(field), why, "{field}");
    }
    for (field, named) in [
        (r#""cache_read_input_token_cost": "1e-07""#, "cache_read_input_token_cost"),
        (r#""cache_read_input_token_cost": -1e-07"#, "cache_read_input_token_cost"),
        (r#""cache_read_input_token_cost": null"#, "cache_read_input_token_cost"),
        (r#""input_cost_per_token_batches": "half""#, "input_cost_per_token_batches"),
        (r#""deprecation_date": "soon""#, "deprecation_date"),
        (r#""max_tokens": 0"#, "max_tokens"),
        (r#""max_tokens": 0.5"#, "max_tokens"),
        (r#""regional_processing_uplift_multiplier_us": 0.9"#, "regional_processing_uplift_multiplier_us"),
        (r#""web_search_billing_unit": "per_page""#, "web_search_billing_unit"),
        (r#""search_context_cost_per_query": {"search_context_size_low": 0.01}"#, "search_context_cost_per_query"),
        (
            r#""input_cost_per_token_above_128k_tokens": 1e-06, "output_cost_per_token_above_200k_tokens": 1e-06"#,
            "output_cost_per_token_above_200k_tokens",
        ),
    ] {
        assert!(matches!(refusal(field), Refusal::Value(name, _) if name == named), "{field}: {}", refusal(field));
    }
}

#[test]
fn what_is_no_model_with_a_token_price_is_refused() {
    let prices = r#""input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06"#;
    for (entry, why) in [
        (format!(r#""a": {{"litellm_provider": "openai", {prices}}}"#), Refusal::NoMode),
        (
            format!(r#""a": {{"litellm_provider": "openai", "mode": "realtime", {prices}}}"#),
            Refusal::Mode("realtime".into()),
        ),
        (
            r#""a": {"litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 1e-06}"#.into(),
            Refusal::NoPrice("input"),
        ),
        (
            r#""a": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06}"#.into(),
            Refusal::NoPrice("output"),
        ),
        (format!(r#""a b": {{"litellm_provider": "openai", "mode": "chat", {prices}}}"#), Refusal::Name),
    ] {
        let refused = import(&entry).refused;
        assert_eq!(refused.len(), 1, "{entry}");
        assert_eq!(refused[0].1, why, "{entry}");
    }
}

#[test]
fn tiers_and_long_prompts_are_kept_apart() {
    let table = table(
        r#""gpt-9": {"litellm_provider": "openai", "mode": "responses", "max_input_tokens": 922000, "max_output_tokens": 128000,
        "input_cost_per_token": 2e-06, "output_cost_per_token": 1e-05, "cache_creation_input_token_cost": 2.5e-06,
        "input_cost_per_token_above_272k_tokens": 4e-06, "output_cost_per_token_above_272k_tokens": 1.5e-05,
        "input_cost_per_token_priority": 4e-06, "output_cost_per_token_priority": 2e-05,
        "input_cost_per_token_above_272k_tokens_priority": 9e-06, "output_cost_per_token_above_272k_tokens_priority": 3e-05,
        "input_cost_per_token_batches": 1e-09, "input_cost_per_token_decisions": 1e-09,
        "regional_processing_uplift_multiplier_eu": 1.1, "supports_reasoning": true}"#,
    );
    let of = |tier, input| per_million(&table, "openai/gpt-9", tier, input);
    assert_eq!(of(Tier::Standard, 272_000), ("2".into(), "10".into()));
    assert_eq!(of(Tier::Standard, 272_001), ("4".into(), "15".into()));
    assert_eq!(of(Tier::Priority, 0), ("4".into(), "20".into()));
    assert_eq!(of(Tier::Priority, 300_000), ("9".into(), "30".into()));
    let row = table.get("openai/gpt-9").unwrap();
    assert_eq!((row.context_window, row.max_output), (1_050_000, 128_000));
    assert!(row.implicit_cache_writes && row.hidden_output && row.tokenizer.is_none());
    assert_eq!((row.multiplier("eu"), row.multiplier("us")), (Some(1100), None));
}

#[test]
fn a_rule_finds_nothing_once_the_file_is_right() {
    let nano = |priority: &str| {
        table(&format!(
            r#""gpt-5-nano": {{"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 272000, "max_output_tokens": 128000,
            "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07, {priority}}}"#
        ))
    };
    let slip = nano(r#""input_cost_per_token_priority": 2.5e-06"#);
    assert_eq!(per_million(&slip, "openai/gpt-5-nano", Tier::Priority, 0), ("0.125".into(), "1".into()));
    let right = nano(r#""input_cost_per_token_priority": 1e-07, "output_cost_per_token_priority": 8e-07"#);
    assert_eq!(per_million(&right, "openai/gpt-5-nano", Tier::Priority, 0), ("0.1".into(), "0.8".into()));

    let claude = |bare: &str| {
        table(&format!(
            r#""anthropic.claude-x": {{"litellm_provider": "bedrock_converse", "mode": "chat", "max_input_tokens": 9, "max_output_tokens": 9,
            "input_cost_per_token": {bare}, "output_cost_per_token": 2e-05}},
            "us.anthropic.claude-x": {{"litellm_provider": "bedrock_converse", "mode": "chat", "max_input_tokens": 9, "max_output_tokens": 9,
            "input_cost_per_token": 4.4e-06, "output_cost_per_token": 2.2e-05}}"#
        ))
    };
    let bare = "bedrock/anthropic.claude-x";
    assert_eq!(per_million(&claude("4e-06"), bare, Tier::Standard, 0), ("4.4".into(), "22".into()));
    assert_eq!(per_million(&claude("4.4e-06"), bare, Tier::Standard, 0), ("4.4".into(), "20".into()));
}

#[test]
fn entries_of_one_model_must_agree() {
    let pair = |price: &str| {
        import(&format!(
            r#""gemini-x": {{"litellm_provider": "gemini", "mode": "chat", "max_input_tokens": 9, "max_output_tokens": 2,
            "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}},
            "gemini/gemini-x": {{"litellm_provider": "gemini", "mode": "chat", "max_input_tokens": 7, "max_output_tokens": 3,
            "input_cost_per_token": {price}, "output_cost_per_token": 2e-06}}"#
        ))
    };
    let same = pair("1.0e-6");
    assert_eq!(same.imported()["gemini/gemini-x"], ["gemini-x", "gemini/gemini-x"]);
    assert_eq!((same.rows[0].context_window, same.rows[0].max_output), (11, 3));
    let other = pair("1.1e-06");
    assert!(!other.imported().contains_key("gemini/gemini-x"));
    assert_eq!(other.refused().len(), 2);
}

#[test]
fn a_family_that_is_not_known_is_on_the_safe_side() {
    let table = table(
        r#""gpt-zebra": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 1000, "max_output_tokens": 100,
        "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        "new.model": {"litellm_provider": "bedrock", "mode": "chat", "max_input_tokens": 1000, "max_output_tokens": 100,
        "input_cost_per_token": 5.0000000000000004e-08, "output_cost_per_token": 2e-06}"#,
    );
    let zebra = table.get("openai/gpt-zebra").unwrap();
    assert!(zebra.hidden_output && zebra.implicit_cache_writes && zebra.tokenizer.is_none());
    let new = table.get("bedrock/new.model").unwrap();
    assert!(new.hidden_output && !new.implicit_cache_writes);
    assert_eq!((new.context_window, new.standard.short.input.to_per_million().as_str()), (1100, "0.05"));
}

#[test]
fn only_what_is_asked_for_is_read() {
    let text = r#"{"sample_spec": {"litellm_provider": "openai", "mode": "chat"}, "fallback_generalizations": [],
        "grok": {"litellm_provider": "xai", "mode": "chat"},
        "claude-x": {"litellm_provider": "anthropic", "mode": "chat", "max_input_tokens": 9, "max_output_tokens": 9,
        "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        "gpt-x": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 9, "max_output_tokens": 9,
        "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}}"#;
    let import = Import::read(text, origin(), &["anthropic"]).unwrap();
    assert_eq!((import.entries(), import.imported().len()), (1, 1));
    assert!(!import.to_yaml().contains("openai/"));
    let both = Import::read(text, origin(), &ALL).unwrap();
    assert_eq!(both.entries(), 2);
    // The model that every file lacks is added.
    assert!(both.imported()["openai/gpt-6.1-terra"].is_empty());
    assert_eq!(both.to_yaml(), Import::read(text, origin(), &ALL).unwrap().to_yaml());
}

#[test]
fn what_is_no_price_file_is_told() {
    for text in
        ["", "[]", "{\"a\": {}, \"a\": {}}", "{}", "{\"grok\": {\"litellm_provider\": \"xai\"}}", "{\"a\": 1} x"]
    {
        let error = Import::read(text, origin(), &ALL).expect_err(text);
        assert!(!error.to_string().is_empty());
    }
}

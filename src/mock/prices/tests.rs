//! The lists against the published tables.

use super::*;

const PROVIDERS: [Provider; 6] =
    [Provider::Openai, Provider::Anthropic, Provider::Gemini, Provider::Mistral, Provider::Azure, Provider::Bedrock];

#[test]
fn names_with_and_without_date() {
    let find = |name| Provider::Openai.find(name);
    assert_eq!(find("gpt-4o-mini").unwrap().name, "gpt-4o-mini");
    assert_eq!(find("gpt-4o-mini-2026-01-01").unwrap().name, "gpt-4o-mini");
    assert_eq!(find("gpt-4o-mini-20260101").unwrap().name, "gpt-4o-mini");
    for name in ["", "gpt", "gpt-4o-mini-2026-1-1", "gpt-4o-", "-2026-01-01", "é-2026-01-01", "-20260101"] {
        assert!(find(name).is_none(), "{name}");
    }
    assert_eq!(Provider::Anthropic.find("claude-haiku-4-5-20251001").unwrap().name, "claude-haiku-4-5");
    assert_eq!(Provider::Azure.find("us/gpt-6.1-sol").unwrap().base.input, 2_200_000);
    assert!(Provider::Bedrock.find("us.anthropic.claude-haiku-4-5-20251001-v1:0").is_some());
}

#[test]
fn no_name_twice() {
    for provider in PROVIDERS {
        for (at, model) in provider.models().iter().enumerate() {
            assert!(provider.models()[..at].iter().all(|m| m.name != model.name), "{}", model.name);
        }
    }
}

#[test]
fn tiers_and_long_context() {
    let sol = Provider::Openai.find("gpt-6-sol").unwrap();
    assert_eq!(sol.rates(Tier::Default, 272_000).0, r(2_000_000, 10_000_000, 200_000, 2_500_000));
    assert_eq!(sol.rates(Tier::Default, 272_001).0, r(4_000_000, 15_000_000, 400_000, 5_000_000));
    assert_eq!(sol.rates(Tier::Priority, 1).0, r(4_000_000, 20_000_000, 400_000, 5_000_000));
    assert_eq!(sol.rates(Tier::Priority, 272_001).0.output, 30_000_000);
    assert_eq!(sol.rates(Tier::Flex, 1).0.output, 5_000_000);
    assert_eq!(sol.rates(Tier::Ultrafast, 1).1, Tier::Default);
    let astra = Provider::Openai.find("gpt-6-astra").unwrap();
    assert_eq!(astra.rates(Tier::Ultrafast, 1).0.output, 300_000_000);
    assert_eq!(astra.rates(Tier::Ultrafast, 272_001).0.input, 120_000_000);
    let nano = Provider::Openai.find("gpt-5-nano").unwrap();
    assert_eq!(nano.rates(Tier::Priority, 1), (r(50_000, 400_000, 5_000, 50_000), Tier::Default));
    let haiku = Provider::Anthropic.find("claude-haiku-5-5").unwrap();
    assert_eq!(haiku.rates(Tier::Default, 100_000).0.output, 500_000);
    assert_eq!(haiku.rates(Tier::Default, 100_001).0.cache_write_1h, 1_000_000);
    let pro = Provider::Gemini.find("gemini-3.1-pro-preview").unwrap();
    assert_eq!(pro.rates(Tier::Priority, 200_000).0.output, 21_600_000);
    assert_eq!(pro.rates(Tier::Default, 200_001).0.cache_read, 400_000);
    let nova = Provider::Bedrock.find("us.amazon.nova-2-lite-v1:0").unwrap();
    assert_eq!(nova.rates(Tier::Flex, 1).0.output, 1_375_000);
    assert_eq!(nova.rates(Tier::Priority, 1).0.output, 4_812_500);
}

#[test]
fn multipliers_and_fees() {
    let terms =
        |provider: Provider, name: &str, conditions: Conditions| provider.find(name).unwrap().terms(&conditions, 1).0;
    let us_fast = Conditions { regional: true, fast: true, searches: 3, ..Conditions::default() };
    let opus = terms(Provider::Anthropic, "claude-opus-5-5", us_fast);
    assert_eq!((opus.times, opus.over, opus.fees), (22, 10, 30_000_000));
    let haiku = terms(Provider::Anthropic, "claude-haiku-4-5", us_fast);
    assert_eq!((haiku.times, haiku.over), (1, 1));
    assert_eq!(terms(Provider::Gemini, "gemini-2.5-flash", us_fast).fees, 35_000_000);
    assert_eq!(terms(Provider::Gemini, "gemini-3.8-flash", us_fast).fees, 42_000_000);
    let bare = terms(Provider::Bedrock, "anthropic.claude-opus-5-5", Conditions::default());
    assert_eq!((bare.times, bare.over), (11, 10));
}

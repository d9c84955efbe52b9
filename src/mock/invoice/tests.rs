//! Arithmetic of the invoice, against numbers computed by hand.

use super::super::prices::Conditions;
use super::*;

fn start(provider: Provider, name: &str, prompt: Prompt) -> CallStart {
    let model = provider.find(name).unwrap();
    let (terms, tier) = model.terms(&Conditions::default(), prompt.total);
    CallStart {
        provider,
        model: model.name,
        requested: model.name.into(),
        tier,
        terms,
        searches: 0,
        prompt,
        reasoning: 2,
        media: Media::default(),
        stream: false,
        request: Arc::new(RequestInfo::default()),
    }
}

fn openai(name: &str, prompt: Prompt) -> CallStart {
    start(Provider::Openai, name, prompt)
}

fn cost(model: &str, tier: Tier, total: u64, cached: u64, cache_write: u64, completion: u64) -> u64 {
    let prompt = Prompt { total, cached, cache_write, ..Prompt::default() };
    let conditions = Conditions { tier, ..Conditions::default() };
    let terms = Provider::Openai.find(model).unwrap().terms(&conditions, total).0;
    price(&terms, &prompt, &Output { total: completion, ..Output::default() })
}

#[test]
fn prices_computed_by_hand() {
    // 10 x $0.15/M + 5 x $0.60/M = $1.5e-6 + $3.0e-6
    assert_eq!(cost("gpt-4o-mini", Tier::Default, 10, 0, 0, 5), 4_500);
    // 1 x $0.05/M + 0 = 50 nano; 1 cached at $0.005/M = 5 nano
    assert_eq!(cost("gpt-5-nano", Tier::Default, 1, 1, 0, 0), 5);
    // 1 x $0.075/M cached = 75 nano; 3 x $0.02/M embedding = 60 nano
    assert_eq!(cost("text-embedding-3-small", Tier::Default, 3, 0, 0, 0), 60);
    // 1000: 600 plain x 2 + 300 cached x 0.2 + 100 written x 2.5, + 50 out x 10 (micro-dollars)
    assert_eq!(cost("gpt-6-sol", Tier::Default, 1000, 300, 100, 50), 1_200_000 + 60_000 + 250_000 + 500_000);
    // Long: 300,000 x $4/M + 10 x $15/M
    assert_eq!(cost("gpt-6-sol", Tier::Default, 300_000, 0, 0, 10), 1_200_150_000);
    // Priority: 7 x $12.5/M + 3 x $75/M
    assert_eq!(cost("gpt-5.5", Tier::Priority, 7, 0, 0, 3), 87_500 + 225_000);
    // Flex halves $0.005/M to 2.5 nano: rounded up once, at the end (3 x 2.5 = 7.5 -> 8).
    assert_eq!(cost("gpt-5-nano", Tier::Flex, 3, 3, 0, 0), 8);
    assert_eq!(cost("gpt-5-nano", Tier::Flex, 1, 1, 0, 0), 3);
}

/// Every meter at once, with a multiplier and fees.
#[test]
fn all_meters_computed_by_hand() {
    let cost = |provider: Provider, name: &str, conditions: Conditions, prompt: Prompt, output: Output| {
        let terms = provider.find(name).unwrap().terms(&conditions, prompt.total).0;
        price(&terms, &prompt, &output)
    };
    let prompt = Prompt { total: 1000, cached: 200, cache_write: 300, cache_write_1h: 100, ..Prompt::default() };
    let output = Output { total: 50, reasoning: 20, ..Output::default() };
    let plain = Conditions::default();
    // Opus 5.5: 400 x $4 + 200 x $0.2 + 300 x $5 + 100 x $8 + 50 x $20 (per million), in nano-dollars:
    let opus = 1_600_000 + 40_000 + 1_500_000 + 800_000 + 1_000_000;
    assert_eq!(cost(Provider::Anthropic, "claude-opus-5-5", plain, prompt, output), opus);
    // In the US and fast: times 1.1 times 2, searches at a cent each on top, not multiplied.
    let us_fast = Conditions { regional: true, fast: true, searches: 3, ..plain };
    assert_eq!(cost(Provider::Anthropic, "claude-opus-5-5", us_fast, prompt, output), opus / 10 * 22 + 30_000_000);
    // Haiku 5.5, 100,001 tokens: all at five times: 99,801 x $0.5 + 200 x $0.05 + 1 x $2.5.
    let long = Prompt { total: 100_001, cached: 200, ..Prompt::default() };
    let one = Output { total: 1, ..Output::default() };
    assert_eq!(cost(Provider::Anthropic, "claude-haiku-5-5", plain, long, one), 49_900_500 + 10_000 + 2_500);
    // Gemini 2.5 Flash: 70 x $0.3 + 30 audio x $1 + 10 from tools x $0.3, 5 out x $2.5; 7 queries are one grounded prompt.
    let heard = Prompt { total: 100, audio: 30, tool_use: 10, ..Prompt::default() };
    let five = Output { total: 5, reasoning: 5, ..Output::default() };
    let grounded = Conditions { searches: 7, ..plain };
    let flash = 21_000 + 30_000 + 3_000 + 12_500;
    assert_eq!(cost(Provider::Gemini, "gemini-2.5-flash", grounded, heard, five), flash + 35_000_000);
    // The bare id costs 1.1 x (1 x $4): 4,400. One token of $0.00875/M read by Nova Micro: 8.75, up to 9.
    let single = Prompt { total: 1, ..Prompt::default() };
    let nothing = Output::default();
    assert_eq!(cost(Provider::Bedrock, "anthropic.claude-opus-5-5", plain, single, nothing), 4_400);
    let read = Prompt { total: 1, cached: 1, ..Prompt::default() };
    assert_eq!(cost(Provider::Bedrock, "amazon.nova-micro-v1:0", plain, read, nothing), 9);
    // Mistral Large 4: 10 x $0.68, of which 4 cached at $0.068, 2 x $2.09: 4,080 + 272 + 4,180.
    let partly = Prompt { total: 10, cached: 4, ..Prompt::default() };
    let two = Output { total: 2, ..Output::default() };
    assert_eq!(cost(Provider::Mistral, "mistral-large-4", plain, partly, two), 8_532);
    // Azure, EU data zone: 10 x $2.4 + 2 x $12.
    let ten = Prompt { total: 10, ..Prompt::default() };
    assert_eq!(cost(Provider::Azure, "eu/gpt-6.1-sol", plain, ten, two), 48_000);
}

#[test]
fn output_is_split_in_the_order_it_comes() {
    let media = Media { planned: 100, audio: 10, image: 20 };
    let split = |total| Output::split(total, 30, &media);
    assert_eq!(split(20), Output { total: 20, reasoning: 20, audio: 0, image: 0 });
    assert_eq!(split(75), Output { total: 75, reasoning: 30, audio: 0, image: 5 });
    assert_eq!(split(95), Output { total: 95, reasoning: 30, audio: 5, image: 20 });
    assert_eq!(split(100), Output { total: 100, reasoning: 30, audio: 10, image: 20 });
    assert_eq!(Output::split(5, 2, &Media::default()), Output { total: 5, reasoning: 2, audio: 0, image: 0 });
}

#[test]
fn providers_have_their_own_totals() {
    let books = Books::default();
    let ten = Prompt { total: 10, ..Prompt::default() };
    for provider in [Provider::Openai, Provider::Azure] {
        books.close(&books.open(start(provider, "gpt-4o", ten)), Outcome::Completed);
    }
    books.open(start(Provider::Mistral, "mistral-large-4", ten));
    let now = books.snapshot();
    assert_eq!(now.by_provider["azure"].nano, 25_000);
    assert_eq!((now.by_model["gpt-4o"].calls, now.by_model["azure/gpt-4o"].calls), (1, 1));
    assert_eq!(now.by_provider["mistral"].prompt_tokens, 10);
    assert_eq!(now.invoice_nano, 25_000 + 25_000 + 6_800);
}

#[test]
fn running_calls_count_and_orphans_do_not() {
    let books = Books::default();
    let first = books.open(openai("gpt-4o-mini", Prompt { total: 10, ..Prompt::default() }));
    assert_eq!(books.snapshot().invoice_nano, 1_500);
    first.generate(5);
    let now = books.snapshot();
    assert_eq!((now.invoice_nano, now.in_flight, now.calls), (4_500, 1, 1));
    assert_eq!(now.invoice_usd, "0.000004500");
    assert_eq!(now.last[0].outcome, Outcome::Running);
    books.close(&first, Outcome::Aborted);
    books.close(&first, Outcome::Completed);
    let now = books.snapshot();
    assert_eq!((now.invoice_nano, now.in_flight, now.aborted, now.calls), (4_500, 0, 1, 1));
    assert_eq!(now.by_model["gpt-4o-mini"].reasoning_tokens, 2);

    let orphan = books.open(openai("gpt-4o", Prompt::default()));
    books.reset();
    let fresh = books.open(openai("gpt-4o", Prompt::default()));
    orphan.generate(1_000);
    books.close(&orphan, Outcome::Completed);
    let now = books.snapshot();
    assert_eq!((now.invoice_nano, now.in_flight), (0, 1));
    assert!(orphan.must_stop() && !fresh.must_stop());
}

#[test]
fn memory_of_calls_is_bounded() {
    let books = Books::default();
    for _ in 0..250 {
        let call = books.open(openai("gpt-4o", Prompt::default()));
        books.close(&call, Outcome::Completed);
    }
    let now = books.snapshot();
    assert_eq!((now.last.len(), now.last[99].id, now.calls), (100, 250, 250));
}

#[test]
fn dollars() {
    assert_eq!(usd(1_234_567), "0.001234567");
    assert_eq!(usd(12_000_000_001), "12.000000001");
}

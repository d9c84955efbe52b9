//! Real shapes of Anthropic's answers, cut at every byte: the same reading, and the same bytes for the client.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::Method;
use loopers::money::{ExactCost, Money};
use loopers::pricing::{ModelPrice, PriceTable, Usage};
use loopers::provider::anthropic::Anthropic;
use loopers::provider::{AnswerHead, Ceiling, Fee, Observed, Options, Progress, Provider, Reading, Request};

static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/anthropic");

struct Case {
    file: &'static str,
    model: &'static str,
    /// What the answer's own line of the bill has.
    usage: Option<Usage>,
    is_finished: bool,
    has_error: bool,
    /// What the call costs, in nano-dollars; `None` where the answer does not tell.
    cost: Option<u64>,
}

const NONE: Usage = Usage {
    input: 0,
    cache_read: 0,
    cache_write_5m: 0,
    cache_write_1h: 0,
    audio_in: 0,
    audio_in_cached: 0,
    image_in: 0,
    video_in: 0,
    output: 0,
    reasoning: 0,
    audio_out: 0,
    image_out: 0,
};

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..NONE }
}

const HAIKU_4: &str = "claude-haiku-4-5";
const HAIKU_5: &str = "claude-haiku-5-5";
const SONNET: &str = "claude-sonnet-5-5";
const OPUS: &str = "claude-opus-5-5";

/// Nano-dollars a token, input/output/read/written for 5 minutes/for 1 hour:
/// Haiku 4.5 1,000/5,000/100/1,250/2,000 · Haiku 5.5 100/500/10/125/200, above 100,000 tokens 500/2,500/50/625/1,000 ·
/// Sonnet 5.5 2,000/10,000/100/2,500/4,000 · Opus 5.5 4,000/20,000/200/5,000/8,000 · Fable 5.1 10,000/50,000.
fn cases() -> Vec<Case> {
    let case = |file, model, usage, cost| Case {
        file,
        model,
        usage: Some(usage),
        is_finished: true,
        has_error: false,
        cost: Some(cost),
    };
    let unknown =
        |file, is_finished, has_error| Case { file, model: HAIKU_4, usage: None, is_finished, has_error, cost: None };
    vec![
        // 12 × 1,000 + 10 × 5,000.
        case("plain.sse", HAIKU_4, usage(12, 10), 62_000),
        case("crlf_comments.sse", HAIKU_4, usage(12, 10), 62_000),
        case("no_final_blank_line.sse", HAIKU_4, usage(12, 10), 62_000),
        case("plain.json", HAIKU_4, usage(12, 10), 62_000),
        // 30 × 4,000 + 500 × 20,000: thinking is in the output.
        case("thinking.sse", OPUS, Usage { reasoning: 450, ..usage(30, 500) }, 10_120_000),
        // 5 × 2,000 + 2,048 × 2,500 + 89 × 10,000 = 10,000 + 5,120,000 + 890,000.
        case("cache_write_5m.sse", SONNET, Usage { cache_write_5m: 2_048, ..usage(5, 89) }, 6_020_000),
        // The 500 written after the start have no time of their own; the request asks for an hour, so they cost that:
        // 25 × 2,000 + 1,500 × 4,000 + 40 × 10,000 = 50,000 + 6,000,000 + 400,000.
        case("cache_write_1h_grows.sse", SONNET, Usage { cache_write_1h: 1_500, ..usage(25, 40) }, 6_450_000),
        // 7 × 4,000 + 4,000 × 200 + 12 × 20,000 = 28,000 + 800,000 + 240,000.
        case("cache_read.sse", OPUS, Usage { cache_read: 4_000, ..usage(7, 12) }, 1_068_000),
        // 1 + 60,000 + 40,000 = 100,001 tokens: 1 × 500 + 60,000 × 50 + 40,000 × 625 + 10 × 2,500
        // = 500 + 3,000,000 + 25,000,000 + 25,000.
        case(
            "long_context.sse",
            HAIKU_5,
            Usage { cache_read: 60_000, cache_write_5m: 40_000, ..usage(1, 10) },
            28_025_500,
        ),
        // Exactly 100,000 tokens are not above: 40,000 × 100 + 60,000 × 10 + 10 × 500 = 4,000,000 + 600,000 + 5,000.
        case("long_context_edge.sse", HAIKU_5, Usage { cache_read: 60_000, ..usage(40_000, 10) }, 4_605_000),
        // 3 × 500 + 100,001 × 1,000, and no output.
        case("prewarm.json", HAIKU_5, Usage { cache_write_1h: 100_001, ..usage(3, 0) }, 100_002_500),
        // 80 × 1,000 + 17 × 5,000.
        case("tool_call.sse", HAIKU_4, usage(80, 17), 165_000),
        // (100 × 4,000 + 20 × 20,000) × 1.1 × 2 = 800,000 × 2.2.
        case("us_fast.sse", OPUS, usage(100, 20), 1_760_000),
        // (5 × 2,000 + 700 × 100 + 2,000 × 2,500 + 1,000 × 4,000 + 60 × 10,000) × 1.1
        // = (10,000 + 70,000 + 5,000,000 + 4,000,000 + 600,000) × 1.1 = 9,680,000 × 1.1.
        case(
            "caches.json",
            SONNET,
            Usage { cache_read: 700, cache_write_5m: 2_000, cache_write_1h: 1_000, reasoning: 9, ..usage(5, 60) },
            10_648_000,
        ),
        // 5,000 × 2,000 + 120 × 10,000 + 2 searches at a cent = 10,000,000 + 1,200,000 + 20,000,000.
        case("web_search.sse", SONNET, usage(5_000, 120), 31_200_000),
        // A compaction beside the sum: (3,000 + 1,000) × 4,000 + (400 + 50) × 20,000 = 16,000,000 + 9,000,000.
        case("compaction.sse", OPUS, usage(3_000, 400), 25_000_000),
        // A declined attempt of another model: 210 × 10,000 + 7 × 50,000 = 2,450,000; the answer 200 × 4,000 + 50 × 20,000 = 1,800,000.
        case("fallback.sse", OPUS, NONE, 4_250_000),
        // Refused before anything was generated, for a reason that is not billed; and for one that is: 50 × 4,000 + 3 × 20,000.
        case("refusal_free.sse", OPUS, NONE, 0),
        case("refusal_billed.sse", OPUS, usage(50, 3), 260_000),
        unknown("error_in_stream.sse", false, true),
        unknown("usage_missing.sse", false, false),
        unknown("usage_missing.json", false, false),
        unknown("no_message_stop.sse", false, false),
    ]
}

/// What the answer comes to, line by line, as the gateway adds it up.
fn cost(observed: &Observed, price: &ModelPrice) -> Option<u64> {
    let row = |model: &Option<String>| {
        let named = model.as_deref().and_then(|model| PRICES.for_model("anthropic", model));
        named.map_or(price, |row| row).clone()
    };
    let own = row(&observed.model).cost_scaled(&observed.usage?, observed.tier, observed.thousandths);
    let sum = observed.others.iter().fold(own.and(ExactCost::of(observed.fees)), |sum, line| {
        sum.and(row(&line.model).cost_scaled(&line.usage, line.tier, line.thousandths))
    });
    Some(sum.rounded_up().nano())
}

fn read(case: &Case, chunks: &[&[u8]]) -> (Vec<u8>, Observed, Option<u64>) {
    let mut options = Options::default();
    options.fees.insert("web_search".into(), Fee { usd: Money::from_nano(10_000_000), calls: 5 });
    let body = serde_json::json!({
        "model": case.model, "max_tokens": 1024, "stream": true,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}],
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}],
    });
    let route = Anthropic.route(&Method::POST, "/v1/messages", None).unwrap();
    let reading = Reading { options: &options, ..Reading::plain("anthropic", &PRICES) };
    let call = Anthropic.read(Request::plain(route, "", Bytes::from(body.to_string())), &reading).ok().unwrap();
    let kind = if case.file.ends_with(".sse") { "text/event-stream; charset=utf-8" } else { "application/json" };
    let mut reader = Anthropic.answer(route, &call, &AnswerHead::plain(kind), Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    for chunk in chunks {
        assert_eq!(reader.push(chunk, &mut emit), Progress::More);
    }
    assert_eq!(reader.finish(&mut emit), Progress::More);
    let observed = reader.observed(true).clone();
    let cost = cost(&observed, &call.price);
    (emit.to_vec(), observed, cost)
}

#[test]
fn every_fixture_cut_at_every_byte() {
    assert_eq!(std::fs::read_dir(FOLDER).unwrap().count(), cases().len(), "a fixture without a case");
    for case in cases() {
        let bytes = std::fs::read(format!("{FOLDER}/{}", case.file)).unwrap();
        let whole = read(&case, &[&bytes]);
        let (emitted, observed, cost) = &whole;
        let name = case.file;
        assert_eq!(emitted, &bytes, "{name}: every byte reaches the client");
        assert_eq!((observed.usage, *cost), (case.usage, case.cost), "{name}: {observed:?}");
        let seen = (observed.finished, observed.error, observed.odd_usage);
        assert_eq!(seen, (case.is_finished, case.has_error, false), "{name}");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&case, &[head, tail]), whole, "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&case, &single), whole, "{name} byte by byte");
    }
}

/// An answer that breaks off anywhere before its end has no usage: what is not known to the end is not known.
#[test]
fn a_torn_answer_has_no_usage() {
    for case in cases().into_iter().filter(|case| case.cost.is_some()) {
        let bytes = std::fs::read(format!("{FOLDER}/{}", case.file)).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let end = if case.file.ends_with(".sse") {
            text.rfind("{\"type\":\"message_stop\"}").unwrap() + "{\"type\":\"message_stop\"}".len() - 1
        } else {
            bytes.len() - 1
        };
        for cut in (0..=end).step_by(7).chain([end]) {
            let (_, observed, cost) = read(&case, &[&bytes[..cut]]);
            assert_eq!((observed.usage, cost), (None, None), "{} torn at {cut}", case.file);
        }
    }
}

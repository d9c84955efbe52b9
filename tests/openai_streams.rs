//! Real shapes of OpenAI's streams, cut at every byte: the same reading, and the same bytes for the client.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use loopers::pricing::{PriceTable, Tier, Usage};
use loopers::provider::openai::OpenAi;
use loopers::provider::{AnswerHead, Ceiling, Observed, Progress, Provider, Reading, Request};

static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

struct Case {
    file: &'static str,
    usage: Option<Usage>,
    tier: Tier,
    is_finished: bool,
    has_error: bool,
    /// What the call costs, in nano-dollars.
    cost: u64,
}

fn usage(input: u64, cache_read: u64, cache_write_5m: u64, output: u64, reasoning: u64) -> Option<Usage> {
    Some(Usage { input, cache_read, cache_write_5m, output, reasoning, ..Usage::default() })
}

/// gpt-4o costs 2,500 nano-dollars an input token, 1,250 a cached one, 10,000 an output token.
fn cases() -> Vec<Case> {
    let case =
        |file, usage, cost| Case { file, usage, tier: Tier::Standard, is_finished: true, has_error: false, cost };
    vec![
        // 19 − 5 cached = 14: 14 × 2,500 + 5 × 1,250 + 6 × 10,000 = 35,000 + 6,250 + 60,000.
        case("plain.sse", usage(14, 5, 0, 6, 0), 101_250),
        // 19 × 2,500 + 3 × 10,000.
        case("crlf_comments_multiline.sse", usage(19, 0, 0, 3, 0), 77_500),
        // 19 × 2,500 + 6 × 10,000.
        case("no_final_blank_line.sse", usage(19, 0, 0, 6, 0), 107_500),
        case("usage_after_done.sse", usage(19, 0, 0, 6, 0), 107_500),
        case("cr_only_bom.sse", usage(19, 0, 0, 6, 0), 107_500),
        // 80 × 2,500 + 17 × 10,000.
        case("tool_call.sse", usage(80, 0, 0, 17, 0), 370_000),
        // 12 × 2,500 + 5 × 10,000.
        case("two_choices.sse", usage(12, 0, 0, 5, 0), 80_000),
        // gpt-5.6-sol in priority: 8 in, 0.8 read, 10 written, 40 out. 3,000 − 1,024 − 1,900 = 76:
        // 76 × 8,000 + 1,024 × 800 + 1,900 × 10,000 + 512 × 40,000 = 608,000 + 819,200 + 19,000,000 + 20,480,000.
        Case { tier: Tier::Priority, ..case("reasoning_priority.sse", usage(76, 1_024, 1_900, 512, 448), 40_907_200) },
        Case { is_finished: false, has_error: true, ..case("error_in_stream.sse", None, 0) },
    ]
}

fn read(model: &str, asks: bool, chunks: &[&[u8]]) -> (Vec<u8>, Observed, u64) {
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}],"stream":true,"stream_options":{{"include_usage":{asks}}}}}"#
    );
    let route = OpenAi.route(&http::Method::POST, "/v1/chat/completions", None).unwrap();
    let call =
        OpenAi.read(Request::plain(route, "", Bytes::from(body)), &Reading::plain("openai", &PRICES)).ok().unwrap();
    let mut reader = OpenAi.answer(route, &call, &AnswerHead::plain("text/event-stream"), Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    for chunk in chunks {
        assert_eq!(reader.push(chunk, &mut emit), Progress::More);
    }
    assert_eq!(reader.finish(&mut emit), Progress::More);
    let observed = reader.observed(true).clone();
    let cost = observed.usage.map_or(0, |usage| call.price.cost(&usage, observed.tier).rounded_up().nano());
    (emit.to_vec(), observed, cost)
}

#[test]
fn every_fixture_cut_at_every_byte() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openai");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), cases().len(), "a fixture without a case");
    for case in cases() {
        let bytes = std::fs::read(format!("{folder}/{}", case.file)).unwrap();
        let model = if case.tier == Tier::Priority { "gpt-5.6-sol" } else { "gpt-4o" };
        let (emitted, observed, cost) = read(model, true, &[&bytes]);
        let name = case.file;
        assert_eq!(emitted, bytes, "{name}: who asked for usage gets every byte");
        assert_eq!((observed.usage, observed.tier), (case.usage, case.tier), "{name}");
        assert_eq!(
            (observed.finished, observed.error, observed.odd_usage),
            (case.is_finished, case.has_error, false),
            "{name}"
        );
        assert_eq!(cost, case.cost, "{name}");
        let silent = read(model, false, &[&bytes]);
        let is_hidden = !String::from_utf8_lossy(&silent.0).contains("prompt_tokens");
        assert!(is_hidden && silent.0.len() < bytes.len() || case.has_error, "{name}");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(
                read(model, true, &[head, tail]),
                (emitted.clone(), observed.clone(), cost),
                "{name} cut at {cut}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(model, false, &single), silent, "{name} byte by byte");
    }
}

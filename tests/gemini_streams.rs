//! Real shapes of Gemini's answers, cut at every byte: the same reading, the same bill, and the same bytes for the client.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use loopers::money::{ExactCost, Money};
use loopers::pricing::{PriceTable, Tier, Usage};
use loopers::provider::gemini::Gemini;
use loopers::provider::{
    AnswerHead, AnswerReader, Call, Ceiling, ErrorAnswer, Fee, Observed, Options, Progress, Provider, Reading, Request,
};

/// Typed from the price list. A model that paints stands in for those of Google's that the table leaves out.
const ROWS: &str = r#"
gemini/gemini-3.8-flash:
  {input: "0.75", output: "3.75", cache_read: "0.075", audio_in: "0.75", image_in: "0.75", video_in: "0.75", hidden_output: true,
   flex: {input: "0.375", output: "1.875"}, priority: {input: "1.35", output: "6.75"},
   fees: {web_search: "0.014", per_query: true}, context_window: 1114112, max_output: 65536}
gemini/gemini-3.1-pro-preview:
  {input: "2", output: "12", cache_read: "0.2", long_context: {above: 200000, input: "4", output: "18", cache_read: "0.4"},
   hidden_output: true, fees: {web_search: "0.014", per_query: true}, context_window: 1114112, max_output: 65536}
gemini/gemini-2.5-flash:
  {input: "0.3", output: "2.5", cache_read: "0.03", audio_in: "1", audio_in_cached: "0.1", image_in: "0.3", video_in: "0.3",
   hidden_output: true, fees: {web_search: "0.035"}, context_window: 1114112, max_output: 65536}
gemini/gemini-4-argon:
  {input: "2", output: "10", cache_read: "0.1", audio_in: "2", image_in: "2", video_in: "2", context_window: 2097152, max_output: 1048576}
gemini/gemini-paints: {input: "1", output: "2", image_out: "30", context_window: 65536, max_output: 32768}
gemini/gemini-embedding-001: {mode: embedding, input: "0.15", context_window: 2048}
gemini/gemini-embedding-2: {mode: embedding, input: "0.2", audio_in: "6.5", image_in: "0.45", video_in: "12", context_window: 8192}
"#;

static PRICES: LazyLock<PriceTable> =
    LazyLock::new(|| PriceTable::load(&[("prices.yaml".into(), ROWS.into())]).unwrap());

const TEXT: &str = r#"{"contents":[{"parts":[{"text":"x"}]}]}"#;

#[derive(Clone, Copy)]
struct Case {
    file: &'static str,
    model: &'static str,
    body: &'static str,
    /// Input, cached, output, thoughts.
    usage: Option<[u64; 4]>,
    tier: Tier,
    is_finished: bool,
    has_error: bool,
    /// What the call costs, in nano-dollars.
    cost: u64,
}

fn cases() -> Vec<Case> {
    let case = |file, model, usage, cost| {
        let usage = Some(usage);
        Case { file, model, body: TEXT, usage, tier: Tier::Standard, is_finished: true, has_error: false, cost }
    };
    let none = |file, model| Case { usage: None, is_finished: false, ..case(file, model, [0; 4], 0) };
    // Nano-dollars a token: 750 in, 75 cached, 3,750 out.
    let flash = |file, usage, cost| case(file, "gemini-3.8-flash", usage, cost);
    let searches = r#"{"contents":[{"parts":[{"text":"x"}]}],"tools":[{"googleSearch":{}}]}"#;
    vec![
        // 8 × 750 + (17 + 241) × 3,750 = 6,000 + 967,500.
        flash("plain.sse", [8, 0, 258, 241], 973_500),
        flash("plain_array.json", [8, 0, 258, 241], 973_500),
        flash("pretty_array.json", [8, 0, 258, 241], 973_500),
        flash("whole.json", [8, 0, 258, 241], 973_500),
        // 200,001 is above 200,000: 100,001 × 4,000 + 100,000 × 400 + 2,000 × 18,000 = 400,004,000 + 40,000,000 + 36,000,000.
        case("long_prompt.sse", "gemini-3.1-pro-preview", [100_001, 100_000, 2_000, 1_500], 476_004_000),
        // 200,000 is not, and the 5,000 of a tool do not count: 200,000 × 2,000 + 5,000 × 2,000 + 100 × 12,000.
        case("threshold.sse", "gemini-3.1-pro-preview", [200_000, 0, 100, 0], 411_200_000),
        // 5,000 − 4,096 = 904: 904 × 750 + 4,096 × 75 + 50 × 3,750 = 678,000 + 307,200 + 187,500.
        flash("cached.sse", [904, 4_096, 50, 30], 1_172_700),
        // Text 360 − 100 at 300, cached 100 at 30; audio 640 − 400 at 1,000, cached 400 at 100; 10 out at 2,500:
        // 78,000 + 3,000 + 240,000 + 40,000 + 25,000.
        case("cached_audio.json", "gemini-2.5-flash", [260, 100, 10, 0], 386_000),
        // 80 × 750 + 72 × 3,750.
        flash("tool_call_array.json", [80, 0, 72, 60], 330_000),
        // Three queries that differ, 14,000,000 each; (20 + 300) × 750 + 140 × 3,750 = 240,000 + 525,000.
        Case { body: searches, ..flash("grounded.sse", [320, 0, 140, 100], 42_765_000) },
        // One grounded prompt at 35,000,000, whatever the queries; 10 × 300 + 25 × 2,500.
        Case { body: searches, ..case("grounded_prompt.json", "gemini-2.5-flash", [10, 0, 25, 5], 35_065_500) },
        Case { has_error: true, ..none("error_in_stream.sse", "gemini-3.8-flash") },
        Case { has_error: true, ..none("error_in_array.json", "gemini-3.8-flash") },
        none("no_usage.sse", "gemini-3.8-flash"),
        none("cut_off.sse", "gemini-3.8-flash"),
        // A refused prompt is billed: 50 × 750.
        flash("blocked.json", [50, 0, 0, 0], 37_500),
        // 8 × 750 + 30 × 3,750.
        Case {
            body: r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"candidateCount":2}}"#,
            ..flash("two_candidates.sse", [8, 0, 30, 0], 118_500)
        },
        // 100 × 1,350 + 10 × 6,750.
        Case {
            body: r#"{"contents":[{"parts":[{"text":"x"}]}],"serviceTier":"priority"}"#,
            tier: Tier::Priority,
            ..flash("priority.sse", [100, 0, 10, 0], 202_500)
        },
        // Asked for in priority, served and billed as standard: 100 × 750 + 10 × 3,750.
        Case {
            body: r#"{"contents":[{"parts":[{"text":"x"}]}],"serviceTier":"priority"}"#,
            ..flash("priority_served_as_standard.json", [100, 0, 10, 0], 112_500)
        },
        // Half of that.
        Case {
            body: r#"{"contents":[{"parts":[{"text":"x"}]}],"serviceTier":"flex"}"#,
            tier: Tier::Flex,
            ..flash("flex.json", [100, 0, 10, 0], 56_250)
        },
        // One hop: 70,000 × 2,000 + 65,536 × 10,000.
        Case {
            body: r#"{"contents":[{"parts":[{"text":"x"}]}],"continuationToken":"QUJD"}"#,
            ..case("continuation.sse", "gemini-4-argon", [70_000, 0, 65_536, 5_536], 795_360_000)
        },
        // 10 × 1,000 + 1,290 × 30,000 + 10 × 2,000.
        case("image_out.json", "gemini-paints", [10, 0, 10, 0], 38_730_000),
        // 12 × 150.
        case("embed.json", "gemini-embedding-001", [12, 0, 0, 0], 1_800),
        // 42 × 200 + 258 × 450.
        case("batch_embed.json", "gemini-embedding-2", [42, 0, 0, 0], 124_500),
        none("embed_no_usage.json", "gemini-embedding-001"),
    ]
}

/// The request of a case, and the head of its answer.
fn opened(case: &Case) -> (Call, Box<dyn AnswerReader>) {
    let (verb, query, body) = match case.file {
        file if file.starts_with("embed") => ("embedContent", None, r#"{"content":{"parts":[{"text":"x"}]}}"#),
        file if file.starts_with("batch") => {
            ("batchEmbedContents", None, r#"{"requests":[{"content":{"parts":[{"text":"x"}]}}]}"#)
        }
        file if file.ends_with(".sse") => ("streamGenerateContent", Some("alt=sse"), case.body),
        file if file.ends_with("_array.json") || file.ends_with("in_array.json") => {
            ("streamGenerateContent", None, case.body)
        }
        _ => ("generateContent", None, case.body),
    };
    let path = format!("/v1beta/models/{}:{verb}", case.model);
    let route = Gemini.route(&http::Method::POST, &path, query).unwrap();
    let fee = Fee { usd: Money::from_nano(14_000_000), calls: 5 };
    let options = Options { fees: [("web_search".to_string(), fee)].into(), ..Options::default() };
    let reading = Reading { options: &options, ..Reading::plain("gemini", &PRICES) };
    let request = Request { query, ..Request::plain(route, &path, Bytes::from_static(body.as_bytes())) };
    let call = Gemini.read(request, &reading).ok().unwrap();
    let kind = if query.is_some() { "text/event-stream" } else { "application/json; charset=UTF-8" };
    let reader = Gemini.answer(route, &call, &AnswerHead::plain(kind), Ceiling::Certain(1 << 40));
    (call, reader)
}

fn read(case: &Case, chunks: &[&[u8]]) -> (Vec<u8>, Observed, u64) {
    let (call, mut reader) = opened(case);
    let mut emit = BytesMut::new();
    for chunk in chunks {
        assert_eq!(reader.push(chunk, &mut emit), Progress::More);
    }
    assert_eq!(reader.finish(&mut emit), Progress::More);
    let observed = reader.observed(true).clone();
    let cost = observed.usage.map_or(0, |usage| {
        let own = call.price.cost(&usage, observed.tier).and(ExactCost::of(observed.fees));
        let parts = observed.others.iter().map(|line| call.price.cost(&line.usage, line.tier));
        parts.fold(own, |sum, part| sum.and(part)).rounded_up().nano()
    });
    (emit.to_vec(), observed, cost)
}

fn bytes(case: &Case) -> Vec<u8> {
    std::fs::read(format!("{}/{}", folder(), case.file)).unwrap()
}

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gemini")
}

#[test]
fn every_fixture_cut_at_every_byte() {
    assert_eq!(std::fs::read_dir(folder()).unwrap().count(), cases().len(), "a fixture without a case");
    for case in cases() {
        let bytes = bytes(&case);
        let whole = read(&case, &[&bytes]);
        let (emitted, observed, cost) = &whole;
        let name = case.file;
        assert_eq!(*emitted, bytes, "{name}: the client gets every byte");
        let usage = observed.usage.map(|usage| [usage.input, usage.cache_read, usage.output, usage.reasoning]);
        assert_eq!((usage, observed.tier, *cost), (case.usage, case.tier, case.cost), "{name}");
        assert_eq!(
            (observed.finished, observed.error, observed.odd_usage),
            (case.is_finished, case.has_error, false),
            "{name}"
        );
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&case, &[head, tail]), whole, "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&case, &single), whole, "{name} byte by byte");
    }
}

#[test]
fn what_is_billed_beside_text() {
    let usage = |file: &str| {
        let case = cases().into_iter().find(|case| case.file == file).unwrap();
        let (_, observed, _) = read(&case, &[&bytes(&case)]);
        (observed.usage.unwrap(), observed.fees, observed.others)
    };
    let (audio, ..) = usage("cached_audio.json");
    assert_eq!((audio.audio_in, audio.audio_in_cached), (240, 400));
    let (image, ..) = usage("image_out.json");
    assert_eq!(image.image_out, 1_290);
    let (batch, ..) = usage("batch_embed.json");
    assert_eq!(batch.image_in, 258);
    let (_, fees, _) = usage("grounded.sse");
    assert_eq!(fees, Money::from_nano(42_000_000));
    let (_, _, apart) = usage("threshold.sse");
    assert_eq!(apart.iter().map(|line| line.usage).collect::<Vec<_>>(), [Usage { input: 5_000, ..Usage::default() }]);
}

/// Attack 35: a stream that is cut anywhere ends with an error that every JSON reader sees.
#[test]
fn cap_35_a_cut_at_every_byte_ends_in_an_error() {
    let error = ErrorAnswer {
        status: 402,
        code: "budget_exceeded",
        message: "cut",
        loopers: serde_json::json!({"code": "budget_exceeded"}),
        request_id: "r",
        route: None,
    };
    for case in cases().into_iter().filter(|case| case.file.ends_with(".sse") || case.file.contains("array")) {
        let bytes = bytes(&case);
        for cut in 0..=bytes.len() {
            let (_, mut reader) = opened(&case);
            let mut emit = BytesMut::new();
            assert_eq!(reader.push(&bytes[..cut], &mut emit), Progress::More);
            assert!(reader.is_stream() && bytes.starts_with(&emit));
            emit.extend_from_slice(&reader.closing_event(&error));
            let last: serde_json::Value = if case.file.ends_with(".sse") {
                let text = String::from_utf8(emit.to_vec()).unwrap();
                let events: Vec<&str> = text.split("data: ").skip(1).map(str::trim).collect();
                events.iter().for_each(|event| drop(serde_json::from_str::<serde_json::Value>(event).unwrap()));
                serde_json::from_str(events.last().unwrap()).unwrap()
            } else {
                serde_json::from_slice::<Vec<serde_json::Value>>(&emit).unwrap().pop().unwrap()
            };
            assert_eq!(
                (&last["error"]["code"], &last["error"]["status"]),
                (&402.into(), &"FAILED_PRECONDITION".into()),
                "{cut}"
            );
            assert_eq!(last["error"]["loopers"]["code"], "budget_exceeded");
        }
    }
}

use std::sync::LazyLock;

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{call, options, read_with, with};
use super::super::{Anthropic, MESSAGES};
use super::*;
use crate::provider::{AnswerHead, AnswerReader, Progress, Provider};

/// The head of a stream, or of an answer in one piece.
fn head(is_stream: bool) -> &'static AnswerHead<'static> {
    static HEADS: LazyLock<[AnswerHead<'static>; 2]> = LazyLock::new(|| {
        [AnswerHead::plain("application/json"), AnswerHead::plain("text/event-stream; charset=utf-8")]
    });
    &HEADS[usize::from(is_stream)]
}

fn reader(fields: serde_json::Value, is_stream: bool, ceiling: Ceiling) -> Box<dyn AnswerReader> {
    Anthropic.answer(MESSAGES, &call(fields), head(is_stream), ceiling)
}

/// Reads chunks to the end and returns what was emitted, how it ended, and what was observed.
fn run(mut reader: Box<dyn AnswerReader>, chunks: &[&[u8]]) -> (Vec<u8>, Progress, Observed) {
    let mut emit = BytesMut::new();
    for chunk in chunks {
        let progress = reader.push(chunk, &mut emit);
        if progress != Progress::More {
            return (emit.to_vec(), progress, reader.observed(true).clone());
        }
    }
    let progress = reader.finish(&mut emit);
    (emit.to_vec(), progress, reader.observed(true).clone())
}

const FREE: Ceiling = Ceiling::Certain(1 << 40);

fn stream_of(fields: serde_json::Value, text: &str) -> Observed {
    run(reader(fields, true, FREE), &[text.as_bytes()]).2
}

fn stream(text: &str) -> Observed {
    stream_of(json!({"stream": true}), text)
}

fn whole(text: &str) -> Observed {
    run(reader(json!({}), false, FREE), &[text.as_bytes()]).2
}

fn event(data: serde_json::Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("message"))
}

fn start(usage: serde_json::Value) -> String {
    event(
        json!({"type": "message_start", "message": {"type": "message", "model": "claude-haiku-4-5-20251001", "content": [], "usage": usage}}),
    )
}

fn text(said: &str) -> String {
    event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}))
}

fn delta(usage: serde_json::Value) -> String {
    event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}))
}

fn stop() -> String {
    event(json!({"type": "message_stop"}))
}

#[test]
fn the_last_sum_counts_and_the_place_holder_does_not() {
    let begin = start(json!({"input_tokens": 19, "output_tokens": 3}));
    let observed = stream(&format!("{begin}{}{}{}", text("A"), delta(json!({"output_tokens": 1})), stop()));
    assert_eq!(observed.usage, Some(Usage { input: 19, output: 1, ..Usage::default() }));
    assert!(observed.finished && !observed.odd_usage && !observed.error);
    assert_eq!(observed.model.as_deref(), Some("claude-haiku-4-5-20251001"));
    // Several sums: the last one, field by field; null says nothing.
    let more = delta(json!({"input_tokens": 40, "cache_read_input_tokens": 7, "output_tokens": 5}));
    let last = delta(json!({"input_tokens": null, "output_tokens": 9}));
    let observed = stream(&format!("{begin}{more}{last}{}", stop()));
    assert_eq!(observed.usage, Some(Usage { input: 40, cache_read: 7, output: 9, ..Usage::default() }));
    assert!(!observed.odd_usage);
    // One that shrinks does not make the call cheaper.
    let observed = stream(&format!("{begin}{more}{}{}", delta(json!({"input_tokens": 1, "output_tokens": 2})), stop()));
    assert_eq!(observed.usage, Some(Usage { input: 40, cache_read: 7, output: 5, ..Usage::default() }));
    assert!(observed.odd_usage);
    // The same twice is the same; what comes after the end is read.
    let once = delta(json!({"output_tokens": 5}));
    let observed = stream(&format!("{begin}{once}{once}{}{}", stop(), delta(json!({"output_tokens": 6}))));
    assert_eq!((observed.usage.map(|usage| usage.output), observed.odd_usage), (Some(6), false));
}

#[test]
fn cap_31_usage_that_cannot_be_true_is_no_usage() {
    for bad in [
        json!({"output_tokens": -1}),
        json!({"output_tokens": 1.5}),
        json!({"output_tokens": "9"}),
        json!({"output_tokens": 1u64 << 41}),
        json!({"output_tokens": 9, "input_tokens": 1e30}),
        json!({"output_tokens": 9, "cache_creation": 7}),
        json!({"output_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": -3}}),
        json!({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 10}}),
        json!({"output_tokens": 9, "server_tool_use": {"web_search_requests": "two"}}),
        json!({"output_tokens": 9, "iterations": {}}),
        json!({"output_tokens": 9, "iterations": [{"input_tokens": 5}]}),
        json!({"output_tokens": 9, "iterations": [7]}),
        json!("many"),
        json!([]),
        json!(7),
    ] {
        let begin = start(json!({"input_tokens": 19, "output_tokens": 1}));
        let observed = stream(&format!("{begin}{}{}", delta(bad.clone()), stop()));
        assert_eq!((observed.usage, observed.odd_usage), (None, true), "{bad}");
        let mut usage = bad.clone();
        if let Some(usage) = usage.as_object_mut() {
            usage.entry("input_tokens").or_insert(json!(19));
        }
        let observed = whole(&json!({"type": "message", "content": [], "usage": usage}).to_string());
        assert_eq!((observed.usage, observed.odd_usage), (None, true), "{bad}");
    }
    // Every request has input.
    let nothing = json!({"input_tokens": 0, "output_tokens": 0});
    let observed = whole(&json!({"type": "message", "content": [], "usage": nothing}).to_string());
    assert_eq!((observed.usage, observed.odd_usage), (None, true));
    for none in
        ["", "{\"type\":\"message\",\"content\":[]}", "{\"type\":\"message\",\"usage\":null}", "<html>502</html>", "[]"]
    {
        let observed = whole(none);
        assert_eq!((observed.usage, observed.odd_usage), (None, false), "{none}");
    }
    for without in [
        stop(),
        format!("{}{}", start(json!({"input_tokens": 19, "output_tokens": 5})), stop()),
        format!("{}{}", delta(json!({"output_tokens": 9})), stop()),
    ] {
        assert_eq!(stream(&without).usage, None, "{without}");
    }
}

#[test]
fn cap_31_what_nobody_knows_is_told_and_never_cheaper() {
    let usage = |fields: serde_json::Value| {
        let mut usage = json!({"input_tokens": 19, "output_tokens": 9, "cache_creation_input_tokens": 100});
        usage.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        whole(&json!({"type": "message", "content": [], "usage": usage}).to_string())
    };
    let known = usage(json!({"fallback_credit": {}, "holograms": 0}));
    assert!(!known.odd_usage);
    assert_eq!(known.usage.unwrap().cache_write_5m, 100);
    for unknown in [
        json!({"hologram_tokens": 5}),
        json!({"cache_creation": {"ephemeral_24h_input_tokens": 50}}),
        json!({"server_tool_use": {"code_execution_requests": 1}}),
        json!({"output_tokens_details": {"image_tokens": 5}}),
    ] {
        let observed = usage(unknown.clone());
        assert!(observed.odd_usage, "{unknown}");
        // A write whose time is not known is one for an hour.
        assert_eq!(observed.usage.unwrap().cache_write_1h, 100, "{unknown}");
    }
    // A split beyond its sum: the split is charged.
    let split = usage(json!({"cache_creation": {"ephemeral_5m_input_tokens": 90, "ephemeral_1h_input_tokens": 20}}));
    assert!(split.odd_usage);
    assert_eq!((split.usage.unwrap().cache_write_5m, split.usage.unwrap().cache_write_1h), (90, 20));
}

#[test]
fn cap_31_usage_smaller_than_what_was_streamed() {
    let said = text("these are five plain words ").repeat(100);
    let begin = start(json!({"input_tokens": 19, "output_tokens": 1}));
    let observed = stream(&format!("{begin}{said}{}{}", delta(json!({"output_tokens": 7})), stop()));
    assert!(observed.odd_usage && observed.usage.unwrap().output >= 2_700);
    let observed = stream(&format!("{begin}{said}{}{}", delta(json!({"output_tokens": 500})), stop()));
    assert_eq!((observed.odd_usage, observed.usage.unwrap().output), (false, 500));
}

#[test]
fn cap_09_the_answers_tier_region_and_speed_are_billed() {
    let observe = |request: serde_json::Value, usage: serde_json::Value| {
        let mut all = json!({"input_tokens": 19, "output_tokens": 9});
        all.as_object_mut().unwrap().extend(usage.as_object().unwrap().clone());
        let mut fields = json!({"model": "claude-opus-5-5"});
        fields.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        let body = json!({"type": "message", "content": [], "usage": all}).to_string();
        let observed = run(reader(fields, false, FREE), &[body.as_bytes()]).2;
        (observed.tier, observed.thousandths, observed.odd_usage)
    };
    let fast = json!({"speed": "fast"});
    let global = json!({"inference_geo": "global"});
    let standard = Tier::Standard;
    for (request, usage, want) in [
        (json!({}), json!({"inference_geo": "global"}), (standard, 1000, false)),
        (json!({}), json!({"inference_geo": "not_available"}), (standard, 1000, false)),
        // Nothing said: the workspace's region may be the dear one.
        (json!({}), json!({}), (standard, 1100, false)),
        (json!({}), json!({"inference_geo": null}), (standard, 1100, false)),
        (global.clone(), json!({}), (standard, 1000, false)),
        (global.clone(), json!({"inference_geo": "us"}), (standard, 1100, false)),
        (global.clone(), json!({"inference_geo": "mars"}), (standard, 1100, true)),
        (fast.clone(), json!({"inference_geo": "us"}), (standard, 2200, false)),
        (fast.clone(), json!({"inference_geo": "global", "speed": "standard"}), (standard, 1000, false)),
        (global.clone(), json!({"speed": "fast"}), (standard, 2000, false)),
        (global.clone(), json!({"speed": "warp"}), (standard, 2000, true)),
        (global.clone(), json!({"service_tier": "batch"}), (standard, 1000, false)),
        (global.clone(), json!({"service_tier": "priority"}), (Tier::Priority, 1000, false)),
        (global.clone(), json!({"service_tier": "platinum"}), (Tier::Ultrafast, 1000, true)),
    ] {
        assert_eq!(observe(request.clone(), usage.clone()), want, "{request} {usage}");
    }
}

#[test]
fn passes_are_billed_one_by_one() {
    let pass = |input: u64, output: u64, model: Option<&str>| json!({"type": "message", "input_tokens": input, "output_tokens": output, "model": model});
    let observe = |input: u64, output: u64, passes: Vec<serde_json::Value>| {
        whole(
            &json!({"type": "message", "model": "claude-haiku-4-5", "content": [],
            "usage": {"input_tokens": input, "output_tokens": output, "iterations": passes}})
            .to_string(),
        )
    };
    let usage = |input, output| Usage { input, output, ..Usage::default() };
    // The sum says it all.
    let one = observe(10, 5, vec![pass(10, 5, None)]);
    assert_eq!((one.usage, one.others.len(), one.odd_usage), (Some(usage(10, 5)), 0, false));
    let two = observe(30, 9, vec![pass(10, 5, None), pass(20, 4, Some("claude-haiku-4-5"))]);
    assert_eq!((two.usage, two.others[0].usage, two.odd_usage), (Some(usage(10, 5)), usage(20, 4), false));
    // What the sum has beyond its passes is billed too.
    let short = observe(30, 9, vec![pass(10, 5, None)]);
    assert_eq!((short.usage, short.odd_usage), (Some(usage(30, 9)), true));
    // A pass of another model has its own line.
    let other = observe(30, 9, vec![pass(7, 3, Some("claude-opus-5")), pass(30, 9, None)]);
    assert_eq!((other.usage, other.others.len(), other.odd_usage), (Some(usage(0, 0)), 2, false));
    assert_eq!(other.others[1].model.as_deref(), Some("claude-opus-5"));
    assert_eq!(other.others[0].model.as_deref(), Some("claude-haiku-4-5"));
    assert_eq!(observe(30, 9, vec![]).usage, Some(usage(30, 9)));
}

#[test]
fn refusals_are_free_only_where_that_is_documented() {
    let refusal = |details: serde_json::Value, block: &str, usage: serde_json::Value| {
        let end = event(
            json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": usage}),
        );
        stream(&format!("{}{block}{end}{}", start(json!({"input_tokens": 50, "output_tokens": 1})), stop()))
            .usage
            .unwrap()
    };
    let said = event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    let none = json!({"output_tokens": 0});
    for free in [json!({"category": "cyber"}), json!({"category": "general_harms"}), json!({"category": null})] {
        assert_eq!(refusal(free.clone(), "", none.clone()), Usage::default(), "{free}");
        assert_eq!(refusal(free.clone(), &said, none.clone()).input, 50, "{free}: something was generated");
        let thought = json!({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 9}});
        assert_eq!(refusal(free, "", thought).output, 9);
    }
    for billed in [
        json!({"category": "bio"}),
        json!({"category": "frontier_llm"}),
        json!({"category": "reasoning_extraction"}),
        json!({"category": "new"}),
        json!({"category": 5}),
        json!({}),
        json!(null),
    ] {
        assert_eq!(refusal(billed.clone(), "", none.clone()).input, 50, "{billed}");
    }
    // What could not be read may have been the beginning of a block.
    let broken =
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\\ud800\"}}\n\n";
    assert_eq!(refusal(json!({"category": null}), broken, none).input, 50);
}

#[test]
fn a_refusal_whose_blocks_were_not_read_is_billed() {
    let refusal = |content: serde_json::Value, said: &str| {
        let body = json!({"type": "message", "content": content, "stop_reason": "refusal",
            "stop_details": {"category": null, "explanation": null}, "usage": {"input_tokens": 50, "output_tokens": 9}});
        whole(&body.to_string().replace("SAID", said)).usage
    };
    let text = json!([{"type": "text", "text": "SAID"}]);
    let (billed, large) = (Some(Usage { input: 50, output: 9, ..Usage::default() }), "x".repeat(5 << 20));
    for said in ["x", "\\ud800", large.as_str()] {
        assert_eq!(refusal(text.clone(), said), billed, "{} bytes", said.len());
    }
    assert_eq!(refusal(json!([]), ""), Some(Usage::default()));
}

#[test]
fn searches_and_fetches_are_billed_by_the_operators_fee() {
    let tools = json!([{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}, {"type": "web_fetch_20250910", "name": "web_fetch", "max_uses": 1}]);
    let call = read_with(&with(json!({"tools": tools})).to_string(), &[], &options(&[], true)).unwrap();
    let body = json!({"type": "message", "content": [], "usage": {"input_tokens": 9, "output_tokens": 9,
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}}});
    let (_, _, observed) = run(Anthropic.answer(MESSAGES, &call, head(false), FREE), &[body.to_string().as_bytes()]);
    assert_eq!(observed.fees, Money::from_nano(30_000_000));
    assert!(observed.usage.is_some() && !observed.odd_usage);
}

#[test]
fn cap_32_output_beyond_the_ceiling_is_not_emitted() {
    // Where the provider was told no limit, what may be too much is too much: bytes count.
    let part = text(" hello");
    let (emitted, progress, _) =
        run(reader(json!({"stream": true}), true, Ceiling::Possible(60)), &[part.repeat(50).as_bytes()]);
    assert_eq!((progress, emitted), (Progress::Ceiling, part.repeat(10).into_bytes()));
    // Where it was told one, only what is certainly too much is.
    let told = |count: usize| {
        run(reader(json!({"stream": true}), true, Ceiling::Certain(100)), &[part.repeat(count).as_bytes()]).1
    };
    assert_eq!((told(100), told(200), told(300)), (Progress::More, Progress::More, Progress::Ceiling));
    for piece in [
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "hello hello"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "a_long_name", "input": {"a": 1}}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "hologram", "data": "hello hello"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "hologram_delta", "data": "hello hello"}}),
        json!({"type": "hologram", "data": "hello hello"}),
    ] {
        let (emitted, progress, observed) =
            run(reader(json!({"stream": true}), true, Ceiling::Possible(5)), &[event(piece.clone()).as_bytes()]);
        assert_eq!((progress, emitted.len()), (Progress::Ceiling, 0), "{piece}");
        assert!(observed.streamed_tokens > 5);
    }
    // Proofs, results of tools, pings and ids are not output.
    for piece in [
        json!({"type": "ping"}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "web_search_tool_result", "content": [{"title": "a long title"}]}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "c2VjcmV0"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2VjcmV0"}}),
    ] {
        let read = run(reader(json!({"stream": true}), true, Ceiling::Possible(0)), &[event(piece.clone()).as_bytes()]);
        assert_eq!(read.1, Progress::More, "{piece}");
    }
}

#[test]
fn cap_33_errors_garbage_and_compression() {
    let begin = start(json!({"input_tokens": 19, "output_tokens": 1}));
    let end = format!("{}{}", delta(json!({"output_tokens": 9})), stop());
    for error in [
        event(json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})),
        "event: error\ndata: {\"message\":\"x\"}\n\n".to_string(),
        "event: error\ndata: broken\n\n".to_string(),
    ] {
        let observed = stream(&format!("{begin}{error}{end}"));
        assert_eq!((observed.error, observed.usage), (true, None), "{error}");
    }
    // What is no JSON may have been text; or the usage.
    let observed = stream(&format!("{begin}data: <html>\n\n{end}"));
    assert!(observed.usage.is_some() && !observed.odd_usage && observed.streamed_tokens >= 6);
    let observed = stream(&format!("{begin}data: {{\"usage\":{{\"output_tokens\":99\n\n{end}"));
    assert_eq!((observed.usage, observed.odd_usage), (None, true));
    for is_stream in [true, false] {
        let (emitted, progress, observed) =
            run(reader(json!({"stream": true}), is_stream, FREE), &[b"\x1f\x8b\x08\x00", b"x"]);
        assert_eq!((emitted.len(), progress, observed.usage), (0, Progress::Unreadable, None));
    }
    // A body of any size passes, and its usage is read.
    let long = json!({"type": "message", "content": [{"type": "text", "text": "word ".repeat(1_200_000)}],
        "usage": {"input_tokens": 9, "output_tokens": 1_200_000, "iterations": [{"type": "message", "input_tokens": 9, "output_tokens": 1_200_000}]}}).to_string();
    let chunks: Vec<&[u8]> = long.as_bytes().chunks(65_536).collect();
    let (emitted, _, observed) = run(reader(json!({}), false, FREE), &chunks);
    assert_eq!((emitted.len(), observed.usage.unwrap().output), (long.len(), 1_200_000));
    assert_eq!(whole(&long[..long.len() - 1]).usage, None);
}

proptest! {
    #[test]
    fn any_split_reads_alike(
        texts in prop::collection::vec(any::<String>(), 0..10),
        ceiling in prop_oneof![Just(u64::MAX), 0..200u64],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let said: String = texts.iter().map(|said| text(said)).collect();
        let all = format!("{}{said}{}{}", start(json!({"input_tokens": 19})), delta(json!({"output_tokens": 1 << 20})), stop());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([all.len()]) {
            chunks.push(&all.as_bytes()[from..cut]);
            from = cut;
        }
        let fields = json!({"stream": true});
        let whole = run(reader(fields.clone(), true, Ceiling::Possible(ceiling)), &[all.as_bytes()]);
        prop_assert_eq!(&run(reader(fields, true, Ceiling::Possible(ceiling)), &chunks), &whole);
        let bytes = texts.concat().len() as u64;
        prop_assert_eq!(whole.1 == Progress::Ceiling, bytes > ceiling);
        if whole.1 == Progress::More {
            prop_assert!(whole.2.streamed_tokens >= bytes);
            prop_assert_eq!(whole.0, all.into_bytes());
        }
    }
}

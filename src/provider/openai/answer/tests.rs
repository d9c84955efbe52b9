use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::json;

use super::super::OpenAi;
use super::super::tests::{PRICES, call};
use super::*;
use crate::pricing::{Tier, Usage};
use crate::provider::{AnswerHead, AnswerReader, Progress, Provider, Reading, Request};

const CHAT: crate::provider::Route = super::super::CHAT;

/// The head of a stream, or of an answer in one piece.
fn head(is_stream: bool) -> &'static AnswerHead<'static> {
    static HEADS: LazyLock<[AnswerHead<'static>; 2]> = LazyLock::new(|| {
        [AnswerHead::plain("application/json"), AnswerHead::plain("text/event-stream; charset=utf-8")]
    });
    &HEADS[usize::from(is_stream)]
}

fn reader(fields: serde_json::Value, is_stream: bool, ceiling: u64) -> Box<dyn AnswerReader> {
    OpenAi.answer(CHAT, &call(fields), head(is_stream), Ceiling::Possible(ceiling))
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

fn stream(text: &str) -> (Vec<u8>, Progress, Observed) {
    run(reader(json!({"stream": true}), true, u64::MAX), &[text.as_bytes()])
}

fn whole(text: &str) -> (Vec<u8>, Progress, Observed) {
    run(reader(json!({}), false, u64::MAX), &[text.as_bytes()])
}

fn delta(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": {"content": text}}], "usage": null})
    )
}

fn usage_chunk(usage: &str) -> String {
    format!("data: {{\"service_tier\":\"default\",\"choices\":[],\"usage\":{usage}}}\n\n")
}

const GOOD: &str = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":3},"completion_tokens_details":{"reasoning_tokens":4}}"#;

#[test]
fn usage_is_split_into_what_is_billed_apart() {
    let (_, _, observed) = stream(&format!("{}data: [DONE]\n\n", usage_chunk(GOOD)));
    // 19 prompt tokens − 5 read − 3 written = 11 ordinary ones.
    let want = Usage { input: 11, cache_read: 5, cache_write_5m: 3, output: 10, reasoning: 4, ..Usage::default() };
    assert_eq!(observed.usage, Some(want));
    assert_eq!(observed.tier, Tier::Standard);
    assert!(observed.finished && !observed.odd_usage && !observed.error);
    let (_, _, observed) =
        whole(&format!(r#"{{"model":"gpt-4o","service_tier":"priority","choices":[],"usage":{GOOD}}}"#));
    assert_eq!((observed.usage, observed.tier, observed.finished), (Some(want), Tier::Priority, true));
    assert_eq!(observed.model.as_deref(), Some("gpt-4o"));
}

#[test]
fn the_usage_chunk_is_for_those_who_asked() {
    let text = format!("{}{}data: [DONE]\n\n", delta("hi"), usage_chunk(GOOD));
    let (emitted, _, _) = stream(&text);
    assert_eq!(emitted, format!("{}data: [DONE]\n\n", delta("hi")).into_bytes());
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (emitted, _, _) = run(reader(asked, true, u64::MAX), &[text.as_bytes()]);
    assert_eq!(emitted, text.as_bytes());
    // A chunk without choices or usage (a filter's verdict) is the client's.
    let filter = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
    assert_eq!(stream(filter).0, filter.as_bytes());
}

#[test]
fn a31_usage_that_cannot_be_true_is_no_usage() {
    for bad in [
        r#"{"prompt_tokens":-1,"completion_tokens":10}"#,
        r#"{"prompt_tokens":1.5,"completion_tokens":10}"#,
        r#"{"prompt_tokens":"19","completion_tokens":10}"#,
        r#"{"prompt_tokens":19}"#,
        r#"{"completion_tokens":19}"#,
        r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#,
        r#"{"prompt_tokens":9223372036854775808,"completion_tokens":1}"#,
        r#"{"prompt_tokens":18446744073709551616,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1e30,"completion_tokens":1}"#,
        r#"{"prompt_tokens":NaN,"completion_tokens":1}"#,
        r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":20}"#,
        r#"{"prompt_tokens":19,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":20}}"#,
        r#"{"prompt_tokens":19,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":-2}}"#,
        r#"{"prompt_tokens":19,"completion_tokens":10,"prompt_tokens_details":[]}"#,
        r#"{"prompt_tokens":19,"completion_tokens":10,"completion_tokens_details":{"reasoning_tokens":11}}"#,
        r#"{"prompt_tokens":19,"completion_tokens":10,"completion_tokens_details":{"audio_tokens":11}}"#,
        r#""many""#,
        "7",
        "[]",
        "{}",
    ] {
        let (_, progress, observed) = stream(&format!("{}{}data: [DONE]\n\n", delta("hi"), usage_chunk(bad)));
        assert_eq!((progress, observed.usage, observed.odd_usage), (Progress::More, None, true), "{bad}");
        let (_, _, observed) = whole(&format!(r#"{{"choices":[],"usage":{bad}}}"#));
        assert_eq!((observed.usage, observed.odd_usage), (None, true), "{bad}");
    }
    for none in ["", "{\"choices\":[]}", "{\"usage\":null}", "<html>502</html>", "[]"] {
        let (emitted, _, observed) = whole(none);
        assert_eq!((observed.usage, observed.odd_usage, emitted), (None, false, none.as_bytes().to_vec()), "{none}");
    }
}

#[test]
fn a31_usage_twice_and_growing() {
    let usage =
        |output: u64| format!(r#"{{"prompt_tokens":19,"completion_tokens":{output},"total_tokens":{}}}"#, 19 + output);
    let output = |observed: &Observed| observed.usage.map(|usage| usage.output);
    // Cumulative on each chunk: the last one counts, once the stream is over.
    let grown: String = (1..=10)
        .map(|n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\" a\"}}}}],\"usage\":{}}}\n\n", usage(n)))
        .collect();
    let (emitted, _, observed) = stream(&format!("{grown}data: [DONE]\n\n"));
    assert_eq!((output(&observed), observed.odd_usage), (Some(10), false));
    assert!(emitted.starts_with(grown.as_bytes()));
    // Without its end, the usage so far is not the usage.
    let (_, _, observed) = stream(&grown);
    assert_eq!((output(&observed), observed.finished), (None, false));
    assert!(observed.streamed_tokens >= 10);
    // Shrinking: the dearer one stays.
    let (_, _, observed) = stream(&format!("{}{}data: [DONE]\n\n", usage_chunk(&usage(50)), usage_chunk(&usage(20))));
    assert_eq!((output(&observed), observed.odd_usage), (Some(50), true));
    // The same twice is the same; trailing usage after the end is read.
    let (_, _, observed) = stream(&format!("{}data: [DONE]\n\n{}", usage_chunk(&usage(50)), usage_chunk(&usage(50))));
    assert_eq!((output(&observed), observed.odd_usage), (Some(50), false));
    let (_, _, observed) = stream(&format!("{}data: [DONE]\n\n{}", delta("hi"), usage_chunk(&usage(5))));
    assert_eq!(output(&observed), Some(5));
}

/// A chunk with a choice, and the usage so far.
fn running(usage: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}}}}],\"usage\":{usage}}}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";
const BEGUN: &str = r#"{"prompt_tokens":32,"completion_tokens":0,"total_tokens":32}"#;
const LATER: &str = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":41}"#;

#[test]
fn a31_usage_that_cannot_be_true_leaves_no_other_in_force() {
    // 310 tokens that were not shown are in the total, and not in the output.
    let odd = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":351,"completion_tokens_details":{"reasoning_tokens":310}}"#;
    let broken = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":32,\n\n";
    for said in [
        format!("{}{}", running(BEGUN), running(odd)),
        format!("{}{}", running(BEGUN), usage_chunk(odd)),
        format!("{}{}", running(BEGUN), usage_chunk("{\"prompt_tokens\":NaN}")),
        format!("{}{broken}", running(BEGUN)),
        // Whether a later one has it all nobody knows.
        format!("{}{}{}", running(BEGUN), running(odd), running(LATER)),
        format!("{}{}", usage_chunk(odd), usage_chunk(LATER)),
        format!("{broken}{}", usage_chunk(LATER)),
    ] {
        let (_, _, observed) = stream(&format!("{said}{DONE}"));
        assert_eq!((observed.usage, observed.odd_usage, observed.finished), (None, true, true), "{said}");
    }
}

#[test]
fn a31_what_says_nothing_of_usage_is_not_the_last_word() {
    let output = |text: &str| {
        let (_, _, observed) = stream(&format!("{text}{DONE}"));
        (observed.usage.map(|usage| usage.output), observed.odd_usage)
    };
    let zeros = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"prompt_tokens_details":null}"#;
    for blank in ["{}", zeros, r#"{"prompt_tokens":0,"prompt_tokens_details":{"cached_tokens":0}}"#] {
        assert_eq!(output(&format!("{}{}", running(LATER), running(blank))), (None, true), "{blank}");
        assert_eq!(output(&format!("{}{}", running(blank), running(LATER))), (Some(9), true), "{blank}");
        // One that shrinks in between is no cheaper for it.
        let shrunk = format!("{}{}{}", running(LATER), running(blank), running(BEGUN));
        assert_eq!(output(&shrunk), (Some(9), true), "{blank}");
    }
    // Half a surrogate pair: no JSON, and text that the usage before does not count. It says of usage that there is none.
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}],\"usage\" : null}\n\n";
    assert_eq!(output(&format!("{}{text}", running(BEGUN))), (None, false));
    assert_eq!(output(&format!("{}{text}{}", running(BEGUN), running(LATER))), (Some(9), false));
    assert_eq!(output(&format!("{}{text}", usage_chunk(LATER))), (Some(9), false));
}

#[test]
fn a31_an_error_in_a_stream_leaves_no_usage() {
    for error in [
        "data: {\"error\":{\"message\":\"x\"}}\n\n",
        "event: error\ndata: {\"message\":\"x\"}\n\n",
        "data: {\"object\":\"error\",\"message\":\"x\"}\n\n",
    ] {
        for said in [
            format!("{}{error}", running(LATER)),
            format!("{}{error}", usage_chunk(LATER)),
            format!("{error}{}", usage_chunk(LATER)),
        ] {
            let (_, _, observed) = stream(&format!("{said}{DONE}"));
            assert_eq!((observed.usage, observed.error, observed.odd_usage), (None, true, false), "{said}");
        }
    }
}

#[test]
fn bytes_that_make_no_whole_event_are_pending() {
    let open = |ceiling| reader(json!({"stream": true}), true, ceiling);
    let (event, mut emit) = (delta("hi"), BytesMut::new());
    let mut stream = open(u64::MAX);
    assert_eq!(stream.pending(), 0);
    for (at, byte) in event.bytes().enumerate() {
        stream.push(&[byte], &mut emit);
        let want = if at + 1 == event.len() { 0 } else { at as u64 + 1 };
        assert_eq!(stream.pending(), want);
    }
    stream.push(format!("{event}{event}data: ").as_bytes(), &mut emit);
    assert_eq!(stream.pending(), 6);
    stream.finish(&mut emit);
    assert_eq!(stream.pending(), 0);
    // What stands behind the event that crosses the ceiling was not metered either.
    let mut stream = open(1);
    let progress = stream.push(format!("{}{event}{event}", delta(" hello hello")).as_bytes(), &mut emit);
    assert_eq!((progress, stream.pending()), (Progress::Ceiling, 2 * event.len() as u64));
    let mut compressed = open(u64::MAX);
    assert_eq!((compressed.push(b"\x1f\x8b\x08", &mut emit), compressed.pending()), (Progress::Unreadable, 3));
    // An answer in one piece is not metered while it comes.
    let mut whole = reader(json!({}), false, u64::MAX);
    whole.push(b"{\"choices\":", &mut emit);
    assert_eq!(whole.pending(), 0);
}

#[test]
fn a31_usage_smaller_than_what_was_streamed() {
    // " hello" is one token: a hundred of them cannot have been seven.
    let text = delta(" hello").repeat(100);
    let small = r#"{"prompt_tokens":19,"completion_tokens":7,"total_tokens":26}"#;
    let (_, _, observed) = stream(&format!("{text}{}data: [DONE]\n\n", usage_chunk(small)));
    assert_eq!((observed.usage.unwrap().output, observed.odd_usage), (100, true));
    let body = json!({"choices": [{"message": {"role": "assistant", "content": " hello".repeat(100)}}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 7, "total_tokens": 26}});
    let (_, _, observed) = whole(&body.to_string());
    assert_eq!((observed.usage.unwrap().output, observed.odd_usage), (100, true));
    // Exactly what was streamed is not odd.
    let exact = r#"{"prompt_tokens":19,"completion_tokens":100,"total_tokens":119}"#;
    let (_, _, observed) = stream(&format!("{text}{}data: [DONE]\n\n", usage_chunk(exact)));
    assert_eq!((observed.usage.unwrap().output, observed.odd_usage), (100, false));
}

#[test]
fn a32_output_beyond_the_ceiling_is_not_emitted() {
    // 100 tokens pass under a ceiling of 100, though they have 600 bytes; the 101st does not.
    let text = delta(" hello").repeat(150);
    let (emitted, progress, observed) = run(reader(json!({"stream": true}), true, 100), &[text.as_bytes()]);
    assert_eq!(progress, Progress::Ceiling);
    assert_eq!(emitted, delta(" hello").repeat(100).into_bytes());
    assert_eq!(observed.usage, None);
    assert!((101..=101 + 16).contains(&observed.streamed_tokens), "{}", observed.streamed_tokens);
    // After that nothing is emitted.
    let mut reader = reader(json!({"stream": true}), true, 1);
    let mut emit = BytesMut::new();
    assert_eq!(reader.push(delta(" hello hello").as_bytes(), &mut emit), Progress::Ceiling);
    assert_eq!(reader.push(b"data: [DONE]\n\n", &mut emit), Progress::Ceiling);
    assert_eq!(reader.finish(&mut emit), Progress::Ceiling);
    assert!(emit.is_empty());
}

#[test]
fn a32_a_ceiling_counts_all_that_is_generated() {
    for piece in [
        json!({"content": " hello hello hello"}),
        json!({"refusal": " hello hello hello"}),
        json!({"reasoning_content": " hello hello hello"}),
        json!({"function_call": {"name": "f", "arguments": " hello hello hello"}}),
        json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": " hello hello"}}]}),
        json!({"tool_calls": [{"index": 0, "custom": {"name": "f", "input": " hello hello"}}]}),
        json!({"something_new": {"deep": [" hello"]}}),
    ] {
        let event = |choice: u64| format!("data: {}\n\n", json!({"choices": [{"index": choice, "delta": piece}]}));
        let reader = || reader(json!({"stream": true, "n": 2}), true, 5);
        let (emitted, progress, _) = run(reader(), &[event(0).as_bytes(), event(1).as_bytes()]);
        assert_eq!(progress, Progress::Ceiling, "{piece}");
        assert!(emitted.len() <= event(0).len());
    }
    // Roles and ids are not output.
    let event = format!(
        "data: {}\n\n",
        json!({"choices": [{"delta": {"role": "assistant", "tool_calls": [{"id": "call_123456789", "type": "function"}]}}]})
    );
    assert_eq!(run(reader(json!({"stream": true}), true, 0), &[event.as_bytes()]).1, Progress::More);
}

#[test]
fn a_model_without_a_public_tokenizer_is_not_cut_for_its_bytes() {
    let fields = json!({"model": "gpt-6-luna", "stream": true});
    let text = delta(" hello").repeat(100);
    let told = |ceiling| OpenAi.answer(CHAT, &call(fields.clone()), head(true), ceiling);
    let (_, progress, observed) = run(told(Ceiling::Certain(100)), &[text.as_bytes()]);
    assert_eq!(progress, Progress::More);
    assert!(observed.streamed_tokens >= 600);
    let (_, progress, _) = run(told(Ceiling::Certain(100)), &[text.repeat(3).as_bytes()]);
    assert_eq!(progress, Progress::Ceiling);
    // Where the provider was told no limit, what may be too much is too much.
    let (_, progress, _) = run(told(Ceiling::Possible(100)), &[text.as_bytes()]);
    assert_eq!(progress, Progress::Ceiling);
}

#[test]
fn an_obedient_stream_is_never_cut() {
    // As many tokens as the limit says, in any text: the certain count never exceeds them.
    for text in [" hello", "\u{fdfa}", "😀", "a b", "  \n", "===="] {
        let exact = crate::provider::tokens::count(crate::pricing::Tokenizer::O200kBase, &text.repeat(50));
        let stream = OpenAi.answer(CHAT, &call(json!({"stream": true})), head(true), Ceiling::Certain(exact));
        assert_eq!(run(stream, &[delta(text).repeat(50).as_bytes()]).1, Progress::More, "{text:?}");
    }
}

#[test]
fn errors_in_a_stream_are_seen() {
    for (text, want) in [
        ("data: {\"error\":{\"message\":\"x\"}}\n\n", true),
        ("event: error\ndata: {\"message\":\"x\"}\n\n", true),
        ("data: {\"error\":\"x\"}\n\n", true),
        ("data: {\"error\":null,\"choices\":[]}\n\n", false),
        ("data: {\"error\":\"\"}\n\n", false),
    ] {
        let (emitted, _, observed) = stream(text);
        assert_eq!((observed.error, emitted), (want, text.as_bytes().to_vec()), "{text}");
    }
}

#[test]
fn a30_a_compressed_answer_is_unreadable() {
    for is_stream in [true, false] {
        let (emitted, progress, observed) =
            run(reader(json!({"stream": true}), is_stream, u64::MAX), &[b"\x1f\x8b\x08\x00", b"x"]);
        assert_eq!((emitted.len(), progress, observed.usage), (0, Progress::Unreadable, None));
    }
}

#[test]
fn a33_an_answer_of_any_size_passes_and_its_usage_is_read() {
    let row = format!("[{}0.5],", "0.123456,".repeat(1000));
    let body = format!(
        r#"{{"object":"list","data":[{}[]],"model":"m","usage":{{"prompt_tokens":9,"total_tokens":9}}}}"#,
        row.repeat(1500)
    );
    let reading = Reading::plain("openai", &PRICES);
    let request = Bytes::from_static(br#"{"model":"text-embedding-3-small","input":"x"}"#);
    let route = super::super::EMBEDDINGS;
    let call = OpenAi.read(Request::plain(route, "", request), &reading).unwrap();
    for size in [body.len(), 65_536] {
        let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        let (emitted, progress, observed) = run(OpenAi.answer(route, &call, head(false), Ceiling::Certain(0)), &chunks);
        assert_eq!((emitted.len(), progress), (body.len(), Progress::More));
        assert_eq!(observed.usage, Some(Usage { input: 9, ..Usage::default() }));
    }
    // A truncated body has no usage.
    let (_, _, observed) =
        run(OpenAi.answer(route, &call, head(false), Ceiling::Certain(0)), &[&body.as_bytes()[..body.len() - 1]]);
    assert_eq!(observed.usage, None);
}

proptest! {
    #[test]
    fn any_split_reads_alike(
        texts in prop::collection::vec(any::<String>(), 0..12),
        ceiling in prop_oneof![Just(u64::MAX), 0..200u64],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let deltas: String = texts.iter().map(|text| delta(text)).collect();
        let text = format!("{deltas}{}data: [DONE]\n\n", usage_chunk(GOOD));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            chunks.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        let fields = json!({"stream": true});
        let whole = run(reader(fields.clone(), true, ceiling), &[text.as_bytes()]);
        prop_assert_eq!(&run(reader(fields, true, ceiling), &chunks), &whole);
        let spoken = texts.concat();
        let exact = crate::provider::tokens::count(crate::pricing::Tokenizer::O200kBase, &spoken);
        if whole.1 == Progress::Ceiling {
            prop_assert!(exact > ceiling || spoken.len() as u64 > ceiling);
        } else {
            prop_assert!(exact <= ceiling);
            prop_assert!(whole.2.streamed_tokens >= exact);
            prop_assert_eq!(whole.0, format!("{deltas}data: [DONE]\n\n").into_bytes());
        }
    }
}

//! Answer bytes → meter: what the client gets and what is booked do not depend on how the bytes were split.

use bytes::{Bytes, BytesMut};
use http::Method;
use loopers::pricing::PriceTable;
use loopers::provider::openai::OpenAi;
use loopers::provider::{AnswerHead, Call, Ceiling, Observed, Progress, Provider, Reading, Request, Route};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fuzz;
use super::texts::{Damage, damaged, damages, text};

/// One event of a stream.
#[derive(Clone, Debug)]
enum Event {
    Text(u64, String),
    Tool(String),
    Finish(u64),
    Usage { input: u64, cached: u64, output: u64 },
    Done,
    Error,
    Comment(String),
    Odd(Value),
    Raw(Vec<u8>),
}

#[test]
fn answer_bytes_to_meter_in_any_split() {
    let calls = [chat(false), chat(true)];
    let stream = (vec(event(), 0..24), line_end(), damages());
    let input = (stream, splits(), ceiling(), 0..2usize);
    fuzz("answer_bytes_to_meter_in_any_split", 300, input, |((events, line_end, damages), splits, ceiling, asked)| {
        let (route, call) = &calls[*asked];
        let bytes = damaged(&stream_bytes(events, line_end), damages);
        let whole = run(*route, call, true, *ceiling, std::iter::once(&bytes[..]));
        let pieces = run(*route, call, true, *ceiling, cut(&bytes, splits));
        prop_assert_eq!(text_of(&whole.emitted), text_of(&pieces.emitted), "the client gets something else");
        prop_assert_eq!(&whole.observed, &pieces.observed);
        prop_assert_eq!(whole.end, pieces.end);
        check_count(events, damages, &whole)?;
        Ok(whole.end == Progress::More)
    });
}

#[test]
fn whole_answer_to_usage_in_any_split() {
    let (route, call) = chat(false);
    // A usage of nothing, or of less than the text has, is not believed; see the provider's own tests.
    let usage = (1..100_000u64, 1..100_000u64, text()).prop_map(|(input, more, text)| {
        let output = bpe_openai::o200k_base().count(text.as_str()) as u64 + more;
        json!({"id": "x", "object": "chat.completion", "model": "gpt-4o-mini",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
               "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}})
    });
    fuzz("whole_answer_to_usage_in_any_split", 300, (usage, damages(), splits()), |(answer, damages, splits)| {
        let bytes = damaged(answer.to_string().as_bytes(), damages);
        let ceiling = Ceiling::Certain(1 << 40);
        let whole = run(route, &call, false, ceiling, std::iter::once(&bytes[..]));
        let pieces = run(route, &call, false, ceiling, cut(&bytes, splits));
        prop_assert_eq!(text_of(&whole.emitted), text_of(&pieces.emitted));
        prop_assert_eq!(&whole.observed, &pieces.observed);
        if damages.is_empty() {
            prop_assert_eq!(text_of(&whole.emitted), answer.to_string(), "an answer passes as it is");
            let usage = whole.observed.usage.ok_or_else(|| TestCaseError::fail("the usage was not seen"))?;
            prop_assert_eq!(Some(usage.total_input()), answer["usage"]["prompt_tokens"].as_u64());
            prop_assert_eq!(Some(usage.total_output()), answer["usage"]["completion_tokens"].as_u64());
        }
        Ok(whole.observed.usage.is_some())
    });
}

// === Running a reader ===

struct Outcome {
    emitted: Vec<u8>,
    observed: Observed,
    end: Progress,
}

fn chat(asks_for_usage: bool) -> (Route, Call) {
    let path = "/v1/chat/completions";
    let route = OpenAi.route(&Method::POST, path, None).expect("the route exists");
    let prices = PriceTable::builtin().unwrap();
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    if asks_for_usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    let reading = Reading::plain("openai", &prices);
    let call = OpenAi.read(Request::plain(route, path, Bytes::from(body.to_string())), &reading);
    (route, call.unwrap_or_else(|reject| panic!("{reject:?}")))
}

fn run<'a>(
    route: Route,
    call: &Call,
    stream: bool,
    ceiling: Ceiling,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Outcome {
    let mut reader = OpenAi.answer(
        route,
        call,
        &AnswerHead::plain(if stream { "text/event-stream" } else { "application/json" }),
        ceiling,
    );
    let mut emit = BytesMut::new();
    let mut end = Progress::More;
    for piece in pieces {
        end = reader.push(piece, &mut emit);
        if end != Progress::More {
            break;
        }
    }
    if end == Progress::More {
        end = reader.finish(&mut emit);
    }
    Outcome { emitted: emit.to_vec(), observed: reader.observed(true).clone(), end }
}

/// The bytes in pieces of the given lengths, over and over.
fn cut<'a>(mut bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = (*lengths.next()?).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The meter never counts less than the tokenizer finds in the text that was streamed.
fn check_count(events: &[Event], damages: &[Damage], outcome: &Outcome) -> super::Check {
    let honest = |event: &Event| matches!(event, Event::Text(..) | Event::Comment(_));
    if !damages.is_empty() || outcome.end != Progress::More || !events.iter().all(honest) {
        return Ok(());
    }
    let mut samples = [String::new(), String::new()];
    for event in events {
        if let Event::Text(index, text) = event {
            samples[*index as usize].push_str(text);
        }
    }
    let tokens: usize = samples.iter().map(|text| bpe_openai::o200k_base().count(text.as_str())).sum();
    let counted = outcome.observed.streamed_tokens;
    prop_assert!(tokens as u64 <= counted, "{tokens} tokens in the text, {counted} counted");
    Ok(())
}

// === What comes in ===

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..2u64, text()).prop_map(|(index, text)| Event::Text(index, text)),
        2 => text().prop_map(Event::Tool),
        2 => (0..2u64).prop_map(Event::Finish),
        2 => (0..5000u64, 0..5000u64, 0..5000u64).prop_map(|(input, cached, output)| Event::Usage { input, cached, output }),
        2 => Just(Event::Done),
        1 => Just(Event::Error),
        1 => "[ -~]{0,12}".prop_map(Event::Comment),
        1 => prop_oneof![Just(json!(null)), Just(json!([])), Just(json!({"choices": 7})), Just(json!({"choices": [], "usage":
            {"prompt_tokens": -1, "completion_tokens": 1.5}}))].prop_map(Event::Odd),
        1 => vec(any::<u8>(), 0..20).prop_map(Event::Raw),
    ]
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r")]
}

fn splits() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(1..8usize, 1..6), vec(1..200usize, 1..6)]
}

fn ceiling() -> impl Strategy<Value = Ceiling> {
    prop_oneof![
        4 => Just(Ceiling::Certain(1 << 40)),
        1 => (0..200u64).prop_map(Ceiling::Certain),
        1 => (0..400u64).prop_map(Ceiling::Possible),
    ]
}

fn stream_bytes(events: &[Event], line_end: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        match event {
            Event::Comment(text) => bytes.extend_from_slice(format!(": {text}").as_bytes()),
            Event::Raw(raw) => bytes.extend_from_slice(raw),
            other => bytes.extend_from_slice(format!("data: {}", data(other)).as_bytes()),
        }
        bytes.extend_from_slice(line_end.as_bytes());
        bytes.extend_from_slice(line_end.as_bytes());
    }
    bytes
}

fn data(event: &Event) -> String {
    let chunk = |choices: Value| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": choices, "usage": null});
    match event {
        Event::Text(index, text) => {
            chunk(json!([{"index": index, "delta": {"content": text}, "finish_reason": null}])).to_string()
        }
        Event::Tool(text) => {
            let call = json!([{"index": 0, "function": {"arguments": text}}]);
            chunk(json!([{"index": 0, "delta": {"tool_calls": call}, "finish_reason": null}])).to_string()
        }
        Event::Finish(index) => chunk(json!([{"index": index, "delta": {}, "finish_reason": "stop"}])).to_string(),
        Event::Usage { input, cached, output } => {
            let mut last = chunk(json!([]));
            last["usage"] = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                                   "prompt_tokens_details": {"cached_tokens": cached}});
            last.to_string()
        }
        Event::Done => "[DONE]".to_string(),
        Event::Error => json!({"error": {"message": "overloaded", "type": "server_error", "code": null}}).to_string(),
        Event::Odd(value) => value.to_string(),
        Event::Comment(_) | Event::Raw(_) => String::new(),
    }
}

//! Answers: usage that cannot be true, tiers, ends, ceilings, errors.

use bytes::BytesMut;
use serde_json::json;

use super::*;
use crate::pricing::Usage;
use crate::provider::gemini::Gemini;
use crate::provider::gemini::tests::{PRICES, fees, path, read_with, with};
use crate::provider::{AnswerReader, Options, Progress, Provider};

fn call_with(
    model: &str,
    verb: &str,
    query: Option<&str>,
    fields: serde_json::Value,
    options: &Options,
) -> (Route, Call) {
    let path = path(model, verb);
    let route = Gemini.route(&http::Method::POST, &path, query).unwrap();
    (route, read_with(&path, query, &with(fields).to_string(), options).ok().unwrap())
}

fn reader_of(call: &(Route, Call), kind: &str, ceiling: Ceiling) -> Box<dyn AnswerReader> {
    Gemini.answer(call.0, &call.1, &AnswerHead::plain(kind), ceiling)
}

fn sse(fields: serde_json::Value) -> Box<dyn AnswerReader> {
    let call = call_with("gemini-3.8-flash", "streamGenerateContent", Some("alt=sse"), fields, &Options::default());
    reader_of(&call, "text/event-stream", Ceiling::Certain(u64::MAX))
}

fn whole_of(model: &str, fields: serde_json::Value) -> Box<dyn AnswerReader> {
    let call = call_with(model, "generateContent", None, fields, &fees());
    reader_of(&call, "application/json", Ceiling::Certain(u64::MAX))
}

/// Reads to the end and returns what was emitted, how it ended, and what was observed.
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

fn event(chunk: &serde_json::Value) -> String {
    format!("data: {chunk}\r\n\r\n")
}

fn chunk(text: &str, is_last: bool, usage: serde_json::Value) -> serde_json::Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}]}});
    if is_last {
        candidate["finishReason"] = json!("STOP");
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3.8-flash"})
}

fn stream(chunks: &[serde_json::Value]) -> Observed {
    let text: String = chunks.iter().map(event).collect();
    let (emitted, progress, observed) = run(sse(json!({})), &[text.as_bytes()]);
    assert_eq!((emitted, progress), (text.into_bytes(), Progress::More));
    observed
}

fn one(usage: serde_json::Value) -> Observed {
    stream(&[chunk("hi", true, usage)])
}

#[test]
fn cap_31_usage_that_cannot_be_true_is_no_usage() {
    for bad in [
        json!({}),
        json!([]),
        json!("many"),
        json!(7),
        json!({"promptTokenCount": 0, "candidatesTokenCount": 5}),
        json!({"candidatesTokenCount": 5}),
        json!({"promptTokenCount": -1}),
        json!({"promptTokenCount": 1.5}),
        json!({"promptTokenCount": "1.5"}),
        json!({"promptTokenCount": "-3"}),
        json!({"promptTokenCount": ""}),
        json!({"promptTokenCount": true}),
        json!({"promptTokenCount": [3]}),
        json!({"promptTokenCount": 1u64 << 63}),
        json!({"promptTokenCount": 5, "candidatesTokenCount": -1}),
        json!({"promptTokenCount": 5, "thoughtsTokenCount": "x"}),
        json!({"promptTokenCount": 5, "cachedContentTokenCount": 6}),
        json!({"promptTokenCount": 5, "candidatesTokenCount": 5, "totalTokenCount": 11}),
        json!({"promptTokenCount": 5, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6}]}),
        json!({"promptTokenCount": 5, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": -1}]}),
        json!({"promptTokenCount": 5, "promptTokensDetails": {"TEXT": 5}}),
        json!({"promptTokenCount": 5, "candidatesTokenCount": 1, "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 2}]}),
    ] {
        let observed = one(bad.clone());
        assert_eq!((observed.usage, observed.odd_usage, observed.finished), (None, true, false), "{bad}");
    }
    let text = r#"data: {"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":NaN}}"#;
    let (_, _, observed) = run(sse(json!({})), &[text.as_bytes()]);
    assert_eq!((observed.usage, observed.odd_usage), (None, true));
    // Counts may be strings, zeros may be missing, and a sum that is too small is only strange.
    let observed = one(json!({"promptTokenCount": "5", "candidatesTokenCount": "7"}));
    assert_eq!(observed.usage, Some(Usage { input: 5, output: 7, ..Usage::default() }));
    let observed = one(json!({"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 8}));
    assert_eq!((observed.usage.map(|usage| usage.output), observed.odd_usage), (Some(7), true));
    // A count that nobody knows is told.
    assert!(one(json!({"promptTokenCount": 5, "dreamTokenCount": 7})).odd_usage);
    let known = json!({"promptTokenCount": 5, "candidatesTokenCount": 1, "trafficType": "ON_DEMAND", "serviceTier": "standard"});
    assert!(!one(known).odd_usage);
}

#[test]
fn cap_31_usage_smaller_than_what_was_streamed() {
    let text = "one two three four five six seven eight nine ten";
    let usage = |output: u64| json!({"promptTokenCount": 5, "candidatesTokenCount": output});
    // Ten words take five tokens at least, however they are spelt.
    for (output, is_true) in [(0, false), (1, false), (4, false), (5, true), (10, true)] {
        let observed = stream(&[chunk(text, true, usage(output))]);
        assert_eq!((observed.usage.is_some(), observed.odd_usage), (is_true, !is_true), "{output}");
    }
}

#[test]
fn cap_31_usage_grows_and_the_last_one_counts() {
    let usage =
        |output: u64| json!({"promptTokenCount": 5, "candidatesTokenCount": output, "totalTokenCount": 5 + output});
    let grown = [chunk("a", false, usage(1)), chunk("b", false, usage(2)), chunk("c", true, usage(9))];
    let observed = stream(&grown);
    assert_eq!(
        (observed.usage.map(|usage| usage.output), observed.finished, observed.odd_usage),
        (Some(9), true, false)
    );
    // What came before the end is not the usage, nor is the usage of a chunk before it.
    assert_eq!(stream(&grown[..2]).usage, None);
    let silent = json!({"candidates": [{"finishReason": "STOP"}]});
    let observed = stream(&[grown[1].clone(), silent]);
    assert_eq!((observed.usage, observed.finished), (None, false));
    // After the end it is.
    let late = json!({"usageMetadata": usage(9)});
    let ended = json!({"candidates": [{"finishReason": "STOP"}]});
    assert_eq!(stream(&[ended, late]).usage.map(|usage| usage.output), Some(9));
    // One that shrinks does not replace a dearer one; the same twice is the same.
    let observed = stream(&[chunk("a", true, usage(50)), chunk("b", true, usage(20))]);
    assert_eq!((observed.usage.map(|usage| usage.output), observed.odd_usage), (Some(50), true));
    let observed = stream(&[chunk("a", true, usage(50)), json!({"usageMetadata": usage(50)})]);
    assert_eq!((observed.usage.map(|usage| usage.output), observed.odd_usage), (Some(50), false));
    // One that cannot be true after a good one leaves doubt.
    let observed = stream(&[chunk("a", true, usage(50)), json!({"usageMetadata": {"promptTokenCount": -1}})]);
    assert_eq!((observed.usage, observed.odd_usage), (None, true));
}

#[test]
fn cap_28_a_stream_is_over_when_all_its_candidates_are() {
    let usage = json!({"promptTokenCount": 5, "candidatesTokenCount": 7});
    let part = |index: u64, is_last: bool| {
        let mut chunk = chunk("a", is_last, usage.clone());
        chunk["candidates"][0]["index"] = json!(index);
        event(&chunk)
    };
    let two = || sse(json!({"generationConfig": {"candidateCount": 2}}));
    let observe = |text: &str| run(two(), &[text.as_bytes()]).2;
    let observed = observe(&(part(0, true) + &part(1, false)));
    assert_eq!((observed.usage, observed.finished), (None, false));
    // One is over, the other has not begun: at the end of the stream that is all, before it it may not be.
    let observed = observe(&part(0, true));
    assert!(observed.usage.is_some() && !observed.finished);
    let observed = observe(&(part(0, true) + &part(1, true)));
    assert!(observed.usage.is_some() && observed.finished);
}

#[test]
fn what_is_not_attributed_is_billed_at_the_dearest_that_the_request_may_mean() {
    let audio = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]}]});
    let answer = |fields: &serde_json::Value, usage: serde_json::Value| {
        let body = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"});
        run(whole_of("gemini-2.5-flash", fields.clone()), &[body.to_string().as_bytes()]).2.usage.unwrap()
    };
    // 2.5 Flash: audio costs 1 USD, text 0.30.
    let usage = answer(&audio, json!({"promptTokenCount": 100}));
    assert_eq!((usage.input, usage.audio_in), (0, 100));
    let usage = answer(
        &audio,
        json!({"promptTokenCount": 100, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 30}]}),
    );
    assert_eq!((usage.input, usage.audio_in), (30, 70));
    let usage = answer(&json!({}), json!({"promptTokenCount": 100}));
    assert_eq!((usage.input, usage.audio_in), (100, 0));
    // What an answer names counts, also where the request had none of it.
    let usage = answer(
        &json!({}),
        json!({"promptTokenCount": 100, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}]}),
    );
    assert_eq!(usage.audio_in, 100);
    // A cache that is not said to hold audio holds text first: it saves less.
    let split = json!([{"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 40}]);
    let usage =
        answer(&audio, json!({"promptTokenCount": 100, "promptTokensDetails": split, "cachedContentTokenCount": 70}));
    assert_eq!((usage.input, usage.cache_read, usage.audio_in, usage.audio_in_cached), (0, 60, 30, 10));
    let usage = answer(
        &audio,
        json!({"promptTokenCount": 100, "promptTokensDetails": split, "cachedContentTokenCount": 70,
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}, {"modality": "TEXT", "tokenCount": 30}]}),
    );
    assert_eq!((usage.input, usage.cache_read, usage.audio_in, usage.audio_in_cached), (30, 30, 0, 40));
    // A modality that nobody knows is the dearest, and told.
    let unknown = json!({"promptTokenCount": 10, "promptTokensDetails": [{"modality": "SMELL", "tokenCount": 10}]});
    assert_eq!(answer(&audio, unknown.clone()).audio_in, 10);
    assert!(one(unknown).odd_usage);
    // A painter's output that is not attributed is paint.
    let body = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 50}});
    let usage = run(whole_of("gemini-paints", json!({})), &[body.to_string().as_bytes()]).2.usage.unwrap();
    assert_eq!((usage.output, usage.image_out), (0, 50));
    // Media of an answer of text only cannot be paint.
    let text = json!({"generationConfig": {"responseModalities": ["TEXT"]}});
    let usage = run(whole_of("gemini-paints", text), &[body.to_string().as_bytes()]).2.usage.unwrap();
    assert_eq!((usage.output, usage.image_out), (50, 0));
}

#[test]
fn the_tier_is_the_answers() {
    let tier = |asked: Option<&str>, header: Option<&str>, usage: serde_json::Value| {
        let fields = asked.map_or(json!({}), |asked| json!({"serviceTier": asked}));
        let (route, call) = call_with("gemini-3.8-flash", "generateContent", None, fields, &Options::default());
        let mut headers = http::HeaderMap::new();
        if let Some(header) = header {
            headers.insert("x-gemini-service-tier", header.parse().unwrap());
        }
        let head = AnswerHead { status: 200, content_type: Some("application/json"), headers: &headers };
        let mut body = chunk("a", true, json!({"promptTokenCount": 1}));
        body["usageMetadata"].as_object_mut().unwrap().extend(usage.as_object().unwrap().clone());
        let reader = Gemini.answer(route, &call, &head, Ceiling::Certain(u64::MAX));
        run(reader, &[body.to_string().as_bytes()]).2.tier
    };
    let said = |name: &str| json!({"serviceTier": name});
    assert_eq!(tier(None, None, json!({})), Tier::Standard);
    assert_eq!(tier(Some("flex"), None, json!({})), Tier::Standard);
    assert_eq!(tier(Some("flex"), None, said("flex")), Tier::Flex);
    assert_eq!(tier(Some("flex"), Some("flex"), json!({})), Tier::Flex);
    assert_eq!(tier(Some("priority"), None, json!({})), Tier::Priority);
    assert_eq!(tier(Some("priority"), None, said("standard")), Tier::Standard);
    assert_eq!(tier(Some("priority"), Some("standard"), json!({})), Tier::Standard);
    // Where two say different things, the dearer; what nobody knows is the dearest.
    assert_eq!(tier(None, Some("priority"), said("standard")), Tier::Priority);
    assert_eq!(tier(None, Some("flex"), said("PRIORITY")), Tier::Priority);
    assert_eq!(tier(None, None, said("warp")), Tier::Ultrafast);
    assert_eq!(tier(None, Some("warp"), said("standard")), Tier::Ultrafast);
    assert_eq!(tier(None, None, json!({"trafficType": "ON_DEMAND_PRIORITY"})), Tier::Priority);
    assert_eq!(tier(None, None, json!({"trafficType": "ON_DEMAND_FLEX", "serviceTier": "standard"})), Tier::Standard);
}

#[test]
fn searches_are_counted() {
    let fees_of = |model: &str, tools: serde_json::Value, metadata: serde_json::Value| {
        let mut body = chunk("a", true, json!({"promptTokenCount": 1}));
        body["candidates"][0]["groundingMetadata"] = metadata;
        run(whole_of(model, json!({"tools": tools})), &[body.to_string().as_bytes()]).2.fees.nano()
    };
    let search = json!([{"googleSearch": {}}]);
    let queries = json!({"webSearchQueries": ["a", "a", "b", "", " "], "imageSearchQueries": ["a", "c"]});
    assert_eq!(fees_of("gemini-3.8-flash", search.clone(), queries.clone()), 3 * 14_000_000);
    assert_eq!(fees_of("gemini-2.5-flash", search.clone(), queries.clone()), 35_000_000);
    assert_eq!(fees_of("gemini-2.5-flash", search.clone(), json!({})), 0);
    assert_eq!(
        fees_of("gemini-2.5-flash", search.clone(), json!({"groundingChunks": [{"web": {"uri": "x"}}]})),
        35_000_000
    );
    // More than was held for is charged all the same.
    let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(fees_of("gemini-3.8-flash", search.clone(), json!({"webSearchQueries": many})), 40 * 14_000_000);
    // No price says how this model is billed: by the query.
    assert_eq!(fees_of("gemini-plain", search.clone(), queries), 3 * 14_000_000);
    let maps = json!([{"googleMaps": {}}]);
    assert_eq!(
        fees_of("gemini-2.5-flash", maps.clone(), json!({"groundingChunks": [{"maps": {"uri": "x"}}]})),
        25_000_000
    );
    assert_eq!(fees_of("gemini-3.8-flash", maps.clone(), json!({"googleMapsWidgetContextToken": "x"})), 2 * 25_000_000);
    assert_eq!(fees_of("gemini-3.8-flash", maps, json!({})), 0);
    // What the answer does not count is charged as it was held.
    assert_eq!(fees_of("gemini-3.8-flash", json!([{"fileSearch": {}}]), json!({})), 2_500_000);
    // An answer whose candidates were too large to read may have searched as often as was held for.
    let huge = json!({"candidates": [{"content": {"parts": [{"text": "x".repeat(5 << 20)}]}}], "usageMetadata": {"promptTokenCount": 1}});
    let fees_told = |body: &serde_json::Value| {
        let reader = whole_of("gemini-3.8-flash", json!({"tools": search}));
        let (_, _, observed) = run(reader, &[body.to_string().as_bytes()]);
        (observed.usage.is_some(), observed.fees.nano())
    };
    assert_eq!(fees_told(&huge), (true, 5 * 14_000_000));
    let mut blocked = huge;
    blocked["promptFeedback"] = json!({"blockReason": "SAFETY"});
    assert_eq!(fees_told(&blocked), (true, 5 * 14_000_000));
    // The same of a chunk that is no JSON.
    let call =
        call_with("gemini-3.8-flash", "streamGenerateContent", Some("alt=sse"), json!({"tools": search}), &fees());
    let lost = r#"data: {"candidates":[{"groundingMetadata":{"webSearchQueries":["\ud800"]}}]}"#;
    let text = format!("{lost}\r\n\r\n{}", event(&chunk("a", true, json!({"promptTokenCount": 1}))));
    let (_, _, observed) = run(reader_of(&call, "text/event-stream", Ceiling::Certain(u64::MAX)), &[text.as_bytes()]);
    assert_eq!(observed.fees.nano(), 5 * 14_000_000);
}

#[test]
fn bytes_that_make_no_whole_element_are_pending() {
    let call = call_with("gemini-plain", "streamGenerateContent", None, json!({}), &Options::default());
    let mut reader = reader_of(&call, "application/json", Ceiling::Certain(1));
    let mut emit = BytesMut::new();
    for (piece, want) in [("[{\"a\":", 6), ("1},{", 2), ("\"b\":1}\n]", 2)] {
        assert_eq!(reader.push(piece.as_bytes(), &mut emit), Progress::More);
        assert_eq!(reader.pending(), want, "{piece}");
    }
    reader.finish(&mut emit);
    assert_eq!((reader.pending(), &emit[..]), (0, &b"[{\"a\":1},{\"b\":1}\n]"[..]));
}

#[test]
fn the_model_is_the_answers() {
    let mut body = chunk("a", true, json!({"promptTokenCount": 1}));
    body["modelVersion"] = json!("models/gemini-2.5-flash");
    let (_, _, observed) = run(whole_of("gemini-3.8-flash", json!({})), &[body.to_string().as_bytes()]);
    assert_eq!(observed.model.as_deref(), Some("gemini-2.5-flash"));
    assert!(PRICES.for_model("gemini", "gemini-2.5-flash").is_some());
}

#[test]
fn cap_32_output_beyond_the_ceiling_is_not_emitted() {
    let plain = call_with("gemini-plain", "streamGenerateContent", Some("alt=sse"), json!({}), &Options::default());
    assert!(plain.1.cuttable);
    // The call of a function is shown when all of it is written.
    let function = json!({"tools": [{"functionDeclarations": [{"name": "f"}]}]});
    let called = call_with("gemini-plain", "streamGenerateContent", Some("alt=sse"), function, &Options::default());
    assert!(!called.1.cuttable);
    let piece = event(&chunk(" hello", false, json!({"promptTokenCount": 5})));
    // No tokenizer is public: what may be more is more when its bytes are; what is certainly more is twice the stand-in's count.
    let (emitted, progress, _) =
        run(reader_of(&plain, "text/event-stream", Ceiling::Possible(60)), &[piece.repeat(20).as_bytes()]);
    assert_eq!((emitted, progress), (piece.repeat(10).into_bytes(), Progress::Ceiling));
    let certain = |count: usize| {
        run(reader_of(&plain, "text/event-stream", Ceiling::Certain(100)), &[piece.repeat(count).as_bytes()]).1
    };
    assert_eq!((certain(200), certain(201)), (Progress::More, Progress::Ceiling));
    // Summaries of thoughts, media and what tools said are no output of this kind; calls of functions are.
    for (part, want) in [
        (json!({"text": " hello".repeat(900), "thought": true}), Progress::More),
        (json!({"inlineData": {"mimeType": "image/png", "data": "A".repeat(90_000)}}), Progress::More),
        (json!({"codeExecutionResult": {"output": " hello".repeat(900)}}), Progress::More),
        (json!({"text": "", "thoughtSignature": "A".repeat(90_000)}), Progress::More),
        (json!({"text": " hello".repeat(900)}), Progress::Ceiling),
        (json!({"functionCall": {"name": "f", "args": {"a": "x".repeat(90_000)}}}), Progress::Ceiling),
        (json!({"somethingNew": "x".repeat(90_000)}), Progress::Ceiling),
    ] {
        let text = event(&json!({"candidates": [{"content": {"parts": [part]}}]}));
        let reader = reader_of(&plain, "text/event-stream", Ceiling::Certain(100));
        assert_eq!(run(reader, &[text.as_bytes()]).1, want, "{part}");
    }
    let array = call_with("gemini-plain", "streamGenerateContent", None, json!({}), &Options::default());
    let text = format!("[{0}\n,{0}\n,{0}]", chunk(" hello", false, json!({"promptTokenCount": 5})));
    let (emitted, progress, _) = run(reader_of(&array, "application/json", Ceiling::Possible(12)), &[text.as_bytes()]);
    assert_eq!(progress, Progress::Ceiling);
    assert_eq!(emitted.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn cap_30_what_cannot_be_read_is_not_let_through() {
    for (query, kind) in [(Some("alt=sse"), "text/event-stream"), (None, "application/json")] {
        let call = call_with("gemini-plain", "streamGenerateContent", query, json!({}), &Options::default());
        let (emitted, progress, observed) =
            run(reader_of(&call, kind, Ceiling::Certain(1)), &[b"\x1f\x8b\x08\x00", b"x"]);
        assert_eq!((emitted.len(), progress, observed.usage), (0, Progress::Unreadable, None));
    }
    // An object where an array was to come; an array that breaks off.
    let call = call_with("gemini-plain", "streamGenerateContent", None, json!({}), &Options::default());
    for text in ["{\"candidates\":[]}", "<html>", "[{\"a\":1}", "[{\"a\":1},"] {
        assert_eq!(
            run(reader_of(&call, "application/json", Ceiling::Certain(1)), &[text.as_bytes()]).1,
            Progress::Unreadable,
            "{text}"
        );
    }
}

#[test]
fn cap_33_errors_pass_untouched_and_say_no_usage() {
    for (status, kind, text) in [
        (400, "application/json", "[{\"error\":{\"code\":400,\"message\":\"m\",\"status\":\"INVALID_ARGUMENT\"}}\n]"),
        (503, "application/json", "{\"error\":{\"code\":503}}"),
        (502, "text/html", "<html>502</html>"),
        (404, "text/event-stream", ""),
    ] {
        for query in [Some("alt=sse"), None] {
            let (route, call) =
                call_with("gemini-plain", "streamGenerateContent", query, json!({}), &Options::default());
            let head = AnswerHead { status, ..AnswerHead::plain(kind) };
            let reader = Gemini.answer(route, &call, &head, Ceiling::Certain(0));
            assert!(!reader.is_stream());
            let (emitted, progress, observed) = run(reader, &[text.as_bytes()]);
            assert_eq!((emitted, progress, observed.usage), (text.as_bytes().to_vec(), Progress::More, None));
        }
    }
    // An error in the middle leaves doubt, whatever usage came before or with it.
    let usage = json!({"promptTokenCount": 5, "candidatesTokenCount": 7});
    let mut last = chunk("a", true, usage);
    last["error"] = json!({"code": 500});
    let observed = stream(&[last]);
    assert_eq!((observed.usage, observed.error, observed.finished), (None, true, false));
}

#[test]
fn refusals_are_shaped_for_the_sdk() {
    let error = |status: u16, route: Option<Route>| {
        let loopers = json!({"code": "budget_exceeded"});
        Gemini.refusal(&ErrorAnswer { status, code: "budget_exceeded", message: "m", loopers, request_id: "r", route })
    };
    let reply = error(402, Some(route::STREAM));
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        body,
        json!({"error": {"code": 402, "message": "m", "status": "FAILED_PRECONDITION", "details": [], "loopers": {"code": "budget_exceeded"}}})
    );
    assert_eq!(reply.status, 402);
    let wrapped: serde_json::Value = serde_json::from_slice(&error(402, Some(route::STREAM_ARRAY)).body).unwrap();
    assert_eq!(wrapped, json!([body]));
    for (status, word) in [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (415, "INVALID_ARGUMENT"),
        (422, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ] {
        let body: serde_json::Value = serde_json::from_slice(&error(status, None).body).unwrap();
        assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&json!(status), &json!(word)));
    }
}

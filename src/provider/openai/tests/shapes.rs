//! Forms of requests, forwarded bodies, errors, and what else the gateway asks of a provider.

use proptest::prelude::*;

use super::*;
use crate::pricing::Tokenizer;
use crate::provider::{ErrorAnswer, tokens};

#[test]
fn messages_have_known_forms() {
    let ok = json!([
        {"role": "developer", "content": "be brief", "name": "d"},
        {"role": "system", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null, "function_call": null,
         "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "tool", "tool_call_id": "c", "content": "y"},
        {"role": "function", "name": "f", "content": "y"},
    ]);
    let call = call(json!({"messages": ok}));
    assert!(call.body.exact_input().unwrap() < call.input_max);
    for (bad, code) in [
        (json!([]), "invalid_request"),
        (json!("x"), "invalid_request"),
        (json!(null), "invalid_request"),
        (json!(["x"]), "invalid_request"),
        (json!([{"role": "root", "content": "x"}]), "invalid_request"),
        (json!([{"content": "x"}]), "invalid_request"),
        (json!([{"role": "user", "content": 5}]), "invalid_request"),
        (json!([{"role": "user", "content": {}}]), "invalid_request"),
        (json!([{"role": "user", "content": "x", "name": 1}]), "invalid_request"),
        (json!([{"role": "user", "content": "x", "tool_calls": "x"}]), "invalid_request"),
        (json!([{"role": "user", "content": "x", "file_id": "f"}]), "unpriceable_request"),
        (json!([{"role": "user", "Content": "x"}]), "unpriceable_request"),
    ] {
        assert_eq!(refused(json!({"messages": bad})).code, code, "{bad}");
    }
}

#[test]
fn a_field_may_be_admitted_by_the_operator() {
    let body = with(json!({"top_k": 5})).to_string();
    let reject = read(&body).err().unwrap();
    assert_eq!(reject.code, "unpriceable_request");
    assert!(reject.hint.contains("allow_fields: [top_k]"), "{}", reject.hint);
    let call = read_route(CHAT, &body, &["top_k"]).unwrap();
    assert_eq!(sent(&call, None)["top_k"], 5);
    // What is known to raise the bill is not admitted by a list.
    assert!(read_route(CHAT, &with(json!({"web_search_options": {}})).to_string(), &["web_search_options"]).is_err());
    let message = json!({"messages": [{"role": "assistant", "content": "x", "reasoning_content": "y"}]});
    assert!(read_route(CHAT, &with(message).to_string(), &["reasoning_content"]).is_ok());
}

#[test]
fn streams_are_asked_for_usage() {
    let silent = call(json!({"stream": true}));
    assert!(silent.stream && !silent.shows_usage && silent.cuttable);
    assert_eq!(sent(&silent, None)["stream_options"], json!({"include_usage": true}));
    let asked = call(json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}}));
    assert!(asked.shows_usage);
    assert_eq!(sent(&asked, None)["stream_options"], json!({"include_usage": true, "include_obfuscation": false}));
    let refused_usage = call(json!({"stream": true, "stream_options": {"include_usage": false}}));
    assert!(!refused_usage.shows_usage);
    assert_eq!(sent(&refused_usage, None)["stream_options"], json!({"include_usage": true}));
    let whole = call(json!({"stream": false, "stream_options": null}));
    assert!(!whole.stream && !whole.cuttable);
    assert_eq!(sent(&whole, None)["stream_options"], Value::Null);
    for bad in [
        json!({"stream": 1}),
        json!({"stream": "true"}),
        json!({"stream_options": []}),
        json!({"stream_options": {"include_usage": 1}}),
    ] {
        assert_eq!(refused(bad).code, "invalid_request");
    }
    assert_eq!(
        refused(json!({"stream": true, "stream_options": {"Include_Usage": false}})).code,
        "unpriceable_request"
    );
}

#[test]
fn all_that_is_not_forced_keeps_its_bytes() {
    let body = r#" {"temperature" : 0.70, "model":"gpt-4o","messages":[ {"role":"user","content":"\u00e9 \/ x"} ],"max_tokens":1000,"user":"🙂"}"#;
    let call = read(body).unwrap();
    let want = r#"{"temperature":0.70,"model":"gpt-4o","messages":[ {"role":"user","content":"\u00e9 \/ x"} ],"max_tokens":300,"user":"🙂","service_tier":"default"}"#;
    assert_eq!(call.body.render(Some(300)), want);
}

#[test]
fn exact_input_of_plain_text() {
    let call = call(json!({"messages": [{"role": "user", "content": "Hello, world!", "name": "bob"}]}));
    // Hello, world! = 4, bob = 1, frame 16, request 64.
    assert_eq!(call.body.exact_input(), Some(85));
    assert_eq!(super::call(json!({"model": "gpt-6-luna"})).body.exact_input(), None);
}

#[test]
fn errors_are_said_in_openais_shape() {
    let error = |status, code| ErrorAnswer {
        status,
        code,
        message: "no \"money\"",
        loopers: json!({"code": code, "limit_usd": "1"}),
        request_id: "r1",
        route: None,
    };
    let body: Value = serde_json::from_slice(&OpenAi.refusal(&error(402, "budget_exceeded")).body).unwrap();
    let want = json!({"error": {"message": "no \"money\"", "type": "insufficient_quota", "param": null, "code": "budget_exceeded",
        "loopers": {"code": "budget_exceeded", "limit_usd": "1"}}});
    assert_eq!(body, want);
    for (status, code, kind) in [
        (401, "invalid_key", "authentication_error"),
        (403, "key_revoked", "permission_error"),
        (400, "invalid_request", "invalid_request_error"),
        (404, "unknown_route", "invalid_request_error"),
        (422, "unknown_model", "invalid_request_error"),
        (429, "rate_limited", "rate_limit_error"),
        (503, "ledger_unavailable", "server_error"),
    ] {
        let body: Value = serde_json::from_slice(&OpenAi.refusal(&error(status, code)).body).unwrap();
        assert_eq!(body["error"]["type"], kind);
    }
    let event = String::from_utf8(errors::closing_event(&error(200, "budget_exceeded"))).unwrap();
    let data = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    assert!(!data.contains('\n') && serde_json::from_str::<Value>(data).unwrap()["error"]["code"] == "budget_exceeded");
}

#[test]
fn facts() {
    let outgoing = Outgoing::bare();
    let headers = OpenAi.authorize(&outgoing, &Secret::new("sk-x")).unwrap();
    assert_eq!(headers, [("authorization", "Bearer sk-x".to_string())]);
    assert!(OpenAi.unbilled_status(429) && OpenAi.unbilled_status(400));
    assert!(!OpenAi.unbilled_status(500) && !OpenAi.unbilled_status(200) && !OpenAi.unbilled_status(302));
    assert!(!OpenAi.drop_stops_bill());
    assert!(OpenAi.dropped_headers().iter().all(|name| *name == name.to_lowercase()));
}

proptest! {
    #[test]
    fn any_text_is_bounded_and_forwarded_as_it_was_priced(
        texts in prop::collection::vec(any::<String>(), 1..6),
        user in any::<String>(),
        limit in 1..100_000u64,
        n in 1..=128u64,
        clamp in 1..100_000u64,
    ) {
        let messages: Vec<Value> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        let call = call(json!({"messages": messages, "user": user, "max_tokens": limit, "n": n}));
        let exact: u64 = texts.iter().map(|text| tokens::count(Tokenizer::O200kBase, text) + 16).sum::<u64>() + 64;
        prop_assert_eq!(call.body.exact_input(), Some(exact));
        prop_assert!(exact <= call.input_max);
        prop_assert_eq!((call.output_max, call.samples), (limit, n));
        let sent = sent(&call, Some(clamp.min(limit)));
        prop_assert_eq!(&sent["messages"], &json!(messages));
        prop_assert_eq!(&sent["user"], &json!(user));
        prop_assert_eq!(&sent["max_tokens"], &json!(clamp.min(limit)));
        prop_assert!(call.bound(exact, clamp.min(limit)) <= call.bound(call.input_max, limit));
        prop_assert!(call.bound(exact, limit) <= call.bound(exact + 1, limit));
    }
}

//! Forms of requests, forwarded bodies, errors, and what else the gateway asks of a provider.

use proptest::prelude::*;

use super::*;

#[test]
fn messages_have_known_forms() {
    let ok = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "y", "citations": null}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "is_error": false, "content": "z"}, {"type": "tool_result", "tool_use_id": "u"},
            {"type": "tool_result", "tool_use_id": "v", "content": null}]},
        {"role": "system", "content": "be brief"},
    ]);
    assert!(call(json!({"messages": ok, "system": "s"})).input_max < 2_000);
    call(json!({"system": [{"type": "text", "text": "s"}]}));
    for (bad, code) in [
        (json!([]), "invalid_request"),
        (json!("x"), "invalid_request"),
        (json!(null), "invalid_request"),
        (json!(["x"]), "invalid_request"),
        (json!([{"role": "root", "content": "x"}]), "invalid_request"),
        (json!([{"content": "x"}]), "invalid_request"),
        (json!([{"role": "user", "content": 5}]), "invalid_request"),
        (json!([{"role": "user", "content": {}}]), "invalid_request"),
        (json!([{"role": "user", "content": [{"type": "text", "text": 5}]}]), "invalid_request"),
        (json!([{"role": "user", "content": "x", "file_id": "f"}]), "unpriceable_request"),
        (json!([{"role": "user", "content": [{"type": "text", "text": "x", "file_id": "f"}]}]), "unpriceable_request"),
    ] {
        assert_eq!(refused(json!({"messages": bad})).code, code, "{bad}");
    }
    for bad in [
        json!([{"type": "image", "source": {}}]),
        json!([{"type": "document", "source": {"type": "file", "file_id": "f"}}]),
    ] {
        assert_eq!(refused(json!({"system": bad})).code, "unpriceable_request");
    }
    for (bad, code) in [
        (json!({"stream": 1}), "invalid_request"),
        (json!({"tools": {}}), "invalid_request"),
        (json!({"tools": ["x"]}), "invalid_request"),
        (json!({"system": 5}), "invalid_request"),
        (json!({"tools": [{"name": "f", "input_schema": {}, "price": 1}]}), "unpriceable_request"),
    ] {
        assert_eq!(refused(bad).code, code);
    }
}

#[test]
fn a_field_may_be_admitted_by_the_operator() {
    let body = with(json!({"top_n": 5})).to_string();
    let reject = read(&body).err().unwrap();
    assert_eq!(reject.code, "unpriceable_request");
    assert!(reject.hint.contains("providers.anthropic.allow_fields") && reject.hint.contains("allow_fields: [top_n]"));
    let call = read_with(&body, &[], &options(&["top_n"], false)).unwrap();
    assert_eq!(sent(&call, None)["top_n"], 5);
    // What is known to raise the bill is not admitted by a list.
    let body = with(json!({"fallbacks": []})).to_string();
    assert!(read_with(&body, &[], &options(&["fallbacks"], false)).is_err());
    let message = with(json!({"messages": [{"role": "user", "content": "x", "note": 1}]})).to_string();
    assert!(read(&message).err().unwrap().hint.contains("allow_fields: [note]"));
    assert!(read_with(&message, &[], &options(&["note"], false)).is_ok());
}

#[test]
fn all_that_is_not_forced_keeps_its_bytes() {
    let body = r#" {"temperature" : 0.70, "model":"claude-haiku-4-5","messages":[ {"role":"user","content":"\u00e9 \/ x"} ],"max_tokens":1000,"metadata":{"user_id":"🙂"}}"#;
    let call = read(body).unwrap();
    let want = r#"{"temperature":0.70,"model":"claude-haiku-4-5","messages":[ {"role":"user","content":"\u00e9 \/ x"} ],"max_tokens":300,"metadata":{"user_id":"🙂"},"service_tier":"standard_only"}"#;
    assert_eq!(call.body.render(Some(300)), want);
    assert_eq!(call.body.exact_input(), None);
    assert!(call.shows_usage && !call.stream);
}

#[test]
fn errors_are_said_in_anthropics_shape() {
    let error = |status, code| ErrorAnswer {
        status,
        code,
        message: "no \"money\"",
        loopers: json!({"code": code, "limit_usd": "1"}),
        request_id: "req_1",
        route: None,
    };
    let reply = Anthropic.refusal(&error(402, "budget_exceeded"));
    let want = json!({"type": "error", "request_id": "req_1", "error": {"type": "billing_error", "message": "no \"money\"", "code": "budget_exceeded",
        "loopers": {"code": "budget_exceeded", "limit_usd": "1"}}});
    assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap(), want);
    assert_eq!((reply.status, reply.headers), (402, vec![("request-id", "req_1".to_string())]));
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
    ] {
        let body: Value = serde_json::from_slice(&Anthropic.refusal(&error(status, "x")).body).unwrap();
        assert_eq!(body["error"]["type"], kind);
    }
    let event = String::from_utf8(errors::closing_event(&error(402, "budget_exceeded"))).unwrap();
    let data = event.strip_prefix("event: error\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    assert!(!data.contains('\n') && serde_json::from_str::<Value>(data).unwrap()["error"]["type"] == "billing_error");
}

#[test]
fn facts_of_the_provider() {
    let outgoing = Outgoing::bare();
    let headers = |key: &str| Anthropic.authorize(&outgoing, &Secret::new(key)).unwrap();
    assert_eq!(headers("sk-ant-api03-x"), [("x-api-key", "sk-ant-api03-x".to_string())]);
    assert_eq!(headers("sk-ant-oat01-x"), [("authorization", "Bearer sk-ant-oat01-x".to_string())]);
    for free in [400, 401, 404, 413, 429, 500, 503, 504, 529] {
        assert!(Anthropic.unbilled_status(free));
    }
    assert!(!Anthropic.unbilled_status(200) && !Anthropic.unbilled_status(302) && !Anthropic.unbilled_status(206));
    assert!(Anthropic.drop_stops_bill());
    assert!(Anthropic.dropped_headers().iter().all(|name| *name == name.to_lowercase()));
    assert!(crate::provider::find("anthropic", "anthropic").is_some());
    assert!(
        Anthropic.read(Request::plain(COUNT_TOKENS, "", Bytes::new()), &Reading::plain("anthropic", &PRICES)).is_err()
    );
}

#[test]
fn other_clouds_have_the_same_body_in_another_form() {
    let ask = |fields: Value| {
        let mut body = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let document = crate::wire::json::Document::parse(Bytes::from(body.to_string())).unwrap();
        let price = PRICES.for_model("anthropic", "claude-opus-5-5").unwrap().clone();
        request::ask(&document, &price, &Reading::plain("bedrock", &PRICES), request::Form::Cloud)
            .map_err(|reject| reject.code)
    };
    let plain = ask(json!({"anthropic_beta": ["pdfs-2024-09-25"], "cache_control": {"type": "ephemeral"}})).unwrap();
    assert!(plain.forced.is_empty() && plain.terms.cache_write_5m && !plain.stream);
    assert_eq!((plain.terms.thousandths, plain.facts.silent_geo), (1000, 1000));
    for bad in [
        json!({"model": "x"}),
        json!({"stream": true}),
        json!({"service_tier": "auto"}),
        json!({"speed": "fast"}),
        json!({"inference_geo": "us"}),
        json!({"anthropic_beta": ["compact-2026-01-12"]}),
        json!({"mcp_servers": []}),
    ] {
        assert_eq!(ask(bad.clone()).err(), Some("unpriceable_request"), "{bad}");
    }
    assert_eq!(ask(json!({"anthropic_beta": "x"})).err(), Some("invalid_request"));
}

proptest! {
    #[test]
    fn any_text_is_bounded_and_forwarded_as_it_was_priced(
        texts in prop::collection::vec(any::<String>(), 1..6),
        system in any::<String>(),
        limit in 0..100_000u64,
        clamp in 1..100_000u64,
    ) {
        let messages: Vec<Value> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        let call = call(json!({"messages": messages, "system": system, "max_tokens": limit}));
        let bytes: usize = texts.iter().chain([&system]).map(String::len).sum();
        prop_assert!(call.input_max >= bytes as u64 + 1024);
        prop_assert_eq!((call.output_max, call.samples), (limit, 1));
        let sent = sent(&call, Some(clamp.min(limit)));
        prop_assert_eq!(&sent["messages"], &json!(messages));
        prop_assert_eq!(&sent["system"], &json!(system));
        prop_assert_eq!(&sent["max_tokens"], &json!(clamp.min(limit)));
    }
}

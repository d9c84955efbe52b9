//! The attack list, lines 1–14, as far as a request goes.

use std::time::Instant;

use super::*;

fn code(body: &str) -> &'static str {
    read(body).err().map_or("taken", |reject| reject.code)
}

#[test]
fn cap_01_a_limit_must_be_there() {
    let body = r#"{"model":"claude-haiku-4-5","messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(code(body), "invalid_request");
    assert_eq!(refused(json!({"max_tokens": null})).code, "invalid_request");
}

#[test]
fn cap_02_every_other_limit_is_refused() {
    for other in [
        "max_tokens_to_sample",
        "max_completion_tokens",
        "max_output_tokens",
        "maxOutputTokens",
        "maxTokens",
        "n",
        "best_of",
        "candidateCount",
        "inferenceConfig",
        "additionalModelRequestFields",
        "extra_body",
        "num_generations",
    ] {
        assert_eq!(refused(json!({other: 9})).code, "unpriceable_request", "{other}");
    }
}

#[test]
fn cap_03_limits_that_are_no_numbers_of_tokens() {
    for bad in [
        "-1",
        "-0",
        "1.5",
        "10.0",
        "1e3",
        "\"10\"",
        "true",
        "[10]",
        "{}",
        "9007199254740993",
        "18446744073709551616",
        "1e999",
    ] {
        let body = format!(
            r#"{{"model":"claude-haiku-4-5","messages":[{{"role":"user","content":"x"}}],"max_tokens":{bad}}}"#
        );
        assert_eq!(code(&body), "invalid_request", "{bad}");
    }
}

#[test]
fn cap_04_what_is_priced_is_what_is_read() {
    let rest = r#""max_tokens":5,"messages":[{"role":"user","content":"x"}]"#;
    for (body, want) in [
        (format!(r#"{{"model":"claude-haiku-4-5","model":"claude-opus-5",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","mod\u0065l":"claude-opus-5",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"mod\u0065l":"claude-haiku-4-5",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","Model":"claude-opus-5",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","MAX_TOKENS":9,{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","Fallbacks":[],{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","Fallbacks":null,{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","maxTokens":9,{rest}}}"#), "unpriceable_request"),
        (format!("\u{feff}{{\"model\":\"claude-haiku-4-5\",{rest}}}"), "invalid_request"),
        (format!(r#"{{"model":"claude-haiku-4-5",{rest}}}{{"speed":"fast"}}"#), "invalid_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","temperature":NaN,{rest}}}"#), "invalid_request"),
        (format!(r#"{{"model":"claude-haiku-4-5","system":"\ud800",{rest}}}"#), "invalid_request"),
        (
            format!(r#"{{"model":"claude-haiku-4-5","metadata":{}1{},{rest}}}"#, "[".repeat(70), "]".repeat(70)),
            "invalid_request",
        ),
        (
            r#"{"model":"claude-haiku-4-5","max_tokens":5,"messages":[{"role":"user","content":"a","content":"b"}]}"#
                .into(),
            "ambiguous_request",
        ),
        (
            r#"{"model":"claude-haiku-4-5","max_tokens":5,"messages":[{"role":"user","Content":"a"}]}"#.into(),
            "unpriceable_request",
        ),
        (format!(r#"[{{"model":"claude-haiku-4-5",{rest}}}]"#), "invalid_request"),
        (String::new(), "invalid_request"),
        ("{}".into(), "invalid_request"),
    ] {
        assert_eq!(code(&body), want, "{body}");
    }
    let body = Bytes::from_static(b"{\"model\":\"\xff\"}");
    let reading = Reading::plain("anthropic", &PRICES);
    assert_eq!(Anthropic.read(Request::plain(MESSAGES, "", body), &reading).err().unwrap().code, "invalid_request");
}

#[test]
fn cap_05_a_compressed_body_is_no_json() {
    let gzip = Bytes::from_static(b"\x1f\x8b\x08\x00\x00\x00\x00\x00");
    let reading = Reading::plain("anthropic", &PRICES);
    assert_eq!(Anthropic.read(Request::plain(MESSAGES, "", gzip), &reading).err().unwrap().code, "invalid_request");
}

#[test]
fn cap_07_hidden_input_is_refused_or_fills_the_window() {
    for field in ["previous_response_id", "conversation", "prompt", "file_ids", "cachedContent", "container", "thread"]
    {
        assert_eq!(refused(json!({field: "x"})).code, "unpriceable_request", "{field}");
    }
    let file = json!([{"type": "document", "source": {"type": "file", "file_id": "f"}}]);
    assert_eq!(call(json!({"messages": [{"role": "user", "content": file}]})).input_max, 200_000);
}

#[test]
fn cap_08_nothing_loops_inside_a_call() {
    for field in ["mcp_servers", "fallbacks", "compaction", "multi_agent", "background", "web_search_options"] {
        assert_eq!(refused(json!({field: {}})).code, "unpriceable_request", "{field}");
    }
    for kind in ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "advisor_20260301"] {
        assert_eq!(refused(json!({"tools": [{"type": kind, "name": "x"}]})).code, "unpriceable_request", "{kind}");
    }
}

#[test]
fn cap_09_no_multiplier_goes_unseen() {
    assert_eq!(sent(&call(json!({})), None)["service_tier"], "standard_only");
    assert_eq!(call(json!({"model": "claude-sonnet-5-5"})).terms.thousandths, 1100);
    assert_eq!(refused(json!({"speed": "fast"})).code, "unpriced_model");
}

#[test]
fn cap_11_bytes_bound_tokens_normalised_or_not() {
    let input = |text: &str| {
        let body = with(json!({"messages": [{"role": "user", "content": text}]})).to_string();
        (read(&body).unwrap().input_max, body.len() as u64)
    };
    for text in ["😀".repeat(100), "a".repeat(1000), "字".repeat(300), "한국어".repeat(100)] {
        let (bound, bytes) = input(&text);
        assert_eq!(bound, bytes + 1024 + 16, "{text}");
    }
    // Eleven times as many bytes once it is normalised; the two quotes are bytes too.
    let (bound, bytes) = input(&"\u{fdfa}".repeat(1000));
    assert_eq!(bound, bytes - 3_002 + 33_000 + 1024 + 16);
    assert_eq!(input(&"\u{fdfa}".repeat(10_000)).0, 200_000);
    // In a key of a schema, where the provider may read it just as well.
    let schema = json!({"tools": [{"name": "f", "input_schema": {"properties": {"\u{fdfa}".repeat(100): {}}}}]});
    assert!(call(schema).input_max > 3_300 + 1024);
    // And again wherever a definition is written out once more.
    let def = json!({"description": "\u{fdfa}".repeat(100)});
    let schema = json!({"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}, "$defs": {"X": def}});
    let tools = json!([{"name": "f", "input_schema": schema}]);
    assert!(call(json!({"tools": tools})).input_max > 3 * 3_300 + 1024);
    let reference =
        json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "f"}]}]);
    let tools = json!([{"name": "f", "description": "\u{fdfa}".repeat(100), "input_schema": {}}]);
    let call = call(json!({"tools": tools, "messages": [{"role": "user", "content": reference}]}));
    assert!(call.input_max > 2 * 3_300 + 1024);
}

#[test]
fn cap_12_a_model_without_a_price_is_refused_with_the_row_to_add() {
    let reject = refused(json!({"model": "claude-haiku-9"}));
    assert_eq!(reject.code, "unknown_model");
    assert!(reject.hint.contains("anthropic/claude-haiku-9:\n  input: \"…\""), "{}", reject.hint);
    for bad in [
        json!(null),
        json!(7),
        json!(""),
        json!("a b"),
        json!("a\nb: 1"),
        json!("x".repeat(300)),
        json!(["claude-haiku-4-5"]),
    ] {
        assert_eq!(refused(json!({"model": bad})).code, "invalid_request");
    }
    assert!(matches!(refused(json!({"model": "Claude-Haiku-4-5"})).code, "unknown_model" | "unpriced_model"));
    assert_eq!(&*call(json!({"model": "claude-haiku-4-5-20251001"})).price.id, "anthropic/claude-haiku-4-5-20251001");
}

#[test]
fn large_bodies_take_linear_time() {
    let start = Instant::now();
    call(json!({"messages": vec![json!({"role": "user", "content": "x"}); 50_000]}));
    let keys: serde_json::Map<String, Value> = (0..100_000).map(|i| (format!("k{i}"), json!(i))).collect();
    call(json!({"metadata": keys.clone()}));
    assert_eq!(read(&with(Value::Object(keys)).to_string()).err().unwrap().code, "unpriceable_request");
    for hostile in ["\u{fdfa}", "a\u{301}", "\u{301}", "\u{1100}\u{1161}\u{11a8}"] {
        let text = hostile.repeat((2 << 20) / hostile.len());
        assert_eq!(call(json!({"model": "claude-haiku-4-5", "system": text})).input_max, 200_000);
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    let many = vec![json!({"role": "user", "content": "x"}); 100_001];
    assert_eq!(refused(json!({"messages": many})).code, "invalid_request");
}

//! The attack list, lines 1–5, 7–9 and 11–13, as far as a request goes.

use std::time::Instant;

use super::*;

fn code(body: &str) -> &'static str {
    read(body).err().map_or("taken", |reject| reject.code)
}

#[test]
fn a01_no_limit_means_the_models_maximum() {
    for (model, max) in [("gpt-4o-mini", 16_384), ("gpt-5", 128_000), ("o3", 100_000), ("gpt-4o-2024-05-13", 4_096)] {
        let call = call(json!({"model": model}));
        assert_eq!(call.output_max, max);
        assert_eq!(sent(&call, Some(20))["max_completion_tokens"], 20);
    }
}

#[test]
fn a02_every_limit_and_multiplier_is_read() {
    assert_eq!(call(json!({"max_completion_tokens": 9})).output_max, 9);
    assert_eq!(call(json!({"max_tokens": 9})).output_max, 9);
    for other in [
        "max_output_tokens",
        "maxOutputTokens",
        "best_of",
        "candidateCount",
        "inferenceConfig",
        "num_predict",
        "max_new_tokens",
    ] {
        assert_eq!(refused(json!({other: 9})).code, "unpriceable_request", "{other}");
    }
}

#[test]
fn a03_limits_that_are_no_numbers_of_tokens() {
    for field in ["max_tokens", "max_completion_tokens"] {
        for bad in [
            "0",
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
            let body = format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"x"}}],"{field}":{bad}}}"#);
            assert_eq!(code(&body), "invalid_request", "{field}: {bad}");
        }
    }
    assert_eq!(call(json!({"max_tokens": 1u64 << 53})).output_max, 128_000);
}

#[test]
fn a04_what_is_priced_is_what_is_read() {
    let rest = r#""messages":[{"role":"user","content":"x"}]"#;
    for (body, want) in [
        (format!(r#"{{"model":"gpt-4o-mini","model":"o1-pro",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"gpt-4o-mini","mod\u0065l":"o1-pro",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"mod\u0065l":"gpt-4o-mini",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"gpt-4o-mini","Model":"o1-pro",{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"gpt-4o-mini","MAX_TOKENS":5,{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"gpt-4o-mini","Web_Search_Options":{{}},{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"model":"gpt-4o-mini","ｍodel":5,{rest}}}"#), "unpriceable_request"),
        (format!("\u{feff}{{\"model\":\"gpt-4o\",{rest}}}"), "invalid_request"),
        (format!(r#"{{"model":"gpt-4o",{rest}}}{{"n":5}}"#), "invalid_request"),
        (format!(r#"{{"model":"gpt-4o","temperature":NaN,{rest}}}"#), "invalid_request"),
        (format!(r#"{{"model":"gpt-4o","user":"\ud800",{rest}}}"#), "invalid_request"),
        (format!(r#"{{"model":"gpt-4o","user":{}1{},{rest}}}"#, "[".repeat(70), "]".repeat(70)), "invalid_request"),
        (r#"{"model":"gpt-4o","messages":[{"role":"user","content":"a","content":"b"}]}"#.into(), "ambiguous_request"),
        (format!(r#"[{{"model":"gpt-4o",{rest}}}]"#), "invalid_request"),
        (String::new(), "invalid_request"),
        ("{}".into(), "invalid_request"),
    ] {
        assert_eq!(code(&body), want, "{body}");
    }
    assert_eq!(
        OpenAi
            .read(
                Request::plain(CHAT, "", Bytes::from_static(b"{\"model\":\"\xff\"}")),
                &Reading::plain("openai", &PRICES)
            )
            .err()
            .unwrap()
            .code,
        "invalid_request"
    );
    // Escapes inside values are the same value for every reader, and keep their bytes.
    let call = read(&format!(r#"{{"model":"gpt-4\u006f",{rest}}}"#)).unwrap();
    assert_eq!(&*call.model, "gpt-4o");
    assert!(String::from_utf8_lossy(&call.body.render(None)).contains(r#""model":"gpt-4\u006f""#));
}

#[test]
fn a05_a_compressed_body_is_no_json() {
    let gzip = Bytes::from_static(b"\x1f\x8b\x08\x00\x00\x00\x00\x00");
    assert_eq!(
        OpenAi.read(Request::plain(CHAT, "", gzip), &Reading::plain("openai", &PRICES)).err().unwrap().code,
        "invalid_request"
    );
}

#[test]
fn a07_hidden_input_is_refused_or_fills_the_window() {
    for field in ["previous_response_id", "conversation", "prompt", "file_ids", "cachedContent", "container"] {
        assert_eq!(refused(json!({field: "x"})).code, "unpriceable_request", "{field}");
    }
    let image =
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]});
    assert_eq!(call(image).input_max, 128_000);
    // A schema that grows when its references are written out: counted, or the window.
    let recursive = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#"}}});
    let endless = call(json!({"response_format": recursive}));
    assert_eq!((endless.input_max, endless.body.exact_input()), (128_000, None));
    let twice = json!({"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}, "$defs": {"X": {"description": "y".repeat(1000)}}});
    let tool = call(json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": twice}}]}));
    assert!(tool.input_max > 3000 && tool.body.exact_input().unwrap() > 3000);
}

#[test]
fn a08_nothing_loops_inside_a_call() {
    for field in ["web_search_options", "context_management", "multi_agent", "background", "fallbacks", "mcp_servers"] {
        assert_eq!(refused(json!({field: {}})).code, "unpriceable_request", "{field}");
    }
}

#[test]
fn a09_no_multiplier_goes_unseen() {
    // An unset tier follows a project setting that may cost double.
    assert_eq!(sent(&call(json!({})), None)["service_tier"], "default");
    assert_eq!(refused(json!({"speed": "fast"})).code, "unpriceable_request");
    assert_eq!(refused(json!({"inference_geo": "us"})).code, "unpriceable_request");
}

#[test]
fn a11_bytes_bound_tokens() {
    for text in ["\u{fdfa}".repeat(100), "😀".repeat(100), "\u{0}\u{1}".repeat(50), "a".repeat(1000), "字".repeat(300)]
    {
        let call = call(json!({"messages": [{"role": "user", "content": text}]}));
        let exact = call.body.exact_input().unwrap();
        assert!(exact <= call.input_max && call.input_max > text.len() as u64);
        assert!(exact >= crate::provider::tokens::count(crate::pricing::Tokenizer::O200kBase, &text));
    }
    let embeddings = |input: Value| {
        read_route(EMBEDDINGS, &json!({"model": "text-embedding-3-small", "input": input}).to_string(), &[])
    };
    let ids = vec![100_000; 500];
    let call = embeddings(json!(ids)).unwrap();
    assert_eq!((call.input_max, call.body.exact_input()), (501, Some(501)));
    assert_eq!((call.output_max, call.output_min, call.samples), (0, 0, 1));
    // One input has 8,192 tokens at most, all together 300,000.
    assert_eq!(embeddings(json!("a".repeat(50_000))).unwrap().input_max, 8_192);
    assert_eq!(embeddings(json!(vec!["a".repeat(9_000); 100])).unwrap().input_max, 300_000);
    assert_eq!(embeddings(json!([[1, 2], [3]])).unwrap().input_max, 5);
    for bad in [
        json!([]),
        json!([[]]),
        json!([1, "a"]),
        json!([[1], "a"]),
        json!([-1]),
        json!([1.5]),
        json!([4294967296u64]),
        json!(7),
        json!(null),
        json!({}),
        json!(vec!["a"; 2049]),
    ] {
        assert_eq!(embeddings(bad.clone()).err().map(|reject| reject.code), Some("invalid_request"), "{bad}");
    }
    assert!(embeddings(json!(["a", ""])).is_ok());
    assert_eq!(read_route(EMBEDDINGS, r#"{"model":"gpt-4o","input":"a"}"#, &[]).err().unwrap().code, "invalid_request");
    assert_eq!(
        read(r#"{"model":"text-embedding-3-small","messages":[{"role":"user","content":"a"}]}"#).err().unwrap().code,
        "invalid_request"
    );
}

#[test]
fn a12_a_model_without_a_price_is_refused_with_the_row_to_add() {
    let reject = refused(json!({"model": "gpt-7-nova"}));
    assert_eq!(reject.code, "unknown_model");
    assert!(reject.hint.contains("openai/gpt-7-nova:\n  input: \"…\""), "{}", reject.hint);
    assert_eq!(refused(json!({"model": "ft:gpt-4o:org::id"})).code, "unpriced_model");
    for bad in
        [json!(null), json!(7), json!(""), json!("a b"), json!("a\nb: 1"), json!("x".repeat(300)), json!(["gpt-4o"])]
    {
        assert_eq!(refused(json!({"model": bad})).code, "invalid_request");
    }
    assert_eq!(refused(json!({"model": "GPT-4o"})).code, "unknown_model");
    assert_eq!(&*call(json!({"model": "gpt-4o-2024-11-20"})).price.id, "openai/gpt-4o-2024-11-20");
    assert_eq!(&*call(json!({"model": "gpt-4o-2029-11-20"})).price.id, "openai/gpt-4o");
    // A fine-tuned model has the price of its base, however its owner called it, in the letters of a name.
    assert_eq!(&*call(json!({"model": "ft:gpt-4o-2024-08-06:org::id"})).price.id, "openai/ft:gpt-4o-2024-08-06");
    assert_eq!(refused(json!({"model": "ft:gpt-4o-2024-08-06:org\nb"})).code, "invalid_request");
}

#[test]
fn a13_only_the_known_routes_exist_and_only_in_one_spelling() {
    let route = |method: &Method, path: &str| OpenAi.route(method, path, None).map(|route| route.label);
    assert_eq!(route(&Method::POST, "/v1/chat/completions"), Some("chat_completions"));
    assert_eq!(route(&Method::POST, "/v1/embeddings"), Some("embeddings"));
    assert_eq!(route(&Method::GET, "/v1/models"), Some("models"));
    assert_eq!(route(&Method::POST, "/v1/completions"), Some("completions"));
    assert_eq!(route(&Method::POST, "/v1/responses"), Some("responses"));
    assert_eq!(route(&Method::POST, "/v1/moderations"), Some("moderations"));
    assert_eq!(route(&Method::POST, "/v1/responses/input_tokens"), Some("input_tokens"));
    assert_eq!(route(&Method::GET, "/v1/models/ft:gpt-4o:org::id"), Some("models"));
    assert_eq!(OpenAi.route(&Method::GET, "/v1/models", Some("limit=5")), None);
    assert_eq!(OpenAi.route(&Method::POST, "/v1/chat/completions", Some("")), None);
    for path in [
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/videos",
        "/v1/batches",
        "/v1/files",
        "/v1/uploads",
        "/v1/fine_tuning/jobs",
        "/v1/assistants",
        "/v1/threads",
        "/v1/vector_stores",
        "/v1/realtime",
        "/v1/evals",
        "/v1/containers",
        "/v1/conversations",
        "/v1/responses/compact",
        "/v1/decisions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/v1/chat/./completions",
        "/v1/x/../chat/completions",
        "/V1/chat/completions",
        "/v1/chat/Completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completions;x=1",
        "/v1/chat/completions%00",
        "/v1/%63hat/completions",
        "http://api.openai.com/v1/chat/completions",
        "v1/chat/completions",
        "/v1/chat/completions?x",
        "/v1/chat/completions ",
        "/v1/chat\\completions",
        "",
        "/",
        "*",
    ] {
        for method in
            [Method::POST, Method::GET, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS, Method::CONNECT]
        {
            assert_eq!(route(&method, path), None, "{method} {path}");
        }
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD] {
        assert_eq!(route(&method, "/v1/chat/completions"), None);
    }
    for id in ["", "..", ".", "a/b", "a%2Fb", "a?b", "a;b", "a b", "é"] {
        assert_eq!(route(&Method::GET, &format!("/v1/models/{id}")), None, "{id}");
    }
    assert_eq!(route(&Method::DELETE, "/v1/models/gpt-4o"), None);
}

#[test]
fn large_bodies_take_linear_time() {
    let start = Instant::now();
    let many = vec![json!({"role": "user", "content": "x"}); 50_000];
    call(json!({"messages": many}));
    let keys: serde_json::Map<String, Value> = (0..100_000).map(|i| (format!("k{i}"), json!(i))).collect();
    call(json!({"metadata": keys.clone()}));
    assert_eq!(read(&with(Value::Object(keys)).to_string()).err().unwrap().code, "unpriceable_request");
    // Hostile text of megabytes is not worth a tokenizer's time.
    let long = call(json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": "=".repeat(2 << 20)}]}));
    assert_eq!((long.body.exact_input(), long.input_max), (None, 1_047_576));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

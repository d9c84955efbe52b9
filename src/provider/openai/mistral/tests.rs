//! Mistral: what is priced, forced and refused; its usage; its errors; its routes.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::*;
use crate::pricing::{Tier, Usage};
use crate::provider::openai::tests::family::ask;
use crate::provider::openai::tests::sent;
use crate::provider::{Observed, Options};

fn read(fields: Value) -> Result<Call, Reject> {
    let mut body = json!({"model": "mistral-large-latest", "messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ask(&Mistral, "/v1/chat/completions", &body, &Options::default())
}

#[track_caller]
fn call(fields: Value) -> Call {
    read(fields).unwrap_or_else(|reject| panic!("{reject:?}"))
}

#[track_caller]
fn refused(fields: Value) -> &'static str {
    read(fields.clone()).err().unwrap_or_else(|| panic!("{fields} was taken")).code
}

#[test]
fn g4_max_tokens_and_n() {
    let absent = call(json!({}));
    assert_eq!((absent.output_max, absent.output_min, absent.body.exact_input()), (262_144, 16, None));
    assert_eq!(sent(&absent, Some(50))["max_tokens"], 50);
    let own = call(json!({"max_tokens": 9, "n": 3}));
    assert_eq!((own.output_max, own.output_min, own.samples), (9, 9, 3));
    // A clamp leaves room for what the request demands at least.
    let least = call(json!({"max_tokens": 100, "min_tokens": 40, "parallel_tool_calls": false}));
    assert_eq!((least.output_max, least.output_min), (100, 40));
    assert_eq!(call(json!({"max_tokens": 9, "min_tokens": 2})).output_min, 9);
    assert_eq!(refused(json!({"max_tokens": 9, "min_tokens": 10})), "invalid_request");
    assert_eq!(refused(json!({"min_tokens": -1})), "invalid_request");
    for other in ["max_completion_tokens", "max_output_tokens", "best_of"] {
        assert_eq!(refused(json!({other: 9})), "unpriceable_request");
    }
}

#[test]
fn g2_nothing_of_openais_is_put_into_a_request() {
    let stream = call(json!({"stream": true}));
    assert!(stream.shows_usage && stream.stream && stream.cuttable);
    let body = sent(&stream, None);
    assert_eq!(body.get("stream_options").or(body.get("service_tier")), None);
    assert_eq!(refused(json!({"stream_options": {"include_usage": true}})), "unpriceable_request");
}

#[test]
fn g4_service_tier() {
    assert_eq!(sent(&call(json!({"service_tier": "auto"})), None)["service_tier"], "standard_only");
    assert_eq!(sent(&call(json!({"service_tier": "standard_only"})), None)["service_tier"], "standard_only");
    assert_eq!(refused(json!({"service_tier": "priority"})), "unpriceable_request");
}

#[test]
fn g4_prompts_of_mistrals_own_fit_into_the_frame() {
    let bytes = |fields: Value| call(fields).input_max;
    for fields in
        [json!({"safe_prompt": true}), json!({"prompt_mode": "reasoning"}), json!({"reasoning_effort": "high"})]
    {
        assert!(bytes(fields) > bytes(json!({})));
    }
    // 16 a message, 1,024 a request, one for each byte.
    let body = json!({"model": "mistral-large-latest", "messages": [{"role": "user", "content": "Say hello."}]});
    assert_eq!(bytes(json!({})), body.to_string().len() as u64 + 16 + 1024);
    assert_eq!(refused(json!({"guardrails": []})), "unpriceable_request");
    assert_eq!(refused(json!({"agent_id": "x"})), "unpriceable_request");
    // Tokenizers that may normalise: U+FDFA has 3 bytes, and 33 under NFKC.
    let text = "\u{fdfa}".repeat(10);
    let body = json!({"model": "mistral-large-latest", "messages": [{"role": "user", "content": text}]});
    assert_eq!(
        ask(&Mistral, "/v1/chat/completions", &body, &Options::default()).unwrap().input_max,
        body.to_string().len() as u64 + 300 + 1040
    );
}

#[test]
fn g4_parts_and_tools() {
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    assert_eq!(call(part(json!({"type": "image_url", "image_url": "https://x/y.png"}))).input_max, 262_144);
    assert!(call(part(json!({"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}))).input_max < 2000);
    for hidden in ["document_url", "input_audio", "file", "video_url"] {
        assert_eq!(refused(part(json!({"type": hidden, hidden: "x"}))), "unpriceable_request", "{hidden}");
    }
    for kind in
        ["web_search", "web_search_premium", "code_interpreter", "image_generation", "document_library", "connector"]
    {
        assert_eq!(refused(json!({"tools": [{"type": kind}]})), "unpriceable_request", "{kind}");
    }
    // A call comes in one piece: what was written of it cannot be seen before.
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    assert!(!call(json!({"stream": true, "tools": tools})).cuttable);
    call(
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "any", "random_seed": 1,
        "prediction": {"type": "content", "content": "x"}, "response_format": {"type": "json_object"}, "prompt_cache_key": "k"}),
    );
    call(
        json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "prefix": true}]}),
    );
    assert_eq!(refused(json!({"messages": [{"role": "developer", "content": "x"}]})), "invalid_request");
}

#[test]
fn g1_fim_and_embeddings() {
    let fim = |fields: Value| {
        let mut body = json!({"model": "codestral-latest", "prompt": "def f("});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ask(&Mistral, "/v1/fim/completions", &body, &Options::default())
    };
    let plain = fim(json!({"suffix": "return a"})).unwrap();
    assert_eq!((plain.output_max, plain.samples, plain.shows_usage), (128_000, 1, true));
    assert_eq!(sent(&plain, None).get("max_tokens"), None);
    assert_eq!(sent(&plain, Some(20))["max_tokens"], 20);
    for bad in [json!({"prompt": ["a"]}), json!({"prompt": null}), json!({"prompt": [1]})] {
        assert_eq!(fim(bad).err().unwrap().code, "invalid_request");
    }
    assert_eq!(fim(json!({"best_of": 3})).err().unwrap().code, "unpriceable_request");
    let embed = |input: Value| {
        ask(
            &Mistral,
            "/v1/embeddings",
            &json!({"model": "mistral-embed", "input": input, "output_dimension": 5}),
            &Options::default(),
        )
    };
    assert_eq!(embed(json!(["ab", "c"])).unwrap().input_max, 4 + 1 + 3 + 1);
    assert_eq!(embed(json!(vec!["a"; 5000])).unwrap().input_max, 5000 * 4);
}

fn answer(text: &str, kind: &str) -> Observed {
    let route = Mistral.route(&Method::POST, "/v1/chat/completions", None).unwrap();
    let mut reader =
        Mistral.answer(route, &call(json!({"stream": true})), &AnswerHead::plain(kind), Ceiling::Certain(1 << 30));
    let mut emit = BytesMut::new();
    reader.push(text.as_bytes(), &mut emit);
    reader.finish(&mut emit);
    assert_eq!(emit, text);
    reader.observed(true).clone()
}

#[test]
fn g3_usage() {
    let body = |usage: &str| format!(r#"{{"model":"mistral-large-2512","choices":[],"usage":{usage}}}"#);
    let usage = |text: &str| answer(&body(text), "application/json").usage;
    let want = |input, cache_read, output| Some(Usage { input, cache_read, output, ..Usage::default() });
    let rest = r#""prompt_tokens":100,"completion_tokens":9,"total_tokens":109"#;
    assert_eq!(usage(&format!("{{{rest}}}")), want(100, 0, 9));
    assert_eq!(usage(&format!("{{{rest},\"num_cached_tokens\":64}}")), want(36, 64, 9));
    assert_eq!(
        usage(&format!("{{{rest},\"num_cached_tokens\":64,\"prompt_tokens_details\":{{\"cached_tokens\":64}}}}")),
        want(36, 64, 9)
    );
    // Two numbers: the one that costs more.
    assert_eq!(
        usage(&format!("{{{rest},\"num_cached_tokens\":64,\"prompt_tokens_details\":{{\"cached_tokens\":0}}}}")),
        want(100, 0, 9)
    );
    assert_eq!(usage(&format!("{{{rest},\"prompt_audio_seconds\":null}}")), want(100, 0, 9));
    assert_eq!(usage(&format!("{{{rest},\"prompt_audio_seconds\":3}}")), None);
    assert_eq!(usage(&format!("{{{rest},\"num_cached_tokens\":200}}")), None);
    let tier = answer(&body(&format!("{{{rest},\"service_tier\":\"priority\"}}")), "application/json").tier;
    assert_eq!(tier, Tier::Priority);
}

#[test]
fn errors_have_mistrals_shape() {
    let error = |status, code| ErrorAnswer {
        status,
        code,
        message: "no",
        loopers: json!({"code": code}),
        request_id: "r",
        route: None,
    };
    let body: Value = serde_json::from_slice(&Mistral.refusal(&error(402, "budget_exceeded")).body).unwrap();
    assert_eq!(
        body,
        json!({"object": "error", "message": "no", "type": "budget_exceeded", "param": null, "code": "3000", "loopers": {"code": "budget_exceeded"}})
    );
    let body: Value = serde_json::from_slice(&Mistral.refusal(&error(422, "unknown_model")).body).unwrap();
    assert_eq!(body["detail"], json!([{"loc": ["body"], "msg": "no", "type": "unknown_model"}]));
    let event = String::from_utf8(closing_event(&error(402, "budget_exceeded"))).unwrap();
    let data = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    assert!(serde_json::from_str::<Value>(data).unwrap().get("choices").is_none());
    assert!(answer(&event, "text/event-stream").error);
    assert!(Mistral.unbilled_status(422) && !Mistral.unbilled_status(500) && !Mistral.drop_stops_bill());
}

#[test]
fn a13_only_the_known_routes_exist() {
    let route = |method: &Method, path: &str| Mistral.route(method, path, None).map(|route| route.label);
    assert_eq!(route(&Method::POST, "/v1/fim/completions"), Some("fim_completions"));
    assert_eq!(route(&Method::POST, "/v1/responses"), Some("responses"));
    assert!(Mistral.route(&Method::POST, "/v1/responses/input_tokens", None).is_some_and(|route| !route.metered));
    assert_eq!(route(&Method::GET, "/v1/models"), Some("models"));
    assert_eq!(route(&Method::GET, "/v1/models/mistral-large-latest"), Some("models"));
    assert_eq!(Mistral.route(&Method::POST, "/v1/chat/completions", Some("a=b")), None);
    for path in [
        "/v1/agents/completions",
        "/v1/conversations",
        "/v1/agents",
        "/v1/libraries",
        "/v1/connectors",
        "/v1/rag",
        "/v1/workflows",
        "/v1/ocr",
        "/v1/audio/transcriptions",
        "/v1/audio/speech",
        "/v1/audio/realtime",
        "/v1/moderations",
        "/v1/classifications",
        "/v1/chat/moderations",
        "/v1/chat/classifications",
        "/v1/batch/jobs",
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/v1/responses/resp_1",
        "/v1/responses/compact",
        "/v1/completions",
        "/chat/completions",
        "/v1/chat/completions/",
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE, Method::PATCH] {
            assert_eq!(route(&method, path), None, "{method} {path}");
        }
    }
}

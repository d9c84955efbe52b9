//! The attack list, lines 1–7, 9–13, as far as a request goes.

use super::*;
use crate::money::Money;

fn code(body: &str) -> &'static str {
    read(OPUS, "converse", body).err().map_or("taken", |reject| reject.code)
}

#[test]
fn cap_01_no_limit_means_the_models_maximum() {
    for (model, max) in [(OPUS, 128_000), (NOVA, 10_000), ("us.amazon.nova-2-lite-v1%3A0", 64_000)] {
        let call = call_to(model, json!({}));
        assert_eq!(call.output_max, max, "{model}");
        assert_eq!(sent(&call, Some(20))["inferenceConfig"]["maxTokens"], 20);
    }
    // Claude's own format must have one.
    let mut body = claude(json!({}));
    body.as_object_mut().unwrap().remove("max_tokens");
    assert_eq!(read(OPUS, "invoke", &body.to_string()).err().unwrap().code, "invalid_request");
}

#[test]
fn cap_02_no_other_name_of_a_limit_is_taken() {
    for name in [
        "max_tokens",
        "maxTokens",
        "max_completion_tokens",
        "maxOutputTokens",
        "n",
        "best_of",
        "candidateCount",
        "numResults",
    ] {
        assert_eq!(refused(json!({name: 9})).code, "unpriceable_request", "{name}");
    }
}

#[test]
fn cap_03_limits_that_are_no_numbers_of_tokens() {
    let bad =
        ["0", "-1", "-0", "1.5", "10.0", "1e3", "\"10\"", "true", "null", "[10]", "{}", "9007199254740993", "1e999"];
    for bad in bad {
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"text":"x"}}]}}],"inferenceConfig":{{"maxTokens":{bad}}}}}"#
        );
        assert_eq!(code(&body), "invalid_request", "{bad}");
        let native = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"max_tokens":{bad}}}"#);
        assert_eq!(read(OPUS, "invoke", &native).err().unwrap().code, "invalid_request", "{bad}");
    }
    assert_eq!(call(json!({"inferenceConfig": {"maxTokens": 1u64 << 53}})).output_max, 1_000_000);
}

#[test]
fn cap_04_what_is_priced_is_what_is_read() {
    let rest = r#""messages":[{"role":"user","content":[{"text":"x"}]}]"#;
    for (body, want) in [
        (
            format!(r#"{{"inferenceConfig":{{"maxTokens":1}},"inferenceConfig":{{"maxTokens":9}},{rest}}}"#),
            "ambiguous_request",
        ),
        (format!(r#"{{"inferenceConfig":{{"maxTokens":1,"maxTokens":9}},{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"inferenceConfig":{{"maxTokens":1,"maxToken\u0073":9}},{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"inferenceConfi\u0067":{{"maxTokens":1}},{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"InferenceConfig":{{"maxTokens":1}},{rest}}}"#), "ambiguous_request"),
        (format!(r#"{{"inferenceConfig":{{"MaxTokens":1}},{rest}}}"#), "unpriceable_request"),
        (format!("\u{feff}{{{rest}}}"), "invalid_request"),
        (format!("{{{rest}}}{{}}"), "invalid_request"),
        (format!(r#"{{"requestMetadata":{{"a":"\ud800"}},{rest}}}"#), "invalid_request"),
        (format!("[{{{rest}}}]"), "invalid_request"),
        (r#"{"messages":[{"role":"user","content":[{"text":"a","text":"b"}]}]}"#.into(), "ambiguous_request"),
        (r#"{"messages":[{"role":"user","content":[{"text":"a","image":{}}]}]}"#.into(), "invalid_request"),
        (String::new(), "invalid_request"),
        ("{}".into(), "invalid_request"),
    ] {
        assert_eq!(code(&body), want, "{body}");
    }
    assert_eq!(
        read(NOVA, "invoke", &with(json!({"inferenceConfig": {"maxTokens": 1, "max_new_tokens": 9}})).to_string())
            .err()
            .unwrap()
            .code,
        "ambiguous_request"
    );
    assert_eq!(
        read("mistral.mistral-large-2402-v1%3A0", "invoke", r#"{"prompt":"x","messages":[]}"#).err().unwrap().code,
        "ambiguous_request"
    );
}

#[test]
fn cap_05_a_compressed_body_is_no_json() {
    assert_eq!(code("\u{1f}\u{8b}\u{8}"), "invalid_request");
}

#[test]
fn cap_06_the_model_is_named_once() {
    assert!(refused(json!({"modelId": "amazon.nova-micro-v1:0"})).message.contains("modelId"));
    assert_eq!(refused(json!({"model": "amazon.nova-micro-v1:0"})).code, "unpriceable_request");
    let native = read(OPUS, "invoke", &claude(json!({"model": "claude-haiku-5-5"})).to_string());
    assert!(native.err().unwrap().message.contains("path"));
    assert!(read(OPUS, "invoke", &claude(json!({"stream": true})).to_string()).is_err());
}

#[test]
fn cap_07_what_is_not_in_the_body_is_refused() {
    let native = |content: Value| {
        read(OPUS, "invoke", &claude(json!({"messages": [{"role": "user", "content": content}]})).to_string())
    };
    for source in [
        json!({"type": "url", "url": "https://x"}),
        json!({"type": "file", "file_id": "f"}),
        json!({"type": "base64", "media_type": "image/png", "data": "AAAA", "url": "https://x"}),
        json!({"type": "base64", "media_type": "image/png"}),
    ] {
        assert!(native(json!([{"type": "image", "source": source}])).is_err(), "{source}");
    }
    for kind in ["server_tool_use", "web_search_tool_result", "container_upload", "mcp_tool_use", "compaction", ""] {
        assert_eq!(native(json!([{"type": kind}])).err().unwrap().code, "unpriceable_request", "{kind}");
    }
    for field in ["container", "mcp_servers", "thread", "context_management"] {
        assert!(read(OPUS, "invoke", &claude(json!({field: {}})).to_string()).is_err(), "{field}");
    }
}

#[test]
fn cap_09_prices_depend_on_the_geography() {
    // Opus 5.5: 4/20 for the world; a tenth more in the United States, and for an id without a geography.
    for (id, input, output) in [
        ("global.anthropic.claude-opus-5-5", 4_000, 20_000),
        ("us.anthropic.claude-opus-5-5", 4_400, 22_000),
        ("anthropic.claude-opus-5-5", 4_400, 22_000),
        ("eu.amazon.nova-2-lite-v1%3A0", 429, 3_597),
        ("us.amazon.nova-2-lite-v1%3A0", 330, 2_750),
    ] {
        assert_eq!(call_to(id, json!({})).bound(1_000, 100), Money::from_nano(1_000 * input + 100 * output), "{id}");
    }
    // Without a region, the dearest row of all.
    let nowhere = Options::default();
    let read = |id: &str| read_with(&nowhere, &[], (id, "converse"), &with(json!({})).to_string()).unwrap();
    assert!(read("anthropic.claude-opus-5-5").bound(1_000, 100) >= Money::from_nano(1_000 * 4_400 + 100 * 22_000));
    // Haiku 5.5: every rate times five above 100,000 tokens of input.
    let haiku = call_to("us.anthropic.claude-haiku-5-5", json!({}));
    assert_eq!(haiku.bound(100_000, 10), Money::from_nano(100_000 * 110 + 10 * 550));
    assert_eq!(haiku.bound(100_001, 10), Money::from_nano(100_001 * 550 + 10 * 2_750));
}

#[test]
fn cap_11_bytes_bound_tokens() {
    for text in
        ["\u{fdfa}".repeat(100), "\u{3316}".repeat(50), "😀".repeat(100), "\u{0}\u{1}".repeat(50), "字".repeat(300)]
    {
        let call = call(json!({"messages": [{"role": "user", "content": [{"text": text}]}]}));
        let wide: u64 =
            unicode_normalization::UnicodeNormalization::nfkc(text.as_str()).map(|c| c.len_utf8() as u64).sum();
        assert!(call.input_max >= wide.max(text.len() as u64) + 16 + 1_024, "{text}");
    }
    // Names of a schema's properties are part of the prompt.
    let wide = json!({"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"properties": {"\u{fdfa}".repeat(1000): {}}}}}}]}});
    assert!(call(wide).input_max > 33_000);
}

#[test]
fn cap_12_a_model_without_a_price_is_refused_with_the_row_to_add() {
    let reject = refused_by("us.anthropic.claude-7", json!({}));
    assert_eq!(reject.code, "unknown_model");
    assert!(reject.hint.contains("bedrock/us.anthropic.claude-7:\n  input: \"…\""), "{}", reject.hint);
    // Embeddings do not converse, and chat models embed nothing.
    assert_eq!(refused_by("amazon.titan-embed-text-v2%3A0", json!({})).code, "invalid_request");
    assert_eq!(refused_by("us.anthropic.claude-opus-5-5-v1%3A0", json!({})).code, "unknown_model");
    // Government regions have rows of their own, or no price.
    let gov = Options { region: Some("us-gov-west-1".into()), ..Options::default() };
    assert!(
        read_with(&gov, &[], ("mistral.mistral-large-2402-v1%3A0", "converse"), &with(json!({})).to_string()).is_err()
    );
}

/// A generator of its own, so that a failure can be told again.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Routes that cost money and are not metered, and other spellings of those that are.
const DENIED: &[&str] = &[
    "/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream",
    "/async-invoke",
    "/async-invoke/arn%3Aaws",
    "/guardrail/g/version/1/apply",
    "/guardrail-checks/invoke",
    "/agents/a/agentAliases/b/sessions/c/text",
    "/flows/f/aliases/a",
    "/retrieveAndGenerate",
    "/retrieveAndGenerateStream",
    "/knowledgebases/k/retrieve",
    "/rerank",
    "/generateQuery",
    "/optimize-prompt",
    "/model-invocation-job",
    "/model-invocation-jobs",
    "/provisioned-model-throughput",
    "/foundation-models",
    "/inference-profiles",
    "/custom-models",
    "/openai/v1/chat/completions",
    "/openai/v1/responses",
    "/v1/chat/completions",
    "/anthropic/v1/messages",
    "/v1/messages",
    "",
    "/",
    "*",
    "/model",
    "/model/",
    "/model/x",
    "/model/x/",
    "/model//converse",
    "/model/x/converse/",
    "/model/x//converse",
    "/model/x/y/converse",
    "/model/x/./converse",
    "/model/x/../converse",
    "/model/x/Converse",
    "/model/x/converse;a=1",
    "/model/x/converse%20",
    "/model/x/%63onverse",
    "/MODEL/x/converse",
    "model/x/converse",
    "http://h/model/x/converse",
    "/model/arn%3Aaws/x/converse",
    "/model/arn:aws:bedrock:us-east-1:1:application-inference-profile/abc/converse",
];

#[test]
fn cap_13_only_the_known_routes_exist_and_only_in_one_spelling() {
    let route = |method: &Method, path: &str| Bedrock.route(method, path, None);
    let known = [
        ("converse", CONVERSE),
        ("converse-stream", CONVERSE_STREAM),
        ("invoke", INVOKE),
        ("invoke-with-response-stream", INVOKE_STREAM),
        ("count-tokens", COUNT_TOKENS),
    ];
    let path = |operation: &str| format!("/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/{operation}");
    for (operation, want) in known {
        assert_eq!(route(&Method::POST, &path(operation)), Some(want));
        assert_eq!(Bedrock.route(&Method::POST, &path(operation), Some("")), None);
        assert_eq!(Bedrock.route(&Method::POST, &path(operation), Some("x=1")), None);
    }
    for denied in DENIED {
        for method in [Method::POST, Method::GET, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS] {
            assert_eq!(route(&method, denied), None, "{method} {denied}");
        }
    }
    for (operation, _) in known {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::CONNECT] {
            assert_eq!(route(&method, &path(operation)), None);
        }
    }
}

#[test]
fn cap_13_no_path_one_change_away_is_a_route() {
    let known = ["converse", "converse-stream", "invoke", "invoke-with-response-stream", "count-tokens"];
    let mut random = Lcg(7);
    let signs: Vec<char> = "/%.;:?#@\\ ~ZAz3A0-".chars().collect();
    let mut tried = 0;
    while tried < 500 {
        let operation = known[random.next(known.len())];
        let good = format!("/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/{operation}");
        let mut text: Vec<char> = good.chars().collect();
        let at = random.next(text.len());
        match random.next(3) {
            0 => drop(text.remove(at)),
            1 => text.insert(at, signs[random.next(signs.len())]),
            _ => text[at] = signs[random.next(signs.len())],
        }
        let text: String = text.into_iter().collect();
        // A change within the id may make another good id; whether it has a price is asked later.
        let is_id = text.strip_prefix("/model/").and_then(|rest| rest.split_once('/')).is_some_and(|(id, rest)| {
            let plain = id.replace("%3A", ":");
            let is_plain = plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
            known.contains(&rest)
                && is_plain
                && !plain.contains("..")
                && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        });
        if is_id {
            continue;
        }
        tried += 1;
        assert_eq!(Bedrock.route(&Method::POST, &text, None), None, "{text}");
    }
}

#[test]
fn large_bodies_take_linear_time() {
    let start = std::time::Instant::now();
    let many = vec![json!({"role": "user", "content": [{"text": "x"}]}); 20_000];
    call(json!({"messages": many}));
    let long = call(json!({"messages": [{"role": "user", "content": [{"text": "a\u{301}\u{316}".repeat(500_000)}]}]}));
    assert_eq!(long.input_max, 1_000_000);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

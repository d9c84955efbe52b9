//! `invoke`: the vendors' own formats, field by field.

use super::*;
use crate::provider::fields::Rule;

const MISTRAL: &str = "mistral.mistral-large-2402-v1%3A0";
const LLAMA: &str = "meta.llama3-8b-instruct-v1%3A0";
const TITAN: &str = "amazon.titan-text-express-v1";
const TITAN_EMBED: &str = "amazon.titan-embed-text-v2%3A0";
const COHERE: &str = "cohere.embed-english-v3";

fn invoke(id: &str, body: Value) -> Result<Call, Reject> {
    read(id, "invoke", &body.to_string())
}

type Table = &'static [(&'static str, Rule)];

/// Every field of every table, with the body that it belongs to and values that are fine there.
fn tables() -> Vec<(&'static str, Table, Value)> {
    vec![
        (OPUS, claude::FIELDS, super::claude(json!({}))),
        (NOVA, invoke::NOVA, with(json!({}))),
        (MISTRAL, invoke::MISTRAL, json!({"prompt": "x"})),
        (LLAMA, invoke::LLAMA, json!({"prompt": "x"})),
        (TITAN, invoke::TITAN_TEXT, json!({"inputText": "x"})),
        (TITAN_EMBED, invoke::TITAN_EMBED, json!({"inputText": "x"})),
        (COHERE, invoke::COHERE_EMBED, json!({"texts": ["x"], "input_type": "search_query"})),
    ]
}

#[test]
fn every_denied_field_is_refused_by_name_and_every_unknown_one() {
    for (id, table, body) in tables() {
        assert!(invoke(id, body.clone()).is_ok(), "{id}");
        for (name, rule) in table {
            let mut body = body.clone();
            body[*name] = json!("x");
            let read = invoke(id, body);
            match rule {
                Rule::Denied(_) => {
                    let reject = read.err().unwrap_or_else(|| panic!("{id} took {name}"));
                    assert_eq!(reject.code, "unpriceable_request", "{id} {name}");
                    assert!(reject.message.contains(name), "{id} {name}");
                }
                Rule::Free | Rule::Prompt => assert!(read.is_ok(), "{id} {name}"),
                Rule::Read => {}
            }
        }
        for name in ["new_field", "tool_configuration", "service_tier2", "num_generations", "best_of", "max_length"] {
            let mut body = body.clone();
            body[name] = json!(5);
            assert_eq!(invoke(id, body).err().unwrap().code, "unpriceable_request", "{id} {name}");
        }
    }
}

#[test]
fn each_vendors_limit_is_read_and_written() {
    let nova = |config: Value| with(json!({"inferenceConfig": config}));
    for (id, body, output_max, place) in [
        (OPUS, claude(json!({"max_tokens": 77})), 77, vec!["max_tokens"]),
        (NOVA, nova(json!({"maxTokens": 77})), 77, vec!["inferenceConfig", "maxTokens"]),
        (NOVA, nova(json!({"max_new_tokens": 77, "topK": 5})), 77, vec!["inferenceConfig", "max_new_tokens"]),
        (NOVA, with(json!({})), 10_000, vec!["inferenceConfig", "maxTokens"]),
        (MISTRAL, json!({"prompt": "x", "max_tokens": 77}), 77, vec!["max_tokens"]),
        (MISTRAL, json!({"messages": [{"role": "user", "content": "x"}]}), 4_096, vec!["max_tokens"]),
        (LLAMA, json!({"prompt": "x", "max_gen_len": 77}), 77, vec!["max_gen_len"]),
        (LLAMA, json!({"prompt": "x"}), 8_192, vec!["max_gen_len"]),
        (
            TITAN,
            json!({"inputText": "x", "textGenerationConfig": {"maxTokenCount": 77, "topP": 1}}),
            77,
            vec!["textGenerationConfig", "maxTokenCount"],
        ),
        (TITAN, json!({"inputText": "x"}), 8_000, vec!["textGenerationConfig", "maxTokenCount"]),
    ] {
        let call = invoke(id, body.clone()).unwrap_or_else(|reject| panic!("{body}: {reject:?}"));
        assert_eq!(call.output_max, output_max, "{body}");
        let mut want = body.clone();
        match place.as_slice() {
            [top] => want[*top] = json!(20),
            [object, name] => want[*object][*name] = json!(20),
            _ => unreachable!(),
        }
        assert_eq!(sent(&call, Some(20)), want);
        assert_eq!(sent(&call, None), body);
        assert!(read(id, "invoke-with-response-stream", &body.to_string()).unwrap().stream);
    }
    for (id, body) in [
        (TITAN, json!({"inputText": "x", "textGenerationConfig": {"maxTokens": 77}})),
        (NOVA, nova(json!({"max_tokens": 77}))),
        (NOVA, nova(json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}))),
        (LLAMA, json!({"prompt": "x", "max_tokens": 77})),
    ] {
        assert_eq!(invoke(id, body.clone()).err().unwrap().code, "unpriceable_request", "{body}");
    }
}

#[test]
fn embeddings_have_input_only() {
    let titan =
        invoke(TITAN_EMBED, json!({"inputText": "x".repeat(500), "dimensions": 256, "normalize": true})).unwrap();
    assert_eq!((titan.output_max, titan.output_min), (0, 0));
    assert!(titan.input_max > 500 && titan.input_max < 2_000);
    let body = json!({"texts": ["x", "y"], "input_type": "search_document", "truncate": "END"});
    let cohere = invoke(COHERE, body.clone()).unwrap();
    // A row's window is that of one text.
    assert!(cohere.input_max >= 2 + 2 * 16, "{}", cohere.input_max);
    assert_eq!(sent(&cohere, Some(5)), body);
    let many =
        |count: usize| invoke(COHERE, json!({"texts": vec!["x".repeat(100); count], "input_type": "search_document"}));
    assert!(many(96).unwrap().input_max >= 9_600);
    assert_eq!(many(97).err().unwrap().code, "invalid_request");
    assert!(many(0).is_err());
    for (id, body) in [
        (COHERE, json!({"texts": ["x"], "input_type": "image"})),
        (COHERE, json!({"texts": ["x"], "input_type": "search_query", "images": ["data:"]})),
        (TITAN_EMBED, json!({"inputImage": "AAAA"})),
        (TITAN_EMBED, json!({"inputText": ["x"]})),
        (COHERE, json!({"texts": "x", "input_type": "search_query"})),
    ] {
        assert!(invoke(id, body.clone()).is_err(), "{body}");
    }
    assert!(read(TITAN_EMBED, "invoke-with-response-stream", r#"{"inputText":"x"}"#).is_err());
    assert!(read(COHERE, "invoke-with-response-stream", r#"{"texts":["x"]}"#).is_err());
}

#[test]
fn formats_that_are_not_known_go_by_converse() {
    for id in ["openai.gpt-oss-120b-1%3A0", "ai21.jamba-1-5-mini-v1%3A0", "deepseek.v3.2"] {
        let reject = invoke(id, json!({"messages": []})).err().unwrap();
        assert!(reject.hint.contains("converse"), "{id}: {reject:?}");
        call_to(id, json!({}));
    }
}

#[test]
fn claudes_own_format() {
    let body = claude(json!({
        "system": [{"type": "text", "text": "x", "cache_control": null}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t"},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "x", "signature": "s"},
                {"type": "redacted_thinking", "data": "AAAA"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}], "is_error": false},
                {"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
        ],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"}},
            {"type": "custom", "name": "g", "input_schema": {"type": "object"}},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "e", "max_characters": 100}],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "adaptive"}, "anthropic_beta": ["effort-2025-11-24"],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "temperature": 1, "top_p": 0.5, "top_k": 5, "stop_sequences": ["x"], "metadata": {"user_id": "u"},
    }));
    let call = invoke(OPUS, body).unwrap_or_else(|reject| panic!("{reject:?}"));
    assert!(call.terms.cache_write_5m && call.terms.image_in && !call.terms.cache_write_1h && !call.cuttable);
    // One image, two tools of Anthropic's.
    assert!(call.input_max > 286 * 286 + 2 * 8_192 && call.input_max < 110_000, "{}", call.input_max);
    for (field, value) in [
        ("tools", json!([{"type": "web_search_20250305", "name": "web_search"}])),
        ("tools", json!([{"type": "code_execution_20250825", "name": "c"}])),
        ("tools", json!([{"type": "advisor_20260301", "name": "a"}])),
        ("tools", json!([{"type": "bash", "name": "bash"}])),
        ("tools", json!([{"type": 5, "name": "bash"}])),
        ("tools", json!([{"name": "f", "input_schema": {}, "defer_loading": true}])),
        ("tools", json!([{"name": "f", "input_schema": {}, "allowed_callers": ["code_execution_20250825"]}])),
        ("anthropic_beta", json!(["mcp-client-2025-04-04"])),
        ("messages", json!([{"role": "system", "content": "x"}])),
        ("messages", json!([{"role": "user", "content": [{"type": "text", "text": "x", "file_id": "f"}]}])),
        ("messages", json!([{"role": "user", "content": "x", "name": "n"}])),
        ("messages", json!([])),
        ("output_config", json!({"task_budget": {"total": 5}})),
        ("thinking", json!({"type": "enabled", "budget_tokens": "many"})),
    ] {
        assert!(invoke(OPUS, claude(json!({field: value}))).is_err(), "{field}: {value}");
    }
    let pdf =
        json!([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}]);
    assert_eq!(
        invoke(OPUS, claude(json!({"messages": [{"role": "user", "content": pdf}]}))).unwrap().input_max,
        1_000_000
    );
    let allowed = Options { allow_fields: vec!["mcp-client-2025-04-04".into()], ..options() };
    let body = claude(json!({"anthropic_beta": ["mcp-client-2025-04-04"]})).to_string();
    assert!(read_with(&allowed, &[], (OPUS, "invoke"), &body).is_ok());
}

#[test]
fn switches_that_anthropics_clients_send_unasked_are_known() {
    // Claude Code's, and `AnthropicBedrock`'s copy of the header `anthropic-beta`.
    let betas = json!(["claude-code-20250219", "interleaved-thinking-2025-05-14", "computer-use-2025-11-24"]);
    let call = read(OPUS, "invoke", &claude(json!({"anthropic_beta": betas})).to_string()).unwrap();
    assert_eq!(sent(&call, None)["anthropic_beta"], betas);
    // In the header nobody reads them, so it does not go out.
    assert!(Bedrock.dropped_headers().contains(&"anthropic-beta"));
    for dear in ["code-execution-2025-08-25", "compact-2026-01-12", "output-128k-2025-02-19", "unheard-of"] {
        assert!(read(OPUS, "invoke", &claude(json!({"anthropic_beta": [dear]})).to_string()).is_err(), "{dear}");
    }
}

//! Wire shapes and bills of Mistral's routes.

use serde_json::{Value, json};

use super::super::MockHandle;
use super::super::tests::{Answered, at_rest, mock, parsed, post, raw_request, send};

const KEY: &[&str] = &["authorization: Bearer test"];

async fn ask(mock: &MockHandle, extra: Value, script: &str) -> Answered {
    let mut body = json!({ "model": "mistral-large-4", "messages": [{ "role": "user", "content": "two words" }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post(mock, "/mistral/v1/chat/completions", KEY, &body, script).await
}

#[tokio::test]
async fn plain_answer_and_its_price() {
    let mock = mock().await;
    let body = ask(&mock, json!({}), "tokens=7").await.json();
    assert_eq!((&body["model"], &body["choices"][0]["finish_reason"]), (&json!("mistral-large-4"), &json!("stop")));
    assert!(body.get("system_fingerprint").is_none() && body["choices"][0].get("logprobs").is_none());
    assert_eq!(
        body["usage"],
        json!({ "prompt_tokens": 8, "completion_tokens": 7, "total_tokens": 15, "num_cached_tokens": 0,
                "prompt_tokens_details": { "cached_tokens": 0 }, "prompt_audio_seconds": null,
                "service_tier": "standard" })
    );
    // 8 x $0.68 + 7 x $2.09
    assert_eq!(at_rest(&mock).await.by_provider["mistral"].nano, 5_440 + 14_630);
}

#[tokio::test]
async fn the_last_chunk_carries_the_usage() {
    let mock = mock().await;
    let answer = ask(&mock, json!({ "stream": true, "n": 2 }), "tokens=2").await;
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
    let chunks = parsed(&answer);
    let last = chunks.last().unwrap();
    assert_eq!(
        (&last["choices"][0]["finish_reason"], &last["usage"]["completion_tokens"]),
        (&json!("stop"), &json!(4))
    );
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.get("usage").is_none()));
    for (mode, reports) in [("none", 0), ("twice", 2), ("after_done", 1), ("cumulative", 5)] {
        let chunks = parsed(&ask(&mock, json!({ "stream": true }), &format!("tokens=3;usage={mode}")).await);
        assert_eq!(chunks.iter().filter(|chunk| chunk["usage"].is_object()).count(), reports, "{mode}");
    }
    let broken = parsed(&ask(&mock, json!({ "stream": true }), "tokens=3;error_at=1").await);
    assert_eq!(broken.last().unwrap()["object"], "error");
}

#[tokio::test]
async fn cache_keys_fim_tools_and_embeddings() {
    let mock = mock().await;
    let long = "x ".repeat(100);
    let extra = json!({ "prompt_cache_key": "k", "messages": [{ "role": "user", "content": long }] });
    let cached = |answer: Answered| answer.json()["usage"]["num_cached_tokens"].clone();
    assert_eq!(cached(ask(&mock, extra.clone(), "tokens=1").await), 0);
    assert_eq!(cached(ask(&mock, extra, "tokens=1").await), 64);
    // 106 x $0.68 + $2.09, then 42 x $0.68 + 64 x $0.068 + $2.09
    assert_eq!(at_rest(&mock).await.invoice_nano, 72_080 + 2_090 + 28_560 + 4_352 + 2_090);
    let body = json!({ "model": "codestral-latest", "prompt": "a b", "suffix": "c" });
    let fim = post(&mock, "/mistral/v1/fim/completions", KEY, &body, "tokens=2").await.json();
    assert_eq!((&fim["object"], &fim["usage"]["prompt_tokens"]), (&json!("chat.completion"), &json!(6)));
    let tools = json!({ "tools": [{ "type": "function", "function": { "name": "look" } }] });
    let call = &ask(&mock, tools, "tool_call").await.json()["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["function"]["name"], call["id"].as_str().unwrap().len()), (&json!("look"), 9));
    mock.reset();
    let body = json!({ "model": "mistral-embed", "input": ["a b", "c"] });
    let embedded = post(&mock, "/mistral/v1/embeddings", KEY, &body, "").await.json();
    assert_eq!(
        (embedded["data"][1]["embedding"].as_array().unwrap().len(), &embedded["usage"]["prompt_tokens"]),
        (1024, &json!(3))
    );
    assert_eq!(at_rest(&mock).await.invoice_nano, 300);
    assert_eq!(send(&mock, &raw_request("GET", "/mistral/v1/models", "", "")).await.status, 200);
}

#[tokio::test]
async fn errors_have_the_shape() {
    let mock = mock().await;
    let unknown = ask(&mock, json!({ "stream_options": { "include_usage": true } }), "").await;
    assert_eq!((unknown.status, &unknown.json()["detail"][0]["loc"]), (422, &json!(["body", "stream_options"])));
    let limited = ask(&mock, json!({}), "status=429").await;
    assert_eq!(
        (limited.status, &limited.json()["object"], &limited.json()["code"]),
        (429, &json!("error"), &json!("1300"))
    );
    for (extra, status) in [
        (json!({ "model": "mistral-1" }), 404),
        (json!({ "model": "mistral-embed" }), 400),
        (json!({ "messages": [] }), 422),
        (json!({ "n": 0 }), 422),
        (json!({ "service_tier": "flex" }), 422),
        (json!({ "max_tokens": 1_048_570 }), 400),
    ] {
        assert_eq!(ask(&mock, extra.clone(), "").await.status, status, "{extra}");
    }
    let no_key = post(&mock, "/mistral/v1/chat/completions", &[], &json!({}), "").await;
    assert_eq!((no_key.status, no_key.json()), (401, json!({ "detail": "Unauthorized" })));
    assert_eq!(mock.invoice().calls, 0);
}

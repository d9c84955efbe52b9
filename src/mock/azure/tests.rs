//! Wire shapes and bills of Azure's two surfaces.

use serde_json::{Value, json};

use super::super::MockHandle;
use super::super::tests::{Answered, at_rest, mock, parsed, post, raw_request, send};

const KEY: &[&str] = &["api-key: test"];
const DATED: &str = "/azure/openai/deployments/my-gpt-4o-mini/chat/completions?api-version=2024-10-21";

async fn ask(mock: &MockHandle, path: &str, extra: Value, script: &str) -> Answered {
    let mut body = json!({ "messages": [{ "role": "user", "content": "two words" }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post(mock, path, KEY, &body, script).await
}

#[tokio::test]
async fn the_deployment_names_the_model() {
    let mock = mock().await;
    let answer = ask(&mock, DATED, json!({ "model": "ignored" }), "tokens=5").await;
    assert!(answer.head.contains("apim-request-id: "));
    let body = answer.json();
    assert_eq!(body["model"], "gpt-4o-mini-2026-01-01");
    assert_eq!(body["prompt_filter_results"][0]["prompt_index"], 0);
    assert!(body["choices"][0]["content_filter_results"].is_object());
    // 8 x $0.15 + 5 x $0.6
    assert_eq!(at_rest(&mock).await.by_model["azure/gpt-4o-mini"].nano, 1_200 + 3_000);
    mock.reset();
    let zoned = ask(&mock, "/azure/openai/v1/chat/completions", json!({ "model": "eu-gpt-6.1-sol" }), "tokens=2").await;
    assert_eq!(zoned.json()["model"], "gpt-6.1-sol-2026-01-01");
    // 8 x $2.4 + 2 x $12
    assert_eq!(at_rest(&mock).await.by_model["azure/eu/gpt-6.1-sol"].nano, 19_200 + 24_000);
    let told = ask(&mock, "/azure/openai/v1/chat/completions", json!({ "model": "mine" }), "model_as=gpt-4o").await;
    assert_eq!(told.json()["model"], "gpt-4o");
}

#[tokio::test]
async fn the_filter_of_the_prompt_comes_first() {
    let mock = mock().await;
    let extra = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let answer = ask(&mock, DATED, extra, "tokens=2").await;
    let chunks = parsed(&answer);
    assert_eq!((&chunks[0]["choices"], chunks[0]["prompt_filter_results"].is_array()), (&json!([]), true));
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 2);
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn some_errors_are_billed() {
    let mock = mock().await;
    let filtered = ask(&mock, DATED, json!({}), "content_filter;tokens=50").await;
    let error = &filtered.json()["error"];
    assert_eq!((filtered.status, &error["code"]), (400, &json!("content_filter")));
    assert_eq!(error["innererror"]["code"], "ResponsibleAIPolicyViolation");
    assert_eq!(at_rest(&mock).await.invoice_nano, 1_200);
    mock.reset();
    let late = ask(&mock, DATED, json!({}), "status=408;tokens=5").await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (408, &json!("408")));
    assert_eq!(at_rest(&mock).await.invoice_nano, 1_200 + 3_000);
    mock.reset();
    assert_eq!(ask(&mock, DATED, json!({}), "status=429").await.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(ask(&mock, DATED, json!({}), "status=400").await.status, 400);
    assert_eq!(mock.invoice().calls, 0);
}

#[tokio::test]
async fn routes_of_both_surfaces() {
    let mock = mock().await;
    let body = json!({ "model": "gpt-5.4", "input": "a b" });
    for path in ["/azure/openai/v1/responses", "/azure/openai/responses?api-version=2025-04-01-preview"] {
        let answer = post(&mock, path, &["authorization: Bearer jwt"], &body, "tokens=2").await.json();
        assert_eq!((&answer["object"], &answer["model"]), (&json!("response"), &json!("gpt-5.4-2026-01-01")));
    }
    // Twice 8 x $2.5 + 2 x $15
    assert_eq!(at_rest(&mock).await.by_provider["azure"].nano, 2 * (20_000 + 30_000));
    mock.reset();
    let body = json!({ "input": "a b" });
    let path = "/azure/openai/deployments/text-embedding-3-large/embeddings?api-version=2024-10-21";
    assert_eq!(post(&mock, path, KEY, &body, "").await.json()["model"], "text-embedding-3-large");
    assert_eq!(at_rest(&mock).await.invoice_nano, 286);
    for (path, status) in [
        ("/azure/openai/deployments/gpt-4o/chat/completions", 404),
        ("/azure/openai/deployments/mine/chat/completions?api-version=1", 404),
        ("/azure/openai/v1/videos", 404),
        ("/azure/openai/v1/models", 405),
        ("/azure/v1/chat/completions", 404),
    ] {
        assert_eq!(ask(&mock, path, json!({ "model": "gpt-4o" }), "").await.status, status, "{path}");
    }
    assert_eq!(post(&mock, DATED, &[], &body, "").await.status, 401);
    assert_eq!(send(&mock, &raw_request("GET", "/azure/openai/v1/models", "", "")).await.status, 200);
}

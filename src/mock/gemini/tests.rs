//! Wire shapes and bills of contents and embeddings.

use serde_json::{Value, json};

use super::super::MockHandle;
use super::super::tests::{Answered, at_rest, mock, parsed, post, raw_request, send};

const KEY: &[&str] = &["x-goog-api-key: test"];

async fn call(mock: &MockHandle, place: &str, extra: Value, script: &str) -> Answered {
    let mut body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "two words" }] }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post(mock, &format!("/gemini/v1beta/models/{place}"), KEY, &body, script).await
}

#[tokio::test]
async fn plain_answer_and_its_price() {
    let mock = mock().await;
    let body = call(&mock, "gemini-3.8-flash:generateContent", json!({}), "tokens=10;reasoning=4").await.json();
    assert_eq!(
        body["usageMetadata"],
        json!({ "promptTokenCount": 2, "candidatesTokenCount": 6, "thoughtsTokenCount": 4, "totalTokenCount": 12,
                "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": 2 }],
                "candidatesTokensDetails": [{ "modality": "TEXT", "tokenCount": 6 }], "serviceTier": "standard" })
    );
    let candidate = &body["candidates"][0];
    assert_eq!((&candidate["finishReason"], &candidate["content"]["role"]), (&json!("STOP"), &json!("model")));
    assert_eq!(bpe_openai::o200k_base().count(candidate["content"]["parts"][0]["text"].as_str().unwrap()), 6);
    assert_eq!(body["modelVersion"], "gemini-3.8-flash");
    // 2 x $0.75 + 10 x $3.75
    assert_eq!(at_rest(&mock).await.by_provider["gemini"].nano, 1_500 + 37_500);
}

#[tokio::test]
async fn both_framings_carry_running_totals() {
    let mock = mock().await;
    let sse = call(&mock, "gemini-2.5-flash:streamGenerateContent?alt=sse", json!({}), "tokens=3;reasoning=1").await;
    assert!(
        sse.head.contains("text/event-stream") && sse.text().ends_with("}\r\n\r\n") && !sse.text().contains("[DONE]")
    );
    let array = call(&mock, "gemini-2.5-flash%3AstreamGenerateContent", json!({}), "tokens=3;reasoning=1").await;
    assert!(array.head.contains("application/json") && array.text().contains("}\n,\r\n{"));
    let chunks = array.json();
    for chunks in [parsed(&sse), chunks.as_array().unwrap().clone()] {
        let counts: Vec<&Value> = chunks.iter().map(|c| &c["usageMetadata"]["candidatesTokenCount"]).collect();
        assert_eq!(counts, [&json!(1), &json!(2), &json!(2)]);
        assert_eq!(chunks[2]["usageMetadata"]["thoughtsTokenCount"], 1);
        assert_eq!(chunks[2]["candidates"][0]["finishReason"], "STOP");
        assert!(chunks[1]["candidates"][0].get("finishReason").is_none());
    }
    let padded = call(&mock, "gemini-2.5-flash:streamGenerateContent", json!({}), "tokens=3;big=1").await;
    assert!(padded.body.len() > 1 << 20 && padded.json().is_array());
    let late =
        call(&mock, "gemini-2.5-flash:streamGenerateContent", json!({}), "tokens=3;usage=after_done").await.json();
    assert_eq!(late.as_array().unwrap().iter().filter(|c| c["usageMetadata"].is_object()).count(), 1);
}

#[tokio::test]
async fn fields_in_both_spellings_and_every_meter() {
    let mock = mock().await;
    let extra = json!({ "generation_config": { "max_output_tokens": 4, "candidateCount": 2 }, "service_tier": "priority",
                        "systemInstruction": { "parts": [{ "inlineData": { "mimeType": "audio/wav", "data": "" } }] } });
    let script = "tokens=9;tool_use=10;search=3;cached=1";
    let answer = call(&mock, "gemini-3.5-flash:generateContent", extra, script).await;
    assert!(answer.head.contains("x-gemini-service-tier: priority"));
    let (body, usage) = (answer.json(), answer.json()["usageMetadata"].clone());
    assert_eq!((&usage["promptTokenCount"], &usage["toolUsePromptTokenCount"]), (&json!(322), &json!(10)));
    assert_eq!((&usage["cachedContentTokenCount"], &usage["candidatesTokenCount"]), (&json!(1), &json!(8)));
    assert_eq!(usage["totalTokenCount"], 322 + 10 + 8);
    assert_eq!(usage["promptTokensDetails"][1], json!({ "modality": "AUDIO", "tokenCount": 320 }));
    assert_eq!(
        (&body["candidates"][1]["finishReason"], &usage["serviceTier"]),
        (&json!("MAX_TOKENS"), &json!("priority"))
    );
    assert_eq!(body["candidates"][0]["groundingMetadata"]["webSearchQueries"].as_array().unwrap().len(), 3);
    // Priority is 1.8 times the list: (1 + 10 from tools) x $2.7 + 1 x $0.27 + 320 x $2.7 + 8 x $16.2, 3 queries at 1.4 cents.
    assert_eq!(at_rest(&mock).await.invoice_nano, 29_700 + 270 + 864_000 + 129_600 + 42_000_000);
}

#[tokio::test]
async fn long_context_cache_and_media_out() {
    let mock = mock().await;
    let extra = json!({ "cachedContent": "cachedContents/x" });
    let body =
        call(&mock, "gemini-3.1-pro-preview:generateContent", extra, "tokens=2;prompt=200001;image_out=1").await.json();
    assert_eq!(body["usageMetadata"]["cachedContentTokenCount"], 2_048);
    assert_eq!(body["usageMetadata"]["candidatesTokensDetails"][1], json!({ "modality": "IMAGE", "tokenCount": 1 }));
    // 197,953 x $4 + 2,048 x $0.4 + 2 x $18
    assert_eq!(at_rest(&mock).await.invoice_nano, 791_812_000 + 819_200 + 36_000);
}

#[tokio::test]
async fn functions_thoughts_blocks_and_errors() {
    let mock = mock().await;
    let tools = json!({ "tools": [{ "functionDeclarations": [{ "name": "look" }] }],
                        "generationConfig": { "thinkingConfig": { "includeThoughts": true } } });
    let events = parsed(
        &call(&mock, "gemini-3.8-flash:streamGenerateContent?alt=sse", tools, "tokens=5;reasoning=2;tool_call").await,
    );
    assert_eq!(events[0]["candidates"][0]["content"]["parts"][0]["thought"], true);
    let function = &events.last().unwrap()["candidates"][0]["content"]["parts"][0]["functionCall"];
    assert_eq!((&function["name"], function["args"]["text"].is_string()), (&json!("look"), true));
    mock.reset();
    let blocked = call(&mock, "gemini-3.8-flash:generateContent", json!({}), "finish=blocked").await.json();
    assert_eq!((&blocked["promptFeedback"]["blockReason"], blocked.get("candidates")), (&json!("SAFETY"), None));
    assert_eq!(at_rest(&mock).await.invoice_nano, 1_500);
    let broken = call(&mock, "gemini-3.8-flash:streamGenerateContent", json!({}), "tokens=9;error_at=2").await.json();
    assert_eq!(broken.as_array().unwrap().last().unwrap()["error"]["status"], "INTERNAL");
    let refused = call(&mock, "gemini-3.8-flash:generateContent", json!({}), "status=429").await;
    assert_eq!((refused.status, &refused.json()["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    for (place, extra, status) in [
        ("gemini-0:generateContent", json!({}), 404),
        ("gemini-embedding-2:generateContent", json!({}), 404),
        ("gemini-3.8-flash:predict", json!({}), 404),
        ("gemini-3.8-flash:generateContent", json!({ "contents": [] }), 400),
        ("gemini-3.8-flash:generateContent", json!({ "serviceTier": "gold" }), 400),
        ("gemini-3.8-flash:generateContent", json!({ "generationConfig": { "candidateCount": 9 } }), 400),
    ] {
        assert_eq!(call(&mock, place, extra, "").await.status, status, "{place}");
    }
    let no_key = send(
        &mock,
        &raw_request("POST", "/gemini/v1beta/models/x:countTokens", "{}", "").replace("authorization", "x-other"),
    )
    .await;
    assert_eq!(no_key.status, 403);
}

#[tokio::test]
async fn counting_embedding_and_listing() {
    let mock = mock().await;
    let count = call(&mock, "gemini-3.8-flash:countTokens", json!({}), "").await.json();
    assert_eq!(count, json!({ "totalTokens": 2, "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": 2 }] }));
    let whole = json!({ "generateContentRequest": { "contents": [{ "parts": [{ "text": "a b c" }] }] } });
    assert_eq!(call(&mock, "gemini-3.8-flash:countTokens", whole, "").await.json()["totalTokens"], 3);
    assert_eq!(mock.invoice().calls, 0);
    let content = json!({ "parts": [{ "text": "a b c" }] });
    let one = json!({ "content": content, "outputDimensionality": 4 });
    let body = call(&mock, "gemini-embedding-001:embedContent", one.clone(), "").await.json();
    assert_eq!(
        (body["embedding"]["values"].as_array().unwrap().len(), &body["usageMetadata"]["promptTokenCount"]),
        (4, &json!(3))
    );
    let many = json!({ "requests": [one, one] });
    let body = call(&mock, "gemini-embedding-2:batchEmbedContents", many, "").await.json();
    assert_eq!(body["embeddings"].as_array().unwrap().len(), 2);
    // 3 x $0.15 + 6 x $0.2
    assert_eq!(at_rest(&mock).await.invoice_nano, 450 + 1_200);
    let models = send(&mock, &raw_request("GET", "/gemini/v1beta/models", "", "")).await.json();
    assert_eq!(models["models"][0]["name"], "models/gemini-4-argon");
    assert_eq!(
        send(&mock, &raw_request("GET", "/gemini/v1beta/models/gemini-2.5-pro?key=k", "", "")).await.status,
        200
    );
}

//! Wire shapes and bills of messages.

use serde_json::{Value, json};

use super::super::MockHandle;
use super::super::tests::{Answered, at_rest, mock, parsed, post, raw_request, send};

const KEY: &[&str] = &["x-api-key: sk-ant-test", "anthropic-version: 2023-06-01"];

async fn ask(mock: &MockHandle, extra: Value, script: &str) -> Answered {
    let mut body = json!({ "model": "claude-sonnet-4-6", "max_tokens": 1000,
                           "messages": [{ "role": "user", "content": "two words" }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post(mock, "/anthropic/v1/messages", KEY, &body, script).await
}

fn kinds(answer: &Answered) -> Vec<String> {
    parsed(answer).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn plain_answer_and_its_price() {
    let mock = mock().await;
    let answer = ask(&mock, json!({}), "tokens=7").await;
    assert!(answer.head.contains("request-id: req_mock"));
    let body = answer.json();
    assert_eq!(
        (&body["type"], &body["role"], &body["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"))
    );
    assert_eq!(bpe_openai::o200k_base().count(body["content"][0]["text"].as_str().unwrap()), 7);
    assert_eq!(
        body["usage"],
        json!({ "input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 },
                "output_tokens": 7, "service_tier": "standard", "inference_geo": "global" })
    );
    // 8 x $3 + 7 x $15 per million, in nano-dollars.
    let invoice = at_rest(&mock).await;
    assert_eq!((invoice.invoice_nano, invoice.by_provider["anthropic"].calls), (24_000 + 105_000, 1));
}

#[tokio::test]
async fn stream_has_the_events_in_order() {
    let mock = mock().await;
    let answer = ask(&mock, json!({ "stream": true }), "tokens=2").await;
    let expected = [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(kinds(&answer), expected);
    assert_eq!(answer.text().matches("event: ").count(), expected.len());
    let events = parsed(&answer);
    assert_eq!(events[0]["message"]["usage"]["output_tokens"], 1);
    assert_eq!(events[6]["usage"]["output_tokens"], 2);
    assert_eq!(events[6]["delta"]["stop_reason"], "end_turn");
}

#[tokio::test]
async fn thought_and_tools_stream_and_are_output() {
    let mock = mock().await;
    let extra = json!({ "stream": true, "max_tokens": 5000, "thinking": { "type": "enabled", "budget_tokens": 1024 },
                        "tools": [{ "name": "look", "input_schema": {} }] });
    let answer = ask(&mock, extra, "tokens=9;reasoning=5;tool_call").await;
    let events = parsed(&answer);
    let of = |kind: &str| events.iter().filter(|e| e["delta"]["type"] == kind).collect::<Vec<_>>();
    let thought: String = of("thinking_delta").iter().map(|e| e["delta"]["thinking"].as_str().unwrap()).collect();
    assert_eq!(bpe_openai::o200k_base().count(&thought), 5);
    assert_eq!(of("signature_delta").len(), 1);
    let input: String = of("input_json_delta").iter().map(|e| e["delta"]["partial_json"].as_str().unwrap()).collect();
    assert!(serde_json::from_str::<Value>(&input).unwrap()["text"].is_string());
    let last = &events[events.len() - 2];
    assert_eq!(last["usage"]["output_tokens_details"]["thinking_tokens"], 5);
    assert_eq!((&last["usage"]["output_tokens"], &last["delta"]["stop_reason"]), (&json!(9), &json!("tool_use")));
    assert_eq!(at_rest(&mock).await.by_model["anthropic/claude-sonnet-4-6"].reasoning_tokens, 5);
    let whole =
        ask(&mock, json!({ "max_tokens": 5000, "thinking": { "type": "adaptive" } }), "tokens=9;reasoning=5;hidden")
            .await;
    assert_eq!(whole.json()["content"][0]["thinking"], "");
}

#[tokio::test]
async fn cache_is_written_once_and_read_after() {
    let mock = mock().await;
    let extra = json!({
        "system": [{ "type": "text", "text": "a b c d", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
                   { "type": "text", "text": "e f", "cache_control": { "type": "ephemeral" } }],
    });
    let usage = |answer: Answered| answer.json()["usage"].clone();
    let first = usage(ask(&mock, extra.clone(), "tokens=1").await);
    assert_eq!(first["cache_creation"], json!({ "ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7 }));
    assert_eq!((&first["input_tokens"], &first["cache_read_input_tokens"]), (&json!(5), &json!(0)));
    // 5 x $3 + 2 x $3.75 + 7 x $6 + 1 x $15
    assert_eq!(at_rest(&mock).await.invoice_nano, 15_000 + 7_500 + 42_000 + 15_000);
    mock.app.books.reset();
    let second = usage(ask(&mock, extra, "tokens=1").await);
    assert_eq!((&second["cache_creation_input_tokens"], &second["cache_read_input_tokens"]), (&json!(0), &json!(9)));
    // 5 x $3 + 9 x $0.3 + 1 x $15
    assert_eq!(at_rest(&mock).await.invoice_nano, 15_000 + 2_700 + 15_000);
}

#[tokio::test]
async fn scripted_meters() {
    let mock = mock().await;
    let script =
        "tokens=1;prompt=100;cached=10;cache_write=20;cache_write_1h=30;search=2;geo=us;late_input=5;extra_usage=3";
    let events =
        parsed(&ask(&mock, json!({ "stream": true, "model": "claude-opus-5-5", "speed": "fast" }), script).await);
    let start = &events[0]["message"]["usage"];
    assert_eq!(
        (&start["input_tokens"], &start["inference_geo"], &start["speed"]),
        (&json!(40), &json!("us"), &json!("fast"))
    );
    let end = &events.iter().find(|e| e["type"] == "message_delta").unwrap()["usage"];
    assert_eq!((&end["input_tokens"], &end["mystery_tokens"]), (&json!(45), &json!(3)));
    assert_eq!(end["server_tool_use"]["web_search_requests"], 2);
    // (45 x $4 + 10 x $0.2 + 20 x $5 + 30 x $8 + 1 x $20) x 1.1 x 2 + 2 cents
    let tokens = 180_000 + 2_000 + 100_000 + 240_000 + 20_000;
    assert_eq!(at_rest(&mock).await.invoice_nano, tokens / 10 * 22 + 20_000_000);
    let lie = ask(&mock, json!({}), "say_tier=priority;finish=refusal;unbilled").await.json();
    assert_eq!((&lie["usage"]["service_tier"], &lie["stop_reason"]), (&json!("priority"), &json!("refusal")));
    assert_eq!(mock.invoice().invoice_nano, tokens / 10 * 22 + 20_000_000);
}

#[tokio::test]
async fn usage_modes_in_a_stream() {
    let mock = mock().await;
    for (mode, reports, starts) in
        [("none", 0, 0), ("twice", 2, 1), ("after_done", 1, 1), ("cumulative", 3, 1), ("null", 0, 0)]
    {
        let events = parsed(&ask(&mock, json!({ "stream": true }), &format!("tokens=2;usage={mode}")).await);
        let deltas = events.iter().filter(|e| e["type"] == "message_delta" && e["usage"].is_object());
        assert_eq!(deltas.count(), reports, "{mode}");
        assert_eq!(usize::from(events[0]["message"]["usage"].is_object()), starts, "{mode}");
        assert_eq!(events.last().unwrap()["type"] == "message_stop", mode != "after_done", "{mode}");
    }
    let text = ask(&mock, json!({}), "tokens=2;usage=text").await.json();
    assert_eq!(text["usage"]["output_tokens"], "2");
}

#[tokio::test]
async fn errors_have_the_shape() {
    let mock = mock().await;
    for (script, status, kind) in [
        ("status=429", 429, "rate_limit_error"),
        ("status=529", 529, "overloaded_error"),
        ("status=500", 500, "api_error"),
        ("nonsense=1", 400, "invalid_request_error"),
    ] {
        let answer = ask(&mock, json!({}), script).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["type"], &body["error"]["type"]), (status, &json!("error"), &json!(kind)));
        assert!(body["request_id"].is_string());
    }
    let broken = ask(&mock, json!({ "stream": true }), "tokens=9;error_at=3").await;
    let last = parsed(&broken).pop().unwrap();
    assert_eq!(last, json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } }));
    for (extra, status) in [
        (json!({ "max_tokens": null }), 400),
        (json!({ "max_tokens": 128_001 }), 400),
        (json!({ "messages": [] }), 400),
        (json!({ "model": "claude-1" }), 404),
        (json!({ "speed": "fast" }), 400),
        (json!({ "service_tier": "gold" }), 400),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 1000 } }), 400),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 2000 } }), 400),
    ] {
        assert_eq!(ask(&mock, extra.clone(), "").await.status, status, "{extra}");
    }
    assert_eq!(at_rest(&mock).await.completion_tokens, 3);
}

#[tokio::test]
async fn other_routes_and_keys() {
    let mock = mock().await;
    let body = json!({ "model": "claude-opus-5-5", "messages": [{ "role": "user", "content": "a b" }] });
    let path = "/anthropic/v1/messages/count_tokens?beta=true";
    assert_eq!(post(&mock, path, KEY, &body, "").await.json(), json!({ "input_tokens": 8 }));
    let newer = &["authorization: Bearer x", "anthropic-version: 2026-10-21"];
    assert_eq!(post(&mock, path, newer, &body, "").await.status, 200);
    let warm = json!({ "model": "claude-opus-5-5", "max_tokens": 9, "temperature": 1, "messages": body["messages"] });
    assert_eq!(post(&mock, "/anthropic/v1/messages", newer, &warm, "").await.status, 400);
    assert_eq!(post(&mock, path, &["x-api-key: k"], &body, "").await.status, 400);
    assert_eq!(post(&mock, path, &["anthropic-version: 2023-06-01"], &body, "").await.status, 401);
    let models = raw_request("GET", "/anthropic/v1/models", "", "")
        .replace("\r\n\r\n", "\r\nanthropic-version: 2023-06-01\r\n\r\n");
    assert_eq!(send(&mock, &models).await.json()["data"].as_array().unwrap().len(), 11);
    assert_eq!(mock.invoice().calls, 0);
    let log = mock.app.log.to_json();
    assert_eq!((&log["requests"][0]["auth"], &log["requests"][1]["auth"]), (&json!("x-api-key"), &json!("bearer")));
    let script = json!({ "model": "claude-opus-5-5[[mock tokens=0]]", "max_tokens": 0, "messages": body["messages"] });
    let warmed = post(&mock, "/anthropic/v1/messages", KEY, &script, "").await.json();
    assert_eq!((&warmed["model"], &warmed["usage"]["output_tokens"]), (&json!("claude-opus-5-5"), &json!(0)));
}

//! Wire shapes and bills of responses, completions and moderations.

use std::time::Duration;

use serde_json::{Value, json};

use crate::mock::MockHandle;
use crate::mock::tests::{Answered, at_rest, mock, parsed, post, raw_request, send};

const KEY: &[&str] = &["authorization: Bearer sk-test"];

async fn ask(mock: &MockHandle, extra: Value, script: &str) -> Answered {
    let mut body = json!({ "model": "gpt-5.4", "input": "two words" });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post(mock, "/openai/v1/responses", KEY, &body, script).await
}

async fn by_id(mock: &MockHandle, method: &str, id: &str) -> Answered {
    send(mock, &raw_request(method, &format!("/v1/responses/{id}"), "", "")).await
}

#[tokio::test]
async fn plain_response_and_its_price() {
    let mock = mock().await;
    let body = ask(&mock, json!({}), "tokens=7;reasoning=3").await.json();
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("completed")));
    assert_eq!((&body["output"][0]["type"], &body["output"][1]["type"]), (&json!("reasoning"), &json!("message")));
    assert_eq!(
        body["usage"],
        json!({ "input_tokens": 8, "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
                "output_tokens": 7, "output_tokens_details": { "reasoning_tokens": 3 }, "total_tokens": 15 })
    );
    // 8 x $2.5 + 7 x $15
    assert_eq!(at_rest(&mock).await.invoice_nano, 20_000 + 105_000);
    let id = body["id"].as_str().unwrap();
    assert_eq!(by_id(&mock, "GET", id).await.json(), body);
    assert_eq!(by_id(&mock, "DELETE", id).await.json()["deleted"], true);
    assert_eq!(by_id(&mock, "GET", id).await.status, 404);
    let cut = ask(&mock, json!({ "max_output_tokens": 16, "store": false }), "tokens=20").await.json();
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(by_id(&mock, "GET", cut["id"].as_str().unwrap()).await.status, 404);
}

#[tokio::test]
async fn stream_has_the_events_in_order() {
    let mock = mock().await;
    let answer = ask(&mock, json!({ "stream": true }), "tokens=3;reasoning=1;search=1").await;
    let kinds: Vec<String> =
        parsed(&answer).iter().map(|e| e["type"].as_str().unwrap().replace("response.", "")).collect();
    assert_eq!(
        kinds,
        [
            "created",
            "in_progress",
            "output_item.added",
            "output_item.done",
            "output_item.added",
            "web_search_call.in_progress",
            "web_search_call.searching",
            "web_search_call.completed",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let events = parsed(&answer);
    assert!(events.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    assert_eq!(events[0]["response"]["usage"], Value::Null);
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["usage"]["output_tokens"], &last["output"][2]["type"]), (&json!(3), &json!("message")));
    assert!(!answer.text().contains("[DONE]"));
    let deltas: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(last["output"][2]["content"][0]["text"], deltas);
    // 8 x $2.5 + 3 x $15 + one search of a cent
    assert_eq!(at_rest(&mock).await.invoice_nano, 20_000 + 45_000 + 10_000_000);
}

#[tokio::test]
async fn tools_failures_and_modes() {
    let mock = mock().await;
    let tools = json!({ "stream": true, "tools": [{ "type": "function", "name": "look", "parameters": {} }] });
    let events = parsed(&ask(&mock, tools, "tokens=3;tool_call").await);
    let item = &events.last().unwrap()["response"]["output"][0];
    let pieces: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!((&item["type"], &item["arguments"]), (&json!("function_call"), &json!(pieces)));
    assert!(serde_json::from_str::<Value>(&pieces).unwrap()["text"].is_string());
    let failed =
        parsed(&ask(&mock, json!({ "stream": true }), "tokens=3;finish=failed;usage=null").await).pop().unwrap();
    assert_eq!((&failed["type"], &failed["response"]["usage"]), (&json!("response.failed"), &Value::Null));
    let error = parsed(&ask(&mock, json!({ "stream": true }), "tokens=3;error_at=2").await).pop().unwrap();
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("server_error")));
    let late = parsed(&ask(&mock, json!({ "stream": true }), "tokens=3;usage=after_done").await);
    let reports: Vec<bool> =
        late.iter().filter(|e| e["type"] == "response.completed").map(|e| e["response"]["usage"].is_object()).collect();
    assert_eq!(reports, [false, true]);
    for (extra, status) in [
        (json!({ "max_output_tokens": 15 }), 400),
        (json!({ "input": [] }), 400),
        (json!({ "previous_response_id": "resp_x" }), 400),
        (json!({ "model": "gpt-99" }), 404),
        (json!({ "background": true, "store": false }), 400),
    ] {
        assert_eq!(ask(&mock, extra.clone(), "").await.status, status, "{extra}");
    }
}

#[tokio::test]
async fn background_goes_on_is_polled_and_cancelled() {
    let mock = mock().await;
    let queued = ask(&mock, json!({ "background": true }), "tokens=40;rate=400").await.json();
    assert_eq!((&queued["status"], &queued["usage"]), (&json!("queued"), &Value::Null));
    let id = queued["id"].as_str().unwrap();
    assert_eq!(by_id(&mock, "GET", id).await.json()["status"], "in_progress");
    assert_eq!(at_rest(&mock).await.completion_tokens, 40);
    assert_eq!(by_id(&mock, "GET", id).await.json()["usage"]["output_tokens"], 40);
    let next = ask(&mock, json!({ "previous_response_id": id }), "tokens=1").await.json();
    assert_eq!(next["usage"]["input_tokens"], 8 + 8 + 40);
    let slow = ask(&mock, json!({ "background": true, "input": "x" }), "tokens=4000;rate=100").await.json();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let cancelled = by_id(&mock, "POST", &format!("{}/cancel", slow["id"].as_str().unwrap())).await.json();
    assert_eq!(cancelled["status"], "cancelled");
    assert!(at_rest(&mock).await.completion_tokens < 400);
    assert_eq!(by_id(&mock, "POST", &format!("{}/cancel", next["id"].as_str().unwrap())).await.status, 400);
}

#[tokio::test]
async fn free_routes() {
    let mock = mock().await;
    let count = post(&mock, "/v1/responses/input_tokens", KEY, &json!({ "model": "gpt-5", "input": "a b" }), "").await;
    assert_eq!(count.json(), json!({ "object": "response.input_tokens", "input_tokens": 8 }));
    let moderation = post(&mock, "/v1/moderations", KEY, &json!({ "input": ["a", "b"] }), "").await.json();
    assert_eq!(moderation["results"].as_array().unwrap().len(), 2);
    assert_eq!(mock.invoice().calls, 0);
}

#[tokio::test]
async fn legacy_completions_bill_the_best_of() {
    let mock = mock().await;
    let ask = async |body: Value, script: &str| post(&mock, "/v1/completions", KEY, &body, script).await;
    let body = json!({ "model": "gpt-4o", "prompt": ["a b", [1, 2, 3]], "n": 2, "best_of": 3 });
    let answer = ask(body, "tokens=20").await.json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 4);
    assert_eq!(answer["choices"][3]["finish_reason"], "length");
    // 16 tokens is what a choice gets when the request sets no limit: 2 prompts x 3 choices x 16.
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(5), &json!(96)));
    assert_eq!(at_rest(&mock).await.invoice_nano, 5 * 2_500 + 96 * 10_000);
    let options = json!({ "include_usage": true });
    let body = json!({ "model": "gpt-4o", "prompt": "a b", "stream": true, "echo": true, "stream_options": options });
    let events = parsed(&ask(body, "tokens=3").await);
    assert_eq!(
        (&events[0]["choices"][0]["text"], &events.last().unwrap()["usage"]["completion_tokens"]),
        (&json!("a b"), &json!(3))
    );
    let refused = json!({ "model": "gpt-4o", "prompt": "a", "n": 3, "best_of": 2 });
    assert_eq!(ask(refused, "").await.status, 400);
    assert_eq!(ask(json!({ "model": "gpt-5", "prompt": "a" }), "").await.status, 404);
}

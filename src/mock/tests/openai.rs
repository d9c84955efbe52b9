//! OpenAI's dialect: what all dialects do, shown on chat completions.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::super::*;
use super::*;

fn chat(extra: Value) -> String {
    let mut body = json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "two words" }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body.to_string()
}

async fn ask(mock: &MockHandle, extra: Value, script: &str) -> Answered {
    send(mock, &raw_request("POST", "/v1/chat/completions", &chat(extra), script)).await
}

async fn stream(mock: &MockHandle, script: &str) -> Answered {
    ask(mock, json!({ "stream": true, "stream_options": { "include_usage": true } }), script).await
}

fn usage(answer: &Answered) -> Vec<Value> {
    let events = answer.events().into_iter().filter_map(|e| serde_json::from_str::<Value>(&e).ok());
    events.map(|e| e["usage"].clone()).filter(|u| !u.is_null()).collect()
}

#[tokio::test]
async fn plain_call_is_answered_and_billed_by_hand() {
    let mock = mock().await;
    let answer = ask(&mock, json!({}), "tokens=7").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("x-request-id: req_mock"));
    let body = answer.json();
    assert_eq!(body["model"], "gpt-4o-mini-2026-01-01");
    assert_eq!(body["service_tier"], "default");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let text = body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert_eq!(bpe_openai::o200k_base().count(&text), 7);
    // Two words are 2 tokens, 3 for the message, 3 more.
    assert_eq!(body["usage"]["prompt_tokens"], 8);
    assert_eq!(body["usage"]["completion_tokens"], 7);
    assert_eq!(body["usage"]["total_tokens"], 15);
    let invoice = mock.invoice();
    // 8 x 150 and 7 x 600 nano-dollars.
    assert_eq!(invoice.invoice_nano, 1_200 + 4_200);
    assert_eq!((invoice.calls, invoice.posts, invoice.in_flight, invoice.aborted), (1, 1, 0, 0));
    assert_eq!(invoice.last[0].authorization, "sk-test-1");
    assert_eq!(invoice.last[0].path, "/v1/chat/completions");
}

#[tokio::test]
async fn same_request_same_bytes() {
    let mock = mock().await;
    for script in ["", "chunk=3"] {
        assert_eq!(ask(&mock, json!({}), script).await.body, ask(&mock, json!({}), script).await.body);
        assert_eq!(stream(&mock, script).await.body, stream(&mock, script).await.body);
    }
    let other = ask(&mock, json!({ "seed": 2 }), "").await;
    assert_ne!(ask(&mock, json!({}), "").await.body, other.body);
}

#[tokio::test]
async fn stream_says_what_the_plain_answer_says_in_every_framing() {
    let mock = mock().await;
    let first = stream(&mock, "tokens=20").await;
    let text = first.streamed(0);
    assert_eq!(bpe_openai::o200k_base().count(&text), 20);
    assert!(first.head.contains("text/event-stream") && first.is_whole);
    let framings =
        ["crlf=1", "comment=1", "nospace=1", "split=1", "split=7", "burst=4", "chunk=6", "rate=2000", "empty_choices"];
    for framing in framings {
        let answer = stream(&mock, &format!("tokens=20;{framing}")).await;
        assert_eq!(answer.streamed(0), text, "{framing}");
        assert_eq!(answer.events().last().unwrap(), "[DONE]", "{framing}");
        assert_eq!(usage(&answer)[0]["completion_tokens"], 20, "{framing}");
        assert!(answer.is_whole, "{framing}");
        let has = |what: &str| answer.text().contains(what);
        assert_eq!(has("\r\n\r\n"), framing == "crlf=1");
        assert_eq!(has(": mock\n"), framing == "comment=1");
        assert_eq!(has("data:{"), framing == "nospace=1");
        let empty = answer.text().matches("\"choices\":[]").count();
        assert_eq!(empty, if framing == "empty_choices" { 3 } else { 1 });
    }
    assert_eq!(at_rest(&mock).await.completion_tokens, 200);
}

#[tokio::test]
async fn usage_only_if_asked_for() {
    let mock = mock().await;
    let answer = ask(&mock, json!({ "stream": true }), "tokens=3").await;
    assert!(!answer.text().contains("usage"));
    let answer = stream(&mock, "tokens=3").await;
    assert_eq!(answer.text().matches("\"usage\":null").count(), 5);
}

#[tokio::test]
async fn usage_lies_and_the_invoice_does_not() {
    let mock = mock().await;
    let numbers = |u: &[Value]| u.iter().map(|u| u["completion_tokens"].clone()).collect::<Vec<_>>();
    let cases = [
        ("none", json!([])),
        ("zero", json!([0])),
        ("negative", json!([-5])),
        ("twice", json!([5, 5])),
        ("small", json!([1])),
        ("huge", json!([9_223_372_036_854_775_808_u64])),
        ("nan", json!([])),
        ("null", json!([])),
        ("after_done", json!([5])),
        ("cumulative", json!([0, 1, 2, 3, 4, 5, 5, 5])),
    ];
    for (mode, expected) in &cases {
        let answer = stream(&mock, &format!("tokens=5;usage={mode}")).await;
        assert_eq!(json!(numbers(&usage(&answer))), *expected, "{mode}");
        assert_eq!(answer.text().contains("NaN"), *mode == "nan");
        let is_done_last = answer.events().last().unwrap() == "[DONE]";
        assert_eq!(is_done_last, *mode != "after_done");
        let plain = ask(&mock, json!({}), &format!("tokens=5;usage={mode}")).await.text();
        let copies = plain.matches("\"usage\"").count();
        assert_eq!(
            copies,
            match *mode {
                "none" => 0,
                "twice" => 2,
                _ => 1,
            },
            "{mode}"
        );
    }
    assert_eq!(at_rest(&mock).await.completion_tokens, 2 * 5 * cases.len() as u64);
}

#[tokio::test]
async fn limits_choices_reasoning_and_disobedience() {
    let mock = mock().await;
    let body = ask(&mock, json!({ "max_tokens": 4, "n": 3 }), "tokens=9").await.json();
    assert_eq!(body["usage"]["completion_tokens"], 12);
    assert_eq!(body["choices"].as_array().unwrap().len(), 3);
    assert_eq!(body["choices"][2]["finish_reason"], "length");
    let body = ask(&mock, json!({ "max_tokens": 4 }), "tokens=9;obey=0").await.json();
    assert_eq!(body["usage"]["completion_tokens"], 9);
    let body =
        ask(&mock, json!({ "max_completion_tokens": 6 }), "tokens=9;reasoning=7;cached=3;cache_write=2").await.json();
    assert_eq!(body["choices"][0]["message"]["content"], "");
    assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 6);
    assert_eq!(
        body["usage"]["prompt_tokens_details"],
        json!({ "cached_tokens": 3, "cache_write_tokens": 2, "audio_tokens": 0 })
    );
    let answer = ask(&mock, json!({ "n": 2, "stream": true }), "tokens=9;reasoning=4").await;
    assert_eq!(bpe_openai::o200k_base().count(&answer.streamed(1)), 5);
    assert_ne!(answer.streamed(0), answer.streamed(1));
    assert_eq!(at_rest(&mock).await.completion_tokens, 12 + 9 + 6 + 18);
}

#[tokio::test]
async fn tiers_models_and_tools() {
    let mock = mock().await;
    let body = ask(&mock, json!({ "service_tier": "priority" }), "tokens=1").await.json();
    assert_eq!(body["service_tier"], "priority");
    assert_eq!(mock.invoice().invoice_nano, 8 * 250 + 1_000);
    mock.reset();
    let body = ask(&mock, json!({}), "tokens=1;model_as=gpt-4o-2024-08-06;tier=priority").await.json();
    assert_eq!(body["model"], "gpt-4o-2024-08-06");
    assert_eq!(mock.invoice().invoice_nano, 8 * 4_250 + 17_000);
    assert_eq!(mock.invoice().last[0].billed_model, "gpt-4o");
    let tools = json!([{ "type": "function", "function": { "name": "look", "parameters": {} } }]);
    let body = ask(&mock, json!({ "tools": tools }), "tool_call=1;tokens=4").await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    let arguments =
        body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap().to_owned();
    assert!(serde_json::from_str::<Value>(&arguments).unwrap()["text"].is_string());
    let answer = ask(&mock, json!({ "tools": tools, "stream": true }), "tool_call=1;tokens=4").await;
    let pieces: String = answer
        .events()
        .iter()
        .filter_map(|e| serde_json::from_str::<Value>(e).ok())
        .filter_map(|c| c["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned))
        .collect();
    assert!(serde_json::from_str::<Value>(&pieces).unwrap()["text"].is_string());
}

#[tokio::test]
async fn caller_leaves_in_both_modes() {
    for (leave, is_streamed) in [("stop", true), ("complete", true), ("stop", false), ("complete", false)] {
        let mock = mock().await;
        let script = format!("tokens=200;rate=400;leave={leave}");
        let request = raw_request("POST", "/v1/chat/completions", &chat(json!({ "stream": is_streamed })), &script);
        let mut socket = TcpStream::connect(mock.addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(mock.invoice().in_flight, 1);
        drop(socket);
        let invoice = at_rest(&mock).await;
        let tokens = invoice.completion_tokens;
        match leave {
            "stop" => assert!((20..150).contains(&tokens), "{tokens}"),
            _ => assert_eq!(tokens, 200),
        }
        assert_eq!((invoice.aborted, invoice.calls), (1, 1));
    }
}

#[tokio::test]
async fn endless_ends_when_nobody_reads() {
    let mock = mock().await;
    for (leave, least, most) in [("stop", 50, 16_383), ("complete", 16_384, 16_384)] {
        mock.reset();
        let script = format!("endless=1;rate=1000;leave={leave}");
        let body = chat(json!({ "stream": true, "max_tokens": 5 }));
        let mut socket = TcpStream::connect(mock.addr).await.unwrap();
        socket.write_all(raw_request("POST", "/v1/chat/completions", &body, &script).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(socket);
        if leave == "complete" {
            assert_eq!(mock.invoice().in_flight, 1);
            continue;
        }
        let tokens = at_rest(&mock).await.completion_tokens;
        assert!((least..=most).contains(&tokens), "{tokens}");
    }
}

#[tokio::test]
async fn pace_and_stalls() {
    let mock = mock().await;
    let cases = [
        ("tokens=100;rate=1000", 100),
        ("tokens=5;first_ms=80", 80),
        ("tokens=5;delay_headers_ms=80", 80),
        ("tokens=5;pause_at=3;pause_ms=80", 80),
        ("tokens=50;reasoning=50;rate=500", 100),
    ];
    for (script, least) in cases {
        for is_streamed in [true, false] {
            let started = Instant::now();
            ask(&mock, json!({ "stream": is_streamed }), script).await;
            let took = started.elapsed().as_millis();
            assert!(took >= least && took < least + 1500, "{script}: {took} ms");
        }
    }
}

#[tokio::test]
async fn accidents() {
    let mock = mock().await;
    let answer = stream(&mock, "tokens=9;error_at=4").await;
    assert!(answer.events().last().unwrap().starts_with("{\"error\":{"));
    assert!(answer.is_whole && !answer.text().contains("[DONE]"));
    let answer = stream(&mock, "tokens=9;die_at=4").await;
    assert_eq!(bpe_openai::o200k_base().count(&answer.streamed(0)), 4);
    assert!(!answer.is_whole);
    assert_eq!(ask(&mock, json!({}), "tokens=9;error_at=4").await.status, 500);
    assert_eq!(ask(&mock, json!({}), "tokens=9;die_at=4").await.status, 0);
    let invoice = at_rest(&mock).await;
    assert_eq!((invoice.completion_tokens, invoice.aborted), (16, 4));
    let answer = stream(&mock, "tokens=9;truncate=1").await;
    assert!(!answer.is_whole && !answer.text().contains("[DONE]"));
    let answer = ask(&mock, json!({}), "tokens=9;truncate=1").await;
    assert!(!answer.is_whole && answer.status == 200);
    let answer = stream(&mock, "tokens=9;no_done=1").await;
    assert!(answer.is_whole && !answer.text().contains("[DONE]"));
}

#[tokio::test]
async fn errors_are_free_unless_billed() {
    let mock = mock().await;
    for (script, status) in
        [("status=429", 429), ("status=500", 500), ("html=1", 502), ("redirect=1", 307), ("die_before=1", 0)]
    {
        assert_eq!(ask(&mock, json!({}), script).await.status, status, "{script}");
    }
    assert!(ask(&mock, json!({}), "redirect=1").await.head.contains("location: /redirected"));
    assert_eq!((mock.invoice().calls, mock.invoice().posts), (0, 6));
    for script in
        ["status=500;billed=1;tokens=6", "die_before=1;billed=1;tokens=6", "html=1;billed=1;tokens=6;rate=100"]
    {
        ask(&mock, json!({}), script).await;
    }
    assert_eq!(ask(&mock, json!({}), "status=500;billed=1;tokens=6").await.json()["usage"]["completion_tokens"], 6);
    assert_eq!(at_rest(&mock).await.completion_tokens, 24);
    let answer = ask(&mock, json!({}), "status=201;tokens=6").await;
    assert_eq!((answer.status, at_rest(&mock).await.completion_tokens), (201, 30));
}

#[tokio::test]
async fn hanging_and_headers_that_lie() {
    let mock = mock().await;
    let waiting = ask(&mock, json!({}), "hang=1");
    assert!(tokio::time::timeout(Duration::from_millis(150), waiting).await.is_err());
    assert_eq!(mock.invoice().calls, 0);
    assert!(ask(&mock, json!({}), "gzip=1").await.head.contains("content-encoding: gzip"));
    let dripping = ask(&mock, json!({}), "endless=1;tokens=4");
    assert!(tokio::time::timeout(Duration::from_millis(150), dripping).await.is_err());
    assert_eq!(at_rest(&mock).await.last[1].totals.completion_tokens, 4);
}

#[tokio::test]
async fn large_bodies_and_unicode() {
    let mock = mock().await;
    for is_streamed in [true, false] {
        let answer = ask(&mock, json!({ "stream": is_streamed }), "tokens=3;big=2").await;
        assert!(answer.body.len() > 2 << 20 && answer.is_whole, "{is_streamed}");
    }
    mock.reset();
    let answer = stream(&mock, "tokens=3;large_event=100000;obey=0").await;
    let longest = answer.events().iter().map(String::len).max().unwrap();
    assert!(longest > 100_000);
    let counted = bpe_openai::o200k_base().count(&answer.streamed(0)) as u64;
    assert_eq!(at_rest(&mock).await.completion_tokens, counted);
    mock.reset();
    let answer = stream(&mock, "tokens=30;unicode=1;split=1").await;
    assert!(!answer.streamed(0).is_ascii());
    assert_eq!(bpe_openai::o200k_base().count(&answer.streamed(0)), 30);
}

#[tokio::test]
async fn invalid_requests_cost_nothing() {
    let mock = mock().await;
    let cases = [
        (json!({ "max_tokens": 1, "max_completion_tokens": 1 }), 400),
        (json!({ "max_tokens": 0 }), 400),
        (json!({ "max_tokens": -1 }), 400),
        (json!({ "max_tokens": 1.5 }), 400),
        (json!({ "max_tokens": "5" }), 400),
        (json!({ "max_tokens": 16_385 }), 400),
        (json!({ "n": 0 }), 400),
        (json!({ "n": 129 }), 400),
        (json!({ "model": "gpt-99" }), 404),
        (json!({ "model": 5 }), 400),
        (json!({ "model": "o3", "max_tokens": 9 }), 400),
        (json!({ "model": "text-embedding-3-small" }), 404),
        (json!({ "messages": [] }), 400),
        (json!({ "messages": [5] }), 400),
        (json!({ "messages": "x" }), 400),
        (json!({ "stream": 1 }), 400),
        (json!({ "stream_options": { "include_usage": true } }), 400),
        (json!({ "service_tier": "gold" }), 400),
    ];
    for (extra, status) in cases {
        let answer = ask(&mock, extra.clone(), "").await;
        assert_eq!(answer.status, status, "{extra}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(ask(&mock, json!({}), "tokns=1").await.json()["error"]["code"], "mock_script");
    for body in ["", "{", "[]", "\u{0}", "{\"model\":\"gpt-4o\"}"] {
        assert_eq!(send(&mock, &raw_request("POST", "/v1/chat/completions", body, "")).await.status, 400);
    }
    let no_key =
        raw_request("POST", "/v1/chat/completions", &chat(json!({})), "").replace("Bearer sk-test-1", "Bearer ");
    assert_eq!(send(&mock, &no_key).await.status, 401);
    assert_eq!(mock.invoice().calls, 0);
}

#[tokio::test]
async fn routes_markers_and_control() {
    let mock = mock().await;
    for (method, path, status) in [
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/gpt-4o", 200),
        ("GET", "/v1/models/gpt-99", 404),
        ("POST", "/chat/completions", 404),
        ("POST", "/v1//chat/completions", 404),
        ("GET", "/v1/chat/completions", 405),
    ] {
        assert_eq!(send(&mock, &raw_request(method, path, "", "")).await.status, status, "{path}");
    }
    let body =
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "[[mock tokens=3]]" }] }] });
    assert_eq!(ask(&mock, body, "").await.json()["usage"]["completion_tokens"], 3);
    let invoice = send(&mock, &raw_request("GET", "/invoice", "", "")).await.json();
    assert_eq!(invoice["calls"], 1);
    assert_eq!(invoice["invoice_usd"].as_str().unwrap().len(), 11);
    let log = send(&mock, &raw_request("GET", "/log", "", "")).await.json();
    assert_eq!(log["requests"].as_array().unwrap().len(), 7);
    assert_eq!(log["requests"][6]["headers"][0], json!(["host", "mock"]));
    assert!(log["requests"][6]["body"].as_str().unwrap().contains("[[mock"));
    assert_eq!(send(&mock, &raw_request("POST", "/reset", "", "")).await.status, 200);
    assert_eq!((mock.invoice().posts, mock.invoice().invoice_nano), (0, 0));
    mock.shutdown();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(mock.addr).await.is_err());
}

#[tokio::test]
async fn embeddings_are_billed_by_their_input() {
    let mock = mock().await;
    let ask = async |body: Value| send(&mock, &raw_request("POST", "/v1/embeddings", &body.to_string(), "")).await;
    let body = json!({ "model": "text-embedding-3-small", "input": ["12345", [1, 2, 3]], "dimensions": 4 });
    let answer = ask(body).await.json();
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 4, "total_tokens": 4 }));
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 4);
    assert_eq!(mock.invoice().invoice_nano, 80);
    let body = json!({ "model": "text-embedding-3-large", "input": "x", "encoding_format": "base64" });
    assert_eq!(ask(body).await.json()["data"][0]["embedding"].as_str().unwrap().len(), 3072 * 4 / 3 * 4);
    assert_eq!(ask(json!({ "model": "gpt-4o", "input": "x" })).await.status, 403);
}

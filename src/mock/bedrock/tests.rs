//! Wire shapes and bills of Bedrock's operations.

use serde_json::{Value, json};

use super::super::MockHandle;
use super::super::tests::{Answered, at_rest, mock, post};
use super::{eventstream, sigv4};

const KEY: &[&str] = &["authorization: Bearer bedrock-api-key-test"];
const HAIKU: &str = "us.anthropic.claude-haiku-4-5-20251001-v1%3A0";

async fn call(mock: &MockHandle, place: &str, body: &Value, script: &str) -> Answered {
    post(mock, &format!("/bedrock/model/{place}"), KEY, body, script).await
}

fn talk(extra: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": [{ "text": "two words" }] }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// Headers and payload of each message; lengths and checksums are checked.
fn messages(mut bytes: &[u8]) -> Vec<(Vec<(String, String)>, Value)> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (total, head) = (number(bytes) as usize, number(&bytes[4..]) as usize);
        assert_eq!(number(&bytes[8..]), crc32fast::hash(&bytes[..8]));
        assert_eq!(number(&bytes[total - 4..]), crc32fast::hash(&bytes[..total - 4]));
        let (mut rest, mut headers) = (&bytes[12..12 + head], Vec::new());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while !rest.is_empty() {
            let name = usize::from(rest[0]);
            assert_eq!(rest[1 + name], 7);
            let length = usize::from(u16::from_be_bytes([rest[2 + name], rest[3 + name]]));
            headers.push((text(&rest[1..=name]), text(&rest[4 + name..4 + name + length])));
            rest = &rest[4 + name + length..];
        }
        found.push((headers, serde_json::from_slice(&bytes[12 + head..total - 4]).unwrap()));
        bytes = &bytes[total..];
    }
    found
}

fn events(answer: &Answered) -> Vec<(String, Value)> {
    let kind = |headers: &[(String, String)]| {
        headers.iter().find(|(name, _)| name == ":event-type" || name == ":exception-type").unwrap().1.clone()
    };
    messages(&answer.body).into_iter().map(|(headers, payload)| (kind(&headers), payload)).collect()
}

/// The vendor's own events inside chunks.
fn chunks(answer: &Answered) -> Vec<Value> {
    let inner = |payload: Value| {
        let coded = payload["bytes"].as_str().unwrap().to_owned();
        serde_json::from_slice(&super::invoke::from_base64(&coded).unwrap()).unwrap()
    };
    events(answer).into_iter().map(|(kind, payload)| (assert_eq!(kind, "chunk"), inner(payload)).1).collect()
}

#[test]
fn a_message_byte_by_byte() {
    // Total 16 + 4 + 3 bytes of headers and payload; the checksums are those of zlib's crc32.
    let message = eventstream::message(&[(":a", "b")], b"{}");
    assert_eq!(message[..8], [0, 0, 0, 25, 0, 0, 0, 7]);
    assert_eq!(message[12..21], [2, b':', b'a', 7, 0, 1, b'b', b'{', b'}']);
    assert_eq!(message.len(), 25);
    assert_eq!(messages(&message), [(vec![(":a".into(), "b".into())], json!({}))]);
    // The check value of CRC-32 (IEEE).
    assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
}

#[tokio::test]
async fn converse_and_its_price() {
    let mock = mock().await;
    let answer = call(&mock, &format!("{HAIKU}/converse"), &talk(json!({})), "tokens=7").await;
    assert!(answer.head.contains("x-amzn-requestid: "));
    let body = answer.json();
    assert_eq!((&body["stopReason"], &body["serviceTier"]["type"]), (&json!("end_turn"), &json!("default")));
    assert_eq!(bpe_openai::o200k_base().count(body["output"]["message"]["content"][0]["text"].as_str().unwrap()), 7);
    assert_eq!(
        body["usage"],
        json!({ "inputTokens": 8, "outputTokens": 7, "totalTokens": 15, "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0 })
    );
    // 8 x $1.1 + 7 x $5.5
    assert_eq!(at_rest(&mock).await.by_provider["bedrock"].nano, 8_800 + 38_500);
    mock.reset();
    call(&mock, "anthropic.claude-opus-5-5/converse", &talk(json!({})), "tokens=1").await;
    // The bare id costs a tenth more: 1.1 x (8 x $4 + 1 x $20)
    assert_eq!(at_rest(&mock).await.invoice_nano, 57_200);
}

#[tokio::test]
async fn converse_streams_events() {
    let mock = mock().await;
    let tools = json!({ "toolConfig": { "tools": [{ "toolSpec": { "name": "look", "inputSchema": { "json": {} } } }] },
                        "additionalModelRequestFields": { "thinking": { "type": "enabled", "budget_tokens": 1024 } } });
    let answer = call(&mock, &format!("{HAIKU}/converse-stream"), &talk(tools), "tokens=4;reasoning=2;tool_call").await;
    assert!(answer.head.contains("content-type: application/vnd.amazon.eventstream"));
    let events = events(&answer);
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    let delta = "contentBlockDelta";
    let expected = [
        "messageStart",
        delta,
        delta,
        "contentBlockStop",
        "contentBlockStart",
        delta,
        delta,
        delta,
        delta,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ];
    assert_eq!(kinds, expected);
    assert!(events[1].1["delta"]["reasoningContent"]["text"].is_string());
    assert_eq!(events[4].1["start"]["toolUse"]["name"], "look");
    let input: String = events[5..9].iter().map(|(_, e)| e["delta"]["toolUse"]["input"].as_str().unwrap()).collect();
    assert!(serde_json::from_str::<Value>(&input).unwrap()["text"].is_string());
    assert_eq!((&events[10].1["stopReason"], &events[11].1["usage"]["outputTokens"]), (&json!("tool_use"), &json!(4)));
    let broken = call(&mock, &format!("{HAIKU}/converse-stream"), &talk(json!({})), "tokens=4;error_at=2").await;
    let last = messages(&broken.body).pop().unwrap();
    assert!(last.0.contains(&(":message-type".into(), "exception".into())));
    assert!(last.0.contains(&(":exception-type".into(), "internalServerException".into())));
    for (mode, reports) in [("none", 0), ("twice", 2), ("after_done", 1), ("cumulative", 3)] {
        let answer =
            call(&mock, &format!("{HAIKU}/converse-stream"), &talk(json!({})), &format!("tokens=2;usage={mode}")).await;
        assert_eq!(self::events(&answer).iter().filter(|(kind, _)| kind == "metadata").count(), reports, "{mode}");
    }
    let padded = call(&mock, &format!("{HAIKU}/converse-stream"), &talk(json!({})), "tokens=2;big=1;split=1000").await;
    assert!(padded.body.len() > 1 << 20 && self::events(&padded).iter().any(|(kind, _)| kind == "padding"));
}

#[tokio::test]
async fn cache_points_tiers_and_limits() {
    let mock = mock().await;
    let cached = json!({ "system": [{ "text": "a b c" }, { "cachePoint": { "type": "default", "ttl": "1h" } }] });
    let first =
        call(&mock, &format!("{HAIKU}/converse"), &talk(cached.clone()), "tokens=1").await.json()["usage"].clone();
    assert_eq!(
        (&first["cacheWriteInputTokens"], &first["cacheDetails"]),
        (&json!(6), &json!([{ "ttl": "1h", "inputTokens": 6 }]))
    );
    // 5 x $1.1 + 6 x $2.2 + 1 x $5.5
    assert_eq!(at_rest(&mock).await.invoice_nano, 5_500 + 13_200 + 5_500);
    let second = call(&mock, &format!("{HAIKU}/converse"), &talk(cached), "tokens=1").await.json()["usage"].clone();
    assert_eq!((&second["cacheReadInputTokens"], &second["inputTokens"]), (&json!(6), &json!(5)));
    mock.reset();
    let flex = talk(json!({ "serviceTier": { "type": "flex" }, "inferenceConfig": { "maxTokens": 3 } }));
    let body = call(&mock, "us.amazon.nova-2-lite-v1:0/converse", &flex, "tokens=9").await.json();
    assert_eq!((&body["serviceTier"]["type"], &body["stopReason"]), (&json!("flex"), &json!("max_tokens")));
    // 8 x $0.165 + 3 x $1.375
    assert_eq!(at_rest(&mock).await.invoice_nano, 1_320 + 4_125);
    let merged = json!({ "inferenceConfig": { "maxTokens": 3 }, "additionalModelRequestFields": { "max_tokens": 50 } });
    let body = call(&mock, &format!("{HAIKU}/converse"), &talk(merged), "tokens=9").await.json();
    assert_eq!(body["usage"]["outputTokens"], 9);
}

#[tokio::test]
async fn claude_and_nova_invoked() {
    let mock = mock().await;
    let claude = json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 100,
                         "messages": [{ "role": "user", "content": "two words" }] });
    let answer = call(&mock, &format!("{HAIKU}/invoke"), &claude, "tokens=7;cached=2").await;
    for (name, tokens) in [("input", 6), ("output", 7), ("cache-read-input", 2), ("cache-write-input", 0)] {
        assert!(answer.head.contains(&format!("x-amzn-bedrock-{name}-token-count: {tokens}")), "{name}");
    }
    assert_eq!((&answer.json()["type"], &answer.json()["usage"]["input_tokens"]), (&json!("message"), &json!(6)));
    // 6 x $1.1 + 2 x $0.11 + 7 x $5.5
    assert_eq!(at_rest(&mock).await.invoice_nano, 6_600 + 220 + 38_500);
    let streamed = chunks(&call(&mock, &format!("{HAIKU}/invoke-with-response-stream"), &claude, "tokens=3").await);
    let metrics = &streamed.last().unwrap()["amazon-bedrock-invocationMetrics"];
    assert_eq!(
        (&streamed[0]["type"], &streamed.last().unwrap()["type"]),
        (&json!("message_start"), &json!("message_stop"))
    );
    assert_eq!((&metrics["inputTokenCount"], &metrics["outputTokenCount"]), (&json!(8), &json!(3)));
    let nova = talk(json!({ "inferenceConfig": { "max_new_tokens": 5 } }));
    let answer = call(&mock, "amazon.nova-micro-v1:0/invoke", &nova, "tokens=9").await;
    assert!(answer.head.contains("x-amzn-bedrock-output-token-count: 5"));
    assert_eq!(answer.json()["usage"]["cacheReadInputTokenCount"], 0);
    let streamed = chunks(&call(&mock, "amazon.nova-micro-v1:0/invoke-with-response-stream", &nova, "tokens=2").await);
    assert!(streamed[0]["messageStart"].is_object());
    assert_eq!(streamed.last().unwrap()["metadata"]["usage"]["outputTokens"], 2);
    assert_eq!(streamed.last().unwrap()["amazon-bedrock-invocationMetrics"]["outputTokenCount"], 2);
    let silent = call(&mock, &format!("{HAIKU}/invoke"), &claude, "tokens=7;usage=none").await;
    assert!(!silent.head.contains("token-count") && silent.json().get("usage").is_none());
    let with_model =
        json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 1, "model": "x", "messages": [] });
    assert_eq!(call(&mock, &format!("{HAIKU}/invoke"), &with_model, "").await.status, 400);
}

#[tokio::test]
async fn other_vendors_invoked() {
    let mock = mock().await;
    let llama = json!({ "prompt": "a b c", "max_gen_len": 4 });
    let body = call(&mock, "meta.llama3-3-70b-instruct-v1:0/invoke", &llama, "tokens=9").await.json();
    assert_eq!((&body["prompt_token_count"], &body["generation_token_count"]), (&json!(3), &json!(4)));
    assert_eq!(body["stop_reason"], "length");
    // 7 x $0.72
    assert_eq!(at_rest(&mock).await.invoice_nano, 5_040);
    let mistral = json!({ "prompt": "a b c", "max_tokens": 40 });
    let answer = call(&mock, "mistral.mistral-7b-instruct-v0:2/invoke", &mistral, "tokens=4").await;
    assert!(answer.head.contains("x-amzn-bedrock-input-token-count: 3"));
    assert_eq!(answer.json()["outputs"][0]["stop_reason"], "stop");
    let titan = json!({ "inputText": "a b c", "textGenerationConfig": { "maxTokenCount": 2 } });
    let body = call(&mock, "amazon.titan-text-express-v1/invoke", &titan, "tokens=4").await.json();
    assert_eq!(
        (&body["results"][0]["tokenCount"], &body["results"][0]["completionReason"]),
        (&json!(2), &json!("LENGTH"))
    );
    for (model, body, text) in [
        ("meta.llama3-3-70b-instruct-v1:0", llama, "/generation"),
        ("mistral.mistral-7b-instruct-v0:2", mistral, "/outputs/0/text"),
        ("amazon.titan-text-express-v1", titan, "/outputText"),
    ] {
        let streamed = chunks(&call(&mock, &format!("{model}/invoke-with-response-stream"), &body, "tokens=2").await);
        let text: String = streamed.iter().map(|event| event.pointer(text).unwrap().as_str().unwrap()).collect();
        assert_eq!(bpe_openai::o200k_base().count(&text), 2, "{model}");
        assert_eq!(streamed.last().unwrap()["amazon-bedrock-invocationMetrics"]["inputTokenCount"], 3, "{model}");
    }
    mock.reset();
    let embed = json!({ "inputText": "a b c", "dimensions": 256 });
    let answer = call(&mock, "amazon.titan-embed-text-v2:0/invoke", &embed, "").await;
    assert_eq!(
        (answer.json()["embedding"].as_array().unwrap().len(), &answer.json()["inputTextTokenCount"]),
        (256, &json!(3))
    );
    assert_eq!(at_rest(&mock).await.invoice_nano, 60);
}

#[tokio::test]
async fn counting_errors_and_keys() {
    let mock = mock().await;
    let count = json!({ "input": { "converse": talk(json!({})) } });
    assert_eq!(call(&mock, &format!("{HAIKU}/count-tokens"), &count, "").await.json(), json!({ "inputTokens": 8 }));
    let mut coded = Vec::new();
    super::super::read::base64(br#"{"messages":[{"role":"user","content":"a b"}]}"#, &mut coded);
    let count = json!({ "input": { "invokeModel": { "body": String::from_utf8(coded).unwrap() } } });
    assert_eq!(call(&mock, &format!("{HAIKU}/count-tokens"), &count, "").await.json(), json!({ "inputTokens": 8 }));
    for (script, status, name) in [
        ("status=429", 429, "throttlingexception"),
        ("status=503", 503, "serviceunavailableexception"),
        ("status=424", 424, "modelerrorexception"),
        ("tokns=1", 400, "validationexception"),
    ] {
        let answer = call(&mock, &format!("{HAIKU}/converse"), &talk(json!({})), script).await;
        assert_eq!(answer.status, status);
        assert!(answer.head.contains(&format!("x-amzn-errortype: {name}")) && answer.json()["message"].is_string());
    }
    for (place, status) in [("no-such-model/converse", 400), ("x/y/z", 400), (&format!("{HAIKU}/fly"), 404)] {
        assert_eq!(call(&mock, place, &talk(json!({})), "").await.status, status, "{place}");
    }
    let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude-sonnet-4-6/converse";
    assert_eq!(call(&mock, arn, &talk(json!({})), "").await.status, 200);
    let path = format!("/bedrock/model/{HAIKU}/converse");
    let signed = |key: &str| {
        let scope = "20261123/us-east-1/bedrock/aws4_request";
        let zeros = "0".repeat(64);
        format!("authorization: AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders=host, Signature={zeros}")
    };
    for (header, status) in [(signed("AKIAOTHER"), 200), (signed(sigv4::ACCESS_KEY), 403), ("x-a: b".into(), 403)] {
        assert_eq!(post(&mock, &path, &[&header], &talk(json!({})), "").await.status, status, "{header}");
    }
}

/// AWS's client for JavaScript speaks HTTP/2 without asking.
#[tokio::test]
async fn http2_with_prior_knowledge() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let mock = mock().await;
    let socket = tokio::net::TcpStream::connect(mock.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post(format!("{}/bedrock/model/{HAIKU}/converse-stream", mock.url()));
    let request = request.header("authorization", "Bearer test").header("x-mock-script", "tokens=3");
    let request = request.body(Full::new(bytes::Bytes::from(talk(json!({})).to_string()))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(messages(&body).pop().unwrap().1["usage"]["outputTokens"], 3);
}

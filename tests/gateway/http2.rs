//! HTTP/2 clients get what HTTP/1.1 clients get: the cost header, the drain after a hang-up, the kill switch, one error a call.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request as Http, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::json::with;
use crate::support::*;

type Client = SendRequest<Full<Bytes>>;

/// One HTTP/2 connection, by prior knowledge.
async fn connect(world: &World) -> Client {
    let socket = TcpStream::connect(world.gateway()).await.expect("connected");
    let (client, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("the server speaks HTTP/2");
    tokio::spawn(connection);
    client
}

async fn chat(client: &Client, key: &Key, body: &Value) -> Response<Incoming> {
    let request = Http::post("http://gateway.test/openai/v1/chat/completions")
        .header("authorization", format!("Bearer {}", key.secret))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    within("an answer", client.clone().send_request(request)).await.expect("an answer")
}

async fn text(answer: Response<Incoming>) -> String {
    let body = within("the body", answer.into_body().collect()).await.expect("the whole body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_of_one_connection_are_billed_each() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    let client = connect(&world).await;
    let calls = (0..40).map(|at| {
        let (client, key) = (client.clone(), key.clone());
        tokio::spawn(async move {
            let body = if at % 2 == 0 { ask("tokens=9") } else { streamed("tokens=9;rate=300") };
            let answer = chat(&client, &key, &body).await;
            assert_eq!(answer.status(), 200);
            assert_eq!(
                answer.headers().contains_key("x-loopers-cost-usd"),
                at % 2 == 0,
                "the cost of what is in one piece"
            );
            assert!(
                !answer.headers().contains_key("transfer-encoding") && !answer.headers().contains_key("connection")
            );
            let text = text(answer).await;
            assert!(text.contains(if at % 2 == 0 { "\"usage\"" } else { "[DONE]" }), "{text}");
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("a good call");
    }
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.calls, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_one_answer_and_other_streams_go_on() {
    let world = World::plain().await;
    let (poor, rich) = (world.key(&["--daily", "0"]), world.key(&["--daily", "1"]));
    let client = connect(&world).await;
    let refused = chat(&client, &poor, &ask("tokens=9")).await;
    assert_eq!(refused.status(), 402);
    assert_eq!(refused.headers()["x-should-retry"], "false");
    assert!(text(refused).await.contains("budget_exceeded"));
    let unknown = Http::post("http://gateway.test/openai/v1/files").body(Full::new(Bytes::new())).expect("a request");
    let unknown = client.clone().send_request(unknown).await.expect("an answer");
    assert_eq!(unknown.status(), 401, "no key comes before no route");
    assert_eq!(chat(&client, &rich, &ask("tokens=9")).await.status(), 200);
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.posts, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_length_and_above_the_buffers_is_read_whole() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "100"]);
    let client = connect(&world).await;
    let words = format!("[[mock tokens=9]] {}", "word ".repeat(60_000));
    let long = with(ask(""), json!({ "messages": [{ "role": "user", "content": words }] }));
    let answer = chat(&client, &key, &long).await;
    assert_eq!(answer.status(), 200);
    let usage = serde_json::from_str::<Value>(&text(answer).await).expect("JSON")["usage"].clone();
    assert!(usage["prompt_tokens"].as_u64() >= Some(60_000), "the provider did not get all of it: {usage}");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_client_that_resets_its_stream_is_charged_the_usage() {
    let world = World::new().provider("on_disconnect", "drain").start().await;
    let key = world.key(&["--daily", "1"]);
    let client = connect(&world).await;
    // Before the head: the future is dropped, which resets the stream.
    let slow = streamed("tokens=40;rate=200;delay_headers_ms=60000");
    assert!(tokio::time::timeout(Duration::from_millis(300), chat(&client, &key, &slow)).await.is_err());
    // In mid-stream.
    let body = streamed("tokens=60;rate=150");
    let mut answer = chat(&client, &key, &body).await;
    let first = within("an event", answer.body_mut().frame()).await.expect("a frame").expect("a good frame");
    assert!(first.is_data());
    drop(answer);
    until("the second call is read to its end", async || world.invoice().await.in_flight <= 1).await;
    let before = world.books(&key).await;
    assert!(before.held > 0, "the first call still waits for its provider");
    assert_eq!(world.invoice().await.aborted, 0, "neither was dropped");
    // The connection still serves.
    assert_eq!(chat(&client, &key, &ask("tokens=5")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_reaches_a_stream_that_waits_for_its_provider() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    let client = connect(&world).await;
    let mut answer = chat(&client, &key, &streamed("tokens=40;rate=20;pause_at=3;pause_ms=60000;leave=stop")).await;
    within("an event", answer.body_mut().frame()).await.expect("a frame").expect("a good frame");
    world.cli_ok(&["kill", &key.id]);
    let rest = text(answer).await;
    assert!(rest.contains("\"error\"") && rest.contains("key_paused"), "{rest}");
    world.settled().await;
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_address_is_known() {
    let world = World::plain().await;
    let client = connect(&world).await;
    let here = world.key(&["--daily", "1", "--allow-ip", "127.0.0.1"]);
    let elsewhere = world.key(&["--daily", "1", "--allow-ip", "10.0.0.0/8"]);
    assert_eq!(chat(&client, &here, &ask("tokens=5")).await.status(), 200);
    assert_eq!(chat(&client, &elsewhere, &ask("tokens=5")).await.status(), 403);
}

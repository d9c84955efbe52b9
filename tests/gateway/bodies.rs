//! Request bodies of every size and framing arrive as they were sent, apart from the fields that are forced.

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::*;

/// A chat request whose body has about that many bytes.
fn sized(bytes: usize) -> Value {
    let text = "lorem ipsum ".repeat(bytes / 12) + "[[mock tokens=3]]";
    json!({ "model": json::CHAT, "max_tokens": 5, "messages": [{ "role": "user", "content": text }] })
}

/// What the provider got, for bodies that are too long for its log: their lengths.
async fn last_length(world: &World) -> u64 {
    world.seen().await.last().expect("a request")["body_bytes"].as_u64().expect("a length")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_and_framing_arrive() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "100"]);
    for bytes in [200, 60_000, 70_000, 300_000, 480_000] {
        let body = sized(bytes);
        let mut lengths = Vec::new();
        for chunked in [false, true] {
            let mut request = Request::chat(&body).bearer(&key.secret);
            if chunked {
                request = request.chunked();
            }
            let answer = world.send(&request).await.expect(200);
            assert_eq!(json::words(&json::content(&answer)), 3, "{bytes} bytes, chunked {chunked}");
            lengths.push(last_length(&world).await);
            let headers = world.seen().await.last().expect("a request")["headers"].to_string();
            assert!(headers.contains("[\"content-length\","), "{headers}");
            assert!(!headers.contains("transfer-encoding"), "{headers}");
        }
        assert_eq!(lengths[0], lengths[1], "{bytes}");
        assert!(lengths[0] as usize >= body.to_string().len(), "{bytes}: {lengths:?}");
        if bytes == 200 {
            let sent = with(world.last_body().await, json!({}));
            assert_eq!(sent["messages"], body["messages"]);
        }
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_megabytes_arrive() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "100"]);
    // 3 MB are 750,000 tokens by the provider's count: only the largest models take that.
    let text = "lorem ipsum ".repeat(250_000) + "[[mock tokens=3]]";
    let body = json!({ "model": "gpt-6-luna", "max_completion_tokens": 50, "messages": [{ "role": "user", "content": text }] });
    for chunked in [false, true] {
        let mut request = Request::chat(&body).bearer(&key.secret);
        if chunked {
            request = request.chunked();
        }
        world.send(&request).await.expect(200);
        assert!(last_length(&world).await >= 3_000_000);
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_the_limit_are_refused() {
    let world = World::new().limit("body_bytes", 100_000).start().await;
    let key = world.rich();
    let request = Request::chat(&sized(120_000)).bearer(&key.secret);
    world.send(&request).await.refused(413, "request_too_large");
    world.send(&request.clone().chunked()).await.refused(413, "request_too_large");
    // The length alone is enough: nothing has to be sent.
    let mut conn = Conn::open(world.gateway()).await;
    let head =
        Request::post("/openai/v1/chat/completions", "").bearer(&key.secret).header("content-length", "99999999999");
    conn.write(&head.head()).await.expect("sent");
    let answer = within("413 before the body", conn.try_answer("POST")).await.expect("an answer");
    answer.refused(413, "request_too_large");
    world.assert_untouched().await;
    world.send(&Request::chat(&sized(90_000)).bearer(&key.secret)).await.expect(200);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expected_continue_is_answered() {
    let world = World::plain().await;
    let key = world.rich();
    let request = Request::chat(&sized(2_000)).bearer(&key.secret).header("expect", "100-continue");
    let mut conn = Conn::open(world.gateway()).await;
    conn.write(&request.head()).await.expect("sent");
    // A client that waits for the invitation before it sends its body.
    let mut invitation = Vec::new();
    within("100 Continue", async {
        while !invitation.ends_with(b"\r\n\r\n") {
            let byte = conn.read_byte().await.expect("an invitation");
            invitation.push(byte);
        }
    })
    .await;
    assert!(invitation.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&invitation));
    conn.write(&request.body).await.expect("sent");
    let answer = within("the answer", conn.try_answer("POST")).await.expect("an answer").expect(200);
    assert!(answer.complete);
    assert!(!world.seen().await[0]["headers"].to_string().contains("\"expect\""));
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_sent_byte_by_byte_arrives() {
    let world = World::plain().await;
    let key = world.rich();
    for chunked in [false, true] {
        let mut request = Request::chat(&ask("tokens=3")).bearer(&key.secret);
        if chunked {
            request = request.chunked();
        }
        let mut conn = Conn::open(world.gateway()).await;
        for byte in request.bytes() {
            conn.write(&[byte]).await.expect("sent");
        }
        let answer = within("the answer", conn.try_answer("POST")).await.expect("an answer");
        answer.expect(200);
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_many_calls() {
    let world = World::plain().await;
    let key = world.rich();
    let mut conn = Conn::open(world.gateway()).await;
    for at in 0..30 {
        let body = match at % 3 {
            0 => ask("tokens=3"),
            1 => streamed("tokens=3"),
            _ => with(ask("tokens=3"), json!({ "model": "gpt-9" })),
        };
        if !conn.is_open() {
            conn = Conn::open(world.gateway()).await;
        }
        let answer = conn.call(&Request::chat(&body).bearer(&key.secret)).await;
        assert_eq!(answer.status, if at % 3 == 2 { 422 } else { 200 }, "call {at}: {}", answer.text());
    }
    assert_eq!(world.invoice().await.posts, 20);
    world.assert_books_exact().await;
}

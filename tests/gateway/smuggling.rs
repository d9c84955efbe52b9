//! E 47: HTTP that means two things is refused, and never becomes two requests.

use serde_json::json;

use crate::support::json::with;
use crate::support::*;

/// Sends raw bytes, half-closes nothing, and returns all that comes back until the gateway closes or stands still.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut conn = Conn::open(world.gateway()).await;
    let _ = conn.write(bytes).await;
    let mut said = String::new();
    // The first answer decides; a second one would be the smuggled request's.
    for _ in 0..2 {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), conn.try_answer("POST")).await;
        let Ok(Some(answer)) = answer else { break };
        said += &format!("{} {}\n", answer.status, answer.text());
    }
    said
}

/// Requests whose end two readers may see in two places: what they are, their bytes, whether one of them may pass.
fn two_framings(lp: &str, body: &str) -> Vec<(&'static str, String, bool)> {
    let head = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {lp}\r\n"
    );
    let length = body.len();
    let hidden = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lp}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let chunked_body = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    vec![
        (
            "both framings",
            format!("{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked_body}", chunked_body.len()),
            true,
        ),
        (
            "both framings, a request hidden",
            format!(
                "{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked_body}{hidden}",
                chunked_body.len() + hidden.len()
            ),
            true,
        ),
        ("two lengths", format!("{head}Content-Length: {length}\r\nContent-Length: 3\r\n\r\n{body}"), false),
        ("two lengths in one", format!("{head}Content-Length: {length}, 3\r\n\r\n{body}"), false),
        ("a signed length", format!("{head}Content-Length: +{length}\r\n\r\n{body}"), false),
        ("a negative length", format!("{head}Content-Length: -1\r\n\r\n{body}"), false),
        ("a length that is none", format!("{head}Content-Length: {length}x\r\n\r\n{body}"), false),
        ("another encoding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n{chunked_body}"), false),
        (
            "encodings in the wrong order",
            format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n{chunked_body}"),
            false,
        ),
        (
            "two encodings",
            format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{chunked_body}"),
            false,
        ),
        (
            "a blank before the colon",
            format!("{head}Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n\r\n{body}"),
            false,
        ),
        ("a folded header", format!("{head}X-A: b\r\n c\r\nContent-Length: {length}\r\n\r\n{body}"), false),
        ("a bad chunk size", format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"), false),
        (
            "a huge chunk size",
            format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
            false,
        ),
        ("a NUL in a header", format!("{head}X-A: a\0b\r\nContent-Length: {length}\r\n\r\n{body}"), false),
        ("two hosts", format!("{head}Host: y\r\nContent-Length: {length}\r\n\r\n{body}"), false),
        (
            "HTTP/1.0 with an encoding",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunked_body}").replace("HTTP/1.1", "HTTP/1.0"),
            false,
        ),
        ("garbage", "\0\u{1}\u{2}garbage\r\n\r\n".into(), false),
        ("a TLS hello", "\u{16}\u{3}\u{1}\0\u{5}hello".into(), false),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e47_two_framings_are_never_two_requests() {
    let world = World::plain().await;
    let key = world.rich();
    let body = ask("tokens=3").to_string();
    let cases = two_framings(&key.secret, &body);
    for (what, bytes, may_pass) in cases {
        let posts = world.invoice().await.posts;
        let said = raw(&world, bytes.as_bytes()).await;
        let sent = world.invoice().await.posts - posts;
        let most = u64::from(may_pass);
        assert!(sent <= most, "{what}: {sent} requests went out: {said}");
        assert!(may_pass || !said.starts_with("200"), "{what}: {said}");
        assert_eq!(said.matches("chat.completion").count() as u64, sent, "{what}: {said}");
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e47_pipelined_requests_are_charged_each() {
    let world = World::plain().await;
    let key = world.rich();
    let one = Request::chat(&ask("tokens=3")).bearer(&key.secret).bytes();
    let said = raw(&world, &[one.clone(), one.clone()].concat()).await;
    let calls = world.invoice().await.calls;
    assert!(calls <= 2 && said.matches("chat.completion").count() as u64 <= calls, "{said}");
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e47_no_value_injects_a_header() {
    let world = World::plain().await;
    let key = world.rich();
    // In a session id, a model name, a query: nothing that a header or a line could grow from.
    for model in ["gpt-4o-mini\r\nX-Evil: 1", "gpt-4o-mini\u{0}", "gpt-4o-mini\u{85}x"] {
        let answer = world.chat(&key, &with(ask(""), json!({ "model": model }))).await;
        assert!((400..500).contains(&answer.status));
        assert!(answer.header("x-evil").is_none());
    }
    let lp = &key.secret;
    let body = ask("tokens=3").to_string();
    for value in ["a\rX-Evil: 1", "a\nX-Evil: 1", "a\u{0}b"] {
        let text = format!(
            "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lp}\r\nX-Loopers-Session-ID: {value}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let said = raw(&world, text.as_bytes()).await;
        // A bare LF is a line end for lenient parsers: then X-Evil is a header of the client, and not of ours.
        assert!(!said.contains("x-evil"), "{value:?}: {said}");
    }
    for seen in world.seen().await {
        let headers = seen["headers"].as_array().expect("headers");
        assert!(!headers.iter().any(|h| h[1].as_str().is_some_and(|v| v.contains('\r') || v.contains('\n'))), "{seen}");
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e47_old_http_is_refused_or_served_whole() {
    let world = World::plain().await;
    let key = world.rich();
    for body in [ask("tokens=3"), streamed("tokens=3")] {
        let mut request = Request::chat(&body).bearer(&key.secret);
        request.version = "HTTP/1.0";
        let answer = world.send(&request).await;
        assert!(answer.status >= 400 || answer.complete, "{}", answer.text());
    }
    let mut request = Request::chat(&ask("tokens=3")).bearer(&key.secret);
    request.version = "HTTP/0.9";
    let mut conn = Conn::open(world.gateway()).await;
    if let Some(answer) = within("HTTP/0.9", conn.try_call(&request)).await {
        assert!(answer.status >= 400, "{}", answer.text());
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_huge_heads_are_refused() {
    let world = World::plain().await;
    let key = world.rich();
    let many = (0..400).fold(Request::chat(&ask("")).bearer(&key.secret), |r, at| r.header(&format!("x-{at}"), "1"));
    for request in [
        Request::chat(&ask("")).bearer(&key.secret).header("x-big", &"x".repeat(70_000)),
        Request::chat(&ask("")).bearer(&key.secret).header("x-big", &"x".repeat(900_000)),
        Request::post(&format!("/openai/v1/chat/completions?{}", "x".repeat(100_000)), ask("").to_string())
            .bearer(&key.secret),
        many,
    ] {
        let mut conn = Conn::open(world.gateway()).await;
        if let Some(answer) = within("a huge head", conn.try_call(&request)).await {
            assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_with_prior_knowledge_is_spoken() {
    let world = World::plain().await;
    let mut conn = Conn::open(world.gateway()).await;
    // Preface and an empty SETTINGS frame; the server has to begin with its own SETTINGS.
    conn.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    let mut frame = Vec::new();
    within("SETTINGS", async {
        while frame.len() < 9 {
            frame.push(conn.read_byte().await.expect("a frame"));
        }
    })
    .await;
    assert_eq!(frame[3], 4, "SETTINGS come first: {frame:?}");
}

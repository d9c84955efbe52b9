//! A 6, 13, 14: only the routes that are metered, or cost nothing, go through.

use serde_json::json;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a06_a_model_in_the_path_is_no_route_of_openai() {
    let world = World::plain().await;
    let key = world.rich();
    for path in [
        "/openai/deployments/gpt-4o/chat/completions?api-version=1",
        "/openai/v1/engines/gpt-4o/chat/completions",
        "/openai/v1/models/gpt-4o:generateContent",
    ] {
        let answer = world.send(&Request::post(path, ask("tokens=5").to_string()).bearer(&key.secret)).await;
        answer.refused(404, "unknown_route");
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_unmetered_routes_are_refused() {
    let world = World::plain().await;
    let key = world.rich();
    let body = ask("tokens=5").to_string();
    for path in [
        "responses/compact",
        "images/generations",
        "images/edits",
        "audio/speech",
        "audio/transcriptions",
        "videos",
        "batches",
        "files",
        "uploads",
        "fine_tuning/jobs",
        "evals",
        "assistants",
        "threads",
        "threads/runs",
        "vector_stores",
        "containers",
        "conversations",
        "realtime",
        "realtime/sessions",
        "skills",
        "chatkit/sessions",
        "decisions",
        "chat",
        "chat/completions/x",
        "embeddings/x",
        "",
        "v1/chat/completions",
        "organization/usage",
    ] {
        let request = Request::post(&format!("/openai/v1/{path}"), body.clone()).bearer(&key.secret);
        world.send(&request).await.refused(404, "unknown_route");
    }
    for path in [
        "/",
        "/openai",
        "/openai/",
        "/v1/chat/completions",
        "/chat/completions",
        "/admin/v1/keys",
        "/metrics",
        "/invoice",
        "/nobody/v1/chat/completions",
    ] {
        let answer = world.send(&Request::post(path, body.clone()).bearer(&key.secret)).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    for method in ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "post", "POSTX"] {
        let mut request = Request::new(method, CHAT).bearer(&key.secret);
        request.body = body.clone().into_bytes();
        let answer = world.send(&request).await;
        assert!((400..500).contains(&answer.status), "{method}: {} {}", answer.status, answer.text());
    }
    world.assert_untouched().await;
}

/// Every path that is one change away from a real one, and does not equal it.
fn mutations() -> Vec<String> {
    let real = ["/openai/v1/chat/completions", "/openai/v1/embeddings"];
    let mut paths = Vec::new();
    for path in real {
        for at in 0..path.len() {
            let (head, tail) = path.split_at(at);
            let byte = path.as_bytes()[at];
            paths.push(format!("{head}%{byte:02x}{}", &tail[1..]));
            paths.push(format!("{head}%25{byte:02X}{}", &tail[1..]));
            let swapped = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { b'_' };
            paths.push(format!("{head}{}{}", swapped as char, &tail[1..]));
            for insert in ["/", "./", "../", ";", ";x=1", "\\", "%00", "%2f", "%20", "é"] {
                if at > 0 {
                    paths.push(format!("{head}{insert}{tail}"));
                }
            }
        }
        for end in [
            "/",
            "//",
            "/.",
            "/..",
            ";",
            "%20",
            "%00",
            ".",
            "~",
            "%0a",
            "%0d%0aX: y",
            "\\",
            "/%2e%2e/completions",
            "%3Fx",
            "%23",
        ] {
            paths.push(format!("{path}{end}"));
        }
        for start in ["/x/..", "/.", "/", "/openai/..", "/%2e", "/openai/v1/models/../..", "//evil.test"] {
            paths.push(format!("{start}{path}"));
        }
    }
    paths.retain(|path| !real.contains(&path.split(['?', '#']).next().unwrap_or("")));
    paths.sort();
    paths.dedup();
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_five_hundred_mutated_paths_are_refused() {
    let world = World::plain().await;
    let key = world.rich();
    let paths = mutations();
    assert!(paths.len() >= 500, "{}", paths.len());
    for path in &paths {
        let body = if path.contains("embed") { embed("x") } else { ask("tokens=5") };
        let request = Request::post(path, body.to_string()).bearer(&key.secret);
        let mut conn = Conn::open(world.gateway()).await;
        // A parser that gives up may close the connection instead.
        let Some(answer) = within(path, conn.try_call(&request)).await else { continue };
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_other_forms_of_the_request_target() {
    let world = World::plain().await;
    let key = world.rich();
    let port = world.mock.port();
    for target in [
        "http://evil.test/openai/v1/chat/completions".to_owned(),
        "https://api.openai.com/v1/chat/completions".to_owned(),
        format!("http://127.0.0.1:{port}/v1/chat/completions"),
        "*".to_owned(),
        "openai/v1/chat/completions".to_owned(),
        "127.0.0.1:80".to_owned(),
    ] {
        let request = Request::post(&target, ask("tokens=5").to_string()).bearer(&key.secret);
        let mut conn = Conn::open(world.gateway()).await;
        if let Some(answer) = within(&target, conn.try_call(&request)).await {
            assert!((400..500).contains(&answer.status), "{target}: {} {}", answer.status, answer.text());
        }
    }
    let mut connect = Request::new("CONNECT", &format!("127.0.0.1:{port}")).bearer(&key.secret);
    connect.body = b"x".to_vec();
    let mut conn = Conn::open(world.gateway()).await;
    if let Some(answer) = within("CONNECT", conn.try_call(&connect)).await {
        assert!((400..500).contains(&answer.status), "CONNECT: {}", answer.status);
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_an_upgrade_is_refused() {
    let world = World::plain().await;
    let key = world.rich();
    for path in ["/openai/v1/realtime?model=gpt-realtime", "/openai/v1/responses", CHAT, "/openai/v1/models"] {
        let request = Request::get(path)
            .bearer(&key.secret)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let answer = world.send(&request).await;
        assert!((400..600).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    let request = Request::chat(&ask("tokens=5"))
        .bearer(&key.secret)
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_ne!(world.send(&request).await.status, 101);
    world.assert_books_exact().await;
    assert!(!world.seen().await.iter().any(|r| r["headers"].to_string().contains("\"upgrade\"")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_free_routes_carry_no_prompt() {
    let world = World::plain().await;
    let key = world.rich();
    let list = world.send(&Request::get("/openai/v1/models").bearer(&key.secret)).await.expect(200).json();
    assert!(list["data"].as_array().is_some_and(|models| !models.is_empty()));
    let one = world.send(&Request::get("/openai/v1/models/gpt-4o").bearer(&key.secret)).await;
    assert!(matches!(one.status, 200 | 404), "{}", one.text());
    let mut with_body = Request::get("/openai/v1/models").bearer(&key.secret);
    with_body.body = json!({ "prompt": "a prompt ".repeat(20_000) }).to_string().into_bytes();
    for request in [with_body.clone(), with_body.chunked()] {
        let mut conn = Conn::open(world.gateway()).await;
        // Refused, perhaps before all of it was read: then the connection may just be closed.
        within("a list with a body", conn.try_call(&request)).await;
    }
    for seen in world.seen().await {
        assert_eq!(seen["body_bytes"], 0, "{seen}");
    }
    let answer = world.send(&Request::get("/openai/v1/models").header("x-no-key", "1")).await;
    answer.refused(401, "invalid_key");
    assert_eq!(world.charged().await, 0);
}

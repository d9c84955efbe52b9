//! E 45, 50, 52: where keys may stand, and where they never go.

use serde_json::Value;

use crate::support::world::{ADMIN_TOKEN, CONFIG_PROVIDER_KEY};
use crate::support::*;

/// What authorised the last request at the provider.
async fn authorization(world: &World) -> String {
    let seen = world.seen().await;
    let headers = seen.last().expect("a request")["headers"].as_array().expect("headers").clone();
    let all: Vec<&Value> = headers.iter().filter(|header| header[0] == "authorization").collect();
    assert_eq!(all.len(), 1, "{headers:?}");
    all[0][1].as_str().unwrap_or_default().to_owned()
}

/// Neither proxy keys nor our own headers ever reach a provider.
async fn assert_nothing_leaked(world: &World) {
    for request in world.seen().await {
        let text = request.to_string();
        assert!(!text.contains("lp-"), "a proxy key reached the provider: {text}");
        assert!(!text.to_ascii_lowercase().contains("x-loopers"), "one of our headers reached the provider: {text}");
        assert!(!text.contains(ADMIN_TOKEN));
    }
}

/// No secret stands in what the gateways wrote.
fn assert_logs_clean(world: &World, secrets: &[&str]) {
    for gateway in &world.gateways {
        let log = gateway.process.output();
        for secret in secrets.iter().chain(&[CONFIG_PROVIDER_KEY, ADMIN_TOKEN]) {
            assert!(!log.contains(secret), "a secret in the log: {log}");
        }
    }
}

fn chat() -> Request {
    Request::chat(&ask("tokens=3"))
}

fn at(path: &str) -> Request {
    Request::post(path, ask("tokens=3").to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e45_keys_are_taken_from_every_place_and_never_forwarded() {
    let world = World::plain().await;
    let key = world.rich();
    let lp = key.secret.as_str();
    assert!(lp.starts_with("lp-") && lp.len() == 46, "{}", lp.len());
    let path = "/openai/v1/chat/completions";
    for (what, request) in [
        ("bearer", chat().bearer(lp)),
        ("bearer in lower case", chat().header("authorization", &format!("bearer {lp}"))),
        ("x-api-key", chat().header("x-api-key", lp)),
        ("api-key", chat().header("api-key", lp)),
        ("x-goog-api-key", chat().header("x-goog-api-key", lp)),
        ("query", at(&format!("{path}?key={lp}"))),
        ("path", at(&format!("/{lp}{path}"))),
    ] {
        let answer = world.send(&request).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        assert_eq!(authorization(&world).await, format!("Bearer {CONFIG_PROVIDER_KEY}"), "{what}");
        let text = format!("{:?} {}", answer.head.headers, answer.text());
        assert!(!text.contains(lp) && !text.contains(CONFIG_PROVIDER_KEY), "{what}: {text}");
    }
    assert_nothing_leaked(&world).await;
    for request in world.seen().await {
        assert!(request["path"].as_str().is_some_and(|path| path.starts_with("/v1/chat/completions")), "{request}");
    }
    assert_logs_clean(&world, &[lp]);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e45_the_providers_key_comes_from_header_path_form_or_config() {
    let world = World::plain().await;
    let key = world.rich();
    let lp = key.secret.as_str();
    let form = format!("/{lp}/openai/v1/chat/completions");
    for (what, request, expected) in [
        ("header", chat().bearer(lp).header("x-loopers-provider-key", "sk-test-mine"), "sk-test-mine"),
        ("path form", at(&form).bearer("sk-test-real"), "sk-test-real"),
        (
            "path form and header",
            at(&form).bearer("sk-test-real").header("x-loopers-provider-key", "sk-test-mine"),
            "sk-test-mine",
        ),
        ("config", chat().bearer(lp), CONFIG_PROVIDER_KEY),
    ] {
        world.send(&request).await.expect(200);
        assert_eq!(authorization(&world).await, format!("Bearer {expected}"), "{what}");
    }
    assert_nothing_leaked(&world).await;
    assert_logs_clean(&world, &[lp, "sk-test-mine", "sk-test-real"]);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e45_a_key_can_be_bound_to_one_source_of_provider_keys() {
    let world = World::plain().await;
    let of_config = world.key(&["--monthly", "10", "--provider-key", "config"]);
    let of_request = world.key(&["--monthly", "10", "--provider-key", "request"]);
    let mine = |key: &Key| chat().bearer(&key.secret).header("x-loopers-provider-key", "sk-test-mine");
    let plain = |key: &Key| chat().bearer(&key.secret);
    world.send(&plain(&of_config)).await.expect(200);
    let answer = world.send(&mine(&of_config)).await;
    if answer.status == 200 {
        assert_eq!(authorization(&world).await, format!("Bearer {CONFIG_PROVIDER_KEY}"));
    } else {
        assert!((400..404).contains(&answer.status), "{}", answer.text());
    }
    world.send(&mine(&of_request)).await.expect(200);
    assert_eq!(authorization(&world).await, "Bearer sk-test-mine");
    let posts = world.invoice().await.posts;
    let answer = world.send(&plain(&of_request)).await;
    assert!((400..404).contains(&answer.status), "{}", answer.text());
    assert_eq!(world.invoice().await.posts, posts);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e50_keys_that_are_none_get_one_answer() {
    let world = World::plain().await;
    let key = world.rich();
    let lp = key.secret.as_str();
    let unknown = format!("lp-{}", "A".repeat(43));
    let mut other_end = lp.to_owned();
    other_end.replace_range(45.., if lp.ends_with('a') { "b" } else { "a" });
    let answers = [
        chat(),
        chat().bearer(&unknown),
        chat().bearer(&other_end),
        chat().bearer(&lp[..45]),
        chat().bearer(&format!("{lp}x")),
        chat().bearer(&lp.to_uppercase()),
        chat().bearer("sk-test-real"),
        chat().bearer(""),
        chat().header("authorization", ""),
        chat().header("authorization", lp),
        chat().header("authorization", &format!("Basic {lp}")),
        chat().bearer(ADMIN_TOKEN),
        chat().bearer(&key.id),
        chat().header("x-api-key", ""),
        at(&format!("/{unknown}/openai/v1/chat/completions")).bearer("sk-test-real"),
        at("/openai/v1/chat/completions?key="),
    ];
    let mut bodies = Vec::new();
    for request in answers {
        let answer = world.send(&request).await;
        let what = format!("{:?} {}", request.headers, request.target);
        assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_key"), "{what}: {}", answer.text());
        bodies.push(answer.json()["error"]["message"].clone());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "missing, malformed and unknown are one answer: {bodies:?}");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e52_no_combination_of_keys_skips_the_cap() {
    let world = World::plain().await;
    let rich = world.rich();
    let empty = world.key(&["--daily", "0"]);
    let (a, b) = (rich.secret.as_str(), empty.secret.as_str());
    let path = "/openai/v1/chat/completions";
    for (what, request) in [
        ("two headers", chat().bearer(a).header("x-api-key", b)),
        ("two headers, the other way", chat().bearer(b).header("x-api-key", a)),
        ("two bearers", chat().bearer(a).bearer(b)),
        ("header and query", at(&format!("{path}?key={a}")).bearer(b)),
        ("two queries", at(&format!("{path}?key={a}&key={b}"))),
        ("path and header", at(&format!("/{a}{path}")).bearer(b)),
        ("path and header, the other way", at(&format!("/{b}{path}")).bearer(a)),
        ("two paths", at(&format!("/{a}/{b}{path}"))),
        ("provider key is a proxy key", chat().bearer(a).header("x-loopers-provider-key", b)),
        ("the same twice", chat().bearer(a).header("x-api-key", a)),
    ] {
        let before = world.charged().await;
        let answer = world.send(&request).await;
        world.settled().await;
        if answer.status == 200 {
            assert!(world.charged().await > before, "{what}: a free call");
        } else {
            assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        }
    }
    assert_nothing_leaked(&world).await;
    assert_eq!(world.books(&empty).await.spent, 0);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e45_what_reaches_the_provider_is_only_what_it_needs() {
    let world = World::plain().await;
    let key = world.rich();
    let mut request = chat()
        .bearer(&key.secret)
        .header("accept-encoding", "gzip, br")
        .header("cookie", "session=secret")
        .header("x-forwarded-for", "10.0.0.1")
        .header("openai-organization", "org-else")
        .header("openai-project", "proj-else")
        .header("openai-beta", "responses_multi_agent=v1")
        .header("x-mock-script", "tokens=900")
        .header("te", "trailers")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("user-agent", "OpenAI/Python 2.0")
        .header("x-stainless-retry-count", "0");
    for name in ["session-id", "session-budget", "session-max-steps", "anything-else", "provider-key"] {
        let value = if name == "provider-key" { "sk-test-mine" } else { "1" };
        request = request.header(&format!("X-Loopers-{name}"), value);
    }
    world.send(&request).await.expect(200);
    assert_nothing_leaked(&world).await;
    let seen = world.seen().await;
    let header = |name: &str| -> Vec<String> {
        let headers = seen[0]["headers"].as_array().expect("headers");
        headers.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(header("accept-encoding"), ["identity"]);
    assert_eq!(header("host"), [world.mock.to_string()]);
    for gone in [
        "cookie",
        "openai-organization",
        "openai-project",
        "openai-beta",
        "x-hop",
        "te",
        "x-forwarded-for",
        "expect",
        "transfer-encoding",
    ] {
        assert!(header(gone).is_empty(), "{gone}: {:?}", header(gone));
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e46_a_request_never_chooses_where_it_goes() {
    let world = World::plain().await;
    let key = world.rich();
    let request = chat()
        .bearer(&key.secret)
        .header("host", "evil.test")
        .header("x-forwarded-host", "evil.test")
        .header("x-original-url", "/v1/files")
        .header("x-rewrite-url", "/v1/files")
        .header("x-loopers-base-url", "http://evil.test")
        .header("x-http-method-override", "DELETE");
    world.send(&request).await.expect(200);
    let seen = world.seen().await;
    assert_eq!((seen[0]["method"].as_str(), seen[0]["path"].as_str()), (Some("POST"), Some("/v1/chat/completions")));
    assert!(seen[0]["headers"].to_string().contains(&world.mock.to_string()));
    world.assert_books_exact().await;
}

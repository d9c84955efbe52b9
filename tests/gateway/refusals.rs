//! Every row of the contract's table of refusals: status, code, shape and headers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::*;

/// What holds for every refusal.
#[track_caller]
fn assert_shape(answer: &Answer, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{text}");
    assert!(answer.header("content-type").is_some_and(|v| v.starts_with("application/json")), "{:?}", answer.head);
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{code}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{code}");
    assert!(answer.header("retry-after").is_none() && answer.header("retry-after-ms").is_none(), "{code}");
    assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{code}");
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
    assert!(error["type"].is_string() && error.get("param").is_some(), "{text}");
    let said = &error["loopers"];
    assert_eq!(said["code"], code, "{text}");
    for field in [
        "message",
        "budget",
        "level",
        "window",
        "limit_usd",
        "spent_usd",
        "held_usd",
        "requested_usd",
        "resets_at",
        "hint",
    ] {
        assert!(said.get(field).is_some(), "no {field}: {text}");
    }
    if code == "budget_exceeded" {
        for field in ["limit_usd", "spent_usd", "held_usd", "requested_usd", "budget", "level", "window"] {
            assert!(said[field].is_string(), "{field}: {text}");
        }
        assert!(!said["resets_at"].is_null(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_before_the_money_is_looked_at() {
    let world = World::plain().await;
    let key = world.rich();
    let send = async |body: &Value| world.chat(&key, body).await;
    assert_shape(&world.send(&Request::chat(&ask(""))).await, 401, "invalid_key");
    assert_shape(&send(&with(ask(""), json!({ "messages": 5 }))).await, 400, "invalid_request");
    let twins = with(ask(""), json!({ "max_tokens": 5, "max_completion_tokens": 5 }));
    assert_shape(&send(&twins).await, 400, "ambiguous_request");
    let tool = with(ask(""), json!({ "tools": [{ "type": "web_search" }] }));
    assert_shape(&send(&tool).await, 400, "unpriceable_request");
    assert_shape(&send(&ask_model("gpt-9", "")).await, 422, "unknown_model");
    let nowhere = Request::post("/openai/v1/images/generations", "{}").bearer(&key.secret);
    assert_shape(&world.send(&nowhere).await, 404, "unknown_route");
    let gzip = Request::chat(&ask("")).bearer(&key.secret).header("content-encoding", "gzip");
    assert_shape(&world.send(&gzip).await, 415, "unsupported_encoding");
    let huge =
        Request::post("/openai/v1/chat/completions", "").bearer(&key.secret).header("content-length", "40000000");
    let mut conn = Conn::open(world.gateway()).await;
    conn.write(&huge.head()).await.expect("sent");
    let answer = within("413", conn.try_answer("POST")).await.expect("an answer");
    assert_shape(&answer, 413, "request_too_large");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_because_of_what_the_key_may_do() {
    let world = World::plain().await;
    let call = async |key: &Key| world.chat(key, &ask("tokens=5")).await;
    let key = world.key(&["--daily", "1", "--models", "gpt-4o"]);
    assert_shape(&call(&key).await, 403, "model_not_allowed");
    let key = world.key(&["--daily", "1", "--allow-ip", "10.1.0.0/16"]);
    assert_shape(&call(&key).await, 403, "ip_not_allowed");
    let key = world.key(&["--daily", "1", "--allow-ip", "127.0.0.0/8"]);
    assert_eq!(call(&key).await.status, 200);
    let key = world.key(&["--daily", "1"]);
    world.cli_ok(&["keys", "pause", &key.id]);
    assert_shape(&call(&key).await, 403, "key_paused");
    let key = world.key(&["--daily", "1"]);
    world.cli_ok(&["keys", "revoke", &key.id]);
    assert_shape(&call(&key).await, 403, "key_revoked");
    assert!(!world.cli(&["keys", "resume", &key.id]).status.success() || call(&key).await.status == 403, "for ever");
    let key = world.key(&["--daily", "1", "--models", "gpt-4o-mini,text-*"]);
    assert_eq!(call(&key).await.status, 200);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_key_that_expired() {
    let world = World::plain().await;
    let soon = (jiff::Timestamp::now() + Duration::from_secs(3)).to_string();
    let key = world.key(&["--daily", "1", "--expires", &soon]);
    until("the key expires", async || world.chat(&key, &ask("tokens=5")).await.status != 200).await;
    assert_shape(&world.chat(&key, &ask("tokens=5")).await, 403, "key_expired");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_provider_that_is_not_allowed() {
    let world = World::plain().await;
    let output =
        world.cli(&["keys", "create", "--name", "other", "--providers", "anthropic", "--daily", "1", "--json"]);
    if !output.status.success() {
        // A provider that this version does not know may be refused where it is typed.
        return;
    }
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let request = Request::chat(&ask("tokens=5")).bearer(made["key"].as_str().expect("a key"));
    assert_shape(&world.send(&request).await, 403, "provider_not_allowed");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_for_want_of_money() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0"]);
    for body in [ask("tokens=5"), streamed("tokens=5")] {
        assert_shape(&world.chat(&key, &body).await, 402, "budget_exceeded");
    }
    let key = world.key(&["--daily", "1", "--session-budget", "0.00000001"]);
    let request = || Request::chat(&ask("tokens=5")).bearer(&key.secret).header("x-loopers-session-id", "a");
    let none = request().header("x-loopers-session-max-steps", "0");
    assert_shape(&world.send(&none).await, 402, "session_steps_exceeded");
    assert_shape(&world.send(&request()).await, 402, "session_budget_exceeded");
    world.cli_ok(&["teams", "create", "--name", "poor", "--weekly", "0"]);
    let key = world.key(&["--team", "poor", "--daily", "1"]);
    let answer = world.chat(&key, &ask("tokens=5")).await;
    assert_shape(&answer, 402, "budget_exceeded");
    let said = answer.loopers();
    assert_eq!((said["level"].as_str(), said["window"].as_str()), (Some("team"), Some("weekly")), "{said}");
    assert!(
        said["budget"].as_str().is_some_and(|budget| budget.contains("poor") || budget.starts_with("t_")),
        "{said}"
    );
    world.assert_untouched().await;
}

/// A call at a moment when no other one runs: the last byte of an answer is with its client a little before its place is free.
async fn with_room(world: &World, key: &Key, script: &str) -> Answer {
    loop {
        let answer = world.chat(key, &ask(script)).await;
        if answer.code() != "overloaded" {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_because_of_trouble_elsewhere() {
    let mut world = World::new()
        .redis()
        .provider("timeouts", "{ connect: 1s, first_byte: 1s, between_chunks: 1s }")
        .limit("in_flight", 1)
        .start()
        .await;
    let key = world.rich();
    let mut live = world.live(&key, &streamed("tokens=100;rate=50")).await;
    live.skip(2).await;
    let busy = world.send(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await;
    assert_shape(&busy, 503, "overloaded");
    assert_eq!(live.finish().await.events().last().map(String::as_str), Some("[DONE]"));
    assert_shape(&with_room(&world, &key, "hang=1").await, 504, "upstream_timeout");
    world.kill_mock();
    assert_shape(&with_room(&world, &key, "tokens=5").await, 502, "upstream_unreachable");
    world.redis().kill();
    assert_shape(&with_room(&world, &key, "tokens=5").await, 503, "ledger_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_carry_our_headers() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1", "--monthly", "500"]);
    let answer = world.chat(&key, &ask("tokens=5")).await.expect(200);
    let amount =
        |name: &str| json::nano(&json!(answer.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", answer.head))));
    let (held, cost, left) =
        (amount("x-loopers-held-usd"), amount("x-loopers-cost-usd"), amount("x-loopers-remaining-usd"));
    assert_eq!(left, 1_000_000_000 - held, "after the hold");
    assert_eq!(cost, world.invoice().await.nano);
    assert_eq!(answer.header("x-loopers-remaining-window"), Some("key/daily"));
    assert!(answer.header("x-loopers-max-tokens").is_none(), "only of clamped calls");
    assert!(answer.header("x-request-id").is_some());
    world.settled().await;
    let second = world.chat(&key, &streamed("tokens=5")).await.expect(200);
    assert!(second.header("x-loopers-cost-usd").is_none(), "a stream's cost is not known at its start");
    assert!(second.header("x-loopers-held-usd").is_some() && second.header("x-loopers-remaining-usd").is_some());
    assert_ne!(second.header("x-request-id"), answer.header("x-request-id"));
    let session = Request::chat(&ask("tokens=5"))
        .bearer(&key.secret)
        .header("x-loopers-session-id", "s")
        .header("x-loopers-session-budget", "0.5");
    assert_eq!(world.send(&session).await.expect(200).header("x-loopers-remaining-window"), Some("session"));
    world.assert_books_exact().await;

    let silent = World::new().section("headers: { expose: false }").start().await;
    let key = silent.rich();
    for body in [ask("tokens=5"), streamed("tokens=5"), ask_model("gpt-9", "")] {
        let answer = silent.chat(&key, &body).await;
        let ours: Vec<_> = answer.head.headers.iter().filter(|(name, _)| name.starts_with("x-loopers")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    silent.assert_books_exact().await;
}

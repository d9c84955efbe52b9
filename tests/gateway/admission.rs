//! B 15–19 and 23: admission is one atomic step, and nobody remembers what the ledger has forgotten.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::json::{nano, with};
use crate::support::*;

/// Asserts that each refusal was right by its own numbers.
fn assert_justified(answers: &[Answer]) {
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.status, 402, "{}", answer.text());
        let said = answer.loopers();
        let amount = |field: &str| nano(&said[field]);
        let (spent, held, limit) = (amount("spent_usd"), amount("held_usd"), amount("limit_usd"));
        assert!(spent + held <= limit, "{said}");
        assert!(spent + held + amount("requested_usd") > limit, "refused although it fitted: {said}");
    }
}

fn race(world: &World, key: &Key, calls: usize, body: &Value) -> Vec<(SocketAddr, Request)> {
    let request = Request::chat(body).bearer(&key.secret);
    (0..calls).map(|call| (world.gateways[call % world.gateways.len()].addr, request.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_racing_for_the_last_cent() {
    for engine in [Engine::Redis, Engine::File] {
        let gateways = if engine == Engine::Redis { 3 } else { 1 };
        let world = World::new().engine(engine).gateways(gateways).start().await;
        for calls in [2, 10, 100, 300] {
            // One call's worst case costs 2,000 tokens at $0.60 per million, and its input: one fits, two do not.
            let key = world.key(&["--daily", "0.002", "--overflow", "refuse"]);
            let body = with(ask("tokens=2000;chunk=500"), json!({ "max_tokens": 2000 }));
            let answers = at_once(race(&world, &key, calls, &body)).await;
            assert!(answers.iter().any(|answer| answer.status == 200), "somebody wins");
            assert_justified(&answers);
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_first_calls_of_a_new_session_race() {
    let world = World::new().redis().gateways(2).start().await;
    let key = world.key(&["--daily", "5", "--session-steps", "5"]);
    for session in ["one", "two"] {
        let request = Request::chat(&ask("tokens=5")).bearer(&key.secret).header("x-loopers-session-id", session);
        let calls = (0..60).map(|call| (world.gateways[call % 2].addr, request.clone())).collect();
        let answers = at_once(calls).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 5, "exactly the steps allowed");
        for answer in answers.into_iter().filter(|answer| answer.status != 200) {
            answer.refused(402, "session_steps_exceeded");
        }
    }
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.calls, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b16_all_windows_and_levels_or_none() {
    let world = World::plain().await;
    world.cli_ok(&["teams", "create", "--name", "top", "--monthly", "0.001"]);
    world.cli_ok(&["teams", "create", "--name", "crew", "--parent", "top", "--monthly", "100"]);
    let flags = [
        "--team",
        "crew",
        "--minute",
        "50",
        "--hourly",
        "50",
        "--daily",
        "50",
        "--monthly",
        "50",
        "--overflow",
        "refuse",
    ];
    let key = world.key(&flags);
    let other = world.key(&["--team", "crew", "--monthly", "50"]);
    // The worst case of gpt-4o does not fit into the top team's limit: the key's own windows had already passed.
    let request =
        Request::chat(&ask_model("gpt-4o", "tokens=5")).bearer(&key.secret).header("x-loopers-session-id", "s1");
    let said = world.send(&request).await.refused(402, "budget_exceeded").loopers();
    assert_eq!((said["level"].as_str(), said["window"].as_str()), (Some("team"), Some("monthly")), "{said}");
    world.assert_untouched().await;
    let books = async |key: &Key| {
        let view = world.budget(key).await;
        let levels = view["levels"].as_array().expect("levels").clone();
        levels.iter().flat_map(|level| level["windows"].as_array().expect("windows").clone()).collect::<Vec<_>>()
    };
    for window in books(&key).await {
        assert_eq!((nano(&window["spent_usd"]), nano(&window["held_usd"])), (0, 0), "{window}");
    }
    // A call that fits is charged to every window of every level at once. The minute must not end before the books are read.
    early_in_the_minute().await;
    let cost = world.chat(&other, &with(ask("tokens=5"), json!({ "max_tokens": 16 }))).await.expect(200);
    world.settled().await;
    let cost = nano(&json!(cost.header("x-loopers-cost-usd").expect("a cost")));
    let windows = books(&other).await;
    assert!(windows.len() >= 15, "three levels of five windows: {windows:?}");
    for window in windows {
        assert_eq!((nano(&window["spent_usd"]), nano(&window["held_usd"])), (cost, 0), "{window}");
    }
    assert_eq!(world.books(&key).await.spent, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b17_a_step_refused_after_the_hold_keeps_nothing() {
    let mut world = World::plain().await;
    let key = world.key(&["--daily", "1", "--models", "gpt-4o-mini", "--session-steps", "1000"]);
    let request = || Request::chat(&ask("tokens=5")).bearer(&key.secret);
    let long = "x".repeat(129);
    for session in ["", " ", "a b", "a/b", "é", "a,b", "a\"b", long.as_str(), "a\u{7f}b"] {
        let answer = world.send(&request().header("x-loopers-session-id", session)).await;
        assert_eq!(answer.status, 400, "{session:?}: {}", answer.text());
    }
    let twice = request().header("x-loopers-session-id", "a").header("x-loopers-session-id", "b");
    assert_eq!(world.send(&twice).await.status, 400, "two sessions");
    world.chat(&key, &ask_model("gpt-4o", "tokens=5")).await.refused(403, "model_not_allowed");
    world.assert_untouched().await;
    // The provider is gone: nothing was sent, so nothing is charged, and the money is free again at once.
    world.kill_mock();
    for _ in 0..3 {
        world.send(&request()).await.refused(502, "upstream_unreachable");
    }
    until("the holds are released", async || world.books(&key).await.held == 0).await;
    assert_eq!(world.books(&key).await.spent, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b18_a_hold_that_shrinks_shrinks_the_request() {
    let world = World::plain().await;
    for (field, n) in [("max_tokens", 1), ("max_completion_tokens", 1), ("max_tokens", 3)] {
        for obey in [1, 0] {
            let key = world.key(&["--daily", "0.003"]);
            let script = format!("tokens=9000;obey={obey};rate=2000;chunk=20;leave=stop");
            let body = with(streamed(&script), json!({ field: 9000, "n": n }));
            let answer = world.chat(&key, &body).await.expect(200);
            let limit = world.last_body().await[field].as_u64().expect("a limit");
            assert!(limit < 9000 / n, "{limit}");
            assert_eq!(answer.header("x-loopers-max-tokens"), Some(limit.to_string().as_str()));
            if obey == 1 {
                json::assert_finished(&answer);
                world.assert_books_exact().await;
            } else {
                // What such a provider makes while it is being dropped is beyond any hold: the hold is charged, all of it.
                json::assert_cut(&answer);
                world.settled().await;
                let held = nano(&json!(answer.header("x-loopers-held-usd").expect("the hold")));
                assert_eq!(world.books(&key).await.spent, held);
                assert!(world.invoice().await.nano <= held + 600_000, "cut late: {:?}", world.invoice().await);
                world.assert_limits_hold().await;
            }
            world.reset_mock().await;
            world.cli_ok(&["keys", "revoke", &key.id]);
            world.forget_keys();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_nothing_about_a_key_is_remembered() {
    let world = World::new().redis().gateways(2).start().await;
    let key = world.key(&["--daily", "1"]);
    let call =
        async |gateway: usize| world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(&key.secret)).await;
    let both = async |status: u16, code: &str| {
        for gateway in 0..2 {
            let answer = call(gateway).await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
        }
    };
    both(200, "").await;
    world.cli_ok(&["budget", "set", &key.id, "--daily", "0"]);
    both(402, "budget_exceeded").await;
    world.cli_ok(&["budget", "set", &key.id, "--daily", "1"]);
    both(200, "").await;
    world.cli_ok(&["keys", "pause", &key.id]);
    both(403, "key_paused").await;
    world.cli_ok(&["keys", "resume", &key.id]);
    both(200, "").await;
    world.cli_ok(&["kill", &key.id]);
    for gateway in 0..2 {
        assert_eq!(call(gateway).await.status, 403, "killed");
    }
    world.cli_ok(&["keys", "resume", &key.id]);
    both(200, "").await;
    world.assert_books_exact().await;
    let rotated = world.cli_json(&["keys", "rotate", &key.id]);
    let fresh = rotated["key"].as_str().expect("the new key").to_owned();
    both(401, "invalid_key").await;
    for gateway in 0..2 {
        world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(&fresh)).await.expect(200);
    }
    world.cli_ok(&["keys", "revoke", &key.id]);
    for gateway in 0..2 {
        world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(&fresh)).await.refused(403, "key_revoked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b23_a_lost_answer_of_the_ledger_costs_nothing_and_leaks_nothing() {
    let world = World::new().chaos().limit("ledger_ms", 500).start().await;
    let chaos = world.chaos.clone().expect("the proxy");
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.settled().await;
    for _ in 0..3 {
        let posts = world.invoice().await.posts;
        chaos.lose_answers(true);
        let answer = world.chat(&key, &ask("tokens=5")).await;
        answer.refused(503, "ledger_unavailable");
        assert_eq!(world.invoice().await.posts, posts, "nothing goes out on a hold in doubt");
        chaos.lose_answers(false);
        until("the ledger is back", async || world.chat(&key, &ask("tokens=5")).await.status == 200).await;
    }
    assert!(chaos.lost() > 0);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b23_a_settlement_whose_answer_is_lost_counts_once() {
    let world = World::new().chaos().limit("ledger_ms", 500).start().await;
    let chaos = world.chaos.clone().expect("the proxy");
    let key = world.key(&["--daily", "1"]);
    for _ in 0..5 {
        let mut live = world.live(&key, &streamed("tokens=40;rate=200")).await;
        live.skip(3).await;
        chaos.lose_answers(true);
        // The stream ends while the ledger's answers are lost; whatever the gateway makes of the stream, the books are exact.
        live.finish().await;
        let lost = chaos.lost();
        until("a settlement's answer was lost", async || chaos.lost() > lost).await;
        chaos.lose_answers(false);
        until("the ledger is back", async || world.chat(&key, &ask("tokens=5")).await.status == 200).await;
    }
    world.assert_books_sound().await;
}

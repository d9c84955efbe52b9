//! D 37, 38: the ledger or the gateway goes away. Never a free call; it heals by itself.

use std::time::Duration;

use serde_json::json;

use crate::support::json::with;
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_without_redis_nothing_goes_out_and_it_heals() {
    let mut world = World::new().redis().limit("ledger_ms", 500).gateways(2).start().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.settled().await;
    let before = world.invoice().await;
    for round in 0..2 {
        world.redis().kill();
        for gateway in 0..2 {
            for body in [ask("tokens=5"), streamed("tokens=5")] {
                let answer = world.send_to(gateway, &Request::chat(&body).bearer(&key.secret)).await;
                answer.refused(503, "ledger_unavailable");
            }
            let list = Request::get("/openai/v1/models").bearer(&key.secret);
            assert!(world.send_to(gateway, &list).await.status == 503, "no key can be checked");
        }
        assert_eq!(world.invoice().await.posts, before.posts + 2 * round, "nothing went out");
        world.start_redis().await;
        for gateway in 0..2 {
            let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
            until("it heals", async || world.send_to(gateway, &request).await.status == 200).await;
        }
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_redis_dies_under_running_streams() {
    let mut world = World::new().redis().limit("ledger_ms", 500).start().await;
    let key = world.key(&["--daily", "1"]);
    let mut lives = Vec::new();
    for _ in 0..5 {
        let mut live = world.live(&key, &streamed("tokens=100;rate=100;leave=stop")).await;
        live.skip(2).await;
        lives.push(live);
    }
    world.redis().kill();
    for live in lives {
        let answer = live.finish().await;
        assert!(answer.complete, "a proper end, whichever: {}", answer.text());
    }
    world.start_redis().await;
    let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
    until("it heals", async || world.send(&request).await.status == 200).await;
    // What ended meanwhile is settled as soon as the ledger is back.
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_a_frozen_redis_delays_nobody_for_long() {
    let mut world = World::new().redis().limit("ledger_ms", 500).start().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.redis().signal("STOP");
    let refused = world.chat(&key, &ask("tokens=5")).await;
    world.redis().signal("CONT");
    refused.refused(503, "ledger_unavailable");
    assert_eq!(world.invoice().await.posts, 1);
    let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
    until("it heals", async || world.send(&request).await.status == 200).await;
    // The reserve that was under way when nobody answered took nothing that stays.
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_a_redis_that_lost_its_scripts_is_taught_again() {
    let world = World::new().redis().limit("ledger_ms", 500).start().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.redis_command("SCRIPT FLUSH SYNC").await;
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d37_a_killed_gateway_leaves_holds_not_free_calls() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world = World::new().engine(engine).start().await;
        let key = world.key(&["--daily", "1"]);
        for _ in 0..10 {
            world.chat(&key, &ask("tokens=5")).await.expect(200);
        }
        let body = with(streamed("tokens=3000;rate=100;leave=stop"), json!({ "max_tokens": 3000 }));
        let mut live = world.live(&key, &body).await;
        live.skip(5).await;
        world.gateways[0].process.signal("KILL");
        world.gateways[0].process.wait(Duration::from_secs(10)).await;
        assert!(!live.finish().await.complete, "the client must not take this for success");
        until("the provider notices", async || world.invoice().await.in_flight == 0).await;
        world.restart_gateway(0).await;
        let (books, invoice) = (world.books(&key).await, world.invoice().await);
        assert!(invoice.nano <= books.spent + books.held, "{books:?} {invoice:?}");
        assert!(books.held > 0 || books.spent >= 1_800_000, "doubt is held or charged: {books:?}");
        world.chat(&key, &ask("tokens=5")).await.expect(200);
        world.assert_limits_hold().await;
    }
}

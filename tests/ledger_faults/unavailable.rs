//! Faults that lose nothing: refused while they last, healed by themselves.

use std::time::Duration;

use super::lab::{Lab, Redis};
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_redis_stopped() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    lab.redis.stop().await;
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.assert_not_ready().await;
    lab.redis.run().await;
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_redis_killed_under_running_streams() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    let mut lives = Vec::new();
    for _ in 0..4 {
        let mut live = lab.world.live(&key, &streamed("tokens=100;rate=100;leave=stop")).await;
        live.skip(2).await;
        lives.push(live);
    }
    lab.redis.kill();
    lab.assert_refused(&key, "ledger_unavailable").await;
    for live in lives {
        assert!(live.finish().await.complete, "a running call is not touched");
    }
    lab.redis.run().await;
    lab.assert_heals(&key).await;
    // What ended meanwhile is settled at what the provider said.
    lab.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_redis_frozen() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    lab.redis.process().signal("STOP");
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.process().signal("CONT");
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_redis_slow_by_two_seconds() {
    let lab = Lab::new(1).await;
    let key = lab.key().await;
    lab.wire.delay(Duration::from_secs(2));
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.wire.delay(Duration::ZERO);
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_redis_resets_connections_in_mid_reply() {
    let lab = Lab::new(2).await;
    let key = lab.key().await;
    lab.wire.reset(true);
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.wire.reset(false);
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_wrong_password() {
    let lab = Lab::new(1).await;
    let key = lab.key().await;
    lab.redis.tell("CONFIG SET requirepass hunter-two");
    lab.redis.ask_as::<redis::Value>(Some("hunter-two"), &["CLIENT", "KILL", "TYPE", "normal"]);
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.ask_as::<redis::Value>(Some("hunter-two"), &["CONFIG", "SET", "requirepass", ""]);
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_read_only_replica() {
    let lab = Lab::new(1).await;
    let key = lab.key().await;
    lab.redis.tell("REPLICAOF 127.0.0.1 1");
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.tell("REPLICAOF NO ONE");
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_out_of_memory() {
    let lab = Lab::new(1).await;
    let key = lab.key().await;
    let mut live = lab.world.live(&key, &streamed("tokens=60;rate=100;leave=stop")).await;
    live.skip(2).await;
    lab.redis.tell("CONFIG SET maxmemory 1");
    lab.assert_refused(&key, "ledger_unavailable").await;
    assert!(live.finish().await.complete);
    lab.redis.tell("CONFIG SET maxmemory 0");
    lab.assert_heals(&key).await;
    lab.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_script_flush_costs_no_call() {
    let lab = Lab::new(1).await;
    let key = lab.key().await;
    for _ in 0..5 {
        lab.redis.tell("SCRIPT FLUSH");
        lab.world.chat(&key, &ask("tokens=5")).await.expect(200);
    }
    lab.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_script_loading_forbidden() {
    let lab = Lab::new(1).await;
    let key = lab.key().await;
    lab.redis.tell("ACL SETUSER default -eval -script|load");
    lab.redis.tell("SCRIPT FLUSH");
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.tell("ACL SETUSER default +eval +script|load");
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d39_evicting_policy_refuses_the_start() {
    let redis = Redis::start(&["--maxmemory-policy", "allkeys-lru"]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("loopers.yaml");
    let port = process::free_port();
    let text = format!(
        "listen: 127.0.0.1:{port}\nadmin: {{ listen: \"127.0.0.1:{}\" }}\nledger: redis://127.0.0.1:{}\n",
        process::free_port(),
        redis.port
    );
    std::fs::write(&config, text).expect("written");
    let output = std::process::Command::new(process::LOOPERS).arg("serve").arg("--config").arg(&config).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("maxmemory-policy noeviction"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d39_evicting_policy_set_while_it_runs() {
    let lab = Lab::new(2).await;
    let key = lab.key().await;
    lab.redis.tell("CONFIG SET maxmemory-policy allkeys-lru");
    until("every gateway sees it", async || {
        let mut refused = true;
        for gateway in 0..2 {
            let answer = lab.world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(&key.secret)).await;
            refused &= answer.status == 503;
        }
        refused
    })
    .await;
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.tell("CONFIG SET maxmemory-policy noeviction");
    lab.assert_heals(&key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_started_without_redis() {
    let mut lab = Lab::new(1).await;
    let key = lab.key().await;
    lab.world.gateways[0].process.kill();
    lab.redis.kill();
    lab.world.relaunch_gateway(0);
    let addr = lab.world.gateway();
    until("it listens", async || Conn::try_open(addr).await.is_ok()).await;
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.run().await;
    lab.assert_heals(&key).await;
}

//! Books that were lost or rewound: blocked until an operator decides.

use super::lab::{Lab, Redis, copy_folder};
use crate::support::*;

/// Blocked everywhere, also after a restart, and the commands say so.
async fn assert_blocked(lab: &mut Lab, key: &Key) {
    until("every gateway blocks", async || {
        let mut all = true;
        for gateway in 0..lab.world.gateways.len() {
            let answer = lab.world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(&key.secret)).await;
            all &= answer.status == 503 && answer.text().contains("ledger_lost");
        }
        all
    })
    .await;
    let posts = lab.world.invoice().await.posts;
    lab.assert_refused(key, "ledger_lost").await;
    lab.assert_not_ready().await;
    until("the ledger knows", async || lab.world.cli_json(&["ledger", "status"])["state"] == "lost").await;
    let last = lab.world.gateways.len() - 1;
    lab.world.gateways[last].process.kill();
    lab.world.relaunch_gateway(last);
    let addr = lab.world.gateways[last].addr;
    until("it listens", async || Conn::try_open(addr).await.is_ok()).await;
    lab.assert_refused(key, "ledger_lost").await;
    assert_eq!(lab.world.invoice().await.posts, posts);
}

/// Rebuilt from the journals: calls go out again, on books that know everything.
async fn assert_rebuilt(lab: &Lab, key: &Key, spent: u64) {
    let report = lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
    assert_eq!(report["without_record"], serde_json::json!([]), "{report}");
    assert_eq!(lab.world.cli_json(&["ledger", "status"])["state"], "good");
    let books = lab.world.cli_json(&["budget", "status", &key.id]);
    assert_eq!(json::find_window(&books, "key", "daily").expect("a window").spent, spent, "{books}");
    lab.assert_heals(key).await;
    lab.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_flushall() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    let spent = lab.world.charged().await;
    lab.redis.tell("FLUSHALL");
    assert_blocked(&mut lab, &key).await;
    assert_rebuilt(&lab, &key, spent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_flushall_under_running_streams() {
    let mut lab = Lab::new(1).await;
    let key = lab.key().await;
    let mut lives = Vec::new();
    for _ in 0..3 {
        let mut live = lab.world.live(&key, &streamed("tokens=150;rate=100;leave=stop")).await;
        live.skip(2).await;
        lives.push(live);
    }
    lab.redis.tell("FLUSHALL");
    for live in lives {
        assert!(live.finish().await.complete, "a running call is not touched");
    }
    assert_blocked_still(&mut lab, &key).await;
    lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
    lab.assert_heals(&key).await;
    // Their settlements waited for the books, and found their holds.
    lab.world.assert_books_exact().await;
}

/// As [`assert_blocked`], without ending the gateway that has settlements to make.
async fn assert_blocked_still(lab: &mut Lab, key: &Key) {
    until("it blocks", async || lab.world.chat(key, &ask("tokens=5")).await.text().contains("ledger_lost")).await;
    lab.assert_refused(key, "ledger_lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_restarted_empty() {
    let redis = Redis::start(&[]).await;
    let mut lab = Lab::on(redis, |world| world.gateways(2)).await;
    let key = lab.key().await;
    let spent = lab.world.charged().await;
    lab.redis.kill();
    lab.assert_refused(&key, "ledger_unavailable").await;
    lab.redis.run().await;
    assert_blocked(&mut lab, &key).await;
    assert_rebuilt(&lab, &key, spent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_restarted_from_an_older_dump() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    let (files, dump) = (lab.redis.dir.path().join("appendonlydir"), lab.redis.dir.path().join("older"));
    lab.redis.stop().await;
    copy_folder(&files, &dump);
    lab.redis.run().await;
    lab.assert_heals(&key).await;
    for _ in 0..5 {
        lab.world.chat(&key, &ask("tokens=5")).await.expect(200);
    }
    lab.world.settled().await;
    let spent = lab.world.charged().await;
    lab.redis.kill();
    std::fs::remove_dir_all(&files).expect("removed");
    copy_folder(&dump, &files);
    lab.redis.run().await;
    assert_blocked(&mut lab, &key).await;
    assert_rebuilt(&lab, &key, spent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_failover_that_lost_the_last_second() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", lab.redis.port)]).await;
    until("the replica has everything", async || {
        let info: String = replica.ask(&["INFO", "replication"]);
        let keys: u64 = replica.ask(&["DBSIZE"]);
        info.contains("master_link_status:up") && keys > 0
    })
    .await;
    // It hears no more of its master, which goes on for a moment.
    replica.tell("REPLICAOF NO ONE");
    lab.world.chat(&key, &ask("tokens=5")).await.expect(200);
    lab.world.settled().await;
    let spent = lab.world.charged().await;
    lab.wire.switch(replica.addr());
    lab.redis.kill();
    // The one gateway knows better than these books, and blocks them for the other one, which has seen nothing of it.
    until("it blocks", async || lab.world.chat(&key, &ask("tokens=5")).await.text().contains("ledger_lost")).await;
    assert_blocked(&mut lab, &key).await;
    assert_rebuilt(&lab, &key, spent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d39_keys_evicted_behind_the_gateways_back() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    let spent = lab.world.charged().await;
    lab.redis.tell("CONFIG SET maxmemory-policy allkeys-random");
    lab.redis.tell("CONFIG SET maxmemory 1");
    until("keys are thrown away", async || {
        let info: String = lab.redis.ask(&["INFO", "stats"]);
        // The server evicts when it is asked for something.
        !info.contains("evicted_keys:0\r")
    })
    .await;
    lab.redis.tell("CONFIG SET maxmemory 0");
    lab.redis.tell("CONFIG SET maxmemory-policy noeviction");
    assert_blocked(&mut lab, &key).await;
    assert_rebuilt(&lab, &key, spent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_emptied_while_no_gateway_ran() {
    let mut lab = Lab::new(1).await;
    let key = lab.key().await;
    let spent = lab.world.charged().await;
    // The mark is written twice a second.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    lab.world.gateways[0].process.kill();
    lab.redis.tell("FLUSHALL");
    lab.world.relaunch_gateway(0);
    let addr = lab.world.gateway();
    until("it listens", async || Conn::try_open(addr).await.is_ok()).await;
    assert_blocked(&mut lab, &key).await;
    assert_rebuilt(&lab, &key, spent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_lost_books_that_an_operator_accepts() {
    let mut lab = Lab::new(2).await;
    let key = lab.key().await;
    lab.redis.tell("FLUSHALL");
    assert_blocked(&mut lab, &key).await;
    // A newcomer is blocked as well.
    std::fs::remove_dir_all(lab.state()).expect("removed");
    lab.world.gateways[1].process.kill();
    lab.world.relaunch_gateway(1);
    let addr = lab.world.gateways[1].addr;
    until("it listens", async || Conn::try_open(addr).await.is_ok()).await;
    lab.assert_refused(&key, "ledger_lost").await;
    let view = lab.world.cli_json(&["ledger", "accept"]);
    assert_eq!((&view["state"], &view["keys"]), (&"good".into(), &0.into()));
    until("the old key is unknown", async || lab.world.chat(&key, &ask("tokens=5")).await.status == 401).await;
    lab.world.forget_keys();
    lab.world.reset_mock().await;
    let new = lab.world.key(&["--daily", "1"]);
    lab.assert_heals(&new).await;
    lab.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_a_revoked_key_does_not_come_back_with_older_books() {
    let mut lab = Lab::new(1).await;
    let key = lab.key().await;
    let (files, dump) = (lab.redis.dir.path().join("appendonlydir"), lab.redis.dir.path().join("older"));
    let other = lab.key().await;
    lab.redis.stop().await;
    copy_folder(&files, &dump);
    lab.redis.run().await;
    lab.assert_heals(&other).await;
    lab.world.cli_ok(&["keys", "revoke", &key.id]);
    lab.world.chat(&key, &ask("tokens=5")).await.refused(403, "key_revoked");
    lab.redis.kill();
    std::fs::remove_dir_all(&files).expect("removed");
    copy_folder(&dump, &files);
    lab.redis.run().await;
    until("it blocks", async || lab.world.chat(&key, &ask("tokens=5")).await.text().contains("ledger_lost")).await;
    lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
    lab.assert_heals(&other).await;
    lab.world.chat(&key, &ask("tokens=5")).await.refused(403, "key_revoked");
}

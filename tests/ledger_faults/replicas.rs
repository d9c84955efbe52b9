//! `limits.ledger_wait_replicas`: a call goes out only when so many replicas have its hold.

use super::lab::{Lab, Redis};
use crate::support::*;

async fn replica_of(master: u16) -> Redis {
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {master}")]).await;
    until("the replica follows", async || {
        replica.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_too_few_replicas() {
    let redis = Redis::durable().await;
    let mut replica = replica_of(redis.port).await;
    let lab = Lab::on(redis, |world| world.limit("ledger_wait_replicas", 1).limit("ledger_ms", 2_000)).await;
    let key = lab.key().await;
    replica.process().signal("STOP");
    let before = lab.world.invoice().await.posts;
    lab.world.chat(&key, &ask("tokens=5")).await.refused(503, "ledger_unavailable");
    replica.kill();
    lab.world.chat(&key, &ask("tokens=5")).await.refused(503, "ledger_unavailable");
    assert_eq!(lab.world.invoice().await.posts, before, "a call went out");
    replica.run().await;
    lab.assert_heals(&key).await;
    // The holds that too few had are released, not charged.
    lab.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_failover_after_confirmed_holds_loses_nothing() {
    let redis = Redis::durable().await;
    let replica = replica_of(redis.port).await;
    let mut lab = Lab::on(redis, |world| world.limit("ledger_wait_replicas", 1).limit("ledger_ms", 5_000)).await;
    let key = lab.key().await;
    for _ in 0..10 {
        lab.world.chat(&key, &ask("tokens=5")).await.expect(200);
    }
    lab.world.settled().await;
    let spent = lab.world.charged().await;
    lab.redis.kill();
    replica.tell("REPLICAOF NO ONE");
    let next = replica_of(replica.port).await;
    lab.wire.switch(replica.addr());
    lab.assert_heals(&key).await;
    assert!(lab.world.charged().await > spent);
    lab.world.assert_books_exact().await;
    drop(next);
}

//! Measurements, to be run by hand in a release build: `cargo test --release --lib speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

async fn pairs_per_second(ledger: &EmbeddedLedger, views: &[Arc<KeyView>], pairs: u64) -> u64 {
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for i in 0..64 {
        let (ledger, view) = (ledger.clone(), views[i % views.len()].clone());
        callers.spawn(async move {
            for _ in 0..pairs / 64 {
                let at = take(&ledger, &view, 10).await;
                ledger.settle(&at, Charge::Exact(usd(4))).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    pairs * 1000 / u64::try_from(started.elapsed().as_millis()).unwrap().max(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn pairs_of_reserve_and_settle() {
    for (name, lab) in [("memory", Lab::memory()), ("file", Lab::file())] {
        lab.team("t_org", Limits::default(), None).await;
        let mut views = Vec::new();
        for number in 0..64 {
            views.push(lab.key(number, Limits::default(), Some("t_org")).await);
        }
        for (what, views) in [("1 key", &views[..1]), ("64 keys of a team", &views[..])] {
            let speed = pairs_per_second(&lab.ledger, views, 100_000).await;
            println!("{name}, {what}, 64 callers: {speed} pairs/s");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn opening_a_large_file() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Clock::manual(START));
    let path = directory.path().join("loopers.db");
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let mut makers = tokio::task::JoinSet::new();
    for part in 0..64 {
        let ledger = ledger.clone();
        makers.spawn(async move {
            for i in 0..100_000 / 64 {
                ledger.create_key(&record(part * 10_000 + i, Limits::default(), None)).await.unwrap();
            }
        });
    }
    makers.join_all().await;
    let view = view(&ledger, 1).await;
    for round in 0..5 {
        let speed = pairs_per_second(&ledger, std::slice::from_ref(&view), 200_000).await;
        println!("{} settled holds: {speed} pairs/s", round * 200_000);
    }
    drop((ledger, view));
    for role in [Role::Gateway, Role::Visitor] {
        let started = Instant::now();
        let _ledger = open(Some(&path), &clock, role).unwrap();
        let size = std::fs::metadata(&path).unwrap().len() >> 20;
        println!("{role:?} opened 100,000 keys and 1,000,000 settled holds, {size} MiB, in {:?}", started.elapsed());
    }
}

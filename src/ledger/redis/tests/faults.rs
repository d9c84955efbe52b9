//! Servers that must not be used, that forget, freeze, die and come back; clocks that disagree.

use std::time::Instant;

use super::*;
use crate::ledger::{Charge, LedgerError, Settled};

/// The time of one operation in tests of it, and what a busy machine may add.
const PATIENCE: Duration = Duration::from_millis(250);
const SLACK: Duration = Duration::from_millis(400);

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    b.server.cli(&["SCRIPT", "FLUSH"]);
    let ask = ask(&view, 1, 1);
    assert_eq!(granted(&b.reserve(&ask).await), 1);
    b.server.cli(&["SCRIPT", "FLUSH"]);
    assert!(matches!(b.ledger.settle(&ask.hold_ref(), Charge::Full).await, Ok(Settled::Applied { .. })));
    b.server.cli(&["SCRIPT", "FLUSH"]);
    assert!(b.ledger.status(&view.key.id).await.is_ok());
}

#[tokio::test]
async fn settlements_sent_together_survive_a_server_that_forgot_its_scripts_and_one_that_restarts() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let mut ends = Vec::new();
    for _ in 0..5 {
        let ask = ask(&view, 2, 2);
        assert_eq!(granted(&b.reserve(&ask).await), 2);
        ends.push((Arc::new(ask.hold_ref()), Charge::Full));
    }
    b.server.cli(&["SCRIPT", "FLUSH"]);
    let first = b.ledger.settle_all(&ends[..3]).await;
    assert!(first.iter().all(|end| matches!(end, Ok(Settled::Applied { .. }))), "{first:?}");
    // The connection is lost, and made anew within the same operation.
    b.server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let all = b.ledger.settle_all(&ends).await;
    assert!(all[..3].iter().all(|end| matches!(end, Ok(Settled::Already { .. }))), "{all:?}");
    assert!(all[3..].iter().all(|end| matches!(end, Ok(Settled::Applied { .. }))), "{all:?}");
    assert_eq!(b.day(&view.key.id).await, (10, 0));
}

#[tokio::test]
async fn a_frame_of_another_time_is_corrected() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    // The server's clock is far away from what this gateway believes, in either direction.
    for wrong in [40 * DAY, -40 * DAY] {
        b.ledger.frames.corrected(Clock::System.now() + wrong, Clock::System.now() + wrong).unwrap();
        assert_eq!(granted(&b.reserve(&ask(&view, 1, 1)).await), 1);
        assert!(b.ledger.status(&view.key.id).await.is_ok());
    }
    // The tree has seen a later time than the clock shows.
    b.pass(400 * DAY);
    let Verdict::Held(later) = b.reserve(&ask(&view, 1, 1)).await else { panic!() };
    b.pass(-400 * DAY);
    let Verdict::Held(back) = b.reserve(&ask(&view, 1, 1)).await else { panic!() };
    assert!(back.now >= later.now);
    assert_eq!(b.day(&view.key.id).await, (0, 2));
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = RedisLedger::connect(RedisOptions::new(server.url())).await.unwrap_err();
    let LedgerError::Conflict(text) = error else { panic!("{error:?}") };
    assert!(text.contains("maxmemory-policy noeviction"), "{text}");
}

#[tokio::test]
async fn where_config_is_forbidden_info_tells() {
    let server = Server::start(&["--rename-command", "CONFIG", "", "--maxmemory-policy", "volatile-ttl"]);
    assert!(matches!(RedisLedger::connect(RedisOptions::new(server.url())).await, Err(LedgerError::Conflict(_))));
    let server = Server::start(&["--rename-command", "CONFIG", ""]);
    let ledger = RedisLedger::connect(RedisOptions::new(server.url())).await.unwrap();
    ledger.probe().await.unwrap();
}

#[tokio::test]
async fn an_unusable_url_is_a_conflict_and_never_shown() {
    for url in ["", "file:x", "http://a", "redis://", "redis-cluster://"] {
        assert!(matches!(RedisLedger::connect(RedisOptions::new(url)).await, Err(LedgerError::Conflict(_))), "{url}");
    }
    let server = Server::start(&["--requirepass", "hunter2"]);
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port);
    let options = RedisOptions::new(&url);
    let ledger = RedisLedger::connect(options.clone()).await.unwrap();
    ledger.probe().await.unwrap();
    assert!(!format!("{options:?} {ledger:?}").contains("hunter2"));
    let wrong = RedisLedger::connect(RedisOptions::new(url.replace("hunter2", "hunter3"))).await.unwrap_err();
    assert!(!format!("{wrong:?}").contains("hunter"), "{wrong:?}");
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_in_time_and_used_again_when_it_wakes() {
    let b = Bench::with_timeout(PATIENCE).await;
    let view = b.key("key", None, Limits::default()).await;
    let ask = ask(&view, 1, 1);
    b.reserve(&ask).await;
    b.server.freeze();
    for _ in 0..3 {
        let start = Instant::now();
        let answer = b.ledger.settle(&ask.hold_ref(), Charge::Full).await;
        assert!(matches!(answer, Err(LedgerError::Unavailable(_))), "{answer:?}");
        assert!(start.elapsed() < PATIENCE + SLACK, "{:?}", start.elapsed());
    }
    b.server.thaw();
    // It may have heard the first settlement after all; in no case is there a second charge.
    let until = Instant::now() + Duration::from_secs(5);
    while b.ledger.settle(&ask.hold_ref(), Charge::Full).await.is_err() {
        assert!(Instant::now() < until, "never used again");
    }
    assert_eq!(b.day(&view.key.id).await, (1, 0));
}

/// Where an answer may take long, because the server is often busy, so may the first one on a connection.
#[tokio::test]
async fn a_busy_server_is_waited_for_as_long_with_a_new_connection_as_with_an_old_one() {
    // Longer than an attempt to connect takes at least.
    const BUSY: Duration = Duration::from_millis(2_500);
    let server = Server::start(&[]);
    let options = RedisOptions { timeout: Duration::from_secs(20), ..RedisOptions::new(server.url()) };
    server.freeze();
    let connecting = tokio::spawn(RedisLedger::connect(options));
    tokio::time::sleep(BUSY).await;
    server.thaw();
    let ledger = connecting.await.unwrap().unwrap();
    server.freeze();
    let probing = tokio::spawn(async move { ledger.probe().await });
    tokio::time::sleep(BUSY).await;
    server.thaw();
    assert_eq!(probing.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_lost_connection_costs_no_call_and_a_lost_server_refuses_them() {
    let mut b = Bench::with_timeout(PATIENCE).await;
    let view = b.key("key", None, Limits::default()).await;
    for _ in 0..5 {
        b.server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert_eq!(granted(&b.reserve(&ask(&view, 1, 1)).await), 1);
    }
    b.server.kill();
    for _ in 0..3 {
        let start = Instant::now();
        assert!(matches!(b.ledger.reserve(&ask(&view, 1, 1)).await, Err(LedgerError::Unavailable(_))));
        assert!(start.elapsed() < PATIENCE + SLACK);
    }
    b.server.restart();
    // It came back empty: nobody may spend.
    assert_eq!(b.reserve(&ask(&view, 1, 1)).await, Verdict::Stale);
    assert_eq!(b.ledger.key_by_hash(&view.hash).await, Ok(None));
}

#[tokio::test]
async fn damaged_books_are_unavailable_and_never_zero() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let node = crate::ledger::names::Tree::of(&view.key.id).node(&view.key.id);
    b.server.cli(&["HSET", &node, "w", "short"]);
    assert!(matches!(b.ledger.reserve(&ask(&view, 1, 1)).await, Err(LedgerError::Unavailable(_))));
    assert!(matches!(b.ledger.status(&view.key.id).await, Err(LedgerError::Unavailable(_))));
    b.server.cli(&["HDEL", &node, "l"]);
    assert!(matches!(b.ledger.key_by_hash(&view.hash).await, Err(LedgerError::Unavailable(_))));
}

#[tokio::test]
async fn a_probe_takes_and_leaves_nothing() {
    let b = Bench::new().await;
    for _ in 0..3 {
        b.ledger.probe().await.unwrap();
    }
    assert_eq!(b.ledger.nodes().await, Ok(vec![]));
    assert_eq!(b.ledger.holds(10).await, Ok(vec![]));
    assert_eq!(b.server.cli(&["KEYS", "*:h:*"]), "array([])");
}

#[test]
fn a_handle_works_on_another_runtime_after_the_first_is_gone() {
    let server = Server::start(&[]);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let ledger = first.block_on(RedisLedger::connect(RedisOptions::new(server.url()))).unwrap();
    first.block_on(ledger.probe()).unwrap();
    let handle = ledger.handle();
    drop(first);
    let second = runtime();
    second.block_on(handle.probe()).unwrap();
    // Even the first one heals: its connection is made anew where it is used now.
    second.block_on(ledger.probe()).unwrap();
}

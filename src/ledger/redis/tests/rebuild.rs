//! Books that are stopped, written anew and accepted, with gateways beside that know them.

use std::path::Path;

use super::super::script::{BOOKS, Call};
use super::super::{Memory, RedisLedger, RedisOptions};
use super::*;
use crate::ledger::names;
use crate::ledger::{Charge, Edit, Ledger, LedgerError, Settled, Snapshot};

/// A gateway of its own on the server of a bench.
async fn gateway(b: &Bench, folder: &Path, writer: &str) -> RedisLedger {
    let memory = Memory { writer: writer.into(), file: folder.join(format!("{writer}.json")) };
    let timeout = Duration::from_secs(5);
    let options = RedisOptions {
        timeout,
        memory: Some(memory),
        time_offset_ms: Arc::clone(&b.offset),
        ..RedisOptions::new(b.server.url())
    };
    let ledger = RedisLedger::connect(options).await.unwrap();
    ledger.inspect(&|| ()).await.unwrap();
    ledger
}

/// A key as this gateway sees it now.
async fn again(gateway: &RedisLedger, view: &KeyView) -> Arc<KeyView> {
    Arc::new(gateway.key_by_hash(&view.hash).await.unwrap().unwrap())
}

fn is_lost<T>(result: Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Lost(_)))
}

fn is_conflict<T>(result: Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Conflict(_)))
}

/// What a journal says that knows the key, and neither its holds nor its sessions.
async fn bare_books(b: &Bench, view: &KeyView) -> Snapshot {
    let record = Ledger::Redis(b.ledger.handle()).record(&view.key.id).await.unwrap();
    let mut counters = crate::ledger::rules::Counters::starting(&crate::clock::Calendar::utc().frame(0).unwrap());
    counters.clock = 1;
    let node = crate::ledger::NodeBooks { chain: vec![view.key.id.clone()], record, counters };
    Snapshot { now: Clock::System.now(), nodes: vec![node], ..Snapshot::default() }
}

#[tokio::test]
async fn a_halt_stops_gateways_at_once_also_those_that_have_not_looked() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (view, other) = (b.key("key", None, Limits::default()).await, b.key("other", None, Limits::default()).await);
    let one = gateway(&b, folder.path(), "00000000000000aa").await;
    let ask_one = ask(&view, 1, 10);
    assert_eq!(granted(&one.reserve(&ask_one).await.unwrap()), 10);
    let halted = b.ledger.halt(&[]).await.unwrap();
    // It was not told; each tree tells it, also one that it sees for the first time.
    assert!(is_lost(one.reserve(&ask(&other, 1, 1)).await));
    assert!(is_lost(one.settle(&ask_one.hold_ref(), Charge::Full).await));
    assert_eq!(b.day(&view.key.id).await, (0, 10));
    b.ledger.give_up(&halted).await.unwrap();
    // Nobody has decided yet.
    one.inspect(&|| ()).await.unwrap_err();
    assert!(is_lost(one.reserve(&ask(&view, 1, 1)).await));
    b.ledger.accept().await.unwrap();
    one.inspect(&|| ()).await.unwrap();
    let view = again(&one, &view).await;
    assert_eq!(granted(&one.reserve(&ask(&view, 1, 1)).await.unwrap()), 1);
    let settled = one.settle(&ask_one.hold_ref(), Charge::Full).await.unwrap();
    assert_eq!(settled, Settled::Applied { charged: usd(10), held: usd(10) });
}

#[tokio::test]
async fn nobody_else_rebuilds_or_accepts_meanwhile() {
    let b = Bench::new().await;
    let halted = b.ledger.halt(&[]).await.unwrap();
    assert!(is_conflict(b.ledger.halt(&[]).await));
    assert!(is_conflict(b.ledger.accept().await));
    b.ledger.give_up(&halted).await.unwrap();
    // One that was not heard of for a minute, and comes back after another one began.
    let second = b.ledger.halt(&[]).await.unwrap();
    let snapshot = Snapshot::default();
    assert!(is_conflict(b.ledger.restore(&snapshot, &halted).await));
    assert!(is_conflict(b.ledger.give_up(&halted).await));
    b.ledger.restore(&snapshot, &second).await.unwrap();
    b.ledger.accept().await.unwrap();
}

/// It has looked whether the books are being rebuilt, and is heard when they are.
#[tokio::test]
async fn an_accept_that_was_on_its_way_lets_no_call_out_amid_a_rebuild() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let one = gateway(&b, folder.path(), "00000000000000aa").await;
    let view = b.key("key", None, Limits::default()).await;
    // Books that were good before, and books that were lost already.
    for _ in 0..2 {
        let last = b.ledger.last_decision().await.unwrap();
        let halted = b.ledger.halt(&[]).await.unwrap();
        assert!(is_conflict(b.ledger.accept_after(&last).await));
        one.inspect(&|| ()).await.unwrap_err();
        assert!(is_lost(one.reserve(&ask(&view, 1, 1)).await));
        b.ledger.give_up(&halted).await.unwrap();
    }
    let last = b.ledger.last_decision().await.unwrap();
    let halted = b.ledger.halt(&[]).await.unwrap();
    b.ledger.restore(&Snapshot::default(), &halted).await.unwrap();
    assert!(is_conflict(b.ledger.accept_after(&last).await), "nor afterwards");
    one.inspect(&|| ()).await.unwrap();
    assert_eq!(granted(&one.reserve(&ask(&again(&one, &view).await, 1, 1)).await.unwrap()), 1);
}

#[tokio::test]
async fn an_accept_that_is_sent_twice_is_one() {
    let b = Bench::new().await;
    let accept = |name: &'static str| {
        Call::new(&BOOKS, vec![names::books()]).arg("accept").arg(name).arg(Clock::System.now().to_string()).arg("")
    };
    let first = b.ledger.call(&accept("one")).await.unwrap();
    assert_eq!(b.ledger.call(&accept("one")).await.unwrap(), first);
    // Another one that has looked before the first.
    assert_eq!(b.ledger.call(&accept("two")).await.unwrap(), first);
    b.ledger.accept().await.unwrap();
    assert_ne!(b.ledger.call(&accept("one")).await.unwrap(), first);
}

/// A rebuild stood still for so long that it counted as ended, and somebody has accepted the books.
#[tokio::test]
async fn a_rebuild_writes_nothing_over_books_that_somebody_accepted_meanwhile() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    b.reserve(&ask(&view, 1, 10)).await;
    let snapshot = bare_books(&b, &view).await;
    let halted = b.ledger.halt(&[]).await.unwrap();
    b.ledger.command(::redis::cmd("DEL").arg("lp1:rebuild")).await.unwrap();
    b.ledger.accept().await.unwrap();
    assert!(is_conflict(b.ledger.restore(&snapshot, &halted).await));
    // As a failover may bring it back.
    b.ledger.command(::redis::cmd("SET").arg("lp1:rebuild").arg(&*halted.token)).await.unwrap();
    assert!(is_conflict(b.ledger.restore(&snapshot, &halted).await));
    assert!(is_conflict(b.ledger.accept_after(&halted.token).await));
    assert_eq!((b.day(&view.key.id).await, b.ledger.holds(10).await.unwrap().len()), ((0, 10), 1));
    b.ledger.give_up(&halted).await.unwrap();
    assert_eq!(b.ledger.books().await.unwrap().lost, None);
}

#[tokio::test]
async fn what_is_accepted_is_later_than_all_that_gateways_know_whatever_was_forgotten() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let one = gateway(&b, folder.path(), "00000000000000aa").await;
    // An operator whose clock is a year ahead.
    let ahead = Clock::System.now() + 365 * DAY;
    b.ledger.command(::redis::cmd("HSET").arg("lp1:books").arg("gen").arg(ahead)).await.unwrap();
    one.inspect(&|| ()).await.unwrap();
    let view = again(&one, &*b.key("key", None, Limits::default()).await).await;
    assert_eq!(granted(&one.reserve(&ask(&view, 1, 1)).await.unwrap()), 1);
    b.ledger.command(&::redis::cmd("FLUSHALL")).await.unwrap();
    let view = b.key("key", None, Limits::default()).await;
    one.inspect(&|| ()).await.unwrap_err();
    let accepted = b.ledger.accept().await.unwrap();
    assert!(accepted.generation > u64::try_from(ahead).unwrap(), "{accepted:?}");
    one.inspect(&|| ()).await.unwrap();
    let view = again(&one, &view).await;
    assert_eq!(granted(&one.reserve(&ask(&view, 1, 1)).await.unwrap()), 1);
}

/// A rebuild that is broken off between the old books and the new ones.
#[tokio::test]
async fn half_built_books_are_not_accepted_and_no_command_changes_them() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let (at, other) = (ask(&view, 1, 10), ask(&view, 2, 5));
    b.ledger.reserve(&at).await.unwrap();
    b.ledger.reserve(&other).await.unwrap();
    let halted = b.ledger.halt(&[]).await.unwrap();
    // While it runs, commands are refused: the journals are read already.
    assert!(is_conflict(b.ledger.settle(&at.hold_ref(), Charge::Full).await));
    assert!(is_conflict(b.ledger.set_session_state(&view.key.id, "s", State::Killed).await));
    b.ledger.command(::redis::cmd("SET").arg("lp1:half").arg("token")).await.unwrap();
    b.ledger.give_up(&halted).await.unwrap();
    assert!(is_conflict(b.ledger.accept().await));
    assert!(is_conflict(b.ledger.settle(&at.hold_ref(), Charge::Full).await));
    // The next one makes them whole.
    let again = b.ledger.halt(&[]).await.unwrap();
    b.ledger.restore(&Snapshot::default(), &again).await.unwrap();
    b.ledger.accept().await.unwrap();
    let settled = b.ledger.settle(&at.hold_ref(), Charge::Full).await.unwrap();
    assert_eq!(settled, Settled::Applied { charged: usd(10), held: usd(10) });
}

/// A call that began before an operator accepted older books, and reserves afterwards: it is not what tells that books are lost.
#[tokio::test]
async fn what_a_call_saw_before_an_accept_says_nothing_against_the_books() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let one = gateway(&b, folder.path(), "00000000000000aa").await;
    let before = b.key("key", None, Limits::default()).await;
    let key = &before.key.id;
    b.ledger.edit(key, &Edit::State(State::Paused)).await.unwrap();
    b.ledger.edit(key, &Edit::State(State::Active)).await.unwrap();
    let old = again(&one, &before).await;
    assert_eq!(old.revision, before.revision + 2);
    // As from an older file.
    let node = crate::ledger::names::Tree::of(key).node(key);
    b.ledger.command(::redis::cmd("HSET").arg(node).arg("v").arg(before.revision)).await.unwrap();
    assert!(is_lost(one.reserve(&ask(&old, 1, 1)).await));
    b.ledger.accept().await.unwrap();
    one.inspect(&|| ()).await.unwrap();
    assert_eq!(one.reserve(&ask(&old, 1, 1)).await, Ok(Verdict::Stale));
    assert_eq!(granted(&one.reserve(&ask(&again(&one, &before).await, 1, 1)).await.unwrap()), 1);
    one.probe().await.unwrap();
}

#[tokio::test]
async fn a_session_gets_back_what_a_hold_without_a_line_took_from_it() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let ask = in_session(ask(&view, 1, 10), "s", None, None);
    b.reserve(&ask).await;
    let ledger = Ledger::Redis(b.ledger.handle());
    let snapshot = bare_books(&b, &view).await;
    let halted = ledger.halt(&[]).await.unwrap();
    ledger.restore(&snapshot, &halted).await.unwrap();
    let session = b.ledger.session(&view.key.id, "s").await.unwrap().unwrap();
    assert_eq!((session.spent.nano(), session.held.nano()), (0, 0));
    assert_eq!(b.ledger.holds(10).await.unwrap(), []);
}

/// A rebuild that is given up leaves everybody blocked, so it waits where a call is refused. What it waits for calls stays as it was.
#[tokio::test]
async fn a_rebuild_waits_for_a_ledger_that_is_busy_longer_than_a_call_would() {
    let call_limit = Duration::from_millis(250);
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let books = bare_books(&b, &view).await;
    let options = RedisOptions { timeout: call_limit, ..RedisOptions::new(b.server.url()) };
    let hasty = RedisLedger::disconnected(&options).unwrap();
    let patient = hasty.patient();
    let busy = async || {
        b.server.freeze();
        let refused = hasty.time().await;
        assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
        tokio::time::sleep(call_limit).await;
        b.server.thaw();
    };
    let (halted, ()) = tokio::join!(patient.halt(&[]), busy());
    let halted = halted.unwrap();
    assert_eq!(halted.quiet_after, Duration::from_millis(750));
    let (restored, ()) = tokio::join!(patient.restore(&books, &halted), busy());
    assert_eq!(restored, Ok(()));
    assert_eq!(granted(&b.ledger.reserve(&ask(&view, 1, 10)).await.unwrap()), 10);
}

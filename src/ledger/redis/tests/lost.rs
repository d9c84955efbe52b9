//! Books that went back: what was stopped stays so, and who knows less lifts no block.

use std::path::Path;

use super::super::{Memory, RedisLedger, RedisOptions};
use super::server::free_port;
use super::*;
use crate::clock::Calendar;
use crate::ledger::names::Tree;
use crate::ledger::rules::Counters;
use crate::ledger::{Edit, LedgerError, Node, NodeBooks, Snapshot, Standing};

const WRITERS: [&str; 2] = ["00000000000000aa", "00000000000000bb"];

fn options(b: &Bench, folder: &Path, writer: &str) -> RedisOptions {
    RedisOptions {
        timeout: Duration::from_secs(5),
        memory: Some(Memory { writer: writer.into(), file: folder.join(format!("{writer}.json")) }),
        time_offset_ms: Arc::clone(&b.offset),
        ..RedisOptions::new(b.server.url())
    }
}

/// A gateway of its own, which has looked at the books.
async fn gateway(options: RedisOptions) -> RedisLedger {
    let ledger = RedisLedger::connect(options).await.unwrap();
    ledger.inspect(&|| ()).await.unwrap();
    ledger
}

fn is_lost<T>(result: Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Lost(_)))
}

#[tokio::test]
async fn lost_books_are_not_edited_before_an_operator_decides() {
    let b = Bench::new().await;
    let team = b.team("team", None, Limits::default()).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    let id = &view.key.id;
    let before = b.ledger.record(id).await.unwrap();
    b.server.cli(&["HSET", "lp1:books", "lost", "emptied"]);
    let new = KeyHash::of(new_key().unwrap().expose()).unwrap();
    for edit in [Edit::Limits(vec![(Window::Daily, Some(usd(5)))]), Edit::State(State::Revoked), Edit::Rotate(new)] {
        let Err(LedgerError::Lost(why)) = b.ledger.edit(id, &edit).await else { panic!("{edit:?}") };
        assert!(why.contains("emptied") && why.contains("`loopers ledger status`"), "{why}");
    }
    assert!(is_lost(b.ledger.edit(&team, &Edit::State(State::Killed)).await));
    assert!(is_lost(b.ledger.create_key(&key_record("other", None, Limits::default()).0).await));
    assert!(is_lost(b.ledger.create_team(&team_record("other", None, Limits::default())).await));
    assert_eq!(b.ledger.record(id).await.unwrap(), before);
    assert_eq!(b.ledger.nodes().await.unwrap().len(), 2);
    b.ledger.accept().await.unwrap();
    b.ledger.edit(id, &Edit::State(State::Revoked)).await.unwrap();
    b.key("other", None, Limits::default()).await;
}

#[tokio::test]
async fn a_gateway_that_has_noticed_a_loss_edits_nothing_before_the_books_say_so() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let view = b.key("key", None, Limits::default()).await;
    let one = gateway(options(&b, folder.path(), WRITERS[0])).await;
    assert_eq!(granted(&one.reserve(&ask(&view, 1, 1)).await.unwrap()), 1);
    let node = Tree::of(&view.key.id).node(&view.key.id);
    b.server.cli(&["HSET", &node, "b", "0123456789abcdef"]);
    assert!(is_lost(one.reserve(&ask(&view, 1, 1)).await));
    assert!(is_lost(one.edit(&view.key.id, &Edit::State(State::Killed)).await));
    assert_eq!(b.view(&view.hash).await.key.state, State::Active);
}

/// A record's state, and its revision.
type Saved = (State, u64);

/// What the journals say, what the ledger has, and what a rebuild makes of the two.
#[tokio::test]
async fn a_rebuild_brings_nothing_back_that_was_stopped() {
    const CASES: [(Saved, Saved, Saved); 7] = [
        ((State::Revoked, 5), (State::Active, 5), (State::Revoked, 5)),
        ((State::Revoked, 5), (State::Active, 9), (State::Revoked, 9)),
        ((State::Active, 9), (State::Revoked, 4), (State::Revoked, 4)),
        ((State::Killed, 5), (State::Active, 5), (State::Killed, 5)),
        ((State::Active, 5), (State::Killed, 5), (State::Killed, 5)),
        ((State::Active, 6), (State::Killed, 5), (State::Active, 6)),
        ((State::Killed, 5), (State::Active, 6), (State::Active, 6)),
    ];
    let b = Bench::new().await;
    let now = Clock::System.now();
    let mut counters = Counters::starting(&Calendar::utc().frame(now).unwrap());
    counters.clock = now;
    let mut snapshot = Snapshot { now, ..Snapshot::default() };
    let mut keys = Vec::new();
    for (at, ((state, revision), (found, found_revision), _)) in CASES.into_iter().enumerate() {
        let view = b.key(&format!("key {at}"), None, Limits::default()).await;
        let (id, chain) = (&view.key.id, view.chain.clone());
        let there = found_revision.to_string();
        b.server.cli(&["HSET", &Tree::of(id).node(id), "s", found.name(), "v", &there]);
        let record = Node::Key(KeyRecord { state, ..view.key.clone() });
        snapshot.nodes.push(NodeBooks { chain, record: Some((record, revision)), counters });
        keys.push(view);
    }
    // Rotated, and then edited under the same revision by somebody who knew nothing of that.
    let rotated = b.key("rotated", None, Limits::default()).await;
    let new = KeyHash::of(new_key().unwrap().expose()).unwrap();
    let record = Node::Key(KeyRecord { hash: new.hex(), ..rotated.key.clone() });
    let chain = rotated.chain.clone();
    snapshot.nodes.push(NodeBooks { chain, record: Some((record, rotated.revision)), counters });

    let halted = b.ledger.halt(&[]).await.unwrap();
    b.ledger.restore(&snapshot, &halted).await.unwrap();
    for (view, case) in keys.iter().zip(CASES) {
        let (node, revision) = b.ledger.record(&view.key.id).await.unwrap().unwrap();
        assert_eq!((node.state(), revision), case.2, "{case:?}");
    }
    assert_eq!(b.ledger.key_by_hash(&rotated.hash).await, Ok(None));
    assert_eq!(b.view(&new).await.key.id, rotated.key.id);
}

#[tokio::test]
async fn a_gateway_of_an_earlier_generation_lifts_no_block() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let view = b.key("key", None, Limits::default()).await;
    let old = gateway(options(&b, folder.path(), WRITERS[0])).await;
    b.ledger.accept().await.unwrap();
    let new = gateway(options(&b, folder.path(), WRITERS[1])).await;
    let seen = |view: Option<KeyView>| Arc::new(view.unwrap());
    let of_old = seen(old.key_by_hash(&view.hash).await.unwrap());
    let of_new = seen(new.key_by_hash(&view.hash).await.unwrap());
    assert!(of_old.generation < of_new.generation);
    let _halted = b.ledger.halt(&[]).await.unwrap();
    // Neither of them has looked since.
    assert!(is_lost(old.reserve(&ask(&of_old, 1, 1)).await));
    assert!(is_lost(new.reserve(&ask(&of_new, 1, 1)).await));
    assert_eq!(b.day(&view.key.id).await, (0, 0));
}

/// A name or a proxy leads to a replica that has nothing yet: this is no loss. A master that has nothing is one.
#[tokio::test]
async fn an_empty_replica_is_unavailable_and_no_loss() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    gateway(options(&b, folder.path(), WRITERS[0])).await;
    let replica = Server::start(&["--replicaof", "127.0.0.1", &free_port().to_string()]);
    let led = RedisOptions { url: replica.url(), ..options(&b, folder.path(), WRITERS[0]) };
    let Err(LedgerError::Unavailable(why)) = RedisLedger::connect(led.clone()).await else { panic!("it was accepted") };
    assert!(why.contains("no master"), "{why}");
    let ledger = RedisLedger::disconnected(&led).unwrap();
    for _ in 0..2 {
        let looked = ledger.inspect(&|| ()).await;
        assert!(matches!(looked, Err(LedgerError::Unavailable(_))), "{looked:?}");
    }
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    assert!(is_lost(ledger.inspect(&|| ()).await));
}

#[tokio::test]
async fn where_replicas_are_waited_for_an_unconfirmed_expiry_does_not_count_as_seen() {
    let b = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let view = b.key("key", None, Limits::default()).await;
    let mut due = ask(&view, 1, 10);
    due.ttl_ms = 1_000;
    b.reserve(&due).await;
    b.pass(2_000);
    let waits = RedisOptions { wait_replicas: 1, ..options(&b, folder.path(), WRITERS[0]) };
    let one = gateway(waits).await;
    assert_eq!(one.sweep(10, None).await.unwrap().expired, 1);
    // As on a replica that had not heard of it.
    let node = Tree::of(&view.key.id).node(&view.key.id);
    assert_eq!(b.server.cli(&["HDEL", &node, &format!("g{}", WRITERS[0])]), "int(1)");
    assert_eq!(one.standing(&[due.hold_ref()]).await, Ok(vec![Standing::Good]));
}

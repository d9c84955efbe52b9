//! Keys and teams.

use super::*;
use crate::ledger::names;
use crate::ledger::{Charge, Edit, LedgerError, Node};

fn conflict<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> String {
    match result {
        Err(LedgerError::Conflict(text)) => text,
        other => panic!("no conflict: {other:?}"),
    }
}

fn not_found<T: std::fmt::Debug>(result: Result<T, LedgerError>) {
    assert!(matches!(result, Err(LedgerError::NotFound(_))), "{result:?}");
}

#[tokio::test]
async fn records_come_back_as_they_were_made_oldest_first() {
    let b = Bench::new().await;
    let team = team_record("team", None, limit(Window::Weekly, 9));
    let (key, hash) = key_record("key", Some(&team.id), limit(Window::Minute, 3));
    let (lone, _) = key_record("lone", None, Limits::default());
    b.ledger.create_key(&lone).await.unwrap();
    b.ledger.create_team(&team).await.unwrap();
    b.ledger.create_key(&key).await.unwrap();
    let nodes = [Node::Team(team.clone()), Node::Key(key.clone()), Node::Key(lone)];
    assert_eq!(b.ledger.nodes().await.unwrap(), nodes);
    assert_eq!(b.ledger.node(&key.id).await, Ok(Some(Node::Key(key.clone()))));
    assert_eq!(b.ledger.node(&random_id("k")).await, Ok(None));
    let view = b.ledger.key_by_hash(&hash).await.unwrap().unwrap();
    assert_eq!((view.key, view.chain, view.revision), (key.clone(), vec![key.id, team.id], 1));
    let unknown = KeyHash::of(new_key().unwrap().expose()).unwrap();
    assert_eq!(b.ledger.key_by_hash(&unknown).await, Ok(None));
}

#[tokio::test]
async fn names_hashes_and_parents_are_checked() {
    let b = Bench::new().await;
    let (key, _) = key_record("a", None, Limits::default());
    b.ledger.create_key(&key).await.unwrap();
    assert!(conflict(b.ledger.create_key(&key).await).contains("`a`"));
    let (same_name, hash) = key_record("a", None, Limits::default());
    assert!(conflict(b.ledger.create_key(&same_name).await).contains("`a`"));
    assert_eq!(b.ledger.key_by_hash(&hash).await, Ok(None));
    let (mut same_hash, _) = key_record("b", None, Limits::default());
    same_hash.hash = key.hash.clone();
    assert!(conflict(b.ledger.create_key(&same_hash).await).contains("hash"));
    // The name is free again.
    b.key("b", None, Limits::default()).await;
    // A team may have a key's name.
    let team = b.team("a", None, Limits::default()).await;
    conflict(b.ledger.create_team(&team_record("a", None, Limits::default())).await);
    not_found(b.ledger.create_key(&key_record("c", Some(&random_id("t")), Limits::default()).0).await);
    not_found(b.ledger.create_key(&key_record("c", Some(&key.id), Limits::default()).0).await);
    not_found(b.ledger.create_team(&team_record("c", Some(&random_id("t")), Limits::default())).await);
    conflict(b.ledger.create_team(&team_record("c", Some(&team), limit(Window::Daily, 1 << 53))).await);
    assert_eq!(b.ledger.nodes().await.unwrap().len(), 3);
    for id in [random_id("k"), random_id("t")] {
        not_found(b.ledger.status(&id).await);
        not_found(b.ledger.edit(&id, &Edit::State(State::Paused)).await);
        not_found(b.ledger.session(&id, "s").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_make_one_name_exactly_one_does() {
    let b = Bench::new().await;
    for round in 0..20 {
        let name = format!("name-{round}");
        let mut makers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (ledger, (record, _)) = (b.ledger.clone(), key_record(&name, None, Limits::default()));
            makers.spawn(async move { ledger.create_key(&record).await.is_ok() });
        }
        assert_eq!(makers.join_all().await.into_iter().filter(|made| *made).count(), 1, "{name}");
    }
    assert_eq!(b.ledger.nodes().await.unwrap().len(), 20);
}

/// A creation that stops after each of its steps must leave nothing that counts, nothing that blocks the name, and nothing
/// that the same creation cannot finish.
#[tokio::test]
async fn a_creation_cut_short_neither_blocks_nor_lets_in() {
    let b = Bench::new().await;
    let (record, hash) = key_record("a", None, Limits::default());
    b.ledger.create_key(&record).await.unwrap();
    let name = names::name(false, "a");
    let node = names::Tree::of(&record.id).node(&record.id);
    // Before the name was confirmed.
    b.server.cli(&["SET", &name, &format!("?{}", record.id)]);
    b.server.cli(&["HDEL", &node, "m"]);
    assert_eq!(b.ledger.key_by_hash(&hash).await, Ok(None));
    assert_eq!(b.ledger.nodes().await, Ok(vec![]));
    not_found(b.ledger.status(&record.id).await);
    // The same creation finishes it.
    b.ledger.create_key(&record).await.unwrap();
    assert!(b.ledger.key_by_hash(&hash).await.unwrap().is_some());
    // After the name was confirmed, before the last step: it exists.
    b.server.cli(&["HDEL", &node, "m"]);
    assert!(b.ledger.key_by_hash(&hash).await.unwrap().is_some());
    b.ledger.create_key(&record).await.unwrap();
    conflict(b.ledger.create_key(&record).await);
    // Another creation takes a name that was left behind.
    b.server.cli(&["SET", &name, &format!("?{}", record.id)]);
    b.server.cli(&["HDEL", &node, "m"]);
    let (other, other_hash) = key_record("a", None, Limits::default());
    b.ledger.create_key(&other).await.unwrap();
    assert_eq!(b.ledger.key_by_hash(&hash).await, Ok(None));
    assert!(b.ledger.key_by_hash(&other_hash).await.unwrap().is_some());
    assert_eq!(b.ledger.nodes().await, Ok(vec![Node::Key(other)]));
}

#[tokio::test]
async fn every_edit_is_a_new_revision_and_the_books_stay() {
    let b = Bench::new().await;
    let view = b.key("key", None, limit(Window::Daily, 100)).await;
    let id = &view.key.id;
    let hold = ask(&view, 80, 80);
    b.reserve(&hold).await;
    b.ledger
        .edit(id, &Edit::Limits(vec![(Window::Daily, Some(usd(50))), (Window::Monthly, Some(usd(500)))]))
        .await
        .unwrap();
    let now = b.view(&view.hash).await;
    assert_eq!(now.revision, 2);
    assert_eq!((now.key.limits.of(Window::Daily), now.key.limits.of(Window::Monthly)), (Some(usd(50)), Some(usd(500))));
    let Refusal::Budget(no) = refusal(b.reserve(&ask(&now, 1, 1)).await) else { panic!() };
    assert_eq!((no.limit.nano(), no.held.nano()), (50, 80));
    b.ledger.settle(&hold.hold_ref(), Charge::Exact(usd(20))).await.unwrap();
    assert_eq!(granted(&b.reserve(&ask(&now, 1, 99)).await), 30);
    b.ledger.edit(id, &Edit::Limits(vec![(Window::Daily, None)])).await.unwrap();
    assert_eq!(b.view(&view.hash).await.key.limits.of(Window::Daily), None);
    b.ledger.edit(id, &Edit::State(State::Revoked)).await.unwrap();
    assert!(conflict(b.ledger.edit(id, &Edit::State(State::Active)).await).contains("revoked"));
    let revoked = b.view(&view.hash).await;
    assert_eq!((revoked.key.state, revoked.revision), (State::Revoked, 4));
}

#[tokio::test]
async fn a_rotated_key_is_found_by_its_new_hash_only() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let other = b.key("other", None, Limits::default()).await;
    let new = KeyHash::of(new_key().unwrap().expose()).unwrap();
    b.ledger.edit(&view.key.id, &Edit::Rotate(new)).await.unwrap();
    assert_eq!(b.ledger.key_by_hash(&view.hash).await, Ok(None));
    let found = b.view(&new).await;
    assert_eq!((&found.key.id, found.revision), (&view.key.id, 2));
    assert_eq!(b.reserve(&ask(&view, 1, 1)).await, Verdict::Stale);
    assert_eq!(granted(&b.reserve(&ask(&found, 1, 1)).await), 1);
    conflict(b.ledger.edit(&view.key.id, &Edit::Rotate(other.hash)).await);
    let team = b.team("team", None, Limits::default()).await;
    conflict(b.ledger.edit(&team, &Edit::Rotate(new)).await);
}

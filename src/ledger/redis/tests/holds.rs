//! Reserve, settle, sweep, standing.

use super::*;
use crate::ledger::names::Tree;
use crate::ledger::{Charge, Edit, Held, HoldState, Level, Remaining, Settled, Standing};

#[tokio::test]
async fn a_hold_is_taken_from_every_window_of_every_level_and_charged_once() {
    let b = Bench::new().await;
    let org = b.team("org", None, limit(Window::Monthly, 10_000)).await;
    let team = b.team("team", Some(&org), Limits::default()).await;
    let view = b.key("key", Some(&team), limit(Window::Daily, 5_000)).await;
    assert_eq!(view.chain, [view.key.id.clone(), team.clone(), org.clone()]);

    let ask = ask(&view, 100, 3_000);
    let Verdict::Held(Held { granted, remaining, now }) = b.reserve(&ask).await else { panic!() };
    assert_eq!(granted.nano(), 3_000);
    assert_eq!(remaining, Some(Remaining { amount: usd(2_000), level: Level::Key, window: Some(Window::Daily) }));
    assert!((now - Clock::System.now() - b.offset.load(Ordering::SeqCst)).abs() < 5_000);
    for id in &view.chain {
        let status = b.ledger.status(id).await.unwrap();
        for window in Window::ALL {
            assert_eq!(books(&status, window), (0, 3_000), "{id} {window:?}");
        }
    }
    // The same hold again is the same hold.
    let Verdict::Held(again) = b.reserve(&ask).await else { panic!() };
    assert_eq!((again.granted, again.remaining), (granted, remaining));

    let at = ask.hold_ref();
    let applied = Settled::Applied { charged: usd(1_200), held: usd(3_000) };
    assert_eq!(b.ledger.settle(&at, Charge::Exact(usd(1_200))).await, Ok(applied));
    for charge in [Charge::Exact(usd(9)), Charge::Full] {
        assert_eq!(b.ledger.settle(&at, charge).await, Ok(Settled::Already { charged: usd(1_200) }));
    }
    for id in &view.chain {
        let status = b.ledger.status(id).await.unwrap();
        assert!(Window::ALL.into_iter().all(|window| books(&status, window) == (1_200, 0)));
        assert_eq!((status.charged_total.nano(), status.overrun_total.nano()), (1_200, 0));
    }
    assert_eq!(b.reserve(&ask).await, Verdict::Spent);
}

#[tokio::test]
async fn a_hold_gets_what_is_left_and_nothing_below_least() {
    let b = Bench::new().await;
    let team = b.team("team", None, limit(Window::Hourly, 1_000)).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    assert_eq!(granted(&b.reserve(&ask(&view, 10, 700)).await), 700);
    assert_eq!(granted(&b.reserve(&ask(&view, 300, 700)).await), 300);
    let Refusal::Budget(no) = refusal(b.reserve(&ask(&view, 1, 1)).await) else { panic!() };
    assert_eq!((no.level, &no.id, no.window), (Level::Team, &team, Window::Hourly));
    assert_eq!((no.limit.nano(), no.spent.nano(), no.held.nano()), (1_000, 0, 1_000));
    let status = b.ledger.status(&team).await.unwrap();
    assert_eq!(no.resets_at, status.windows[Window::Hourly.index()].resets_at);
    // `least` above `most` counts as `least`; nothing at all fits always where nothing is spent beyond.
    assert_eq!(granted(&b.reserve(&ask(&view, 0, 0)).await), 0);
    assert_eq!(b.day(&view.key.id).await, (0, 1_000));
}

#[tokio::test]
async fn the_first_limit_in_order_refuses_and_shows_as_tightest() {
    let b = Bench::new().await;
    let team = b.team("team", None, limit(Window::Minute, 50)).await;
    let mut limits = limit(Window::Daily, 50);
    limits.0[Window::Hourly.index()] = Some(usd(50));
    let view = b.key("key", Some(&team), limits).await;
    let Refusal::Budget(no) = refusal(b.reserve(&ask(&view, 51, 51)).await) else { panic!() };
    assert_eq!((no.level, no.window), (Level::Key, Window::Hourly));
    let ask = in_session(ask(&view, 1, 10), "s", Some(50), None);
    let Verdict::Held(held) = b.reserve(&ask).await else { panic!() };
    assert_eq!(held.remaining, Some(Remaining { amount: usd(40), level: Level::Session, window: None }));
}

#[tokio::test]
async fn a_view_that_is_out_of_date_takes_nothing() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let mut other = (*view).clone();
    other.hash = KeyHash::of(new_key().unwrap().expose()).unwrap();
    assert_eq!(b.reserve(&ask(&Arc::new(other), 1, 1)).await, Verdict::Stale);
    let mut gone = (*view).clone();
    gone.chain = vec![random_id("k")];
    assert_eq!(b.reserve(&ask(&Arc::new(gone), 1, 1)).await, Verdict::Stale);
    b.ledger.edit(&view.key.id, &Edit::Limits(vec![(Window::Daily, Some(usd(5)))])).await.unwrap();
    assert_eq!(b.reserve(&ask(&view, 1, 1)).await, Verdict::Stale);
    assert_eq!(b.day(&view.key.id).await, (0, 0));
}

#[tokio::test]
async fn what_is_stopped_or_expired_takes_nothing() {
    let b = Bench::new().await;
    let team = b.team("team", None, Limits::default()).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    b.ledger.edit(&team, &Edit::State(State::Killed)).await.unwrap();
    b.ledger.set_session_state(&view.key.id, "s", State::Paused).await.unwrap();
    let in_s = in_session(ask(&view, 1, 1), "s", None, None);
    let stopped = Refusal::Stopped { level: Level::Team, id: team.to_string(), state: State::Killed };
    assert_eq!(refusal(b.reserve(&in_s).await), stopped);
    b.ledger.edit(&team, &Edit::State(State::Active)).await.unwrap();
    let stopped = Refusal::Stopped { level: Level::Session, id: "s".into(), state: State::Paused };
    assert_eq!(refusal(b.reserve(&in_s).await), stopped);
    b.ledger.set_session_state(&view.key.id, "s", State::Active).await.unwrap();
    assert_eq!(granted(&b.reserve(&in_s).await), 1);

    let (mut record, hash) = key_record("short", None, Limits::default());
    let end = Clock::System.now() + b.offset.load(Ordering::SeqCst) + MINUTE;
    record.expires_at = Some(end);
    b.ledger.create_key(&record).await.unwrap();
    let view = b.view(&hash).await;
    assert_eq!(view.key, record);
    assert_eq!(granted(&b.reserve(&ask(&view, 1, 1)).await), 1);
    b.pass(MINUTE);
    assert_eq!(refusal(b.reserve(&ask(&view, 1, 1)).await), Refusal::Expired(end));
}

#[tokio::test]
async fn a_session_only_tightens() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let id = &view.key.id;
    assert_eq!(b.ledger.session(id, "s").await, Ok(None));
    let first = in_session(ask(&view, 1, 60), "s", Some(100), Some(3));
    assert_eq!(granted(&b.reserve(&first).await), 60);
    // A refused call tightens nothing.
    let refused = refusal(b.reserve(&in_session(ask(&view, 50, 50), "s", Some(80), Some(9))).await);
    assert_eq!(refused, Refusal::SessionBudget { limit: usd(80), spent: usd(0), held: usd(60) });
    let second = in_session(ask(&view, 1, 99), "s", Some(500), Some(2));
    assert_eq!(granted(&b.reserve(&second).await), 40);
    b.ledger.settle(&first.hold_ref(), Charge::Exact(usd(10))).await.unwrap();
    let status = b.ledger.session(id, "s").await.unwrap().unwrap();
    assert_eq!((status.limit, status.steps_limit, status.steps), (Some(usd(100)), Some(2), 2));
    assert_eq!((status.spent.nano(), status.held.nano(), status.state), (10, 40, State::Active));
    let refused = refusal(b.reserve(&in_session(ask(&view, 1, 1), "s", None, None)).await);
    assert_eq!(refused, Refusal::SessionSteps { limit: 2, used: 2 });
    // Another session of the same key has its own books; with a hold open no session is ever forgotten.
    assert_eq!(granted(&b.reserve(&in_session(ask(&view, 1, 1), "t", None, None)).await), 1);
    b.pass(31 * DAY);
    assert_eq!(b.ledger.session(id, "s").await.unwrap().map(|s| s.held.nano()), Some(40));
    b.ledger.settle(&second.hold_ref(), Charge::Full).await.unwrap();
    b.pass(30 * DAY - MINUTE);
    assert!(b.ledger.session(id, "s").await.unwrap().is_some());
    b.pass(DAY);
    assert_eq!(b.ledger.session(id, "s").await, Ok(None));
    assert!(b.ledger.session(id, "t").await.unwrap().is_some());
}

#[tokio::test]
async fn an_unknown_hold_can_never_be_taken_later() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let ask = ask(&view, 1, 10);
    assert_eq!(b.ledger.settle(&ask.hold_ref(), Charge::Full).await, Ok(Settled::Unknown));
    assert_eq!(b.reserve(&ask).await, Verdict::Spent);
    assert_eq!(b.ledger.settle(&ask.hold_ref(), Charge::Full).await, Ok(Settled::Already { charged: usd(0) }));
    assert_eq!(b.day(&view.key.id).await, (0, 0));
    b.pass(DAY + MINUTE);
    assert_eq!(granted(&b.reserve(&ask).await), 10);
}

#[tokio::test]
async fn an_expired_hold_is_charged_in_full_and_corrected_once() {
    let b = Bench::new().await;
    let team = b.team("team", None, Limits::default()).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    let mut one = in_session(ask(&view, 1, 100), "s", None, None);
    one.ttl_ms = 1_000;
    let mut two = ask(&view, 1, 7);
    two.ttl_ms = 2_000;
    b.reserve(&one).await;
    b.reserve(&two).await;
    assert_eq!(b.ledger.sweep(10, None).await.unwrap().expired, 0);
    b.pass(3_000);
    let swept = b.ledger.sweep(1, None).await.unwrap();
    assert_eq!((swept.expired, swept.charged.nano()), (1, 100));
    assert_eq!(b.ledger.sweep(10, None).await.unwrap().charged.nano(), 7);
    assert_eq!(b.ledger.sweep(10, None).await.unwrap().expired, 0);
    assert_eq!(b.day(&team).await, (107, 0));
    let holds = b.ledger.holds(10).await.unwrap();
    assert!(holds.iter().all(|hold| hold.state == HoldState::Expired && hold.charged == hold.amount));
    assert_eq!(holds.len(), 2);
    assert!(holds.iter().any(|hold| hold.at == one.hold_ref()));

    let at = one.hold_ref();
    assert_eq!(b.ledger.settle(&at, Charge::Full).await, Ok(Settled::Already { charged: usd(100) }));
    assert_eq!(b.reserve(&one).await, Verdict::Spent);
    let corrected = Settled::Corrected { charged: usd(30), before: usd(100) };
    assert_eq!(b.ledger.settle(&at, Charge::Exact(usd(30))).await, Ok(corrected));
    assert_eq!(b.ledger.settle(&at, Charge::Exact(usd(1))).await, Ok(Settled::Already { charged: usd(30) }));
    assert_eq!(b.day(&team).await, (37, 0));
    assert_eq!(b.ledger.status(&team).await.unwrap().charged_total.nano(), 37);
    let session = b.ledger.session(&view.key.id, "s").await.unwrap().unwrap();
    assert_eq!((session.spent.nano(), session.held.nano()), (30, 0));
    assert_eq!(b.ledger.holds(10).await.unwrap().len(), 1);
    b.pass(36 * DAY);
    assert_eq!(b.ledger.settle(&two.hold_ref(), Charge::Exact(usd(1))).await, Ok(Settled::Unknown));
    b.ledger.sweep(10, None).await.unwrap();
    assert_eq!(b.ledger.holds(10).await, Ok(vec![]));
}

#[tokio::test]
async fn a_charge_of_a_window_that_rolled_stays_in_the_past() {
    let b = Bench::new().await;
    let view = b.key("key", None, limit(Window::Minute, 100)).await;
    let id = &view.key.id;
    let before = ask(&view, 100, 100);
    b.reserve(&before).await;
    b.pass(MINUTE);
    let status = b.ledger.status(id).await.unwrap();
    assert_eq!((books(&status, Window::Minute), books(&status, Window::Monthly)), ((0, 0), (0, 100)));
    let after = ask(&view, 90, 90);
    assert_eq!(granted(&b.reserve(&after).await), 90);
    b.ledger.settle(&before.hold_ref(), Charge::Exact(usd(60))).await.unwrap();
    let status = b.ledger.status(id).await.unwrap();
    assert_eq!((books(&status, Window::Minute), books(&status, Window::Monthly)), ((0, 90), (60, 90)));
    // Back in time it stays where it is.
    b.pass(-MINUTE);
    let status = b.ledger.status(id).await.unwrap();
    assert_eq!(books(&status, Window::Minute), (0, 90));
    assert!(matches!(refusal(b.reserve(&ask(&view, 90, 90)).await), Refusal::Budget(_)));
}

#[tokio::test]
async fn an_overrun_is_charged_as_debt() {
    let b = Bench::new().await;
    let view = b.key("key", None, limit(Window::Daily, 100)).await;
    let first = ask(&view, 100, 100);
    b.reserve(&first).await;
    let applied = Settled::Applied { charged: usd(130), held: usd(100) };
    assert_eq!(b.ledger.settle(&first.hold_ref(), Charge::Exact(usd(130))).await, Ok(applied));
    let status = b.ledger.status(&view.key.id).await.unwrap();
    assert_eq!((status.charged_total.nano(), status.overrun_total.nano()), (130, 30));
    assert_eq!(b.day(&view.key.id).await, (130, 0));
    assert!(matches!(refusal(b.reserve(&ask(&view, 0, 0)).await), Refusal::Budget(_)));
}

#[tokio::test]
async fn amounts_near_the_largest_are_exact() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let max = Money::COUNTER_MAX.nano();
    let first = ask(&view, 123_456_789_012_345, 123_456_789_012_345);
    assert_eq!(granted(&b.reserve(&first).await), 123_456_789_012_345);
    let second = ask(&view, 1, u64::MAX);
    let Verdict::Held(held) = b.reserve(&second).await else { panic!() };
    assert_eq!((held.granted.nano(), held.remaining), (max - 123_456_789_012_345, None));
    let Refusal::Budget(no) = refusal(b.reserve(&ask(&view, 1, 1)).await) else { panic!() };
    assert_eq!((no.limit.nano(), no.held.nano(), no.window), (max, max, Window::Minute));
    b.ledger.settle(&first.hold_ref(), Charge::Exact(usd(123_456_789_012_343))).await.unwrap();
    assert_eq!(b.day(&view.key.id).await, (123_456_789_012_343, max - 123_456_789_012_345));
    assert_eq!(granted(&b.reserve(&ask(&view, 1, 10)).await), 2);
    // Beyond it counters stay where they are.
    b.ledger.settle(&second.hold_ref(), Charge::Exact(usd(u64::MAX))).await.unwrap();
    assert_eq!(b.day(&view.key.id).await, (max, 2));
    assert_eq!(b.ledger.status(&view.key.id).await.unwrap().charged_total.nano(), max);
    assert!(matches!(refusal(b.reserve(&ask(&view, u64::MAX, 0)).await), Refusal::Budget(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_that_race_for_the_last_money_exactly_ten_get_it() {
    let b = Bench::new().await;
    let team = b.team("team", None, limit(Window::Monthly, 1_000)).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    let mut racers = tokio::task::JoinSet::new();
    for i in 0..64 {
        let ledger = if i % 2 == 0 { b.ledger.clone() } else { b.ledger.handle() };
        let ask = ask(&view, 100, 100);
        racers.spawn(async move { (ledger.reserve(&ask).await.unwrap(), ask) });
    }
    let won: Vec<_> =
        racers.join_all().await.into_iter().filter(|(verdict, _)| matches!(verdict, Verdict::Held(_))).collect();
    assert_eq!(won.len(), 10);
    assert_eq!(b.day(&team).await, (0, 1_000));
    for (_, ask) in &won {
        b.ledger.settle(&ask.hold_ref(), Charge::Exact(usd(1))).await.unwrap();
    }
    assert_eq!(b.day(&team).await, (10, 0));
}

#[tokio::test]
async fn standing_follows_states_and_limits() {
    let b = Bench::new().await;
    let team = b.team("team", None, Limits::default()).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    let other = b.key("other", None, Limits::default()).await;
    let spent = ask(&view, 100, 100);
    b.reserve(&spent).await;
    b.ledger.settle(&spent.hold_ref(), Charge::Full).await.unwrap();
    let run = in_session(ask(&view, 10, 10), "s", Some(1_000), None);
    b.reserve(&run).await;
    let holds = [run.hold_ref(), ask(&other, 1, 1).hold_ref()];
    let standing = async |expected: [Standing; 2]| assert_eq!(b.ledger.standing(&holds).await.unwrap(), expected);
    let edit = async |id: &NodeId, limit: Option<u64>| {
        b.ledger.edit(id, &Edit::Limits(vec![(Window::Daily, limit.map(usd))])).await.unwrap();
    };
    standing([Standing::Good, Standing::Good]).await;
    edit(&team, Some(100)).await;
    standing([Standing::Good, Standing::Good]).await;
    edit(&team, Some(99)).await;
    standing([Standing::OverLimit, Standing::Good]).await;
    edit(&team, None).await;
    edit(&other.key.id, Some(0)).await;
    standing([Standing::Good, Standing::OverLimit]).await;
    b.ledger.set_session_state(&view.key.id, "s", State::Killed).await.unwrap();
    standing([Standing::Stopped(State::Killed), Standing::OverLimit]).await;
    b.ledger.edit(&team, &Edit::State(State::Paused)).await.unwrap();
    standing([Standing::Stopped(State::Paused), Standing::OverLimit]).await;
    b.ledger.edit(&view.key.id, &Edit::State(State::Revoked)).await.unwrap();
    standing([Standing::Stopped(State::Revoked), Standing::OverLimit]).await;
    b.pass(31 * DAY);
    assert_eq!(b.ledger.standing(&[]).await, Ok(vec![]));
}

#[tokio::test]
async fn a_settlement_of_another_place_changes_nothing() {
    let b = Bench::new().await;
    let view = b.key("key", None, Limits::default()).await;
    let ask = in_session(ask(&view, 5, 5), "s", None, None);
    b.reserve(&ask).await;
    let mut at = ask.hold_ref();
    at.session = None;
    assert!(b.ledger.settle(&at, Charge::Full).await.is_err());
    assert_eq!(b.day(&view.key.id).await, (0, 5));
}

/// Writes a text where the ledger keeps something else.
async fn spoil(b: &Bench, key: String) {
    let (del, set) = (::redis::cmd("DEL").arg(&key).clone(), ::redis::cmd("SET").arg(&key).arg("no books").clone());
    b.ledger.command(&del).await.unwrap();
    b.ledger.command(&set).await.unwrap();
}

#[tokio::test]
async fn a_tree_that_cannot_be_read_keeps_no_other_from_being_swept_or_stopped() {
    let b = Bench::new().await;
    let (bad, good) = (b.key("bad", None, Limits::default()).await, b.key("good", None, Limits::default()).await);
    let mut asks = Vec::new();
    for view in [&bad, &good, &bad, &good] {
        let mut ask = ask(view, 1, 10);
        ask.ttl_ms = 1_000;
        b.reserve(&ask).await;
        asks.push(ask.hold_ref());
    }
    spoil(&b, Tree::of(&bad.key.id).node(&bad.key.id)).await;
    b.ledger.edit(&good.key.id, &Edit::State(State::Killed)).await.unwrap();
    let stopped = Standing::Stopped(State::Killed);
    let expected = [Standing::Unknown, stopped, Standing::Unknown, stopped];
    assert_eq!(b.ledger.standing(&asks).await.unwrap(), expected);
    assert!(b.ledger.standing(&asks[..1]).await.is_err(), "nobody answered");
    b.pass(2_000);
    for _ in 0..3 {
        assert!(b.ledger.sweep(10, None).await.is_err(), "it is said that something is wrong");
    }
    assert_eq!(b.day(&good.key.id).await, (20, 0));
}

#[tokio::test]
async fn a_hold_under_a_team_that_nobody_knows_ends_all_the_same() {
    let b = Bench::new().await;
    let org = b.team("org", None, Limits::default()).await;
    let team = b.team("team", Some(&org), Limits::default()).await;
    let view = b.key("key", Some(&team), Limits::default()).await;
    let (settled, mut expired) = (ask(&view, 1, 10), ask(&view, 1, 5));
    expired.ttl_ms = 1_000;
    b.reserve(&settled).await;
    b.reserve(&expired).await;
    // As after a rebuild from journals that lack the team's record.
    b.ledger.command(::redis::cmd("DEL").arg(Tree::of(&org).node(&team))).await.unwrap();
    let applied = Settled::Applied { charged: usd(3), held: usd(10) };
    assert_eq!(b.ledger.settle(&settled.hold_ref(), Charge::Exact(usd(3))).await, Ok(applied));
    b.pass(2_000);
    assert_eq!(b.ledger.sweep(10, None).await.unwrap().expired, 1);
    for id in [&org, &view.key.id] {
        assert_eq!(b.day(id).await, (8, 0));
    }
}

#[tokio::test]
async fn holds_under_a_root_that_nobody_knows_end_all_the_same_and_no_other_is_taken() {
    let b = Bench::new().await;
    let org = b.team("org", None, Limits::default()).await;
    let view = b.key("key", Some(&org), Limits::default()).await;
    let mut asks: Vec<Reserve> = (0..4).map(|_| in_session(ask(&view, 1, 10), "s", None, None)).collect();
    asks[3].ttl_ms = 1_000;
    for ask in &asks {
        assert_eq!(granted(&b.reserve(ask).await), 10);
    }
    b.ledger.command(::redis::cmd("DEL").arg(Tree::of(&org).node(&org))).await.unwrap();
    let applied = Settled::Applied { charged: usd(3), held: usd(10) };
    assert_eq!(b.ledger.settle(&asks[0].hold_ref(), Charge::Exact(usd(3))).await, Ok(applied));
    let ends: Vec<_> = asks[1..3].iter().map(|ask| (Arc::new(ask.hold_ref()), Charge::Exact(usd(3)))).collect();
    assert_eq!(b.ledger.settle_all(&ends).await, [Ok(applied), Ok(applied)]);
    // Asked for once more it is still the same hold; another one cannot be had.
    assert_eq!(granted(&b.reserve(&asks[3]).await), 10);
    assert_eq!(b.reserve(&ask(&view, 1, 1)).await, Verdict::Stale);
    b.pass(2_000);
    assert_eq!(b.ledger.sweep(10, None).await.unwrap().expired, 1);
    let corrected = Settled::Corrected { charged: usd(1), before: usd(10) };
    assert_eq!(b.ledger.settle(&asks[3].hold_ref(), Charge::Exact(usd(1))).await, Ok(corrected));
    assert_eq!(b.day(&view.key.id).await, (10, 0));
    let session = b.ledger.session(&view.key.id, "s").await.unwrap().unwrap();
    assert_eq!((session.spent.nano(), session.held.nano()), (10, 0));
    assert_eq!(b.ledger.standing(&[asks[3].hold_ref()]).await, Ok(vec![Standing::Stopped(State::Revoked)]));
}

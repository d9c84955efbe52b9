//! Each row of the specification, over memory and over a file.

use super::*;
use crate::ledger::rules::{EXPIRED_KEPT_MS, SESSION_KEPT_MS, SETTLED_KEPT_MS};
use crate::ledger::{Edit, HoldState, Level, Refusal, Remaining, Standing, Sweep};

const DAY: Millis = 24 * 3_600_000;

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn granted(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Held(held) => held.granted.nano(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reserve_takes_all_levels_and_windows_or_nothing() {
    for lab in Lab::both() {
        lab.team("t_org", limit(Window::Monthly, 100), None).await;
        lab.team("t_dev", limit(Window::Weekly, 50), Some("t_org")).await;
        let key = lab.key(1, limit(Window::Daily, 40), Some("t_dev")).await;
        let other = lab.key(2, Limits::default(), Some("t_org")).await;
        assert_eq!(key.chain, [key.key.id.clone(), "t_dev".into(), "t_org".into()]);
        let first = ask(&key, 10, 30);
        let Verdict::Held(held) = lab.reserve(&first).await else { panic!() };
        assert_eq!((held.granted, held.now), (usd(30), START));
        assert_eq!(held.remaining, Some(Remaining { amount: usd(10), level: Level::Key, window: Some(Window::Daily) }));
        // What does not fit in full is granted as far as it fits.
        assert_eq!(granted(lab.reserve(&ask(&other, 1, 65)).await), 65);
        let Verdict::Held(held) = lab.reserve(&ask(&key, 1, 30)).await else { panic!() };
        assert_eq!(held.granted, usd(5));
        assert_eq!(
            held.remaining,
            Some(Remaining { amount: usd(0), level: Level::Team, window: Some(Window::Monthly) })
        );
        let Refusal::Budget(refusal) = refused(lab.reserve(&ask(&key, 1, 30)).await) else { panic!() };
        assert_eq!((refusal.level, refusal.id.as_str(), refusal.window), (Level::Team, "t_org", Window::Monthly));
        assert_eq!((refusal.limit, refusal.spent, refusal.held), (usd(100), usd(0), usd(100)));
        assert_eq!(crate::clock::rfc3339(refusal.resets_at), "2026-12-01T00:00:00Z");
        // The refusal at the top took nothing below.
        for window in Window::ALL {
            assert_eq!(lab.books(&key.key.id, window).await, (0, 35, 0, 0));
            assert_eq!(lab.books(&"t_dev".into(), window).await, (0, 35, 0, 0));
            assert_eq!(lab.books(&"t_org".into(), window).await, (0, 100, 0, 0));
        }
        assert_eq!(
            lab.settle(&first.hold_ref(), Charge::Exact(usd(7))).await,
            Settled::Applied { charged: usd(7), held: usd(30) }
        );
        for id in &key.chain[..2] {
            assert_eq!(lab.books(id, Window::Hourly).await, (7, 5, 7, 0));
        }
    }
}

#[tokio::test]
async fn checks_answer_in_their_order() {
    for lab in Lab::both() {
        lab.team("t_org", limit(Window::Minute, 10), None).await;
        let key = lab.key(1, limit(Window::Monthly, 5), Some("t_org")).await;
        let id = key.key.id.clone();
        // 5: key before team, whatever the window.
        let Refusal::Budget(refusal) = refused(lab.reserve(&ask(&key, 11, 11)).await) else { panic!() };
        assert_eq!((refusal.level, refusal.window), (Level::Key, Window::Monthly));
        // 4: steps before budget, both before the windows.
        let verdict = lab.reserve(&in_session(ask(&key, 11, 11), Some(1), Some(0))).await;
        assert_eq!(refused(verdict), Refusal::SessionSteps { limit: 0, used: 0 });
        let verdict = lab.reserve(&in_session(ask(&key, 11, 11), Some(1), Some(1))).await;
        assert_eq!(refused(verdict), Refusal::SessionBudget { limit: usd(1), spent: usd(0), held: usd(0) });
        // Refused asks left no limits behind.
        assert_eq!(lab.ledger.session(&id, "run-1").await.unwrap(), None);
        // 3: key, then team, then session.
        lab.ledger.set_session_state(&id, "run-1", State::Killed).await.unwrap();
        let stopped = |level, id: &str, state| Refusal::Stopped { level, id: id.into(), state };
        let call = in_session(ask(&key, 11, 11), None, None);
        assert_eq!(refused(lab.reserve(&call).await), stopped(Level::Session, "run-1", State::Killed));
        lab.ledger.edit(&"t_org".into(), &Edit::State(State::Paused)).await.unwrap();
        assert_eq!(refused(lab.reserve(&call).await), stopped(Level::Team, "t_org", State::Paused));
        // 2: the view is out of date.
        lab.ledger.edit(&id, &Edit::State(State::Paused)).await.unwrap();
        assert_eq!(lab.reserve(&call).await, Verdict::Stale);
        let mut fresh = (*view(&lab.ledger, 1).await).clone();
        let call = Reserve { view: Arc::new(fresh.clone()), ..call };
        assert_eq!(refused(lab.reserve(&call).await), stopped(Level::Key, id.as_str(), State::Paused));
        fresh.hash = hash(2);
        assert_eq!(lab.reserve(&Reserve { view: Arc::new(fresh.clone()), ..call.clone() }).await, Verdict::Stale);
        fresh.hash = hash(1);
        fresh.chain = vec![id.clone()];
        assert_eq!(lab.reserve(&Reserve { view: Arc::new(fresh), ..call.clone() }).await, Verdict::Stale);
        // 1: the hold comes before everything.
        assert_eq!(lab.settle(&call.hold_ref(), Charge::Full).await, Settled::Unknown);
        assert_eq!(lab.reserve(&call).await, Verdict::Spent);
    }
}

#[tokio::test]
async fn a_key_expires_at_its_time() {
    for lab in Lab::both() {
        let expires_at = Some(START + 10);
        lab.ledger.create_key(&KeyRecord { expires_at, ..record(1, Limits::default(), None) }).await.unwrap();
        let key = view(&lab.ledger, 1).await;
        lab.later(9);
        lab.take(&key, 1).await;
        lab.later(1);
        assert_eq!(refused(lab.reserve(&ask(&key, 1, 1)).await), Refusal::Expired(START + 10));
    }
}

#[tokio::test]
async fn reserving_an_id_again_is_one_hold() {
    for lab in Lab::both() {
        let key = lab.key(1, limit(Window::Daily, 10), None).await;
        let call = in_session(ask(&key, 1, 20), Some(30), Some(1));
        let first = lab.reserve(&call).await;
        assert_eq!(lab.reserve(&call).await, first);
        lab.ledger.edit(&key.key.id, &Edit::State(State::Killed)).await.unwrap();
        assert_eq!(lab.reserve(&call).await, first);
        assert_eq!(lab.books(&key.key.id, Window::Daily).await, (0, 10, 0, 0));
        let session = lab.ledger.session(&key.key.id, "run-1").await.unwrap().unwrap();
        assert_eq!((session.steps, session.held), (1, usd(10)));
        lab.settle(&call.hold_ref(), Charge::Exact(usd(3))).await;
        assert_eq!(lab.reserve(&call).await, Verdict::Spent);
    }
}

#[tokio::test]
async fn the_settlement_table() {
    for lab in Lab::both() {
        let key = lab.key(1, Limits::default(), None).await;
        let id = &key.key.id;
        // Open: exact below, exact above, full.
        let at = lab.take(&key, 10).await;
        assert_eq!(lab.settle(&at, Charge::Exact(usd(4))).await, Settled::Applied { charged: usd(4), held: usd(10) });
        assert_eq!(lab.settle(&at, Charge::Full).await, Settled::Already { charged: usd(4) });
        assert_eq!(lab.settle(&at, Charge::Exact(usd(9))).await, Settled::Already { charged: usd(4) });
        let at = lab.take(&key, 10).await;
        assert_eq!(lab.settle(&at, Charge::Exact(usd(12))).await, Settled::Applied { charged: usd(12), held: usd(10) });
        let at = lab.take(&key, 10).await;
        assert_eq!(lab.settle(&at, Charge::Full).await, Settled::Applied { charged: usd(10), held: usd(10) });
        assert_eq!(lab.books(id, Window::Minute).await, (26, 0, 26, 2));
        // Unknown leaves a tombstone.
        let late = ask(&key, 1, 1);
        assert_eq!(lab.settle(&late.hold_ref(), Charge::Exact(usd(5))).await, Settled::Unknown);
        assert_eq!(lab.settle(&late.hold_ref(), Charge::Exact(usd(5))).await, Settled::Already { charged: usd(0) });
        assert_eq!(lab.reserve(&late).await, Verdict::Spent);
        assert_eq!(lab.books(id, Window::Daily).await, (26, 0, 26, 2));
        // Expired: a full charge changes nothing, a true cost corrects once, up or down.
        for (truth, spent, overrun) in [(3, 29, 2), (14, 43, 6)] {
            let at = lab.take(&key, 10).await;
            lab.later(60_000);
            assert_eq!(lab.ledger.sweep(10, None).await.unwrap(), Sweep { expired: 1, charged: usd(10) });
            assert_eq!(lab.settle(&at, Charge::Full).await, Settled::Already { charged: usd(10) });
            let corrected = Settled::Corrected { charged: usd(truth), before: usd(10) };
            assert_eq!(lab.settle(&at, Charge::Exact(usd(truth))).await, corrected);
            assert_eq!(lab.settle(&at, Charge::Exact(usd(1))).await, Settled::Already { charged: usd(truth) });
            assert_eq!(lab.books(id, Window::Daily).await, (spent, 0, spent, overrun));
        }
        assert!(lab.ledger.settle(&HoldRef { chain: vec![], ..at }, Charge::Full).await.is_err());
    }
}

#[tokio::test]
async fn every_window_rolls_at_its_time_and_a_charge_stays_with_its_window() {
    // Rolls that happen at each step: the next minute, hour, day, week (Monday, 30 November), month.
    let steps = [("18:44:00Z", 23, 1), ("19:00:00Z", 23, 2), ("00:00:00Z", 24, 3), ("00:00:00Z", 30, 4)];
    for lab in Lab::both() {
        let key = lab.key(1, Limits::default(), None).await;
        let id = &key.key.id;
        let old = lab.take(&key, 100).await;
        let done = lab.take(&key, 50).await;
        lab.settle(&done, Charge::Full).await;
        for (time, day, rolled) in steps {
            let at: jiff::Timestamp = format!("2026-11-{day}T{time}").parse().unwrap();
            lab.clock.set(at.as_millisecond() - 1);
            assert_eq!(lab.books(id, Window::ALL[rolled - 1]).await, (50, 100, 50, 0), "before {at}");
            lab.clock.set(at.as_millisecond());
            for window in Window::ALL {
                let expected = if window.index() < rolled { (0, 0, 50, 0) } else { (50, 100, 50, 0) };
                assert_eq!(lab.books(id, window).await, expected, "{window:?} at {at}");
            }
        }
        // A hold in the new windows, so that they have really rolled; then the old one is settled.
        let new = lab.take(&key, 5).await;
        lab.settle(&old, Charge::Exact(usd(70))).await;
        assert_eq!(lab.books(id, Window::Weekly).await, (0, 5, 120, 0));
        assert_eq!(lab.books(id, Window::Monthly).await, (120, 5, 120, 0));
        lab.clock.set("2026-12-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond());
        lab.settle(&new, Charge::Full).await;
        assert_eq!(lab.books(id, Window::Monthly).await, (0, 0, 125, 0));
        assert_eq!(lab.books(id, Window::Weekly).await, (5, 0, 125, 0));
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_frees_nothing() {
    for lab in Lab::both() {
        let key = lab.key(1, limit(Window::Minute, 10), None).await;
        lab.later(60_000);
        let at = lab.take(&key, 10).await;
        for back in [60_000, 3_600_000, 40 * DAY] {
            lab.clock.set(START + 60_000 - back);
            assert!(matches!(refused(lab.reserve(&ask(&key, 1, 1)).await), Refusal::Budget(_)));
            assert_eq!(lab.books(&key.key.id, Window::Minute).await, (0, 10, 0, 0));
        }
        // A refusal has seen the time too.
        lab.clock.set(START + 120_000);
        let refusal = refused(lab.reserve(&ask(&key, 11, 11)).await);
        lab.clock.set(START);
        assert_eq!(refused(lab.reserve(&ask(&key, 11, 11)).await), refusal);
        // And a sweep goes by the tree's time, as everything does.
        assert_eq!(lab.ledger.sweep(9, None).await.unwrap(), Sweep { expired: 1, charged: usd(10) });
        assert_eq!(lab.settle(&at, Charge::Full).await, Settled::Already { charged: usd(10) });
    }
}

#[tokio::test]
async fn a_sweep_charges_what_is_due_and_no_more_than_asked() {
    for lab in Lab::both() {
        let key = lab.key(1, limit(Window::Daily, 100), None).await;
        let id = &key.key.id;
        for ttl_ms in [30, 10, 20, 40] {
            let call = Reserve { ttl_ms, ..in_session(ask(&key, ttl_ms, ttl_ms), None, None) };
            assert!(matches!(lab.reserve(&call).await, Verdict::Held(_)));
        }
        lab.later(9);
        assert_eq!(lab.ledger.sweep(10, None).await.unwrap(), Sweep::default());
        lab.later(21);
        assert_eq!(lab.ledger.sweep(0, None).await.unwrap(), Sweep::default());
        assert_eq!(lab.ledger.sweep(2, None).await.unwrap(), Sweep { expired: 2, charged: usd(30) });
        assert_eq!(lab.ledger.sweep(2, None).await.unwrap(), Sweep { expired: 1, charged: usd(30) });
        assert_eq!(lab.books(id, Window::Daily).await, (60, 40, 60, 0));
        let session = lab.ledger.session(id, "run-1").await.unwrap().unwrap();
        assert_eq!((session.spent, session.held, session.steps), (usd(60), usd(40), 4));
        let holds = lab.ledger.holds(10).await.unwrap();
        let states: Vec<_> = holds.iter().map(|hold| (hold.state, hold.amount.nano(), hold.charged.nano())).collect();
        let expired = |amount| (HoldState::Expired, amount, amount);
        assert_eq!(states[0], (HoldState::Open, 40, 0));
        assert!([10, 20, 30].into_iter().all(|amount| states.contains(&expired(amount))));
        assert_eq!(lab.ledger.holds(1).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn sessions_keep_their_tightest_limits_and_are_forgotten_in_the_end() {
    for lab in Lab::both() {
        let key = lab.key(1, Limits::default(), None).await;
        let id = &key.key.id;
        let first = in_session(ask(&key, 1, 6), Some(10), None);
        assert_eq!(granted(lab.reserve(&first).await), 6);
        let Verdict::Held(held) = lab.reserve(&in_session(ask(&key, 1, 6), Some(100), Some(3))).await else { panic!() };
        assert_eq!(held.granted, usd(4));
        assert_eq!(held.remaining, Some(Remaining { amount: usd(0), level: Level::Session, window: None }));
        let verdict = lab.reserve(&in_session(ask(&key, 1, 6), None, None)).await;
        assert_eq!(refused(verdict), Refusal::SessionBudget { limit: usd(10), spent: usd(0), held: usd(10) });
        lab.settle(&first.hold_ref(), Charge::Exact(usd(0))).await;
        assert_eq!(granted(lab.reserve(&in_session(ask(&key, 1, 6), None, None)).await), 6);
        let verdict = lab.reserve(&in_session(ask(&key, 0, 0), None, Some(50))).await;
        assert_eq!(refused(verdict), Refusal::SessionSteps { limit: 3, used: 3 });
        // With a hold open it is never forgotten; two are.
        lab.later(SESSION_KEPT_MS * 2);
        assert!(lab.ledger.session(id, "run-1").await.unwrap().is_some());
        assert_eq!(lab.ledger.sweep(10, None).await.unwrap().expired, 2);
        lab.later(SESSION_KEPT_MS - 1);
        assert_eq!(lab.ledger.session(id, "run-1").await.unwrap().unwrap().spent, usd(10));
        lab.later(1);
        assert_eq!(lab.ledger.session(id, "run-1").await.unwrap(), None);
        lab.later(DAY);
        lab.ledger.sweep(10, None).await.unwrap();
        assert_eq!(granted(lab.reserve(&in_session(ask(&key, 1, 60), None, None)).await), 60);
    }
}

#[tokio::test]
async fn ended_holds_are_forgotten_at_their_time() {
    for lab in Lab::both() {
        let key = lab.key(1, Limits::default(), None).await;
        let (settled, expired) = (lab.take(&key, 1).await, lab.take(&key, 2).await);
        lab.settle(&settled, Charge::Full).await;
        lab.later(60_000);
        lab.ledger.sweep(9, None).await.unwrap();
        lab.later(SETTLED_KEPT_MS - 60_001);
        assert_eq!(lab.settle(&settled, Charge::Full).await, Settled::Already { charged: usd(1) });
        lab.later(1);
        lab.ledger.sweep(9, None).await.unwrap();
        assert_eq!(lab.settle(&settled, Charge::Full).await, Settled::Unknown);
        lab.clock.set(START + 60_000 + EXPIRED_KEPT_MS - 1);
        lab.ledger.sweep(9, None).await.unwrap();
        assert_eq!(lab.settle(&expired, Charge::Full).await, Settled::Already { charged: usd(2) });
        assert_eq!(lab.ledger.holds(9).await.unwrap().len(), 1);
        lab.later(1);
        lab.ledger.sweep(9, None).await.unwrap();
        assert_eq!(lab.ledger.holds(9).await.unwrap().len(), 0);
        assert_eq!(lab.settle(&expired, Charge::Full).await, Settled::Unknown);
    }
}

#[tokio::test]
async fn standing_follows_states_and_limits() {
    for lab in Lab::both() {
        lab.team("t_org", Limits::default(), None).await;
        let key = lab.key(1, Limits::default(), Some("t_org")).await;
        let id = key.key.id.clone();
        let done = lab.take(&key, 5).await;
        lab.settle(&done, Charge::Full).await;
        let call = in_session(ask(&key, 5, 5), None, None);
        lab.reserve(&call).await;
        let at = call.hold_ref();
        let standing = async || lab.ledger.standing(std::slice::from_ref(&at)).await.unwrap()[0];
        assert_eq!(standing().await, Standing::Good);
        for (nano, expected) in [(5, Standing::Good), (4, Standing::OverLimit), (0, Standing::OverLimit)] {
            lab.ledger.edit(&"t_org".into(), &Edit::Limits(vec![(Window::Daily, Some(usd(nano)))])).await.unwrap();
            assert_eq!(standing().await, expected, "{nano}");
        }
        lab.ledger.set_session_state(&id, "run-1", State::Killed).await.unwrap();
        assert_eq!(standing().await, Standing::Stopped(State::Killed));
        lab.ledger.edit(&id, &Edit::State(State::Paused)).await.unwrap();
        assert_eq!(standing().await, Standing::Stopped(State::Paused));
    }
}

#[tokio::test]
async fn edits_change_the_revision_and_what_is_revoked_stays_so() {
    for lab in Lab::both() {
        let key = lab.key(1, limit(Window::Daily, 10), None).await;
        let id = key.key.id.clone();
        let at = lab.take(&key, 8).await;
        lab.ledger.edit(&id, &Edit::Limits(vec![(Window::Daily, Some(usd(5))), (Window::Hourly, None)])).await.unwrap();
        let fresh = view(&lab.ledger, 1).await;
        assert_eq!(fresh.revision, key.revision + 1);
        // What is held stays, and new holds wait until they fit.
        assert!(matches!(lab.reserve(&ask(&fresh, 1, 1)).await, Verdict::Refused(Refusal::Budget(_))));
        lab.settle(&at, Charge::Exact(usd(4))).await;
        assert_eq!(granted(lab.reserve(&ask(&fresh, 1, 9)).await), 1);
        // A new hash: the old one is unknown.
        assert!(matches!(lab.ledger.edit(&id, &Edit::Rotate(hash(1))).await, Err(LedgerError::Conflict(_))));
        lab.ledger.edit(&id, &Edit::Rotate(hash(7))).await.unwrap();
        assert_eq!(lab.ledger.key_by_hash(&hash(1)).await.unwrap(), None);
        assert_eq!(view(&lab.ledger, 7).await.key.id, id);
        assert_eq!(lab.reserve(&ask(&fresh, 1, 1)).await, Verdict::Stale);
        lab.ledger.edit(&id, &Edit::State(State::Revoked)).await.unwrap();
        assert!(matches!(lab.ledger.edit(&id, &Edit::State(State::Active)).await, Err(LedgerError::Conflict(_))));
        assert_eq!(view(&lab.ledger, 7).await.key.state, State::Revoked);
        assert!(matches!(
            lab.ledger.edit(&"k_none".into(), &Edit::State(State::Active)).await,
            Err(LedgerError::NotFound(_))
        ));
    }
}

#[tokio::test]
async fn names_hashes_and_ids_are_unique_and_parents_exist() {
    for lab in Lab::both() {
        lab.team("t_org", Limits::default(), None).await;
        lab.key(1, Limits::default(), Some("t_org")).await;
        let good = record(2, Limits::default(), None);
        let taken = record(1, Limits::default(), None);
        for bad in [
            KeyRecord { id: taken.id.clone(), ..good.clone() },
            KeyRecord { name: taken.name.clone(), ..good.clone() },
            KeyRecord { hash: taken.hash.clone(), ..good.clone() },
            KeyRecord { hash: "12".into(), ..good.clone() },
            KeyRecord { id: "t_2".into(), ..good.clone() },
        ] {
            assert!(matches!(lab.ledger.create_key(&bad).await, Err(LedgerError::Conflict(_))), "{bad:?}");
        }
        let orphan = KeyRecord { team: Some("t_none".into()), ..good.clone() };
        assert!(matches!(lab.ledger.create_key(&orphan).await, Err(LedgerError::NotFound(_))));
        let early = KeyRecord { created_at: START - 1, ..good };
        lab.ledger.create_key(&early).await.unwrap();
        lab.ledger.probe().await.unwrap();
        let nodes: Vec<_> = lab.ledger.nodes().await.unwrap().iter().map(|node| node.id().to_string()).collect();
        assert_eq!(nodes, [early.id.as_str(), "t_org", taken.id.as_str()]);
        assert!(lab.ledger.node(&"probe".into()).await.unwrap().is_none());
        assert!(lab.ledger.holds(9).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn without_a_limit_counters_stop_before_they_become_inexact() {
    const MAX: u64 = Money::COUNTER_MAX.nano();
    for lab in Lab::both() {
        let key = lab.key(1, Limits::default(), None).await;
        let Verdict::Held(held) = lab.reserve(&ask(&key, 1, u64::MAX)).await else { panic!() };
        assert_eq!((held.granted.nano(), held.remaining), (MAX, None));
        let Refusal::Budget(refusal) = refused(lab.reserve(&ask(&key, 1, 1)).await) else { panic!() };
        assert_eq!((refusal.limit.nano(), refusal.window), (MAX, Window::Minute));
        // Least above most counts as most.
        assert_eq!(granted(lab.reserve(&ask(&key, 9, 0)).await), 0);
        let other = lab.key(2, Limits::default(), None).await;
        let at = lab.take(&other, 5).await;
        let settled = lab.settle(&at, Charge::Exact(usd(u64::MAX))).await;
        assert_eq!(settled, Settled::Applied { charged: usd(MAX), held: usd(5) });
        assert_eq!(lab.books(&other.key.id, Window::Daily).await, (MAX, 0, MAX, MAX - 5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_for_the_last_money_never_takes_more_than_there_is() {
    for lab in Lab::both() {
        lab.team("t_org", limit(Window::Daily, 100), None).await;
        let a = lab.key(1, Limits::default(), Some("t_org")).await;
        let b = lab.key(2, limit(Window::Daily, 70), Some("t_org")).await;
        let lab = Arc::new(lab);
        let mut callers = tokio::task::JoinSet::new();
        for i in 0..64 {
            let (lab, view) = (lab.clone(), if i % 2 == 0 { a.clone() } else { b.clone() });
            callers.spawn(async move {
                let mut charged = 0;
                for step in 0..20 {
                    let call = ask(&view, 3, 3);
                    if let Verdict::Held(_) = lab.reserve(&call).await {
                        let cost = step % 2;
                        lab.settle(&call.hold_ref(), Charge::Exact(usd(cost))).await;
                        charged += cost;
                    }
                    let (spent, held, ..) = lab.books(&"t_org".into(), Window::Daily).await;
                    assert!(spent + held <= 100, "{spent} + {held}");
                }
                charged
            });
        }
        let charged: u64 = callers.join_all().await.into_iter().sum();
        assert_eq!(lab.books(&"t_org".into(), Window::Daily).await, (charged, 0, charged, 0));
    }
}

use serde_json::Value;

use super::notice::Standing;
use super::*;
use crate::ledger::{BudgetRefusal, HoldId};
use crate::money::Money;

fn at(chain: &[&str], session: Option<&str>) -> HoldRef {
    let chain = chain.iter().map(|id| NodeId::from(*id)).collect();
    HoldRef { hold: HoldId::random().unwrap(), chain, session: session.map(Into::into) }
}

#[test]
fn a_charge_notes_every_budget_above_it_once() {
    let notes = Notes::new(20_000);
    notes.charged(&at(&["k_1", "t_1", "t_2"], Some("run")));
    notes.charged(&at(&["k_2", "t_1", "t_2"], None));
    let taken = notes.take();
    assert_eq!(taken.charged.len(), 4);
    assert_eq!(taken.charged[&NodeId::from("t_1")], ["t_1".into(), "t_2".into()]);
    assert_eq!(taken.sessions.len(), 1);
    assert!(notes.take().charged.is_empty(), "taken is taken");
    notes.put_back(taken);
    assert_eq!(notes.take().charged.len(), 4, "and what could not be done comes back");
}

#[test]
fn notes_are_bounded() {
    let notes = Notes::new(100);
    for i in 0..110 {
        notes.charged(&at(&[&format!("k_{i}")], Some("run")));
        notes.cut(Cut { chain: vec![format!("k_{i}").as_str().into()], reason: "x", model: "m".into() });
    }
    let taken = notes.take();
    assert_eq!((taken.charged.len(), taken.cuts.len()), (100, 100));
    assert!(taken.sessions.len() <= 100);
}

#[test]
fn a_refusal_notes_the_limit_that_was_full() {
    let notes = Notes::new(20_000);
    let chain: Vec<NodeId> = vec!["k_1".into(), "t_1".into(), "t_2".into()];
    let refused = Refusal::Budget(BudgetRefusal {
        level: Level::Team,
        id: "t_1".into(),
        window: Window::Daily,
        limit: Money::ZERO,
        spent: Money::ZERO,
        held: Money::ZERO,
        resets_at: 0,
    });
    notes.refused(&chain, None, &refused);
    let taken = notes.take();
    assert_eq!(taken.full, HashSet::from([("t_1".into(), Some(Window::Daily))]));
    assert_eq!(taken.charged[&NodeId::from("t_1")], chain[1..]);
}

#[test]
fn a_notice_says_all_in_exact_amounts() {
    let standing = Standing {
        level: Level::Key,
        id: "k_1",
        name: "<app> & co",
        window: Some(("daily", 86_400_000)),
        limit: Money::from_nano(10_000_000_000),
        spent: Money::from_nano(8_000_000_001),
        held: Money::from_nano(5),
    };
    let notice = Notice::threshold("id".into(), 0, 80, false, &standing);
    let json: Value = serde_json::to_value(&notice).unwrap();
    for (field, wanted) in [
        ("type", "budget.threshold"),
        ("level", "key"),
        ("budget_id", "k_1"),
        ("window", "daily"),
        ("limit_usd", "10"),
        ("spent_usd", "8.000000001"),
        ("held_usd", "0.000000005"),
        ("resets_at", "1970-01-02T00:00:00Z"),
    ] {
        assert_eq!(json[field], wanted, "{json}");
    }
    assert_eq!(json["threshold_percent"], 80);
    assert!(json.get("model").is_none(), "{json}");
    let slack = notice.slack();
    let text = slack["text"].as_str().unwrap();
    assert!(text.starts_with(":warning:") && text.contains("&lt;app&gt; &amp; co"), "{text}");
}

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Calendar, Clock, Window};
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use crate::ledger::{Charge, HoldId, HoldRef, Ledger, NodeId, Reserve, SessionAsk, State, Verdict};
use crate::money::Money;
use crate::pricing::PriceTable;
use crate::secret::KeyHash;

const NOW: i64 = 1_795_000_000_000;

struct Desk {
    ledger: Ledger,
    clock: Clock,
    prices: PriceTable,
}

impl Desk {
    fn open() -> Desk {
        let clock = Clock::manual(NOW);
        let options = EmbeddedOptions {
            path: None,
            calendar: Calendar::utc(),
            clock: clock.clone(),
            role: Role::Gateway,
            queue: 4_096,
        };
        let ledger = Ledger::Embedded(EmbeddedLedger::open(options).unwrap());
        Desk { ledger, clock, prices: PriceTable::builtin().unwrap() }
    }

    async fn create(&self, new: NewKey) -> Result<IssuedKey, OpError> {
        key_create(&self.ledger, &self.prices, NOW, &new).await
    }

    async fn key(&self, name: &str, team: Option<&str>, daily: Option<&str>) -> IssuedKey {
        self.create(NewKey { team: team.map(Into::into), limits: amounts(daily), ..key(name) }).await.unwrap()
    }

    async fn team(&self, name: &str, parent: Option<&str>, daily: Option<&str>) -> TeamView {
        let new = NewTeam { name: name.into(), parent: parent.map(Into::into), limits: amounts(daily) };
        team_create(&self.ledger, NOW, &new).await.unwrap()
    }

    async fn hold(&self, issued: &IssuedKey, nano: u64, session: Option<&str>) -> (HoldRef, Verdict) {
        let view = self.ledger.key_by_hash(&KeyHash::of(&issued.key).unwrap()).await.unwrap().unwrap();
        let ask = Reserve {
            hold: HoldId::random().unwrap(),
            view: Arc::new(view),
            session: session.map(|id| SessionAsk { id: id.into(), budget: None, steps: None }),
            least: Money::from_nano(nano),
            most: Money::from_nano(nano),
            ttl_ms: 60_000,
            note: "openai/gpt-4o".into(),
        };
        let verdict = self.ledger.reserve(&ask).await.unwrap();
        (ask.hold_ref(), verdict)
    }

    async fn state(&self, id: &str) -> State {
        self.ledger.status(&NodeId::from(id)).await.unwrap().state
    }
}

fn key(name: &str) -> NewKey {
    NewKey { name: name.into(), ..NewKey::default() }
}

fn amounts(daily: Option<&str>) -> Amounts {
    Amounts { daily: daily.map(Into::into), ..Amounts::default() }
}

fn node(name: &str) -> Target {
    Target::Node(name.into())
}

fn session(id: &str, key: Option<&str>) -> Target {
    Target::Session { id: id.into(), key: key.map(Into::into) }
}

#[tokio::test]
async fn a_key_is_shown_once_and_found_by_id_and_name() {
    let desk = Desk::open();
    let issued = desk.key("me", None, Some("$1.00")).await;
    assert!(crate::secret::is_well_formed(&issued.key));
    let json = serde_json::to_value(&issued).unwrap();
    assert_eq!((json["id"].as_str().unwrap().len(), json["name"].as_str()), (18, Some("me")));
    assert_eq!(json["limits"]["daily"], "1");
    for name in ["me", issued.view.id.as_str()] {
        let shown = serde_json::to_string(&key_show(&desk.ledger, name).await.unwrap()).unwrap();
        assert!(!shown.contains(&issued.key) && shown.contains(&issued.view.id));
    }
    let error = key_show(&desk.ledger, &issued.key).await.unwrap_err();
    assert!(error.kind == Kind::NotFound && !error.message.contains(&issued.key), "{error}");
}

#[tokio::test]
async fn a_key_needs_a_limit_somewhere_or_the_word() {
    let desk = Desk::open();
    desk.team("free", None, None).await;
    desk.team("paid", None, Some("5")).await;
    desk.team("below", Some("paid"), None).await;
    for (name, team, limit, unlimited, fine) in [
        ("a", None, None, false, false),
        ("b", Some("free"), None, false, false),
        ("c", Some("free"), Some("0"), false, true),
        ("d", Some("below"), None, false, true),
        ("e", None, None, true, true),
    ] {
        let new = NewKey { team: team.map(Into::into), limits: amounts(limit), unlimited, ..key(name) };
        assert_eq!(desk.create(new).await.is_ok(), fine, "{name}");
    }
    // The last limit above a key cannot be lifted by the way.
    for (name, fine) in [("c", false), ("paid", false)] {
        assert_eq!(budget_unset(&desk.ledger, name, &["daily".into()]).await.is_ok(), fine, "{name}");
    }
    budget_set(&desk.ledger, "below", &amounts(Some("1"))).await.unwrap();
    budget_unset(&desk.ledger, "paid", &["daily".into()]).await.unwrap();
    assert!(budget_unset(&desk.ledger, "below", &["daily".into()]).await.is_err());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let desk = Desk::open();
    desk.key("taken", None, Some("1")).await;
    let with = |change: &dyn Fn(&mut NewKey)| {
        let mut new = NewKey { limits: amounts(Some("1")), ..key("new") };
        change(&mut new);
        new
    };
    for amount in ["1e3", " 10 ", "-1", "10,00", "NaN", "Infinity", "", "9000001", "0.0000000001"] {
        let error = desk.create(with(&|new| new.limits = amounts(Some(amount)))).await.err();
        assert!(error.as_ref().is_some_and(|e| e.message.starts_with("daily: ")), "{amount:?}: {error:?}");
        assert!(desk.create(with(&|new| new.session_budget = Some(amount.into()))).await.is_err(), "{amount:?}");
    }
    for (what, new) in [
        ("name taken", with(&|new| new.name = "taken".into())),
        ("no name", with(&|new| new.name = String::new())),
        ("markup", with(&|new| new.name = "<script>".into())),
        ("an id", with(&|new| new.name = "k_0123456789abcdef".into())),
        ("a key", with(&|new| new.name = "lp-x".into())),
        ("no such team", with(&|new| new.team = Some("none".into()))),
        ("provider", with(&|new| new.providers = vec!["opnai".into()])),
        ("model", with(&|new| new.models = vec!["gpt-400".into()])),
        ("star inside", with(&|new| new.models = vec!["gpt-*-mini".into()])),
        ("network", with(&|new| new.allow_ips = vec!["10.0.0.1/8".into()])),
        ("past", with(&|new| new.expires = Some("2020-01-01".into()))),
        ("steps", with(&|new| new.session_steps = Some(0))),
    ] {
        assert!(desk.create(new).await.is_err(), "{what}");
    }
    assert!(budget_set(&desk.ledger, "taken", &Amounts::default()).await.is_err());
    assert!(budget_unset(&desk.ledger, "taken", &["yearly".into()]).await.is_err());
    assert_eq!(key_list(&desk.ledger).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rotated_key_is_another_and_a_revoked_one_stays_so() {
    let desk = Desk::open();
    let old = desk.key("me", None, Some("1")).await;
    let new = key_rotate(&desk.ledger, "me").await.unwrap();
    assert_ne!(old.key, new.key);
    let found = async |key: &str| desk.ledger.key_by_hash(&KeyHash::of(key).unwrap()).await.unwrap().is_some();
    assert_eq!((found(&old.key).await, found(&new.key).await), (false, true));
    for (state, expected) in
        [(State::Paused, true), (State::Active, true), (State::Revoked, true), (State::Active, false)]
    {
        assert_eq!(key_state(&desk.ledger, "me", state).await.is_ok(), expected, "{state:?}");
    }
    assert!(key_rotate(&desk.ledger, "me").await.is_err());
    assert!(set_state(&desk.ledger, &node("me"), State::Active).await.is_err());
    assert_eq!(desk.state(&old.view.id).await, State::Revoked);
}

#[tokio::test]
async fn status_shows_every_level_with_what_is_left() {
    let desk = Desk::open();
    desk.team("org", None, Some("10")).await;
    desk.team("team", Some("org"), None).await;
    let issued = desk.key("me", Some("team"), Some("2")).await;
    desk.hold(&issued, 500_000_000, None).await;
    let budget = budget_status(&desk.ledger, "me").await.unwrap();
    let names: Vec<&str> = budget.levels.iter().map(|level| level.name.as_str()).collect();
    assert_eq!(names, ["me", "team", "org"]);
    let daily = |level: usize| budget.levels[level].windows[Window::Daily.index()].clone();
    assert_eq!((daily(0).held_usd.as_str(), daily(0).remaining_usd.as_deref()), ("0.5", Some("1.5")));
    assert_eq!((daily(1).limit_usd, daily(1).remaining_usd), (None, None));
    assert_eq!(daily(2).remaining_usd.as_deref(), Some("9.5"));
    assert_eq!(budget.levels[0].windows.len(), 5);
}

#[tokio::test]
async fn the_kill_switch_stops_and_resume_lifts_only_kills() {
    let desk = Desk::open();
    let team = desk.team("team", None, Some("10")).await;
    let below = desk.key("below", Some("team"), None).await;
    let alone = desk.key("alone", None, Some("1")).await;
    let resting = desk.key("resting", None, Some("1")).await;
    key_state(&desk.ledger, "resting", State::Paused).await.unwrap();

    let killed = set_state(&desk.ledger, &Target::All, State::Killed).await.unwrap();
    assert_eq!((killed.changed.len(), killed.unchanged.len()), (2, 1));
    assert_eq!(desk.state(&team.id).await, State::Killed);
    assert!(matches!(desk.hold(&below, 1, None).await.1, Verdict::Refused(_)));
    assert!(matches!(desk.hold(&alone, 1, None).await.1, Verdict::Refused(_)));
    set_state(&desk.ledger, &Target::All, State::Active).await.unwrap();
    assert!(matches!(desk.hold(&below, 1, None).await.1, Verdict::Held(_)));
    assert_eq!(desk.state(&resting.view.id).await, State::Paused);

    set_state(&desk.ledger, &node(&below.view.id), State::Killed).await.unwrap();
    assert!(key_state(&desk.ledger, "below", State::Paused).await.is_err());
    assert!(matches!(desk.hold(&below, 1, None).await.1, Verdict::Refused(_)));
    set_state(&desk.ledger, &node("below"), State::Active).await.unwrap();
    assert!(matches!(desk.hold(&below, 1, None).await.1, Verdict::Held(_)));
    let missing = set_state(&desk.ledger, &node("nobody"), State::Killed).await.unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound);
}

#[tokio::test]
async fn a_name_of_both_a_key_and_a_team_must_be_said_by_id() {
    let desk = Desk::open();
    desk.team("same", None, Some("1")).await;
    let issued = desk.key("same", None, Some("1")).await;
    assert_eq!(set_state(&desk.ledger, &node("same"), State::Killed).await.unwrap_err().kind, Kind::Conflict);
    assert!(set_state(&desk.ledger, &node(&issued.view.id), State::Killed).await.is_ok());
    assert!(key_show(&desk.ledger, "same").await.is_ok() && team_show(&desk.ledger, "same").await.is_ok());
}

#[tokio::test]
async fn a_session_is_found_by_its_calls_or_named_with_its_key() {
    let desk = Desk::open();
    let (a, b) = (desk.key("a", None, Some("1")).await, desk.key("b", None, Some("1")).await);
    let kill = async |id: &str, key: Option<&str>| set_state(&desk.ledger, &session(id, key), State::Killed).await;
    assert_eq!(kill("run", None).await.unwrap_err().kind, Kind::NotFound);
    assert!(kill("early", Some("a")).await.is_ok());
    assert!(matches!(desk.hold(&a, 1, Some("early")).await.1, Verdict::Refused(_)));
    desk.hold(&a, 1, Some("run")).await;
    assert_eq!(kill("run", None).await.unwrap().changed[0].name, "a");
    assert!(matches!(desk.hold(&a, 1, Some("run")).await.1, Verdict::Refused(_)));
    assert!(matches!(desk.hold(&a, 1, Some("other")).await.1, Verdict::Held(_)));
    desk.hold(&b, 1, Some("both")).await;
    desk.hold(&a, 1, Some("both")).await;
    assert_eq!(kill("both", None).await.unwrap_err().kind, Kind::Conflict);
    assert!(kill("both", Some("b")).await.is_ok());
    assert!(kill("a b", None).await.is_err());

    // A hold in doubt of one key tells nothing of another key's session, which may be between two calls.
    desk.hold(&a, 1, Some("again")).await;
    desk.clock.set(NOW + 61_000);
    desk.ledger.sweep(10).await.unwrap();
    let (at, _) = desk.hold(&b, 1, Some("again")).await;
    desk.ledger.settle(&at, Charge::Exact(Money::ZERO)).await.unwrap();
    assert_eq!(kill("again", None).await.unwrap_err().kind, Kind::Conflict);
}

#[tokio::test]
async fn places_are_changed_beside_each_other() {
    let all_here = Arc::new(tokio::sync::Barrier::new(64));
    let items: Vec<usize> = (0..64).collect();
    let changed = super::stop::beside(&items, |item| {
        let all_here = all_here.clone();
        async move {
            all_here.wait().await;
            item
        }
    });
    let mut changed = tokio::time::timeout(Duration::from_secs(60), changed).await.expect("one waits for the other");
    changed.sort_unstable();
    assert_eq!(changed, items);
}

#[tokio::test]
async fn only_holds_that_expired_in_doubt_are_released() {
    let desk = Desk::open();
    let issued = desk.key("me", None, Some("1")).await;
    let (at, _) = desk.hold(&issued, 300_000_000, None).await;
    let id = at.hold.to_string();
    let release = async |charged: Option<&str>, force: bool| holds_release(&desk.ledger, &id, charged, force).await;
    assert_eq!(release(None, false).await.unwrap_err().kind, Kind::Conflict);
    desk.clock.set(NOW + 61_000);
    desk.ledger.sweep(10).await.unwrap();
    assert!(release(Some("0.4"), false).await.is_err());
    let released = release(Some("0.1"), false).await.unwrap();
    assert_eq!((released.charged_usd.as_str(), released.returned_usd.as_str()), ("0.1", "0.2"));
    assert_eq!(release(None, true).await.unwrap_err().kind, Kind::NotFound);
    let (open, _) = desk.hold(&issued, 300_000_000, None).await;
    let forced = holds_release(&desk.ledger, &open.hold.to_string(), None, true).await.unwrap();
    assert_eq!(forced.returned_usd, "0.3");
    let books = desk.ledger.status(&NodeId::from(issued.view.id.as_str())).await.unwrap();
    assert_eq!(books.charged_total, Money::from_nano(100_000_000));
}

//! The engine by itself: the specification's tables over memory and file, and what only a file can go through.

mod crash;
mod files;
mod tables;

use std::path::Path;
use std::sync::Arc;

use crate::clock::{Calendar, Clock, Millis, Window};
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use crate::ledger::{
    Charge, HoldId, HoldRef, KeyRecord, KeyView, LedgerError, Limits, NodeId, Policy, Reserve, SessionAsk, Settled,
    State, TeamRecord, Verdict,
};
use crate::money::Money;
use crate::secret::KeyHash;

/// 2026-11-23T18:43:07Z, a Monday.
const START: Millis = 1_795_459_387_000;

fn usd(nano: u64) -> Money {
    Money::from_nano(nano)
}

fn open(path: Option<&Path>, clock: &Clock, role: Role) -> Result<EmbeddedLedger, LedgerError> {
    let path = path.map(Path::to_path_buf);
    EmbeddedLedger::open(EmbeddedOptions { path, calendar: Calendar::utc(), clock: clock.clone(), role, queue: 4_096 })
}

/// A ledger with a clock that the test moves.
struct Lab {
    ledger: EmbeddedLedger,
    clock: Clock,
    _directory: Option<tempfile::TempDir>,
}

impl Lab {
    fn memory() -> Lab {
        let clock = Clock::manual(START);
        Lab { ledger: open(None, &clock, Role::Gateway).unwrap(), clock, _directory: None }
    }

    fn file() -> Lab {
        let clock = Clock::manual(START);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loopers.db");
        Lab { ledger: open(Some(&path), &clock, Role::Gateway).unwrap(), clock, _directory: Some(directory) }
    }

    fn both() -> [Lab; 2] {
        [Lab::memory(), Lab::file()]
    }

    fn later(&self, ms: Millis) {
        self.clock.set(self.clock.now() + ms);
    }

    async fn key(&self, number: u64, limits: Limits, team: Option<&str>) -> Arc<KeyView> {
        make_key(&self.ledger, number, limits, team).await
    }

    async fn team(&self, id: &str, limits: Limits, parent: Option<&str>) {
        let record = TeamRecord {
            id: id.into(),
            name: id.into(),
            parent: parent.map(NodeId::from),
            created_at: START,
            state: State::Active,
            limits,
        };
        self.ledger.create_team(&record).await.unwrap();
    }

    async fn reserve(&self, ask: &Reserve) -> Verdict {
        self.ledger.reserve(ask).await.unwrap()
    }

    async fn take(&self, view: &Arc<KeyView>, amount: u64) -> HoldRef {
        take(&self.ledger, view, amount).await
    }

    async fn settle(&self, at: &HoldRef, charge: Charge) -> Settled {
        self.ledger.settle(at, charge).await.unwrap()
    }

    /// Spent, held, charged in total and overrun of a window of a node.
    async fn books(&self, id: &NodeId, window: Window) -> (u64, u64, u64, u64) {
        let status = self.ledger.status(id).await.unwrap();
        let book = status.windows[window.index()];
        (book.spent.nano(), book.held.nano(), status.charged_total.nano(), status.overrun_total.nano())
    }
}

fn hash(number: u64) -> KeyHash {
    KeyHash::of(&format!("lp-{number:043}")).unwrap()
}

fn record(number: u64, limits: Limits, team: Option<&str>) -> KeyRecord {
    KeyRecord {
        id: format!("k_{number:016x}").as_str().into(),
        name: format!("key {number}"),
        hash: hash(number).hex(),
        team: team.map(NodeId::from),
        created_at: START,
        expires_at: None,
        state: State::Active,
        limits,
        policy: Policy::default(),
    }
}

async fn make_key(ledger: &EmbeddedLedger, number: u64, limits: Limits, team: Option<&str>) -> Arc<KeyView> {
    ledger.create_key(&record(number, limits, team)).await.unwrap();
    view(ledger, number).await
}

async fn view(ledger: &EmbeddedLedger, number: u64) -> Arc<KeyView> {
    Arc::new(ledger.key_by_hash(&hash(number)).await.unwrap().unwrap())
}

async fn take(ledger: &EmbeddedLedger, view: &Arc<KeyView>, amount: u64) -> HoldRef {
    let ask = ask(view, amount, amount);
    let verdict = ledger.reserve(&ask).await.unwrap();
    assert!(matches!(&verdict, Verdict::Held(held) if held.granted == usd(amount)), "{verdict:?}");
    ask.hold_ref()
}

fn limit(window: Window, nano: u64) -> Limits {
    let mut limits = Limits::default();
    limits.0[window.index()] = Some(usd(nano));
    limits
}

fn ask(view: &Arc<KeyView>, least: u64, most: u64) -> Reserve {
    Reserve {
        hold: HoldId::random().unwrap(),
        view: view.clone(),
        session: None,
        least: usd(least),
        most: usd(most),
        ttl_ms: 60_000,
        note: "openai/gpt-4o".into(),
    }
}

fn in_session(mut ask: Reserve, budget: Option<u64>, steps: Option<u64>) -> Reserve {
    ask.session = Some(SessionAsk { id: "run-1".into(), budget: budget.map(usd), steps });
    ask
}

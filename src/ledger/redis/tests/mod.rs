//! Every row of the specification's tables against a real server. Each test starts a server of its own.

mod cluster;
mod directory;
mod faults;
mod holds;
mod lost;
mod rebuild;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use self::server::Server;
use super::{RedisLedger, RedisOptions};
use crate::clock::{Clock, Millis, Window};
use crate::ledger::{
    HoldId, KeyRecord, KeyView, Limits, NodeId, NodeStatus, Policy, Refusal, Reserve, SessionAsk, State, TeamRecord,
    Verdict,
};
use crate::money::Money;
use crate::secret::{KeyHash, new_key};

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// A server, a ledger on it, and the offset of its clock.
struct Bench {
    server: Server,
    ledger: RedisLedger,
    offset: Arc<AtomicI64>,
}

impl Bench {
    /// With more patience than a gateway has: tests share their machine.
    async fn new() -> Bench {
        Self::with_timeout(Duration::from_secs(5)).await
    }

    async fn with_timeout(timeout: Duration) -> Bench {
        let server = Server::start(&[]);
        let options = RedisOptions { timeout, ..RedisOptions::new(server.url()) };
        let offset = Arc::clone(&options.time_offset_ms);
        let ledger = RedisLedger::connect(options).await.unwrap();
        // Away from the end of a minute, so that no window rolls by itself in a test: 2 s are left at the least.
        let left = MINUTE - Clock::System.now().rem_euclid(MINUTE);
        offset.store(if left < 20_000 { left } else { 0 }, Ordering::SeqCst);
        Bench { server, ledger, offset }
    }

    fn pass(&self, ms: i64) {
        self.offset.fetch_add(ms, Ordering::SeqCst);
    }

    async fn team(&self, name: &str, parent: Option<&NodeId>, limits: Limits) -> NodeId {
        let record = team_record(name, parent, limits);
        self.ledger.create_team(&record).await.unwrap();
        record.id
    }

    async fn key(&self, name: &str, team: Option<&NodeId>, limits: Limits) -> Arc<KeyView> {
        let (record, hash) = key_record(name, team, limits);
        self.ledger.create_key(&record).await.unwrap();
        self.view(&hash).await
    }

    async fn view(&self, hash: &KeyHash) -> Arc<KeyView> {
        Arc::new(self.ledger.key_by_hash(hash).await.unwrap().unwrap())
    }

    /// Spent, held of the daily window.
    async fn day(&self, id: &NodeId) -> (u64, u64) {
        let status = self.ledger.status(id).await.unwrap();
        books(&status, Window::Daily)
    }

    async fn reserve(&self, ask: &Reserve) -> Verdict {
        self.ledger.reserve(ask).await.unwrap()
    }
}

fn books(status: &NodeStatus, window: Window) -> (u64, u64) {
    let window = status.windows[window.index()];
    (window.spent.nano(), window.held.nano())
}

fn usd(nano: u64) -> Money {
    Money::from_nano(nano)
}

fn limit(window: Window, nano: u64) -> Limits {
    let mut limits = Limits::default();
    limits.0[window.index()] = Some(usd(nano));
    limits
}

/// A time before now that grows from record to record.
fn created() -> Millis {
    static NEXT: AtomicU64 = AtomicU64::new(1_700_000_000_000);
    i64::try_from(NEXT.fetch_add(1, Ordering::SeqCst)).unwrap()
}

fn random_id(prefix: &str) -> NodeId {
    NodeId(format!("{prefix}_{}", crate::secret::random_hex::<8>().unwrap()).into())
}

fn key_record(name: &str, team: Option<&NodeId>, limits: Limits) -> (KeyRecord, KeyHash) {
    let hash = KeyHash::of(new_key().unwrap().expose()).unwrap();
    let record = KeyRecord {
        id: random_id("k"),
        name: name.into(),
        hash: hash.hex(),
        team: team.cloned(),
        created_at: created(),
        expires_at: None,
        state: State::Active,
        limits,
        policy: Policy { models: vec!["openai/*".into()], ..Policy::default() },
    };
    (record, hash)
}

fn team_record(name: &str, parent: Option<&NodeId>, limits: Limits) -> TeamRecord {
    TeamRecord {
        id: random_id("t"),
        name: name.into(),
        parent: parent.cloned(),
        created_at: created(),
        state: State::Active,
        limits,
    }
}

fn ask(view: &Arc<KeyView>, least: u64, most: u64) -> Reserve {
    Reserve {
        hold: HoldId::random().unwrap(),
        view: Arc::clone(view),
        session: None,
        least: usd(least),
        most: usd(most),
        ttl_ms: 600_000,
        note: "openai/gpt-4o".into(),
    }
}

fn in_session(mut ask: Reserve, id: &str, budget: Option<u64>, steps: Option<u64>) -> Reserve {
    ask.session = Some(SessionAsk { id: id.into(), budget: budget.map(usd), steps });
    ask
}

fn granted(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Held(held) => held.granted.nano(),
        other => panic!("not held: {other:?}"),
    }
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

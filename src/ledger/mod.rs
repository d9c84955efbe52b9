//! Budgets, holds and settlements: the operations, and the words in which every engine answers.
//!
//! `docs/LEDGER.md` is the specification that the engines implement, each in its own way: [`redis`] in Lua, [`embedded`]
//! in Rust over SQLite or memory. One behaviour suite and one independent model judge both.

pub mod embedded;
pub mod names;
pub mod redis;
pub mod rules;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Millis, WINDOWS, Window};
use crate::money::Money;
use crate::secret::KeyHash;

/// The id of a key (`k_…`) or a team (`t_…`): one node of a budget tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Arc<str>);

impl NodeId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for a team's id.
    pub fn is_team(&self) -> bool {
        self.0.starts_with("t_")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for NodeId {
    fn from(text: &str) -> Self {
        NodeId(text.into())
    }
}

/// The id of a hold: 32 hexadecimal characters, chosen at random by the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldId(pub Arc<str>);

impl HoldId {
    /// A new random id.
    pub fn random() -> Result<Self, LedgerError> {
        let hex = crate::secret::random_hex::<16>().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        Ok(HoldId(hex.into()))
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a key, team or session may spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may.
    #[default]
    Active,
    /// Stopped by an operator; `resume` lifts it.
    Paused,
    /// Stopped by the kill switch; `resume` lifts it.
    Killed,
    /// Stopped for ever.
    Revoked,
}

impl State {
    /// The name in listings and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Paused => "paused",
            State::Killed => "killed",
            State::Revoked => "revoked",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<State> {
        [State::Active, State::Paused, State::Killed, State::Revoked].into_iter().find(|state| state.name() == name)
    }
}

/// A limit for each window, `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limits(pub [Option<Money>; WINDOWS]);

impl Limits {
    /// The limit of one window.
    pub fn of(&self, window: Window) -> Option<Money> {
        self.0[window.index()]
    }

    /// True when no window has a limit.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// What to do when a call's worst case does not fit the money left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Lower the call's output limit to what the money certainly pays for.
    #[default]
    Clamp,
    /// Refuse the call.
    Refuse,
    /// Let it start and cut the stream when the money is used up.
    Cut,
}

/// Where the real provider key of a call may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKeySource {
    /// The request if it carries one, else the gateway's config.
    #[default]
    Any,
    /// Only the gateway's config.
    Config,
    /// Only the request.
    Request,
}

/// What a key may do, apart from its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Providers that it may call; empty means all.
    pub providers: Vec<String>,
    /// Models that it may call, as `model` or `provider/model`, with an optional `*` at the end; empty means all.
    pub models: Vec<String>,
    /// Networks that it may call from, as `address` or `address/bits`; empty means all.
    pub allow_ips: Vec<String>,
    /// What happens when the worst case does not fit.
    pub overflow: Overflow,
    /// Where the provider's key may come from.
    pub provider_key: ProviderKeySource,
    /// The most that one session may spend.
    pub session_budget: Option<Money>,
    /// The most calls that one session may make.
    pub session_steps: Option<u64>,
    /// The operator said that this key may go without any limit.
    pub unlimited: bool,
}

/// A proxy key's record. Everything in it but counters; it changes only under a new `revision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `k_` and 16 hexadecimal characters.
    pub id: NodeId,
    /// A name that no other key has.
    pub name: String,
    /// SHA-256 of the key in hexadecimal.
    pub hash: String,
    /// The team that it belongs to. Fixed for its life, like the team's own parents: they name its tree.
    pub team: Option<NodeId>,
    /// When it was made.
    pub created_at: Millis,
    /// When it stops to work.
    pub expires_at: Option<Millis>,
    /// Whether it may spend.
    pub state: State,
    /// Its own limits.
    pub limits: Limits,
    /// What it may do.
    pub policy: Policy,
}

/// A team's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamRecord {
    /// `t_` and 16 hexadecimal characters.
    pub id: NodeId,
    /// A name that no other team has.
    pub name: String,
    /// The team above it.
    pub parent: Option<NodeId>,
    /// When it was made.
    pub created_at: Millis,
    /// Whether it may spend.
    pub state: State,
    /// Its limits.
    pub limits: Limits,
}

/// What a gateway remembers of a key. Only a hint: every reserve checks `revision` against the ledger in its atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The hash by which it was found.
    pub hash: KeyHash,
    /// The key, its team, that team's parents: all nodes that every hold is taken from. The last one names the tree.
    pub chain: Vec<NodeId>,
    /// Counts the changes of the key's record.
    pub revision: u64,
    /// The record.
    pub key: KeyRecord,
}

impl KeyView {
    /// The tree that the key belongs to: the id of its last ancestor.
    pub fn tree(&self) -> &NodeId {
        self.chain.last().unwrap_or(&self.key.id)
    }
}

/// The session part of a reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAsk {
    /// 1–128 of `A-Za-z0-9._:-`.
    pub id: Arc<str>,
    /// The most that the session may spend. The least ever asked for stays: a client can only tighten.
    pub budget: Option<Money>,
    /// The most calls that it may make. The least ever asked for stays.
    pub steps: Option<u64>,
}

/// A request to hold money for one call.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// A fresh id. Reserving the same id twice is one hold.
    pub hold: HoldId,
    /// The key, as the gateway knows it.
    pub view: Arc<KeyView>,
    /// The session, if the call belongs to one.
    pub session: Option<SessionAsk>,
    /// The least that makes sense: when this does not fit, nothing is held.
    pub least: Money,
    /// The most that the call can cost: held when it fits, else whatever fits and is not below `least`.
    pub most: Money,
    /// After so many milliseconds the hold is charged in full.
    pub ttl_ms: u64,
    /// `provider/model`, for listings.
    pub note: String,
}

impl Reserve {
    /// What a settlement needs to find the hold again.
    pub fn hold_ref(&self) -> HoldRef {
        HoldRef {
            hold: self.hold.clone(),
            chain: self.view.chain.clone(),
            session: self.session.as_ref().map(|session| session.id.clone()),
        }
    }
}

/// Where a hold was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRef {
    /// The hold.
    pub hold: HoldId,
    /// Key, team, parents.
    pub chain: Vec<NodeId>,
    /// The session, if there is one.
    pub session: Option<Arc<str>>,
}

/// The level of a budget: session < key < team < parent team ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// One agent run of a key.
    Session,
    /// A key.
    Key,
    /// A team, of any height.
    Team,
}

impl Level {
    /// The name in headers and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Session => "session",
            Level::Key => "key",
            Level::Team => "team",
        }
    }
}

/// The least money left over all limits, after a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The money.
    pub amount: Money,
    /// Whose limit it is.
    pub level: Level,
    /// Which of its windows; `None` for a session, which has none.
    pub window: Option<Window>,
}

/// A hold that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The money held: at least `least`, at most `most`.
    pub granted: Money,
    /// The tightest limit after the hold; `None` when nothing is limited.
    pub remaining: Option<Remaining>,
    /// The ledger's time.
    pub now: Millis,
}

/// Why a reserve took nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A window's limit has no room for `least`.
    Budget(BudgetRefusal),
    /// The session's budget has no room for `least`.
    SessionBudget {
        /// Its limit.
        limit: Money,
        /// Spent so far.
        spent: Money,
        /// Held by calls that run.
        held: Money,
    },
    /// The session made all its calls.
    SessionSteps {
        /// The most calls.
        limit: u64,
        /// Calls made.
        used: u64,
    },
    /// A node or the session is not active.
    Stopped {
        /// Whose state it is.
        level: Level,
        /// The node's id, or the session's.
        id: String,
        /// The state; never `Active`.
        state: State,
    },
    /// The key expired at that time.
    Expired(Millis),
}

/// The first limit that had no room, in the order session, key, team, parent … and minute to month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRefusal {
    /// Whose limit it is.
    pub level: Level,
    /// The node.
    pub id: NodeId,
    /// The window.
    pub window: Window,
    /// The limit.
    pub limit: Money,
    /// Spent in the window.
    pub spent: Money,
    /// Held in the window.
    pub held: Money,
    /// When the window ends.
    pub resets_at: Millis,
}

/// The answer to a reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Money is held.
    Held(Held),
    /// Nothing was taken, and the call must not go out.
    Refused(Refusal),
    /// Nothing was taken: the gateway's view of the key is out of date. Look it up again.
    Stale,
    /// Nothing was taken: this hold id was settled before it was reserved. Use a new id.
    Spent,
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charge {
    /// The call cost exactly this.
    Exact(Money),
    /// The truth cannot be known: charge all that is held.
    Full,
}

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It ended the hold: so much was charged, of so much held.
    Applied {
        /// Charged by this settlement.
        charged: Money,
        /// What had been held.
        held: Money,
    },
    /// The hold had expired and been charged in full; now the true cost stands.
    Corrected {
        /// The true cost, charged now.
        charged: Money,
        /// What had been charged before.
        before: Money,
    },
    /// The hold had been settled before; nothing changed.
    Already {
        /// What was charged then.
        charged: Money,
    },
    /// There is no such hold; a reserve with this id that is still on its way will take nothing.
    Unknown,
}

/// What a sweep of expired holds did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Holds charged in full.
    pub expired: u64,
    /// Money charged.
    pub charged: Money,
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldState {
    /// Its call runs.
    Open,
    /// It expired and was charged in full; a true cost may still correct it.
    Expired,
    /// It was settled.
    Settled,
}

/// A hold, for listings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldInfo {
    /// Where it was taken from.
    #[serde(flatten)]
    pub at: HoldRef,
    /// Where it stands.
    pub state: HoldState,
    /// The money held.
    pub amount: Money,
    /// The money charged; equal to `amount` when expired.
    pub charged: Money,
    /// When it is, or was, charged in full.
    pub expires_at: Millis,
    /// `provider/model`.
    pub note: String,
}

/// One window of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowStatus {
    /// Which window.
    pub window: Window,
    /// Its limit.
    pub limit: Option<Money>,
    /// Spent since `started_at`.
    pub spent: Money,
    /// Held by calls that run.
    pub held: Money,
    /// When the window started.
    pub started_at: Millis,
    /// When it ends.
    pub resets_at: Millis,
}

/// A node's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub id: NodeId,
    /// Its level: key or team.
    pub level: Level,
    /// Its name.
    pub name: String,
    /// Whether it may spend.
    pub state: State,
    /// The five windows.
    pub windows: [WindowStatus; WINDOWS],
    /// Everything ever charged to it.
    pub charged_total: Money,
    /// Everything charged beyond what was held: must stay nothing.
    pub overrun_total: Money,
}

/// A session's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Its id.
    pub id: Arc<str>,
    /// Whether it may spend.
    pub state: State,
    /// The tightest budget ever asked for.
    pub limit: Option<Money>,
    /// The fewest steps ever asked for.
    pub steps_limit: Option<u64>,
    /// Spent.
    pub spent: Money,
    /// Held.
    pub held: Money,
    /// Calls made.
    pub steps: u64,
}

/// What a key or team record is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A key.
    Key(KeyRecord),
    /// A team.
    Team(TeamRecord),
}

impl Node {
    /// Its id.
    pub fn id(&self) -> &NodeId {
        match self {
            Node::Key(key) => &key.id,
            Node::Team(team) => &team.id,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Node::Key(key) => &key.name,
            Node::Team(team) => &team.name,
        }
    }
}

/// A change of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets (`Some`) or lifts (`None`) the limits of the windows named.
    Limits(Vec<(Window, Option<Money>)>),
    /// Sets the state. A revoked key stays revoked.
    State(State),
    /// Gives a key a new hash; the old one is unknown from then on.
    Rotate(KeyHash),
}

/// Why a running call must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may go on.
    Good,
    /// A node or its session is no longer active.
    Stopped(State),
    /// A limit was lowered below what is spent.
    OverLimit,
}

/// Why the ledger did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It did not answer, or answered something that cannot be trusted. The operation may or may not have happened.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
    /// There is no such key, team, session or hold.
    #[error("{0}")]
    NotFound(String),
    /// The change contradicts what is there.
    #[error("{0}")]
    Conflict(String),
}

/// A ledger: one of two engines. Everything that touches money is one atomic step of the engine.
#[derive(Clone, Debug)]
pub enum Ledger {
    /// Redis ≥ 7 or Valkey, standalone or Cluster.
    Redis(redis::RedisLedger),
    /// A file or memory in this process.
    Embedded(embedded::EmbeddedLedger),
}

/// Passes one operation to the engine behind.
macro_rules! each {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Ledger::Redis($engine) => $call,
            Ledger::Embedded($engine) => $call,
        }
    };
}

impl Ledger {
    /// Authenticates the key and takes a hold from every window of every level, or takes nothing: one atomic step.
    pub async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        each!(self, engine => engine.reserve(ask).await)
    }

    /// Ends a hold. Idempotent: only the first settlement counts, except that a true cost corrects an expired hold once.
    pub async fn settle(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        each!(self, engine => engine.settle(at, charge).await)
    }

    /// Charges up to `most` expired holds in full.
    pub async fn sweep(&self, most: usize) -> Result<Sweep, LedgerError> {
        each!(self, engine => engine.sweep(most).await)
    }

    /// Whether running calls may go on, in the order asked.
    pub async fn standing(&self, holds: &[HoldRef]) -> Result<Vec<Standing>, LedgerError> {
        each!(self, engine => engine.standing(holds).await)
    }

    /// Finds a key by its hash. `None` when there is none.
    pub async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        each!(self, engine => engine.key_by_hash(hash).await)
    }

    /// Adds a key. Its name and hash must be new, its team must exist.
    pub async fn create_key(&self, record: &KeyRecord) -> Result<(), LedgerError> {
        each!(self, engine => engine.create_key(record).await)
    }

    /// Adds a team. Its name must be new, its parent must exist.
    pub async fn create_team(&self, record: &TeamRecord) -> Result<(), LedgerError> {
        each!(self, engine => engine.create_team(record).await)
    }

    /// All keys and teams, oldest first.
    pub async fn nodes(&self) -> Result<Vec<Node>, LedgerError> {
        each!(self, engine => engine.nodes().await)
    }

    /// One key or team by id.
    pub async fn node(&self, id: &NodeId) -> Result<Option<Node>, LedgerError> {
        each!(self, engine => engine.node(id).await)
    }

    /// Changes a record; running calls and the next reserve see it.
    pub async fn edit(&self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        each!(self, engine => engine.edit(id, edit).await)
    }

    /// The books of a key or team.
    pub async fn status(&self, id: &NodeId) -> Result<NodeStatus, LedgerError> {
        each!(self, engine => engine.status(id).await)
    }

    /// The books of a session of a key. `None` when it made no call yet.
    pub async fn session(&self, key: &NodeId, session: &str) -> Result<Option<SessionStatus>, LedgerError> {
        each!(self, engine => engine.session(key, session).await)
    }

    /// Sets the state of a session of a key, also before its first call.
    pub async fn set_session_state(&self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        each!(self, engine => engine.set_session_state(key, session, state).await)
    }

    /// Open and expired holds, at most `most`.
    pub async fn holds(&self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        each!(self, engine => engine.holds(most).await)
    }

    /// A real hold and release on a budget of its own: succeeds only when the ledger can take money right now.
    pub async fn probe(&self) -> Result<(), LedgerError> {
        each!(self, engine => engine.probe().await)
    }
}

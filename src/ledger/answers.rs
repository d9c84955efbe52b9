//! What is asked of a ledger, and the words in which it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{HoldId, KeyView, NodeId, SessionAsk, State};
use crate::clock::{Millis, WINDOWS, Window};
use crate::money::Money;

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
    /// The ledger's time when it was taken.
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

/// Why a running call must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may go on.
    Good,
    /// A node or its session is no longer active.
    Stopped(State),
    /// A limit was lowered below what is spent.
    OverLimit,
    /// The part of the ledger that knows could not be asked.
    Unknown,
}

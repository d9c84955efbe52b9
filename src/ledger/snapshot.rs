//! Whole books, apart from any engine: what a rebuild writes.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::rules::{Counters, SessionBook};
use super::{HoldId, HoldInfo, Node, NodeId};
use crate::clock::{Millis, WINDOWS};
use crate::money::Money;

/// A key or team with its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBooks {
    /// Itself, its team, that team's parents.
    pub chain: Vec<NodeId>,
    /// The record and how often it was changed; `None` when only the ledger may know it.
    pub record: Option<(Node, u64)>,
    /// Its five windows and totals.
    pub counters: Counters,
}

/// A session with its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBooks {
    /// The key and the nodes above it.
    pub chain: Vec<NodeId>,
    /// The session's id.
    pub id: Arc<str>,
    /// Its books.
    pub book: SessionBook,
}

/// An open or expired hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldBooks {
    /// What a listing shows of it.
    pub info: HoldInfo,
    /// When its session began; 0 without one.
    pub born: Millis,
    /// Where the five windows started when it was taken, the same for every node.
    pub starts: [Millis; WINDOWS],
}

/// A hold that was settled a short while ago: a late repetition must find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledBooks {
    /// The hold.
    pub id: HoldId,
    /// The root of its tree.
    pub root: NodeId,
    /// What it held.
    pub amount: Money,
    /// What was charged.
    pub charged: Money,
    /// When it is forgotten.
    pub until: Millis,
}

/// Whole books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The time that they are true for.
    pub now: Millis,
    /// Keys and teams, each after those above it.
    pub nodes: Vec<NodeBooks>,
    /// Sessions.
    pub sessions: Vec<SessionBooks>,
    /// Open and expired holds.
    pub holds: Vec<HoldBooks>,
    /// Holds settled within the time that they are remembered.
    pub settled: Vec<SettledBooks>,
}

/// Every gateway is stopped, and nobody else may rebuild or accept the books, as long as this lives.
#[derive(Debug)]
pub struct Halted {
    /// How long what was on its way may still take to arrive; zero where nobody else can be at work.
    pub quiet_after: Duration,
    /// Whose rebuild it is; empty where there can be no other.
    pub(super) token: String,
    /// Says that it still runs.
    pub(super) renewal: Option<JoinHandle<()>>,
}

impl Drop for Halted {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

/// What the ledger says of its books as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BooksStatus {
    /// Their id; `None` when nobody has begun any.
    pub id: Option<String>,
    /// When an operator last accepted or rebuilt them, ms; 0 for never.
    pub generation: u64,
    /// Why they are blocked.
    pub lost: Option<String>,
    /// Since when, ms.
    pub lost_at: Option<Millis>,
    /// Why the servers must not be used as they are set.
    pub unfit: Option<String>,
}

//! The lines of a journal: one JSON object each. Amounts are whole nano-dollars, times milliseconds since 1970.
//!
//! No line holds a secret: of a proxy key there is the hash that the ledger has too.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ledger::{Charge, HoldId, KeyRecord, NodeId, State, TeamRecord};
use crate::money::Money;

/// The version of these lines. Versions before 3 had no [`Line::Due`], and no place in [`Line::Settling`]. Version 1 had not even that, and a
/// [`Line::Settle`] for each settlement.
pub const VERSION: u32 = 3;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first line of every file: whose it is, and its place among the writer's files.
    File {
        /// See [`VERSION`].
        version: u32,
        /// The gateway, or `operator`.
        writer: String,
        /// From 1, without gaps.
        number: u64,
        /// When it was begun.
        at: Millis,
    },
    /// A hold was taken; written before its call goes out.
    Hold(HoldLine),
    /// The gateway is about to settle the hold of a call that has ended; written before the ledger is told, since its answer may get lost. It
    /// applies unless a [`Line::Settle`] says otherwise.
    Settling {
        /// The hold.
        hold: HoldId,
        /// Where it was taken from, as [`HoldLine::chain`]: it may have no line of its own.
        #[serde(default)]
        chain: Vec<NodeId>,
        /// Its session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Arc<str>>,
        /// How it ends.
        charge: Charge,
        /// When, by the writer's clock.
        at: Millis,
    },
    /// What the ledger said of a settlement, where [`Line::Settling`] does not say it all, or an operator made it.
    Settle {
        /// The hold.
        hold: HoldId,
        /// What the settlement did.
        how: How,
        /// What the hold is charged, all in all.
        charged: Money,
        /// When, by the writer's clock.
        at: Millis,
    },
    /// A hold is due, and about to be charged in full by whoever found it. Its [`Line::Hold`] tells more, if there is one: not where a
    /// gateway died before it was written.
    Due(HoldLine),
    /// A key is like this.
    Key {
        /// Counts the changes of the record.
        revision: u64,
        /// The record.
        key: KeyRecord,
    },
    /// A team is like this.
    Team {
        /// Counts the changes of the record.
        revision: u64,
        /// The record.
        team: TeamRecord,
    },
    /// A session was given a state.
    Session {
        /// Its key.
        key: NodeId,
        /// The session.
        session: Arc<str>,
        /// The state.
        state: State,
        /// When, by the writer's clock.
        at: Millis,
    },
}

/// See [`Line::Hold`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLine {
    /// The hold.
    pub hold: HoldId,
    /// The key, its team, that team's parents.
    pub chain: Vec<NodeId>,
    /// The session, and the limits that the call asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionLine>,
    /// What is held.
    pub amount: Money,
    /// The ledger's time. In [`Line::Due`] the start of its minute, by the windows that it was taken from, or that of its session if that is later.
    pub now: Millis,
    /// When it is charged in full.
    pub expires_at: Millis,
    /// `provider/model`.
    pub note: String,
}

/// The session of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// Its id.
    pub id: Arc<str>,
    /// The most that it may spend, as asked by the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Money>,
    /// The most calls that it may make, as asked by the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
}

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Nothing: the hold had ended before, with this charge.
    Already,
    /// It ended the hold.
    Applied,
    /// The hold had been charged in full; now the true cost stands.
    Corrected,
}

//! What the books are made of, and where they are kept: the seam between the state machine and its two stores.
//!
//! Loading may fail; putting may not. So an operation loads all that it needs first, and once it has begun to change
//! something it cannot be left half done.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::clock::{Millis, WINDOWS};
use crate::ledger::rules::{Counters, SessionBook};
use crate::ledger::{HoldBooks, HoldId, HoldInfo, HoldRef, HoldState, LedgerError, Level, Limits, Node, NodeId, State};
use crate::money::Money;

/// The id of the node of `probe`: neither a key's nor a team's, so no request and no listing ever meets it.
pub const PROBE: &str = "probe";

/// A key or team as it is stored.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Where a file has it.
    pub seq: i64,
    /// Counts the changes of the record.
    pub revision: u64,
    /// The record.
    pub record: Arc<Node>,
    /// The books.
    pub counters: Counters,
}

impl NodeRow {
    /// The node's id.
    pub fn id(&self) -> &NodeId {
        self.record.id()
    }

    /// Whether it may spend.
    pub fn state(&self) -> State {
        match &*self.record {
            Node::Key(key) => key.state,
            Node::Team(team) => team.state,
        }
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        match &*self.record {
            Node::Key(key) => &key.limits,
            Node::Team(team) => &team.limits,
        }
    }

    /// The node above it.
    pub fn parent(&self) -> Option<&NodeId> {
        match &*self.record {
            Node::Key(key) => key.team.as_ref(),
            Node::Team(team) => team.parent.as_ref(),
        }
    }

    /// Its level.
    pub fn level(&self) -> Level {
        match &*self.record {
            Node::Key(_) => Level::Key,
            Node::Team(_) => Level::Team,
        }
    }
}

/// The name under which a hold is stored: its tree and its id, since trees share nothing, in a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldKey(pub [u8; 16]);

impl HoldKey {
    /// The key of a hold of a tree.
    pub fn of(tree: &NodeId, hold: &HoldId) -> HoldKey {
        let mut hash = Sha256::new();
        // The length first, so that no two pairs read the same.
        hash.update((tree.0.len() as u64).to_le_bytes());
        hash.update(tree.0.as_bytes());
        hash.update(hold.0.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        HoldKey(key)
    }
}

/// A hold as it is stored.
#[derive(Clone, Debug)]
pub enum Hold {
    /// Open or expired.
    Live(Arc<LiveHold>),
    /// Settled, or a tombstone: only what a repeated call must know.
    Settled {
        /// What was charged.
        charged: Money,
        /// When it is forgotten.
        until: Millis,
    },
}

/// An open or expired hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveHold {
    /// Where it was taken from.
    pub at: HoldRef,
    /// When its session began; 0 without one.
    pub session_born: Millis,
    /// The window starts of each node of the chain.
    pub starts: Vec<[Millis; WINDOWS]>,
    /// When an expired one is forgotten; `None` while it is open.
    pub expired_until: Option<Millis>,
    /// The money held.
    pub amount: Money,
    /// When it is, or was, charged in full.
    pub expires_at: Millis,
    /// `provider/model`.
    pub note: String,
}

impl LiveHold {
    /// The time by which it is found: its expiry while open, the end of its memory afterwards.
    pub fn due(&self) -> Millis {
        self.expired_until.unwrap_or(self.expires_at)
    }

    /// The hold in a listing.
    pub fn info(&self) -> HoldInfo {
        let (state, charged) = match self.expired_until {
            None => (HoldState::Open, Money::ZERO),
            Some(_) => (HoldState::Expired, self.amount),
        };
        HoldInfo {
            at: self.at.clone(),
            state,
            amount: self.amount,
            charged,
            expires_at: self.expires_at,
            note: self.note.clone(),
        }
    }

    /// The hold apart from this engine. All nodes of a chain were in the same windows when it was taken.
    pub fn books(&self) -> HoldBooks {
        let starts = self.starts.first().copied().unwrap_or_default();
        HoldBooks { info: self.info(), born: self.session_born, starts }
    }

    /// True for the hold of a probe, which is nobody's business.
    pub fn is_probe(&self) -> bool {
        self.at.chain.first().is_some_and(|key| key.as_str() == PROBE)
    }
}

/// A key's session: the key's id and the session's.
pub type SessionKey = (NodeId, Arc<str>);

/// Where the books are kept.
pub trait Store {
    /// A key or team.
    fn node(&mut self, id: &NodeId) -> Result<Option<NodeRow>, LedgerError>;
    /// Adds a node. Its id, name and hash were looked up before.
    fn add_node(&mut self, row: NodeRow) -> Result<(), LedgerError>;
    /// Replaces the record and the revision of a node, and nothing else of it.
    fn put_record(&mut self, row: NodeRow) -> Result<(), LedgerError>;
    /// Replaces the counters of a node that was loaded in this step.
    fn put_counters(&mut self, row: NodeRow);
    /// The key of that hash.
    fn id_of_hash(&mut self, hash: &str) -> Result<Option<NodeId>, LedgerError>;
    /// Whether a key (or a team) has that name.
    fn is_name_taken(&mut self, team: bool, name: &str) -> Result<bool, LedgerError>;
    /// All keys and teams, oldest first.
    fn all_nodes(&mut self) -> Result<Vec<Node>, LedgerError>;
    /// A session.
    fn session(&mut self, at: &SessionKey) -> Result<Option<SessionBook>, LedgerError>;
    /// Replaces a session that was loaded, or found missing, in this step.
    fn put_session(&mut self, at: &SessionKey, book: SessionBook);
    /// A hold.
    fn hold(&mut self, key: &HoldKey) -> Result<Option<Hold>, LedgerError>;
    /// Replaces a hold that was loaded, or found missing, in this step; `None` removes it.
    fn put_hold(&mut self, key: &HoldKey, hold: Option<Hold>);
    /// Open holds with `expires_at ≤ until`, the earliest first, after the one given.
    fn due(&mut self, until: Millis, after: Option<Due>, most: usize) -> Result<Vec<Due>, LedgerError>;
    /// Open and expired holds.
    fn listed(&mut self, most: usize) -> Result<Vec<HoldInfo>, LedgerError>;
    /// Notes the latest time that a tree has seen, where its root is known.
    fn saw(&mut self, tree: &NodeId, now: Millis);
    /// The latest time that any tree has seen, as far as this store knows.
    fn horizon(&self) -> Millis;
    /// Forgets a bounded number of holds and sessions whose time is over.
    fn forget(&mut self, now: Millis) -> Result<(), LedgerError>;
}

/// When an open hold expires, and which.
pub type Due = (Millis, HoldKey);

//! Books in memory: for tests and the demo. Nothing here can fail, and nothing survives the process.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::clock::Millis;
use crate::ledger::rules::{SESSION_KEPT_MS, SessionBook};
use crate::ledger::{HoldInfo, LedgerError, Node, NodeId};

use super::store::{Due, Hold, HoldKey, NodeRow, PROBE, SessionKey, Store};

const OPEN: usize = 0;
const EXPIRED: usize = 1;
const SETTLED: usize = 2;
/// Most records forgotten in one step.
const FORGET_STEP: usize = 4096;

/// Books in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    nodes: HashMap<NodeId, NodeRow>,
    /// In the order in which they were made.
    order: Vec<NodeId>,
    hashes: HashMap<String, NodeId>,
    /// Names of keys (false) and teams (true).
    names: HashSet<(bool, String)>,
    sessions: HashMap<SessionKey, SessionBook>,
    /// Sessions by a time at which one may be forgotten; checked against the session itself.
    session_ends: BTreeSet<(Millis, SessionKey)>,
    holds: HashMap<HoldKey, Hold>,
    /// Holds by the time at which something happens to them: open, expired and settled ones apart.
    waiting: [BTreeSet<Due>; 3],
    horizon: Millis,
}

impl MemoryStore {
    fn forget_sessions(&mut self, now: Millis) {
        for _ in 0..FORGET_STEP {
            let Some((end, at)) = self.session_ends.first().filter(|(end, _)| *end <= now).cloned() else { return };
            self.session_ends.remove(&(end, at.clone()));
            let Some(book) = self.sessions.get(&at) else { continue };
            if book.is_forgotten(now) {
                self.sessions.remove(&at);
            } else {
                // It was used since. One with a hold open is asked again only when that hold has ended.
                let next = book.used_at.saturating_add(SESSION_KEPT_MS).max(now.saturating_add(1));
                self.session_ends.insert((next, at));
            }
        }
    }
}

impl Store for MemoryStore {
    fn node(&mut self, id: &NodeId) -> Result<Option<NodeRow>, LedgerError> {
        Ok(self.nodes.get(id).cloned())
    }

    fn add_node(&mut self, row: NodeRow) -> Result<(), LedgerError> {
        self.order.push(row.id().clone());
        if row.id().as_str() != PROBE {
            self.names.insert((row.id().is_team(), row.record.name().to_string()));
        }
        if let Node::Key(key) = &*row.record {
            self.hashes.insert(key.hash.clone(), key.id.clone());
        }
        self.nodes.insert(row.id().clone(), row);
        Ok(())
    }

    fn put_record(&mut self, row: NodeRow) -> Result<(), LedgerError> {
        if let Some(old) = self.nodes.get_mut(row.id()) {
            if let Node::Key(key) = &*old.record {
                self.hashes.remove(&key.hash);
            }
            if let Node::Key(key) = &*row.record {
                self.hashes.insert(key.hash.clone(), key.id.clone());
            }
            (old.record, old.revision) = (row.record, row.revision);
        }
        Ok(())
    }

    fn put_counters(&mut self, row: NodeRow) {
        if let Some(old) = self.nodes.get_mut(row.id()) {
            old.counters = row.counters;
        }
    }

    fn id_of_hash(&mut self, hash: &str) -> Result<Option<NodeId>, LedgerError> {
        Ok(self.hashes.get(hash).cloned())
    }

    fn is_name_taken(&mut self, team: bool, name: &str) -> Result<bool, LedgerError> {
        Ok(self.names.contains(&(team, name.to_string())))
    }

    fn all_nodes(&mut self) -> Result<Vec<Node>, LedgerError> {
        let listed = self.order.iter().filter(|id| id.as_str() != PROBE).filter_map(|id| self.nodes.get(id));
        let mut nodes: Vec<Node> = listed.map(|row| (*row.record).clone()).collect();
        nodes.sort_by_key(|node| match node {
            Node::Key(key) => key.created_at,
            Node::Team(team) => team.created_at,
        });
        Ok(nodes)
    }

    fn session(&mut self, at: &SessionKey) -> Result<Option<SessionBook>, LedgerError> {
        Ok(self.sessions.get(at).cloned())
    }

    fn put_session(&mut self, at: &SessionKey, book: SessionBook) {
        let end = book.used_at.saturating_add(SESSION_KEPT_MS);
        if self.sessions.insert(at.clone(), book).is_none() {
            self.session_ends.insert((end, at.clone()));
        }
    }

    fn hold(&mut self, key: &HoldKey) -> Result<Option<Hold>, LedgerError> {
        Ok(self.holds.get(key).cloned())
    }

    fn put_hold(&mut self, key: &HoldKey, hold: Option<Hold>) {
        let new = hold.as_ref().map(place);
        let old = match hold {
            Some(hold) => self.holds.insert(*key, hold),
            None => self.holds.remove(key),
        };
        if let Some((set, due)) = old.as_ref().map(place) {
            self.waiting[set].remove(&(due, *key));
        }
        if let Some((set, due)) = new {
            self.waiting[set].insert((due, *key));
        }
    }

    fn due(&mut self, until: Millis, after: Option<Due>, most: usize) -> Result<Vec<Due>, LedgerError> {
        let from = after.map_or(Unbounded, Excluded);
        let waiting = self.waiting[OPEN].range((from, Unbounded)).take_while(|(due, _)| *due <= until);
        Ok(waiting.take(most).copied().collect())
    }

    fn listed(&mut self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        let keys = self.waiting[OPEN].iter().chain(&self.waiting[EXPIRED]).map(|(_, key)| key);
        let live = keys.filter_map(|key| match self.holds.get(key) {
            Some(Hold::Live(live)) if !live.is_probe() => Some(live.info()),
            _ => None,
        });
        Ok(live.take(most).collect())
    }

    fn saw(&mut self, tree: &NodeId, now: Millis) {
        if let Some(root) = self.nodes.get_mut(tree) {
            root.counters.clock = root.counters.clock.max(now);
            self.horizon = self.horizon.max(now);
        }
    }

    fn horizon(&self) -> Millis {
        self.horizon
    }

    fn forget(&mut self, now: Millis) -> Result<(), LedgerError> {
        for set in [EXPIRED, SETTLED] {
            for _ in 0..FORGET_STEP {
                let Some(&(due, key)) = self.waiting[set].first().filter(|(due, _)| *due <= now) else { break };
                self.waiting[set].remove(&(due, key));
                self.holds.remove(&key);
            }
        }
        self.forget_sessions(now);
        Ok(())
    }
}

/// The set in which a hold waits, and the time for which it waits.
fn place(hold: &Hold) -> (usize, Millis) {
    match hold {
        Hold::Live(live) => (if live.expired_until.is_none() { OPEN } else { EXPIRED }, live.due()),
        Hold::Settled { until, .. } => (SETTLED, *until),
    }
}

//! The operations of operators on the books: records, listings, states, and the probe.

use std::sync::Arc;

use crate::clock::{Millis, Window};
use crate::ledger::rules::{self, Counters, SessionBook};
use crate::ledger::{
    Charge, Edit, HoldId, HoldInfo, HoldRef, KeyRecord, KeyView, LedgerError, Limits, Node, NodeId, NodeStatus,
    Reserve, SessionStatus, Standing, State, TeamRecord, Verdict, WindowStatus,
};
use crate::money::Money;
use crate::secret::KeyHash;

use super::books::{Books, session_key};
use super::store::{HoldKey, NodeRow, PROBE, Store};

/// What a probe holds for a moment.
const PROBE_AMOUNT: Money = Money::from_nano(1);
/// When the hold of a probe that died is charged.
const PROBE_TTL_MS: u64 = 60_000;

impl<S: Store> Books<S> {
    /// A key or team that operators know of.
    fn known(&mut self, id: &NodeId) -> Result<NodeRow, LedgerError> {
        let row = self.store.node(id)?.filter(|_| id.as_str() != PROBE);
        row.ok_or_else(|| LedgerError::NotFound(format!("there is no key or team {id}")))
    }

    /// The root of a node's tree, as far as the records say: what is under a team without one can be looked at and stopped all the same.
    fn tree_of(&mut self, id: &NodeId) -> Result<NodeId, LedgerError> {
        let (chain, missing) = self.known_chain(id)?;
        Ok(missing.or_else(|| chain.last().map(|root| root.id().clone())).unwrap_or_else(|| id.clone()))
    }

    /// See [`crate::ledger::Ledger::standing`].
    pub fn standing(&mut self, holds: &[HoldRef]) -> Result<Vec<Standing>, LedgerError> {
        holds.iter().map(|at| self.standing_of(at)).collect()
    }

    fn standing_of(&mut self, at: &HoldRef) -> Result<Standing, LedgerError> {
        let (Some(key), Some(tree)) = (at.chain.first(), at.chain.last()) else {
            return Ok(Standing::Stopped(State::Revoked));
        };
        let now = self.now(tree)?;
        let frame = self.time.frame(now)?;
        let mut over = false;
        let mut rows = Vec::with_capacity(at.chain.len());
        for id in &at.chain {
            // A call on a key that is not there has nothing to stand on.
            let Some(row) = self.store.node(id)? else { return Ok(Standing::Stopped(State::Revoked)) };
            over |= row.counters.rolled(&frame).over_limit(row.limits());
            rows.push(row.state());
        }
        if let Some(session) = &at.session
            && let Some(book) = self.session_book(&session_key(key, session), now)?
        {
            over |= book.over_limit();
            rows.push(book.state);
        }
        let stopped = rows.into_iter().find(|state| *state != State::Active).map(Standing::Stopped);
        Ok(stopped.unwrap_or(if over { Standing::OverLimit } else { Standing::Good }))
    }

    /// See [`crate::ledger::Ledger::key_by_hash`].
    pub fn key_by_hash(&mut self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        let Some(id) = self.store.id_of_hash(&hash.hex())?.filter(|id| id.as_str() != PROBE) else { return Ok(None) };
        self.view(&id, hash)
    }

    fn view(&mut self, id: &NodeId, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        let Some(chain) = self.chain(id)? else { return Ok(None) };
        Ok(chain.first().and_then(|row| match &*row.record {
            Node::Key(key) => Some(KeyView {
                hash: *hash,
                chain: chain.iter().map(|row| row.id().clone()).collect(),
                revision: row.revision,
                generation: 0,
                key: key.clone(),
            }),
            Node::Team(_) => None,
        }))
    }

    /// See [`crate::ledger::Ledger::create_key`].
    pub fn create_key(&mut self, record: &KeyRecord) -> Result<(), LedgerError> {
        if !record.id.as_str().starts_with("k_") {
            return Err(LedgerError::Conflict(format!("{} is not the id of a key", record.id)));
        }
        if KeyHash::from_hex(&record.hash).is_none_or(|hash| hash.hex() != record.hash) {
            return Err(LedgerError::Conflict(format!("the hash of key {} is not one", record.id)));
        }
        if self.store.id_of_hash(&record.hash)?.is_some() {
            return Err(LedgerError::Conflict(format!("another key has the hash of {}", record.name)));
        }
        self.create(Node::Key(record.clone()), record.team.as_ref())
    }

    /// See [`crate::ledger::Ledger::create_team`].
    pub fn create_team(&mut self, record: &TeamRecord) -> Result<(), LedgerError> {
        if !record.id.is_team() {
            return Err(LedgerError::Conflict(format!("{} is not the id of a team", record.id)));
        }
        self.create(Node::Team(record.clone()), record.parent.as_ref())
    }

    fn create(&mut self, mut node: Node, parent: Option<&NodeId>) -> Result<(), LedgerError> {
        let id = node.id().clone();
        limits_of(&mut node).0.into_iter().try_for_each(check_limit)?;
        if let Some(parent) = parent {
            let found = self.store.node(parent)?.filter(|row| row.id().is_team());
            found.ok_or_else(|| LedgerError::NotFound(format!("there is no team {parent}")))?;
        }
        if self.store.node(&id)?.is_some() {
            return Err(LedgerError::Conflict(format!("{id} exists already")));
        }
        if self.store.is_name_taken(id.is_team(), node.name())? {
            let kind = if id.is_team() { "team" } else { "key" };
            return Err(LedgerError::Conflict(format!("a {kind} with the name {} exists already", node.name())));
        }
        let tree = parent.map_or_else(|| Ok(id.clone()), |parent| self.tree_of(parent))?;
        let now = self.advance(&tree)?;
        let mut counters = Counters::starting(&self.time.frame(now)?);
        // Only a root keeps its tree's clock.
        counters.clock = if parent.is_none() { now } else { 0 };
        self.store.add_node(NodeRow { seq: 0, revision: 1, record: Arc::new(node), counters })
    }

    /// See [`crate::ledger::Ledger::nodes`].
    pub fn nodes(&mut self) -> Result<Vec<Node>, LedgerError> {
        self.store.all_nodes()
    }

    /// See [`crate::ledger::Ledger::node`].
    pub fn node(&mut self, id: &NodeId) -> Result<Option<Node>, LedgerError> {
        let row = self.store.node(id)?.filter(|_| id.as_str() != PROBE);
        Ok(row.map(|row| (*row.record).clone()))
    }

    /// See [`crate::ledger::Ledger::edit`].
    pub fn edit(&mut self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        let mut row = self.known(id)?;
        let mut record = (*row.record).clone();
        match edit {
            Edit::Limits(changes) => {
                let limits = limits_of(&mut record);
                for (window, limit) in changes {
                    check_limit(*limit)?;
                    limits.0[window.index()] = *limit;
                }
            }
            Edit::State(state) => set_state(state_of(&mut record), *state, id.as_str())?,
            Edit::Rotate(hash) => {
                let Node::Key(key) = &mut record else {
                    return Err(LedgerError::Conflict(format!("{id} is a team: it has no key to rotate")));
                };
                if self.store.id_of_hash(&hash.hex())?.is_some() {
                    return Err(LedgerError::Conflict(format!("a key has the new hash of {id} already")));
                }
                key.hash = hash.hex();
            }
        }
        let tree = self.tree_of(id)?;
        self.advance(&tree)?;
        row.record = Arc::new(record);
        row.revision = row.revision.saturating_add(1);
        self.store.put_record(row)
    }

    /// See [`crate::ledger::Ledger::status`].
    pub fn status(&mut self, id: &NodeId) -> Result<NodeStatus, LedgerError> {
        let row = self.known(id)?;
        let tree = self.tree_of(id)?;
        let now = self.now(&tree)?;
        let frame = self.time.frame(now)?;
        let counters = row.counters.rolled(&frame);
        let windows = Window::ALL.map(|window| {
            let book = counters.windows[window.index()];
            WindowStatus {
                window,
                limit: row.limits().of(window),
                spent: book.spent,
                held: book.held,
                started_at: book.start,
                resets_at: rules::resets_at(&frame, window, book.start),
            }
        });
        Ok(NodeStatus {
            id: id.clone(),
            level: row.level(),
            name: row.record.name().to_string(),
            state: row.state(),
            windows,
            charged_total: counters.charged_total,
            overrun_total: counters.overrun_total,
        })
    }

    /// See [`crate::ledger::Ledger::session`].
    pub fn session(&mut self, key: &NodeId, session: &str) -> Result<Option<SessionStatus>, LedgerError> {
        let tree = self.tree_of(key)?;
        let now = self.now(&tree)?;
        let at = session_key(key, session);
        Ok(self.session_book(&at, now)?.map(|book| SessionStatus {
            id: at.1,
            state: book.state,
            limit: book.budget,
            steps_limit: book.steps_limit,
            spent: book.spent,
            held: book.held,
            steps: book.steps,
        }))
    }

    /// See [`crate::ledger::Ledger::set_session_state`].
    pub fn set_session_state(&mut self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        let row = self.known(key)?;
        if row.id().is_team() {
            return Err(LedgerError::NotFound(format!("there is no key {key}")));
        }
        let tree = self.tree_of(key)?;
        let now = self.advance(&tree)?;
        let at = session_key(key, session);
        let mut book = self.session_book(&at, now)?.unwrap_or_else(|| SessionBook::new(now));
        set_state(&mut book.state, state, session)?;
        book.used_at = now;
        self.store.put_session(&at, book);
        Ok(())
    }

    /// See [`crate::ledger::Ledger::holds`].
    pub fn holds(&mut self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        self.store.listed(most)
    }

    /// The first half of [`crate::ledger::Ledger::probe`]: a real hold on a node of its own.
    pub fn probe_hold(&mut self, hold: HoldId) -> Result<HoldRef, LedgerError> {
        // No key has this hash: nothing hashes to it that anyone can find.
        let hash = KeyHash::from_hex(&"0".repeat(64)).ok_or_else(|| super::books::damaged("the probe"))?;
        let id = NodeId::from(PROBE);
        let view = match self.view(&id, &hash)? {
            Some(view) => view,
            None => {
                self.create(Node::Key(probe_record(&hash, self.time.clock())), None)?;
                self.view(&id, &hash)?.ok_or_else(|| super::books::damaged("the probe"))?
            }
        };
        let ask = Reserve {
            hold,
            view: Arc::new(view),
            session: None,
            least: PROBE_AMOUNT,
            most: PROBE_AMOUNT,
            ttl_ms: PROBE_TTL_MS,
            note: PROBE.into(),
        };
        match self.reserve(&ask)? {
            Verdict::Held(_) => Ok(ask.hold_ref()),
            other => Err(LedgerError::Unavailable(format!("a probe was not granted its hold: {other:?}"))),
        }
    }

    /// The second half: the release, which leaves nothing behind.
    pub fn probe_release(&mut self, at: &HoldRef) -> Result<(), LedgerError> {
        self.settle(at, Charge::Exact(Money::ZERO))?;
        self.store.put_hold(&HoldKey::of(&NodeId::from(PROBE), &at.hold), None);
        Ok(())
    }
}

fn probe_record(hash: &KeyHash, now: Millis) -> KeyRecord {
    KeyRecord {
        id: NodeId::from(PROBE),
        name: String::new(),
        hash: hash.hex(),
        team: None,
        created_at: now,
        expires_at: None,
        state: State::Active,
        limits: Limits::default(),
        policy: Default::default(),
    }
}

fn limits_of(record: &mut Node) -> &mut Limits {
    match record {
        Node::Key(key) => &mut key.limits,
        Node::Team(team) => &mut team.limits,
    }
}

/// No counter reaches a limit that is above where it stops.
fn check_limit(limit: Option<Money>) -> Result<(), LedgerError> {
    match limit {
        Some(limit) if limit > Money::COUNTER_MAX => {
            Err(LedgerError::Conflict(format!("a limit of {limit} USD is above what the ledger counts")))
        }
        _ => Ok(()),
    }
}

fn state_of(record: &mut Node) -> &mut State {
    match record {
        Node::Key(key) => &mut key.state,
        Node::Team(team) => &mut team.state,
    }
}

/// What is revoked is stopped for ever.
fn set_state(state: &mut State, to: State, id: &str) -> Result<(), LedgerError> {
    if *state == State::Revoked && to != State::Revoked {
        return Err(LedgerError::Conflict(format!("{id} is revoked, and stays so")));
    }
    *state = to;
    Ok(())
}

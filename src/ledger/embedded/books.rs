//! The state machine: what every operation does to the books, whatever keeps them.
//!
//! Deterministic: the clock and the records decide. Every operation loads what it needs, decides, and only then changes.

use std::sync::Arc;

use crate::clock::{Frame, Millis, WINDOWS};
use crate::ledger::rules::{self, SessionBook};
use crate::ledger::{
    BudgetRefusal, Charge, Held, HoldRef, LedgerError, Level, Node, NodeId, Refusal, Remaining, Reserve, Settled,
    State, Sweep, Verdict,
};
use crate::money::Money;

use super::store::{Due, Hold, HoldKey, LiveHold, NodeRow, SessionKey, Store};
use super::time::Time;

/// No tree is that high; a chain that is longer runs in circles.
const HIGHEST: usize = 64;
/// Holds that are due, looked up at once.
const SWEEP_PAGE: usize = 256;

/// The books, wherever they are kept.
#[derive(Debug)]
pub struct Books<S> {
    /// The records.
    pub(super) store: S,
    /// The time that decides.
    pub(super) time: Time,
}

/// Some of the holds that are due.
#[derive(Debug, Default)]
pub struct DuePage {
    /// The holds.
    pub holds: Vec<Arc<LiveHold>>,
    /// Where the next ones are, if there may be more.
    pub next: Option<Due>,
    /// The error of one that cannot be read.
    pub trouble: Option<LedgerError>,
}

/// A node that a hold was taken from, and where its windows started then.
type TakenFrom = (NodeRow, [Millis; WINDOWS]);
/// The session part of a step: where it is, and the books in it.
type SessionStep = Option<(SessionKey, SessionBook)>;

impl<S: Store> Books<S> {
    /// Books in a store.
    pub fn new(store: S, time: Time) -> Books<S> {
        Books { store, time }
    }

    /// A tree's time: the clock's, but never earlier than the tree has seen.
    pub(super) fn now(&mut self, tree: &NodeId) -> Result<Millis, LedgerError> {
        let seen = self.store.node(tree)?.map_or(Millis::MIN, |root| root.counters.clock);
        Ok(self.time.clock().max(seen))
    }

    /// A tree's time, which it has seen from now on.
    pub(super) fn advance(&mut self, tree: &NodeId) -> Result<Millis, LedgerError> {
        let now = self.now(tree)?;
        self.store.saw(tree, now);
        Ok(now)
    }

    /// A node with all nodes above it, as the records say.
    pub(super) fn chain(&mut self, id: &NodeId) -> Result<Option<Vec<NodeRow>>, LedgerError> {
        match self.known_chain(id)? {
            (chain, None) => Ok((!chain.is_empty()).then_some(chain)),
            (_, Some(parent)) => Err(damaged(&format!("{id} has no {parent} above it"))),
        }
    }

    /// A node with the nodes above it up to the first one without a record, and that one: a rebuild may not have known it. Nothing where
    /// there is no such node.
    pub(super) fn known_chain(&mut self, id: &NodeId) -> Result<(Vec<NodeRow>, Option<NodeId>), LedgerError> {
        let mut chain: Vec<NodeRow> = self.store.node(id)?.into_iter().collect();
        while let Some(parent) = chain.last().and_then(|row| row.parent()).cloned() {
            match self.store.node(&parent)?.filter(|_| chain.len() < HIGHEST) {
                Some(row) => chain.push(row),
                None => return Ok((chain, Some(parent))),
            }
        }
        Ok((chain, None))
    }

    /// A hold that is not forgotten yet.
    fn hold(&mut self, key: &HoldKey, now: Millis) -> Result<Option<Hold>, LedgerError> {
        Ok(self.store.hold(key)?.filter(|hold| match hold {
            Hold::Live(live) => live.expired_until.is_none_or(|until| until > now),
            Hold::Settled { until, .. } => *until > now,
        }))
    }

    /// A session that is not forgotten yet.
    pub(super) fn session_book(&mut self, at: &SessionKey, now: Millis) -> Result<Option<SessionBook>, LedgerError> {
        Ok(self.store.session(at)?.filter(|book| !book.is_forgotten(now)))
    }

    /// See [`crate::ledger::Ledger::reserve`].
    pub fn reserve(&mut self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        let tree = ask.view.tree().clone();
        let now = self.advance(&tree)?;
        let frame = self.time.frame(now)?;
        let key = HoldKey::of(&tree, &ask.hold);
        match self.hold(&key, now)? {
            Some(Hold::Live(live)) if live.expired_until.is_none() => return self.repeat(&live, ask, now, &frame),
            Some(_) => return Ok(Verdict::Spent),
            None => {}
        }
        let Some(mut chain) = self.chain_as_seen(ask)? else { return Ok(Verdict::Stale) };
        for row in &mut chain {
            row.counters = row.counters.rolled(&frame);
        }
        let mut session = match &ask.session {
            Some(asked) => {
                let at = (ask.view.key.id.clone(), asked.id.clone());
                let book = self.session_book(&at, now)?.unwrap_or_else(|| SessionBook::new(now));
                Some((at, book.tightened(asked)))
            }
            None => None,
        };
        let least = ask.least.min(ask.most);
        if let Some(refusal) = refusal(&chain, &session, least, now, &frame) {
            return Ok(Verdict::Refused(refusal));
        }
        let granted = room(&chain, &session).min(ask.most);
        for row in &mut chain {
            row.counters.take(granted);
        }
        if let Some((_, book)) = &mut session {
            book.take(granted, now);
        }
        let remaining = remaining(&chain, &session);
        let live = live_hold(ask, &chain, &session, granted, now);
        self.put(chain, session);
        self.store.put_hold(&key, Some(Hold::Live(Arc::new(live))));
        Ok(Verdict::Held(Held { granted, remaining, now }))
    }

    /// The answer to a reserve whose hold is open already, with the time at which it was taken: the windows that it counts in are those.
    fn repeat(&mut self, live: &LiveHold, ask: &Reserve, now: Millis, frame: &Frame) -> Result<Verdict, LedgerError> {
        let (taken, session) = self.taken_from(live, now)?;
        let mut chain: Vec<NodeRow> = taken.into_iter().map(|(row, _)| row).collect();
        for row in &mut chain {
            row.counters = row.counters.rolled(frame);
        }
        let taken_at = live.expires_at.saturating_sub(ttl_of(ask));
        Ok(Verdict::Held(Held { granted: live.amount, remaining: remaining(&chain, &session), now: taken_at }))
    }

    /// The chain of a reserve, unless the gateway's view of the key is out of date or a node above the key is gone.
    fn chain_as_seen(&mut self, ask: &Reserve) -> Result<Option<Vec<NodeRow>>, LedgerError> {
        let (chain, missing) = self.known_chain(&ask.view.key.id)?;
        let is_current = chain.first().is_some_and(|row| match &*row.record {
            Node::Key(key) => row.revision == ask.view.revision && key.hash == ask.view.hash.hex(),
            Node::Team(_) => false,
        });
        // Chains never change; a view with another one was not made from this ledger.
        let is_same =
            chain.len() == ask.view.chain.len() && chain.iter().zip(&ask.view.chain).all(|(row, id)| row.id() == id);
        Ok((is_current && is_same && missing.is_none()).then_some(chain))
    }

    /// The nodes and the session that a hold was taken from, each node with the starts of its windows then. A rebuild may not have known the
    /// record of one: it has no books, and those above it have the charge. A session that was forgotten and began anew since is another.
    fn taken_from(&mut self, live: &LiveHold, now: Millis) -> Result<(Vec<TakenFrom>, SessionStep), LedgerError> {
        let at = &live.at;
        let mut chain = Vec::with_capacity(at.chain.len());
        for (id, starts) in at.chain.iter().zip(&live.starts) {
            chain.extend(self.store.node(id)?.map(|row| (row, *starts)));
        }
        let session = match (&at.session, at.chain.first()) {
            (Some(session), Some(key)) => {
                let at = (key.clone(), session.clone());
                self.session_book(&at, now)?.filter(|book| book.born == live.session_born).map(|book| (at, book))
            }
            _ => None,
        };
        Ok((chain, session))
    }

    /// Puts back what a step has changed.
    fn put(&mut self, chain: impl IntoIterator<Item = NodeRow>, session: SessionStep) {
        for row in chain {
            self.store.put_counters(row);
        }
        if let Some((at, book)) = session {
            self.store.put_session(&at, book);
        }
    }

    /// See [`crate::ledger::Ledger::settle`].
    pub fn settle(&mut self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        let tree = at.chain.last().ok_or_else(|| LedgerError::NotFound(format!("hold {} names no key", at.hold)))?;
        let now = self.now(tree)?;
        let key = HoldKey::of(tree, &at.hold);
        let hold = self.hold(&key, now)?;
        if let Some(Hold::Live(live)) = &hold
            && live.at != *at
        {
            return Err(LedgerError::Conflict(format!("the hold {} was taken from another place", at.hold)));
        }
        self.store.saw(tree, now);
        match hold {
            None => {
                self.put_settled(&key, Money::ZERO, now);
                Ok(Settled::Unknown)
            }
            Some(Hold::Settled { charged, .. }) => Ok(Settled::Already { charged }),
            Some(Hold::Live(live)) if live.expired_until.is_some() => match charge {
                Charge::Full => Ok(Settled::Already { charged: live.amount }),
                Charge::Exact(cost) => self.correct(&key, &live, cost.min(Money::COUNTER_MAX), now),
            },
            Some(Hold::Live(live)) => {
                let charged = match charge {
                    Charge::Full => live.amount,
                    Charge::Exact(cost) => cost.min(Money::COUNTER_MAX),
                };
                self.charge(&live, charged, now)?;
                self.put_settled(&key, charged, now);
                Ok(Settled::Applied { charged, held: live.amount })
            }
        }
    }

    /// Ends an open hold: frees what it holds and charges the cost.
    fn charge(&mut self, live: &LiveHold, cost: Money, now: Millis) -> Result<(), LedgerError> {
        let (mut chain, mut session) = self.taken_from(live, now)?;
        for (row, starts) in &mut chain {
            row.counters.charge(starts, live.amount, cost);
        }
        if let Some((_, book)) = &mut session {
            book.charge(live.amount, cost, now);
        }
        self.put(chain.into_iter().map(|(row, _)| row), session);
        Ok(())
    }

    /// Puts the true cost in the place of the full charge of an expired hold.
    fn correct(&mut self, key: &HoldKey, live: &LiveHold, cost: Money, now: Millis) -> Result<Settled, LedgerError> {
        let (mut chain, mut session) = self.taken_from(live, now)?;
        for (row, starts) in &mut chain {
            row.counters.correct(starts, live.amount, cost);
        }
        if let Some((_, book)) = &mut session {
            book.correct(live.amount, cost, now);
        }
        self.put(chain.into_iter().map(|(row, _)| row), session);
        self.put_settled(key, cost, now);
        Ok(Settled::Corrected { charged: cost, before: live.amount })
    }

    fn put_settled(&mut self, key: &HoldKey, charged: Money, now: Millis) {
        let until = now.saturating_add(rules::SETTLED_KEPT_MS);
        self.store.put_hold(key, Some(Hold::Settled { charged, until }));
    }

    /// Open holds whose time is over, at most `most` and the earliest first, after the one given.
    pub fn due(&mut self, after: Option<Due>, most: usize) -> Result<DuePage, LedgerError> {
        // A tree may have seen a later time than the clock tells; which one is only known hold by hold.
        let until = self.time.clock().max(self.store.horizon());
        let size = most.min(SWEEP_PAGE);
        let page = self.store.due(until, after, size)?;
        let mut due = DuePage { next: page.last().copied().filter(|_| page.len() == size), ..DuePage::default() };
        for (_, key) in &page {
            match self.due_at(key) {
                Ok(found) => due.holds.extend(found.map(|(live, _)| live)),
                Err(error) => due.trouble = Some(error),
            }
        }
        Ok(due)
    }

    /// Charges those of these holds in full that are still open and due; and the error of one that cannot be charged.
    pub fn expire_all(&mut self, due: &[Arc<LiveHold>]) -> Result<(Sweep, Option<LedgerError>), LedgerError> {
        let mut done = Sweep::default();
        let mut trouble = None;
        for live in due {
            match self.expire(live) {
                Ok(Some(amount)) => {
                    done.expired += 1;
                    done.charged = rules::counted(done.charged, amount);
                }
                Ok(None) => {}
                // It must not keep the others open.
                Err(error) => trouble = Some(error),
            }
        }
        self.store.forget(self.time.clock())?;
        Ok((done, trouble))
    }

    /// The hold, if it is open and its tree's time is past its expiry; and that time.
    fn due_at(&mut self, key: &HoldKey) -> Result<Option<(Arc<LiveHold>, Millis)>, LedgerError> {
        let Some(Hold::Live(live)) = self.store.hold(key)?.filter(is_open) else { return Ok(None) };
        let Some(tree) = live.at.chain.last() else { return Ok(None) };
        let now = self.now(tree)?;
        Ok((live.expires_at <= now).then_some((live, now)))
    }

    /// Charges a hold in full if it is due.
    fn expire(&mut self, due: &LiveHold) -> Result<Option<Money>, LedgerError> {
        let Some(tree) = due.at.chain.last() else { return Ok(None) };
        let key = HoldKey::of(tree, &due.at.hold);
        let Some((live, now)) = self.due_at(&key)? else { return Ok(None) };
        self.store.saw(tree, now);
        self.charge(&live, live.amount, now)?;
        let expired_until = Some(now.saturating_add(rules::EXPIRED_KEPT_MS));
        let amount = live.amount;
        let expired = LiveHold { expired_until, ..(*live).clone() };
        self.store.put_hold(&key, Some(Hold::Live(Arc::new(expired))));
        Ok(Some(amount))
    }
}

fn is_open(hold: &Hold) -> bool {
    matches!(hold, Hold::Live(live) if live.expired_until.is_none())
}

/// The records contradict each other: nothing may be decided from them.
pub fn damaged(what: &str) -> LedgerError {
    LedgerError::Unavailable(format!("the books are damaged: {what}"))
}

fn ttl_of(ask: &Reserve) -> Millis {
    Millis::try_from(ask.ttl_ms).unwrap_or(Millis::MAX)
}

/// The hold of a reserve that was granted.
fn live_hold(ask: &Reserve, chain: &[NodeRow], session: &SessionStep, amount: Money, now: Millis) -> LiveHold {
    LiveHold {
        at: ask.hold_ref(),
        session_born: session.as_ref().map_or(0, |(_, book)| book.born),
        starts: chain.iter().map(|row| row.counters.starts()).collect(),
        expired_until: None,
        amount,
        expires_at: now.saturating_add(ttl_of(ask)),
        note: ask.note.clone(),
    }
}

/// The first check, in the order of the specification, that `least` does not pass.
fn refusal(chain: &[NodeRow], session: &SessionStep, least: Money, now: Millis, frame: &Frame) -> Option<Refusal> {
    let stopped = chain.iter().find(|row| row.state() != State::Active);
    if let Some(row) = stopped {
        return Some(Refusal::Stopped { level: row.level(), id: row.id().to_string(), state: row.state() });
    }
    if let Some((at, book)) = session.as_ref().filter(|(_, book)| book.state != State::Active) {
        return Some(Refusal::Stopped { level: Level::Session, id: at.1.to_string(), state: book.state });
    }
    let expires_at = chain.first().and_then(|row| match &*row.record {
        Node::Key(key) => key.expires_at,
        Node::Team(_) => None,
    });
    if let Some(at) = expires_at.filter(|at| *at <= now) {
        return Some(Refusal::Expired(at));
    }
    if let Some((_, book)) = session {
        if let Some(limit) = book.refusing_step() {
            return Some(Refusal::SessionSteps { limit, used: book.steps });
        }
        if let Some(limit) = book.refusing(least) {
            return Some(Refusal::SessionBudget { limit, spent: book.spent, held: book.held });
        }
    }
    chain.iter().find_map(|row| budget_refusal(row, least, frame)).map(Refusal::Budget)
}

fn budget_refusal(row: &NodeRow, least: Money, frame: &Frame) -> Option<BudgetRefusal> {
    let window = row.counters.refusing(row.limits(), least)?;
    let book = row.counters.windows[window.index()];
    Some(BudgetRefusal {
        level: row.level(),
        id: row.id().clone(),
        window,
        limit: row.limits().of(window).unwrap_or(Money::COUNTER_MAX),
        spent: book.spent,
        held: book.held,
        resets_at: rules::resets_at(frame, window, book.start),
    })
}

/// The least money left over all limits.
fn room(chain: &[NodeRow], session: &SessionStep) -> Money {
    let budget = session.as_ref().and_then(|(_, book)| book.left()).unwrap_or(Money::COUNTER_MAX);
    chain.iter().fold(budget, |least, row| least.min(row.counters.room(row.limits())))
}

/// The least money left over the limits that are set; the first of equals in the order of the checks.
fn remaining(chain: &[NodeRow], session: &SessionStep) -> Option<Remaining> {
    let budget = session.as_ref().and_then(|(_, book)| book.left());
    let mut least = budget.map(|amount| Remaining { amount, level: Level::Session, window: None });
    for row in chain {
        let Some((amount, window)) = row.counters.tightest(row.limits()) else { continue };
        if least.as_ref().is_none_or(|least| amount < least.amount) {
            least = Some(Remaining { amount, level: row.level(), window: Some(window) });
        }
    }
    least
}

/// The session that a call names, for the checks that only look.
pub fn session_key(key: &NodeId, session: &str) -> SessionKey {
    (key.clone(), session.into())
}

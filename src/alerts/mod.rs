//! Budget alerts: what is worth telling a person, and telling it once.
//!
//! Calls only leave notes here, in memory and without waiting. A task beside them ([`watch()`]) reads the books of whom the notes name,
//! claims each alert in the ledger so that only one of several gateways sends it, and hands it to the receivers (`webhook`).

mod notice;
mod watch;
mod webhook;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use notice::Notice;
pub use watch::watch;

use crate::clock::Window;
use crate::config::Limits;
use crate::ledger::{HoldRef, Level, NodeId, Refusal};
use crate::observe::metrics;

/// Whose books have changed, and what happened to calls, since the watcher last looked.
pub struct Notes {
    /// The most notes of one kind between two looks. What does not fit is counted; a later charge of the same budget notes it again.
    most: usize,
    inner: Mutex<Inner>,
    /// Set while the ledger does not answer.
    ledger_down: AtomicBool,
}

#[derive(Default)]
struct Inner {
    /// Nodes with charges: each with the nodes above it, root last.
    charged: HashMap<NodeId, Vec<NodeId>>,
    /// Sessions with charges, by key and id: each with the key's chain.
    sessions: HashMap<(NodeId, Arc<str>), Vec<NodeId>>,
    /// Limits that had no room for a call.
    full: HashSet<(NodeId, Option<Window>)>,
    full_sessions: HashSet<(NodeId, Arc<str>)>,
    cuts: HashSet<Cut>,
}

/// A call was cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Its key, and the teams above.
    pub chain: Vec<NodeId>,
    /// Why: the code of the error that its client got.
    pub reason: &'static str,
    /// `provider/model`.
    pub model: String,
}

impl Default for Notes {
    fn default() -> Self {
        Notes::new(Limits::default().alert_notes)
    }
}

impl Notes {
    /// At most so many notes of each kind.
    pub fn new(most: u64) -> Notes {
        Notes {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            inner: Mutex::default(),
            ledger_down: AtomicBool::new(false),
        }
    }

    /// Something was charged to a call's budgets.
    pub fn charged(&self, at: &HoldRef) {
        let mut inner = self.lock();
        for (i, node) in at.chain.iter().enumerate() {
            if inner.charged.contains_key(node) {
                continue;
            }
            if inner.charged.len() >= self.most {
                return metrics::alert_dropped("notes");
            }
            inner.charged.insert(node.clone(), at.chain[i..].to_vec());
        }
        if let (Some(key), Some(session)) = (at.chain.first(), &at.session)
            && inner.sessions.len() < self.most
        {
            inner.sessions.insert((key.clone(), session.clone()), at.chain.clone());
        }
    }

    /// A call was refused because a limit had no room for it.
    pub fn refused(&self, chain: &[NodeId], session: Option<&Arc<str>>, refused: &Refusal) {
        let mut inner = self.lock();
        if inner.full.len() + inner.full_sessions.len() >= self.most {
            return metrics::alert_dropped("notes");
        }
        match (refused, chain.first(), session) {
            (Refusal::Budget(budget), ..) => {
                let above = chain.iter().skip_while(|node| **node != budget.id).cloned().collect();
                inner.charged.insert(budget.id.clone(), above);
                inner.full.insert((budget.id.clone(), Some(budget.window)));
            }
            (Refusal::SessionBudget { .. } | Refusal::SessionSteps { .. }, Some(key), Some(session)) => {
                inner.full_sessions.insert((key.clone(), session.clone()));
                inner.sessions.insert((key.clone(), session.clone()), chain.to_vec());
            }
            _ => {}
        }
    }

    /// A running call was cut.
    pub fn cut(&self, cut: Cut) {
        let mut inner = self.lock();
        if inner.cuts.len() >= self.most {
            return metrics::alert_dropped("notes");
        }
        inner.cuts.insert(cut);
    }

    /// Whether the ledger answers.
    pub fn ledger(&self, up: bool) {
        self.ledger_down.store(!up, Ordering::Relaxed);
    }

    fn take(&self) -> Inner {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be looked at.
    fn put_back(&self, rest: Inner) {
        let mut inner = self.lock();
        inner.charged.extend(rest.charged);
        inner.sessions.extend(rest.sessions);
        inner.full.extend(rest.full);
        inner.full_sessions.extend(rest.full_sessions);
        inner.cuts.extend(rest.cuts);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The level of a node, by its id.
fn level_of(node: &NodeId) -> Level {
    if node.is_team() { Level::Team } else { Level::Key }
}

#[cfg(test)]
mod tests;

//! Books written anew, into a ledger that has none.

use std::sync::Arc;

use crate::clock::Millis;
use crate::ledger::rules::EXPIRED_KEPT_MS;
use crate::ledger::{HoldBooks, HoldState, LedgerError, Node, NodeId, Snapshot};

use super::books::{Books, session_key};
use super::store::{Hold, HoldKey, LiveHold, NodeRow, Store};

impl<S: Store> Books<S> {
    /// The clock's time.
    pub fn time(&mut self) -> Millis {
        self.time.clock()
    }

    /// See [`crate::ledger::Ledger::record`].
    pub fn record(&mut self, id: &NodeId) -> Result<Option<(Node, u64)>, LedgerError> {
        Ok(self.store.node(id)?.map(|row| ((*row.record).clone(), row.revision)))
    }

    /// See [`crate::ledger::Ledger::restore`].
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), LedgerError> {
        if !self.store.all_nodes()?.is_empty() {
            let say = "this ledger file has keys already: move it away, and rebuild into a new one";
            return Err(LedgerError::Conflict(say.into()));
        }
        for node in &snapshot.nodes {
            // Without a record nothing can be spent, and what was spent is in the books above it.
            let Some((record, revision)) = node.record.clone() else { continue };
            self.store.add_node(NodeRow { seq: 0, revision, record: Arc::new(record), counters: node.counters })?;
        }
        for session in &snapshot.sessions {
            let Some(key) = session.chain.first() else { continue };
            if self.store.node(key)?.is_some() {
                let at = session_key(key, &session.id);
                self.store.session(&at)?;
                self.store.put_session(&at, session.book.clone());
            }
        }
        for hold in &snapshot.holds {
            let Some(root) = hold.info.at.chain.last() else { continue };
            let key = HoldKey::of(root, &hold.info.at.hold);
            self.store.hold(&key)?;
            self.store.put_hold(&key, Some(Hold::Live(Arc::new(live(hold)))));
        }
        for one in &snapshot.settled {
            let key = HoldKey::of(&one.root, &one.id);
            self.store.hold(&key)?;
            self.store.put_hold(&key, Some(Hold::Settled { charged: one.charged, until: one.until }));
        }
        Ok(())
    }
}

fn live(hold: &HoldBooks) -> LiveHold {
    let info = &hold.info;
    let expired = info.state != HoldState::Open;
    LiveHold {
        at: info.at.clone(),
        session_born: hold.born,
        starts: vec![hold.starts; info.at.chain.len()],
        expired_until: expired.then_some(info.expires_at.saturating_add(EXPIRED_KEPT_MS)),
        amount: info.amount,
        expires_at: info.expires_at,
        note: info.note.clone(),
    }
}

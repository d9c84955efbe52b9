//! Rows of the file: how they are read, and how what waits in memory becomes rows again.

use std::sync::Arc;

use rusqlite::params;

use crate::clock::Millis;
use crate::ledger::embedded::books::damaged;
use crate::ledger::embedded::codec;
use crate::ledger::embedded::schema;
use crate::ledger::embedded::store::{Hold, HoldKey, NodeRow, PROBE, SessionKey, Store};
use crate::ledger::rules::SESSION_KEPT_MS;
use crate::ledger::{LedgerError, Node, NodeId};
use crate::money::Money;

use super::{CachedHold, CachedSession, FORGET_STEP, FileStore, Stored};

const DAY_MS: Millis = 24 * 3_600_000;

impl FileStore {
    /// Writes what waits in memory, within the transaction.
    pub(super) fn flush(&mut self) -> Result<(), LedgerError> {
        for tree in self.seen.keys().cloned().collect::<Vec<_>>() {
            if self.node(&tree)?.is_some() {
                self.dirty_nodes.insert(tree);
            }
        }
        for at in std::mem::take(&mut self.dirty_sessions) {
            self.flush_session(&at)?;
        }
        let mut holds: Vec<HoldKey> = std::mem::take(&mut self.dirty_holds).into_iter().collect();
        // In the order of the table: neighbours share pages.
        holds.sort_unstable();
        for key in holds {
            self.flush_hold(&key)?;
        }
        for id in std::mem::take(&mut self.dirty_nodes) {
            let Some(row) = self.nodes.get(&id) else { continue };
            let (seq, body) = (row.seq, codec::write_counters(row.seq, &row.counters));
            self.write("UPDATE counters SET body = ?2 WHERE seq = ?1", params![seq, body])?;
        }
        Ok(())
    }

    fn flush_session(&mut self, at: &SessionKey) -> Result<(), LedgerError> {
        let Some(key) = self.node(&at.0)? else { return Ok(()) };
        let Some(CachedSession { book: Some(book), day: stored }) = self.sessions.get(at) else { return Ok(()) };
        let day = book.used_at.div_euclid(DAY_MS);
        let body = codec::write_session(&at.1, book);
        // Most calls do not change the day, and then its index is not touched.
        let sql = if *stored == Some(day) {
            "INSERT INTO sessions VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET body = excluded.body"
        } else {
            "INSERT INTO sessions VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET day = excluded.day, body = excluded.body"
        };
        *stored = Some(day);
        self.write(sql, params![key.seq, at.1, day, body])
    }

    fn flush_hold(&mut self, key: &HoldKey) -> Result<(), LedgerError> {
        let Some(entry) = self.holds.get(key) else { return Ok(()) };
        let before = entry.stored;
        entry.stored = match &entry.hold {
            None => Stored::Nowhere,
            Some(Hold::Live(_)) => Stored::Live,
            Some(Hold::Settled { .. }) => Stored::Settled,
        };
        let (now, hold) = (entry.stored, entry.hold.clone());
        if before == Stored::Live && now != Stored::Live {
            self.write("DELETE FROM holds WHERE key = ?1", params![key.0])?;
        }
        if before == Stored::Settled && now != Stored::Settled {
            self.write("DELETE FROM settled WHERE key = ?1", params![key.0])?;
        }
        match hold {
            Some(Hold::Live(live)) => {
                let (state, body) = (i64::from(live.expired_until.is_some()), codec::write_hold(key, &live));
                self.write(
                    "INSERT OR REPLACE INTO holds VALUES(?1, ?2, ?3, ?4)",
                    params![key.0, state, live.due(), body],
                )
            }
            Some(Hold::Settled { charged, until }) => {
                self.settled_since_forget += 1;
                let charged = charged.nano().cast_signed();
                self.write("INSERT OR REPLACE INTO settled VALUES(?1, ?2, ?3)", params![key.0, charged, until])
            }
            None => Ok(()),
        }
    }

    pub(super) fn load_node(&self, id: &NodeId) -> Result<Option<NodeRow>, LedgerError> {
        let sql = "SELECT seq, revision, record, sum, body FROM nodes LEFT JOIN counters USING(seq) WHERE id = ?1";
        let found = self.one(sql, [id.as_str()], |row| {
            let (seq, revision): (i64, i64) = (row.get(0)?, row.get(1)?);
            let record = row.get_ref(2)?.as_str()?;
            let is_right = schema::record_sum(id.as_str(), revision, record) == row.get::<_, i64>(3)?;
            let record = parse(id, record).filter(|_| is_right);
            let counters = row.get_ref(4)?.as_blob_or_null()?.and_then(|body| codec::read_counters(seq, body));
            Ok(record.zip(counters).map(|(record, counters)| NodeRow {
                seq,
                revision: revision.cast_unsigned(),
                record: Arc::new(record),
                counters,
            }))
        })?;
        match found {
            Some(None) => Err(damaged(&format!("the row of {id}"))),
            Some(row) => Ok(row),
            None => Ok(None),
        }
    }

    pub(super) fn load_session(&mut self, at: &SessionKey) -> Result<CachedSession, LedgerError> {
        let none = CachedSession { book: None, day: None };
        let Some(key) = self.node(&at.0)? else { return Ok(none) };
        let sql = "SELECT day, body FROM sessions WHERE key = ?1 AND name = ?2";
        let found = self.one(sql, params![key.seq, at.1], |row| {
            Ok((row.get(0)?, codec::read_session(&at.1, row.get_ref(1)?.as_blob()?)))
        })?;
        match found {
            Some((_, None)) => Err(damaged(&format!("session {} of {}", at.1, at.0))),
            Some((day, book)) => Ok(CachedSession { book, day: Some(day) }),
            None => Ok(none),
        }
    }

    pub(super) fn load_hold(&self, key: &HoldKey) -> Result<CachedHold, LedgerError> {
        let live = self.one("SELECT body FROM holds WHERE key = ?1", params![key.0], |row| {
            Ok(codec::read_hold(key, row.get_ref(0)?.as_blob()?))
        })?;
        match live {
            Some(None) => return Err(damaged("a hold")),
            Some(Some(live)) => return Ok(CachedHold { hold: Some(Hold::Live(Arc::new(live))), stored: Stored::Live }),
            None => {}
        }
        let settled = self.one("SELECT charged, until FROM settled WHERE key = ?1", params![key.0], |row| {
            let charged = Money::from_nano(row.get::<_, i64>(0)?.cast_unsigned());
            Ok(Hold::Settled { charged, until: row.get(1)? })
        })?;
        let stored = if settled.is_some() { Stored::Settled } else { Stored::Nowhere };
        Ok(CachedHold { hold: settled, stored })
    }

    pub(super) fn forget_sessions(&mut self, now: Millis) -> Result<(), LedgerError> {
        let last_day = now.saturating_sub(SESSION_KEPT_MS).div_euclid(DAY_MS);
        let sql = "SELECT key, name, body FROM sessions WHERE day < ?1 ORDER BY day LIMIT ?2";
        let ended = self.rows(sql, params![last_day, FORGET_STEP as i64], FORGET_STEP, |row| {
            let name: String = row.get(1)?;
            let book = codec::read_session(&name, row.get_ref(2)?.as_blob()?);
            let key: i64 = row.get(0)?;
            Ok(book.filter(|book| book.is_forgotten(now)).map(|_| (key, name)))
        })?;
        for (key, name) in ended {
            self.write("DELETE FROM sessions WHERE key = ?1 AND name = ?2", params![key, name])?;
        }
        Ok(())
    }
}

/// A record as its row has it.
pub(super) fn parse(id: &NodeId, record: &str) -> Option<Node> {
    if id.is_team() {
        serde_json::from_str(record).ok().map(Node::Team)
    } else {
        serde_json::from_str(record).ok().map(Node::Key)
    }
}

/// The columns of a record: kind, hash, time of creation, text.
pub(super) fn columns(record: &Node) -> Result<(i64, Option<&str>, Millis, String), LedgerError> {
    let (kind, hash, created, text) = match record {
        Node::Key(key) => {
            let kind = if key.id.as_str() == PROBE { 2 } else { 0 };
            (kind, Some(key.hash.as_str()), key.created_at, serde_json::to_string(key))
        }
        Node::Team(team) => (1, None, team.created_at, serde_json::to_string(team)),
    };
    let text = text.map_err(|e| LedgerError::Unavailable(e.to_string()))?;
    Ok((kind, hash, created, text))
}

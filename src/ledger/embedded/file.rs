//! Books in a SQLite file, behind a cache that is written back in one transaction for a whole batch of operations.
//!
//! What is put stays in memory until [`FileStore::commit`]; when that fails, memory is thrown away and read again.

mod rows;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::clock::Millis;
use crate::ledger::rules::SessionBook;
use crate::ledger::{HoldInfo, LedgerError, Node, NodeId};

use super::books::damaged;
use super::cache::Cache;
use super::codec;
use super::schema::{self, trouble};
use super::store::{Due, Hold, HoldKey, NodeRow, PROBE, SessionKey, Store};

use rows::{columns, parse};

/// Entries of each kind that stay in memory.
const CACHED: usize = 16_384;
/// Records forgotten in one step, beside twice as many as were added since the last one.
const FORGET_STEP: usize = 2_000;

/// A session in memory, and the day under which the file has it.
#[derive(Debug)]
struct CachedSession {
    book: Option<SessionBook>,
    day: Option<Millis>,
}

/// A hold in memory, and the table in which the file has it.
#[derive(Debug)]
struct CachedHold {
    hold: Option<Hold>,
    stored: Stored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Nowhere,
    Live,
    Settled,
}

/// Books in a SQLite file.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    pub(super) connection: Connection,
    nodes: Cache<NodeId, NodeRow>,
    sessions: Cache<SessionKey, CachedSession>,
    holds: Cache<HoldKey, CachedHold>,
    dirty_nodes: HashSet<NodeId>,
    dirty_sessions: HashSet<SessionKey>,
    dirty_holds: HashSet<HoldKey>,
    /// Times seen that are not in the file yet. A refusal alone is not worth a write: its time goes along with the next one.
    seen: HashMap<NodeId, Millis>,
    horizon: Millis,
    /// The state of the file when it was read last; another one means that somebody else has written.
    data_version: Option<i64>,
    /// Something was written in this transaction.
    wrote: bool,
    /// A write failed: this transaction must not be committed.
    broken: bool,
    /// A commit has been made, so there must be a write-ahead log.
    has_log: bool,
    settled_since_forget: usize,
}

impl FileStore {
    /// Books in an open file.
    pub fn new(path: PathBuf, connection: Connection, horizon: Millis) -> FileStore {
        FileStore {
            path,
            connection,
            nodes: Cache::new(CACHED),
            sessions: Cache::new(CACHED),
            holds: Cache::new(CACHED),
            dirty_nodes: HashSet::new(),
            dirty_sessions: HashSet::new(),
            dirty_holds: HashSet::new(),
            seen: HashMap::new(),
            horizon,
            data_version: None,
            wrote: false,
            broken: false,
            has_log: false,
            settled_since_forget: 0,
        }
    }

    /// Begins a batch, and forgets what another program may have changed since the last one.
    pub fn begin(&mut self, writes: bool) -> Result<(), LedgerError> {
        self.check_place()?;
        self.run(if writes { "BEGIN IMMEDIATE" } else { "BEGIN" }, [])?;
        let version = self.one("PRAGMA data_version", [], |row| row.get::<_, i64>(0))?;
        if version != self.data_version {
            self.clear();
            // A newer program may have changed the tables under this one.
            match schema::version(&self.connection).map_err(|e| trouble(&e))? {
                Some(schema::VERSION) => {}
                found => return Err(schema::wrong_version(found.unwrap_or(0))),
            }
            self.data_version = version;
        }
        Ok(())
    }

    /// Ends a batch: when this returns `Ok`, all of it is on the disk.
    pub fn commit(&mut self) -> Result<(), LedgerError> {
        if self.is_dirty() {
            self.flush()?;
        }
        if self.broken {
            return Err(LedgerError::Unavailable("a write to the ledger file failed".into()));
        }
        self.run("COMMIT", [])?;
        if self.wrote {
            self.seen.clear();
            self.has_log = true;
        }
        self.wrote = false;
        self.nodes.age();
        self.sessions.age();
        self.holds.age();
        Ok(())
    }

    /// Undoes a batch. Nothing that memory says is believed any more.
    pub fn rollback(&mut self) {
        self.clear();
        (self.wrote, self.broken, self.data_version) = (false, false, None);
        if self.connection.is_autocommit() {
            return;
        }
        // A connection that cannot even roll back is replaced; until that works, every batch fails.
        if self.connection.execute_batch("ROLLBACK").is_err()
            && let Ok(connection) = schema::connect(&self.path)
        {
            self.connection = connection;
        }
    }

    /// Writes the times seen that nothing else has carried to the file, before it is closed.
    pub fn close(&mut self) {
        if self.seen.is_empty() || self.begin(true).is_err() {
            return;
        }
        self.wrote = true;
        if self.commit().is_err() {
            self.rollback();
        }
    }

    /// The money is where the file is: one that was moved or deleted under a running gateway is no ledger any more.
    fn check_place(&self) -> Result<(), LedgerError> {
        let mut has_moved = 0;
        #[cfg(unix)]
        {
            let ask = rusqlite::FileControl::HasMoved(&mut has_moved);
            self.connection.file_control(None::<&str>, ask).map_err(|e| trouble(&e))?;
        }
        if has_moved != 0 || (self.has_log && !schema::beside(&self.path, "-wal").exists()) {
            let path = self.path.display();
            return Err(LedgerError::Unavailable(format!("{path} was moved or deleted while it was open")));
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.nodes.clear();
        self.sessions.clear();
        self.holds.clear();
        self.dirty_nodes.clear();
        self.dirty_sessions.clear();
        self.dirty_holds.clear();
    }

    fn is_dirty(&self) -> bool {
        let waits = !self.dirty_nodes.is_empty() || !self.dirty_sessions.is_empty() || !self.dirty_holds.is_empty();
        waits || self.wrote
    }

    /// Runs a statement that writes. After one failure no other is run: SQLite may have ended the transaction by itself.
    fn write(&mut self, sql: &str, params: impl Params) -> Result<(), LedgerError> {
        if self.broken {
            return Err(LedgerError::Unavailable("a write to the ledger file failed".into()));
        }
        let done = self.run(sql, params);
        (self.wrote, self.broken) = (true, done.is_err());
        done
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<(), LedgerError> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map(|_| ()).map_err(|e| trouble(&e))
    }

    /// The first row of a query.
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, LedgerError> {
        let run = || self.connection.prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(|e| trouble(&e))
    }

    /// All rows of a query, or the first ones that `read` takes until `most`.
    fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        most: usize,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, LedgerError> {
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            let mut found = Vec::new();
            while found.len() < most {
                let Some(row) = rows.next()? else { break };
                found.extend(read(row)?);
            }
            Ok(found)
        };
        run().map_err(|e: rusqlite::Error| trouble(&e))
    }
}

impl Store for FileStore {
    fn node(&mut self, id: &NodeId) -> Result<Option<NodeRow>, LedgerError> {
        if let Some(row) = self.nodes.get(id) {
            return Ok(Some(row.clone()));
        }
        let Some(mut row) = self.load_node(id)? else { return Ok(None) };
        // What was seen but not written yet survives that memory is thrown away.
        row.counters.clock = row.counters.clock.max(self.seen.get(id).copied().unwrap_or(Millis::MIN));
        self.nodes.put(id.clone(), row.clone());
        Ok(Some(row))
    }

    fn add_node(&mut self, mut row: NodeRow) -> Result<(), LedgerError> {
        let record = row.record.clone();
        let (kind, hash, created, text) = columns(&record)?;
        let (id, revision) = (record.id().as_str(), row.revision.cast_signed());
        let sum = schema::record_sum(id, revision, &text);
        let sql = "INSERT INTO nodes VALUES(NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.write(sql, params![id, kind, record.name(), hash, created, revision, text, sum])?;
        row.seq = self.connection.last_insert_rowid();
        let body = codec::write_counters(row.seq, &row.counters);
        self.write("INSERT INTO counters VALUES(?1, ?2)", params![row.seq, body])?;
        self.nodes.put(record.id().clone(), row);
        Ok(())
    }

    fn put_record(&mut self, row: NodeRow) -> Result<(), LedgerError> {
        let (_, hash, _, text) = columns(&row.record)?;
        let (id, revision) = (row.id().as_str(), row.revision.cast_signed());
        let sum = schema::record_sum(id, revision, &text);
        let sql = "UPDATE nodes SET hash = ?2, revision = ?3, record = ?4, sum = ?5 WHERE seq = ?1";
        self.write(sql, params![row.seq, hash, revision, text, sum])?;
        if let Some(cached) = self.nodes.get(row.id()) {
            (cached.record, cached.revision) = (row.record, row.revision);
        }
        Ok(())
    }

    fn put_counters(&mut self, row: NodeRow) {
        self.dirty_nodes.insert(row.id().clone());
        self.nodes.put(row.id().clone(), row);
    }

    fn id_of_hash(&mut self, hash: &str) -> Result<Option<NodeId>, LedgerError> {
        self.one("SELECT id FROM nodes WHERE hash = ?1", [hash], |row| Ok(NodeId::from(row.get_ref(0)?.as_str()?)))
    }

    fn is_name_taken(&mut self, team: bool, name: &str) -> Result<bool, LedgerError> {
        let sql = "SELECT 1 FROM nodes WHERE kind = ?1 AND name = ?2";
        self.one(sql, params![i64::from(team), name], |_| Ok(())).map(|found| found.is_some())
    }

    fn all_nodes(&mut self) -> Result<Vec<Node>, LedgerError> {
        let sql = "SELECT id, record FROM nodes WHERE kind < 2 ORDER BY created, seq";
        let nodes = self.rows(sql, [], usize::MAX, |row| {
            let id = NodeId::from(row.get_ref(0)?.as_str()?);
            let node = parse(&id, row.get_ref(1)?.as_str()?);
            Ok(Some(node.ok_or(id)))
        })?;
        nodes.into_iter().map(|node| node.map_err(|id| damaged(&format!("the record of {id}")))).collect()
    }

    fn session(&mut self, at: &SessionKey) -> Result<Option<SessionBook>, LedgerError> {
        if let Some(entry) = self.sessions.get(at) {
            return Ok(entry.book.clone());
        }
        let entry = self.load_session(at)?;
        let book = entry.book.clone();
        self.sessions.put(at.clone(), entry);
        Ok(book)
    }

    fn put_session(&mut self, at: &SessionKey, book: SessionBook) {
        let day = self.sessions.get(at).and_then(|entry| entry.day);
        self.sessions.put(at.clone(), CachedSession { book: Some(book), day });
        self.dirty_sessions.insert(at.clone());
    }

    fn hold(&mut self, key: &HoldKey) -> Result<Option<Hold>, LedgerError> {
        if let Some(entry) = self.holds.get(key) {
            return Ok(entry.hold.clone());
        }
        let entry = self.load_hold(key)?;
        let hold = entry.hold.clone();
        self.holds.put(*key, entry);
        Ok(hold)
    }

    fn put_hold(&mut self, key: &HoldKey, hold: Option<Hold>) {
        let stored = self.holds.get(key).map_or(Stored::Nowhere, |entry| entry.stored);
        self.holds.put(*key, CachedHold { hold, stored });
        self.dirty_holds.insert(*key);
    }

    fn due(&mut self, until: Millis, after: Option<Due>, most: usize) -> Result<Vec<Due>, LedgerError> {
        self.flush()?;
        let (due, key) = after.map_or((Millis::MIN, Vec::new()), |(due, key)| (due, key.0.to_vec()));
        let sql = "SELECT due, key FROM holds WHERE state = 0 AND due <= ?1 AND (due, key) > (?2, ?3)
            ORDER BY due, key LIMIT ?4";
        let most_rows = i64::try_from(most).unwrap_or(i64::MAX);
        self.rows(sql, params![until, due, key, most_rows], most, |row| {
            let due = row.get(0)?;
            Ok(schema::hold_key(row.get_ref(1)?.as_blob()?).map(|key| (due, key)))
        })
    }

    fn listed(&mut self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        self.flush()?;
        let found = self.rows("SELECT key, body FROM holds ORDER BY state, due, key", [], most, |row| {
            let key = schema::hold_key(row.get_ref(0)?.as_blob()?);
            let body = row.get_ref(1)?.as_blob()?;
            let live = key.and_then(|key| codec::read_hold(&key, body));
            Ok(Some(live.map(|live| live.info())).filter(|info| !info.as_ref().is_some_and(is_probe)))
        })?;
        found.into_iter().map(|info| info.ok_or_else(|| damaged("a hold"))).collect()
    }

    fn saw(&mut self, tree: &NodeId, now: Millis) {
        if let Some(root) = self.nodes.get(tree).filter(|root| root.counters.clock < now) {
            root.counters.clock = now;
            self.seen.insert(tree.clone(), now);
            self.horizon = self.horizon.max(now);
        }
    }

    fn horizon(&self) -> Millis {
        self.horizon
    }

    fn forget(&mut self, now: Millis) -> Result<(), LedgerError> {
        self.flush()?;
        // The times seen by refusals go to the file now, so that only a crash can lose some of the last seconds.
        self.wrote |= !self.seen.is_empty();
        let most = FORGET_STEP + 2 * std::mem::take(&mut self.settled_since_forget);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        for (due, delete) in [
            (
                "SELECT 1 FROM settled WHERE until <= ?1",
                "DELETE FROM settled WHERE key IN (SELECT key FROM settled WHERE until <= ?1 ORDER BY until LIMIT ?2)",
            ),
            (
                "SELECT 1 FROM holds WHERE state = 1 AND due <= ?1",
                "DELETE FROM holds WHERE key IN (SELECT key FROM holds WHERE state = 1 AND due <= ?1 ORDER BY due LIMIT ?2)",
            ),
        ] {
            // Looks first: a sweep that finds nothing must not cost a write.
            if self.one(due, [now], |_| Ok(()))?.is_some() {
                self.write(delete, params![now, most])?;
            }
        }
        self.forget_sessions(now)
    }
}

fn is_probe(info: &HoldInfo) -> bool {
    info.at.chain.first().is_some_and(|key| key.as_str() == PROBE)
}

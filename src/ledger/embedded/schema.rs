//! The file: how it is opened, what is in it, and what is refused.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::clock::Millis;
use crate::ledger::LedgerError;

use super::codec;
use super::store::HoldKey;

/// The version of the tables below, in `PRAGMA user_version`.
pub const VERSION: i64 = 1;
/// `LOOP`, in `PRAGMA application_id`: tells a ledger from any other SQLite file.
const APPLICATION: i64 = 0x4C4F_4F50;
/// How long another program may keep the file locked, in tries a millisecond apart.
const BUSY_TRIES: i32 = 5_000;
/// Pages of the write-ahead log after which it is copied into the file.
const CHECKPOINT_PAGES: i64 = 4_000;
/// A backup takes the books back to when it was made. The log goes along: SQLite would write it into the new file.
const DAMAGED: &str = "the ledger file is damaged: stop the gateway, move the file away together with its -wal and \
    -shm, and run `loopers ledger rebuild --from FOLDER` with the folder that `state:` names; only without journals \
    restore the file from a backup, which grants a second time what was spent since";

/// `counters` apart from `nodes`: they change with every call, and the records hardly ever.
/// `settled` apart from `holds`: what is open stays in few pages, however many calls there were.
const TABLES: &str = "
CREATE TABLE nodes(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, name TEXT NOT NULL, hash TEXT UNIQUE,
    created INTEGER NOT NULL, revision INTEGER NOT NULL, record TEXT NOT NULL, sum INTEGER NOT NULL,
    UNIQUE(kind, name)) STRICT;
CREATE TABLE counters(seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE sessions(
    key INTEGER NOT NULL, name TEXT NOT NULL, day INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY(key, name)) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_day ON sessions(day);
CREATE TABLE holds(
    key BLOB PRIMARY KEY, state INTEGER NOT NULL, due INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX holds_due ON holds(state, due);
CREATE TABLE settled(key BLOB PRIMARY KEY, charged INTEGER NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX settled_until ON settled(until);
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES('opened', 0);
";

/// What SQLite could not do, in words for the person who must repair it.
pub fn trouble(error: &rusqlite::Error) -> LedgerError {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "the ledger file, or its directory, is read-only",
        Some(ErrorCode::DatabaseCorrupt) => DAMAGED,
        Some(ErrorCode::NotADatabase) => "the ledger file is damaged, or is not a ledger",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program keeps the ledger file locked",
        Some(ErrorCode::CannotOpen) => "the ledger file cannot be opened",
        Some(ErrorCode::SystemIoFailure) => "the ledger file cannot be read or written",
        _ => "the ledger file",
    };
    LedgerError::Unavailable(format!("{what} ({error})"))
}

/// A file beside the ledger's: `loopers.db` and `.lock` are `loopers.db.lock`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The one true path of a ledger file, which is made empty where there is none.
pub fn place(path: &Path) -> Result<PathBuf, LedgerError> {
    create_private(path)?;
    let cannot =
        |why: String| LedgerError::Unavailable(format!("the ledger file {} cannot be opened ({why})", path.display()));
    let place = path.canonicalize().map_err(|e| cannot(e.to_string()))?;
    if place.is_file() { Ok(place) } else { Err(cannot("it is not a file".into())) }
}

/// A connection to the ledger file. Makes the tables of an empty one, and refuses a file that is not a ledger of this version.
pub fn connect(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| trouble(&e))?;
    configure(&mut connection).map_err(|e| trouble(&e))?;
    match version(&connection).map_err(|e| trouble(&e))? {
        Some(VERSION) => {}
        Some(newer) if newer > VERSION => return Err(wrong_version(newer)),
        _ => make_tables(&mut connection)?,
    }
    Ok(connection)
}

/// The answer to a file of another version.
pub fn wrong_version(found: i64) -> LedgerError {
    LedgerError::Unavailable(format!(
        "the ledger file has version {found}, this program knows version {VERSION}: a newer Loopers has written it"
    ))
}

/// Makes an empty file that only its owner can read; one that exists stays as it is.
fn create_private(path: &Path) -> Result<(), LedgerError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync_directory(path),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(LedgerError::Unavailable(format!("the ledger file {} cannot be made ({e})", path.display()))),
    }
}

/// A new file survives a power cut only when its directory is written too.
fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = std::fs::File::open(parent).and_then(|directory| directory.sync_all());
    // Not every system can do it for a directory; that is no reason to refuse the file.
    match synced {
        Err(e) if cfg!(unix) => Err(LedgerError::Unavailable(format!("{} cannot be written ({e})", parent.display()))),
        _ => Ok(()),
    }
}

fn configure(connection: &mut Connection) -> rusqlite::Result<()> {
    // Tries often instead of SQLite's ever longer pauses: a busy gateway leaves only short gaps for the command line.
    connection.busy_handler(Some(|tries| {
        std::thread::sleep(Duration::from_millis(1));
        tries < BUSY_TRIES
    }))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    // A commit returns only when it is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", CHECKPOINT_PAGES * 4096 * 2)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(code, Some("the file system cannot keep a write-ahead log".into())));
    }
    Ok(())
}

/// The version of a ledger's tables; `None` when the file has no tables at all. Any other SQLite file is an error.
pub fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let application = number("PRAGMA application_id")?;
    match (tables, application) {
        (0, 0) => Ok(None),
        (_, APPLICATION) => number("PRAGMA user_version").map(Some),
        _ => {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
            Err(rusqlite::Error::SqliteFailure(code, Some("it is another program's SQLite file".into())))
        }
    }
}

fn make_tables(connection: &mut Connection) -> Result<(), LedgerError> {
    let make = |connection: &mut Connection| {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        if version(&step)?.is_none() {
            step.execute_batch(TABLES)?;
            step.pragma_update(None, "application_id", APPLICATION)?;
            step.pragma_update(None, "user_version", VERSION)?;
        }
        step.commit()?;
        version(connection)
    };
    match make(connection).map_err(|e| trouble(&e))? {
        Some(VERSION) => Ok(()),
        other => Err(wrong_version(other.unwrap_or(0))),
    }
}

/// Reads every row that decides about money and checks it. Returns the latest time that any tree has seen.
pub fn verify(connection: &Connection) -> Result<Millis, LedgerError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| trouble(&e))?;
    if found != "ok" {
        return Err(LedgerError::Unavailable(format!("{DAMAGED} ({found})")));
    }
    let damaged = |what: String| LedgerError::Unavailable(format!("{DAMAGED} ({what})"));
    let mut horizon = Millis::MIN;
    each(connection, "SELECT seq, body FROM counters", |row| {
        let seq: i64 = row.get(0)?;
        let counters = codec::read_counters(seq, row.get_ref(1)?.as_blob()?);
        horizon = horizon.max(counters.map_or(Millis::MIN, |counters| counters.clock));
        Ok(counters.is_none().then(|| damaged(format!("the counters of node {seq}"))))
    })?;
    each(connection, "SELECT id, revision, record, sum FROM nodes", |row| {
        let (id, record) = (row.get_ref(0)?.as_str()?, row.get_ref(2)?.as_str()?);
        let is_right = record_sum(id, row.get(1)?, record) == row.get::<_, i64>(3)?;
        Ok((!is_right).then(|| damaged(format!("the record of {id}"))))
    })?;
    each(connection, "SELECT key, body FROM holds", |row| {
        let is_right = hold_key(row.get_ref(0)?.as_blob()?).is_some_and(|key| {
            row.get_ref(1)
                .ok()
                .and_then(|body| body.as_blob().ok())
                .is_some_and(|body| codec::read_hold(&key, body).is_some())
        });
        Ok((!is_right).then(|| damaged("a hold".into())))
    })?;
    let missing = "SELECT count(*) FROM nodes LEFT JOIN counters USING(seq) WHERE body IS NULL";
    match connection.query_row(missing, [], |row| row.get::<_, i64>(0)).map_err(|e| trouble(&e))? {
        0 => Ok(horizon),
        count => Err(damaged(format!("{count} nodes without counters"))),
    }
}

/// Runs over the rows of a query until one is wrong.
fn each(
    connection: &Connection,
    sql: &str,
    mut check: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<Option<LedgerError>>,
) -> Result<(), LedgerError> {
    let mut run = || {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(wrong) = check(row)? {
                return Ok(Some(wrong));
            }
        }
        Ok(None)
    };
    run().map_err(|e| trouble(&e))?.map_or(Ok(()), Err)
}

/// The checksum of a record, as SQLite keeps it.
pub fn record_sum(id: &str, revision: i64, record: &str) -> i64 {
    codec::checksum(&[id.as_bytes(), &revision.to_le_bytes(), record.as_bytes()]).cast_signed()
}

/// The key of a hold from its column.
pub fn hold_key(bytes: &[u8]) -> Option<HoldKey> {
    bytes.try_into().ok().map(HoldKey)
}

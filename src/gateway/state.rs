//! The ledger as a gateway or a command opens it, and the folder in which a gateway keeps what must outlive it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::app::size;
use crate::clock::Clock;
use crate::config::{LedgerUrl, Settings};
use crate::journal::{Journal, Keep, OPERATOR};
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use crate::ledger::redis::{Memory, RedisLedger, RedisOptions};
use crate::ledger::{Journalled, Ledger, LedgerError, Recorder};

/// Gateways of one folder: more than any machine runs.
const GATEWAYS_MAX: usize = 1024;
/// The locks of the folders that this process has claimed: kept until it ends.
static CLAIMED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A gateway's own folder below `state`.
struct Own {
    folder: PathBuf,
    writer: String,
}

/// Opens the ledger of a config. A gateway's remembers which books it has seen, and writes a journal.
pub async fn open_ledger(settings: &Settings, role: Role) -> Result<Ledger, LedgerError> {
    let engine_of = |path| embedded(path, settings, role);
    match (&settings.ledger, role) {
        (LedgerUrl::Memory, _) => engine_of(None),
        (LedgerUrl::File(path), Role::Visitor) => Ok(operators(engine_of(Some(path.clone()))?, settings)),
        (LedgerUrl::File(path), Role::Gateway) => {
            let engine = engine_of(Some(path.clone()))?;
            journalled(engine, &own_folder(&settings.state)?, settings)
        }
        (LedgerUrl::Redis(url), Role::Visitor) => {
            let engine = RedisLedger::connect(redis_options(url, settings, None)).await?;
            Ok(operators(Ledger::Redis(engine), settings))
        }
        (LedgerUrl::Redis(url), Role::Gateway) => {
            let own = own_folder(&settings.state)?;
            let memory = Memory { writer: own.writer.clone(), file: own.folder.join("mark.json") };
            let engine = RedisLedger::disconnected(&redis_options(url, settings, Some(memory)))?;
            match engine.check().await {
                // It may come later: until then every call is refused.
                Err(LedgerError::Unavailable(reason)) => log::error!("the ledger is not available yet: {reason}"),
                other => other?,
            }
            if let Err(error) = engine.inspect(&|| ()).await {
                log::error!("no call goes out yet: {error}");
            }
            journalled(Ledger::Redis(engine), &own, settings)
        }
    }
}

fn embedded(path: Option<PathBuf>, settings: &Settings, role: Role) -> Result<Ledger, LedgerError> {
    EmbeddedLedger::open(EmbeddedOptions { path, calendar: settings.calendar.clone(), clock: Clock::System, role })
        .map(Ledger::Embedded)
}

fn redis_options(url: &str, settings: &Settings, memory: Option<Memory>) -> RedisOptions {
    RedisOptions {
        url: url.into(),
        calendar: settings.calendar.clone(),
        timeout: Duration::from_millis(settings.limits.ledger_ms),
        time_offset_ms: Arc::new(AtomicI64::new(0)),
        connections: size(settings.limits.ledger_connections),
        wait_replicas: settings.limits.ledger_wait_replicas,
        memory,
    }
}

/// The same ledger for another runtime: a Redis connection must not outlive the runtime that it was made on.
pub fn for_other_runtime(ledger: &Ledger) -> Ledger {
    match ledger {
        Ledger::Redis(redis) => Ledger::Redis(redis.handle()),
        Ledger::Embedded(embedded) => Ledger::Embedded(embedded.clone()),
        Ledger::Carried(carried) => Ledger::Carried(carried.clone()),
        Ledger::Journalled(Journalled { books, recorder }) => {
            let books = Arc::new(for_other_runtime(books));
            Ledger::Journalled(Journalled { books, recorder: recorder.clone() })
        }
    }
}

fn written(books: Ledger, recorder: Arc<dyn Recorder>) -> Ledger {
    Ledger::Journalled(Journalled { books: Arc::new(books), recorder })
}

fn journalled(engine: Ledger, own: &Own, settings: &Settings) -> Result<Ledger, LedgerError> {
    let (days, file_bytes) = (settings.limits.journal_days, settings.limits.journal_file_bytes);
    if days == 0 {
        return Ok(engine);
    }
    let journal = Journal::of_gateway(&own.folder, &own.writer, Keep { file_bytes, days });
    let journal = journal.map_err(|e| unusable(&own.folder, &e.to_string()))?;
    Ok(written(engine, Arc::new(journal)))
}

/// What commands change is written down too, where there is a folder for it.
fn operators(engine: Ledger, settings: &Settings) -> Ledger {
    if settings.limits.journal_days == 0 || make(&settings.state).is_err() {
        return engine;
    }
    let file = settings.state.join(format!("{OPERATOR}.jsonl"));
    written(engine, Arc::new(Journal::of_operator(&file)))
}

/// Claims a folder that no running gateway has: one that an earlier process left, or a new one.
fn own_folder(state: &Path) -> Result<Own, LedgerError> {
    let cannot = |why: std::io::Error| unusable(state, &why.to_string());
    make(state).map_err(cannot)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(state).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name().into_string().unwrap_or_default();
        names.extend(name.strip_prefix("gateway-").filter(|id| is_id(id)).map(str::to_string));
    }
    names.sort();
    for writer in names.into_iter().take(GATEWAYS_MAX) {
        if let Some(own) = claim(state, writer).map_err(cannot)? {
            return Ok(own);
        }
    }
    let writer = crate::secret::random_hex::<8>().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
    claim(state, writer).map_err(cannot)?.ok_or_else(|| unusable(state, "a new folder is claimed already"))
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn claim(state: &Path, writer: String) -> std::io::Result<Option<Own>> {
    let folder = state.join(format!("gateway-{writer}"));
    make(&folder)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {
            CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            Ok(Some(Own { folder, writer }))
        }
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a folder that only its owner can look into.
fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn unusable(folder: &Path, why: &str) -> LedgerError {
    LedgerError::Conflict(format!(
        "the folder {} cannot be used ({why}): let `state:` in loopers.yaml name one that the gateway may write and that \
         outlives it",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_gateway_and_is_found_again() {
        let state = tempfile::tempdir().unwrap();
        let first = own_folder(&state.path().join("new")).unwrap();
        // Another process would hold the lock; in this one a second handle of the file is as good.
        let second = own_folder(&state.path().join("new")).unwrap();
        assert_ne!(first.writer, second.writer);
        CLAIMED.lock().unwrap().clear();
        let again = own_folder(&state.path().join("new")).unwrap();
        assert!([first.writer, second.writer].contains(&again.writer));
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_which_field_to_set() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let Err(LedgerError::Conflict(text)) = own_folder(&file.path().join("below")) else { panic!() };
        assert!(text.contains("state:"), "{text}");
    }
}

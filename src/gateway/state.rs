//! The ledger as a gateway or a command opens it, and the folder in which a gateway keeps what must outlive it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::app::size;
use super::settler::{Job, Settler};
use super::spool;
use crate::clock::Clock;
use crate::config::{LedgerUrl, Settings};
use crate::journal::{self, Journal, Keep, OPERATOR, Tail};
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use crate::ledger::redis::{Memory, RedisLedger, RedisOptions};
use crate::ledger::{Charge, HoldRef, Journalled, Ledger, LedgerError, Recorder};

/// Gateways of one folder: more than any machine runs.
const GATEWAYS_MAX: usize = 1024;
/// How long a folder may be locked by a gateway that only takes over what is in it.
const TAKEOVER: Duration = Duration::from_millis(500);
/// How often a new folder is tried.
const NEW_FOLDERS: usize = 16;
/// The locks of the folders that this process has claimed: kept until it ends.
static CLAIMED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A gateway's own folder below `state`.
#[derive(Clone)]
pub struct Own {
    /// The folder.
    pub folder: PathBuf,
    writer: String,
}

/// Opens the ledger of a config for a command, or for a gateway in a process of another kind.
pub async fn open_ledger(settings: &Settings, role: Role) -> Result<Ledger, LedgerError> {
    match (&settings.ledger, role) {
        (LedgerUrl::Memory, _) => embedded(None, settings, role),
        (LedgerUrl::File(path), Role::Visitor) => {
            Ok(operators(embedded(Some(path.clone()), settings, role)?, settings))
        }
        (LedgerUrl::Redis(url), Role::Visitor) => {
            let engine = RedisLedger::connect(redis_options(url, settings, None)).await?;
            Ok(operators(Ledger::Redis(engine), settings))
        }
        (_, Role::Gateway) => Ok(open_gateway(settings).await?.0),
    }
}

/// Opens the ledger of a config for a gateway, which remembers which books it has seen, and writes a journal; and the folder in which it
/// does. Books in memory end with the process, and have none.
pub async fn open_gateway(settings: &Settings) -> Result<(Ledger, Option<Own>), LedgerError> {
    match &settings.ledger {
        LedgerUrl::Memory => Ok((embedded(None, settings, Role::Gateway)?, None)),
        LedgerUrl::File(path) => {
            let engine = embedded(Some(path.clone()), settings, Role::Gateway)?;
            let own = own_folder(&settings.state)?;
            Ok((journalled(engine, &own, settings)?, Some(own)))
        }
        LedgerUrl::Redis(url) => {
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
            Ok((journalled(Ledger::Redis(engine), &own, settings)?, Some(own)))
        }
    }
}

/// Lets the settler keep what the ledger does not take in the gateway's own folder, and make what is left there and in folders
/// whose gateways are gone.
pub fn keep_settlements(settler: &Settler, settings: &Settings, own: &Own) -> Result<(), LedgerError> {
    // What cannot be read is tried again by the next one; until then its holds may be charged in full.
    let tail = Tail::read(&own.folder, half_of_waiting(settings));
    let tail = tail.inspect_err(|error| log::warn!("{}: {error}", own.folder.display())).ok();
    let keeps = settler.keep_in(&own.folder, announced(tail.as_ref()));
    keeps.map_err(|e| unusable(&own.folder, &e.to_string()))?;
    mark_answered(tail.as_ref());
    adopt_orphans(settler, settings, own, &mut HashSet::new());
    Ok(())
}

/// Makes what is left in folders whose gateways are gone. What cannot be read or written now, or is too much at once, waits for the next
/// time. `told` has the problems that were told already.
pub fn adopt_orphans(settler: &Settler, settings: &Settings, own: &Own, told: &mut HashSet<String>) {
    let writers = writers(&settings.state).unwrap_or_else(|error| {
        log::warn!("{} cannot be read: {error}", settings.state.display());
        Vec::new()
    });
    for writer in writers.into_iter().filter(|writer| *writer != own.writer) {
        if settler.is_failing() || settler.pending() >= half_of_waiting(settings) {
            return;
        }
        let folder = settings.state.join(format!("gateway-{writer}"));
        if let Err(error) = adopt(settler, settings, &folder)
            && told.insert(format!("{}: {error}", folder.display()))
        {
            let folder = folder.display();
            log::warn!("what a gateway that is gone left to be settled in {folder} cannot be taken over yet: {error}");
        }
    }
}

fn adopt(settler: &Settler, settings: &Settings, folder: &Path) -> std::io::Result<()> {
    if !spool::is_owing(folder) && journal::is_answered(folder).unwrap_or(false) {
        return Ok(());
    }
    let Some(_lock) = lock(folder)? else { return Ok(()) };
    let tail = Tail::read(folder, half_of_waiting(settings));
    // A journal that cannot be read keeps no spool waiting.
    settler.adopt(folder, announced(tail.as_ref().ok()))?;
    tail?.mark_answered()
}

/// Half of the settlements that may wait: so much may come from others at once.
fn half_of_waiting(settings: &Settings) -> usize {
    (size(settings.limits.unsettled) / 2).max(1)
}

fn announced(tail: Option<&Tail>) -> Vec<Job> {
    // Not `taken`: a hold that the ledger has forgotten by now was settled long ago. Its model is not in this line of the journal.
    let unknown: Arc<str> = "unknown".into();
    let job = |(at, charge): &(HoldRef, Charge)| {
        let (provider, model) = (unknown.clone(), unknown.clone());
        Job { at: Arc::new(at.clone()), charge: *charge, provider, model, taken: false, ending: 0 }
    };
    tail.into_iter().flat_map(|tail| &tail.ends).map(job).collect()
}

/// When all of it is in a spool.
fn mark_answered(tail: Option<&Tail>) {
    if let Some(Err(error)) = tail.map(Tail::mark_answered) {
        log::warn!("the last calls of an earlier run are settled once more later, which changes nothing: {error}");
    }
}

/// The holds whose settlements wait on disk below `state`, whether or not their gateways run.
pub fn waiting_settlements(state: &Path) -> HashSet<String> {
    let mut holds = HashSet::new();
    for writer in writers(state).unwrap_or_default() {
        match spool::read(&state.join(format!("gateway-{writer}")).join(spool::FILE)) {
            Ok(owed) => holds.extend(owed.into_keys().map(|hold| hold.to_string())),
            Err(error) => {
                log::warn!("the settlements that wait in the folder of gateway {writer} cannot be read: {error}")
            }
        }
    }
    holds
}

fn embedded(path: Option<PathBuf>, settings: &Settings, role: Role) -> Result<Ledger, LedgerError> {
    let (calendar, queue) = (settings.calendar.clone(), size(settings.limits.ledger_queue));
    EmbeddedLedger::open(EmbeddedOptions { path, calendar, clock: Clock::System, role, queue }).map(Ledger::Embedded)
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
        Ledger::Journalled(Journalled { books, recorder, patience }) => {
            let books = Arc::new(for_other_runtime(books));
            Ledger::Journalled(Journalled { books, recorder: recorder.clone(), patience: *patience })
        }
    }
}

fn written(books: Ledger, recorder: Arc<dyn Recorder>, settings: &Settings) -> Ledger {
    let patience = Duration::from_millis(settings.limits.ledger_ms) + journal::PATIENCE;
    Ledger::Journalled(Journalled { books: Arc::new(books), recorder, patience })
}

fn journalled(engine: Ledger, own: &Own, settings: &Settings) -> Result<Ledger, LedgerError> {
    let limits = &settings.limits;
    let keep =
        Keep { file_bytes: limits.journal_file_bytes, days: limits.journal_days, queue: size(limits.journal_queue) };
    if keep.days == 0 {
        return Ok(engine);
    }
    let journal = Journal::of_gateway(&own.folder, &own.writer, keep);
    let journal = journal.map_err(|e| unusable(&own.folder, &e.to_string()))?;
    Ok(written(engine, Arc::new(journal), settings))
}

/// What commands change is written down too, where there is a folder for it.
fn operators(engine: Ledger, settings: &Settings) -> Ledger {
    if settings.limits.journal_days == 0 || make(&settings.state).is_err() {
        return engine;
    }
    let file = settings.state.join(format!("{OPERATOR}.jsonl"));
    written(engine, Arc::new(Journal::of_operator(&file)), settings)
}

/// Claims a folder that no running gateway has: one that an earlier process left, or a new one.
fn own_folder(state: &Path) -> Result<Own, LedgerError> {
    let cannot = |why: std::io::Error| unusable(state, &why.to_string());
    make(state).map_err(cannot)?;
    let before = writers(state).map_err(cannot)?;
    if let Some(own) = claim_one(state, &before).map_err(cannot)? {
        return Ok(own);
    }
    if !before.is_empty() {
        // Another gateway may be taking over what is in one of them, which takes a moment.
        std::thread::sleep(TAKEOVER);
        if let Some(own) = claim_one(state, &before).map_err(cannot)? {
            return Ok(own);
        }
    }
    // Another gateway that starts in this moment may have found a new folder before it was claimed here.
    for _ in 0..NEW_FOLDERS {
        let writer = crate::secret::random_hex::<8>().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        if let Some(own) = claim_one(state, &[writer]).map_err(cannot)? {
            return Ok(own);
        }
    }
    Err(unusable(state, "other gateways claim every new folder"))
}

/// The gateways that have, or had, folders.
fn writers(state: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(state)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        names.extend(name.strip_prefix("gateway-").filter(|id| is_id(id)).map(str::to_string));
    }
    names.sort();
    names.truncate(GATEWAYS_MAX);
    Ok(names)
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Claims the first of these folders that no gateway has.
fn claim_one(state: &Path, writers: &[String]) -> std::io::Result<Option<Own>> {
    for writer in writers {
        let folder = state.join(format!("gateway-{writer}"));
        make(&folder)?;
        if let Some(lock) = lock(&folder)? {
            CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return Ok(Some(Own { folder, writer: writer.clone() }));
        }
    }
    Ok(None)
}

/// The lock of a folder, held until the file is closed; `None` when somebody else has it.
fn lock(folder: &Path) -> std::io::Result<Option<File>> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
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

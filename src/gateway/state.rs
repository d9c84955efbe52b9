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
/// With so few waiting settlements, next to nothing waits.
const FEW_WAIT: usize = 16;
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
    let unread = |error: &std::io::Error| {
        log::warn!("{}: {error}", own.folder.display());
        journal::leave_unanswered(&own.folder);
    };
    let tail = Tail::read(&own.folder, half_of_waiting(settings)).inspect_err(unread).ok();
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
    let announced = announced(tail.as_ref().ok());
    if !has_room(settler.pending(), announced.len() + lines_of_spool(folder)?, half_of_waiting(settings)) {
        return Err(std::io::Error::other("it is too much at once, beside what waits here"));
    }
    settler.adopt(folder, announced)?;
    tail?.mark_answered()
}

/// True when so many `more` may wait beside those that do, of which `half` may be from others. Where next to nothing waits, any number may:
/// what is too much for every gateway would wait for ever. A busy one always has a few settlements on their way.
fn has_room(waiting: usize, more: usize, half: usize) -> bool {
    waiting.saturating_add(more) <= half || waiting <= (half / 100).max(FEW_WAIT).min(half)
}

/// At most so many settlements are owed by a folder's spool.
fn lines_of_spool(folder: &Path) -> std::io::Result<usize> {
    if !spool::is_owing(folder) {
        return Ok(0);
    }
    Ok(std::fs::read(folder.join(spool::FILE))?.iter().filter(|byte| **byte == b'\n').count())
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

/// The holds whose settlements wait on disk below `state`, whether or not their gateways run: in spools, or only in journals. Most of what
/// those announced last was made since, and its holds are settled.
pub fn waiting_settlements(settings: &Settings) -> HashSet<String> {
    let (state, mut holds) = (&settings.state, HashSet::new());
    for writer in writers(state).unwrap_or_default() {
        let folder = state.join(format!("gateway-{writer}"));
        let unread = |error: &std::io::Error| {
            log::warn!("the settlements that wait in the folder of gateway {writer} cannot be read: {error}");
        };
        let owed = spool::read(&folder.join(spool::FILE)).inspect_err(unread).unwrap_or_default();
        holds.extend(owed.into_keys().map(|hold| hold.to_string()));
        let tail = Tail::read(&folder, half_of_waiting(settings)).inspect_err(unread);
        // A full charge tells no true cost, and leaves a hold that has expired as it is: made or not, nobody could say.
        let ends = tail.into_iter().flat_map(|tail| tail.ends).filter(|(_, charge)| *charge != Charge::Full);
        holds.extend(ends.map(|(at, _)| at.hold.to_string()));
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
    use crate::config::{Purpose, parse};
    use crate::journal::line::{Line, VERSION};
    use crate::ledger::HoldId;
    use crate::money::Money;

    fn settings(state: &Path) -> Settings {
        let loaded = parse(Path::new("loopers.yaml"), "", &|_: &str| None, Purpose::Serve).unwrap();
        Settings { state: state.into(), ..loaded.settings }
    }

    fn job(hold: &str, ending: u64) -> Job {
        let at = HoldRef { hold: HoldId(hold.into()), chain: vec!["k_1".into()], session: None };
        let (provider, model): (Arc<str>, Arc<str>) = ("openai".into(), "openai/gpt".into());
        Job { at: Arc::new(at), charge: Charge::Full, provider, model, taken: true, ending }
    }

    /// The folder of a gateway that has announced these settlements in its journal, and has these in its spool.
    fn folder_of(state: &Path, writer: &str, announced: &[(&str, Charge)], owed: &[Job]) -> Own {
        let own = Own { folder: state.join(format!("gateway-{writer}")), writer: writer.into() };
        make(&own.folder).unwrap();
        let mut lines = vec![Line::File { version: VERSION, writer: writer.into(), number: 1, at: 1 }];
        for (hold, charge) in announced {
            let (hold, chain) = (HoldId((*hold).into()), vec!["k_1".into()]);
            lines.push(Line::Settling { hold, chain, session: None, charge: *charge, at: 1 });
        }
        let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        std::fs::write(own.folder.join("journal-000001.jsonl"), text).unwrap();
        let spool = spool::Spool::default();
        spool.open(&own.folder, Vec::new()).unwrap();
        owed.iter().for_each(|job| spool.owes(job, false));
        spool.save(Duration::ZERO).unwrap();
        own
    }

    fn exactly(nano: u64) -> Charge {
        Charge::Exact(Money::from_nano(nano))
    }

    #[test]
    fn a_true_cost_waits_in_a_spool_or_in_a_journal_that_is_not_answered() {
        let state = tempfile::tempdir().unwrap();
        let announced = [("a", exactly(5)), ("b", Charge::Full)];
        let own = folder_of(state.path(), "00000000000000aa", &announced, &[job("c", 1)]);
        folder_of(state.path(), "00000000000000bb", &[("d", exactly(0))], &[]);
        let waiting = || {
            let mut holds: Vec<String> = waiting_settlements(&settings(state.path())).into_iter().collect();
            holds.sort();
            holds
        };
        assert_eq!(waiting(), ["a", "c", "d"]);
        journal::mark_answered(&own.folder).unwrap();
        assert_eq!(waiting(), ["c", "d"]);
        // A journal that cannot be read hides no spool.
        std::fs::create_dir(own.folder.join("journal-000002.jsonl")).unwrap();
        assert_eq!(waiting(), ["c", "d"]);
    }

    #[test]
    fn an_orderly_end_marks_no_journal_whose_last_lines_could_not_be_read() {
        for is_readable in [true, false] {
            let state = tempfile::tempdir().unwrap();
            let own = folder_of(state.path(), "00000000000000aa", &[("a", exactly(5))], &[]);
            let broken = own.folder.join("journal-000002.jsonl");
            if !is_readable {
                std::fs::create_dir(&broken).unwrap();
            }
            let settler = Settler::default();
            keep_settlements(&settler, &settings(state.path()), &own).unwrap();
            assert_eq!(settler.pending(), usize::from(is_readable));
            if !is_readable {
                std::fs::remove_dir(&broken).unwrap();
            }
            settler.leaves_nothing().unwrap();
            assert_eq!(journal::is_answered(&own.folder).unwrap(), is_readable);
        }
    }

    #[test]
    fn a_gateway_takes_over_no_more_than_it_has_room_for() {
        let state = tempfile::tempdir().unwrap();
        let mut settings = settings(state.path());
        settings.limits.unsettled = 200;
        let own = folder_of(state.path(), "00000000000000aa", &[], &[]);
        let left: Vec<Job> = (1..=90).map(|nth| job(&nth.to_string(), nth)).collect();
        let orphan = folder_of(state.path(), "00000000000000bb", &[], &left);
        folder_of(state.path(), "00000000000000cc", &[("91", exactly(1))], &[]);
        let mut told = HashSet::new();
        let busy = Settler::default();
        for nth in 0..17 {
            busy.push(job(&format!("own-{nth}"), busy.announce()));
        }
        adopt_orphans(&busy, &settings, &own, &mut told);
        // What is less is not held up by it.
        assert_eq!((busy.pending(), told.len(), spool::is_owing(&orphan.folder)), (18, 1, true));
        let idle = Settler::default();
        adopt_orphans(&idle, &settings, &own, &mut told);
        assert_eq!((idle.pending(), told.len(), spool::is_owing(&orphan.folder)), (90, 1, false));
    }

    #[test]
    fn there_is_room_for_half_of_what_may_wait_and_for_anything_where_next_to_nothing_does() {
        assert!(has_room(1, 3, 4) && has_room(4, 9, 4) && !has_room(5, 0, 4));
        assert!(has_room(16, 900, 100) && !has_room(17, 84, 100) && has_room(17, 83, 100));
        assert!(has_room(500, 100_000, 50_000) && !has_room(501, 100_000, 50_000) && has_room(40_000, 10_000, 50_000));
    }

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

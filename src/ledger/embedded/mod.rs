//! The embedded engine: the ledger in this process, over a SQLite file or memory.
//!
//! One state machine (`books`) decides; a store keeps its records. In a file, a thread of its own does the operations
//! that wait in one transaction and answers them when that is on the disk, so a call never goes out on money that a
//! crash could forget. One gateway claims the file; the command line works beside it through SQLite.

mod admin;
mod books;
mod cache;
mod codec;
mod file;
mod memory;
mod restore;
mod schema;
mod store;
mod time;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Calendar, Clock, Millis};
use crate::secret::KeyHash;

use super::rules;
use super::{
    BooksStatus, Charge, Edit, Halted, HoldId, HoldInfo, HoldRef, KeyRecord, KeyView, LedgerError, Node, NodeId,
    NodeStatus, Recorder, Reserve, SessionStatus, Settled, Snapshot, Standing, State, Sweep, TeamRecord, Verdict,
};

use books::{Books, DuePage};
use memory::MemoryStore;
use store::{Due, LiveHold};
use time::Time;
use writer::Writer;

/// Who opens a ledger file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one gateway: claims the file for as long as it runs.
    Gateway,
    /// A command: works on the file for a moment, whether or not a gateway runs.
    Visitor,
}

/// How to open an embedded ledger.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The file; `None` for memory.
    pub path: Option<PathBuf>,
    /// The calendar of the windows.
    pub calendar: Calendar,
    /// The clock that decides.
    pub clock: Clock,
    /// Who opens it. Memory has no visitors.
    pub role: Role,
    /// Operations that may wait for the thread of a file.
    pub queue: usize,
}

/// The embedded engine. Clones share it; dropping the last one writes what is left and closes the file.
#[derive(Clone, Debug)]
pub struct EmbeddedLedger {
    engine: Arc<Engine>,
}

#[derive(Debug)]
enum Engine {
    Memory(Box<Mutex<Books<MemoryStore>>>),
    File(Writer),
}

/// What a ledger file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Whether a gateway runs on it.
    pub claimed: bool,
    /// The latest time that any of its budgets has seen; `None` before the first call.
    pub latest: Option<Millis>,
}

/// Reads a whole ledger file and checks what decides about money. Makes an empty one where there is none.
pub fn inspect(path: &Path) -> Result<Inspected, LedgerError> {
    let path = schema::place(path)?;
    let latest = schema::verify(&schema::connect(&path)?)?;
    Ok(Inspected { claimed: writer::is_claimed(&path)?, latest: (latest > 0).then_some(latest) })
}

/// Does one operation on the books, wherever they are kept.
macro_rules! on {
    ($self:ident, writes: $writes:literal, |$books:ident| $work:expr) => {
        match &*$self.engine {
            Engine::Memory(books) => {
                // Books that a panic may have left half done are not believed.
                let mut books = books.lock().map_err(|_| LedgerError::Unavailable("the books are damaged".into()))?;
                let $books = &mut *books;
                $work
            }
            Engine::File(writer) => writer.ask($writes, move |$books| $work).await,
        }
    };
}

impl EmbeddedLedger {
    /// Opens a ledger. A file that is damaged, read-only, of a newer version or another gateway's is refused.
    pub fn open(options: EmbeddedOptions) -> Result<EmbeddedLedger, LedgerError> {
        let time = Time::new(options.clock, options.calendar);
        let engine = match options.path {
            Some(path) => Engine::File(Writer::open(path, options.role, options.queue, time)?),
            None => Engine::Memory(Box::new(Mutex::new(Books::new(MemoryStore::default(), time)))),
        };
        Ok(EmbeddedLedger { engine: Arc::new(engine) })
    }

    /// See [`super::Ledger::reserve`].
    pub async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        let ask = ask.clone();
        on!(self, writes: true, |books| books.reserve(&ask))
    }

    /// See [`super::Ledger::reserve_all`]: one transaction.
    pub async fn reserve_all(&self, asks: &[Arc<Reserve>]) -> Vec<Result<Verdict, LedgerError>> {
        match self.reserve_each(asks.to_vec()).await {
            Ok(done) => done,
            Err(error) => asks.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn reserve_each(&self, asks: Vec<Arc<Reserve>>) -> Result<Vec<Result<Verdict, LedgerError>>, LedgerError> {
        on!(self, writes: true, |books| Ok(asks.iter().map(|ask| books.reserve(ask)).collect()))
    }

    /// See [`super::Ledger::settle`].
    pub async fn settle(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        let at = at.clone();
        on!(self, writes: true, |books| books.settle(&at, charge))
    }

    /// See [`super::Ledger::settle_all`]: one transaction.
    pub async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        match self.settle_each(ends.to_vec()).await {
            Ok(done) => done,
            Err(error) => ends.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn settle_each(
        &self,
        ends: Vec<(Arc<HoldRef>, Charge)>,
    ) -> Result<Vec<Result<Settled, LedgerError>>, LedgerError> {
        on!(self, writes: true, |books| Ok(ends.iter().map(|(at, charge)| books.settle(at, *charge)).collect()))
    }

    /// See [`super::Ledger::sweep`]. `told` hears of the holds before they are charged. One that cannot be charged keeps no other from its
    /// end: the last such error is returned when all were seen.
    pub async fn sweep(&self, most: usize, told: Option<&dyn Recorder>) -> Result<Sweep, LedgerError> {
        let (mut done, mut trouble, mut after) = (Sweep::default(), None, None);
        loop {
            let left = most.saturating_sub(usize::try_from(done.expired).unwrap_or(usize::MAX));
            let due = self.due(after, left).await?;
            if let Some(recorder) = told {
                let known = due.holds.iter().filter(|hold| !hold.is_probe());
                recorder.due(&known.map(|hold| hold.books()).collect::<Vec<_>>()).await?;
            }
            let (expired, failed) = self.expire_all(due.holds).await?;
            done.expired += expired.expired;
            done.charged = rules::counted(done.charged, expired.charged);
            trouble = failed.or(due.trouble).or(trouble);
            after = due.next;
            if after.is_none() {
                return trouble.map_or(Ok(done), Err);
            }
        }
    }

    async fn due(&self, after: Option<Due>, most: usize) -> Result<DuePage, LedgerError> {
        on!(self, writes: true, |books| books.due(after, most))
    }

    async fn expire_all(&self, due: Vec<Arc<LiveHold>>) -> Result<(Sweep, Option<LedgerError>), LedgerError> {
        on!(self, writes: true, |books| books.expire_all(&due))
    }

    /// See [`super::Ledger::standing`].
    pub async fn standing(&self, holds: &[HoldRef]) -> Result<Vec<Standing>, LedgerError> {
        let holds = holds.to_vec();
        on!(self, writes: false, |books| books.standing(&holds))
    }

    /// See [`super::Ledger::key_by_hash`].
    pub async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        let hash = *hash;
        on!(self, writes: false, |books| books.key_by_hash(&hash))
    }

    /// See [`super::Ledger::create_key`].
    pub async fn create_key(&self, record: &KeyRecord) -> Result<(), LedgerError> {
        let record = record.clone();
        on!(self, writes: true, |books| books.create_key(&record))
    }

    /// See [`super::Ledger::create_team`].
    pub async fn create_team(&self, record: &TeamRecord) -> Result<(), LedgerError> {
        let record = record.clone();
        on!(self, writes: true, |books| books.create_team(&record))
    }

    /// See [`super::Ledger::nodes`].
    pub async fn nodes(&self) -> Result<Vec<Node>, LedgerError> {
        on!(self, writes: false, |books| books.nodes())
    }

    /// See [`super::Ledger::node`].
    pub async fn node(&self, id: &NodeId) -> Result<Option<Node>, LedgerError> {
        let id = id.clone();
        on!(self, writes: false, |books| books.node(&id))
    }

    /// See [`super::Ledger::edit`].
    pub async fn edit(&self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        let (id, edit) = (id.clone(), edit.clone());
        on!(self, writes: true, |books| books.edit(&id, &edit))
    }

    /// See [`super::Ledger::status`].
    pub async fn status(&self, id: &NodeId) -> Result<NodeStatus, LedgerError> {
        let id = id.clone();
        on!(self, writes: false, |books| books.status(&id))
    }

    /// See [`super::Ledger::session`].
    pub async fn session(&self, key: &NodeId, session: &str) -> Result<Option<SessionStatus>, LedgerError> {
        let (key, session) = (key.clone(), session.to_string());
        on!(self, writes: false, |books| books.session(&key, &session))
    }

    /// See [`super::Ledger::set_session_state`].
    pub async fn set_session_state(&self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        let (key, session) = (key.clone(), session.to_string());
        on!(self, writes: true, |books| books.set_session_state(&key, &session, state))
    }

    /// See [`super::Ledger::holds`].
    pub async fn holds(&self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        on!(self, writes: true, |books| books.holds(most))
    }

    /// See [`super::Ledger::record`].
    pub async fn record(&self, id: &NodeId) -> Result<Option<(Node, u64)>, LedgerError> {
        let id = id.clone();
        on!(self, writes: false, |books| books.record(&id))
    }

    /// See [`super::Ledger::inspect`]: the file is claimed by this gateway, and durable before it answers.
    pub async fn inspect(&self, _forget: &(dyn Fn() + Sync)) -> Result<(), LedgerError> {
        Ok(())
    }

    /// See [`super::Ledger::books`].
    pub async fn books(&self) -> Result<BooksStatus, LedgerError> {
        Ok(BooksStatus::default())
    }

    /// See [`super::Ledger::accept`].
    pub async fn accept(&self) -> Result<BooksStatus, LedgerError> {
        Err(LedgerError::Conflict("the books of a file are never in doubt: there is nothing to accept".into()))
    }

    /// See [`super::Ledger::halt`]: a file belongs to one process.
    pub async fn halt(&self, _roots: &[NodeId]) -> Result<Halted, LedgerError> {
        Ok(Halted { quiet_after: Duration::ZERO, token: String::new(), renewal: None })
    }

    /// See [`super::Ledger::give_up`].
    pub async fn give_up(&self, _halted: &Halted) -> Result<(), LedgerError> {
        Ok(())
    }

    /// See [`super::Ledger::restore`]: only into a ledger without keys.
    pub async fn restore(&self, snapshot: &Snapshot, _halted: &Halted) -> Result<(), LedgerError> {
        let snapshot = snapshot.clone();
        on!(self, writes: true, |books| books.restore(&snapshot))
    }

    /// See [`super::Ledger::time`].
    pub async fn time(&self) -> Result<Millis, LedgerError> {
        on!(self, writes: false, |books| Ok(books.time()))
    }

    /// See [`super::Ledger::probe`]: two steps, each of them on the disk before the next.
    pub async fn probe(&self) -> Result<(), LedgerError> {
        let hold = HoldId::random()?;
        let at = on!(self, writes: true, |books| books.probe_hold(hold))?;
        on!(self, writes: true, |books| books.probe_release(&at))
    }
}

//! The thread that owns the file: it takes the operations that wait, does them all, commits once, and then answers.

use std::fmt;
use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::ledger::LedgerError;

use super::Role;
use super::books::Books;
use super::file::FileStore;
use super::schema::{self, trouble};
use super::time::Time;

/// Operations in one transaction at most.
const BATCH: usize = 512;

/// Tells a caller what came of the batch, and hands over the answer if that is on the disk.
type Answer = Box<dyn FnOnce(&Result<(), LedgerError>)>;

/// What an operation does; without books, because no transaction could begin, it does nothing.
type Work = Box<dyn FnOnce(Option<&mut Books<FileStore>>) -> Answer + Send>;

/// One operation on its way to the thread.
struct Job {
    writes: bool,
    work: Work,
}

/// The caller's end of the thread.
pub struct Writer {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// A gateway's claim on the file, released after the thread has ended.
    _claim: Option<File>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Writer {
    /// Opens a file, checks it as far as the role needs, and starts the thread. At most `queue` operations wait for it; beyond them,
    /// callers wait to be let in.
    pub fn open(path: PathBuf, role: Role, queue: usize, time: Time) -> Result<Writer, LedgerError> {
        // One name for one file, whatever links lead to it and wherever the process goes: the claim depends on it.
        let path = schema::place(&path)?;
        let claim = match role {
            Role::Gateway => Some(claim(&path)?),
            Role::Visitor => None,
        };
        let connection = schema::connect(&path)?;
        let mut horizon = i64::MIN;
        if role == Role::Gateway {
            horizon = schema::verify(&connection)?;
            // A real write: a file or disk that takes none is found now, and not by the first call.
            let sql = "UPDATE meta SET value = value + 1 WHERE name = 'opened'";
            connection.execute(sql, []).map_err(|e| trouble(&e))?;
        }
        let books = Books::new(FileStore::new(path.clone(), connection, horizon), time);
        let (jobs, waiting) = mpsc::channel(queue.max(1));
        let thread = std::thread::Builder::new().name("ledger".into()).spawn(move || run(books, waiting));
        let thread = thread.map_err(|e| LedgerError::Unavailable(format!("no thread for the ledger: {e}")))?;
        Ok(Writer { path, jobs: Some(jobs), thread: Some(thread), _claim: claim })
    }

    /// Has the thread do something with the books, and waits until what it did is on the disk.
    pub async fn ask<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&mut Books<FileStore>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |books: Option<&mut Books<FileStore>>| -> Answer {
            let done = books.map_or_else(|| Err(gone()), work);
            Box::new(move |committed| {
                // The commit's error comes first: it undid what was done.
                // A caller that does not wait any more gets no answer; what was done stays done.
                let _ = reply.send(committed.clone().and(done));
            })
        });
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { writes, work }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a sender the thread does what still waits, closes the file and ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> LedgerError {
    LedgerError::Unavailable("the ledger has stopped".into())
}

/// Whether a gateway has the file right now. Asks for its lock for an instant, and shared, so that two who ask do not meet.
pub fn is_claimed(path: &Path) -> Result<bool, LedgerError> {
    let lock = schema::beside(path, ".lock");
    let cannot = |e: std::io::Error| LedgerError::Unavailable(format!("{} cannot be locked ({e})", lock.display()));
    let file = match File::options().read(true).open(&lock) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(cannot(e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(cannot(e)),
    }
}

/// Claims a file for one gateway. The system frees the claim when the process ends, however it ends.
fn claim(path: &Path) -> Result<File, LedgerError> {
    let lock = schema::beside(path, ".lock");
    let cannot = |e: std::io::Error| LedgerError::Unavailable(format!("{} cannot be locked ({e})", lock.display()));
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&lock).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Conflict(format!(
            "another gateway is running on {}: stop it first, or use a Redis ledger for several gateways",
            path.display()
        ))),
        Err(TryLockError::Error(e)) => Err(cannot(e)),
    }
}

fn run(mut books: Books<FileStore>, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < BATCH {
            let Ok(next) = waiting.try_recv() else { break };
            jobs.push(next);
        }
        // Whoever waits for a job that panicked is told that the ledger has stopped; the next batch starts from the file.
        if catch_unwind(AssertUnwindSafe(|| batch(&mut books, jobs))).is_err() {
            books.store.rollback();
        }
    }
    books.store.close();
}

/// Does all jobs in one transaction. Nobody is answered before it is on the disk.
fn batch(books: &mut Books<FileStore>, jobs: Vec<Job>) {
    let begun = books.store.begin(jobs.iter().any(|job| job.writes));
    let work = |job: Job| (job.work)(begun.is_ok().then_some(&mut *books));
    let answers: Vec<Answer> = jobs.into_iter().map(work).collect();
    let done = begun.and_then(|()| books.store.commit());
    if done.is_err() {
        books.store.rollback();
    }
    for answer in answers {
        answer(&done);
    }
}

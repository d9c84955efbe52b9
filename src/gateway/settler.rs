//! Ends holds, in the background, until the ledger has taken every settlement.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::spool::{self, Spool};
use crate::alerts::Notes;
use crate::journal;
use crate::ledger::{Charge, HoldId, HoldRef, Ledger, LedgerError, Settled};
use crate::money::Money;
use crate::observe::metrics;

/// Settlements sent to the ledger at once.
const BATCH: usize = 256;
/// How long to wait before a settlement that the ledger did not take is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The same where the ledger answered, and refused: it will hardly change its mind, and each time is an error in the log.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(30);

/// One settlement to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The hold.
    pub at: Arc<HoldRef>,
    /// How it ends.
    pub charge: Charge,
    /// Provider, for metrics.
    pub provider: Arc<str>,
    /// Model as the price table names it, for metrics.
    pub model: Arc<str>,
    /// True when the hold is known to have been taken; false when only its reserve was sent.
    pub taken: bool,
    /// Its place among the calls that end ([`Settler::announce`]); no two have the same.
    #[serde(skip)]
    pub ending: u64,
}

/// Calls whose end their clients may have seen and the ledger has not.
#[derive(Default)]
struct Endings {
    next: u64,
    open: BTreeSet<u64>,
}

/// Jobs that are with nobody.
#[derive(Default)]
struct Queue {
    fresh: VecDeque<Job>,
    /// Jobs that the ledger did not take, or that others left, and when each is sent: first due first.
    failed: VecDeque<(Instant, Job)>,
}

impl Queue {
    /// The next jobs to be sent, those that failed before first. They take half of the batch at most while others wait: what cannot be
    /// settled, because its part of the ledger is away, must not hold up what can.
    fn take(&mut self, now: Instant) -> VecDeque<Job> {
        let most = BATCH - self.fresh.len().min(BATCH / 2);
        let due = self.failed.iter().take(most).take_while(|(at, _)| *at <= now).count();
        let mut jobs: VecDeque<Job> = self.failed.drain(..due).map(|(_, job)| job).collect();
        let count = self.fresh.len().min(BATCH - due);
        jobs.extend(self.fresh.drain(..count));
        jobs
    }

    /// Takes a job back until it is due again.
    fn wait(&mut self, due: Instant, job: Job) {
        let at = self.failed.partition_point(|(other, _)| *other <= due);
        self.failed.insert(at, (due, job));
    }
}

/// The queue of settlements. Whoever owns a hold pushes exactly one job for it.
#[derive(Default)]
pub struct Settler {
    queue: Mutex<Queue>,
    wake: Notify,
    /// Jobs pushed and not yet applied.
    pending: AtomicUsize,
    /// The same jobs, and which of them are on disk.
    spool: Arc<Spool>,
    /// Somebody runs [`Settler::run`].
    running: AtomicBool,
    endings: Mutex<Endings>,
    /// Rung when endings have reached the ledger.
    ended: Notify,
    /// Told of every charge.
    notes: Arc<Notes>,
}

impl Settler {
    /// An empty queue.
    pub fn new(notes: Arc<Notes>) -> Self {
        Settler { notes, ..Settler::default() }
    }

    /// A call is about to end: its client may see that before the ledger does. Returns its place, for [`Job::ending`].
    pub fn announce(&self) -> u64 {
        let mut endings = self.endings();
        let place = endings.next;
        endings.next += 1;
        endings.open.insert(place);
        place
    }

    /// Waits until the ledger knows of every call that was announced so far, or until `patience` ends. False when none was open.
    pub async fn earlier_endings(&self, patience: impl Future<Output = ()>) -> bool {
        let before = self.endings().next;
        let mut waited = false;
        tokio::pin!(patience);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.endings().open.first().is_none_or(|first| *first >= before) {
                return waited;
            }
            waited = true;
            tokio::select! {
                biased;
                () = ended => {}
                () = &mut patience => return true,
            }
        }
    }

    /// How many calls have ended in the ledger so far.
    pub fn ended_so_far(&self) -> u64 {
        let endings = self.endings();
        endings.next - endings.open.len() as u64
    }

    fn endings(&self) -> MutexGuard<'_, Endings> {
        self.endings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a hold.
    pub fn push(&self, job: Job) {
        self.owe(&job, false);
        self.queue().fresh.push_back(job);
        self.wake.notify_one();
    }

    fn owe(&self, job: &Job, saved: bool) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        metrics::unsettled(1);
        self.spool.owes(job, saved);
    }

    /// Keeps on disk what the ledger does not take, in `folder`; first of all takes over what an earlier gateway left there, and what it
    /// `announced` last.
    pub fn keep_in(&self, folder: &Path, announced: Vec<Job>) -> std::io::Result<()> {
        let left = self.spool.open(folder, announced)?;
        self.inherit(left, true);
        self.spool.keep()
    }

    /// Takes over what a gateway that is gone left in its folder, and what it `announced` last. Its file is removed once all of it is in the
    /// own one. After an error the same may be tried again: what is owed here already is not taken twice.
    pub fn adopt(&self, orphan: &Path, announced: Vec<Job>) -> std::io::Result<()> {
        let file = orphan.join(spool::FILE);
        let mut left: HashMap<HoldId, Job> = announced.into_iter().map(|job| (job.at.hold.clone(), job)).collect();
        left.extend(spool::read(&file)?);
        self.spool.leave_out_owed(&mut left);
        self.inherit(left.into_values().collect(), false);
        self.spool.save(Duration::ZERO)?;
        match std::fs::remove_file(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// What others left goes beside the own settlements, not before or behind them.
    fn inherit(&self, left: Vec<Job>, saved: bool) {
        if !left.is_empty() {
            log::warn!(
                "{} settlements of an earlier run are made now, where the ledger has not taken them",
                left.len()
            );
        }
        for job in left {
            failpoint!("spool_replayed");
            let job = Job { ending: self.announce(), ..job };
            self.owe(&job, saved);
            self.queue().wait(Instant::now(), job);
            self.wake.notify_one();
        }
    }

    /// At the end, when all that was owed is made or written down: the next gateway in the folder need not ask what became of the last calls.
    pub fn leaves_nothing(&self) -> std::io::Result<()> {
        self.spool.folder().map_or(Ok(()), |folder| journal::mark_answered(&folder))
    }

    /// Writes down what is owed, at the end. Returns how many settlements wait on disk, `None` where there is none.
    pub fn save_all(&self) -> std::io::Result<Option<usize>> {
        self.spool.save(Duration::ZERO)
    }

    /// True when what the ledger did not take cannot be written down either.
    pub fn is_failing(&self) -> bool {
        self.spool.is_failing()
    }

    /// Settlements that the ledger has not taken yet.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// Settles from now on, on the runtime of the caller: that of the requests, next to their ledger connection. A panic ends nothing.
    pub fn start(self: &Arc<Self>, ledger: &Ledger) {
        let (settler, ledger) = (self.clone(), ledger.clone());
        tokio::spawn(async move {
            while let Err(ended) = tokio::spawn(settler.clone().run(ledger.clone())).await {
                log::error!("the task that settles calls has ended and begins again: {ended}");
                sleep(RETRY_AFTER).await;
            }
        });
    }

    /// Settles for ever.
    async fn run(self: Arc<Self>, ledger: Ledger) {
        self.running.store(true, Ordering::Release);
        loop {
            if !self.settle_some(&ledger, Instant::now).await {
                self.something_to_do().await;
            }
        }
    }

    /// Makes what other gateways left to be made, until the first request has started `run`.
    pub async fn run_until_served(self: Arc<Self>, ledger: Ledger) {
        while !self.running.load(Ordering::Acquire) {
            if !self.settle_some(&ledger, Instant::now).await {
                sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Waits for a job, or for one that failed to be due again.
    async fn something_to_do(&self) {
        let due = self.queue().failed.front().map(|(due, _)| *due);
        match due {
            None => self.wake.notified().await,
            Some(due) => drop(timeout_at(due, self.wake.notified()).await),
        }
    }

    /// Settles what is left, at shutdown, on a runtime that outlives the server's. True when nothing is left.
    pub async fn drain(&self, ledger: &Ledger, deadline: Instant) -> bool {
        while self.pending() > 0 {
            let round = async {
                if !self.settle_some(ledger, Instant::now).await {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            if timeout_at(deadline, round).await.is_err() {
                return self.pending() == 0;
            }
        }
        true
    }

    /// Sends the settlements that wait, together; while the ledger is busy with them, the next ones gather. False when there
    /// were none. `now` tells the time by which those that failed are due again.
    pub async fn settle_some(&self, ledger: &Ledger, now: impl Fn() -> Instant) -> bool {
        let jobs = self.queue().take(now());
        if jobs.is_empty() {
            return false;
        }
        let mut batch = InWork { jobs, settler: self };
        let ends: Vec<(Arc<HoldRef>, Charge)> = batch.jobs.iter().map(|job| (job.at.clone(), job.charge)).collect();
        let started = std::time::Instant::now();
        failpoint!("settlement_unsent");
        let results = ledger.settle_all(&ends).await;
        failpoint!("settlement_answered");
        batch.end(results, started.elapsed(), now());
        true
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Jobs that are with the ledger. If their task is dropped (the server's runtime ends), they go back to the queue.
struct InWork<'a> {
    jobs: VecDeque<Job>,
    settler: &'a Settler,
}

impl InWork<'_> {
    /// Takes the ledger's answers, in the order of the jobs. What it did not take is sent again later.
    fn end(&mut self, results: Vec<Result<Settled, LedgerError>>, took: Duration, now: Instant) {
        let mut unavailable = 0;
        let mut applied = Vec::with_capacity(results.len());
        for result in results {
            let Some(job) = self.jobs.pop_front() else { break };
            metrics::ledger("settle", took);
            let patience = match result {
                Ok(settled) => {
                    report(&job, settled);
                    self.settler.notes.charged(&job.at);
                    applied.push(job.ending);
                    self.settler.pending.fetch_sub(1, Ordering::AcqRel);
                    metrics::unsettled(-1);
                    continue;
                }
                Err(LedgerError::Unavailable(reason) | LedgerError::Lost(reason)) => {
                    if unavailable == 0 {
                        metrics::ledger_up(false);
                        log::warn!("settlement of hold {} waits for the ledger: {reason}", job.at.hold);
                    }
                    unavailable += 1;
                    RETRY_AFTER
                }
                Err(other) => {
                    log::error!("settlement of hold {} was not taken: {other}", job.at.hold);
                    REFUSED_RETRY_AFTER
                }
            };
            self.settler.queue().wait(now + patience, job);
        }
        self.settler.spool.made(&applied);
        {
            let mut endings = self.settler.endings();
            for ending in &applied {
                endings.open.remove(ending);
            }
        }
        self.settler.ended.notify_waiters();
        if unavailable > 1 {
            log::warn!("and {} more settlements wait for the ledger", unavailable - 1);
        }
    }
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            self.settler.queue().fresh.extend(self.jobs.drain(..));
            self.settler.wake.notify_one();
        }
    }
}

fn report(job: &Job, settled: Settled) {
    match settled {
        Settled::Applied { charged, held } => {
            let model = job.model.split_once('/').map_or(&*job.model, |(_, model)| model);
            metrics::charged(&job.provider, model, charged);
            metrics::refunded(held.saturating_sub(charged));
            if charged > held {
                let overrun = charged.saturating_sub(held);
                metrics::overrun(overrun);
                log::error!(
                    "hold {}: the provider billed {overrun} USD beyond the bound of {held} USD; charged as debt",
                    job.at.hold
                );
            }
        }
        Settled::Corrected { charged, before } => {
            metrics::refunded(before.saturating_sub(charged));
            log::info!(
                "hold {}: a late settlement corrected a full charge of {before} USD to {charged} USD",
                job.at.hold
            );
        }
        Settled::Unknown if job.taken => {
            log::error!("hold {} is not in the ledger any more: were the books lost?", job.at.hold)
        }
        Settled::Already { charged } if job.taken && charged != Money::ZERO => {
            log::debug!("hold {} was settled before", job.at.hold)
        }
        Settled::Already { .. } | Settled::Unknown => {}
    }
}

#[cfg(test)]
mod tests;

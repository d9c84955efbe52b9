//! Ends holds, in the background, until the ledger has taken every settlement.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::ledger::{Charge, HoldRef, Ledger, LedgerError, Settled};
use crate::money::Money;
use crate::observe::metrics;

/// Settlements sent to the ledger at once.
const BATCH: usize = 256;
/// How long to wait before a settlement that the ledger did not take is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// One settlement to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// The hold.
    pub at: HoldRef,
    /// How it ends.
    pub charge: Charge,
    /// Provider, for metrics.
    pub provider: Arc<str>,
    /// Model as the price table names it, for metrics.
    pub model: Arc<str>,
    /// True when the hold is known to have been taken; false when only its reserve was sent.
    pub taken: bool,
}

/// The queue of settlements. Whoever owns a hold pushes exactly one job for it.
#[derive(Default)]
pub struct Settler {
    queue: Mutex<VecDeque<Job>>,
    wake: Notify,
    /// Jobs pushed and not yet applied.
    pending: AtomicUsize,
}

impl Settler {
    /// Takes over a hold.
    pub fn push(&self, job: Job) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        metrics::unsettled(1);
        self.queue().push_back(job);
        self.wake.notify_one();
    }

    /// Settlements that the ledger has not taken yet.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// Settles for ever. Runs on the runtime that serves requests, next to their ledger connection.
    pub async fn run(self: Arc<Self>, ledger: Ledger) {
        loop {
            if !self.settle_some(&ledger).await {
                self.wake.notified().await;
            }
        }
    }

    /// Settles what is left, at shutdown, on a runtime that outlives the server's. True when nothing is left.
    pub async fn drain(self: &Arc<Self>, ledger: &Ledger, deadline: Instant) -> bool {
        while self.pending() > 0 {
            let round = async {
                if !self.settle_some(ledger).await {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            if timeout_at(deadline, round).await.is_err() {
                return self.pending() == 0;
            }
        }
        true
    }

    /// Settles one batch. False when there was nothing to do.
    async fn settle_some(self: &Arc<Self>, ledger: &Ledger) -> bool {
        let jobs: Vec<Job> = {
            let mut queue = self.queue();
            let count = queue.len().min(BATCH);
            queue.drain(..count).collect()
        };
        match jobs.len() {
            0 => return false,
            1 => {
                for job in jobs {
                    InWork { job: Some(job), settler: self.clone() }.settle(ledger.clone()).await;
                }
            }
            _ => {
                let mut batch = JoinSet::new();
                for job in jobs {
                    let work = InWork { job: Some(job), settler: self.clone() };
                    batch.spawn(work.settle(ledger.clone()));
                }
                while batch.join_next().await.is_some() {}
            }
        }
        true
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that is with the ledger. If its task is dropped (the server's runtime ends), the job goes back to the queue.
struct InWork {
    job: Option<Job>,
    settler: Arc<Settler>,
}

impl InWork {
    async fn settle(mut self, ledger: Ledger) {
        while let Some(job) = &self.job {
            let started = std::time::Instant::now();
            let result = ledger.settle(&job.at, job.charge).await;
            metrics::ledger("settle", started.elapsed());
            match result {
                Ok(settled) => {
                    report(job, settled);
                    self.job = None;
                    self.settler.pending.fetch_sub(1, Ordering::AcqRel);
                    metrics::unsettled(-1);
                }
                Err(LedgerError::Unavailable(reason)) => {
                    metrics::ledger_up(false);
                    log::warn!("settlement of hold {} waits for the ledger: {reason}", job.at.hold);
                    sleep(RETRY_AFTER).await;
                }
                Err(other) => {
                    log::error!("settlement of hold {} was not taken: {other}", job.at.hold);
                    sleep(RETRY_AFTER).await;
                }
            }
        }
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.settler.queue().push_back(job);
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

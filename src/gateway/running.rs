//! Calls that hold money right now, so that an operator's stop or a deadline reaches each of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::link::ClientLink;
use super::refusal::Refusal;
use crate::ledger::{HoldId, HoldRef, Standing};

/// The switch that ends one call: what to tell its client, and the connection to wake.
pub struct CutSwitch {
    reason: OnceLock<Refusal>,
    /// The connection, and which of its calls it is.
    link: Option<(Arc<ClientLink>, u64)>,
}

impl CutSwitch {
    /// A switch for the call that runs on `link`.
    pub fn new(link: Option<Arc<ClientLink>>) -> Arc<Self> {
        let link = link.map(|link| {
            let call = link.call();
            (link, call)
        });
        Arc::new(CutSwitch { reason: OnceLock::new(), link })
    }

    /// Ends the call, whatever it waits for. Only the first reason counts.
    pub fn cut(&self, reason: Refusal) {
        if self.reason.set(reason).is_ok()
            && let Some((link, call)) = &self.link
        {
            link.abort(*call);
        }
    }

    /// Why the call must end.
    pub fn reason(&self) -> Option<&Refusal> {
        self.reason.get()
    }
}

/// One running call.
struct Entry {
    at: Arc<HoldRef>,
    since: Instant,
    switch: Arc<CutSwitch>,
}

/// The calls of this process that hold money.
#[derive(Default)]
pub struct Running {
    calls: Mutex<HashMap<HoldId, Entry>>,
}

impl Running {
    /// A call was admitted.
    pub fn add(&self, at: &Arc<HoldRef>, switch: Arc<CutSwitch>) {
        self.lock().insert(at.hold.clone(), Entry { at: at.clone(), since: Instant::now(), switch });
    }

    /// A call has ended.
    pub fn remove(&self, hold: &HoldId) {
        self.lock().remove(hold);
    }

    /// Calls that run for at least `age`.
    pub fn older_than(&self, age: Duration) -> Vec<(Arc<HoldRef>, Arc<CutSwitch>)> {
        let calls = self.lock();
        calls
            .values()
            .filter(|call| call.since.elapsed() >= age)
            .map(|call| (call.at.clone(), call.switch.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HoldId, Entry>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call is told whose standing is no longer good; `None` when it may go on.
pub fn cut_reason(standing: Standing, at: &HoldRef) -> Option<Refusal> {
    match standing {
        Standing::Good | Standing::Unknown => None,
        Standing::Stopped(state) => {
            Some(Refusal::stopped_while_running(at.chain.first().map_or("", |id| id.as_str()), state))
        }
        Standing::OverLimit => Some(Refusal::new(
            402,
            "budget_exceeded",
            "A limit was lowered below what is spent.",
            "An operator can raise it: loopers budget set",
        )),
    }
}

/// What a call is told that ran longer than the config admits.
pub fn deadline_reason(limit: Duration) -> Refusal {
    Refusal::new(
        504,
        "upstream_timeout",
        format!("The call ran for more than {} seconds.", limit.as_secs()),
        "Raise limits.call_seconds in loopers.yaml.",
    )
}

//! Readiness: a real hold and release on the ledger, one at a time, remembered for a moment.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::ledger::Ledger;
use crate::observe::metrics;

const PROBE_MOST: Duration = Duration::from_secs(1);
const REMEMBERED: Duration = Duration::from_millis(200);

/// What the last probe found.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, Result<(), String>)>>);

impl Readiness {
    /// The answer of a probe that is at most 200 ms old; requests that come at the same time share one.
    pub async fn check(&self, ledger: &Ledger) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < REMEMBERED
        {
            return found.clone();
        }
        let found = match tokio::time::timeout(PROBE_MOST, ledger.probe()).await {
            Ok(probed) => probed.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the ledger did not answer within {PROBE_MOST:?}")),
        };
        metrics::ledger_up(found.is_ok());
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

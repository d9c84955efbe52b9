//! How often each of many things happened lately, in bounded memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a full table is looked through for what is over.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Counts by number; each begins again when its period is over.
#[derive(Default)]
pub struct Counts {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    recent: HashMap<u128, Recent>,
    tidied: Option<Instant>,
}

/// What happened in one period.
struct Recent {
    since: Instant,
    times: u64,
}

impl Counts {
    /// `what` happened once more: how often in its period. `None` when it is new, and `most` other things are counted already.
    pub fn add(&self, now: Instant, what: u128, period: Duration, most: usize) -> Option<u64> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(recent) = table.recent.get_mut(&what) {
            if now.saturating_duration_since(recent.since) >= period {
                *recent = Recent { since: now, times: 0 };
            }
            recent.times = recent.times.saturating_add(1);
            return Some(recent.times);
        }
        if table.recent.len() >= most && !table.tidy(now, period, most) {
            return None;
        }
        table.recent.insert(what, Recent { since: now, times: 1 });
        Some(1)
    }

    /// How many things are counted.
    #[cfg(test)]
    pub fn counted(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).recent.len()
    }
}

impl Table {
    /// Forgets what is over. True when there is room then.
    fn tidy(&mut self, now: Instant, period: Duration, most: usize) -> bool {
        if self.tidied.is_some_and(|at| now.saturating_duration_since(at) < TIDY_EVERY) {
            return false;
        }
        self.tidied = Some(now);
        self.recent.retain(|_, recent| now.saturating_duration_since(recent.since) < period);
        self.recent.len() < most
    }
}

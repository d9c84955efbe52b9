//! A queue between calls and a thread that looks into it now and then: whoever pushes wakes nobody and never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a flush looks whether all is done.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A bounded queue that is emptied as a whole.
pub struct Queue<T> {
    items: Mutex<Vec<T>>,
    max: usize,
    pushed: AtomicU64,
    done: AtomicU64,
}

impl<T> Queue<T> {
    /// A queue of at most `max` items.
    pub fn new(max: usize) -> Self {
        Queue { items: Mutex::default(), max, pushed: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// Adds an item. False when it did not fit and is gone.
    pub fn push(&self, item: T) -> bool {
        let mut items = self.items();
        if items.len() >= self.max {
            return false;
        }
        items.push(item);
        self.pushed.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Takes all items in exchange for an empty vector, whose memory is used again.
    pub fn take(&self, batch: &mut Vec<T>) {
        batch.clear();
        std::mem::swap(&mut *self.items(), batch);
    }

    /// So many of the items that were taken need no more work.
    pub fn done(&self, count: usize) {
        self.done.fetch_add(count as u64, Ordering::AcqRel);
    }

    /// Waits until every item that was pushed so far is done, or until `deadline`. True when all are.
    pub async fn flush(&self, deadline: Instant) -> bool {
        let pushed = self.pushed.load(Ordering::Acquire);
        while self.done.load(Ordering::Acquire) < pushed {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    fn items(&self) -> MutexGuard<'_, Vec<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_a_flush_waits_for_what_fitted() {
        let queue = Queue::new(2);
        assert!(queue.push(1) && queue.push(2) && !queue.push(3));
        assert!(!queue.flush(Instant::now() + Duration::from_millis(20)).await, "nobody has done anything");
        let mut batch = Vec::new();
        queue.take(&mut batch);
        assert_eq!(batch, [1, 2]);
        assert!(queue.push(4), "there is room again");
        queue.done(batch.len());
        assert!(!queue.flush(Instant::now() + Duration::from_millis(20)).await, "one is left");
        queue.take(&mut batch);
        queue.done(batch.len());
        assert_eq!(batch, [4]);
        assert!(queue.flush(Instant::now() + Duration::from_secs(60)).await);
    }
}

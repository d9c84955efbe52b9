//! The gateway's estimate of the server's time, and the frame that goes with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;

use super::reply;
use crate::clock::{Calendar, Clock, Frame, Millis};
use crate::ledger::LedgerError;

/// A frame as the scripts read it: fifteen big-endian 64-bit integers.
pub(super) type PackedFrame = [u8; 120];

/// A frame, and the times for which it is the exact one.
struct Cached {
    from: Millis,
    until: Millis,
    packed: PackedFrame,
}

/// Computes frames and keeps the last one, because calendar arithmetic costs more than all else that a call does here.
pub(super) struct Frames {
    calendar: Calendar,
    offset_ms: Arc<AtomicI64>,
    /// How far the server's clock is before this machine's, as last seen in an answer.
    skew_ms: AtomicI64,
    cached: ArcSwapOption<Cached>,
}

impl Frames {
    pub(super) fn new(calendar: Calendar, offset_ms: Arc<AtomicI64>) -> Self {
        Frames { calendar, offset_ms, skew_ms: AtomicI64::new(0), cached: ArcSwapOption::empty() }
    }

    /// What the scripts add to the server's clock: 0 in production.
    pub(super) fn offset(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// The frame for now, as far as this machine knows the server's time.
    pub(super) fn current(&self) -> Result<PackedFrame, LedgerError> {
        let now = self.local() + self.skew_ms.load(Ordering::Relaxed);
        match &*self.cached.load() {
            Some(cached) if cached.from <= now && now < cached.until => Ok(cached.packed),
            _ => self.compute(now),
        }
    }

    /// The frame for the time of a tree, told together with the server's clock by a script that could not use the last one.
    pub(super) fn corrected(&self, now: Millis, clock: Millis) -> Result<PackedFrame, LedgerError> {
        self.skew_ms.store(clock - self.local(), Ordering::Relaxed);
        self.compute(now)
    }

    fn local(&self) -> Millis {
        Clock::System.now() + self.offset()
    }

    fn compute(&self, now: Millis) -> Result<PackedFrame, LedgerError> {
        let frame = self
            .calendar
            .frame(now)
            .map_err(|e| LedgerError::Unavailable(format!("no calendar for this time: {e}")))?;
        let packed = pack(&frame)?;
        let from = frame.starts.into_iter().max().unwrap_or(now);
        let until = frame.ends.into_iter().min().unwrap_or(now);
        self.cached.store(Some(Arc::new(Cached { from, until, packed })));
        Ok(packed)
    }
}

fn pack(frame: &Frame) -> Result<PackedFrame, LedgerError> {
    let mut packed = [0; 120];
    let times = frame.starts.iter().chain(&frame.ends).chain(&frame.next_ends);
    for (place, time) in packed.chunks_exact_mut(8).zip(times) {
        let time = u64::try_from(*time).map_err(|_| reply::unexpected("a time before 1970"))?;
        place.copy_from_slice(&time.to_be_bytes());
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_computed_once_for_its_minute_and_follows_the_offset() {
        let offset = Arc::new(AtomicI64::new(0));
        let frames = Frames::new(Calendar::utc(), Arc::clone(&offset));
        let first = frames.current().unwrap();
        let cached = frames.cached.load_full().unwrap();
        assert!(cached.until - cached.from <= 60_000);
        assert_eq!(first, cached.packed);
        offset.store(86_400_000, Ordering::Relaxed);
        assert_ne!(frames.current().unwrap(), first);
    }

    #[test]
    fn a_told_time_moves_the_estimate() {
        let frames = Frames::new(Calendar::utc(), Arc::default());
        let clock = Clock::System.now() + 3_600_000;
        let told = frames.corrected(clock, clock).unwrap();
        assert_eq!(&told[..8], &((clock / 60_000 * 60_000) as u64).to_be_bytes());
        assert!(frames.skew_ms.load(Ordering::Relaxed) > 3_599_000);
    }
}

//! The engine's clock with its calendar. Frames are remembered while they hold: calendar arithmetic is slow.

use crate::clock::{Calendar, Clock, Frame, Millis, WINDOWS};
use crate::ledger::LedgerError;

/// Frames remembered: one for now, the others for trees that have seen a later time.
const FRAMES: usize = 4;

/// Time as the embedded engine tells it.
#[derive(Clone, Debug)]
pub struct Time {
    clock: Clock,
    calendar: Calendar,
    frames: Vec<Frame>,
}

impl Time {
    /// The time of a clock in the windows of a calendar.
    pub fn new(clock: Clock, calendar: Calendar) -> Time {
        Time { clock, calendar, frames: Vec::with_capacity(FRAMES) }
    }

    /// The clock's time.
    pub fn clock(&self) -> Millis {
        self.clock.now()
    }

    /// The windows that hold `now`.
    pub fn frame(&mut self, now: Millis) -> Result<Frame, LedgerError> {
        let holds = |frame: &Frame| (0..WINDOWS).all(|i| frame.starts[i] <= now && now < frame.ends[i]);
        if let Some(frame) = self.frames.iter().find(|frame| holds(frame)) {
            return Ok(*frame);
        }
        let frame =
            self.calendar.frame(now).map_err(|e| LedgerError::Unavailable(format!("the clock is wrong: {e}")))?;
        self.frames.truncate(FRAMES - 1);
        self.frames.insert(0, frame);
        Ok(frame)
    }
}

//! Wall time, and the five calendar windows in the configured zone.
//!
//! A ledger engine owns the time that decides (Redis `TIME`, or the embedded engine's [`Clock`]); the calendar
//! turns an instant into windows. A window is named by the instant at which it starts, in milliseconds since 1970.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// The number of windows that every budget has.
pub const WINDOWS: usize = 5;

/// One of the five calendar windows, shortest first: the order in which limits are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// A minute of the clock.
    Minute,
    /// An hour of the clock, in the configured zone.
    Hourly,
    /// A calendar day in the configured zone.
    Daily,
    /// A week that starts on Monday.
    Weekly,
    /// A calendar month.
    Monthly,
}

impl Window {
    /// All five, in the order of their index.
    pub const ALL: [Window; WINDOWS] = [Window::Minute, Window::Hourly, Window::Daily, Window::Weekly, Window::Monthly];

    /// The place of this window in every array of five.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in the contract: `minute hourly daily weekly monthly`.
    pub const fn name(self) -> &'static str {
        match self {
            Window::Minute => "minute",
            Window::Hourly => "hourly",
            Window::Daily => "daily",
            Window::Weekly => "weekly",
            Window::Monthly => "monthly",
        }
    }

    /// How much later than its own start a start of the calendar must be to roll a window of this kind. Daylight saving makes a day two hours
    /// shorter at most; another zone moves a start by 26 hours at most, which must be no new week or month.
    pub const fn rolls_after(self) -> Millis {
        const HOUR: Millis = 3_600_000;
        match self {
            Window::Minute => 60_000,
            Window::Hourly => HOUR,
            Window::Daily => 22 * HOUR,
            Window::Weekly => 3 * 24 * HOUR,
            Window::Monthly => 14 * 24 * HOUR,
        }
    }

    /// The window of that name.
    pub fn from_name(name: &str) -> Option<Window> {
        Window::ALL.into_iter().find(|window| window.name() == name)
    }
}

/// The five windows that hold an instant: where each starts, where it ends, and where the one after it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Start of each window, inclusive.
    pub starts: [Millis; WINDOWS],
    /// End of each window, exclusive: the start of the next one.
    pub ends: [Millis; WINDOWS],
    /// End of the window after that, so that an engine whose clock is a little ahead can roll by itself.
    pub next_ends: [Millis; WINDOWS],
}

/// Calendar arithmetic in one zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
}

/// An instant that no calendar covers, or a zone that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CalendarError(String);

impl Calendar {
    /// A calendar in UTC.
    pub fn utc() -> Self {
        Calendar { zone: TimeZone::UTC }
    }

    /// A calendar in an IANA zone such as `Europe/Berlin`.
    pub fn in_zone(name: &str) -> Result<Self, CalendarError> {
        let zone = TimeZone::get(name)
            .map_err(|_| CalendarError(format!("`{name}` is not an IANA time zone such as UTC or Europe/Berlin")))?;
        Ok(Calendar { zone })
    }

    /// The windows that hold `now`.
    pub fn frame(&self, now: Millis) -> Result<Frame, CalendarError> {
        let mut frame = Frame { starts: [0; WINDOWS], ends: [0; WINDOWS], next_ends: [0; WINDOWS] };
        for window in Window::ALL {
            let i = window.index();
            (frame.starts[i], frame.ends[i]) = self.bounds(window, now)?;
            (_, frame.next_ends[i]) = self.bounds(window, frame.ends[i])?;
        }
        Ok(frame)
    }

    /// Start and end of the window of one kind that holds `now`.
    fn bounds(&self, window: Window, now: Millis) -> Result<(Millis, Millis), CalendarError> {
        let local = self.zoned(now)?;
        let today = local.date();
        let (start, end) = match window {
            Window::Minute => return Ok(even(now, 60_000, 0)),
            // Hours follow the local offset, so that they start on the hour in zones such as +05:30.
            Window::Hourly => return Ok(even(now, 3_600_000, i64::from(local.offset().seconds()) * 1000)),
            Window::Daily => (today, plus(today, Span::new().days(1))?),
            Window::Weekly => {
                let back = i64::from(today.weekday().to_monday_zero_offset());
                let monday = plus(today, Span::new().days(-back))?;
                (monday, plus(monday, Span::new().days(7))?)
            }
            Window::Monthly => {
                let first = today.first_of_month();
                (first, plus(first, Span::new().months(1))?)
            }
        };
        Ok((self.midnight(start)?, self.midnight(end)?))
    }

    fn zoned(&self, now: Millis) -> Result<ZonedDateTime, CalendarError> {
        let instant = Timestamp::from_millisecond(now).map_err(|e| CalendarError(e.to_string()))?;
        Ok(instant.to_zoned_datetime(self.zone.clone()))
    }

    /// The first instant of a local day, also where daylight saving skips midnight.
    fn midnight(&self, date: Date) -> Result<Millis, CalendarError> {
        let start = date.to_zoned_datetime(self.zone.clone()).map_err(|e| CalendarError(e.to_string()))?;
        Ok(start.timestamp().as_millisecond())
    }
}

fn plus(date: Date, span: Span) -> Result<Date, CalendarError> {
    date.checked_add(span).map_err(|e| CalendarError(e.to_string()))
}

/// The window of even length that holds `now`, counted from the local zero of `offset` milliseconds.
fn even(now: Millis, length: i64, offset: i64) -> (Millis, Millis) {
    let start = (now + offset).div_euclid(length) * length - offset;
    (start, start + length)
}

/// A source of wall time: the system's, or one that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// A clock that stands where a test put it.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that a test moves, starting at `now`.
    pub fn manual(now: Millis) -> Self {
        Clock::Manual(Arc::new(AtomicI64::new(now)))
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        match self {
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Clock::Manual(at) => at.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock to `now`; a system clock does not move.
    pub fn set(&self, now: Millis) {
        if let Clock::Manual(at) = self {
            at.store(now, Ordering::SeqCst);
        }
    }
}

/// An instant as RFC 3339 in UTC, for people: `2026-11-23T18:00:00Z`.
pub fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Millis {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn window(zone: &str, window: Window, now: &str) -> (String, String) {
        let (start, end) = Calendar::in_zone(zone).unwrap().bounds(window, ms(now)).unwrap();
        (rfc3339(start), rfc3339(end))
    }

    #[test]
    fn windows_follow_the_calendar_of_the_zone() {
        use Window::*;
        for (zone, kind, now, start, end) in [
            ("UTC", Minute, "2026-11-23T18:43:07Z", "2026-11-23T18:43:00Z", "2026-11-23T18:44:00Z"),
            ("UTC", Hourly, "2026-11-23T18:43:07Z", "2026-11-23T18:00:00Z", "2026-11-23T19:00:00Z"),
            ("Asia/Kolkata", Hourly, "2026-11-23T18:43:07Z", "2026-11-23T18:30:00Z", "2026-11-23T19:30:00Z"),
            ("UTC", Daily, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("UTC", Weekly, "2026-11-22T23:59:59.999Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            // ISO week 53 of 2026 runs into 2027.
            ("UTC", Weekly, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
            ("UTC", Monthly, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            // Days of 23 and 25 hours.
            ("Europe/Berlin", Daily, "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("Europe/Berlin", Daily, "2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // Midnight does not exist on that day in Beirut.
            ("Asia/Beirut", Daily, "2026-03-29T10:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
        ] {
            assert_eq!(window(zone, kind, now), (start.into(), end.into()), "{zone} {kind:?} {now}");
        }
    }

    #[test]
    fn windows_are_contiguous_through_years_of_any_zone() {
        for zone in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Beirut"]
        {
            let calendar = Calendar::in_zone(zone).unwrap();
            let mut now = ms("2026-01-01T00:00:00Z");
            while now < ms("2028-04-01T00:00:00Z") {
                let frame = calendar.frame(now).unwrap();
                for w in Window::ALL {
                    let i = w.index();
                    assert!(frame.starts[i] <= now && now < frame.ends[i], "{zone} {w:?} {}", rfc3339(now));
                    assert!(frame.ends[i] < frame.next_ends[i], "{zone} {w:?} {}", rfc3339(now));
                }
                now += 3_600_000 * 7 + 1234;
            }
        }
    }

    #[test]
    fn an_unknown_zone_says_what_to_write() {
        assert!(Calendar::in_zone("Mars/Olympus").unwrap_err().to_string().contains("Europe/Berlin"));
    }
}

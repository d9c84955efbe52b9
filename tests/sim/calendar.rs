//! The windows of an instant, reckoned apart from the program: days since 1970, and the one rule of daylight saving that is needed.

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Zones that a schedule may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Utc,
    /// One hour ahead of UTC, two from the last Sunday of March to the last Sunday of October, at one o'clock UTC.
    Berlin,
    /// Five and three quarters hours ahead.
    Kathmandu,
}

impl Zone {
    pub const ALL: [Zone; 3] = [Zone::Utc, Zone::Berlin, Zone::Kathmandu];

    pub fn name(self) -> &'static str {
        match self {
            Zone::Utc => "UTC",
            Zone::Berlin => "Europe/Berlin",
            Zone::Kathmandu => "Asia/Kathmandu",
        }
    }

    fn offset(self, at: i64) -> i64 {
        match self {
            Zone::Utc => 0,
            Zone::Kathmandu => 5 * HOUR + 45 * MINUTE,
            Zone::Berlin => {
                let (year, _, _) = date(at.div_euclid(DAY));
                let summer = last_sunday(year, 3) * DAY + HOUR..last_sunday(year, 10) * DAY + HOUR;
                if summer.contains(&at) { 2 * HOUR } else { HOUR }
            }
        }
    }

    /// The instant at which a local day begins.
    fn midnight(self, day: i64) -> i64 {
        let near = day * DAY;
        // The offset two hours before is that of midnight: no change of the clocks is so close to it.
        near - self.offset(near - 2 * HOUR)
    }

    /// Where the minute, hour, day, week and month of an instant start.
    pub fn starts(self, now: i64) -> [i64; 5] {
        let offset = self.offset(now);
        let local = now + offset;
        let day = local.div_euclid(DAY);
        // 1970-01-01 was a Thursday.
        let monday = day - (day + 3).rem_euclid(7);
        let (_, _, of_month) = date(day);
        [
            now.div_euclid(MINUTE) * MINUTE,
            local.div_euclid(HOUR) * HOUR - offset,
            self.midnight(day),
            self.midnight(monday),
            self.midnight(day - (of_month - 1)),
        ]
    }
}

/// Year, month and day of a day since 1970.
fn date(day: i64) -> (i64, i64, i64) {
    let mut year = 1970 + day.div_euclid(366);
    while day >= first(year + 1, 1) {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && day >= first(year, month + 1) {
        month += 1;
    }
    (year, month, day - first(year, month) + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The first day of a month, in days since 1970.
pub fn first(year: i64, month: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let past = year - 1;
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(past) - leaps(1969);
    days + BEFORE[(month - 1) as usize] + i64::from(month > 2 && is_leap(year))
}

fn last_sunday(year: i64, month: i64) -> i64 {
    // March and October have 31 days; day 3 of 1970 was a Sunday.
    let last = first(year, month) + 30;
    last - (last - 3).rem_euclid(7)
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (day, want) in [
        (0, (1970, 1, 1)),
        (20_819, (2027, 1, 1)),
        (21_243, (2028, 2, 29)),
        (20_514, (2026, 3, 2)),
        (11_016, (2000, 2, 29)),
    ] {
        assert_eq!(date(day), want);
    }
    // 2026-03-29 and 2026-10-25.
    assert_eq!((last_sunday(2026, 3), last_sunday(2026, 10)), (20_541, 20_751));
    // 2026-03-29T10:00Z in Berlin: a day of 23 hours that began at 23:00Z of the day before.
    let day = 20_541 * DAY;
    assert_eq!(Zone::Berlin.starts(day + 10 * HOUR)[2], day - HOUR);
    assert_eq!(Zone::Berlin.starts(day + DAY)[2], day + 22 * HOUR);
    assert_eq!(Zone::Kathmandu.starts(day + 43 * MINUTE + 7)[1], day + 15 * MINUTE);
}

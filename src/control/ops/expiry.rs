//! `--expires`: a time from now, a day, or an instant.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::OpError;
use crate::clock::Millis;

const MINUTE_MS: i64 = 60_000;
const DAYS_MOST: i64 = 36_500;

/// `90m`, `12h`, `30d`; a day such as `2026-12-31` (it ends access when that day starts in UTC); or an RFC 3339 instant.
pub fn expires_at(text: &str, now: Millis) -> Result<Millis, OpError> {
    let at = from_now(text, now).or_else(|| day(text)).or_else(|| instant(text));
    let at = at.ok_or_else(|| {
        OpError::invalid(format!("`{text}` is not a time"))
            .hint("write 90m, 12h, 30d, 2026-12-31 or 2026-12-31T18:00:00Z")
    })?;
    if at <= now {
        return Err(OpError::invalid(format!("`{text}` is in the past")));
    }
    if at - now > DAYS_MOST * 24 * 60 * MINUTE_MS {
        return Err(OpError::invalid(format!("`{text}` is more than {DAYS_MOST} days away")));
    }
    Ok(at)
}

fn from_now(text: &str, now: Millis) -> Option<Millis> {
    let unit = match text.bytes().last()? {
        b'm' => MINUTE_MS,
        b'h' => 60 * MINUTE_MS,
        b'd' => 24 * 60 * MINUTE_MS,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: i64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    now.checked_add(number.checked_mul(unit)?)
}

fn day(text: &str) -> Option<Millis> {
    let date: Date = (text.len() == 10).then(|| text.parse().ok())??;
    Some(date.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

fn instant(text: &str) -> Option<Millis> {
    Some(text.parse::<Timestamp>().ok()?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::rfc3339;

    #[test]
    fn times_are_read_or_refused() {
        let now = "2026-11-23T18:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        for (text, at) in [
            ("90m", "2026-11-23T19:30:00Z"),
            ("12h", "2026-11-24T06:00:00Z"),
            ("30d", "2026-12-23T18:00:00Z"),
            ("2026-12-31", "2026-12-31T00:00:00Z"),
            ("2026-12-31T18:00:00+02:00", "2026-12-31T16:00:00Z"),
        ] {
            assert_eq!(expires_at(text, now).map(rfc3339), Ok(at.to_string()), "{text}");
        }
        for text in [
            "",
            "d",
            "0d",
            "-1d",
            "1.5d",
            "1w",
            "30 d",
            "2026-11-23",
            "2026-13-01",
            "tomorrow",
            "99999999999999999999d",
            "36501d",
        ] {
            assert!(expires_at(text, now).is_err(), "{text} was accepted");
        }
    }
}

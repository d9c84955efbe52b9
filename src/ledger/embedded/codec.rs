//! Rows as bytes: fields of a fixed size, so that a row is rewritten in place, and a checksum at the end.
//!
//! SQLite notices a page that is torn in its structure; a flipped bit inside an amount only the checksum does.

use std::sync::Arc;

use crate::clock::{Millis, WINDOWS};
use crate::ledger::rules::{Counters, SessionBook, WindowBook};
use crate::ledger::{HoldId, HoldRef, NodeId, State};
use crate::money::Money;

use super::store::{HoldKey, LiveHold};

const SUM_BYTES: usize = 8;

/// FNV-1a over the parts: finds damage by accident, which is all that it is for.
pub fn checksum(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(capacity: usize) -> Writer {
        Writer(Vec::with_capacity(capacity + SUM_BYTES))
    }

    fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn time(&mut self, at: Millis) {
        self.0.extend_from_slice(&at.to_le_bytes());
    }

    fn money(&mut self, amount: Money) {
        self.number(amount.nano());
    }

    fn option(&mut self, value: Option<u64>) {
        self.0.push(u8::from(value.is_some()));
        self.number(value.unwrap_or(0));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Ends the row with a checksum that also covers where the row belongs: a row in another's place is damage too.
    fn finish(mut self, place: &[u8]) -> Vec<u8> {
        let sum = checksum(&[place, &self.0]);
        self.number(sum);
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The fields of a row, if its checksum is right.
    fn open(row: &'a [u8], place: &[u8]) -> Option<Reader<'a>> {
        let (body, sum) = row.split_at_checked(row.len().checked_sub(SUM_BYTES)?)?;
        (checksum(&[place, body]).to_le_bytes() == sum).then_some(Reader(body))
    }

    fn bytes<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (head, tail) = self.0.split_first_chunk::<COUNT>()?;
        self.0 = tail;
        Some(*head)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Millis> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn money(&mut self) -> Option<Money> {
        self.number().map(Money::from_nano)
    }

    fn option(&mut self) -> Option<Option<u64>> {
        let [is_some] = self.bytes()?;
        let value = self.number()?;
        Some((is_some == 1).then_some(value))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        std::str::from_utf8(head).ok()
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// The counters of the node in row `seq`.
pub fn write_counters(seq: i64, counters: &Counters) -> Vec<u8> {
    let mut row = Writer::new(144);
    for book in &counters.windows {
        row.time(book.start);
        row.money(book.spent);
        row.money(book.held);
    }
    row.money(counters.charged_total);
    row.money(counters.overrun_total);
    row.time(counters.clock);
    row.finish(&seq.to_le_bytes())
}

/// What [`write_counters`] wrote; `None` when the row is damaged.
pub fn read_counters(seq: i64, row: &[u8]) -> Option<Counters> {
    let mut row = Reader::open(row, &seq.to_le_bytes())?;
    let mut windows = [WindowBook::default(); WINDOWS];
    for book in &mut windows {
        *book = WindowBook { start: row.time()?, spent: row.money()?, held: row.money()? };
    }
    let counters = Counters { windows, charged_total: row.money()?, overrun_total: row.money()?, clock: row.time()? };
    row.end(counters)
}

/// The books of a session with this name.
pub fn write_session(name: &str, book: &SessionBook) -> Vec<u8> {
    let mut row = Writer::new(82);
    row.money(book.spent);
    row.money(book.held);
    row.number(book.steps);
    row.number(match book.state {
        State::Active => 0,
        State::Paused => 1,
        State::Killed => 2,
        State::Revoked => 3,
    });
    row.option(book.budget.map(Money::nano));
    row.option(book.steps_limit);
    row.number(book.open);
    row.time(book.used_at);
    row.time(book.born);
    row.finish(name.as_bytes())
}

/// What [`write_session`] wrote; `None` when the row is damaged.
pub fn read_session(name: &str, row: &[u8]) -> Option<SessionBook> {
    let mut row = Reader::open(row, name.as_bytes())?;
    let book = SessionBook {
        spent: row.money()?,
        held: row.money()?,
        steps: row.number()?,
        state: match row.number()? {
            0 => State::Active,
            1 => State::Paused,
            2 => State::Killed,
            3 => State::Revoked,
            _ => return None,
        },
        budget: row.option()?.map(Money::from_nano),
        steps_limit: row.option()?,
        open: row.number()?,
        used_at: row.time()?,
        born: row.time()?,
    };
    row.end(book)
}

/// An open or expired hold.
pub fn write_hold(key: &HoldKey, hold: &LiveHold) -> Vec<u8> {
    let mut row = Writer::new(328);
    row.text(&hold.at.hold.0);
    row.text(hold.at.session.as_deref().unwrap_or(""));
    row.time(hold.session_born);
    row.money(hold.amount);
    row.time(hold.expires_at);
    row.time(hold.expired_until.unwrap_or(Millis::MIN));
    row.text(&hold.note);
    row.number(hold.at.chain.len() as u64);
    for (id, starts) in hold.at.chain.iter().zip(&hold.starts) {
        row.text(id.as_str());
        for start in starts {
            row.time(*start);
        }
    }
    row.finish(&key.0)
}

/// What [`write_hold`] wrote; `None` when the row is damaged.
pub fn read_hold(key: &HoldKey, row: &[u8]) -> Option<LiveHold> {
    let mut row = Reader::open(row, &key.0)?;
    let hold = HoldId(row.text()?.into());
    // A session's name has at least one character.
    let session = Some(row.text()?).filter(|name| !name.is_empty()).map(Arc::from);
    let session_born = row.time()?;
    let amount = row.money()?;
    let expires_at = row.time()?;
    let expired_until = Some(row.time()?).filter(|until| *until != Millis::MIN);
    let note = row.text()?.to_string();
    let count = usize::try_from(row.number()?).ok()?;
    let mut chain = Vec::new();
    let mut starts = Vec::new();
    for _ in 0..count {
        chain.push(NodeId::from(row.text()?));
        let mut at = [0; WINDOWS];
        for start in &mut at {
            *start = row.time()?;
        }
        starts.push(at);
    }
    let at = HoldRef { hold, chain, session };
    row.end(LiveHold { at, session_born, starts, expired_until, amount, expires_at, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> LiveHold {
        LiveHold {
            at: HoldRef {
                hold: HoldId("h".into()),
                chain: vec!["k_1".into(), "t_1".into()],
                session: Some("s".into()),
            },
            session_born: 11,
            starts: vec![[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]],
            expired_until: Some(9),
            amount: Money::from_nano(7),
            expires_at: -3,
            note: "openai/gpt-4o".into(),
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let key = HoldKey([7; 16]);
        for live in [hold(), LiveHold { expired_until: None, at: HoldRef { session: None, ..hold().at }, ..hold() }] {
            assert_eq!(read_hold(&key, &write_hold(&key, &live)), Some(live));
        }
        let mut counters = Counters { clock: 5, charged_total: Money::from_nano(9), ..Counters::default() };
        counters.take(Money::from_nano(3));
        assert_eq!(read_counters(4, &write_counters(4, &counters)), Some(counters));
        for state in [State::Active, State::Paused, State::Killed, State::Revoked] {
            let budget = Some(Money::from_nano(1));
            let book = SessionBook { state, budget, steps: 3, open: 1, used_at: 8, ..SessionBook::new(5) };
            assert_eq!(read_session("s", &write_session("s", &book)), Some(book));
        }
    }

    #[test]
    fn any_flipped_bit_or_missing_byte_is_noticed() {
        let key = HoldKey([7; 16]);
        let row = write_hold(&key, &hold());
        for i in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert_eq!(read_hold(&key, &bad), None, "bit {i}");
        }
        for length in 0..row.len() {
            assert_eq!(read_hold(&key, &row[..length]), None, "{length} bytes");
        }
        assert_eq!(read_hold(&HoldKey([8; 16]), &row), None);
        assert_eq!(read_counters(5, &write_counters(4, &Counters::default())), None);
    }
}

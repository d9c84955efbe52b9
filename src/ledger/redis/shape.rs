//! Packed records, read and written exactly as `lua/prelude.lua` lays them out.

use std::sync::Arc;

use super::reply::unexpected;
use crate::clock::{Millis, WINDOWS};
use crate::ledger::rules::{Counters, SessionBook};
use crate::ledger::{HoldBooks, HoldId, HoldInfo, HoldRef, HoldState, LedgerError, Limits, NodeId, SettledBooks};
use crate::money::Money;

/// "No limit" where a limit is stored or sent.
pub(super) const NONE: u64 = 1 << 53;
/// Books in which nothing has happened: 18 zeros.
pub(super) const EMPTY_BOOKS: [u8; 144] = [0; 144];
/// The longest note that is kept, in bytes.
const NOTE_MAX: usize = 512;

/// Five limits.
pub(super) fn pack_limits(limits: &Limits) -> Result<[u8; 40], LedgerError> {
    let mut packed = [0; 40];
    for (place, limit) in packed.chunks_exact_mut(8).zip(limits.0) {
        place.copy_from_slice(&stored_limit(limit)?.to_be_bytes());
    }
    Ok(packed)
}

/// A limit as it is stored and sent.
pub(super) fn stored_limit(limit: Option<Money>) -> Result<u64, LedgerError> {
    match limit {
        None => Ok(NONE),
        Some(limit) if limit <= Money::COUNTER_MAX => Ok(limit.nano()),
        Some(limit) => Err(LedgerError::Conflict(format!("a limit of {limit} USD is above what the ledger counts"))),
    }
}

/// Reads what [`pack_limits`] wrote.
pub(super) fn read_limits(packed: &[u8]) -> Result<Limits, LedgerError> {
    if packed.len() != 8 * WINDOWS {
        return Err(unexpected("limits of a wrong length"));
    }
    let mut bytes = Bytes(packed);
    let mut limits = Limits::default();
    for limit in &mut limits.0 {
        *limit = match bytes.number()? {
            NONE => None,
            nano if nano < NONE => Some(Money::from_nano(nano)),
            _ => return Err(unexpected("a limit out of range")),
        };
    }
    Ok(limits)
}

/// Where a hold is taken from, as one text: ids joined with commas, a newline, the session.
pub(super) fn place(chain: &[NodeId], session: Option<&str>) -> String {
    let mut text = String::with_capacity(20 * chain.len() + 1 + session.map_or(0, str::len));
    for (i, id) in chain.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(id.as_str());
    }
    text.push('\n');
    text.push_str(session.unwrap_or_default());
    text
}

/// The chain that a location names.
pub(super) fn read_chain(text: &str) -> Result<Vec<NodeId>, LedgerError> {
    let chain: Vec<NodeId> = text.split(',').map(NodeId::from).collect();
    if chain.iter().any(|id| id.as_str().is_empty()) {
        return Err(unexpected("a chain with an empty id"));
    }
    Ok(chain)
}

/// A note cut to the length that is kept.
pub(super) fn short_note(note: &str) -> &str {
    let mut end = note.len().min(NOTE_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

/// Reads a hold. A settled one no longer says where it was taken from: `None`.
pub(super) fn read_hold(hold: &HoldId, packed: &[u8]) -> Result<Option<HoldBooks>, LedgerError> {
    let mut bytes = Bytes(packed);
    let state = match bytes.take(1)? {
        b"o" => HoldState::Open,
        b"e" => HoldState::Expired,
        b"s" => return Ok(None),
        _ => return Err(unexpected("a hold without a state")),
    };
    let amount = Money::from_nano(bytes.number()?);
    let charged = Money::from_nano(bytes.number()?);
    let expires_at = bytes.time()?;
    let (_forgotten, born) = (bytes.number()?, bytes.time()?);
    let place = bytes.text()?;
    let note = bytes.text()?.to_string();
    let (chain, session) = place.split_once('\n').ok_or_else(|| unexpected("a hold without a place"))?;
    let session = (!session.is_empty()).then(|| Arc::from(session));
    let at = HoldRef { hold: hold.clone(), chain: read_chain(chain)?, session };
    // Those of the first node: all were in the same windows.
    let mut starts = [0; WINDOWS];
    for start in &mut starts {
        *start = bytes.time()?;
    }
    let info = HoldInfo { at, state, amount, charged, expires_at, note };
    Ok(Some(HoldBooks { info, born, starts }))
}

/// Appends a counter or a time.
fn put(packed: &mut Vec<u8>, number: impl TryInto<u64>) -> Result<(), LedgerError> {
    let number: u64 = number.try_into().map_err(|_| unexpected("a number out of range"))?;
    if number > NONE {
        return Err(unexpected("a number out of range"));
    }
    packed.extend(number.to_be_bytes());
    Ok(())
}

fn put_text(packed: &mut Vec<u8>, text: &str) -> Result<(), LedgerError> {
    let length = u16::try_from(text.len()).map_err(|_| unexpected("a text that is too long"))?;
    packed.extend(length.to_be_bytes());
    packed.extend(text.as_bytes());
    Ok(())
}

/// The books of a node.
pub(super) fn pack_books(counters: &Counters) -> Result<Vec<u8>, LedgerError> {
    let mut packed = Vec::with_capacity(144);
    for window in &counters.windows {
        put(&mut packed, window.start)?;
        put(&mut packed, window.spent.nano())?;
        put(&mut packed, window.held.nano())?;
    }
    put(&mut packed, counters.charged_total.nano())?;
    put(&mut packed, counters.overrun_total.nano())?;
    put(&mut packed, counters.clock)?;
    Ok(packed)
}

/// A session.
pub(super) fn pack_session(book: &SessionBook) -> Result<Vec<u8>, LedgerError> {
    let mut packed = Vec::with_capacity(80);
    put(&mut packed, book.spent.nano())?;
    put(&mut packed, book.held.nano())?;
    put(&mut packed, book.open)?;
    put(&mut packed, book.steps)?;
    put(&mut packed, book.budget.map_or(NONE, Money::nano))?;
    put(&mut packed, book.steps_limit.unwrap_or(NONE))?;
    put(&mut packed, book.born)?;
    put(&mut packed, book.used_at)?;
    packed.extend(book.state.name().as_bytes());
    Ok(packed)
}

/// An open or expired hold, forgotten at `until` (0 while open).
pub(super) fn pack_hold(hold: &HoldBooks, until: Millis) -> Result<Vec<u8>, LedgerError> {
    let info = &hold.info;
    let mut packed = vec![if info.state == HoldState::Open { b'o' } else { b'e' }];
    put(&mut packed, info.amount.nano())?;
    put(&mut packed, info.charged.nano())?;
    put(&mut packed, info.expires_at)?;
    put(&mut packed, until)?;
    put(&mut packed, hold.born)?;
    put_text(&mut packed, &place(&info.at.chain, info.at.session.as_deref()))?;
    put_text(&mut packed, short_note(&info.note))?;
    for _ in &info.at.chain {
        for start in hold.starts {
            put(&mut packed, start)?;
        }
    }
    Ok(packed)
}

/// A settled hold.
pub(super) fn pack_settled(one: &SettledBooks) -> Result<Vec<u8>, LedgerError> {
    let mut packed = vec![b's'];
    put(&mut packed, one.amount.nano())?;
    put(&mut packed, one.charged.nano())?;
    for number in [0, one.until, 0] {
        put(&mut packed, number)?;
    }
    put_text(&mut packed, "")?;
    put_text(&mut packed, "")?;
    Ok(packed)
}

/// Packed bytes, read from left to right.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], LedgerError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| unexpected("a record cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, LedgerError> {
        let bytes = self.take(8)?.try_into().map_err(|_| unexpected("a record cut short"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn time(&mut self) -> Result<Millis, LedgerError> {
        i64::try_from(self.number()?).map_err(|_| unexpected("a time out of range"))
    }

    fn text(&mut self) -> Result<&'a str, LedgerError> {
        let length = self.take(2)?.try_into().map_err(|_| unexpected("a record cut short"))?;
        let bytes = self.take(usize::from(u16::from_be_bytes(length)))?;
        std::str::from_utf8(bytes).map_err(|_| unexpected("not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_packing_and_too_large_ones_are_refused() {
        let limits = Limits([Some(Money::ZERO), None, Some(Money::COUNTER_MAX), None, Some(Money::LIMIT_MAX)]);
        assert_eq!(read_limits(&pack_limits(&limits).unwrap()), Ok(limits));
        assert!(matches!(stored_limit(Some(Money::from_nano(NONE))), Err(LedgerError::Conflict(_))));
        assert!(read_limits(&[0; 39]).is_err());
        assert!(read_limits(&[0xff; 40]).is_err());
    }

    #[test]
    fn a_hold_cut_short_anywhere_is_an_error() {
        let mut packed = b"o".to_vec();
        let numbers = |packed: &mut Vec<u8>, numbers: [u64; 5]| {
            numbers.iter().for_each(|number| packed.extend(number.to_be_bytes()));
        };
        numbers(&mut packed, [7, 0, 1_764_000_000_000, 0, 9]);
        for text in ["k_1,t_1\nrun", "openai/gpt"] {
            packed.extend((text.len() as u16).to_be_bytes());
            packed.extend(text.as_bytes());
        }
        numbers(&mut packed, [5, 4, 3, 2, 1]);
        let id = HoldId("h".into());
        let HoldBooks { info: hold, born, starts } = read_hold(&id, &packed).unwrap().unwrap();
        assert_eq!((born, starts), (9, [5, 4, 3, 2, 1]));
        assert_eq!((hold.amount.nano(), hold.note.as_str()), (7, "openai/gpt"));
        assert_eq!(hold.at.chain, ["k_1".into(), "t_1".into()]);
        assert_eq!(hold.at.session.as_deref(), Some("run"));
        for length in 0..packed.len() {
            assert!(read_hold(&id, &packed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = "ü".repeat(400);
        assert!(short_note(&note).len() <= NOTE_MAX && note.starts_with(short_note(&note)));
        assert_eq!(short_note("short"), "short");
    }
}

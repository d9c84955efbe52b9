//! Strict reading of what Redis answers: whatever is not exactly as the scripts write it is an error, never a default.

use std::str::FromStr;

use ::redis::Value;

use crate::ledger::{LedgerError, State};
use crate::money::Money;

/// An answer that cannot be trusted.
pub(super) fn unexpected(what: &str) -> LedgerError {
    LedgerError::Unavailable(format!("unexpected reply: {what}"))
}

/// The text of a reply, `None` for nil.
pub(super) fn optional_text(value: Value) -> Result<Option<String>, LedgerError> {
    match value {
        Value::Nil => Ok(None),
        other => text(other).map(Some),
    }
}

/// The text of a reply.
pub(super) fn text(value: Value) -> Result<String, LedgerError> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| unexpected("not UTF-8")),
        Value::SimpleString(text) => Ok(text),
        Value::Okay => Ok("OK".into()),
        _ => Err(unexpected("not a text")),
    }
}

/// The bytes of a reply, `None` for nil.
pub(super) fn optional_bytes(value: Value) -> Result<Option<Vec<u8>>, LedgerError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        _ => Err(unexpected("not a string")),
    }
}

/// The elements of a reply.
pub(super) fn list(value: Value) -> Result<Vec<Value>, LedgerError> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(unexpected("not a list")),
    }
}

/// The elements of a reply, each a text.
pub(super) fn texts(value: Value) -> Result<Vec<String>, LedgerError> {
    list(value)?.into_iter().map(text).collect()
}

/// Exactly so many elements.
pub(super) fn array<const N: usize>(value: Value) -> Result<[Value; N], LedgerError> {
    list(value)?.try_into().map_err(|_| unexpected("wrong number of elements"))
}

/// A reply of words with single spaces between them, read from left to right.
pub(super) struct Words<'a> {
    whole: &'a str,
    rest: std::str::Split<'a, char>,
}

impl<'a> Words<'a> {
    pub(super) fn new(whole: &'a str) -> Self {
        Words { whole, rest: whole.split(' ') }
    }

    /// The next word, `None` at the end.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.rest.next()
    }

    /// The next word, which must be there.
    pub(super) fn word(&mut self) -> Result<&'a str, LedgerError> {
        self.rest.next().ok_or_else(|| self.bad())
    }

    /// A number in plain digits.
    pub(super) fn number<T: FromStr>(&mut self) -> Result<T, LedgerError> {
        let word = self.word()?;
        self.parse(word)
    }

    /// An amount in nano-dollars.
    pub(super) fn money(&mut self) -> Result<Money, LedgerError> {
        self.number().map(Money::from_nano)
    }

    /// A number, or `-` for none.
    pub(super) fn optional_number(&mut self) -> Result<Option<u64>, LedgerError> {
        match self.word()? {
            "-" => Ok(None),
            word => self.parse(word).map(Some),
        }
    }

    /// The name of a state.
    pub(super) fn state(&mut self) -> Result<State, LedgerError> {
        let word = self.word()?;
        State::from_name(word).ok_or_else(|| self.bad())
    }

    /// The end, and `value` if nothing is left over.
    pub(super) fn end<T>(mut self, value: T) -> Result<T, LedgerError> {
        match self.rest.next() {
            None => Ok(value),
            Some(_) => Err(self.bad()),
        }
    }

    /// The reply as an error.
    pub(super) fn bad(&self) -> LedgerError {
        unexpected(self.whole)
    }

    fn parse<T: FromStr>(&self, word: &str) -> Result<T, LedgerError> {
        let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        word.parse().ok().filter(|_| digits).ok_or_else(|| self.bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_digits_are_numbers() {
        for bad in ["", "x", "-1", "+1", "1.0", "1e3", "nan", "18446744073709551616", " 1"] {
            assert!(Words::new(bad).number::<u64>().is_err(), "{bad:?}");
        }
        assert_eq!(Words::new("9007199254740991").money(), Ok(Money::COUNTER_MAX));
    }

    #[test]
    fn missing_and_left_over_words_are_errors() {
        let mut words = Words::new("HELD 1");
        assert_eq!(words.word(), Ok("HELD"));
        assert_eq!(words.number::<u64>(), Ok(1));
        assert!(words.number::<u64>().is_err());
        let mut words = Words::new("HELD 1 2");
        words.word().unwrap();
        words.word().unwrap();
        assert!(words.end(()).is_err());
    }

    #[test]
    fn other_shapes_are_unavailable_and_never_a_default() {
        for value in [Value::Nil, Value::Int(3), Value::Array(vec![]), Value::BulkString(vec![0xff])] {
            assert!(matches!(text(value), Err(LedgerError::Unavailable(_))));
        }
        assert!(array::<2>(Value::Array(vec![Value::Nil])).is_err());
        assert!(list(Value::Int(1)).is_err());
    }
}

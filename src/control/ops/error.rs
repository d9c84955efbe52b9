//! Why an operation was not done, for the person who asked for it.

use std::fmt;

use crate::ledger::LedgerError;
use crate::money::MoneyError;

/// Whose fault it is: decides the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for makes no sense.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// The ledger did not answer; the operation may or may not have happened.
    Unavailable,
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// Whose fault it is.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl OpError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        OpError { kind: Kind::Invalid, message: message.into(), hint: String::new() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        OpError { kind: Kind::NotFound, ..OpError::invalid(message) }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        OpError { kind: Kind::Conflict, ..OpError::invalid(message) }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OpError {}

impl From<LedgerError> for OpError {
    fn from(error: LedgerError) -> Self {
        let kind = match error {
            LedgerError::Unavailable(_) | LedgerError::Lost(_) => Kind::Unavailable,
            LedgerError::NotFound(_) => Kind::NotFound,
            LedgerError::Conflict(_) => Kind::Conflict,
        };
        OpError { kind, ..OpError::invalid(error.to_string()) }
    }
}

impl From<MoneyError> for OpError {
    fn from(error: MoneyError) -> Self {
        OpError::invalid(error.to_string())
    }
}

impl From<getrandom::Error> for OpError {
    fn from(error: getrandom::Error) -> Self {
        OpError { kind: Kind::Unavailable, ..OpError::invalid(format!("the system gave no random bytes: {error}")) }
    }
}

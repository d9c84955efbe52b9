//! What is printed: tables for people, JSON for programs, errors with a hint on stderr.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::config::ConfigErrors;
use crate::control::ops::OpError;
use crate::ledger::LedgerError;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong; one line each.
    pub messages: Vec<String>,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Failure {
    /// A failure with one message.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure { messages: vec![message.into()], hint: hint.into() }
    }

    /// Writes it to stderr.
    pub fn print(&self) {
        for message in &self.messages {
            say(&format!("error: {message}"));
        }
        if !self.hint.is_empty() {
            say(&format!(" hint: {}", self.hint));
        }
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Failure::new(error.message, error.hint)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Failure::new(error.to_string(), "")
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure { messages: errors.0.iter().map(ToString::to_string).collect(), hint: String::new() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::new(format!("{error:#}"), "")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(error.to_string(), "")
    }
}

/// One line on stderr. A closed stderr is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Text on stdout, with a line end. A reader that left (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
}

/// A value as JSON, or the text for people.
pub fn answer<T: Serialize + ?Sized>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    if !json {
        print(&text(value));
        return Ok(());
    }
    let shown = serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string(), ""))?;
    print(&shown);
    Ok(())
}

/// Rows under a head, each column as wide as its widest cell. Columns whose head starts with `>` are right-aligned.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<&str> = head.iter().map(|name| name.trim_start_matches('>')).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(names.get(column).map(|name| name.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut shown = String::new();
        for ((cell, width), name) in cells.zip(&widths).zip(head) {
            let _ = if name.starts_with('>') {
                write!(shown, "{cell:>width$}  ")
            } else {
                write!(shown, "{cell:<width$}  ")
            };
        }
        out.push_str(shown.trim_end());
        out.push('\n');
    };
    line(&mut names.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

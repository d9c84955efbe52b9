//! What a person should look at in a price table: rows that may no longer be true.

use std::fmt;

use super::PriceTable;
use super::extras::start_of;
use crate::clock::Millis;
use crate::pricing::ModelPrice;

/// Something that is worth a look, and no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The row.
    pub id: String,
    /// What it is about.
    pub about: About,
}

/// What a notice is about. Days are `YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The provider has taken the model away on that day, or points its name at another one.
    Deprecated(String),
    /// The price holds from a day that is still to come.
    NotYet(String),
    /// The price no longer holds since that day.
    NoLonger(String),
    /// Another price is announced for that day.
    Change(String),
    /// The row's own note.
    Note(String),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Deprecated(day) => {
                write!(f, "deprecated on {day}: its name may mean another model now, at another price")
            }
            About::NotYet(day) => write!(f, "its price holds from {day} on"),
            About::NoLonger(day) => write!(f, "its price does not hold since {day}: import the price file again"),
            About::Change(day) => write!(f, "another price is announced for {day}, and taken from then on"),
            About::Note(note) => f.write_str(note),
        }
    }
}

impl PriceTable {
    /// All notices at that instant, row by row.
    pub fn notices(&self, now: Millis) -> Vec<Notice> {
        let of_row = |row: &ModelPrice| -> Vec<Notice> {
            let notice = |about| Notice { id: row.id.to_string(), about };
            let has_come = |day: &str| start_of(day).is_some_and(|start| start <= now);
            let mut found = Vec::new();
            found.extend(
                row.deprecation_date.as_deref().filter(|day| has_come(day)).map(|day| About::Deprecated(day.into())),
            );
            found.extend(row.valid_from.as_deref().filter(|day| !has_come(day)).map(|day| About::NotYet(day.into())));
            found.extend(match (row.valid_to.as_deref(), &row.next) {
                (Some(day), Some(_)) if !has_come(day) => Some(About::Change(day.into())),
                (Some(day), None) if has_come(day) => Some(About::NoLonger(day.into())),
                _ => None,
            });
            found.extend(row.note.as_deref().map(|note| About::Note(note.into())));
            found.into_iter().map(notice).collect()
        };
        self.rows.values().flat_map(|row| of_row(row)).collect()
    }
}

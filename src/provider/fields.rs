//! Fields of a request, and what each does to the bill: an allow-list, so that a field that a provider invents tomorrow cannot
//! raise it unseen.

use super::Reading;
use super::reject::{self, Reject};
use crate::wire::json::{Kind, Value};

/// What a field does to the bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it is not in the prompt and starts nothing.
    Free,
    /// Its text may become part of the prompt.
    Prompt,
    /// Read on its own.
    Read,
    /// More than can be bounded. Says why.
    Denied(&'static str),
}

/// The rule of a top-level key. `None`: unknown to us, but the operator admits it.
pub fn rule(reading: &Reading<'_>, key: Value<'_>, name: &str, known: &[(&str, Rule)]) -> Result<Option<Rule>, Reject> {
    let hint = |name: &str| format!("spell it `{name}`, without escapes");
    if let Some((name, rule)) = known.iter().find(|(known, _)| *known == name) {
        if key.kind() == Kind::Escaped {
            return Err(reject::ambiguous(format!("`{name}` is spelled with escapes"), hint(name)));
        }
        return match rule {
            Rule::Denied(why) => {
                Err(reject::unpriceable(format!("`{name}`: {why}"), format!("send the request without `{name}`")))
            }
            rule => Ok(Some(*rule)),
        };
    }
    if let Some((name, _)) = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Err(reject::ambiguous(format!("a field is spelled like `{name}` in another case"), hint(name)));
    }
    if reading.admits(name) {
        return Ok(None);
    }
    Err(reject::unknown_field(reading.provider, name))
}

//! Small steps of reading a request: each says what it wanted, and where.

use crate::provider::reject::{self, Reject};
use crate::wire::json::Value;

/// The largest limit that every JSON reader takes for the same number.
const LIMIT_MAX: u64 = 1 << 53;

const REFERENCE: &str = "see the API's reference";

/// Something is not of the form that the API takes.
pub fn malformed(path: &str, what: &str) -> Reject {
    reject::invalid(format!("`{path}` {what}"), REFERENCE)
}

/// Something that cannot be bounded.
pub fn denied(path: &str, why: &str) -> Reject {
    reject::unpriceable(format!("`{path}`: {why}"), format!("send the request without `{path}`"))
}

/// A member that says something: one that is `null` is one that is not there.
pub fn given<'a>(value: Value<'a>, name: &str) -> Option<Value<'a>> {
    value.get(name).filter(|inner| !inner.is_null())
}

/// A text.
pub fn text(value: Value<'_>, path: &str) -> Result<(), Reject> {
    value.as_str().map(drop).ok_or_else(|| malformed(path, "is not a string"))
}

/// `true` or `false`.
pub fn truth(value: Value<'_>, path: &str) -> Result<bool, Reject> {
    value.as_bool().ok_or_else(|| malformed(path, "is not true or false"))
}

/// An array; its items with their paths.
pub fn list<'a>(value: Value<'a>, path: &str) -> Result<impl Iterator<Item = (String, Value<'a>)>, Reject> {
    if !value.is_array() {
        return Err(malformed(path, "is not an array"));
    }
    let path = path.to_string();
    Ok(value.items().enumerate().map(move |(at, item)| (format!("{path}[{at}]"), item)))
}

/// An object of these members only.
pub fn members(value: Value<'_>, path: &str, known: &[&str]) -> Result<(), Reject> {
    if !value.is_object() {
        return Err(malformed(path, "is not an object"));
    }
    match value.fields().find(|(name, _)| !known.contains(&name.as_ref())) {
        Some((name, _)) => Err(unknown(path, &name)),
        None => Ok(()),
    }
}

/// A member whose cost is not known.
pub fn unknown(path: &str, name: &str) -> Reject {
    let name = reject::printable(name);
    let full = if path.is_empty() { name } else { format!("{path}.{name}") };
    denied(&full, "not a field whose cost is known")
}

/// The one member of a union: exactly one of these; those that are `null` are not there.
pub fn one_of<'a>(value: Value<'a>, path: &str, known: &[&'static str]) -> Result<(&'static str, Value<'a>), Reject> {
    members(value, path, known)?;
    let mut fields = value.fields().filter(|(_, inner)| !inner.is_null());
    let (Some((name, inner)), None) = (fields.next(), fields.next()) else {
        return Err(malformed(path, &format!("is not exactly one of {}", known.join(", "))));
    };
    known
        .iter()
        .find(|known| **known == name)
        .map(|known| (*known, inner))
        .ok_or_else(|| malformed(path, "is not of a known kind"))
}

/// A limit of output tokens.
pub fn limit(value: Value<'_>, path: &str) -> Result<u64, Reject> {
    match value.as_u64() {
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        _ => Err(reject::invalid(
            format!("`{path}` is not a whole number of at least 1"),
            "send a number of tokens, e.g. 1000",
        )),
    }
}

/// A whole number.
pub fn count(value: Value<'_>, path: &str) -> Result<u64, Reject> {
    value.as_u64().filter(|&count| count <= LIMIT_MAX).ok_or_else(|| malformed(path, "is not a whole number"))
}

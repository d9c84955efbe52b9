//! JSON as protocol buffers read it: each field has two spellings, numbers may be strings, one element may stand for a list.
//!
//! A message is read by an allow-list. Both spellings of one field in one message are ambiguous, and refused.

use std::borrow::Cow;

use crate::provider::fields::Rule;
use crate::provider::reject::printable;
use crate::provider::{Reading, Reject, reject};
use crate::wire::json::{Kind, Value};

/// The largest number that the API's 32-bit fields take.
const WHOLE_MAX: u64 = i32::MAX as u64;

/// A field that must be looked at.
pub struct Field<'a> {
    /// Its name in camel case.
    pub name: &'static str,
    /// As the request spells it.
    pub spelled: Cow<'a, str>,
    /// What it holds; never `null`, which means the same as nothing.
    pub value: Value<'a>,
}

/// The fields of a message that are to be read ([`Rule::Read`]). `place` names the message in errors, e.g. `contents[].parts[]`.
pub fn read<'a>(
    reading: &Reading<'_>,
    message: Value<'a>,
    place: &str,
    known: &'static [(&'static str, Rule)],
) -> Result<Vec<Field<'a>>, Reject> {
    if !message.is_object() {
        let what = if place.is_empty() { "the body".to_string() } else { format!("`{place}`") };
        return Err(reject::invalid(format!("{what} is not a JSON object"), "see the API's reference"));
    }
    let mut found = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (key, (spelled, value)) in message.keys().zip(message.fields()) {
        let Some((name, rule)) = known.iter().find(|(name, _)| is_spelling(name, &spelled)) else {
            unknown(reading, place, &spelled, known)?;
            continue;
        };
        let full = || if place.is_empty() { name.to_string() } else { format!("{place}.{name}") };
        if key.kind() == Kind::Escaped {
            let message = format!("`{}` is spelled with escapes", full());
            return Err(reject::ambiguous(message, format!("spell it `{name}`, without escapes")));
        }
        if seen.contains(name) {
            let message = format!("`{}` is given twice, in camel case and in snake case", full());
            return Err(reject::ambiguous(message, format!("send `{name}` alone")));
        }
        seen.push(name);
        match rule {
            _ if value.is_null() => {}
            Rule::Read => found.push(Field { name, spelled, value }),
            Rule::Denied(why) => {
                let hint = format!("send the request without `{name}`");
                return Err(reject::unpriceable(format!("`{}`: {why}", full()), hint));
            }
            Rule::Free | Rule::Prompt => {}
        }
    }
    Ok(found)
}

/// A field that is not in the list: refused, unless the operator admits it.
fn unknown(reading: &Reading<'_>, place: &str, spelled: &str, known: &[(&str, Rule)]) -> Result<(), Reject> {
    if let Some((name, _)) = known.iter().find(|(name, _)| is_like(name, spelled)) {
        let message = format!("`{}` is spelled like `{name}` in another way", printable(spelled));
        return Err(reject::ambiguous(message, format!("spell it `{name}`")));
    }
    if reading.admits(spelled) {
        return Ok(());
    }
    let bare = reject::unknown_field(reading.provider, spelled);
    if place.is_empty() {
        return Err(bare);
    }
    // The hint names the bare field, as `allow_fields` takes it.
    let whole = reject::unknown_field(reading.provider, &format!("{place}.{spelled}"));
    Err(Reject { hint: bare.hint, ..whole })
}

/// True for `maxOutputTokens` and `max_output_tokens`.
fn is_spelling(name: &str, spelled: &str) -> bool {
    name == spelled || snake(name).eq(spelled.chars())
}

/// True for any way to write a name's letters.
fn is_like(name: &str, spelled: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect::<String>();
    letters(name) == letters(spelled)
}

fn snake(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars().flat_map(|c| c.is_ascii_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()]))
}

/// The elements of a repeated field: those of an array, or the one that stands alone.
pub fn items<'a>(value: Value<'a>) -> impl Iterator<Item = Value<'a>> {
    let alone = (!value.is_array() && !value.is_null()).then_some(value);
    value.items().chain(alone)
}

/// A whole number of at least 1, written as a number or as a string of digits.
pub fn whole(name: &str, value: Value<'_>) -> Result<u64, Reject> {
    let text = value.as_str();
    let number = match &text {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten(),
        None => value.as_u64(),
    };
    let has_zero_first = value.raw().trim_start_matches('"').starts_with('0');
    match number {
        Some(number @ 1..=WHOLE_MAX) if !has_zero_first => Ok(number),
        _ => Err(reject::invalid(
            format!("`{name}` is not a whole number of at least 1"),
            "write it in digits, e.g. 1000",
        )),
    }
}

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

/// The rule of a top-level field, a key and its value. `None`: unknown to us, but the operator admits it.
///
/// A field that is refused when it is set, and is `null`, is a field that is not there: SDKs send their optional fields so.
pub fn rule(
    reading: &Reading<'_>,
    (key, value): (Value<'_>, Value<'_>),
    name: &str,
    known: &[(&str, Rule)],
) -> Result<Option<Rule>, Reject> {
    let hint = |name: &str| format!("spell it `{name}`, without escapes");
    if let Some((name, rule)) = known.iter().find(|(known, _)| *known == name) {
        if key.kind() == Kind::Escaped {
            return Err(reject::ambiguous(format!("`{name}` is spelled with escapes"), hint(name)));
        }
        return match rule {
            Rule::Denied(_) if value.is_null() => Ok(Some(Rule::Free)),
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pricing::PriceTable;
    use crate::wire::json::Document;

    const KNOWN: &[(&str, Rule)] =
        &[("free", Rule::Free), ("read", Rule::Read), ("dear", Rule::Denied("it costs more"))];

    /// The rule of the one field of an object.
    fn of(body: &'static str) -> Result<Option<Rule>, Reject> {
        let prices = PriceTable::default();
        let document = Document::parse(Bytes::from_static(body.as_bytes())).unwrap();
        let (key, (name, value)) = document.root().keys().zip(document.root().fields()).next().unwrap();
        rule(&Reading::plain("openai", &prices), (key, value), &name, KNOWN)
    }

    #[test]
    fn a_field_that_is_refused_may_be_null() {
        assert_eq!(of(r#"{"dear":null}"#), Ok(Some(Rule::Free)));
        for set in [r#"{"dear":{}}"#, r#"{"dear":false}"#, r#"{"dear":0}"#, r#"{"dear":""}"#, r#"{"dear":"null"}"#] {
            assert_eq!(of(set).unwrap_err().code, "unpriceable_request", "{set}");
        }
        // How a known field is read is not decided here.
        assert_eq!(of(r#"{"read":null}"#), Ok(Some(Rule::Read)));
        // Spelled in another way, or unknown, it is refused as ever.
        assert_eq!(of(r#"{"Dear":null}"#).unwrap_err().code, "ambiguous_request");
        assert_eq!(of(r#"{"d\u0065ar":null}"#).unwrap_err().code, "ambiguous_request");
        assert_eq!(of(r#"{"new":null}"#).unwrap_err().code, "unpriceable_request");
    }
}

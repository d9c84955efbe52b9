//! Reading requests: what all dialects have in common.

use serde_json::Value;

use super::error::ApiError;
use super::flow::{App, Incoming};
use super::script::Script;

/// Parses the body: an object, or an error.
pub fn parse_body(incoming: &Incoming) -> Result<Value, ApiError> {
    match serde_json::from_slice::<Value>(&incoming.body) {
        Ok(body) if body.is_object() => Ok(body),
        _ => Err(ApiError::bad("", None, "We could not parse the JSON body of your request.")),
    }
}

/// The script in force: config, then marker in the user's text or in the model's name, then header, later ones winning.
pub fn script_for(app: &App, incoming: &Incoming, model: &str, message: &str) -> Result<Script, ApiError> {
    let mut script = app.default_script.clone();
    let header = incoming.parts.headers.get("x-mock-script").map(|v| v.to_str().unwrap_or("?"));
    for text in [Script::marker(message), Script::marker(model), header].into_iter().flatten() {
        script.apply(text).map_err(|why| ApiError::bad("", Some("mock_script"), why))?;
    }
    Ok(script)
}

/// The name of a model without a script in it.
pub fn bare_model(name: &str) -> &str {
    name.split_once("[[mock").map_or(name, |(name, _)| name)
}

/// A header as text; empty if it is missing.
pub fn header<'a>(incoming: &'a Incoming, name: &str) -> &'a str {
    incoming.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// The token after `Bearer `, if there is one.
pub fn bearer(incoming: &Incoming) -> Option<&str> {
    header(incoming, "authorization").strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

/// The value of a query parameter, undecoded.
pub fn query<'a>(incoming: &'a Incoming, name: &str) -> Option<&'a str> {
    let pairs = incoming.parts.uri.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Decodes `%41`.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let decoded = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A field that is true, false or absent.
pub fn boolean(body: &Value, field: &str) -> Result<bool, ApiError> {
    match &body[field] {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(*value),
        _ => {
            Err(ApiError::bad(field, Some("invalid_type"), format!("Invalid type for '{field}': expected a boolean.")))
        }
    }
}

/// A field that is an integer in that range, or absent.
pub fn integer(body: &Value, field: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
    let value = &body[field];
    if value.is_null() {
        return Ok(None);
    }
    match value.as_u64() {
        Some(number) if number < min => {
            let message = format!("Invalid '{field}': integer below minimum value. Expected a value >= {min}.");
            Err(ApiError::bad(field, Some("integer_below_min_value"), message))
        }
        Some(number) if number > max => {
            let message = format!("Invalid '{field}': integer above maximum value. Expected a value <= {max}.");
            Err(ApiError::bad(field, Some("integer_above_max_value"), message))
        }
        Some(number) => Ok(Some(number)),
        None if value.as_i64().is_some() => {
            let message = format!("Invalid '{field}': integer below minimum value. Expected a value >= {min}.");
            Err(ApiError::bad(field, Some("integer_below_min_value"), message))
        }
        None => {
            let message = format!("Invalid type for '{field}': expected an integer.");
            Err(ApiError::bad(field, Some("invalid_type"), message))
        }
    }
}

/// The mock's idea of how many tokens a text has: one for each word, never more than any real tokenizer finds.
pub fn words(text: &str) -> u64 {
    (text.split_whitespace().count() as u64).max(u64::from(!text.is_empty()))
}

/// The mock's idea of how many tokens JSON has, which a provider renders in some way of its own.
pub fn quarter(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// The same for a value that may be absent.
pub fn json_tokens(value: &Value) -> u64 {
    if value.is_null() { 0 } else { quarter(&value.to_string()) }
}

/// A JSON string literal.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Writes bytes in base64.
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { DIGITS[value as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_digits() {
        for (plain, coded) in [("", ""), ("M", "TQ=="), ("Ma", "TWE="), ("Man", "TWFu"), ("Many", "TWFueQ==")] {
            let mut out = Vec::new();
            base64(plain.as_bytes(), &mut out);
            assert_eq!(out, coded.as_bytes());
        }
    }

    #[test]
    fn percent_signs() {
        for (coded, plain) in [("a%3Ab", "a:b"), ("a%2", "a%2"), ("%", "%"), ("%zz", "%zz"), ("%C3%A9", "é")] {
            assert_eq!(percent_decoded(coded), plain);
        }
    }
}

//! How much longer a text becomes under NFKC. A tokenizer that is not public may normalise its input, and then bytes bound the
//! tokens of what it makes of a text, not of the text itself.

use unicode_normalization::UnicodeNormalization;

use crate::wire::json::Value;

/// The bytes that NFKC adds to the strings and keys of a value, each on its own; a string that it shortens counts as it is.
pub fn growth(value: Value<'_>) -> u64 {
    let raw = value.raw();
    if raw.is_ascii() && !raw.contains("\\u") {
        return 0;
    }
    if let Some(text) = value.as_str() {
        return of_text(&text);
    }
    let fields = value.fields().map(|(key, value)| of_text(&key).saturating_add(growth(value)));
    let all = value.items().map(growth).chain(fields);
    all.fold(0, u64::saturating_add)
}

fn of_text(text: &str) -> u64 {
    if text.is_ascii() {
        return 0;
    }
    let normal: usize = text.nfkc().map(char::len_utf8).sum();
    normal.saturating_sub(text.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Document;

    #[test]
    fn the_growth_of_known_texts() {
        // U+FDFA is 3 bytes and becomes 33, U+3316 becomes 18; é is as long before as after.
        for (text, want) in [
            (r#""plain""#, 0),
            (r#""é""#, 0),
            (r#""ﷺ""#, 30),
            (r#""\ufdfa""#, 30),
            (r#"{"ﷺ":["㌖",{"x":"ﷺﷺ"}]}"#, 30 + 15 + 60),
            // A decomposed é is composed: shorter, and counted as it is.
            (r#""e\u0301""#, 0),
        ] {
            let document = Document::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap();
            assert_eq!(growth(document.root()), want, "{text}");
        }
    }
}

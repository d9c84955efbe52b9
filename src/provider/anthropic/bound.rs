//! How many tokens a body can make at most, for a model whose tokenizer is not public.

use unicode_normalization::UnicodeNormalization;

use crate::wire::json::{Kind, Value};

/// Tokens that a request may add: the system prompt of tool use (804 at most), priming, formats.
pub const TOKENS_PER_REQUEST: u64 = 1024;
/// Tokens of a message's frame.
pub const TOKENS_PER_MESSAGE: u64 = 16;
/// Tokens around the definition of one tool.
pub const TOKENS_PER_TOOL: u64 = 64;
/// Tokens of an image: it is scaled down until it has no more patches of 28 × 28 pixels than this.
pub const TOKENS_PER_IMAGE: u64 = 4_784;
/// The same where screenshots are not scaled down: 8,000 × 8,000 pixels.
pub const TOKENS_PER_SCREENSHOT: u64 = 286 * 286;
/// How often a request with tools that the provider runs may sample the model.
pub const PASSES_MAX: u64 = 10;

/// No text has more than so many times its bytes once it is normalised: U+FDFA has 3, and then 33.
pub const NORMALISED_GROWTH_MAX: u64 = 11;

/// Bytes that compatibility normalisation (NFKC) may add to the texts of a value. The provider's only published tokenizer
/// normalises; some code points grow elevenfold.
pub fn normalised_excess(value: Value<'_>) -> u64 {
    let raw = value.raw();
    if raw.is_ascii() && !raw.contains("\\u") { 0 } else { excess(value) }
}

fn excess(value: Value<'_>) -> u64 {
    match value.kind() {
        Kind::Plain | Kind::Escaped => text_excess(value),
        Kind::Array => value.items().fold(0, |sum: u64, item| sum.saturating_add(excess(item))),
        Kind::Object => {
            let keys = value.keys().fold(0, |sum: u64, key| sum.saturating_add(text_excess(key)));
            value.fields().fold(keys, |sum: u64, (_, value)| sum.saturating_add(excess(value)))
        }
        _ => 0,
    }
}

/// By how much the normalised text is longer than its bytes in the body.
fn text_excess(value: Value<'_>) -> u64 {
    let Some(text) = value.as_str() else { return 0 };
    if text.is_ascii() {
        return 0;
    }
    let normalised = text.nfkc().fold(0, |sum: u64, c| sum.saturating_add(c.len_utf8() as u64));
    normalised.saturating_sub(value.raw().len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Document;

    fn of(text: &str) -> u64 {
        normalised_excess(Document::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap().root())
    }

    #[test]
    fn what_grows_is_counted_wherever_it_stands() {
        // U+FDFA has 3 bytes and 33 when normalised; the quotes of the JSON text are bytes too.
        assert_eq!(of("\"\u{fdfa}\""), 33 - 5);
        assert_eq!(of(r#""\ufdfa""#), 33 - 8);
        assert_eq!(of("{\"\u{fdfa}\":[\"\u{fdfa}\"]}"), 2 * 28);
        assert_eq!(of("[\"ﬁ\",\"é\",\"abc\",1,true,null]"), 0);
        assert_eq!(of("{\"a\":{\"b\":\"plain\"}}"), 0);
        let worst =
            ('\0'..=char::MAX).map(|c| c.nfkc().map(|c| c.len_utf8()).sum::<usize>().div_ceil(c.len_utf8())).max();
        assert_eq!(worst, Some(NORMALISED_GROWTH_MAX as usize));
        // ㌖ has 3 bytes, and 18 when normalised.
        assert_eq!(of(&format!("\"{}\"", "\u{3316}".repeat(100))), 1_800 - 302);
    }
}

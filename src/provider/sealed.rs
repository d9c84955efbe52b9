//! What a provider seals and clients send back unread: thoughts in signatures and redacted blocks.

use crate::wire::json::Value;

/// Tokens that a byte of it may stand for. It is encrypted, and may have been compressed before: text of some four bytes a token compresses
/// to a quarter at best, and base64 makes it a third longer again, so that a byte of it holds about one token; this is four times that.
const TOKENS_PER_SEALED_BYTE: u64 = 4;

/// The tokens that a sealed value may hold beyond one for each of its bytes, which every bound of a body counts already.
pub fn beyond_bytes(value: Value<'_>) -> u64 {
    let bytes = if value.is_null() { 0 } else { value.raw().len() as u64 };
    bytes.saturating_mul(TOKENS_PER_SEALED_BYTE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Document;

    #[test]
    fn a_sealed_byte_counts_four_times_with_the_body() {
        let of = |text: &'static str| beyond_bytes(Document::parse(text.into()).unwrap().root());
        // Ten bytes and two quotes.
        assert_eq!(of(r#""0123456789""#), 3 * 12);
        assert_eq!(of("null"), 0);
    }
}

//! What a request may put into the prompt, and the most input tokens that makes.

use unicode_normalization::UnicodeNormalization;

use super::model::Vendor;
use crate::pricing::{ModelPrice, Terms};
use crate::provider::{schema, sealed};
use crate::wire::json::{Document, Value};

/// Tokens around one message.
const TOKENS_PER_MESSAGE: u64 = 16;
/// Tokens around the definition of one tool.
const TOKENS_PER_TOOL: u64 = 64;
/// Tokens of a tool that Anthropic defines and the client runs: the largest published figure is some 6,670 and 880.
const TOKENS_PER_KNOWN_TOOL: u64 = 8_192;
/// Tokens of a request beside all that.
const TOKENS_PER_REQUEST: u64 = 1_024;
/// The same once more for Claude's own system prompt for tools (published: 264 to 804).
const TOKENS_PER_CLAUDE_REQUEST: u64 = 1_024;
/// Tokens of one image for Claude: the largest has 8,000 × 8,000 pixels, and a token is a square of 28 × 28.
const TOKENS_PER_CLAUDE_IMAGE: u64 = 286 * 286;

/// What the bound must know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Messages, the system prompt included.
    pub messages: u64,
    /// Tools that the client defines, and formats of the answer.
    pub tools: u64,
    /// Tools that Anthropic defines and the client runs.
    pub known_tools: u64,
    /// Images, and the bytes that they take in the body.
    pub images: u64,
    /// See `images`.
    pub image_bytes: u64,
    /// True when the body does not say how much the input is: a document, a video.
    pub fills_window: bool,
    /// A part of the input is video.
    pub has_video: bool,
    /// Writes to the cache for five minutes are asked for.
    pub writes_5m: bool,
    /// Writes to the cache for an hour are asked for.
    pub writes_1h: bool,
    /// What expanded references of schemas add; `None` when that has no bound.
    pub expansion: Option<u64>,
    /// What sealed thoughts may hold beyond a token a byte.
    pub sealed: u64,
    /// The budget of thinking, if one is given: the provider takes no output limit below it.
    pub thinking: u64,
}

impl Default for Traits {
    fn default() -> Self {
        Traits {
            messages: 0,
            tools: 0,
            known_tools: 0,
            images: 0,
            image_bytes: 0,
            fills_window: false,
            has_video: false,
            writes_5m: false,
            writes_1h: false,
            expansion: Some(0),
            sealed: 0,
            thinking: 0,
        }
    }
}

impl Traits {
    /// Takes an image of these bytes.
    pub fn image(&mut self, data: Value<'_>) {
        self.images += 1;
        self.image_bytes += data.raw().len() as u64;
    }

    /// Takes a signature of thoughts, or thoughts that are not shown.
    pub fn sealed(&mut self, value: Value<'_>) {
        self.sealed = self.sealed.saturating_add(sealed::beyond_bytes(value));
    }

    /// Takes a schema that goes into the prompt.
    pub fn schema(&mut self, schema: Value<'_>) {
        self.expansion = self.expansion.and_then(|sum| sum.checked_add(schema::expansion(schema)?));
    }

    /// The most input tokens.
    pub fn input_max(&self, document: &Document, vendor: Vendor, price: &ModelPrice) -> u64 {
        let is_measured = !self.fills_window && (self.images == 0 || vendor == Vendor::Claude);
        let (true, Some(expansion)) = (is_measured, self.expansion) else { return price.context_window };
        // Cohere takes many texts, each with a window of its own.
        let window = if vendor == Vendor::CohereEmbed { u64::MAX } else { price.context_window };
        let of_claude = if vendor == Vendor::Claude { TOKENS_PER_CLAUDE_REQUEST } else { 0 };
        (document.len() as u64)
            .saturating_sub(self.image_bytes)
            .saturating_add(widening(document.root()))
            // A schema that is written out widens with what is written out.
            .saturating_add(expansion.saturating_mul(if is_plain(document.root()) { 1 } else { WIDENING_MAX }))
            .saturating_add(self.messages.saturating_mul(TOKENS_PER_MESSAGE))
            .saturating_add(self.tools.saturating_mul(TOKENS_PER_TOOL))
            .saturating_add(self.known_tools.saturating_mul(TOKENS_PER_KNOWN_TOOL))
            .saturating_add(self.images.saturating_mul(TOKENS_PER_CLAUDE_IMAGE))
            .saturating_add(self.sealed)
            .saturating_add(TOKENS_PER_REQUEST + of_claude)
            .min(window)
    }

    /// What may be billed beside plain text.
    pub fn terms(&self) -> Terms {
        Terms {
            cache_write_5m: self.writes_5m,
            cache_write_1h: self.writes_1h,
            image_in: self.images > 0 || self.fills_window,
            video_in: self.has_video,
            ..Terms::default()
        }
    }
}

/// No code point becomes more than 11 times as long under NFKC (U+FDFA does).
const WIDENING_MAX: u64 = 11;

/// The bytes by which the strings of a value grow if they are brought into the form NFKC, as a tokenizer that is not public may do. Keys
/// too: those of a schema are part of the prompt.
pub fn widening(value: Value<'_>) -> u64 {
    use crate::wire::json::Kind;
    match value.kind() {
        Kind::Plain | Kind::Escaped => string_widening(value),
        Kind::Array => value.items().map(widening).fold(0, u64::saturating_add),
        Kind::Object => {
            let keys = value.keys().map(string_widening).fold(0, u64::saturating_add);
            value.fields().map(|(_, value)| widening(value)).fold(keys, u64::saturating_add)
        }
        _ => 0,
    }
}

/// True for ASCII without escapes, which no normalisation changes.
fn is_plain(value: Value<'_>) -> bool {
    value.raw().is_ascii() && !value.raw().contains('\\')
}

fn string_widening(value: Value<'_>) -> u64 {
    let raw = value.raw();
    if is_plain(value) {
        return 0;
    }
    let Some(text) = value.as_str() else { return 0 };
    let wide: u64 = text.nfkc().map(|c| c.len_utf8() as u64).fold(0, u64::saturating_add);
    wide.saturating_sub(raw.len() as u64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn widens(text: &str) -> u64 {
        widening(Document::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap().root())
    }

    #[test]
    fn a_text_may_grow_when_it_is_normalised() {
        assert_eq!(widens(r#"{"a":"plain","b":["x"]}"#), 0);
        // U+FDFA: 3 bytes become 33; two quotes stand beside it.
        assert_eq!(widens("[\"\u{fdfa}\"]"), 33 - 5);
        assert_eq!(widens("{\"\u{fdfa}\":1}"), 33 - 5);
        // As an escape it takes six bytes in the body.
        assert_eq!(widens("[\"\\ufdfa\"]"), 33 - 8);
        assert_eq!(widens("{\"a\":[[\"\u{fdfa}\u{fdfa}\"]]}"), 66 - 8);
        assert_eq!(widens("[\"字\"]"), 0);
    }

    #[test]
    fn no_code_point_widens_more_than_assumed() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let wide: usize = std::iter::once(c).nfkc().map(char::len_utf8).sum();
            assert!(wide <= c.len_utf8() * WIDENING_MAX as usize, "{c:?}");
        }
    }
}

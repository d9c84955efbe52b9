//! Text that a model generates, as it streams in: how many tokens it may be, and how many it certainly is.

use super::reader::Ceiling;
use super::tokens::RunningText;
use crate::pricing::Tokenizer;
use crate::wire::json::Value;

/// The most texts (choices × tool calls) that are kept apart; what is beyond is counted by its bytes.
const TEXTS_MAX: usize = 1024;
/// Tokens that frame a text and do not show: channel marks, the end mark, the recipient of a tool call.
const TOKENS_PER_TEXT: u64 = 16;
/// No token of a public tokenizer has more bytes of ordinary text.
const TOKEN_BYTES_MAX: u64 = 128;
/// The tokenizer that stands in where none is public, only to see whether a ceiling was left behind: by twice as much as it says.
const STAND_IN: Tokenizer = Tokenizer::O200kBase;

/// Which text a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextId {
    /// The choice, candidate or output item.
    pub choice: u64,
    /// The tool call or content part within it.
    pub part: u64,
    /// What kind of text.
    pub field: Field,
}

/// Kinds of generated text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The answer.
    Content,
    /// A refusal to answer.
    Refusal,
    /// Reasoning that is shown.
    Reasoning,
    /// A tool's name.
    Name,
    /// A tool's arguments.
    Arguments,
}

/// Everything that an answer generated so far, as far as it shows.
pub struct Output {
    tokenizer: Option<Tokenizer>,
    ceiling: Ceiling,
    texts: Vec<(TextId, RunningText)>,
    /// Bytes of strings in no text that we know, and of data that is not JSON.
    other_bytes: u64,
    /// Bytes of all texts.
    text_bytes: u64,
    /// Bytes of what is shown beside the output, and need not be billed as it.
    aside_bytes: u64,
}

impl Output {
    /// Nothing yet, of a model with this tokenizer, under this ceiling.
    pub fn new(tokenizer: Option<Tokenizer>, ceiling: Ceiling) -> Output {
        Output { tokenizer, ceiling, texts: Vec::new(), other_bytes: 0, text_bytes: 0, aside_bytes: 0 }
    }

    /// Takes a piece of a text.
    pub fn text(&mut self, id: TextId, text: &str) {
        if text.is_empty() {
            return;
        }
        let known = self.texts.iter().position(|(known, _)| *known == id);
        let at = match known {
            Some(at) => at,
            None if self.texts.len() < TEXTS_MAX => {
                self.texts.push((id, RunningText::default()));
                self.texts.len() - 1
            }
            None => return self.bytes(text.len() as u64),
        };
        self.text_bytes += text.len() as u64;
        self.texts[at].1.push(text);
    }

    /// Takes a piece of a text as it stands in JSON; what is no string is counted by its strings' bytes.
    pub fn string(&mut self, id: TextId, value: Value<'_>) {
        match value.as_str() {
            Some(text) => self.text(id, &text),
            None => self.others(value),
        }
    }

    /// Takes a value in a place that nobody knows: all its strings may have been generated.
    pub fn others(&mut self, value: Value<'_>) {
        let mut bytes = 0;
        value.each_string(&mut |_, value| bytes += value.raw().len() as u64);
        self.bytes(bytes);
    }

    /// Takes bytes that may have been generated.
    pub fn bytes(&mut self, bytes: u64) {
        self.other_bytes = self.other_bytes.saturating_add(bytes);
    }

    /// Takes bytes that are shown beside the output: a summary of reasoning, a repeated prompt. They may be output, and never are
    /// with certainty.
    pub fn aside(&mut self, bytes: u64) {
        self.aside_bytes = self.aside_bytes.saturating_add(bytes);
    }

    /// True when something of this text was taken.
    pub fn knows(&self, id: TextId) -> bool {
        self.texts.iter().any(|(known, _)| *known == id)
    }

    /// An upper bound of the tokens that were generated and seen. With `exact`, counted by the tokenizer, where there is one.
    pub fn streamed_tokens(&mut self, exact: bool) -> u64 {
        if let (true, Some(tokenizer)) = (exact, self.tokenizer) {
            self.tighten(tokenizer);
        }
        let texts = match self.tokenizer {
            Some(_) => self.bound(),
            // Without a public tokenizer only bytes are certain.
            None => self.text_bytes,
        };
        let frames = (self.texts.len() as u64).saturating_mul(TOKENS_PER_TEXT);
        texts.saturating_add(self.other_bytes).saturating_add(self.aside_bytes).saturating_add(frames)
    }

    /// True when more output was seen than may pass. Counts tokens only when the bytes are too many.
    pub fn is_over_ceiling(&mut self) -> bool {
        match self.ceiling {
            Ceiling::Possible(most) => self.may_have_more_than(most),
            Ceiling::Certain(most) => self.has_more_than(most),
        }
    }

    /// True unless the text certainly has at most `most` tokens.
    fn may_have_more_than(&mut self, most: u64) -> bool {
        let others = self.other_bytes.saturating_add(self.aside_bytes);
        if self.text_bytes.saturating_add(others) <= most {
            return false;
        }
        let Some(tokenizer) = self.tokenizer else { return true };
        if self.bound().saturating_add(others) > most {
            self.tighten(tokenizer);
        }
        self.bound().saturating_add(others) > most
    }

    /// True when the text certainly has more than `most` tokens, however the model spelt it.
    fn has_more_than(&mut self, most: u64) -> bool {
        let others = self.other_bytes / TOKEN_BYTES_MAX;
        if self.bound().saturating_add(others) <= most {
            return false;
        }
        let (tokenizer, doubt) = self.tokenizer.map_or((STAND_IN, 2), |tokenizer| (tokenizer, 1));
        let most = most.saturating_mul(doubt);
        if self.bound().saturating_add(others) > most {
            self.tighten(tokenizer);
        }
        if self.bound().saturating_add(others) <= most {
            return false;
        }
        let fewest = self.texts.iter().fold(others, |sum: u64, (_, text)| sum.saturating_add(text.fewest(tokenizer)));
        fewest > most
    }

    /// True when reasoning was shown as it was generated.
    pub fn shows_reasoning(&self) -> bool {
        self.texts.iter().any(|(id, _)| id.field == Field::Reasoning)
    }

    /// True when so many visible tokens are fewer than the prose has words: worth a real count, which costs time.
    pub fn has_more_words_than(&self, visible: u64) -> bool {
        self.prose().fold(0, |sum: u64, text| sum.saturating_add(text.words())) > visible
    }

    /// True when a report of `visible` tokens is not true although no public tokenizer can tell: the prose has twice as many words.
    pub fn belies(&self, visible: u64) -> bool {
        self.tokenizer.is_none() && self.has_more_words_than(visible.saturating_mul(2))
    }

    /// The tokens of the prose, when a report of `visible` tokens is below the fewest that can spell it and so not true.
    pub fn more_than_reported(&mut self, visible: u64) -> Option<u64> {
        let tokenizer = self.tokenizer?;
        self.tighten(tokenizer);
        let seen = self.prose().fold(0, |sum: u64, text| sum.saturating_add(text.bound()));
        if visible >= seen {
            return None;
        }
        // A model may spell a text with fewer tokens than the tokenizer would, if rarely.
        let fewest = self.prose().fold(0, |sum: u64, text| sum.saturating_add(text.fewest(tokenizer)));
        (visible < fewest).then_some(seen)
    }

    fn tighten(&mut self, tokenizer: Tokenizer) {
        self.texts.iter_mut().for_each(|(_, text)| text.tighten(tokenizer));
    }

    fn bound(&self) -> u64 {
        self.texts.iter().fold(0, |sum: u64, (_, text)| sum.saturating_add(text.bound()))
    }

    /// Texts that the model wrote as they stand. A tool call is not among them: the JSON that the API shows is its own rendering of what
    /// the model wrote in fewer tokens, or in more.
    fn prose(&self) -> impl Iterator<Item = &RunningText> {
        let is_prose = |field| matches!(field, Field::Content | Field::Refusal | Field::Reasoning);
        self.texts.iter().filter(move |(id, _)| is_prose(id.field)).map(|(_, text)| text)
    }
}

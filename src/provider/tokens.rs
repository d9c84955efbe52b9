//! Counting text by the public tokenizers: whole, or as it streams in.
//!
//! Both tokenizers are byte-level: no text has more tokens than bytes. Neither normalises its input (the library's NFC step is
//! off for them), and text that looks like a special token is encoded as ordinary text. Time is linear in the text, but not alike:
//! prose takes some 30 ms a megabyte, a megabyte of `=` a second or more. Hence [`COUNTED_BYTES_MAX`].

use crate::pricing::Tokenizer;

/// The largest request whose text is worth counting; a larger one is bounded by its bytes.
pub const COUNTED_BYTES_MAX: usize = 1 << 20;
/// Pieces at the end of a text that more text may still change; regular expressions of both tokenizers look ahead by two at most.
const UNSETTLED_PIECES: usize = 4;
/// Text is let go in parts of at least this size: each part may count one token too few in the least count, so parts are few.
const PART_BYTES_MIN: usize = 2048;
/// An unsettled end is kept up to this size. A longer one is counted and let go, which may count a token or two too many.
const TAIL_BYTES_MAX: usize = 64 << 10;

/// Which bytes are of a word.
const IN_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

fn library(tokenizer: Tokenizer) -> &'static bpe_openai::Tokenizer {
    match tokenizer {
        Tokenizer::Cl100kBase => bpe_openai::cl100k_base(),
        Tokenizer::O200kBase => bpe_openai::o200k_base(),
    }
}

/// The tokens of a text, as the provider encodes a prompt. The first call loads the vocabulary.
pub fn count(tokenizer: Tokenizer, text: &str) -> u64 {
    library(tokenizer).count(text) as u64
}

/// The fewest tokens that can spell a text: no model can have generated it with less.
fn fewest(tokenizer: Tokenizer, text: &str) -> u64 {
    library(tokenizer).bpe.encode_minimal(text.as_bytes()).len() as u64
}

/// A text that grows. Bounded by its bytes until somebody asks for tokens.
#[derive(Debug, Default)]
pub struct RunningText {
    /// Tokens of the part that was let go.
    settled: u64,
    /// The fewest tokens of that part.
    settled_fewest: u64,
    /// The part that more text may change, and all that was not counted yet.
    tail: String,
    /// Tokens of the tail when it was last counted.
    tail_tokens: u64,
    /// Bytes that came since.
    fresh_bytes: u64,
    /// Words begun so far, and whether the text ends inside one.
    words: u64,
    in_word: bool,
}

impl RunningText {
    /// Takes more text.
    pub fn push(&mut self, text: &str) {
        self.tail.push_str(text);
        self.fresh_bytes += text.len() as u64;
        let mut in_word = self.in_word;
        for byte in text.bytes() {
            let before = std::mem::replace(&mut in_word, IN_WORD[usize::from(byte)]);
            self.words += u64::from(in_word & !before);
        }
        self.in_word = in_word;
    }

    /// Its words: a first guess at the fewest tokens, for next to nothing.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// An upper bound of its tokens: those counted, and a token for every byte since.
    pub fn bound(&self) -> u64 {
        self.settled + self.tail_tokens + self.fresh_bytes
    }

    /// Counts what was not counted yet; afterwards [`RunningText::bound`] is exact.
    pub fn tighten(&mut self, tokenizer: Tokenizer) {
        if self.fresh_bytes == 0 {
            return;
        }
        let library = library(tokenizer);
        let pieces: Vec<(usize, u64)> =
            library.split(&self.tail).map(|piece| (piece.len(), library.bpe.count(piece.as_bytes()) as u64)).collect();
        let mut settled = pieces.len().saturating_sub(UNSETTLED_PIECES);
        if pieces[..settled].iter().map(|(bytes, _)| bytes).sum::<usize>() < PART_BYTES_MIN {
            settled = 0;
        }
        let (settled, unsettled) = pieces.split_at(settled);
        let mut cut: usize = settled.iter().map(|(bytes, _)| bytes).sum();
        self.settled += settled.iter().map(|(_, tokens)| tokens).sum::<u64>();
        self.tail_tokens = unsettled.iter().map(|(_, tokens)| tokens).sum();
        if self.tail.len() - cut > TAIL_BYTES_MAX {
            cut = self.tail.len();
            self.settled += std::mem::take(&mut self.tail_tokens);
        }
        if cut > 0 {
            // Cutting a text can split one token in two, so the part on its own may need one more.
            self.settled_fewest += fewest(tokenizer, &self.tail[..cut]).saturating_sub(1);
            self.tail.drain(..cut);
        }
        self.fresh_bytes = 0;
    }

    /// The fewest tokens that can have made this text.
    pub fn fewest(&self, tokenizer: Tokenizer) -> u64 {
        self.settled_fewest + fewest(tokenizer, &self.tail)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const BOTH: [Tokenizer; 2] = [Tokenizer::Cl100kBase, Tokenizer::O200kBase];

    #[test]
    fn known_counts() {
        assert_eq!(count(Tokenizer::O200kBase, "Hello, world!"), 4);
        assert_eq!(count(Tokenizer::Cl100kBase, "tiktoken is great!"), 6);
        assert_eq!(count(Tokenizer::O200kBase, ""), 0);
        // A special token in a text is text.
        assert!(count(Tokenizer::O200kBase, "<|endoftext|>") > 1);
    }

    #[test]
    fn a11_hostile_text_is_counted_in_linear_time() {
        let hostile = [
            "a",
            " ",
            "\n",
            " \n",
            "あA",
            "A",
            "'",
            "\u{301}",
            "aA",
            "0",
            "\u{fdfa}",
            "😀",
            "=",
            "\t ",
            "ab\u{200d}",
            "\u{0}",
            "x'",
        ];
        for tokenizer in BOTH {
            count(tokenizer, "load");
            for unit in hostile {
                for bytes in [40_000, 400_000] {
                    let text = unit.repeat(bytes / unit.len());
                    let start = Instant::now();
                    assert!(count(tokenizer, &text) <= text.len() as u64);
                    let took = start.elapsed();
                    println!("{tokenizer:?} {unit:?} {bytes}: {took:?}");
                    // Ten times a busy machine's linear time; squared time would be far beyond.
                    assert!(took.as_secs() < 20, "{unit:?} x {bytes} took {took:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_piece_is_let_go() {
        let mut running = RunningText::default();
        for _ in 0..40 {
            running.push(&" ".repeat(10_000));
            running.tighten(Tokenizer::O200kBase);
            assert!(running.tail.len() <= TAIL_BYTES_MAX);
        }
        let exact = count(Tokenizer::O200kBase, &" ".repeat(400_000));
        assert!((exact..exact + 20).contains(&running.bound()), "{} for {exact}", running.bound());
    }

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<String>(),
            "[a-zA-Z ']{0,20}",
            "\\PC{0,8}",
            "[ \r\n\t]{0,8}",
            "[あ-んA-Z'\u{301}]{0,8}",
            Just("<|im_start|>".to_string()),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a11_no_text_has_more_tokens_than_bytes(text in texts()) {
            for tokenizer in BOTH {
                let tokens = count(tokenizer, &text);
                prop_assert!(tokens <= text.len() as u64);
                prop_assert!(fewest(tokenizer, &text) <= tokens);
            }
        }

        #[test]
        fn counting_as_it_comes_is_counting_the_whole(parts in prop::collection::vec(texts(), 0..8)) {
            for tokenizer in BOTH {
                let mut running = RunningText::default();
                for (at, part) in parts.iter().enumerate() {
                    running.push(part);
                    let so_far = parts[..=at].concat();
                    let exact = count(tokenizer, &so_far);
                    if at % 2 == 0 {
                        running.tighten(tokenizer);
                        prop_assert_eq!(running.bound(), exact, "{:?}", so_far);
                        prop_assert!(running.fewest(tokenizer) <= exact);
                    }
                }
            }
        }
    }
}

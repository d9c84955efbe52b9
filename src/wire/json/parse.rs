//! The one pass over a JSON text.

use std::collections::HashSet;

use super::{Duplicates, Kind, Node, Value};

/// The deepest nesting: far above any real request, far below what could exhaust a stack.
pub const DEPTH_MAX: usize = 64;
/// The most values and keys of one document: bounds the memory that a body of `[0,0,0,…` can take to 16 MiB.
pub const NODES_MAX: usize = 1 << 20;
/// A number of up to this many characters is finite, if it has no exponent.
const WHOLE_DIGITS_MAX: usize = 300;
/// Objects of up to this many fields are searched for duplicates by comparing all pairs.
const PAIRWISE_MAX: usize = 16;

/// Why a text is not read. Each names the byte where it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Bytes that are no UTF-8.
    #[error("the body is not UTF-8 (byte {0})")]
    NotUtf8(usize),
    /// A byte order mark, which some readers skip and some refuse.
    #[error("the body begins with a byte order mark")]
    ByteOrderMark,
    /// Anything that the grammar does not have.
    #[error("the body is not JSON (byte {0})")]
    Syntax(usize),
    /// Something after the value.
    #[error("the body goes on after its JSON value (byte {0})")]
    Trailing(usize),
    /// A `\uD800`–`\uDFFF` that is not part of a pair: readers replace, keep or refuse it.
    #[error("a string has half of a surrogate pair (byte {0})")]
    LoneSurrogate(usize),
    /// The same key twice in one object.
    #[error("a key stands twice in one object (byte {0})")]
    DuplicateKey(usize),
    /// A number that most readers take for infinity.
    #[error("a number is out of range (byte {0})")]
    OutOfRange(usize),
    /// Deeper than [`DEPTH_MAX`].
    #[error("the body nests deeper than {DEPTH_MAX} levels (byte {0})")]
    TooDeep(usize),
    /// More values than [`NODES_MAX`], or more bytes than a 32-bit place can say.
    #[error("the body has more than {NODES_MAX} values")]
    TooMany,
}

pub(super) fn run(text: &str, duplicates: Duplicates, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
    nodes.clear();
    if text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark);
    }
    if u32::try_from(text.len()).is_err() {
        return Err(JsonError::TooMany);
    }
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, duplicates, nodes };
    parser.skip_space();
    parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() { Err(JsonError::Trailing(parser.at)) } else { Ok(()) }
}

struct Parser<'a, 'n> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    duplicates: Duplicates,
    nodes: &'n mut Vec<Node>,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn syntax<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax(self.at))
    }

    /// Opens a node that begins here; it is closed when its end is known.
    fn open(&mut self, kind: Kind) -> Result<usize, JsonError> {
        let index = self.nodes.len();
        if index >= NODES_MAX {
            return Err(JsonError::TooMany);
        }
        self.nodes.push(Node { kind, start: self.at as u32, end: 0, next: 0 });
        Ok(index)
    }

    fn close(&mut self, index: usize) {
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[index];
        (node.end, node.next) = (self.at as u32, next);
    }

    /// Reads one value. Recursion goes no deeper than [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Kind::True),
            Some(b'f') => self.word("false", Kind::False),
            Some(b'n') => self.word("null", Kind::Null),
            _ => self.syntax(),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.syntax();
        }
        let index = self.open(kind)?;
        self.at += word.len();
        self.close(index);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= DEPTH_MAX {
            return Err(JsonError::TooDeep(self.at));
        }
        let index = self.open(Kind::Array)?;
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.close(index);
            return Ok(());
        }
        loop {
            self.skip_space();
            self.value(depth + 1)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.syntax(),
            }
        }
        self.at += 1;
        self.close(index);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= DEPTH_MAX {
            return Err(JsonError::TooDeep(self.at));
        }
        let index = self.open(Kind::Object)?;
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.close(index);
            return Ok(());
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.syntax();
            }
            self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.syntax();
            }
            self.at += 1;
            self.skip_space();
            self.value(depth + 1)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.syntax(),
            }
        }
        self.at += 1;
        self.close(index);
        if self.duplicates == Duplicates::Refused { self.refuse_duplicates(index) } else { Ok(()) }
    }

    /// Compares keys by their decoded text: `"a"` and `"\u0061"` are one key.
    fn refuse_duplicates(&self, object: usize) -> Result<(), JsonError> {
        let keys = Value { text: self.text, nodes: self.nodes, index: object as u32 };
        let error = |key: Value<'_>| Err(JsonError::DuplicateKey(key.node().start as usize));
        let mut small: [&str; PAIRWISE_MAX] = [""; PAIRWISE_MAX];
        let mut is_simple = true;
        for (count, key) in keys.keys().enumerate() {
            if count == PAIRWISE_MAX || key.kind() == Kind::Escaped {
                is_simple = false;
                break;
            }
            let raw = key.raw();
            if small[..count].contains(&raw) {
                return error(key);
            }
            small[count] = raw;
        }
        if is_simple {
            return Ok(());
        }
        let mut seen = HashSet::new();
        for key in keys.keys() {
            if !seen.insert(key.as_str()) {
                return error(key);
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let index = self.open(Kind::Plain)?;
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(run) = plain_run(rest) else {
                self.at = self.bytes.len();
                return self.syntax();
            };
            self.at += run;
            match rest[run] {
                b'"' => break,
                b'\\' => {
                    self.nodes[index].kind = Kind::Escaped;
                    self.escape()?;
                }
                _ => return self.syntax(),
            }
        }
        self.at += 1;
        self.close(index);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let Some(unit) = hex4(&self.bytes[self.at + 2..]) else { return self.syntax() };
                self.at += 6;
                match unit {
                    0xD800..=0xDBFF => {
                        let low = self.bytes[self.at..].strip_prefix(b"\\u").and_then(hex4);
                        if !low.is_some_and(|low| (0xDC00..=0xDFFF).contains(&low)) {
                            return Err(JsonError::LoneSurrogate(start));
                        }
                        self.at += 6;
                    }
                    0xDC00..=0xDFFF => return Err(JsonError::LoneSurrogate(start)),
                    _ => {}
                }
            }
            _ => return self.syntax(),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.syntax() } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let index = self.open(Kind::Number)?;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.close(index);
        let raw = Value { text: self.text, nodes: self.nodes, index: index as u32 }.raw();
        let may_overflow = raw.len() > WHOLE_DIGITS_MAX || raw.contains(['e', 'E']);
        if may_overflow && !raw.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(JsonError::OutOfRange(self.at));
        }
        Ok(())
    }
}

/// How many bytes come before the first quote, backslash or control character; `None` when there is none.
///
/// Looks at eight bytes at once. `x - 0x01…` borrows into the high bit of a byte only from that byte if it is too small, or from
/// a lower byte that was: so the lowest high bit that is set marks the first byte that was looked for, exactly.
pub(super) fn plain_run(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & (ONES << 7);
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslashes = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quotes | backslashes | below(word, 0x20);
        if found != 0 {
            return Some(8 * at + found.trailing_zeros() as usize / 8);
        }
    }
    let run = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20)?;
    Some(8 * words.len() + run)
}

/// Four hexadecimal digits.
fn hex4(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.iter().try_fold(0, |unit, &b| Some(unit << 4 | (b as char).to_digit(16)?))
}

/// The text of a string's inner part, which was checked before.
pub(super) fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest.as_bytes()[at + 1..];
        let (c, length) = match escape.first() {
            Some(b'u') => unicode(&escape[1..]),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(&other) => (other as char, 1),
            None => (char::REPLACEMENT_CHARACTER, 0),
        };
        out.push(c);
        rest = &rest[at + 1 + length..];
    }
    out.push_str(rest);
    out
}

/// The character of `XXXX` or `XXXX\uXXXX`, and the length of the escape after its backslash.
fn unicode(digits: &[u8]) -> (char, usize) {
    let unit = hex4(digits).unwrap_or(0xFFFD);
    if (0xD800..=0xDBFF).contains(&unit) {
        let low = digits.get(6..).and_then(hex4).unwrap_or(0xDC00);
        let code = 0x10000 + ((unit - 0xD800) << 10) + low.wrapping_sub(0xDC00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

//! Strict JSON: one reading only, so that what is priced is the very value that the provider reads.
//!
//! RFC 8259 leaves room for two readers to see two values in one text: duplicate keys, lone surrogates, trailing data,
//! byte order marks, NaN. Here each of them is an error. Numbers stay text. The parser makes one pass and writes a flat
//! list of nodes, each with its place in the text, so a document can be written again with every untouched byte as it came.

mod parse;

use std::borrow::Cow;

use bytes::Bytes;

pub use parse::{DEPTH_MAX, JsonError, NODES_MAX};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number, kept as text.
    Number,
    /// A string without escapes.
    Plain,
    /// A string with escapes.
    Escaped,
    /// An array.
    Array,
    /// An object: its fields follow as pairs of a string and a value.
    Object,
}

/// One value of a document, and where it stands in the text. Its content follows it in the list.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// The index of the node after this one and all that is in it.
    next: u32,
}

/// How duplicate keys are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// They are an error: nobody can say which one another reader takes.
    Refused,
    /// The last one counts, as in most readers: for answers, which are read but never written again.
    LastWins,
}

/// Reads a text into `nodes`, whose memory is used again from call to call.
pub fn scan<'a>(text: &'a str, duplicates: Duplicates, nodes: &'a mut Vec<Node>) -> Result<Value<'a>, JsonError> {
    nodes.reserve(likely_nodes(text));
    parse::run(text, duplicates, nodes)?;
    Ok(Value { text, nodes, index: 0 })
}

/// Room for the nodes of most texts: one takes at least two bytes, typical texts make one for every twelve.
fn likely_nodes(text: &str) -> usize {
    (text.len() / 12).min(4096) + 8
}

/// A whole text, read strictly.
#[derive(Debug)]
pub struct Document {
    text: String,
    nodes: Vec<Node>,
}

impl Document {
    /// Reads a text strictly. Takes the bytes over without copying where they are not shared.
    pub fn parse(body: Bytes) -> Result<Document, JsonError> {
        let text = String::from_utf8(Vec::from(body)).map_err(|e| JsonError::NotUtf8(e.utf8_error().valid_up_to()))?;
        let mut nodes = Vec::with_capacity(likely_nodes(&text));
        parse::run(&text, Duplicates::Refused, &mut nodes)?;
        Ok(Document { text, nodes })
    }

    /// The value of the whole text.
    pub fn root(&self) -> Value<'_> {
        Value { text: &self.text, nodes: &self.nodes, index: 0 }
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// True for a text of no bytes, which no document has.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Writes the top-level object again: with `Some`, a field gets this JSON text (at its place, or at the end if it was
    /// not there); with `None`, it is left out. Every other value keeps its bytes. Keys are written in one canonical way.
    pub fn render(&self, changes: &[(&str, Option<&str>)]) -> Bytes {
        let room: usize = changes.iter().map(|(key, value)| key.len() + value.map_or(0, str::len) + 4).sum();
        let mut out = Vec::with_capacity(self.text.len() + room + 2);
        out.push(b'{');
        let mut is_written = vec![false; changes.len()];
        for (key, value) in self.root().fields() {
            match changes.iter().position(|(name, _)| *name == key) {
                None => write_field(&mut out, &key, value.raw()),
                Some(at) => {
                    is_written[at] = true;
                    if let (_, Some(replacement)) = changes[at] {
                        write_field(&mut out, &key, replacement);
                    }
                }
            }
        }
        for ((key, value), is_written) in changes.iter().zip(is_written) {
            if let (false, Some(value)) = (is_written, value) {
                write_field(&mut out, key, value);
            }
        }
        out.push(b'}');
        out.into()
    }
}

/// An object of these fields, whose values are JSON texts.
pub fn write_object<'a>(fields: impl Iterator<Item = (Cow<'a, str>, &'a str)>) -> Vec<u8> {
    let mut out = vec![b'{'];
    fields.for_each(|(key, value)| write_field(&mut out, &key, value));
    out.push(b'}');
    out
}

fn write_field(out: &mut Vec<u8>, key: &str, value: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

/// Appends a text as a JSON string: escapes only what must be escaped.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                c if (c as u32) < 0x20 => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    out.push(b'"');
}

/// A value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    text: &'a str,
    nodes: &'a [Node],
    index: u32,
}

impl<'a> Value<'a> {
    fn node(self) -> &'a Node {
        &self.nodes[self.index as usize]
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Its bytes, as they stand in the text.
    pub fn raw(self) -> &'a str {
        let node = self.node();
        &self.text[node.start as usize..node.end as usize]
    }

    /// True for `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// True for an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// True for an array.
    pub fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// The truth value, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// The decoded text, if it is a string.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        match self.kind() {
            Kind::Plain => Some(Cow::Borrowed(self.inside_quotes())),
            Kind::Escaped => Some(Cow::Owned(parse::unescape(self.inside_quotes()))),
            _ => None,
        }
    }

    /// The bytes of a string between its quotes.
    fn inside_quotes(self) -> &'a str {
        let node = self.node();
        &self.text[node.start as usize + 1..node.end as usize - 1]
    }

    /// True for a string of this text.
    fn is_text(self, text: &str) -> bool {
        match self.kind() {
            Kind::Plain => self.inside_quotes() == text,
            Kind::Escaped => parse::unescape(self.inside_quotes()) == text,
            _ => false,
        }
    }

    /// The number, if it is written as a whole number without sign, point or exponent, and fits.
    pub fn as_u64(self) -> Option<u64> {
        let raw = self.raw();
        let digits = self.kind() == Kind::Number && raw.bytes().all(|b| b.is_ascii_digit());
        if digits { raw.parse().ok() } else { None }
    }

    /// The values of an array; none for anything else.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let last = if self.is_array() { self.node().next } else { 0 };
        Children { at: self.index + 1, last, value: self }
    }

    /// The fields of an object, keys decoded; none for anything else.
    pub fn fields(self) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
        let last = if self.is_object() { self.node().next } else { 0 };
        let mut children = Children { at: self.index + 1, last, value: self };
        std::iter::from_fn(move || {
            let key = children.next()?;
            Some((key.as_str()?, children.next()?))
        })
    }

    /// The last field of that name.
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        let last = if self.is_object() { self.node().next } else { 0 };
        let mut children = Children { at: self.index + 1, last, value: self };
        let mut found = None;
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            if key.is_text(name) {
                found = Some(value);
            }
        }
        found
    }

    /// The keys of an object as values, to see how they are written.
    pub fn keys(self) -> impl Iterator<Item = Value<'a>> {
        let last = if self.is_object() { self.node().next } else { 0 };
        Children { at: self.index + 1, last, value: self }.step_by(2)
    }

    /// Calls `visit` with every string value in here (keys left out), with the key that it stands under, if any.
    pub fn each_string(self, visit: &mut dyn FnMut(&str, Value<'a>)) {
        self.strings_under("", visit);
    }

    fn strings_under(self, key: &str, visit: &mut dyn FnMut(&str, Value<'a>)) {
        match self.kind() {
            Kind::Plain | Kind::Escaped => visit(key, self),
            Kind::Array => self.items().for_each(|item| item.strings_under(key, visit)),
            Kind::Object => self.fields().for_each(|(key, value)| value.strings_under(&key, visit)),
            _ => {}
        }
    }
}

struct Children<'a> {
    at: u32,
    last: u32,
    value: Value<'a>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.at >= self.last {
            return None;
        }
        let child = Value { index: self.at, ..self.value };
        self.at = child.node().next;
        Some(child)
    }
}

#[cfg(test)]
mod tests;

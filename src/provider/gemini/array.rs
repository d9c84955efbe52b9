//! A stream that is one JSON array: `[{…}`, `,{…}`, …, `]`, in any split of its bytes.
//!
//! Each element is an event, with the separator before it. The closing bracket is kept back until the stream is at its end, so that
//! whatever was let through by then becomes valid JSON by adding `,{"error":…}]`.

use std::borrow::Cow;

use crate::provider::reader::{Framing, Unreadable};
use crate::wire::sse::{EVENT_BYTES_MAX, Event};

/// Where in the array the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the opening bracket.
    #[default]
    Start,
    /// After the opening bracket: an element or the end.
    Opened,
    /// After an element: a comma or the end.
    AfterElement,
    /// After a comma: an element.
    AfterComma,
    /// Inside an element, outside its strings.
    Element,
    /// Inside a string of an element.
    Text,
    /// After a backslash in a string.
    Escape,
    /// After the closing bracket.
    Closed,
}

/// Cuts the array into its elements.
#[derive(Debug, Default)]
pub struct Elements {
    /// What was not let go yet.
    pending: Vec<u8>,
    /// How far it was read.
    read: usize,
    /// Where in it the element begins.
    element: usize,
    place: Place,
    /// Open brackets of the element.
    depth: usize,
}

impl Elements {
    /// Takes the byte at `self.read`. True when it ends an element.
    fn step(&mut self, byte: u8) -> Result<bool, Unreadable> {
        self.place = match (self.place, byte) {
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text, b'"') => Place::Element,
            (Place::Text | Place::Escape, _) => Place::Text,
            (Place::Element, b'"') => Place::Text,
            (Place::Element, b'{' | b'[') => {
                self.depth += 1;
                Place::Element
            }
            (Place::Element, b'}' | b']') if self.depth == 1 => {
                self.depth = 0;
                self.place = Place::AfterElement;
                return Ok(true);
            }
            (Place::Element, b'}' | b']') => {
                self.depth -= 1;
                Place::Element
            }
            (Place::Element, _) => Place::Element,
            (place, b' ' | b'\t' | b'\r' | b'\n') => place,
            (Place::Start, b'[') => Place::Opened,
            (Place::Opened | Place::AfterElement, b']') => Place::Closed,
            (Place::AfterElement, b',') => Place::AfterComma,
            (Place::Opened | Place::AfterComma, b'{') => {
                (self.element, self.depth) = (self.read, 1);
                Place::Element
            }
            _ => return Err(Unreadable),
        };
        Ok(false)
    }
}

impl Framing for Elements {
    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable> {
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(&byte) = self.pending.get(self.read) {
            let is_end = self.step(byte)?;
            self.read += 1;
            if self.read - done > EVENT_BYTES_MAX {
                return Err(Unreadable);
            }
            if is_end {
                let raw = &self.pending[done..self.read];
                let data = Some(Cow::Borrowed(&self.pending[self.element..self.read]));
                done = self.read;
                if !each(Event { raw, name: None, data }) {
                    return Ok(());
                }
            }
        }
        self.pending.drain(..done);
        self.read -= done;
        self.element = self.element.saturating_sub(done);
        Ok(())
    }

    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable> {
        let is_whole = self.place == Place::Closed || (self.place == Place::Start && self.pending.is_empty());
        if !is_whole {
            return Err(Unreadable);
        }
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            each(Event { raw: &rest, name: None, data: None });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements, and all raw bytes; the error if there is one.
    fn read(chunks: &[&[u8]]) -> (Vec<String>, String, bool) {
        let (mut elements, mut raw) = (Vec::new(), Vec::new());
        let mut framing = Elements::default();
        let mut take = |event: Event<'_>| {
            raw.extend_from_slice(event.raw);
            elements.extend(event.data.map(|data| String::from_utf8_lossy(&data).into_owned()));
            true
        };
        let pushed = chunks.iter().try_for_each(|chunk| framing.push(chunk, &mut take));
        let is_read = pushed.and_then(|()| framing.finish(&mut take)).is_ok();
        (elements, String::from_utf8_lossy(&raw).into_owned(), is_read)
    }

    #[test]
    fn every_split_gives_the_same_elements_and_bytes() {
        let texts = [
            "[]",
            " [\n] \n",
            "[{}]",
            "[{\"a\":\"]}\\\"{[\\\\\"}\n,\r\n{\"b\":[{\"c\":[]},\"x\"]}\n]\n",
            "[ {\"a\":{}} , {\"ü\":\"\\u005d\"},{}]",
        ];
        for text in texts {
            let whole = read(&[text.as_bytes()]);
            assert_eq!((whole.1.as_str(), whole.2), (text, true), "{text}");
            for element in &whole.0 {
                serde_json::from_str::<serde_json::Value>(element).unwrap();
            }
            let parsed: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
            assert_eq!(parsed.len(), whole.0.len());
            for cut in 0..=text.len() {
                let (head, tail) = text.as_bytes().split_at(cut);
                assert_eq!(read(&[head, tail]), whole, "{text} cut at {cut}");
            }
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&single), whole, "{text}");
        }
        assert_eq!(read(&[]), (Vec::new(), String::new(), true));
    }

    #[test]
    fn what_was_let_through_becomes_json_by_one_more_element() {
        let text = "[{\"a\":\"]\"}\n,\r\n{\"b\":[]}\n]\n";
        for cut in 0..=text.len() {
            let mut raw = Vec::new();
            let mut framing = Elements::default();
            let pushed = framing.push(&text.as_bytes()[..cut], &mut |event| {
                raw.extend_from_slice(event.raw);
                true
            });
            assert!(pushed.is_ok());
            raw.extend_from_slice(if raw.is_empty() { b"[{}]" } else { b",{}]" });
            serde_json::from_slice::<Vec<serde_json::Value>>(&raw).unwrap();
        }
    }

    #[test]
    fn what_is_no_array_of_objects_is_unreadable() {
        for text in [
            "{}",
            "[1]",
            "[{}1",
            "[{},]",
            "[{}{}]",
            "[,{}]",
            "[{}]x",
            "[{}][",
            "x",
            "null",
            "[{}",
            "[{",
            "[",
            "[{}]]",
            "data: {}\n\n",
            " ",
        ] {
            assert!(!read(&[text.as_bytes()]).2, "{text}");
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&single), read(&[text.as_bytes()]), "{text}");
        }
    }

    #[test]
    fn an_element_without_an_end_is_not_kept_for_ever() {
        let mut framing = Elements::default();
        let chunk = vec![b' '; 1 << 20];
        assert!(framing.push(b"[{\"a\":\"", &mut |_| true).is_ok());
        let pushed = (0..32).try_for_each(|_| framing.push(&chunk, &mut |_| true));
        assert_eq!(pushed, Err(Unreadable));
    }
}

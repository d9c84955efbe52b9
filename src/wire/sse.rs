//! Server-sent events: bytes in any split become whole events, each with the bytes that it came in.
//!
//! Lines may end in LF, CRLF or CR, as the HTML standard allows. An event ends with an empty line, or with the stream.
//! The raw bytes of all events, one after the other, are exactly the bytes that came.

use std::borrow::Cow;

/// The largest event, and the most that is kept of an unfinished one.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its bytes as they came, with the empty line that ends it.
    pub raw: &'a [u8],
    /// The last `event` field, if it has one.
    pub name: Option<&'a [u8]>,
    /// All `data` fields, joined by line feeds; `None` where there are none (comments, keep-alives).
    pub data: Option<Cow<'a, [u8]>>,
}

/// An event is larger than [`EVENT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {EVENT_BYTES_MAX} bytes")]
pub struct Oversize;

/// Cuts bytes into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of an event whose end has not come yet.
    pending: Vec<u8>,
    /// Where in `pending` the search for its end goes on: the start of a line.
    line_start: usize,
    /// Where in that line.
    searched: usize,
    /// True when an event was cut off already: only the first may begin with a byte order mark.
    is_past_start: bool,
}

impl Decoder {
    /// Takes the next bytes and calls `each` for every event that they complete. Bytes that complete whole events are not copied.
    /// Stops early when `each` says so with `false`; what follows then is dropped.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Event<'_>) -> bool) -> Result<(), Oversize> {
        if self.pending.is_empty() {
            let rest = self.events(bytes, &mut each)?;
            self.pending.extend_from_slice(rest);
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(bytes);
            let rest = self.events(&pending, &mut each)?.len();
            pending.drain(..pending.len() - rest);
            self.pending = pending;
        }
        if self.pending.len() > EVENT_BYTES_MAX { Err(Oversize) } else { Ok(()) }
    }

    /// The stream is at its end: what is left is an event too.
    pub fn finish(&mut self, mut each: impl FnMut(Event<'_>) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        (self.line_start, self.searched) = (0, 0);
        if !pending.is_empty() {
            each(self.event(&pending));
        }
    }

    /// Calls `each` for every whole event and returns what remains.
    fn events<'a>(
        &mut self,
        mut bytes: &'a [u8],
        each: &mut impl FnMut(Event<'_>) -> bool,
    ) -> Result<&'a [u8], Oversize> {
        while let Some(end) = self.event_end(bytes) {
            if end > EVENT_BYTES_MAX {
                return Err(Oversize);
            }
            let (raw, rest) = bytes.split_at(end);
            bytes = rest;
            (self.line_start, self.searched) = (0, 0);
            if !each(self.event(raw)) {
                return Ok(&[]);
            }
        }
        Ok(bytes)
    }

    /// The end of the first event: after its empty line. Goes on where the last search stopped.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let from = self.searched.max(self.line_start);
            let Some(at) = bytes[from..].iter().position(|&b| b == b'\n' || b == b'\r').map(|at| from + at) else {
                self.searched = bytes.len();
                return None;
            };
            let next = match (bytes[at], bytes.get(at + 1)) {
                (b'\r', Some(b'\n')) => at + 2,
                // A CR at the end of what is here may be half of a CRLF: wait, so that every split gives the same events.
                (b'\r', None) => {
                    self.searched = at;
                    return None;
                }
                _ => at + 1,
            };
            let is_empty = at == self.line_start;
            (self.line_start, self.searched) = (next, next);
            if is_empty {
                return Some(next);
            }
        }
    }

    fn event<'a>(&mut self, raw: &'a [u8]) -> Event<'a> {
        let mut rest = raw;
        if !std::mem::replace(&mut self.is_past_start, true) {
            rest = raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw);
        }
        let mut event = Event { raw, name: None, data: None };
        for line in rest.split(|&b| b == b'\n' || b == b'\r') {
            if let Some(data) = field(line, b"data") {
                match &mut event.data {
                    None => event.data = Some(Cow::Borrowed(data)),
                    Some(before) => {
                        let before = before.to_mut();
                        before.push(b'\n');
                        before.extend_from_slice(data);
                    }
                }
            } else if let Some(name) = field(line, b"event") {
                event.name = Some(name);
            }
        }
        event
    }
}

/// The value of a line `name: value`, `name:value` or `name`.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>;

    fn read(chunks: &[&[u8]]) -> (Seen, Vec<u8>) {
        let (mut seen, mut raw) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::default();
        let mut each = |event: Event<'_>| {
            raw.extend_from_slice(event.raw);
            if event.name.is_some() || event.data.is_some() {
                seen.push((event.name.map(<[u8]>::to_vec), event.data.map(Cow::into_owned)));
            }
            true
        };
        for chunk in chunks {
            decoder.push(chunk, &mut each).unwrap();
        }
        decoder.finish(&mut each);
        (seen, raw)
    }

    fn datas(text: &str) -> Vec<String> {
        read(&[text.as_bytes()]).0.into_iter().filter_map(|(_, data)| Some(String::from_utf8(data?).unwrap())).collect()
    }

    #[test]
    fn every_framing_that_the_standard_allows() {
        assert_eq!(datas("data: a\n\ndata: b\n\n"), ["a", "b"]);
        assert_eq!(datas("data: a\r\n\r\ndata: b\r\n\r\n"), ["a", "b"]);
        assert_eq!(datas("data: a\r\rdata: b\r\r"), ["a", "b"]);
        assert_eq!(datas("data:a\n\ndata:  b\n\n"), ["a", " b"]);
        assert_eq!(datas("data: a\ndata: b\ndata\n\n"), ["a\nb\n"]);
        assert_eq!(datas(": ping\n\nid: 7\nretry: 3\ndata: a\n\n\n\n"), ["a"]);
        assert_eq!(datas("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a"]);
        assert_eq!(datas("data: a\n\ndata: no end"), ["a", "no end"]);
        assert_eq!(datas("database: a\n\n data: b\n\n"), Vec::<String>::new());
        let (seen, _) = read(&[b"event: error\ndata: x\n\n"]);
        assert_eq!(seen, [(Some(b"error".to_vec()), Some(b"x".to_vec()))]);
    }

    #[test]
    fn an_event_may_be_large_but_not_boundless() {
        let large = format!("data: {}\n\n", "x".repeat(10 << 20));
        let mut count = 0;
        let mut decoder = Decoder::default();
        for chunk in large.as_bytes().chunks(4096) {
            let each = |event: Event<'_>| {
                count += event.data.map_or(0, |data| data.len());
                true
            };
            decoder.push(chunk, each).unwrap();
        }
        assert_eq!(count, 10 << 20);
        let mut decoder = Decoder::default();
        let chunk = vec![b'x'; 1 << 20];
        let error = (0..20).find_map(|_| decoder.push(&chunk, |_| true).err());
        assert_eq!(error, Some(Oversize));
    }

    proptest! {
        #[test]
        fn any_split_reads_alike_and_loses_no_byte(
            text in "(data: ?[a-z{}\r]{0,6}|event: x|: c|\u{feff}|é|[\r\n]{1,3}|\n\n|\r\n\r\n){0,30}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            let whole = read(&[bytes]);
            prop_assert_eq!(&whole.1, bytes);
            prop_assert_eq!(read(&chunks), whole);
        }
    }
}

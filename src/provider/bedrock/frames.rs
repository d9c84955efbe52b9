//! Amazon's event stream: binary frames, each with two checksums.
//!
//! ```text
//! u32 total | u32 headers | u32 CRC32 of these 8 bytes | headers | payload | u32 CRC32 of all before      big-endian
//! header: u8 length, name, u8 type, value
//! ```

use std::borrow::Cow;

use crate::provider::reader::{Framing, Unreadable};
use crate::wire::sse::Event;

/// The most bytes of a frame's headers that Amazon's own readers take.
pub const HEADER_BYTES_MAX: usize = 128 << 10;
/// The most bytes of a frame's payload that they take.
pub const PAYLOAD_BYTES_MAX: usize = 24 << 20;
/// Both lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum of the whole frame.
const TRAILER: usize = 4;

/// The name of events that report an error: `:message-type` is `exception` or `error`. No real event type begins with a colon.
pub const FAILURE: &[u8] = b":failure";

/// Cuts bytes into frames. A wrong checksum, a size beyond the limits or a broken header makes the stream unreadable.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a frame whose end has not come yet.
    pending: Vec<u8>,
}

impl Framing for Frames {
    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable> {
        if self.pending.is_empty() {
            let rest = frames(bytes, each)?;
            self.pending.extend_from_slice(rest);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let rest = frames(&pending, each)?.len();
        pending.drain(..pending.len() - rest);
        self.pending = pending;
        Ok(())
    }

    fn finish(&mut self, _each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable> {
        // Half a frame at the end is a stream that broke off.
        if self.pending.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// Calls `each` for every whole frame, and returns what remains.
fn frames<'a>(mut bytes: &'a [u8], each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<&'a [u8], Unreadable> {
    while let Some((total, headers)) = prelude(bytes)? {
        let Some((raw, rest)) = bytes.split_at_checked(total) else { break };
        let (body, checksum) = raw.split_at_checked(total - TRAILER).ok_or(Unreadable)?;
        if number(checksum) != Some(crc32fast::hash(body)) {
            return Err(Unreadable);
        }
        let (headers, payload) =
            body.get(PRELUDE..).and_then(|body| body.split_at_checked(headers)).ok_or(Unreadable)?;
        let name = event_name(headers)?;
        bytes = rest;
        if !each(Event { raw, name: Some(name), data: Some(Cow::Borrowed(payload)) }) {
            return Ok(&[]);
        }
    }
    Ok(bytes)
}

/// The lengths of the frame and of its headers; `None` when they have not all come.
fn prelude(bytes: &[u8]) -> Result<Option<(usize, usize)>, Unreadable> {
    let Some(prelude) = bytes.get(..PRELUDE) else { return Ok(None) };
    let (lengths, checksum) = prelude.split_at_checked(8).ok_or(Unreadable)?;
    if number(checksum) != Some(crc32fast::hash(lengths)) {
        return Err(Unreadable);
    }
    let length = |at: usize| lengths.get(at..at + 4).and_then(number).and_then(|length| usize::try_from(length).ok());
    let (total, headers) = (length(0).ok_or(Unreadable)?, length(4).ok_or(Unreadable)?);
    let payload = total.checked_sub(PRELUDE + TRAILER).and_then(|rest| rest.checked_sub(headers)).ok_or(Unreadable)?;
    if headers > HEADER_BYTES_MAX || payload > PAYLOAD_BYTES_MAX {
        return Err(Unreadable);
    }
    Ok(Some((total, headers)))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// The event type that the headers name, or [`FAILURE`].
fn event_name(mut headers: &[u8]) -> Result<&[u8], Unreadable> {
    let (mut message, mut event) = (None, None);
    while let Some((&length, rest)) = headers.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(length)).ok_or(Unreadable)?;
        let (&kind, rest) = rest.split_first().ok_or(Unreadable)?;
        let (length, rest) = match kind {
            0 | 1 => (0, rest),
            2 => (1, rest),
            3 => (2, rest),
            4 => (4, rest),
            5 | 8 => (8, rest),
            9 => (16, rest),
            6 | 7 => {
                let (length, rest) = rest.split_at_checked(2).ok_or(Unreadable)?;
                (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
            }
            _ => return Err(Unreadable),
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(Unreadable)?;
        headers = rest;
        let slot = match name {
            b":message-type" => &mut message,
            b":event-type" => &mut event,
            _ => continue,
        };
        // Two readers could take different ones, or read another type than a string.
        if kind != 7 || slot.replace(value).is_some() {
            return Err(Unreadable);
        }
    }
    match message {
        Some(b"event") => event.ok_or(Unreadable),
        Some(b"exception" | b"error") => Ok(FAILURE),
        _ => Err(Unreadable),
    }
}

/// A frame with these headers, all strings, and this payload. Empty if it would be larger than a reader takes.
pub fn encode(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        let (Ok(name_length), Ok(value_length)) = (u8::try_from(name.len()), u16::try_from(value.len())) else {
            return Vec::new();
        };
        head.push(name_length);
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&value_length.to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    if head.len() > HEADER_BYTES_MAX || payload.len() > PAYLOAD_BYTES_MAX {
        return Vec::new();
    }
    let total = PRELUDE + head.len() + payload.len() + TRAILER;
    let mut frame = Vec::with_capacity(total);
    // Both lengths are far below 2³², see above.
    for length in [total, head.len()] {
        frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame of `messageStart` as botocore's own test data has it: written by hand from the format, checked with its decoder.
    fn event(kind: &str, payload: &str) -> Vec<u8> {
        let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
        encode(&headers, payload.as_bytes())
    }

    type Seen = Vec<(Vec<u8>, Vec<u8>)>;

    fn read(chunks: &[&[u8]]) -> Result<(Seen, Vec<u8>), Unreadable> {
        let (mut frames, mut seen, mut raw) = (Frames::default(), Vec::new(), Vec::new());
        let mut each = |event: Event<'_>| {
            seen.push((event.name.unwrap().to_vec(), event.data.unwrap().to_vec()));
            raw.extend_from_slice(event.raw);
            true
        };
        for chunk in chunks {
            frames.push(chunk, &mut each)?;
        }
        frames.finish(&mut each)?;
        Ok((seen, raw))
    }

    #[test]
    fn an_empty_frame_is_the_published_one() {
        // From the format's published test vectors: 16 bytes, no headers, no payload.
        let empty = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(encode(&[], b""), empty);
        // It says nothing of what it is, so it cannot be metered.
        assert_eq!(read(&[&empty]), Err(Unreadable));
        // `{'foo':'bar'}` with one header of type integer (event-id: 40972), and with one string (content-type: application/json).
        let payload = [
            0x00, 0x00, 0x00, 0x3d, 0x00, 0x00, 0x00, 0x20, 0x07, 0xfd, 0x83, 0x96, 0x0c, b'c', b'o', b'n', b't', b'e',
            b'n', b't', b'-', b't', b'y', b'p', b'e', 0x07, 0x00, 0x10, b'a', b'p', b'p', b'l', b'i', b'c', b'a', b't',
            b'i', b'o', b'n', b'/', b'j', b's', b'o', b'n', b'{', b'\'', b'f', b'o', b'o', b'\'', b':', b'\'', b'b',
            b'a', b'r', b'\'', b'}', 0x8d, 0x9c, 0x08, 0xb1,
        ];
        assert_eq!(encode(&[("content-type", "application/json")], b"{'foo':'bar'}"), payload);
    }

    #[test]
    fn frames_are_the_same_in_every_split() {
        let bytes = [event("messageStart", "{}"), event("chunk", ""), event("metadata", &"x".repeat(300))].concat();
        let whole = read(&[&bytes]).unwrap();
        assert_eq!(whole.1, bytes);
        assert_eq!(whole.0.len(), 3);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]).unwrap(), whole, "{cut}");
        }
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()).unwrap(), whole);
        for cut in 1..bytes.len() {
            let ends_between =
                [event("messageStart", "{}").len(), bytes.len() - event("metadata", &"x".repeat(300)).len()];
            assert_eq!(read(&[&bytes[..cut]]).is_ok(), ends_between.contains(&cut), "{cut}");
        }
    }

    #[test]
    fn cap_30_no_flipped_bit_goes_unseen() {
        let bytes = event("metadata", r#"{"usage":{"inputTokens":12}}"#);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut broken = bytes.clone();
                broken[at] ^= 1 << bit;
                // A longer total only waits for more, and ends as half a frame.
                assert!(read(&[&broken]).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn cap_30_an_oversize_frame_is_refused_by_its_prelude() {
        for (total, headers) in [
            (u32::MAX, 0),
            ((PAYLOAD_BYTES_MAX + 17) as u32, 0),
            ((HEADER_BYTES_MAX + 17) as u32, (HEADER_BYTES_MAX + 1) as u32),
            (15, 0),
            (0, 0),
            (16, 1),
            (20, u32::MAX),
        ] {
            let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            prelude.extend_from_slice(&crc32fast::hash(&prelude).to_be_bytes());
            assert_eq!(Frames::default().push(&prelude, &mut |_| true), Err(Unreadable), "{total} {headers}");
        }
        let largest = encode(&[(":message-type", "event"), (":event-type", "chunk")], &vec![b'x'; PAYLOAD_BYTES_MAX]);
        assert_eq!(read(&[&largest]).unwrap().0.len(), 1);
        assert!(encode(&[], &vec![0; PAYLOAD_BYTES_MAX + 1]).is_empty());
    }

    #[test]
    fn headers_are_read_by_type() {
        let frame = |headers: &[u8]| {
            let mut frame = Vec::new();
            frame.extend_from_slice(&((PRELUDE + headers.len() + TRAILER) as u32).to_be_bytes());
            frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
            frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
            frame.extend_from_slice(headers);
            frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
            read(&[&frame]).map(|(seen, _)| seen)
        };
        let of = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let string = |name: &str, value: &str| {
            [of(name), vec![7], (value.len() as u16).to_be_bytes().to_vec(), value.as_bytes().to_vec()].concat()
        };
        let kind = [string(":message-type", "event"), string(":event-type", "chunk")].concat();
        assert_eq!(frame(&kind).unwrap(), [(b"chunk".to_vec(), Vec::new())]);
        // Every type is skipped by its own length.
        for (number, length) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            let other = [of("x"), vec![number], vec![0xff; length]].concat();
            assert!(frame(&[other, kind.clone()].concat()).is_ok(), "{number}");
        }
        assert!(frame(&[of("x"), vec![6, 0, 3, 1, 2, 3], kind.clone()].concat()).is_ok());
        assert_eq!(
            frame(&[string(":message-type", "exception"), string(":exception-type", "x")].concat()).unwrap()[0].0,
            FAILURE
        );
        assert_eq!(frame(&string(":message-type", "error")).unwrap()[0].0, FAILURE);
        for broken in [
            Vec::new(),
            string(":event-type", "chunk"),
            string(":message-type", "event"),
            string(":message-type", "request"),
            [kind.clone(), string(":event-type", "metadata")].concat(),
            [of(":message-type"), vec![6, 0, 5], b"event".to_vec()].concat(),
            [kind.clone(), of("x"), vec![10]].concat(),
            [kind.clone(), of("x"), vec![7, 0]].concat(),
            [kind.clone(), of("x"), vec![7, 0, 9, 1]].concat(),
            [kind.clone(), vec![9, b'x']].concat(),
            [kind, of("x")].concat(),
        ] {
            assert_eq!(frame(&broken), Err(Unreadable), "{broken:?}");
        }
    }
}

//! The provider's answer on its way to the client: metered chunk by chunk, cut the moment it would cross its hold.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::money::Money;
use crate::pricing::{PriceTable, Usage};
use crate::provider::{AnswerReader, Call, ErrorAnswer, Progress};

/// Why the meter ends an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// More would cross the hold.
    HoldReached,
    /// The answer cannot be read, so it cannot be metered.
    Unreadable,
}

/// Reads an answer and knows what it costs so far.
pub struct Meter {
    reader: Box<dyn AnswerReader>,
    call: Arc<Call>,
    granted: Money,
    /// What was last reported, until more of the answer comes: it is asked for several times at the end.
    reported: Option<Option<(Money, Usage)>>,
    /// The most bytes on the wire that what was read so far can have taken.
    accounted: u64,
    /// The same of one piece's framing.
    frame: u64,
    /// Bytes of the body that have not come, where its head promised a number.
    awaited: Option<u64>,
}

/// Bytes that frame one piece of an answer: a chunk's length and line ends.
const FRAME_BYTES: u64 = 16;
/// Several chunks may come in one piece: framing takes at most one byte for so many.
const SMALL_CHUNK: u64 = 8;
/// What TLS adds to each piece, and once.
const TLS_FRAME_BYTES: u64 = 48;
const TLS_ONCE_BYTES: u64 = 2048;
/// The status line.
const STATUS_LINE_BYTES: u64 = 64;

impl Meter {
    /// A meter over a reader; `granted` is what the hold pays for. The answer's head had `head_bytes`, and came by TLS or not.
    pub fn new(
        reader: Box<dyn AnswerReader>,
        call: Arc<Call>,
        granted: Money,
        head_bytes: usize,
        is_tls: bool,
    ) -> Self {
        let (frame, once) = if is_tls { (FRAME_BYTES + TLS_FRAME_BYTES, TLS_ONCE_BYTES) } else { (FRAME_BYTES, 0) };
        let accounted = head_bytes as u64 + STATUS_LINE_BYTES + frame + once;
        Meter { reader, call, granted, reported: None, accounted, frame, awaited: None }
    }

    /// The answer's head promised so many bytes.
    pub fn awaits(&mut self, length: Option<u64>) {
        self.awaited = length;
    }

    /// True when every byte that was promised has come: over HTTP/2 the end itself may be told later, or never to us.
    pub fn is_whole(&self) -> bool {
        self.awaited == Some(0)
    }

    /// The most bytes on the wire that what was read so far can have taken.
    pub fn accounted(&self) -> u64 {
        self.accounted
    }

    /// Bytes of the `received` ones that certainly, or possibly, hold output that was not metered: what was not read, and what was read but is
    /// no whole event yet.
    pub fn unmetered(&self, received: u64) -> u64 {
        received.saturating_sub(self.accounted).saturating_add(self.reader.pending())
    }

    /// Takes the next bytes; appends to `emit` what the client may have of them.
    pub fn feed(&mut self, bytes: &[u8], emit: &mut BytesMut) -> Result<(), CutReason> {
        failpoint!("answer_piece");
        let length = bytes.len() as u64;
        self.awaited = self.awaited.map(|awaited| awaited.saturating_sub(length));
        self.accounted = self.accounted.saturating_add(length + length / SMALL_CHUNK + self.frame);
        let progress = self.reader.push(bytes, emit);
        self.judge(progress)
    }

    /// The answer ended; appends what was still kept.
    pub fn finish(&mut self, emit: &mut BytesMut) -> Result<(), CutReason> {
        let progress = self.reader.finish(emit);
        self.judge(progress)
    }

    fn judge(&mut self, progress: Progress) -> Result<(), CutReason> {
        self.reported = None;
        match progress {
            Progress::Ceiling => Err(CutReason::HoldReached),
            Progress::Unreadable => Err(CutReason::Unreadable),
            Progress::More => Ok(()),
        }
    }

    /// What the provider's own usage comes to, at the tier and the model that its answer names. `None` without usage.
    pub fn reported_cost(&mut self, prices: &PriceTable, provider: &str) -> Option<(Money, Usage)> {
        if let Some(reported) = self.reported {
            return reported;
        }
        let reported = self.reader.observed(false).cost(&self.call.price, prices, provider);
        self.reported = Some(reported);
        reported
    }

    /// An upper bound of what was generated so far, for a provider that stops billing when it is dropped: the whole input bound and the output
    /// that was streamed, never more than the hold.
    pub fn generated_cost(&mut self, in_flight_tokens: u64) -> Money {
        let streamed = self.reader.observed(true).streamed_tokens.saturating_add(in_flight_tokens);
        self.call.worst(self.call.input_max, streamed).min(self.granted)
    }

    /// True when the answer comes in events.
    pub fn is_stream(&self) -> bool {
        self.reader.is_stream()
    }

    /// The error event that ends the stream here.
    pub fn closing_event(&mut self, error: &ErrorAnswer<'_>) -> Vec<u8> {
        self.reader.closing_event(error)
    }

    /// True when the answer said something of its bill that cannot be right.
    pub fn odd(&mut self) -> bool {
        self.reader.observed(false).odd_usage
    }

    /// The model that the answer names.
    pub fn model(&mut self) -> Option<&str> {
        self.reader.observed(false).model.as_deref()
    }

    /// True when the provider's own terminal event was seen.
    pub fn finished(&mut self) -> bool {
        self.reader.observed(false).finished
    }
}

/// Bytes that a filter let through and that may not be on the socket yet. Pingora filters several pieces before it writes them, and forgets those
/// not yet written when a filter fails: this is what gets them to the client all the same.
#[derive(Default)]
pub struct Tail {
    pieces: VecDeque<Bytes>,
    /// Bytes let through in all.
    passed: usize,
    /// Bytes of `pieces`.
    kept: usize,
}

impl Tail {
    /// A piece was let through; `sent` bytes of the body are on the socket by now.
    pub fn push(&mut self, piece: Bytes, sent: usize) {
        while let Some(first) = self.pieces.front() {
            if self.passed - self.kept + first.len() > sent {
                break;
            }
            self.kept -= first.len();
            self.pieces.pop_front();
        }
        self.passed += piece.len();
        self.kept += piece.len();
        self.pieces.push_back(piece);
    }

    /// What is not on the socket when `sent` bytes are.
    pub fn unsent(&self, sent: usize) -> BytesMut {
        let mut skip = sent.saturating_sub(self.passed - self.kept);
        let mut rest = BytesMut::new();
        for piece in &self.pieces {
            let from = skip.min(piece.len());
            skip -= from;
            rest.extend_from_slice(&piece[from..]);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_exactly_what_was_not_sent() {
        let text = b"abcdefghijklmnopqrstuvwxyz";
        for sent_at in 0..=text.len() {
            for piece in 1..7 {
                let mut tail = Tail::default();
                for chunk in text.chunks(piece) {
                    // The socket lags behind by any amount, and never runs ahead.
                    let sent = sent_at.min(tail.passed);
                    tail.push(Bytes::copy_from_slice(chunk), sent);
                }
                assert_eq!(&tail.unsent(sent_at)[..], &text[sent_at..], "sent {sent_at}, pieces of {piece}");
            }
        }
    }
}

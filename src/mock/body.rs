//! Response bodies: plain, padded, broken on purpose, and streams of events in every framing.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::dialect::PAD_BLOCK;
use super::generate::Beat;
use super::script::Script;

const MEGABYTE: u64 = 1 << 20;

type Polled = Poll<Option<Result<Frame<Bytes>, io::Error>>>;

/// Turns beats into one dialect's bytes.
pub trait Render: Send {
    /// Writes what `beat` looks like on the wire; [`Out::commit`] after each event.
    fn render(&mut self, beat: Beat, out: &mut Out);
}

/// Where a renderer writes its events.
#[derive(Debug, Default)]
pub struct Out {
    /// The event being written.
    pub buf: Vec<u8>,
    ready: VecDeque<Bytes>,
    committed: u64,
    burst: u64,
    split: usize,
}

impl Out {
    fn new(script: &Script) -> Out {
        let split = script.split.unwrap_or(0) as usize;
        Out { burst: script.burst.unwrap_or(1), split, ..Out::default() }
    }

    /// The event in `buf` is complete.
    pub fn commit(&mut self) {
        self.committed += 1;
        if self.committed >= self.burst {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.committed = 0;
        if !self.buf.is_empty() {
            cut(Bytes::from(std::mem::take(&mut self.buf)), self.split, &mut self.ready);
        }
    }
}

/// Cuts `bytes` into pieces of `size` (0: does not).
fn cut(mut bytes: Bytes, size: usize, pieces: &mut VecDeque<Bytes>) {
    while size > 0 && bytes.len() > size {
        pieces.push_back(bytes.split_to(size));
    }
    pieces.push_back(bytes);
}

/// A response body.
pub enum MockBody {
    /// Everything at once, with a length.
    Full(Option<Bytes>),
    /// A head, padding, and perhaps no proper end.
    Odd(Box<Odd>),
    /// A stream of events.
    Events(Box<Events>),
}

impl MockBody {
    /// A plain body.
    pub fn full(bytes: impl Into<Bytes>) -> MockBody {
        MockBody::Full(Some(bytes.into()))
    }

    /// A body with whatever `script` does to bodies that are not streams.
    pub fn scripted(bytes: Vec<u8>, script: &Script) -> MockBody {
        let split = script.split.unwrap_or(0) as usize;
        if split == 0 && !script.truncate && !script.endless && script.big.is_none() {
            return MockBody::full(bytes);
        }
        let mut bytes = Bytes::from(bytes);
        if script.truncate {
            bytes.truncate(bytes.len() / 2);
        }
        let mut pieces = VecDeque::new();
        cut(bytes, split, &mut pieces);
        let megabytes = script.big.unwrap_or(0);
        MockBody::Odd(Box::new(Odd {
            pieces,
            pad: Pad::new(megabytes * MEGABYTE, vec![b' '; PAD_BLOCK]),
            drips: script.endless,
            drip: None,
            breaks: script.truncate,
            between: Between::new(split > 0),
        }))
    }

    /// A stream.
    pub fn events(beats: mpsc::Receiver<Beat>, render: Box<dyn Render>, pad: Vec<u8>, script: &Script) -> MockBody {
        let big = script.big.unwrap_or(0) * MEGABYTE;
        MockBody::Events(Box::new(Events {
            beats,
            render,
            out: Out::new(script),
            pad: Pad::new(big, pad),
            is_padding: false,
            held: None,
            truncates: script.truncate,
            end: None,
            between: Between::new(script.split.is_some()),
        }))
    }
}

impl Body for MockBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            MockBody::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            MockBody::Odd(odd) => odd.poll(cx),
            MockBody::Events(events) => events.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, MockBody::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            MockBody::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}

/// Makes the connection flush between two pieces, so that they are two writes.
#[derive(Debug)]
struct Between {
    is_on: bool,
    flushed: bool,
}

impl Between {
    fn new(is_on: bool) -> Between {
        Between { is_on, flushed: true }
    }

    /// Once after each piece, hands control back so that what was given so far is written.
    fn must_wait(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_on || self.flushed {
            return false;
        }
        self.flushed = true;
        cx.waker().wake_by_ref();
        true
    }

    fn piece(&mut self, bytes: Bytes) -> Polled {
        self.flushed = false;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Filler in blocks that share one allocation.
#[derive(Debug)]
struct Pad {
    block: Bytes,
    left: u64,
}

impl Pad {
    fn new(left: u64, block: Vec<u8>) -> Pad {
        let left = if block.is_empty() { 0 } else { left };
        Pad { block: if left > 0 { Bytes::from(block) } else { Bytes::new() }, left }
    }

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        self.left = self.left.saturating_sub(self.block.len() as u64);
        Some(self.block.clone())
    }
}

/// See [`MockBody::Odd`].
pub struct Odd {
    pieces: VecDeque<Bytes>,
    pad: Pad,
    drips: bool,
    drip: Option<Pin<Box<Sleep>>>,
    breaks: bool,
    between: Between,
}

impl Odd {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.between.must_wait(cx) {
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.pop_front().or_else(|| self.pad.next()) {
            return self.between.piece(piece);
        }
        if self.breaks {
            self.between.is_on = true;
            if self.between.must_wait(cx) {
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(io::Error::other("mock: the body breaks off"))));
        }
        if !self.drips {
            return Poll::Ready(None);
        }
        let pause = || Box::pin(tokio::time::sleep(Duration::from_millis(10)));
        match self.drip.get_or_insert_with(pause).as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.drip = None;
                self.between.piece(Bytes::from_static(&[b' '; 1024]))
            }
        }
    }
}

/// See [`MockBody::Events`].
pub struct Events {
    beats: mpsc::Receiver<Beat>,
    render: Box<dyn Render>,
    out: Out,
    pad: Pad,
    is_padding: bool,
    held: Option<Beat>,
    truncates: bool,
    end: Option<Ending>,
    between: Between,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Clean,
    Broken,
}

impl Events {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        loop {
            if self.between.must_wait(cx) {
                return Poll::Pending;
            }
            if let Some(piece) = self.out.ready.pop_front() {
                return self.between.piece(piece);
            }
            if self.is_padding
                && let Some(block) = self.pad.next()
            {
                return self.between.piece(block);
            }
            match self.end {
                Some(Ending::Clean) => return Poll::Ready(None),
                Some(Ending::Broken) => {
                    self.between.is_on = true;
                    if self.between.must_wait(cx) {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Err(io::Error::other("mock: the stream breaks off"))));
                }
                None => {}
            }
            let beat = match self.held.take() {
                Some(beat) => Some(beat),
                None => match self.beats.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(beat) => beat,
                },
            };
            self.take(beat);
        }
    }

    fn take(&mut self, beat: Option<Beat>) {
        match beat {
            Some(Beat::End) if self.pad.left > 0 => {
                self.out.flush();
                self.is_padding = true;
                self.held = beat;
                return;
            }
            Some(Beat::End) if self.truncates => self.end = Some(Ending::Broken),
            Some(beat) => {
                self.render.render(beat, &mut self.out);
                self.end = match beat {
                    Beat::End | Beat::Error => Some(Ending::Clean),
                    Beat::Die => Some(Ending::Broken),
                    Beat::Start | Beat::Thoughts { .. } | Beat::Tokens { .. } => None,
                };
            }
            None => self.end = Some(Ending::Broken),
        }
        if self.end.is_some() {
            self.out.flush();
        }
    }
}

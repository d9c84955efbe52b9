//! What a dialect must be able to do, and which one a path speaks.

use std::io::Write as _;

use hyper::HeaderMap;

use super::body::Render;
use super::error::ApiError;
use super::flow::{App, Incoming, Order, Reply};
use super::script::Script;
use super::{anthropic, azure, bedrock, gemini, mistral, openai};

/// What becomes of a request.
pub enum Routed {
    /// An answer that costs nothing.
    Reply(Reply),
    /// A call that is generated and billed.
    Order(Box<Order>),
}

impl From<Order> for Routed {
    fn from(order: Order) -> Routed {
        Routed::Order(Box::new(order))
    }
}

/// One provider's way of speaking.
pub trait Dialect: Send + Sync {
    /// Checks a request and says what becomes of it.
    fn route(&self, app: &App, incoming: &Incoming) -> Result<Routed, ApiError>;

    /// The body of an error answer: a JSON object.
    fn error_body(&self, error: &ApiError, request_id: &str) -> Vec<u8>;

    /// Adds the headers that all answers have.
    fn headers(&self, request_id: &str, headers: &mut HeaderMap);

    /// Adds the headers that errors have.
    fn error_headers(&self, _error: &ApiError, _headers: &mut HeaderMap) {}

    /// Is an error answer with this status billed, although the script does not say so?
    fn bills_error(&self, _status: u16, _script: &Script) -> bool {
        false
    }
}

/// How the answer of an order is written.
pub trait Answer: Send {
    /// The whole answer, not streamed.
    fn full(&self) -> Vec<u8>;

    /// The stream: how it is announced, and who writes it.
    fn stream(self: Box<Self>) -> Stream;

    /// Writes `,"usage":{…}` for an error that is billed.
    fn usage_member(&self, _out: &mut Vec<u8>) {}
}

/// A streamed answer.
pub struct Stream {
    /// `content-type`.
    pub kind: &'static str,
    /// Filler that readers of the stream skip, if there is any: 64 KiB.
    pub pad: Vec<u8>,
    /// Writes it.
    pub render: Box<dyn Render>,
}

/// Size of a block of filler.
pub const PAD_BLOCK: usize = 64 * 1024;

impl Stream {
    /// Server-sent events.
    pub fn sse(render: Box<dyn Render>) -> Stream {
        let mut pad = b": ".to_vec();
        pad.resize(PAD_BLOCK - 1, b'.');
        pad.push(b'\n');
        Stream { kind: "text/event-stream; charset=utf-8", pad, render }
    }
}

/// Server-sent events, in the framing that a script asks for.
#[derive(Clone, Copy, Debug)]
pub struct Sse {
    eol: &'static str,
    comment: bool,
    nospace: bool,
}

impl Sse {
    /// The framing of `script`.
    pub fn new(script: &Script) -> Sse {
        Sse { eol: if script.crlf { "\r\n" } else { "\n" }, comment: script.comment, nospace: script.nospace }
    }

    /// Lines end with CRLF.
    pub fn crlf(self) -> Sse {
        Sse { eol: "\r\n", ..self }
    }

    /// Writes one event; `name` is empty for events without one.
    pub fn event(&self, out: &mut super::body::Out, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
        let eol = self.eol;
        if self.comment {
            let _ = write!(out.buf, ": mock{eol}{eol}");
        }
        if !name.is_empty() {
            let _ = write!(out.buf, "event: {name}{eol}");
        }
        out.buf.extend_from_slice(if self.nospace { b"data:" } else { b"data: " });
        data(&mut out.buf);
        let _ = write!(out.buf, "{eol}{eol}");
        out.commit();
    }
}

/// The dialect of a path, and the path within it. Paths that name no dialect are OpenAI's.
pub fn select(path: &str) -> (&'static dyn Dialect, &str) {
    let dialects: [(&str, &'static dyn Dialect); 6] = [
        ("/openai", &openai::OpenAi),
        ("/anthropic", &anthropic::Anthropic),
        ("/gemini", &gemini::Gemini),
        ("/mistral", &mistral::Mistral),
        ("/azure", &azure::Azure),
        ("/bedrock", &bedrock::Bedrock),
    ];
    for (prefix, dialect) in dialects {
        if let Some(rest) = path.strip_prefix(prefix)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return (dialect, rest);
        }
    }
    (&openai::OpenAi, path)
}

/// Adds a header, if its value can be one.
pub fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
        headers.insert(hyper::header::HeaderName::from_static(name), value);
    }
}

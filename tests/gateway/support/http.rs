//! A small HTTP/1.1 client that shows everything on the wire and can misbehave.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::within;

/// A request, written exactly as it stands here.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub chunked: bool,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.into(),
            target: target.into(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Vec::new(),
            chunked: false,
        }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
        let mut request = Request::new("POST", target).header("content-type", "application/json");
        request.body = body.into();
        request
    }

    /// A chat completion.
    pub fn chat(body: &Value) -> Request {
        Request::post("/openai/v1/chat/completions", body.to_string())
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn bearer(self, secret: &str) -> Request {
        self.header("authorization", &format!("Bearer {secret}"))
    }

    pub fn chunked(mut self) -> Request {
        self.chunked = true;
        self
    }

    /// Request line and headers, with what frames the body.
    pub fn head(&self) -> Vec<u8> {
        let mut out = format!("{} {} {}\r\n", self.method, self.target, self.version);
        let has = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            out.push_str("host: gateway.test\r\n");
        }
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            out.push_str("transfer-encoding: chunked\r\n");
        } else if !has("content-length") && (!self.body.is_empty() || self.method == "POST") {
            out.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        out.push_str("\r\n");
        out.into_bytes()
    }

    /// The whole request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        if self.chunked {
            for piece in self.body.chunks(10_000) {
                out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        } else {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// Status line and headers of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    /// The body came to its own end: not cut off by a closed connection.
    pub complete: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("status {}: not JSON ({e}): {}", self.status, self.text()))
    }

    /// The contract's code of a refusal, or an empty string.
    pub fn code(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `loopers` object of a refusal.
    pub fn loopers(&self) -> Value {
        self.json()["error"]["loopers"].clone()
    }

    /// The data of each server-sent event.
    pub fn events(&self) -> Vec<String> {
        let mut events = Events::default();
        events.push(&self.body);
        events.done
    }

    /// Asserts the status; shows the body otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Asserts a refusal by status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Answer {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        self
    }
}

/// Splits server-sent events.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Option<String>,
    pub done: Vec<String>,
}

impl Events {
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
            self.line.clear();
            if line.is_empty() {
                self.done.extend(self.data.take());
            } else if let Some(data) = line.strip_prefix("data:") {
                let data = data.strip_prefix(' ').unwrap_or(data);
                match &mut self.data {
                    Some(before) => {
                        before.push('\n');
                        before.push_str(data);
                    }
                    None => self.data = Some(data.to_owned()),
                }
            }
        }
    }
}

/// How the rest of a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Done,
}

/// A connection.
pub struct Conn {
    stream: TcpStream,
    buf: Vec<u8>,
    eof: bool,
}

impl Conn {
    pub async fn open(addr: SocketAddr) -> Conn {
        match Conn::try_open(addr).await {
            Ok(conn) => conn,
            Err(e) => panic!("cannot connect to {addr}: {e}"),
        }
    }

    pub async fn try_open(addr: SocketAddr) -> io::Result<Conn> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Conn { stream, buf: Vec::new(), eof: false })
    }

    /// A connection from another of this machine's addresses.
    pub async fn open_from(from: SocketAddr, to: SocketAddr) -> Conn {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(from).expect("an address of this machine");
        let stream = socket.connect(to).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Conn { stream, buf: Vec::new(), eof: false }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes the connection so that the peer sees a reset.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads some bytes; false at the end, or when the peer reset the connection.
    async fn fill(&mut self) -> bool {
        if self.eof {
            return false;
        }
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece).await {
            Ok(n) if n > 0 => self.buf.extend_from_slice(&piece[..n]),
            _ => self.eof = true,
        }
        !self.eof
    }

    /// Whether the peer closes, or resets, the connection in that time. What it sends meanwhile is kept.
    pub async fn closed_within(&mut self, most: Duration) -> bool {
        let closes = async { while self.fill().await {} };
        tokio::time::timeout(most, closes).await.is_ok()
    }

    /// One byte, when an answer is looked at piece by piece.
    pub async fn read_byte(&mut self) -> Option<u8> {
        while self.buf.is_empty() {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buf.remove(0))
    }

    /// Everything until the peer closes.
    pub async fn rest(mut self) -> Vec<u8> {
        within("the peer to close", async { while self.fill().await {} }).await;
        self.buf
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buf.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buf.drain(..=at).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next status line and headers, interim ones (1xx) left out; `None` when the peer closed instead.
    pub async fn read_head(&mut self) -> Option<Head> {
        loop {
            let status = self.line().await?.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            let mut headers = Vec::new();
            loop {
                let line = self.line().await?;
                let Some((name, value)) = line.split_once(':') else { break };
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            return Some(Head { status, headers });
        }
    }

    fn framing(head: &Head, method: &str) -> Framing {
        if method == "HEAD" || matches!(head.status, 101 | 204 | 304) {
            return Framing::Done;
        }
        if head.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            return Framing::Chunked;
        }
        match head.header("content-length").and_then(|v| v.parse().ok()) {
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    }

    /// The next piece of a body. `Ok(None)` at its proper end, `Err` when the connection broke off.
    async fn piece(&mut self, framing: &mut Framing) -> Result<Option<Vec<u8>>, ()> {
        match *framing {
            Framing::Done | Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                if self.buf.is_empty() && !self.fill().await {
                    return Err(());
                }
                let take = left.min(self.buf.len());
                *framing = Framing::Length(left - take);
                Ok(Some(self.buf.drain(..take).collect()))
            }
            Framing::UntilClose => {
                if self.buf.is_empty() && !self.fill().await {
                    *framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buf)))
            }
            Framing::Chunked => {
                let line = self.line().await.ok_or(())?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16).map_err(|_| ())?;
                while self.buf.len() < size + 2 {
                    if !self.fill().await {
                        return Err(());
                    }
                }
                let piece: Vec<u8> = self.buf.drain(..size).collect();
                self.buf.drain(..2);
                if size == 0 {
                    *framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(piece))
            }
        }
    }

    /// Sends a request and reads its whole answer; `None` when the peer closed without one.
    pub async fn try_call(&mut self, request: &Request) -> Option<Answer> {
        // A peer that refuses early may close its reading side: what it said still counts.
        let _ = self.write(&request.bytes()).await;
        self.try_answer(&request.method).await
    }

    /// Reads one answer.
    pub async fn try_answer(&mut self, method: &str) -> Option<Answer> {
        let head = self.read_head().await?;
        let mut framing = Conn::framing(&head, method);
        let mut body = Vec::new();
        let complete = loop {
            match self.piece(&mut framing).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break true,
                Err(()) => break false,
            }
        };
        if head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
            self.eof = true;
        }
        Some(Answer { status: head.status, head, body, complete })
    }

    pub async fn call(&mut self, request: &Request) -> Answer {
        let what = format!("{} {}", request.method, request.target);
        match within(&what, self.try_call(request)).await {
            Some(answer) => answer,
            None => panic!("{what}: the connection was closed without an answer"),
        }
    }

    /// Whether another request may go over this connection.
    pub fn is_open(&self) -> bool {
        !self.eof
    }

    /// Sends a request and returns when the head of the answer is there.
    pub async fn stream(mut self, request: &Request) -> Live {
        self.write(&request.bytes()).await.expect("the request is written");
        let head = within("the head of a stream", self.read_head()).await.expect("an answer");
        let framing = Conn::framing(&head, &request.method);
        Live { conn: self, head, framing, body: Vec::new(), events: Events::default(), at: 0, ended: None }
    }
}

/// An answer that is still coming.
pub struct Live {
    pub conn: Conn,
    pub head: Head,
    framing: Framing,
    body: Vec<u8>,
    events: Events,
    at: usize,
    ended: Option<bool>,
}

impl Live {
    /// The data of the next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.events.done.get(self.at) {
                self.at += 1;
                return Some(event.clone());
            }
            if self.ended.is_some() {
                return None;
            }
            match within("the next event", self.conn.piece(&mut self.framing)).await {
                Ok(Some(piece)) => {
                    self.events.push(&piece);
                    self.body.extend_from_slice(&piece);
                }
                Ok(None) => self.ended = Some(true),
                Err(()) => self.ended = Some(false),
            }
        }
    }

    /// Reads so many events.
    pub async fn skip(&mut self, events: usize) {
        for _ in 0..events {
            assert!(self.next().await.is_some(), "the stream ended early: {}", String::from_utf8_lossy(&self.body));
        }
    }

    /// Reads at least so many bytes of the body.
    pub async fn read(&mut self, least: usize) {
        while self.body.len() < least {
            match within("more of a stream", self.conn.piece(&mut self.framing)).await {
                Ok(Some(piece)) => {
                    self.events.push(&piece);
                    self.body.extend_from_slice(&piece);
                }
                _ => panic!("the stream ended early: {}", String::from_utf8_lossy(&self.body)),
            }
        }
    }

    /// Reads to the end.
    pub async fn finish(mut self) -> Answer {
        while self.next().await.is_some() {}
        Answer { status: self.head.status, head: self.head, body: self.body, complete: self.ended == Some(true) }
    }

    /// Leaves politely (as far as the kernel lets it).
    pub fn hang_up(self) {}

    /// Leaves with a reset.
    pub fn reset(self) {
        self.conn.reset();
    }
}

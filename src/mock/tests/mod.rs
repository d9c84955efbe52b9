//! The mock over real sockets: what the tests of all dialects use.

mod openai;

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// What came back: status, head as text, body without its chunked framing, and whether it ended properly.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) is_whole: bool,
}

impl Answered {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The data of each event, whatever the framing.
    pub(super) fn events(&self) -> Vec<String> {
        let text = self.text().replace("\r\n", "\n");
        let data = |line: &str| line.strip_prefix("data:").map(|d| d.trim_start().to_owned());
        text.split("\n\n").flat_map(|event| event.lines().filter_map(data).collect::<Vec<_>>()).collect()
    }

    /// The streamed text of one choice.
    fn streamed(&self, choice: usize) -> String {
        let chunks = self.events().into_iter().filter_map(|e| serde_json::from_str::<Value>(&e).ok());
        chunks
            .flat_map(|c| c["choices"].as_array().cloned().unwrap_or_default())
            .filter(|c| c["index"] == choice)
            .filter_map(|c| c["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    }
}

pub(super) async fn mock() -> MockHandle {
    start(([127, 0, 0, 1], 0).into(), MockConfig::default()).await.unwrap()
}

pub(super) fn raw_request(method: &str, path: &str, body: &str, script: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: mock\r\nauthorization: Bearer sk-test-1\r\nconnection: close\r\n\
         x-mock-script: {script}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) async fn send(mock: &MockHandle, request: &str) -> Answered {
    let mut socket = TcpStream::connect(mock.addr).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    decode(&bytes)
}

fn decode(bytes: &[u8]) -> Answered {
    let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Answered { status: 0, head: String::new(), body: Vec::new(), is_whole: false };
    };
    let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
    let status = head[9..12].parse().unwrap();
    let mut rest = &bytes[at + 4..];
    if let Some(length) = head.split("content-length: ").nth(1) {
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        return Answered { status, head, is_whole: rest.len() == length, body: rest.to_vec() };
    }
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 || rest.len() < end + 4 + size {
            return Answered { status, head, body, is_whole: size == 0 };
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    Answered { status, head, body, is_whole: false }
}

pub(super) async fn at_rest(mock: &MockHandle) -> InvoiceSnapshot {
    for _ in 0..2000 {
        let now = mock.invoice();
        if now.in_flight == 0 {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("still generating");
}

/// A POST with these headers, as lines without their ends.
pub(super) async fn post(mock: &MockHandle, path: &str, headers: &[&str], body: &Value, script: &str) -> Answered {
    let body = body.to_string();
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\nx-mock-script: {script}\r\n");
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n");
    }
    send(mock, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await
}

/// The events of a stream, parsed; what is not JSON is left out.
pub(super) fn parsed(answer: &Answered) -> Vec<Value> {
    answer.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect()
}

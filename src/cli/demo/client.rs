//! A plain HTTP client, as any program of a user would be.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// An answer that is still arriving.
pub struct Arriving {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    connection: JoinHandle<()>,
}

/// An answer that arrived.
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Reply {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// One place in the JSON body, e.g. `/error/code`, as text.
    pub fn field(&self, place: &str) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        match body.pointer(place) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

impl Arriving {
    /// Waits for the next piece of the body.
    pub async fn piece(&mut self) -> Option<Bytes> {
        loop {
            match self.body.frame().await?.ok()?.into_data() {
                Ok(data) if !data.is_empty() => return Some(data),
                _ => {}
            }
        }
    }

    /// Reads the rest.
    pub async fn rest(mut self) -> Reply {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend_from_slice(&piece);
        }
        self.connection.abort();
        let body = String::from_utf8_lossy(&body).into_owned();
        Reply { status: self.status, headers: self.headers, body }
    }

    /// Closes the connection in mid-answer.
    pub async fn hang_up(self) {
        self.connection.abort();
        // The socket is closed when the task is gone.
        let _ = self.connection.await;
    }
}

/// Sends a chat completion over a connection of its own.
pub async fn open(gateway: SocketAddr, key: &str, chat: &Value) -> anyhow::Result<Arriving> {
    let socket = TcpStream::connect(gateway).await.context("the gateway does not take connections")?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(async move {
        // What goes wrong here shows in the answer.
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri("/openai/v1/chat/completions")
        .header("host", gateway.to_string())
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(chat.to_string())))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Arriving { status: head.status.as_u16(), headers: head.headers, body, connection })
}

/// Sends a chat completion and waits for the whole answer.
pub async fn ask(gateway: SocketAddr, key: &str, chat: &Value) -> anyhow::Result<Reply> {
    Ok(open(gateway, key, chat).await?.rest().await)
}

/// A chat completion. `script` tells the mock how to answer.
pub fn chat(script: &str, max_tokens: Option<u64>, stream: bool) -> Value {
    let mut body = json!({
        "model": super::world::MODEL,
        "messages": [{ "role": "user", "content": format!("Tell me a story. [[mock {script}]]") }],
    });
    if let Some(max_tokens) = max_tokens {
        body["max_tokens"] = json!(max_tokens);
    }
    if stream {
        body["stream"] = json!(true);
    }
    body
}

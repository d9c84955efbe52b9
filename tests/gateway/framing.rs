//! C 29: streams in forms that OpenAI does not send but the standard allows, from a provider made for it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// Answers every request with this stream, in pieces of `piece` bytes, and closes.
async fn provider(stream: &'static str, piece: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, stream, piece));
        }
    });
    addr
}

async fn answer(mut socket: TcpStream, stream: &str, piece: usize) {
    let mut request = vec![0; 65_536];
    let mut read = 0;
    // The gateway's body ends with the object that it renders.
    while read == 0 || request[read - 1] != b'}' {
        match socket.read(&mut request[read..]).await {
            Ok(count) if count > 0 => read += count,
            _ => return,
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let _ = socket.write_all(head.as_bytes()).await;
    for piece in stream.as_bytes().chunks(piece) {
        let _ = socket.write_all(piece).await;
        let _ = socket.flush().await;
        tokio::task::yield_now().await;
    }
}

/// One JSON object over several `data` lines, and an event without the blank line that should end it.
const ODD: &str = concat!(
    ": keep-alive\n\n",
    "data: {\"id\":\"1\",\"model\":\"gpt-4o\",\n",
    "data: \"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two\"}}]}\n\n",
    "data: {\"id\":\"1\",\"model\":\"gpt-4o\",\n",
    "data:  \"choices\":[],\n",
    "data:  \"usage\":{\"prompt_tokens\":19,\"completion_tokens\":3,\"total_tokens\":22}}\n\n",
    "data: [DONE]"
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c29_multi_line_data_and_a_missing_last_blank_line_are_read_and_passed_on() {
    for piece in [1, 7, 4096] {
        let world = World::new().upstream(provider(ODD, piece).await).start().await;
        let key = world.key(&["--daily", "1"]);
        let body = serde_json::json!({
            "model": "gpt-4o", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50,
            "messages": [{"role": "user", "content": "x"}],
        });
        let answer = world.chat(&key, &body).await.expect(200);
        assert_eq!(answer.text(), ODD, "pieces of {piece}");
        world.settled().await;
        // 19 × 2,500 + 3 × 10,000 nano-dollars.
        assert_eq!(world.books(&key).await.spent, 77_500, "pieces of {piece}");
        assert_eq!(world.books(&key).await.held, 0);
    }
}

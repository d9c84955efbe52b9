//! The vocabulary of these tests.

pub mod builder;
pub mod chaos;
pub mod http;
pub mod json;
pub mod process;
pub mod secrets;
pub mod six;
pub mod world;

pub use builder::Builder;
pub use http::{Answer, Conn, Live, Request};
pub use json::{ask, ask_model, embed, streamed};
pub use world::{Books, Engine, Key, World};

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

/// How long anything may take before it counts as hanging.
pub const HANG: Duration = Duration::from_secs(90);

/// Waits for the future, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG, future).await {
        Ok(value) => value,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !check().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends all requests at once, each over a connection that is open before the first one is sent.
pub async fn at_once(requests: Vec<(SocketAddr, Request)>) -> Vec<Answer> {
    let mut conns = Vec::with_capacity(requests.len());
    for (addr, request) in requests {
        conns.push((Conn::open(addr).await, request));
    }
    let start = Arc::new(Barrier::new(conns.len()));
    let mut tasks = Vec::with_capacity(conns.len());
    for (mut conn, request) in conns {
        let start = start.clone();
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            conn.call(&request).await
        }));
    }
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.expect("a call"));
    }
    answers
}

/// A number from the environment.
pub fn env_number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => default,
    }
}

/// Waits until a minute of the clock has at least twenty seconds left, for tests that read a minute's books after a call.
pub async fn early_in_the_minute() {
    let second =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |at| at.as_secs() % 60);
    while second() >= 40 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

//! A hundred thousand calls of every kind: at rest, what was charged is the invoice, to the nano-dollar.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::*;

const DEFAULT_CALLS: usize = 100_000;
const WORKERS: usize = 48;
const KINDS: usize = 20;

/// The call number `at`, and the statuses that it may have.
fn call(at: usize, key: &Key, poor: &Key) -> (Request, &'static [u16]) {
    let vary = at / KINDS % 50;
    let tokens = |extra: &str| format!("tokens={};{extra}", 1 + vary);
    let chat = |body: Value| Request::chat(&body).bearer(&key.secret);
    let embeddings = |input: Value| {
        let body = json!({ "model": "text-embedding-3-small", "input": input, "dimensions": 8 });
        Request::post("/openai/v1/embeddings", body.to_string()).bearer(&key.secret)
    };
    match at % KINDS {
        0..=5 => (chat(ask(&tokens(""))), &[200]),
        6 => (chat(with(ask(&tokens("")), json!({ "n": 1 + vary % 4, "max_tokens": 60 }))), &[200]),
        7 => (chat(ask_model("gpt-5-nano", &tokens("reasoning=20;cached=9"))), &[200]),
        8 => (chat(ask_model("gpt-6-luna", &tokens("cached=3;cache_write=5"))), &[200]),
        9 => (chat(streamed(&tokens("chunk=7"))), &[200]),
        10 => (chat(streamed(&tokens("chunk=10;burst=3;crlf=1"))), &[200]),
        11 => {
            (chat(with(streamed(&tokens("chunk=20")), json!({ "stream_options": { "include_usage": true } }))), &[200])
        }
        12 => {
            (chat(with(ask_model("gpt-5.4-mini", &tokens("reasoning=11;chunk=20")), json!({ "stream": true }))), &[200])
        }
        13 => (embeddings(json!(format!("text number {vary}"))), &[200]),
        14 => (embeddings(json!([[1, 2, 3, vary], [4, 5]])), &[200]),
        15 => (chat(ask("status=429")), &[429]),
        16 => (chat(with(ask(&tokens("")), json!({ "temperature": 3.5 }))), &[400]),
        17 => (Request::get("/openai/v1/models").bearer(&key.secret), &[200]),
        // Refused before the provider sees it, each in its own way.
        18 => match vary % 4 {
            0 => (Request::chat(&ask(&tokens(""))).bearer("lp-0000000000000000000000000000000000000000000"), &[401]),
            1 => (chat(ask_model("gpt-9", "tokens=1")), &[422]),
            2 => (chat(with(ask("tokens=1"), json!({ "unheard": 1 }))), &[400]),
            _ => (chat(ask("tokens=1")).header("x-loopers-session-id", "not ok"), &[400]),
        },
        // A key whose little money is clamped to, and runs out.
        _ => (Request::chat(&ask_model("gpt-4o", &tokens(""))).bearer(&poor.secret), &[200, 402]),
    }
}

async fn worker(addrs: Vec<SocketAddr>, next: Arc<AtomicUsize>, calls: usize, key: Key, poor: Key) {
    let mut conn: Option<(usize, Conn)> = None;
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= calls {
            return;
        }
        let gateway = at / 1000 % addrs.len();
        let mut open = match conn.take() {
            Some((to, open)) if to == gateway && open.is_open() => open,
            _ => Conn::open(addrs[gateway]).await,
        };
        let (request, statuses) = call(at, &key, &poor);
        let answer = open.call(&request).await;
        assert!(statuses.contains(&answer.status), "call {at}: {} {}", answer.status, answer.text());
        assert!(answer.complete, "call {at}: broken off");
        conn = Some((gateway, open));
    }
}

async fn mixed(engine: Engine, gateways: usize, calls: usize) {
    // Thousands of these calls have no valid key.
    let world =
        World::new().engine(engine).gateways(gateways).limit("auth_failures_per_minute", 1_000_000).start().await;
    let key = world.key(&["--daily", "500", "--monthly", "900"]);
    let poor = world.key(&["--daily", "0.05"]);
    let addrs: Vec<SocketAddr> = world.gateways.iter().map(|gateway| gateway.addr).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(worker(addrs.clone(), next.clone(), calls, key.clone(), poor.clone())))
        .collect();
    for worker in workers {
        worker.await.expect("all calls went as they should");
    }
    world.settled().await;
    let invoice = world.invoice().await;
    println!(
        "{calls} calls over {engine:?} in {:.1?}: {invoice:?}, charged {}",
        started.elapsed(),
        world.charged().await
    );
    world.assert_books_exact().await;
    assert!(world.books(&poor).await.spent > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b41_a_hundred_thousand_mixed_calls_at_rest() {
    mixed(Engine::Redis, 2, env_number("MIXED_CALLS", DEFAULT_CALLS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b41_mixed_calls_at_rest_on_a_file() {
    mixed(Engine::File, 1, env_number("MIXED_CALLS", DEFAULT_CALLS) / 10).await;
}

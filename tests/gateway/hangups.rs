//! C 28 and 34: clients that leave, at every stage and in every manner.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::json::with;
use crate::support::*;

#[derive(Clone, Copy, Debug)]
enum Stage {
    BeforeHeaders,
    FirstEvent,
    MidEvent,
    LastEvent,
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Fin,
    Rst,
    HalfClose,
}

const STAGES: [Stage; 4] = [Stage::BeforeHeaders, Stage::FirstEvent, Stage::MidEvent, Stage::LastEvent];
const MANNERS: [Manner; 3] = [Manner::Fin, Manner::Rst, Manner::HalfClose];

/// Sends the call, leaves, and returns when the client is gone. A half-closed client stays and hears what comes.
async fn leave(world: &World, key: &Key, body: &serde_json::Value, stage: Stage, manner: Manner) {
    let request = Request::chat(body).bearer(&key.secret);
    let mut conn = Conn::open(world.gateway()).await;
    if let Stage::BeforeHeaders = stage {
        conn.write(&request.bytes()).await.expect("sent");
        until("the provider works on it", async || world.invoice().await.calls > 0).await;
        match manner {
            Manner::Fin => drop(conn),
            Manner::Rst => conn.reset(),
            Manner::HalfClose => {
                conn.half_close().await;
                conn.rest().await;
            }
        }
        return;
    }
    let mut live = conn.stream(&request).await;
    assert_eq!(live.head.status, 200);
    match stage {
        Stage::FirstEvent => live.skip(1).await,
        Stage::MidEvent => live.skip(4).await,
        Stage::LastEvent | Stage::BeforeHeaders => {
            while let Some(event) = live.next().await {
                if event.contains("\"finish_reason\":\"") {
                    break;
                }
            }
        }
    }
    match manner {
        Manner::Fin => live.hang_up(),
        Manner::Rst => live.reset(),
        Manner::HalfClose => {
            live.conn.half_close().await;
            live.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_drain_reads_to_the_usage_and_charges_exactly_that() {
    let world = World::new().provider("on_disconnect", "drain").start().await;
    for stage in STAGES {
        for manner in MANNERS {
            for stream in [true, false] {
                if !stream && !matches!(stage, Stage::BeforeHeaders) {
                    continue;
                }
                world.reset_mock().await;
                world.forget_keys();
                let key = world.key(&["--daily", "1"]);
                let script = "tokens=60;rate=150;split=50;delay_headers_ms=150;leave=stop";
                leave(&world, &key, &with(ask(script), json!({ "stream": stream })), stage, manner).await;
                world.settled().await;
                let invoice = world.invoice().await;
                assert_eq!(
                    invoice.aborted, 0,
                    "{stage:?} {manner:?}, stream {stream}: the answer was not read to its end"
                );
                world.assert_books_exact().await;
                assert_eq!(invoice.posts, 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_cancel_drops_the_provider_and_gives_the_rest_back() {
    let world = World::new().provider("on_disconnect", "cancel").start().await;
    for stage in [Stage::BeforeHeaders, Stage::FirstEvent, Stage::MidEvent] {
        for manner in MANNERS {
            world.reset_mock().await;
            world.forget_keys();
            let key = world.key(&["--daily", "1"]);
            // A minute of generation that nobody waits for: $0.0018.
            let script = "tokens=3000;rate=50;split=50;delay_headers_ms=150;leave=stop";
            let body = with(streamed(script), json!({ "max_tokens": 3000 }));
            let started = Instant::now();
            leave(&world, &key, &body, stage, manner).await;
            world.assert_books_sound().await;
            let (invoice, books) = (world.invoice().await, world.books(&key).await);
            let what = format!("{stage:?} {manner:?}: {books:?} {invoice:?}");
            assert_eq!(invoice.aborted, 1, "the provider was dropped: {what}");
            assert!(started.elapsed() < Duration::from_secs(20), "noticed late: {what}");
            assert!(books.spent < 1_000_000, "most of the hold is free again: {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_cancel_of_an_answer_that_is_not_streamed() {
    let world = World::new().provider("on_disconnect", "cancel").start().await;
    let key = world.key(&["--daily", "1"]);
    let body = with(ask("tokens=500;rate=100;leave=stop"), json!({ "max_tokens": 500 }));
    leave(&world, &key, &body, Stage::BeforeHeaders, Manner::Rst).await;
    // Nothing of the output is seen, so nobody can know: never less than the invoice.
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_client_that_stops_reading_and_leaves() {
    for mode in ["drain", "cancel"] {
        let world = World::new().provider("on_disconnect", mode).start().await;
        let key = world.key(&["--daily", "1"]);
        let body = with(streamed("tokens=16000;leave=stop"), json!({ "max_tokens": 16_000 }));
        let mut live = world.live(&key, &body).await;
        live.skip(3).await;
        // 4 MB of events pile up in the sockets; the provider is held back, and the gateway keeps no more than its share.
        world.stands_still().await;
        live.reset();
        world.assert_books_sound().await;
        if mode == "drain" {
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_client_that_leaves_in_mid_upload_is_charged_nothing() {
    let world = World::plain().await;
    let key = world.rich();
    for reset in [false, true] {
        let mut request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
        request = request.header("content-length", "100000");
        let mut conn = Conn::open(world.gateway()).await;
        conn.write(&request.bytes()).await.expect("sent");
        if reset { conn.reset() } else { drop(conn) }
    }
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    assert_eq!(world.invoice().await.posts, 1);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c34_the_last_event_is_not_free() {
    for mode in ["drain", "cancel"] {
        let world = World::new().provider("on_disconnect", mode).start().await;
        let key = world.rich();
        for round in 0..20 {
            let mut live = world.live(&key, &streamed("tokens=20;chunk=5;leave=stop")).await;
            while let Some(event) = live.next().await {
                if event == "[DONE]" || (round % 2 == 0 && event.contains("\"finish_reason\":\"stop\"")) {
                    break;
                }
            }
            if round % 3 == 0 { live.hang_up() } else { live.reset() }
        }
        world.assert_books_sound().await;
        assert_eq!(world.invoice().await.calls, 20);
        if mode == "drain" {
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_many_leave_at_once_and_no_hold_leaks() {
    let world = World::new().redis().gateways(2).start().await;
    let key = world.key(&["--daily", "5"]);
    let body = with(streamed("tokens=40;rate=100;leave=stop"), json!({ "max_tokens": 50 }));
    let request = Request::chat(&body).bearer(&key.secret);
    let mut tasks = Vec::new();
    for at in 0..120 {
        let (addr, request) = (world.gateways[at % 2].addr, request.clone());
        tasks.push(tokio::spawn(async move {
            let mut live = Conn::open(addr).await.stream(&request).await;
            live.skip(at % 9).await;
            if at % 2 == 0 { live.hang_up() } else { live.reset() }
        }));
    }
    for task in tasks {
        task.await.expect("a client");
    }
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.calls, 120);
}

//! SIGTERM: what runs may end, what does not is cut and settled, and the process leaves nothing behind.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::json::{assert_finished, with};
use crate::support::{Conn, Engine, HANG, Key, Live, Request, World, ask, env_number, streamed, until, within};

/// Longer than any grace in these tests.
const END: Duration = Duration::from_secs(60);

/// A stream that takes longer than any test.
fn endless() -> serde_json::Value {
    with(streamed("tokens=4000;rate=4;chunk=1;leave=stop"), json!({ "max_tokens": 4000 }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_calls_end_and_new_ones_are_refused() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world = World::new().engine(engine).limit("drain_seconds", 60).start().await;
        let key = world.key(&["--daily", "1"]);
        let mut idle = Conn::open(world.gateway()).await;
        let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
        idle.call(&request).await.expect(200);
        let mut live = world.live(&key, &streamed("tokens=150;rate=100")).await;
        live.skip(3).await;
        world.gateways[0].process.signal("TERM");
        until("it is not ready any more", async || match Conn::try_open(world.gateways[0].addr).await {
            Err(_) => true,
            Ok(mut conn) => {
                within("/readyz", conn.try_call(&Request::get("/readyz"))).await.is_none_or(|a| a.status == 503)
            }
        })
        .await;
        // A connection from before is either closed or told.
        if let Some(answer) = within("a call while draining", idle.try_call(&request)).await {
            answer.refused(503, "draining");
        }
        assert_finished(&live.finish().await);
        let status = world.gateways[0].process.wait(END).await;
        assert!(status.success(), "{status}");
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_still_runs_at_the_end_of_the_drain_is_cut_with_an_error() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world = World::new().engine(engine).limit("drain_seconds", 1).start().await;
        let key = world.key(&["--daily", "1"]);
        let mut live = world.live(&key, &endless()).await;
        live.skip(3).await;
        // This one has no head yet, so that it can still get a status.
        let (addr, secret) = (world.gateway(), key.secret.clone());
        let silent = tokio::spawn(async move {
            let body = ask("tokens=5;delay_headers_ms=15000;leave=stop");
            Conn::open(addr).await.call(&Request::chat(&body).bearer(&secret)).await
        });
        until("both run", async || world.invoice().await.posts == 2).await;
        world.gateways[0].process.signal("TERM");
        let answer = live.finish().await;
        assert!(answer.complete, "a well-formed end: {}", answer.text());
        let last = answer.events().pop().unwrap_or_default();
        assert!(last.contains("\"error\"") && last.contains("draining"), "{last}");
        silent.await.expect("an answer").refused(503, "draining");
        world.gateways[0].process.wait(END).await;
        world.assert_books_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_now() {
    for first_and_second in [["TERM", "TERM"], ["TERM", "INT"]] {
        let mut world = World::new().limit("drain_seconds", 3000).start().await;
        let key = world.key(&["--daily", "1"]);
        let mut live = world.live(&key, &endless()).await;
        live.skip(3).await;
        world.gateways[0].process.signal(first_and_second[0]);
        until("it drains", async || world.gateways[0].process.output().contains("draining")).await;
        world.gateways[0].process.signal(first_and_second[1]);
        let answer = live.finish().await;
        assert!(answer.complete && answer.text().contains("draining"), "{}", answer.text());
        world.gateways[0].process.wait(END).await;
        world.assert_books_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_cuts_what_runs_at_once_and_settles_it() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world = World::new().engine(engine).limit("drain_seconds", 3000).start().await;
        let key = world.key(&["--daily", "1"]);
        let streams = open_streams(&world, &key, 20, &endless()).await;
        world.gateways[0].process.signal("INT");
        for live in streams {
            let answer = live.finish().await;
            assert!(answer.complete && answer.text().contains("draining"), "{}", answer.text());
        }
        let status = world.gateways[0].process.wait(END).await;
        assert!(status.success(), "{status}");
        // Nothing waits for holds to expire.
        assert_eq!(world.cli_json(&["holds", "list"]).as_array().map(Vec::len), Some(0));
        world.assert_books_sound().await;
    }
}

async fn open_streams(world: &World, key: &Key, count: usize, body: &serde_json::Value) -> Vec<Live> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let batch: Vec<_> = (streams.len()..count.min(streams.len() + 50))
            .map(|at| {
                let addr = world.gateways[at % world.gateways.len()].addr;
                let request = Request::chat(body).bearer(&key.secret);
                tokio::spawn(async move { Conn::open(addr).await.stream(&request).await })
            })
            .collect();
        for stream in batch {
            let mut live = stream.await.expect("a stream");
            live.skip(1).await;
            streams.push(live);
        }
    }
    streams
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// `OPEN_STREAMS` sets how many; 2,000 unless it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_are_settled_and_their_memory_comes_back() {
    let count = env_number("OPEN_STREAMS", 2000);
    let mut world = World::new().limit("drain_seconds", 2).provider("on_disconnect", "cancel").start().await;
    let key = world.rich();
    // With everything loaded that is loaded once: the tokenizer, by a client who leaves in mid-stream.
    let mut live = world.live(&key, &streamed("tokens=400;rate=200;chunk=1;leave=stop")).await;
    live.skip(40).await;
    live.hang_up();
    world.settled().await;
    let pid = world.gateways[0].process.id();
    let idle = resident(pid);
    let streams = open_streams(&world, &key, count, &endless()).await;
    let busy = resident(pid);
    drop(streams);
    world.settled().await;
    let start = Instant::now();
    while resident(pid) > 2 * idle && start.elapsed() < HANG {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (after, waited) = (resident(pid), start.elapsed());
    println!("RSS KiB: idle {idle}, {count} streams {busy}, {:.1} s after their end {after}", waited.as_secs_f64());
    assert!(after <= 2 * idle, "idle {idle} KiB, with {count} streams {busy} KiB, afterwards {after} KiB");

    let streams = open_streams(&world, &key, count, &endless()).await;
    let readers: Vec<_> = streams.into_iter().map(|live| tokio::spawn(live.finish())).collect();
    world.gateways[0].process.signal("TERM");
    for reader in readers {
        let answer = reader.await.expect("an end");
        assert!(answer.complete && answer.text().contains("draining"), "cut without an error: {}", answer.text());
    }
    world.gateways[0].process.wait(END).await;
    assert!(!world.gateways[0].process.output().contains("could not be written"), "all settled");
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_under_load_loses_no_call_and_charges_none_twice() {
    let mut world = World::new().redis().gateways(3).limit("drain_seconds", 30).start().await;
    let key = world.rich();
    let addrs: Vec<_> = world.gateways.iter().map(|gateway| gateway.addr).collect();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..12)
        .map(|caller| {
            let (addrs, stop, secret) = (addrs.clone(), stop.clone(), key.secret.clone());
            tokio::spawn(async move {
                let (mut done, mut at) = (0_u64, caller);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let body = if at % 2 == 0 { ask("tokens=10") } else { streamed("tokens=30;rate=300") };
                    at += 1;
                    // What a load balancer does: a gateway that cannot be reached, or says that it drains, is not asked.
                    let Ok(mut conn) = Conn::try_open(addrs[at % 3]).await else { continue };
                    let Some(answer) = within("a call", conn.try_call(&Request::chat(&body).bearer(&secret))).await
                    else {
                        // The connection waited to be accepted when its gateway stopped listening. Was it a call? The books say.
                        continue;
                    };
                    if answer.status == 503 {
                        answer.refused(503, "draining");
                        continue;
                    }
                    let answer = answer.expect(200);
                    assert!(answer.complete, "a call was lost in the middle: {}", answer.text());
                    assert!(!answer.text().contains("\"error\""), "{}", answer.text());
                    done += 1;
                }
                done
            })
        })
        .collect();
    for at in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.gateways[at].process.signal("TERM");
        world.gateways[at].process.wait(END).await;
        world.restart_gateway(at).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut done = 0;
    for caller in callers {
        done += caller.await.expect("no call is lost");
    }
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.calls, done, "each call that the provider served was answered, and no other");
}

/// What is still uploaded when the drain begins is a new call: it is refused, whenever its body ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_body_ends_in_the_drain_is_refused() {
    let mut world = World::new().limit("drain_seconds", 60).start().await;
    let key = world.key(&["--daily", "1"]);
    let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
    let bytes = request.bytes();
    let (most, rest) = bytes.split_at(bytes.len() - 10);
    let mut slow = Conn::open(world.gateway()).await;
    slow.write(most).await.expect("sent");
    // The gateway has its head by the time at which it answers a later one.
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.gateways[0].process.signal("TERM");
    until("it drains", async || world.gateways[0].process.output().contains("draining")).await;
    slow.write(rest).await.expect("sent");
    within("an answer", slow.try_answer("POST")).await.expect("an answer").refused(503, "draining");
    assert!(world.gateways[0].process.wait(END).await.success());
    assert_eq!(world.invoice().await.posts, 1);
    world.assert_books_exact().await;
}

/// A second signal means now: also for who is still uploading, and might go on for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_does_not_wait_for_uploads() {
    let mut world = World::new().limit("drain_seconds", 3600).limit("body_seconds", 3600).start().await;
    let key = world.key(&["--daily", "1"]);
    let bytes = Request::chat(&ask("tokens=5")).bearer(&key.secret).bytes();
    let mut slow = Conn::open(world.gateway()).await;
    slow.write(&bytes[..bytes.len() - 10]).await.expect("sent");
    // The gateway has its head by the time at which it answers a later one.
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.gateways[0].process.signal("TERM");
    until("it drains", async || world.gateways[0].process.output().contains("draining: 1 requests")).await;
    world.gateways[0].process.signal("TERM");
    if let Some(answer) = within("an answer or a close", slow.try_answer("POST")).await {
        answer.refused(503, "draining");
    }
    assert!(world.gateways[0].process.wait(END).await.success());
    assert_eq!(world.invoice().await.posts, 1);
    world.assert_books_exact().await;
}

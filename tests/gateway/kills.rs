//! The kill switch, on every gateway at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json as object};

use crate::support::json::{self, with};
use crate::support::{Conn, Request, World, ask, env_number, streamed, until};

fn long() -> Value {
    with(streamed("tokens=4000;rate=4;chunk=1;leave=stop"), object!({ "max_tokens": 4000 }))
}

/// `KILL_STREAMS` sets how many; 1,000 unless it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_ends_a_thousand_streams_on_three_gateways() {
    let count = env_number("KILL_STREAMS", 1000);
    let world = World::new().redis().gateways(3).start().await;
    let key = world.rich();
    let other = world.rich();
    let mut readers = Vec::with_capacity(count);
    for at in 0..count {
        let mut live =
            Conn::open(world.gateways[at % 3].addr).await.stream(&Request::chat(&long()).bearer(&key.secret)).await;
        readers.push(tokio::spawn(async move {
            let mut last = Instant::now();
            let mut text = String::new();
            while let Some(event) = live.next().await {
                last = Instant::now();
                text = event;
            }
            (last, text, live.finish().await.complete)
        }));
    }
    until("all run", async || world.invoice().await.in_flight == count as u64).await;
    let start = Instant::now();
    let killed = world.cli_json(&["kill", &key.id]);
    let told = start.elapsed();
    let mut latest = Duration::ZERO;
    for reader in readers {
        let (last, text, complete) = reader.await.expect("an end");
        assert!(complete && text.contains("\"error\"") && text.contains("key_paused"), "cut without an error: {text}");
        latest = latest.max(last.saturating_duration_since(start));
    }
    until("the provider stops", async || world.invoice().await.in_flight == 0).await;
    let (stopped, billed) = (start.elapsed(), world.invoice().await.nano);
    world.settled().await;
    assert_eq!(world.invoice().await.nano, billed, "the invoice grows no more");
    println!(
        "{count} streams: last byte {:.2} s after the kill began, provider quiet after {:.2} s, command done after {:.2} s: {killed}",
        latest.as_secs_f64(),
        stopped.as_secs_f64(),
        told.as_secs_f64()
    );
    // A gateway may be quicker than the command, which then counts fewer.
    let cut = killed["cut"].as_u64().unwrap_or(0) as usize;
    assert!(0 < cut && cut <= count, "{killed}");
    // This provider does not say that a drop ends the bill: nothing but the running on was saved, and the hold is charged.
    let hold = world.books(&key).await.spent / count as u64;
    let (held, charged) = (json::nano(&killed["held_usd"]), json::nano(&killed["charged_usd"]));
    assert_eq!(held, cut as u64 * hold, "{killed}");
    assert!((held..=count as u64 * hold).contains(&charged), "{killed}");
    assert_eq!(json::nano(&killed["saved_usd"]), 0, "{killed}");
    // Nothing new, on no gateway, until it is lifted; other keys are not concerned.
    for gateway in 0..3 {
        let call = |secret: &str| Request::chat(&ask("tokens=5")).bearer(secret);
        world.send_to(gateway, &call(&key.secret)).await.refused(403, "key_paused");
        world.send_to(gateway, &call(&other.secret)).await.expect(200);
    }
    world.cli_ok(&["resume", &key.id]);
    for gateway in 0..3 {
        world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
    }
    world.assert_books_sound().await;
}

/// A call whose answer waits for its client's socket is reached as well: long before a client that reads nothing counts as gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_reaches_a_stream_whose_client_has_stopped_reading() {
    let world = World::new().start().await;
    let key = world.key(&["--daily", "1"]);
    let body = with(streamed("tokens=16000;leave=stop"), object!({ "max_tokens": 16_000 }));
    let mut live = world.live(&key, &body).await;
    live.skip(3).await;
    world.stands_still().await;
    assert!(world.books(&key).await.held > 0, "the gateway still has bytes for its client");
    let start = Instant::now();
    world.cli_ok(&["kill", &key.id]);
    until("its hold is settled", async || world.books(&key).await.held == 0).await;
    let took = start.elapsed();
    // Without the kill it takes 30 seconds.
    assert!(took < Duration::from_secs(15), "{took:?}");
    println!("a stream whose client does not read: settled {:.2} s after the kill began", took.as_secs_f64());
    world.assert_books_sound().await;
    drop(live);
}

/// Every way in which an operator can stop running calls, and what their clients are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stop_reaches_the_streams_of_every_gateway() {
    let world = World::new().redis().gateways(2).start().await;
    world.cli_ok(&["teams", "create", "--name", "crew", "--daily", "5"]);
    let stops: [(&str, &[&str]); 6] = [
        ("key_paused", &["kill", "KEY"]),
        ("key_paused", &["kill", "crew"]),
        ("key_paused", &["kill", "--all"]),
        ("key_revoked", &["keys", "revoke", "KEY"]),
        ("key_paused", &["keys", "pause", "KEY"]),
        // From here on this key has spent more than its limit: that is what the operator asked for.
        ("budget_exceeded", &["budget", "set", "KEY", "--daily", "0"]),
    ];
    for (code, stop) in stops {
        let key = world.key(&["--daily", "1", "--team", "crew"]);
        // Something is spent, or a limit of nothing would not be below it.
        world.chat(&key, &ask("tokens=5")).await.expect(200);
        let mut streams = Vec::new();
        for gateway in &world.gateways {
            let mut live = Conn::open(gateway.addr).await.stream(&Request::chat(&long()).bearer(&key.secret)).await;
            live.skip(2).await;
            streams.push(live);
        }
        let args: Vec<&str> = stop.iter().map(|word| if *word == "KEY" { key.id.as_str() } else { word }).collect();
        world.cli_ok(&args);
        for live in streams {
            let answer = live.finish().await;
            let last = answer.events().pop().unwrap_or_default();
            assert!(answer.complete && last.contains("\"error\"") && last.contains(code), "{stop:?}: {last}");
        }
        match stop {
            ["kill", "crew"] => drop(world.cli_ok(&["resume", "crew"])),
            ["kill", "--all"] => drop(world.cli_ok(&["resume", "--all"])),
            _ => {}
        }
    }
    world.settled().await;
    let (charged, invoice) = (world.charged().await, world.invoice().await);
    assert!(invoice.nano <= charged, "invoice {} > charged {charged}", invoice.nano);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_stopped_while_it_connects_is_not_sent() {
    let world = World::new().failpoints().start().await;
    let key = world.rich();
    world.arm(0, "connecting=sleep:2500");
    let (addr, request) = (world.gateway(), Request::chat(&ask("tokens=5")).bearer(&key.secret));
    let call = tokio::spawn(async move { Conn::open(addr).await.call(&request).await });
    until("it connects", async || world.gateways[0].process.output().contains("failpoint connecting")).await;
    world.cli_ok(&["kill", &key.id]);
    call.await.expect("the call").refused(403, "key_paused");
    world.settled().await;
    assert_eq!((world.invoice().await.posts, world.charged().await), (0, 0));
}

//! C 27, 29, 32, 35, 36: streams are metered as they run, in any framing, and cut when they must be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::json::{assert_cut, assert_finished, content, nano, with, words};
use crate::support::*;

fn held(live: &Live) -> u64 {
    nano(&json!(live.head.header("x-loopers-held-usd").expect("the hold")))
}

/// Asserts that a cut call is charged its whole hold: OpenAI does not document that dropping it stops the bill.
async fn assert_charged_in_full(world: &World, key: &Key, held: u64) {
    world.assert_books_sound().await;
    assert_eq!(world.books(key).await.spent, held, "the hold is charged in full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c27_a_provider_that_ignores_its_limit_is_cut_without_usage() {
    let world = World::plain().await;
    for script in
        ["usage=none", "usage=after_done", "usage=zero", "unicode=1", "crlf=1;comment=1", "burst=40", "split=11"]
    {
        world.reset_mock().await;
        world.forget_keys();
        let key = world.key(&["--daily", "1"]);
        let script = format!("tokens=30000;obey=0;rate=400;leave=stop;{script}");
        let live = world.live(&key, &with(streamed(&script), json!({ "max_tokens": 50 }))).await;
        let held = held(&live);
        let answer = live.finish().await;
        assert_cut(&answer);
        assert!(words(&content(&answer)) <= 50, "{script}: more than was paid for: {}", words(&content(&answer)));
        assert!(words(&content(&answer)) > 0, "{script}: nothing came through");
        assert_charged_in_full(&world, &key, held).await;
        assert_eq!(world.invoice().await.aborted, 1, "{script}: the provider was dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c27_several_choices_share_one_ceiling() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    let body = with(streamed("tokens=30000;obey=0;rate=300;leave=stop"), json!({ "max_tokens": 30, "n": 3 }));
    let live = world.live(&key, &body).await;
    let held = held(&live);
    let answer = live.finish().await;
    assert_cut(&answer);
    assert!(words(&content(&answer)) <= 90);
    assert_charged_in_full(&world, &key, held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c27_cut_mode_runs_until_the_money_is_used_up() {
    let world = World::plain().await;
    for amount in ["0.001", "0.0005"] {
        world.reset_mock().await;
        world.forget_keys();
        let key = world.key(&["--daily", amount, "--overflow", "cut"]);
        // So slow that a busy machine does not make the provider stop later than the allowance for tokens in flight covers.
        let mut live = world.live(&key, &streamed("tokens=100000;rate=200;leave=stop")).await;
        let sent = world.last_body().await;
        assert!(sent.get("max_tokens").is_none() && sent.get("max_completion_tokens").is_none(), "untouched: {sent}");
        live.skip(5).await;
        let answer = live.finish().await;
        assert_cut(&answer);
        assert!(words(&content(&answer)) > 20, "{}", words(&content(&answer)));
        world.assert_books_sound().await;
        let books = world.books(&key).await;
        assert!(books.spent <= nano(&json!(amount)), "{books:?}");
    }
    // What cannot be cut is clamped or refused: no stream, or output that is not seen.
    let key = world.key(&["--daily", "0.001", "--overflow", "cut"]);
    for body in [
        ask("tokens=100000"),
        with(ask_model("gpt-5-nano", "tokens=100000;reasoning=50000"), json!({ "stream": true })),
    ] {
        let posts = world.invoice().await.posts;
        let answer = world.chat(&key, &body).await;
        if answer.status == 200 {
            assert!(answer.header("x-loopers-max-tokens").is_some(), "{}", answer.text());
        } else {
            assert_eq!((answer.status, world.invoice().await.posts), (402, posts), "{}", answer.text());
        }
    }
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c29_every_framing_is_read_and_passed_on() {
    let world = World::plain().await;
    let key = world.rich();
    for script in [
        "crlf=1",
        "comment=1",
        "nospace=1",
        "crlf=1;comment=1;nospace=1",
        "split=1",
        "split=2;crlf=1",
        "split=3",
        "split=1000",
        "burst=4",
        "burst=100",
        "burst=10;split=5",
        "chunk=40",
        "unicode=1",
        "unicode=1;split=1",
        "no_done=1",
        "usage=after_done",
        "empty_choices=1",
        "tool_call=1",
        "reasoning=15",
        "rate=200",
    ] {
        let answer =
            world.chat(&key, &with(streamed(&format!("tokens=40;{script}")), json!({ "max_tokens": 100 }))).await;
        assert_eq!(answer.status, 200, "{script}: {}", answer.text());
        assert!(answer.complete, "{script}");
        let silent = if script.starts_with("reasoning") { 15 } else { 0 };
        assert_eq!(words(&content(&answer)), 40 - silent, "{script}: {}", answer.text());
        if script != "no_done=1" {
            assert_finished(&answer);
        }
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c29_an_event_of_ten_megabytes() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "100", "--monthly", "900"]);
    for fields in [json!({}), json!({ "max_tokens": 16_000 })] {
        let body = with(streamed("tokens=5;large_event=10000000;obey=0;leave=stop"), fields);
        let answer = world.chat(&key, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.complete, "it ends properly, cut or not");
        world.settled().await;
    }
    world.assert_limits_hold().await;
    world.forget_keys();
    world.reset_mock().await;
    let key = world.rich();
    let body = with(streamed("tokens=5;large_event=60000;obey=0"), json!({ "max_tokens": 16_000 }));
    let answer = world.chat(&key, &body).await;
    assert_finished(&answer);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c32_slow_and_stalling_streams_are_waited_for() {
    let world = World::plain().await;
    let key = world.rich();
    let scripts = [
        "tokens=12;rate=50;pause_at=5;pause_ms=7000",
        "tokens=3;rate=1",
        "tokens=5;first_ms=6000",
        "tokens=5;delay_headers_ms=6000",
    ];
    let calls: Vec<_> = scripts
        .iter()
        .flat_map(|script| [streamed(script), ask(script)])
        .map(|body| (world.gateway(), Request::chat(&body).bearer(&key.secret)))
        .collect();
    for answer in at_once(calls).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.complete && words(&content(&answer)) >= 3, "{}", answer.text());
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c32_a_stream_that_never_ends_is_cut() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.001"]);
    let live = world.live(&key, &streamed("endless=1;rate=1000;leave=stop")).await;
    let held = held(&live);
    let answer = live.finish().await;
    assert_cut(&answer);
    assert_charged_in_full(&world, &key, held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c32_silence_is_ended_by_a_timeout_and_charged() {
    let world = World::new().provider("timeouts", "{ first_byte: 1s, between_chunks: 1s }").start().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("hang=1")).await.refused(504, "upstream_timeout");
    world.settled().await;
    let doubt = world.books(&key).await.spent;
    assert!(doubt > 0, "doubt charges: nobody knows what the provider did with it");
    let answer = world.chat(&key, &streamed("tokens=30;rate=200;pause_at=10;pause_ms=60000;leave=stop")).await;
    assert_cut(&answer);
    world.assert_books_sound().await;
    assert!(world.books(&key).await.spent > doubt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c35_a_cut_is_an_error_event_of_the_provider() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    let body = with(streamed("tokens=3000;obey=0;rate=300;leave=stop"), json!({ "max_tokens": 20 }));
    let answer = world.chat(&key, &body).await;
    assert_cut(&answer);
    let last: Value = serde_json::from_str(answer.events().last().expect("events")).expect("JSON");
    let error = &last["error"];
    assert!(error["type"].is_string() && error["code"].is_string(), "{last}");
    assert!(error["loopers"]["code"].is_string(), "{last}");
    // Every event before it is whole.
    for event in answer.events() {
        serde_json::from_str::<Value>(&event).unwrap_or_else(|e| panic!("{e}: {event}"));
    }
    // A provider that dies in mid-stream must not look like success either.
    for script in ["tokens=50;rate=200;die_at=10", "tokens=50;rate=200;truncate=1"] {
        let answer = world.chat(&key, &streamed(script)).await;
        assert_cut(&answer);
    }
    // The provider's own error event arrives as it was sent.
    let answer = world.chat(&key, &streamed("tokens=50;rate=200;error_at=10")).await;
    assert!(answer.text().contains("The server had an error while processing your request"), "{}", answer.text());
    assert!(!answer.text().contains("[DONE]"));
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c35_cut_under_burst_loses_nothing_that_was_metered() {
    let world = World::plain().await;
    for burst in [1, 7, 40, 200] {
        world.reset_mock().await;
        world.forget_keys();
        let key = world.key(&["--daily", "1"]);
        let script = format!("tokens=20000;obey=0;rate=4000;burst={burst};leave=stop");
        let live = world.live(&key, &with(streamed(&script), json!({ "max_tokens": 500 }))).await;
        let held = held(&live);
        let answer = live.finish().await;
        assert_cut(&answer);
        // The last token of a text is certain only when the next one is seen.
        let got = words(&content(&answer));
        assert!((400..=502).contains(&got), "burst {burst}: the client got {got} of the 500 that were paid for");
        world.settled().await;
        assert_eq!(world.books(&key).await.spent, held);
        world.assert_limits_hold().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c36_what_stops_a_key_cuts_its_streams() {
    let world = World::new().redis().gateways(2).start().await;
    let stops: [(&str, &[&str]); 5] = [
        ("revoke", &["keys", "revoke", "KEY"]),
        ("pause", &["keys", "pause", "KEY"]),
        ("kill", &["kill", "KEY"]),
        ("limit 0", &["budget", "set", "KEY", "--daily", "0"]),
        ("kill all", &["kill", "--all"]),
    ];
    for (what, stop) in stops {
        world.forget_keys();
        world.reset_mock().await;
        let key = world.key(&["--daily", "1"]);
        let request = Request::chat(&with(streamed("tokens=3000;rate=50;leave=stop"), json!({ "max_tokens": 3000 })));
        let mut lives = Vec::new();
        for gateway in &world.gateways {
            let mut live = Conn::open(gateway.addr).await.stream(&request.clone().bearer(&key.secret)).await;
            live.skip(3).await;
            lives.push(live);
        }
        let held: u64 = lives.iter().map(held).sum();
        let args: Vec<&str> = stop.iter().map(|arg| if *arg == "KEY" { key.id.as_str() } else { arg }).collect();
        world.cli_ok(&args);
        let stopped = Instant::now();
        for live in lives {
            assert_cut(&live.finish().await);
        }
        assert!(stopped.elapsed() < Duration::from_secs(10), "{what}: cut after {:?}", stopped.elapsed());
        world.settled().await;
        assert_eq!(world.books(&key).await.spent, held, "{what}: a cut call is charged its hold");
        assert!(world.invoice().await.nano <= held, "{what}");
        assert_eq!(world.invoice().await.aborted, 2, "{what}: the provider was dropped");
        if what == "kill all" {
            break;
        }
        let other = world.rich();
        world.chat(&other, &ask("tokens=1")).await.expect(200);
    }
}

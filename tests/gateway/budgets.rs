//! B 20–22, 25, 26: limits as typed, moved and hit.

use serde_json::json;

use crate::support::json::{nano, with};
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b20_zero_means_nothing_and_absent_means_unlimited_only_when_said() {
    let world = World::plain().await;
    for window in ["--minute", "--hourly", "--daily", "--weekly", "--monthly"] {
        let key = world.key(&[window, "0"]);
        world.chat(&key, &ask("tokens=1")).await.refused(402, "budget_exceeded");
    }
    world.assert_untouched().await;
    let none = world.cli(&["keys", "create", "--name", "boundless", "--json"]);
    assert!(!none.status.success(), "a key without any limit needs --unlimited");
    assert!(String::from_utf8_lossy(&none.stderr).contains("--unlimited"), "the message says how");
    let free = world.key(&["--unlimited"]);
    let answer = world.chat(&free, &ask("tokens=5")).await.expect(200);
    assert!(answer.complete);
    world.assert_books_exact().await;
    assert!(world.budget(&free).await["levels"][0]["windows"][0]["limit_usd"].is_null());
}

/// Each of these calls takes all the money that is left, and needs almost none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_one_after_the_other_is_never_refused_for_the_call_before() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.5"]);
    for call in 0..150 {
        let body = with(ask_model("gpt-5.5", "tokens=9"), json!({ "stream": call % 2 == 0 }));
        world.chat(&key, &body).await.expect(200);
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b20_amounts_that_are_not_plain_are_refused_loudly() {
    let world = World::plain().await;
    let key = world.rich();
    let bad = [
        "10,00",
        "1e3",
        " 10 ",
        "-1",
        "NaN",
        "Infinity",
        "",
        "$",
        "0x10",
        "1_000",
        "+5",
        "10.",
        ".5",
        "10.0000000001",
        "9000001",
        "1 0",
        "10USD",
        "ten",
        "٣",
        "1.2.3",
        "$-1",
        "99999999999999999999",
    ];
    for amount in bad {
        for args in [
            vec!["keys", "create", "--name", "bad", "--daily", amount],
            vec!["budget", "set", &key.id, "--daily", amount],
            vec!["keys", "create", "--name", "bad", "--monthly", "1", "--session-budget", amount],
        ] {
            let output = world.cli(&args);
            assert!(!output.status.success(), "{args:?} was accepted");
            assert!(!output.stderr.is_empty(), "{args:?}: silent");
        }
        let request = Request::chat(&ask("tokens=1")).bearer(&key.secret);
        let request = request.header("x-loopers-session-id", "s").header("x-loopers-session-budget", amount);
        let answer = world.send(&request).await;
        // HTTP itself strips the blanks around a value.
        assert!(answer.status == 400 || amount == " 10 ", "{amount:?}: {} {}", answer.status, answer.text());
        world.reset_mock().await;
    }
    for (amount, meant) in [
        ("10", 10_000_000_000),
        ("10.00", 10_000_000_000),
        ("$10.00", 10_000_000_000),
        ("0.000000001", 1),
        ("9000000", 9_000_000_000_000_000),
    ] {
        world.cli_ok(&["budget", "set", &key.id, "--daily", amount]);
        assert_eq!(world.window(&key, "key", "daily").await.limit, Some(meant), "{amount}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b21_a_minute_rolls_over_while_a_call_runs() {
    let world = World::plain().await;
    let key = world.key(&["--minute", "5", "--monthly", "10"]);
    // 20 tokens a second for 70 seconds: one full minute ends in between.
    let body = with(streamed("tokens=1400;rate=20;chunk=5"), json!({ "max_tokens": 1400 }));
    early_in_the_minute().await;
    let live = world.live(&key, &body).await;
    let view = world.budget(&key).await;
    let resets = |view: &serde_json::Value| view["levels"][0]["windows"][0]["resets_at"].clone();
    assert_eq!(view["levels"][0]["windows"][0]["window"], "minute", "{view}");
    let first = resets(&view);
    assert!(world.window(&key, "key", "minute").await.held > 0);
    let answer = live.finish().await;
    json::assert_finished(&answer);
    world.settled().await;
    let view = world.budget(&key).await;
    assert_ne!(resets(&view), first, "the minute is another one");
    let minute = world.window(&key, "key", "minute").await;
    assert_eq!((minute.spent, minute.held), (0, 0), "the charge belongs to the minute that the hold was taken from");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_limits_move_while_calls_run() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=50")).await.expect(200);
    world.settled().await;
    let spent = world.books(&key).await.spent;
    let body = with(streamed("tokens=600;rate=100"), json!({ "max_tokens": 600 }));
    let mut live = world.live(&key, &body).await;
    live.skip(3).await;
    // A window added now starts from what it has really seen.
    world.cli_ok(&["budget", "set", &key.id, "--hourly", "0.5"]);
    let hour = world.window(&key, "key", "hourly").await;
    assert_eq!(hour.limit, Some(500_000_000));
    assert!(hour.spent == spent || world.invoice().await.calls < 2, "counted before it had a limit: {hour:?}");
    assert!(hour.held > 0, "{hour:?}");
    // Lowered to what is spent: nothing new, but the running call keeps its hold.
    world.cli_ok(&["budget", "set", &key.id, "--hourly", &json::usd(hour.spent)]);
    world.chat(&key, &ask("tokens=5")).await.refused(402, "budget_exceeded");
    live.skip(3).await;
    world.cli_ok(&["budget", "set", &key.id, "--hourly", "0.5"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.cli_ok(&["budget", "set", &key.id, "--hourly", "0"]);
    world.cli_ok(&["budget", "unset", &key.id, "hourly"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    live.finish().await;
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b25_refused_calls_leave_no_trace() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0", "--session-steps", "3"]);
    let request = Request::chat(&ask("tokens=5")).bearer(&key.secret).header("x-loopers-session-id", "s");
    for round in 0..6 {
        let calls = (0..50).map(|_| (world.gateway(), request.clone())).collect();
        for answer in at_once(calls).await {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (402, "budget_exceeded"),
                "round {round}: {}",
                answer.text()
            );
        }
    }
    world.assert_untouched().await;
    world.cli_ok(&["budget", "set", &key.id, "--daily", "1"]);
    for _ in 0..3 {
        world.send(&request).await.expect(200);
    }
    world.send(&request).await.refused(402, "session_steps_exceeded");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b26_a_call_is_sent_once_and_a_refusal_invites_no_retry() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.01"]);
    let mut expected = 0;
    for script in [
        "tokens=5",
        "status=429",
        "status=500",
        "status=503",
        "status=400",
        "die_before=1",
        "html=1",
        "truncate=1",
        "die_at=3;rate=50",
    ] {
        for stream in [false, true] {
            world
                .send(
                    &Request::chat(&with(ask(script), json!({ "stream": stream, "max_tokens": 16 })))
                        .bearer(&key.secret),
                )
                .await;
            expected += 1;
            assert_eq!(world.invoice().await.posts, expected, "{script}: one call, one request");
        }
    }
    // A provider that drops the connection that it kept open for the next call: not sent twice either.
    for _ in 0..20 {
        world.chat(&key, &with(ask("tokens=1"), json!({ "max_tokens": 16 }))).await;
        world.chat(&key, &with(ask("die_before=1"), json!({ "max_tokens": 16 }))).await;
        expected += 2;
    }
    let refused = world.key(&["--daily", "0"]);
    let answer = world.chat(&refused, &ask("tokens=5")).await.refused(402, "budget_exceeded");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(answer.header("retry-after").is_none() && answer.header("retry-after-ms").is_none());
    assert!(world.invoice().await.posts <= expected);
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_of_every_window_refuse_by_name() {
    let world = World::plain().await;
    for (flag, window) in [
        ("--minute", "minute"),
        ("--hourly", "hourly"),
        ("--daily", "daily"),
        ("--weekly", "weekly"),
        ("--monthly", "monthly"),
    ] {
        let key = world.key(&[flag, "0.0001", "--overflow", "refuse"]);
        let said = world.chat(&key, &ask("tokens=5")).await.refused(402, "budget_exceeded").loopers();
        assert_eq!(said["window"], window, "{said}");
        assert_eq!(said["level"], "key", "{said}");
        assert_eq!(nano(&said["limit_usd"]), 100_000, "{said}");
        assert!(nano(&said["requested_usd"]) > 100_000, "{said}");
    }
    world.assert_untouched().await;
}

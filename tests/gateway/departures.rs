//! C 28, 30: clients that leave while the ledger is asked, or stop reading; connections that go on afterwards; answers in odd forms.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_client_that_leaves_while_the_ledger_is_asked_costs_nothing() {
    for mode in ["drain", "cancel"] {
        let mut world = World::new().redis().provider("on_disconnect", mode).start().await;
        let key = world.key(&["--daily", "1"]);
        world.chat(&key, &ask("tokens=5")).await.expect(200);
        world.settled().await;
        let before = world.invoice().await;
        let request =
            Request::chat(&with(streamed("tokens=40"), json!({ "max_tokens": 50 }))).bearer(&key.secret).bytes();
        world.redis().signal("STOP");
        let mut half = Vec::new();
        for at in 0..9 {
            let mut conn = Conn::open(world.gateway()).await;
            conn.write(&request).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(100)).await;
            match at % 3 {
                0 => drop(conn),
                1 => conn.reset(),
                _ => {
                    conn.half_close().await;
                    half.push(conn);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.redis().signal("CONT");
        until("the ledger answers", async || world.chat(&key, &ask("tokens=5")).await.status == 200).await;
        world.settled().await;
        let invoice = world.invoice().await;
        // The reserves were carried out when the ledger went on, for nobody: none of these calls went out.
        assert_eq!(invoice.posts, before.posts + 1, "{mode}: a call without a client went out");
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_client_that_never_reads_on_does_not_hold_money_for_ever() {
    for mode in ["drain", "cancel"] {
        let world = World::new().provider("on_disconnect", mode).start().await;
        let key = world.key(&["--daily", "1"]);
        let body = with(streamed("tokens=16000;leave=stop"), json!({ "max_tokens": 16_000 }));
        let mut live = world.live(&key, &body).await;
        live.skip(3).await;
        // It stays, and takes nothing: after half a minute it counts as gone.
        world.assert_books_sound().await;
        if mode == "drain" {
            world.assert_books_exact().await;
        }
        drop(live);
    }
}

/// One connection's next call, and what it must get.
async fn next(conn: &mut Conn, key: &Key, body: &Value, status: u16) -> Answer {
    let answer = conn.call(&Request::chat(body).bearer(&key.secret)).await.expect(status);
    assert!(answer.complete, "{}", answer.text());
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_connections_go_on_after_whatever_happened_on_them() {
    let world = World::plain().await;
    let (key, poor) = (world.rich(), world.key(&["--daily", "0"]));
    let mut conn = Conn::open(world.gateway()).await;
    let whole = next(&mut conn, &key, &ask("tokens=25"), 200).await.text();
    let stream = next(&mut conn, &key, &streamed("tokens=25"), 200).await;
    for round in 0..4 {
        // Refusals of every kind whose request was read whole, provider's errors, a call that is free.
        next(&mut conn, &poor, &ask("tokens=5"), 402).await;
        next(&mut conn, &key, &json::ask_model("gpt-9-unheard-of", ""), 422).await;
        next(&mut conn, &key, &ask("status=500"), 500).await;
        next(&mut conn, &key, &ask("status=429"), 429).await;
        conn.call(&Request::get("/openai/v1/models").bearer(&key.secret)).await.expect(200);
        // What comes next is this call's answer, with this call's cost in its head, and nothing of the ones before.
        let answer = next(&mut conn, &key, &ask("tokens=25"), 200).await;
        assert!(answer.header("x-loopers-cost-usd").is_some(), "round {round}");
        assert!(!answer.text().is_empty());
        assert_eq!(answer.text().len(), whole.len(), "round {round}: {}", answer.text());
        let again = next(&mut conn, &key, &streamed("tokens=25"), 200).await;
        assert_eq!(json::content(&again), json::content(&stream), "round {round}");
        assert!(conn.is_open(), "round {round}: closed for no reason");
    }
    // A server error may have been billed, and is charged in full.
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c28_a_providers_connection_carries_nothing_over_from_a_client_that_left() {
    for mode in ["drain", "cancel"] {
        let world = World::new().provider("on_disconnect", mode).start().await;
        let key = world.rich();
        let expected = json::content(&world.chat(&key, &streamed("tokens=30")).await.expect(200));
        for round in 0..12 {
            let mut live = world.live(&key, &streamed("tokens=60;rate=400;leave=stop")).await;
            live.skip(round % 6).await;
            if round % 2 == 0 {
                live.hang_up()
            } else {
                live.reset()
            }
            let answer = world.chat(&key, &streamed("tokens=30")).await.expect(200);
            json::assert_finished(&answer);
            assert_eq!(json::content(&answer), expected, "{mode}, round {round}");
        }
        world.assert_books_sound().await;
        if mode == "drain" {
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c30_gemini_without_sse_is_an_array_that_is_metered_and_cut() {
    let world = six::six().start().await;
    let key = world.key(&["--daily", "1"]);
    let path = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}], "generationConfig": {"maxOutputTokens": 60}});
    let call = |script: &str| Request::post(path, body.to_string()).bearer(&key.secret).header("x-mock-script", script);
    for split in [1, 7, 4096] {
        let answer = world.send(&call(&format!("tokens=40;split={split}"))).await.expect(200);
        let array = answer.json();
        assert!(answer.complete && array.as_array().is_some_and(|chunks| !chunks.is_empty()), "{}", answer.text());
        world.assert_books_exact().await;
    }
    // One that ignores its limit: the array is closed, with an error in it.
    let answer = world.send(&call("tokens=3000;obey=0;rate=500;leave=stop")).await.expect(200);
    assert!(answer.complete && answer.text().contains("\"error\""), "{}", answer.text());
    assert!(answer.json().is_array(), "{}", answer.text());
    world.settled().await;
    world.assert_limits_hold().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c30_a_compressed_answer_is_not_asked_for_and_not_let_through() {
    let world = six::six().start().await;
    for kind in six::plain(50).iter().chain(&six::streams(50)) {
        world.forget_keys();
        world.reset_mock().await;
        let key = world.key(&["--daily", "1"]);
        let request = kind.request(&key, "tokens=30;gzip=1").header("accept-encoding", "gzip, br, zstd");
        let answer = world.send(&request).await;
        assert_eq!(answer.status, 502, "{}: {}", kind.path, answer.text());
        assert!(answer.header("content-encoding").is_none());
        let seen = world.seen().await;
        let headers = seen.last().expect("a request")["headers"].as_array().expect("headers").clone();
        let asked: Vec<&Value> = headers.iter().filter(|h| h[0] == "accept-encoding").map(|h| &h[1]).collect();
        assert_eq!(asked, ["identity"], "{}", kind.path);
        // It was sent, and what it cost cannot be read: charged in full.
        world.assert_books_sound().await;
        assert!(world.books(&key).await.spent > 0, "{}", kind.path);
    }
}

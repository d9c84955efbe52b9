//! C 33: answers that are not 200, not JSON, not whole, or not what they say.

use serde_json::json;

use crate::support::json::with;
use crate::support::*;

/// The same call straight to the provider.
async fn direct(world: &World, body: &serde_json::Value) -> Answer {
    let request = Request::post("/v1/chat/completions", body.to_string()).bearer("sk-test-direct");
    Conn::open(world.mock).await.call(&request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_errors_of_the_provider_pass_through_untouched() {
    let world = World::plain().await;
    for status in [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529] {
        for stream in [false, true] {
            world.forget_keys();
            let key = world.key(&["--daily", "0.1"]);
            let body = with(ask(&format!("status={status}")), json!({ "stream": stream, "max_tokens": 20 }));
            let (here, there) = (world.chat(&key, &body).await, direct(&world, &body).await);
            assert_eq!((here.status, here.text()), (there.status, there.text()));
            assert_eq!(here.header("content-type"), there.header("content-type"));
            assert!(here.header("openai-processing-ms").is_some());
            world.settled().await;
            let spent = world.books(&key).await.spent;
            if (400..500).contains(&status) {
                assert_eq!(spent, 0, "{status} is not billed");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_errors_that_were_billed_all_the_same() {
    let world = World::plain().await;
    // The usage in the body tells; where a server error tells nothing, doubt charges.
    for script in [
        "status=500;billed=1;tokens=20",
        "status=503;billed=1;tokens=20;usage=none",
        "html=1;billed=1;tokens=20",
        "html=1;status=500;billed=1;tokens=20",
        "status=400;billed=1;tokens=20",
        "status=429;billed=1;tokens=20",
    ] {
        world.forget_keys();
        world.reset_mock().await;
        let key = world.key(&["--daily", "0.1"]);
        world.chat(&key, &with(ask(script), json!({ "max_tokens": 20 }))).await;
        world.assert_books_sound().await;
        assert!(world.invoice().await.nano > 0, "{script}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_other_kinds_of_success_are_charged() {
    let world = World::plain().await;
    let key = world.rich();
    for status in [201, 202, 203, 206] {
        for stream in [false, true] {
            let body = with(ask(&format!("tokens=20;status={status}")), json!({ "stream": stream }));
            let answer = world.chat(&key, &body).await;
            assert_eq!(answer.status, status, "{}", answer.text());
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_redirects_are_not_followed() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.1"]);
    for script in ["redirect=1", "redirect=1;status=301", "redirect=1;status=303"] {
        let posts = world.invoice().await.requests;
        let answer = world.chat(&key, &with(ask(script), json!({ "max_tokens": 20 }))).await;
        assert!((300..400).contains(&answer.status) || answer.status == 502, "{script}: {}", answer.status);
        assert_eq!(world.invoice().await.requests, posts + 1, "{script}: followed");
    }
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_broken_answers_are_charged_in_doubt() {
    let world = World::plain().await;
    for script in [
        "tokens=30;truncate=1",
        "tokens=30;die_before=1",
        "tokens=30;die_before=1;billed=1",
        "tokens=30;rate=100;die_at=10",
        "tokens=30;rate=100;error_at=10",
        "tokens=30;html=1",
        "tokens=30;gzip=1",
    ] {
        for stream in [false, true] {
            world.forget_keys();
            world.reset_mock().await;
            let key = world.key(&["--daily", "0.1"]);
            let body = with(ask(script), json!({ "stream": stream, "max_tokens": 30 }));
            let answer = Conn::open(world.gateway()).await.call(&Request::chat(&body).bearer(&key.secret)).await;
            assert!(answer.status >= 200, "{script}");
            assert!(
                !answer.text().contains("[DONE]") || script.contains("gzip"),
                "{script}, stream {stream}: looks finished"
            );
            world.assert_books_sound().await;
            assert_eq!(world.invoice().await.posts, 1, "{script}: sent once");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_a_hundred_megabytes() {
    let world = World::plain().await;
    let key = world.rich();
    for stream in [false, true] {
        let body = with(ask("tokens=5;big=100"), json!({ "stream": stream }));
        let answer = world.chat(&key, &body).await;
        assert!(answer.status == 200 || answer.status == 502, "{}", answer.status);
        world.assert_books_sound().await;
    }
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_a_body_that_never_ends_is_left_behind() {
    let world = World::new().provider("on_disconnect", "cancel").start().await;
    let key = world.key(&["--daily", "0.1"]);
    let mut conn = Conn::open(world.gateway()).await;
    let body = with(ask("tokens=5;endless=1;leave=stop"), json!({ "max_tokens": 20 }));
    conn.write(&Request::chat(&body).bearer(&key.secret).bytes()).await.expect("sent");
    until("the provider works on it", async || world.invoice().await.calls > 0).await;
    conn.reset();
    world.assert_books_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c33_the_model_in_the_answer_does_not_make_it_cheaper() {
    let world = World::plain().await;
    for (asked, answered) in [("gpt-4o-mini", "gpt-4o"), ("gpt-4o", "gpt-4o-mini"), ("gpt-4o", "gpt-4o-2024-08-06")] {
        world.forget_keys();
        world.reset_mock().await;
        let key = world.key(&["--daily", "1"]);
        for stream in [false, true] {
            let script = format!("tokens=30;model_as={answered}");
            world.chat(&key, &with(ask_model(asked, &script), json!({ "stream": stream }))).await.expect(200);
        }
        world.assert_books_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_pass_through_unchanged() {
    let world = World::plain().await;
    let key = world.rich();
    // What is forwarded is what the provider would have been sent directly, so its answer is the same text.
    for fields in
        [json!({}), json!({ "n": 2, "max_tokens": 40 }), json!({ "stream": true }), json!({ "stream": true, "n": 2 })]
    {
        let body = with(ask("tokens=25"), fields);
        let here = world.chat(&key, &body).await.expect(200);
        // Byte for byte: the provider's answer depends on them.
        let forwarded = world.seen().await.last().expect("a request")["body"].as_str().expect("a body").to_owned();
        let request = Request::post("/v1/chat/completions", forwarded).bearer("sk-test-direct");
        let there = Conn::open(world.mock).await.call(&request).await.expect(200);
        if body["stream"] == true {
            let visible = |answer: &Answer| -> Vec<serde_json::Value> {
                let events = answer.events();
                let parsed = events.iter().filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok());
                parsed
                    .filter(|event| event["choices"].as_array().is_some_and(|c| !c.is_empty()))
                    .map(|e| e["choices"].clone())
                    .collect()
            };
            assert_eq!(visible(&here), visible(&there));
        } else {
            assert_eq!(here.text(), there.text());
        }
        assert_eq!(here.header("content-type"), there.header("content-type"));
    }
}

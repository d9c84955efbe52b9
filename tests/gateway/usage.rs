//! C 31: what a provider says about usage is believed only as far as it can be true.

use serde_json::json;

use crate::support::json::{assert_finished, with};
use crate::support::*;

const MODES: [&str; 11] =
    ["honest", "none", "zero", "negative", "twice", "small", "huge", "nan", "null", "after_done", "cumulative"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c31_odd_usage_never_makes_a_call_cheaper_than_its_bill() {
    let world = World::plain().await;
    for (model, script) in
        [("gpt-4o-mini", "tokens=40"), ("gpt-5-nano", "tokens=60;reasoning=30"), ("gpt-6-luna", "tokens=40;cached=5")]
    {
        for stream in [false, true] {
            for mode in MODES {
                let key = world.key(&["--daily", "0.05"]);
                world.reset_mock().await;
                let body = with(
                    ask_model(model, &format!("{script};usage={mode}")),
                    json!({ "stream": stream, "max_completion_tokens": 100 }),
                );
                let answer = world.chat(&key, &body).await;
                world.settled().await;
                let (invoice, books) = (world.invoice().await, world.books(&key).await);
                let what = format!("{model}, stream {stream}, usage {mode}: {} {books:?} {invoice:?}", answer.status);
                assert!(invoice.nano <= books.spent, "charged less than the invoice: {what}");
                assert!(books.spent <= 50_000_000, "{what}");
                assert!(invoice.nano > 0, "{what}");
                if matches!(mode, "honest" | "twice" | "cumulative") || (mode == "after_done" && stream) {
                    assert_eq!(invoice.nano, books.spent, "reported is charged: {what}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c31_embeddings_without_honest_usage() {
    let world = World::plain().await;
    // `small` is left out: of a text, nobody but the provider can say that it had more tokens than it reports.
    for mode in MODES.into_iter().filter(|mode| *mode != "small") {
        let key = world.key(&["--daily", "0.01"]);
        world.reset_mock().await;
        let request =
            Request::post("/openai/v1/embeddings", embed(&format!("a text [[mock usage={mode}]]")).to_string());
        world.send(&request.bearer(&key.secret)).await;
        world.settled().await;
        let (invoice, books) = (world.invoice().await, world.books(&key).await);
        assert!(invoice.nano > 0 && invoice.nano <= books.spent, "{mode}: {books:?} {invoice:?}");
        if matches!(mode, "honest" | "twice" | "cumulative" | "after_done") {
            assert_eq!(invoice.nano, books.spent, "{mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c31_the_usage_event_is_asked_for_and_hidden_from_who_did_not_ask() {
    let world = World::plain().await;
    let key = world.rich();
    let usage_events = |answer: &Answer| {
        let events = answer.events();
        let parsed = events.iter().filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok());
        parsed.filter(|event| event["usage"].is_object()).count()
    };
    let quiet = world.chat(&key, &streamed("tokens=12")).await;
    assert_finished(&quiet);
    assert_eq!(usage_events(&quiet), 0, "{}", quiet.text());
    assert!(!quiet.text().contains("\"choices\":[]"), "clients that index choices[0] break: {}", quiet.text());
    assert_eq!(world.last_body().await["stream_options"]["include_usage"], true);
    let asked = with(streamed("tokens=12"), json!({ "stream_options": { "include_usage": true } }));
    let loud = world.chat(&key, &asked).await;
    assert_finished(&loud);
    assert_eq!(usage_events(&loud), 1, "{}", loud.text());
    let refused = with(streamed("tokens=12"), json!({ "stream_options": { "include_usage": false } }));
    let quiet = world.chat(&key, &refused).await;
    assert_finished(&quiet);
    assert_eq!(usage_events(&quiet), 0, "{}", quiet.text());
    assert_eq!(world.last_body().await["stream_options"]["include_usage"], true);
    let whole = world.chat(&key, &ask("tokens=12")).await.expect(200);
    assert!(whole.json()["usage"].is_object());
    assert!(world.last_body().await.get("stream_options").is_none(), "only streams have stream options");
    world.assert_books_exact().await;
}

//! A provider with a name of its own that speaks OpenAI's API: one block of the config and its prices.

use serde_json::json;

use crate::support::builder::Builder;
use crate::support::json::{CHAT, with};
use crate::support::*;

/// The mock provider's prices of gpt-4o-mini and of an embedding model, under another provider's name.
const PRICES: &str = r#"
groq/gpt-4o-mini: {input: "0.15", output: "0.6", cache_read: "0.075", context_window: 128000, max_output: 16384}
groq/text-embedding-3-small: {mode: embedding, input: "0.02", context_window: 8192}
"#;

fn groq(options: &str) -> Builder {
    let block = format!("groq: {{ api: openai, base_url: \"MOCK\", key: env:OPENAI_API_KEY{options} }}");
    World::new().other_provider(&block).prices(PRICES)
}

fn chat(key: &Key, body: &serde_json::Value) -> Request {
    Request::post("/groq/v1/chat/completions", body.to_string()).bearer(&key.secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seventh_provider_is_one_block_of_config_and_one_of_prices() {
    let world = groq("").start().await;
    let key =
        world.key(&["--providers", "groq", "--models", "groq/gpt-4o-mini,text-embedding-3-small", "--daily", "0.5"]);
    for body in [ask("tokens=30"), streamed("tokens=30"), with(ask("tokens=9"), json!({ "n": 3 }))] {
        world.send(&chat(&key, &body)).await.expect(200);
        world.assert_books_exact().await;
        assert_eq!(
            world.last_body().await["service_tier"],
            "default",
            "forced until the config says that there are none"
        );
    }
    let embeddings = Request::post("/groq/v1/embeddings", embed("some text").to_string()).bearer(&key.secret);
    world.send(&embeddings).await.expect(200);
    world.assert_books_exact().await;
    // The key may call that provider, and no other; the same model elsewhere is another one.
    world.chat(&key, &ask("tokens=5")).await.refused(403, "provider_not_allowed");
    let other = world.rich();
    world.chat(&other, &ask("tokens=5")).await.expect(200);
    world.assert_books_exact().await;
    // No price under this name, though there is one under OpenAI's.
    let answer = world.send(&chat(&other, &ask_model("gpt-5", "tokens=5"))).await.refused(422, "unpriced_model");
    let hint = answer.loopers()["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint.contains("groq/gpt-5:"), "{hint}");
    // What is free with OpenAI need not be so with others.
    for path in [
        "/groq/v1/moderations",
        "/groq/v1/responses/input_tokens",
        "/groq/v1/images/generations",
        "/grok/v1/chat/completions",
    ] {
        world.send(&Request::post(path, "{}").bearer(&other.secret)).await.refused(404, "unknown_route");
    }
    let metrics = Request::get("/metrics").header("host", "localhost");
    let text = Conn::open(world.gateways[0].admin).await.call(&metrics).await.expect(200).text();
    for line in [
        r#"loopers_requests_total{outcome="ok",provider="groq",route="chat_completions"} 3"#,
        r#"loopers_charged_usd_total{provider="groq",model="gpt-4o-mini"}"#,
        r#"loopers_tokens_total{direction="output",model="gpt-4o-mini",provider="groq"}"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seventh_providers_calls_are_clamped_and_cut_like_any_other() {
    let world = groq("").start().await;
    // 0.0002 USD: beside the input some 300 tokens of output at 0.6 USD a million.
    let key = world.key(&["--daily", "0.0003"]);
    let answer = world.send(&chat(&key, &ask("tokens=20"))).await.expect(200);
    let limit: u64 = answer.header("x-loopers-max-tokens").expect("clamped").parse().expect("a number");
    assert_eq!(world.last_body().await["max_completion_tokens"], limit);
    world.assert_books_exact().await;
    for _ in 0..40 {
        world.send(&chat(&key, &streamed("tokens=200"))).await;
    }
    world.assert_books_exact().await;
    let refused = world
        .send(&chat(&key, &with(ask("tokens=5"), json!({ "max_tokens": 5000, "user": "x".repeat(20_000) }))))
        .await;
    refused.refused(402, "budget_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_without_tiers_and_with_the_old_limit_is_told_nothing_else() {
    let world = groq(", service_tier: none, limit_field: max_tokens").start().await;
    let key = world.key(&["--daily", "0.5"]);
    let body = with(ask("tokens=30"), json!({ "max_completion_tokens": 20, "service_tier": "auto" }));
    world.send(&chat(&key, &body)).await.expect(200);
    let sent = world.last_body().await;
    assert_eq!(
        (&sent["max_tokens"], sent.get("max_completion_tokens"), sent.get("service_tier")),
        (&json!(20), None, None)
    );
    assert_eq!(sent["model"], CHAT);
    world.assert_books_exact().await;
    let tier = with(ask("tokens=5"), json!({ "service_tier": "priority" }));
    world.send(&chat(&key, &tier)).await.refused(400, "unpriceable_request");
    // The clamp uses the same field.
    let poor = world.key(&["--daily", "0.0003"]);
    let answer = world.send(&chat(&poor, &ask("tokens=20"))).await.expect(200);
    let limit: u64 = answer.header("x-loopers-max-tokens").expect("clamped").parse().expect("a number");
    assert_eq!(world.last_body().await["max_tokens"], limit);
    world.assert_books_exact().await;
}

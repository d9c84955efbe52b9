//! A: the bound before the call. Whatever the request says, the provider never bills more than was held.

use serde_json::{Value, json};

use crate::support::json::{finish_reason, with};
use crate::support::*;

/// A dear model that streams all that it bills: $10 per million output tokens.
const DEAR: &str = "gpt-4o";

fn dear(script: &str, fields: Value) -> Value {
    with(ask_model(DEAR, script), fields)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_max_tokens_absent_is_clamped_into_the_request() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.01"]);
    for stream in [false, true] {
        let answer = world.chat(&key, &dear("tokens=100000", json!({ "stream": stream }))).await.expect(200);
        let limit: u64 =
            answer.header("x-loopers-max-tokens").expect("a clamped call says so").parse().expect("a number");
        assert!((16..1000).contains(&limit), "{limit}");
        let sent = world.last_body().await;
        assert_eq!(sent["max_completion_tokens"], limit, "{sent}");
        assert!(sent.get("max_tokens").is_none(), "{sent}");
        assert_eq!(finish_reason(&answer), "length");
        world.assert_books_exact().await;
        if !stream {
            // What the first call left is too little now; the second one gets a key of its own.
            world.cli_ok(&["budget", "set", &key.id, "--daily", "0.02"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_max_tokens_absent_holds_the_models_maximum() {
    let world = World::plain().await;
    // gpt-4o writes at most 16,384 tokens: $0.16384.
    let poor = world.key(&["--daily", "0.16", "--overflow", "refuse"]);
    world.chat(&poor, &dear("tokens=1", json!({}))).await.refused(402, "budget_exceeded");
    world.assert_untouched().await;
    let able = world.key(&["--daily", "0.20", "--overflow", "refuse"]);
    let answer = world.chat(&able, &dear("tokens=20", json!({}))).await.expect(200);
    let held = json::nano(&json!(answer.header("x-loopers-held-usd").expect("the hold")));
    assert!(held >= 163_840_000, "{held}");
    assert!(answer.header("x-loopers-max-tokens").is_none(), "not clamped");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a02_every_field_that_multiplies_output_is_read() {
    let world = World::plain().await;
    let flags = ["--daily", "0.055", "--overflow", "refuse"];
    // 5 x 1,000 tokens at $10 per million fit into $0.055, 10 x 1,000 do not.
    for field in ["max_tokens", "max_completion_tokens"] {
        let key = world.key(&flags);
        let posts = world.invoice().await.posts;
        world.chat(&key, &dear("tokens=1000", json!({ field: 1000, "n": 10 }))).await.refused(402, "budget_exceeded");
        world.chat(&key, &dear("tokens=1000", json!({ field: 10_000 }))).await.refused(402, "budget_exceeded");
        assert_eq!(world.invoice().await.posts, posts, "{field}: nothing went out");
        let answer = world.chat(&key, &dear("tokens=1000", json!({ field: 1000, "n": 5 }))).await.expect(200);
        assert_eq!(answer.json()["usage"]["completion_tokens"], 5000);
        assert_eq!(world.last_body().await[field], 1000, "the field that the client used is the one sent");
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a02_fields_of_other_apis_and_both_fields_at_once_are_refused() {
    let world = World::plain().await;
    let key = world.rich();
    for fields in [
        json!({ "max_tokens": 10, "max_completion_tokens": 10 }),
        json!({ "max_tokens": 10, "max_completion_tokens": 100_000 }),
        json!({ "max_output_tokens": 10 }),
        json!({ "maxOutputTokens": 10 }),
        json!({ "maxTokens": 10 }),
        json!({ "best_of": 5 }),
        json!({ "candidateCount": 5 }),
        json!({ "inferenceConfig": { "maxTokens": 10 } }),
    ] {
        let answer = world.chat(&key, &dear("tokens=50", fields.clone())).await;
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text());
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_nonsense_limits_never_buy_anything() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    let bad =
        ["-1", "1.5", "\"100\"", "true", "[100]", "{}", "-9223372036854775809", "1e999", "9007199254740993.5", "0"];
    for field in ["max_tokens", "max_completion_tokens", "n"] {
        for value in bad {
            let text = dear("tokens=50", json!({ field: "HERE" })).to_string().replace("\"HERE\"", value);
            let request = Request::post("/openai/v1/chat/completions", text).bearer(&key.secret);
            let answer = world.send(&request).await;
            assert!((400..500).contains(&answer.status), "{field}: {value}: {} {}", answer.status, answer.text());
        }
    }
    for (field, value) in [("n", "1000000000"), ("n", "129"), ("n", "18446744073709551616"), ("n", "9007199254740993")]
    {
        let text = dear("tokens=50", json!({ field: "HERE" })).to_string().replace("\"HERE\"", value);
        let answer = world.send(&Request::post("/openai/v1/chat/completions", text).bearer(&key.secret)).await;
        assert!((400..500).contains(&answer.status), "{field}: {value}: {} {}", answer.status, answer.text());
    }
    world.assert_books_exact().await;
    assert_eq!(world.charged().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_a_huge_limit_is_no_smaller_than_the_models() {
    let world = World::plain().await;
    for value in ["9007199254740993", "18446744073709551615", "99999999999999999999999"] {
        for mode in ["refuse", "clamp"] {
            let key = world.key(&["--daily", "0.01", "--overflow", mode]);
            let text = dear("tokens=50000", json!({ "max_tokens": "HERE" })).to_string().replace("\"HERE\"", value);
            let answer = world.send(&Request::post("/openai/v1/chat/completions", text).bearer(&key.secret)).await;
            assert!(answer.status != 200 || mode == "clamp", "{value}: {}", answer.text());
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_hidden_input_is_counted_or_refused() {
    let world = World::plain().await;
    // The whole context window of gpt-4o costs $0.32: with $0.05, whatever hides input must not get through for less than
    // it can cost.
    let part =
        |part: Value| json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }, part] }] });
    for fields in [
        json!({ "previous_response_id": "resp_1" }),
        json!({ "conversation": "conv_1" }),
        json!({ "prompt": { "id": "pmpt_1" } }),
        part(json!({ "type": "file", "file": { "file_id": "file-1" } })),
        part(
            json!({ "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQK" } }),
        ),
        part(json!({ "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } })),
        part(json!({ "type": "image_file", "file_id": "file-1" })),
        part(json!({ "type": "video_url", "video_url": { "url": "https://x.test/v.mp4" } })),
    ] {
        let key = world.key(&["--daily", "0.05", "--overflow", "refuse"]);
        let body = with(dear("tokens=20", json!({ "max_tokens": 20 })), fields.clone());
        let answer = world.chat(&key, &body).await;
        assert!(matches!(answer.status, 400 | 402), "{fields}: {} {}", answer.status, answer.text());
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_images_are_bounded_or_refused() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.05"]);
    for url in ["https://x.test/a.png", "data:image/png;base64,iVBORw0KGgo="] {
        let image = json!({ "type": "image_url", "image_url": { "url": url, "detail": "high" } });
        let content: Vec<Value> =
            std::iter::repeat_n(image, 4).chain([json!({ "type": "text", "text": "[[mock tokens=5]]" })]).collect();
        let body = json!({ "model": DEAR, "max_tokens": 20, "messages": [{ "role": "user", "content": content }] });
        let answer = world.chat(&key, &body).await;
        assert!(matches!(answer.status, 200 | 400 | 402), "{} {}", answer.status, answer.text());
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a08_tools_that_loop_inside_one_call_are_refused() {
    let world = World::plain().await;
    let key = world.rich();
    for fields in [
        json!({ "tools": [{ "type": "web_search" }] }),
        json!({ "tools": [{ "type": "web_search_preview" }] }),
        json!({ "tools": [{ "type": "code_interpreter", "container": { "type": "auto" } }] }),
        json!({ "tools": [{ "type": "file_search", "vector_store_ids": ["vs_1"] }] }),
        json!({ "tools": [{ "type": "mcp", "server_url": "https://x.test" }] }),
        json!({ "tools": [{ "type": "computer_use_preview" }] }),
        json!({ "tools": [{ "type": "image_generation" }] }),
        json!({ "tools": [{ "type": "never heard of" }] }),
        json!({ "tools": "web_search" }),
        json!({ "web_search_options": {} }),
        json!({ "context_management": { "compaction": true } }),
        json!({ "background": true }),
    ] {
        let answer = world.chat(&key, &with(ask("tokens=5"), fields.clone())).await;
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text());
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a08_function_tools_are_bounded_like_text() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.5"]);
    let tool = json!({ "type": "function", "function": { "name": "look_up", "description": "Looks things up.",
        "parameters": { "type": "object", "properties": { "what": { "type": "string", "enum": ["a", "b"] } } } } });
    for stream in [false, true] {
        let fields = json!({ "tools": [tool.clone()], "stream": stream, "tool_choice": "auto" });
        let answer = world.chat(&key, &with(ask("tokens=30;tool_call=1"), fields)).await.expect(200);
        assert_eq!(finish_reason(&answer), "tool_calls");
        assert!(answer.text().contains("look_up"));
        // The mock provider does not bill the JSON around its tool arguments, and so reports fewer tokens than it streams.
        world.assert_books_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_the_service_tier_is_forced() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.5"]);
    world.chat(&key, &ask_model("gpt-5.5", "tokens=9")).await.expect(200);
    assert_eq!(world.last_body().await["service_tier"], "default", "also when the client says nothing");
    for tier in ["auto", "default", "priority", "fast", "flex", "scale", "ultrafast"] {
        let posts = world.invoice().await.posts;
        let body = with(ask_model("gpt-5.5", "tokens=9"), json!({ "service_tier": tier }));
        let answer = world.chat(&key, &body).await;
        if answer.status == 200 {
            let sent = world.last_body().await["service_tier"].clone();
            // Flex is never dearer than default, so a client may save.
            assert!(sent == "default" || (tier == "flex" && sent == "flex"), "{tier}: {sent}");
        } else {
            assert_eq!(answer.status, 400, "{tier}: {}", answer.text());
            assert_eq!(world.invoice().await.posts, posts, "{tier}");
        }
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_a_dearer_tier_in_the_answer_is_charged() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "10"]);
    for (model, script) in [
        ("gpt-5.5", "tokens=30;tier=priority"),
        ("gpt-6-sol", "tokens=30;tier=priority"),
        ("gpt-5.5", "tokens=9;tier=flex"),
    ] {
        for stream in [false, true] {
            world.chat(&key, &with(ask_model(model, script), json!({ "stream": stream }))).await.expect(200);
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_cache_writes_and_long_context_are_held_for() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "50"]);
    // 6,000 and 300,000 tokens by the mock provider's count: implicit cache writes, then the long-context rates.
    for words in [6_000, 300_000] {
        let text = "one two ".repeat(words / 2) + "[[mock tokens=40]]";
        let body = json!({ "model": "gpt-6-sol", "max_completion_tokens": 100, "messages": [{ "role": "user", "content": text }] });
        let answer = world.chat(&key, &body).await.expect(200);
        let held = json::nano(&json!(answer.header("x-loopers-held-usd").expect("the hold")));
        let cost = json::nano(&json!(answer.header("x-loopers-cost-usd").expect("the cost")));
        assert!(cost <= held, "cost {cost} > held {held}");
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_audio_and_prediction_are_bounded_or_refused() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.05"]);
    for fields in [
        json!({ "modalities": ["text", "audio"], "audio": { "voice": "alloy", "format": "wav" } }),
        json!({ "prediction": { "type": "content", "content": "some ".repeat(200) } }),
        json!({ "reasoning": { "mode": "pro" } }),
    ] {
        let posts = world.invoice().await.posts;
        let answer = world.chat(&key, &with(ask("tokens=5"), fields.clone())).await;
        assert!(answer.status == 200 || world.invoice().await.posts == posts, "{fields}: {}", answer.text());
        assert!(matches!(answer.status, 200 | 400 | 402), "{fields}: {} {}", answer.status, answer.text());
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_unknown_fields_cannot_override_what_was_priced() {
    let world = World::plain().await;
    let key = world.rich();
    for fields in [
        json!({ "extra_body": { "max_tokens": 100_000 } }),
        json!({ "additionalModelRequestFields": { "max_tokens": 100_000 } }),
        json!({ "generation_config": { "max_output_tokens": 100_000 } }),
        json!({ "a_field_of_next_year": 1 }),
    ] {
        let answer = world.chat(&key, &with(ask("tokens=5"), fields.clone())).await;
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text());
        assert!(!answer.loopers()["hint"].as_str().unwrap_or_default().is_empty(), "a hint: {}", answer.text());
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_no_text_makes_more_tokens_than_were_held_for() {
    let world = World::plain().await;
    for text in [
        "漢字かな交じり".repeat(400),
        "🦀👩‍👩‍👧‍👦".repeat(300),
        "\u{fdfa}".repeat(500),
        "\u{3316}".repeat(500),
        "\u{0}\u{7f}\"\\".repeat(300),
    ] {
        let key = world.key(&["--daily", "0.5"]);
        let body = json!({ "model": json::CHAT, "max_tokens": 20,
            "messages": [{ "role": "user", "content": text + "[[mock tokens=10]]" }] });
        let answer = world.chat(&key, &body).await.expect(200);
        assert!(answer.complete);
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_embeddings_count_token_ids_and_every_input() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.5"]);
    let inputs = [
        json!("some text to embed"),
        json!(["one", "two", "three three three"]),
        json!((1..3000).collect::<Vec<u32>>()),
        json!([(1..500).collect::<Vec<u32>>(), (1..700).collect::<Vec<u32>>()]),
        json!("漢字".repeat(300)),
    ];
    for input in inputs {
        let body = json!({ "model": "text-embedding-3-small", "input": input, "encoding_format": "base64" });
        let request = Request::post("/openai/v1/embeddings", body.to_string()).bearer(&key.secret);
        let answer = world.send(&request).await.expect(200);
        assert!(answer.json()["usage"]["prompt_tokens"].as_u64().is_some_and(|n| n > 0));
        world.assert_books_exact().await;
    }
    // 9,000 ids cost $0.00018: nothing of that fits into a tenth of a cent's hundredth part.
    let poor = world.key(&["--daily", "0.00001"]);
    let body = json!({ "model": "text-embedding-3-small", "input": (1..8000).collect::<Vec<u32>>() });
    let posts = world.invoice().await.posts;
    let answer = world.send(&Request::post("/openai/v1/embeddings", body.to_string()).bearer(&poor.secret)).await;
    answer.refused(402, "budget_exceeded");
    assert_eq!(world.invoice().await.posts, posts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_unknown_models_are_refused_with_the_line_to_add() {
    let world = World::plain().await;
    let key = world.rich();
    for model in [
        "gpt-9-ultra",
        "GPT-4O",
        " gpt-4o",
        "gpt-4o ",
        "openai/gpt-4o",
        "ft:gpt-4o:me::1",
        "../gpt-4o",
        "gpt-4o\u{0}",
        "claude-opus-5",
    ] {
        let answer = world.chat(&key, &ask_model(model, "tokens=5")).await;
        // What cannot even be a name is malformed; every other one is unknown.
        assert!(matches!(answer.status, 400 | 422), "{model:?}: {} {}", answer.status, answer.text());
        assert!(
            matches!(answer.code().as_str(), "invalid_request" | "unknown_model" | "unpriced_model"),
            "{model:?}: {}",
            answer.text()
        );
        let hint = answer.loopers()["hint"].as_str().unwrap_or_default().to_owned();
        assert!(!hint.is_empty(), "{model:?}: a hint: {}", answer.text());
    }
    let answer = world.chat(&key, &ask_model("gpt-9-ultra", "tokens=5")).await.refused(422, "unknown_model");
    let hint = answer.loopers()["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint.contains("gpt-9-ultra"), "the hint names the model: {hint}");
    for model in [json!(""), json!(null), json!(4), json!(["gpt-4o"]), json!({})] {
        let answer = world.chat(&key, &with(ask("tokens=5"), json!({ "model": model }))).await;
        assert!(matches!(answer.status, 400 | 422), "{model}: {} {}", answer.status, answer.text());
    }
    let mut body = ask("tokens=5");
    body.as_object_mut().expect("an object").remove("model");
    assert!(matches!(world.chat(&key, &body).await.status, 400 | 422));
    world.assert_untouched().await;
}

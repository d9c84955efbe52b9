//! `count: provider`: input that the body does not tell, or tells only by its bytes, is counted by the provider itself, free of charge,
//! and never before the key and its remaining money were checked.

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::*;

/// The same amount of money for each: it pays for what the call really has, and not for its bound.
struct Kind {
    path: &'static str,
    body: Value,
    /// What such a call is asked for its count at.
    counted_at: &'static str,
}

/// A world in which the three that can count are asked to.
fn counting() -> Builder {
    let gemini = "gemini: { base_url: \"MOCK/gemini\", key: env:OPENAI_API_KEY, count: provider }";
    let bedrock =
        "bedrock: { base_url: \"MOCK/bedrock\", key: env:OPENAI_API_KEY, region: us-east-1, count: provider }";
    World::new().provider("count", "provider").other_provider(gemini).other_provider(bedrock)
}

/// 6,000 words of 30,000 bytes. The mock counts words.
fn kinds() -> Vec<Kind> {
    let text = "word ".repeat(6_000);
    let claude = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 20, "messages": [{"role": "user", "content": text}]});
    vec![
        // No tokenizer of GPT-6 is public.
        Kind {
            path: "/openai/v1/responses",
            body: json!({"model": "gpt-6-luna", "input": text, "max_output_tokens": 20}),
            counted_at: "/v1/responses/input_tokens",
        },
        Kind {
            path: "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
            body: json!({"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"maxOutputTokens": 20}}),
            counted_at: "/gemini/v1beta/models/gemini-2.5-flash:countTokens",
        },
        Kind {
            path: "/bedrock/model/amazon.nova-micro-v1%3A0/converse",
            body: json!({"messages": [{"role": "user", "content": [{"text": text}]}], "inferenceConfig": {"maxTokens": 20}}),
            counted_at: "/bedrock/model/amazon.nova-micro-v1%3A0/count-tokens",
        },
        Kind {
            path: "/bedrock/model/us.anthropic.claude-haiku-5-5/invoke",
            body: claude,
            counted_at: "/bedrock/model/us.anthropic.claude-haiku-5-5/count-tokens",
        },
    ]
}

/// USD for 10,000 input tokens and the output: more than the call has, less than its 30,000 bytes.
fn enough(kind: &Kind) -> &'static str {
    match kind.path {
        // A write to the cache is 0.125 USD a million tokens.
        path if path.contains("responses") => "0.0013",
        path if path.contains("gemini") => "0.0031",
        path if path.contains("nova") => "0.00036",
        _ => "0.0013",
    }
}

fn request(kind: &Kind, key: &Key) -> Request {
    Request::post(kind.path, kind.body.to_string()).bearer(&key.secret)
}

/// Bedrock says 403 where the others say 402.
#[track_caller]
fn assert_refused(answer: &Answer, code: &str) {
    assert!(matches!(answer.status, 402 | 403) && answer.text().contains(code), "{}: {}", answer.status, answer.text());
}

async fn paths_seen(world: &World) -> Vec<String> {
    world.seen().await.iter().filter_map(|request| request["path"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a14_the_providers_own_count_admits_what_the_bytes_do_not() {
    let world = counting().start().await;
    for overflow in ["refuse", "clamp"] {
        for kind in kinds() {
            world.reset_mock().await;
            world.forget_keys();
            let key = world.key(&["--daily", enough(&kind), "--overflow", overflow]);
            let answer = world.send(&request(&kind, &key)).await;
            assert_eq!(answer.status, 200, "{} {overflow}: {}", kind.path, answer.text());
            assert!(answer.header("x-loopers-max-tokens").is_none(), "{}: clamped without need", kind.path);
            let seen = world.seen().await;
            assert_eq!(seen.len(), 2, "{}: {:?}", kind.path, paths_seen(&world).await);
            assert_eq!(seen[0]["path"], kind.counted_at, "{}", kind.path);
            let asked = seen[0].to_string();
            assert!(!asked.contains("lp-") && asked.to_lowercase().matches("x-loopers").count() == 0, "{asked:.900}");
            world.assert_books_exact().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_nothing_is_counted_for_a_key_without_money_or_with_plenty() {
    let world = counting().start().await;
    for kind in kinds() {
        // Not even one token of input and the output fit.
        let poor = world.key(&["--daily", "0.000000001"]);
        assert_refused(&world.send(&request(&kind, &poor)).await, "\"budget_exceeded");
        // The day has enough, the session has not.
        let run = ["--daily", "9", "--session-budget", "0.000000001"];
        let answer = world.send(&request(&kind, &world.key(&run)).header("x-loopers-session-id", "s")).await;
        assert_refused(&answer, "session_budget_exceeded");
    }
    world.assert_untouched().await;
    for kind in kinds() {
        world.send(&request(&kind, &world.rich())).await.expect(200);
    }
    assert!(!paths_seen(&world).await.iter().any(|path| path.contains("oken")), "counted without need");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b17_a_count_that_is_too_much_refuses_the_call_and_keeps_no_money() {
    let world = counting().start().await;
    for kind in kinds() {
        world.reset_mock().await;
        world.forget_keys();
        // A tenth of what the input costs.
        let usd = format!("{:.9}", enough(&kind).parse::<f64>().expect("a number") / 10.0);
        let key = world.key(&["--daily", &usd]);
        assert_refused(&world.send(&request(&kind, &key)).await, "\"budget_exceeded");
        assert_eq!(paths_seen(&world).await, [kind.counted_at], "only a count went out");
        world.assert_books_exact().await;
        assert_eq!(world.charged().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_hidden_input_is_counted_and_what_may_change_is_not() {
    let world = World::new().provider("count", "provider").start().await;
    let rich = world.rich();
    let first = json!({"model": "gpt-4o-mini", "input": "word ".repeat(500), "max_output_tokens": 50});
    let send = |body: Value, key: &Key| Request::post("/openai/v1/responses", body.to_string()).bearer(&key.secret);
    let id = world.send(&send(first, &rich)).await.expect(200).json()["id"].as_str().expect("an id").to_owned();
    let next = json!({"model": "gpt-4o-mini", "input": "and now?", "max_output_tokens": 50});
    let continued = with(next.clone(), json!({"previous_response_id": id}));
    // The window of 128,000 tokens costs 0.0192 USD; some 600 tokens and the output are 0.00012 USD.
    let small = world.key(&["--daily", "0.001", "--overflow", "refuse"]);
    let answer = world.send(&send(continued, &small)).await.expect(200);
    let held = json::nano(&json!(answer.header("x-loopers-held-usd").expect("the hold")));
    assert!(held <= 1_000_000, "{held}");
    world.assert_books_exact().await;
    // What is fetched from an address, or grows with other calls, may be another input when the call is made.
    let counts = paths_seen(&world).await.len();
    let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "https://x.test/a.png"}]}]);
    for fields in [json!({"conversation": "conv_1"}), json!({"input": image})] {
        let key = world.key(&["--daily", "0.001", "--overflow", "refuse"]);
        world.send(&send(with(next.clone(), fields), &key)).await.refused(402, "budget_exceeded");
    }
    assert_eq!(paths_seen(&world).await.len(), counts, "not even a count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_fails_leaves_the_bound_as_it_was() {
    // Nobody answers at the provider's address.
    let nobody = process::local(process::free_port());
    let world = World::new().provider("count", "provider").upstream(nobody).start().await;
    let kind = &kinds()[0];
    let key = world.key(&["--daily", enough(kind), "--overflow", "refuse"]);
    world.send(&request(kind, &key)).await.refused(402, "budget_exceeded");
    assert_eq!(world.books(&key).await.spent, 0);
    world.settled().await;
}

#[test]
fn only_providers_whose_count_is_the_bill_are_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("loopers.yaml");
    for (provider, is_fine) in [
        ("openai: { count: provider }", true),
        ("gemini: { count: provider }", true),
        ("bedrock: { base_url: \"http://127.0.0.1:1\", region: us-east-1, count: provider }", true),
        ("anthropic: { count: provider }", false),
        ("mistral: { count: provider }", false),
        ("groq: { api: openai, base_url: \"http://127.0.0.1:1\", count: provider }", false),
        ("openai: { count: bytes }", false),
    ] {
        let text = format!("ledger: \"memory:\"\nproviders:\n  {provider}\n");
        std::fs::write(&config, text).expect("written");
        let mut check = std::process::Command::new(process::LOOPERS);
        let done = check.args(["check", "--config"]).arg(&config).output().expect("the command runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert_eq!(said.contains(".count: "), !is_fine, "{provider}: {said}");
    }
}

//! Request body → bound: what is admitted is bounded, and what is forwarded is what was bounded.

use bytes::Bytes;
use http::Method;
use loopers::money::Money;
use loopers::pricing::PriceTable;
use loopers::provider::openai::OpenAi;
use loopers::provider::{Call, Provider, Reading, Reject, Request};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::texts::{Damage, damaged, damages, text};
use super::{Check, fuzz};

const CHAT: &str = "/v1/chat/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const CODES: [&str; 5] =
    ["invalid_request", "ambiguous_request", "unpriceable_request", "unknown_model", "unpriced_model"];

#[test]
fn request_body_to_bound() {
    let prices = PriceTable::builtin().unwrap();
    let input = (chat_body(&prices), damages(), any::<u64>(), 1..100_000u64);
    fuzz("request_body_to_bound", 100, input, |(body, damages, money, limit)| {
        check_request(&prices, CHAT, body, damages, *money, *limit)
    });
}

#[test]
fn embeddings_body_to_bound() {
    let prices = PriceTable::builtin().unwrap();
    let input = (embeddings_body(), damages(), any::<u64>());
    fuzz("embeddings_body_to_bound", 100, input, |(body, damages, money)| {
        check_request(&prices, EMBEDDINGS, body, damages, *money, 1)
    });
}

// === What must hold ===

fn check_request(
    prices: &PriceTable,
    path: &str,
    body: &Value,
    damages: &[Damage],
    money: u64,
    limit: u64,
) -> Result<bool, TestCaseError> {
    let bytes = Bytes::from(damaged(body.to_string().as_bytes(), damages));
    match read(prices, path, bytes.clone()) {
        Err(reject) => {
            prop_assert!(CODES.contains(&reject.code), "the code {}", reject.code);
            prop_assert!(!reject.message.is_empty() && !reject.hint.is_empty(), "{reject:?}");
            Ok(false)
        }
        Ok(call) => {
            check_bound(&call, Money::from_nano(money >> (money % 64)))?;
            check_forwarded(prices, path, &call, bytes.len(), limit)?;
            Ok(true)
        }
    }
}

fn read(prices: &PriceTable, path: &str, body: Bytes) -> Result<Call, Reject> {
    let route = OpenAi.route(&Method::POST, path, None).expect("the route exists");
    OpenAi.read(Request::plain(route, path, body), &Reading::plain("openai", prices))
}

fn check_bound(call: &Call, money: Money) -> Check {
    prop_assert!(call.samples >= 1 && call.input_max >= 1, "samples {}, input_max {}", call.samples, call.input_max);
    prop_assert!(call.output_min <= 16.min(call.output_max), "output_min {} of {}", call.output_min, call.output_max);
    let exact = call.body.exact_input();
    prop_assert!(exact.is_none_or(|exact| exact <= call.input_max), "exact {exact:?} above {}", call.input_max);
    let input = exact.unwrap_or(call.input_max);
    prop_assert!(call.bound(input, call.output_max) <= call.bound(call.input_max, call.output_max), "exact is dearer");
    if let Some(output) = call.output_within(input, money) {
        prop_assert!(call.bound(input, output) <= money, "{output} tokens cost more than {money:?}");
        let more = output + 1;
        prop_assert!(
            output == call.output_max || call.bound(input, more) > money || call.output_max == 0,
            "{more} tokens would be paid for too"
        );
    } else {
        prop_assert!(call.bound(input, 0) > money, "the input alone fits");
    }
    Ok(())
}

/// What goes out is JSON that reads as the same call, no dearer, with the limit that was set and the tier that was priced. Fields that
/// the gateway itself adds (tier, stream options, limit) are not prompt; they may count for their bytes when it is read again.
fn check_forwarded(prices: &PriceTable, path: &str, call: &Call, came: usize, limit: u64) -> Check {
    // A clamp only ever lowers what was asked for.
    let lower = limit.min(call.output_max);
    for limit in [None, Some(lower).filter(|_| path == CHAT)] {
        let body = call.body.render(limit);
        let value: Value = serde_json::from_slice(&body)
            .map_err(|error| TestCaseError::fail(format!("forwarded, but not JSON: {error}: {body:?}")))?;
        prop_assert!(matches!(value.get("service_tier").and_then(Value::as_str), None | Some("default")), "{value}");
        if call.stream {
            prop_assert_eq!(&value["stream_options"]["include_usage"], &json!(true));
        }
        check_texts(call, &value)?;
        let added = body.len().saturating_sub(came) as u64;
        let again = read(prices, path, body).map_err(|reject| {
            TestCaseError::fail(format!("what is forwarded would be refused: {reject:?}: {value}"))
        })?;
        prop_assert_eq!(&again.model, &call.model);
        prop_assert_eq!((again.stream, again.samples), (call.stream, call.samples));
        prop_assert!(
            again.input_max <= call.input_max + added,
            "input grew from {} to {}: {value}",
            call.input_max,
            again.input_max
        );
        let output_max = limit.unwrap_or(call.output_max).min(call.output_max);
        prop_assert!(again.output_max <= output_max, "output {} above {output_max}: {value}", again.output_max);
    }
    Ok(())
}

/// An oracle of its own: the public tokenizer over every text of the messages, which the bound must not be below.
fn check_texts(call: &Call, value: &Value) -> Check {
    let mut texts = Vec::new();
    for message in value["messages"].as_array().into_iter().flatten() {
        match &message["content"] {
            Value::String(text) => texts.push(text.as_str()),
            Value::Array(parts) => texts.extend(parts.iter().filter_map(|part| part["text"].as_str())),
            _ => {}
        }
    }
    let tokens: usize = texts.iter().map(|text| bpe_openai::o200k_base().count(*text)).sum();
    let bound = call.body.exact_input().unwrap_or(call.input_max).min(call.input_max);
    let public = !call.model.starts_with("gpt-6");
    prop_assert!(!public || tokens as u64 <= bound, "{tokens} tokens of text, bound {bound}: {value}");
    Ok(())
}

// === What comes in ===

fn chat_body(prices: &PriceTable) -> impl Strategy<Value = Value> + use<> {
    let known: Vec<String> = prices
        .iter()
        .filter(|row| !row.embedding)
        .filter_map(|row| row.id.strip_prefix("openai/").map(str::to_string))
        .collect();
    let model = prop_oneof![
        9 => proptest::sample::select(known),
        1 => prop_oneof![Just("gpt-99"), Just("text-embedding-3-small"), Just(""), Just("GPT-4o")].prop_map(String::from),
    ];
    let fields = vec((known_field(), any::<bool>()), 0..5);
    (model, vec(message(), 1..5), fields, option::weighted(0.05, json_value())).prop_map(
        |(model, messages, fields, odd)| {
            let mut body = Map::new();
            body.insert("model".into(), model.into());
            body.insert("messages".into(), messages.into());
            for ((name, value), _) in fields {
                body.insert(name, value);
            }
            if let Some(value) = odd {
                body.insert("surprise".into(), value);
            }
            Value::Object(body)
        },
    )
}

fn message() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        6 => text().prop_map(|text| json!({"type": "text", "text": text})),
        1 => Just(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}})),
        1 => json_value(),
    ];
    let content = prop_oneof![
        6 => text().prop_map(Value::from),
        2 => vec(part, 1..4).prop_map(Value::from),
        1 => json_value(),
    ];
    let role = prop_oneof![6 => Just("user"), 2 => Just("system"), 2 => Just("assistant"), 1 => Just("developer"), 1 => Just("king")];
    (role, content, option::weighted(0.1, "[a-z]{1,8}")).prop_map(|(role, content, name)| {
        let mut message = json!({"role": role, "content": content});
        if let Some(name) = name {
            message["name"] = name.into();
        }
        message
    })
}

/// A field of the API, with a value that fits or one that does not.
fn known_field() -> impl Strategy<Value = (String, Value)> {
    let number = prop_oneof![
        8 => (1..5000u64).prop_map(Value::from),
        1 => prop_oneof![Just(json!(0)), Just(json!(-1)), Just(json!(1.5)), Just(json!(u64::MAX)), Just(json!("9")), Just(json!(null))],
    ];
    let limit = prop_oneof![Just("max_tokens"), Just("max_completion_tokens")];
    let tool = (text(), json_value()).prop_map(|(text, schema)| {
        json!({"type": "function", "function": {"name": "f", "description": text, "parameters": {"type": "object", "properties": {"x": schema}}}})
    });
    let plain = prop_oneof![
        Just(("stream", json!(true))),
        Just(("stream", json!(false))),
        Just(("stream_options", json!({"include_usage": true}))),
        Just(("stream_options", json!({"include_usage": false, "include_obfuscation": true}))),
        Just(("temperature", json!(0.5))),
        Just(("stop", json!(["x", "y"]))),
        Just(("logprobs", json!(true))),
        Just(("service_tier", json!("auto"))),
        Just(("service_tier", json!("priority"))),
        Just(("response_format", json!({"type": "json_object"}))),
        Just(("seed", json!(7))),
        Just(("store", json!(true))),
        Just(("modalities", json!(["text", "audio"]))),
        Just(("web_search_options", json!({}))),
    ];
    prop_oneof![
        4 => (limit, number.clone()).prop_map(|(name, value)| (name.to_string(), value)),
        2 => prop_oneof![8 => (1..9u64).prop_map(Value::from), 1 => number].prop_map(|value| ("n".to_string(), value)),
        6 => plain.prop_map(|(name, value)| (name.to_string(), value)),
        2 => vec(tool, 1..3).prop_map(|tools| ("tools".to_string(), tools.into())),
        1 => text().prop_map(|text| ("prediction".to_string(), json!({"type": "content", "content": text}))),
        1 => (prop_oneof![Just("stop"), Just("user"), Just("metadata"), Just("logit_bias")], json_value())
            .prop_map(|(name, value)| (name.to_string(), value)),
    ]
}

fn embeddings_body() -> impl Strategy<Value = Value> {
    let input = prop_oneof![
        text().prop_map(Value::from),
        vec(text(), 1..6).prop_map(Value::from),
        vec(0..200_000u64, 1..50).prop_map(Value::from),
        vec(vec(0..200_000u64, 1..20), 1..4).prop_map(Value::from),
        json_value(),
    ];
    let model =
        prop_oneof![5 => Just("text-embedding-3-small"), 2 => Just("text-embedding-3-large"), 1 => Just("gpt-4o")];
    (model, input, option::weighted(0.2, 1..3000u64)).prop_map(|(model, input, dimensions)| {
        let mut body = json!({"model": model, "input": input});
        if let Some(dimensions) = dimensions {
            body["dimensions"] = dimensions.into();
        }
        body
    })
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000..1000i32).prop_map(|number| json!(f64::from(number) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z$_]{1,6}", inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

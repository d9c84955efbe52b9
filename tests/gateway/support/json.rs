//! Request bodies, and what is read out of answers.

use serde_json::{Value, json};

use super::{Answer, Books};

/// A model that streams all that it bills.
pub const CHAT: &str = "gpt-4o-mini";

/// A chat request to the ordinary model; `script` tells the mock provider what to do.
pub fn ask(script: &str) -> Value {
    ask_model(CHAT, script)
}

pub fn ask_model(model: &str, script: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": format!("Say something. [[mock {script}]]") }] })
}

/// The same, streamed.
pub fn streamed(script: &str) -> Value {
    with(ask(script), json!({ "stream": true }))
}

pub fn embed(text: &str) -> Value {
    json!({ "model": "text-embedding-3-small", "input": text })
}

/// The object with the fields of another one laid over it.
pub fn with(mut base: Value, fields: Value) -> Value {
    let (Some(base_map), Value::Object(fields)) = (base.as_object_mut(), fields) else { panic!("two objects") };
    base_map.extend(fields);
    base
}

/// What a completion said, streamed or not (first choice).
pub fn content(answer: &Answer) -> String {
    if answer.header("content-type").is_some_and(|v| v.starts_with("text/event-stream")) {
        let deltas = answer.events();
        let texts = deltas.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
        texts
            .filter(|event| event["choices"][0]["index"] == 0)
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    } else {
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }
}

/// How many tokens of the mock provider a text has: each is one word with a space before it.
pub fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// The reason for which the first choice ended.
pub fn finish_reason(answer: &Answer) -> String {
    let events = if answer.body.starts_with(b"{") { vec![answer.text()] } else { answer.events() };
    let values = events.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
    values
        .filter_map(|event| event["choices"][0]["finish_reason"].as_str().map(str::to_owned))
        .next_back()
        .unwrap_or_default()
}

/// Asserts that a stream was cut as the contract says: a well-formed end, last an error event, no `[DONE]`.
#[track_caller]
pub fn assert_cut(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.complete, "a cut stream must end cleanly: …{}", tail(answer));
    let events = answer.events();
    let last: Value = events.last().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
    assert!(last["error"]["message"].is_string(), "the last event is no error: …{}", tail(answer));
    assert!(!events.iter().any(|data| data == "[DONE]"), "a cut stream must not look finished: …{}", tail(answer));
}

/// Asserts that a stream came to its natural end.
#[track_caller]
pub fn assert_finished(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.complete, "broken off: …{}", tail(answer));
    assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"), "…{}", tail(answer));
}

fn tail(answer: &Answer) -> String {
    let text = answer.text();
    text.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect()
}

/// A decimal amount of dollars in nano-dollars, exactly.
pub fn nano(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("an amount is a decimal string, not {value}"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 9, "more than nine decimals: {text}");
    let parse = |digits: &str| digits.parse::<u64>().unwrap_or_else(|_| panic!("not an amount: {text}"));
    parse(whole) * 1_000_000_000 + parse(&format!("{fraction:0<9}"))
}

/// Nano-dollars as the command line takes them.
pub fn usd(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

/// One window of a budget.
pub fn read_window(window: &Value) -> Books {
    let limit = &window["limit_usd"];
    Books {
        spent: nano(&window["spent_usd"]),
        held: nano(&window["held_usd"]),
        limit: (!limit.is_null()).then(|| nano(limit)),
    }
}

/// The window of that level, in whatever wraps the list of levels.
pub fn find_window(view: &Value, level: &str, window: &str) -> Option<Books> {
    match view {
        Value::Object(fields) => {
            if let (Some(Value::String(l)), Some(Value::Array(windows))) = (fields.get("level"), fields.get("windows"))
            {
                return (l == level).then(|| windows.iter().find(|w| w["window"] == window)).flatten().map(read_window);
            }
            fields.values().find_map(|value| find_window(value, level, window))
        }
        Value::Array(items) => items.iter().find_map(|value| find_window(value, level, window)),
        _ => None,
    }
}

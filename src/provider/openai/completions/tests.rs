//! Legacy completions: what is priced, forced and refused.

use serde_json::{Value, json};

use crate::money::Money;
use crate::provider::openai::OpenAi;
use crate::provider::openai::tests::family::ask;
use crate::provider::openai::tests::sent;
use crate::provider::{Call, Options, Reject};

fn read(fields: Value) -> Result<Call, Reject> {
    let mut body = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "Say hello."});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ask(&OpenAi, "/v1/completions", &body, &Options::default())
}

#[track_caller]
fn call(fields: Value) -> Call {
    read(fields).unwrap_or_else(|reject| panic!("{reject:?}"))
}

#[track_caller]
fn refused(fields: Value) -> &'static str {
    read(fields.clone()).err().unwrap_or_else(|| panic!("{fields} was taken")).code
}

#[test]
fn b4_the_limit_is_sixteen_unless_named() {
    let absent = call(json!({}));
    assert_eq!((absent.output_max, absent.output_min), (16, 16));
    // Sent in words, so that nobody's default counts.
    assert_eq!(sent(&absent, None)["max_tokens"], 16);
    assert_eq!(sent(&call(json!({"max_tokens": null})), None)["max_tokens"], 16);
    let own = call(json!({"max_tokens": 500}));
    assert_eq!((own.output_max, own.output_min), (500, 16));
    assert_eq!(
        (sent(&own, None)["max_tokens"].as_u64(), sent(&own, Some(60))["max_tokens"].as_u64()),
        (Some(500), Some(60))
    );
    // None at all: log probabilities of the prompt.
    let none = call(json!({"max_tokens": 0}));
    assert_eq!((none.output_max, none.output_min), (0, 0));
    for bad in [json!(-1), json!(1.5), json!("9")] {
        assert_eq!(refused(json!({"max_tokens": bad})), "invalid_request");
    }
    for other in ["max_completion_tokens", "max_output_tokens", "service_tier"] {
        assert_eq!(refused(json!({other: 9})), "unpriceable_request");
    }
}

#[test]
fn b4_n_and_best_of_multiply_the_output_of_every_prompt() {
    for (fields, samples) in [
        (json!({}), 1),
        (json!({"n": 3}), 3),
        (json!({"best_of": 5}), 5),
        (json!({"n": 3, "best_of": 5}), 5),
        (json!({"n": 3, "best_of": 5, "prompt": ["a", "b"]}), 10),
        (json!({"prompt": ["a", "b", "c"]}), 3),
        (json!({"prompt": [1, 2, 3]}), 1),
        (json!({"prompt": [[1, 2], [3]]}), 2),
    ] {
        assert_eq!(call(fields.clone()).samples, samples, "{fields}");
    }
    // 16 tokens each of ten samples at 2 USD a million.
    let ten = call(json!({"n": 3, "best_of": 5, "prompt": ["a", "b"]}));
    let output = ten.bound(100, 16).saturating_sub(ten.bound(100, 0));
    assert_eq!(output, Money::from_nano(10 * 16 * 2_000));
    assert_eq!(refused(json!({"n": 3, "best_of": 2})), "invalid_request");
    for bad in [json!(0), json!(129), json!("1"), json!(1.5)] {
        assert_eq!(refused(json!({"best_of": bad})), "invalid_request");
        assert_eq!(refused(json!({"n": bad})), "invalid_request");
    }
    // Samples that were not the best are not seen.
    assert!(call(json!({"stream": true})).cuttable && !call(json!({"stream": true, "best_of": 2})).cuttable);
}

#[test]
fn b4_echo_is_held_for_and_not_within_the_limit() {
    let echo = call(json!({"echo": true, "max_tokens": 10, "stream": true}));
    assert!(echo.body.repeats_prompt() && !echo.cuttable);
    assert_eq!((echo.output_max, echo.output_min), (10 + echo.input_max, 10 + echo.input_max));
    assert_eq!(sent(&echo, Some(echo.output_max))["max_tokens"], 10);
    let more = call(json!({"echo": true, "max_tokens": 100}));
    assert_eq!(sent(&more, Some(more.output_min))["max_tokens"], 16);
    assert!(!call(json!({"echo": false})).body.repeats_prompt());
    assert_eq!(refused(json!({"echo": 1})), "invalid_request");
}

#[test]
fn b4_prompts_are_bounded_in_every_form() {
    let text = call(json!({"prompt": "Hello, world!"}));
    // cl100k: 4 tokens, 16 around the prompt, 16 around the request.
    assert_eq!(text.body.exact_input(), Some(4 + 16 + 16));
    assert!(text.input_max > 1024 + 13);
    // Ids count one by one, not by their digits.
    let ids = call(json!({"prompt": [100_000, 100_001, 100_002]}));
    assert_eq!(ids.body.exact_input(), Some(3 + 16 + 16));
    assert_eq!(call(json!({"prompt": [[1, 2], [3]]})).body.exact_input(), Some(3 + 2 * 16 + 16));
    // A suffix stands in each prompt.
    let suffix = call(json!({"prompt": ["a", "b"], "suffix": "Hello, world!"}));
    assert_eq!(suffix.body.exact_input(), Some(2 * (1 + 16) + 2 * 4 + 16));
    let long = call(json!({"prompt": ["a", "b"], "suffix": "x".repeat(3000)}));
    assert_eq!(long.input_max, 2 * 4096);
    for bad in [
        json!(7),
        json!({}),
        json!([]),
        json!([1, "a"]),
        json!([[1], "a"]),
        json!([1.5]),
        json!([-1]),
        json!(vec!["a"; 2049]),
    ] {
        assert_eq!(refused(json!({"prompt": bad})), "invalid_request", "{bad}");
    }
    assert_eq!(refused(json!({"suffix": 7})), "invalid_request");
    assert_eq!(refused(json!({"model": "text-embedding-3-small"})), "invalid_request");
}

#[test]
fn streams_are_asked_for_usage() {
    let silent = call(json!({"stream": true}));
    assert!(!silent.shows_usage);
    assert_eq!(sent(&silent, None)["stream_options"], json!({"include_usage": true}));
    assert!(call(json!({"stream": true, "stream_options": {"include_usage": true}})).shows_usage);
    assert!(call(json!({})).shows_usage);
    call(json!({"logprobs": 5, "stop": ["x"], "seed": 1, "logit_bias": {"1": 1}, "user": "u"}));
    assert_eq!(refused(json!({"best_off": 2})), "unpriceable_request");
}

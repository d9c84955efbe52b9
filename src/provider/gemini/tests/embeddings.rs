//! Embeddings: one text, many, media.

use super::*;

fn read(model: &str, verb: &str, body: Value) -> Result<Call, Reject> {
    read_with(&path(model, verb), None, &body.to_string(), &Options::default())
}

fn one(text: &str) -> Value {
    json!({"content": {"parts": [{"text": text}]}})
}

#[test]
fn a_text_is_bounded_by_its_bytes() {
    let call = read("gemini-embedding-001", "embedContent", one(&"a".repeat(1_000))).unwrap();
    assert!((1_000..1_100).contains(&call.input_max), "{}", call.input_max);
    assert_eq!((call.output_max, call.output_min, call.samples, call.stream), (0, 0, 1, false));
    // Whether the provider bills what it cuts off is not documented.
    assert!(read("gemini-embedding-001", "embedContent", one(&"a".repeat(9_000))).unwrap().input_max >= 9_000);
    assert!(read("gemini-embedding-001", "embedContent", one(&"\u{fdfa}".repeat(100))).unwrap().input_max >= 3_300);
}

#[test]
fn a_batch_is_the_sum() {
    let requests = |n: usize| {
        let request = json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a".repeat(100)}]}, "taskType": "RETRIEVAL_QUERY"});
        json!({"requests": vec![request; n]})
    };
    let bound = |n: usize| read("gemini-embedding-001", "batchEmbedContents", requests(n)).unwrap().input_max;
    assert_eq!(bound(100), 100 * bound(1));
    let other = json!({"requests": [{"model": "models/gemini-embedding-2", "content": {"parts": [{"text": "a"}]}}]});
    assert_eq!(read("gemini-embedding-001", "batchEmbedContents", other).err().unwrap().code, "ambiguous_request");
}

#[test]
fn media_fills_the_window_at_its_own_rate() {
    for (mime, nano) in [("audio/wav", 6_500), ("image/png", 450), ("video/mp4", 12_000)] {
        let body = json!({"content": {"parts": [{"inlineData": {"mimeType": mime, "data": "AAAA"}}]}});
        let call = read("gemini-embedding-2", "embedContent", body).unwrap();
        assert_eq!(call.input_max, 8_192);
        assert_eq!(call.bound(call.input_max, 0), Money::from_nano(8_192 * nano), "{mime}");
    }
}

#[test]
fn what_is_no_embedding_is_refused() {
    for (model, verb, body, code) in [
        ("gemini-3.8-flash", "embedContent", one("x"), "invalid_request"),
        ("gemini-9", "embedContent", one("x"), "unknown_model"),
        ("gemini-embedding-001", "embedContent", json!({}), "invalid_request"),
        ("gemini-embedding-001", "embedContent", json!({"content": null}), "invalid_request"),
        ("gemini-embedding-001", "embedContent", json!({"content": "x"}), "invalid_request"),
        ("gemini-embedding-001", "embedContent", json!({"content": {}, "newField": 1}), "unpriceable_request"),
        (
            "gemini-embedding-001",
            "embedContent",
            json!({"content": {}, "taskType": "a", "task_type": "b"}),
            "ambiguous_request",
        ),
        ("gemini-embedding-001", "embedContent", json!({"content": {}, "model": "models/x"}), "ambiguous_request"),
        ("gemini-embedding-001", "batchEmbedContents", json!({"requests": []}), "invalid_request"),
        ("gemini-embedding-001", "batchEmbedContents", json!({}), "invalid_request"),
        ("gemini-embedding-001", "batchEmbedContents", one("x"), "unpriceable_request"),
        ("gemini-embedding-001", "embedContent", json!([]), "invalid_request"),
    ] {
        assert_eq!(read(model, verb, body.clone()).err().map(|reject| reject.code), Some(code), "{verb} {body}");
    }
    let body = r#"{"contents":{"parts":{"text":"x"}},"embedding_config":1}"#;
    assert!(read_with(&path("gemini-embedding-001", "embedContent"), None, body, &Options::default()).is_err());
}

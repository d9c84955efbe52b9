//! A 4 and 5: the gateway prices the very value that the provider will read, or refuses.

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::*;

fn post(key: &Key, body: impl Into<Vec<u8>>) -> Request {
    Request::post("/openai/v1/chat/completions", body).bearer(&key.secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_smuggled_json_is_refused() {
    let world = World::plain().await;
    let key = world.rich();
    let plain = ask("tokens=50").to_string();
    let inner = &plain[1..plain.len() - 1];
    let message = r#""messages":[{"role":"user","content":"hi"}]"#;
    let model = r#""model":"gpt-4o-mini""#;
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("duplicate limit", format!(r#"{{{inner},"max_tokens":1,"max_tokens":100000}}"#).into()),
        ("duplicate model", format!(r#"{{{inner},"model":"gpt-6-astra"}}"#).into()),
        ("duplicate by escape", format!(r#"{{{inner},"m\u006fdel":"gpt-6-astra"}}"#).into()),
        (
            "duplicate in a message",
            format!(r#"{{{model},"messages":[{{"role":"user","content":"a","content":"b"}}]}}"#).into(),
        ),
        ("duplicate n", format!(r#"{{{inner},"n":1,"n":100}}"#).into()),
        ("other case", format!(r#"{{{inner},"Max_Tokens":1}}"#).into()),
        ("other case of model", format!(r#"{{{inner},"Model":"gpt-6-astra"}}"#).into()),
        ("upper case only", format!(r#"{{"MODEL":"gpt-4o-mini",{message}}}"#).into()),
        ("camel twin", format!(r#"{{{inner},"max_tokens":5,"maxTokens":100000}}"#).into()),
        ("space in a name", format!(r#"{{{inner},"max_tokens ":1}}"#).into()),
        ("zero width in a name", format!("{{{inner},\"max_tokens\u{200b}\":1}}").into()),
        ("byte order mark", format!("\u{feff}{plain}").into()),
        ("trailing data", format!("{plain}x").into()),
        ("two documents", format!("{plain}{plain}").into()),
        ("two lines", format!("{plain}\n{plain}").into()),
        ("trailing comma", format!("{{{inner},}}").into()),
        ("NaN", format!(r#"{{{inner},"temperature":NaN}}"#).into()),
        ("Infinity", format!(r#"{{{inner},"temperature":Infinity}}"#).into()),
        ("a comment", format!("{{{inner} /* x */}}").into()),
        ("single quotes", plain.replace('"', "'").into()),
        ("a leading zero", format!(r#"{{{inner},"max_tokens":010}}"#).into()),
        ("a plus sign", format!(r#"{{{inner},"max_tokens":+10}}"#).into()),
        ("hexadecimal", format!(r#"{{{inner},"max_tokens":0x10}}"#).into()),
        ("deep arrays", format!(r#"{{{inner},"metadata":{deep}"#).into()),
        ("deep arrays, closed", format!(r#"{{{inner},"metadata":{deep}{}}}"#, "]".repeat(100_000)).into()),
        ("not UTF-8", [&b"{\"a\":\"\xff\xfe\","[..], inner.as_bytes(), b"}"].concat()),
        ("not UTF-8 in a message", [model.as_bytes(), b""].concat()),
        ("overlong UTF-8", [b"{", inner.as_bytes(), &b",\"user\":\"\xc0\xaf\"}"[..]].concat()),
        ("UTF-16", plain.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a raw control character", format!("{{{inner},\"user\":\"a\nb\"}}").into()),
        ("a NUL after it", format!("{plain}\0").into()),
        ("empty", Vec::new()),
        ("blank", b"  \n ".to_vec()),
        ("null", b"null".to_vec()),
        ("an array", format!("[{plain}]").into()),
        ("a string", Value::from(plain.clone()).to_string().into()),
        ("a number", b"5".to_vec()),
        ("cut short", plain[..plain.len() - 2].into()),
        ("form data", b"model=gpt-4o-mini&messages=hi".to_vec()),
    ];
    for (what, body) in cases {
        let answer = world.send(&post(&key, body)).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        let code = answer.code();
        assert!(
            matches!(code.as_str(), "invalid_request" | "ambiguous_request" | "unpriceable_request"),
            "{what}: {}",
            answer.text()
        );
    }
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_lone_surrogates_are_refused_or_forwarded_as_parsed() {
    let world = World::plain().await;
    let key = world.rich();
    for text in [r"\ud800", r"\udc00\ud800", r"a\ud83dz"] {
        let body = format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let answer = world.send(&post(&key, body)).await;
        assert!(matches!(answer.status, 200 | 400), "{text}: {} {}", answer.status, answer.text());
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_wrong_types_are_refused_not_guessed() {
    let world = World::plain().await;
    let key = world.rich();
    for fields in [
        json!({ "stream": "true" }),
        json!({ "stream": 1 }),
        json!({ "stream_options": "x", "stream": true }),
        json!({ "stream_options": { "include_usage": "yes" }, "stream": true }),
        json!({ "messages": "hi" }),
        json!({ "messages": [] }),
        json!({ "messages": ["hi"] }),
        json!({ "messages": {} }),
        json!({ "messages": [{ "role": "user", "content": 5 }] }),
        json!({ "tools": {} }),
    ] {
        let answer = world.chat(&key, &with(ask("tokens=5"), fields.clone())).await;
        assert!((400..500).contains(&answer.status), "{fields}: {} {}", answer.status, answer.text());
    }
    world.assert_books_exact().await;
    assert_eq!(world.charged().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_what_is_forwarded_is_what_was_parsed() {
    let world = World::plain().await;
    let key = world.rich();
    let body = " {\r\n\t\"messages\" : [ {\"content\":\"\\u0041\\n\\\"\\/ \u{e9}\u{1F980} \\ud83e\\udd80 [[mock tokens=7]]\",\
                \"role\":\"user\"} ] ,\"temperature\": 0.70, \"model\":\"gpt-4o-\\u006dini\", \"top_p\":1e0,\"seed\":12345678901234567,\
                \"stop\":[\"a\",\"b\"],\"logit_bias\":{\"50256\":-100},\"user\":\"u\",\"max_completion_tokens\":64 } \n";
    world.send(&post(&key, body)).await.expect(200);
    let mut sent = world.last_body().await;
    let mut meant: Value = serde_json::from_str(body).expect("JSON");
    for fields in [&mut sent, &mut meant] {
        fields.as_object_mut().expect("an object").remove("service_tier");
    }
    assert_eq!(sent, meant);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_compressed_bodies_are_refused() {
    let world = World::plain().await;
    let key = world.rich();
    let gzipped_nothing = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for encoding in ["gzip", "deflate", "br", "zstd", "x-gzip", "GZIP", "identity, gzip", "compress", "nonsense"] {
        for body in [gzipped_nothing.to_vec(), ask("tokens=5").to_string().into_bytes()] {
            let answer = world.send(&post(&key, body).header("content-encoding", encoding)).await;
            answer.refused(415, "unsupported_encoding");
        }
    }
    world.assert_untouched().await;
}

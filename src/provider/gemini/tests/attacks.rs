//! The attack list, lines 1–9, 11 and 12, as far as a request goes.

use std::time::Instant;

use super::*;

fn code(body: &str) -> &'static str {
    read_text("gemini-3.8-flash", body).err().map_or("taken", |reject| reject.code)
}

const CONTENTS: &str = r#""contents":[{"parts":[{"text":"x"}]}]"#;

#[test]
fn cap_01_no_limit_means_the_models_maximum() {
    for (model, max) in [("gemini-3.8-flash", 65_536), ("gemini-plain", 8_192)] {
        let call = call_of(model, json!({}));
        assert_eq!(call.body.limit_within(call.output_max), max);
        assert_eq!(sent(&call, Some(20))["generationConfig"]["maxOutputTokens"], 20);
    }
}

#[test]
fn cap_02_every_limit_and_multiplier_is_read() {
    assert_eq!(call(json!({"generationConfig": {"maxOutputTokens": 9}})).output_max, 9 + 1 + 64);
    assert_eq!(call(json!({"generationConfig": {"candidateCount": 2}})).samples, 2);
    for other in
        ["maxOutputTokens", "max_tokens", "max_output_tokens", "candidateCount", "n", "best_of", "inferenceConfig"]
    {
        assert_eq!(refused(json!({other: 9})).code, "unpriceable_request", "{other}");
    }
    for other in ["max_tokens", "maxTokens", "n", "numSamples"] {
        assert_eq!(refused(json!({"generationConfig": {other: 9}})).code, "unpriceable_request", "{other}");
    }
}

#[test]
fn cap_03_limits_that_are_no_numbers_of_tokens() {
    for bad in [
        "0",
        "-1",
        "-0",
        "1.5",
        "10.0",
        "1e3",
        "true",
        "[10]",
        "{}",
        "2147483648",
        "9007199254740993",
        "18446744073709551616",
        "\"0\"",
        "\"-1\"",
        "\"1e3\"",
        "\"10.0\"",
        "\" 10\"",
        "\"010\"",
        "\"\"",
        "\"+10\"",
        "\"2147483648\"",
        "\"\\u0030\"",
        "\"NaN\"",
        "\"Infinity\"",
    ] {
        let body = format!(r#"{{{CONTENTS},"generationConfig":{{"maxOutputTokens":{bad}}}}}"#);
        assert_eq!(code(&body), "invalid_request", "{bad}");
    }
    assert_eq!(call(json!({"generationConfig": {"maxOutputTokens": 2_147_483_647u64}})).output_max, 66_256);
    assert_eq!(call(json!({"generationConfig": {"maxOutputTokens": "77"}})).output_max, 77 + 1 + 64);
}

#[test]
fn cap_04_what_is_priced_is_what_is_read() {
    let config = |inner: &str| format!(r#"{{{CONTENTS},"generationConfig":{{{inner}}}}}"#);
    for (body, want) in [
        (format!(r#"{{{CONTENTS},"generationConfig":{{}},"generation_config":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"generationConfig":null,"generation_config":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"generationConfig":{{}},"generationConfig":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"GenerationConfig":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"generation_Config":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"generationconfig":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"generation\u0043onfig":{{}}}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"serviceTier":"standard","service_tier":"priority"}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"system_instruction":{{}},"systemInstruction":{{}}}}"#), "ambiguous_request"),
        (config(r#""maxOutputTokens":5,"max_output_tokens":50000"#), "ambiguous_request"),
        (config(r#""max_output_tokens":5,"maxOutputTokens":null"#), "ambiguous_request"),
        (config(r#""MaxOutputTokens":5"#), "ambiguous_request"),
        (config(r#""maxoutputtokens":5"#), "ambiguous_request"),
        (config(r#""max_Output_Tokens":5"#), "ambiguous_request"),
        (config(r#""maxOutput\u0054okens":5"#), "ambiguous_request"),
        (config(r#""candidate_count":1,"candidateCount":8"#), "ambiguous_request"),
        (config(r#""thinkingConfig":{"thinkingBudget":1,"thinking_budget":9}"#), "ambiguous_request"),
        (config(r#""responseModalities":["TEXT"],"response_modalities":["IMAGE"]"#), "ambiguous_request"),
        (r#"{"contents":[{"parts":[{"inlineData":{},"inline_data":{}}]}]}"#.into(), "ambiguous_request"),
        (r#"{"contents":[{"parts":[{"fileData":null,"file_data":{}}]}]}"#.into(), "ambiguous_request"),
        (r#"{"contents":[{"parts":[{"InlineData":{}}]}]}"#.into(), "ambiguous_request"),
        (
            r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","mime_type":"video/mp4"}}]}]}"#.into(),
            "ambiguous_request",
        ),
        (format!(r#"{{{CONTENTS},"tools":[{{"google_search":null,"googleSearch":{{}}}}]}}"#), "ambiguous_request"),
        (format!(r#"{{{CONTENTS},"tools":[{{"GoogleSearch":{{}}}}]}}"#), "ambiguous_request"),
        (r#"{"contents":[{"parts":[{"text":"a","text":"b"}]}]}"#.into(), "ambiguous_request"),
        (format!("\u{feff}{{{CONTENTS}}}"), "invalid_request"),
        (format!("{{{CONTENTS}}}{{}}"), "invalid_request"),
        (format!(r#"{{{CONTENTS},"labels":NaN}}"#), "invalid_request"),
        (format!(r#"{{{CONTENTS},"labels":"\ud800"}}"#), "invalid_request"),
        (format!(r#"{{{CONTENTS},"labels":{}1{}}}"#, "[".repeat(70), "]".repeat(70)), "invalid_request"),
        (format!("[{{{CONTENTS}}}]"), "invalid_request"),
        (format!(r#"{{{CONTENTS},"generationConfig":[]}}"#), "invalid_request"),
        (format!(r#"{{{CONTENTS},"generationConfig":"x"}}"#), "invalid_request"),
        (r#"{"contents":["x"]}"#.into(), "invalid_request"),
        (r#"{"contents":"x"}"#.into(), "invalid_request"),
        (r#"{"contents":[{"parts":["x"]}]}"#.into(), "invalid_request"),
        (r#"{"contents":[]}"#.into(), "invalid_request"),
        (r#"{"contents":null}"#.into(), "invalid_request"),
        ("{}".into(), "invalid_request"),
        (String::new(), "invalid_request"),
    ] {
        assert_eq!(code(&body), want, "{body}");
    }
    // What stands alone is a list of one, for the API too; the forwarded bytes stay.
    let alone = r#"{"contents":{"parts":{"te\u0078t":"x"}}}"#;
    assert_eq!(code(alone), "ambiguous_request");
    let alone = r#"{"contents":{"parts":{"text":"\u0078"}}}"#;
    let call = read_text("gemini-3.8-flash", alone).ok().unwrap();
    assert_eq!(call.body.render(None), alone.as_bytes());
}

#[test]
fn cap_04_the_body_is_read_as_the_json_that_it_is_said_to_be() {
    let route = route::GENERATE;
    for (kind, is_fine) in [
        ("application/json", true),
        ("Application/JSON; charset=UTF-8", true),
        ("application/json;charset=\"utf-8\"", true),
        ("application/json; charset=utf-16", false),
        ("application/x-protobuf", false),
        ("application/x-www-form-urlencoded", false),
        ("multipart/related", false),
        ("text/plain", false),
        ("", false),
    ] {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        let body = Bytes::from(format!("{{{CONTENTS}}}"));
        let path = path("gemini-3.8-flash", "generateContent");
        let request = Request { route, path: &path, query: None, headers: &headers, body };
        assert_eq!(Gemini.read(request, &Reading::plain("gemini", &PRICES)).is_ok(), is_fine, "{kind}");
    }
}

#[test]
fn cap_05_a_compressed_body_is_no_json() {
    let path = path("gemini-3.8-flash", "generateContent");
    let request = Request::plain(route::GENERATE, &path, Bytes::from_static(b"\x1f\x8b\x08\x00\x00\x00\x00\x00"));
    assert_eq!(Gemini.read(request, &Reading::plain("gemini", &PRICES)).err().unwrap().code, "invalid_request");
}

#[test]
fn cap_06_the_model_is_the_paths() {
    assert!(read_text("gemini-3.8-flash", &with(json!({"model": "models/gemini-3.8-flash"})).to_string()).is_ok());
    for other in [
        json!("models/gemini-3.1-pro-preview"),
        json!("gemini-3.8-flash"),
        json!("models/"),
        json!(7),
        json!("MODELS/gemini-3.8-flash"),
    ] {
        assert_eq!(refused(json!({"model": other})).code, "ambiguous_request", "{other}");
    }
}

#[test]
fn cap_07_hidden_input_is_refused_or_fills_the_window() {
    for field in ["previousInteractionId", "previousResponseId", "conversation", "fileIds", "cachedContent"] {
        assert_eq!(refused(json!({field: "x"})).code, "unpriceable_request", "{field}");
    }
    let pdf = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0"}}]}]});
    assert_eq!(call(pdf).input_max, 1_114_112);
    let system = json!({"systemInstruction": {"parts": [{"fileData": {"fileUri": "x"}}]}});
    assert_eq!(call(system).input_max, 1_114_112);
}

#[test]
fn cap_08_nothing_loops_inside_a_call_unless_the_operator_priced_it() {
    for tool in [
        "googleSearch",
        "google_search",
        "codeExecution",
        "urlContext",
        "fileSearch",
        "computerUse",
        "mcpServers",
        "googleMaps",
    ] {
        assert_eq!(refused(json!({"tools": [{tool: {}}]})).code, "unpriceable_request", "{tool}");
    }
}

#[test]
fn cap_09_no_multiplier_goes_unseen() {
    assert_eq!(refused(json!({"speed": "fast"})).code, "unpriceable_request");
    assert_eq!(refused(json!({"serviceTier": "turbo"})).code, "unpriceable_request");
    // An operator may admit a field that is not known; it is then prompt, by its bytes.
    let options = Options { allow_fields: vec!["newField".into()], ..Options::default() };
    let body = |value: &str| with(json!({"newField": value})).to_string();
    let read = |value: &str| {
        read_with(&path("gemini-3.8-flash", "generateContent"), None, &body(value), &options).unwrap().input_max
    };
    assert_eq!(read(&"x".repeat(500)), read("") + 500);
}

#[test]
fn cap_11_bytes_bound_tokens_also_of_the_normal_form() {
    let bound = |text: &str| call(json!({"contents": [{"parts": [{"text": text}]}]})).input_max;
    let empty = bound("");
    for text in [
        "a".repeat(1_000),
        "😀".repeat(100),
        "字".repeat(300),
        "é".repeat(10),
        "e\u{301}".repeat(10),
        "\u{0}\u{1}".repeat(50),
    ] {
        assert!(bound(&text) >= empty + text.len() as u64, "{text}");
    }
    // U+FDFA: 3 bytes, 33 in its normal form. The growth counts in keys and in descriptions as well.
    assert_eq!(bound(&"\u{fdfa}".repeat(100)), empty + 3_300);
    let key =
        json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": {"\u{fdfa}": {}}}}]}]});
    let plain =
        json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": {"abc": {}}}}]}]});
    assert_eq!(call(key).input_max, call(plain).input_max + 30);
    // Escapes hide nothing.
    let escaped = r#"{"contents":[{"parts":[{"text":"\ufdfa\ufdfa"}]}]}"#;
    assert!(read_text("gemini-3.8-flash", escaped).unwrap().input_max >= empty + 66);
}

#[test]
fn cap_12_a_model_without_a_price_is_refused_with_the_row_to_add() {
    let body = with(json!({})).to_string();
    let reject = read_text("gemini-9-nova", &body).err().unwrap();
    assert_eq!(reject.code, "unknown_model");
    assert!(reject.hint.contains("gemini/gemini-9-nova:\n  input: \"…\""), "{}", reject.hint);
    assert_eq!(read_text("GEMINI-3.8-FLASH", &body).err().unwrap().code, "unknown_model");
    assert_eq!(read_text("gemini-embedding-001", &body).err().unwrap().code, "invalid_request");
}

#[test]
fn cap_14_free_routes_are_free_of_model_output() {
    // Counting tokens is free, whatever the body; nothing that generates is free.
    for verb in ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents"] {
        assert!(Gemini.route(&Method::POST, &path("m", verb), None).unwrap().metered);
    }
}

#[test]
fn large_bodies_take_linear_time() {
    let start = Instant::now();
    call(json!({"contents": vec![json!({"parts": [{"text": "x"}]}); 30_000]}));
    let keys: serde_json::Map<String, Value> = (0..50_000).map(|i| (format!("k{i}"), json!(i))).collect();
    call(json!({"labels": keys.clone()}));
    assert_eq!(refused(Value::Object(keys)).code, "unpriceable_request");
    call(json!({"contents": {"parts": [{"text": "\u{fdfa}".repeat(300_000)}]}}));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

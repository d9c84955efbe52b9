//! One test for each row of the reference's list of parameters that move the bill (D4).

use super::*;
use crate::pricing::Tier;

fn config(fields: Value) -> Value {
    json!({"generationConfig": fields})
}

#[test]
fn d4_candidate_count() {
    let one = call(config(json!({"maxOutputTokens": 10})));
    let many = call(config(json!({"maxOutputTokens": 10, "candidateCount": 8})));
    assert_eq!((one.samples, many.samples), (1, 8));
    assert_eq!(call(json!({"generation_config": {"candidate_count": "3"}})).samples, 3);
    // 10 tokens, a hundredth rounded up, and 64: 75 a candidate, at 3,750 nano-dollars each.
    let input = many.bound(many.input_max, 0);
    assert_eq!(many.bound(many.input_max, many.output_max).saturating_sub(input), Money::from_nano(8 * 75 * 3_750));
    for bad in [
        json!(0),
        json!(9),
        json!(1_000_000_000),
        json!(1.5),
        json!(-1),
        json!(true),
        json!([1]),
        json!("x"),
        json!("1.0"),
        json!(""),
    ] {
        assert_eq!(refused(config(json!({"candidateCount": bad}))).code, "invalid_request", "{bad}");
    }
}

#[test]
fn d4_max_output_tokens() {
    let absent = call(json!({}));
    // 65,536 + 656 + 64 are held; 16 + 1 + 64 are the least.
    assert_eq!((absent.output_max, absent.output_min), (66_256, 81));
    assert_eq!(sent(&absent, None).get("generationConfig"), None);
    assert_eq!(sent(&absent, Some(500))["generationConfig"]["maxOutputTokens"], 500);
    // The limit that is forwarded leaves room for its own overshoot.
    assert_eq!((absent.body.limit_within(66_256), absent.body.limit_within(81)), (65_536, 16));
    let camel = call(config(json!({"maxOutputTokens": 100, "topP": 0.5})));
    assert_eq!((camel.output_max, camel.output_min), (165, 81));
    assert_eq!(sent(&camel, Some(50))["generationConfig"], json!({"topP": 0.5, "maxOutputTokens": 50}));
    assert_eq!(sent(&camel, None)["generationConfig"], json!({"maxOutputTokens": 100, "topP": 0.5}));
    // The spelling that is there is the one that is rewritten.
    let snake = call(json!({"generation_config": {"max_output_tokens": "100"}}));
    assert_eq!(snake.output_max, 165);
    assert_eq!(sent(&snake, Some(50))["generation_config"], json!({"max_output_tokens": 50}));
    assert_eq!(sent(&snake, Some(50)).get("generationConfig"), None);
    for null in [json!({"generation_config": null}), json!({"generation_config": {"max_output_tokens": null}})] {
        let call = call(null);
        let body = sent(&call, Some(50));
        assert_eq!(call.output_max, 66_256);
        assert_eq!(
            (body.get("generationConfig"), body["generation_config"].as_object().unwrap().len()),
            (None, 1),
            "{body}"
        );
    }
    assert_eq!(call(config(json!({"maxOutputTokens": 5}))).output_min, 5 + 1 + 64);
    assert_eq!(call(config(json!({"maxOutputTokens": 1_000_000}))).output_max, 66_256);
    // The price row of this model sums up hops; one request is one hop.
    assert_eq!(call_of("gemini-4-argon", config(json!({"maxOutputTokens": 900_000}))).output_max, 66_256);
}

#[test]
fn d4_thinking_is_inside_the_limit() {
    for thinking in [
        json!({"thinkingBudget": -1}),
        json!({"thinkingBudget": 24576, "includeThoughts": true}),
        json!({"thinkingLevel": "HIGH"}),
        json!({"thinking_level": "HIGH"}),
    ] {
        let thinks = call(config(json!({"maxOutputTokens": 100, "thinkingConfig": thinking})));
        assert_eq!(thinks.output_max, 165);
    }
    assert!(!call(json!({})).cuttable);
    let unknown = refused(config(json!({"thinkingConfig": {"deepThink": true}})));
    assert_eq!(unknown.code, "unpriceable_request");
    assert!(unknown.message.contains("generationConfig.thinkingConfig.deepThink"));
}

#[test]
fn d4_continuation_token() {
    for name in ["continuationToken", "continuation_token"] {
        let next = call_of("gemini-4-argon", json!({name: "abc", "generationConfig": {"maxOutputTokens": 100_000}}));
        // All that was generated before is billed as input; a lower limit would count it too, and leave nothing.
        assert_eq!((next.input_max, next.output_min), (2_097_152, next.output_max));
        assert!(next.terms.audio_in && next.terms.image_in && next.terms.video_in);
    }
}

#[test]
fn d4_service_tier() {
    for absent in [
        json!({}),
        json!({"serviceTier": null}),
        json!({"serviceTier": "standard"}),
        json!({"service_tier": "STANDARD"}),
    ] {
        let call = call(absent.clone());
        assert!(call.terms.tiers.is_empty());
        assert_eq!(sent(&call, None), with(absent));
    }
    let standard = call(json!({}));
    let flex = call(json!({"serviceTier": "flex"}));
    assert_eq!(sent(&flex, None)["serviceTier"], "flex");
    assert_eq!(flex.bound(100, 100), standard.bound(100, 100));
    // A model without a flex price is sent to the ordinary tier.
    let forced = call_of("gemini-plain", json!({"service_tier": "flex"}));
    assert_eq!(sent(&forced, None)["service_tier"], "standard");
    let priority = call(json!({"serviceTier": "PRIORITY"}));
    assert_eq!(priority.terms.tiers, [Tier::Priority]);
    assert_eq!(priority.bound(100, 100), Money::from_nano(100 * 1_350 + 100 * 6_750));
    assert_eq!(refused_of("gemini-plain", json!({"serviceTier": "priority"})).code, "unpriced_model");
    for bad in [json!("ultrafast"), json!(""), json!(3), json!(["flex"]), json!("batch")] {
        assert_eq!(refused(json!({"serviceTier": bad})).code, "unpriceable_request", "{bad}");
    }
}

#[test]
fn d4_cached_content() {
    for name in ["cachedContent", "cached_content"] {
        let reject = refused(json!({name: "cachedContents/x"}));
        assert_eq!(reject.code, "unpriceable_request");
        assert!(reject.hint.contains("allow_fields: [cachedContent]"), "{}", reject.hint);
        let options = Options { allow_fields: vec!["cachedContent".into()], ..Options::default() };
        let body = with(json!({name: "cachedContents/x"})).to_string();
        let call = read_with(&path("gemini-2.5-flash", "generateContent"), None, &body, &options).unwrap();
        assert_eq!(call.input_max, 1_114_112);
        // Audio costs 1 USD, text 0.30.
        assert_eq!(call.bound(1_000, 0), Money::from_nano(1_000_000));
    }
    assert!(call(json!({"cachedContent": null})).input_max < 3_000);
}

fn part(part: Value) -> Value {
    json!({"contents": [{"parts": [{"text": "what is it"}, part]}]})
}

#[test]
fn d4_file_data_fills_the_window() {
    for uri in
        ["https://www.youtube.com/watch?v=x", "https://generativelanguage.googleapis.com/v1beta/files/x", "gs://b/o"]
    {
        for file in
            [json!({"fileData": {"fileUri": uri}}), json!({"file_data": {"file_uri": uri, "mime_type": "text/plain"}})]
        {
            let call = call_of("gemini-2.5-flash", part(file));
            assert_eq!((call.input_max, call.bound(1_000, 0)), (1_114_112, Money::from_nano(1_000_000)));
        }
    }
    assert_eq!(refused(part(json!({"fileData": {"fileUri": "x", "agentic": true}}))).code, "unpriceable_request");
}

/// A still image in base64, of so many bytes.
fn png(bytes: usize) -> String {
    format!("iVBORw0KGgo{}", "A".repeat(bytes))
}

#[test]
fn d4_media_resolution_and_inline_data() {
    let image = |mime: &str, data: &str| json!({"inlineData": {"mimeType": mime, "data": data}});
    let plain = call(part(json!({"text": ""})));
    let small = call(part(image("image/png", &png(10))));
    let large = call(part(image("image/png", &png(100_000))));
    // The bytes of an image are no text; it has 2,240 tokens at most.
    assert_eq!(small.input_max, large.input_max);
    assert!((plain.input_max + 2_240..plain.input_max + 2_340).contains(&large.input_max), "{}", large.input_max);
    assert!(large.terms.image_in && !large.terms.audio_in);
    let two = json!({"contents": [{"parts": [image("image/png", &png(10)), image("image/jpeg", "/9j/AAAA"), image("image/jpeg", "_9j_AAAA")]}]});
    assert!(call(two).input_max >= 3 * 2_240 + 1_024);
    // The coarseness is not counted on, whoever sets it; a number of tokens is not known.
    let sized = |level: Value| json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": png(9)}, "mediaResolution": level}]}]});
    assert!(call(sized(json!({"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}))).input_max < 5_000);
    assert_eq!(call(sized(json!({"numTokens": 100_000}))).input_max, 1_114_112);
    assert_eq!(call(sized(json!({"num_tokens": 100_000}))).input_max, 1_114_112);
    // Older models cut an image into tiles, by its size in pixels.
    for model in ["gemini-2.5-flash", "gemini-4-argon", "gemini-plain"] {
        let call = call_of(model, part(image("image/png", &png(10))));
        assert_eq!(call.input_max, call.price.context_window, "{model}");
    }
    for (mime, data) in [
        ("image/png", "/9j/AAAA"),
        ("image/png", "R0lGODlh"),
        ("image/jpeg", "iVBORw0KGgo"),
        ("image/gif", "R0lGODlh"),
        ("image/webp", "UklGRg"),
        ("image/heic", "AAAA"),
        ("IMAGE/PNG", "iVBORw0KGgo"),
        ("application/pdf", "JVBERi0"),
        ("audio/wav", "UklGRg"),
        ("video/mp4", "AAAA"),
        ("text/plain", "AAAA"),
        ("application/x-thing", "AAAA"),
        ("", ""),
    ] {
        assert_eq!(call(part(image(mime, data))).input_max, 1_114_112, "{mime} {data}");
    }
    // More frames a second are more tokens, and a film fills the window anyway.
    let film = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}, "videoMetadata": {"fps": 24}}]}]});
    assert_eq!(call(film).input_max, 1_114_112);
    let terms = |mime: &str| call(part(image(mime, "AAAA"))).terms;
    assert!(terms("audio/mp3").audio_in && !terms("audio/mp3").image_in);
    assert!(terms("application/pdf").image_in && !terms("application/pdf").audio_in);
    assert!(terms("video/mp4").audio_in && terms("video/mp4").image_in && terms("video/mp4").video_in);
    assert!(terms("x/y").audio_in && terms("x/y").image_in && terms("x/y").video_in);
}

#[test]
fn d4_audio_has_its_own_rate() {
    let call = call_of("gemini-2.5-flash", part(json!({"inline_data": {"mime_type": "audio/wav", "data": "UklGRg"}})));
    assert_eq!(call.bound(1_000, 0), Money::from_nano(1_000_000));
}

#[test]
fn d4_tools_that_google_runs() {
    for (tool, fee, usd, calls) in [
        // 2.5 Flash: the table's 35 USD per thousand are never undercut by the operator's 14.
        ("googleSearch", "web_search", 35_000_000, 5),
        ("googleMaps", "maps", 25_000_000, 2),
        ("urlContext", "url_context", 0, 3),
        ("codeExecution", "code_execution", 0, 4),
        ("fileSearch", "file_search", 2_500_000, 1),
    ] {
        let body = with(json!({"tools": [{tool: {}}]})).to_string();
        let reject = read_text("gemini-2.5-flash", &body).err().unwrap();
        assert_eq!(reject.code, "unpriceable_request");
        assert!(reject.message.contains(tool) && reject.hint.contains(&format!("{fee}: {{")), "{reject:?}");
        let call = read_with(&path("gemini-2.5-flash", "generateContent"), None, &body, &fees()).unwrap();
        assert_eq!((call.terms.fees, call.terms.passes), (Money::from_nano(usd * calls), calls + 1));
        assert_eq!(
            (call.input_max, call.body.held_tools()),
            (1_114_112, &[(fee, Fee { usd: Money::from_nano(usd), calls })][..])
        );
        // Audio costs the most: 1,000 nano-dollars a token, in each pass.
        assert_eq!(call.bound(10, 0), Money::from_nano(10 * 1_000 * (calls + 1) + usd * calls));
    }
    let all = json!({"tools": [{"google_search": {}, "url_context": {}}, {"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}]}]});
    let body = with(all).to_string();
    let call = read_with(&path("gemini-3.8-flash", "generateContent"), None, &body, &fees()).unwrap();
    assert_eq!((call.terms.fees, call.terms.passes), (Money::from_nano(5 * 14_000_000), 5 + 3 + 1));
    // Each of the five queries may be billed as a search and as a use of maps.
    let both = with(json!({"tools": [{"googleSearch": {}, "googleMaps": {}}]})).to_string();
    let call = read_with(&path("gemini-3.8-flash", "generateContent"), None, &both, &fees()).unwrap();
    assert_eq!((call.terms.fees, call.terms.passes), (Money::from_nano(5 * 14_000_000 + 5 * 25_000_000), 5 + 2 + 1));
    for denied in [
        "computerUse",
        "mcpServers",
        "mcp_servers",
        "retrieval",
        "googleSearchRetrieval",
        "enterpriseWebSearch",
        "parallelAiSearch",
        "exaAiSearch",
    ] {
        let body = with(json!({"tools": [{denied: {}}]})).to_string();
        let reject = read_with(&path("gemini-3.8-flash", "generateContent"), None, &body, &fees()).err().unwrap();
        assert_eq!(reject.code, "unpriceable_request", "{denied}");
    }
    assert_eq!(refused(json!({"tools": [{"newTool": {}}]})).code, "unpriceable_request");
    assert_eq!(refused(json!({"tools": ["x"]})).code, "invalid_request");
}

#[test]
fn d4_function_declarations() {
    let plain = call(json!({}));
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "OBJECT"}});
    let tools = call(
        json!({"tools": [{"functionDeclarations": [function, function]}], "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    );
    assert!(tools.input_max >= plain.input_max + 2 * 64);
    let one = call(json!({"tools": {"function_declarations": function}}));
    assert!(one.input_max >= plain.input_max + 64);
    assert_eq!(
        refused(json!({"tools": [{"functionDeclarations": [{"name": "f", "url": "x"}]}]})).code,
        "unpriceable_request"
    );
}

#[test]
fn d4_response_modalities() {
    let modal = |list: Value| json!({"generationConfig": {"responseModalities": list, "maxOutputTokens": 100}});
    assert_eq!(call(modal(json!(["TEXT"]))).output_max, 165);
    assert_eq!(call(modal(json!("text"))).output_max, 165);
    for (list, meter) in
        [(json!(["IMAGE"]), "image_out"), (json!(["TEXT", "Image"]), "image_out"), (json!(["AUDIO"]), "audio_out")]
    {
        let reject = refused(modal(list));
        assert_eq!(reject.code, "unpriced_model");
        assert!(
            reject.hint.contains(&format!("{meter}: \"…\"")) && reject.hint.contains("gemini/gemini-3.8-flash"),
            "{}",
            reject.hint
        );
    }
    // A model that paints may do so unasked; its limit is not known to hold for images. 30,000 nano-dollars a token.
    for fields in
        [json!({}), modal(json!(["TEXT", "IMAGE"])), json!({"generationConfig": {"imageConfig": {"imageSize": "4K"}}})]
    {
        let call = call_of("gemini-paints", fields);
        assert_eq!((call.output_max, call.output_min, call.cuttable), (32_768 + 328 + 64, call.output_max, false));
        assert_eq!(call.bound(0, 1_000), Money::from_nano(30_000_000));
    }
    let text = call_of("gemini-paints", modal(json!(["TEXT"])));
    assert_eq!((text.output_max, text.bound(0, 1_000)), (165, Money::from_nano(2_000_000)));
    let speech = call_of(
        "gemini-speaks",
        json!({"generationConfig": {"responseModalities": ["AUDIO"], "speechConfig": {"languageCode": "de"}}}),
    );
    assert_eq!(speech.bound(0, 1_000), Money::from_nano(20_000_000));
    for bad in [json!(["VIDEO"]), json!([2]), json!([""]), json!({}), json!([null])] {
        assert_eq!(refused(modal(bad.clone())).code, "unpriceable_request", "{bad}");
    }
    assert_eq!(refused(json!({"generationConfig": {"responseFormat": {"image": {}}}})).code, "unpriceable_request");
}

#[test]
fn d4_state_and_routing() {
    for field in ["previousInteractionId", "background", "previous_interaction_id", "agent"] {
        assert_eq!(refused(json!({field: "x"})).code, "unpriceable_request", "{field}");
    }
    for field in ["routingConfig", "modelConfig", "modelSelectionConfig", "routing_config"] {
        let reject = refused(json!({"generationConfig": {field: {}}}));
        assert!(reject.code == "unpriceable_request" && reject.message.contains("another model"), "{field}");
    }
    // What is kept of a call, and its labels, cost nothing.
    assert_eq!(call(json!({"store": true, "labels": {"a": "b"}})).output_max, 66_256);
}

#[test]
fn d4_instructions_and_schemas_are_prompt() {
    let plain = call(json!({}));
    for fields in [
        json!({"systemInstruction": {"parts": [{"text": "x".repeat(1_000)}]}}),
        json!({"system_instruction": {"parts": {"text": "x".repeat(1_000)}}}),
        json!({"generationConfig": {"responseSchema": {"type": "OBJECT", "description": "x".repeat(1_000)}}}),
        json!({"generationConfig": {"responseJsonSchema": {"description": "x".repeat(1_000)}}}),
    ] {
        assert!(call(fields).input_max >= plain.input_max + 1_000);
    }
    // References are written out; those without an end, and those of the API's own kind, fill the window.
    let twice = json!({"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}, "$defs": {"X": {"description": "y".repeat(1_000)}}});
    assert!(call(json!({"generationConfig": {"responseJsonSchema": twice}})).input_max > plain.input_max + 3_000);
    for endless in [json!({"$ref": "#"}), json!({"ref": "#/defs/X", "defs": {}})] {
        assert_eq!(call(json!({"generationConfig": {"responseSchema": endless}})).input_max, 1_114_112);
        let function = json!({"name": "f", "parametersJsonSchema": endless});
        assert_eq!(call(json!({"tools": [{"functionDeclarations": [function]}]})).input_max, 1_114_112);
    }
}

#[test]
fn d4_long_prompts_of_pro_models() {
    let call = call_of("gemini-3.1-pro-preview", json!({}));
    assert_eq!(call.bound(200_000, 1_000), Money::from_nano(200_000 * 2_000 + 1_000 * 12_000));
    assert_eq!(call.bound(200_001, 1_000), Money::from_nano(200_001 * 4_000 + 1_000 * 18_000));
}

#[test]
fn d4_parts_of_a_history() {
    let plain = call(json!({}));
    let history = json!({"contents": [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [
            {"functionCall": {"name": "f", "args": {"a_b": 1, "aB": 2}, "id": "1"}, "thoughtSignature": "A".repeat(1_000)},
            {"text": "summary", "thought": true},
            {"executableCode": {"code": "1+1", "language": "PYTHON"}}, {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
            {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "x"}}, {"toolResponse": {"id": "x", "response": {}}},
        ]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "x"}}}]},
    ]});
    let call_with = call(history);
    // A signature is sealed: each of its bytes counts four times.
    assert!(call_with.input_max >= plain.input_max + 4_000 && call_with.input_max < plain.input_max + 5_000);
    let media = json!({"functionResponse": {"name": "f", "response": {}, "parts": [{"inlineData": {"mimeType": "image/png", "data": png(5)}}]}});
    assert_eq!(call(part(media)).input_max, 1_114_112);
    for denied in [
        "mediaProcessing",
        "audioTranscription",
        "speechMetadata",
        "documentMetadata",
        "spreadsheetMetadata",
        "audioMetadata",
        "media_processing",
    ] {
        assert_eq!(refused(part(json!({"text": "x", denied: {}}))).code, "unpriceable_request", "{denied}");
    }
    assert_eq!(refused(part(json!({"newKind": {}}))).code, "unpriceable_request");
}

#[test]
fn d4_no_cost_known() {
    let config = json!({"temperature": 0, "topP": 1, "topK": 40, "stopSequences": ["a"], "responseLogprobs": true, "logprobs": 5,
        "presencePenalty": 0, "frequencyPenalty": 0, "seed": 7, "responseMimeType": "application/json", "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "enableEnhancedCivicAnswers": true, "audioTimestamp": false});
    let free =
        call(json!({"generationConfig": config, "safetySettings": [{"category": "c", "threshold": "BLOCK_NONE"}]}));
    assert_eq!(free.output_max, 66_256);
}

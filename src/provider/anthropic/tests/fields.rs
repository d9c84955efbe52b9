//! One test for each row of the list of fields that raise or hide the bill: priced, forced or refused.

use super::*;
use crate::provider::anthropic::bound::{TOKENS_PER_IMAGE, TOKENS_PER_SCREENSHOT};

/// The bound of a request in nano-dollars.
fn bound(call: &Call) -> u64 {
    call.bound(call.input_max, call.output_max).nano()
}

#[test]
fn c4_max_tokens() {
    let plain = call(json!({}));
    assert_eq!((plain.output_max, plain.output_min, plain.samples), (1000, 16, 1));
    assert_eq!(sent(&plain, Some(300))["max_tokens"], 300);
    assert_eq!(sent(&plain, None)["max_tokens"], 1000);
    // Zero warms the cache: input and write are billed.
    let warm = call(json!({"max_tokens": 0, "cache_control": {"type": "ephemeral"}}));
    assert_eq!((warm.output_max, warm.output_min), (0, 0));
    assert_eq!(bound(&warm), warm.input_max * 1_250);
    assert_eq!(call(json!({"max_tokens": 1u64 << 53})).output_max, 200_000);
}

#[test]
fn c4_thinking() {
    let budget = json!({"type": "enabled", "budget_tokens": 600});
    // It is inside max_tokens; a clamp must leave room for it.
    let enabled = call(json!({"thinking": budget, "stream": true}));
    assert_eq!((enabled.output_max, enabled.output_min, enabled.cuttable), (1000, 616, false));
    // Beyond max_tokens it spans several calls: the limit stays.
    let wide = call(json!({"thinking": {"type": "enabled", "budget_tokens": 5000}}));
    assert_eq!((wide.output_max, wide.output_min), (1000, 1000));
    for kind in ["adaptive", "between_tools"] {
        let call = call(json!({"thinking": {"type": kind}, "stream": true}));
        assert_eq!((call.output_max, call.output_min, call.cuttable), (1000, 16, false));
    }
    // What may be thought without being shown cannot be cut by what is shown.
    let cuttable = |fields: Value| call(fields).cuttable;
    assert!(cuttable(json!({"stream": true})) && !cuttable(json!({})));
    assert!(cuttable(json!({"stream": true, "thinking": null})));
    // Nor can a tool's input, which is shown value by value, each once it is whole.
    let tool = |eager: Value| json!({"name": "f", "input_schema": {"type": "object"}, "eager_input_streaming": eager});
    let tools = |tools: Value| json!({"stream": true, "tools": tools});
    assert!(cuttable(tools(json!([]))) && cuttable(tools(json!([tool(json!(true))]))));
    for eager in [json!(false), json!(null)] {
        assert!(!cuttable(tools(json!([tool(json!(true)), tool(eager)]))));
    }
    assert!(!cuttable(json!({"stream": true, "model": "claude-opus-5"})));
    assert!(cuttable(json!({"stream": true, "model": "claude-opus-5", "thinking": {"type": "disabled"}})));
    for model in ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5", "claude-fable-5-1", "claude-mythos-5-1"] {
        assert!(!cuttable(json!({"stream": true, "model": model, "thinking": {"type": "disabled"}})), "{model}");
    }
    for (bad, code) in [
        (json!({"type": "endless"}), "unpriceable_request"),
        (json!({}), "unpriceable_request"),
        (json!("adaptive"), "unpriceable_request"),
        (json!({"type": "enabled", "budget_tokens": -1}), "invalid_request"),
        (json!({"type": "enabled", "budget_tokens": "9"}), "invalid_request"),
        (json!({"type": "adaptive", "samples": 5}), "unpriceable_request"),
    ] {
        assert_eq!(refused(json!({"thinking": bad})).code, code, "{bad}");
    }
}

#[test]
fn c4_speed() {
    let opus = |speed: &str| call(json!({"model": "claude-opus-5-5", "inference_geo": "global", "speed": speed}));
    let (standard, fast) = (opus("standard"), opus("fast"));
    assert_eq!((standard.terms.thousandths, fast.terms.thousandths), (1000, 2000));
    // 4 and 20 USD per million become 8 and 40.
    assert_eq!(bound(&fast), fast.input_max * 8_000 + 1000 * 40_000);
    let refusal = refused(json!({"speed": "fast"}));
    assert_eq!(refusal.code, "unpriced_model");
    assert!(refusal.hint.contains("anthropic/claude-haiku-4-5:\n  multipliers: {fast: \"2\"}"), "{}", refusal.hint);
    for bad in [json!("turbo"), json!(2), json!("Fast")] {
        assert_eq!(refused(json!({"speed": bad})).code, "unpriceable_request");
    }
}

#[test]
fn c4_inference_geo() {
    let geo = |fields: Value| {
        let mut all = json!({"model": "claude-opus-5-5"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        call(all).terms.thousandths
    };
    assert_eq!(geo(json!({"inference_geo": "global"})), 1000);
    assert_eq!(geo(json!({"inference_geo": "us"})), 1100);
    // A setting of the workspace may put every call into the region.
    assert_eq!((geo(json!({})), geo(json!({"inference_geo": null}))), (1100, 1100));
    assert_eq!(geo(json!({"inference_geo": "us", "speed": "fast"})), 2200);
    // Models before 4.6 have no regions.
    assert_eq!(call(json!({})).terms.thousandths, 1000);
    for bad in [json!("eu"), json!(1), json!("US")] {
        assert_eq!(refused(json!({"inference_geo": bad})).code, "unpriceable_request");
    }
}

#[test]
fn c4_cache_control() {
    let (short, hour) = (json!({"type": "ephemeral"}), json!({"type": "ephemeral", "ttl": "1h"}));
    let block = |cache: &Value| json!([{"type": "text", "text": "x", "cache_control": cache}]);
    let tool = |cache: &Value| json!([{"name": "f", "input_schema": {}, "cache_control": cache}]);
    let result = |cache: &Value| json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": block(cache)}]}]);
    let places = |cache: &Value| {
        [
            json!({"cache_control": cache}),
            json!({"system": block(cache)}),
            json!({"messages": [{"role": "user", "content": block(cache)}]}),
            json!({"messages": result(cache)}),
            json!({"tools": tool(cache)}),
        ]
    };
    for place in places(&short) {
        let call = call(place);
        assert_eq!((call.terms.cache_write_5m, call.terms.cache_write_1h), (true, false));
        assert_eq!(bound(&call), call.input_max * 1_250 + 1000 * 5_000);
    }
    for place in places(&hour) {
        let call = call(place);
        assert!(call.terms.cache_write_1h);
        assert_eq!(bound(&call), call.input_max * 2_000 + 1000 * 5_000);
    }
    for place in places(&Value::Null) {
        assert_eq!(bound(&call(place.clone())), call(place).input_max * 1_000 + 1000 * 5_000);
    }
    for bad in [
        json!({"type": "ephemeral", "ttl": "24h"}),
        json!({"type": "eternal"}),
        json!({}),
        json!("x"),
        json!({"type": "ephemeral", "scope": "global"}),
    ] {
        for place in places(&bad) {
            assert_eq!(refused(place).code, "unpriceable_request", "{bad}");
        }
    }
    // A key of that name in the client's own data is data.
    let data =
        call(json!({"tools": [{"name": "f", "input_schema": {"properties": {"cache_control": {"ttl": "24h"}}}}]}));
    assert!(!data.terms.cache_write_5m && !data.terms.cache_write_1h);
}

#[test]
fn c4_service_tier() {
    for tier in [
        json!({}),
        json!({"service_tier": null}),
        json!({"service_tier": "auto"}),
        json!({"service_tier": "standard_only"}),
    ] {
        assert_eq!(sent(&call(tier), None)["service_tier"], "standard_only");
    }
    for bad in ["priority", "batch", "flex", "Auto"] {
        assert_eq!(refused(json!({"service_tier": bad})).code, "unpriceable_request");
    }
}

#[test]
fn c4_what_runs_outside_the_bound_is_refused() {
    for (field, value) in [
        ("fallbacks", json!("default")),
        ("fallbacks", json!([{"model": "claude-opus-5"}])),
        ("fallback_credit_token", json!("x")),
        ("billing_policy", json!({})),
        ("compaction", json!({})),
        ("thread", json!({"type": "create"})),
        ("thread", json!({"type": "continue", "previous_message_id": "msg_1"})),
        ("container", json!("c")),
        ("container", json!({"skills": []})),
        ("mcp_servers", json!([])),
        ("context_management", json!({"edits": [{"type": "compact_20260112"}]})),
        (
            "context_management",
            json!({"edits": [{"type": "compact_20260112", "trigger": {}}, {"type": "clear_tool_uses_20250919"}]}),
        ),
        ("context_management", json!({"compact": true})),
        ("context_management", json!([])),
        ("user_profile_id", json!("p")),
        ("betas", json!(["x"])),
        ("n", json!(2)),
    ] {
        assert_eq!(refused(json!({field: value})).code, "unpriceable_request", "{field}");
    }
    // An optional field that is null is not there; edits that only take away run nothing.
    for fields in [
        json!({"fallbacks": null, "container": null, "compaction": null, "context_management": null}),
        json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}, {"type": "clear_thinking_20251015"}]}}),
        json!({"context_management": {}}),
    ] {
        call(fields);
    }
}

#[test]
fn c4_server_tools() {
    let tools = |kind: &str, uses: Value| json!({"tools": [{"type": kind, "name": "x", "max_uses": uses}]}).to_string();
    let read = |tools: String, fees: bool| {
        let body = with(serde_json::from_str(&tools).unwrap()).to_string();
        read_with(&body, &[], &options(&[], fees))
    };
    for (kind, name) in [
        ("web_search_20250305", "web_search"),
        ("web_search_20260318", "web_search"),
        ("web_fetch_20260309", "web_fetch"),
    ] {
        let refusal = read(tools(kind, json!(5)), false).err().unwrap();
        assert_eq!(refusal.code, "unpriceable_request");
        assert!(refusal.hint.contains(&format!("fees: {{ {name}: {{ usd:")), "{}", refusal.hint);
        for bad in [json!(null), json!(6), json!(0), json!(-1), json!("5"), json!(1.5)] {
            assert_eq!(read(tools(kind, bad), true).err().unwrap().code, "unpriceable_request");
        }
        let call = read(tools(kind, json!(3)), true).unwrap();
        // Three uses at a cent, and ten passes over the whole window, each with all of the output.
        assert_eq!(call.terms.fees, Money::from_nano(30_000_000));
        assert_eq!((call.input_max, call.terms.passes, call.samples, call.cuttable), (200_000, 10, 10, false));
        assert_eq!(bound(&call), 30_000_000 + 10 * 200_000 * 1_000 + 10 * 1000 * 5_000);
    }
    // The operator's price is not below the listed one of a cent a search.
    let cheap = Options {
        fees: [("web_search".to_string(), Fee { usd: Money::from_nano(1), calls: 5 })].into(),
        ..Options::default()
    };
    let body =
        with(json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]})).to_string();
    assert_eq!(read_with(&body, &[], &cheap).unwrap().terms.fees, Money::from_nano(50_000_000));
    for kind in [
        "code_execution_20250522",
        "code_execution_20260521",
        "advisor_20260301",
        "tool_search_tool_regex_20251119",
        "tool_search_tool_bm25_20251119",
        "memory_20250818",
        "mcp_toolset",
        "web_search_20990101",
        "video_20260101",
    ] {
        assert_eq!(read(tools(kind, json!(1)), true).err().unwrap().code, "unpriceable_request", "{kind}");
    }
    let callers = json!({"tools": [{"name": "f", "input_schema": {}, "allowed_callers": ["code_execution_20250825"]}]});
    assert_eq!(refused(callers).code, "unpriceable_request");
    call(json!({"tools": [{"name": "f", "input_schema": {}, "allowed_callers": ["direct"]}]}));
}

#[test]
fn c4_built_in_tools() {
    let plain = |tool: Value| {
        let body = with(json!({"tools": [tool]})).to_string();
        read(&body).unwrap().input_max - body.len() as u64
    };
    let base = plain(json!({"name": "f", "input_schema": {"type": "object"}}));
    assert_eq!(base, 1024 + 16 + 64);
    for (kind, published) in [
        ("bash_20250124", 325),
        ("text_editor_20250728", 700),
        ("computer_20251124", 4_590),
        ("computer_toolset_20260801", 4_590),
        ("browser_toolset_20260801", 7_550),
    ] {
        assert!(plain(json!({"type": kind, "name": "x"})) >= base + published, "{kind}");
    }
}

#[test]
fn c4_images_and_documents() {
    let content =
        |block: Value| json!({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": [block]}]});
    let data = "A".repeat(100_000);
    let image =
        content(json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}));
    let (with_image, bytes) = (call(image.clone()), with(image.clone()).to_string().len() as u64);
    // An image costs what its pixels cost, not what its bytes do: the quotes are not text either.
    assert_eq!(with_image.input_max, bytes - 100_002 + 1024 + 16 + TOKENS_PER_IMAGE);
    let mut screen = image.clone();
    screen["tools"] =
        json!([{"type": "computer_20251124", "name": "computer", "display_width_px": 1, "display_height_px": 1}]);
    assert!(call(screen).input_max > TOKENS_PER_SCREENSHOT);
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": image["messages"][0]["content"]});
    assert!(call(content(result)).input_max < 2 * TOKENS_PER_IMAGE);
    for hidden in [
        json!({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
        json!({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}),
        json!({"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}}),
        json!({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a. b."}, "citations": {"enabled": true}}),
        json!({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}], "citations": {"enabled": true}}),
        json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}),
        json!({"type": "web_search_tool_result", "tool_use_id": "t", "content": []}),
        json!({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}),
    ] {
        assert_eq!(call(content(hidden.clone())).input_max, 1_000_000, "{hidden}");
    }
    for text in [
        json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}, "citations": {"enabled": false}}),
        json!({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}, "title": "t", "citations": null}),
        json!({"type": "document", "source": {"type": "content", "content": "x"}}),
        json!({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}),
    ] {
        assert!(call(content(text.clone())).input_max < 2_000, "{text}");
    }
    for bad in [
        json!({"type": "image", "source": {"type": "base64", "data": 5}}),
        json!({"type": "image", "source": {"type": "base64", "data": "A", "pages": 9}}),
        json!({"type": "image", "source": {"type": "data", "data": "A"}}),
        json!({"type": "image", "source": {"type": "base64", "data": "A"}, "transformations": {}}),
        json!({"type": "image"})
            .as_object()
            .map(|o| {
                let mut o = o.clone();
                o.insert("source".into(), json!(null));
                Value::Object(o)
            })
            .unwrap(),
        json!({"type": "document", "source": {"type": "folder"}}),
        json!({"type": "container_upload", "file_id": "f"}),
        json!({"type": "compaction", "content": "x"}),
        json!({"type": "tool_addition", "tool": {}}),
        json!({"type": "mcp_tool_use"}),
        json!({"type": "hologram"}),
        json!({}),
        json!("text"),
    ] {
        assert_eq!(refused_content(json!([bad.clone()])).code, "unpriceable_request", "{bad}");
    }
}

#[test]
fn c4_formats_and_schemas() {
    let twice = json!({"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}, "$defs": {"X": {"description": "y".repeat(1000)}}});
    let size = |fields: Value| call(fields).input_max;
    assert!(size(json!({"tools": [{"name": "f", "input_schema": twice}]})) > 3_000 + 1024);
    let endless = json!({"a": {"$ref": "#"}});
    assert_eq!(size(json!({"tools": [{"name": "f", "input_schema": endless}]})), 200_000);
    for fields in [
        json!({"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}, "task_budget": {"type": "tokens", "total": 9}}}),
        json!({"output_format": {"type": "json_schema", "schema": {"type": "object"}}}),
    ] {
        assert!(size(fields) < 2_000);
    }
    let with_ref = json!({"type": "json_schema", "schema": {"$ref": "#"}});
    assert_eq!(
        size(json!({"output_config": {"format": with_ref}, "tools": [{"name": "f", "input_schema": {}}]})),
        200_000
    );
    // A reference to a tool may repeat its definition.
    let tool = json!({"name": "f", "input_schema": {"description": "z".repeat(5_000)}, "defer_loading": true});
    let one = json!({"type": "tool_reference", "tool_name": "f"});
    let reference = json!({"type": "tool_result", "tool_use_id": "t", "content": vec![one; 3]});
    assert!(size(json!({"tools": [tool], "messages": [{"role": "user", "content": [reference]}]})) > 4 * 5_000);
    for bad in [
        json!({"output_config": {"samples": 2}}),
        json!({"output_config": {"format": {"type": "grammar"}}}),
        json!({"output_format": "json"}),
    ] {
        assert_eq!(refused(bad).code, "unpriceable_request");
    }
}

#[test]
fn c4_betas_and_versions() {
    let with_header = |name: &'static str, values: &[&str], allow: &[&str], model: &str| {
        let headers: Vec<(&'static str, &str)> = values.iter().map(|value| (name, *value)).collect();
        read_with(&with(json!({"model": model})).to_string(), &headers, &options(allow, true)).err().map(|r| r.code)
    };
    let beta = |values: &[&str]| with_header("anthropic-beta", values, &[], "claude-haiku-4-5");
    assert_eq!(
        beta(&["interleaved-thinking-2025-05-14, extended-cache-ttl-2025-04-11,", "files-api-2025-04-14"]),
        None
    );
    assert_eq!(beta(&["claude-code-20250219,fine-grained-tool-streaming-2025-05-14,fast-mode-2026-02-01"]), None);
    for bad in [
        "mcp-client-2025-11-20",
        "code-execution-2025-05-22",
        "skills-2025-10-02",
        "advisor-tool-2026-03-01",
        "server-side-fallback-2026-07-01",
        "fallback-credit-2026-07-01",
        "compact-2026-01-12",
        "compact-2026-09-04",
        "message-threads-2026-08-12",
        "managed-agents-2026-04-01",
        "user-profiles-billing-2026-10-01",
        "output-300k-2026-03-24",
        "mid-conversation-tool-changes-2026-07-01",
        "inline-tools-2026-09-15",
        "invented-2027-01-01",
        "Interleaved-Thinking-2025-05-14",
    ] {
        assert_eq!(beta(&["pdfs-2024-09-25", bad]), Some("unpriceable_request"), "{bad}");
        // What is known to raise the bill is not admitted by a list; what is unknown is.
        let admitted = with_header("anthropic-beta", &[bad], &[bad], "claude-haiku-4-5");
        let is_unknown = bad.starts_with("inv") || bad.starts_with("Int");
        assert_eq!(admitted, (!is_unknown).then_some("unpriceable_request"), "{bad}");
    }
    // A window of a million needs a price for it.
    assert_eq!(beta(&["context-1m-2025-08-07"]), Some("unpriceable_request"));
    assert_eq!(with_header("anthropic-beta", &["context-1m-2025-08-07"], &[], "claude-opus-5-5"), None);
    let version = |values: &[&str], allow: &[&str]| with_header("anthropic-version", values, allow, "claude-haiku-4-5");
    assert_eq!((version(&["2023-06-01"], &[]), version(&["2026-10-21"], &[])), (None, None));
    assert_eq!(version(&["2027-01-01"], &[]), Some("unpriceable_request"));
    assert_eq!(version(&["2027-01-01"], &["2027-01-01"]), None);
    assert_eq!(version(&["2023-06-01", "2026-10-21"], &[]), Some("ambiguous_request"));
    // These change whose settings apply.
    assert!(Anthropic.dropped_headers().contains(&"anthropic-workspace-id"));
}

#[test]
fn c3_the_long_tier_of_haiku() {
    let text = |bytes: usize| {
        call(
            json!({"model": "claude-haiku-5-5", "inference_geo": "global", "messages": [{"role": "user", "content": "x".repeat(bytes)}]}),
        )
    };
    let (short, long) = (text(98_000), text(100_000));
    assert!(short.input_max <= 100_000 && long.input_max > 100_000);
    assert_eq!(bound(&short), short.input_max * 100 + 1000 * 500);
    assert_eq!(bound(&long), long.input_max * 500 + 1000 * 2_500);
}

#[test]
fn c7_sealed_thoughts_count_four_tokens_a_byte() {
    let sealed = "A".repeat(10_000);
    let bound = |block: Value| {
        let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [block]}]);
        call(json!({"messages": messages})).input_max
    };
    let thinking =
        |text: &str, signature: &str| bound(json!({"type": "thinking", "thinking": text, "signature": signature}));
    assert_eq!(thinking("", &sealed), thinking("", "") + 40_000);
    // What is shown is text, a token a byte.
    assert_eq!(thinking(&sealed, ""), thinking("", "") + 10_000);
    let redacted = |data: &str| bound(json!({"type": "redacted_thinking", "data": data}));
    assert_eq!(redacted(&sealed), redacted("") + 40_000);
}

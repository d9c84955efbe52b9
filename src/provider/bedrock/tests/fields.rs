//! The table of parameters that raise or hide the bill: each is priced, forced or refused by name.

use super::*;
use crate::money::Money;
use crate::pricing::Tier;
use crate::provider::Fee;

/// What the most of a request to `us.anthropic.claude-opus-5-5` costs: 4,400 nano-dollars an input token, 22,000 an output token.
#[test]
fn e4_max_tokens() {
    let absent = call(json!({}));
    assert_eq!((absent.output_max, absent.output_min, absent.samples), (128_000, 16, 1));
    assert_eq!(sent(&absent, None).get("inferenceConfig"), None);
    assert_eq!(sent(&absent, Some(20))["inferenceConfig"], json!({"maxTokens": 20}));
    let given =
        call(json!({"inferenceConfig": {"temperature": 0.5, "maxTokens": 300, "stopSequences": ["x"], "topP": 1}}));
    assert_eq!(given.output_max, 300);
    assert_eq!(
        sent(&given, Some(20))["inferenceConfig"],
        json!({"temperature": 0.5, "maxTokens": 20, "stopSequences": ["x"], "topP": 1})
    );
    assert_eq!(given.bound(1000, 300), Money::from_nano(1000 * 4_400 + 300 * 22_000));
    assert_eq!(call(json!({"inferenceConfig": {"maxTokens": 5}})).output_min, 5);
    assert_eq!(refused(json!({"inferenceConfig": {"topK": 5}})).code, "unpriceable_request");
}

#[test]
fn e4_additional_fields_are_an_allow_list() {
    for taken in [
        json!({"top_k": 50}),
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        json!({"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}}),
        json!({"reasoning_config": {"type": "disabled"}}),
        json!({"anthropic_beta": ["interleaved-thinking-2025-05-14", "context-1m-2025-08-07"]}),
    ] {
        call(extra(taken));
    }
    // A clamp never goes to or below the budget of thinking.
    let thinking = call(
        json!({"inferenceConfig": {"maxTokens": 9000}, "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}}}),
    );
    assert_eq!((thinking.output_max, thinking.output_min), (9_000, 2_016));
}

fn extra(fields: Value) -> Value {
    json!({"additionalModelRequestFields": fields})
}

#[test]
fn cap_10_nothing_overrides_what_was_priced() {
    for name in [
        "max_tokens",
        "max_tokens_to_sample",
        "maxTokens",
        "max_gen_len",
        "max_new_tokens",
        "maxTokenCount",
        "inferenceConfig",
        "n",
        "num_generations",
        "tools",
        "mcp_servers",
        "context_management",
        "container",
        "speed",
        "service_tier",
        "serviceTier",
        "guardrailConfig",
        "cache_control",
        "system",
        "messages",
        "MAX_TOKENS",
        "stream",
        "model",
        "fallbacks",
        "inference_geo",
    ] {
        let reject = refused(extra(json!({name: 5})));
        assert_eq!(reject.code, "unpriceable_request", "{name}");
        assert!(reject.message.contains(name), "{}", reject.message);
        // The operator's list does not admit what is known to change the bill.
        let allowed = Options { allow_fields: vec![name.into()], ..options() };
        assert!(
            read_with(&allowed, &[], (OPUS, "converse"), &with(extra(json!({name: 5}))).to_string()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn e4_additional_fields_that_are_not_known() {
    for (model, fields) in [
        (OPUS, json!({"new_field": 1})),
        (OPUS, json!({"reasoning_effort": "high"})),
        (OPUS, json!({"anthropic_beta": ["compact-2026-01-12"]})),
        (OPUS, json!({"anthropic_beta": ["output-128k-2025-02-19"]})),
        (OPUS, json!({"thinking": {"type": "forever"}})),
        (OPUS, json!({"thinking": {"type": "enabled", "budget": 1}})),
        (OPUS, json!({"output_config": {"task_budget": 5}})),
        ("us.anthropic.claude-haiku-4-5-20251001-v1%3A0", json!({"anthropic_beta": ["context-1m-2025-08-07"]})),
        (NOVA, json!({"thinking": {"type": "adaptive"}})),
        (NOVA, json!({"inferenceConfig": {"maxTokens": 9000}})),
        (NOVA, json!({"inferenceConfig": {"max_new_tokens": 9000}})),
        ("us.amazon.nova-2-lite-v1%3A0", json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}})),
        ("meta.llama3-8b-instruct-v1%3A0", json!({"top_k": 1})),
    ] {
        assert_eq!(refused_by(model, extra(fields.clone())).code, "unpriceable_request", "{fields}");
    }
    call_to(NOVA, extra(json!({"inferenceConfig": {"topK": 20}})));
    call_to(
        "us.amazon.nova-2-lite-v1%3A0",
        extra(json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}})),
    );
    call_to("openai.gpt-oss-120b-1%3A0", extra(json!({"reasoning_effort": "high"})));
    assert_eq!(refused(extra(json!([]))).code, "invalid_request");
    let allowed = Options { allow_fields: vec!["new_field".into()], ..options() };
    assert!(read_with(&allowed, &[], (OPUS, "converse"), &with(extra(json!({"new_field": 1}))).to_string()).is_ok());
    let reject = refused(extra(json!({"new_field": 1})));
    assert!(reject.hint.contains("providers.bedrock.allow_fields"), "{}", reject.hint);
}

#[test]
fn e4_service_tier() {
    let tier = |id: &str, name: &str| read(id, "converse", &with(json!({"serviceTier": {"type": name}})).to_string());
    let terms = |name: &str| tier(NOVA, name).unwrap().terms.tiers;
    assert_eq!(terms("default"), []);
    assert_eq!(terms("flex"), [Tier::Flex]);
    // Nova Pro: 0.8/3.2 in the ordinary tier, 1.4/5.6 with priority.
    let priority = tier(NOVA, "priority").unwrap();
    assert_eq!(priority.bound(1000, 100), Money::from_nano(1000 * 1_400 + 100 * 5_600));
    assert_eq!(tier(NOVA, "flex").unwrap().bound(1000, 100), Money::from_nano(1000 * 800 + 100 * 3_200));
    // A tier without a price of its own.
    assert_eq!(tier(OPUS, "priority").err().unwrap().code, "unpriced_model");
    assert!(tier(OPUS, "flex").err().unwrap().hint.contains("flex: {input"));
    for bad in ["reserved", "ultrafast", "Default", ""] {
        assert_eq!(tier(NOVA, bad).err().unwrap().code, "unpriceable_request", "{bad}");
    }
    assert_eq!(refused(json!({"serviceTier": "default"})).code, "invalid_request");
    assert_eq!(refused(json!({"serviceTier": {}})).code, "invalid_request");
    // The header means `invoke`, and only that.
    let invoke = |value| {
        read_with(&options(), &[("x-amzn-bedrock-service-tier", value)], (NOVA, "invoke"), &with(json!({})).to_string())
    };
    assert_eq!(invoke("priority").unwrap().terms.tiers, [Tier::Priority]);
    assert!(invoke("reserved").is_err());
    let converse = read_with(
        &options(),
        &[("x-amzn-bedrock-service-tier", "flex")],
        (NOVA, "converse"),
        &with(json!({})).to_string(),
    );
    assert!(converse.err().unwrap().message.contains("x-amzn-bedrock-service-tier"));
}

#[test]
fn e4_latency() {
    call(json!({"performanceConfig": {"latency": "standard"}}));
    for bad in [json!({"latency": "optimized"}), json!({"latency": 1})] {
        assert_eq!(refused(json!({"performanceConfig": bad})).code, "unpriceable_request");
    }
    let header = [("x-amzn-bedrock-performanceconfig-latency", "optimized")];
    assert!(read_with(&options(), &header, (OPUS, "invoke"), &claude(json!({})).to_string()).is_err());
}

#[test]
fn e4_guardrails() {
    let config = json!({"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1", "trace": "enabled"}});
    let reject = refused(config.clone());
    assert_eq!(reject.code, "unpriceable_request");
    assert!(reject.hint.contains("fees: { guardrail: { usd:"), "{}", reject.hint);
    let mut priced = options();
    priced.fees.insert("guardrail".into(), Fee { usd: Money::from_nano(150_000), calls: 40 });
    let call = read_with(&priced, &[], (OPUS, "converse"), &with(config).to_string()).unwrap();
    assert_eq!(call.terms.fees, Money::from_nano(6_000_000));
    assert_eq!(call.bound(10, 0), Money::from_nano(10 * 4_400 + 6_000_000));
    let headers = [("x-amzn-bedrock-guardrailidentifier", "g"), ("x-amzn-bedrock-guardrailversion", "1")];
    let invoke = read_with(&priced, &headers, (OPUS, "invoke"), &claude(json!({})).to_string()).unwrap();
    assert_eq!(invoke.terms.fees, Money::from_nano(6_000_000));
    assert!(read_with(&options(), &headers, (OPUS, "invoke"), &claude(json!({})).to_string()).is_err());
    // What a guardrail looks at costs nothing by itself.
    super::call(json!({"system": [{"guardContent": {"text": {"text": "x", "qualifiers": ["query"]}}}]}));
}

#[test]
fn e4_cache_points() {
    let point = |ttl: Value| json!({"system": [{"text": "x"}, {"cachePoint": {"type": "default", "ttl": ttl}}]});
    // Writes cost 5.5 for five minutes, 8.8 for an hour.
    assert_eq!(call(point(json!("5m"))).bound(1000, 0), Money::from_nano(1000 * 5_500));
    assert_eq!(call(point(json!("1h"))).bound(1000, 0), Money::from_nano(1000 * 8_800));
    assert_eq!(
        call(json!({"system": [{"cachePoint": {"type": "default"}}]})).bound(1000, 0),
        Money::from_nano(1000 * 5_500)
    );
    assert_eq!(call(json!({})).bound(1000, 0), Money::from_nano(1000 * 4_400));
    let in_message = json!({"messages": [{"role": "user", "content": [{"text": "x"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]}]});
    assert!(call(in_message).terms.cache_write_1h);
    let in_tools = json!({"toolConfig": {"tools": [{"cachePoint": {"type": "default"}}]}});
    assert!(call(in_tools).terms.cache_write_5m);
    assert_eq!(refused(point(json!("24h"))).code, "unpriceable_request");
    assert_eq!(refused(point(json!(null))).code, "unpriceable_request");
    assert_eq!(refused(json!({"system": [{"cachePoint": {"type": "forever"}}]})).code, "invalid_request");
    let native = |control: Value| {
        read(
            OPUS,
            "invoke",
            &claude(json!({"system": [{"type": "text", "text": "x", "cache_control": control}]})).to_string(),
        )
    };
    assert!(native(json!({"type": "ephemeral"})).unwrap().terms.cache_write_5m);
    assert!(native(json!({"type": "ephemeral", "ttl": "1h"})).unwrap().terms.cache_write_1h);
    assert!(native(json!({"type": "ephemeral", "scope": "global"})).is_err());
    assert!(native(json!({"type": "persistent"})).is_err());
    assert!(!native(json!(null)).unwrap().terms.cache_write_5m);
    let automatic =
        read(OPUS, "invoke", &claude(json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}})).to_string());
    assert!(automatic.unwrap().terms.cache_write_1h);
}

#[test]
fn e4_routers_prompts_and_opaque_models() {
    for kind in ["prompt-router%2Fx", "default-prompt-router%2Fx", "prompt%2Fx%3A1"] {
        let id = format!("arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3A{kind}");
        assert_eq!(refused_by(&id, json!({})).code, "unpriceable_request", "{kind}");
        let mut mapped = options();
        mapped.deployments.insert(id.replace("%3A", ":").replace("%2F", "/"), "amazon.nova-pro-v1:0".into());
        assert!(read_with(&mapped, &[], (&id, "converse"), &with(json!({})).to_string()).is_err(), "{kind}");
    }
    for kind in [
        "application-inference-profile%2Fx",
        "provisioned-model%2Fx",
        "imported-model%2Fx",
        "custom-model%2Fx",
        "custom-model-deployment%2Fx",
    ] {
        let id = format!("arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3A{kind}");
        let reject = refused_by(&id, json!({}));
        assert_eq!(reject.code, "unpriced_model", "{kind}");
        assert!(reject.hint.contains("providers.bedrock.deployments: { \"arn:aws:bedrock:"), "{}", reject.hint);
        let mut mapped = options();
        mapped.deployments.insert(id.replace("%3A", ":").replace("%2F", "/"), "amazon.nova-pro-v1:0".into());
        let call = read_with(&mapped, &[], (&id, "converse"), &with(json!({})).to_string()).unwrap();
        assert_eq!(&*call.model, "amazon.nova-pro-v1:0");
        assert!(call.price.id.ends_with("amazon.nova-pro-v1:0"), "{}", call.price.id);
    }
    assert_eq!(refused(json!({"promptVariables": {"x": {"text": "y"}}})).code, "unpriceable_request");
}

#[test]
fn e2_an_arn_that_ends_with_its_model_is_priced_as_that_model() {
    for (kind, model) in [
        ("inference-profile%2Fus.anthropic.claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
        ("foundation-model%2Famazon.nova-pro-v1%3A0", "amazon.nova-pro-v1:0"),
        ("foundation-model%2Famazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
    ] {
        for start in ["arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3A", "arn:aws:bedrock:us-east-1:1:"] {
            let id = format!("{start}{kind}");
            let (by_arn, by_id) = (call_to(&id, json!({})), call_to(model, json!({})));
            assert_eq!((&*by_arn.model, &by_arn.price.id), (model, &by_id.price.id), "{id}");
            assert_eq!(by_arn.bound(1000, 100), by_id.bound(1000, 100), "{id}");
            // The operator's own word comes first.
            let mut mapped = options();
            let arn = id.replace("%3A", ":").replace("%2F", "/");
            mapped.deployments.insert(arn, "us.anthropic.claude-haiku-5-5".into());
            let call = read_with(&mapped, &[], (&id, "converse"), &with(json!({})).to_string()).unwrap();
            assert_eq!(&*call.model, "us.anthropic.claude-haiku-5-5", "{id}");
        }
    }
    // Calls go to us-east-1: another region has other prices.
    let elsewhere =
        refused_by("arn%3Aaws%3Abedrock%3Aeu-west-1%3A%3Afoundation-model%2Famazon.nova-pro-v1%3A0", json!({}));
    assert_eq!(elsewhere.code, "unpriced_model");
}

#[test]
fn e4_tools_that_run_inside() {
    let reject = refused(json!({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}));
    assert_eq!(reject.code, "unpriceable_request");
    assert!(reject.message.contains("toolConfig.tools[0].systemTool"), "{}", reject.message);
    let schema = json!({"json": {"type": "object"}});
    let tool = json!({"toolSpec": {"name": "f", "description": "d", "inputSchema": schema, "strict": true}});
    let choice = json!({"tools": [tool, tool], "toolChoice": {"auto": {}}});
    let (plain, tools) = (call(json!({})), call(json!({"toolConfig": choice})));
    assert!(tools.input_max >= plain.input_max + 2 * 64 + choice.to_string().len() as u64);
    // Written out, this schema has no end, or is 3,000 bytes longer.
    let of = |schema: Value| json!({"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]}});
    assert_eq!(call(of(json!({"$ref": "#"}))).input_max, 1_000_000);
    let twice = json!({"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}, "c": {"$ref": "#/$defs/X"}, "$defs": {"X": {"description": "y".repeat(1000)}}});
    assert!(call(of(twice.clone())).input_max > plain.input_max + 4_000);
    let format = json!({"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "n", "schema": twice.to_string()}}}}});
    assert!(call(format).input_max > plain.input_max + 4_000);
    let server = json!({"toolUse": {"toolUseId": "t", "name": "n", "input": {}, "type": "server_tool_use"}});
    assert_eq!(refused(json!({"messages": [{"role": "assistant", "content": [server]}]})).code, "unpriceable_request");
}

#[test]
fn e4_hidden_input() {
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let s3 = json!({"s3Location": {"uri": "s3://b/k"}});
    for (kind, format) in [("image", "png"), ("document", "pdf"), ("video", "mp4")] {
        let reject = refused(block(json!({kind: {"format": format, "source": s3, "name": "n"}})));
        assert_eq!(reject.code, "unpriceable_request", "{kind}");
    }
    let bytes = json!({"bytes": "AAAA"});
    let image = block(json!({"image": {"format": "png", "source": bytes}}));
    // Claude: 286² tokens an image at most; whose formula is not published: the window.
    let plain = call(json!({"messages": [{"role": "user", "content": []}]}));
    let with_image = call(image.clone());
    assert!(with_image.input_max > 286 * 286 && with_image.input_max < 286 * 286 + plain.input_max + 100);
    assert_eq!(call_to(NOVA, image).input_max, 310_000);
    for kind in ["document", "video"] {
        let call = call(block(json!({kind: {"format": "pdf", "source": bytes}})));
        assert_eq!(call.input_max, 1_000_000, "{kind}");
    }
    let text = json!({"document": {"format": "txt", "name": "n", "source": {"text": "some text"}}});
    assert!(call(block(text)).input_max < 4_000);
    let cited = json!({"document": {"name": "n", "source": {"text": "some text"}, "citations": {"enabled": true}}});
    assert_eq!(call(block(cited)).input_max, 1_000_000);
    assert_eq!(refused(block(json!({"audio": {"format": "mp3", "source": bytes}}))).code, "unpriceable_request");
}

#[test]
fn e4_no_cost_known() {
    call(
        json!({"outputConfig": {"effort": "low"}, "requestMetadata": {"team": "a"}, "additionalModelResponseFieldPaths": ["/x"]}),
    );
    assert_eq!(refused(json!({"outputConfig": {"speed": "fast"}})).code, "unpriceable_request");
}

#[test]
fn e4_optional_fields_that_are_null_are_not_there() {
    let plain = call(json!({})).bound(1000, 1000);
    for field in [
        "promptVariables",
        "modelId",
        "system",
        "toolConfig",
        "inferenceConfig",
        "outputConfig",
        "additionalModelRequestFields",
        "serviceTier",
        "performanceConfig",
        "guardrailConfig",
        "projectIdentifier",
        "requestMetadata",
    ] {
        assert_eq!(call(json!({ field: null })).bound(1000, 1000), plain, "{field}");
    }
    assert_eq!(sent(&call(json!({"inferenceConfig": null})), Some(50))["inferenceConfig"], json!({"maxTokens": 50}));
    // Merged over what Converse says in its own field, it may take its place.
    let merged = refused(json!({"additionalModelRequestFields": {"max_tokens": null}}));
    assert_eq!(merged.code, "unpriceable_request");
    assert_eq!(refused(json!({"messages": null})).code, "invalid_request");
}

#[test]
fn e4_optional_fields_of_claudes_own_format_that_are_null_are_not_there() {
    let native = |fields: Value| read(OPUS, "invoke", &claude(fields).to_string());
    let plain = native(json!({})).unwrap().bound(1000, 1000);
    for field in [
        "mcp_servers",
        "container",
        "context_management",
        "fallbacks",
        "thread",
        "speed",
        "inference_geo",
        "service_tier",
        "billing_policy",
        "stream",
        "model",
        "system",
        "tools",
        "thinking",
        "anthropic_beta",
        "output_config",
        "cache_control",
    ] {
        let call = native(json!({ field: null })).unwrap_or_else(|reject| panic!("{field}: {reject:?}"));
        assert_eq!(call.bound(1000, 1000), plain, "{field}");
    }
    let content = json!([
        {"type": "text", "text": "x", "citations": null, "cache_control": {"type": "ephemeral", "ttl": null}},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}},
        {"type": "tool_result", "tool_use_id": "t", "content": null},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA==", "url": null}},
    ]);
    let tools = json!([{"type": null, "name": "f", "input_schema": {}}]);
    let inner = json!({"messages": [{"role": "user", "content": content}], "tools": tools,
        "output_config": {"effort": null, "format": null}, "thinking": {"type": "adaptive", "budget_tokens": null}});
    native(inner).unwrap();
    for (field, set) in [("mcp_servers", json!([])), ("speed", json!("standard")), ("max_tokens", json!(null))] {
        assert!(native(json!({ field: set })).is_err(), "{field}");
    }
}

#[test]
fn e7_sealed_thoughts_count_four_tokens_a_byte() {
    let sealed = "A".repeat(10_000);
    let converse = |block: Value| {
        let reasoning = json!({"role": "assistant", "content": [{"reasoningContent": block}]});
        call(json!({"messages": [{"role": "user", "content": [{"text": "x"}]}, reasoning]})).input_max
    };
    let native = |block: Value| {
        let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [block]}]);
        read(OPUS, "invoke", &claude(json!({"messages": messages})).to_string()).unwrap().input_max
    };
    for (plain, with) in [
        (
            converse(json!({"reasoningText": {"text": "t", "signature": ""}})),
            converse(json!({"reasoningText": {"text": "t", "signature": sealed}})),
        ),
        (converse(json!({"redactedContent": ""})), converse(json!({"redactedContent": sealed}))),
        (
            native(json!({"type": "thinking", "thinking": "t", "signature": ""})),
            native(json!({"type": "thinking", "thinking": "t", "signature": sealed})),
        ),
        (
            native(json!({"type": "redacted_thinking", "data": ""})),
            native(json!({"type": "redacted_thinking", "data": sealed})),
        ),
    ] {
        assert_eq!(with, plain + 40_000);
    }
    // What is shown is text, a token a byte.
    let shown = |text: &str| converse(json!({"reasoningText": {"text": text}}));
    assert_eq!(shown(&sealed), shown("") + 10_000);
}

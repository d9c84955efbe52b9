//! One test for each row of the list of fields that raise or hide the bill.

use super::*;
use crate::money::Money;
use crate::pricing::Tier;

#[test]
fn b4_n() {
    let one = call(json!({"max_tokens": 10}));
    let many = call(json!({"max_tokens": 10, "n": 128}));
    assert_eq!((one.samples, many.samples), (1, 128));
    assert_eq!(call(json!({"n": null})).samples, 1);
    // Output costs 10 USD per million: 10 tokens are 100,000 nano-dollars a sample; n itself adds input bytes.
    let input = many.bound(many.input_max, 0);
    assert_eq!(many.bound(many.input_max, 10).saturating_sub(input), Money::from_nano(128 * 100_000));
    for bad in [json!(0), json!(129), json!(1_000_000_000), json!("1"), json!(1.5), json!(-1), json!(true), json!([1])]
    {
        assert_eq!(refused(json!({"n": bad})).code, "invalid_request", "{bad}");
    }
    assert_eq!(refused(json!({"best_of": 2})).code, "unpriceable_request");
}

#[test]
fn b4_max_tokens() {
    let absent = call(json!({}));
    assert_eq!((absent.output_max, absent.output_min), (16_384, 16));
    assert_eq!(sent(&absent, None).get("max_completion_tokens"), None);
    assert_eq!(sent(&absent, Some(500))["max_completion_tokens"], 500);
    // The one that is present is the one that is rewritten.
    let old = call(json!({"max_tokens": 100}));
    assert_eq!((old.output_max, old.output_min), (100, 16));
    assert_eq!(sent(&old, Some(50))["max_tokens"], 50);
    assert_eq!(sent(&old, Some(50)).get("max_completion_tokens"), None);
    assert_eq!(sent(&old, None)["max_tokens"], 100);
    let new = call(json!({"max_completion_tokens": 7, "max_tokens": null}));
    assert_eq!((new.output_max, new.output_min), (7, 7));
    assert_eq!(sent(&new, Some(7))["max_completion_tokens"], 7);
    assert_eq!(sent(&call(json!({"max_tokens": null})), Some(9))["max_completion_tokens"], 9);
    assert_eq!(call(json!({"max_tokens": 1_000_000})).output_max, 128_000);
    assert_eq!(refused(json!({"max_tokens": 5, "max_completion_tokens": 5})).code, "ambiguous_request");
    assert_eq!(refused(json!({"max_output_tokens": 5})).code, "unpriceable_request");
}

#[test]
fn b4_reasoning() {
    for effort in ["none", "minimal", "xhigh", "max"] {
        let call = call(json!({"model": "gpt-5", "reasoning_effort": effort}));
        assert_eq!(call.output_max, 128_000);
        assert!(!call.cuttable);
    }
    assert_eq!(refused(json!({"reasoning": {"mode": "pro"}})).code, "unpriceable_request");
    assert_eq!(
        refused(json!({"multi_agent": {"enabled": true, "max_concurrent_subagents": 1}})).code,
        "unpriceable_request"
    );
    // The switch that would turn such fields on never reaches the provider, nor do the headers that choose another project's settings.
    for header in ["openai-beta", "openai-organization", "openai-project"] {
        assert!(OpenAi.dropped_headers().contains(&header), "{header}");
    }
}

#[test]
fn b4_service_tier() {
    for absent in
        [json!({}), json!({"service_tier": null}), json!({"service_tier": "auto"}), json!({"service_tier": "default"})]
    {
        assert_eq!(sent(&call(absent), None)["service_tier"], "default");
    }
    // gpt-5 has a flex price and keeps it; gpt-4o has none.
    let flex = call(json!({"model": "gpt-5", "service_tier": "flex"}));
    assert_eq!(sent(&flex, None)["service_tier"], "flex");
    assert_eq!(sent(&call(json!({"service_tier": "flex"})), None)["service_tier"], "default");
    let standard = call(json!({"model": "gpt-5", "service_tier": "auto"}));
    assert_eq!(flex.bound(100, 100), standard.bound(100, 100));
    for dear in ["priority", "fast", "ultrafast", "scale", "Priority", "", "batch"] {
        assert_eq!(refused(json!({"service_tier": dear})).code, "unpriceable_request", "{dear}");
    }
    assert_eq!(refused(json!({"service_tier": 1})).code, "invalid_request");
}

#[test]
fn b4_long_prompt() {
    // gpt-5.4: 2.5/15, above 272,000 input tokens 5/22.5 for all of it.
    let call = call(json!({"model": "gpt-5.4", "max_completion_tokens": 1000}));
    assert_eq!(call.bound(272_000, 1000), Money::from_nano(272_000 * 2_500 + 1000 * 15_000));
    assert_eq!(call.bound(272_001, 1000), Money::from_nano(272_001 * 5_000 + 1000 * 22_500));
}

#[test]
fn b4_caching() {
    // From gpt-5.6 on the cache is written unasked, at 1.25 times the input.
    let writes = call(
        json!({"model": "gpt-5.6-luna", "prompt_cache_options": {"mode": "explicit", "ttl": "30m"}, "prompt_cache_key": "k"}),
    );
    assert_eq!(writes.bound(1_000_000, 0), Money::from_nano(1_000_000 * 500));
    assert_eq!(writes.bound(1000, 0), Money::from_nano(1000 * 250));
    let breakpoint = json!([{"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]}]);
    assert!(read(&json!({"model": "gpt-5.6-luna", "messages": breakpoint}).to_string()).is_ok());
    // Where no price of writes is known, asking for them is refused; a longer retention is not a write.
    assert_eq!(refused(json!({"messages": breakpoint})).code, "unpriceable_request");
    assert_eq!(refused(json!({"prompt_cache_options": {"mode": "explicit"}})).code, "unpriceable_request");
    assert_eq!(
        refused(json!({"model": "gpt-5.6-luna", "prompt_cache_options": {"ttl": "24h"}})).code,
        "unpriceable_request"
    );
    call(json!({"prompt_cache_retention": "24h", "prompt_cache_key": "k"}));
}

#[test]
fn b4_hidden_history() {
    for field in ["previous_response_id", "conversation", "prompt"] {
        let reject = refused(json!({field: "x_123"}));
        assert_eq!(reject.code, "unpriceable_request");
        assert!(reject.message.contains(field));
    }
}

#[test]
fn b4_background_and_store() {
    assert_eq!(refused(json!({"background": true})).code, "unpriceable_request");
    assert_eq!(sent(&call(json!({"store": true, "metadata": {"a": "b"}})), None)["store"], true);
}

#[test]
fn b4_images_audio_and_files() {
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it"}, part]}]});
    for url in ["https://example.com/a.png", "data:image/png;base64,AAAA"] {
        let image = call(part(json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}})));
        assert_eq!(image.input_max, 128_000);
        assert_eq!(image.body.exact_input(), None);
    }
    for hidden in [
        json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
        json!({"type": "file", "file": {"file_id": "file-1"}}),
        json!({"type": "input_file", "file_url": "https://example.com/a.pdf"}),
        json!({"type": "text", "text": "x", "file_id": "f"}),
        json!({"type": "image_url", "text": "x"}),
        json!({"type": "thinking", "thinking": "x"}),
        json!({"text": "x"}),
        json!("x"),
    ] {
        assert_eq!(refused(part(hidden.clone())).code, "unpriceable_request", "{hidden}");
    }
    let audio = json!({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]});
    assert_eq!(refused(audio).code, "unpriceable_request");
}

#[test]
fn b4_tools() {
    let function = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": null}});
    let plain = call(json!({}));
    let tools = json!({"tools": [function, {"type": "custom", "custom": {"name": "g"}}], "tool_choice": "auto", "parallel_tool_calls": false});
    let with_tools = call(tools);
    assert!(with_tools.input_max >= plain.input_max + 2 * 64);
    let exact = with_tools.body.exact_input().unwrap();
    assert!(exact > plain.body.exact_input().unwrap() + 2 * 64 && exact <= with_tools.input_max);
    for kind in [
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "computer",
        "shell",
        "Function",
    ] {
        let reject = refused(json!({"tools": [{"type": kind}]}));
        assert_eq!(reject.code, "unpriceable_request");
        assert!(reject.message.contains("tools[0].type"));
    }
    assert_eq!(
        refused(json!({"tools": [{"type": "function", "function": {}, "server_url": "x"}]})).code,
        "unpriceable_request"
    );
    assert_eq!(refused(json!({"web_search_options": {}})).code, "unpriceable_request");
    assert_eq!(refused(json!({"max_tool_calls": 3})).code, "unpriceable_request");
    assert_eq!(refused(json!({"tools": {}})).code, "invalid_request");
}

#[test]
fn b4_context_management() {
    assert_eq!(refused(json!({"context_management": [{"type": "compaction"}]})).code, "unpriceable_request");
}

#[test]
fn b4_prediction() {
    let guess = json!({"type": "content", "content": "x".repeat(1000)});
    let call = call(json!({"prediction": guess, "stream": true}));
    let plain = super::call(json!({"stream": true}));
    // Held as if all of it were rejected and billed as output (10 USD), beside its bytes as input (2.5 USD): 4 input tokens each.
    assert!(
        call.bound(call.input_max, 0).saturating_sub(plain.bound(plain.input_max, 0))
            >= Money::from_nano(1000 * (2_500 + 10_000))
    );
    assert!(!call.cuttable && plain.cuttable);
    assert_eq!(sent(&call, Some(77))["max_tokens"], 77);
    assert!(call.body.exact_input().unwrap() >= 4000);
}

#[test]
fn what_copies_the_api_may_show_a_tool_call_only_when_it_is_whole() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let mut body = json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let is_cuttable = |provider: &dyn Provider, body: &Value| {
        family::ask(provider, "/v1/chat/completions", body, &Options::default()).unwrap().cuttable
    };
    assert!(is_cuttable(&OpenAi, &body) && is_cuttable(&Compatible, &body));
    body["tools"] = tools;
    assert!(is_cuttable(&OpenAi, &body) && !is_cuttable(&Compatible, &body));
}

#[test]
fn b4_modalities_and_audio() {
    call(json!({"modalities": ["text"]}));
    call(json!({"modalities": null}));
    for modalities in [json!(["audio"]), json!(["text", "audio"]), json!("text"), json!([1])] {
        assert_eq!(refused(json!({"modalities": modalities})).code, "unpriceable_request");
    }
    assert_eq!(refused(json!({"audio": {"voice": "alloy", "format": "wav"}})).code, "unpriceable_request");
}

#[test]
fn b4_no_cost_known() {
    let fields = json!({
        "logprobs": true, "top_logprobs": 5, "seed": 7, "metadata": {"k": "v"}, "safety_identifier": "u", "user": "u", "temperature": 0.5,
        "top_p": 1, "stop": ["a"], "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {"1": 2}, "moderation": {"model": "m"},
    });
    let free = call(fields);
    assert_eq!(free.body.exact_input(), call(json!({})).body.exact_input());
    // What may stand in the prompt is counted by its bytes.
    let verbose = call(json!({"verbosity": "low"}));
    assert!(verbose.body.exact_input() > free.body.exact_input());
}

#[test]
fn b1_data_that_stays_in_a_region_costs_more() {
    let call = |model: &str, region: Option<&str>| {
        let options = Options { region: region.map(Into::into), ..Options::default() };
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        family::ask(&OpenAi, "/v1/chat/completions", &body, &options).unwrap()
    };
    // gpt-5.6-sol: 5 USD written and 20 USD out, a tenth more where the data stays in a region; gpt-5 is older than that.
    for (model, region, nano) in [
        ("gpt-5.6-sol", None, 1000 * 5_000 + 100 * 20_000),
        ("gpt-5.6-sol", Some("us"), 1000 * 5_500 + 100 * 22_000),
        ("gpt-5.6-sol", Some("eu"), 1000 * 5_500 + 100 * 22_000),
        ("gpt-5", Some("eu"), 1000 * 1_250 + 100 * 10_000),
    ] {
        let call = call(model, region);
        assert_eq!(call.bound(1000, 100), Money::from_nano(nano), "{model} {region:?}");
        // The answer is charged by the same factor.
        let mut reader = OpenAi.answer(CHAT, &call, &AnswerHead::plain("application/json"), Ceiling::Certain(9));
        assert_eq!(reader.observed(false).thousandths, call.terms.thousandths);
    }
}

#[test]
fn b4_tier_of_the_answer_is_not_the_requests() {
    // A prepaid or priority project may answer in another tier than was asked for; what it says is what it bills.
    assert_eq!(super::super::usage::tier("priority"), Tier::Priority);
    assert_eq!(super::super::usage::tier("fast"), Tier::Priority);
    assert_eq!(super::super::usage::tier("scale"), Tier::Standard);
    assert_eq!(super::super::usage::tier("something new"), Tier::Ultrafast);
}

#[test]
fn b4_optional_fields_that_are_null_are_not_there() {
    for field in [
        "audio",
        "web_search_options",
        "previous_response_id",
        "conversation",
        "prompt",
        "context_management",
        "background",
        "reasoning",
        "max_tool_calls",
        "max_output_tokens",
        "service_tier",
        "modalities",
        "prediction",
        "functions",
        "tools",
        "response_format",
        "prompt_cache_options",
        "stream_options",
        "n",
    ] {
        let with_null = call(json!({ field: null }));
        assert!(with_null.input_max < 2_000 && with_null.samples == 1, "{field}");
    }
    assert_eq!(refused(json!({"web_search_options": {}})).code, "unpriceable_request");
    assert_eq!(refused(json!({"background": false})).code, "unpriceable_request");
    // A tool written out in full.
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": null}, "custom": null}]);
    call(json!({"tools": tool}));
    let other = json!([{"type": "function", "function": {"name": "f"}, "custom": {"name": "g"}}]);
    assert_eq!(refused(json!({"tools": other})).code, "unpriceable_request");
}

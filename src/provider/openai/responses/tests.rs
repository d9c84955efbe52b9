//! Responses: what is priced, forced and refused, row by row.

use bytes::BytesMut;
use http::Method;
use serde_json::{Value, json};

use crate::money::Money;
use crate::provider::openai::OpenAi;
use crate::provider::openai::tests::family::{ask, fees};
use crate::provider::openai::tests::sent;
use crate::provider::{AnswerHead, Call, Ceiling, ErrorAnswer, Fee, Observed, Options, Provider, Reject};

fn with(fields: Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "input": "Say hello."});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn read(fields: Value, options: &Options) -> Result<Call, Reject> {
    ask(&OpenAi, "/v1/responses", &with(fields), options)
}

#[track_caller]
fn call(fields: Value) -> Call {
    read(fields, &Options::default()).unwrap_or_else(|reject| panic!("{reject:?}"))
}

#[track_caller]
fn refused(fields: Value) -> Reject {
    read(fields.clone(), &Options::default()).err().unwrap_or_else(|| panic!("{fields} was taken"))
}

#[test]
fn b4_max_output_tokens() {
    let absent = call(json!({}));
    assert_eq!((absent.output_max, absent.output_min, absent.samples), (16_384, 16, 1));
    assert_eq!(sent(&absent, None).get("max_output_tokens"), None);
    assert_eq!(sent(&absent, Some(500))["max_output_tokens"], 500);
    let own = call(json!({"max_output_tokens": 100}));
    assert_eq!((own.output_max, own.output_min), (100, 16));
    assert_eq!(sent(&own, Some(60))["max_output_tokens"], 60);
    assert_eq!(call(json!({"max_output_tokens": 1u64 << 40})).output_max, 128_000);
    for bad in [json!(0), json!(-1), json!(1.5), json!("9"), json!(true), json!(1u64 << 60)] {
        assert_eq!(refused(json!({"max_output_tokens": bad})).code, "invalid_request", "{bad}");
    }
    for other in ["max_tokens", "max_completion_tokens", "n", "best_of", "maxOutputTokens"] {
        assert_eq!(refused(json!({other: 9})).code, "unpriceable_request", "{other}");
    }
}

#[test]
fn b4_the_bound_is_bytes_and_frames_and_the_text_counted() {
    let plain = call(json!({}));
    let bytes = with(json!({})).to_string().len() as u64;
    // One item of 16, the request's frame of 1,024.
    assert_eq!(plain.input_max, bytes + 16 + 1024);
    // "Say hello." is 3 tokens.
    assert_eq!(plain.body.exact_input(), Some(3 + 16 + 1024));
    let more = call(json!({"instructions": "Be brief.", "input": [
        {"role": "user", "content": "Say hello."},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Say hello.", "annotations": []}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ]}));
    assert!(more.body.exact_input().unwrap() < more.input_max);
    // No public tokenizer: what NFKC may add counts. U+FDFA has 3 bytes, and 33 under NFKC.
    let hidden = call(json!({"model": "gpt-6-luna", "input": "\u{fdfa}".repeat(10)}));
    assert_eq!(hidden.body.exact_input(), None);
    let bytes = json!({"model": "gpt-6-luna", "input": "\u{fdfa}".repeat(10)}).to_string().len() as u64;
    assert_eq!(hidden.input_max, bytes + 300 + 16 + 1024);
}

#[test]
fn b4_reasoning() {
    let thinking = call(json!({"model": "gpt-5", "reasoning": {"effort": "high", "summary": "auto"}, "stream": true}));
    assert!(!thinking.cuttable && thinking.stream);
    assert!(call(json!({"stream": true})).cuttable);
    assert_eq!(refused(json!({"reasoning": {"mode": "pro"}})).code, "unpriceable_request");
    assert_eq!(refused(json!({"reasoning": "high"})).code, "invalid_request");
    call(json!({"reasoning": {"effort": "low", "mode": null}}));
}

#[test]
fn b4_service_tier_is_forced() {
    for tier in
        [json!({}), json!({"service_tier": null}), json!({"service_tier": "auto"}), json!({"service_tier": "default"})]
    {
        assert_eq!(sent(&call(tier), None)["service_tier"], "default");
    }
    assert_eq!(sent(&call(json!({"model": "gpt-5", "service_tier": "flex"})), None)["service_tier"], "flex");
    for dear in ["priority", "fast", "ultrafast", "scale", "Default"] {
        assert_eq!(refused(json!({"service_tier": dear})).code, "unpriceable_request", "{dear}");
    }
}

#[test]
fn b4_long_context_and_cache_writes() {
    let sol = call(json!({"model": "gpt-5.6-sol", "previous_response_id": "resp_1"}));
    // The whole window at the long price of a cache write, 10 USD, and its output at 30 USD.
    assert_eq!(sol.bound(sol.input_max, 1000), Money::from_nano(1_050_000 * 10_000 + 1000 * 30_000));
    let breakpoint =
        json!([{"role": "user", "content": [{"type": "input_text", "text": "x", "prompt_cache_breakpoint": {}}]}]);
    assert_eq!(refused(json!({"input": breakpoint})).code, "unpriceable_request");
    call(
        json!({"model": "gpt-5.6-sol", "input": breakpoint, "prompt_cache_options": {"mode": "explicit", "ttl": "30m"}}),
    );
    assert_eq!(refused(json!({"prompt_cache_options": {"mode": "explicit"}})).code, "unpriceable_request");
    assert_eq!(
        refused(json!({"model": "gpt-5.6-sol", "prompt_cache_options": {"ttl": "24h"}})).code,
        "unpriceable_request"
    );
}

#[test]
fn b4_history_that_is_not_in_the_body_fills_the_window() {
    let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}]}]);
    let file = json!([{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]);
    for hidden in [
        json!({"previous_response_id": "resp_1"}),
        json!({"conversation": "conv_1"}),
        json!({"conversation": {"id": "conv_1"}}),
        json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}]}),
        json!({"input": [{"type": "compaction", "encrypted_content": "x"}]}),
        json!({"input": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]}),
        json!({"input": image}),
        json!({"input": file}),
        json!({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "file_id": "f"}]}]}),
    ] {
        let call = call(hidden.clone());
        assert_eq!((call.input_max, call.body.exact_input()), (128_000, None), "{hidden}");
    }
    call(json!({"previous_response_id": null, "conversation": null}));
    for more in [
        json!({"prompt": {"id": "pmpt_1"}}),
        json!({"context_management": []}),
        json!({"multi_agent": {}}),
        json!({"background": true}),
    ] {
        assert_eq!(refused(more.clone()).code, "unpriceable_request", "{more}");
    }
    call(json!({"background": false, "store": true, "truncation": "auto", "include": ["reasoning.encrypted_content"]}));
}

#[test]
fn b4_input_has_known_forms() {
    for (bad, code) in [
        (json!(7), "invalid_request"),
        (json!([7]), "invalid_request"),
        (json!([{"role": "root", "content": "x"}]), "invalid_request"),
        (json!([{"role": "user", "content": 7}]), "invalid_request"),
        (json!([{"type": 7}]), "invalid_request"),
        (json!([{"role": "user", "content": "x", "file_id": "f"}]), "unpriceable_request"),
        (json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]), "unpriceable_request"),
        (
            json!([{"role": "user", "content": [{"type": "input_text", "text": "x", "file_id": "f"}]}]),
            "unpriceable_request",
        ),
        (json!([{"role": "user", "content": [{"type": "input_text", "text": 7}]}]), "unpriceable_request"),
        (json!([{"type": "mcp_approval_response", "approve": true}]), "unpriceable_request"),
        (json!([{"type": "computer_call_output", "output": {}}]), "unpriceable_request"),
        (json!([{"type": "shell_call", "action": {}}]), "unpriceable_request"),
        (json!([{"type": "image_generation_call", "result": "x"}]), "unpriceable_request"),
    ] {
        assert_eq!(refused(json!({"input": bad})).code, code, "{bad}");
    }
    let missing = json!({"model": "gpt-4o"});
    assert_eq!(ask(&OpenAi, "/v1/responses", &missing, &Options::default()).err().unwrap().code, "invalid_request");
    assert_eq!(refused(json!({"model": "text-embedding-3-small"})).code, "invalid_request");
    assert_eq!(refused(json!({"instructions": ["x"]})).code, "invalid_request");
}

#[test]
fn b4_tools_of_the_client_cost_tokens() {
    let tools = json!([
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
        {"type": "custom", "name": "g", "format": {"type": "text"}},
    ]);
    let plain = call(json!({}));
    let with_tools = call(json!({"tools": tools, "tool_choice": "auto"}));
    assert!(with_tools.input_max >= plain.input_max + 2 * 64);
    assert!(with_tools.body.exact_input().unwrap() >= plain.body.exact_input().unwrap() + 2 * 64);
    let endless = json!([{"type": "function", "name": "f", "parameters": {"$ref": "#"}}]);
    assert_eq!(call(json!({"tools": endless})).input_max, 128_000);
    let format = json!({"format": {"type": "json_schema", "name": "n", "schema": {"$ref": "#"}}});
    assert_eq!(call(json!({"text": format})).input_max, 128_000);
    assert_eq!(refused(json!({"text": {"format": {"type": "grammar"}}})).code, "unpriceable_request");
    assert_eq!(
        refused(json!({"tools": [{"type": "function", "name": "f", "server_url": "x"}]})).code,
        "unpriceable_request"
    );
    for kind in [
        "mcp",
        "image_generation",
        "computer",
        "computer_use_preview",
        "shell",
        "local_shell",
        "apply_patch",
        "tool_search",
        "namespace",
        "Function",
    ] {
        let reject = refused(json!({"tools": [{"type": kind}]}));
        assert_eq!(reject.code, "unpriceable_request");
        assert!(reject.message.contains("tools[0].type"), "{}", reject.message);
    }
}

#[test]
fn b4_built_in_tools_need_a_fee_and_are_held_for() {
    let search = json!({"tools": [{"type": "web_search"}]});
    let reject = refused(search.clone());
    assert_eq!(reject.code, "unpriceable_request");
    assert!(
        reject.hint.contains("providers.openai.fees") && reject.hint.contains("web_search: { usd:"),
        "{}",
        reject.hint
    );
    // A cent a call, three calls at most: four passes over the window, 2.5 USD a million.
    let options = fees(&[("web_search", 10_000_000, 3), ("code_interpreter", 30_000_000, 2)]);
    let one = read(search.clone(), &options).unwrap();
    assert_eq!((one.terms.passes, one.input_max, one.body.exact_input()), (4, 128_000, None));
    assert_eq!(one.bound(one.input_max, 0), Money::from_nano(3 * 10_000_000 + 4 * 128_000 * 2_500));
    assert_eq!(sent(&one, None)["max_tool_calls"], 3);
    // The price table knows of a cent for gpt-5: half a cent does not undercut it.
    let listed = json!({"model": "gpt-5", "tools": [{"type": "web_search"}]});
    let listed = read(listed, &fees(&[("web_search", 5_000_000, 3)])).unwrap();
    assert_eq!(listed.terms.fees, Money::from_nano(3 * 10_000_000));
    assert_eq!(listed.body.held_tools(), [("web_search", Fee { usd: Money::from_nano(10_000_000), calls: 3 })]);
    // Five calls of two tools: each may be one of the dearer tool.
    let both = json!({"tools": [{"type": "web_search_2025_08_26", "search_context_size": "low"}, {"type": "code_interpreter", "container": {"type": "auto"}}]});
    let two = read(both, &options).unwrap();
    assert_eq!((two.terms.passes, two.terms.fees), (6, Money::from_nano(5 * 30_000_000)));
    // The client may ask for fewer, never for more.
    let mut fewer = search.clone();
    fewer["max_tool_calls"] = json!(1);
    let fewer = read(fewer, &options).unwrap();
    assert_eq!((fewer.terms.passes, sent(&fewer, None)["max_tool_calls"].as_u64()), (2, Some(1)));
    let mut many = search;
    many["max_tool_calls"] = json!(1000);
    assert_eq!(sent(&read(many, &options).unwrap(), None)["max_tool_calls"], 3);
    for bad in [
        json!([{"type": "file_search", "vector_store_ids": ["vs"]}]),
        json!([{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}]),
        json!([{"type": "web_search", "external": true}]),
        json!([{"type": "web_search_preview"}]),
    ] {
        assert_eq!(read(json!({"tools": bad}), &options).err().unwrap().code, "unpriceable_request", "{bad}");
    }
    assert!(!read(json!({"tools": [{"type": "web_search"}], "stream": true}), &options).unwrap().cuttable);
}

#[test]
fn b4_no_cost_known() {
    let free = json!({"metadata": {"a": "b"}, "temperature": 1, "top_p": 0.5, "top_logprobs": 3, "user": "u", "safety_identifier": "s",
        "parallel_tool_calls": true, "prompt_cache_key": "k", "prompt_cache_retention": "24h", "max_tool_calls": 9});
    assert_eq!(call(free).body.exact_input(), call(json!({})).body.exact_input());
    assert_eq!(refused(json!({"a_field_of_next_year": 1})).code, "unpriceable_request");
    assert_eq!(refused(json!({"Model": "x"})).code, "ambiguous_request");
}

#[test]
fn the_event_that_ends_a_cut_stream_has_the_next_number() {
    let route = OpenAi.route(&Method::POST, "/v1/responses", None).unwrap();
    let error = ErrorAnswer {
        status: 200,
        code: "budget_exceeded",
        message: "no money",
        loopers: json!({"code": "budget_exceeded"}),
        request_id: "r1",
        route: Some(route),
    };
    for (events, number) in [
        ("", 0),
        ("data: {\"type\":\"response.in_progress\"}\n\n", 1),
        (
            "data: {\"type\":\"response.created\",\"sequence_number\":0}\n\ndata: {\"type\":\"x\",\"sequence_number\":41}\n\n",
            42,
        ),
        ("data: {\"type\":\"x\",\"sequence_number\":18446744073709551615}\n\n", u64::MAX),
    ] {
        let head = AnswerHead::plain("text/event-stream");
        let mut reader = OpenAi.answer(route, &call(json!({"stream": true})), &head, Ceiling::Certain(1 << 30));
        reader.push(events.as_bytes(), &mut BytesMut::new());
        let event = String::from_utf8(reader.closing_event(&error)).unwrap();
        let data = event.strip_prefix("event: error\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let said: Value = serde_json::from_str(data).unwrap();
        assert_eq!((said["type"].as_str(), said["sequence_number"].as_u64()), (Some("error"), Some(number)));
        assert_eq!(said["error"]["code"], "budget_exceeded");
    }
}

/// Reads an answer to its end.
fn observe(call: &Call, kind: &str, text: &str) -> Observed {
    let route = OpenAi.route(&Method::POST, "/v1/responses", None).unwrap();
    let mut reader = OpenAi.answer(route, call, &AnswerHead::plain(kind), Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    reader.push(text.as_bytes(), &mut emit);
    reader.finish(&mut emit);
    assert_eq!(emit, text);
    reader.observed(true).clone()
}

fn events(list: &[Value]) -> String {
    list.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn uses_that_could_not_be_read_charge_the_hold() {
    let search = read(json!({"tools": [{"type": "web_search"}]}), &fees(&[("web_search", 10_000_000, 5)])).unwrap();
    let usage = json!({"input_tokens": 100, "output_tokens": 50, "total_tokens": 150});
    let answer = |call: &Call, searches: usize, said: &str| {
        let mut items = vec![json!({"type": "web_search_call", "action": {"type": "search", "query": "x"}}); searches];
        items.push(json!({"type": "message", "content": [{"type": "output_text", "text": "SAID"}]}));
        let body = json!({"object": "response", "output": items, "usage": usage}).to_string().replace("SAID", said);
        let observed = observe(call, "application/json", &body);
        (observed.usage.map(|usage| usage.output), observed.fees.nano(), observed.odd_usage)
    };
    let large = "x".repeat(5 << 20);
    assert_eq!(answer(&search, 5, "hi"), (Some(50), 50_000_000, false));
    for lost in [large.as_str(), "\\ud800"] {
        assert_eq!(answer(&search, 5, lost), (None, 0, true));
        assert_eq!(answer(&search, 0, lost), (None, 0, true));
        // Without a tool that is billed apart nothing is lost that is billed.
        assert_eq!(answer(&call(json!({})), 0, lost), (Some(50), 0, false));
    }
    // The same of a stream's events.
    let end = json!({"type": "response.completed", "response": {"output": [], "usage": usage}});
    let item =
        r#"data: {"type":"response.output_item.done","item":{"type":"web_search_call","action":{"query":"\ud800"}}}"#;
    let text = r#"data: {"type":"response.output_text.delta","delta":"\ud800"}"#;
    let stream = |lost: &str| {
        observe(&search, "text/event-stream", &format!("{lost}\n\n{}", events(std::slice::from_ref(&end)))).usage
    };
    assert_eq!((stream(item), stream(text).map(|usage| usage.output)), (None, Some(50)));
}

#[test]
fn a31_only_the_end_of_a_stream_says_its_usage() {
    let usage = |output: u64, total: u64| json!({"input_tokens": 100, "output_tokens": output, "total_tokens": total});
    let event = |kind: &str, usage: Value| json!({"type": kind, "response": {"output": [], "usage": usage}});
    let begun = event("response.in_progress", usage(1, 101));
    let end = event("response.completed", usage(50, 150));
    let mut failed = event("response.failed", Value::Null);
    failed["response"]["error"] = json!({"code": "server_error"});
    let mut told = failed.clone();
    told["response"]["usage"] = usage(50, 150);
    let output = |list: &[Value]| {
        let observed = observe(&call(json!({"stream": true})), "text/event-stream", &events(list));
        (observed.usage.map(|usage| usage.output), observed.finished)
    };
    assert_eq!(output(&[begun.clone(), end.clone()]), (Some(50), true));
    assert_eq!(output(&[begun.clone(), told]), (Some(50), true));
    assert_eq!(output(&[begun.clone(), failed]), (None, true));
    assert_eq!(output(&[begun.clone(), event("response.incomplete", Value::Null)]), (None, true));
    assert_eq!(output(&[begun.clone(), event("response.completed", usage(50, 400))]), (None, true));
    assert_eq!(output(&[event("response.in_progress", usage(1, 400)), end.clone()]), (None, true));
    assert_eq!(output(&[begun, json!({"type": "error", "code": "server_error"}), end]), (None, true));
}

#[test]
fn b4_optional_fields_that_are_null_are_not_there() {
    for field in ["prompt", "context_management", "multi_agent", "modalities", "audio", "max_tokens", "n", "container"]
    {
        call(json!({ field: null }));
    }
    for field in ["background", "conversation", "reasoning", "text", "tools", "max_tool_calls", "service_tier"] {
        call(json!({ field: null }));
    }
    assert_eq!(refused(json!({"prompt": {"id": "pmpt_1"}})).code, "unpriceable_request");
}

#[test]
fn b4_calls_come_back_as_the_sdk_wrote_them_out() {
    let whole = json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed",
        "async": null, "caller": {"type": "direct"}, "namespace": null});
    let output =
        json!({"type": "function_call_output", "call_id": "c", "output": "1", "caller": null, "namespace": null});
    let said = json!({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": null, "agent": null,
        "content": [{"type": "output_text", "text": "x", "annotations": [], "logprobs": null}]});
    call(json!({"input": [whole, output, said]}));
    for (field, set) in [
        ("caller", json!({"type": "program", "caller_id": "p"})),
        ("caller", json!({"type": "direct", "caller_id": "p"})),
        ("namespace", json!("n")),
        ("async", json!(true)),
    ] {
        let mut item = whole.clone();
        item[field] = set;
        assert_eq!(refused(json!({"input": [item]})).code, "unpriceable_request", "{field}");
    }
}

//! Azure: deployments, data zones, versions, billed errors, routes.

use bytes::BytesMut;
use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::money::Money;
use crate::pricing::Tier;
use crate::provider::openai::tests::family::ask;
use crate::provider::openai::tests::sent;
use crate::provider::{Observed, Options};

const DATED: &str = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21";
const V1: &str = "/openai/v1/chat/completions";

fn options(map: &[(&str, &str)], region: Option<&str>) -> Options {
    let deployments = map.iter().map(|(name, model)| (name.to_string(), model.to_string())).collect();
    Options { deployments, region: region.map(Into::into), ..Options::default() }
}

fn chat(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn f1_a_deployment_is_priced_as_the_model_behind_it() {
    let known = options(&[("my-gpt", "gpt-4o"), ("gpt-5", "gpt-4o")], None);
    let dated = ask(&Azure, DATED, &chat(json!({})), &known).unwrap();
    assert_eq!((&*dated.price.id, &*dated.model), ("azure/gpt-4o", "gpt-4o"));
    // The path decides, whatever the body says.
    let other = ask(&Azure, DATED, &chat(json!({"model": "gpt-5-nano"})), &known).unwrap();
    assert_eq!(&*other.price.id, "azure/gpt-4o");
    assert_eq!(sent(&other, None).get("service_tier"), None);
    let v1 = ask(&Azure, V1, &chat(json!({"model": "my-gpt"})), &known).unwrap();
    assert_eq!(&*v1.price.id, "azure/gpt-4o");
    // A deployment's name says nothing of its model.
    let named = ask(&Azure, V1, &chat(json!({"model": "gpt-5"})), &known).unwrap();
    assert_eq!(&*named.price.id, "azure/gpt-4o");
    for (path, body) in [(V1, chat(json!({"model": "gpt-4o"}))), (DATED, chat(json!({})))] {
        let reject = ask(&Azure, path, &body, &options(&[], None)).err().unwrap();
        assert_eq!(reject.code, "unknown_model");
        assert!(reject.hint.contains("providers.azure.deployments"), "{}", reject.hint);
    }
    for (bad, code) in
        [(json!(null), "invalid_request"), (json!(7), "invalid_request"), (json!("a b"), "invalid_request")]
    {
        assert_eq!(ask(&Azure, V1, &chat(json!({"model": bad})), &known).err().unwrap().code, code);
    }
    let router = options(&[("my-gpt", "model-router")], None);
    assert_eq!(ask(&Azure, DATED, &chat(json!({})), &router).err().unwrap().code, "unpriceable_request");
    let unpriced = options(&[("my-gpt", "gpt-7-nova")], None);
    let reject = ask(&Azure, DATED, &chat(json!({})), &unpriced).err().unwrap();
    assert_eq!(reject.code, "unpriced_model");
    assert!(reject.hint.contains("azure/gpt-7-nova:"), "{}", reject.hint);
}

#[test]
fn f4_data_zones_cost_more() {
    // A thousand input tokens: gpt-4o at 2.5 USD a million, 2.75 by its zone's own row or by the surcharge;
    // gpt-6-sol at a cache write's 2.5, 10 or 20 per cent more.
    for (model, region, id, nano) in [
        ("gpt-4o", None, "azure/gpt-4o", 2_500_000),
        ("gpt-4o", Some("global"), "azure/gpt-4o", 2_500_000),
        ("us/gpt-4o", None, "azure/us/gpt-4o", 2_750_000),
        ("gpt-4o", Some("us"), "azure/us/gpt-4o", 2_750_000),
        ("eu/gpt-4o", None, "azure/gpt-4o", 2_750_000),
        ("gpt-4o", Some("swedencentral"), "azure/gpt-4o", 2_750_000),
        ("global/gpt-4o", Some("eu"), "azure/gpt-4o", 2_500_000),
        ("gpt-6-sol", Some("us"), "azure/gpt-6-sol", 2_750_000),
        ("gpt-6-sol", Some("eu"), "azure/gpt-6-sol", 3_000_000),
        ("apac/gpt-6-sol", None, "azure/gpt-6-sol", 3_000_000),
    ] {
        let call = ask(&Azure, DATED, &chat(json!({})), &options(&[("my-gpt", model)], region)).unwrap();
        assert_eq!((&*call.price.id, call.bound(1000, 0)), (id, Money::from_nano(nano)), "{model} {region:?}");
    }
}

#[test]
fn f2_streams_need_a_version_that_reports_usage() {
    let known = options(&[("my-gpt", "gpt-4o")], None);
    let stream = chat(json!({"stream": true, "model": "my-gpt"}));
    let path = |version: &str| format!("/openai/deployments/my-gpt/chat/completions?api-version={version}");
    for (version, is_fine) in [
        ("2024-10-21", true),
        ("2024-09-01-preview", true),
        ("2025-04-01-preview", true),
        ("2024-06-01", false),
        ("2023-05-15", false),
        ("2024-08-01-preview", false),
    ] {
        assert_eq!(ask(&Azure, &path(version), &stream, &known).is_ok(), is_fine, "{version}");
        assert!(ask(&Azure, &path(version), &chat(json!({})), &known).is_ok(), "{version}");
    }
    let call = ask(&Azure, V1, &stream, &known).unwrap();
    assert_eq!(sent(&call, None)["stream_options"], json!({"include_usage": true}));
    assert_eq!(
        ask(&Azure, DATED, &chat(json!({"data_sources": []})), &known).err().unwrap().code,
        "unpriceable_request"
    );
}

const RESPONSES: &str = "/openai/responses?api-version=";
const CHAT_AT: &str = "/openai/deployments/my-gpt/chat/completions?api-version=";

#[test]
fn f2_a_parameter_that_the_version_does_not_know_is_not_added() {
    let known = options(&[("my-gpt", "gpt-4.1")], None);
    let model = json!({"model": "my-gpt", "input": "x"});
    for (version, knows_limit, knows_tier) in [
        ("2023-05-15", false, false),
        ("2024-02-01", false, false),
        ("2024-06-01", false, false),
        ("2024-08-01-preview", false, false),
        ("2024-09-01-preview", true, false),
        ("2024-10-21", true, false),
        ("2025-04-01-preview", true, false),
        ("2025-10-01-preview", true, true),
        ("2026-01-01", true, true),
        ("preview", true, true),
        ("v1", true, true),
    ] {
        let call = ask(&Azure, &format!("{CHAT_AT}{version}"), &chat(json!({})), &known).unwrap();
        let clamped = sent(&call, Some(50));
        let (limit, other) =
            if knows_limit { ("max_completion_tokens", "max_tokens") } else { ("max_tokens", "max_completion_tokens") };
        assert_eq!((clamped[limit].as_u64(), clamped.get(other)), (Some(50), None), "{version}");
        assert_eq!(clamped.get("service_tier").is_some(), knows_tier, "{version}");
        let response = ask(&Azure, &format!("{RESPONSES}{version}"), &model, &known).unwrap();
        assert_eq!(sent(&response, Some(50)).get("service_tier").is_some(), knows_tier, "{version}");
        // Where nothing can be said of the tier, the deployment's setting decides: 3.5 and 14 USD, not 2 and 8.
        let (input, output) = if knows_tier { (2_000, 8_000) } else { (3_500, 14_000) };
        let want = Money::from_nano(1000 * input + 100 * output);
        assert_eq!((call.bound(1000, 100), response.bound(1000, 100)), (want, want), "{version}");
    }
    let plain = ask(&Azure, V1, &chat(json!({"model": "my-gpt"})), &known).unwrap();
    assert_eq!(
        (&sent(&plain, None)["service_tier"], plain.bound(1000, 0)),
        (&json!("default"), Money::from_nano(2_000_000))
    );
}

#[test]
fn f2_what_the_client_says_itself_goes_out_in_any_version() {
    let known = options(&[("my-gpt", "gpt-4.1"), ("old", "gpt-4o"), ("thinks", "gpt-5")], None);
    let old = format!("{CHAT_AT}2024-06-01");
    let standard = Money::from_nano(2_000_000);
    for (tier, sent_as) in [("default", "default"), ("auto", "default")] {
        let call = ask(&Azure, &old, &chat(json!({"service_tier": tier})), &known).unwrap();
        assert_eq!((&sent(&call, None)["service_tier"], call.bound(1000, 0)), (&json!(sent_as), standard), "{tier}");
    }
    assert!(ask(&Azure, &old, &chat(json!({"service_tier": "priority"})), &known).is_err());
    let null = ask(&Azure, &old, &chat(json!({"service_tier": null})), &known).unwrap();
    assert_eq!((sent(&null, None).get("service_tier"), null.bound(1000, 0)), (None, Money::from_nano(3_500_000)));
    let limit = ask(&Azure, &old, &chat(json!({"max_completion_tokens": 90})), &known).unwrap();
    assert_eq!(sent(&limit, Some(50))["max_completion_tokens"], 50);
    // An operator who knows of no tiers need not have any held for.
    let none = Options { no_service_tier: true, ..known.clone() };
    assert_eq!(ask(&Azure, &old, &chat(json!({})), &none).unwrap().bound(1000, 0), standard);
    // No priority price, nothing more to hold for.
    let path = "/openai/deployments/old/chat/completions?api-version=2024-06-01";
    assert_eq!(ask(&Azure, path, &chat(json!({})), &known).unwrap().bound(1000, 0), Money::from_nano(2_500_000));
    // A model that reasons takes no `max_tokens`, and this version no other limit: it is not written where there is none.
    let path = "/openai/deployments/thinks/chat/completions?api-version=2024-06-01";
    let open = ask(&Azure, path, &chat(json!({})), &known).unwrap();
    assert_eq!(open.output_min, open.output_max);
    let own = ask(&Azure, path, &chat(json!({"max_completion_tokens": 900})), &known).unwrap();
    assert_eq!((own.output_min, &sent(&own, Some(50))["max_completion_tokens"]), (16, &json!(50)));
}

#[test]
fn f2_a_tier_that_nothing_is_said_of_is_charged_as_the_dearer_one() {
    let known = options(&[("my-gpt", "gpt-4.1"), ("plain", "gpt-4o")], None);
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let tier = |path: &str, answer: Value| {
        let call = ask(&Azure, path, &chat(json!({"max_tokens": 100})), &known).unwrap();
        let mut body = json!({"object": "chat.completion", "choices": [], "usage": usage});
        body.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        read(&call, 200, &body.to_string()).tier
    };
    let old = format!("{CHAT_AT}2024-06-01");
    assert_eq!(tier(&old, json!({})), Tier::Priority);
    assert_eq!(tier(&old, json!({"service_tier": null})), Tier::Priority);
    assert_eq!(tier(&old, json!({"service_tier": "default"})), Tier::Standard);
    assert_eq!(tier(&format!("{CHAT_AT}2026-01-01"), json!({})), Tier::Standard);
    let plain = "/openai/deployments/plain/chat/completions?api-version=2024-06-01";
    assert_eq!(tier(plain, json!({})), Tier::Standard);
}

/// Reads the answer with this status to the end.
fn answer(status: u16, body: &str) -> Observed {
    let call = ask(&Azure, DATED, &chat(json!({"max_tokens": 100})), &options(&[("my-gpt", "gpt-4o")], None)).unwrap();
    read(&call, status, body)
}

fn read(call: &Call, status: u16, body: &str) -> Observed {
    let headers = HeaderMap::new();
    let head = AnswerHead { status, content_type: Some("application/json"), headers: &headers };
    let route = Azure.route(&Method::POST, "/openai/v1/chat/completions", None).unwrap();
    let mut reader = Azure.answer(route, call, &head, Ceiling::Certain(100));
    let mut emit = BytesMut::new();
    for piece in body.as_bytes().chunks(3) {
        reader.push(piece, &mut emit);
    }
    reader.finish(&mut emit);
    assert_eq!(emit, body, "a provider's own error passes untouched");
    reader.observed(true).clone()
}

#[test]
fn f5_a_400_is_charged_for_its_input_unless_only_its_form_was_wrong() {
    // The text of 3 tokens with 16 and 64 around it, at 2.5 USD a million.
    let input = Money::from_nano((3 + 16 + 64) * 2_500);
    let filtered = json!({"error": {"message": "filtered", "type": null, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": true}}}}});
    for (billed, body) in [
        (true, filtered.to_string()),
        (
            true,
            json!({"error": {"code": "context_length_exceeded", "message": "x", "type": "invalid_request_error"}})
                .to_string(),
        ),
        (true, json!({"error": {"code": "something new", "message": "x"}}).to_string()),
        (
            true,
            json!({"error": {"code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}}})
                .to_string(),
        ),
        (true, json!({"error": {"message": "x"}}).to_string()),
        (true, json!({"error": "x"}).to_string()),
        (true, "{}".into()),
        (true, "<html>400</html>".into()),
        (true, String::new()),
        (
            false,
            json!({"error": {"code": null, "message": "x", "type": "invalid_request_error", "param": "n"}}).to_string(),
        ),
        (
            false,
            json!({"error": {"code": "unknown_parameter", "message": "x", "type": "invalid_request_error"}})
                .to_string(),
        ),
        (false, json!({"error": {"code": "BadRequest", "message": "x"}}).to_string()),
    ] {
        let observed = answer(400, &body);
        let want = if billed { input } else { Money::ZERO };
        assert_eq!((observed.fees, observed.usage.map(|usage| usage.total_input())), (want, Some(0)), "{body}");
    }
    // Other errors say nothing of usage; their status decides.
    assert_eq!(answer(408, "{}").usage, None);
    for (status, is_free) in
        [(400, false), (408, false), (401, true), (403, true), (404, true), (429, true), (500, false), (200, false)]
    {
        assert_eq!(Azure.unbilled_status(status), is_free, "{status}");
    }
}

#[test]
fn f5_a_filtered_answer_is_billed_like_any_other() {
    let body = json!({"model": "gpt-4o-2024-11-20", "choices": [{"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant"}}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 7, "total_tokens": 26}, "prompt_filter_results": []});
    let observed = answer(200, &body.to_string());
    assert_eq!(observed.usage.map(|usage| (usage.input, usage.output)), Some((19, 7)));
}

#[test]
fn f1_the_model_of_an_answer_is_looked_up_in_its_own_zone() {
    let body = r#"{"model":"gpt-4o-2024-11-20","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;
    for (model, named, thousandths) in [
        ("us/gpt-4o", "us/gpt-4o-2024-11-20", 1000),
        ("eu/gpt-4o", "gpt-4o-2024-11-20", 1100),
        ("gpt-4o", "gpt-4o-2024-11-20", 1000),
    ] {
        let call = ask(&Azure, DATED, &chat(json!({})), &options(&[("my-gpt", model)], None)).unwrap();
        let route = Azure.route(&Method::POST, V1, None).unwrap();
        let mut reader = Azure.answer(route, &call, &AnswerHead::plain("application/json"), Ceiling::Certain(9));
        reader.push(body.as_bytes(), &mut BytesMut::new());
        reader.finish(&mut BytesMut::new());
        let observed = reader.observed(true);
        assert_eq!((observed.model.as_deref(), observed.thousandths), (Some(named), thousandths), "{model}");
    }
}

#[test]
fn keys_go_where_azure_reads_them() {
    let outgoing = Outgoing::bare();
    assert_eq!(Azure.authorize(&outgoing, &Secret::new("0123abc")).unwrap(), [("api-key", "0123abc".to_string())]);
    let token = "eyJ0eXAi.eyJhdWQi.c2ln";
    assert_eq!(
        Azure.authorize(&outgoing, &Secret::new(token)).unwrap(),
        [("authorization", format!("Bearer {token}"))]
    );
    assert!(Azure.dropped_headers().contains(&"x-ms-spillover-deployment"));
}

#[test]
fn a13_only_the_known_routes_exist() {
    let route = |method: Method, target: &str| {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Azure.route(&method, path, query).map(|route| route.label)
    };
    for (method, target, label) in [
        (Method::POST, DATED, "chat_completions"),
        (Method::POST, "/openai/deployments/d/completions?api-version=2024-10-21", "completions"),
        (Method::POST, "/openai/deployments/d/embeddings?api-version=2024-10-21", "embeddings"),
        (Method::POST, "/openai/responses?api-version=2025-04-01-preview", "responses"),
        (Method::GET, "/openai/responses/resp_1?api-version=2025-04-01-preview&stream=true", "stored_response"),
        (Method::GET, "/openai/models?api-version=2024-10-21", "models"),
        (Method::POST, V1, "chat_completions"),
        (Method::POST, "/openai/v1/chat/completions?api-version=preview", "chat_completions"),
        (Method::POST, "/openai/v1/responses", "responses"),
        (Method::POST, "/openai/v1/embeddings", "embeddings"),
        (Method::POST, "/openai/v1/completions", "completions"),
        (Method::DELETE, "/openai/v1/responses/resp_1", "stored_response"),
        (Method::POST, "/openai/v1/responses/resp_1/cancel", "cancel_response"),
        (Method::GET, "/openai/v1/responses/resp_1/input_items?limit=5", "stored_response"),
        (Method::GET, "/openai/v1/models/gpt-4o", "models"),
    ] {
        assert_eq!(route(method, target), Some(label), "{target}");
    }
    for target in [
        "/openai/deployments/d/chat/completions",
        "/openai/deployments/d/chat/completions?api-version=",
        "/openai/deployments/d/chat/completions?api-version=1&api-version=2",
        "/openai/deployments/d/chat/completions?api-version=2024-10-21&x=1",
        "/openai/deployments/d/chat/completions?API-VERSION=2024-10-21",
        "/openai/deployments//chat/completions?api-version=2024-10-21",
        "/openai/deployments/../chat/completions?api-version=2024-10-21",
        "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21",
        "/openai/deployments/d/extensions/chat/completions?api-version=2024-10-21",
        "/openai/deployments/d/images/generations?api-version=2024-10-21",
        "/openai/deployments/d/audio/speech?api-version=2024-10-21",
        "/openai/deployments/d/audio/transcriptions?api-version=2024-10-21",
        "/openai/chat/completions?api-version=2024-10-21",
        "/openai/v1/responses/compact",
        "/openai/v1/responses/input_tokens",
        "/openai/v1/moderations",
        "/openai/v1/images/generations",
        "/openai/v1/videos",
        "/openai/v1/batches",
        "/openai/v1/files",
        "/openai/v1/fine_tuning/jobs",
        "/openai/v1/vector_stores",
        "/openai/v1/evals",
        "/openai/v1/containers",
        "/openai/v1/realtime",
        "/openai/v1/conversations",
        "/openai/assistants?api-version=2024-10-21",
        "/openai/threads?api-version=2024-10-21",
        "/openai/batches?api-version=2024-10-21",
        "/models/chat/completions?api-version=2024-05-01-preview",
        "/anthropic/v1/messages",
        "/openai/modelsx?api-version=2024-10-21",
    ] {
        for method in [Method::POST, Method::GET, Method::PUT, Method::DELETE] {
            assert_eq!(route(method.clone(), target), None, "{method} {target}");
        }
    }
}

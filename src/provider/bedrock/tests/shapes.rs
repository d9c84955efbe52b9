//! Forms of Converse requests, forwarded bodies, errors, and what else the gateway asks of a provider.

use super::*;
use crate::provider::reader::Framing;

#[test]
fn messages_have_known_forms() {
    let ok = json!({
        "system": [{"text": "be brief"}],
        "messages": [
            {"role": "user", "content": [{"text": "x"}, {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}]}}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "x", "signature": "s"}}},
                {"reasoningContent": {"redactedContent": "AAAA"}},
                {"citationsContent": {"content": [{"text": "x"}], "citations": []}},
                {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": [1]}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "status": "success", "content": [
                {"json": {"a": 1}}, {"text": "x"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}}]}}]},
        ],
    });
    call(ok);
    for (bad, code) in [
        (json!([]), "invalid_request"),
        (json!("x"), "invalid_request"),
        (json!(null), "invalid_request"),
        (json!(["x"]), "invalid_request"),
        (json!([{"role": "system", "content": []}]), "invalid_request"),
        (json!([{"content": []}]), "invalid_request"),
        (json!([{"role": "user"}]), "invalid_request"),
        (json!([{"role": "user", "content": "x"}]), "invalid_request"),
        (json!([{"role": "user", "content": [{"text": 5}]}]), "invalid_request"),
        (json!([{"role": "user", "content": [{}]}]), "invalid_request"),
        (json!([{"role": "user", "content": [{"text": null}]}]), "invalid_request"),
        (json!([{"role": "user", "content": [{"file": {}}]}]), "unpriceable_request"),
        (
            json!([{"role": "user", "content": [{"image": {"format": "png", "source": {"url": "x"}}}]}]),
            "unpriceable_request",
        ),
        (json!([{"role": "user", "content": [{"image": {"format": "png"}}]}]), "invalid_request"),
        (
            json!([{"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"audio": {}}]}}]}]),
            "unpriceable_request",
        ),
        (json!([{"role": "user", "content": [], "name": "n"}]), "unpriceable_request"),
    ] {
        assert_eq!(refused(json!({"messages": bad})).code, code, "{bad}");
    }
}

#[test]
fn all_that_is_not_forced_keeps_its_bytes() {
    let body = r#" {"messages":[ {"role":"user","content":[{"text":"\u00e9 \/ x🙂"}]} ],"inferenceConfig":{"temperature" : 0.70,"maxTokens":1000}}"#;
    let call = read(OPUS, "converse", body).unwrap();
    let want = r#"{"messages":[ {"role":"user","content":[{"text":"\u00e9 \/ x🙂"}]} ],"inferenceConfig":{"temperature":0.70,"maxTokens":300}}"#;
    assert_eq!(call.body.render(Some(300)), want);
}

fn error(status: u16, code: &'static str) -> ErrorAnswer<'static> {
    ErrorAnswer {
        status,
        code,
        message: "no \"money\"",
        loopers: json!({"code": code, "limit_usd": "1"}),
        request_id: "r1",
        route: None,
    }
}

#[test]
fn errors_are_said_in_bedrocks_shape() {
    for (status, code, want, name) in [
        (402, "budget_exceeded", 403, "AccessDeniedException"),
        (402, "session_steps_exceeded", 403, "AccessDeniedException"),
        (401, "invalid_key", 401, "AccessDeniedException"),
        (403, "key_revoked", 403, "AccessDeniedException"),
        (400, "unpriceable_request", 400, "ValidationException"),
        (404, "unknown_route", 404, "ResourceNotFoundException"),
        (413, "request_too_large", 413, "ValidationException"),
        (422, "unknown_model", 422, "ValidationException"),
        (429, "rate_limited", 429, "ServiceQuotaExceededException"),
        (503, "ledger_unavailable", 503, "InternalServerException"),
        (504, "upstream_timeout", 504, "InternalServerException"),
    ] {
        let reply = Bedrock.refusal(&error(status, code));
        assert_eq!(reply.status, want, "{code}");
        assert_eq!(reply.headers, [("x-amzn-errortype", name.to_string()), ("x-amzn-requestid", "r1".to_string())]);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body, json!({"message": "no \"money\"", "loopers": {"code": code, "limit_usd": "1"}}));
        // A5: these two are sent again by themselves.
        assert!(!["ThrottlingException", "ServiceUnavailableException"].contains(&name));
    }
}

#[test]
fn cap_35_a_cut_is_an_exception_frame() {
    for (status, code, kind) in [
        (402, "budget_exceeded", "validationException"),
        (403, "key_revoked", "validationException"),
        (502, "upstream_unreachable", "modelStreamErrorException"),
    ] {
        let frame = errors::closing_event(&error(status, code));
        let text = String::from_utf8_lossy(&frame).into_owned();
        assert!(
            text.contains(":exception-type") && text.contains(kind) && text.contains(r#""message":"no \"money\"""#),
            "{text}"
        );
        // Both checksums are right, or the decoder would not take it.
        let mut names = Vec::new();
        frames::Frames::default()
            .push(&frame, &mut |event| {
                names.push(event.name.unwrap().to_vec());
                true
            })
            .unwrap();
        assert_eq!(names, [frames::FAILURE]);
    }
}

#[test]
fn facts() {
    for free in [400, 401, 403, 404, 413, 429] {
        assert!(Bedrock.unbilled_status(free), "{free}");
    }
    for doubtful in [200, 302, 408, 424, 500, 502, 503, 504] {
        assert!(!Bedrock.unbilled_status(doubtful), "{doubtful}");
    }
    assert!(!Bedrock.drop_stops_bill());
    assert!(Bedrock.dropped_headers().iter().all(|name| *name == name.to_lowercase()));
    assert!(
        ["x-amz-date", "x-amz-security-token", "x-amz-content-sha256"]
            .iter()
            .all(|name| Bedrock.dropped_headers().contains(name))
    );
    // Nothing is cut that would be billed all the same.
    assert!(!read(OPUS, "converse-stream", &with(json!({})).to_string()).unwrap().cuttable);
}

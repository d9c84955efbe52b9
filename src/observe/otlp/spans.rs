//! The spans of a call: what the client asked of the gateway, and inside it what the gateway asked of the provider.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::names;
use crate::ledger::Charge;
use crate::observe::calls::{CallRecord, Trace, bounded};
use crate::secret::random_bytes;

/// Sampled, in the flags of a span.
const SAMPLED: u32 = 1;

/// An export request, encoded.
pub fn request(spans: Vec<Span>, service_name: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![text("service.name", service_name), text("service.version", version)];
    let scope = InstrumentationScope { name: "loopers".into(), version: version.into(), ..Default::default() };
    let resource = Resource { attributes, ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }];
    let resource_spans = ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// Adds the spans of a call.
pub fn of_call(record: &CallRecord, spans: &mut Vec<Span>) {
    let (Some(trace), Ok(id)) = (record.trace, random_bytes::<8>()) else { return };
    let end = u64::try_from(record.ended_at).unwrap_or(0).saturating_mul(1_000_000);
    let start = end.saturating_sub(nanos(record.times.total));
    let failed = matches!(record.ending, "cut" | "upstream_failed" | "unreached" | "failed")
        || record.status.is_some_and(|status| status >= 500);
    spans.push(Span {
        name: format!("{} {}", or_none(&record.provider), record.route.unwrap_or("none")),
        attributes: of_gateway(record),
        ..span(trace, id, trace.parent, SpanKind::Server, (start, end), failed)
    });
    if let (Some(took), Some(operation), Ok(inner)) =
        (record.times.provider, record.route.and_then(names::operation), random_bytes::<8>())
    {
        let called = start.saturating_add(nanos(record.times.before));
        let model = record.requested_model.as_deref().map_or("", bounded);
        let failed = record.ending != "ok";
        spans.push(Span {
            name: format!("{operation} {model}").trim_end().to_string(),
            attributes: of_provider(record, operation),
            ..span(trace, inner, Some(id), SpanKind::Client, (called, called.saturating_add(nanos(took))), failed)
        });
    }
}

fn span(
    trace: Trace,
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    kind: SpanKind,
    (start, end): (u64, u64),
    failed: bool,
) -> Span {
    let code = if failed { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: trace.id.to_vec(),
        span_id: id.to_vec(),
        parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        status: Some(Status { code: code.into(), message: String::new() }),
        ..Span::default()
    }
}

/// The client's side: who asked, what was held and charged.
fn of_gateway(record: &CallRecord) -> Vec<KeyValue> {
    let mut found = vec![text("loopers.request.id", &record.request_id), text("loopers.ending", record.ending)];
    let mut add = |value: Option<KeyValue>| found.extend(value);
    add(record.status.map(|status| int("http.response.status_code", u64::from(status))));
    add(names::error(record).map(|error| text("error.type", &error)));
    add(record.chain().first().map(|key| text("loopers.key.id", key.as_str())));
    let teams: Vec<AnyValue> = record.chain().iter().skip(1).map(|team| string(team.as_str())).collect();
    add((!teams.is_empty()).then(|| pair("loopers.team.ids", Value::ArrayValue(ArrayValue { values: teams }))));
    add(record.session.as_deref().map(|session| text("loopers.session.id", session)));
    add(record.hold.as_ref().map(|hold| text("loopers.hold.id", &hold.hold.0)));
    add(record.cut.map(|cut| text("loopers.cut", cut)));
    add(record.clamped_to.map(|limit| int("loopers.clamped_to", limit)));
    add(record.held.map(|held| text("loopers.held_usd", &held.to_string())));
    if let (Some(cost), Some(charge)) = (record.cost(), record.charge) {
        add(Some(text("loopers.cost_usd", &cost.to_string())));
        add(Some(int("loopers.cost_nano_usd", cost.nano())));
        add(Some(text("loopers.charged", if charge == Charge::Full { "full" } else { "exact" })));
    }
    add(Some(int("loopers.overhead_us", u64::try_from(record.times.overhead.as_micros()).unwrap_or(u64::MAX))));
    found
}

/// The provider's side, in the words of the conventions.
fn of_provider(record: &CallRecord, operation: &str) -> Vec<KeyValue> {
    let mut found =
        vec![text("gen_ai.operation.name", operation), text("gen_ai.provider.name", names::provider(record))];
    let mut add = |value: Option<KeyValue>| found.extend(value);
    add(record.requested_model.as_deref().map(|model| text("gen_ai.request.model", bounded(model))));
    add(record.response_model.as_deref().map(|model| text("gen_ai.response.model", bounded(model))));
    add(record.provider_request_id.as_deref().map(|id| text("loopers.provider.request.id", bounded(id))));
    add(record.server.as_ref().map(|(host, _)| text("server.address", host)));
    add(record.server.as_ref().map(|(_, port)| int("server.port", u64::from(*port))));
    add(names::error(record).map(|error| text("error.type", &error)));
    add(record.clamped_to.map(|limit| int("gen_ai.request.max_tokens", limit)));
    if let Some(usage) = &record.usage {
        add(Some(int("gen_ai.usage.input_tokens", usage.total_input())));
        add(Some(int("gen_ai.usage.output_tokens", usage.total_output())));
        let cached = usage.cache_read.saturating_add(usage.audio_in_cached);
        let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
        add((cached > 0).then(|| int("gen_ai.usage.cache_read.input_tokens", cached)));
        add((written > 0).then(|| int("gen_ai.usage.cache_creation.input_tokens", written)));
        add((usage.reasoning > 0).then(|| int("gen_ai.usage.reasoning.output_tokens", usage.reasoning)));
    }
    found
}

fn or_none(name: &str) -> &str {
    if name.is_empty() { "none" } else { name }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn string(value: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.into())) }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: u64) -> KeyValue {
    pair(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::calls::sample;

    fn value<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
        span.attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
    }

    #[test]
    fn a_call_is_a_span_for_its_client_and_one_for_its_provider() {
        let record = sample();
        let mut spans = Vec::new();
        of_call(&record, &mut spans);
        let [outer, inner] = spans.as_slice() else { panic!("{spans:?}") };
        let trace = record.trace.unwrap();
        assert!(spans.iter().all(|span| span.trace_id == trace.id));
        assert_eq!(outer.parent_span_id, trace.parent.unwrap());
        assert_eq!(inner.parent_span_id, outer.span_id);
        assert_ne!(inner.span_id, outer.span_id);
        assert_eq!((outer.name.as_str(), inner.name.as_str()), ("openai chat_completions", "chat gpt-4o-mini"));
        assert!(outer.start_time_unix_nano <= inner.start_time_unix_nano);
        assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);
        assert_eq!(value(outer, "loopers.cost_usd"), Some(&Value::StringValue("0.00000885".into())));
        assert_eq!(value(outer, "loopers.cost_nano_usd"), Some(&Value::IntValue(8_850)));
        assert_eq!(value(inner, "gen_ai.usage.input_tokens"), Some(&Value::IntValue(12)));
        assert_eq!(value(inner, "error.type"), None);
    }

    #[test]
    fn a_refused_call_never_went_to_a_provider() {
        let times = crate::observe::calls::Times { provider: None, ..sample().times };
        let record = CallRecord { code: Some("budget_exceeded"), ending: "refused", times, ..sample() };
        let mut spans = Vec::new();
        of_call(&record, &mut spans);
        assert_eq!(spans.len(), 1);
        assert_eq!(value(&spans[0], "error.type"), Some(&Value::StringValue("budget_exceeded".into())));
        spans.clear();
        of_call(&CallRecord { trace: None, ..record }, &mut spans);
        assert!(spans.is_empty(), "no trace, no span");
    }
}

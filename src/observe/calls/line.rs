//! A line of the call log. `docs/call-log.schema.json` says what each field is.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{CallRecord, TEXT_BYTES_MAX};
use crate::clock::rfc3339;
use crate::ledger::{Charge, NodeId};
use crate::money::Money;
use crate::pricing::Usage;

/// Every field is always there, in this order; `null` stands for what is not known or did not happen.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    r#type: &'static str,
    request_id: &'a str,
    provider_request_id: Option<Text<'a>>,
    trace_id: Option<Hex>,
    hold_id: Option<&'a str>,
    key_id: Option<&'a str>,
    team_ids: &'a [NodeId],
    session_id: Option<&'a str>,
    provider: Option<&'a str>,
    route: Option<&'static str>,
    model: Option<&'a str>,
    requested_model: Option<Text<'a>>,
    response_model: Option<Text<'a>>,
    stream: bool,
    status: Option<u16>,
    ending: &'static str,
    code: Option<&'static str>,
    cut: Option<&'static str>,
    tokens: Option<Tokens>,
    cost_usd: Option<Usd>,
    held_usd: Option<Usd>,
    charged: Option<&'static str>,
    clamped_to: Option<u64>,
    overhead_us: u64,
    ttft_us: Option<u64>,
    duration_us: u64,
}

#[derive(Serialize)]
struct Tokens {
    input: u64,
    cached_input: u64,
    cache_write_input: u64,
    output: u64,
    reasoning_output: u64,
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        Tokens {
            input: usage.total_input(),
            cached_input: usage.cache_read.saturating_add(usage.audio_in_cached),
            cache_write_input: usage.cache_write_5m.saturating_add(usage.cache_write_1h),
            output: usage.total_output(),
            reasoning_output: usage.reasoning,
        }
    }
}

struct Usd(Money);

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

struct Hex([u8; 16]);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

/// Text that somebody else made: bounded here, escaped by the serializer.
struct Text<'a>(&'a str);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(bounded(self.0))
    }
}

/// The beginning of a text, at most [`TEXT_BYTES_MAX`] bytes.
pub fn bounded(text: &str) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    &text[..(0..=text.len().min(TEXT_BYTES_MAX)).rev().find(fits).unwrap_or(0)]
}

/// Appends a call's line, with its line feed.
pub fn write_line(record: &CallRecord, out: &mut Vec<u8>) {
    let start = out.len();
    match serde_json::to_writer(&mut *out, &line(record)) {
        Ok(()) => out.push(b'\n'),
        // Only a writer that fails makes this fail, and a vector does not.
        Err(_) => out.truncate(start),
    }
}

fn line(record: &CallRecord) -> Line<'_> {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (key, teams) = record.chain().split_first().map_or((None, &[][..]), |(key, teams)| (Some(key.as_str()), teams));
    Line {
        time: rfc3339(record.ended_at),
        r#type: "call",
        request_id: &record.request_id,
        provider_request_id: record.provider_request_id.as_deref().map(Text),
        trace_id: record.trace.map(|trace| Hex(trace.id)),
        hold_id: record.hold.as_ref().map(|hold| &*hold.hold.0),
        key_id: key,
        team_ids: teams,
        session_id: record.session.as_deref(),
        provider: Some(&*record.provider).filter(|name| !name.is_empty()),
        route: record.route,
        model: record.model.as_deref(),
        requested_model: record.requested_model.as_deref().map(Text),
        response_model: record.response_model.as_deref().map(Text),
        stream: record.stream,
        status: record.status,
        ending: record.ending,
        code: record.code,
        cut: record.cut,
        tokens: record.usage.map(Tokens::from),
        cost_usd: record.cost().map(Usd),
        held_usd: record.held.map(Usd),
        charged: record.charge.map(|charge| match charge {
            Charge::Exact(_) => "exact",
            Charge::Full => "full",
        }),
        clamped_to: record.clamped_to,
        overhead_us: micros(record.times.overhead),
        ttft_us: record.times.first_byte.map(micros),
        duration_us: micros(record.times.total),
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::{Times, Trace};
    use super::*;
    use crate::ledger::{HoldId, HoldRef};

    /// A call that went well.
    pub fn record() -> CallRecord {
        let chain: Vec<NodeId> = vec!["k_1".into(), "t_2".into(), "t_3".into()];
        let hold = HoldRef { hold: HoldId("ab".into()), chain, session: Some("run-1".into()) };
        CallRecord {
            ended_at: 1_700_000_000_123,
            request_id: "req_1".into(),
            provider_request_id: Some("upstream-1".into()),
            trace: Trace::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            view: None,
            session: hold.session.clone(),
            hold: Some(Arc::new(hold)),
            api: Some("openai"),
            provider: "openai".into(),
            server: None,
            route: Some("chat_completions"),
            model: Some("gpt-4o-mini".into()),
            requested_model: Some("gpt-4o-mini".into()),
            response_model: Some("gpt-4o-mini-2024-07-18".into()),
            stream: true,
            status: Some(200),
            ending: "ok",
            code: None,
            cut: None,
            usage: Some(Usage {
                input: 7,
                cache_read: 3,
                cache_write_1h: 2,
                output: 5,
                reasoning: 4,
                ..Usage::default()
            }),
            held: Some(Money::from_nano(250_500)),
            charge: Some(Charge::Exact(Money::from_nano(8_850))),
            clamped_to: Some(16),
            times: Times {
                total: Duration::from_micros(900),
                before: Duration::from_micros(60),
                overhead: Duration::from_micros(70),
                first_byte: Some(Duration::from_micros(500)),
                provider: Some(Duration::from_micros(800)),
            },
        }
    }

    fn written(record: &CallRecord) -> Value {
        let mut out = Vec::new();
        write_line(record, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_has_ids_tokens_money_and_times() {
        let expected = json!({
            "time": "2023-11-14T22:13:20.123Z", "type": "call", "request_id": "req_1",
            "provider_request_id": "upstream-1", "trace_id": "0af7651916cd43dd8448eb211c80319c", "hold_id": "ab", "key_id": "k_1", "team_ids": ["t_2", "t_3"],
            "session_id": "run-1", "provider": "openai", "route": "chat_completions", "model": "gpt-4o-mini",
            "requested_model": "gpt-4o-mini", "response_model": "gpt-4o-mini-2024-07-18", "stream": true, "status": 200,
            "ending": "ok", "code": null, "cut": null,
            "tokens": {"input": 12, "cached_input": 3, "cache_write_input": 2, "output": 5, "reasoning_output": 4},
            "cost_usd": "0.00000885", "held_usd": "0.0002505", "charged": "exact", "clamped_to": 16,
            "overhead_us": 70, "ttft_us": 500, "duration_us": 900,
        });
        assert_eq!(written(&record()), expected);
        let full = written(&CallRecord { charge: Some(Charge::Full), ..record() });
        assert_eq!((&full["cost_usd"], &full["charged"]), (&json!("0.0002505"), &json!("full")));
        let free = written(&CallRecord { charge: None, held: None, ..record() });
        assert_eq!((&free["cost_usd"], &free["charged"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn what_others_write_is_escaped_and_short() {
        let hostile = "a\"}\n{\"type\":\"call\",\"cost_usd\":\"0\u{1b}[31m".to_string() + &"é".repeat(1000);
        let model: Arc<str> = hostile.clone().into();
        let line = written(&CallRecord {
            requested_model: Some(model),
            response_model: Some(hostile.clone().into()),
            provider_request_id: Some(hostile.clone().into()),
            ..record()
        });
        for field in ["requested_model", "response_model", "provider_request_id"] {
            let text = line[field].as_str().unwrap();
            assert!(hostile.starts_with(text) && (TEXT_BYTES_MAX - 1..=TEXT_BYTES_MAX).contains(&text.len()), "{text}");
        }
        assert_eq!(line["cost_usd"], "0.00000885");
    }
}

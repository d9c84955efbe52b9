//! `application/vnd.amazon.eventstream`: length-prefixed messages with two checksums.

use std::io::Write as _;

use super::super::body::{Out, Render};
use super::super::dialect::Stream;
use super::super::order::Facts;
use super::super::read::base64;
use super::super::script::UsageMode;

/// The type of header value that is a text.
const TEXT: u8 = 7;

/// One message: lengths, their checksum, headers, payload, the checksum of all. Numbers are big-endian.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
        head.push(TEXT);
        head.extend_from_slice(&(value.len() as u16).to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let total = 12 + head.len() + payload.len() + 4;
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(head.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

/// Writes an event.
pub fn event(out: &mut Out, kind: &str, payload: &[u8]) {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    out.buf.extend(message(&headers, payload));
    out.commit();
}

/// Writes a vendor's own event, in base64 in a chunk.
pub fn chunk(out: &mut Out, json: &[u8]) {
    let mut payload = b"{\"bytes\":\"".to_vec();
    base64(json, &mut payload);
    payload.extend_from_slice(b"\",\"p\":\"abcdefgh\"}");
    event(out, "chunk", &payload);
}

/// Writes the exception of a provider that fails while it generates.
pub fn exception(out: &mut Out) {
    let headers = [
        (":exception-type", "internalServerException"),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    let payload =
        br#"{"message":"The system encountered an unexpected error during processing. Try your request again."}"#;
    out.buf.extend(message(&headers, payload));
    out.commit();
}

/// A stream of such messages. Its filler are events of a kind that no reader knows.
pub fn stream(render: Box<dyn Render>) -> Stream {
    let headers = [(":event-type", "padding"), (":content-type", "application/json"), (":message-type", "event")];
    let mut payload = b"{\"p\":\"".to_vec();
    payload.resize(super::super::dialect::PAD_BLOCK - 256, b'.');
    payload.extend_from_slice(b"\"}");
    Stream { kind: "application/vnd.amazon.eventstream", pad: message(&headers, &payload), render }
}

/// Writes `,"amazon-bedrock-invocationMetrics":{…}`, which the last event of an invocation carries.
pub fn write_metrics(json: &mut Vec<u8>, facts: &Facts) {
    if matches!(facts.script.usage, UsageMode::None | UsageMode::Null) {
        return;
    }
    let (prompt, say) = (&facts.prompt, |n| facts.say(n));
    let cached = prompt.cached + prompt.cache_write + prompt.cache_write_1h;
    let input = say(prompt.total.saturating_sub(cached));
    let _ = write!(json, ",\"amazon-bedrock-invocationMetrics\":{{\"inputTokenCount\":{input},");
    let _ = write!(json, "\"outputTokenCount\":{},", say(facts.completion()));
    if cached > 0 {
        let _ = write!(json, "\"cacheReadInputTokenCount\":{},", say(prompt.cached));
        let written = say(prompt.cache_write + prompt.cache_write_1h);
        let _ = write!(json, "\"cacheWriteInputTokenCount\":{written},");
    }
    json.extend_from_slice(b"\"invocationLatency\":100,\"firstByteLatency\":10}");
}

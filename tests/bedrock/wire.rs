//! Amazon's event stream and base64, written from their definitions: nothing of the code that they test.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use loopers::money::Money;
use loopers::pricing::PriceTable;
use loopers::provider::bedrock::Bedrock;
use loopers::provider::{AnswerHead, Call, Ceiling, Fee, Observed, Options, Progress, Provider, Reading, Request};

pub static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// A frame with string headers.
pub fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(name.len() as u8);
        head.extend(name.bytes());
        head.push(7);
        head.extend((value.len() as u16).to_be_bytes());
        head.extend(value.bytes());
    }
    let mut frame = ((16 + head.len() + payload.len()) as u32).to_be_bytes().to_vec();
    frame.extend((head.len() as u32).to_be_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(head);
    frame.extend(payload.bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

/// An event of a Converse stream.
pub fn event(kind: &str, payload: &str) -> Vec<u8> {
    frame(&[(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")], payload)
}

/// A vendor's event in a native stream, with the padding that Bedrock adds.
pub fn chunk(native: &str) -> Vec<u8> {
    event("chunk", &format!(r#"{{"bytes":"{}","p":"abcdefgh"}}"#, base64(native.as_bytes())))
}

/// An exception in mid-stream.
pub fn exception(kind: &str, payload: &str) -> Vec<u8> {
    frame(&[(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")], payload)
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |sum: u32, at| sum << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let sign = SIGNS[(number >> (18 - 6 * at) & 63) as usize] as char;
            text.push(if at > three.len() { '=' } else { sign });
        }
    }
    text
}

/// A guardrail costs 150,000 nano-dollars a text unit, of which a request has at most ten.
pub fn options() -> Options {
    let fees = [("guardrail".to_string(), Fee { usd: Money::from_nano(150_000), calls: 10 })].into();
    Options { region: Some("us-east-1".into()), fees, ..Options::default() }
}

/// Reads a request; the first model of the path is written as SDKs write it.
pub fn read(model: &str, operation: &str, headers: &HeaderMap, body: &str) -> Result<Call, String> {
    let path = format!("/model/{}/{operation}", model.replace(':', "%3A"));
    let route = Bedrock.route(&Method::POST, &path, None).ok_or("no route")?;
    let options = options();
    let reading = Reading { provider: "bedrock", prices: &PRICES, options: &options };
    let body = Bytes::copy_from_slice(body.as_bytes());
    let request = Request { route, path: &path, query: None, headers, body };
    Bedrock.read(request, &reading).map_err(|reject| format!("{reject:?}"))
}

/// Reads an answer that comes in these pieces: what the client gets, what was seen, and what is charged.
pub fn answer(call: &Call, operation: &str, headers: &HeaderMap, pieces: &[&[u8]]) -> (Vec<u8>, Observed, Option<u64>) {
    let route = Bedrock.route(&Method::POST, &format!("/model/x/{operation}"), None).unwrap();
    let content_type = headers.get("content-type").and_then(|kind| kind.to_str().ok());
    let head = AnswerHead { status: 200, content_type, headers };
    let mut reader = Bedrock.answer(route, call, &head, Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    for piece in pieces {
        assert_eq!(reader.push(piece, &mut emit), Progress::More);
    }
    assert_eq!(reader.finish(&mut emit), Progress::More);
    let observed = reader.observed(true).clone();
    // As the gateway does it.
    let cost = observed.usage.map(|usage| {
        let own = call.price.cost_scaled(&usage, observed.tier, observed.thousandths);
        own.and(loopers::money::ExactCost::of(observed.fees)).rounded_up().nano()
    });
    assert!(observed.model.is_none() && observed.others.is_empty());
    (emit.to_vec(), observed, cost)
}

#[test]
fn these_encoders_are_right() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    for (bytes, want) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(bytes.as_bytes()), want);
    }
    // The published vector of an empty frame.
    assert_eq!(frame(&[], ""), [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff]);
}

/// Reads an answer that may be unreadable, and says what is known of its bill.
pub fn torn(call: &Call, operation: &str, headers: &HeaderMap, bytes: &[u8]) -> Observed {
    let route = Bedrock.route(&Method::POST, &format!("/model/x/{operation}"), None).unwrap();
    let content_type = headers.get("content-type").and_then(|kind| kind.to_str().ok());
    let head = AnswerHead { status: 200, content_type, headers };
    let mut reader = Bedrock.answer(route, call, &head, Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    if reader.push(bytes, &mut emit) == Progress::More {
        reader.finish(&mut emit);
    }
    assert!(bytes.starts_with(&emit));
    reader.observed(true).clone()
}

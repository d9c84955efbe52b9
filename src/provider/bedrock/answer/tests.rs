//! Answers that are not read in full, and bytes that are not read yet.

use bytes::BytesMut;
use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::pricing::Usage;
use crate::provider::bedrock::tests::{NOVA, read, with};
use crate::provider::bedrock::{Bedrock, EVENT_STREAM};
use crate::provider::{AnswerReader, Progress, Provider};

const FREE: Ceiling = Ceiling::Certain(1 << 40);

/// A reader for the answer to a call of this operation.
fn reader(operation: &str, call: &Call, head: &AnswerHead<'_>) -> Box<dyn AnswerReader> {
    let route = Bedrock.route(&Method::POST, &format!("/model/x/{operation}"), None).unwrap();
    Bedrock.answer(route, call, head, FREE)
}

#[test]
fn results_that_could_not_be_read_are_not_results_of_no_tokens() {
    let call = read("amazon.titan-text-express-v1", "invoke", r#"{"inputText":"x"}"#).unwrap();
    let usage = |said: &str, headers: &HeaderMap| {
        let head = AnswerHead { status: 200, content_type: Some("application/json"), headers };
        let mut reader = reader("invoke", &call, &head);
        let body = json!({"inputTextTokenCount": 7, "results": [{"tokenCount": 5, "outputText": "SAID"}]});
        reader.push(body.to_string().replace("SAID", said).as_bytes(), &mut BytesMut::new());
        reader.finish(&mut BytesMut::new());
        reader.observed(true).usage
    };
    let (billed, large) = (Some(Usage { input: 7, output: 5, ..Usage::default() }), "x".repeat(5 << 20));
    let (silent, mut told) = (HeaderMap::new(), HeaderMap::new());
    told.insert("x-amzn-bedrock-output-token-count", "5".parse().unwrap());
    for (said, without) in [("hi", billed), ("\\ud800", None), (large.as_str(), None)] {
        assert_eq!((usage(said, &silent), usage(said, &told)), (without, billed), "{} bytes", said.len());
    }
}

#[test]
fn bytes_that_make_no_whole_frame_are_pending() {
    let call = read(NOVA, "converse-stream", &with(json!({})).to_string()).unwrap();
    let mut reader = reader("converse-stream", &call, &AnswerHead::plain(EVENT_STREAM));
    let frame = frames::encode(&[(":event-type", "messageStart"), (":message-type", "event")], b"{}");
    let mut emit = BytesMut::new();
    for cut in [1, 13, frame.len() - 1] {
        let (head, tail) = frame.split_at(cut);
        assert_eq!((reader.push(head, &mut emit), reader.pending()), (Progress::More, cut as u64));
        assert_eq!((reader.push(tail, &mut emit), reader.pending()), (Progress::More, 0));
    }
    // Half a frame is no event at the end of the stream either.
    reader.push(&frame[..9], &mut emit);
    assert_eq!((reader.finish(&mut emit), reader.pending()), (Progress::Unreadable, 9));
}

#[test]
fn a_page_of_a_proxy_says_nothing_of_usage() {
    let call = read(NOVA, "converse", &with(json!({})).to_string()).unwrap();
    for (body, is_odd) in [
        ("<html><body><h1>429 Too Many Requests</h1></body></html>", false),
        ("slow down", false),
        ("{\"usage\":{\"inputTokens\":1", true),
        ("inputTokens=3", true),
    ] {
        let mut reader = reader("converse", &call, &AnswerHead { status: 429, ..AnswerHead::plain("text/html") });
        reader.push(body.as_bytes(), &mut BytesMut::new());
        reader.finish(&mut BytesMut::new());
        let observed = reader.observed(false);
        assert_eq!((observed.usage, observed.odd_usage), (None, is_odd), "{body}");
    }
}

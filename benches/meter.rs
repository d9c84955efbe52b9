//! CPU time of what Loopers does to each call beside proxying: metering a chunk of a stream, and bounding a body.
//!
//! `make bench-cpu`. One thread, no sockets, no ledger. A stream is 1,000 events of one word each, pushed one at a time as they arrive;
//! criterion's `elem` is one event. A body is text in one message; its throughput is bytes of body.

use std::hint::black_box;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::Method;
use loopers::pricing::PriceTable;
use loopers::provider::{self, AnswerHead, Call, Ceiling, Options, Provider, Reading, Request, Route};
use serde_json::{Value, json};

const CHUNKS: u64 = 1_000;
const WORDS: [&str; 8] = [" the", " quick", " brown", " fox", " jumps", " over", " lazy", " dogs"];

static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().expect("the shipped table loads"));

/// One API: where its calls go, what they and the events of their answers look like.
struct Api {
    name: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    kind: &'static str,
    body: fn(&str) -> Value,
    event: fn(&str) -> Vec<u8>,
}

const SSE: &str = "text/event-stream";

const APIS: [Api; 7] = [
    Api {
        name: "openai",
        path: "/v1/chat/completions",
        query: None,
        kind: SSE,
        body: |text| json!({"model": "gpt-4o", "stream": true, "max_tokens": 16_000, "messages": [{"role": "user", "content": text}]}),
        event: chat_event,
    },
    Api {
        name: "openai",
        path: "/v1/responses",
        query: None,
        kind: SSE,
        body: |text| json!({"model": "gpt-4o", "stream": true, "max_output_tokens": 16_000, "input": text}),
        event: |word| {
            let data = json!({"type": "response.output_text.delta", "sequence_number": 7, "item_id": "msg_1", "output_index": 0,
                "content_index": 0, "delta": word, "obfuscation": "xyz"});
            format!("event: response.output_text.delta\ndata: {data}\n\n").into_bytes()
        },
    },
    Api {
        name: "anthropic",
        path: "/v1/messages",
        query: None,
        kind: SSE,
        body: |text| json!({"model": "claude-haiku-4-5", "stream": true, "max_tokens": 16_000, "messages": [{"role": "user", "content": text}]}),
        event: |word| {
            let data =
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}});
            format!("event: content_block_delta\ndata: {data}\n\n").into_bytes()
        },
    },
    Api {
        name: "gemini",
        path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        query: Some("alt=sse"),
        kind: SSE,
        body: |text| json!({"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"maxOutputTokens": 16_000}}),
        event: |word| {
            let data = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": word}]}, "index": 0}],
                "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 17, "totalTokenCount": 25},
                "modelVersion": "gemini-2.5-flash", "responseId": "r"});
            format!("data: {data}\r\n\r\n").into_bytes()
        },
    },
    Api {
        name: "bedrock",
        path: "/model/amazon.nova-micro-v1%3A0/converse-stream",
        query: None,
        kind: "application/vnd.amazon.eventstream",
        body: |text| json!({"messages": [{"role": "user", "content": [{"text": text}]}], "inferenceConfig": {"maxTokens": 9_000}}),
        event: |word| {
            frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": word}, "p": "abcdefgh"}))
        },
    },
    Api {
        name: "azure",
        path: "/openai/v1/chat/completions",
        query: None,
        kind: SSE,
        body: |text| json!({"model": "g", "stream": true, "max_tokens": 16_000, "messages": [{"role": "user", "content": text}]}),
        event: chat_event,
    },
    Api {
        name: "mistral",
        path: "/v1/chat/completions",
        query: None,
        kind: SSE,
        body: |text| json!({"model": "mistral-small-latest", "stream": true, "max_tokens": 16_000, "messages": [{"role": "user", "content": text}]}),
        event: chat_event,
    },
];

fn chat_event(word: &str) -> Vec<u8> {
    let data = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}]});
    format!("data: {data}\n\n").into_bytes()
}

/// One message of AWS's event stream.
fn frame(event: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":message-type", "event"), (":event-type", event), (":content-type", "application/json")] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let total = 12 + headers.len() + payload.len() + 4;
    let mut out = Vec::new();
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

impl Api {
    fn provider(&self) -> (&'static dyn Provider, Route) {
        let provider = provider::find(self.name, self.name).expect("a known API");
        (provider, provider.route(&Method::POST, self.path, self.query).expect("a route"))
    }

    fn read(&self, body: Bytes) -> Call {
        let (provider, route) = self.provider();
        let options = Options { deployments: [("g".into(), "gpt-4o".into())].into(), ..Options::default() };
        let reading = Reading { options: &options, ..Reading::plain(self.name, &PRICES) };
        let request = Request { query: self.query, ..Request::plain(route, self.path, body) };
        provider.read(request, &reading).unwrap_or_else(|reject| panic!("{}: {reject:?}", self.name))
    }

    fn title(&self) -> String {
        format!("{} {}", self.name, self.path.rsplit(['/', ':']).next().unwrap_or_default())
    }
}

fn meter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meter, per event");
    group.throughput(Throughput::Elements(CHUNKS));
    for api in &APIS {
        let call = api.read(Bytes::from((api.body)("Say hello.").to_string()));
        let (provider, route) = api.provider();
        let events: Vec<Vec<u8>> = (0..CHUNKS as usize).map(|at| (api.event)(WORDS[at % WORDS.len()])).collect();
        let sent: usize = events.iter().map(Vec::len).sum();
        group.bench_function(BenchmarkId::from_parameter(api.title()), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let head = AnswerHead::plain(api.kind);
                    (provider.answer(route, &call, &head, Ceiling::Certain(16_000)), BytesMut::with_capacity(sent))
                },
                |(reader, emit)| {
                    for event in &events {
                        black_box(reader.push(event, emit));
                    }
                    // All of it was let through: a reader that was cut early would look fast.
                    assert_eq!(emit.len(), sent, "{}", api.title());
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn bound(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bound, per byte of body");
    for api in &APIS {
        for kilobytes in [1, 64] {
            let text: String = WORDS.iter().cycle().flat_map(|word| word.chars()).take(kilobytes * 1024).collect();
            let body = Bytes::from((api.body)(&text).to_string());
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_with_input(BenchmarkId::new(api.title(), format!("{kilobytes} KB")), &body, |bencher, body| {
                bencher.iter(|| {
                    let call = api.read(body.clone());
                    black_box((call.bound(call.input_max, call.output_max), call.body.render(None)))
                });
            });
        }
    }
    group.finish();
}

fn exact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exact count by the tokenizer, per byte of body");
    let text: String = WORDS.iter().cycle().flat_map(|word| word.chars()).take(64 * 1024).collect();
    let body = Bytes::from((APIS[0].body)(&text).to_string());
    group.throughput(Throughput::Bytes(body.len() as u64));
    let call = APIS[0].read(body);
    group.bench_function("openai, 64 KB", |bencher| bencher.iter(|| black_box(call.body.exact_input())));
    group.finish();
}

criterion_group!(benches, meter, bound, exact);
criterion_main!(benches);

//! Random bytes against everything that reads bytes from outside. Each target runs for `FUZZ_SECONDS` (default 5), from `FUZZ_SEED`
//! (default: the clock); the seed is printed, and a failure prints the input.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use loopers::money::Money;
use loopers::pricing::PriceTable;
use loopers::provider::openai::OpenAi;
use loopers::provider::{Call, Observed, Progress, Provider, Reading, Reject, Route};

static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

/// xorshift64*: enough to choose inputs, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A few mutations of a text: bytes changed, cut, doubled, or a hostile piece put in.
    fn mutate(&mut self, bytes: &mut Vec<u8>, pieces: &[&str]) {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(12)).min(bytes.len());
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = self.next() as u8,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                3 => bytes.truncate(at),
                _ => {
                    let piece = self.one(pieces);
                    bytes.splice(at..at, piece.bytes());
                }
            }
        }
    }

    /// Cuts bytes into up to nine chunks.
    fn split<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        for _ in 0..self.below(9) {
            let (head, tail) = bytes.split_at(self.below(bytes.len() + 1));
            chunks.push(head);
            bytes = tail;
        }
        chunks.push(bytes);
        chunks
    }
}

/// Runs a target on inputs that `make` makes until the time is over.
fn run(name: &str, make: impl Fn(&mut Random) -> Vec<u8>, target: impl Fn(&[u8], &mut Random)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64) | 1;
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(5));
    println!("{name}: FUZZ_SEED={seed}");
    let mut random = Random(seed);
    let mut count = 0u64;
    while Instant::now() < until {
        let input = make(&mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input, &mut random)));
        assert!(outcome.is_ok(), "{name}: FUZZ_SEED={seed}, input {count}: {:?}", String::from_utf8_lossy(&input));
        count += 1;
    }
    println!("{name}: {count} inputs");
}

fn route(path: &str) -> Route {
    OpenAi.route(&http::Method::POST, path, None).unwrap()
}

fn read(path: &str, body: &[u8]) -> Result<Call, Reject> {
    OpenAi.read(route(path), path, Bytes::copy_from_slice(body), &Reading { prices: &PRICES, allow_fields: &[] })
}

const JSON_PIECES: &[&str] = &[
    "\"n\":",
    "\"max_tokens\":",
    "\"model\":\"o1-pro\",",
    "\\u0000",
    "\\ud800",
    "\u{fdfa}",
    "😀",
    "{",
    "}",
    "[",
    "]",
    ",",
    "null",
    "-1",
    "1e999",
    "0",
    "\"$ref\":\"#\",",
    "\"stream\":true,",
    "\"service_tier\":\"flex\",",
    "\u{feff}",
    "\"usage\":",
    "18446744073709551616",
];

fn chat_body(random: &mut Random) -> Vec<u8> {
    let model =
        random.one(&["gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5.6-luna", "gpt-6-luna", "o3", "gpt-5.4-2026-03-05"]);
    let contents = [
        "\"hello\"",
        "\"\\u00e9\\n 😀 字\"",
        "null",
        "\"\"",
        "[{\"type\":\"text\",\"text\":\"x\"}]",
        "[{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "\"\\ufdfa\\ufdfa\"",
    ];
    let roles = ["user", "system", "assistant", "developer", "tool"];
    let messages: Vec<String> = (0..1 + random.below(4))
        .map(|_| format!("{{\"role\":\"{}\",\"content\":{}}}", random.one(&roles), random.one(&contents)))
        .collect();
    let extras = [
        "\"n\":3",
        "\"max_tokens\":100",
        "\"max_completion_tokens\":7",
        "\"stream\":true",
        "\"stream_options\":{\"include_usage\":true}",
        "\"temperature\":0.5",
        "\"service_tier\":\"auto\"",
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"a\":{\"$ref\":\"#/b\"},\"b\":{}}}}]",
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"prediction\":{\"type\":\"content\",\"content\":\"abc\"}",
        "\"user\":\"u\"",
        "\"store\":true",
    ];
    let mut fields = vec![format!("\"model\":\"{model}\""), format!("\"messages\":[{}]", messages.join(","))];
    for extra in extras {
        if random.below(4) == 0 {
            fields.insert(random.below(fields.len() + 1), extra.into());
        }
    }
    let mut body = format!("{{{}}}", fields.join(",")).into_bytes();
    if random.below(2) == 0 {
        random.mutate(&mut body, JSON_PIECES);
    }
    body
}

/// What must hold of every body that is taken.
fn check_call(path: &str, body: &[u8], random: &mut Random) {
    let Ok(call) = read(path, body) else { return };
    let is_chat = path.contains("chat");
    assert!(call.samples >= 1 && call.input_max >= 1 && call.output_min <= call.output_max);
    let input = call.body.exact_input().unwrap_or(call.input_max);
    assert!(input <= call.input_max);
    assert!(call.bound(input, call.output_max) <= call.bound(call.input_max, call.output_max));
    assert!(call.bound(input, call.output_min) <= call.bound(input, call.output_max));
    if let Some(output) = call.output_within(input, Money::from_nano(random.next() % 1_000_000_000)) {
        assert!(output <= call.output_max);
    }
    // What is forwarded is again a request, and bounds to no more than what was priced.
    let sent = call.body.render(None);
    let parsed: serde_json::Value = serde_json::from_slice(&sent).unwrap_or_else(|e| panic!("{e} in {sent:?}"));
    assert_eq!(parsed["model"], &*call.model);
    let again = read(path, &sent).unwrap_or_else(|reject| panic!("{reject:?}"));
    assert_eq!((again.samples, again.output_max, again.stream), (call.samples, call.output_max, call.stream));
    if is_chat {
        assert!(again.body.render(None) == sent, "not stable");
        let limit = 1 + random.next() % call.output_max.max(1);
        let clamped = read(path, &call.body.render(Some(limit))).unwrap_or_else(|reject| panic!("{reject:?}"));
        assert_eq!((clamped.output_max, clamped.samples), (limit, call.samples));
        let tier = parsed["service_tier"].as_str().unwrap();
        assert!(tier == "default" || tier == "flex");
        assert!(!call.stream || parsed["stream_options"]["include_usage"] == true);
    }
}

#[test]
fn request_body_to_bound() {
    run("chat request", chat_body, |body, random| check_call("/v1/chat/completions", body, random));
}

#[test]
fn embeddings_body_to_bound() {
    let make = |random: &mut Random| {
        let inputs =
            ["\"a\"", "[\"a\",\"\\u00e9😀\"]", "[1,2,3]", "[[1],[2,3]]", "[]", "[\"a\",1]", "\"\"", "[4294967296]"];
        let mut body =
            format!("{{\"model\":\"text-embedding-3-small\",\"input\":{}}}", random.one(&inputs)).into_bytes();
        random.mutate(&mut body, JSON_PIECES);
        body
    };
    run("embeddings request", make, |body, random| check_call("/v1/embeddings", body, random));
}

fn stream_bytes(random: &mut Random) -> Vec<u8> {
    let events = [
        "data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" hello\"}}],\"usage\":null}",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"字😀\\ud83d\\ude00\"}}]}",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5,\"total_tokens\":14}}",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":9223372036854775808}}",
        "data: {\"service_tier\":\"flex\",\"choices\":[]}",
        "data: [DONE]",
        "data:[DONE]",
        ": ping",
        "event: error\ndata: {\"error\":{}}",
        "data: {\"usage\":NaN}",
        "data: {\"choices\":\ndata: []}",
        "\u{feff}data: x",
        "id: 1",
        "data",
    ];
    let ends = ["\n\n", "\r\n\r\n", "\r\r", "\n", "\r", "\n\r\n", ""];
    let mut bytes = Vec::new();
    for _ in 0..random.below(10) {
        bytes.extend_from_slice(random.one(&events).as_bytes());
        bytes.extend_from_slice(if random.below(4) == 0 { random.one(&ends) } else { "\n\n" }.as_bytes());
    }
    random.mutate(&mut bytes, JSON_PIECES);
    bytes
}

fn read_answer(call: &Call, is_stream: bool, ceiling: u64, chunks: &[&[u8]]) -> (Vec<u8>, Progress, Observed) {
    let mut reader = OpenAi.answer(route("/v1/chat/completions"), call, is_stream, ceiling);
    let mut emit = BytesMut::new();
    let mut progress = Progress::More;
    for chunk in chunks {
        progress = reader.push(chunk, &mut emit);
        if progress != Progress::More {
            break;
        }
    }
    if progress == Progress::More {
        progress = reader.finish(&mut emit);
    }
    (emit.to_vec(), progress, reader.observed(true).clone())
}

#[test]
fn answer_bytes_to_meter_in_any_split() {
    let call = |model: &str, asks: bool| {
        let body = format!(
            "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\"stream\":true,\"stream_options\":{{\"include_usage\":{asks}}}}}"
        );
        read("/v1/chat/completions", body.as_bytes()).unwrap()
    };
    let calls = [call("gpt-4o", true), call("gpt-4o", false), call("gpt-6-luna", false)];
    run("answer", stream_bytes, |bytes, random| {
        let call = &calls[random.below(calls.len())];
        let is_stream = random.below(4) > 0;
        let ceiling = random.one(&[u64::MAX, 1 << 20, 100, 20, 3, 0]);
        let chunks = random.split(bytes);
        let whole = read_answer(call, is_stream, ceiling, &[bytes]);
        assert_eq!(read_answer(call, is_stream, ceiling, &chunks), whole, "split {chunks:?}");
        if whole.1 == Progress::More && (call.shows_usage || !is_stream) {
            assert_eq!(whole.0, bytes);
        }
        assert!(whole.0.len() <= bytes.len());
        if let Some(usage) = whole.2.usage {
            assert!(usage.total_input() > 0 && usage.reasoning <= usage.output);
            call.price.cost(&usage, whole.2.tier).rounded_up();
        }
    });
}

#[test]
fn price_file() {
    const PIECES: &[&str] = &[
        "\n  input: \"0\"",
        "\n  input: 1.5",
        " null",
        "\"",
        "'",
        "&a ",
        "*a",
        "- ",
        "{",
        "}",
        ": ",
        "\n",
        "  ",
        "#",
        "!!str ",
        "\n? x\n: y",
        "99999999999999999999",
        "\n  flex: {input: \"1\"}",
        "\u{feff}",
        "\t",
        ".nan",
        "\n  long_context: {above: 1}",
    ];
    let rows: Vec<String> = PriceTable::builtin_text().split("\n\n").map(str::to_string).collect();
    let make = move |random: &mut Random| {
        let mut bytes = format!("{}\n\n{}\n", random.one(&rows), random.one(&rows)).into_bytes();
        random.mutate(&mut bytes, PIECES);
        bytes
    };
    run("price file", make, |bytes, _| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        // A CR alone ends a line in YAML too.
        let lines = text.matches(['\n', '\r']).count() + 1;
        match PriceTable::load(&[("p.yaml".into(), text)]) {
            Ok(table) => {
                for row in table.iter() {
                    assert!(
                        row.worst_input_rate(0).femto() > 0 && (row.embedding || row.worst_output_rate(0).femto() > 0)
                    );
                    assert!(
                        row.worst_input_rate(u64::MAX) >= row.worst_input_rate(0)
                            && row.max_output <= row.context_window
                    );
                    assert!(!PriceTable::explain(row).is_empty());
                }
            }
            Err(errors) => {
                assert!(!errors.is_empty());
                for error in errors {
                    assert!((1..=lines + 1).contains(&error.line), "{error}");
                }
            }
        }
    });
}

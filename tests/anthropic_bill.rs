//! Random requests against a random provider that keeps Anthropic's rules and writes its own invoice: it never exceeds the hold, and what
//! is charged from its answer is the invoice, to the nano-dollar.
//!
//! `LOOPERS_BILL_CASES` sets the number of cases (2,000), `LOOPERS_BILL_SEED` the first seed.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::Method;
use loopers::money::{ExactCost, Money};
use loopers::pricing::PriceTable;
use loopers::provider::anthropic::Anthropic;
use loopers::provider::{AnswerHead, Call, Ceiling, Fee, Options, Progress, Provider, Reading, Request};
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

static PRICES: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());

/// Published prices, in 10⁻¹⁵ USD a token: input, output, read, written for five minutes, for an hour. Typed from the provider's list.
struct Price {
    model: &'static str,
    rates: [u128; 5],
    /// Above 100,000 tokens of input everything costs five times as much.
    has_long_tier: bool,
    window: u64,
    /// Whether there are regions, and a fast mode.
    has_us: bool,
    has_fast: bool,
}

const M: u128 = 1_000_000;
const PUBLISHED: [Price; 5] = [
    Price {
        model: "claude-haiku-4-5",
        rates: [1000 * M, 5000 * M, 100 * M, 1250 * M, 2000 * M],
        has_long_tier: false,
        window: 200_000,
        has_us: false,
        has_fast: false,
    },
    Price {
        model: "claude-haiku-5-5",
        rates: [100 * M, 500 * M, 10 * M, 125 * M, 200 * M],
        has_long_tier: true,
        window: 1_000_000,
        has_us: true,
        has_fast: false,
    },
    Price {
        model: "claude-sonnet-5-5",
        rates: [2000 * M, 10_000 * M, 100 * M, 2500 * M, 4000 * M],
        has_long_tier: false,
        window: 1_000_000,
        has_us: true,
        has_fast: false,
    },
    Price {
        model: "claude-opus-5-5",
        rates: [4000 * M, 20_000 * M, 200 * M, 5000 * M, 8000 * M],
        has_long_tier: false,
        window: 1_000_000,
        has_us: true,
        has_fast: true,
    },
    Price {
        model: "claude-fable-5-1",
        rates: [10_000 * M, 50_000 * M, 250 * M, 12_500 * M, 20_000 * M],
        has_long_tier: false,
        window: 1_000_000,
        has_us: true,
        has_fast: false,
    },
];

/// A small generator of numbers; each case has its own seed.
struct Random {
    state: u64,
    /// Every count is the most that there can be.
    is_greedy: bool,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `most`, both reached; one time in three it is the most.
    fn upto(&mut self, most: u64) -> u64 {
        match self.next() % 3 {
            _ if self.is_greedy => most,
            0 => most,
            _ => self.next() % (most + 1),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize].clone()
    }

    fn text(&mut self) -> String {
        let unit = self.pick(&[
            "a", "hello ", "\u{fdfa}", "字", "한", "😀", "\n", "\"", "\u{0}", "e\u{301}", "㌖", "ﬁ", "{}", "\u{e000}",
        ]);
        let most = if self.chance(2) { 60_000 } else { 200 };
        unit.repeat(self.upto(most) as usize / unit.len() + 1)
    }
}

/// What the request lets happen, as the client means it.
#[derive(Clone, Default, Debug)]
struct Wishes {
    /// The body says all of its input.
    is_told: bool,
    images: u64,
    screenshots: bool,
    built_in: u64,
    searches: u64,
    writes_5m: bool,
    writes_1h: bool,
    references: u64,
}

fn cache(random: &mut Random, wishes: &mut Wishes, holder: &mut Value) {
    if !random.chance(25) {
        return;
    }
    let hour = random.chance(50);
    wishes.writes_1h |= hour;
    wishes.writes_5m |= !hour;
    holder["cache_control"] =
        if hour { json!({"type": "ephemeral", "ttl": "1h"}) } else { json!({"type": "ephemeral"}) };
}

fn block(random: &mut Random, wishes: &mut Wishes, depth: u32) -> Value {
    let text = random.text();
    let mut block = match random.next() % 12 {
        0 => {
            wishes.images += 1;
            let data = "A".repeat(random.upto(3000) as usize);
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
        }
        1 if random.chance(30) => {
            wishes.is_told = false;
            random.pick(&[
                json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
                json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
                json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
                json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a. b. c."}, "citations": {"enabled": true}}),
            ])
        }
        2 => {
            json!({"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": text}})
        }
        3 => json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"q": text, "\u{fdfa}": [1, true]}}),
        4 | 5 if depth == 0 => {
            let inner: Vec<Value> = (0..random.upto(3)).map(|_| block_in_result(random, wishes)).collect();
            json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": inner})
        }
        6 => json!({"type": "search_result", "source": "s", "title": text, "content": [{"type": "text", "text": "x"}]}),
        _ => json!({"type": "text", "text": text}),
    };
    cache(random, wishes, &mut block);
    block
}

fn block_in_result(random: &mut Random, wishes: &mut Wishes) -> Value {
    if random.chance(20) {
        wishes.references += 1;
        return json!({"type": "tool_reference", "tool_name": "f"});
    }
    loop {
        // What is thrown away is no wish.
        let mut wished = wishes.clone();
        let made = block(random, &mut wished, 1);
        if made["type"] != "tool_use" {
            *wishes = wished;
            return made;
        }
    }
}

fn tools(random: &mut Random, wishes: &mut Wishes) -> Vec<Value> {
    let mut tools = Vec::new();
    for _ in 0..random.upto(3) {
        let mut tool = match random.next() % 6 {
            0 => {
                // Published sizes of the definitions.
                let (kind, tokens, screenshots) = random.pick(&[
                    ("bash_20250124", 325, false),
                    ("text_editor_20250728", 700, false),
                    ("computer_20251124", 4_590, true),
                    ("browser_toolset_20260801", 7_550, true),
                ]);
                wishes.built_in += tokens;
                wishes.screenshots |= screenshots;
                json!({"type": kind, "name": "x"})
            }
            1 if random.chance(30) => {
                let uses = 1 + random.upto(4);
                wishes.searches += uses;
                json!({"type": "web_search_20250305", "name": "web_search", "max_uses": uses})
            }
            _ => {
                json!({"name": "f", "description": random.text(), "input_schema": {"type": "object", "properties": {random.text(): {"type": "string"}}}})
            }
        };
        cache(random, wishes, &mut tool);
        tools.push(tool);
    }
    tools
}

fn request(random: &mut Random, price: &Price) -> (Value, Wishes) {
    let mut wishes = Wishes { is_told: true, ..Wishes::default() };
    let messages: Vec<Value> = (0..=random.upto(3))
        .map(|at| {
            let role = if at % 2 == 0 { "user" } else { "assistant" };
            let content = if random.chance(40) {
                json!(random.text())
            } else {
                let count = random.upto(4);
                json!((0..count).map(|_| block(random, &mut wishes, 0)).collect::<Vec<_>>())
            };
            json!({"role": role, "content": content})
        })
        .collect();
    let most = random.pick(&[1, 16, 1024, 64_000]);
    let mut body = json!({"model": price.model, "max_tokens": random.upto(most), "messages": messages});
    if random.chance(50) {
        body["system"] = json!(random.text());
    }
    if random.chance(50) {
        body["tools"] = json!(tools(random, &mut wishes));
    }
    if random.chance(30) {
        body["output_config"] =
            json!({"effort": "high", "format": {"type": "json_schema", "schema": {"description": random.text()}}});
    }
    if random.chance(30) {
        body["thinking"] = random.pick(&[
            json!({"type": "adaptive"}),
            json!({"type": "enabled", "budget_tokens": 1024}),
            json!({"type": "disabled"}),
        ]);
    }
    if random.chance(60) && price.has_us {
        body["inference_geo"] = random.pick(&[json!("us"), json!("global"), json!(null)]);
    }
    if price.has_fast && random.chance(50) {
        body["speed"] = random.pick(&[json!("fast"), json!("standard")]);
    }
    if random.chance(50) {
        body["stream"] = json!(true);
    }
    if random.chance(30) {
        body["service_tier"] = random.pick(&[json!("auto"), json!("standard_only")]);
    }
    cache(random, &mut wishes, &mut body);
    (body, wishes)
}

/// Bytes of a text as the tokenizer may see it.
fn bytes(text: &str) -> u64 {
    (text.len() as u64).max(text.nfkc().map(|c| c.len_utf8() as u64).sum())
}

/// All that a value may say in the prompt: strings as they are, everything else as JSON.
fn said(value: &Value) -> u64 {
    match value {
        Value::String(text) => bytes(text),
        Value::Array(items) => items.iter().map(|item| said(item) + 1).sum(),
        Value::Object(fields) if fields.get("type") == Some(&json!("image")) => 0,
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| *key != "cache_control")
            .map(|(key, value)| bytes(key) + said(value) + 3)
            .sum(),
        other => other.to_string().len() as u64,
    }
}

/// The most input tokens that the provider can count, by its published rules.
fn input_most(body: &Value, wishes: &Wishes, price: &Price) -> u64 {
    if !wishes.is_told {
        return price.window;
    }
    let parts = [&body["system"], &body["messages"], &body["tools"], &body["output_config"]];
    let text: u64 = parts.iter().map(|part| if part.is_null() { 0 } else { said(part) }).sum();
    let none = Vec::new();
    let tools = body["tools"].as_array().unwrap_or(&none);
    let largest = tools.iter().map(said).max().unwrap_or(0);
    let prompt = if tools.is_empty() { 0 } else { 804 };
    let per_image = if wishes.screenshots { 286 * 286 } else { 4_784 };
    (text + prompt + wishes.built_in + wishes.images * per_image + wishes.references * largest).min(price.window)
}

/// One pass: input, output, read, written for five minutes, for an hour.
type Pass = [u64; 5];

fn pass(random: &mut Random, input: u64, output: u64, wishes: &Wishes) -> Pass {
    let input = random.upto(input).max(1);
    let mut pass = [0; 5];
    pass[1] = random.upto(output);
    // What is cached is read, or written for as long as somebody asked for.
    let kinds: Vec<usize> = [
        Some(0),
        (wishes.writes_5m || wishes.writes_1h).then_some(2),
        wishes.writes_5m.then_some(3),
        wishes.writes_1h.then_some(4),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut left = input;
    for kind in &kinds {
        let part = if random.is_greedy { 0 } else { random.upto(left) };
        pass[*kind] += part;
        left -= part;
    }
    // The last is the dearest.
    let kind = if random.is_greedy { kinds[kinds.len() - 1] } else { random.pick(&kinds) };
    pass[kind] += left;
    pass
}

fn sum(passes: &[Pass]) -> Pass {
    let mut sum = [0; 5];
    for pass in passes {
        for (total, part) in sum.iter_mut().zip(pass) {
            *total += part;
        }
    }
    sum
}

/// Tokens × rates, in 10⁻¹⁵ USD.
fn tokens_cost(pass: &Pass, price: &Price, thousandths: u128) -> u128 {
    let input = pass[0] + pass[2] + pass[3] + pass[4];
    let times = if price.has_long_tier && input > 100_000 { 5 } else { 1 };
    pass.iter().zip(price.rates).map(|(count, rate)| u128::from(*count) * rate * times * thousandths / 1000).sum()
}

fn usage(pass: &Pass) -> Value {
    json!({"input_tokens": pass[0], "output_tokens": pass[1], "cache_read_input_tokens": pass[2],
        "cache_creation_input_tokens": pass[3] + pass[4],
        "cache_creation": {"ephemeral_5m_input_tokens": pass[3], "ephemeral_1h_input_tokens": pass[4]}})
}

/// The provider: answers what it was sent, and returns its answer with its invoice in nano-dollars.
fn provide(random: &mut Random, sent: &Value, wishes: &Wishes, price: &Price) -> (String, u64) {
    random.is_greedy = random.chance(20);
    let limit = sent["max_tokens"].as_u64().unwrap();
    let input = input_most(sent, wishes, price);
    let count = if wishes.searches > 0 { 1 + random.upto(9) } else { 1 };
    let window = if wishes.searches > 0 { price.window } else { input };
    let passes: Vec<Pass> = (0..count).map(|_| pass(random, window, limit, wishes)).collect();
    // Without a region in the request, the workspace's own holds.
    let is_us = price.has_us
        && match sent["inference_geo"].as_str() {
            Some(geo) => geo == "us",
            None => random.chance(50),
        };
    let is_fast = sent["speed"] == "fast";
    let thousandths = (if is_us { 1100 } else { 1000 }) * (if is_fast { 2 } else { 1 });
    let searches = random.upto(wishes.searches);
    let lists_passes = count > 1 && random.chance(50);
    let total = sum(&passes);
    let tokens: u128 = if lists_passes {
        passes.iter().map(|pass| tokens_cost(pass, price, thousandths)).sum()
    } else {
        tokens_cost(&total, price, thousandths)
    };
    let invoice = (tokens + u128::from(searches) * 10_000_000 * M).div_ceil(M) as u64;
    let mut reported = usage(&total);
    reported["service_tier"] = json!("standard");
    reported["inference_geo"] = json!(if !price.has_us {
        "not_available"
    } else if is_us {
        "us"
    } else {
        "global"
    });
    if price.has_fast {
        reported["speed"] = json!(if is_fast { "fast" } else { "standard" });
    }
    if searches > 0 {
        reported["server_tool_use"] = json!({"web_search_requests": searches, "web_fetch_requests": 0});
    }
    if lists_passes {
        reported["iterations"] = passes
            .iter()
            .map(|pass| {
                let mut entry = usage(pass);
                entry["type"] = json!("message");
                entry
            })
            .collect();
    }
    (answer(sent, &reported), invoice)
}

/// The answer with that usage, as a stream if one was asked for. No text: a provider may hide what it generates.
fn answer(sent: &Value, reported: &Value) -> String {
    let message = |usage: Value| json!({"id": "msg_1", "type": "message", "role": "assistant", "model": sent["model"], "content": [], "stop_reason": "end_turn", "usage": usage});
    if sent["stream"] != true {
        return message(reported.clone()).to_string();
    }
    let mut first = reported.clone();
    first["output_tokens"] = json!(2);
    let mut last = reported.clone();
    for only_at_start in ["cache_creation", "service_tier", "inference_geo", "speed"] {
        last.as_object_mut().unwrap().remove(only_at_start);
    }
    let events = [
        json!({"type": "message_start", "message": message(first)}),
        json!({"type": "ping"}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last}),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

/// What the gateway would charge for the answer.
fn charged(call: &Call, answer: &str) -> u64 {
    let route = Anthropic.route(&Method::POST, "/v1/messages", None).unwrap();
    let kind = if call.stream { "text/event-stream" } else { "application/json" };
    let mut reader = Anthropic.answer(route, call, &AnswerHead::plain(kind), Ceiling::Certain(1 << 40));
    let mut emit = BytesMut::new();
    assert_eq!(reader.push(answer.as_bytes(), &mut emit), Progress::More);
    assert_eq!(reader.finish(&mut emit), Progress::More);
    let observed = reader.observed(false).clone();
    assert!(!observed.odd_usage, "{answer}");
    let usage = observed.usage.unwrap_or_else(|| panic!("no usage in {answer}"));
    let own = call.price.cost_scaled(&usage, observed.tier, observed.thousandths);
    let lines = observed.others.iter().map(|line| call.price.cost_scaled(&line.usage, line.tier, line.thousandths));
    lines.fold(own.and(ExactCost::of(observed.fees)), ExactCost::and).rounded_up().nano()
}

/// One case. True when it was clamped.
fn case(seed: u64, options: &Options) -> bool {
    let random = &mut Random { state: seed, is_greedy: false };
    let price = &PUBLISHED[(random.next() % PUBLISHED.len() as u64) as usize];
    let (body, wishes) = request(random, price);
    let route = Anthropic.route(&Method::POST, "/v1/messages", None).unwrap();
    let reading = Reading { options, ..Reading::plain("anthropic", &PRICES) };
    let call = Anthropic
        .read(Request::plain(route, "", Bytes::from(body.to_string())), &reading)
        .unwrap_or_else(|reject| panic!("seed {seed}: {reject:?}\n{body}"));
    let most = call.bound(call.input_max, call.output_max);
    let least = call.bound(call.input_max, call.output_min);
    // All that may be held, or as little as a clamp takes.
    let hold =
        if random.chance(50) { most } else { Money::from_nano(least.nano() + random.upto(most.nano() - least.nano())) };
    let limit = if hold < most { call.output_within(call.input_max, hold) } else { None };
    assert!(hold == most || limit.is_some_and(|limit| limit >= call.output_min), "seed {seed}");
    let sent: Value = serde_json::from_slice(&call.body.render(limit)).unwrap();
    assert_eq!(sent["service_tier"], "standard_only", "seed {seed}");
    let (answer, invoice) = provide(random, &sent, &wishes, price);
    assert!(
        invoice <= hold.nano(),
        "seed {seed}: invoice {invoice} above the hold of {}\n{body}\n{answer}",
        hold.nano()
    );
    assert_eq!(charged(&call, &answer), invoice, "seed {seed}\n{body}\n{answer}");
    limit.is_some()
}

#[test]
fn no_invoice_exceeds_its_hold_and_each_is_charged_exactly() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = setting("LOOPERS_BILL_CASES").unwrap_or(2_000);
    let first = setting("LOOPERS_BILL_SEED").unwrap_or(1);
    let mut options = Options::default();
    options.fees.insert("web_search".into(), Fee { usd: Money::from_nano(10_000_000), calls: 5 });
    let clamped = (first..first + cases).filter(|seed| case(*seed, &options)).count() as u64;
    println!("{cases} cases from seed {first}, {clamped} clamped");
    assert!(clamped * 10 > cases, "too few cases were clamped: {clamped}");
}

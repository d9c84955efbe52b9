//! A provider that makes the most of every request that it is sent: what it bills is never above what was held, and is charged to the
//! nano-dollar. It decides token counts by the rules of the API and bills by prices typed here, not by those of the table.

use http::HeaderMap;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::wire;

/// Prices of one model in pico-dollars (10⁻¹² USD) a token, from the published list.
#[derive(Clone, Copy, Debug)]
struct Price {
    model: &'static str,
    kind: Kind,
    window: u64,
    max_output: u64,
    /// Input, cache read, cache write for five minutes, for an hour, output.
    rates: [u64; 5],
    /// Input above which every rate of the second row holds.
    long: Option<(u64, [u64; 5])>,
    /// The same row in the flex and the priority tier.
    tiers: Option<([u64; 5], [u64; 5])>,
    /// The cache may be written without being asked for.
    writes_unasked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Claude,
    Nova,
    OpenAi,
}

const PRICES: [Price; 5] = [
    Price {
        model: "us.anthropic.claude-opus-5-5",
        kind: Kind::Claude,
        window: 1_000_000,
        max_output: 128_000,
        rates: [4_400_000, 220_000, 5_500_000, 8_800_000, 22_000_000],
        long: None,
        tiers: None,
        writes_unasked: false,
    },
    // The list has the price of the world, 4/20: an id without a geography costs a tenth more.
    Price {
        model: "anthropic.claude-opus-5-5",
        kind: Kind::Claude,
        window: 1_000_000,
        max_output: 128_000,
        rates: [4_400_000, 220_000, 5_500_000, 8_800_000, 22_000_000],
        long: None,
        tiers: None,
        writes_unasked: false,
    },
    Price {
        model: "us.anthropic.claude-haiku-5-5",
        kind: Kind::Claude,
        window: 1_000_000,
        max_output: 128_000,
        rates: [110_000, 11_000, 137_500, 220_000, 550_000],
        // Five times everything; the list leaves out the hour.
        long: Some((100_000, [550_000, 55_000, 687_500, 1_100_000, 2_750_000])),
        tiers: None,
        writes_unasked: false,
    },
    // Nova bills what it writes as input.
    Price {
        model: "us.amazon.nova-pro-v1:0",
        kind: Kind::Nova,
        window: 300_000,
        max_output: 10_000,
        rates: [800_000, 200_000, 800_000, 800_000, 3_200_000],
        long: None,
        tiers: Some((
            [400_000, 100_000, 400_000, 400_000, 1_600_000],
            [1_400_000, 350_000, 1_400_000, 1_400_000, 5_600_000],
        )),
        writes_unasked: false,
    },
    Price {
        model: "us.openai.gpt-6.1-sol",
        kind: Kind::OpenAi,
        window: 1_000_000,
        max_output: 131_000,
        rates: [2_200_000, 110_000, 2_750_000, 2_750_000, 11_000_000],
        long: Some((272_000, [4_400_000, 220_000, 5_500_000, 5_500_000, 16_500_000])),
        tiers: None,
        writes_unasked: true,
    },
];

/// What a request holds, and what the provider decides.
#[derive(Clone, Debug)]
struct Plan {
    price: usize,
    is_native: bool,
    is_stream: bool,
    texts: Vec<String>,
    system: Option<String>,
    tools: usize,
    /// Pictures: their tokens.
    pictures: Vec<u64>,
    has_document: bool,
    schema_repeats: usize,
    property: String,
    limit: Option<u64>,
    tier: Option<bool>,
    guardrail: bool,
    point: Option<bool>,
    /// Thousandths of what is possible: input, output, the input read from a cache, written for five minutes, for an hour; answer in the tier.
    share: [u64; 6],
    clamp: u64,
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z ]{0,200}",
        Just("\u{fdfa}".repeat(40)),
        Just("\u{3316}😀\"\\\n\u{1}".repeat(10)),
        "[a-z]{1,40}".prop_map(|unit| unit.repeat(300)),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let share = prop_oneof![Just(0), Just(1000), 0..=1000u64];
    let body = (
        0..PRICES.len(),
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(texts(), 1..4),
        prop::option::of(texts()),
        0..3usize,
        prop::collection::vec(1..=81_796u64, 0..2),
        prop::bool::weighted(0.15),
        0..4usize,
        texts(),
    );
    let rest = (
        prop::option::of(prop_oneof![1..50u64, 1..200_000u64]),
        prop::option::of(any::<bool>()),
        prop::bool::weighted(0.2),
        prop::option::of(any::<bool>()),
        prop::array::uniform6(share),
        16..100_000u64,
    );
    (body, rest).prop_map(|(body, rest)| {
        let (price, is_native, is_stream, texts, system, tools, pictures, has_document, schema_repeats, property) =
            body;
        let (limit, tier, guardrail, point, share, clamp) = rest;
        Plan {
            price,
            is_native: is_native && PRICES[price].kind == Kind::Claude,
            is_stream,
            texts,
            system,
            tools,
            pictures,
            has_document,
            schema_repeats,
            property,
            limit,
            tier: tier.filter(|_| PRICES[price].tiers.is_some()),
            guardrail: guardrail && !is_native,
            point,
            share,
            clamp,
        }
    })
}

impl Plan {
    /// A schema with one definition that is used several times.
    fn schema(&self) -> Value {
        let uses: Vec<Value> = (0..self.schema_repeats).map(|_| json!({"$ref": "#/$defs/X"})).collect();
        json!({"type": "object", "anyOf": uses, "$defs": {"X": {"description": self.property}}})
    }

    fn request(&self) -> Value {
        if self.is_native { self.native() } else { self.converse() }
    }

    fn converse(&self) -> Value {
        let mut blocks: Vec<Value> = self.texts.iter().map(|text| json!({"text": text})).collect();
        blocks.extend(self.pictures.iter().map(|_| json!({"image": {"format": "png", "source": {"bytes": "AAAA"}}})));
        if self.has_document {
            blocks.push(json!({"document": {"format": "pdf", "name": "d", "source": {"bytes": "AAAA"}}}));
        }
        if let Some(is_hour) = self.point {
            blocks.push(json!({"cachePoint": {"type": "default", "ttl": if is_hour { "1h" } else { "5m" }}}));
        }
        let mut body = json!({"messages": [{"role": "user", "content": blocks}]});
        if let Some(system) = &self.system {
            body["system"] = json!([{"text": system}]);
        }
        if self.tools > 0 {
            let tool = json!({"toolSpec": {"name": "f", "inputSchema": {"json": self.schema()}}});
            body["toolConfig"] = json!({"tools": vec![tool; self.tools]});
        }
        if let Some(limit) = self.limit {
            body["inferenceConfig"] = json!({"maxTokens": limit, "temperature": 1});
        }
        if let Some(is_priority) = self.tier {
            body["serviceTier"] = json!({"type": if is_priority { "priority" } else { "flex" }});
        }
        if self.guardrail {
            body["guardrailConfig"] = json!({"guardrailIdentifier": "g", "guardrailVersion": "1"});
        }
        body
    }

    fn native(&self) -> Value {
        let mut blocks: Vec<Value> = self.texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        let source = |kind: &str| json!({"type": "base64", "media_type": kind, "data": "AAAA"});
        blocks.extend(self.pictures.iter().map(|_| json!({"type": "image", "source": source("image/png")})));
        if self.has_document {
            blocks.push(json!({"type": "document", "source": source("application/pdf")}));
        }
        if let Some(is_hour) = self.point {
            blocks[0]["cache_control"] = json!({"type": "ephemeral", "ttl": if is_hour { "1h" } else { "5m" }});
        }
        let mut body = json!({"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": blocks}],
            "max_tokens": self.limit.unwrap_or(4_000)});
        if let Some(system) = &self.system {
            body["system"] = json!(system);
        }
        if self.tools > 0 {
            body["tools"] = json!(vec![json!({"name": "f", "input_schema": self.schema()}); self.tools]);
        }
        body
    }

    /// The most input tokens that the API can make of it: a token for every byte of what is rendered, in the form in which it is longest,
    /// and what stands around messages and tools.
    fn most_input(&self) -> u64 {
        let price = &PRICES[self.price];
        if self.has_document || !self.pictures.is_empty() && price.kind != Kind::Claude {
            return price.window;
        }
        let long = |text: &str| text.len().max(text.nfkc().map(char::len_utf8).sum()) as u64;
        let texts: u64 = self.texts.iter().map(|text| long(text)).sum();
        let system = self.system.as_deref().map_or(0, |system| long(system) + 16);
        // Each use of the definition may be written out in its place.
        let definition = long(&json!({"description": self.property}).to_string());
        let schema = long(&self.schema().to_string()) + self.schema_repeats as u64 * definition;
        let of_claude = if price.kind == Kind::Claude { 804 } else { 0 };
        let sum = texts + system + self.tools as u64 * (schema + 64) + 16 + 1_024 + of_claude;
        (sum + self.pictures.iter().sum::<u64>()).min(price.window)
    }
}

/// What the provider counted: input, read, written for five minutes, for an hour, output.
fn counts(plan: &Plan, limit: Option<u64>) -> [u64; 5] {
    let price = &PRICES[plan.price];
    let part = |whole: u64, thousandths: u64| (u128::from(whole) * u128::from(thousandths) / 1000) as u64;
    let input = part(plan.most_input(), plan.share[0]).max(1);
    let output = part(limit.or(plan.limit).unwrap_or(price.max_output).min(price.max_output), plan.share[1]);
    let read = part(input, plan.share[2]);
    let may_write = price.writes_unasked || plan.point.is_some();
    let short = if may_write { part(input - read, plan.share[3]) } else { 0 };
    let hour = if plan.point == Some(true) && price.kind == Kind::Claude {
        part(input - read - short, plan.share[4])
    } else {
        0
    };
    [input - read - short - hour, read, short, hour, output]
}

/// Whether the answer says that the tier that was asked for was served.
fn serves_tier(plan: &Plan) -> bool {
    plan.share[5] >= 500
}

/// Nano-dollars, rounded up once.
fn invoice(plan: &Plan, counts: [u64; 5]) -> u64 {
    let price = &PRICES[plan.price];
    let input: u64 = counts[..4].iter().sum();
    let rates = match (price.long, price.tiers, plan.tier) {
        (Some((above, rates)), _, _) if input > above => rates,
        (_, Some((flex, priority)), Some(is_priority)) if serves_tier(plan) => {
            if is_priority {
                priority
            } else {
                flex
            }
        }
        _ => price.rates,
    };
    let pico: u128 = counts.iter().zip(rates).map(|(&count, rate)| u128::from(count) * u128::from(rate)).sum();
    let guardrail = if plan.guardrail { 10 * 150_000 } else { 0 };
    u64::try_from(pico.div_ceil(1000)).unwrap() + guardrail
}

/// The provider's answer that reports these counts.
fn answer(plan: &Plan, [input, read, short, hour, output]: [u64; 5]) -> (HeaderMap, Vec<u8>) {
    let mut head = HeaderMap::new();
    let written = short + hour;
    let text = if output > 0 { "Hello." } else { "" };
    if plan.is_native {
        let usage = json!({"input_tokens": input, "cache_read_input_tokens": read, "cache_creation_input_tokens": written,
            "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour}, "output_tokens": output});
        if !plan.is_stream {
            head.insert("x-amzn-bedrock-input-token-count", input.into());
            head.insert("x-amzn-bedrock-output-token-count", output.into());
            let body = json!({"type": "message", "content": [{"type": "text", "text": text}], "usage": usage});
            return (head, body.to_string().into_bytes());
        }
        let metrics = json!({"inputTokenCount": input, "outputTokenCount": output, "cacheReadInputTokenCount": read, "cacheWriteInputTokenCount": written});
        let events = [
            json!({"type": "message_start", "message": {"usage": usage}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
            json!({"type": "message_delta", "usage": {"output_tokens": output}}),
            json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}),
        ];
        return (head, events.iter().flat_map(|event| wire::chunk(&event.to_string())).collect());
    }
    let mut usage = json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output, "cacheReadInputTokens": read, "cacheWriteInputTokens": written});
    if hour > 0 {
        usage["cacheDetails"] = json!([{"ttl": "5m", "inputTokens": short}, {"ttl": "1h", "inputTokens": hour}]);
    } else if plan.point == Some(true) {
        // Without a detail it would be taken for an hour's.
        usage["cacheDetails"] = json!([{"ttl": "5m", "inputTokens": short}]);
    }
    let mut last = json!({"usage": usage, "metrics": {"latencyMs": 1}});
    if let Some(is_priority) = plan.tier {
        let name = if is_priority { "priority" } else { "flex" };
        last["serviceTier"] = json!({"type": if serves_tier(plan) { name } else { "default" }});
    }
    if plan.is_stream {
        let delta = json!({"contentBlockIndex": 0, "delta": {"text": text}});
        let mut bytes = wire::event("contentBlockDelta", &delta.to_string());
        bytes.extend(wire::event("messageStop", r#"{"stopReason":"end_turn"}"#));
        bytes.extend(wire::event("metadata", &last.to_string()));
        return (head, bytes);
    }
    last["output"] = json!({"message": {"role": "assistant", "content": [{"text": text}]}});
    last["stopReason"] = json!("end_turn");
    (head, last.to_string().into_bytes())
}

/// The limit that stands in a forwarded body.
fn limit_of(plan: &Plan, body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).unwrap();
    if plan.is_native { body["max_tokens"].as_u64() } else { body["inferenceConfig"]["maxTokens"].as_u64() }
}

fn check(plan: &Plan) -> Result<(), TestCaseError> {
    let operation = match (plan.is_native, plan.is_stream) {
        (true, true) => "invoke-with-response-stream",
        (true, false) => "invoke",
        (false, true) => "converse-stream",
        (false, false) => "converse",
    };
    let call = wire::read(PRICES[plan.price].model, operation, &HeaderMap::new(), &plan.request().to_string())
        .map_err(TestCaseError::fail)?;
    let own = if plan.is_native { Some(plan.limit.unwrap_or(4_000)) } else { plan.limit };
    let clamp = plan.clamp.clamp(call.output_min, call.output_max);
    for forced in [None, Some(clamp)] {
        let sent = limit_of(plan, &call.body.render(forced));
        prop_assert_eq!(sent, forced.or(own));
        let counts = counts(plan, sent);
        let invoice = invoice(plan, counts);
        let hold = call.bound(call.input_max, forced.unwrap_or(call.output_max)).nano();
        prop_assert!(invoice <= hold, "invoice {} above the hold {} for {:?}", invoice, hold, counts);
        let (mut head, bytes) = answer(plan, counts);
        let kind = if plan.is_stream { "application/vnd.amazon.eventstream" } else { "application/json" };
        head.insert("content-type", kind.parse().unwrap());
        let (_, observed, charged) = wire::answer(&call, operation, &head, &[&bytes]);
        prop_assert_eq!(charged, Some(invoice), "{:?}: {:?}", counts, observed);
    }
    Ok(())
}

#[test]
fn no_invoice_is_above_its_hold_and_each_is_charged_exactly() {
    let number = |name: &str, default: u32| {
        std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}?")))
    };
    let (cases, seed) = (number("LOOPERS_BILL_CASES", 2_000), number("LOOPERS_BILL_SEED", 1));
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config { cases, failure_persistence: None, ..Config::default() }, rng);
    runner.run(&plans(), |plan| check(&plan)).unwrap();
    println!("bedrock: {cases} cases from seed {seed}");
}

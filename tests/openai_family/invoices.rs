//! A property: whatever request is taken, and whatever a provider makes of it within its rules, the invoice is within the hold,
//! and the charge is the invoice to the nano-dollar.
//!
//! The provider is written here, from the outside: it reads the body as it was forwarded, decides on tokens within the rules of
//! the APIs, and bills by a price list and an arithmetic of its own. `LOOPERS_BILL_CASES` says how many requests a provider (1,000),
//! `LOOPERS_BILL_SEED` with which one to begin.

use loopers::provider::tokens;
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use super::support::{answer, call, charged};

mod requests;

/// Prices in femto-dollars a token: USD a million times 10⁹.
struct Price {
    id: &'static str,
    input: u128,
    read: u128,
    write: u128,
    output: u128,
    /// Input, read and write times this, output times that, in thousandths, above so many input tokens.
    long: Option<(u64, u128, u128)>,
    window: u64,
    max_output: u64,
    tokenizer: Option<loopers::pricing::Tokenizer>,
}

const M: u128 = 1_000_000; // a thousandth of a USD a million tokens

/// A price without a long tier and cache writes.
const fn plain(id: &'static str, input: u128, read: u128, output: u128, window: u64, max_output: u64) -> Price {
    Price {
        id,
        input: input * M,
        read: read * M,
        write: 0,
        output: output * M,
        long: None,
        window,
        max_output,
        tokenizer: None,
    }
}

const O200K: Option<loopers::pricing::Tokenizer> = Some(loopers::pricing::Tokenizer::O200kBase);
const CL100K: Option<loopers::pricing::Tokenizer> = Some(loopers::pricing::Tokenizer::Cl100kBase);
const LONG: Option<(u64, u128, u128)> = Some((272_000, 2000, 1500));

const PRICES: [Price; 17] = [
    Price { tokenizer: O200K, ..plain("openai/gpt-4o", 2_500, 1_250, 10_000, 128_000, 16_384) },
    Price { tokenizer: O200K, ..plain("openai/gpt-5", 1_250, 125, 10_000, 400_000, 128_000) },
    // The data stays in Europe: a tenth more than the 4, 0.4, 5 and 20 USD of the list.
    Price {
        tokenizer: O200K,
        write: 5_500 * M,
        long: LONG,
        ..plain("openai/gpt-5.6-sol", 4_400, 440, 22_000, 1_050_000, 128_000)
    },
    Price { write: 125 * M, long: LONG, ..plain("openai/gpt-6-luna", 100, 10, 500, 1_050_000, 128_000) },
    Price { tokenizer: CL100K, ..plain("openai/gpt-3.5-turbo-instruct", 1_500, 1_500, 2_000, 4_096, 4_096) },
    Price { tokenizer: CL100K, ..plain("openai/text-embedding-3-small", 20, 20, 0, 8_192, 0) },
    Price { tokenizer: O200K, ..plain("azure/gpt-4o", 2_500, 1_250, 10_000, 128_000, 16_384) },
    Price { tokenizer: O200K, ..plain("azure/gpt-4.1", 2_000, 500, 8_000, 1_047_576, 32_768) },
    Price { tokenizer: O200K, ..plain("azure/us/gpt-4o", 2_750, 1_375, 11_000, 128_000, 16_384) },
    Price { tokenizer: O200K, ..plain("azure/gpt-5", 1_250, 125, 10_000, 400_000, 128_000) },
    // In a European data zone: 20 % more.
    Price { write: 3_000 * M, long: LONG, ..plain("azure/eu/gpt-6-sol", 2_400, 240, 12_000, 1_050_000, 128_000) },
    plain("mistral/mistral-large-latest", 500, 50, 1_500, 262_144, 262_144),
    plain("mistral/mistral-medium-3.5", 1_500, 150, 7_500, 262_144, 262_144),
    plain("mistral/codestral-latest", 300, 30, 900, 128_000, 128_000),
    plain("mistral/mistral-embed", 100, 100, 0, 8_192, 0),
    plain("groq/llama-4-scout", 110, 110, 340, 131_072, 8_192),
    Price { tokenizer: CL100K, ..plain("azure/text-embedding-3-small", 20, 20, 0, 8_192, 0) },
];

/// A small generator of numbers (SplitMix64): a case is its seed.
pub struct Dice(u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number up to `most`, and that itself every third time: rules are bent at their edges.
    pub fn up_to(&mut self, most: u64) -> u64 {
        if self.below(3) == 0 { most } else { self.below(most.saturating_add(1).max(1)) }
    }

    pub fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }
}

/// What a provider made of a request, and bills.
struct Invoice {
    usage: Value,
    tier: &'static str,
    items: Vec<Value>,
    nano: u64,
}

/// A provider that knows a price and how it counts text: by the exact tokenizer, or in any way within the bytes.
struct Biller<'a> {
    price: &'a Price,
    is_exact: bool,
}

impl Biller<'_> {
    fn text(&self, dice: &mut Dice, text: &str) -> u64 {
        match self.price.tokenizer {
            Some(tokenizer) if self.is_exact => tokens::count(tokenizer, text),
            Some(_) => dice.up_to(text.len() as u64),
            None => {
                let normal: String = text.nfkc().collect();
                dice.up_to(text.len().max(normal.len()) as u64)
            }
        }
    }

    /// The texts of messages, with 3 tokens a message and 1 a name; everything else as it stands.
    fn messages(&self, dice: &mut Dice, messages: &Value) -> u64 {
        let Some(list) = messages.as_array() else { return self.text(dice, messages.as_str().unwrap_or("")) + 3 };
        let mut sum = 3;
        for message in list {
            sum += 3;
            for (key, value) in message.as_object().into_iter().flatten() {
                sum += match (key.as_str(), value) {
                    ("role" | "type", _) => 0,
                    ("name", Value::String(name)) => 1 + self.text(dice, name),
                    (_, Value::String(text)) => self.text(dice, text),
                    ("content", Value::Array(parts)) => parts.iter().map(|part| self.part(dice, part)).sum(),
                    (_, other) => self.text(dice, &other.to_string()),
                };
            }
        }
        sum
    }

    fn part(&self, dice: &mut Dice, part: &Value) -> u64 {
        let kind = part["type"].as_str().unwrap_or("");
        // Pixels and pages are the provider's secret.
        if kind.contains("image") || kind.contains("file") {
            return dice.up_to(36_000);
        }
        ["text", "refusal"].iter().filter_map(|name| part[name].as_str()).map(|text| self.text(dice, text)).sum()
    }

    /// All of a body that is a prompt.
    fn input(&self, dice: &mut Dice, body: &Value) -> u64 {
        let mut sum = 0;
        for (key, value) in body.as_object().unwrap() {
            sum += match key.as_str() {
                "messages" => self.messages(dice, value),
                "input" | "instructions" => self.messages(dice, value),
                "tools" | "response_format" | "text" | "prediction" => {
                    // Rendered in some way: the bytes, and up to 12 tokens around each tool.
                    let tools = value.as_array().map_or(1, Vec::len) as u64;
                    self.text(dice, &value.to_string()) + dice.up_to(12 * tools)
                }
                "previous_response_id" => dice.up_to(self.price.window),
                "safe_prompt" | "prompt_mode" => dice.up_to(400),
                _ => 0,
            };
        }
        // A prompt beyond the window is turned away.
        sum.min(self.price.window)
    }

    /// Each prompt is a call of its own with the window to itself.
    fn prompts(&self, dice: &mut Dice, body: &Value) -> u64 {
        let one = |dice: &mut Dice, value: &Value| match value {
            Value::String(text) => self.text(dice, text) + dice.up_to(3),
            ids => ids.as_array().map_or(0, Vec::len) as u64 + dice.up_to(3),
        };
        let prompt = &body["prompt"];
        let suffix = body["suffix"].as_str().unwrap_or("");
        let list: Vec<&Value> = match prompt.as_array() {
            Some(list) if !list[0].is_number() => list.iter().collect(),
            _ => vec![prompt],
        };
        list.into_iter().map(|prompt| (one(dice, prompt) + self.text(dice, suffix)).min(self.price.window)).sum()
    }

    /// Femto-dollars of so many tokens, the whole request at long prices when its input is long.
    fn femto(&self, input: u64, read: u64, write: u64, output: u64, thousandths: u128) -> u128 {
        let price = self.price;
        let (up_in, up_out) = match price.long {
            Some((above, up_in, up_out)) if input > above => (up_in, up_out),
            _ => (1000, 1000),
        };
        let rest = u128::from(input - read - write);
        let prompt = rest * price.input + u128::from(read) * price.read + u128::from(write) * price.write;
        (prompt * up_in + u128::from(output) * price.output * up_out) * thousandths / 1_000_000
    }
}

/// Runs a forwarded body, and bills it.
fn bill(dice: &mut Dice, name: &str, target: &str, body: &Value, price: &Price, is_exact: bool) -> Invoice {
    let biller = Biller { price, is_exact };
    let (is_response, is_embedding) = (target.contains("responses"), target.contains("embeddings"));
    let is_completion = body.get("prompt").is_some();
    // Without the field the account's own setting decides, and that is the dearest one with OpenAI.
    let (tier, thousandths): (_, u128) = match body["service_tier"].as_str() {
        Some("flex") => ("flex", 500),
        Some("default" | "standard_only") => ("default", 1000),
        None if name == "mistral" || is_completion || is_embedding => ("default", 1000),
        // The version in these paths knows no tiers: the deployment's own setting decides, where the model is sold at priority.
        None if target.contains("/deployments/fast/") => ("priority", 1750),
        None if target.contains("/deployments/") => ("default", 1000),
        _ => ("priority", 2500),
    };
    let pass = if is_completion {
        biller.prompts(dice, body)
    } else if is_embedding {
        let inputs = body["input"].as_array().cloned().unwrap_or_else(|| vec![body["input"].clone()]);
        let one =
            |dice: &mut Dice, value: &Value| value.as_str().map_or(1, |text| biller.text(dice, text)).min(price.window);
        inputs.iter().map(|input| one(dice, input)).sum::<u64>().min(if name == "mistral" { u64::MAX } else { 300_000 })
    } else {
        biller.input(dice, body)
    }
    .max(1);
    let (items, calls, fees) = tool_calls(dice, body);
    // Each call of a tool brings its results into the prompt, which the model then reads from the start.
    let passes: u64 = (0..calls).map(|_| dice.up_to(price.window)).sum();
    let input = pass + passes;
    let read = dice.up_to(input);
    let write = if price.write > 0 { dice.up_to(input - read) } else { 0 };
    let limit =
        ["max_completion_tokens", "max_tokens", "max_output_tokens"].iter().find_map(|name| body[name].as_u64());
    let limit = limit.unwrap_or(price.max_output).min(price.window);
    let number = |name: &str| body[name].as_u64().unwrap_or(1);
    let prompts = body["prompt"].as_array().filter(|list| !list[0].is_number()).map_or(1, Vec::len) as u64;
    let samples = if is_completion { number("n").max(number("best_of")) * prompts } else { number("n") };
    let mut output: u64 = (0..samples).map(|_| dice.up_to(limit)).sum();
    if let Some(guess) = body.get("prediction").filter(|guess| !guess.is_null()) {
        output += samples * dice.up_to(guess["content"].as_str().map_or(0, str::len) as u64);
    }
    if body["echo"].as_bool() == Some(true) && dice.chance(2) {
        output += samples * dice.up_to(input / prompts);
    }
    let output = if is_embedding { 0 } else { output };
    let femto = biller.femto(input, read, write, output, thousandths);
    let nano = u64::try_from(femto.div_ceil(1_000_000)).unwrap() + fees;
    Invoice { usage: usage(dice, input, read, write, output, is_response), tier, items, nano }
}

/// Calls of built-in tools within the limit that was sent: the items, how many, and their fees.
fn tool_calls(dice: &mut Dice, body: &Value) -> (Vec<Value>, u64, u64) {
    let kinds: Vec<&str> =
        body["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["type"].as_str()).collect();
    let has = |kind: &str| kinds.contains(&kind);
    if !has("web_search") && !has("code_interpreter") {
        return (Vec::new(), 0, 0);
    }
    let most = body["max_tool_calls"].as_u64().expect("built-in tools have a limit");
    let calls = dice.up_to(most);
    let (mut items, mut fees) = (Vec::new(), 0);
    for at in 0..calls {
        if has("web_search") && (!has("code_interpreter") || dice.chance(2)) {
            items.push(json!({"type": "web_search_call", "id": format!("ws_{at}"), "action": {"type": "search", "query": "x"}}));
            fees += 10_000_000;
        } else {
            items.push(json!({"type": "code_interpreter_call", "id": format!("ci_{at}"), "container_id": format!("cntr_{at}")}));
            fees += 30_000_000;
        }
    }
    (items, calls, fees)
}

fn usage(dice: &mut Dice, input: u64, read: u64, write: u64, output: u64, is_response: bool) -> Value {
    let reasoning = dice.up_to(output);
    let (i, o) = if is_response { ("input_tokens", "output_tokens") } else { ("prompt_tokens", "completion_tokens") };
    json!({
        i: input, o: output, "total_tokens": input + output,
        format!("{i}_details"): {"cached_tokens": read, "cache_write_tokens": write},
        format!("{o}_details"): {"reasoning_tokens": reasoning},
    })
}

/// One request, run with as much money as `dice` leaves it.
fn run(provider: &str, seed: u64) -> bool {
    let mut dice = Dice(seed);
    let request = requests::any(&mut dice, provider);
    let price = PRICES.iter().find(|price| price.id == request.price).unwrap();
    let Ok(call) = call(request.provider, request.target, &request.body) else { return false };
    assert!(request.is_valid, "seed {seed}: {} was taken", request.body);
    let exact = call.body.exact_input();
    let (input, is_exact) = match exact {
        Some(exact) if dice.chance(2) => (exact, true),
        _ => (call.input_max, false),
    };
    let limit =
        if dice.chance(2) { None } else { Some(call.output_min + dice.up_to(call.output_max - call.output_min)) };
    let hold = call.bound(input, limit.unwrap_or(call.output_max));
    let forwarded: Value = serde_json::from_slice(&call.body.render(limit)).unwrap();
    let invoice = bill(&mut dice, request.provider, request.target, &forwarded, price, is_exact);
    assert!(
        invoice.nano <= hold.nano(),
        "seed {seed}: invoice {} > hold {} for {} {forwarded} as {}",
        invoice.nano,
        hold.nano(),
        request.target,
        invoice.usage
    );
    let mut body = json!({"usage": invoice.usage, "service_tier": invoice.tier, "model": "the same", "object": "x"});
    // An old version of the API need not name the tier.
    if request.target.contains("/deployments/fast/") && dice.chance(2) {
        body.as_object_mut().unwrap().remove("service_tier");
    }
    if request.target.contains("responses") {
        body["output"] = json!(invoice.items);
    } else {
        body["choices"] = json!([]);
    }
    let mut call = call;
    call.stream = false;
    let (_, observed) = answer(request.provider, request.target, &call, 200, &[body.to_string().as_bytes()]);
    assert_eq!(charged(request.provider, &call, &observed), Some(invoice.nano), "seed {seed}: {body} for {forwarded}");
    true
}

fn check(provider: &str) {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}?")))
    };
    let (cases, first) = (number("LOOPERS_BILL_CASES", 1_000), number("LOOPERS_BILL_SEED", 0));
    let taken = (first..first + cases).filter(|seed| run(provider, seed.wrapping_mul(0x2545_f491_4f6c_dd1d))).count();
    println!("{provider}: {taken} of {cases} requests were taken, from seed {first}");
    assert!(taken as u64 >= cases / 2, "{taken} of {cases} were taken: the generator makes too much that is refused");
}

#[test]
fn cap_01_to_12_no_invoice_of_openai_exceeds_its_hold_and_each_is_charged_exactly() {
    check("openai");
}

#[test]
fn cap_01_to_12_no_invoice_of_azure_exceeds_its_hold_and_each_is_charged_exactly() {
    check("azure");
}

#[test]
fn cap_01_to_12_no_invoice_of_mistral_exceeds_its_hold_and_each_is_charged_exactly() {
    check("mistral");
}

#[test]
fn cap_01_to_12_no_invoice_of_another_provider_exceeds_its_hold_and_each_is_charged_exactly() {
    check("groq");
}

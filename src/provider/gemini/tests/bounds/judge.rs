//! The provider: counts the forwarded body in the dearest way that the API's rules leave it, answers, and writes its own invoice.

use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use super::random::{Random, Rng};
use crate::money::Money;

/// Rates in pico-dollars a token (USD per million times 10⁶), the search in nano-dollars.
struct Price {
    model: &'static str,
    input: u64,
    cached: u64,
    audio: u64,
    audio_cached: u64,
    image: u64,
    video: u64,
    output: u64,
    image_out: u64,
    /// Above 200,000 tokens of prompt: input, cached, output.
    long: Option<(u64, u64, u64)>,
    has_tiers: bool,
    window: u64,
    max_output: u64,
    search: u64,
    per_query: bool,
}

const BASE: Price = Price {
    model: "",
    input: 0,
    cached: 0,
    audio: 0,
    audio_cached: 0,
    image: 0,
    video: 0,
    output: 0,
    image_out: 0,
    long: None,
    has_tiers: false,
    window: 1_114_112,
    max_output: 65_536,
    search: 14_000_000,
    per_query: true,
};

const fn flat(model: &'static str, input: u64, cached: u64, output: u64) -> Price {
    Price { model, input, cached, audio: input, audio_cached: cached, image: input, video: input, output, ..BASE }
}

const PRICES: [Price; 6] = [
    Price { has_tiers: true, ..flat("gemini-3.8-flash", 750_000, 75_000, 3_750_000) },
    Price {
        long: Some((4_000_000, 400_000, 18_000_000)),
        ..flat("gemini-3.1-pro-preview", 2_000_000, 200_000, 12_000_000)
    },
    Price {
        audio: 1_000_000,
        audio_cached: 100_000,
        search: 35_000_000,
        per_query: false,
        ..flat("gemini-2.5-flash", 300_000, 30_000, 2_500_000)
    },
    // One hop has no more output than this, whatever the limit says.
    Price { window: 2_097_152, ..flat("gemini-4-argon", 2_000_000, 100_000, 10_000_000) },
    Price {
        window: 40_000,
        max_output: 8_192,
        image_out: 30_000_000,
        search: 35_000_000,
        per_query: false,
        ..flat("gemini-paints", 1_000_000, 500_000, 2_000_000)
    },
    Price {
        image: 450_000,
        audio: 6_500_000,
        video: 12_000_000,
        window: 8_192,
        ..flat("gemini-embedding-2", 200_000, 200_000, 0)
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    Whole,
    Sse,
    Array,
}

pub struct Answer {
    pub framed: Framed,
    pub text: String,
    pub invoice: Money,
    pub has_usage: bool,
    pub is_long: bool,
}

/// Either spelling.
fn get<'v>(value: &'v Value, camel: &str, snake: &str) -> Option<&'v Value> {
    value.get(camel).or_else(|| value.get(snake)).filter(|value| !value.is_null())
}

fn list(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

/// What a prompt may hold at most.
#[derive(Default)]
struct Prompt {
    tokens: u64,
    is_hidden: bool,
    /// Names of modalities that may occur beside text.
    kinds: Vec<&'static str>,
}

impl Prompt {
    /// A JSON value in the prompt: its texts, each a token a byte, in the longer of its two forms; its marks, a token each.
    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().for_each(|item| {
                self.tokens += 1;
                self.value(item);
            }),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                self.text(key);
                self.value(value);
            }),
            other => self.tokens += other.to_string().len() as u64,
        }
    }

    fn text(&mut self, text: &str) {
        let normal = text.nfkc().collect::<String>();
        self.tokens += text.len().max(normal.len()) as u64 + 1;
    }

    fn content(&mut self, content: &Value, counts_stills: bool) {
        self.tokens += 16;
        for part in list(content.get("parts")) {
            if let Some(blob) = get(part, "inlineData", "inline_data") {
                self.blob(
                    get(blob, "mimeType", "mime_type").and_then(Value::as_str).unwrap_or_default(),
                    counts_stills,
                );
                continue;
            }
            if part.get("fileData").is_some() {
                self.hidden();
                continue;
            }
            if let Some(signature) = part.get("thoughtSignature") {
                self.tokens += 4 * signature.as_str().unwrap_or_default().len() as u64;
            }
            for (key, value) in part.as_object().unwrap() {
                if key != "thoughtSignature" {
                    self.value(value);
                }
            }
        }
    }

    fn blob(&mut self, mime: &str, counts_stills: bool) {
        match mime {
            "image/png" if counts_stills => {
                self.tokens += 2_240;
                self.kinds.push("IMAGE");
                return;
            }
            "audio/wav" => self.kinds.push("AUDIO"),
            "image/png" | "image/gif" => self.kinds.push("IMAGE"),
            "application/pdf" => self.kinds.push("DOCUMENT"),
            "text/plain" => {}
            _ => self.kinds.extend(["VIDEO", "AUDIO"]),
        }
        self.is_hidden = true;
    }

    fn hidden(&mut self) {
        self.is_hidden = true;
        self.kinds.extend(["IMAGE", "DOCUMENT", "VIDEO", "AUDIO"]);
    }

    /// A schema; references written out once each.
    fn schema(&mut self, schema: &Value) {
        self.value(schema);
        match schema.pointer("/$defs/X") {
            Some(target) => (0..2).for_each(|_| self.value(target)),
            None if schema.get("$ref").is_some() => self.is_hidden = true,
            None => {}
        }
    }
}

/// Tokens by modality.
type Split = Vec<(&'static str, u64)>;

fn split(rng: &mut Rng, total: u64, kinds: &[&'static str]) -> Split {
    let mut rest = total;
    let mut parts: Split = Vec::new();
    for kind in kinds {
        let tokens = rng.share(rest);
        match parts.iter_mut().find(|(known, _)| known == kind) {
            Some((_, sum)) => *sum += tokens,
            None => parts.push((kind, tokens)),
        }
        rest -= tokens;
    }
    parts.push(("TEXT", rest));
    parts
}

fn details(split: &Split) -> Value {
    let some = split.iter().filter(|(_, tokens)| *tokens > 0);
    some.map(|(kind, tokens)| json!({"modality": kind, "tokenCount": tokens})).collect()
}

pub fn answer(rng: &mut Rng, request: &Random, sent: &[u8]) -> Answer {
    let body: Value = serde_json::from_slice(sent).unwrap();
    let price = PRICES.iter().find(|price| price.model == request.model).unwrap();
    if request.verb.contains("mbed") { embed(rng, price, &body) } else { generate(rng, price, request, &body) }
}

fn embed(rng: &mut Rng, price: &Price, body: &Value) -> Answer {
    let mut parts: Split = Vec::new();
    let requests = body.get("requests").map_or(vec![body], |requests| requests.as_array().unwrap().iter().collect());
    for request in requests {
        let mut prompt = Prompt::default();
        prompt.content(&request["content"], false);
        request.get("title").into_iter().for_each(|title| prompt.value(title));
        let most = if prompt.is_hidden { prompt.tokens.max(price.window) } else { prompt.tokens };
        let tokens = rng.share(most).max(1);
        parts.extend(split(rng, tokens, &prompt.kinds));
    }
    let total: u64 = parts.iter().map(|(_, tokens)| tokens).sum();
    let pico = parts.iter().map(|(kind, tokens)| u128::from(*tokens) * u128::from(rate(price, kind))).sum();
    let has_usage = !rng.one_in(4);
    let mut whole = json!({"embeddings": [{"values": [0.1, 0.2]}]});
    if has_usage {
        whole["usageMetadata"] = json!({"promptTokenCount": total, "promptTokensDetails": details(&parts)});
    }
    Answer { framed: Framed::Whole, text: whole.to_string(), invoice: exact(pico, 0), has_usage, is_long: false }
}

fn rate(price: &Price, kind: &str) -> u64 {
    match kind {
        "AUDIO" => price.audio,
        "VIDEO" => price.video,
        "IMAGE" | "DOCUMENT" => price.image,
        _ => price.input,
    }
}

/// A token at 0.75 USD per million costs 750,000 pico-dollars, or 750 nano-dollars. Rounded up once.
fn exact(pico: u128, fees: u64) -> Money {
    Money::from_nano(u64::try_from(pico.div_ceil(1_000)).unwrap() + fees)
}

fn prompt(body: &Value, model: &str) -> Prompt {
    let mut prompt = Prompt::default();
    let counts_stills = model.starts_with("gemini-3");
    for content in list(body.get("contents")) {
        prompt.content(content, counts_stills);
    }
    if let Some(system) = get(body, "systemInstruction", "system_instruction") {
        prompt.content(system, counts_stills);
    }
    for tool in list(body.get("tools")) {
        for function in list(get(tool, "functionDeclarations", "function_declarations")) {
            prompt.tokens += 64;
            prompt.value(&function["name"]);
            prompt.value(&function["description"]);
            prompt.schema(&function["parametersJsonSchema"]);
        }
    }
    if let Some(schema) = get(body, "generationConfig", "generation_config")
        .and_then(|config| get(config, "responseJsonSchema", "response_json_schema"))
    {
        prompt.schema(schema);
    }
    if get(body, "continuationToken", "continuation_token").is_some() {
        prompt.hidden();
    }
    // The instructions of the system, of tools and of formats.
    prompt.tokens += 900;
    prompt
}

/// How often each tool that Google runs was used, and what it put into the prompt.
fn tools(rng: &mut Rng, body: &Value) -> (Option<u64>, Option<u64>, u64) {
    let names: Vec<String> =
        list(body.get("tools")).iter().flat_map(|tool| tool.as_object().unwrap().keys().cloned()).collect();
    let has = |a: &str, b: &str| names.iter().any(|name| name == a || name == b);
    let mut uses = 0;
    let mut some = |is: bool, most: u64, rng: &mut Rng| {
        let count = is.then(|| rng.share(most));
        uses += count.unwrap_or(0);
        count
    };
    let searches = some(has("googleSearch", "google_search"), 5, rng);
    let maps = some(has("googleMaps", "google_maps"), 2, rng);
    some(has("urlContext", "url_context"), 3, rng);
    (searches, maps, uses)
}

struct Output {
    candidates: u64,
    images: u64,
    thoughts: u64,
    count: u64,
}

fn output(rng: &mut Rng, price: &Price, body: &Value) -> Output {
    let config = get(body, "generationConfig", "generation_config").cloned().unwrap_or(json!({}));
    let number = |camel: &str, snake: &str| {
        get(&config, camel, snake)
            .map(|value| value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap()))
    };
    let limit = number("maxOutputTokens", "max_output_tokens").unwrap_or(u64::MAX).min(price.max_output);
    let modalities = list(get(&config, "responseModalities", "response_modalities"));
    let paints = price.image_out > 0 && (modalities.is_empty() || modalities.iter().any(|name| *name == "IMAGE"));
    let count = number("candidateCount", "candidate_count").unwrap_or(1);
    let mut output = Output { candidates: 0, images: 0, thoughts: 0, count };
    for _ in 0..count {
        // A painter does not mind its limit.
        let limit = if paints { price.max_output } else { limit };
        let most = if rng.one_in(2) { limit + limit.div_ceil(100) + 64 } else { limit };
        let all = rng.share(most);
        let thoughts = rng.share(all);
        output.thoughts += thoughts;
        output.candidates += all - thoughts;
        output.images += if paints { rng.share(all - thoughts) } else { 0 };
    }
    output
}

fn generate(rng: &mut Rng, price: &Price, request: &Random, body: &Value) -> Answer {
    let may = prompt(body, request.model);
    let (searches, maps, uses) = tools(rng, body);
    let has_served = searches.is_some()
        || maps.is_some()
        || list(body.get("tools")).iter().any(|tool| tool.get("urlContext").is_some());
    let most = if may.is_hidden || has_served { price.window } else { may.tokens.min(price.window) };
    let mut kinds = may.kinds.clone();
    if has_served {
        kinds.extend(["IMAGE", "VIDEO", "AUDIO"]);
    }
    let tokens = rng.share(most).max(1);
    let parts = split(rng, tokens, &kinds);
    // Cached tokens are part of the prompt, kind by kind.
    let cached: Split = if rng.one_in(3) {
        parts.iter().map(|(kind, tokens)| (*kind, rng.share(*tokens))).collect()
    } else {
        Vec::new()
    };
    let tool_tokens = rng.share(price.window) * uses;
    let tool_parts = split(rng, tool_tokens, if has_served { &["IMAGE", "AUDIO"] } else { &[] });
    let output = output(rng, price, body);
    let asked = get(body, "serviceTier", "service_tier").and_then(Value::as_str).unwrap_or("standard").to_lowercase();
    let tier = if asked == "unspecified" || rng.one_in(3) { "standard".to_string() } else { asked };
    let is_long = price.long.is_some() && tokens > 200_000;
    let pico = tokens_cost(price, &parts, &cached, &tool_parts, &output, is_long);
    let pico = match tier.as_str() {
        "flex" => pico / 2,
        "priority" => pico * 18 / 10,
        _ => pico,
    };
    assert!(tier == "standard" || price.has_tiers, "the request was refused or forced");
    let queries = searches.unwrap_or(0);
    let searched = if price.per_query { queries } else { queries.min(1) };
    // 25 USD per thousand is what the operator of these tests says of maps; where they are billed by the query, all that was held for.
    let mapped = maps.filter(|maps| *maps > 0).map_or(0, |_| if price.per_query { 2.max(queries) } else { 1 });
    let fees = searched * price.search + mapped * 25_000_000;
    let usage = json!({
        "promptTokenCount": tokens, "promptTokensDetails": details(&parts),
        "cachedContentTokenCount": cached.iter().map(|(_, tokens)| tokens).sum::<u64>(), "cacheTokensDetails": details(&cached),
        "toolUsePromptTokenCount": tool_tokens, "toolUsePromptTokensDetails": details(&tool_parts),
        "candidatesTokenCount": output.candidates, "candidatesTokensDetails": details(&vec![("IMAGE", output.images), ("TEXT", output.candidates - output.images)]),
        "thoughtsTokenCount": output.thoughts, "totalTokenCount": tokens + tool_tokens + output.candidates + output.thoughts,
        "serviceTier": tier, "trafficType": "ON_DEMAND",
    });
    let grounding = json!({
        "webSearchQueries": (0..queries).map(|n| format!("query {n}")).collect::<Vec<_>>(),
        "groundingChunks": if mapped > 0 { json!([{"maps": {"uri": "x"}}]) } else { json!([]) },
    });
    let framed = match (request.verb, request.query) {
        ("generateContent", _) => Framed::Whole,
        (_, Some(_)) => Framed::Sse,
        _ => Framed::Array,
    };
    let has_usage = !rng.one_in(8);
    let text = write(rng, price.model, framed, output.count, has_usage.then_some(&usage), &grounding);
    Answer { framed, text, invoice: exact(pico, fees), has_usage, is_long }
}

fn tokens_cost(price: &Price, parts: &Split, cached: &Split, tools: &Split, output: &Output, is_long: bool) -> u128 {
    // The long price is twice the short one for every kind of input.
    let times = |rate: u64| u128::from(rate) * if is_long { 2 } else { 1 };
    let cached_of = |kind: &str| cached.iter().find(|(known, _)| *known == kind).map_or(0, |(_, tokens)| *tokens);
    let mut pico = 0;
    for (kind, tokens) in parts {
        let saved = cached_of(kind);
        let cached_rate = if *kind == "AUDIO" { price.audio_cached } else { price.cached };
        pico += u128::from(tokens - saved) * times(rate(price, kind)) + u128::from(saved) * times(cached_rate);
    }
    for (kind, tokens) in tools {
        pico += u128::from(*tokens) * times(rate(price, kind));
    }
    let out = match price.long {
        Some((input, cached, long)) if is_long => {
            assert_eq!((input, cached), (2 * price.input, 2 * price.cached));
            long
        }
        _ => price.output,
    };
    pico + u128::from(output.candidates - output.images + output.thoughts) * u128::from(out)
        + u128::from(output.images) * u128::from(price.image_out)
}

/// Writes the answer: every chunk repeats the usage so far, and zero fields are left out.
fn write(rng: &mut Rng, model: &str, framed: Framed, count: u64, usage: Option<&Value>, grounding: &Value) -> String {
    let chunk = |is_last: bool, part: u64| {
        let candidates: Vec<Value> = (0..count)
            .map(|index| {
                let mut candidate = json!({"content": {"role": "model", "parts": [{"text": format!("x{part}")}]}});
                if index > 0 {
                    candidate["index"] = json!(index);
                }
                if is_last {
                    candidate["finishReason"] = json!("STOP");
                    candidate["groundingMetadata"] = grounding.clone();
                }
                candidate
            })
            .collect();
        let mut chunk = json!({"candidates": candidates, "modelVersion": model, "responseId": "r"});
        if let Some(usage) = usage {
            let mut usage = usage.clone();
            if !is_last {
                usage = json!({"promptTokenCount": usage["promptTokenCount"], "promptTokensDetails": usage["promptTokensDetails"],
                    "totalTokenCount": usage["promptTokenCount"], "serviceTier": usage["serviceTier"]});
            }
            usage.as_object_mut().unwrap().retain(|_, value| *value != json!(0) && *value != json!([]));
            chunk["usageMetadata"] = usage;
        }
        chunk.to_string()
    };
    let parts = if framed == Framed::Whole { 1 } else { rng.between(1, 4) };
    let chunks: Vec<String> = (1..=parts).map(|part| chunk(part == parts, part)).collect();
    match framed {
        Framed::Whole => chunks.concat(),
        Framed::Sse => chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect(),
        Framed::Array => format!("[{}\n]\n", chunks.join("\n,\r\n")),
    }
}

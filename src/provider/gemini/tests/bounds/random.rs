//! Random requests in the API's own schema.

use serde_json::{Value, json};

/// A small generator of numbers, so that a seed names a case.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() as usize % from.len()]
    }

    /// All, nothing, or something between, the extremes often.
    pub fn share(&mut self, most: u64) -> u64 {
        match self.next() % 4 {
            0 => most,
            1 => 0,
            _ => self.between(0, most),
        }
    }
}

pub struct Random {
    pub model: &'static str,
    pub verb: &'static str,
    pub path: String,
    pub query: Option<&'static str>,
    pub body: String,
}

const CHAT: [&str; 5] =
    ["gemini-3.8-flash", "gemini-3.1-pro-preview", "gemini-2.5-flash", "gemini-4-argon", "gemini-paints"];

pub fn request(rng: &mut Rng) -> Random {
    let (verb, query) = match rng.next() % 8 {
        0 => ("embedContent", None),
        1 => ("batchEmbedContents", None),
        2 | 3 => ("generateContent", None),
        4 | 5 => ("streamGenerateContent", None),
        _ => ("streamGenerateContent", Some("alt=sse")),
    };
    let model = if verb.contains("mbed") { "gemini-embedding-2" } else { rng.pick(&CHAT) };
    let body = match verb {
        "embedContent" => embed(rng),
        "batchEmbedContents" => {
            let count = rng.between(1, 5);
            json!({"requests": (0..count).map(|_| {
                let mut one = embed(rng);
                one["model"] = json!("models/gemini-embedding-2");
                one
            }).collect::<Vec<_>>()})
        }
        _ => generate(rng),
    };
    let mut body = body.to_string();
    if rng.one_in(4) {
        body = body.chars().map(|c| if c.is_ascii() { c.to_string() } else { escaped(c) }).collect();
    }
    let version = rng.pick(&["v1", "v1beta"]);
    let colon = rng.pick(&[":", ":", "%3A"]);
    Random { model, verb, path: format!("/{version}/models/{model}{colon}{verb}"), query, body }
}

fn escaped(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn embed(rng: &mut Rng) -> Value {
    let mut body = json!({"content": content(rng, &["text", "text", "media"])});
    if rng.one_in(3) {
        body["taskType"] = json!("RETRIEVAL_DOCUMENT");
        body["title"] = json!(text(rng));
    }
    body
}

/// A field under either of its names.
fn put(rng: &mut Rng, object: &mut Value, camel: &str, snake: &str, value: Value) {
    let name = if rng.one_in(3) { snake } else { camel };
    object[name] = value;
}

fn generate(rng: &mut Rng) -> Value {
    let kinds =
        ["text", "text", "text", "text", "text", "call", "response", "signed", "still", "media", "file", "code"];
    // Most requests are text alone, so that the bound by bytes is what is tested.
    let kinds = if rng.one_in(3) { &kinds[..] } else { &kinds[..8] };
    let count = rng.between(1, 4);
    let mut body = json!({"contents": (0..count).map(|_| content(rng, kinds)).collect::<Vec<_>>()});
    if rng.one_in(3) {
        let system = content(rng, &["text"]);
        put(rng, &mut body, "systemInstruction", "system_instruction", system);
    }
    if rng.one_in(3) {
        let tools = (0..rng.between(1, 2)).map(|_| tool(rng)).collect();
        body["tools"] = Value::Array(tools);
    }
    if rng.one_in(4) {
        let tier = rng.pick(&["standard", "flex", "priority", "FLEX", "unspecified", "turbo"]);
        put(rng, &mut body, "serviceTier", "service_tier", json!(tier));
    }
    if rng.one_in(12) {
        put(rng, &mut body, "continuationToken", "continuation_token", json!("AAAA"));
    }
    if rng.one_in(40) {
        put(rng, &mut body, "cachedContent", "cached_content", json!("cachedContents/x"));
    }
    match rng.next() % 5 {
        0 => {}
        1 => put(rng, &mut body, "generationConfig", "generation_config", Value::Null),
        _ => {
            let config = config(rng);
            put(rng, &mut body, "generationConfig", "generation_config", config);
        }
    }
    body
}

fn config(rng: &mut Rng) -> Value {
    let mut config = json!({"temperature": 1});
    if !rng.one_in(4) {
        let limit = rng.pick(&[1, 7, 16, 99, 100, 101, 5_000, 65_536, 900_000]);
        let limit = if rng.one_in(3) { json!(limit.to_string()) } else { json!(limit) };
        put(rng, &mut config, "maxOutputTokens", "max_output_tokens", limit);
    }
    if rng.one_in(4) {
        let count = rng.between(1, 8);
        put(rng, &mut config, "candidateCount", "candidate_count", json!(count));
    }
    if rng.one_in(4) {
        put(
            rng,
            &mut config,
            "thinkingConfig",
            "thinking_config",
            json!({"thinkingBudget": -1, "includeThoughts": true}),
        );
    }
    if rng.one_in(4) {
        let list = rng.pick(&[&["TEXT"][..], &["TEXT", "IMAGE"], &["IMAGE"]]);
        put(rng, &mut config, "responseModalities", "response_modalities", json!(list));
    }
    if rng.one_in(5) {
        let schema = schema(rng);
        put(rng, &mut config, "responseJsonSchema", "response_json_schema", schema);
    }
    config
}

fn schema(rng: &mut Rng) -> Value {
    match rng.next() % 3 {
        0 => json!({"type": "object", "description": text(rng)}),
        1 => {
            json!({"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}, "$defs": {"X": {"description": text(rng)}}})
        }
        _ => json!({"$ref": "#"}),
    }
}

fn tool(rng: &mut Rng) -> Value {
    match rng.next() % 6 {
        0..3 => {
            let function = json!({"name": "f", "description": text(rng), "parametersJsonSchema": schema(rng)});
            let mut tool = json!({});
            put(rng, &mut tool, "functionDeclarations", "function_declarations", json!([function]));
            tool
        }
        3 => json!({rng.pick(&["googleSearch", "google_search"]): {}}),
        4 => json!({"googleMaps": {}}),
        _ => json!({"urlContext": {}}),
    }
}

fn content(rng: &mut Rng, kinds: &[&str]) -> Value {
    let count = rng.between(1, 3);
    let parts: Vec<Value> = (0..count)
        .map(|_| {
            let kind = rng.pick(kinds);
            part(rng, kind)
        })
        .collect();
    // One part may stand without its array.
    if count == 1 && rng.one_in(3) { json!({"parts": parts[0]}) } else { json!({"role": "user", "parts": parts}) }
}

fn part(rng: &mut Rng, kind: &str) -> Value {
    match kind {
        "text" => json!({"text": text(rng)}),
        "call" => json!({"functionCall": {"name": "f", "args": {text(rng): [1, true, text(rng)]}}}),
        "response" => json!({"functionResponse": {"name": "f", "response": {"result": text(rng)}}}),
        "signed" => json!({"text": text(rng), "thoughtSignature": "A".repeat(rng.between(4, 400) as usize)}),
        "code" => json!({"executableCode": {"code": text(rng), "language": "PYTHON"}}),
        "still" => {
            let data = format!("iVBORw0KGgo{}", "A".repeat(rng.between(0, 4_000) as usize));
            let mut part = json!({});
            put(rng, &mut part, "inlineData", "inline_data", json!({"mimeType": "image/png", "data": data}));
            part
        }
        "media" => {
            let mime = rng.pick(&["audio/wav", "video/mp4", "application/pdf", "image/gif", "text/plain"]);
            json!({"inlineData": {"mime_type": mime, "data": "AAAA"}})
        }
        _ => json!({"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}}),
    }
}

/// Text that is dear in bytes, in its normal form, or in neither.
fn text(rng: &mut Rng) -> String {
    let unit = rng.pick(&["a", "word ", "\u{fdfa}", "\u{3316}", "😀", "字", "\"\\", "\n", "e\u{301}", "ﬁ", "\u{0}"]);
    let most = if rng.one_in(50) { 60_000 } else { 200 };
    unit.repeat(rng.between(0, most) as usize)
}

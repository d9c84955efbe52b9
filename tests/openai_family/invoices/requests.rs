//! Random requests of the family, in the schema of each API.

use serde_json::{Value, json};

use super::Dice;

/// One request.
pub struct Request {
    pub provider: &'static str,
    pub target: &'static str,
    pub body: Value,
    /// The price that the provider bills it at.
    pub price: &'static str,
    /// False for one that must be refused.
    pub is_valid: bool,
}

/// A text: words, or characters that take many tokens or grow under NFKC, or long.
pub fn text(dice: &mut Dice) -> String {
    let unit =
        *dice.pick(&["hello world ", "a", "漢字", "🦀", "\u{fdfa}", "\u{3316}", "\u{0}\"\\", "\n", "e\u{301}", "0"]);
    let times = if dice.chance(20) { dice.below(4000) } else { dice.below(30) };
    unit.repeat(times as usize)
}

fn set(body: &mut Value, name: &str, value: Value) {
    body[name] = value;
}

/// An output limit, if any.
fn limit(dice: &mut Dice, body: &mut Value, name: &str) {
    if dice.chance(2) {
        let most = *dice.pick(&[1, 20, 1000, 100_000, 10_000_000]);
        let value = 1 + dice.below(most);
        set(body, name, json!(value));
    }
}

fn schema(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => {
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"description": text(dice)}}})
        }
        1 => json!({"$ref": "#"}),
        _ => json!({"type": "object", "properties": {text(dice): {"type": "string", "description": text(dice)}}}),
    }
}

fn messages(dice: &mut Dice, provider: &str) -> Value {
    let count = 1 + dice.below(4);
    let one = |dice: &mut Dice| {
        let content = match dice.below(6) {
            0 => json!([{"type": "text", "text": text(dice)}, {"type": "text", "text": text(dice)}]),
            1 if dice.chance(3) => json!([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]),
            _ => json!(text(dice)),
        };
        match dice.below(5) {
            0 => {
                json!({"role": "assistant", "content": content, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": text(dice)}}]})
            }
            1 => json!({"role": "tool", "tool_call_id": "c", "content": content}),
            2 if provider != "mistral" => json!({"role": "developer", "content": content, "name": text(dice)}),
            _ => json!({"role": "user", "content": content}),
        }
    };
    json!((0..count).map(|_| one(dice)).collect::<Vec<Value>>())
}

/// A chat with any provider.
fn chat(dice: &mut Dice, provider: &'static str, model: &str) -> Value {
    let mut body = json!({"model": model, "messages": messages(dice, provider)});
    let is_mistral = provider == "mistral";
    let name = if is_mistral || dice.chance(2) { "max_tokens" } else { "max_completion_tokens" };
    limit(dice, &mut body, name);
    if dice.chance(4) {
        let n = 1 + dice.up_to(127);
        set(&mut body, "n", json!(n));
    }
    if dice.chance(4) {
        let tools: Vec<Value> = (0..1 + dice.below(3))
            .map(|_| json!({"type": "function", "function": {"name": "f", "description": text(dice), "parameters": schema(dice)}}))
            .collect();
        set(&mut body, "tools", json!(tools));
    }
    if dice.chance(5) {
        let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema(dice)}});
        set(&mut body, "response_format", format);
    }
    if dice.chance(6) {
        let guess = json!({"type": "content", "content": text(dice)});
        set(&mut body, "prediction", guess);
    }
    if dice.chance(3) {
        let tiers: &[&str] = if is_mistral { &["auto", "standard_only"] } else { &["auto", "default", "flex"] };
        let tier = *dice.pick(tiers);
        set(&mut body, "service_tier", json!(tier));
    }
    if is_mistral && dice.chance(4) {
        set(&mut body, "safe_prompt", json!(true));
    }
    if dice.chance(3) {
        set(&mut body, "stream", json!(true));
    }
    body
}

fn response(dice: &mut Dice, model: &str) -> Value {
    let input = match dice.below(4) {
        0 => json!([{"role": "user", "content": [{"type": "input_text", "text": text(dice)}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": text(dice)},
            {"type": "function_call_output", "call_id": "c", "output": text(dice)}]),
        1 => {
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}, {"type": "input_file", "file_id": "f"}]}])
        }
        _ => json!(text(dice)),
    };
    let mut body = json!({"model": model, "input": input});
    limit(dice, &mut body, "max_output_tokens");
    if dice.chance(3) {
        set(&mut body, "instructions", json!(text(dice)));
    }
    if dice.chance(4) {
        set(&mut body, "previous_response_id", json!("resp_1"));
    }
    if dice.chance(4) {
        let format = json!({"format": {"type": "json_schema", "name": "n", "schema": schema(dice)}});
        set(&mut body, "text", format);
    }
    if dice.chance(3) {
        let own = json!({"type": "function", "name": "f", "parameters": schema(dice), "strict": true});
        let search = json!({"type": "web_search"});
        let code = json!({"type": "code_interpreter", "container": {"type": "auto"}});
        let tools =
            dice.pick(&[vec![own.clone()], vec![search.clone()], vec![code.clone(), own], vec![search, code]]).clone();
        set(&mut body, "tools", json!(tools));
    }
    if dice.chance(4) {
        let most = 1 + dice.below(20);
        set(&mut body, "max_tool_calls", json!(most));
    }
    if dice.chance(4) {
        let tier = *dice.pick(&["auto", "default", "flex"]);
        set(&mut body, "service_tier", json!(tier));
    }
    body
}

fn completion(dice: &mut Dice, model: &str) -> Value {
    let prompt = match dice.below(5) {
        0 => json!((0..1 + dice.below(4)).map(|_| text(dice)).collect::<Vec<String>>()),
        1 => json!((0..1 + dice.below(500)).collect::<Vec<u64>>()),
        2 => json!([[1, 2, 3], [4]]),
        _ => json!(text(dice)),
    };
    let mut body = json!({"model": model, "prompt": prompt});
    limit(dice, &mut body, "max_tokens");
    let n = 1 + dice.below(4);
    if dice.chance(3) {
        set(&mut body, "n", json!(n));
    }
    if dice.chance(3) {
        let best = n + dice.below(10);
        set(&mut body, "best_of", json!(best));
    }
    if dice.chance(3) {
        set(&mut body, "echo", json!(true));
    }
    if dice.chance(4) {
        set(&mut body, "suffix", json!(text(dice)));
    }
    body
}

fn embeddings(dice: &mut Dice, model: &str) -> Value {
    let input = if dice.chance(2) {
        json!(text(dice))
    } else {
        json!((0..1 + dice.below(50)).map(|_| text(dice)).collect::<Vec<String>>())
    };
    json!({"model": model, "input": input})
}

/// Which of the requests below, among those of a provider.
fn kind(dice: &mut Dice, provider: &str) -> u64 {
    match provider {
        "openai" => dice.below(7),
        "azure" => 7 + dice.below(2),
        "mistral" => 9 + dice.below(3),
        _ => 12,
    }
}

/// Any request to a provider. A field that multiplies the bill in a way that nobody bounds is put into some of them.
pub fn any(dice: &mut Dice, provider: &str) -> Request {
    const DATED: &str = "/openai/deployments/g/chat/completions?api-version=2024-10-21";
    const FAST: &str = "/openai/deployments/fast/chat/completions?api-version=2024-06-01";
    let models = [
        ("openai/gpt-4o", "gpt-4o"),
        ("openai/gpt-5", "gpt-5"),
        ("openai/gpt-5.6-sol", "gpt-5.6-sol"),
        ("openai/gpt-6-luna", "gpt-6-luna"),
    ];
    let zones =
        [("azure/gpt-4o", "g"), ("azure/us/gpt-4o", "us"), ("azure/eu/gpt-6-sol", "eu6"), ("azure/gpt-5", "five")];
    let own = [
        ("mistral/mistral-large-latest", "mistral-large-latest"),
        ("mistral/mistral-medium-3.5", "mistral-medium-3.5"),
    ];
    let ((price, model), zone, large) = (*dice.pick(&models), *dice.pick(&zones), *dice.pick(&own));
    let (provider, target, price, mut body) = match kind(dice, provider) {
        0..=2 => ("openai", "/v1/chat/completions", price, chat(dice, "openai", model)),
        3 | 4 => ("openai", "/v1/responses", price, response(dice, model)),
        5 => ("openai", "/v1/completions", "openai/gpt-3.5-turbo-instruct", completion(dice, "gpt-3.5-turbo-instruct")),
        6 => ("openai", "/v1/embeddings", "openai/text-embedding-3-small", embeddings(dice, "text-embedding-3-small")),
        7 if dice.chance(2) => {
            let mut body = chat(dice, "azure", "ignored");
            // A version that reports no usage of streams, and knows no other limit.
            body["stream"] = json!(false);
            ("azure", FAST, "azure/gpt-4.1", body)
        }
        7 => ("azure", DATED, "azure/gpt-4o", chat(dice, "azure", "ignored")),
        8 if dice.chance(2) => ("azure", "/openai/v1/chat/completions", zone.0, chat(dice, "azure", zone.1)),
        8 => ("azure", "/openai/v1/responses", zone.0, response(dice, zone.1)),
        9 if dice.chance(2) => {
            ("mistral", "/v1/embeddings", "mistral/mistral-embed", embeddings(dice, "mistral-embed"))
        }
        9 => {
            let mut body = json!({"model": "codestral-latest", "prompt": text(dice), "suffix": text(dice)});
            limit(dice, &mut body, "max_tokens");
            ("mistral", "/v1/fim/completions", "mistral/codestral-latest", body)
        }
        10 => ("mistral", "/v1/chat/completions", large.0, chat(dice, "mistral", large.1)),
        11 => {
            let mut body = response(dice, large.1);
            // It has no tiers.
            body.as_object_mut().unwrap().remove("service_tier");
            ("mistral", "/v1/responses", large.0, body)
        }
        _ => ("groq", "/v1/chat/completions", "groq/llama-4-scout", chat(dice, "groq", "llama-4-scout")),
    };
    let is_valid = !dice.chance(20);
    if !is_valid {
        let unbounded = [
            ("service_tier", json!("priority")),
            ("service_tier", json!("ultrafast")),
            ("background", json!(true)),
            ("web_search_options", json!({})),
            ("n", json!(1_000_000)),
            ("max_tokens", json!(-1)),
            ("best_off", json!(2)),
            ("prompt_cache_options", json!({"ttl": "24h"})),
            ("context_management", json!([])),
            ("agent_id", json!("x")),
        ];
        let (name, value) = dice.pick(&unbounded).clone();
        body[name] = value;
    }
    Request { provider, target, body, price, is_valid }
}

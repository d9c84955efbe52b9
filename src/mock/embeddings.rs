//! OpenAI's embeddings route.

use std::io::Write as _;

use serde_json::Value;

use super::flow::{Answer, App, Incoming, Order};
use super::generate::{Plan, mix, seed_of};
use super::invoice::Prompt;
use super::openai::{ApiError, model_of, parse_body, script_for, words};
use super::openai_out::write_usage;
use super::script::{Script, Tier, UsageMode};

const MAX_INPUTS: usize = 2048;
const MAX_TOKENS_PER_INPUT: u64 = 8192;
const MAX_TOKENS: u64 = 300_000;

/// Everything needed to write the answer of one embeddings call.
#[derive(Clone)]
pub struct EmbedAnswer {
    model: String,
    seed: u64,
    inputs: u64,
    dimensions: u64,
    is_base64: bool,
    prompt: Prompt,
    script: Script,
}

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let (requested, index, model) = model_of(&body)?;
    if !model.embeds() {
        let message = format!("You are not allowed to generate embeddings from {requested}");
        return Err(ApiError::bad("model", None, message).with_status(403));
    }
    let input = &body["input"];
    let counts = count_inputs(input)?;
    let text = input.as_str().or_else(|| input.as_array()?.iter().rev().find_map(Value::as_str)).unwrap_or_default();
    let script = script_for(app, incoming, text)?;
    let largest = if model.name.ends_with("large") { 3072 } else { 1536 };
    let dimensions = match &body["dimensions"] {
        Value::Null => largest,
        other => match other.as_u64() {
            Some(n) if (1..=largest).contains(&n) => n,
            _ => {
                return Err(ApiError::bad("dimensions", Some("invalid_value"), "Invalid value for 'dimensions'."));
            }
        },
    };
    let is_base64 = match body["encoding_format"].as_str() {
        None if body["encoding_format"].is_null() => false,
        Some("float") => false,
        Some("base64") => true,
        _ => {
            let message = "Invalid value for 'encoding_format'.";
            return Err(ApiError::bad("encoding_format", Some("invalid_value"), message));
        }
    };
    let seed = seed_of(&incoming.body);
    let prompt = Prompt { total: counts.iter().sum(), cached: 0, cache_write: 0 };
    let plan = Plan { seed, choices: 1, wanted: 0, limit: 0, reasoning: 0, first_event: 0, endless: None };
    let mut order = Order::new(incoming, requested, index, Tier::Default, prompt, plan, script);
    order.answer = Answer::Embeddings(Box::new(EmbedAnswer {
        model: Value::from(order.answer_model()).to_string(),
        seed,
        inputs: counts.len() as u64,
        dimensions,
        is_base64,
        prompt,
        script: order.script.clone(),
    }));
    Ok(order)
}

/// Tokens of each input: texts by their bytes, lists of token ids by their length.
fn count_inputs(input: &Value) -> Result<Vec<u64>, ApiError> {
    let bad = |why: &str| ApiError::bad("input", Some("invalid_value"), format!("Invalid 'input': {why}."));
    let ids = |list: &[Value]| list.iter().all(|id| id.as_u64().is_some()).then_some(list.len() as u64);
    let counts = match input {
        Value::String(text) => vec![words(text)],
        Value::Array(list) if list.iter().any(Value::is_number) => {
            vec![ids(list).ok_or_else(|| bad("expected token ids"))?]
        }
        Value::Array(list) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(words(text)),
                Value::Array(list) => ids(list).ok_or_else(|| bad("expected token ids")),
                _ => Err(bad("expected texts or lists of token ids")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(bad("expected a text or a list")),
    };
    if counts.is_empty() || counts.len() > MAX_INPUTS || counts.contains(&0) {
        return Err(bad("expected 1 to 2048 inputs, none of them empty"));
    }
    if counts.iter().any(|n| *n > MAX_TOKENS_PER_INPUT) || counts.iter().sum::<u64>() > MAX_TOKENS {
        return Err(bad("too many tokens"));
    }
    Ok(counts)
}

impl EmbedAnswer {
    /// The whole answer as one JSON object.
    pub fn full(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        for input in 0..self.inputs {
            let comma = if input > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{{\"object\":\"embedding\",\"index\":{input},\"embedding\":");
            if self.is_base64 {
                let bytes: Vec<u8> = (0..self.dimensions).flat_map(|i| self.number(input, i).to_le_bytes()).collect();
                out.push(b'"');
                base64(&bytes, &mut out);
                out.push(b'"');
            } else {
                for at in 0..self.dimensions {
                    let _ = write!(out, "{}{}", if at > 0 { ',' } else { '[' }, self.number(input, at));
                }
                out.push(b']');
            }
            out.push(b'}');
        }
        let _ = write!(out, "],\"model\":{}", self.model);
        let copies = match self.script.usage {
            UsageMode::None => 0,
            UsageMode::Twice => 2,
            _ => 1,
        };
        for _ in 0..copies {
            write_usage(&mut out, self.script.usage, &self.prompt, 0, None);
        }
        out.push(b'}');
        out
    }

    fn number(&self, input: u64, at: u64) -> f32 {
        let mixed = mix(self.seed ^ mix(input) ^ at) % 2001;
        (mixed as f32 - 1000.0) / 16384.0
    }
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { DIGITS[value as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counting() {
        assert_eq!(count_inputs(&json!("one two")).unwrap(), [2]);
        assert_eq!(count_inputs(&json!(["1", "two words"])).unwrap(), [1, 2]);
        assert_eq!(count_inputs(&json!([5, 6, 7])).unwrap(), [3]);
        assert_eq!(count_inputs(&json!([[5, 6, 7], [8]])).unwrap(), [3, 1]);
        let long = "x ".repeat(8193);
        for bad in
            [json!(null), json!(""), json!([]), json!([1, "a"]), json!([-1]), json!([[]]), json!({}), json!(long)]
        {
            assert!(count_inputs(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_digits() {
        for (plain, coded) in [("", ""), ("M", "TQ=="), ("Ma", "TWE="), ("Man", "TWFu"), ("Many", "TWFueQ==")] {
            let mut out = Vec::new();
            base64(plain.as_bytes(), &mut out);
            assert_eq!(out, coded.as_bytes());
        }
    }
}

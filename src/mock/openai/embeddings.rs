//! OpenAI's embeddings route.

use std::io::Write as _;

use serde_json::Value;

use super::super::body::{Out, Render};
use super::super::cache::Hit;
use super::super::dialect::{Answer, Stream};
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Beat, Plan};
use super::super::mistral;
use super::super::order::{Facts, Sale, conditions, split_prompt};
use super::super::prices::Provider;
use super::super::read::{base64, parse_body, quoted, script_for, words};
use super::super::script::Tier;
use super::super::words::{mix, seed_of};
use super::chat_out::write_usage;
use super::shop::Shop;

const MAX_INPUTS: usize = 2048;
const MAX_TOKENS_PER_INPUT: u64 = 8192;
const MAX_TOKENS: u64 = 300_000;

/// Everything needed to write the answer of one embeddings call.
struct EmbedAnswer {
    facts: Facts,
    provider: Provider,
    inputs: u64,
    dimensions: u64,
    is_base64: bool,
}

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, shop: &Shop) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let named = shop.named(&body)?;
    let input = &body["input"];
    let text = input.as_str().or_else(|| input.as_array()?.iter().rev().find_map(Value::as_str)).unwrap_or_default();
    let script = script_for(app, incoming, &named, text)?;
    let (requested, model) = shop.model(&named, &script)?;
    if !model.embeds() {
        let message = format!("You are not allowed to generate embeddings from {requested}");
        return Err(ApiError::bad("model", None, message).with_status(403));
    }
    let counts = count_inputs(input)?;
    let largest = match model.name {
        name if name.ends_with("large") => 3072,
        "mistral-embed" => 1024,
        _ => 1536,
    };
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
    let prompt = split_prompt(counts.iter().sum(), &Hit::default(), &script);
    let sale = Sale { provider: shop.provider, model, requested, conditions: conditions(&script, Tier::Default) };
    let mut order = Order::new(incoming, sale, prompt, Plan::nothing(seed_of(&incoming.body)), script);
    order.answer = Box::new(EmbedAnswer {
        facts: order.facts.clone(),
        provider: shop.provider,
        inputs: counts.len() as u64,
        dimensions,
        is_base64,
    });
    shop.finish(&mut order);
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

impl Answer for EmbedAnswer {
    fn full(&self) -> Vec<u8> {
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
        let _ = write!(out, "],\"model\":{}", quoted(&self.facts.model));
        if self.provider == Provider::Mistral {
            let _ = write!(out, ",\"id\":\"{:032x}\"", self.facts.id);
        }
        for _ in 0..self.facts.script.usage.copies() {
            self.usage_member(&mut out);
        }
        out.push(b'}');
        out
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        match self.provider {
            Provider::Mistral => mistral::write_usage(out, &self.facts, None),
            _ => write_usage(out, &self.facts, None),
        }
    }

    /// Embeddings are never streamed.
    fn stream(self: Box<Self>) -> Stream {
        Stream::sse(self)
    }
}

impl Render for EmbedAnswer {
    fn render(&mut self, _: Beat, _: &mut Out) {}
}

impl EmbedAnswer {
    fn number(&self, input: u64, at: u64) -> f32 {
        let mixed = mix(self.facts.plan.seed ^ mix(input) ^ at) % 2001;
        (mixed as f32 - 1000.0) / 16384.0
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
}

//! Embeddings, one or many at a time.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::body::{Out, Render};
use super::super::cache::Hit;
use super::super::dialect::{Answer, Stream};
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Beat, Plan};
use super::super::order::{Facts, Sale, conditions, split_prompt};
use super::super::prices::Provider;
use super::super::read::{bare_model, integer, parse_body, script_for, words};
use super::super::script::{Tier, UsageMode};
use super::super::words::{mix, seed_of};
use super::{field, find};

/// Numbers in an embedding, unless the request says otherwise.
const DIMENSIONS: u64 = 3_072;

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, named: &str, is_batch: bool) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let alone = [body.clone()];
    let requests: &[Value] = match &body["requests"] {
        Value::Array(requests) if is_batch && !requests.is_empty() => requests,
        _ if !is_batch => &alone,
        _ => return Err(ApiError::bad("", None, "* BatchEmbedContentsRequest.requests: at least one is required")),
    };
    let texts: Vec<String> = requests.iter().map(text_of).collect::<Result<_, _>>()?;
    let script = script_for(app, incoming, named, &texts.concat())?;
    let model = find(named)?;
    if !model.embeds() {
        return Err(ApiError::bad("", None, format!("{named} does not embed content")).with_status(404));
    }
    let dimensions = field(&requests[0], "outputDimensionality");
    let dimensions = integer(&json!({ "outputDimensionality": dimensions }), "outputDimensionality", 1, DIMENSIONS)?;
    let total = texts.iter().map(|text| words(text)).sum();
    let prompt = split_prompt(total, &Hit::default(), &script);
    let requested = bare_model(named).to_owned();
    let conditions = conditions(&script, Tier::Default);
    let sale = Sale { provider: Provider::Gemini, model, requested, conditions };
    let mut order = Order::new(incoming, sale, prompt, Plan::nothing(seed_of(&incoming.body)), script);
    order.answer = Box::new(EmbedAnswer {
        facts: order.facts.clone(),
        inputs: texts.len() as u64,
        is_batch,
        dimensions: dimensions.unwrap_or(DIMENSIONS),
    });
    Ok(order)
}

fn text_of(request: &Value) -> Result<String, ApiError> {
    let parts = request["content"]["parts"].as_array().filter(|parts| !parts.is_empty());
    let Some(parts) = parts else {
        return Err(ApiError::bad("", None, "* EmbedContentRequest.content: contents is not specified"));
    };
    Ok(parts.iter().filter_map(|part| part["text"].as_str()).collect())
}

struct EmbedAnswer {
    facts: Facts,
    inputs: u64,
    is_batch: bool,
    dimensions: u64,
}

impl EmbedAnswer {
    fn values(&self, out: &mut Vec<u8>, input: u64) {
        out.extend_from_slice(b"{\"values\":[");
        for at in 0..self.dimensions {
            let number = mix(self.facts.plan.seed ^ mix(input) ^ at) % 2001;
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{}", (number as f32 - 1000.0) / 16384.0);
        }
        out.extend_from_slice(b"]}");
    }
}

impl Answer for EmbedAnswer {
    fn full(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(if self.is_batch { b"{\"embeddings\":[" } else { b"{\"embedding\":" });
        for input in 0..self.inputs {
            if input > 0 {
                out.push(b',');
            }
            self.values(&mut out, input);
        }
        if self.is_batch {
            out.push(b']');
        }
        for _ in 0..self.facts.script.usage.copies() {
            self.usage_member(&mut out);
        }
        out.push(b'}');
        out
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        if self.facts.script.usage == UsageMode::Null {
            out.extend_from_slice(b",\"usageMetadata\":null");
            return;
        }
        let total = self.facts.say(self.facts.prompt.total);
        let _ = write!(out, ",\"usageMetadata\":{{\"promptTokenCount\":{total}{}}}", self.facts.extra());
    }

    /// Embeddings are never streamed.
    fn stream(self: Box<Self>) -> Stream {
        Stream::sse(self)
    }
}

impl Render for EmbedAnswer {
    fn render(&mut self, _: Beat, _: &mut Out) {}
}

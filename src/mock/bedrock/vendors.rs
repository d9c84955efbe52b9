//! Vendors whose bodies are a text and an answer: Llama, Mistral, Titan.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::body::{Out, Render};
use super::super::cache::Hit;
use super::super::dialect::{Answer, Stream};
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Beat, Plan, Wish};
use super::super::order::{Facts, Sale, conditions, split_prompt};
use super::super::prices::Provider;
use super::super::read::{integer, script_for, words};
use super::super::script::UsageMode;
use super::super::words::{mix, seed_of};
use super::{Target, eventstream, tier_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Llama,
    Mistral,
    TitanText,
    /// With so many numbers.
    TitanEmbed(u64),
}

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, body: &Value, target: Target, stream: bool) -> Result<Order, ApiError> {
    let Target { model, requested, named } = target;
    let (vendor, field, config, limit) = match model.name {
        name if name.contains("llama") => (Vendor::Llama, "prompt", body, "max_gen_len"),
        name if name.contains("mistral") => (Vendor::Mistral, "prompt", body, "max_tokens"),
        name if name.contains("embed") => (Vendor::TitanEmbed(dimensions(body)?), "inputText", body, ""),
        _ => (Vendor::TitanText, "inputText", &body["textGenerationConfig"], "maxTokenCount"),
    };
    let Some(text) = body[field].as_str() else {
        let message = format!("Malformed input request: #: required key [{field}] not found");
        return Err(ApiError::bad("", None, message));
    };
    if stream && model.embeds() {
        return Err(ApiError::bad("", None, "The model is unsupported for streaming"));
    }
    let script = script_for(app, incoming, &named, text)?;
    let seed = seed_of(&incoming.body);
    let plan = if model.embeds() {
        Plan::nothing(seed)
    } else {
        let limit = integer(config, limit, 1, model.max_output)?.unwrap_or(model.max_output);
        let wish = Wish { choices: 1, limit, max_output: model.max_output, stream, thinks: false };
        Plan::new(seed, &wish, &script)
    };
    let tier = script.tier.unwrap_or(tier_of(incoming, body)?);
    let prompt = split_prompt(words(text), &Hit::default(), &script);
    let sale = Sale { provider: Provider::Bedrock, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = stream;
    order.answer = Box::new(TextAnswer { facts: order.facts.clone(), vendor, shown: 0 });
    Ok(order)
}

fn dimensions(body: &Value) -> Result<u64, ApiError> {
    match &body["dimensions"] {
        Value::Null => Ok(1024),
        other => match other.as_u64() {
            Some(n @ (256 | 512 | 1024)) => Ok(n),
            _ => Err(ApiError::bad("", None, "dimensions: expected 256, 512 or 1024")),
        },
    }
}

struct TextAnswer {
    facts: Facts,
    vendor: Vendor,
    shown: u64,
}

impl TextAnswer {
    fn text(&self, from: u64, to: u64) -> String {
        let mut words = Vec::new();
        self.facts.words(&mut words, 0, from, to);
        String::from_utf8_lossy(&words).into_owned()
    }

    fn stop(&self) -> &str {
        let is_cut = self.facts.plan.is_cut_short();
        let natural = match (self.vendor, is_cut) {
            (Vendor::TitanText, true) => "LENGTH",
            (Vendor::TitanText, false) => "FINISH",
            (_, true) => "length",
            (_, false) => "stop",
        };
        self.facts.script.finish.as_deref().unwrap_or(natural)
    }

    /// A count of the body, as raw JSON: absent without usage.
    fn count(&self, name: &str, tokens: u64) -> String {
        match self.facts.script.usage {
            UsageMode::None => String::new(),
            UsageMode::Null => format!("\"{name}\":null,"),
            mode => format!("\"{name}\":{},", mode.say(tokens)).repeat(mode.copies()),
        }
    }

    fn whole(&self) -> String {
        let (input, output) = (self.facts.prompt.total, self.facts.completion());
        let (text, stop) = (json!(self.text(0, self.facts.plan.visible())), json!(self.stop()));
        match self.vendor {
            Vendor::Llama => {
                let counts = self.count("prompt_token_count", input) + &self.count("generation_token_count", output);
                format!("{{\"generation\":{text},{counts}\"stop_reason\":{stop}}}")
            }
            Vendor::Mistral => format!("{{\"outputs\":[{{\"text\":{text},\"stop_reason\":{stop}}}]}}"),
            Vendor::TitanText => {
                let (input, output) = (self.count("inputTextTokenCount", input), self.count("tokenCount", output));
                format!("{{{input}\"results\":[{{{output}\"outputText\":{text},\"completionReason\":{stop}}}]}}")
            }
            Vendor::TitanEmbed(dimensions) => {
                let number = |at: u64| (mix(self.facts.plan.seed ^ at) % 2001) as f32 / 16384.0;
                let numbers: Vec<String> = (0..dimensions).map(|at| number(at).to_string()).collect();
                let (input, numbers) = (self.count("inputTextTokenCount", input), numbers.join(","));
                format!("{{{input}\"embedding\":[{numbers}],\"embeddingsByType\":{{\"float\":[{numbers}]}}}}")
            }
        }
    }

    /// One event of a stream; the last one says why it ends, and what was used.
    fn event(&self, out: &mut Out, text: &str, is_last: bool) {
        let (text, stop) = (json!(text), if is_last { json!(self.stop()) } else { Value::Null });
        let (input, shown) = (self.facts.prompt.total, self.shown);
        let body = match self.vendor {
            Vendor::Llama => {
                let input = if shown <= 1 { json!(input) } else { Value::Null };
                format!(
                    "\"generation\":{text},\"prompt_token_count\":{input},\"generation_token_count\":{shown},\
                     \"stop_reason\":{stop}"
                )
            }
            Vendor::Mistral => format!("\"outputs\":[{{\"text\":{text},\"stop_reason\":{stop}}}]"),
            Vendor::TitanText | Vendor::TitanEmbed(_) => {
                let total = if is_last { json!(self.facts.completion()) } else { Value::Null };
                format!(
                    "\"outputText\":{text},\"index\":0,\"totalOutputTextTokenCount\":{total},\
                     \"completionReason\":{stop},\"inputTextTokenCount\":{input}"
                )
            }
        };
        let mut json = format!("{{{body}").into_bytes();
        if is_last {
            eventstream::write_metrics(&mut json, &self.facts);
        }
        json.push(b'}');
        eventstream::chunk(out, &json);
    }
}

impl Render for TextAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Tokens { from, to } => {
                self.shown = to;
                let text = self.text(from, to);
                self.event(out, &text, false);
            }
            Beat::Error => eventstream::exception(out),
            Beat::End => self.event(out, "", true),
            Beat::Start | Beat::Thoughts { .. } | Beat::Die => {}
        }
    }
}

impl Answer for TextAnswer {
    fn full(&self) -> Vec<u8> {
        self.whole().into_bytes()
    }

    fn stream(self: Box<Self>) -> Stream {
        eventstream::stream(self)
    }

    /// These vendors have no usage object; an error that is billed says the total alone.
    fn usage_member(&self, out: &mut Vec<u8>) {
        let _ = write!(out, ",\"usage\":{{\"outputTokens\":{}}}", self.facts.say(self.facts.completion()));
    }
}

//! Legacy completions: text in, text out.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::body::{Out, Render};
use super::super::cache::Hit;
use super::super::dialect::{Answer, Sse, Stream};
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::generate::{Beat, Plan, Wish};
use super::super::order::{Facts, Sale, conditions, split_prompt};
use super::super::read::{boolean, integer, parse_body, quoted, script_for, words};
use super::super::script::UsageMode;
use super::super::words::seed_of;
use super::chat::tier_of;
use super::chat_out::write_usage;
use super::error_object;
use super::shop::Shop;

/// Tokens of each choice, if the request sets no limit.
const DEFAULT_LIMIT: u64 = 16;

/// Checks a request and says what it will be billed: `best_of` choices of each prompt are generated, `n` are shown.
pub fn order(app: &App, incoming: &Incoming, shop: &Shop) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let named = shop.named(&body)?;
    let prompts = prompts_of(&body["prompt"])?;
    let text: String = prompts.iter().map(|prompt| prompt.0.as_str()).collect();
    let script = script_for(app, incoming, &named, &text)?;
    let (requested, model) = shop.model(&named, &script)?;
    if model.embeds() || model.reasoning {
        let message = "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use \
                       v1/chat/completions?";
        return Err(ApiError::bad("model", None, message).with_status(404));
    }
    let stream = boolean(&body, "stream")?;
    let n = integer(&body, "n", 1, 128)?.unwrap_or(1);
    let best_of = integer(&body, "best_of", 1, 20)?.unwrap_or(n);
    if best_of < n || (stream && best_of > n) {
        let message = "You requested that the server return more choices than it will generate, or to stream the best \
                       of several: 'best_of' must not be less than 'n', and equal to it when streaming.";
        return Err(ApiError::bad("best_of", None, message));
    }
    let limit = integer(&body, "max_tokens", 1, model.max_output)?.unwrap_or(DEFAULT_LIMIT);
    let asked = prompts.len() as u64;
    let wish = Wish { choices: best_of * asked, limit, max_output: model.max_output, stream, thinks: false };
    let plan = Plan::new(seed_of(&incoming.body), &wish, &script);
    let total = prompts.iter().map(|prompt| prompt.1).sum();
    let tier = script.tier.or(tier_of(&body)?).unwrap_or(app.auto_tier);
    let prompt = split_prompt(total, &Hit::default(), &script);
    let sale = Sale { provider: shop.provider, model, requested, conditions: conditions(&script, tier) };
    let mut order = Order::new(incoming, sale, prompt, plan, script);
    order.stream = stream;
    let echo = if boolean(&body, "echo")? { prompts.into_iter().map(|prompt| prompt.0).collect() } else { Vec::new() };
    order.answer = Box::new(TextAnswer {
        shown: n * asked,
        per_prompt: n,
        echo,
        include_usage: boolean(&body["stream_options"], "include_usage")?,
        sse: Sse::new(&order.script),
        facts: order.facts.clone(),
    });
    shop.finish(&mut order);
    Ok(order)
}

/// The prompts, each with its number of tokens.
fn prompts_of(prompt: &Value) -> Result<Vec<(String, u64)>, ApiError> {
    let bad = || ApiError::bad("prompt", Some("invalid_value"), "Invalid 'prompt': expected texts or token ids.");
    let one = |value: &Value| match value {
        Value::String(text) => Ok((text.clone(), words(text))),
        Value::Array(ids) if ids.iter().all(Value::is_u64) => Ok((String::new(), ids.len() as u64)),
        _ => Err(bad()),
    };
    match prompt {
        Value::Null => Ok(vec![(String::new(), 1)]),
        Value::Array(list) if list.is_empty() => Err(bad()),
        Value::Array(list) if !list[0].is_number() => list.iter().map(one).collect(),
        _ => Ok(vec![one(prompt)?]),
    }
}

struct TextAnswer {
    facts: Facts,
    shown: u64,
    per_prompt: u64,
    echo: Vec<String>,
    include_usage: bool,
    sse: Sse,
}

impl TextAnswer {
    fn head(&self, out: &mut Vec<u8>) {
        let (id, model) = (self.facts.id, quoted(&self.facts.model));
        let _ = write!(out, "{{\"id\":\"cmpl-{id:016x}\",\"object\":\"text_completion\",\"created\":1767225600,");
        let _ = write!(out, "\"model\":{model},\"choices\":[");
    }

    fn echo(&self, choice: u64) -> String {
        let text = self.echo.get((choice / self.per_prompt) as usize).map_or("", String::as_str);
        let quoted = quoted(text);
        quoted[1..quoted.len() - 1].to_owned()
    }

    fn choice(&self, out: &mut Vec<u8>, choice: u64, text: impl FnOnce(&mut Vec<u8>), finish: &str) {
        out.extend_from_slice(b"{\"text\":\"");
        text(out);
        let _ = write!(out, "\",\"index\":{choice},\"logprobs\":null,\"finish_reason\":{finish}}}");
    }

    fn finish(&self) -> String {
        let natural = if self.facts.plan.is_cut_short() { "length" } else { "stop" };
        quoted(self.facts.script.finish.as_deref().unwrap_or(natural))
    }

    fn chunk(&self, out: &mut Out, choice: u64, text: impl FnOnce(&mut Vec<u8>), finish: &str) {
        self.sse.event(out, "", |buf| {
            self.head(buf);
            self.choice(buf, choice, text, finish);
            buf.extend_from_slice(if self.include_usage { b"],\"usage\":null}" } else { b"]}" });
        });
    }

    fn usage_event(&self, out: &mut Out) {
        self.sse.event(out, "", |buf| {
            self.head(buf);
            buf.push(b']');
            self.usage_member(buf);
            buf.push(b'}');
        });
    }

    fn end(&self, out: &mut Out) {
        for choice in 0..self.shown {
            self.chunk(out, choice, |_| {}, &self.finish());
        }
        let mode = self.facts.script.usage;
        let is_late = mode == UsageMode::AfterDone;
        for _ in 0..if self.include_usage && !is_late { mode.copies() } else { 0 } {
            self.usage_event(out);
        }
        if !self.facts.script.no_done {
            self.sse.event(out, "", |buf| buf.extend_from_slice(b"[DONE]"));
        }
        if self.include_usage && is_late {
            self.usage_event(out);
        }
    }
}

impl Answer for TextAnswer {
    fn full(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.head(&mut out);
        for choice in 0..self.shown {
            if choice > 0 {
                out.push(b',');
            }
            let text = |buf: &mut Vec<u8>| {
                buf.extend_from_slice(self.echo(choice).as_bytes());
                self.facts.words(buf, choice, 0, self.facts.plan.visible());
            };
            self.choice(&mut out, choice, text, &self.finish());
        }
        out.push(b']');
        for _ in 0..self.facts.script.usage.copies() {
            self.usage_member(&mut out);
        }
        out.push(b'}');
        out
    }

    fn stream(self: Box<Self>) -> Stream {
        Stream::sse(self)
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        write_usage(out, &self.facts, Some(self.facts.completion()));
    }
}

impl Render for TextAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start if !self.echo.is_empty() => {
                for choice in 0..self.shown {
                    let echo = self.echo(choice);
                    self.chunk(out, choice, |buf| buf.extend_from_slice(echo.as_bytes()), "null");
                }
            }
            Beat::Tokens { from, to } => {
                for choice in 0..self.shown {
                    self.chunk(out, choice, |buf| self.facts.words(buf, choice, from, to), "null");
                }
            }
            Beat::Error => {
                let error = json!({ "error": error_object(&ApiError::failing()) }).to_string();
                self.sse.event(out, "", |buf| buf.extend_from_slice(error.as_bytes()));
            }
            Beat::End => self.end(out),
            Beat::Start | Beat::Thoughts { .. } | Beat::Die => {}
        }
    }
}

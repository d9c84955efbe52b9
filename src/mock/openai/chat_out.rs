//! Chat completions, answer side: whole or as server-sent events. Azure's and Mistral's differ in details.

use std::io::Write as _;

use serde_json::json;

use super::super::body::{Out, Render};
use super::super::dialect::{Answer, Sse, Stream};
use super::super::error::ApiError;
use super::super::generate::Beat;
use super::super::invoice::Output;
use super::super::mistral;
use super::super::order::Facts;
use super::super::prices::Provider;
use super::super::read::quoted;
use super::super::script::UsageMode;
use super::error_object;

/// Everything needed to write the answer of one chat call. The words are computed, not stored.
pub struct ChatAnswer {
    facts: Facts,
    provider: Provider,
    /// From `"id"` up to the choices, without the object's name.
    head: String,
    include_usage: bool,
    tool: Option<String>,
    sse: Sse,
}

impl ChatAnswer {
    /// Prepares an answer; `tool` names the function to call instead of talking.
    pub fn new(facts: &Facts, provider: Provider, include_usage: bool, tool: Option<String>) -> ChatAnswer {
        let head = head(facts, provider);
        let sse = Sse::new(&facts.script);
        ChatAnswer { facts: facts.clone(), provider, head, include_usage, tool: tool.map(|name| quoted(&name)), sse }
    }

    fn is_mistral(&self) -> bool {
        self.provider == Provider::Mistral
    }

    fn filtered(&self) -> &'static str {
        if self.provider == Provider::Azure { CONTENT_FILTER } else { "" }
    }

    /// The whole answer as one JSON object.
    fn whole(&self) -> Vec<u8> {
        let facts = &self.facts;
        let mut out = Vec::with_capacity(640 + facts.plan.visible() as usize * facts.plan.choices as usize * 8);
        let _ = write!(out, "{{\"object\":\"chat.completion\",{},\"choices\":[", self.head);
        for choice in 0..if facts.script.empty_choices { 0 } else { facts.plan.choices } {
            let comma = if choice > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{{\"index\":{choice},\"message\":{{\"role\":\"assistant\",\"content\":");
            let refusal = if self.is_mistral() { "" } else { ",\"refusal\":null" };
            match &self.tool {
                None => {
                    out.push(b'"');
                    facts.words(&mut out, choice, 0, facts.plan.visible());
                    let _ = write!(out, "\"{refusal}");
                }
                Some(tool) => {
                    let id = self.call_id(choice);
                    let _ = write!(out, "null{refusal},\"tool_calls\":[{{\"id\":\"{id}\",\"type\":\"function\",");
                    let _ = write!(out, "\"function\":{{\"name\":{tool},\"arguments\":\"{ARGS_OPEN}");
                    facts.words(&mut out, choice, 0, facts.plan.visible());
                    let _ = write!(out, "{ARGS_CLOSE}\"}}}}]");
                }
            }
            let (logprobs, filtered) = (self.logprobs(), self.filtered());
            let _ = write!(out, "}}{logprobs},\"finish_reason\":{}{filtered}}}", quoted(self.finish()));
        }
        out.push(b']');
        if self.provider == Provider::Azure {
            let _ = write!(out, ",{PROMPT_FILTER}");
        }
        for _ in 0..facts.script.usage.copies() {
            self.usage(&mut out, facts.completion());
        }
        out.push(b'}');
        out
    }

    fn logprobs(&self) -> &'static str {
        if self.is_mistral() { "" } else { ",\"logprobs\":null" }
    }

    /// Mistral's ids are nine characters.
    fn call_id(&self, choice: u64) -> String {
        match self.provider {
            Provider::Mistral => format!("{:07x}{choice:02}", self.facts.id >> 36),
            _ => format!("call_{:x}_{choice}", self.facts.id),
        }
    }

    fn finish(&self) -> &str {
        match &self.tool {
            _ if self.facts.script.finish.is_some() => self.facts.script.finish.as_deref().unwrap_or_default(),
            _ if self.facts.plan.is_cut_short() => "length",
            Some(_) => "tool_calls",
            None => "stop",
        }
    }

    /// Writes `,"usage":{…}` after `completion` tokens of all choices together.
    fn usage(&self, out: &mut Vec<u8>, completion: u64) {
        if self.is_mistral() {
            mistral::write_usage(out, &self.facts, Some(completion));
        } else {
            write_usage(out, &self.facts, Some(completion));
        }
    }

    fn stream_error(&self) -> String {
        let error = ApiError::failing();
        match self.provider {
            Provider::Mistral => mistral::error_object(&error).to_string(),
            _ => json!({ "error": error_object(&error) }).to_string(),
        }
    }

    fn event(&self, out: &mut Out, write: impl FnOnce(&mut Vec<u8>)) {
        self.sse.event(out, "", write);
    }

    /// A chunk whose `choices` is what `choices` writes, after `visible` tokens.
    fn chunk(&self, out: &mut Out, visible: u64, choices: impl FnOnce(&mut Vec<u8>)) {
        self.event(out, |buf| {
            let _ = write!(buf, "{{\"object\":\"chat.completion.chunk\",{},\"choices\":[", self.head);
            choices(buf);
            buf.push(b']');
            match self.facts.script.usage {
                _ if !self.include_usage => {}
                UsageMode::Cumulative => self.usage(buf, self.facts.completion_at(visible)),
                UsageMode::None => {}
                _ if self.is_mistral() => {}
                _ => buf.extend_from_slice(b",\"usage\":null"),
            }
            buf.push(b'}');
        });
    }

    fn delta(&self, out: &mut Out, choice: u64, visible: u64, finish: &str, delta: impl FnOnce(&mut Vec<u8>)) {
        self.chunk(out, visible, |buf| {
            let _ = write!(buf, "{{\"index\":{choice},\"delta\":{{");
            delta(buf);
            let (logprobs, filtered) = (self.logprobs(), self.filtered());
            let _ = write!(buf, "}}{logprobs},\"finish_reason\":{finish}{filtered}}}");
        });
    }

    fn start(&self, out: &mut Out) {
        if self.provider == Provider::Azure {
            self.event(out, |buf| {
                let _ = write!(
                    buf,
                    "{{\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",{PROMPT_FILTER}}}"
                );
            });
        }
        if self.facts.script.empty_choices {
            self.chunk(out, 0, |_| {});
        }
        for choice in 0..self.facts.plan.choices {
            let refusal = if self.is_mistral() { "" } else { ",\"refusal\":null" };
            self.delta(out, choice, 0, "null", |buf| match &self.tool {
                None => {
                    let _ = write!(buf, "\"role\":\"assistant\",\"content\":\"\"{refusal}");
                }
                Some(tool) => {
                    let id = self.call_id(choice);
                    let _ = write!(buf, "\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"index\":0,");
                    let _ = write!(buf, "\"id\":\"{id}\",\"type\":\"function\",\"function\":{{\"name\":{tool},");
                    buf.extend_from_slice(b"\"arguments\":\"\"}}]");
                }
            });
            if self.tool.is_some() {
                self.arguments(out, choice, 0, |buf| buf.extend_from_slice(ARGS_OPEN.as_bytes()));
            }
        }
    }

    fn arguments(&self, out: &mut Out, choice: u64, visible: u64, text: impl FnOnce(&mut Vec<u8>)) {
        self.delta(out, choice, visible, "null", |buf| {
            buf.extend_from_slice(b"\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"");
            text(buf);
            buf.extend_from_slice(b"\"}}]");
        });
    }

    fn tokens(&self, out: &mut Out, from: u64, to: u64) {
        for choice in 0..self.facts.plan.choices {
            if self.tool.is_some() {
                self.arguments(out, choice, to, |buf| self.facts.words(buf, choice, from, to));
            } else {
                self.delta(out, choice, to, "null", |buf| {
                    buf.extend_from_slice(b"\"content\":\"");
                    self.facts.words(buf, choice, from, to);
                    buf.push(b'"');
                });
            }
        }
    }

    fn end(&self, out: &mut Out) {
        let visible = self.facts.plan.visible();
        if self.facts.script.empty_choices {
            self.chunk(out, visible, |_| {});
        }
        let finish = quoted(self.finish());
        for choice in 0..self.facts.plan.choices {
            if self.tool.is_some() {
                self.arguments(out, choice, visible, |buf| buf.extend_from_slice(ARGS_CLOSE.as_bytes()));
            }
            if self.is_mistral() && choice + 1 == self.facts.plan.choices {
                self.mistral_end(out, choice, &finish);
            } else {
                self.delta(out, choice, visible, &finish, |_| {});
            }
        }
        let copies = match self.facts.script.usage {
            _ if !self.include_usage => 0,
            UsageMode::None | UsageMode::AfterDone => 0,
            mode => mode.copies() - usize::from(self.is_mistral()),
        };
        for _ in 0..copies {
            self.usage_event(out);
        }
        if !self.facts.script.no_done {
            self.event(out, |buf| buf.extend_from_slice(b"[DONE]"));
        }
        if self.include_usage && self.facts.script.usage == UsageMode::AfterDone {
            self.usage_event(out);
        }
    }

    /// Mistral's last chunk carries the usage report itself.
    fn mistral_end(&self, out: &mut Out, choice: u64, finish: &str) {
        self.event(out, |buf| {
            let _ = write!(buf, "{{\"object\":\"chat.completion.chunk\",{},\"choices\":[", self.head);
            let _ = write!(buf, "{{\"index\":{choice},\"delta\":{{\"content\":\"\"}},\"finish_reason\":{finish}}}]");
            if !matches!(self.facts.script.usage, UsageMode::None | UsageMode::AfterDone) {
                self.usage(buf, self.facts.completion());
            }
            buf.push(b'}');
        });
    }

    fn usage_event(&self, out: &mut Out) {
        self.event(out, |buf| {
            let _ = write!(buf, "{{\"object\":\"chat.completion.chunk\",{},\"choices\":[]", self.head);
            self.usage(buf, self.facts.completion());
            buf.push(b'}');
        });
    }
}

/// From `"id"` up to the choices.
fn head(facts: &Facts, provider: Provider) -> String {
    let (id, model) = (facts.id, quoted(&facts.model));
    if provider == Provider::Mistral {
        return format!("\"id\":\"{id:032x}\",\"created\":1767225600,\"model\":{model}");
    }
    let tier = quoted(facts.tier_name(facts.tier.name()));
    format!(
        "\"id\":\"chatcmpl-{id:016x}\",\"created\":1767225600,\"model\":{model},\"service_tier\":{tier},\
         \"system_fingerprint\":\"fp_mock\""
    )
}

/// What Azure says about the prompt, and about each choice.
const PROMPT_FILTER: &str = r#""prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]"#;
const CONTENT_FILTER: &str = r#","content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}"#;

/// Arguments of a tool call are an object with one text; this is how they look inside a JSON string.
const ARGS_OPEN: &str = r#"{\"text\":\""#;
const ARGS_CLOSE: &str = r#"\"}"#;

impl Render for ChatAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start => self.start(out),
            Beat::Tokens { from, to } => self.tokens(out, from, to),
            Beat::Error => self.event(out, |buf| buf.extend_from_slice(self.stream_error().as_bytes())),
            Beat::End => self.end(out),
            Beat::Thoughts { .. } | Beat::Die => {}
        }
    }
}

impl Answer for ChatAnswer {
    fn full(&self) -> Vec<u8> {
        self.whole()
    }

    fn stream(self: Box<Self>) -> Stream {
        Stream::sse(self)
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        self.usage(out, self.facts.completion());
    }
}

/// Writes `,"usage":{…}`, truly or as the script has it. Without `completion` (embeddings) there is no output.
pub fn write_usage(out: &mut Vec<u8>, facts: &Facts, completion: Option<u64>) {
    if facts.script.usage == UsageMode::Null {
        out.extend_from_slice(b",\"usage\":null");
        return;
    }
    let (prompt, say) = (&facts.prompt, |n| facts.say(n));
    let total = say(prompt.total.saturating_add(completion.unwrap_or(0)));
    let _ = write!(out, ",\"usage\":{{\"prompt_tokens\":{},", say(prompt.total));
    let Some(completion) = completion else {
        let _ = write!(out, "\"total_tokens\":{total}{}}}", facts.extra());
        return;
    };
    let _ = write!(out, "\"completion_tokens\":{},\"total_tokens\":{total},", say(completion));
    let (cached, written) = (say(prompt.cached), say(prompt.cache_write + prompt.cache_write_1h));
    let audio = if prompt.audio > 0 { say(prompt.audio) } else { "0".into() };
    let _ = write!(out, "\"prompt_tokens_details\":{{\"cached_tokens\":{cached},\"cache_write_tokens\":{written},");
    let reasoning = say(facts.reasoning(completion));
    let _ = write!(out, "\"audio_tokens\":{audio}}},\"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning},");
    let heard = Output::split(completion, facts.reasoning(completion), &facts.media).audio;
    let heard = if heard > 0 { say(heard) } else { "0".into() };
    let _ = write!(out, "\"audio_tokens\":{heard},\"accepted_prediction_tokens\":0,");
    let _ = write!(out, "\"rejected_prediction_tokens\":0}}{}}}", facts.extra());
}

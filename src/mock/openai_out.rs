//! OpenAI's dialect, answer side: chat completions, whole or as server-sent events.

use std::io::Write as _;

use super::body::{Out, Render};
use super::flow::Order;
use super::generate::{Beat, Plan, word};
use super::invoice::Prompt;
use super::script::{Script, UsageMode};

/// Everything needed to write the answer of one chat call. The words are computed, not stored.
#[derive(Clone)]
pub struct ChatAnswer {
    /// `"id":…` up to the choices, without the object's name.
    head: String,
    id: u64,
    plan: Plan,
    prompt: Prompt,
    script: Script,
    include_usage: bool,
    tool: Option<String>,
}

impl ChatAnswer {
    /// Prepares an answer; `tool` names the function to call instead of talking.
    pub fn new(order: &Order, include_usage: bool, tool: Option<String>) -> ChatAnswer {
        let tier = order.billed_tier().name();
        let model = quoted(&order.answer_model());
        let head = format!("\"created\":1767225600,\"model\":{model},\"service_tier\":\"{tier}\"");
        ChatAnswer {
            head,
            id: order.plan.seed,
            plan: order.plan.clone(),
            prompt: order.prompt,
            script: order.script.clone(),
            include_usage,
            tool: tool.map(|name| quoted(&name)),
        }
    }

    /// The whole answer as one JSON object.
    pub fn full(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(640 + self.plan.visible() as usize * self.plan.choices as usize * 8);
        let _ = write!(out, "{{\"id\":\"chatcmpl-{:016x}\",\"object\":\"chat.completion\",{},", self.id, self.head);
        out.extend_from_slice(b"\"system_fingerprint\":\"fp_mock\",\"choices\":[");
        for choice in 0..if self.script.empty_choices { 0 } else { self.plan.choices } {
            let comma = if choice > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{{\"index\":{choice},\"message\":{{\"role\":\"assistant\",\"content\":");
            match &self.tool {
                None => {
                    out.push(b'"');
                    self.words(&mut out, choice, 0, self.plan.visible());
                    out.extend_from_slice(b"\",\"refusal\":null");
                }
                Some(tool) => {
                    let _ =
                        write!(out, "null,\"refusal\":null,\"tool_calls\":[{{\"id\":\"call_{:x}_{choice}\",", self.id);
                    let _ =
                        write!(out, "\"type\":\"function\",\"function\":{{\"name\":{tool},\"arguments\":\"{ARGS_OPEN}");
                    self.words(&mut out, choice, 0, self.plan.visible());
                    let _ = write!(out, "{ARGS_CLOSE}\"}}}}]");
                }
            }
            let _ = write!(out, "}},\"logprobs\":null,\"finish_reason\":\"{}\"}}", self.finish());
        }
        out.push(b']');
        let completion = self.plan.total().saturating_mul(self.plan.choices);
        let copies = match self.script.usage {
            UsageMode::None => 0,
            UsageMode::Twice => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.usage(&mut out, completion);
        }
        out.push(b'}');
        out
    }

    fn words(&self, out: &mut Vec<u8>, choice: u64, from: u64, to: u64) {
        for index in from..to {
            out.extend_from_slice(word(self.plan.seed, self.script.unicode, choice, index).as_bytes());
        }
    }

    fn finish(&self) -> &'static str {
        match &self.tool {
            _ if self.plan.is_cut_short() => "length",
            Some(_) => "tool_calls",
            None => "stop",
        }
    }

    /// Writes `,"usage":{…}` after `completion` tokens of all choices together.
    fn usage(&self, out: &mut Vec<u8>, completion: u64) {
        let reasoning = self.plan.reasoning.saturating_mul(self.plan.choices).min(completion);
        write_usage(out, self.script.usage, &self.prompt, completion, Some(reasoning));
    }

    fn event(&self, out: &mut Out, write: impl FnOnce(&mut Vec<u8>)) {
        let eol: &[u8] = if self.script.crlf { b"\r\n" } else { b"\n" };
        if self.script.comment {
            out.buf.extend_from_slice(b": mock");
            out.buf.extend_from_slice(eol);
            out.buf.extend_from_slice(eol);
        }
        out.buf.extend_from_slice(if self.script.nospace { b"data:" } else { b"data: " });
        write(&mut out.buf);
        out.buf.extend_from_slice(eol);
        out.buf.extend_from_slice(eol);
        out.commit();
    }

    /// A chunk whose `choices` is what `choices` writes, after `visible` tokens.
    fn chunk(&self, out: &mut Out, visible: u64, choices: impl FnOnce(&mut Vec<u8>)) {
        self.event(out, |buf| {
            let _ = write!(buf, "{{\"id\":\"chatcmpl-{:016x}\",\"object\":\"chat.completion.chunk\",", self.id);
            let _ = write!(buf, "{},\"system_fingerprint\":\"fp_mock\",\"choices\":[", self.head);
            choices(buf);
            buf.push(b']');
            if self.include_usage && self.script.usage == UsageMode::Cumulative {
                let tokens = self.plan.silent().saturating_add(visible);
                self.usage(buf, tokens.saturating_mul(self.plan.choices));
            } else if self.include_usage && self.script.usage != UsageMode::None {
                buf.extend_from_slice(b",\"usage\":null");
            }
            buf.push(b'}');
        });
    }

    fn delta(&self, out: &mut Out, choice: u64, visible: u64, finish: &str, delta: impl FnOnce(&mut Vec<u8>)) {
        self.chunk(out, visible, |buf| {
            let _ = write!(buf, "{{\"index\":{choice},\"delta\":{{");
            delta(buf);
            let _ = write!(buf, "}},\"logprobs\":null,\"finish_reason\":{finish}}}");
        });
    }

    fn start(&self, out: &mut Out) {
        if self.script.empty_choices {
            self.chunk(out, 0, |_| {});
        }
        for choice in 0..self.plan.choices {
            self.delta(out, choice, 0, "null", |buf| match &self.tool {
                None => buf.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"),
                Some(tool) => {
                    let _ =
                        write!(buf, "\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"index\":0,\"id\":");
                    let _ = write!(buf, "\"call_{:x}_{choice}\",\"type\":\"function\",\"function\":", self.id);
                    let _ = write!(buf, "{{\"name\":{tool},\"arguments\":\"\"}}}}]");
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
        for choice in 0..self.plan.choices {
            if self.tool.is_some() {
                self.arguments(out, choice, to, |buf| self.words(buf, choice, from, to));
            } else {
                self.delta(out, choice, to, "null", |buf| {
                    buf.extend_from_slice(b"\"content\":\"");
                    self.words(buf, choice, from, to);
                    buf.push(b'"');
                });
            }
        }
    }

    fn end(&self, out: &mut Out) {
        let visible = self.plan.visible();
        if self.script.empty_choices {
            self.chunk(out, visible, |_| {});
        }
        let finish = quoted(self.finish());
        for choice in 0..self.plan.choices {
            if self.tool.is_some() {
                self.arguments(out, choice, visible, |buf| buf.extend_from_slice(ARGS_CLOSE.as_bytes()));
            }
            self.delta(out, choice, visible, &finish, |_| {});
        }
        let copies = match self.script.usage {
            _ if !self.include_usage => 0,
            UsageMode::None | UsageMode::AfterDone => 0,
            UsageMode::Twice => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.usage_event(out);
        }
        if !self.script.no_done {
            self.event(out, |buf| buf.extend_from_slice(b"[DONE]"));
        }
        if self.include_usage && self.script.usage == UsageMode::AfterDone {
            self.usage_event(out);
        }
    }

    fn usage_event(&self, out: &mut Out) {
        self.event(out, |buf| {
            let _ = write!(buf, "{{\"id\":\"chatcmpl-{:016x}\",\"object\":\"chat.completion.chunk\",", self.id);
            let _ = write!(buf, "{},\"system_fingerprint\":\"fp_mock\",\"choices\":[]", self.head);
            self.usage(buf, self.plan.total().saturating_mul(self.plan.choices));
            buf.push(b'}');
        });
    }
}

/// Arguments of a tool call are an object with one text; this is how they look inside a JSON string.
const ARGS_OPEN: &str = r#"{\"text\":\""#;
const ARGS_CLOSE: &str = r#"\"}"#;

impl Render for ChatAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start => self.start(out),
            Beat::Tokens { from, to } => self.tokens(out, from, to),
            Beat::Error => self.event(out, |buf| buf.extend_from_slice(STREAM_ERROR.as_bytes())),
            Beat::End => self.end(out),
            Beat::Die => {}
        }
    }
}

/// What an OpenAI stream says when the provider fails in the middle.
pub const STREAM_ERROR: &str = "{\"error\":{\"message\":\"The server had an error while processing your request. Sorry \
                                about that!\",\"type\":\"server_error\",\"param\":null,\"code\":null}}";

/// A JSON string literal.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes `,"usage":{…}`, truly or as `mode` has it. Without `reasoning` (embeddings) there is no output.
pub fn write_usage(out: &mut Vec<u8>, mode: UsageMode, prompt: &Prompt, completion: u64, reasoning: Option<u64>) {
    if mode == UsageMode::Null {
        out.extend_from_slice(b",\"usage\":null");
        return;
    }
    let say = |true_number: u64| -> String {
        match mode {
            UsageMode::Zero => "0".into(),
            UsageMode::Negative => format!("-{true_number}"),
            UsageMode::Small => true_number.min(1).to_string(),
            UsageMode::Huge => (1_u64 << 63).to_string(),
            UsageMode::Nan => "NaN".into(),
            _ => true_number.to_string(),
        }
    };
    let total = say(prompt.total.saturating_add(completion));
    let _ = write!(out, ",\"usage\":{{\"prompt_tokens\":{},", say(prompt.total));
    let Some(reasoning) = reasoning else {
        let _ = write!(out, "\"total_tokens\":{total}}}");
        return;
    };
    let _ = write!(out, "\"completion_tokens\":{},\"total_tokens\":{total},", say(completion));
    let (cached, written) = (say(prompt.cached), say(prompt.cache_write));
    let _ = write!(out, "\"prompt_tokens_details\":{{\"cached_tokens\":{cached},\"cache_write_tokens\":{written},");
    let _ =
        write!(out, "\"audio_tokens\":0}},\"completion_tokens_details\":{{\"reasoning_tokens\":{},", say(reasoning));
    out.extend_from_slice(b"\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}");
}

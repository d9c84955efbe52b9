//! Contents, answer side: whole, as server-sent events, or as one array that is written piece by piece.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::body::{Out, Render};
use super::super::dialect::{Answer, PAD_BLOCK, Sse, Stream};
use super::super::error::ApiError;
use super::super::generate::Beat;
use super::super::invoice::Output;
use super::super::order::Facts;
use super::super::read::quoted;
use super::super::script::{Script, Tier, UsageMode};
use super::error_object;

/// How the chunks of a stream are wrapped.
#[derive(Clone, Copy, Debug)]
pub enum Frames {
    /// `alt=sse`: unnamed events, no terminal one.
    Sse(Sse),
    /// One JSON array.
    Array,
}

impl Frames {
    /// Google's events end with CRLF.
    pub fn sse(script: &Script) -> Frames {
        Frames::Sse(Sse::new(script).crlf())
    }
}

/// Everything needed to write the answer of one call.
pub struct GeminiAnswer {
    facts: Facts,
    tool: Option<String>,
    shows_thoughts: bool,
    frames: Frames,
    shown: u64,
    thought: u64,
    chunks: u64,
}

impl GeminiAnswer {
    /// Prepares an answer; `tool` names the function to call instead of talking.
    pub fn new(facts: &Facts, tool: Option<String>, shows_thoughts: bool, frames: Frames) -> GeminiAnswer {
        GeminiAnswer { facts: facts.clone(), tool, shows_thoughts, frames, shown: 0, thought: 0, chunks: 0 }
    }

    /// The tier it ran in, in Google's words.
    pub fn tier(&self) -> &str {
        let name = match self.facts.tier {
            Tier::Default | Tier::Ultrafast => "standard",
            other => other.name(),
        };
        self.facts.tier_name(name)
    }

    fn text(&self, choice: u64, from: u64, to: u64) -> String {
        let mut words = Vec::new();
        self.facts.words(&mut words, choice, from, to);
        String::from_utf8_lossy(&words).into_owned()
    }

    fn thought(&self, from: u64, to: u64) -> Value {
        let mut words = Vec::new();
        self.facts.thoughts(&mut words, from, to);
        json!({ "text": String::from_utf8_lossy(&words), "thought": true })
    }

    fn call(&self, choice: u64, visible: u64) -> Value {
        let text = self.text(choice, 0, visible);
        json!({ "functionCall": { "name": self.tool, "args": { "text": text } }, "thoughtSignature": "bW9jaw==" })
    }

    fn finish(&self) -> &str {
        let natural = if self.facts.plan.is_cut_short() { "MAX_TOKENS" } else { "STOP" };
        self.facts.script.finish.as_deref().unwrap_or(natural)
    }

    fn is_blocked(&self) -> bool {
        self.facts.script.finish.as_deref() == Some("blocked")
    }

    fn candidate(&self, choice: u64, parts: Vec<Value>, is_last: bool) -> Value {
        let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": choice });
        if is_last {
            candidate["finishReason"] = self.finish().into();
            if let Some(searches) = self.facts.script.search {
                let queries: Vec<String> = (0..searches).map(|at| format!("query {at}")).collect();
                candidate["groundingMetadata"] = json!({ "webSearchQueries": queries });
            }
        }
        candidate
    }

    /// The object around candidates.
    fn response(&self, candidates: &[Value], usage: Option<(u64, u64)>, copies: usize) -> Vec<u8> {
        let mut out = vec![b'{'];
        if self.is_blocked() {
            out.extend_from_slice(b"\"promptFeedback\":{\"blockReason\":\"SAFETY\"}");
        } else if self.facts.script.empty_choices && candidates.is_empty() {
            out.extend_from_slice(b"\"candidates\":[]");
        } else {
            let _ = write!(out, "\"candidates\":{}", Value::from(candidates));
        }
        if let Some((thoughts, visible)) = usage {
            for _ in 0..copies {
                self.usage(&mut out, thoughts, visible);
            }
        }
        let (model, id) = (quoted(&self.facts.model), self.facts.id);
        let _ = write!(out, ",\"modelVersion\":{model},\"responseId\":\"mock{id:016x}\"}}");
        out
    }

    /// Writes `,"usageMetadata":{…}` after so many thought and visible tokens of each choice. Zeros are left out.
    fn usage(&self, out: &mut Vec<u8>, thoughts: u64, visible: u64) {
        let facts = &self.facts;
        if facts.script.usage == UsageMode::Null {
            out.extend_from_slice(b",\"usageMetadata\":null");
            return;
        }
        let choices = facts.plan.choices;
        let (thoughts, visible) = (thoughts.saturating_mul(choices), visible.saturating_mul(choices));
        let (prompt, say) = (&facts.prompt, |n| facts.say(n));
        let total = prompt.total.saturating_add(prompt.tool_use).saturating_add(thoughts).saturating_add(visible);
        let _ = write!(out, ",\"usageMetadata\":{{\"promptTokenCount\":{}", say(prompt.total));
        for (name, tokens) in [
            ("cachedContentTokenCount", prompt.cached),
            ("candidatesTokenCount", visible),
            ("thoughtsTokenCount", thoughts),
            ("toolUsePromptTokenCount", prompt.tool_use),
        ] {
            if tokens > 0 {
                let _ = write!(out, ",\"{name}\":{}", say(tokens));
            }
        }
        let _ = write!(out, ",\"totalTokenCount\":{}", say(total));
        let split = Output::split(thoughts.saturating_add(visible), thoughts, &facts.media);
        let text_in = prompt.total - prompt.audio - prompt.image;
        let text_out = visible.saturating_sub(split.audio + split.image);
        self.details(out, "promptTokensDetails", text_in, prompt.audio, prompt.image);
        self.details(out, "cacheTokensDetails", prompt.cached, 0, 0);
        self.details(out, "candidatesTokensDetails", text_out, split.audio, split.image);
        self.details(out, "toolUsePromptTokensDetails", prompt.tool_use, 0, 0);
        let _ = write!(out, ",\"serviceTier\":{}{}}}", quoted(self.tier()), facts.extra());
    }

    fn details(&self, out: &mut Vec<u8>, name: &str, text: u64, audio: u64, image: u64) {
        let mut before = format!(",\"{name}\":[");
        let start = out.len();
        for (modality, tokens) in [("TEXT", text), ("AUDIO", audio), ("IMAGE", image)] {
            if tokens > 0 {
                let tokens = self.facts.say(tokens);
                let _ = write!(out, "{before}{{\"modality\":\"{modality}\",\"tokenCount\":{tokens}}}");
                before = ",".into();
            }
        }
        if out.len() > start {
            out.push(b']');
        }
    }

    fn whole(&self) -> Vec<u8> {
        let (thoughts, visible) = (self.facts.plan.silent(), self.facts.plan.visible());
        let candidate = |choice| {
            let mut parts = Vec::new();
            if self.shows_thoughts && thoughts > 0 {
                parts.push(self.thought(0, thoughts));
            }
            parts.push(match self.tool {
                Some(_) => self.call(choice, visible),
                None => json!({ "text": self.text(choice, 0, visible) }),
            });
            self.candidate(choice, parts, true)
        };
        let shown = if self.facts.script.empty_choices { 0 } else { self.facts.plan.choices };
        let candidates: Vec<Value> = (0..shown).map(candidate).collect();
        self.response(&candidates, Some((thoughts, visible)), self.facts.script.usage.copies())
    }

    fn chunk(&mut self, out: &mut Out, json: &[u8]) {
        match self.frames {
            Frames::Sse(sse) => sse.event(out, "", |buf| buf.extend_from_slice(json)),
            Frames::Array => {
                out.buf.extend_from_slice(if self.chunks == 0 { b"[" } else { b",\r\n" });
                out.buf.extend_from_slice(json);
                out.buf.push(b'\n');
                out.commit();
            }
        }
        self.chunks += 1;
    }

    /// Is the running total in every chunk?
    fn running(&self) -> Option<(u64, u64)> {
        let always = !matches!(self.facts.script.usage, UsageMode::None | UsageMode::AfterDone);
        always.then_some((self.thought, self.shown))
    }

    fn parts(&mut self, out: &mut Out, part: impl Fn(&GeminiAnswer, u64) -> Value) {
        let candidate = |choice| self.candidate(choice, vec![part(self, choice)], false);
        let candidates: Vec<Value> = (0..self.facts.plan.choices).map(candidate).collect();
        let json = self.response(&candidates, self.running(), 1);
        self.chunk(out, &json);
    }

    fn end(&mut self, out: &mut Out) {
        let visible = self.shown;
        let last = |choice| {
            let part = match self.tool {
                Some(_) => self.call(choice, visible),
                None => json!({ "text": "" }),
            };
            self.candidate(choice, vec![part], true)
        };
        let candidates: Vec<Value> = (0..self.facts.plan.choices).map(last).collect();
        let json = self.response(&candidates, self.running(), 1);
        let mode = self.facts.script.usage;
        if !self.facts.script.no_done {
            self.chunk(out, &json);
        }
        if matches!(mode, UsageMode::Twice | UsageMode::AfterDone) {
            let json = self.response(&[], Some((self.thought, self.shown)), 1);
            self.chunk(out, &json);
        }
        self.close(out);
    }

    fn close(&mut self, out: &mut Out) {
        if matches!(self.frames, Frames::Array) {
            out.buf.extend_from_slice(if self.chunks == 0 { b"[]" } else { b"]" });
            out.commit();
        }
    }
}

impl Render for GeminiAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start if self.facts.script.empty_choices => {
                let json = self.response(&[], self.running(), 1);
                self.chunk(out, &json);
            }
            Beat::Thoughts { from, to } => {
                self.thought = to;
                if self.shows_thoughts {
                    self.parts(out, |answer, _| answer.thought(from, to));
                }
            }
            Beat::Tokens { from, to } => {
                self.shown = to;
                if self.tool.is_none() {
                    self.parts(out, |answer, choice| json!({ "text": answer.text(choice, from, to) }));
                }
            }
            Beat::Error => {
                let json = error_object(&ApiError::failing()).to_string();
                self.chunk(out, json.as_bytes());
                self.close(out);
            }
            Beat::End => self.end(out),
            Beat::Start | Beat::Die => {}
        }
    }
}

impl Answer for GeminiAnswer {
    fn full(&self) -> Vec<u8> {
        self.whole()
    }

    fn stream(self: Box<Self>) -> Stream {
        match self.frames {
            Frames::Sse(_) => Stream::sse(self),
            Frames::Array => Stream { kind: "application/json", pad: vec![b' '; PAD_BLOCK], render: self },
        }
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        self.usage(out, self.facts.plan.silent(), self.facts.plan.visible());
    }
}

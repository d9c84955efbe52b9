//! Converse, answer side; Nova's own answers have the same shape in other frames.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::body::{Out, Render};
use super::super::dialect::{Answer, Stream};
use super::super::generate::Beat;
use super::super::order::Facts;
use super::super::read::quoted;
use super::super::script::UsageMode;
use super::eventstream;

/// How an answer is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Not streamed.
    Whole,
    /// Events of their own kind.
    Events,
    /// Nova's own events, each in base64 in a chunk; or Nova's own answer, not streamed.
    Nova,
}

/// Everything needed to write the answer of one call.
pub struct ConverseAnswer {
    facts: Facts,
    thinks: bool,
    tool: Option<String>,
    frames: Frames,
    block: u64,
    is_open: bool,
}

impl ConverseAnswer {
    /// Prepares an answer; `tool` names the tool to use instead of talking.
    pub fn new(facts: &Facts, thinks: bool, tool: Option<String>, frames: Frames) -> ConverseAnswer {
        ConverseAnswer { facts: facts.clone(), thinks, tool, frames, block: 0, is_open: false }
    }

    fn text(&self, from: u64, to: u64) -> String {
        let mut words = Vec::new();
        self.facts.words(&mut words, 0, from, to);
        String::from_utf8_lossy(&words).into_owned()
    }

    /// Thought is shown by models that think, unless it is hidden.
    fn thought(&self, from: u64, to: u64) -> Option<String> {
        if !self.thinks || self.facts.script.hidden || to <= from {
            return None;
        }
        let mut words = Vec::new();
        self.facts.thoughts(&mut words, from, to);
        Some(String::from_utf8_lossy(&words).into_owned())
    }

    fn tool_id(&self) -> String {
        format!("tooluse_{:016x}", self.facts.id)
    }

    fn stop_reason(&self) -> &str {
        match (&self.facts.script.finish, &self.tool) {
            (Some(finish), _) => finish,
            _ if self.facts.plan.is_cut_short() => "max_tokens",
            (None, Some(_)) => "tool_use",
            (None, None) => "end_turn",
        }
    }

    fn whole(&self) -> Vec<u8> {
        let visible = self.facts.plan.visible();
        let mut content = Vec::new();
        if let Some(text) = self.thought(0, self.facts.plan.silent()) {
            content.push(json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": "bW9jaw==" } } }));
        }
        let text = self.text(0, visible);
        content.push(match &self.tool {
            Some(name) => {
                json!({ "toolUse": { "toolUseId": self.tool_id(), "name": name, "input": { "text": text } } })
            }
            None => json!({ "text": text }),
        });
        let message = json!({ "message": { "role": "assistant", "content": content } });
        let mut out = Vec::new();
        let _ = write!(out, "{{\"output\":{message},\"stopReason\":{}", quoted(self.stop_reason()));
        for _ in 0..self.facts.script.usage.copies() {
            self.usage(&mut out, self.facts.completion());
        }
        if self.frames == Frames::Whole {
            let _ = write!(out, ",\"metrics\":{{\"latencyMs\":100}},{}", self.tier());
        }
        out.push(b'}');
        out
    }

    fn tier(&self) -> String {
        format!("\"serviceTier\":{{\"type\":{}}}", quoted(self.facts.tier_name(self.facts.tier.name())))
    }

    /// Writes `,"usage":{…}` after `completion` output tokens.
    fn usage(&self, out: &mut Vec<u8>, completion: u64) {
        let facts = &self.facts;
        if facts.script.usage == UsageMode::Null {
            out.extend_from_slice(b",\"usage\":null");
            return;
        }
        let (prompt, say) = (&facts.prompt, |n| facts.say(n));
        let written = prompt.cache_write + prompt.cache_write_1h;
        let input = prompt.total.saturating_sub(prompt.cached).saturating_sub(written);
        let _ = write!(out, ",\"usage\":{{\"inputTokens\":{},\"outputTokens\":{},", say(input), say(completion));
        let _ = write!(out, "\"totalTokens\":{}", say(prompt.total.saturating_add(completion)));
        let suffix = if self.frames == Frames::Nova { "Count" } else { "s" };
        let (read, wrote) = (say(prompt.cached), say(written));
        let _ = write!(out, ",\"cacheReadInputToken{suffix}\":{read},\"cacheWriteInputToken{suffix}\":{wrote}");
        if written > 0 && self.frames != Frames::Nova {
            let detail = |ttl: &str, tokens| format!("{{\"ttl\":\"{ttl}\",\"inputTokens\":{}}}", say(tokens));
            let details: Vec<String> = [("5m", prompt.cache_write), ("1h", prompt.cache_write_1h)]
                .into_iter()
                .filter(|(_, tokens)| *tokens > 0)
                .map(|(ttl, tokens)| detail(ttl, tokens))
                .collect();
            let _ = write!(out, ",\"cacheDetails\":[{}]", details.join(","));
        }
        let _ = write!(out, "{}}}", facts.extra());
    }

    fn event(&self, out: &mut Out, kind: &str, payload: &[u8]) {
        if self.frames == Frames::Nova {
            let mut json = format!("{{\"{kind}\":").into_bytes();
            json.extend_from_slice(payload);
            if kind == "metadata" {
                eventstream::write_metrics(&mut json, &self.facts);
            }
            json.push(b'}');
            eventstream::chunk(out, &json);
        } else {
            eventstream::event(out, kind, payload);
        }
    }

    fn value(&self, out: &mut Out, kind: &str, payload: &Value) {
        self.event(out, kind, payload.to_string().as_bytes());
    }

    fn delta(&mut self, out: &mut Out, delta: &Value) {
        self.is_open = true;
        self.value(out, "contentBlockDelta", &json!({ "contentBlockIndex": self.block, "delta": delta }));
    }

    fn end_block(&mut self, out: &mut Out) {
        if self.is_open {
            self.value(out, "contentBlockStop", &json!({ "contentBlockIndex": self.block }));
            self.block += 1;
            self.is_open = false;
        }
    }

    /// Thought is over; only a tool's block is announced.
    fn begin_answer(&mut self, out: &mut Out) {
        if let Some(name) = self.tool.clone() {
            let start = json!({ "toolUse": { "toolUseId": self.tool_id(), "name": name } });
            self.value(out, "contentBlockStart", &json!({ "contentBlockIndex": self.block, "start": start }));
            self.delta(out, &json!({ "toolUse": { "input": "{\"text\":\"" } }));
        }
    }

    fn tokens(&mut self, out: &mut Out, from: u64, to: u64) {
        if from == 0 {
            self.end_thought(out);
            self.begin_answer(out);
        }
        let text = self.text(from, to);
        match &self.tool {
            Some(_) => self.delta(out, &json!({ "toolUse": { "input": text } })),
            None => self.delta(out, &json!({ "text": text })),
        }
        if self.facts.script.usage == UsageMode::Cumulative {
            self.metadata(out, self.facts.completion_at(to));
        }
    }

    fn end_thought(&mut self, out: &mut Out) {
        if self.is_open {
            self.delta(out, &json!({ "reasoningContent": { "signature": "bW9jaw==" } }));
            self.end_block(out);
        }
    }

    fn metadata(&self, out: &mut Out, completion: u64) {
        let mut payload = Vec::new();
        self.usage(&mut payload, completion);
        // The comma that the usage begins with is one too many in front.
        let mut json = b"{".to_vec();
        json.extend_from_slice(payload.strip_prefix(b",").unwrap_or_default());
        let _ = write!(json, ",\"metrics\":{{\"latencyMs\":100}},{}}}", self.tier());
        self.event(out, "metadata", &json);
    }

    fn end(&mut self, out: &mut Out) {
        if self.facts.plan.visible() == 0 {
            self.end_thought(out);
            self.begin_answer(out);
        }
        if self.tool.is_some() {
            self.delta(out, &json!({ "toolUse": { "input": "\"}" } }));
        }
        self.end_block(out);
        let stop = json!({ "stopReason": self.stop_reason() });
        self.value(out, "messageStop", &stop);
        if self.facts.script.no_done {
            return;
        }
        for _ in 0..self.facts.script.usage.copies() {
            self.metadata(out, self.facts.completion());
        }
        // Late: another event comes after the usage, which nothing should.
        if self.facts.script.usage == UsageMode::AfterDone {
            self.value(out, "messageStop", &stop);
        }
    }
}

impl Render for ConverseAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start => self.value(out, "messageStart", &json!({ "role": "assistant" })),
            Beat::Thoughts { from, to } => {
                if let Some(text) = self.thought(from, to) {
                    self.delta(out, &json!({ "reasoningContent": { "text": text } }));
                }
            }
            Beat::Tokens { from, to } => self.tokens(out, from, to),
            Beat::Error => eventstream::exception(out),
            Beat::End => self.end(out),
            Beat::Die => {}
        }
    }
}

impl Answer for ConverseAnswer {
    fn full(&self) -> Vec<u8> {
        self.whole()
    }

    fn stream(self: Box<Self>) -> Stream {
        eventstream::stream(self)
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        self.usage(out, self.facts.completion());
    }
}

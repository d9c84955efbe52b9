//! Messages, answer side: whole, as named events, or in Bedrock's frames.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::bedrock::eventstream;
use super::super::body::{Out, Render};
use super::super::dialect::{Answer, Sse, Stream};
use super::super::error::ApiError;
use super::super::generate::Beat;
use super::super::order::Facts;
use super::super::read::quoted;
use super::super::script::{Tier, UsageMode};
use super::error_object;

/// How the events of a stream are wrapped.
#[derive(Clone, Copy, Debug)]
pub enum Frames {
    /// Server-sent events.
    Sse(Sse),
    /// Bedrock's event stream, each event in base64 in a chunk.
    Chunks,
}

/// Everything needed to write the answer of one call.
pub struct ClaudeAnswer {
    facts: Facts,
    thinks: bool,
    tool: Option<String>,
    frames: Frames,
    /// Content blocks begun so far.
    blocks: u64,
    is_open: bool,
}

impl ClaudeAnswer {
    /// Prepares an answer; `tool` names the tool to use instead of talking.
    pub fn new(facts: &Facts, thinks: bool, tool: Option<String>, frames: Frames) -> ClaudeAnswer {
        ClaudeAnswer { facts: facts.clone(), thinks, tool, frames, blocks: 0, is_open: false }
    }

    fn head(&self, content: &str) -> String {
        let (id, model) = (self.facts.id, quoted(&self.facts.model));
        format!(
            "\"id\":\"msg_{id:024x}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{model},\"content\":{content}"
        )
    }

    fn shows_thought(&self) -> bool {
        self.thinks || self.facts.plan.silent() > 0
    }

    fn thought(&self, from: u64, to: u64) -> String {
        if self.facts.script.hidden {
            return String::new();
        }
        let mut words = Vec::new();
        self.facts.thoughts(&mut words, from, to);
        String::from_utf8_lossy(&words).into_owned()
    }

    fn text(&self, from: u64, to: u64) -> String {
        let mut words = Vec::new();
        self.facts.words(&mut words, 0, from, to);
        String::from_utf8_lossy(&words).into_owned()
    }

    /// The blocks that searches leave in the content.
    fn search_blocks(&self) -> Vec<Value> {
        let blocks = |at: u64| {
            let id = format!("srvtoolu_{:020x}{at:04x}", self.facts.id);
            let call = json!({ "type": "server_tool_use", "id": id, "name": "web_search",
                               "input": { "query": format!("query {at}") } });
            let result = json!({ "type": "web_search_tool_result", "tool_use_id": id, "content": [] });
            [call, result]
        };
        (0..self.facts.script.search.unwrap_or(0)).flat_map(blocks).collect()
    }

    fn tool_block(&self, name: &str, input: Value) -> Value {
        json!({ "type": "tool_use", "id": format!("toolu_{:024x}", self.facts.id), "name": name, "input": input })
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
        let facts = &self.facts;
        let mut content = Vec::new();
        if self.shows_thought() {
            let thinking = self.thought(0, facts.plan.silent());
            content.push(json!({ "type": "thinking", "thinking": thinking, "signature": SIGNATURE }));
        }
        content.extend(self.search_blocks());
        let visible = self.text(0, facts.plan.visible());
        match &self.tool {
            Some(name) => content.push(self.tool_block(name, json!({ "text": visible }))),
            None if facts.plan.visible() > 0 => content.push(json!({ "type": "text", "text": visible })),
            None => {}
        }
        let head = self.head(&Value::Array(content).to_string());
        let mut out = Vec::new();
        let _ = write!(out, "{{{head},\"stop_reason\":{},\"stop_sequence\":null", quoted(self.stop_reason()));
        for _ in 0..facts.script.usage.copies() {
            self.usage(&mut out, facts.completion(), Part::Whole);
        }
        out.push(b'}');
        out
    }

    /// Writes `,"usage":{…}` after `completion` output tokens.
    fn usage(&self, out: &mut Vec<u8>, completion: u64, part: Part) {
        let facts = &self.facts;
        if facts.script.usage == UsageMode::Null {
            out.extend_from_slice(b",\"usage\":null");
            return;
        }
        let (prompt, say) = (&facts.prompt, |n| facts.say(n));
        let late = if part == Part::Start { facts.script.late_input.unwrap_or(0) } else { 0 };
        let cached = prompt.cached + prompt.cache_write + prompt.cache_write_1h;
        let input = prompt.total.saturating_sub(cached).saturating_sub(late);
        let written = prompt.cache_write + prompt.cache_write_1h;
        let _ = write!(out, ",\"usage\":{{\"input_tokens\":{},", say(input));
        let _ = write!(out, "\"cache_creation_input_tokens\":{},", say(written));
        let _ = write!(out, "\"cache_read_input_tokens\":{},", say(prompt.cached));
        if part != Part::End {
            let (short, hour) = (say(prompt.cache_write), say(prompt.cache_write_1h));
            let _ = write!(out, "\"cache_creation\":{{\"ephemeral_5m_input_tokens\":{short},");
            let _ = write!(out, "\"ephemeral_1h_input_tokens\":{hour}}},");
            let tier = if facts.script.tier == Some(Tier::Priority) { "priority" } else { "standard" };
            let _ = write!(out, "\"service_tier\":{},", quoted(facts.tier_name(tier)));
            let geo = facts.script.geo.as_deref().unwrap_or("global");
            let _ = write!(out, "\"inference_geo\":{},", quoted(geo));
            if let Some(speed) = &facts.script.speed {
                let _ = write!(out, "\"speed\":{},", quoted(speed));
            }
        }
        if part != Part::Start {
            let thought = facts.reasoning(completion);
            if thought > 0 {
                let _ = write!(out, "\"output_tokens_details\":{{\"thinking_tokens\":{}}},", say(thought));
            }
            if let Some(searches) = facts.script.search {
                let searches = say(searches);
                let _ =
                    write!(out, "\"server_tool_use\":{{\"web_search_requests\":{searches},\"web_fetch_requests\":0}},");
            }
        }
        let _ = write!(out, "\"output_tokens\":{}{}}}", say(completion), facts.extra());
    }

    fn event(&self, out: &mut Out, name: &str, json: &[u8]) {
        match self.frames {
            Frames::Sse(sse) => sse.event(out, name, |buf| buf.extend_from_slice(json)),
            Frames::Chunks => eventstream::chunk(out, json),
        }
    }

    fn value(&self, out: &mut Out, value: &Value) {
        self.event(out, value["type"].as_str().unwrap_or_default(), value.to_string().as_bytes());
    }

    fn begin_block(&mut self, out: &mut Out, block: &Value) {
        let index = self.blocks;
        self.value(out, &json!({ "type": "content_block_start", "index": index, "content_block": block }));
        self.blocks += 1;
        self.is_open = true;
    }

    fn delta(&self, out: &mut Out, delta: &Value) {
        let index = self.blocks.saturating_sub(1);
        self.value(out, &json!({ "type": "content_block_delta", "index": index, "delta": delta }));
    }

    fn end_block(&mut self, out: &mut Out) {
        if self.is_open {
            let index = self.blocks.saturating_sub(1);
            self.value(out, &json!({ "type": "content_block_stop", "index": index }));
            self.is_open = false;
        }
    }

    fn start(&mut self, out: &mut Out) {
        let mut json = format!("{{\"type\":\"message_start\",\"message\":{{{}", self.head("[]")).into_bytes();
        json.extend_from_slice(b",\"stop_reason\":null,\"stop_sequence\":null");
        if self.facts.script.usage != UsageMode::None {
            self.usage(&mut json, self.facts.completion().min(1), Part::Start);
        }
        json.extend_from_slice(b"}}");
        self.event(out, "message_start", &json);
        if self.shows_thought() {
            self.begin_block(out, &json!({ "type": "thinking", "thinking": "", "signature": "" }));
        }
        self.value(out, &json!({ "type": "ping" }));
        if !self.shows_thought() {
            self.begin_answer(out);
        }
    }

    /// What comes after thought: searches, then the block that the visible tokens go into.
    fn begin_answer(&mut self, out: &mut Out) {
        for block in self.search_blocks() {
            self.begin_block(out, &block);
            self.end_block(out);
        }
        match self.tool.clone() {
            Some(name) => {
                let block = self.tool_block(&name, json!({}));
                self.begin_block(out, &block);
                self.delta(out, &json!({ "type": "input_json_delta", "partial_json": "{\"text\":\"" }));
            }
            None => self.begin_block(out, &json!({ "type": "text", "text": "" })),
        }
    }

    fn end_thought(&mut self, out: &mut Out) {
        if self.shows_thought() && self.blocks == 1 {
            self.delta(out, &json!({ "type": "signature_delta", "signature": SIGNATURE }));
            self.end_block(out);
            self.begin_answer(out);
        }
    }

    fn tokens(&mut self, out: &mut Out, from: u64, to: u64) {
        self.end_thought(out);
        let text = self.text(from, to);
        match &self.tool {
            Some(_) => self.delta(out, &json!({ "type": "input_json_delta", "partial_json": text })),
            None => self.delta(out, &json!({ "type": "text_delta", "text": text })),
        }
        if self.facts.script.usage == UsageMode::Cumulative {
            self.message_delta(out, self.facts.completion_at(to), "null", true);
        }
    }

    fn message_delta(&self, out: &mut Out, completion: u64, stop: &str, with_usage: bool) {
        let mut json = b"{\"type\":\"message_delta\",".to_vec();
        let _ = write!(json, "\"delta\":{{\"stop_reason\":{stop},\"stop_sequence\":null}}");
        if with_usage {
            self.usage(&mut json, completion, Part::End);
        }
        json.push(b'}');
        self.event(out, "message_delta", &json);
    }

    fn end(&mut self, out: &mut Out) {
        self.end_thought(out);
        if self.tool.is_some() {
            self.delta(out, &json!({ "type": "input_json_delta", "partial_json": "\"}" }));
        }
        self.end_block(out);
        let (completion, stop) = (self.facts.completion(), quoted(self.stop_reason()));
        let mode = self.facts.script.usage;
        match mode {
            UsageMode::None | UsageMode::AfterDone => self.message_delta(out, completion, &stop, false),
            _ => (0..mode.copies()).for_each(|_| self.message_delta(out, completion, &stop, true)),
        }
        if !self.facts.script.no_done {
            self.message_stop(out);
        }
        if mode == UsageMode::AfterDone {
            self.message_delta(out, completion, &stop, true);
        }
    }

    /// Through Bedrock the last event says once more what was used.
    fn message_stop(&self, out: &mut Out) {
        let mut json = b"{\"type\":\"message_stop\"".to_vec();
        if matches!(self.frames, Frames::Chunks) {
            eventstream::write_metrics(&mut json, &self.facts);
        }
        json.push(b'}');
        self.event(out, "message_stop", &json);
    }
}

/// Proof of thought, as opaque as the real one.
const SIGNATURE: &str = "bW9jayBzaWduYXR1cmU=";

/// Which usage report it is: the parts differ in their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// In `message_start`.
    Start,
    /// In `message_delta`.
    End,
    /// Of an answer that is not streamed.
    Whole,
}

impl Render for ClaudeAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start => self.start(out),
            Beat::Thoughts { from, to } => {
                let text = self.thought(from, to);
                if self.shows_thought() && !text.is_empty() {
                    self.delta(out, &json!({ "type": "thinking_delta", "thinking": text }));
                }
            }
            Beat::Tokens { from, to } => self.tokens(out, from, to),
            Beat::Error => match self.frames {
                Frames::Sse(_) => {
                    let error = ApiError { message: "Overloaded".into(), ..ApiError::failing().with_status(529) };
                    self.value(out, &error_object(&error));
                }
                Frames::Chunks => eventstream::exception(out),
            },
            Beat::End => self.end(out),
            Beat::Die => {}
        }
    }
}

impl Answer for ClaudeAnswer {
    fn full(&self) -> Vec<u8> {
        self.whole()
    }

    fn stream(self: Box<Self>) -> Stream {
        match self.frames {
            Frames::Sse(_) => Stream::sse(self),
            Frames::Chunks => eventstream::stream(self),
        }
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        self.usage(out, self.facts.completion(), Part::Whole);
    }
}

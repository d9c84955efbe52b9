//! The responses API, answer side: whole or as named events.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::super::body::{Out, Render};
use super::super::super::dialect::{Answer, Sse, Stream};
use super::super::super::generate::Beat;
use super::super::super::order::Facts;
use super::super::super::read::quoted;
use super::super::super::script::UsageMode;

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the provider's.
pub enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete => "incomplete",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

/// Everything needed to write the answer of one call.
#[derive(Clone)]
pub struct ResponseAnswer {
    /// About the call.
    pub facts: Facts,
    tool: Option<String>,
    /// Members that repeat the request.
    echo: String,
    sse: Sse,
    sequence: u64,
    shown: u64,
}

impl ResponseAnswer {
    /// Prepares an answer; `tool` names the function to call instead of talking.
    pub fn new(facts: &Facts, body: &Value, tool: Option<String>) -> ResponseAnswer {
        let or = |field: &str, otherwise: Value| if body[field].is_null() { otherwise } else { body[field].clone() };
        let echo = json!({
            "background": or("background", json!(false)),
            "instructions": body["instructions"],
            "max_output_tokens": body["max_output_tokens"],
            "metadata": or("metadata", json!({})),
            "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
            "previous_response_id": body["previous_response_id"],
            "reasoning": { "effort": body["reasoning"]["effort"], "summary": null },
            "store": or("store", json!(true)),
            "temperature": or("temperature", json!(1.0)),
            "text": or("text", json!({ "format": { "type": "text" } })),
            "tool_choice": or("tool_choice", json!("auto")),
            "tools": or("tools", json!([])),
            "top_p": or("top_p", json!(1.0)),
            "truncation": or("truncation", json!("disabled")),
        });
        let echo = inside(&echo);
        let sse = Sse::new(&facts.script);
        ResponseAnswer { facts: facts.clone(), tool, echo, sse, sequence: 0, shown: 0 }
    }

    /// `resp_…`
    pub fn id(&self) -> String {
        format!("resp_{:032x}", self.facts.id)
    }

    /// The whole response at its end.
    pub fn whole(&self) -> Vec<u8> {
        self.object(self.end_status(), self.facts.plan.visible(), Some(self.facts.completion()))
    }

    fn end_status(&self) -> Status {
        match self.facts.script.finish.as_deref() {
            Some("failed") => Status::Failed,
            Some("incomplete" | "content_filter") => Status::Incomplete,
            _ if self.facts.plan.is_cut_short() => Status::Incomplete,
            _ => Status::Completed,
        }
    }

    /// The response object with `visible` tokens of output, and the usage of `completion` tokens.
    pub fn object(&self, status: Status, visible: u64, completion: Option<u64>) -> Vec<u8> {
        let facts = &self.facts;
        let is_over = matches!(status, Status::Completed | Status::Incomplete);
        let output = if is_over { self.items(visible) } else { Vec::new() };
        let why = if facts.script.finish.as_deref() == Some("content_filter") {
            "content_filter"
        } else {
            "max_output_tokens"
        };
        let details = if status == Status::Incomplete { json!({ "reason": why }) } else { Value::Null };
        let error = match status {
            Status::Failed => json!({ "code": "server_error", "message": "The model failed to generate a response." }),
            _ => Value::Null,
        };
        let mut out = Vec::new();
        let (id, status) = (self.id(), status.name());
        let _ =
            write!(out, "{{\"id\":\"{id}\",\"object\":\"response\",\"created_at\":1767225600,\"status\":\"{status}\",");
        let _ = write!(out, "\"error\":{error},\"incomplete_details\":{details},\"model\":{},", quoted(&facts.model));
        let tier = quoted(facts.tier_name(facts.tier.name()));
        let _ = write!(out, "\"output\":{},\"service_tier\":{tier},{}", Value::Array(output), self.echo);
        match completion {
            None => out.extend_from_slice(b",\"usage\":null"),
            Some(completion) => {
                for _ in 0..facts.script.usage.copies() {
                    write_usage(&mut out, facts, completion);
                }
            }
        }
        out.push(b'}');
        out
    }

    fn items(&self, visible: u64) -> Vec<Value> {
        let mut items = Vec::new();
        if self.facts.plan.silent() > 0 {
            items.push(self.reasoning_item());
        }
        items.extend((0..self.facts.script.search.unwrap_or(0)).map(|at| self.search_item(at, "completed")));
        items.push(self.last_item(visible, "completed"));
        items
    }

    fn reasoning_item(&self) -> Value {
        json!({ "id": format!("rs_{:032x}", self.facts.id), "type": "reasoning", "summary": [] })
    }

    fn search_item(&self, at: u64, status: &str) -> Value {
        let action = json!({ "type": "search", "query": format!("query {at}") });
        json!({ "id": format!("ws_{:028x}{at:04x}", self.facts.id), "type": "web_search_call", "status": status, "action": action })
    }

    /// The message or the function call, with `visible` tokens in it.
    fn last_item(&self, visible: u64, status: &str) -> Value {
        let id = self.facts.id;
        match &self.tool {
            Some(tool) => {
                let arguments = if status == "completed" { self.arguments(visible) } else { String::new() };
                json!({ "id": format!("fc_{id:032x}"), "type": "function_call", "status": status, "name": tool,
                        "call_id": format!("call_{id:016x}"), "arguments": arguments })
            }
            None => {
                let content = if status == "completed" { json!([self.part(visible)]) } else { json!([]) };
                json!({ "id": format!("msg_{id:032x}"), "type": "message", "status": status, "role": "assistant",
                        "content": content })
            }
        }
    }

    fn part(&self, visible: u64) -> Value {
        json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": self.text(0, visible) })
    }

    fn text(&self, from: u64, to: u64) -> String {
        let mut words = Vec::new();
        self.facts.words(&mut words, 0, from, to);
        String::from_utf8_lossy(&words).into_owned()
    }

    fn arguments(&self, visible: u64) -> String {
        json!({ "text": self.text(0, visible) }).to_string()
    }

    /// Writes an event: `type`, `sequence_number` and `members` (which may be empty).
    fn event(&mut self, out: &mut Out, kind: &str, members: &[u8]) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.sse.event(out, kind, |buf| {
            let _ = write!(buf, "{{\"type\":\"{kind}\",\"sequence_number\":{sequence}");
            if !members.is_empty() {
                buf.push(b',');
                buf.extend_from_slice(members);
            }
            buf.push(b'}');
        });
    }

    fn value_event(&mut self, out: &mut Out, kind: &str, members: Value) {
        self.event(out, kind, inside(&members).as_bytes());
    }

    fn object_event(&mut self, out: &mut Out, status: Status, kind: &str, completion: Option<u64>) {
        let mut members = b"\"response\":".to_vec();
        members.extend(self.object(status, self.shown, completion));
        self.event(out, kind, &members);
    }

    /// Where the last item stands in the output.
    fn last_index(&self) -> u64 {
        u64::from(self.facts.plan.silent() > 0) + self.facts.script.search.unwrap_or(0)
    }

    fn begin(&mut self, out: &mut Out) {
        self.object_event(out, Status::InProgress, "response.created", None);
        self.object_event(out, Status::InProgress, "response.in_progress", None);
        let mut index = 0;
        if self.facts.plan.silent() > 0 {
            let item = json!({ "output_index": 0, "item": self.reasoning_item() });
            self.value_event(out, "response.output_item.added", item.clone());
            self.value_event(out, "response.output_item.done", item);
            index = 1;
        }
        for at in 0..self.facts.script.search.unwrap_or(0) {
            let item = |status| json!({ "output_index": index, "item": self.search_item(at, status) });
            let (added, done) = (item("in_progress"), item("completed"));
            let step = json!({ "output_index": index, "item_id": added["item"]["id"] });
            self.value_event(out, "response.output_item.added", added);
            for kind in ["in_progress", "searching", "completed"] {
                self.value_event(out, &format!("response.web_search_call.{kind}"), step.clone());
            }
            self.value_event(out, "response.output_item.done", done);
            index += 1;
        }
        let item = json!({ "output_index": index, "item": self.last_item(0, "in_progress") });
        self.value_event(out, "response.output_item.added", item);
        if self.tool.is_none() {
            let part = self.place(json!({ "part": self.part(0) }));
            self.value_event(out, "response.content_part.added", part);
        } else {
            self.delta(out, "{\"text\":\"".into());
        }
    }

    /// Adds to `members` where the last item is.
    fn place(&self, mut members: Value) -> Value {
        members["output_index"] = self.last_index().into();
        members["item_id"] = self.last_item(0, "in_progress")["id"].clone();
        if self.tool.is_none() {
            members["content_index"] = 0.into();
        }
        members
    }

    fn delta(&mut self, out: &mut Out, text: String) {
        let members = match &self.tool {
            Some(_) => json!({ "delta": text }),
            None => json!({ "delta": text, "logprobs": [] }),
        };
        let mut members = inside(&self.place(members)).into_bytes();
        if self.facts.script.usage == UsageMode::Cumulative {
            write_usage(&mut members, &self.facts, self.facts.completion_at(self.shown));
        }
        let kind = if self.tool.is_some() { "function_call_arguments" } else { "output_text" };
        self.event(out, &format!("response.{kind}.delta"), &members);
    }

    fn end(&mut self, out: &mut Out) {
        let visible = self.shown;
        if self.tool.is_some() {
            self.delta(out, "\"}".into());
            let members = json!({ "arguments": self.arguments(visible), "name": self.tool });
            let done = self.place(members);
            self.value_event(out, "response.function_call_arguments.done", done);
        } else {
            let done = self.place(json!({ "text": self.text(0, visible), "logprobs": [] }));
            self.value_event(out, "response.output_text.done", done);
            let done = self.place(json!({ "part": self.part(visible) }));
            self.value_event(out, "response.content_part.done", done);
        }
        let item = json!({ "output_index": self.last_index(), "item": self.last_item(visible, "completed") });
        self.value_event(out, "response.output_item.done", item);
        let status = self.end_status();
        let kind = format!("response.{}", status.name());
        let completion = Some(self.facts.completion());
        let is_late = self.facts.script.usage == UsageMode::AfterDone;
        if !self.facts.script.no_done {
            self.object_event(out, status, &kind, completion.filter(|_| !is_late));
        }
        if is_late {
            self.object_event(out, status, &kind, completion);
        }
    }
}

/// An object without its braces.
fn inside(object: &Value) -> String {
    let text = object.to_string();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default().to_owned()
}

impl Render for ResponseAnswer {
    fn render(&mut self, beat: Beat, out: &mut Out) {
        match beat {
            Beat::Start => self.begin(out),
            Beat::Tokens { from, to } => {
                self.shown = to;
                let text = self.text(from, to);
                self.delta(out, text);
            }
            Beat::Error => {
                let message = "The server had an error while processing your request. Sorry about that!";
                self.value_event(out, "error", json!({ "code": "server_error", "message": message, "param": null }));
            }
            Beat::End => self.end(out),
            Beat::Thoughts { .. } | Beat::Die => {}
        }
    }
}

impl Answer for ResponseAnswer {
    fn full(&self) -> Vec<u8> {
        self.whole()
    }

    fn stream(self: Box<Self>) -> Stream {
        Stream::sse(self)
    }

    fn usage_member(&self, out: &mut Vec<u8>) {
        write_usage(out, &self.facts, self.facts.completion());
    }
}

/// Writes `,"usage":{…}`, truly or as the script has it.
fn write_usage(out: &mut Vec<u8>, facts: &Facts, completion: u64) {
    if facts.script.usage == UsageMode::Null {
        out.extend_from_slice(b",\"usage\":null");
        return;
    }
    let (prompt, say) = (&facts.prompt, |n| facts.say(n));
    let (cached, written) = (say(prompt.cached), say(prompt.cache_write + prompt.cache_write_1h));
    let _ = write!(out, ",\"usage\":{{\"input_tokens\":{},\"input_tokens_details\":", say(prompt.total));
    let _ = write!(out, "{{\"cached_tokens\":{cached},\"cache_write_tokens\":{written}}},");
    let reasoning = say(facts.reasoning(completion));
    let _ = write!(
        out,
        "\"output_tokens\":{},\"output_tokens_details\":{{\"reasoning_tokens\":{reasoning}}},",
        say(completion)
    );
    let _ = write!(out, "\"total_tokens\":{}{}}}", say(prompt.total.saturating_add(completion)), facts.extra());
}

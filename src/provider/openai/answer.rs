//! Chat completions, legacy completions and embeddings: what an answer says of its bill.

use super::bill::Bill;
use super::profile::Profile;
use super::{errors, usage};
use crate::provider::output::{Field, Output, TextId};
use crate::provider::reader::{Dialect, Show};
use crate::provider::{Call, Ceiling, ErrorAnswer, Observed};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::Event;

/// Sums up an answer.
pub struct Meter {
    bill: Bill,
    may_lack_output: bool,
    repeats_prompt: bool,
    closing: fn(&ErrorAnswer<'_>) -> Vec<u8>,
    nodes: Vec<Node>,
}

impl Meter {
    /// A meter for the answer to a call.
    pub fn new(profile: &Profile, call: &Call, may_lack_output: bool, ceiling: Ceiling) -> Meter {
        Meter {
            bill: Bill::new(profile, call, ceiling),
            may_lack_output,
            repeats_prompt: call.body.repeats_prompt(),
            closing: errors::closing_event,
            nodes: Vec::new(),
        }
    }

    /// The same with another event at the end of a stream that is cut.
    pub fn closing_with(self, closing: fn(&ErrorAnswer<'_>) -> Vec<u8>) -> Meter {
        Meter { closing, ..self }
    }

    /// Takes one JSON object: a chunk of a stream, or a whole answer. `None`: it is none.
    fn read(&mut self, data: &[u8]) -> Option<Show> {
        let mut nodes = std::mem::take(&mut self.nodes);
        let root =
            std::str::from_utf8(data).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let show = root.filter(|root| root.is_object()).map(|root| self.fields(root));
        self.nodes = nodes;
        show
    }

    fn fields(&mut self, root: Value<'_>) -> Show {
        let (mut has_choices, mut reported, mut is_error) = (false, None, false);
        for (key, value) in root.fields() {
            match key.as_ref() {
                "choices" => {
                    for choice in value.items() {
                        has_choices = true;
                        self.choice(choice);
                    }
                }
                "usage" if !value.is_null() => reported = Some(value),
                "model" => self.bill.model(value),
                "service_tier" => self.bill.tier(value),
                "error" => is_error |= is_truthy(value),
                // Mistral's way to say it.
                "object" => is_error |= value.as_str().as_deref() == Some("error"),
                _ => {}
            }
        }
        match reported {
            // An error that comes with the usage of what it ends.
            Some(_) => self.bill.observed.error |= is_error,
            None if is_error => self.bill.fail(),
            None => {}
        }
        let Some(reported) = reported else { return Show::Always };
        if let Some(tier) = reported.get("service_tier") {
            self.bill.tier(tier);
        }
        self.bill.observed.odd_usage |= usage::has_unknown(reported);
        self.bill.report(reported, usage::of_chat(reported, self.may_lack_output));
        self.bill.is_final |= !has_choices;
        if has_choices { Show::Always } else { Show::UsageOnly }
    }

    fn choice(&mut self, choice: Value<'_>) {
        let (mut index, mut said, mut text) = (0, None, None);
        for (key, value) in choice.fields() {
            match key.as_ref() {
                "index" => index = value.as_u64().unwrap_or(0),
                "delta" | "message" => said = Some(value),
                // The legacy completions' way to say it.
                "text" => text = Some(value),
                _ => {}
            }
        }
        let id = |field| TextId { choice: index, part: 0, field };
        let output = &mut self.bill.output;
        match text {
            Some(text) if self.repeats_prompt => output.aside(text.raw().len() as u64),
            Some(text) => output.string(id(Field::Content), text),
            None => {}
        }
        for (key, value) in said.into_iter().flat_map(Value::fields) {
            let output = &mut self.bill.output;
            match key.as_ref() {
                "role" => {}
                "content" if value.is_array() => self.parts(index, value),
                "content" => output.string(id(Field::Content), value),
                "refusal" => output.string(id(Field::Refusal), value),
                "reasoning_content" | "reasoning" => output.string(id(Field::Reasoning), value),
                "function_call" => self.tool(index, u64::MAX, value),
                "tool_calls" => {
                    for (at, call) in value.items().enumerate() {
                        let tool = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
                        self.tool(index, tool, call);
                    }
                }
                _ => output.others(value),
            }
        }
    }

    /// Content in parts: text, and reasoning that is shown.
    fn parts(&mut self, choice: u64, parts: Value<'_>) {
        let (mut others, mut found) = (0, Vec::new());
        for part in parts.items() {
            let is_thinking = part.get("type").and_then(Value::as_str).as_deref() == Some("thinking");
            part.each_string(&mut |key, value| match key {
                "type" | "signature" => {}
                "text" if is_thinking => found.push((Field::Reasoning, value)),
                "thinking" if is_thinking => found.push((Field::Reasoning, value)),
                "text" => found.push((Field::Content, value)),
                _ => others += value.raw().len() as u64,
            });
        }
        self.bill.output.bytes(others);
        for (field, value) in found {
            self.bill.output.string(TextId { choice, part: 0, field }, value);
        }
    }

    /// A tool call, or a part of one.
    fn tool(&mut self, choice: u64, part: u64, call: Value<'_>) {
        let mut others = 0;
        let mut found = Vec::new();
        call.each_string(&mut |key, value| match key {
            "id" | "type" => {}
            "name" => found.push((Field::Name, value)),
            "arguments" | "input" => found.push((Field::Arguments, value)),
            _ => others += value.raw().len() as u64,
        });
        self.bill.output.bytes(others);
        for (field, value) in found {
            self.bill.output.string(TextId { choice, part, field }, value);
        }
    }
}

impl Dialect for Meter {
    fn event(&mut self, event: &Event<'_>) -> Show {
        let mut show = Show::Always;
        if let Some(data) = event.data.as_deref().map(<[u8]>::trim_ascii) {
            match data {
                b"" => {}
                b"[DONE]" => self.bill.observed.finished = true,
                data => match self.read(data) {
                    Some(read) => show = read,
                    None => self.garbage(data),
                },
            }
        }
        if event.name == Some(b"error") {
            self.bill.fail();
        }
        show
    }

    fn object(&mut self, body: &[u8]) -> bool {
        self.read(body).is_some()
    }

    fn garbage(&mut self, data: &[u8]) {
        self.bill.garbage(data);
    }

    fn complete(&mut self) {
        self.bill.is_final = true;
        self.bill.observed.finished = self.bill.has_usage();
    }

    fn output(&mut self) -> &mut Output {
        &mut self.bill.output
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.bill.observed(exact)
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>, _begun: bool) -> Vec<u8> {
        (self.closing)(error)
    }
}

/// What JavaScript and Python take for true: that is what makes OpenAI's SDKs raise.
pub fn is_truthy(value: Value<'_>) -> bool {
    !matches!(value.raw(), "null" | "false" | "0" | "\"\"")
}

#[cfg(test)]
mod tests;

//! Responses: what an answer says of its bill.

use super::uses::Uses;
use crate::provider::openai::answer::is_truthy;
use crate::provider::openai::bill::Bill;
use crate::provider::openai::profile::Profile;
use crate::provider::openai::{errors, usage};
use crate::provider::output::{Field, Output, TextId};
use crate::provider::reader::{Dialect, Show};
use crate::provider::{Call, Ceiling, ErrorAnswer, Observed};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::Event;

/// Events that carry a piece of text under `delta`, and the whole of it under another name when it is done.
const TEXTS: [(&str, Field, &str); 7] = [
    ("response.output_text", Field::Content, "text"),
    ("response.refusal", Field::Refusal, "refusal"),
    ("response.reasoning_text", Field::Reasoning, "text"),
    ("response.function_call_arguments", Field::Arguments, "arguments"),
    ("response.custom_tool_call_input", Field::Arguments, "input"),
    ("response.mcp_call_arguments", Field::Arguments, "arguments"),
    ("response.code_interpreter_call_code", Field::Arguments, "code"),
];

/// Sums up an answer.
pub struct Meter {
    bill: Bill,
    uses: Uses,
    nodes: Vec<Node>,
    /// The number that an event of ours would carry: one more than the last event's.
    next_number: u64,
}

impl Meter {
    /// A meter for the answer to a call.
    pub fn new(profile: &Profile, call: &Call, ceiling: Ceiling) -> Meter {
        let uses = Uses::new(call.body.held_tools());
        Meter { bill: Bill::new(profile, call, ceiling), uses, nodes: Vec::new(), next_number: 0 }
    }

    /// Takes one JSON object with `take`. False: it is none.
    fn read(&mut self, data: &[u8], take: fn(&mut Meter, Value<'_>)) -> bool {
        let mut nodes = std::mem::take(&mut self.nodes);
        let root =
            std::str::from_utf8(data).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let is_object = root.is_some_and(|root| root.is_object());
        if let (true, Some(root)) = (is_object, root) {
            take(self, root);
        }
        self.nodes = nodes;
        is_object
    }

    fn event_object(&mut self, root: Value<'_>) {
        let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
        let at = |name: &str| root.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.next_number = self.next_number.max(at("sequence_number").saturating_add(1));
        match kind.as_ref() {
            "response.created" | "response.in_progress" | "response.queued" => self.response_of(root),
            "response.completed" | "response.incomplete" | "response.failed" => {
                // Only the end says what all of it was.
                self.bill.overtake();
                self.response_of(root);
                self.bill.observed.finished = true;
            }
            "error" => self.bill.fail(),
            "response.output_item.added" | "response.output_item.done" => {
                if let Some(item) = root.get("item") {
                    self.item(at("output_index"), item);
                }
            }
            "response.content_part.added" | "response.content_part.done" => {
                if let Some(part) = root.get("part") {
                    self.part(at("output_index"), at("content_index"), part);
                }
            }
            kind => self.text_event(kind, root, (at("output_index"), at("content_index"))),
        }
        if root.get("error").is_some_and(is_truthy) {
            self.bill.fail();
        }
    }

    /// A piece of text, or the whole of one.
    fn text_event(&mut self, kind: &str, root: Value<'_>, (choice, part): (u64, u64)) {
        let (name, end) = kind.rsplit_once('.').unwrap_or((kind, ""));
        let Some((_, field, whole)) = TEXTS.iter().find(|(known, ..)| *known == name) else {
            // Summaries, progress of tools, and whatever is new: it need not be output.
            let bytes = root.get("delta").map_or(0, |delta| delta.raw().len() as u64);
            return self.bill.output.aside(bytes);
        };
        let id = TextId { choice, part, field: *field };
        match end {
            "delta" => {
                if let Some(delta) = root.get("delta") {
                    self.bill.output.string(id, delta);
                }
            }
            _ => self.once(id, root.get(whole)),
        }
    }

    /// Takes a whole text unless its pieces were taken before.
    fn once(&mut self, id: TextId, text: Option<Value<'_>>) {
        if let Some(text) = text.filter(|text| !text.is_null() && !self.bill.output.knows(id)) {
            self.bill.output.string(id, text);
        }
    }

    fn response_of(&mut self, root: Value<'_>) {
        if let Some(response) = root.get("response") {
            self.response(response);
        }
    }

    /// The response itself: a whole answer, or the first and the last of a stream's events.
    fn response(&mut self, response: Value<'_>) {
        for (key, value) in response.fields() {
            match key.as_ref() {
                "model" => self.bill.model(value),
                "service_tier" => self.bill.tier(value),
                "usage" if !value.is_null() => {
                    self.bill.observed.odd_usage |= usage::has_unknown(value);
                    self.bill.report(value, usage::of_responses(value));
                }
                // How a response ended, told together with its usage.
                "error" => self.bill.observed.error |= is_truthy(value),
                "output" => {
                    for (at, item) in value.items().enumerate() {
                        self.item(at as u64, item);
                    }
                }
                _ => {}
            }
        }
    }

    /// An output item, as far as it is by now.
    fn item(&mut self, at: u64, item: Value<'_>) {
        let id = |field| TextId { choice: at, part: 0, field };
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        match kind.as_ref() {
            "message" | "reasoning" => {
                for (index, part) in item.get("content").into_iter().flat_map(Value::items).enumerate() {
                    self.part(at, index as u64, part);
                }
            }
            "function_call" | "mcp_call" => {
                self.once(id(Field::Name), item.get("name"));
                self.once_filled(id(Field::Arguments), item.get("arguments"));
            }
            "custom_tool_call" => {
                self.once(id(Field::Name), item.get("name"));
                self.once_filled(id(Field::Arguments), item.get("input"));
            }
            "code_interpreter_call" => self.once_filled(id(Field::Arguments), item.get("code")),
            _ => {}
        }
        self.uses.item(at, &kind, item);
    }

    /// An item begins with empty texts, which are no texts yet.
    fn once_filled(&mut self, id: TextId, text: Option<Value<'_>>) {
        self.once(id, text.filter(|text| text.raw() != "\"\""));
    }

    fn part(&mut self, choice: u64, part: u64, value: Value<'_>) {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let (field, name) = match kind.as_ref() {
            "refusal" => (Field::Refusal, "refusal"),
            "reasoning_text" => (Field::Reasoning, "text"),
            _ => (Field::Content, "text"),
        };
        self.once_filled(TextId { choice, part, field }, value.get(name));
    }
}

impl Dialect for Meter {
    fn event(&mut self, event: &Event<'_>) -> Show {
        if let Some(data) = event.data.as_deref().map(<[u8]>::trim_ascii) {
            let is_text = !data.is_empty() && data != b"[DONE]";
            if is_text && !self.read(data, Meter::event_object) {
                self.garbage(data);
            }
        }
        if event.name == Some(b"error") {
            self.bill.fail();
        }
        Show::Always
    }

    fn object(&mut self, body: &[u8]) -> bool {
        self.read(body, Meter::response)
    }

    fn lost_items(&mut self) {
        self.uses.lose();
    }

    fn garbage(&mut self, data: &[u8]) {
        self.bill.garbage(data);
        self.uses.garbage(data);
    }

    fn complete(&mut self) {
        self.bill.is_final = true;
        self.bill.observed.finished = self.bill.has_usage();
    }

    fn output(&mut self) -> &mut Output {
        &mut self.bill.output
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        match self.uses.fees() {
            Some(fees) => self.bill.observed.fees = fees,
            // A tool ran that nobody asked for, or nobody knows how often: what it costs is not known.
            None => self.bill.forget_usage(),
        }
        self.bill.observed(exact)
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>, _begun: bool) -> Vec<u8> {
        errors::closing_response_event(error, self.next_number)
    }
}

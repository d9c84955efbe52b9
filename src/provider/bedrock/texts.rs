//! Where generated text stands in an answer, vendor by vendor.

use crate::provider::output::{Field, Output, TextId};
use crate::wire::json::Value;

/// What was generated, as far as it shows.
pub struct Texts {
    /// For the ceiling.
    pub output: Output,
    /// Bytes of the text that the model wrote as it stands: no tool calls, no citations.
    pub prose_bytes: u64,
}

impl Texts {
    /// Nothing yet.
    pub fn new(output: Output) -> Texts {
        Texts { output, prose_bytes: 0 }
    }

    fn take(&mut self, part: u64, field: Field, value: Value<'_>) {
        let id = TextId { choice: 0, part, field };
        if matches!(field, Field::Content | Field::Reasoning)
            && let Some(text) = value.as_str()
        {
            self.prose_bytes = self.prose_bytes.saturating_add(text.len() as u64);
        }
        self.output.string(id, value);
    }

    /// A piece of the answer itself, if there is one.
    pub fn content(&mut self, part: u64, value: Option<Value<'_>>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.take(part, Field::Content, value);
        }
    }

    /// `contentBlockStart` of Converse and Nova.
    pub fn converse_start(&mut self, root: Value<'_>) {
        let index = index(root, "contentBlockIndex");
        for (kind, value) in root.get("start").into_iter().flat_map(Value::fields) {
            match (kind.as_ref(), value.get("name")) {
                ("toolUse", Some(name)) => self.take(index, Field::Name, name),
                ("toolUse" | "toolResult", None) => {}
                _ => self.output.others(value),
            }
        }
    }

    /// `contentBlockDelta` of Converse and Nova.
    pub fn converse_delta(&mut self, root: Value<'_>) {
        let index = index(root, "contentBlockIndex");
        for (kind, value) in root.get("delta").into_iter().flat_map(Value::fields) {
            self.converse_part(index, &kind, value);
        }
    }

    /// A whole message of Converse and Nova.
    pub fn converse_message(&mut self, message: Value<'_>) {
        let Some(content) = message.get("content") else { return };
        for (at, block) in (0..).zip(content.items()) {
            for (kind, value) in block.fields() {
                self.converse_part(at, &kind, value);
            }
        }
    }

    fn converse_part(&mut self, at: u64, kind: &str, value: Value<'_>) {
        match kind {
            "text" => self.take(at, Field::Content, value),
            "reasoningContent" => {
                let inner = value.get("reasoningText").unwrap_or(value);
                // Signatures and redacted thinking are not text of the model's.
                inner.get("text").into_iter().for_each(|text| self.take(at, Field::Reasoning, text));
            }
            "toolUse" => {
                value.get("name").into_iter().for_each(|name| self.take(at, Field::Name, name));
                value.get("input").into_iter().for_each(|input| self.arguments(at, input));
            }
            _ => self.output.others(value),
        }
    }

    /// A tool's arguments: a piece of JSON as text, or the whole as JSON.
    fn arguments(&mut self, at: u64, value: Value<'_>) {
        if value.as_str().is_some() {
            self.take(at, Field::Arguments, value);
        } else {
            let id = TextId { choice: 0, part: at, field: Field::Arguments };
            self.output.text(id, value.raw());
        }
    }

    /// An event of Claude's, or its whole message.
    pub fn claude(&mut self, kind: &str, root: Value<'_>) {
        match kind {
            "content_block_start" => {
                let block = root.get("content_block");
                block.into_iter().for_each(|block| self.claude_block(index(root, "index"), block));
            }
            "content_block_delta" => {
                let at = index(root, "index");
                for (name, value) in root.get("delta").into_iter().flat_map(Value::fields) {
                    match name.as_ref() {
                        "type" | "signature" => {}
                        "text" => self.take(at, Field::Content, value),
                        "thinking" => self.take(at, Field::Reasoning, value),
                        "partial_json" => self.arguments(at, value),
                        _ => self.output.others(value),
                    }
                }
            }
            "message" => {
                let content = root.get("content").into_iter().flat_map(Value::items);
                (0..).zip(content).for_each(|(at, block)| self.claude_block(at, block));
            }
            _ => {}
        }
    }

    fn claude_block(&mut self, at: u64, block: Value<'_>) {
        for (name, value) in block.fields().filter(|(_, value)| !value.is_null()) {
            match name.as_ref() {
                "type" | "id" | "signature" | "data" => {}
                "text" => self.take(at, Field::Content, value),
                "thinking" => self.take(at, Field::Reasoning, value),
                "name" => self.take(at, Field::Name, value),
                // A stream starts it empty and sends it in pieces.
                "input" if value.raw() == "{}" => {}
                "input" => self.arguments(at, value),
                _ => self.output.others(value),
            }
        }
    }

    /// An event or an answer of Mistral's: of a completion, or of a chat.
    pub fn mistral(&mut self, root: Value<'_>) {
        let items = |name: &str| root.get(name).into_iter().flat_map(Value::items);
        for (at, output) in (0..).zip(items("outputs")) {
            self.content(at, output.get("text"));
        }
        for (at, choice) in (0..).zip(items("choices")) {
            let said = choice.get("message").or_else(|| choice.get("delta"));
            for (name, value) in said.into_iter().flat_map(Value::fields).filter(|(_, value)| !value.is_null()) {
                match name.as_ref() {
                    "role" => {}
                    "content" => self.take(at, Field::Content, value),
                    _ => self.output.others(value),
                }
            }
        }
    }
}

fn index(root: Value<'_>, name: &str) -> u64 {
    root.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The text units that a guardrail's trace counts, those that cost nothing left out.
pub fn guardrail_units(trace: Value<'_>) -> u64 {
    let mut sum: u64 = 0;
    for (name, value) in trace.fields() {
        let units = match name.as_ref() {
            "usage" => value
                .fields()
                .filter(|(name, _)| name.ends_with("Units") && !name.ends_with("FreeUnits"))
                .filter_map(|(_, value)| value.as_u64())
                .fold(0, u64::saturating_add),
            _ => value.items().map(guardrail_units).fold(guardrail_units(value), u64::saturating_add),
        };
        sum = sum.saturating_add(units);
    }
    sum
}

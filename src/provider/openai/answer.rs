//! Chat completions and embeddings: what an answer says of its bill.

use std::sync::Arc;

use super::{errors, usage};
use crate::pricing::{ModelPrice, Usage};
use crate::provider::output::{Field, Output, TextId};
use crate::provider::reader::{Dialect, Show};
use crate::provider::{Call, Ceiling, ErrorAnswer, Observed};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::Event;

/// Sums up an answer.
pub struct Meter {
    price: Arc<ModelPrice>,
    is_embedding: bool,
    output: Output,
    usage: Option<Usage>,
    /// True when the usage is that of the whole answer, not of the answer so far.
    is_usage_final: bool,
    observed: Observed,
    nodes: Vec<Node>,
}

impl Meter {
    /// A meter for the answer to a call.
    pub fn new(call: &Call, is_embedding: bool, ceiling: Ceiling) -> Meter {
        Meter {
            price: call.price.clone(),
            is_embedding,
            output: Output::new(call.price.tokenizer, ceiling),
            usage: None,
            is_usage_final: false,
            observed: Observed::default(),
            nodes: Vec::new(),
        }
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
        let (mut has_choices, mut reported) = (false, None);
        for (key, value) in root.fields() {
            match key.as_ref() {
                "choices" => {
                    for choice in value.items() {
                        has_choices = true;
                        self.choice(choice);
                    }
                }
                "usage" if !value.is_null() => reported = Some(value),
                "model" if self.observed.model.is_none() => {
                    self.observed.model = value.as_str().map(|name| name.into_owned())
                }
                "service_tier" => {
                    if let Some(name) = value.as_str() {
                        self.observed.tier = usage::tier(&name);
                    }
                }
                "error" => self.observed.error |= is_truthy(value),
                _ => {}
            }
        }
        let Some(reported) = reported else { return Show::Always };
        self.report(reported);
        self.is_usage_final |= !has_choices;
        if has_choices { Show::Always } else { Show::UsageOnly }
    }

    /// Takes a usage object. A later one replaces an earlier one, as it is the sum so far; one that shrinks does not.
    fn report(&mut self, reported: Value<'_>) {
        let Ok(new) = usage::read(reported, self.is_embedding) else {
            self.observed.odd_usage = true;
            return;
        };
        if let Some(old) = self.usage
            && (new.total_output() < old.total_output() || new.total_input() < old.total_input())
        {
            self.observed.odd_usage = true;
            let tier = self.observed.tier;
            if self.price.cost(&new, tier) < self.price.cost(&old, tier) {
                return;
            }
        }
        self.usage = Some(new);
    }

    fn choice(&mut self, choice: Value<'_>) {
        let (mut index, mut said) = (0, None);
        for (key, value) in choice.fields() {
            match key.as_ref() {
                "index" => index = value.as_u64().unwrap_or(0),
                "delta" | "message" => said = Some(value),
                // The legacy completions' way to say it.
                "text" => self.output.string(TextId { choice: 0, part: 0, field: Field::Content }, value),
                _ => {}
            }
        }
        for (key, value) in said.into_iter().flat_map(Value::fields) {
            let id = |field| TextId { choice: index, part: 0, field };
            match key.as_ref() {
                "role" => {}
                "content" => self.output.string(id(Field::Content), value),
                "refusal" => self.output.string(id(Field::Refusal), value),
                "reasoning_content" | "reasoning" => self.output.string(id(Field::Reasoning), value),
                "function_call" => self.tool(index, u64::MAX, value),
                "tool_calls" => {
                    for (at, call) in value.items().enumerate() {
                        let tool = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
                        self.tool(index, tool, call);
                    }
                }
                _ => self.output.others(value),
            }
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
        self.output.bytes(others);
        for (field, value) in found {
            self.output.string(TextId { choice, part, field }, value);
        }
    }

    /// A usage below the fewest tokens that can spell what was streamed is not true: what was streamed is charged.
    fn raise_to_what_was_seen(&mut self, exact: bool) {
        let Some(usage) = self.observed.usage else { return };
        let visible = usage.output.saturating_sub(usage.reasoning);
        if !exact && !self.output.has_more_words_than(visible) {
            return;
        }
        if let Some(seen) = self.output.more_than_reported(visible) {
            self.observed.odd_usage = true;
            let output = usage.reasoning.saturating_add(seen);
            self.observed.usage = Some(Usage { output, ..usage });
        }
    }
}

impl Dialect for Meter {
    fn event(&mut self, event: &Event<'_>) -> Show {
        let mut show = Show::Always;
        if let Some(data) = event.data.as_deref().map(<[u8]>::trim_ascii) {
            match data {
                b"" => {}
                b"[DONE]" => self.observed.finished = true,
                data => match self.read(data) {
                    Some(read) => show = read,
                    None => self.garbage(data),
                },
            }
        }
        if event.name == Some(b"error") {
            self.observed.error = true;
        }
        show
    }

    fn object(&mut self, body: &[u8]) -> bool {
        self.read(body).is_some()
    }

    fn garbage(&mut self, data: &[u8]) {
        self.output.bytes(data.len() as u64);
        self.observed.odd_usage |= data.windows(7).any(|window| window == b"\"usage\"");
    }

    fn complete(&mut self) {
        self.is_usage_final = true;
        self.observed.finished = self.usage.is_some();
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.observed.streamed_tokens = self.output.streamed_tokens(exact);
        self.observed.usage = None;
        if self.is_usage_final || self.observed.finished {
            self.observed.usage = self.usage;
            self.raise_to_what_was_seen(exact);
        }
        &self.observed
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>, _begun: bool) -> Vec<u8> {
        errors::closing_event(error)
    }
}

/// What JavaScript and Python take for true: that is what makes OpenAI's SDKs raise.
fn is_truthy(value: Value<'_>) -> bool {
    !matches!(value.raw(), "null" | "false" | "0" | "\"\"")
}

#[cfg(test)]
mod tests;

//! Answers: what the client gets of them, and what they say of the bill.

use std::sync::Arc;

use bytes::BytesMut;

use super::skim::Skim;
use super::usage;
use crate::pricing::{ModelPrice, Tokenizer, Usage};
use crate::provider::tokens::RunningText;
use crate::provider::{AnswerReader, Call, Ceiling, Observed, Progress};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::{Decoder, Event};

/// The largest answer, if it is no stream, that is kept and read with its texts. Of a larger one (embeddings, log
/// probabilities) only the top level is read.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The most texts (choices × tool calls) that are kept apart; what is beyond is counted by its bytes.
const TEXTS_MAX: usize = 1024;
/// Tokens that frame a text and do not show: channel marks, the end mark, the recipient of a tool call.
const TOKENS_PER_TEXT: u64 = 16;
/// The first byte of a gzip stream: neither JSON nor an event begins with it.
const GZIP: u8 = 0x1f;

/// No token of a public tokenizer has more bytes of ordinary text.
const TOKEN_BYTES_MAX: u64 = 128;

/// The tokenizer that stands in where none is public, only to see whether a ceiling was left behind: by twice as much as it says.
const STAND_IN: Tokenizer = Tokenizer::O200kBase;

/// Which text a piece belongs to: choice, tool call, field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextId {
    choice: u64,
    tool: u64,
    field: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Content,
    Refusal,
    Reasoning,
    Name,
    Arguments,
}

/// What an event is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Always,
    /// Usage and nothing else: only for those who asked.
    UsageOnly,
}

/// Sums up an answer.
pub struct Meter {
    price: Arc<ModelPrice>,
    is_embedding: bool,
    ceiling: Ceiling,
    texts: Vec<(TextId, RunningText)>,
    /// Bytes of strings in no text that we know, and of data that is not JSON.
    other_bytes: u64,
    /// Bytes of all texts.
    text_bytes: u64,
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
            ceiling,
            texts: Vec::new(),
            other_bytes: 0,
            text_bytes: 0,
            usage: None,
            is_usage_final: false,
            observed: Observed::default(),
            nodes: Vec::new(),
        }
    }

    /// Takes one JSON object: a chunk of a stream, or a whole answer. `None`: it is none.
    fn object(&mut self, data: &[u8]) -> Option<Show> {
        let mut nodes = std::mem::take(&mut self.nodes);
        let root =
            std::str::from_utf8(data).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let show = root.filter(|root| root.is_object()).map(|root| self.fields(root));
        self.nodes = nodes;
        show
    }

    /// Takes what is not what the API sends: it may be text, and it may have been the usage.
    fn garbage(&mut self, data: &[u8]) -> Show {
        self.other_bytes += data.len() as u64;
        self.observed.odd_usage |= data.windows(7).any(|window| window == b"\"usage\"");
        Show::Always
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
                "text" => self.string(TextId { choice: 0, tool: 0, field: Field::Content }, value),
                _ => {}
            }
        }
        for (key, value) in said.into_iter().flat_map(Value::fields) {
            let id = |field| TextId { choice: index, tool: 0, field };
            match key.as_ref() {
                "role" => {}
                "content" => self.string(id(Field::Content), value),
                "refusal" => self.string(id(Field::Refusal), value),
                "reasoning_content" | "reasoning" => self.string(id(Field::Reasoning), value),
                "function_call" => self.tool(index, u64::MAX, value),
                "tool_calls" => {
                    for (at, call) in value.items().enumerate() {
                        let tool = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
                        self.tool(index, tool, call);
                    }
                }
                _ => self.others(value),
            }
        }
    }

    /// A tool call, or a part of one.
    fn tool(&mut self, choice: u64, tool: u64, call: Value<'_>) {
        let mut others = 0;
        let mut found = Vec::new();
        call.each_string(&mut |key, value| match key {
            "id" | "type" => {}
            "name" => found.push((Field::Name, value)),
            "arguments" | "input" => found.push((Field::Arguments, value)),
            _ => others += value.raw().len() as u64,
        });
        self.other_bytes += others;
        for (field, value) in found {
            self.string(TextId { choice, tool, field }, value);
        }
    }

    fn others(&mut self, value: Value<'_>) {
        let mut bytes = 0;
        value.each_string(&mut |_, value| bytes += value.raw().len() as u64);
        self.other_bytes += bytes;
    }

    fn string(&mut self, id: TextId, value: Value<'_>) {
        let Some(text) = value.as_str() else { return self.others(value) };
        if text.is_empty() {
            return;
        }
        let known = self.texts.iter().position(|(known, _)| *known == id);
        let at = match known {
            Some(at) => at,
            None if self.texts.len() < TEXTS_MAX => {
                self.texts.push((id, RunningText::default()));
                self.texts.len() - 1
            }
            None => {
                self.other_bytes += text.len() as u64;
                return;
            }
        };
        self.text_bytes += text.len() as u64;
        self.texts[at].1.push(&text);
    }

    fn tighten(&mut self, tokenizer: Tokenizer) {
        self.texts.iter_mut().for_each(|(_, text)| text.tighten(tokenizer));
    }

    fn bound(&self) -> u64 {
        self.texts.iter().fold(0, |sum: u64, (_, text)| sum.saturating_add(text.bound()))
    }

    /// True when more output was seen than may pass. Counts tokens only when the bytes are too many.
    fn is_over_ceiling(&mut self) -> bool {
        match self.ceiling {
            Ceiling::Possible(most) => self.may_have_more_than(most),
            Ceiling::Certain(most) => self.has_more_than(most),
        }
    }

    /// True unless the text certainly has at most `most` tokens.
    fn may_have_more_than(&mut self, most: u64) -> bool {
        if self.text_bytes.saturating_add(self.other_bytes) <= most {
            return false;
        }
        let Some(tokenizer) = self.price.tokenizer else { return true };
        if self.bound().saturating_add(self.other_bytes) > most {
            self.tighten(tokenizer);
        }
        self.bound().saturating_add(self.other_bytes) > most
    }

    /// True when the text certainly has more than `most` tokens, however the model spelt it.
    fn has_more_than(&mut self, most: u64) -> bool {
        let others = self.other_bytes / TOKEN_BYTES_MAX;
        if self.bound().saturating_add(others) <= most {
            return false;
        }
        let (tokenizer, doubt) = self.price.tokenizer.map_or((STAND_IN, 2), |tokenizer| (tokenizer, 1));
        let most = most.saturating_mul(doubt);
        if self.bound().saturating_add(others) > most {
            self.tighten(tokenizer);
        }
        if self.bound().saturating_add(others) <= most {
            return false;
        }
        let fewest = self.texts.iter().fold(others, |sum: u64, (_, text)| sum.saturating_add(text.fewest(tokenizer)));
        fewest > most
    }

    /// What is known of the bill.
    fn observed(&mut self, exact: bool) -> &Observed {
        if let (true, Some(tokenizer)) = (exact, self.price.tokenizer) {
            self.tighten(tokenizer);
        }
        let texts = match self.price.tokenizer {
            Some(_) => self.bound(),
            // Without a public tokenizer only bytes are certain.
            None => self.text_bytes,
        };
        let frames = (self.texts.len() as u64).saturating_mul(TOKENS_PER_TEXT);
        self.observed.streamed_tokens = texts.saturating_add(self.other_bytes).saturating_add(frames);
        self.observed.usage = None;
        if self.is_usage_final || self.observed.finished {
            self.observed.usage = self.usage;
            if exact || self.is_usage_below_its_words() {
                self.raise_to_what_was_seen();
            }
        }
        &self.observed
    }

    /// True when the usage has fewer tokens than the text has words: worth a real count, which costs time.
    fn is_usage_below_its_words(&self) -> bool {
        let words = self.prose().fold(0, |sum: u64, text| sum.saturating_add(text.words()));
        self.observed.usage.is_some_and(|usage| usage.output.saturating_sub(usage.reasoning) < words)
    }

    /// A usage below the fewest tokens that can spell what was streamed is not true: what was streamed is charged.
    fn raise_to_what_was_seen(&mut self) {
        let (Some(tokenizer), Some(usage)) = (self.price.tokenizer, self.observed.usage) else { return };
        let visible = usage.output.saturating_sub(usage.reasoning);
        self.tighten(tokenizer);
        let seen = self.prose().fold(0, |sum: u64, text| sum.saturating_add(text.bound()));
        if visible >= seen {
            return;
        }
        // A model may spell a text with fewer tokens than the tokenizer would, if rarely.
        let fewest = self.prose().fold(0, |sum: u64, text| sum.saturating_add(text.fewest(tokenizer)));
        if visible < fewest {
            self.observed.odd_usage = true;
            let output = usage.reasoning.saturating_add(seen.max(visible));
            self.observed.usage = Some(Usage { output, ..usage });
        }
    }

    /// Texts that the model wrote as they stand. A tool call is not among them: the JSON that the API shows is its own rendering of what
    /// the model wrote in fewer tokens, or in more.
    fn prose(&self) -> impl Iterator<Item = &RunningText> {
        let is_prose = |field| matches!(field, Field::Content | Field::Refusal | Field::Reasoning);
        self.texts.iter().filter(move |(id, _)| is_prose(id.field)).map(|(_, text)| text)
    }
}

/// What JavaScript and Python take for true: that is what makes OpenAI's SDKs raise.
fn is_truthy(value: Value<'_>) -> bool {
    !matches!(value.raw(), "null" | "false" | "0" | "\"\"")
}

/// Reads a stream.
pub struct Stream {
    meter: Meter,
    decoder: Decoder,
    shows_usage: bool,
    is_started: bool,
    /// The end that was reached, after which nothing is emitted.
    ended: Option<Progress>,
}

impl Stream {
    /// A reader for the stream that answers a call.
    pub fn new(meter: Meter, call: &Call) -> Stream {
        Stream { meter, decoder: Decoder::default(), shows_usage: call.shows_usage, is_started: false, ended: None }
    }

    /// Takes one event. False when it crossed the ceiling; then it was not emitted.
    fn event(meter: &mut Meter, shows_usage: bool, event: &Event<'_>, emit: &mut BytesMut) -> bool {
        let mut show = Show::Always;
        if let Some(data) = event.data.as_deref().map(<[u8]>::trim_ascii) {
            match data {
                b"" => {}
                b"[DONE]" => meter.observed.finished = true,
                data => show = meter.object(data).unwrap_or_else(|| meter.garbage(data)),
            }
        }
        if event.name == Some(b"error") {
            meter.observed.error = true;
        }
        if meter.is_over_ceiling() {
            return false;
        }
        if show == Show::Always || shows_usage {
            emit.extend_from_slice(event.raw);
        }
        true
    }
}

impl AnswerReader for Stream {
    fn push(&mut self, bytes: &[u8], emit: &mut BytesMut) -> Progress {
        if let Some(ended) = self.ended {
            return ended;
        }
        let is_first = !self.is_started;
        self.is_started |= !bytes.is_empty();
        if is_first && bytes.first() == Some(&GZIP) {
            self.ended = Some(Progress::Unreadable);
            return Progress::Unreadable;
        }
        let (meter, shows_usage) = (&mut self.meter, self.shows_usage);
        let mut is_within = true;
        let read = self.decoder.push(bytes, |event| {
            is_within = Self::event(meter, shows_usage, &event, emit);
            is_within
        });
        self.ended = match read {
            Err(_) => Some(Progress::Unreadable),
            Ok(()) if !is_within => Some(Progress::Ceiling),
            Ok(()) => None,
        };
        self.ended.unwrap_or(Progress::More)
    }

    fn finish(&mut self, emit: &mut BytesMut) -> Progress {
        if let Some(ended) = self.ended {
            return ended;
        }
        let (meter, shows_usage) = (&mut self.meter, self.shows_usage);
        let mut is_within = true;
        self.decoder.finish(|event| {
            is_within = Self::event(meter, shows_usage, &event, emit);
            is_within
        });
        let ended = if is_within { Progress::More } else { Progress::Ceiling };
        self.ended = Some(ended);
        ended
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.meter.observed(exact)
    }
}

/// Reads an answer that is one JSON object. Its bytes pass as they come.
pub struct Whole {
    meter: Meter,
    /// The answer so far, until it is too large.
    body: Vec<u8>,
    /// Takes over when it is.
    skim: Option<Skim>,
    ended: Option<Progress>,
}

impl Whole {
    /// A reader for such an answer.
    pub fn new(meter: Meter) -> Whole {
        Whole { meter, body: Vec::new(), skim: None, ended: None }
    }
}

impl AnswerReader for Whole {
    fn push(&mut self, bytes: &[u8], emit: &mut BytesMut) -> Progress {
        if let Some(ended) = self.ended {
            return ended;
        }
        if self.body.is_empty() && self.skim.is_none() && bytes.first() == Some(&GZIP) {
            self.ended = Some(Progress::Unreadable);
            return Progress::Unreadable;
        }
        match &mut self.skim {
            Some(skim) => skim.push(bytes),
            None => self.body.extend_from_slice(bytes),
        }
        if self.body.len() > BODY_BYTES_MAX {
            self.skim.get_or_insert_default().push(&std::mem::take(&mut self.body));
        }
        emit.extend_from_slice(bytes);
        Progress::More
    }

    fn finish(&mut self, _emit: &mut BytesMut) -> Progress {
        if let Some(ended) = self.ended {
            return ended;
        }
        let body = std::mem::take(&mut self.body);
        let is_read = self.skim.is_none() && self.meter.object(body.trim_ascii()).is_some();
        if !is_read {
            let skim = self.skim.get_or_insert_default();
            skim.push(&body);
            self.meter.other_bytes = skim.bytes;
            let kept = std::mem::take(&mut skim.kept);
            if self.meter.object(kept.trim_ascii()).is_none() {
                self.meter.garbage(&kept);
            }
        }
        self.meter.is_usage_final = true;
        self.meter.observed.finished = self.meter.usage.is_some();
        self.ended = Some(Progress::More);
        Progress::More
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.meter.observed(exact)
    }
}

#[cfg(test)]
mod tests;

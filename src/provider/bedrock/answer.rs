//! What an answer says of its bill.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::model::Vendor;
use super::terms::Extras;
use super::texts::{self, Texts};
use super::usage::{self, Counts, Odd};
use super::{errors, frames};
use crate::money::Money;
use crate::pricing::{ModelPrice, Terms};
use crate::provider::output::Output;
use crate::provider::reader::{Dialect, Show};
use crate::provider::{AnswerHead, Call, Ceiling, ErrorAnswer, Fee, Observed};
use crate::wire::json::{self, Duplicates, Node, Value};
use crate::wire::sse::Event;

/// No token of a known tokenizer spells more bytes of ordinary text than this.
const TOKEN_BYTES_MAX: u64 = 128;

/// Sums up an answer.
pub struct Meter {
    price: Arc<ModelPrice>,
    vendor: Vendor,
    terms: Terms,
    /// The flat price of the guardrail that the request names.
    guardrail: Option<Fee>,
    /// True for `invoke`: the answer has its vendor's own form.
    is_native: bool,
    texts: Texts,
    /// What the head said, for an answer in one piece.
    head: Result<Counts, Odd>,
    /// What the body, or the events so far, said.
    body: Counts,
    /// Bedrock's own summary at the end of a native stream.
    metrics: Option<Counts>,
    /// The usage is that of the whole answer.
    is_final: bool,
    /// A guardrail stepped in: the model may not have been asked at all.
    is_blocked: bool,
    /// Usage that was unreadable: whatever else was told is not believed.
    is_broken: bool,
    /// The arrays of the answer are empty here, and were not when it came.
    lacks_items: bool,
    guardrail_units: u64,
    observed: Observed,
    nodes: Vec<Node>,
    inner_nodes: Vec<Node>,
}

impl Meter {
    /// A meter for the answer to a call; `is_native` for `invoke`.
    pub fn new(call: &Call, is_native: bool, head: &AnswerHead<'_>, ceiling: Ceiling) -> Meter {
        let id = call.price.id.split_once('/').map_or(&*call.price.id, |(_, model)| model);
        let mut observed = Observed::default();
        let of_head = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(tier) = of_head("x-amzn-bedrock-service-tier") {
            observed.tier = usage::tier(tier.trim());
        }
        let latency = of_head("x-amzn-bedrock-performanceconfig-latency");
        observed.odd_usage = latency.is_some_and(|latency| latency.trim() != "standard");
        let extras = call.body.facts().and_then(|facts| facts.downcast_ref::<Extras>());
        Meter {
            price: call.price.clone(),
            // A row of a region has the region before the model.
            vendor: Vendor::of(id.rsplit('/').next().unwrap_or(id)),
            terms: call.terms.clone(),
            guardrail: extras.and_then(|extras| extras.guardrail),
            is_native,
            texts: Texts::new(Output::new(None, ceiling)),
            head: usage::headers(head.headers),
            body: Counts::default(),
            metrics: None,
            is_final: false,
            is_blocked: false,
            is_broken: false,
            lacks_items: false,
            guardrail_units: 0,
            observed,
            nodes: Vec::new(),
            inner_nodes: Vec::new(),
        }
    }

    /// Takes a usage object of the answer, or of the answer so far.
    fn report(&mut self, reported: Value<'_>) {
        match usage::read(reported) {
            Ok((counts, is_odd)) => {
                let shrank = self.body.replace(&counts);
                self.observed.odd_usage |= is_odd || shrank;
            }
            Err(Odd) => self.is_broken = true,
        }
    }

    /// Members that Converse's answers and last events share.
    fn converse_facts(&mut self, root: Value<'_>) {
        for (name, value) in root.fields() {
            match name.as_ref() {
                "usage" if !value.is_null() => self.report(value),
                "stopReason" => self.stopped(value),
                "serviceTier" => {
                    if let Some(name) = value.get("type").and_then(Value::as_str) {
                        self.observed.tier = usage::tier(&name);
                    }
                }
                "performanceConfig" => {
                    let latency = value.get("latency").and_then(Value::as_str);
                    self.observed.odd_usage |= latency.is_some_and(|latency| latency != "standard");
                }
                "trace" => self.trace(value),
                _ => {}
            }
        }
    }

    fn stopped(&mut self, reason: Value<'_>) {
        self.is_blocked |= reason.as_str().is_some_and(|reason| reason == "guardrail_intervened");
    }

    /// A guardrail's or router's own account of itself.
    fn trace(&mut self, trace: Value<'_>) {
        if let Some(guardrail) = trace.get("guardrail").filter(|trace| !trace.is_null()) {
            self.guardrail_units = self.guardrail_units.saturating_add(texts::guardrail_units(guardrail));
            // One that the account enforces is billed without having been asked for, and has no price here.
            self.observed.odd_usage |= self.guardrail.is_none();
        }
        self.observed.odd_usage |= trace.get("promptRouter").is_some_and(|router| !router.is_null());
    }

    /// One event of a Converse stream.
    fn converse_event(&mut self, name: &[u8], root: Value<'_>) {
        match name {
            b"messageStart" | b"contentBlockStop" => {}
            b"contentBlockStart" => self.texts.converse_start(root),
            b"contentBlockDelta" => self.texts.converse_delta(root),
            b"messageStop" => self.converse_facts(root),
            b"metadata" => {
                self.converse_facts(root);
                self.is_final = true;
                self.observed.finished = true;
            }
            _ => self.texts.output.others(root),
        }
    }

    /// A chunk of a native stream: a vendor's event in base64.
    fn chunk(&mut self, root: Value<'_>) -> Option<()> {
        let encoded = root.get("bytes").and_then(Value::as_str)?;
        let native = String::from_utf8(STANDARD.decode(encoded.as_bytes()).ok()?).ok()?;
        let mut nodes = std::mem::take(&mut self.inner_nodes);
        let inner = json::scan(&native, Duplicates::LastWins, &mut nodes).ok().filter(|inner| inner.is_object());
        let read = inner.map(|inner| self.native(inner));
        self.inner_nodes = nodes;
        read
    }

    /// A vendor's event, or its whole answer.
    fn native(&mut self, root: Value<'_>) {
        if let Some(metrics) = root.get("amazon-bedrock-invocationMetrics") {
            match usage::read(metrics) {
                Ok((counts, is_odd)) => {
                    self.observed.odd_usage |= is_odd;
                    self.metrics.get_or_insert_default().replace(&counts);
                }
                Err(Odd) => self.is_broken = true,
            }
            self.is_final = true;
            self.observed.finished = true;
        }
        let action = root.get("amazon-bedrock-guardrailAction").and_then(Value::as_str);
        self.is_blocked |= action.is_some_and(|action| action == "INTERVENED");
        if let Some(trace) = root.get("amazon-bedrock-trace") {
            self.trace(trace);
        }
        match self.vendor {
            Vendor::Claude => self.claude(root),
            Vendor::Nova => self.nova(root),
            Vendor::Mistral => {
                self.texts.mistral(root);
                root.get("usage").filter(|usage| !usage.is_null()).into_iter().for_each(|usage| self.report(usage));
            }
            Vendor::Llama => {
                self.texts.content(0, root.get("generation"));
                self.counts(root, "prompt_token_count", "generation_token_count");
            }
            Vendor::TitanText | Vendor::TitanEmbed => self.titan(root),
            Vendor::CohereEmbed | Vendor::OpenAi | Vendor::Other => {}
        }
    }

    fn claude(&mut self, root: Value<'_>) {
        let kind = root.get("type").and_then(Value::as_str);
        match kind.as_deref() {
            Some("message_start") => {
                let usage = root.get("message").and_then(|message| message.get("usage"));
                usage.into_iter().for_each(|usage| self.report(usage));
                // A placeholder: the output comes with the last delta.
                self.body.output = None;
            }
            Some("message_delta") => {
                root.get("usage").filter(|usage| !usage.is_null()).into_iter().for_each(|usage| self.report(usage));
            }
            Some("message_stop") => {
                self.is_final |= self.body.output.is_some();
                self.observed.finished = true;
            }
            Some("error") => self.observed.error = true,
            _ => {}
        }
        if kind.as_deref() == Some("message") {
            root.get("usage").into_iter().for_each(|usage| self.report(usage));
        }
        self.texts.claude(kind.as_deref().unwrap_or_default(), root);
    }

    fn nova(&mut self, root: Value<'_>) {
        for (name, value) in root.fields() {
            match name.as_ref() {
                "messageStart" | "contentBlockStart" | "contentBlockDelta" | "contentBlockStop" | "messageStop" => {
                    self.converse_event(name.as_bytes(), value);
                }
                "metadata" => self.converse_facts(value),
                _ => {}
            }
        }
        self.converse_whole(root);
    }

    fn converse_whole(&mut self, root: Value<'_>) {
        self.converse_facts(root);
        if let Some(message) = root.get("output").and_then(|output| output.get("message")) {
            self.texts.converse_message(message);
        }
    }

    fn titan(&mut self, root: Value<'_>) {
        self.counts(root, "inputTextTokenCount", "totalOutputTextTokenCount");
        self.texts.content(0, root.get("outputText"));
        // Results that were not read are not results of no tokens: the output is not told here.
        let Some(results) = root.get("results").filter(|_| !self.lacks_items) else { return };
        let mut output = Some(0u64);
        for (at, result) in (0..).zip(results.items()) {
            self.texts.content(at, result.get("outputText"));
            match usage::member(result, "tokenCount") {
                Ok(count) => output = output.zip(count).map(|(sum, count)| sum.saturating_add(count)),
                Err(Odd) => self.is_broken = true,
            }
        }
        self.body.replace(&Counts { output, ..Counts::default() });
    }

    /// Counts that stand at the top level.
    fn counts(&mut self, root: Value<'_>, input: &str, output: &str) {
        match (usage::member(root, input), usage::member(root, output)) {
            (Ok(input), Ok(output)) => {
                let shrank = self.body.replace(&Counts { input, output, ..Counts::default() });
                self.observed.odd_usage |= shrank;
            }
            _ => self.is_broken = true,
        }
    }

    /// Reads one JSON object. `None`: it is none.
    fn read(&mut self, data: &[u8], each: impl FnOnce(&mut Meter, Value<'_>) -> Option<()>) -> Option<()> {
        let mut nodes = std::mem::take(&mut self.nodes);
        let root =
            std::str::from_utf8(data).ok().and_then(|text| json::scan(text, Duplicates::LastWins, &mut nodes).ok());
        let read = root.filter(|root| root.is_object()).and_then(|root| each(self, root));
        self.nodes = nodes;
        read
    }

    /// All counts together, if they are those of the whole answer and can be true.
    fn billed(&mut self) -> Option<crate::pricing::Usage> {
        let Ok(head) = self.head else {
            self.observed.odd_usage = true;
            return None;
        };
        if self.is_broken {
            self.observed.odd_usage = true;
            return None;
        }
        let mut counts = self.body;
        for other in self.metrics.iter().chain([&head]) {
            self.observed.odd_usage |= counts.join(other);
        }
        let usage = counts.usage(self.vendor, &self.terms, self.price.embedding, self.is_blocked);
        self.observed.odd_usage |= usage.is_err();
        let usage = usage.ok().flatten()?;
        let is_too_little = usage.output.saturating_mul(TOKEN_BYTES_MAX) < self.texts.prose_bytes;
        if !self.is_blocked && (is_too_little || self.texts.output.belies(usage.output)) {
            // No model spells so much with so little: what was told is not the bill.
            self.observed.odd_usage = true;
            return None;
        }
        Some(usage)
    }
}

impl Dialect for Meter {
    fn event(&mut self, event: &Event<'_>) -> Show {
        let (name, data) = (event.name.unwrap_or_default(), event.data.as_deref().unwrap_or_default());
        // Counts in the head of a stream were made before there was anything to count.
        self.head = Ok(Counts::default());
        if name == frames::FAILURE {
            self.observed.error = true;
            return Show::Always;
        }
        let is_read = match self.is_native {
            true if name == b"chunk" => self.read(data, Meter::chunk),
            true => None,
            false => self.read(data, |meter, root| {
                meter.converse_event(name, root);
                Some(())
            }),
        };
        if is_read.is_none() {
            self.garbage(data);
        }
        Show::Always
    }

    fn object(&mut self, body: &[u8]) -> bool {
        let is_native = self.is_native;
        self.read(body, |meter, root| {
            if is_native {
                meter.native(root)
            } else {
                meter.converse_whole(root)
            }
            Some(())
        })
        .is_some()
    }

    fn lost_items(&mut self) {
        self.lacks_items = true;
    }

    fn garbage(&mut self, data: &[u8]) {
        self.texts.output.bytes(data.len() as u64);
        // It may have been what the bill is about: a page of a proxy, say, is not.
        let names = |name: &[u8]| data.windows(name.len()).any(|some| some.eq_ignore_ascii_case(name));
        self.observed.odd_usage |= names(b"token") || names(b"usage") || names(b"metrics");
    }

    fn complete(&mut self) {
        self.is_final = true;
        self.observed.finished = self.billed().is_some();
    }

    fn output(&mut self) -> &mut Output {
        &mut self.texts.output
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.observed.streamed_tokens = self.texts.output.streamed_tokens(exact);
        self.observed.usage = if self.is_final { self.billed() } else { None };
        if let Some(fee) = self.guardrail {
            let units = fee.calls.max(self.guardrail_units);
            self.observed.fees = Money::from_nano(fee.usd.nano().saturating_mul(units));
        }
        &self.observed
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>, _begun: bool) -> Vec<u8> {
        errors::closing_event(error)
    }
}

#[cfg(test)]
mod tests;

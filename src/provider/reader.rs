//! An answer on its way through: cut into events in any split of its bytes, metered, and let through or stopped.

use std::sync::Arc;

use bytes::BytesMut;

use super::ErrorAnswer;
use super::output::Output;
use super::skim::Skim;
use crate::money::{ExactCost, Money};
use crate::pricing::{ModelPrice, PriceTable, Tier, Usage};
use crate::wire::sse::{self, Event};

/// The largest answer, if it is no stream, that is kept and read with its texts. Of a larger one (embeddings, log
/// probabilities) only the top level is read.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The first byte of a gzip stream: no framing that we read begins with it.
const GZIP: u8 = 0x1f;

/// How much output may pass before an answer is cut. Counts are output tokens, all samples together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// The provider was told a limit that the hold pays for: cut only what *certainly* has more, so that no honest stream is cut.
    /// Certain is the exact count of the text that was streamed, or one token for each piece of it where no tokenizer is public.
    Certain(u64),
    /// The hold does not pay for all that the provider may generate (cut mode): cut what *may* have more. Counted by bytes,
    /// and by the tokenizer, where one is public, when the bytes reach the ceiling.
    Possible(u64),
}

/// What one piece of an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Go on.
    More,
    /// More output than the ceiling was seen: the answer must be cut before the event that crossed it, which was not emitted.
    Ceiling,
    /// The answer cannot be read any further (a frame beyond the limit, a broken checksum): it must be cut.
    Unreadable,
}

/// One part of a bill that has its own model or rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillLine {
    /// What was used.
    pub usage: Usage,
    /// In which tier.
    pub tier: Tier,
    /// By which model; `None`: the call's own.
    pub model: Option<String>,
    /// Every rate times this many thousandths.
    pub thousandths: u64,
}

/// What an answer said of its own bill so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The usage that the provider reported, if it did, and it is plausible.
    pub usage: Option<Usage>,
    /// The tier that the answer names.
    pub tier: Tier,
    /// The model that the answer names.
    pub model: Option<String>,
    /// Which row to take where that model has none of its own, and the factor on it in thousandths: the global one for a data zone.
    pub otherwise: Option<(String, u64)>,
    /// Every rate times this many thousandths: a region or mode that the answer names.
    pub thousandths: u64,
    /// What is billed beside tokens.
    pub fees: Money,
    /// What else is billed: passes of other models. Counts only together with `usage`.
    pub others: Vec<BillLine>,
    /// An upper bound of the output tokens seen in the stream itself (all samples), whatever usage says.
    pub streamed_tokens: u64,
    /// Usage that was missing its meaning: negative, not an integer, smaller than what was streamed. Raises a metric.
    pub odd_usage: bool,
    /// The provider's own terminal event was seen.
    pub finished: bool,
    /// The provider sent an error inside a stream.
    pub error: bool,
}

impl Default for Observed {
    fn default() -> Self {
        Observed {
            usage: None,
            tier: Tier::Standard,
            model: None,
            otherwise: None,
            thousandths: 1000,
            fees: Money::ZERO,
            others: Vec::new(),
            streamed_tokens: 0,
            odd_usage: false,
            finished: false,
            error: false,
        }
    }
}

impl Observed {
    /// What the provider's own usage comes to, at the tier and the model that the answer names; `price` is the row that the call was
    /// admitted with. `None` without usage.
    pub fn cost(&self, price: &Arc<ModelPrice>, prices: &PriceTable, provider: &str) -> Option<(Money, Usage)> {
        let usage = self.usage?;
        let row = |model: Option<&str>| {
            let named = model.and_then(|model| prices.for_model(provider, model));
            // The row that the call was admitted with stays in force for it, also when its price has changed meanwhile.
            named.filter(|row| row.id != price.id).unwrap_or(price).clone()
        };
        let has_row = |model: &str| prices.for_model(provider, model).is_some();
        let (model, factor) = match (&self.model, &self.otherwise) {
            (Some(model), Some((other, factor))) if !has_row(model) && has_row(other) => {
                (Some(other.as_str()), *factor)
            }
            (model, _) => (model.as_deref(), 1000),
        };
        let thousandths = self.thousandths.saturating_mul(factor).div_ceil(1000);
        let own = row(model).cost_scaled(&usage, self.tier, thousandths);
        let cost = self.others.iter().fold(own.and(ExactCost::of(self.fees)), |sum, line| {
            sum.and(row(line.model.as_deref()).cost_scaled(&line.usage, line.tier, line.thousandths))
        });
        Some((cost.rounded_up(), usage))
    }
}

/// Reads an answer, in any split of its bytes, and decides which bytes the client gets.
pub trait AnswerReader: Send + Sync {
    /// True when the answer comes in events, and is cut by an error event; false when it is one piece.
    fn is_stream(&self) -> bool;

    /// Takes the next bytes of the answer and appends to `emit` what the client may have of it by now: whole events only
    /// in a stream, without those that the client did not ask for.
    fn push(&mut self, bytes: &[u8], emit: &mut BytesMut) -> Progress;

    /// The answer is at its end: appends what is left.
    fn finish(&mut self, emit: &mut BytesMut) -> Progress;

    /// What is known of the bill. May run a tokenizer over text that was not counted yet when `exact` is asked for.
    fn observed(&mut self, exact: bool) -> &Observed;

    /// Bytes of a stream that were pushed and not metered: half an event, or what stands behind the event that crossed the ceiling.
    /// They may hold output that nothing else here counts.
    fn pending(&self) -> u64 {
        0
    }

    /// The last bytes of a stream that is cut here: an error event that the provider's SDKs raise. Empty for one piece.
    fn closing_event(&mut self, error: &ErrorAnswer<'_>) -> Vec<u8>;
}

/// What an event is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The client gets it.
    Always,
    /// Usage and nothing else: only for those who asked.
    UsageOnly,
}

/// What one API's answers mean. The readers below bring the bytes.
pub trait Dialect: Send + Sync {
    /// Takes one event of a stream.
    fn event(&mut self, event: &Event<'_>) -> Show;

    /// Takes a whole answer, or its top level. False when it is no JSON object.
    fn object(&mut self, body: &[u8]) -> bool;

    /// The arrays at the top level of the answer that is taken next had content, and are empty in what is taken: they were too much to
    /// keep, or the answer is not strict JSON. What would be billed by their content is not known.
    fn lost_items(&mut self) {}

    /// Takes what is not what the API sends: it may be text, and it may have been the usage.
    fn garbage(&mut self, data: &[u8]) {
        self.output().bytes(data.len() as u64);
    }

    /// A whole answer is at its end.
    fn complete(&mut self) {}

    /// What was generated.
    fn output(&mut self) -> &mut Output;

    /// What is known of the bill.
    fn observed(&mut self, exact: bool) -> &Observed;

    /// The error event that ends a stream in mid-air; `begun` when an event was let through before.
    fn closing_event(&mut self, error: &ErrorAnswer<'_>, begun: bool) -> Vec<u8>;
}

/// Cuts the bytes of a stream into events. The raw bytes of all events, one after the other, are the bytes that came.
pub trait Framing: Default + Send + Sync {
    /// Takes the next bytes and calls `each` for every event that they complete. Stops when it says `false`. An error: unreadable.
    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable>;

    /// The stream is at its end: what is left is an event too, or makes the stream unreadable.
    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable>;
}

/// The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Framing for sse::Decoder {
    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable> {
        sse::Decoder::push(self, bytes, each).map_err(|_| Unreadable)
    }

    fn finish(&mut self, each: &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable> {
        sse::Decoder::finish(self, each);
        Ok(())
    }
}

/// Reads a stream of events.
pub struct Events<D, F = sse::Decoder> {
    dialect: D,
    framing: F,
    shows_usage: bool,
    is_started: bool,
    /// Bytes that came, and are in no event that the dialect took.
    pending: u64,
    /// An event was let through.
    begun: bool,
    /// The end that was reached, after which nothing is emitted.
    ended: Option<Progress>,
}

impl<D: Dialect, F: Framing> Events<D, F> {
    /// A reader; `shows_usage` when the client gets events that hold nothing but usage.
    pub fn new(dialect: D, shows_usage: bool) -> Self {
        let framing = F::default();
        Events { dialect, framing, shows_usage, is_started: false, pending: 0, begun: false, ended: None }
    }

    /// Runs the framing over bytes and takes each event; one that crosses the ceiling is not emitted.
    fn take(
        &mut self,
        emit: &mut BytesMut,
        read: impl FnOnce(&mut F, &mut dyn FnMut(Event<'_>) -> bool) -> Result<(), Unreadable>,
    ) -> Progress {
        let (dialect, shows_usage, begun) = (&mut self.dialect, self.shows_usage, &mut self.begun);
        let pending = &mut self.pending;
        let mut is_within = true;
        let read = read(&mut self.framing, &mut |event| {
            let show = dialect.event(&event);
            *pending = pending.saturating_sub(event.raw.len() as u64);
            is_within = !dialect.output().is_over_ceiling();
            if is_within && (show == Show::Always || shows_usage) {
                emit.extend_from_slice(event.raw);
                *begun = true;
            }
            is_within
        });
        match read {
            Err(Unreadable) => Progress::Unreadable,
            Ok(()) if !is_within => Progress::Ceiling,
            Ok(()) => Progress::More,
        }
    }
}

impl<D: Dialect, F: Framing> AnswerReader for Events<D, F> {
    fn is_stream(&self) -> bool {
        true
    }

    fn push(&mut self, bytes: &[u8], emit: &mut BytesMut) -> Progress {
        self.pending = self.pending.saturating_add(bytes.len() as u64);
        if let Some(ended) = self.ended {
            return ended;
        }
        let is_first = !self.is_started;
        self.is_started |= !bytes.is_empty();
        let progress = if is_first && bytes.first() == Some(&GZIP) {
            Progress::Unreadable
        } else {
            self.take(emit, |framing, each| framing.push(bytes, each))
        };
        self.ended = (progress != Progress::More).then_some(progress);
        progress
    }

    fn finish(&mut self, emit: &mut BytesMut) -> Progress {
        if let Some(ended) = self.ended {
            return ended;
        }
        let ended = self.take(emit, |framing, each| framing.finish(each));
        self.ended = Some(ended);
        ended
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.dialect.observed(exact)
    }

    fn pending(&self) -> u64 {
        self.pending
    }

    fn closing_event(&mut self, error: &ErrorAnswer<'_>) -> Vec<u8> {
        self.dialect.closing_event(error, self.begun)
    }
}

/// Reads an answer that is one JSON object. Its bytes pass as they come.
pub struct Whole<D> {
    dialect: D,
    /// The answer so far, until it is too large.
    body: Vec<u8>,
    /// Takes over when it is.
    skim: Option<Skim>,
    ended: Option<Progress>,
}

impl<D: Dialect> Whole<D> {
    /// A reader for such an answer.
    pub fn new(dialect: D) -> Self {
        Whole { dialect, body: Vec::new(), skim: None, ended: None }
    }
}

impl<D: Dialect> AnswerReader for Whole<D> {
    fn is_stream(&self) -> bool {
        false
    }

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
        let is_read = self.skim.is_none() && self.dialect.object(body.trim_ascii());
        if !is_read {
            let skim = self.skim.get_or_insert_default();
            skim.push(&body);
            self.dialect.output().bytes(skim.bytes);
            if skim.has_gaps {
                self.dialect.lost_items();
            }
            let kept = std::mem::take(&mut skim.kept);
            if !self.dialect.object(kept.trim_ascii()) {
                self.dialect.garbage(&kept);
            }
        }
        self.dialect.complete();
        self.ended = Some(Progress::More);
        Progress::More
    }

    fn observed(&mut self, exact: bool) -> &Observed {
        self.dialect.observed(exact)
    }

    fn closing_event(&mut self, _error: &ErrorAnswer<'_>) -> Vec<u8> {
        Vec::new()
    }
}

//! What an answer says of its bill, in whichever of the family's APIs it comes.

use std::sync::Arc;

use super::azure::deployments;
use super::profile::Profile;
use super::usage::{self, Odd};
use crate::pricing::{ModelPrice, Usage};
use crate::provider::output::Output;
use crate::provider::{Call, Ceiling, Observed};
use crate::wire::json::Value;

/// Sums up an answer.
pub struct Bill {
    price: Arc<ModelPrice>,
    /// Goes before the name of a model in the answer: `us/` where the call's own row is `azure/us/…`.
    zone: String,
    /// What was generated.
    pub output: Output,
    usage: Option<Usage>,
    /// Something came after the usage that may have been a later one, or what it does not count. A later usage is the last word again.
    is_overtaken: bool,
    /// Something came that leaves every usage in doubt, whether it was said before or after.
    is_void: bool,
    /// True when the usage is that of the whole answer, not of the answer so far.
    pub is_final: bool,
    /// What is known so far; usage only in what [`Bill::observed`] gives.
    pub observed: Observed,
}

impl Bill {
    /// The bill of a call's answer.
    pub fn new(profile: &Profile, call: &Call, ceiling: Ceiling) -> Bill {
        let row = call.price.id.split_once('/').map_or("", |(_, model)| model);
        let zone = row.rfind('/').filter(|_| profile.deployments).map_or("", |at| &row[..=at]);
        // Until the answer says otherwise: where nothing could be said of the tier, the dearer one that was held for.
        let tier = call.terms.tiers.first().copied().unwrap_or_default();
        Bill {
            zone: zone.into(),
            output: Output::new(call.price.tokenizer, ceiling),
            price: call.price.clone(),
            usage: None,
            is_overtaken: false,
            is_void: false,
            is_final: false,
            observed: Observed { tier, thousandths: call.terms.thousandths, ..Observed::default() },
        }
    }

    /// Takes the model that the answer names first. Azure's first chunk names an empty one.
    pub fn model(&mut self, value: Value<'_>) {
        let name = value.as_str().filter(|name| !name.is_empty());
        if let (None, Some(name)) = (&self.observed.model, name) {
            self.observed.model = Some(format!("{}{name}", self.zone));
            // A deployment that was moved to a model without a row for its zone is billed by the global one, and the zone's surcharge.
            if let Some(zone) = self.zone.strip_suffix('/') {
                self.observed.otherwise = Some((name.to_string(), deployments::surcharge(zone, &name)));
            }
        }
    }

    /// Takes the tier that the answer names.
    pub fn tier(&mut self, value: Value<'_>) {
        if let Some(name) = value.as_str() {
            self.observed.tier = usage::tier(&name);
        }
    }

    /// True when a usage was reported, and nothing makes it doubtful.
    pub fn has_usage(&self) -> bool {
        self.certain_usage().is_some()
    }

    fn certain_usage(&self) -> Option<Usage> {
        self.usage.filter(|_| !self.is_overtaken && !self.is_void)
    }

    /// Takes a usage object, and what was read of it. A later one replaces an earlier one, as it is the sum so far; one that shrinks
    /// does not.
    pub fn report(&mut self, reported: Value<'_>, read: Result<Usage, Odd>) {
        let Ok(new) = read else {
            self.observed.odd_usage = true;
            // What was read before is not the last word. How much this one tells nobody knows, and so not whether a later one tells all
            // of it, unless it tells of nothing.
            self.is_overtaken = true;
            self.is_void |= !usage::is_blank(reported);
            return;
        };
        self.is_overtaken = false;
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

    /// What was said of usage so far is not the last word.
    pub fn overtake(&mut self) {
        self.is_overtaken = true;
    }

    /// The provider sent an error in the middle of an answer: what it bills is not known, whatever it says of usage.
    pub fn fail(&mut self) {
        self.observed.error = true;
        self.is_void = true;
    }

    /// Takes what is not what the API sends: it may be text that the usage so far does not count, and it may have been the usage.
    pub fn garbage(&mut self, data: &[u8]) {
        self.output.bytes(data.len() as u64);
        self.is_overtaken |= !self.is_final && !self.observed.finished;
        if usage::may_be_in(data) {
            self.observed.odd_usage = true;
            self.is_void = true;
        }
    }

    /// The usage is not all that is billed: as if there was none.
    pub fn forget_usage(&mut self) {
        self.observed.odd_usage |= self.usage.take().is_some();
    }

    /// What is known of the bill.
    pub fn observed(&mut self, exact: bool) -> &Observed {
        self.observed.streamed_tokens = self.output.streamed_tokens(exact);
        self.observed.usage = None;
        if self.is_final || self.observed.finished {
            self.observed.usage = self.certain_usage();
            self.raise_to_what_was_seen(exact);
        }
        &self.observed
    }

    /// A usage below the fewest tokens that can spell what was streamed is not true: what was streamed is charged, or the hold where
    /// no tokenizer is public.
    fn raise_to_what_was_seen(&mut self, exact: bool) {
        let Some(usage) = self.observed.usage else { return };
        // Reasoning that was shown is among the texts, otherwise it is not.
        let hidden = if self.output.shows_reasoning() { 0 } else { usage.reasoning };
        let visible = usage.output.saturating_sub(hidden);
        if self.output.belies(visible) {
            self.observed.odd_usage = true;
            self.observed.usage = None;
            return;
        }
        if !exact && !self.output.has_more_words_than(visible) {
            return;
        }
        if let Some(seen) = self.output.more_than_reported(visible) {
            self.observed.odd_usage = true;
            let output = hidden.saturating_add(seen);
            self.observed.usage = Some(Usage { output, ..usage });
        }
    }
}

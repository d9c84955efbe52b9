//! The money held for one call: whoever owns a [`Hold`] owes the ledger exactly one settlement.

use std::sync::Arc;

use super::app::App;
use super::settler::Job;
use crate::ledger::{Charge, HoldRef};
use crate::money::Money;
use crate::observe::metrics;

/// A hold that must be settled. Dropped without a settlement (panic, cancelled request, end of the process) it is
/// charged in full if the call may have reached the provider, else not at all.
#[must_use = "a hold that nobody settles is charged in full"]
pub struct Hold {
    app: Arc<App>,
    at: Arc<HoldRef>,
    provider: Arc<str>,
    /// `provider/model`.
    model: Arc<str>,
    granted: Money,
    taken: bool,
    sent: bool,
    settled: bool,
    ending: Option<u64>,
}

impl Hold {
    /// Takes responsibility before the reserve is sent: if its answer is lost, the hold is released all the same.
    pub fn before_reserve(app: Arc<App>, at: HoldRef, provider: Arc<str>, model: Arc<str>) -> Hold {
        let at = Arc::new(at);
        Hold { app, at, provider, model, granted: Money::ZERO, taken: false, sent: false, settled: false, ending: None }
    }

    /// The ledger holds `granted`.
    pub fn taken(&mut self, granted: Money) {
        self.granted = granted;
        self.taken = true;
        metrics::hold_opened(granted);
    }

    /// The ledger took nothing: there is nothing to settle.
    pub fn nothing_taken(mut self) {
        self.settled = true;
    }

    /// From now on the provider may have seen the call.
    pub fn sent(&mut self) {
        self.sent = true;
        failpoint!("call_sent");
    }

    /// True when the provider may have seen the call.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// What is held.
    pub fn granted(&self) -> Money {
        self.granted
    }

    /// Where it was taken from.
    pub fn at(&self) -> &Arc<HoldRef> {
        &self.at
    }

    /// The client is about to see the end of the call: who is refused from now on waits for this hold's settlement first.
    pub fn ends(&mut self) {
        if self.ending.is_none() {
            self.ending = Some(self.app.settler.announce());
        }
    }

    /// Ends the hold.
    pub fn settle(mut self, charge: Charge) {
        self.hand_over(charge);
    }

    fn hand_over(&mut self, charge: Charge) {
        self.ends();
        if self.taken {
            self.app.running.remove(&self.at.hold);
            metrics::hold_closed(self.granted);
        }
        self.app.settler.push(Job {
            at: self.at.clone(),
            charge,
            provider: self.provider.clone(),
            model: self.model.clone(),
            taken: self.taken,
            ending: self.ending.unwrap_or_default(),
        });
        // Last of all: whatever fails before leaves it owed.
        self.settled = true;
        failpoint!("settlement_queued");
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.settled {
            self.hand_over(if self.sent { Charge::Full } else { Charge::Exact(Money::ZERO) });
        }
    }
}

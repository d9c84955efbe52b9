//! What a call is charged, decided from what is known at its end and nothing else.

use std::sync::Arc;

use super::admit;
use super::answer::{CutReason, Meter};
use crate::config::OnDisconnect;
use crate::ledger::Charge;
use crate::money::Money;
use crate::pricing::PriceTable;
use crate::provider::{Call, Provider};

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The provider may have seen the call.
    pub sent: bool,
    /// What is held.
    pub granted: Money,
    /// An operator, a deadline or a shutdown ended it.
    pub is_stopped: bool,
    /// The meter ended it.
    pub cut: Option<CutReason>,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The answer came to its end.
    pub is_complete: bool,
    /// The call failed on its client's side.
    pub client_left: bool,
    /// What the config says of clients that leave.
    pub on_disconnect: Option<OnDisconnect>,
    /// Bytes of the answer that had come without having been metered, when it was decided to end the call; each may be a token. `None`:
    /// not known, or too many to tell.
    pub unmetered: Option<u64>,
}

/// The charge. Doubt charges in full; only what the provider certainly did not bill is free. `prices` come with the provider's name.
pub fn charge(
    outcome: &Outcome,
    provider: &dyn Provider,
    call: &Arc<Call>,
    prices: (&PriceTable, &str),
    mut meter: Option<&mut Meter>,
) -> Charge {
    if !outcome.sent {
        return Charge::Exact(Money::ZERO);
    }
    let granted = outcome.granted;
    let reported = meter.as_deref_mut().and_then(|meter| {
        // Usage in mid-answer may still grow: it counts once the answer is at its end.
        let at_end = outcome.is_complete || meter.finished();
        at_end.then(|| meter.reported_cost(prices.0, prices.1)).flatten().map(|(cost, _)| cost)
    });
    if let Some(cost) = reported {
        return if outcome.cut.is_some() { Charge::Exact(cost.max(granted)) } else { Charge::Exact(cost) };
    }
    let cancelled = outcome.client_left && !outcome.is_stopped && outcome.on_disconnect == Some(OnDisconnect::Cancel);
    let ended_early = (outcome.is_stopped && provider.drop_stops_bill()) || cancelled;
    // What was cut at its hold has used it up, and what cannot be read may hold anything.
    if ended_early
        && outcome.cut.is_none()
        && call.cuttable
        && let Some(unmetered) = outcome.unmetered
    {
        let in_flight = admit::in_flight(0).saturating_add(unmetered);
        match meter.as_deref_mut() {
            Some(meter) if meter.is_stream() => return Charge::Exact(meter.generated_cost(in_flight)),
            // Before its head a stream has generated nothing but what is in flight.
            None if outcome.status.is_none() => {
                return Charge::Exact(call.worst(call.input_max, in_flight).min(granted));
            }
            _ => {}
        }
    }
    // A refusal that speaks of usage, if only in a way that is not understood, may have been billed.
    let is_odd = meter.is_some_and(Meter::odd);
    match outcome.status {
        Some(status) if outcome.cut != Some(CutReason::HoldReached) && !is_odd && provider.unbilled_status(status) => {
            Charge::Exact(Money::ZERO)
        }
        _ => Charge::Full,
    }
}

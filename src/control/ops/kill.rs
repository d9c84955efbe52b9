//! The kill switch with its effect: which running calls it ended, and what was saved.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::OpError;
use super::holds::HOLDS_MOST;
use super::stop::{Changed, Place, Target, beside, carry_out, plan};
use crate::ledger::{HoldId, HoldInfo, HoldState, Ledger, LedgerError, State};
use crate::money::Money;

/// Every gateway cuts within a second; settling takes a moment more.
const WAIT: Duration = Duration::from_millis(2_500);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a kill did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Killed {
    /// What is stopped now.
    #[serde(flatten)]
    pub states: Changed,
    /// Calls that ran when it was stopped, and have ended since.
    pub cut: usize,
    /// Calls that still hold money: their gateway died, or their provider is read to its usage.
    pub running: usize,
    /// What the ended calls had held.
    pub held_usd: String,
    /// What they were charged.
    pub charged_usd: String,
    /// What they held and did not spend.
    pub saved_usd: String,
}

/// Stops `target`, then waits a moment for the gateways to cut what runs under it.
pub async fn kill(ledger: &Ledger, target: &Target) -> Result<Killed, OpError> {
    let plan = plan(ledger, target, State::Killed).await?;
    let places = &plan.places;
    // Beside the stop, which waits for nothing: gateways may have cut and settled the first calls before it has reached the last place.
    let (states, seen) = tokio::join!(carry_out(ledger, &plan, State::Killed), seen(ledger, places));
    let (states, (before, mut all)) = (states?, seen?);
    let mut left = HashSet::new();
    // Calls that were admitted in between.
    for hold in open(ledger, places).await? {
        left.insert(hold.at.hold.clone());
        if all.iter().all(|known| known.at.hold != hold.at.hold) {
            all.push(hold);
        }
    }
    let deadline = Instant::now() + WAIT;
    while !left.is_empty() && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
        let now: HashSet<HoldId> = open(ledger, places).await?.into_iter().map(|hold| hold.at.hold).collect();
        left.retain(|hold| now.contains(hold));
    }
    let charged = spent(ledger, places).await?.saturating_sub(before);
    let ended = all.iter().filter(|hold| !left.contains(&hold.at.hold));
    let held = ended.fold(Money::ZERO, |sum, hold| sum.saturating_add(hold.amount));
    Ok(Killed {
        states,
        cut: all.len() - left.len(),
        running: left.len(),
        held_usd: held.to_string(),
        charged_usd: charged.to_string(),
        saved_usd: held.saturating_sub(charged).to_string(),
    })
}

/// What was spent, and then what runs: a call that ends in between is not counted, and what it cost lowers the saving.
async fn seen(ledger: &Ledger, places: &[Place]) -> Result<(Money, Vec<HoldInfo>), LedgerError> {
    let spent = spent(ledger, places).await?;
    Ok((spent, open(ledger, places).await?))
}

fn covers(place: &Place, hold: &HoldInfo) -> bool {
    let session = place.session.as_deref();
    hold.at.chain.contains(&place.node) && (session.is_none() || session == hold.at.session.as_deref())
}

async fn open(ledger: &Ledger, places: &[Place]) -> Result<Vec<HoldInfo>, LedgerError> {
    let mut holds = ledger.holds(HOLDS_MOST).await?;
    holds.retain(|hold| hold.state == HoldState::Open && places.iter().any(|place| covers(place, hold)));
    Ok(holds)
}

async fn spent(ledger: &Ledger, places: &[Place]) -> Result<Money, LedgerError> {
    let each = beside(places, |place| {
        let ledger = ledger.clone();
        async move { spent_at(&ledger, &place).await }
    });
    each.await.into_iter().try_fold(Money::ZERO, |sum, spent| Ok(sum.saturating_add(spent?)))
}

async fn spent_at(ledger: &Ledger, place: &Place) -> Result<Money, LedgerError> {
    Ok(match &place.session {
        None => ledger.status(&place.node).await?.charged_total,
        Some(id) => ledger.session(&place.node, id).await?.map_or(Money::ZERO, |session| session.spent),
    })
}

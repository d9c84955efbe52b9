//! The kill switch with its effect: which running calls it ended, and what was saved.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::holds::HOLDS_MOST;
use super::stop::{Changed, Target, set_state};
use super::{OpError, StateChange, directory};
use crate::ledger::{HoldId, HoldInfo, HoldState, Ledger, LedgerError, Level, NodeId, State};
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
    let states = set_state(ledger, target, State::Killed).await?;
    let mut places = Vec::new();
    for change in &states.changed {
        places.push(Place::of(ledger, change).await?);
    }
    // The spending is read before the holds: a call that ends in between is not counted, and what it cost lowers the saving.
    let before = spent(ledger, &places).await?;
    let all = open(ledger, &places).await?;
    let deadline = Instant::now() + WAIT;
    let mut left: HashSet<HoldId> = all.iter().map(|hold| hold.at.hold.clone()).collect();
    while !left.is_empty() && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
        let now: HashSet<HoldId> = open(ledger, &places).await?.into_iter().map(|hold| hold.at.hold).collect();
        left.retain(|hold| now.contains(hold));
    }
    let charged = spent(ledger, &places).await?.saturating_sub(before);
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

/// What was stopped: a node, or one session of a key.
struct Place {
    node: NodeId,
    session: Option<String>,
}

impl Place {
    async fn of(ledger: &Ledger, change: &StateChange) -> Result<Place, OpError> {
        let session = change.level == Level::Session;
        // A session's change carries the session's id, and its key's name.
        let name = if session { &change.name } else { &change.id };
        let node = directory::find(ledger, name).await?.id().clone();
        Ok(Place { node, session: session.then(|| change.id.clone()) })
    }

    fn covers(&self, hold: &HoldInfo) -> bool {
        let session = self.session.as_deref();
        hold.at.chain.contains(&self.node) && (session.is_none() || session == hold.at.session.as_deref())
    }
}

async fn open(ledger: &Ledger, places: &[Place]) -> Result<Vec<HoldInfo>, LedgerError> {
    let mut holds = ledger.holds(HOLDS_MOST).await?;
    holds.retain(|hold| hold.state == HoldState::Open && places.iter().any(|place| place.covers(hold)));
    Ok(holds)
}

async fn spent(ledger: &Ledger, places: &[Place]) -> Result<Money, LedgerError> {
    let mut sum = Money::ZERO;
    for place in places {
        let spent = match &place.session {
            None => ledger.status(&place.node).await?.charged_total,
            Some(id) => ledger.session(&place.node, id).await?.map_or(Money::ZERO, |session| session.spent),
        };
        sum = sum.saturating_add(spent);
    }
    Ok(sum)
}

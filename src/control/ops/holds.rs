//! Holds: what running calls keep, and what expired in doubt and was charged in full.

use serde::Serialize;

use super::views::amount;
use super::{HoldView, OpError};
use crate::ledger::{Charge, HoldState, Ledger, Settled};
use crate::money::Money;

/// The most holds that a listing looks at.
pub(super) const HOLDS_MOST: usize = 100_000;

/// What a release did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The hold.
    pub id: String,
    /// Charged now.
    pub charged_usd: String,
    /// Given back: held or charged before, and not charged now.
    pub returned_usd: String,
}

/// Open and expired holds.
pub async fn holds_list(ledger: &Ledger) -> Result<Vec<HoldView>, OpError> {
    Ok(ledger.holds(HOLDS_MOST).await?.iter().map(HoldView::from).collect())
}

/// Corrects a hold that expired, and was charged in full, to what the call really cost: nothing, unless `charged` says
/// otherwise. A hold whose call may still run is left alone unless `force` is given.
pub async fn holds_release(ledger: &Ledger, id: &str, charged: Option<&str>, force: bool) -> Result<Released, OpError> {
    let cost = charged.map(|text| amount("charged", text)).transpose()?.unwrap_or(Money::ZERO);
    let holds = ledger.holds(HOLDS_MOST).await?;
    let hold = holds.iter().find(|hold| &*hold.at.hold.0 == id).ok_or_else(|| {
        OpError::not_found(format!("there is no open or expired hold `{id}`")).hint("`loopers holds list` shows them")
    })?;
    if hold.state == HoldState::Open && !force {
        return Err(OpError::conflict("this hold is open: its call may still run, and its provider may still bill")
            .hint("wait until it is settled or expires; --force releases it all the same"));
    }
    if cost > hold.amount {
        return Err(OpError::invalid(format!("charged: {cost} is more than the {} that the hold has", hold.amount)));
    }
    match ledger.settle(&hold.at, Charge::Exact(cost)).await? {
        Settled::Applied { charged, held: before } | Settled::Corrected { charged, before } => Ok(Released {
            id: id.to_string(),
            charged_usd: charged.to_string(),
            returned_usd: before.saturating_sub(charged).to_string(),
        }),
        // By this command, whose first answer was lost; or by somebody else who knew the same.
        Settled::Already { charged } if charged == cost => Ok(Released {
            id: id.to_string(),
            charged_usd: charged.to_string(),
            returned_usd: hold.amount.saturating_sub(charged).to_string(),
        }),
        Settled::Already { charged } => {
            Err(OpError::conflict(format!("hold `{id}` was settled in the meantime, at {charged} USD")))
        }
        Settled::Unknown => Err(OpError::not_found(format!("hold `{id}` is gone"))),
    }
}

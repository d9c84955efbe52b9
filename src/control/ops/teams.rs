//! Teams: made, listed, shown, paused and resumed.

use serde::Deserialize;

use super::directory::{CHAIN_MOST, Directory, check_name};
use super::{Amounts, OpError, TeamView};
use crate::clock::Millis;
use crate::ledger::{Edit, Ledger, NodeId, State, TeamRecord};
use crate::secret::random_hex;

/// A new team, as a person says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewTeam {
    /// A name that no other team has.
    pub name: String,
    /// The team above it, by id or name.
    pub parent: Option<String>,
    /// Its limits.
    pub limits: Amounts,
}

/// Makes a team.
pub async fn team_create(ledger: &Ledger, now: Millis, new: &NewTeam) -> Result<TeamView, OpError> {
    check_name(&new.name)?;
    let directory = Directory::load(ledger).await?;
    if directory.teams().any(|team| team.name == new.name) {
        return Err(OpError::conflict(format!("there is a team `{}` already", new.name)));
    }
    let parent = new.parent.as_deref().map(|parent| directory.team(parent)).transpose()?;
    let record = TeamRecord {
        id: NodeId::from(format!("t_{}", random_hex::<8>()?).as_str()),
        name: new.name.clone(),
        parent: parent.map(|parent| parent.id.clone()),
        created_at: now,
        state: State::Active,
        limits: new.limits.limits()?,
    };
    // The team itself, and a key below it.
    if directory.above(&crate::ledger::Node::Team(record.clone())).len() + 2 > CHAIN_MOST {
        return Err(OpError::invalid(format!("a tree has at most {CHAIN_MOST} levels, a key included")));
    }
    ledger.create_team(&record).await?;
    Ok(TeamView::of(&record, &directory))
}

/// All teams, oldest first.
pub async fn team_list(ledger: &Ledger) -> Result<Vec<TeamView>, OpError> {
    let directory = Directory::load(ledger).await?;
    Ok(directory.teams().map(|team| TeamView::of(team, &directory)).collect())
}

/// One team.
pub async fn team_show(ledger: &Ledger, name: &str) -> Result<TeamView, OpError> {
    let directory = Directory::load(ledger).await?;
    Ok(TeamView::of(directory.team(name)?, &directory))
}

/// Pauses or resumes a team, and with it everything below.
pub async fn team_state(ledger: &Ledger, name: &str, state: State) -> Result<TeamView, OpError> {
    let id = {
        let directory = Directory::load(ledger).await?;
        let record = directory.team(name)?;
        if record.state == State::Killed && state == State::Paused {
            return Err(OpError::conflict(format!("team `{}` is killed, which stops it already", record.name)));
        }
        record.id.clone()
    };
    ledger.edit(&id, &Edit::State(state)).await?;
    team_show(ledger, id.as_str()).await
}

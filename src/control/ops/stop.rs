//! The kill switch, and what lifts it: keys, teams, sessions, or everything.

use std::collections::BTreeSet;

use serde::Serialize;

use super::directory::{self, Directory};
use super::holds::HOLDS_MOST;
use super::{OpError, StateChange};
use crate::ledger::{Edit, Ledger, Level, Node, NodeId, State};

/// What to stop or resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A key or a team, by id or name.
    Node(String),
    /// A session.
    Session {
        /// Its id.
        id: String,
        /// Its key, by id or name, where more than one key has such a session.
        key: Option<String>,
    },
    /// Every tree.
    All,
}

/// What was changed, and what was not touched and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Everything that is in the new state now.
    pub changed: Vec<StateChange>,
    /// Everything that `--all` met and left as it was.
    pub unchanged: Vec<StateChange>,
}

/// Kills (`State::Killed`) or resumes (`State::Active`).
pub async fn set_state(ledger: &Ledger, target: &Target, state: State) -> Result<Changed, OpError> {
    match target {
        Target::Node(name) => {
            let node = directory::find(ledger, name).await?;
            if state_of(&node) == State::Revoked {
                return Err(OpError::conflict(format!("`{}` is revoked for ever", node.name())));
            }
            ledger.edit(node.id(), &Edit::State(state)).await?;
            Ok(Changed { changed: vec![change(&node, state)], unchanged: Vec::new() })
        }
        Target::Session { id, key } => session(ledger, id, key.as_deref(), state).await,
        Target::All => all(ledger, state).await,
    }
}

/// Every root: killing a root stops everything below. What is stopped already stays as it is, so that resuming everything
/// lifts only kills, never a pause.
async fn all(ledger: &Ledger, state: State) -> Result<Changed, OpError> {
    let directory = Directory::load(ledger).await?;
    let from = if state == State::Active { State::Killed } else { State::Active };
    let mut done = Changed::default();
    let mut failed = None;
    for node in directory.all().iter().filter(|node| directory::parent(node).is_none()) {
        if state_of(node) != from {
            done.unchanged.push(change(node, state_of(node)));
            continue;
        }
        // One tree that fails must not keep the others running.
        match ledger.edit(node.id(), &Edit::State(state)).await {
            Ok(()) => done.changed.push(change(node, state)),
            Err(error) => failed = Some((node.id().clone(), error)),
        }
    }
    match failed {
        None => Ok(done),
        Some((id, error)) => {
            let mut said = OpError::from(error);
            said.message =
                format!("{id} and perhaps others could not be changed ({} were): {}", done.changed.len(), said.message);
            Err(said.hint("run it again: what is done already stays done"))
        }
    }
}

async fn session(ledger: &Ledger, id: &str, key: Option<&str>, state: State) -> Result<Changed, OpError> {
    let named = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    if !named || !(1..=128).contains(&id.len()) {
        return Err(OpError::invalid("a session id is 1 to 128 letters, digits or ._:-"));
    }
    let directory = Directory::load(ledger).await?;
    let key = match key {
        Some(key) => directory.key(key)?.clone(),
        None => {
            let id = owner(ledger, &directory, id).await?;
            directory.key(id.as_str())?.clone()
        }
    };
    ledger.set_session_state(&key.id, id, state).await?;
    let change = StateChange { id: id.to_string(), name: key.name, level: Level::Session, state };
    Ok(Changed { changed: vec![change], unchanged: Vec::new() })
}

/// The one key that has a session of this id: seen in the holds of running calls, else by asking for each key.
async fn owner(ledger: &Ledger, directory: &Directory, session: &str) -> Result<NodeId, OpError> {
    let holds = ledger.holds(HOLDS_MOST).await?;
    let held = holds.iter().filter(|hold| hold.at.session.as_deref() == Some(session));
    let mut owners: BTreeSet<NodeId> = held.filter_map(|hold| hold.at.chain.first().cloned()).collect();
    if owners.is_empty() {
        for key in directory.keys() {
            if ledger.session(&key.id, session).await?.is_some() {
                owners.insert(key.id.clone());
            }
        }
    }
    let mut names = owners.iter().filter_map(|id| directory.by_id(id).map(|node| node.name().to_string()));
    match (owners.first(), owners.len()) {
        (Some(id), 1) => Ok(id.clone()),
        (None, _) => Err(OpError::not_found(format!("no key has a session `{session}`"))
            .hint("with --key K it is stopped before its first call")),
        _ => {
            let list = names.by_ref().collect::<Vec<_>>().join(", ");
            Err(OpError::conflict(format!("more than one key has a session `{session}`: {list}"))
                .hint("say which one with --key K"))
        }
    }
}

fn state_of(node: &Node) -> State {
    match node {
        Node::Key(key) => key.state,
        Node::Team(team) => team.state,
    }
}

fn change(node: &Node, state: State) -> StateChange {
    let level = if node.id().is_team() { Level::Team } else { Level::Key };
    StateChange { id: node.id().to_string(), name: node.name().to_string(), level, state }
}

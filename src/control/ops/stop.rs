//! The kill switch, and what lifts it: keys, teams, sessions, or everything.

use std::collections::BTreeSet;

use serde::Serialize;
use tokio::task::JoinSet;

use super::directory::{self, Directory};
use super::holds::HOLDS_MOST;
use super::{OpError, StateChange};
use crate::ledger::{Edit, Ledger, LedgerError, Level, Node, NodeId, State};

/// Places that are changed, or asked, at once.
const BESIDE: usize = 64;

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
    let plan = plan(ledger, target, state).await?;
    carry_out(ledger, &plan, state).await
}

/// What is to be changed, and what stays as it is and why.
pub(super) struct Plan {
    pub places: Vec<Place>,
    unchanged: Vec<StateChange>,
}

/// A key or a team, or one session of a key.
#[derive(Clone)]
pub(super) struct Place {
    pub node: NodeId,
    pub session: Option<String>,
    name: String,
}

impl Place {
    fn of(node: &Node) -> Place {
        Place { node: node.id().clone(), session: None, name: node.name().to_string() }
    }

    async fn put_into(&self, ledger: &Ledger, state: State) -> Result<(), LedgerError> {
        match &self.session {
            Some(session) => ledger.set_session_state(&self.node, session, state).await,
            None => ledger.edit(&self.node, &Edit::State(state)).await,
        }
    }

    fn changed_to(&self, state: State) -> StateChange {
        let level = match &self.session {
            Some(_) => Level::Session,
            None if self.node.is_team() => Level::Team,
            None => Level::Key,
        };
        let id = self.session.clone().unwrap_or_else(|| self.node.to_string());
        StateChange { id, name: self.name.clone(), level, state }
    }
}

/// Finds what a target means; changes nothing.
pub(super) async fn plan(ledger: &Ledger, target: &Target, state: State) -> Result<Plan, OpError> {
    match target {
        Target::Node(name) => {
            let node = directory::find(ledger, name).await?;
            if state_of(&node) == State::Revoked {
                return Err(OpError::conflict(format!("`{}` is revoked for ever", node.name())));
            }
            Ok(Plan { places: vec![Place::of(&node)], unchanged: Vec::new() })
        }
        Target::Session { id, key } => {
            let place = session(ledger, id, key.as_deref()).await?;
            Ok(Plan { places: vec![place], unchanged: Vec::new() })
        }
        Target::All => all(ledger, state).await,
    }
}

/// Changes it: many places beside each other, for the last one must not wait until all others have had their turn.
pub(super) async fn carry_out(ledger: &Ledger, plan: &Plan, state: State) -> Result<Changed, OpError> {
    let results = beside(&plan.places, |place| {
        let ledger = ledger.clone();
        async move {
            let result = place.put_into(&ledger, state).await;
            (place, result)
        }
    })
    .await;
    let mut done = Changed { changed: Vec::new(), unchanged: plan.unchanged.clone() };
    let mut failed = None;
    for (place, result) in results {
        // One tree that fails must not keep the others running.
        match result {
            Ok(()) => done.changed.push(place.changed_to(state)),
            Err(error) => failed = Some((place, error)),
        }
    }
    done.changed.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    match failed {
        None => Ok(done),
        Some((_, error)) if plan.places.len() == 1 => Err(error.into()),
        Some((place, error)) => {
            let mut said = OpError::from(error);
            said.message = format!(
                "{} and perhaps others could not be changed ({} were): {}",
                place.node,
                done.changed.len(),
                said.message
            );
            Err(said.hint("run it again: what is done already stays done"))
        }
    }
}

/// Does `task` for each of the items, [`BESIDE`] at a time; the results are in no order.
pub(super) async fn beside<I, T, F>(items: &[I], task: impl Fn(I) -> F) -> Vec<T>
where
    I: Clone,
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut results = Vec::with_capacity(items.len());
    for some in items.chunks(BESIDE) {
        results.extend(some.iter().cloned().map(&task).collect::<JoinSet<T>>().join_all().await);
    }
    results
}

/// Every root: killing a root stops everything below. What is stopped already stays as it is, so that resuming everything
/// lifts only kills, never a pause.
async fn all(ledger: &Ledger, state: State) -> Result<Plan, OpError> {
    let directory = Directory::load(ledger).await?;
    let from = if state == State::Active { State::Killed } else { State::Active };
    let roots = directory.all().iter().filter(|node| directory::parent(node).is_none());
    let (change, keep): (Vec<&Node>, Vec<&Node>) = roots.partition(|node| state_of(node) == from);
    let unchanged = keep.iter().map(|node| Place::of(node).changed_to(state_of(node))).collect();
    Ok(Plan { places: change.iter().map(|node| Place::of(node)).collect(), unchanged })
}

async fn session(ledger: &Ledger, id: &str, key: Option<&str>) -> Result<Place, OpError> {
    let named = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    if !named || !(1..=128).contains(&id.len()) {
        return Err(OpError::invalid("a session id is 1 to 128 letters, digits or ._:-"));
    }
    let directory = Directory::load(ledger).await?;
    let key = match key {
        Some(key) => directory.key(key)?,
        None => directory.key(owner(ledger, &directory, id).await?.as_str())?,
    };
    Ok(Place { node: key.id.clone(), session: Some(id.to_string()), name: key.name.clone() })
}

/// The one key that has a session of this id. Every key is asked, though the holds tell of one: another key's session of the same id may be
/// the one that is meant, between two of its calls.
async fn owner(ledger: &Ledger, directory: &Directory, session: &str) -> Result<NodeId, OpError> {
    let holds = ledger.holds(HOLDS_MOST).await?;
    let held = holds.iter().filter(|hold| hold.at.session.as_deref() == Some(session));
    let mut owners: BTreeSet<NodeId> = held.filter_map(|hold| hold.at.chain.first().cloned()).collect();
    let keys: Vec<NodeId> = directory.keys().map(|key| key.id.clone()).collect();
    let known = beside(&keys, |key| {
        let (ledger, session) = (ledger.clone(), session.to_string());
        async move { ledger.session(&key, &session).await.map(|found| found.map(|_| key)) }
    });
    for found in known.await {
        owners.extend(found?);
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

//! What is stored: ids, states, limits, policies, keys and teams.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LedgerError;
use crate::clock::{Millis, WINDOWS, Window};
use crate::money::Money;
use crate::secret::KeyHash;

/// The id of a key (`k_…`) or a team (`t_…`): one node of a budget tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Arc<str>);

impl NodeId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for a team's id.
    pub fn is_team(&self) -> bool {
        self.0.starts_with("t_")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for NodeId {
    fn from(text: &str) -> Self {
        NodeId(text.into())
    }
}

/// The id of a hold: 32 hexadecimal characters, chosen at random by the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldId(pub Arc<str>);

impl HoldId {
    /// A new random id.
    pub fn random() -> Result<Self, LedgerError> {
        let hex = crate::secret::random_hex::<16>().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        Ok(HoldId(hex.into()))
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a key, team or session may spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may.
    #[default]
    Active,
    /// Stopped by an operator; `resume` lifts it.
    Paused,
    /// Stopped by the kill switch; `resume` lifts it.
    Killed,
    /// Stopped for ever.
    Revoked,
}

impl State {
    /// The name in listings and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Paused => "paused",
            State::Killed => "killed",
            State::Revoked => "revoked",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<State> {
        [State::Active, State::Paused, State::Killed, State::Revoked].into_iter().find(|state| state.name() == name)
    }
}

/// A limit for each window, `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limits(pub [Option<Money>; WINDOWS]);

impl Limits {
    /// The limit of one window.
    pub fn of(&self, window: Window) -> Option<Money> {
        self.0[window.index()]
    }

    /// True when no window has a limit.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// What to do when a call's worst case does not fit the money left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Lower the call's output limit to what the money certainly pays for.
    #[default]
    Clamp,
    /// Refuse the call.
    Refuse,
    /// Let it start and cut the stream when the money is used up.
    Cut,
}

/// Where the real provider key of a call may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKeySource {
    /// The request if it carries one, else the gateway's config.
    #[default]
    Any,
    /// Only the gateway's config.
    Config,
    /// Only the request.
    Request,
}

/// What a key may do, apart from its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Providers that it may call; empty means all.
    pub providers: Vec<String>,
    /// Models that it may call, as `model` or `provider/model`, with an optional `*` at the end; empty means all.
    pub models: Vec<String>,
    /// Networks that it may call from, as `address` or `address/bits`; empty means all.
    pub allow_ips: Vec<String>,
    /// What happens when the worst case does not fit.
    pub overflow: Overflow,
    /// Where the provider's key may come from.
    pub provider_key: ProviderKeySource,
    /// The most that one session may spend.
    pub session_budget: Option<Money>,
    /// The most calls that one session may make.
    pub session_steps: Option<u64>,
    /// The operator said that this key may go without any limit.
    pub unlimited: bool,
}

/// A proxy key's record. Everything in it but counters; it changes only under a new `revision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `k_` and 16 hexadecimal characters.
    pub id: NodeId,
    /// A name that no other key has.
    pub name: String,
    /// SHA-256 of the key in hexadecimal.
    pub hash: String,
    /// The team that it belongs to. Fixed for its life, like the team's own parents: they name its tree.
    pub team: Option<NodeId>,
    /// When it was made.
    pub created_at: Millis,
    /// When it stops to work.
    pub expires_at: Option<Millis>,
    /// Whether it may spend.
    pub state: State,
    /// Its own limits.
    pub limits: Limits,
    /// What it may do.
    pub policy: Policy,
}

/// A team's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamRecord {
    /// `t_` and 16 hexadecimal characters.
    pub id: NodeId,
    /// A name that no other team has.
    pub name: String,
    /// The team above it.
    pub parent: Option<NodeId>,
    /// When it was made.
    pub created_at: Millis,
    /// Whether it may spend.
    pub state: State,
    /// Its limits.
    pub limits: Limits,
}

/// What a gateway remembers of a key. Only a hint: every reserve checks `revision` against the ledger in its atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The hash by which it was found.
    pub hash: KeyHash,
    /// The key, its team, that team's parents: all nodes that every hold is taken from. The last one names the tree.
    pub chain: Vec<NodeId>,
    /// Counts the changes of the key's record.
    pub revision: u64,
    /// The ledger's generation when it was read: of an earlier one, which an operator has given up since, the revision says nothing.
    pub generation: u64,
    /// The record.
    pub key: KeyRecord,
}

impl KeyView {
    /// The tree that the key belongs to: the id of its last ancestor.
    pub fn tree(&self) -> &NodeId {
        self.chain.last().unwrap_or(&self.key.id)
    }
}

/// The session part of a reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAsk {
    /// 1–128 of `A-Za-z0-9._:-`.
    pub id: Arc<str>,
    /// The most that the session may spend. The least ever asked for stays: a client can only tighten.
    pub budget: Option<Money>,
    /// The most calls that it may make. The least ever asked for stays.
    pub steps: Option<u64>,
}

/// What a key or team record is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A key.
    Key(KeyRecord),
    /// A team.
    Team(TeamRecord),
}

impl Node {
    /// Its id.
    pub fn id(&self) -> &NodeId {
        match self {
            Node::Key(key) => &key.id,
            Node::Team(team) => &team.id,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        match self {
            Node::Key(key) => key.state,
            Node::Team(team) => team.state,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Node::Key(key) => &key.name,
            Node::Team(team) => &team.name,
        }
    }
}

/// A change of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets (`Some`) or lifts (`None`) the limits of the windows named.
    Limits(Vec<(Window, Option<Money>)>),
    /// Sets the state. A revoked key stays revoked.
    State(State),
    /// Gives a key a new hash; the old one is unknown from then on.
    Rotate(KeyHash),
}

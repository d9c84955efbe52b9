//! Finding keys and teams by id or name, and what is above and below them.

use std::collections::HashMap;

use super::OpError;
use crate::ledger::{KeyRecord, Ledger, Node, NodeId, TeamRecord};

/// The most levels of a tree: a key, its team, that team's parents. The ledger takes a hold from each in one step.
pub(super) const CHAIN_MOST: usize = 16;
const NAME_CHARS_MOST: usize = 64;

/// All keys and teams at one moment.
pub(super) struct Directory {
    nodes: Vec<Node>,
    by_id: HashMap<NodeId, usize>,
}

impl Directory {
    pub async fn load(ledger: &Ledger) -> Result<Self, OpError> {
        let nodes = ledger.nodes().await?;
        let by_id = nodes.iter().enumerate().map(|(i, node)| (node.id().clone(), i)).collect();
        Ok(Directory { nodes, by_id })
    }

    pub fn all(&self) -> &[Node] {
        &self.nodes
    }

    pub fn keys(&self) -> impl Iterator<Item = &KeyRecord> {
        self.nodes.iter().filter_map(|node| if let Node::Key(key) = node { Some(key) } else { None })
    }

    pub fn teams(&self) -> impl Iterator<Item = &TeamRecord> {
        self.nodes.iter().filter_map(|node| if let Node::Team(team) = node { Some(team) } else { None })
    }

    pub fn by_id(&self, id: &NodeId) -> Option<&Node> {
        self.by_id.get(id).map(|i| &self.nodes[*i])
    }

    pub fn key(&self, name: &str) -> Result<&KeyRecord, OpError> {
        let found =
            self.keys().find(|key| key.id.as_str() == name).or_else(|| self.keys().find(|key| key.name == name));
        found.ok_or_else(|| unknown("key", name))
    }

    pub fn team(&self, name: &str) -> Result<&TeamRecord, OpError> {
        let found = self.teams().find(|team| team.id.as_str() == name);
        found.or_else(|| self.teams().find(|team| team.name == name)).ok_or_else(|| unknown("team", name))
    }

    /// A key or a team. A name that both a key and a team have must be said by id.
    pub fn either(&self, name: &str) -> Result<&Node, OpError> {
        if let Some(node) = self.by_id(&NodeId::from(name)) {
            return Ok(node);
        }
        let mut found = self.nodes.iter().filter(|node| node.name() == name);
        match (found.next(), found.next()) {
            (Some(node), None) => Ok(node),
            (Some(a), Some(b)) => Err(OpError::conflict(format!("`{name}` is both {} and {}", a.id(), b.id()))
                .hint("say which one by its id")),
            _ => Err(unknown("key or team", name)),
        }
    }

    /// The node's ancestors, nearest first.
    pub fn above(&self, node: &Node) -> Vec<&TeamRecord> {
        let mut next = parent(node);
        let mut teams = Vec::new();
        while let Some(id) = next
            && teams.len() < CHAIN_MOST
            && let Some(Node::Team(team)) = self.by_id(id)
        {
            teams.push(team);
            next = team.parent.as_ref();
        }
        teams
    }

    /// True when some limit of the key or of a team above it holds.
    pub fn is_covered(&self, key: &KeyRecord) -> bool {
        !key.limits.is_empty() || self.above(&Node::Key(key.clone())).iter().any(|team| !team.limits.is_empty())
    }
}

/// The team that a node belongs to.
pub(super) fn parent(node: &Node) -> Option<&NodeId> {
    match node {
        Node::Key(key) => key.team.as_ref(),
        Node::Team(team) => team.parent.as_ref(),
    }
}

/// Finds a key or team; by id that takes one small step, which is what a kill switch needs.
pub(super) async fn find(ledger: &Ledger, name: &str) -> Result<Node, OpError> {
    if is_id(name)
        && let Some(node) = ledger.node(&NodeId::from(name)).await?
    {
        return Ok(node);
    }
    Directory::load(ledger).await?.either(name).cloned()
}

fn unknown(what: &str, name: &str) -> OpError {
    // A proxy key is a secret even where it is in the wrong place.
    if name.starts_with(crate::secret::KEY_PREFIX) {
        return OpError::not_found(format!("that is a key itself, not the name or id of a {what}"))
            .hint("`loopers keys list` shows names and ids");
    }
    let list = if what == "team" { "teams" } else { "keys" };
    OpError::not_found(format!("there is no {what} `{name}`"))
        .hint(format!("`loopers {list} list` shows what there is"))
}

fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("k_").or_else(|| text.strip_prefix("t_"));
    hex.is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A name for people: no markup, nothing that looks like an id or a key.
pub(super) fn check_name(name: &str) -> Result<(), OpError> {
    let fits = (1..=NAME_CHARS_MOST).contains(&name.chars().count());
    let plain = name.chars().all(|c| c.is_alphanumeric() || " ._-@/+:".contains(c));
    if !fits || !plain || name.trim() != name {
        let rule = format!("a name is 1 to {NAME_CHARS_MOST} letters, digits, blanks inside, or ._-@/+:");
        return Err(OpError::invalid(rule));
    }
    if is_id(name) || name.starts_with(crate::secret::KEY_PREFIX) {
        return Err(OpError::invalid("a name must not look like an id or a key"));
    }
    Ok(())
}

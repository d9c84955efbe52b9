//! Keys and teams: how they come to be, are found and change. The order of the steps is explained in `ledger/names.rs`.

use ::redis::cmd;

use super::reply::{self, Words};
use super::script::{CREATE, Call, EDIT, SWAP};
use super::{RedisLedger, shape};
use crate::clock::Millis;
use crate::ledger::names::{self, Tree};
use crate::ledger::{Edit, KeyRecord, KeyView, LedgerError, Limits, Node, NodeId, State, TeamRecord};
use crate::secret::KeyHash;

/// The fields of a node's hash that its record is made of.
const FIELDS: [&str; 7] = ["j", "m", "v", "s", "h", "x", "l"];

/// A node as it is stored.
pub(super) struct Loaded {
    /// The record, whole.
    pub(super) node: Node,
    /// Counts its changes.
    pub(super) revision: u64,
    /// Its making was finished.
    pub(super) made: bool,
}

/// A node to be made.
struct New<'a> {
    id: &'a NodeId,
    name: &'a str,
    /// Itself first, its root last.
    chain: Vec<NodeId>,
    hash: Option<&'a str>,
    expires_at: Option<Millis>,
    state: State,
    limits: &'a Limits,
    /// The record without what has fields of its own.
    json: String,
}

/// What became of the claim on a name.
enum Claim {
    /// It is ours until somebody else takes it.
    Pending,
    /// It has been ours for good: only the last step of an earlier attempt is missing.
    Confirmed,
}

impl RedisLedger {
    /// See [`crate::ledger::Ledger::create_key`]. Repeating a call that was not answered finishes what it began.
    pub async fn create_key(&self, record: &KeyRecord) -> Result<(), LedgerError> {
        self.refuse_on_lost_books().await?;
        let chain = self.new_chain(&record.id, record.team.as_ref()).await?;
        let bare = KeyRecord {
            hash: String::new(),
            expires_at: None,
            state: State::Active,
            limits: Limits::default(),
            ..record.clone()
        };
        self.create(New {
            id: &record.id,
            name: &record.name,
            chain,
            hash: Some(&record.hash),
            expires_at: record.expires_at,
            state: record.state,
            limits: &record.limits,
            json: to_json(&bare)?,
        })
        .await
    }

    /// See [`crate::ledger::Ledger::create_team`]. Repeating a call that was not answered finishes what it began.
    pub async fn create_team(&self, record: &TeamRecord) -> Result<(), LedgerError> {
        self.refuse_on_lost_books().await?;
        let chain = self.new_chain(&record.id, record.parent.as_ref()).await?;
        let bare = TeamRecord { state: State::Active, limits: Limits::default(), ..record.clone() };
        self.create(New {
            id: &record.id,
            name: &record.name,
            chain,
            hash: None,
            expires_at: None,
            state: record.state,
            limits: &record.limits,
            json: to_json(&bare)?,
        })
        .await
    }

    /// The chain of a new node under `parent`, which must exist.
    async fn new_chain(&self, id: &NodeId, parent: Option<&NodeId>) -> Result<Vec<NodeId>, LedgerError> {
        let mut chain = vec![id.clone()];
        if let Some(parent) = parent {
            if !parent.is_team() {
                return Err(not_found(parent));
            }
            chain.extend(self.made_chain(parent).await?);
        }
        Ok(chain)
    }

    async fn create(&self, new: New<'_>) -> Result<(), LedgerError> {
        let (names, root) = tree_of(&new.chain)?;
        let node = names.node(new.id);
        let name_key = names::name(new.id.is_team(), new.name);
        let (pending, confirmed) = (format!("?{}", new.id), new.id.to_string());
        if let Claim::Confirmed = self.claim_name(&name_key, &new, &pending).await? {
            return self.finish(&node).await;
        }
        if let Err(error) = self.write_node(&new, &names, root).await {
            if let LedgerError::Conflict(_) = error {
                self.swap(&name_key, &pending, None).await?;
            }
            return Err(error);
        }
        // From here on it exists; all before has no effect without this step.
        if !self.swap(&name_key, &pending, Some(&confirmed)).await? {
            // Somebody took the claim, or an earlier sending of this very step had its answer lost.
            let owner = reply::optional_text(self.command(cmd("GET").arg(&name_key)).await?)?;
            if owner.as_deref() != Some(&*confirmed) {
                self.forget(&new, &names).await?;
                return Err(match owner {
                    Some(_) => name_taken(&new),
                    None => LedgerError::Conflict(format!("another one took the hash or the name of `{}`", new.name)),
                });
            }
        }
        self.finish(&node).await
    }

    /// Claims a name: free, ours already, or left behind by an attempt that was never finished.
    async fn claim_name(&self, name_key: &str, new: &New<'_>, pending: &str) -> Result<Claim, LedgerError> {
        let set = self.command(cmd("SET").arg(name_key).arg(pending).arg("NX").arg("GET")).await?;
        let Some(owner) = reply::optional_text(set)? else { return Ok(Claim::Pending) };
        if owner == pending {
            return Ok(Claim::Pending);
        }
        if owner == new.id.as_str() {
            let (names, _) = tree_of(&new.chain)?;
            return match self.load(&names, new.id).await? {
                Some(loaded) if !loaded.made => Ok(Claim::Confirmed),
                _ => Err(name_taken(new)),
            };
        }
        if owner.starts_with('?') && self.swap(name_key, &owner, Some(pending)).await? {
            return Ok(Claim::Pending);
        }
        Err(name_taken(new))
    }

    /// Writes everything but what makes it count: the node, where it is, and its tree.
    async fn write_node(&self, new: &New<'_>, names: &Tree, root: &NodeId) -> Result<(), LedgerError> {
        let limits = shape::pack_limits(new.limits)?;
        let call = Call::new(&CREATE, vec![names.node(new.id), names.members()]).arg(new.id.as_str());
        let mut call = call.arg("j").arg(&*new.json).arg("v").arg("1").arg("s").arg(new.state.name());
        call = call.arg("l").bytes(&limits).arg("w").bytes(&shape::EMPTY_BOOKS);
        if let Some(hash) = new.hash {
            call = call.arg("h").arg(hash);
        }
        let books = if new.chain.len() == 1 { Some(new_books()?) } else { None };
        if let Some(books) = &books {
            call = call.arg("b").arg(&**books);
        }
        if let Some(at) = new.expires_at {
            call = call.arg("x").arg(at.max(0).to_string());
        }
        match reply::text(self.call(&call).await?)?.as_str() {
            "DONE" => {}
            "EXISTS" => return Err(LedgerError::Conflict(format!("{} exists already", new.id))),
            other => return Err(reply::unexpected(other)),
        }
        let chain = chain_text(&new.chain);
        self.command(cmd("SET").arg(names::location(new.id)).arg(&chain)).await?;
        let claimed = match new.hash {
            Some(hash) => self.claim_hash(hash, &chain).await,
            None => Ok(()),
        };
        if let Err(error) = claimed {
            if let LedgerError::Conflict(_) = error {
                self.forget(new, names).await?;
            }
            return Err(error);
        }
        self.command(cmd("SADD").arg(names::trees()).arg(root.as_str())).await.map(drop)
    }

    /// Points a hash to a chain, unless a key that exists has it.
    async fn claim_hash(&self, hash: &str, chain: &str) -> Result<(), LedgerError> {
        let key = names::hash(hash);
        // Every further round means that somebody else got ahead; each of them does so once.
        loop {
            let set = self.command(cmd("SET").arg(&key).arg(chain).arg("NX").arg("GET")).await?;
            let Some(owner) = reply::optional_text(set)?.filter(|owner| owner != chain) else { return Ok(()) };
            if self.keeps_hash(&shape::read_chain(&owner)?, hash).await? {
                return Err(LedgerError::Conflict("another key has this hash".into()));
            }
            if self.swap(&key, &owner, Some(chain)).await? {
                return Ok(());
            }
        }
    }

    /// Whether the key to which a hash points exists and has it. If not, it cannot come to be any more without claiming
    /// the hash again: a name that it was about to confirm is taken from it.
    async fn keeps_hash(&self, chain: &[NodeId], hash: &str) -> Result<bool, LedgerError> {
        let (names, _) = tree_of(chain)?;
        let Some(id) = chain.first() else { return Ok(false) };
        // Without a node it never came to be; with another hash, it was rotated.
        let Some(loaded) = self.load(&names, id).await?.filter(|loaded| has_hash(&loaded.node, hash)) else {
            return Ok(false);
        };
        if loaded.made {
            return Ok(true);
        }
        let name_key = names::name(id.is_team(), loaded.node.name());
        if self.swap(&name_key, &format!("?{id}"), None).await? {
            return Ok(false);
        }
        let owner = reply::optional_text(self.command(cmd("GET").arg(&name_key)).await?)?;
        Ok(owner.as_deref() == Some(id.as_str()))
    }

    /// The last step of making a node: spares its readers a look at its name.
    async fn finish(&self, node: &str) -> Result<(), LedgerError> {
        self.command(cmd("HSET").arg(node).arg("m").arg("1")).await.map(drop)
    }

    /// Removes a node whose name or hash went to somebody else. It never counted.
    async fn forget(&self, new: &New<'_>, names: &Tree) -> Result<(), LedgerError> {
        if let Some(hash) = new.hash {
            self.swap(&names::hash(hash), &chain_text(&new.chain), None).await?;
        }
        self.command(cmd("DEL").arg(names::location(new.id))).await?;
        self.command(cmd("SREM").arg(names.members()).arg(new.id.as_str())).await?;
        self.command(cmd("DEL").arg(names.node(new.id))).await.map(drop)
    }

    /// Gives a key another value (`None`: removes it) if it has the one expected; false if not.
    async fn swap(&self, key: &str, expected: &str, new: Option<&str>) -> Result<bool, LedgerError> {
        let mut call = Call::new(&SWAP, vec![key.to_string()]).arg(expected);
        if let Some(new) = new {
            call = call.arg(new);
        }
        match reply::text(self.call(&call).await?)?.as_str() {
            "DONE" => Ok(true),
            "OTHER" => Ok(false),
            other => Err(reply::unexpected(other)),
        }
    }

    /// See [`crate::ledger::Ledger::key_by_hash`].
    pub async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        if let Some(guard) = &self.guard {
            guard.check()?;
        }
        let generation = self.generation();
        let hex = hash.hex();
        let pointer = reply::optional_text(self.command(cmd("GET").arg(names::hash(&hex))).await?)?;
        let Some(pointer) = pointer else { return self.still_there().await.map(|()| None) };
        let chain = shape::read_chain(&pointer)?;
        let Some(loaded) = self.load_made(&chain).await? else { return self.still_there().await.map(|()| None) };
        match loaded.node {
            Node::Key(key) if key.hash == hex => {
                Ok(Some(KeyView { hash: *hash, chain, revision: loaded.revision, generation, key }))
            }
            _ => Ok(None),
        }
    }

    /// See [`crate::ledger::Ledger::nodes`].
    pub async fn nodes(&self) -> Result<Vec<Node>, LedgerError> {
        let mut nodes = Vec::new();
        let mut cursor = 0;
        loop {
            let (next, roots) = self.scan_trees(cursor).await?;
            let members = self.each(roots, |ledger, root| async move { ledger.members(root).await }).await?;
            let members = members.into_iter().flatten().collect();
            let load = |ledger: RedisLedger, chain: [NodeId; 2]| async move { ledger.load_made(&chain).await };
            nodes.extend(self.each(members, load).await?.into_iter().flatten().map(|loaded| loaded.node));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        nodes.sort_by_cached_key(|node| (created_at(node), node.id().clone()));
        nodes.dedup_by(|a, b| a.id() == b.id());
        Ok(nodes)
    }

    /// The nodes of a tree, each with the root.
    async fn members(&self, root: NodeId) -> Result<Vec<[NodeId; 2]>, LedgerError> {
        let ids = reply::texts(self.command(cmd("SMEMBERS").arg(Tree::of(&root).members())).await?)?;
        Ok(ids.iter().map(|id| [NodeId::from(id.as_str()), root.clone()]).collect())
    }

    /// See [`crate::ledger::Ledger::node`].
    pub async fn node(&self, id: &NodeId) -> Result<Option<Node>, LedgerError> {
        let Some(chain) = self.chain(id).await? else { return Ok(None) };
        Ok(self.load_made(&chain).await?.map(|loaded| loaded.node))
    }

    /// See [`crate::ledger::Ledger::record`].
    pub async fn record(&self, id: &NodeId) -> Result<Option<(Node, u64)>, LedgerError> {
        let Some(chain) = self.chain(id).await? else { return Ok(None) };
        Ok(self.load_made(&chain).await?.map(|loaded| (loaded.node, loaded.revision)))
    }

    /// See [`crate::ledger::Ledger::edit`].
    pub async fn edit(&self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        self.refuse_on_lost_books().await?;
        let chain = self.made_chain(id).await?;
        let (names, _) = tree_of(&chain)?;
        let call = Call::new(&EDIT, vec![names.node(id)]);
        match edit {
            Edit::Limits(limits) => {
                let mut call = call.arg("limits");
                for (window, limit) in limits {
                    call = call.arg(window.index() as u64 + 1).arg(shape::stored_limit(*limit)?);
                }
                self.edited(id, &call).await.map(drop)
            }
            Edit::State(state) => self.edited(id, &call.arg("state").arg(state.name())).await.map(drop),
            Edit::Rotate(hash) => {
                if id.is_team() {
                    return Err(LedgerError::Conflict(format!("{id} is a team: it has no key to rotate")));
                }
                // The pointer first: if the next step never happens, the old key still works.
                let hash = hash.hex();
                self.claim_hash(&hash, &chain_text(&chain)).await?;
                let before = self.edited(id, &call.arg("rotate").arg(&*hash)).await?;
                match before {
                    Some(before) if before != hash => {
                        self.swap(&names::hash(&before), &chain_text(&chain), None).await.map(drop)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// An error while the books count as lost. On older books an edit gets a revision that was given before, and a new key perhaps a name: a
    /// rebuild could not tell which of two is the later one.
    pub(super) async fn refuse_on_lost_books(&self) -> Result<(), LedgerError> {
        // This gateway may know it before the books do.
        let known = self.guard.as_ref().and_then(|guard| guard.whole().lost);
        let told = match known {
            None => reply::optional_text(self.command(cmd("HGET").arg(names::books()).arg("lost")).await?)?,
            known => known,
        };
        match told {
            None => Ok(()),
            Some(reason) => Err(LedgerError::Lost(format!(
                "{reason}. Nothing is changed until an operator decides: `loopers ledger status` tells more"
            ))),
        }
    }

    async fn edited(&self, id: &NodeId, call: &Call<'_>) -> Result<Option<String>, LedgerError> {
        let text = reply::text(self.confirmed(call, &[], self.link.deadline()).await?)?;
        let mut words = Words::new(&text);
        match words.word()? {
            "DONE" => {
                let before = words.next().map(str::to_string);
                words.end(before)
            }
            "GONE" => Err(not_found(id)),
            "REVOKED" => Err(LedgerError::Conflict(format!("{id} is revoked, and stays so"))),
            _ => Err(words.bad()),
        }
    }

    /// The chain of a node that exists.
    pub(super) async fn made_chain(&self, id: &NodeId) -> Result<Vec<NodeId>, LedgerError> {
        let chain = self.chain(id).await?.ok_or_else(|| not_found(id))?;
        match self.load_made(&chain).await? {
            Some(_) => Ok(chain),
            None => Err(not_found(id)),
        }
    }

    async fn chain(&self, id: &NodeId) -> Result<Option<Vec<NodeId>>, LedgerError> {
        let text = reply::optional_text(self.command(cmd("GET").arg(names::location(id))).await?)?;
        text.as_deref().map(shape::read_chain).transpose()
    }

    /// The first node of a chain, if its making was finished or needed nothing but the last step.
    async fn load_made(&self, chain: &[NodeId]) -> Result<Option<Loaded>, LedgerError> {
        let (names, _) = tree_of(chain)?;
        let Some(id) = chain.first() else { return Ok(None) };
        let Some(loaded) = self.load(&names, id).await? else { return Ok(None) };
        if loaded.made {
            return Ok(Some(loaded));
        }
        let name_key = names::name(id.is_team(), loaded.node.name());
        let owner = reply::optional_text(self.command(cmd("GET").arg(name_key)).await?)?;
        Ok((owner.as_deref() == Some(id.as_str())).then_some(loaded))
    }

    pub(super) async fn load(&self, names: &Tree, id: &NodeId) -> Result<Option<Loaded>, LedgerError> {
        let [json, made, revision, state, hash, expires_at, limits] =
            reply::array(self.command(cmd("HMGET").arg(names.node(id)).arg(&FIELDS[..])).await?)?;
        let Some(json) = reply::optional_text(json)? else { return Ok(None) };
        let mut node = read_record(id, &json)?;
        let state = reply::text(state)?;
        let state = State::from_name(&state).ok_or_else(|| reply::unexpected("a state that does not exist"))?;
        let limits = reply::optional_bytes(limits)?.ok_or_else(|| reply::unexpected("a node without limits"))?;
        let limits = shape::read_limits(&limits)?;
        match &mut node {
            Node::Key(key) => {
                let expires_at = reply::optional_text(expires_at)?;
                key.expires_at = expires_at.map(|at| Words::new(&at).number()).transpose()?;
                key.hash = reply::text(hash)?;
                (key.state, key.limits) = (state, limits);
            }
            Node::Team(team) => (team.state, team.limits) = (state, limits),
        }
        let revision = Words::new(&reply::text(revision)?).number()?;
        let made = reply::optional_text(made)?.is_some();
        Ok(Some(Loaded { node, revision, made }))
    }
}

/// A record as it was made; what has fields of its own is not in it.
pub(super) fn read_record(id: &NodeId, json: &str) -> Result<Node, LedgerError> {
    let record = if id.is_team() {
        serde_json::from_str(json).map(Node::Team)
    } else {
        serde_json::from_str(json).map(Node::Key)
    };
    record.map_err(|e| reply::unexpected(&format!("the record of {id}: {e}")))
}

/// There is no such node.
pub(super) fn not_found(id: &NodeId) -> LedgerError {
    LedgerError::NotFound(format!("there is no {} {id}", if id.is_team() { "team" } else { "key" }))
}

fn name_taken(new: &New<'_>) -> LedgerError {
    let kind = if new.id.is_team() { "team" } else { "key" };
    LedgerError::Conflict(format!("another {kind} is named `{}`", new.name))
}

/// Which of two records of a node a rebuild keeps. What was revoked stays so. After books that went back, revisions are given a second time:
/// of two records under the same one, the stricter state ranks higher.
pub(super) fn rank(record: &Node, revision: u64) -> (bool, u64, u8) {
    let state = record.state();
    let strictness = match state {
        State::Active => 0,
        State::Paused => 1,
        State::Killed => 2,
        State::Revoked => 3,
    };
    (state == State::Revoked, revision, strictness)
}

pub(super) fn to_json(record: &impl serde::Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(record).map_err(|e| LedgerError::Conflict(format!("the record cannot be written: {e}")))
}

fn tree_of(chain: &[NodeId]) -> Result<(Tree, &NodeId), LedgerError> {
    let root = chain.last().ok_or_else(|| reply::unexpected("an empty chain"))?;
    Ok((Tree::of(root), root))
}

/// A name for the books of a new tree: those that begin after a loss have another one.
pub(super) fn new_books() -> Result<String, LedgerError> {
    crate::secret::random_hex::<8>().map_err(|e| LedgerError::Unavailable(e.to_string()))
}

pub(super) fn chain_text(chain: &[NodeId]) -> String {
    chain.iter().map(NodeId::as_str).collect::<Vec<_>>().join(",")
}

fn has_hash(node: &Node, hash: &str) -> bool {
    matches!(node, Node::Key(key) if key.hash == hash)
}

fn created_at(node: &Node) -> Millis {
    match node {
        Node::Key(key) => key.created_at,
        Node::Team(team) => team.created_at,
    }
}

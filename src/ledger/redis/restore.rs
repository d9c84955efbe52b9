//! Books written anew. Nobody may spend meanwhile: every tree is blocked before the journals are read, and each tree's root, which every
//! reserve needs, is written last.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Value, cmd};

use super::directory::{chain_text, new_books, to_json};
use super::whole::random_id;
use super::{RedisLedger, reply, shape};
use crate::ledger::names::{self, Tree};
use crate::ledger::rules::{EXPIRED_KEPT_MS, SESSION_KEPT_MS};
use crate::ledger::{
    Charge, Halted, HoldBooks, HoldState, KeyRecord, LedgerError, Limits, Node, NodeBooks, NodeId, SessionBooks,
    SettledBooks, Snapshot, State, TeamRecord,
};
use crate::money::Money;

/// How often gateways look whether the books are blocked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a rebuild counts as running after it was last heard of.
const REBUILD_KEPT_MS: u64 = 60_000;
/// How long one of its steps may wait for an answer, at the least.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How often it is heard of.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Written while the books are.
const REASON: &str = "the books are being rebuilt; if nobody does so any more, run the rebuild again";

pub(super) fn being_rebuilt() -> LedgerError {
    let say = "the books are being rebuilt by another command; if that was broken off, wait a minute and try again";
    LedgerError::Conflict(say.into())
}

/// Says that the rebuild still runs, for as long as it does.
async fn renew(ledger: RedisLedger) {
    let renewed = cmd("PEXPIRE").arg(names::rebuild()).arg(REBUILD_KEPT_MS).clone();
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if let Err(error) = ledger.command(&renewed).await {
            log::warn!("the ledger does not hear that its books are being rebuilt: {error}");
        }
    }
}

impl RedisLedger {
    /// See [`crate::ledger::Ledger::patient`].
    pub fn patient(&self) -> RedisLedger {
        RedisLedger { link: Arc::new(self.link.within(self.call_limit.max(STEP_LIMIT))), ..self.clone() }
    }

    /// See [`crate::ledger::Ledger::halt`]. The block of the ledger is seen within a moment, those of its trees hold at once.
    pub async fn halt(&self, roots: &[NodeId]) -> Result<Halted, LedgerError> {
        let token = random_id()?;
        let mut lock = cmd("SET");
        lock.arg(names::rebuild()).arg(&token).arg("NX").arg("PX").arg(REBUILD_KEPT_MS);
        if self.command(&lock).await? == Value::Nil {
            return Err(being_rebuilt());
        }
        let renewal = Some(tokio::spawn(renew(self.clone())));
        let halted = Halted { quiet_after: LOOK_EVERY + self.call_limit, token, renewal };
        let generation = self.halt_books(&halted.token, REASON).await?;
        let known = reply::texts(self.command(cmd("SMEMBERS").arg(names::trees())).await?)?;
        let mut trees: Vec<NodeId> = known.iter().map(|root| NodeId::from(root.as_str())).collect();
        trees.extend_from_slice(roots);
        trees.sort();
        trees.dedup();
        self.each(trees, move |ledger, root| async move { ledger.block_tree(&root, generation).await }).await?;
        Ok(halted)
    }

    /// Blocks a tree for every gateway that knows no later generation, if it is there.
    async fn block_tree(&self, root: &NodeId, generation: u64) -> Result<(), LedgerError> {
        let key = Tree::of(root).node(root);
        if self.command(cmd("EXISTS").arg(&key)).await? == Value::Int(0) {
            return Ok(());
        }
        let before = reply::optional_text(self.command(cmd("HGET").arg(&key).arg("z")).await?)?;
        let before: Option<u64> = before.map(|text| reply::Words::new(&text).number()).transpose()?;
        if before.is_some_and(|before| before >= generation) {
            return Ok(());
        }
        self.command(cmd("HSET").arg(&key).arg("z").arg(generation)).await.map(drop)
    }

    /// An error when another rebuild has begun since, because this one was not heard of for too long.
    async fn still_ours(&self, halted: &Halted) -> Result<(), LedgerError> {
        let token = reply::optional_text(self.command(cmd("GET").arg(names::rebuild())).await?)?;
        if token.as_deref() == Some(&*halted.token) { Ok(()) } else { Err(being_rebuilt()) }
    }

    /// An error also when somebody has accepted the books since, or they were lost once more: they are not to be written over.
    async fn still_halted(&self, halted: &Halted) -> Result<(), LedgerError> {
        self.still_ours(halted).await?;
        if self.is_halted_for(&halted.token).await? {
            return Ok(());
        }
        let say = "these books are no longer those that this rebuild has stopped: somebody has accepted them, or they were lost again";
        Err(LedgerError::Conflict(say.into()))
    }

    /// See [`crate::ledger::Ledger::give_up`].
    pub async fn give_up(&self, halted: &Halted) -> Result<(), LedgerError> {
        self.still_ours(halted).await?;
        self.command(cmd("DEL").arg(names::rebuild())).await.map(drop)
    }

    /// An error while somebody rebuilds the books, or has left them half done. What commands do then, a rebuild would not know.
    pub(super) async fn refuse_amid_rebuild(&self) -> Result<(), LedgerError> {
        // Books that are half built are blocked: on others the mark is left over (a failover may bring it back).
        let is_half = self.command(cmd("EXISTS").arg(names::half_built())).await? != Value::Int(0);
        if is_half && self.books().await?.lost.is_some() {
            let say = "a rebuild was broken off, so these books are not whole: run `loopers ledger rebuild` again";
            return Err(LedgerError::Conflict(say.into()));
        }
        // Last of all: a rebuild that begins later waits for what is on its way.
        if self.command(cmd("EXISTS").arg(names::rebuild())).await? != Value::Int(0) {
            return Err(being_rebuilt());
        }
        Ok(())
    }

    /// See [`crate::ledger::Ledger::restore`]. What the snapshot does not know stays as it is; of two records of
    /// one key or team the one that ranks higher stays.
    pub async fn restore(&self, snapshot: &Snapshot, halted: &Halted) -> Result<(), LedgerError> {
        let mut roots: Vec<NodeId> = snapshot.nodes.iter().filter_map(|node| node.chain.last().cloned()).collect();
        roots.sort();
        roots.dedup();
        self.still_halted(halted).await?;
        self.command(cmd("SET").arg(names::half_built()).arg(&*halted.token)).await?;
        // Once more behind the mark: from here on nobody accepts them, even if this rebuild is not heard of for a while.
        self.still_halted(halted).await?;
        self.each(roots, |ledger, root| async move { ledger.clear_holds(&root).await }).await?;
        self.each(snapshot.settled.clone(), |ledger, one| async move { ledger.put_settled(&one).await }).await?;
        let now = snapshot.now;
        self.each(snapshot.sessions.clone(), move |ledger, one| async move { ledger.put_session(&one, now).await })
            .await?;
        self.each(snapshot.holds.clone(), |ledger, one| async move { ledger.put_hold(&one).await }).await?;
        self.still_halted(halted).await?;
        let (tops, below): (Vec<NodeBooks>, Vec<NodeBooks>) =
            snapshot.nodes.iter().cloned().partition(|node| node.chain.len() == 1);
        self.each(below, |ledger, node| async move { ledger.put_node(&node).await }).await?;
        self.still_halted(halted).await?;
        self.each(tops, |ledger, node| async move { ledger.put_node(&node).await }).await?;
        self.still_halted(halted).await?;
        self.command(cmd("DEL").arg(names::half_built())).await?;
        self.accept_after(&halted.token).await?;
        self.give_up(halted).await
    }

    /// The ledger's own time.
    pub async fn time(&self) -> Result<i64, LedgerError> {
        let [seconds, micros] = reply::array(self.command(&cmd("TIME")).await?)?;
        let number = |value| -> Result<i64, LedgerError> { reply::Words::new(&reply::text(value)?).number() };
        Ok(number(seconds)? * 1000 + number(micros)? / 1000 + self.frames.offset())
    }

    /// Removes the open and expired holds of a tree, so that none of them is settled on books that do not count it. Their sessions, of which no
    /// journal may know, get back what they hold for them.
    async fn clear_holds(&self, root: &NodeId) -> Result<(), LedgerError> {
        let names = Tree::of(root);
        for hold in self.holds_of(root, usize::MAX).await? {
            if hold.state == HoldState::Open && hold.at.session.is_some() {
                // Books of which a part is gone may not let it: then its session is not counted on either.
                if let Err(error) = self.settle_now(&hold.at, Charge::Exact(Money::ZERO)).await {
                    log::debug!("hold {} could not be released: {error}", hold.at.hold);
                }
            }
        }
        for index in [names.open(), names.expired()] {
            let ids = reply::texts(self.command(cmd("ZRANGE").arg(&index).arg(0).arg(-1)).await?)?;
            for id in ids {
                self.command(cmd("DEL").arg(names.hold(&crate::ledger::HoldId(id.as_str().into())))).await?;
            }
            self.command(cmd("DEL").arg(&index)).await?;
        }
        Ok(())
    }

    async fn put_settled(&self, one: &SettledBooks) -> Result<(), LedgerError> {
        let key = Tree::of(&one.root).hold(&one.id);
        self.command(cmd("SET").arg(key).arg(shape::pack_settled(one)?).arg("PXAT").arg(one.until)).await.map(drop)
    }

    async fn put_hold(&self, hold: &HoldBooks) -> Result<(), LedgerError> {
        let info = &hold.info;
        let root = info.at.chain.last().ok_or_else(|| reply::unexpected("a hold without a chain"))?;
        let names = Tree::of(root);
        let until = if info.state == HoldState::Open { 0 } else { info.expires_at + EXPIRED_KEPT_MS };
        let mut set = cmd("SET");
        set.arg(names.hold(&info.at.hold)).arg(shape::pack_hold(hold, until)?);
        let (index, due) = match info.state {
            HoldState::Open => (names.open(), info.expires_at),
            _ => {
                set.arg("PXAT").arg(until);
                (names.expired(), until)
            }
        };
        self.command(&set).await?;
        self.command(cmd("ZADD").arg(index).arg(due).arg(&*info.at.hold.0)).await.map(drop)
    }

    async fn put_session(&self, session: &SessionBooks, now: i64) -> Result<(), LedgerError> {
        let (Some(key), Some(root)) = (session.chain.first(), session.chain.last()) else {
            return Err(reply::unexpected("a session without a key"));
        };
        let mut set = cmd("SET");
        set.arg(Tree::of(root).session(key, &session.id)).arg(shape::pack_session(&session.book)?);
        if session.book.open == 0 {
            let left = session.book.used_at + SESSION_KEPT_MS - now;
            if left <= 0 {
                return Ok(());
            }
            set.arg("PX").arg(left);
        }
        self.command(&set).await.map(drop)
    }

    /// Writes the books of a node, and its record where the ledger has none that ranks higher.
    async fn put_node(&self, node: &NodeBooks) -> Result<(), LedgerError> {
        let (Some(id), Some(root)) = (node.chain.first(), node.chain.last()) else {
            return Err(reply::unexpected("a node without a chain"));
        };
        let names = Tree::of(root);
        let there = self.load(&names, id).await?.filter(|loaded| loaded.made);
        let rank = super::directory::rank;
        let newer = node.record.as_ref().filter(|(record, revision)| {
            there.as_ref().is_none_or(|there| rank(&there.node, there.revision) <= rank(record, *revision))
        });
        if let Some((record, revision)) = newer {
            let least = there.as_ref().map_or(0, |there| there.revision);
            self.put_record(&names, record, least.max(*revision)).await?;
        }
        let record = newer.map(|(record, _)| record).or(there.as_ref().map(|there| &there.node));
        // Nobody knows the record: without it nothing can be spent, and what was spent is in the books above it.
        let Some(record) = record else { return Ok(()) };
        self.put_directory(&names, &node.chain, record).await?;
        let mut set = cmd("HSET");
        set.arg(names.node(id)).arg("w").arg(&shape::pack_books(&node.counters)?[..]);
        if node.chain.len() == 1 {
            set.arg("b").arg(new_books()?);
        }
        self.command(&set).await?;
        // The end of the making of a node: see `ledger/names.rs`.
        self.command(cmd("HSET").arg(names.node(id)).arg("m").arg("1")).await?;
        self.command(cmd("SADD").arg(names::trees()).arg(root.as_str())).await.map(drop)
    }

    /// All by which a node is found. Also of a record that was not lost: of keys that a server has thrown away, any may be among these.
    async fn put_directory(&self, names: &Tree, chain: &[NodeId], record: &Node) -> Result<(), LedgerError> {
        let id = record.id();
        if let Node::Key(key) = record {
            self.command(cmd("SET").arg(names::hash(&key.hash)).arg(chain_text(chain))).await?;
        }
        self.command(cmd("SADD").arg(names.members()).arg(id.as_str())).await?;
        self.command(cmd("SET").arg(names::location(id)).arg(chain_text(chain))).await?;
        self.command(cmd("SET").arg(names::name(id.is_team(), record.name())).arg(id.as_str())).await.map(drop)
    }

    async fn put_record(&self, names: &Tree, record: &Node, revision: u64) -> Result<(), LedgerError> {
        let id = record.id();
        let mut set = cmd("HSET");
        set.arg(names.node(id)).arg("v").arg(revision);
        let (json, state, limits) = match record {
            Node::Key(key) => {
                set.arg("h").arg(&key.hash);
                if let Some(at) = key.expires_at {
                    set.arg("x").arg(at.max(0));
                }
                let bare = KeyRecord {
                    hash: String::new(),
                    expires_at: None,
                    state: State::Active,
                    limits: Limits::default(),
                    ..key.clone()
                };
                (to_json(&bare)?, key.state, &key.limits)
            }
            Node::Team(team) => {
                let bare = TeamRecord { state: State::Active, limits: Limits::default(), ..team.clone() };
                (to_json(&bare)?, team.state, &team.limits)
            }
        };
        set.arg("j").arg(json).arg("s").arg(state.name()).arg("l").arg(&shape::pack_limits(limits)?[..]);
        self.command(&set).await.map(drop)
    }
}

//! A ledger with short names for what is in it: `bot` for a key, `a` for a hold. All that a behaviour needs.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use loopers::clock::{Millis, Window};
use loopers::ledger::{
    Charge, Edit, HoldId, HoldRef, KeyRecord, KeyView, Ledger, Limits, NodeId, NodeStatus, Reserve, SessionAsk,
    Settled, State, TeamRecord, Verdict,
};
use loopers::money::Money;
use loopers::secret::{KeyHash, new_key, random_hex};

use crate::engines::{Engine, World};

/// A Wednesday, twenty seconds into a minute: no window ends while a test runs, unless the test wants it.
pub const NOON: &str = "2027-03-10T12:34:20Z";

/// An amount in nano-dollars.
pub const fn nano(amount: u64) -> Money {
    Money::from_nano(amount)
}

/// An instant as RFC 3339.
pub fn instant(text: &str) -> Result<Millis> {
    let at: jiff::Timestamp = text.parse().with_context(|| format!("`{text}` is not an instant"))?;
    Ok(at.as_millisecond())
}

/// Limits as pairs of window and nano-dollars.
pub fn limits(pairs: &[(Window, u64)]) -> Limits {
    let mut limits = Limits::default();
    for (window, amount) in pairs {
        limits.0[window.index()] = Some(nano(*amount));
    }
    limits
}

/// Runs one behaviour over one engine. A failure names both.
pub fn behaviour<Run, Done>(name: &str, engine: Engine, run: Run)
where
    Run: FnOnce(Lab) -> Done,
    Done: Future<Output = Result<()>>,
{
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(async { run(Lab::open(engine, "UTC", NOON).await?).await }));
    if let Err(why) = outcome {
        panic!("{name} over {}: {why:?}", engine.name());
    }
}

/// Fails with both sides when two answers differ.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<()> {
    if got != want {
        bail!("{what}\n  expected {want:?}\n  got      {got:?}");
    }
    Ok(())
}

/// One world and the names of what is in it.
pub struct Lab {
    pub world: World,
    pub now: Millis,
    nodes: BTreeMap<String, NodeId>,
    views: BTreeMap<String, Arc<KeyView>>,
    hashes: BTreeMap<String, KeyHash>,
    holds: BTreeMap<String, HoldRef>,
    made: i64,
}

impl Lab {
    /// An empty lab.
    pub async fn open(engine: Engine, zone: &str, at: &str) -> Result<Lab> {
        let now = instant(at)?;
        let world = World::open(engine, zone, now).await?;
        let (nodes, views, hashes, holds) = Default::default();
        Ok(Lab { world, now, nodes, views, hashes, holds, made: 0 })
    }

    /// The ledger, its clock set to this lab's time.
    pub fn ledger(&self) -> &Ledger {
        self.world.time.set(self.now);
        &self.world.ledger
    }

    /// The same ledger for a task.
    pub fn handle(&self) -> Ledger {
        self.ledger().clone()
    }

    /// Sets the time.
    pub fn at(&mut self, text: &str) -> Result<()> {
        self.now = instant(text)?;
        self.world.time.set(self.now);
        Ok(())
    }

    /// Opens the same store under another zone. Only a ledger in memory cannot do that.
    pub async fn reopen(self, zone: &str) -> Result<Lab> {
        let Lab { world, now, nodes, views, hashes, holds, made } = self;
        Ok(Lab { world: world.reopen(zone).await?, now, nodes, views, hashes, holds, made })
    }

    /// A team record that is not in the ledger yet.
    pub fn team_record(&mut self, name: &str, parent: Option<&str>, limits: Limits) -> Result<TeamRecord> {
        self.made += 1;
        let parent = parent.map(|parent| self.id(parent)).transpose()?;
        let id = NodeId::from(format!("t_{}", random_hex::<8>()?).as_str());
        self.nodes.insert(name.into(), id.clone());
        let created_at = self.now + self.made;
        Ok(TeamRecord { id, name: name.into(), parent, created_at, state: State::Active, limits })
    }

    /// Adds a team.
    pub async fn team(&mut self, name: &str, parent: Option<&str>, limits: Limits) -> Result<NodeId> {
        let record = self.team_record(name, parent, limits)?;
        self.ledger().create_team(&record).await?;
        Ok(record.id)
    }

    /// A key record that is not in the ledger yet.
    pub fn key_record(&mut self, name: &str, team: Option<&str>, limits: Limits) -> Result<KeyRecord> {
        self.made += 1;
        let team = team.map(|team| self.id(team)).transpose()?;
        let id = NodeId::from(format!("k_{}", random_hex::<8>()?).as_str());
        let hash = new_hash()?;
        self.nodes.insert(name.into(), id.clone());
        self.hashes.insert(name.into(), hash);
        Ok(KeyRecord {
            id,
            name: name.into(),
            hash: hash.hex(),
            team,
            created_at: self.now + self.made,
            expires_at: None,
            state: State::Active,
            limits,
            policy: Default::default(),
        })
    }

    /// Adds a key and looks it up.
    pub async fn key(&mut self, name: &str, team: Option<&str>, limits: Limits) -> Result<Arc<KeyView>> {
        let record = self.key_record(name, team, limits)?;
        self.add_key(&record).await
    }

    /// Adds a key of that record and looks it up.
    pub async fn add_key(&mut self, record: &KeyRecord) -> Result<Arc<KeyView>> {
        self.ledger().create_key(record).await?;
        self.lookup(&record.name).await?.with_context(|| format!("`{}` was created, but is not found", record.name))
    }

    /// Looks a key up by its hash, as a gateway does, and remembers the view.
    pub async fn lookup(&mut self, name: &str) -> Result<Option<Arc<KeyView>>> {
        let hash = *self.hashes.get(name).with_context(|| format!("no key is called `{name}`"))?;
        let view = self.ledger().key_by_hash(&hash).await?.map(Arc::new);
        if let Some(view) = &view {
            self.views.insert(name.into(), Arc::clone(view));
        }
        Ok(view)
    }

    /// Gives a key a new hash.
    pub async fn rotate(&mut self, name: &str) -> Result<KeyHash> {
        let hash = new_hash()?;
        self.ledger().edit(&self.id(name)?, &Edit::Rotate(hash)).await?;
        self.hashes.insert(name.into(), hash);
        Ok(hash)
    }

    /// The id of a key or team.
    pub fn id(&self, name: &str) -> Result<NodeId> {
        self.nodes.get(name).cloned().with_context(|| format!("nothing is called `{name}`"))
    }

    /// The name of a key or team.
    pub fn name(&self, id: &NodeId) -> String {
        let found = self.nodes.iter().find(|(_, known)| *known == id);
        found.map_or_else(|| format!("stranger {id}"), |(name, _)| name.clone())
    }

    /// The view of a key as it was last looked up: it may be out of date.
    pub fn view(&self, key: &str) -> Result<Arc<KeyView>> {
        self.views.get(key).cloned().with_context(|| format!("`{key}` was never looked up"))
    }

    /// A reserve for one hour. The hold of a name has the same id each time that it is asked for.
    pub fn ask(&mut self, hold: &str, key: &str, least: u64, most: u64) -> Result<Reserve> {
        let view = self.view(key)?;
        let known = self.holds.get(hold).map(|at| at.hold.clone());
        let id = known.map_or_else(HoldId::random, Ok)?;
        let (least, most) = (nano(least), nano(most));
        let note = "openai/gpt-test".to_string();
        let ask = Reserve { hold: id, view, session: None, least, most, ttl_ms: 3_600_000, note };
        self.holds.insert(hold.into(), ask.hold_ref());
        Ok(ask)
    }

    /// Remembers where a hold with a session is.
    pub fn remember_hold(&mut self, hold: &str, ask: &Reserve) {
        self.holds.insert(hold.into(), ask.hold_ref());
    }

    /// Reserves exactly `amount` and expects to get it.
    pub async fn hold(&mut self, hold: &str, key: &str, amount: u64) -> Result<HoldRef> {
        let ask = self.ask(hold, key, amount, amount)?;
        match self.ledger().reserve(&ask).await? {
            Verdict::Held(held) if held.granted == nano(amount) => Ok(ask.hold_ref()),
            other => bail!("reserve of {amount} for {hold}: {other:?}"),
        }
    }

    /// The hold of that name; a new name is a hold of `key` that was never reserved.
    pub fn hold_ref(&self, hold: &str) -> Result<HoldRef> {
        self.holds.get(hold).cloned().with_context(|| format!("no hold is called `{hold}`"))
    }

    /// The name of a hold.
    pub fn hold_name(&self, id: &HoldId) -> String {
        let found = self.holds.iter().find(|(_, at)| at.hold == *id);
        found.map_or_else(|| format!("stranger {id}"), |(name, _)| name.clone())
    }

    /// Settles a hold.
    pub async fn settle(&self, hold: &str, charge: Charge) -> Result<Settled> {
        Ok(self.ledger().settle(&self.hold_ref(hold)?, charge).await?)
    }

    /// The books of a key or team.
    pub async fn books(&self, name: &str) -> Result<NodeStatus> {
        Ok(self.ledger().status(&self.id(name)?).await?)
    }

    /// Spent and held of one window.
    pub async fn window(&self, name: &str, window: Window) -> Result<(u64, u64)> {
        let status = self.books(name).await?.windows[window.index()];
        Ok((status.spent.nano(), status.held.nano()))
    }

    /// Changes a key or team.
    pub async fn edit(&self, name: &str, edit: Edit) -> Result<()> {
        Ok(self.ledger().edit(&self.id(name)?, &edit).await?)
    }
}

/// A session that a call belongs to.
pub fn session(id: &str, budget: Option<u64>, steps: Option<u64>) -> Option<SessionAsk> {
    Some(SessionAsk { id: id.into(), budget: budget.map(nano), steps })
}

/// The hash of a new key.
pub fn new_hash() -> Result<KeyHash> {
    KeyHash::of(new_key()?.expose()).context("a new key is well formed")
}

//! One random episode: an engine, the model, and each answer judged at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use loopers::clock::Millis;
use loopers::ledger::{
    Charge, Edit, HoldId, HoldRef, HoldState, KeyView, LedgerError, NodeId, Refusal, Reserve, Settled, State, Verdict,
};
use loopers::secret::KeyHash;

use crate::engines::{Engine, World};
use crate::model::{Model, Node};
use crate::mutants::{Fault, Subject};
use crate::random_ops::Op;
use crate::random_time::PATIENCE;
use crate::rng::Rng;

const DAY: Millis = 86_400_000;
/// How many operations a failure shows.
const SHOWN: usize = 20;
/// After so many operations all books are compared.
const ROUND: u64 = 50;

/// An answer that is not the model's.
pub struct Divergence {
    pub what: String,
    pub expected: String,
    pub got: String,
}

/// Equal, or a divergence.
fn agree<T: PartialEq + Debug>(what: impl Display, got: T, expected: T) -> Result<(), Divergence> {
    if got == expected {
        return Ok(());
    }
    Err(Divergence { what: what.to_string(), expected: format!("{expected:?}"), got: format!("{got:?}") })
}

fn demand(what: impl Display, holds: bool, got: impl Debug) -> Result<(), Divergence> {
    if holds {
        Ok(())
    } else {
        Err(Divergence { what: what.to_string(), expected: "otherwise".into(), got: format!("{got:?}") })
    }
}

impl From<LedgerError> for Divergence {
    fn from(error: LedgerError) -> Self {
        Divergence { what: "an operation".into(), expected: "an answer".into(), got: format!("{error:?}") }
    }
}

/// One episode: an engine, the model, and what both did so far.
pub struct Run {
    pub subject: Subject,
    world: World,
    pub model: Model,
    pub rng: Rng,
    pub clock: Millis,
    /// The clock stands still between two steps.
    pub exact: bool,
    /// What amounts are multiples of.
    pub scale: u64,
    pub old_views: Vec<Arc<KeyView>>,
    /// When a session was last used for certain.
    pub last_use: BTreeMap<(NodeId, Arc<str>), Millis>,
    pub created: i64,
    pub history: VecDeque<String>,
    /// What the answers say was charged.
    charged: i128,
    pub seen: BTreeMap<&'static str, u64>,
}

impl Run {
    pub async fn open(engine: Engine, fault: Fault, seed: u64) -> Result<Run> {
        let mut rng = Rng::new(seed);
        let zones = ["UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"];
        let zone = *rng.pick(&zones).context("a zone")?;
        let dates = [
            "2026-12-27T10:00:20Z",
            "2027-03-26T10:00:20Z",
            "2027-10-29T03:00:20Z",
            "2028-02-27T22:00:20Z",
            "2031-06-30T12:00:20Z",
        ];
        let clock = crate::lab::instant(rng.pick(&dates).context("a date")?)?;
        let scale = *rng.pick(&[1, 1, 1_000_003, 10_000_000_019]).context("a scale")?;
        let world = World::open(engine, zone, clock).await?;
        let subject = Subject::new(world.ledger.clone(), fault);
        let model = Model::new(TimeZone::get(zone)?);
        let exact = engine.is_exact();
        let (old_views, last_use, history, seen) = Default::default();
        Ok(Run {
            subject,
            world,
            model,
            rng,
            clock,
            exact,
            scale,
            old_views,
            last_use,
            created: 0,
            history,
            charged: 0,
            seen,
        })
    }

    /// True while an engine must remember a session.
    pub fn session_is_remembered(&self, key: &NodeId, id: &Arc<str>) -> bool {
        let open = |line: &&crate::model::Line| {
            let at = &line.at;
            line.state == HoldState::Open && at.chain.first() == Some(key) && at.session.as_ref() == Some(id)
        };
        let used = self.last_use.get(&(key.clone(), Arc::clone(id)));
        used.is_none_or(|used| self.model.now(key, self.clock) < used + 29 * DAY)
            || self.model.lines.iter().any(|line| open(&line))
    }

    pub async fn play(&mut self, steps: u64) -> Result<(), (u64, Divergence)> {
        for _ in 0..3 {
            let op = self.choose_creation();
            self.step(op).await.map_err(|why| (0, why))?;
        }
        for step in 1..=steps {
            self.turn(step).await.map_err(|why| (step, why))?;
        }
        self.close().await.map_err(|why| (steps + 1, why))
    }

    async fn turn(&mut self, step: u64) -> Result<(), Divergence> {
        let wanted = match self.choose_skew() {
            Some(back) => {
                for op in self.pins() {
                    self.step(op).await?;
                }
                back
            }
            None => self.choose_time(),
        };
        self.move_to(wanted);
        let op = self.choose();
        self.step(op).await?;
        if step.is_multiple_of(ROUND) { self.inspect_all().await } else { Ok(()) }
    }

    fn move_to(&mut self, wanted: Millis) {
        let clock = self.safe_time(wanted);
        if (clock - self.clock).abs() > 60_000 {
            self.note(format!("the clock goes to {}", loopers::clock::rfc3339(clock)));
        }
        self.clock = clock;
    }

    fn note(&mut self, line: String) {
        self.history.push_back(line);
        if self.history.len() > SHOWN {
            self.history.pop_front();
        }
    }

    /// One operation, judged.
    async fn step(&mut self, op: Op) -> Result<(), Divergence> {
        self.move_to(self.clock);
        self.world.time.set(self.clock);
        self.note(format!("{} {op}", loopers::clock::rfc3339(self.clock)));
        let started = Instant::now();
        let touched = match &op {
            Op::Reserve(ask) => self.reserve(ask).await?,
            Op::Settle(at, charge) => self.settle(at, *charge).await?,
            Op::Sweep { most, drain } => self.sweep(*most, *drain).await?,
            Op::Standing(holds) => self.standing(holds).await?,
            Op::Edit(id, edit) => self.edit(id, edit).await?,
            Op::SetSession(key, id, state) => self.set_session(key, id, *state).await?,
            Op::CreateKey(_) | Op::CreateTeam(_) => self.create(&op).await?,
            Op::Listing => self.listing().await?,
            Op::Probe => {
                self.subject.ledger.probe().await?;
                Vec::new()
            }
        };
        let mut nodes: BTreeSet<NodeId> = touched.into_iter().collect();
        let all: Vec<NodeId> = self.model.nodes.keys().cloned().collect();
        nodes.extend(self.rng.pick(&all).cloned());
        nodes.retain(|id| self.model.nodes.contains_key(id));
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        self.inspect(&nodes).await?;
        let elapsed = started.elapsed().as_millis() as Millis;
        assert!(
            self.exact || elapsed < PATIENCE,
            "the host stood still for {elapsed} ms: this run says nothing, repeat it"
        );
        let most = if self.exact { self.clock } else { self.clock + elapsed + 1 };
        for tree in nodes.iter().map(|id| self.model.tree(id)).collect::<BTreeSet<_>>() {
            self.model.saw(&tree, None, most);
        }
        // Every tree of theirs was read, inspected or not.
        if let Op::Standing(holds) = &op {
            for tree in holds.iter().filter_map(|at| at.chain.last()) {
                self.model.saw(tree, None, most);
            }
        }
        if matches!(op, Op::Sweep { .. }) {
            for tree in self.trees() {
                self.model.saw(&tree, None, most);
            }
        }
        Ok(())
    }

    async fn reserve(&mut self, ask: &Reserve) -> Result<Vec<NodeId>, Divergence> {
        let again = self.model.line(&ask.hold).is_some();
        let mut want = self.model.judge_reserve(ask, self.clock);
        let got = self.subject.reserve(ask).await?;
        self.note(format!("    -> {got:?}"));
        if let (Verdict::Held(want), Verdict::Held(got)) = (&mut want, &got) {
            let seen = self.model.seen.get(&self.model.tree(&ask.view.key.id)).copied().unwrap_or_default();
            let patience = if self.exact { 0 } else { PATIENCE };
            // Redis counts in its own milliseconds: a few of them are lost between two clocks.
            let low = self.clock.max(seen.least) - if self.exact { 0 } else { 5 };
            let high = (self.clock + patience).max(seen.most);
            if again {
                // A repeated answer may say what was left then or what is left now.
                want.remaining = got.remaining.clone();
            } else {
                demand("the time of a hold", low <= got.now && got.now <= high, (low, got.now, high))?;
                want.now = got.now;
            }
        }
        agree("a reserve", &got, &want)?;
        self.count(match &got {
            Verdict::Held(_) if again => "held again",
            Verdict::Held(_) => "held",
            Verdict::Stale => "stale",
            Verdict::Spent => "spent",
            Verdict::Refused(Refusal::Budget(_)) => "refused by a window",
            Verdict::Refused(Refusal::SessionBudget { .. }) => "refused by a session's budget",
            Verdict::Refused(Refusal::SessionSteps { .. }) => "refused by a session's steps",
            Verdict::Refused(Refusal::Stopped { .. }) => "stopped",
            Verdict::Refused(Refusal::Expired(_)) => "expired",
        });
        if let (Verdict::Held(held), false) = (&got, again) {
            self.model.hold(ask, held);
            self.model.saw(&self.model.tree(&ask.view.key.id), Some(held.now), held.now);
            if let Some(session) = &ask.session {
                self.last_use.insert((ask.view.key.id.clone(), Arc::clone(&session.id)), held.now);
            }
        }
        self.inspect_session(&ask.hold_ref()).await?;
        Ok(ask.view.chain.clone())
    }

    async fn settle(&mut self, at: &HoldRef, charge: Charge) -> Result<Vec<NodeId>, Divergence> {
        let want = self.model.judge_settle(at, charge);
        let got = self.subject.settle(at, charge).await?;
        self.note(format!("    -> {got:?}"));
        agree("a settlement", got, want)?;
        self.model.settle(at, charge, self.clock);
        match got {
            Settled::Applied { charged, held } => {
                self.charged += i128::from(charged.nano());
                self.count(if charged > held { "overrun" } else { "applied" });
            }
            Settled::Corrected { charged, before } => {
                self.charged += i128::from(charged.nano()) - i128::from(before.nano());
                self.count("corrected");
            }
            Settled::Already { .. } => self.count("already"),
            Settled::Unknown => self.count("unknown"),
        }
        self.inspect_session(at).await?;
        Ok(at.chain.clone())
    }

    async fn sweep(&mut self, most: usize, drain: bool) -> Result<Vec<NodeId>, Divergence> {
        let certain = self.model.due(self.clock, false);
        let possible = self.model.due(self.clock, true);
        let mut swept = loopers::ledger::Sweep::default();
        for round in 0.. {
            let sweep = self.subject.sweep(most).await?;
            demand("a sweep's length", sweep.expired <= most as u64, (most, sweep))?;
            demand("a sweep's progress", sweep.expired > 0 || certain.is_empty() || round > 0, sweep)?;
            swept.expired += sweep.expired;
            swept.charged = swept.charged.saturating_add(sweep.charged);
            if !drain || sweep.expired == 0 {
                break;
            }
        }
        self.note(format!("    -> {swept:?}"));
        let listed = self.subject.ledger.holds(100_000).await?;
        let expired = listed.into_iter().filter(|hold| hold.state == HoldState::Expired);
        let expired: BTreeSet<HoldId> =
            expired.map(|hold| hold.at.hold).filter(|hold| possible.contains(hold)).collect();
        if drain {
            demand("what a whole sweep must end", expired.is_superset(&certain), (&expired, &certain))?;
        }
        agree("a sweep", swept, self.model.expire(&expired))?;
        self.charged += i128::from(swept.charged.nano());
        self.count(if swept.expired > 0 { "swept" } else { "swept nothing" });
        let lines = expired.iter().filter_map(|hold| self.model.line(hold));
        Ok(lines.flat_map(|line| line.at.chain.clone()).take(8).collect())
    }

    async fn standing(&mut self, holds: &[HoldRef]) -> Result<Vec<NodeId>, Divergence> {
        let want: Vec<_> = holds.iter().map(|at| self.model.standing(at, self.clock)).collect();
        let got = self.subject.ledger.standing(holds).await?;
        agree("standing", &got, &want)?;
        self.count("standing");
        Ok(holds.iter().flat_map(|at| at.chain.clone()).take(4).collect())
    }

    async fn edit(&mut self, id: &NodeId, edit: &Edit) -> Result<Vec<NodeId>, Divergence> {
        let answer = self.subject.edit(id, edit).await;
        let before = self.model.nodes.get(id).cloned();
        let revoked = before.as_ref().is_some_and(|node| node.state == State::Revoked);
        match &answer {
            Ok(()) => {}
            // The specification leaves the answer open where a revoked key is resumed.
            Err(LedgerError::Conflict(_)) if revoked && !matches!(edit, Edit::Limits(_)) => {}
            Err(other) => return Err(other.clone().into()),
        }
        match edit {
            Edit::Limits(changes) => {
                for (window, limit) in changes {
                    self.model.limit(id, *window, *limit, self.clock);
                }
            }
            Edit::State(state) if !revoked => {
                self.model.nodes.entry(id.clone()).and_modify(|node| node.state = *state);
            }
            Edit::Rotate(hash) if answer.is_ok() => {
                let old = before.as_ref().and_then(|node| node.view.as_ref()).map(|view| view.hash);
                if let Some(old) = old {
                    agree("a hash that was rotated away", self.subject.ledger.key_by_hash(&old).await?, None)?;
                }
                self.model.nodes.entry(id.clone()).and_modify(|node| {
                    node.key.iter_mut().for_each(|key| key.hash = hash.hex());
                });
            }
            _ => {}
        }
        self.count("edited");
        self.relearn(id, answer.is_ok()).await?;
        Ok(self.model.chain(id))
    }

    /// Looks a key up again: its record must be the model's, and its revision a new one.
    async fn relearn(&mut self, id: &NodeId, changed: bool) -> Result<(), Divergence> {
        let Some(node) = self.model.nodes.get(id).cloned() else { return Ok(()) };
        let Some(mut record) = node.key.clone() else { return Ok(()) };
        (record.state, record.limits) = (node.state, node.limits);
        let hash = KeyHash::from_hex(&record.hash).unwrap_or_else(|| unreachable!("{}", record.hash));
        let found = self.subject.ledger.key_by_hash(&hash).await?;
        let Some(view) = found else { return demand("a key by its hash", false, found) };
        agree("a key's record", &view.key, &record)?;
        agree("a key's chain", &view.chain, &self.model.chain(id))?;
        agree("a key's hash", view.hash, hash)?;
        if let Some(old) = node.view {
            demand("a revision", view.revision > old.revision || !changed, (old.revision, view.revision))?;
            self.old_views.push(old);
        }
        let view = Some(Arc::new(view));
        self.model.nodes.entry(id.clone()).and_modify(|node| (node.key, node.view) = (Some(record), view));
        Ok(())
    }

    async fn set_session(&mut self, key: &NodeId, id: &Arc<str>, state: State) -> Result<Vec<NodeId>, Divergence> {
        self.subject.ledger.set_session_state(key, id, state).await?;
        let place = (key.clone(), Arc::clone(id));
        self.model.sessions.insert(place.clone(), state);
        self.last_use.entry(place).or_insert(self.clock);
        self.inspect_session(&HoldRef {
            hold: HoldId("".into()),
            chain: vec![key.clone()],
            session: Some(Arc::clone(id)),
        })
        .await?;
        self.count("session state");
        Ok(vec![key.clone()])
    }

    async fn create(&mut self, op: &Op) -> Result<Vec<NodeId>, Divergence> {
        let (id, node) = match op {
            Op::CreateKey(record) => {
                self.subject.ledger.create_key(record).await?;
                let (name, state, limits) = (record.name.clone(), record.state, record.limits);
                let node =
                    Node { name, state, limits, parent: record.team.clone(), key: Some(record.clone()), view: None };
                (record.id.clone(), node)
            }
            Op::CreateTeam(record) => {
                self.subject.ledger.create_team(record).await?;
                let (name, state, limits) = (record.name.clone(), record.state, record.limits);
                (record.id.clone(), Node { name, state, limits, parent: record.parent.clone(), key: None, view: None })
            }
            _ => return Ok(Vec::new()),
        };
        self.model.nodes.insert(id.clone(), node);
        self.relearn(&id, true).await?;
        self.count("created");
        Ok(self.model.chain(&id))
    }

    async fn listing(&mut self) -> Result<Vec<NodeId>, Divergence> {
        let mut want = self.model.holds();
        for got in self.subject.ledger.holds(100_000).await? {
            let line = want.remove(&got.at.hold);
            agree("a hold that is listed", Some(got), line)?;
        }
        // Expired holds are remembered for 35 days.
        want.retain(|_, hold| {
            let tree = hold.at.chain.last().map_or(self.clock, |tree| self.model.now(tree, self.clock));
            hold.state == HoldState::Open || tree < hold.expires_at + 34 * DAY
        });
        demand("holds that are not listed", want.is_empty(), &want)?;
        let listed: BTreeSet<NodeId> =
            self.subject.ledger.nodes().await?.iter().map(|node| node.id().clone()).collect();
        agree("nodes that are listed", listed, self.model.nodes.keys().cloned().collect())?;
        Ok(Vec::new())
    }

    /// The books of these nodes are the model's, and within their limits.
    async fn inspect(&mut self, ids: &[NodeId]) -> Result<(), Divergence> {
        for got in self.subject.statuses(ids).await? {
            let id = got.id.clone();
            let want = self.model.status(&id, self.clock);
            agree(format!("the books of {id}"), Some(&got), want.as_ref())?;
            demand(format!("I1 of {id}: spent + held is above a limit"), self.model.within_limits(&got), &got)?;
        }
        Ok(())
    }

    async fn inspect_session(&mut self, at: &HoldRef) -> Result<(), Divergence> {
        let (Some(id), Some(key)) = (&at.session, at.chain.first()) else { return Ok(()) };
        if !self.session_is_remembered(key, id) {
            return Ok(());
        }
        let want = self.model.session(key, id);
        let got = self.subject.ledger.session(key, id).await?;
        match (&want, &got) {
            // Its state may be there before its first call.
            (None, Some(early)) => {
                demand("a session before its first call", early.steps == 0 && early.held.is_zero(), early)
            }
            _ => agree(format!("session {id} of {key}"), &got, &want),
        }
    }

    async fn inspect_all(&mut self) -> Result<(), Divergence> {
        self.step(Op::Listing).await?;
        let nodes: Vec<NodeId> = self.model.nodes.keys().cloned().collect();
        self.inspect(&nodes).await?;
        let sessions: Vec<_> = self.last_use.keys().cloned().collect();
        for (key, id) in sessions {
            self.inspect_session(&HoldRef { hold: HoldId("".into()), chain: vec![key], session: Some(id) }).await?;
        }
        let mut charged = 0;
        for status in self.subject.statuses(&self.trees()).await? {
            charged += i128::from(status.charged_total.nano());
        }
        agree("I4: what the answers charged and what the books say", charged, self.charged)?;
        // Every tree was read at this time.
        let most = if self.exact { self.clock } else { self.clock + PATIENCE };
        self.trees().iter().for_each(|tree| self.model.saw(tree, None, most));
        Ok(())
    }

    /// Ends every open hold; then nothing is held anywhere.
    async fn close(&mut self) -> Result<(), Divergence> {
        let open: Vec<HoldRef> = {
            let open = self.model.lines.iter().filter(|line| line.state == HoldState::Open);
            open.map(|line| line.at.clone()).collect()
        };
        for at in open {
            self.step(Op::Settle(at, Charge::Full)).await?;
        }
        self.inspect_all().await?;
        for status in self.subject.statuses(self.model.nodes.keys()).await? {
            demand("I3: held at rest", status.windows.iter().all(|row| row.held.is_zero()), status)?;
        }
        Ok(())
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}

//! Which operation comes next: chosen from what is in the books, so that most of them matter.

use std::fmt;
use std::sync::Arc;

use loopers::clock::{Millis, Window};
use loopers::ledger::{
    Charge, Edit, HoldId, HoldRef, HoldState, KeyRecord, Limits, NodeId, Reserve, SessionAsk, State, TeamRecord,
};
use loopers::money::Money;
use loopers::secret::KeyHash;

use crate::model::Line;
use crate::random_run::Run;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// One operation.
#[derive(Clone)]
pub enum Op {
    Reserve(Reserve),
    Settle(HoldRef, Charge),
    /// At most so many a call; if `drain`, again until nothing is left.
    Sweep {
        most: usize,
        drain: bool,
    },
    Standing(Vec<HoldRef>),
    Edit(NodeId, Edit),
    SetSession(NodeId, Arc<str>, State),
    CreateKey(KeyRecord),
    CreateTeam(TeamRecord),
    Listing,
    Probe,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Reserve(ask) => {
                let (least, most) = (ask.least.nano(), ask.most.nano());
                write!(
                    f,
                    "reserve {} of {} rev {}: {least}..{most}",
                    short(&ask.hold),
                    ask.view.key.id,
                    ask.view.revision
                )?;
                if let Some(session) = &ask.session {
                    let budget = session.budget.map(Money::nano);
                    write!(f, ", session {} budget {budget:?} steps {:?}", session.id, session.steps)?;
                }
                write!(f, ", ttl {} ms", ask.ttl_ms)
            }
            Op::Settle(at, charge) => write!(f, "settle {} {charge:?}", short(&at.hold)),
            Op::Sweep { most, drain } => {
                write!(f, "sweep {most}{}", if *drain { " until nothing is left" } else { "" })
            }
            Op::Standing(holds) => {
                let names: Vec<&str> = holds.iter().map(|at| short(&at.hold)).collect();
                write!(f, "standing {}", names.join(" "))
            }
            Op::Edit(id, edit) => write!(f, "edit {id} {edit:?}"),
            Op::SetSession(key, id, state) => write!(f, "session {id} of {key} becomes {state:?}"),
            Op::CreateKey(record) => {
                write!(
                    f,
                    "create key {} in {:?}, until {:?}, {:?}",
                    record.id, record.team, record.expires_at, record.limits
                )
            }
            Op::CreateTeam(record) => {
                write!(f, "create team {} in {:?}, {:?}", record.id, record.parent, record.limits)
            }
            Op::Listing => f.write_str("list holds and nodes"),
            Op::Probe => f.write_str("probe"),
        }
    }
}

fn short(hold: &HoldId) -> &str {
    hold.0.get(..8).unwrap_or(&hold.0)
}

impl Run {
    /// The next operation.
    pub fn choose(&mut self) -> Op {
        let keys = self.keys(|_| true).len();
        let live = self.keys(|state| state != State::Revoked).len();
        if live == 0 || (keys < 14 && self.rng.chance(2)) {
            return self.choose_creation();
        }
        let open = self.model.lines.iter().filter(|line| line.state == HoldState::Open).count();
        let settles = if open > 60 { 60 } else { 30 };
        match self.rng.below(100) {
            0..2 => self.choose_limits(),
            2..5 => self.choose_state(),
            5 => self.choose_session_state(),
            6..9 => self.choose_standing(),
            9..14 => {
                let drain = self.rng.chance(40);
                Op::Sweep { most: if drain { 100 } else { self.rng.within(1, 4) as usize }, drain }
            }
            14 if self.rng.chance(50) => Op::Listing,
            15 if self.rng.chance(20) => Op::Probe,
            at if at < 15 + settles => self.choose_settle(),
            _ => self.choose_reserve(),
        }
    }

    pub fn keys(&self, wanted: impl Fn(State) -> bool) -> Vec<NodeId> {
        let keys = self.model.nodes.iter().filter(|(_, node)| node.key.is_some() && wanted(node.state));
        keys.map(|(id, _)| id.clone()).collect()
    }

    fn has_expired(&self, key: &NodeId) -> bool {
        let end = self.model.nodes.get(key).and_then(|node| node.key.as_ref()?.expires_at);
        end.is_some_and(|end| end <= self.model.now(key, self.clock))
    }

    /// Lines whose ending an engine must still remember.
    fn remembered(&self, wanted: impl Fn(&Line) -> bool) -> Vec<HoldRef> {
        let known = |line: &&Line| {
            let now = line.at.chain.last().map_or(self.clock, |tree| self.model.now(tree, self.clock));
            let kept = match line.state {
                HoldState::Open => true,
                HoldState::Expired => now < line.expires_at + (34 * DAY) as Millis,
                HoldState::Settled => now < line.settled_at + (23 * HOUR) as Millis,
            };
            let session = line.at.session.as_ref().zip(line.at.chain.first());
            kept && session.is_none_or(|(id, key)| self.session_is_remembered(key, id)) && wanted(line)
        };
        self.model.lines.iter().filter(known).map(|line| line.at.clone()).collect()
    }

    fn fresh_hold(&mut self) -> HoldId {
        HoldId(format!("{}{}", self.rng.hex(16), self.rng.hex(16)).into())
    }

    fn choose_reserve(&mut self) -> Op {
        let again = if self.rng.chance(7) { self.remembered(|_| true) } else { Vec::new() };
        let again = self.rng.pick(&again).cloned();
        let mut keys = self.keys(|state| state == State::Active);
        if self.rng.chance(10) {
            keys.clear();
        } else {
            keys.retain(|key| !self.has_expired(key));
        }
        let keys = if keys.is_empty() { self.keys(|_| true) } else { keys };
        let key = again.as_ref().and_then(|at| at.chain.first().cloned()).or_else(|| self.rng.pick(&keys).cloned());
        let key = key.unwrap_or_else(|| NodeId::from("k_none"));
        let old: Vec<_> = self.old_views.iter().filter(|view| view.key.id == key).cloned().collect();
        let current = self.model.nodes.get(&key).and_then(|node| node.view.clone());
        let old = if current.is_none() || self.rng.chance(8) { self.rng.pick(&old).cloned() } else { None };
        let Some(view) = old.or(current) else { return Op::Listing };
        let session = match &again {
            Some(at) => at.session.clone().map(|id| SessionAsk { id, budget: None, steps: None }),
            None if self.rng.chance(45) => Some(self.choose_session(&key)),
            None => None,
        };
        let most = self.choose_amount();
        let least = match self.rng.below(5) {
            0 => 0,
            1 => most / 2,
            2 => self.rng.within(0, most),
            3 => most + self.rng.below(3),
            _ => most,
        };
        let ttl_ms = match self.rng.below(20) {
            0..8 => self.rng.within(SECOND, 30 * SECOND),
            8..14 => self.rng.within(MINUTE, 15 * MINUTE),
            14..19 => self.rng.within(HOUR, 3 * HOUR),
            _ => self.rng.within(2 * DAY, 40 * DAY),
        };
        let hold = again.map_or_else(|| self.fresh_hold(), |at| at.hold);
        let (least, most) = (Money::from_nano(least), Money::from_nano(most));
        let note = format!("openai/model-{}", self.rng.below(3));
        Op::Reserve(Reserve { hold, view, session, least, most, ttl_ms, note })
    }

    fn choose_amount(&mut self) -> u64 {
        let amount = match self.rng.below(10) {
            0 => self.rng.below(3),
            1..8 => self.rng.within(1, 120),
            _ => self.rng.within(100, 900),
        };
        amount * self.scale + if self.scale > 1 { self.rng.below(10) } else { 0 }
    }

    fn choose_session(&mut self, key: &NodeId) -> SessionAsk {
        let known: Vec<Arc<str>> =
            self.last_use.keys().filter(|(of, _)| of == key).map(|(_, id)| Arc::clone(id)).collect();
        let known: Vec<Arc<str>> = known.into_iter().filter(|id| self.session_is_remembered(key, id)).collect();
        let id = match self.rng.chance(75) {
            true => self.rng.pick(&known).cloned(),
            false => None,
        };
        let id = id.unwrap_or_else(|| format!("run:{}", self.rng.hex(8)).into());
        let budget = self.rng.chance(40).then(|| Money::from_nano(self.rng.within(0, 1500) * self.scale));
        let steps = self.rng.chance(30).then(|| self.rng.within(1, 25));
        SessionAsk { id, budget, steps }
    }

    fn choose_settle(&mut self) -> Op {
        if self.rng.chance(6) {
            let keys = self.keys(|_| true);
            if let Some(key) = self.rng.pick(&keys).cloned() {
                let session = self.rng.chance(30).then(|| self.choose_session(&key).id);
                let at = HoldRef { hold: self.fresh_hold(), chain: self.model.chain(&key), session };
                return Op::Settle(
                    at,
                    if self.rng.chance(50) { Charge::Full } else { Charge::Exact(Money::from_nano(7)) },
                );
            }
        }
        let open = self.rng.chance(75);
        let lines = self.remembered(|line| (line.state == HoldState::Open) == open);
        let Some(at) = self.rng.pick(&lines).cloned() else { return self.choose_reserve() };
        let amount = self.model.line(&at.hold).map_or(0, |line| line.amount);
        let charge = match self.rng.below(100) {
            0..15 => Charge::Full,
            15..25 => Charge::Exact(Money::ZERO),
            25..35 => Charge::Exact(Money::from_nano(amount)),
            35..45 => Charge::Exact(Money::from_nano(amount + self.rng.within(1, 200))),
            _ => Charge::Exact(Money::from_nano(self.rng.within(0, amount))),
        };
        Op::Settle(at, charge)
    }

    fn choose_standing(&mut self) -> Op {
        let mut lines = self.remembered(|_| true);
        let count = self.rng.below(8);
        let mut holds = Vec::new();
        for _ in 0..count.min(lines.len() as u64) {
            let at = self.rng.below(lines.len() as u64) as usize;
            holds.push(lines.swap_remove(at));
        }
        Op::Standing(holds)
    }

    fn choose_limit(&mut self, id: Option<&NodeId>, window: Window) -> Option<Money> {
        // Near what is used now: above, below or just at it.
        let near = id.filter(|_| self.rng.chance(40)).and_then(|id| self.model.status(id, self.clock));
        if let Some(status) = near {
            let row = status.windows[window.index()];
            let used = row.spent.nano() + row.held.nano();
            return Some(Money::from_nano((used + self.rng.below(60)).saturating_sub(30)));
        }
        let limit = match self.rng.below(20) {
            0 => 0,
            1..6 => self.rng.within(50, 1_000),
            6..10 => self.rng.within(500, 10_000),
            10..12 => 80_000,
            _ => return None,
        };
        Some(Money::from_nano(limit * self.scale))
    }

    fn choose_limits(&mut self) -> Op {
        let nodes: Vec<NodeId> = self.model.nodes.keys().cloned().collect();
        let Some(id) = self.rng.pick(&nodes).cloned() else { return Op::Listing };
        let count = self.rng.within(1, 3) as usize;
        let first = self.rng.below(5) as usize;
        let mut changes = Vec::new();
        for i in 0..count {
            let window = Window::ALL[(first + 2 * i) % 5];
            changes.push((window, self.choose_limit(Some(&id), window)));
        }
        Op::Edit(id, Edit::Limits(changes))
    }

    fn choose_state(&mut self) -> Op {
        let stopped: Vec<NodeId> = {
            let stopped = self.model.nodes.iter().filter(|(_, node)| node.state != State::Active);
            stopped.filter(|(_, node)| node.state != State::Revoked).map(|(id, _)| id.clone()).collect()
        };
        if let Some(id) = self.rng.pick(&stopped).cloned().filter(|_| self.rng.chance(70)) {
            return Op::Edit(id, Edit::State(State::Active));
        }
        let nodes: Vec<NodeId> = self.model.nodes.keys().cloned().collect();
        let Some(id) = self.rng.pick(&nodes).cloned() else { return Op::Listing };
        let edit = match self.rng.below(10) {
            0..3 if !id.is_team() => Edit::Rotate(self.fresh_hash()),
            3 if !id.is_team() => Edit::State(State::Revoked),
            4..7 => Edit::State(State::Killed),
            _ => Edit::State(State::Paused),
        };
        Op::Edit(id, edit)
    }

    fn choose_session_state(&mut self) -> Op {
        let keys = self.keys(|_| true);
        let Some(key) = self.rng.pick(&keys).cloned() else { return Op::Listing };
        let id = self.choose_session(&key).id;
        let state = match self.rng.below(10) {
            0..6 => State::Active,
            6..8 => State::Paused,
            _ => State::Killed,
        };
        Op::SetSession(key, id, state)
    }

    fn fresh_hash(&mut self) -> KeyHash {
        let hex: String = (0..4).map(|_| self.rng.hex(16)).collect();
        // Four times sixteen hexadecimal characters are a hash.
        KeyHash::from_hex(&hex).unwrap_or_else(|| unreachable!("{hex}"))
    }

    /// A key or a team, alone or somewhere in a tree that is not too deep.
    pub fn choose_creation(&mut self) -> Op {
        let teams: Vec<NodeId> = self.model.nodes.keys().filter(|id| id.is_team()).cloned().collect();
        let parent = if self.rng.chance(70) { self.rng.pick(&teams).cloned() } else { None };
        let depth = parent.as_ref().map_or(0, |parent| self.model.chain(parent).len());
        let mut limits = Limits::default();
        for window in Window::ALL {
            limits.0[window.index()] = self.choose_limit(None, window);
        }
        let number = self.model.nodes.len();
        self.created += 1;
        let created_at = self.clock + self.created;
        if depth < 3 && teams.len() < 8 && self.rng.chance(45) {
            let id = NodeId::from(format!("t_{}", self.rng.hex(16)).as_str());
            let name = format!("team {number}");
            return Op::CreateTeam(TeamRecord { id, name, parent, created_at, state: State::Active, limits });
        }
        let expires_at = self.rng.chance(15).then(|| self.clock + self.rng.within(MINUTE, 3 * DAY) as Millis);
        Op::CreateKey(KeyRecord {
            id: NodeId::from(format!("k_{}", self.rng.hex(16)).as_str()),
            name: format!("key {number}"),
            hash: self.fresh_hash().hex(),
            team: parent,
            created_at,
            expires_at,
            state: State::Active,
            limits,
            policy: Default::default(),
        })
    }
}

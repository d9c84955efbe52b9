//! The independent model: the specification in the plainest form, as a list of everything that was ever held.
//!
//! It keeps no counter. What a window spent and holds, what a session used, how far it was tightened, what a node was
//! charged: each is added up from the list whenever it is asked for. It shares no code with an engine, not even the
//! calendar.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use loopers::clock::{Millis, WINDOWS, Window};
use loopers::ledger::{
    BudgetRefusal, Charge, Held, HoldId, HoldInfo, HoldRef, HoldState, KeyRecord, KeyView, Level, Limits, NodeId,
    NodeStatus, Refusal, Remaining, Reserve, SessionStatus, Settled, Standing, State, Sweep, Verdict, WindowStatus,
};
use loopers::money::Money;

/// Above every limit; the limit of a window that has none.
const UNLIMITED: u64 = (1 << 53) - 1;

/// A hold, a tombstone, or what became of either. One line of the list.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: HoldRef,
    /// The budget and steps that its call asked for.
    asked: (Option<Money>, Option<u64>),
    starts: [Millis; WINDOWS],
    pub amount: u64,
    pub expires_at: Millis,
    note: String,
    pub state: HoldState,
    /// What it was charged so far.
    pub charged: u64,
    /// When it was settled.
    pub settled_at: Millis,
    tombstone: bool,
}

/// A key or team, as it was last written.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub state: State,
    pub limits: Limits,
    pub parent: Option<NodeId>,
    /// The key's record; a team has none.
    pub key: Option<KeyRecord>,
    /// The key as a gateway finds it now.
    pub view: Option<Arc<KeyView>>,
}

/// The latest time that a tree has seen for certain, and at most. Not every reading need be remembered by an engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub least: Millis,
    pub most: Millis,
}

/// The books.
pub struct Model {
    zone: TimeZone,
    pub nodes: BTreeMap<NodeId, Node>,
    pub lines: Vec<Line>,
    pub sessions: BTreeMap<(NodeId, Arc<str>), State>,
    pub seen: BTreeMap<NodeId, Seen>,
    /// Windows that may be above their limit: it was lowered, or a provider billed more than was held.
    debts: BTreeSet<(NodeId, usize, Millis)>,
}

impl Model {
    pub fn new(zone: TimeZone) -> Model {
        let (nodes, lines, sessions, seen, debts) = Default::default();
        Model { zone, nodes, lines, sessions, seen, debts }
    }

    /// The five windows that hold `now`, as start and end.
    pub fn windows(&self, now: Millis) -> [(Millis, Millis); WINDOWS] {
        let Ok(instant) = Timestamp::from_millisecond(now) else { return [(0, 0); WINDOWS] };
        let local = instant.to_zoned_datetime(self.zone.clone());
        let minute = now - now.rem_euclid(60_000);
        let into_hour = i64::from(local.minute()) * 60_000 + now.rem_euclid(60_000);
        let hour = now - into_hour;
        let day = local.start_of_day().ok();
        let week = day.as_ref().and_then(|day| back(day, i64::from(local.weekday().to_monday_zero_offset())));
        let month = day.as_ref().and_then(|day| back(day, i64::from(local.day()) - 1));
        let next = |from: &Option<ZonedDateTime>, span: Span| {
            from.as_ref().and_then(|from| from.checked_add(span).ok()?.start_of_day().ok())
        };
        let at = |from: &Option<ZonedDateTime>| from.as_ref().map_or(0, |from| from.timestamp().as_millisecond());
        [
            (minute, minute + 60_000),
            (hour, hour + 3_600_000),
            (at(&day), at(&next(&day, Span::new().days(1)))),
            (at(&week), at(&next(&week, Span::new().weeks(1)))),
            (at(&month), at(&next(&month, Span::new().months(1)))),
        ]
    }

    /// A key or team with what is above it, key first.
    pub fn chain(&self, id: &NodeId) -> Vec<NodeId> {
        let mut chain = vec![id.clone()];
        while let Some(parent) = chain.last().and_then(|id| self.nodes.get(id)?.parent.clone()) {
            chain.push(parent);
        }
        chain
    }

    pub fn tree(&self, id: &NodeId) -> NodeId {
        self.chain(id).pop().unwrap_or_else(|| id.clone())
    }

    /// The time in the tree of a node.
    pub fn now(&self, id: &NodeId, clock: Millis) -> Millis {
        let seen = self.seen.get(&self.tree(id)).copied().unwrap_or_default();
        clock.max(seen.least)
    }

    /// Spent and held of the five windows that start so.
    fn used(&self, id: &NodeId, windows: &[(Millis, Millis); WINDOWS]) -> [(u64, u64); WINDOWS] {
        let mut used = [(0, 0); WINDOWS];
        for line in self.lines.iter().filter(|line| line.at.chain.contains(id)) {
            for (i, used) in used.iter_mut().enumerate().filter(|(i, _)| line.starts[*i] == windows[*i].0) {
                match line.state {
                    HoldState::Open => used.1 += line.amount,
                    _ => used.0 += line.charged,
                }
                debug_assert!(i < WINDOWS);
            }
        }
        used
    }

    fn session_lines<'a>(&'a self, key: &'a NodeId, id: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| {
            !line.tombstone && line.at.chain.first() == Some(key) && line.at.session.as_deref() == Some(id)
        })
    }

    pub fn line(&self, hold: &HoldId) -> Option<&Line> {
        self.lines.iter().find(|line| line.at.hold == *hold)
    }

    /// The books of a session; `None` when it made no call.
    pub fn session(&self, key: &NodeId, id: &str) -> Option<SessionStatus> {
        let lines: Vec<&Line> = self.session_lines(key, id).collect();
        lines.first()?;
        let sum = |open: bool| {
            let of = lines.iter().filter(|line| (line.state == HoldState::Open) == open);
            of.map(|line| if open { line.amount } else { line.charged }).sum::<u64>()
        };
        Some(SessionStatus {
            id: id.into(),
            state: self.session_state(key, id),
            limit: lines.iter().filter_map(|line| line.asked.0).min(),
            steps_limit: lines.iter().filter_map(|line| line.asked.1).min(),
            spent: Money::from_nano(sum(false)),
            held: Money::from_nano(sum(true)),
            steps: lines.len() as u64,
        })
    }

    fn session_state(&self, key: &NodeId, id: &str) -> State {
        self.sessions.get(&(key.clone(), id.into())).copied().unwrap_or_default()
    }

    /// The books of a key or team.
    pub fn status(&self, id: &NodeId, clock: Millis) -> Option<NodeStatus> {
        let node = self.nodes.get(id)?;
        let windows = self.windows(self.now(id, clock));
        let used = self.used(id, &windows);
        let lines = || self.lines.iter().filter(|line| line.at.chain.contains(id) && line.state != HoldState::Open);
        Some(NodeStatus {
            id: id.clone(),
            level: if node.key.is_some() { Level::Key } else { Level::Team },
            name: node.name.clone(),
            state: node.state,
            windows: Window::ALL.map(|window| WindowStatus {
                window,
                limit: node.limits.of(window),
                spent: Money::from_nano(used[window.index()].0),
                held: Money::from_nano(used[window.index()].1),
                started_at: windows[window.index()].0,
                resets_at: windows[window.index()].1,
            }),
            charged_total: Money::from_nano(lines().map(|line| line.charged).sum()),
            overrun_total: Money::from_nano(lines().map(|line| line.charged.saturating_sub(line.amount)).sum()),
        })
    }

    /// The answer to a reserve; a grant says `clock` for its time, a repeated one when it was taken.
    pub fn judge_reserve(&self, ask: &Reserve, clock: Millis) -> Verdict {
        if let Some(line) = self.line(&ask.hold) {
            return match line.state {
                HoldState::Open => held(line.amount, None, line.expires_at - ask.ttl_ms as Millis),
                _ => Verdict::Spent,
            };
        }
        let id = &ask.view.key.id;
        let current = self.nodes.get(id).and_then(|node| node.view.as_ref());
        let fresh = current.is_some_and(|view| view.revision == ask.view.revision && view.hash == ask.view.hash);
        if !fresh {
            return Verdict::Stale;
        }
        let now = self.now(id, clock);
        if let Some(refusal) = self.stopped(&ask.hold_ref()).or_else(|| self.expired(id, now)) {
            return Verdict::Refused(refusal);
        }
        match self.room(ask, now) {
            Err(refusal) => Verdict::Refused(refusal),
            Ok(rooms) => {
                let granted = rooms.iter().map(|room| room.0).min().unwrap_or(UNLIMITED).min(ask.most.nano());
                let set = rooms.into_iter().filter_map(|(room, place)| Some((room - granted, place?)));
                // The first of equals: `min_by_key` keeps it.
                let least = set.min_by_key(|(room, _)| *room);
                let remaining =
                    least.map(|(room, (level, window))| Remaining { amount: Money::from_nano(room), level, window });
                held(granted, remaining, clock)
            }
        }
    }

    fn stopped(&self, at: &HoldRef) -> Option<Refusal> {
        for id in &at.chain {
            let node = self.nodes.get(id)?;
            let level = if node.key.is_some() { Level::Key } else { Level::Team };
            if node.state != State::Active {
                return Some(Refusal::Stopped { level, id: id.to_string(), state: node.state });
            }
        }
        let id = at.session.as_deref()?;
        let state = self.session_state(at.chain.first()?, id);
        (state != State::Active).then(|| Refusal::Stopped { level: Level::Session, id: id.into(), state })
    }

    fn expired(&self, id: &NodeId, now: Millis) -> Option<Refusal> {
        let end = self.nodes.get(id)?.key.as_ref()?.expires_at?;
        (end <= now).then_some(Refusal::Expired(end))
    }

    /// The room under every limit in the order of the checks, with the place of those that are set.
    #[allow(clippy::type_complexity)]
    fn room(&self, ask: &Reserve, now: Millis) -> Result<Vec<(u64, Option<(Level, Option<Window>)>)>, Refusal> {
        let least = ask.least.min(ask.most).nano();
        let mut rooms = Vec::new();
        if let Some(session) = &ask.session {
            let so_far = self.session(&ask.view.key.id, &session.id);
            let (spent, held, used) = so_far.as_ref().map_or((0, 0, 0), |s| (s.spent.nano(), s.held.nano(), s.steps));
            let budget = [session.budget, so_far.as_ref().and_then(|s| s.limit)].into_iter().flatten().min();
            let steps = [session.steps, so_far.as_ref().and_then(|s| s.steps_limit)].into_iter().flatten().min();
            if let Some(limit) = steps.filter(|limit| used + 1 > *limit) {
                return Err(Refusal::SessionSteps { limit, used });
            }
            if let Some(limit) = budget {
                if u128::from(spent) + u128::from(held) + u128::from(least) > u128::from(limit.nano()) {
                    return Err(Refusal::SessionBudget {
                        limit,
                        spent: Money::from_nano(spent),
                        held: Money::from_nano(held),
                    });
                }
                rooms.push((limit.nano() - spent - held, Some((Level::Session, None))));
            }
        }
        let windows = self.windows(now);
        for id in &ask.view.chain {
            let Some(node) = self.nodes.get(id) else { continue };
            let level = if node.key.is_some() { Level::Key } else { Level::Team };
            for (window, (spent, held)) in Window::ALL.into_iter().zip(self.used(id, &windows)) {
                let limit = node.limits.of(window);
                let bound = limit.map_or(UNLIMITED, Money::nano);
                if u128::from(spent) + u128::from(held) + u128::from(least) > u128::from(bound) {
                    return Err(Refusal::Budget(BudgetRefusal {
                        level,
                        id: id.clone(),
                        window,
                        limit: Money::from_nano(bound),
                        spent: Money::from_nano(spent),
                        held: Money::from_nano(held),
                        resets_at: windows[window.index()].1,
                    }));
                }
                rooms.push((bound - spent - held, limit.map(|_| (level, Some(window)))));
            }
        }
        Ok(rooms)
    }

    /// Writes a hold down that was granted at `held.now`.
    pub fn hold(&mut self, ask: &Reserve, granted: &Held) {
        if self.line(&ask.hold).is_some() {
            return;
        }
        let session = ask.session.as_ref();
        let starts = self.windows(granted.now).map(|window| window.0);
        self.lines.push(Line {
            at: ask.hold_ref(),
            asked: (session.and_then(|session| session.budget), session.and_then(|session| session.steps)),
            starts,
            amount: granted.granted.nano(),
            expires_at: granted.now + ask.ttl_ms as Millis,
            note: ask.note.clone(),
            state: HoldState::Open,
            charged: 0,
            settled_at: 0,
            tombstone: false,
        });
    }

    /// The answer to a settlement.
    pub fn judge_settle(&self, at: &HoldRef, charge: Charge) -> Settled {
        let Some(line) = self.line(&at.hold) else { return Settled::Unknown };
        let (amount, before) = (Money::from_nano(line.amount), Money::from_nano(line.charged));
        match (line.state, charge) {
            (HoldState::Open, Charge::Exact(cost)) => Settled::Applied { charged: cost, held: amount },
            (HoldState::Open, Charge::Full) => Settled::Applied { charged: amount, held: amount },
            (HoldState::Expired, Charge::Exact(cost)) => Settled::Corrected { charged: cost, before },
            _ => Settled::Already { charged: before },
        }
    }

    /// Writes a settlement down, as the specification has it.
    pub fn settle(&mut self, at: &HoldRef, charge: Charge, clock: Millis) {
        let settled_at = at.chain.first().map_or(clock, |key| self.now(key, clock));
        let charged = match self.judge_settle(at, charge) {
            Settled::Applied { charged, .. } | Settled::Corrected { charged, .. } => charged.nano(),
            Settled::Already { .. } => return,
            Settled::Unknown => {
                let (note, state) = (String::new(), HoldState::Settled);
                let starts = [Millis::MIN; WINDOWS];
                let (at, asked) = (at.clone(), (None, None));
                let (amount, charged, expires_at, tombstone) = (0, 0, 0, true);
                self.lines.push(Line {
                    at,
                    asked,
                    starts,
                    amount,
                    expires_at,
                    note,
                    state,
                    charged,
                    settled_at,
                    tombstone,
                });
                return;
            }
        };
        let Some(line) = self.lines.iter_mut().find(|line| line.at.hold == at.hold) else { return };
        (line.state, line.charged, line.settled_at) = (HoldState::Settled, charged, settled_at);
        if charged > line.amount {
            let windows: Vec<(usize, Millis)> = line.starts.into_iter().enumerate().collect();
            for id in &at.chain {
                self.debts.extend(windows.iter().map(|(i, start)| (id.clone(), *i, *start)));
            }
        }
    }

    /// Open holds past their time: by the clock alone, or by the time of their tree too.
    pub fn due(&self, clock: Millis, by_tree: bool) -> BTreeSet<HoldId> {
        let now = |line: &Line| {
            let tree = line.at.chain.last().and_then(|tree| self.seen.get(tree)).copied().unwrap_or_default();
            if by_tree { clock.max(tree.most) } else { clock }
        };
        let due = self.lines.iter().filter(|line| line.state == HoldState::Open && line.expires_at <= now(line));
        due.map(|line| line.at.hold.clone()).collect()
    }

    /// Writes down that these holds were swept.
    pub fn expire(&mut self, holds: &BTreeSet<HoldId>) -> Sweep {
        let mut sweep = Sweep::default();
        for line in self.lines.iter_mut().filter(|line| holds.contains(&line.at.hold) && line.state == HoldState::Open)
        {
            (line.state, line.charged) = (HoldState::Expired, line.amount);
            sweep.expired += 1;
            sweep.charged = sweep.charged.saturating_add(Money::from_nano(line.amount));
        }
        sweep
    }

    pub fn standing(&self, at: &HoldRef, clock: Millis) -> Standing {
        if let Some(Refusal::Stopped { state, .. }) = self.stopped(at) {
            return Standing::Stopped(state);
        }
        let over = |limit: Option<Money>, spent: Money| limit.is_some_and(|limit| limit < spent || limit.is_zero());
        let nodes = at.chain.iter().filter_map(|id| self.status(id, clock));
        let node_over = nodes.flat_map(|status| status.windows).any(|window| over(window.limit, window.spent));
        let session = at.session.as_deref().zip(at.chain.first()).and_then(|(id, key)| self.session(key, id));
        match node_over || session.is_some_and(|session| over(session.limit, session.spent)) {
            true => Standing::OverLimit,
            false => Standing::Good,
        }
    }

    /// Open and expired holds, by id.
    pub fn holds(&self) -> BTreeMap<HoldId, HoldInfo> {
        let kept = self.lines.iter().filter(|line| line.state != HoldState::Settled);
        let info = |line: &Line| HoldInfo {
            at: line.at.clone(),
            state: line.state,
            amount: Money::from_nano(line.amount),
            charged: Money::from_nano(line.charged),
            expires_at: line.expires_at,
            note: line.note.clone(),
        };
        kept.map(|line| (line.at.hold.clone(), info(line))).collect()
    }

    /// Sets a limit; what is above it from now on is a debt of its window.
    pub fn limit(&mut self, id: &NodeId, window: Window, limit: Option<Money>, clock: Millis) {
        let now = self.now(id, clock);
        let (i, windows) = (window.index(), self.windows(now));
        let (spent, held) = self.used(id, &windows)[i];
        if limit.is_some_and(|limit| spent + held > limit.nano()) {
            self.debts.insert((id.clone(), i, windows[i].0));
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.limits.0[i] = limit;
        }
    }

    /// `spent + held ≤ limit`, unless the window is known to be in debt. The books of an engine, not this model's.
    pub fn within_limits(&self, status: &NodeStatus) -> bool {
        status.windows.iter().all(|row| {
            let used = row.spent.saturating_add(row.held);
            let debt = (status.id.clone(), row.window.index(), row.started_at);
            row.limit.is_none_or(|limit| used <= limit) || self.debts.contains(&debt)
        })
    }

    /// A tree has seen times from `least` to `most`.
    pub fn saw(&mut self, tree: &NodeId, least: Option<Millis>, most: Millis) {
        let seen = self.seen.entry(tree.clone()).or_default();
        seen.least = seen.least.max(least.unwrap_or(seen.least));
        seen.most = seen.most.max(most).max(seen.least);
    }
}

fn held(granted: u64, remaining: Option<Remaining>, now: Millis) -> Verdict {
    Verdict::Held(Held { granted: Money::from_nano(granted), remaining, now })
}

/// The start of the day so many days earlier.
fn back(day: &ZonedDateTime, days: i64) -> Option<ZonedDateTime> {
    day.checked_sub(Span::new().days(days)).ok()?.start_of_day().ok()
}

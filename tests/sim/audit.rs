//! The auditor: judges every step by the contract, from what was said on the wire, what the provider billed, and what the books say.
//!
//! It keeps a list of holds and no counter; every sum is added up anew. It shares nothing with the program, not even a type: amounts are
//! nano-dollars, times are milliseconds, nodes are places in a list, a hold is its number.

use std::collections::BTreeMap;

use crate::calendar::Zone;

const DAY: i64 = 86_400_000;
/// How long an ended hold, an expired one and a session are remembered.
const SETTLED_KEPT: i64 = DAY;
const EXPIRED_KEPT: i64 = 35 * DAY;
const SESSION_KEPT: i64 = 30 * DAY;

/// What is wrong, for people; it names the invariant.
pub type Finding = Result<(), String>;

fn demand(holds: bool, says: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(says()) }
}

/// A request to hold money, as it arrived.
#[derive(Clone, Debug)]
pub struct Ask {
    pub hold: u64,
    pub key: usize,
    pub revision: u64,
    pub secret: u64,
    /// Its id, and the budget and steps that it asks for.
    pub session: Option<(String, Option<u64>, Option<u64>)>,
    pub least: u64,
    pub most: u64,
    pub lives_ms: i64,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    Held(u64),
    NoMoney,
    NoSteps,
    Stopped,
    Stale,
    Spent,
}

/// The answer to a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Applied { charged: u64, held: u64 },
    Corrected { charged: u64, before: u64 },
    Already { charged: u64 },
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Charged in full; remembered until then.
    Expired(i64),
    /// Remembered until then.
    Settled(i64),
}

/// One line of the list.
#[derive(Clone, Debug)]
struct Hold {
    chain: Vec<usize>,
    session: Option<(String, u64)>,
    starts: [i64; 5],
    amount: u64,
    expires_at: i64,
    state: State,
    charged: u64,
    /// It was settled before it was taken: nothing was.
    is_tombstone: bool,
    /// It was forgotten and settled again: until then it is known as one that was settled with nothing.
    ghost_until: i64,
}

/// What is known of the call that a hold was for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bill {
    /// Its body reached the provider.
    pub accepted: bool,
    /// What the provider bills for it so far.
    pub invoice: u64,
    /// The provider generated more than it was told to: the one exception of I1.
    pub disobeyed: bool,
    /// What it must be charged at rest, where that is certain.
    pub exact: Option<u64>,
    /// Its gateway died: nobody settles it, so it is charged in full when it expires.
    pub orphan: bool,
}

struct Node {
    parent: Option<usize>,
    limits: [Option<u64>; 5],
    active: bool,
    revoked: bool,
    revision: u64,
    /// A key's secret, by number.
    secret: u64,
    /// Windows that may be above their limit, which was lowered or overrun: start, and how far.
    excused: [(i64, u64); 5],
    /// The latest time that this tree has seen, if it is a root.
    seen: i64,
}

#[derive(Clone, Debug)]
struct Session {
    born: u64,
    budget: Option<u64>,
    steps_limit: Option<u64>,
    steps: u64,
    used_at: i64,
    active: bool,
}

/// One node's books, as the ledger shows them.
#[derive(Clone, Debug)]
pub struct Shown {
    pub node: usize,
    /// Start, spent and held of the five windows.
    pub windows: [(i64, u64, u64); 5],
    pub charged: u64,
    pub overrun: u64,
}

pub struct Auditor {
    zone: Zone,
    nodes: Vec<Node>,
    holds: BTreeMap<u64, Hold>,
    bills: BTreeMap<u64, Bill>,
    sessions: BTreeMap<(usize, String), Session>,
    births: u64,
}

impl Auditor {
    pub fn new(zone: Zone) -> Auditor {
        let (nodes, holds, bills, sessions) = Default::default();
        Auditor { zone, nodes, holds, bills, sessions, births: 0 }
    }

    // === Records, as an operator changes them ===

    pub fn add_node(&mut self, parent: Option<usize>, limits: [Option<u64>; 5], secret: u64, clock: i64) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node {
            parent,
            limits,
            active: true,
            revoked: false,
            revision: 1,
            secret,
            excused: [(0, 0); 5],
            seen: clock,
        });
        self.advance(node, clock);
        node
    }

    pub fn set_limit(&mut self, node: usize, window: usize, limit: Option<u64>, clock: i64) {
        let now = self.advance(node, clock);
        let start = self.zone.starts(now)[window];
        let used = self.used(node, window, start);
        let used = used.0 + used.1;
        let above = limit.is_some_and(|limit| used > limit);
        let it = &mut self.nodes[node];
        it.limits[window] = limit;
        it.excused[window] = (start, if above { used } else { 0 });
    }

    /// Every edit is a new revision, of whatever kind it was.
    pub fn edited(&mut self, node: usize, clock: i64) {
        self.advance(node, clock);
        self.nodes[node].revision += 1;
    }

    /// What is revoked stays so.
    pub fn set_state(&mut self, node: usize, active: bool, revoked: bool) {
        self.nodes[node].active = active;
        self.nodes[node].revoked |= revoked;
    }

    pub fn is_revoked(&self, node: usize) -> bool {
        self.nodes[node].revoked
    }

    pub fn set_secret(&mut self, node: usize, secret: u64) {
        self.nodes[node].secret = secret;
    }

    pub fn set_session(&mut self, key: usize, id: &str, active: bool, clock: i64) {
        let now = self.advance(key, clock);
        let mut session = self.session(key, id, now).unwrap_or_else(|| self.newborn(now));
        (session.active, session.used_at) = (active, now);
        self.sessions.insert((key, id.into()), session);
    }

    pub fn secret(&self, key: usize) -> u64 {
        self.nodes[key].secret
    }

    // === Time ===

    fn root(&self, node: usize) -> usize {
        self.nodes[node].parent.map_or(node, |parent| self.root(parent))
    }

    fn chain(&self, node: usize) -> Vec<usize> {
        let mut chain = vec![node];
        while let Some(parent) = chain.last().and_then(|node| self.nodes[*node].parent) {
            chain.push(parent);
        }
        chain
    }

    fn now(&self, node: usize, clock: i64) -> i64 {
        clock.max(self.nodes[self.root(node)].seen)
    }

    fn advance(&mut self, node: usize, clock: i64) -> i64 {
        let (root, now) = (self.root(node), self.now(node, clock));
        self.nodes[root].seen = now;
        now
    }

    // === Sums ===

    /// Spent and held of the window of a node that starts there.
    fn used(&self, node: usize, window: usize, start: i64) -> (u64, u64) {
        let (mut spent, mut held) = (0, 0);
        for hold in self.holds.values().filter(|hold| hold.starts[window] == start && hold.chain.contains(&node)) {
            match hold.state {
                State::Open => held += hold.amount,
                _ => spent += hold.charged,
            }
        }
        (spent, held)
    }

    fn session_used(&self, key: usize, id: &str, born: u64) -> (u64, u64) {
        let (mut spent, mut held) = (0, 0);
        for hold in self.holds.values().filter(|hold| hold.chain.first() == Some(&key)) {
            match &hold.session {
                Some((of, when)) if of == id && *when == born => match hold.state {
                    State::Open => held += hold.amount,
                    _ => spent += hold.charged,
                },
                _ => {}
            }
        }
        (spent, held)
    }

    fn newborn(&mut self, now: i64) -> Session {
        self.births += 1;
        Session { born: self.births, budget: None, steps_limit: None, steps: 0, used_at: now, active: true }
    }

    /// A session that is not forgotten.
    fn session(&self, key: usize, id: &str, now: i64) -> Option<Session> {
        let session = self.sessions.get(&(key, id.into()))?;
        let open = self.holds.values().any(|hold| {
            hold.state == State::Open
                && hold.chain.first() == Some(&key)
                && hold.session.as_ref().is_some_and(|(of, born)| of == id && *born == session.born)
        });
        (open || session.used_at + SESSION_KEPT > now).then(|| session.clone())
    }

    /// The hold, if the ledger still knows it.
    fn known(&self, hold: u64, now: i64) -> Option<&Hold> {
        self.holds.get(&hold).filter(|hold| match hold.state {
            State::Open => true,
            State::Expired(until) | State::Settled(until) => until > now,
        })
    }

    fn is_ghost(&self, hold: u64, now: i64) -> bool {
        self.holds.get(&hold).is_some_and(|hold| hold.ghost_until > now)
    }

    // === Reserve ===

    /// A reserve was carried out.
    pub fn reserve(&mut self, ask: &Ask, answer: &Taken, clock: i64) -> Finding {
        let now = self.advance(ask.key, clock);
        if let Some(hold) = self.known(ask.hold, now) {
            let want = if hold.state == State::Open { Taken::Held(hold.amount) } else { Taken::Spent };
            return demand(*answer == want, || format!("I3: hold {} again: {answer:?}, not {want:?}", ask.hold));
        }
        if self.is_ghost(ask.hold, now) {
            return demand(*answer == Taken::Spent, || format!("I3: hold {} after its end: {answer:?}", ask.hold));
        }
        let key = &self.nodes[ask.key];
        let is_fresh = key.revision == ask.revision && key.secret == ask.secret;
        if *answer == Taken::Stale || !is_fresh {
            return demand(*answer == Taken::Stale && !is_fresh, || format!("a stale view: {answer:?}, {ask:?}"));
        }
        let chain = self.chain(ask.key);
        let session = ask.session.as_ref().map(|(id, budget, steps)| {
            let mut session = self.session(ask.key, id, now).unwrap_or_else(|| self.newborn(now));
            session.budget = least(session.budget, *budget);
            session.steps_limit = least(session.steps_limit, *steps);
            (id.clone(), session)
        });
        let is_stopped = chain.iter().any(|node| !self.nodes[*node].active)
            || session.as_ref().is_some_and(|(_, session)| !session.active);
        if *answer == Taken::Stopped || is_stopped {
            return demand(*answer == Taken::Stopped && is_stopped, || format!("a stop: {answer:?}, {ask:?}"));
        }
        let no_steps =
            session.as_ref().is_some_and(|(_, session)| session.steps_limit.is_some_and(|most| session.steps >= most));
        let room = self.room(ask, &chain, session.as_ref(), now);
        let floor = ask.least.min(ask.most);
        match *answer {
            Taken::NoSteps => demand(no_steps, || format!("a phantom refusal: no step is lacking: {ask:?}")),
            Taken::NoMoney => {
                demand(room.is_none_or(|room| room < floor), || format!("a phantom refusal: {room:?} left, {ask:?}"))
            }
            Taken::Held(granted) => {
                demand(!no_steps, || format!("a session's steps were passed: {ask:?}"))?;
                demand(room.is_some_and(|room| granted <= room), || {
                    format!("I1: {granted} granted of {room:?} left: {ask:?}")
                })?;
                let want = room.unwrap_or(0).min(ask.most);
                demand(granted == want && granted >= floor, || format!("granted {granted}, not {want}: {ask:?}"))?;
                self.take(ask, chain, session, granted, now);
                Ok(())
            }
            Taken::Spent | Taken::Stale | Taken::Stopped => Err(format!("{answer:?} for no reason: {ask:?}")),
        }
    }

    /// The money left over all limits; `None` when one of them is passed already.
    fn room(&self, ask: &Ask, chain: &[usize], session: Option<&(String, Session)>, now: i64) -> Option<u64> {
        let mut room = u64::MAX;
        if let Some((id, session)) = session
            && let Some(budget) = session.budget
        {
            let (spent, held) = self.session_used(ask.key, id, session.born);
            room = room.min(budget.checked_sub(spent + held)?);
        }
        let starts = self.zone.starts(now);
        for node in chain {
            for (window, start) in starts.into_iter().enumerate() {
                let Some(limit) = self.nodes[*node].limits[window] else { continue };
                let (spent, held) = self.used(*node, window, start);
                room = room.min(limit.checked_sub(spent + held)?);
            }
        }
        Some(room)
    }

    fn take(&mut self, ask: &Ask, chain: Vec<usize>, session: Option<(String, Session)>, amount: u64, now: i64) {
        let of = session.as_ref().map(|(id, session)| (id.clone(), session.born));
        if let Some((id, mut session)) = session {
            (session.steps, session.used_at) = (session.steps + 1, now);
            self.sessions.insert((ask.key, id), session);
        }
        let hold = Hold {
            chain,
            session: of,
            starts: self.zone.starts(now),
            amount,
            expires_at: now + ask.lives_ms,
            state: State::Open,
            charged: 0,
            is_tombstone: false,
            ghost_until: i64::MIN,
        };
        self.holds.insert(ask.hold, hold);
    }

    // === Settle and sweep ===

    /// A settlement was carried out; `cost` is `None` for a full charge.
    pub fn settle(&mut self, hold: u64, key: usize, cost: Option<u64>, answer: Ended, clock: i64) -> Finding {
        let now = self.advance(key, clock);
        let known = self.known(hold, now).cloned();
        let want = match &known {
            None if self.is_ghost(hold, now) => Ended::Already { charged: 0 },
            None => Ended::Unknown,
            Some(it) => match (it.state, cost) {
                (State::Settled(_), _) => Ended::Already { charged: it.charged },
                (State::Expired(_), None) => Ended::Already { charged: it.amount },
                (State::Expired(_), Some(cost)) => Ended::Corrected { charged: cost, before: it.amount },
                (State::Open, cost) => Ended::Applied { charged: cost.unwrap_or(it.amount), held: it.amount },
            },
        };
        demand(answer == want, || format!("I3: hold {hold} ended: {answer:?}, not {want:?}"))?;
        match answer {
            Ended::Applied { charged, .. } | Ended::Corrected { charged, .. } => {
                self.charge(hold, charged, State::Settled(now + SETTLED_KEPT), now);
                self.judge(hold)
            }
            Ended::Unknown => {
                let line = Hold {
                    chain: self.chain(key),
                    session: None,
                    starts: [i64::MIN; 5],
                    amount: 0,
                    expires_at: now,
                    state: State::Settled(now + SETTLED_KEPT),
                    charged: 0,
                    is_tombstone: true,
                    ghost_until: i64::MIN,
                };
                // One that was forgotten keeps its charge.
                self.holds.entry(hold).or_insert(line).ghost_until = now + SETTLED_KEPT;
                Ok(())
            }
            Ended::Already { .. } => Ok(()),
        }
    }

    /// A sweep without a bound was carried out: how many it expired, and what they were charged.
    pub fn sweep(&mut self, count: u64, sum: u64, clock: i64) -> Finding {
        let open = self.holds.iter().filter(|(_, hold)| hold.state == State::Open);
        let due: Vec<(u64, usize)> = open
            .filter(|(_, hold)| hold.expires_at <= self.now(hold.chain[0], clock))
            .map(|(number, hold)| (*number, hold.chain[0]))
            .collect();
        let want: u64 = due.iter().map(|(hold, _)| self.holds[hold].amount).sum();
        demand((count, sum) == (due.len() as u64, want), || {
            format!("I3: a sweep expired {count} holds of {sum}, not {} of {want}", due.len())
        })?;
        for (hold, key) in due {
            let now = self.advance(key, clock);
            let amount = self.holds[&hold].amount;
            self.charge(hold, amount, State::Expired(now + EXPIRED_KEPT), now);
        }
        // What is over by the clock is forgotten.
        for hold in self.holds.values_mut() {
            if hold.ghost_until <= clock {
                hold.ghost_until = i64::MIN;
            }
            match &mut hold.state {
                State::Expired(until) | State::Settled(until) if *until <= clock => *until = i64::MIN,
                _ => {}
            }
        }
        let over: Vec<_> =
            self.sessions.keys().filter(|(key, id)| self.session(*key, id, clock).is_none()).cloned().collect();
        for session in over {
            self.sessions.remove(&session);
        }
        Ok(())
    }

    fn charge(&mut self, hold: u64, cost: u64, state: State, now: i64) {
        let starts = self.zone.starts(now);
        let Some(before) = self.holds.get(&hold).cloned() else { return };
        let debt = cost.saturating_sub(before.amount);
        // How far each window may be above its limit before this charge.
        let allowed: Vec<(usize, usize, u64)> = before
            .chain
            .iter()
            .flat_map(|node| (0..5).map(move |window| (*node, window)))
            .filter(|(_, window)| debt > 0 && starts[*window] == before.starts[*window])
            .filter_map(|(node, window)| Some((node, window, self.allowed(node, window, starts[window])?)))
            .collect();
        let session = before.session.as_ref().and_then(|(id, _)| self.session(before.chain[0], id, now));
        if let Some(hold) = self.holds.get_mut(&hold) {
            (hold.charged, hold.state) = (cost, state);
        }
        for (node, window, allowed) in allowed {
            self.nodes[node].excused[window] = (starts[window], allowed + debt);
        }
        // One that was forgotten, or began anew, keeps what it has.
        if let (Some((id, born)), Some(mut session)) = (before.session, session)
            && session.born == born
        {
            session.used_at = now;
            self.sessions.insert((before.chain[0], id), session);
        }
    }

    /// The most that a limited window may have: its limit, or what it had when that was lowered, and debts.
    fn allowed(&self, node: usize, window: usize, start: i64) -> Option<u64> {
        let limit = self.nodes[node].limits[window]?;
        let (at, excused) = self.nodes[node].excused[window];
        Some(if at == start { limit.max(excused) } else { limit })
    }

    // === Invoices ===

    /// A body goes out to the provider: there must be a hold that covers the most it can be billed. `worst` is `None` in cut mode.
    pub fn goes_out(&mut self, hold: u64, worst: Option<u64>) -> Finding {
        let line = self.holds.get(&hold).filter(|hold| !hold.is_tombstone);
        let amount = line.map(|line| line.amount);
        let bill = self.bills.entry(hold).or_default();
        demand(!bill.accepted, || format!("hold {hold}: the call was sent twice"))?;
        bill.accepted = true;
        demand(amount.is_some(), || format!("I2: hold {hold}: the call was sent and nothing is held"))?;
        demand(worst.is_none_or(|worst| amount >= Some(worst)), || {
            format!("I2: hold {hold}: {amount:?} is held and {worst:?} can be billed")
        })
    }

    /// What is known of a call.
    pub fn bill(&mut self, hold: u64) -> &mut Bill {
        self.bills.entry(hold).or_default()
    }

    /// The gateway of a call has died. What was settled by then is settled.
    pub fn orphan(&mut self, hold: u64) {
        let is_settled = self.holds.get(&hold).is_some_and(|hold| matches!(hold.state, State::Settled(_)));
        self.bill(hold).orphan |= !is_settled;
    }

    /// True when the call on a hold may not go on: someone is stopped, or more is spent than may be.
    pub fn must_stop(&self, hold: u64, clock: i64) -> bool {
        let Some(hold) = self.holds.get(&hold).filter(|hold| hold.state == State::Open) else { return false };
        let now = self.now(hold.chain[0], clock);
        let starts = self.zone.starts(now);
        let is_over = |node: usize| {
            (0..5).any(|window| {
                let spent = || self.used(node, window, starts[window]).0;
                self.nodes[node].limits[window].is_some_and(|limit| limit == 0 || spent() > limit)
            })
        };
        let session = hold.session.as_ref().and_then(|(id, _)| self.session(hold.chain[0], id, now));
        session.is_some_and(|session| !session.active)
            || hold.chain.iter().any(|node| !self.nodes[*node].active || is_over(*node))
    }

    /// I4 of one hold, at any moment.
    pub fn judge(&self, hold: u64) -> Finding {
        let (Some(line), Some(bill)) = (self.holds.get(&hold), self.bills.get(&hold)) else { return Ok(()) };
        if line.is_tombstone {
            return Ok(());
        }
        let covered = if line.state == State::Open { line.amount } else { line.charged };
        demand(bill.disobeyed || bill.invoice <= covered, || {
            format!(
                "I4: hold {hold}: the invoice is {} and {covered} is charged or held: {line:?} {bill:?}",
                bill.invoice
            )
        })?;
        demand(bill.disobeyed || line.charged <= line.amount, || {
            format!("I4: hold {hold}: charged above what is held: {line:?}")
        })?;
        let is_settled = matches!(line.state, State::Settled(_));
        let exact = bill.exact.filter(|_| is_settled);
        demand(exact.is_none_or(|exact| exact == line.charged), || {
            format!("I4: hold {hold}: the invoice is {exact:?} to the nano-dollar, {} is charged", line.charged)
        })
    }

    // === The books ===

    /// What the ledger shows of a node must be what the list adds up to, within its limits.
    pub fn books(&self, shown: &Shown, clock: i64) -> Finding {
        let node = shown.node;
        let starts = self.zone.starts(self.now(node, clock));
        for (window, start) in starts.into_iter().enumerate() {
            let (spent, held) = self.used(node, window, start);
            demand(shown.windows[window] == (start, spent, held), || {
                let shown = shown.windows[window];
                format!(
                    "I5: node {node}, window {window}: start, spent and held are {shown:?}, not {:?}",
                    (start, spent, held)
                )
            })?;
            let allowed = self.allowed(node, window, start);
            demand(allowed.is_none_or(|allowed| spent + held <= allowed), || {
                format!("I1: node {node}, window {window}: {spent} spent and {held} held of {allowed:?}")
            })?;
        }
        let ended = || self.holds.values().filter(|hold| hold.state != State::Open && hold.chain.contains(&node));
        let charged: u64 = ended().map(|hold| hold.charged).sum();
        let overrun: u64 = ended().map(|hold| hold.charged.saturating_sub(hold.amount)).sum();
        demand((shown.charged, shown.overrun) == (charged, overrun), || {
            format!(
                "I5: node {node} was charged {} with {} of debt, not {charged} with {overrun}",
                shown.charged, shown.overrun
            )
        })
    }

    /// Spent, held and steps of a session; `None` when the ledger has none.
    pub fn session_books(&self, key: usize, id: &str, shown: Option<(u64, u64, u64)>, clock: i64) -> Finding {
        let session = self.session(key, id, self.now(key, clock));
        let want = session.map(|session| {
            let (spent, held) = self.session_used(key, id, session.born);
            (spent, held, session.steps)
        });
        demand(shown == want, || format!("I5: session {id} of {key}: spent, held, steps {shown:?}, not {want:?}"))
    }

    /// Everything has healed, every call has ended and every hold is due: nothing is held, and each call has its charge.
    pub fn rest(&self) -> Finding {
        for (number, hold) in &self.holds {
            demand(hold.state != State::Open, || format!("I3: hold {number} never ended: {hold:?}"))?;
            self.judge(*number)?;
            let Some(bill) = self.bills.get(number).filter(|_| !hold.is_tombstone) else { continue };
            let is_excused =
                bill.orphan || hold.ghost_until > i64::MIN || matches!(hold.state, State::Expired(i64::MIN));
            let settled = matches!(hold.state, State::Settled(_));
            demand(settled || is_excused || bill.exact.is_none_or(|exact| exact == hold.charged), || {
                format!("I3: hold {number} expired although its call was settled: {hold:?} {bill:?}")
            })?;
        }
        Ok(())
    }

    /// Sums over everything: invoices, charges, debts. For the report.
    pub fn sums(&self) -> (u64, u64, u64) {
        let invoice = self.bills.values().map(|bill| bill.invoice).sum();
        let charged = self.holds.values().map(|hold| hold.charged).sum();
        let debt = self.holds.values().map(|hold| hold.charged.saturating_sub(hold.amount)).sum();
        (invoice, charged, debt)
    }
}

/// The less of two limits, either of which may be missing.
fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}

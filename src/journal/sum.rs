//! Lines to books. Needs no order: what a hold adds to a window follows from where the window started when it was taken.
//!
//! A settlement counts as made from the line that announces it. Doubt charges: a hold without one stays held, and is charged in full
//! when it is due.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::line::{HoldLine, How, Line};
use super::read::{Disputed, Files, read, read_disputed};
use crate::clock::{Calendar, Frame, Millis, WINDOWS, Window};
use crate::ledger::rules::{self, Counters, SessionBook};
use crate::ledger::{
    Charge, HoldBooks, HoldId, HoldInfo, HoldRef, HoldState, Node, NodeBooks, NodeId, SessionBooks, SettledBooks,
    Snapshot, State,
};
use crate::money::Money;

/// What a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The books.
    pub books: Snapshot,
    /// Holds in the journal.
    pub holds: u64,
    /// Keys and teams that were spent from, and of which it has no record.
    pub without_record: Vec<NodeId>,
    /// Sessions that may be older than the journal: paused, since what they spent before is not known.
    pub paused: Vec<(NodeId, Arc<str>)>,
}

/// A settlement: what the ledger said of it, if that has a line; the charge, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    how: Option<How>,
    charge: Charge,
    at: Millis,
}

impl End {
    /// What the ledger said stands against what was announced, and what it did against a repetition. Of two that were announced, the dearer
    /// one: doubt charges.
    fn stands_against(&self, other: &End) -> bool {
        match self.rank().cmp(&other.rank()) {
            Ordering::Equal if self.how.is_none() => is_dearer(self.charge, other.charge),
            // Books that went back, and were accepted, may have settled it twice.
            Ordering::Equal => self.at > other.at,
            order => order.is_gt(),
        }
    }

    fn rank(&self) -> u8 {
        match self.how {
            // Books that did not know the hold say so too, the second time: it leaves the charge that was announced.
            Some(How::Already) if self.charge == Charge::Exact(Money::ZERO) => 0,
            None => 1,
            Some(How::Already) => 2,
            Some(How::Applied | How::Corrected) => 3,
        }
    }
}

fn is_dearer(charge: Charge, other: Charge) -> bool {
    match (charge, other) {
        (Charge::Exact(charge), Charge::Exact(other)) => charge > other,
        (charge, other) => charge == Charge::Full && other != Charge::Full,
    }
}

/// How a hold stands at the time of the books.
struct Standing {
    state: HoldState,
    charged: Money,
    ended_at: Millis,
}

/// What is known of one session: its holds by the time at which they were taken, and its state.
#[derive(Default)]
struct Run {
    holds: BTreeMap<(Millis, HoldId), (HoldLine, Standing)>,
    state: Option<(Millis, State)>,
}

struct Sum<'a> {
    calendar: &'a Calendar,
    frame: &'a Frame,
    now: Millis,
    /// When the last hold was taken.
    latest: Millis,
    /// Holds of sessions, whose order counts, and those without a final settlement yet.
    open: HashMap<HoldId, HoldLine>,
    /// Settlements whose hold was not read yet, or that another one may still correct.
    ends: HashMap<HoldId, End>,
    /// Holds of which more may be said, wherever that is.
    disputed: &'a Disputed,
    records: HashMap<NodeId, (Node, u64)>,
    /// Other records under the revisions of those.
    rivals: Vec<(Node, u64)>,
    /// The first revision at which each hash of a key is known.
    hashes: HashMap<String, u64>,
    chains: HashMap<NodeId, Vec<NodeId>>,
    states: HashMap<(NodeId, Arc<str>), (Millis, State)>,
    counters: HashMap<NodeId, Counters>,
    rebuilt: Rebuilt,
    /// The first line that made no sense.
    problem: Option<String>,
}

impl<'a> Sum<'a> {
    fn new(calendar: &'a Calendar, frame: &'a Frame, now: Millis, disputed: &'a Disputed) -> Self {
        Sum {
            calendar,
            frame,
            now,
            latest: 0,
            open: HashMap::new(),
            ends: HashMap::new(),
            disputed,
            records: HashMap::new(),
            rivals: Vec::new(),
            hashes: HashMap::new(),
            chains: HashMap::new(),
            states: HashMap::new(),
            counters: HashMap::new(),
            rebuilt: Rebuilt::default(),
            problem: None,
        }
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::File { .. } => {}
            Line::Hold(hold) => self.hold(hold, true),
            // One that was written since the first pass is of a hold that was not charged: the books are being rebuilt.
            Line::Due(hold) if self.disputed.due.contains(&hold.hold) => self.hold(hold, false),
            Line::Due(_) => {}
            Line::Settling { hold, charge, at, .. } => self.end(hold, End { how: None, charge, at }),
            Line::Settle { hold, how, charged, at } => {
                self.end(hold, End { how: Some(how), charge: Charge::Exact(charged), at });
            }
            Line::Key { revision, key } => self.record((Node::Key(key), revision)),
            Line::Team { revision, team } => self.record((Node::Team(team), revision)),
            Line::Session { key, session, state, at } => {
                let known = self.states.entry((key, session)).or_insert((at, state));
                if at >= known.0 {
                    *known = (at, state);
                }
            }
        }
    }

    /// A hold, from the line of whoever took it or of whoever found it due.
    fn hold(&mut self, hold: HoldLine, from_taker: bool) {
        let id = hold.hold.clone();
        // What was due was so by the ledger's time.
        self.latest = self.latest.max(if from_taker { hold.now } else { hold.expires_at });
        for at in 0..hold.chain.len() {
            if !self.chains.contains_key(&hold.chain[at]) {
                self.chains.insert(hold.chain[at].clone(), hold.chain[at..].to_vec());
            }
        }
        match self.open.entry(id.clone()) {
            Entry::Vacant(place) => drop(place.insert(hold)),
            // It says more.
            Entry::Occupied(mut known) if from_taker => drop(known.insert(hold)),
            Entry::Occupied(_) => {}
        }
        self.close(&id);
    }

    /// The latest revision counts; but what was revoked stays so. After books that went back, revisions are given a second time: then the latest
    /// may be the older record.
    fn record(&mut self, record: (Node, u64)) {
        if let (Node::Key(key), revision) = &record {
            let first = self.hashes.entry(key.hash.clone());
            first.and_modify(|first| *first = (*first).min(*revision)).or_insert(*revision);
        }
        match self.records.get(record.0.id()).map(|known| (rank(known).cmp(&rank(&record)), *known == record)) {
            None | Some((Ordering::Less, _)) => drop(self.records.insert(record.0.id().clone(), record)),
            Some((Ordering::Equal, false)) if !self.rivals.contains(&record) => self.rivals.push(record),
            _ => {}
        }
    }

    /// Of records under the same revision, of which nobody can say which is the later one, each counts where it allows less: the strictest
    /// state, the lowest limits, and the key that was made last.
    fn join_rivals(&mut self) {
        for rival in std::mem::take(&mut self.rivals) {
            let Some(known) = self.records.get_mut(rival.0.id()) else { continue };
            if rank(known) == rank(&rival) {
                join(&mut known.0, &rival.0, &self.hashes);
            }
        }
    }

    fn end(&mut self, hold: HoldId, end: End) {
        let known = self.ends.entry(hold.clone()).or_insert(end);
        if end.stands_against(known) {
            *known = end;
        }
        self.close(&hold);
    }

    /// Adds up a hold as soon as nothing can change any more, so that only few are in memory.
    fn close(&mut self, id: &HoldId) {
        let is_final = self.ends.get(id).is_some_and(|end| match end.how {
            None => !self.disputed.ends.contains(id),
            Some(how) => how != How::Already,
        });
        let is_open = self.disputed.due.contains(id) || self.disputed.twice.contains(id);
        if is_final && !is_open && self.open.get(id).is_some_and(|hold| hold.session.is_none()) {
            self.add_up(id);
        }
    }

    fn add_up(&mut self, id: &HoldId) {
        let Some(hold) = self.open.remove(id) else { return };
        let standing = stands(&hold, self.ends.remove(id), self.now, self.disputed.due.contains(id));
        match self.calendar.frame(hold.now) {
            Ok(frame) => {
                self.count(&hold, &standing, &frame.starts);
                self.rebuilt.remember(&hold, &standing, &frame.starts, 0, self.now);
            }
            Err(error) => self.problem = Some(format!("hold {id}: {error}")),
        }
    }

    /// Adds a hold to the books of every node that it was taken from.
    fn count(&mut self, hold: &HoldLine, standing: &Standing, starts: &[Millis; WINDOWS]) {
        self.rebuilt.holds += 1;
        for node in &hold.chain {
            let books = self.counters.entry(node.clone()).or_insert_with(|| Counters::starting(self.frame));
            add(books, hold, standing, starts);
        }
    }

    /// The chain of every node that has a record, and those of all above it. Without them nobody can say to which tree it belongs.
    fn find_chains(&mut self) {
        let ids: Vec<NodeId> = self.records.keys().cloned().collect();
        for id in ids {
            let mut chain = vec![id.clone()];
            let mut is_whole = true;
            while let Some((node, _)) = chain.last().and_then(|last| self.records.get(last)) {
                let Some(parent) = above(node) else { break };
                if let Some(rest) = self.chains.get(&parent) {
                    chain.extend_from_slice(rest);
                    break;
                }
                is_whole = self.records.contains_key(&parent) && !chain.contains(&parent);
                if !is_whole {
                    self.rebuilt.without_record.push(parent);
                    break;
                }
                chain.push(parent);
            }
            if is_whole {
                self.chains.entry(id).or_insert(chain);
            }
        }
    }
}

fn rank((node, revision): &(Node, u64)) -> (bool, u64) {
    (node.state() == State::Revoked, *revision)
}

fn join(node: &mut Node, other: &Node, hashes: &HashMap<String, u64>) {
    let (state, limits, others) = match (node, other) {
        (Node::Key(key), Node::Key(other)) => {
            if other.hash != key.hash && hashes.get(&other.hash) >= hashes.get(&key.hash) {
                key.hash.clone_from(&other.hash);
            }
            (&mut key.state, &mut key.limits, other.limits)
        }
        (Node::Team(team), Node::Team(other)) => (&mut team.state, &mut team.limits, other.limits),
        _ => return,
    };
    let rank = |state: State| [State::Paused, State::Killed, State::Revoked].iter().position(|one| *one == state);
    if rank(other.state()) > rank(*state) {
        *state = other.state();
    }
    for (limit, other) in limits.0.iter_mut().zip(others.0) {
        *limit = (*limit).min(other).or(*limit).or(other);
    }
}

fn above(node: &Node) -> Option<NodeId> {
    match node {
        Node::Key(key) => key.team.clone(),
        Node::Team(team) => team.parent.clone(),
    }
}

/// The books at `now`, the ledger's own time, or at that of the last hold if the ledger's clock was put back since; from all lines of a
/// journal. Refuses a journal that does not reach back to the start of the month, and of the week: what was spent before would be spent again.
pub fn rebuild(files: &Files, calendar: &Calendar, now: Millis) -> Result<Rebuilt, String> {
    let mut disputed = Disputed::default();
    for path in &files.paths {
        read_disputed(path, &mut disputed)?;
    }
    let (rebuilt, latest) = sum_up(files, calendar, now, &disputed)?;
    if latest <= now { Ok(rebuilt) } else { sum_up(files, calendar, latest, &disputed).map(|(rebuilt, _)| rebuilt) }
}

/// The books, and when the last hold was taken.
fn sum_up(files: &Files, calendar: &Calendar, now: Millis, disputed: &Disputed) -> Result<(Rebuilt, Millis), String> {
    let frame = calendar.frame(now).map_err(|e| e.to_string())?;
    let needed = frame.starts[Window::Weekly.index()].min(frame.starts[Window::Monthly.index()]);
    if files.complete_since.is_some_and(|since| since > needed) {
        let say = "the journal does not reach back to the start of the month and of the week: older files are missing, \
                   and what they charged could be spent again";
        return Err(say.into());
    }
    let mut sum = Sum::new(calendar, &frame, now, disputed);
    for path in &files.paths {
        read(path, |line| sum.take(line))?;
    }
    let latest = sum.latest;
    sum.join_rivals();
    sum.find_chains();
    Ok((sum.finish(files.complete_since)?, latest))
}

impl Sum<'_> {
    /// The holds of sessions, in their order; those without one are added up.
    fn runs(&mut self) -> Result<HashMap<(NodeId, Arc<str>), Run>, String> {
        let mut runs: HashMap<(NodeId, Arc<str>), Run> = HashMap::new();
        let ids: Vec<HoldId> = self.open.keys().cloned().collect();
        for id in ids {
            let hold = self.open.get(&id);
            let place = hold.and_then(|hold| Some((hold.chain.first()?.clone(), hold.session.as_ref()?.id.clone())));
            let Some(place) = place else {
                self.add_up(&id);
                continue;
            };
            let Some(hold) = self.open.remove(&id) else { continue };
            let standing = stands(&hold, self.ends.remove(&id), self.now, self.disputed.due.contains(&id));
            let starts = self.calendar.frame(hold.now).map_err(|e| format!("hold {id}: {e}"))?.starts;
            self.count(&hold, &standing, &starts);
            runs.entry(place).or_default().holds.insert((hold.now, id), (hold, standing));
        }
        for (at, state) in std::mem::take(&mut self.states) {
            runs.entry(at).or_default().state = Some(state);
        }
        Ok(runs)
    }

    fn finish(mut self, complete_since: Option<Millis>) -> Result<Rebuilt, String> {
        let (calendar, now) = (self.calendar, self.now);
        let runs = self.runs()?;
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let mut rebuilt = std::mem::take(&mut self.rebuilt);
        for ((key, id), run) in runs {
            let Some(chain) = self.chains.get(&key).cloned() else {
                // Its state only is known, and nothing of its key.
                rebuilt.without_record.push(key);
                continue;
            };
            let (mut book, first) = rebuilt.run(run, calendar, now)?;
            if book.is_forgotten(now) {
                continue;
            }
            let known_since = complete_since.map(|since| since.saturating_add(rules::SESSION_KEPT_MS));
            if known_since.is_some_and(|since| first < since) && book.state == State::Active {
                book.state = State::Paused;
                rebuilt.paused.push((key.clone(), id.clone()));
            }
            rebuilt.books.sessions.push(SessionBooks { chain, id, book });
        }
        rebuilt.books.now = now;
        rebuilt.nodes(self);
        Ok(rebuilt)
    }
}

/// How a hold stands: by its settlement, or in doubt.
fn stands(hold: &HoldLine, end: Option<End>, now: Millis, found_due: bool) -> Standing {
    let due = hold.expires_at <= now;
    let charged = |charge| match charge {
        Charge::Exact(charged) => charged,
        Charge::Full => hold.amount,
    };
    match end.map(|End { how, charge, at }| (how, charged(charge), at)) {
        // It may have been settled in full, or have expired: the latter can still be corrected.
        Some((Some(How::Already), charged, _)) if charged == hold.amount && due && found_due => {
            Standing { state: HoldState::Expired, charged, ended_at: hold.expires_at }
        }
        Some((_, charged, at)) => Standing { state: HoldState::Settled, charged, ended_at: at },
        None if due => Standing { state: HoldState::Expired, charged: hold.amount, ended_at: hold.expires_at },
        None => Standing { state: HoldState::Open, charged: Money::ZERO, ended_at: hold.now },
    }
}

fn add(books: &mut Counters, hold: &HoldLine, standing: &Standing, starts: &[Millis; WINDOWS]) {
    for (book, start) in books.windows.iter_mut().zip(starts) {
        if book.start == *start {
            match standing.state {
                HoldState::Open => book.held = rules::counted(book.held, hold.amount),
                _ => book.spent = rules::counted(book.spent, standing.charged),
            }
        }
    }
    if standing.state != HoldState::Open {
        books.charged_total = rules::counted(books.charged_total, standing.charged);
        let overrun = standing.charged.saturating_sub(hold.amount);
        books.overrun_total = rules::counted(books.overrun_total, overrun);
    }
}

impl Rebuilt {
    /// Keeps what a late settlement of the hold must find.
    fn remember(
        &mut self,
        hold: &HoldLine,
        standing: &Standing,
        starts: &[Millis; WINDOWS],
        born: Millis,
        now: Millis,
    ) {
        let Some(root) = hold.chain.last() else { return };
        if standing.state == HoldState::Settled {
            let until = standing.ended_at.saturating_add(rules::SETTLED_KEPT_MS);
            if until > now {
                let (id, charged) = (hold.hold.clone(), standing.charged);
                let one = SettledBooks { id, root: root.clone(), amount: hold.amount, charged, until };
                self.books.settled.push(one);
            }
            return;
        }
        if standing.state == HoldState::Expired && hold.expires_at.saturating_add(rules::EXPIRED_KEPT_MS) <= now {
            return;
        }
        let session = hold.session.as_ref().map(|session| session.id.clone());
        let info = HoldInfo {
            at: HoldRef { hold: hold.hold.clone(), chain: hold.chain.clone(), session },
            state: standing.state,
            amount: hold.amount,
            charged: standing.charged,
            expires_at: hold.expires_at,
            note: hold.note.clone(),
        };
        self.books.holds.push(HoldBooks { info, born, starts: *starts });
    }

    /// The books of one session, and when the first hold that is known of it was taken. One that was forgotten in between began
    /// anew.
    fn run(&mut self, run: Run, calendar: &Calendar, now: Millis) -> Result<(SessionBook, Millis), String> {
        let set_at = run.state.map_or(0, |(at, _)| at);
        let mut book: Option<SessionBook> = None;
        for ((taken_at, _), (hold, standing)) in run.holds {
            let mut current = match book.take() {
                Some(book) if !book.is_forgotten(taken_at) => book,
                _ => SessionBook::new(taken_at),
            };
            if let Some(asked) = &hold.session {
                let ask = crate::ledger::SessionAsk { id: asked.id.clone(), budget: asked.budget, steps: asked.steps };
                current = current.tightened(&ask);
            }
            current.take(hold.amount, taken_at.max(current.used_at));
            if standing.state != HoldState::Open {
                current.charge(hold.amount, standing.charged, standing.ended_at.min(now).max(current.used_at));
            }
            let starts = calendar.frame(hold.now).map_err(|e| e.to_string())?.starts;
            self.remember(&hold, &standing, &starts, current.born, now);
            book = Some(current);
        }
        let mut book = book.unwrap_or_else(|| SessionBook::new(set_at));
        if let Some((at, state)) = run.state {
            book.state = state;
            book.used_at = book.used_at.max(at.min(now));
        }
        let born = book.born;
        Ok((book, born))
    }

    /// Every key and team, each after those above it.
    fn nodes(&mut self, mut sum: Sum<'_>) {
        for (id, chain) in sum.chains {
            let record = sum.records.remove(&id);
            let mut books = sum.counters.remove(&id).unwrap_or_else(|| Counters::starting(sum.frame));
            books.clock = if chain.len() == 1 { sum.now } else { 0 };
            if record.is_none() {
                self.without_record.push(id.clone());
            }
            self.books.nodes.push(NodeBooks { chain, record, counters: books });
        }
        self.without_record.sort();
        self.without_record.dedup();
        self.paused.sort();
        self.books.nodes.sort_by(|a, b| (a.chain.len(), &a.chain).cmp(&(b.chain.len(), &b.chain)));
    }
}

#[cfg(test)]
#[path = "tests/sum.rs"]
mod tests;

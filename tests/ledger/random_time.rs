//! How time passes in a random run: in small steps, over every edge, and back.
//!
//! Redis has a clock that runs on, so its runs never stand where ten more seconds would change an answer. Embedded
//! engines have one that stands still: their runs stand on edges to the millisecond.

use loopers::clock::{Millis, Window};
use loopers::ledger::{HoldState, NodeId, Reserve, State};
use loopers::money::Money;

use crate::random_ops::Op;
use crate::random_run::Run;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;
/// How long one step may take where the clock runs on.
pub const PATIENCE: Millis = 10 * SECOND;

impl Run {
    /// Where the clock goes before the next operation; often it stays.
    pub fn choose_time(&mut self) -> Millis {
        let near = self.rng.below(5) as Millis - 2;
        match self.rng.below(100) {
            0..50 => self.clock,
            50..76 => self.clock + self.rng.below(3_000) as Millis,
            76..84 => self.clock + self.rng.below(40 * MINUTE as u64) as Millis,
            84..91 => {
                let window = match self.rng.below(100) {
                    0..40 => Window::Minute,
                    40..70 => Window::Hourly,
                    70..88 => Window::Daily,
                    88..96 => Window::Weekly,
                    _ => Window::Monthly,
                };
                let tree = self.rng_tree();
                let now = tree.map_or(self.clock, |tree| self.model.now(&tree, self.clock));
                self.model.windows(now)[window.index()].1 + near
            }
            91..95 => {
                let ends: Vec<Millis> = {
                    let open = self.model.lines.iter().filter(|line| line.state == HoldState::Open);
                    open.map(|line| line.expires_at).filter(|end| *end > self.clock).collect()
                };
                self.rng.pick(&ends).map_or(self.clock, |end| *end + near)
            }
            95 => self.clock + self.rng.below(9 * DAY as u64) as Millis,
            96 if self.rng.chance(20) => self.clock + self.rng.below(70 * DAY as u64) as Millis,
            _ => self.clock,
        }
    }

    /// Now and then the clock goes back: a little, some hours, some weeks.
    pub fn choose_skew(&mut self) -> Option<Millis> {
        if !self.rng.chance(1) {
            return None;
        }
        let back = match self.rng.below(10) {
            0..5 => self.rng.below(2 * MINUTE as u64),
            5..9 => self.rng.below(5 * HOUR as u64),
            _ => self.rng.below(40 * DAY as u64),
        };
        Some(self.clock - back as Millis)
    }

    fn rng_tree(&mut self) -> Option<NodeId> {
        let trees: Vec<NodeId> = self.trees();
        self.rng.pick(&trees).cloned()
    }

    pub fn trees(&self) -> Vec<NodeId> {
        self.model.nodes.iter().filter(|(_, node)| node.parent.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// A reserve of nothing in every tree: afterwards each of them has seen the time now for certain.
    pub fn pins(&mut self) -> Vec<Op> {
        let mut pins = Vec::new();
        for tree in self.trees() {
            let keys = self.keys(|state| state == State::Active);
            let key = keys.into_iter().find(|key| self.model.tree(key) == tree);
            let view = key.and_then(|key| self.model.nodes.get(&key)?.view.clone());
            let hold = loopers::ledger::HoldId(format!("{}{}", self.rng.hex(16), self.rng.hex(16)).into());
            let (least, most) = (Money::ZERO, Money::ZERO);
            let note = "pin".to_string();
            pins.extend(
                view.map(|view| Op::Reserve(Reserve { hold, view, session: None, least, most, ttl_ms: 60_000, note })),
            );
        }
        pins
    }

    /// The first time at or after `wanted` at which a step may be made: no answer depends on how long it takes, nor on which
    /// readings a tree remembers.
    pub fn safe_time(&self, wanted: Millis) -> Millis {
        let mut clock = wanted;
        // Each round leaves an edge behind; there are only so many.
        for _ in 0..100_000 {
            match self.edge(clock) {
                // Redis may be a moment behind the edge by its own rounding.
                Some(edge) => clock = edge.max(clock + 1) + if self.exact { 0 } else { 50 },
                None => break,
            }
        }
        clock
    }

    /// An edge between the times that an engine may take for now.
    fn edge(&self, clock: Millis) -> Option<Millis> {
        let patience = if self.exact { 0 } else { PATIENCE };
        let crossed = |low: Millis, high: Millis, edge: Millis| low < edge && edge <= high;
        let minute = |low: Millis, high: Millis| {
            let edge = high - high.rem_euclid(MINUTE);
            crossed(low, high, edge).then_some(edge)
        };
        let open = || self.model.lines.iter().filter(|line| line.state == HoldState::Open);
        let (low, high) = (clock, clock + patience);
        let first = open().map(|line| line.expires_at).filter(|end| crossed(low, high, *end)).min();
        let first = first.or_else(|| minute(low, high));
        if first.is_some() {
            return first;
        }
        self.model.seen.iter().find_map(|(tree, seen)| {
            let (low, high) = (clock.max(seen.least), high.max(seen.most));
            let holds = open().filter(|line| line.at.chain.last() == Some(tree)).map(|line| line.expires_at);
            let keys = self.model.nodes.iter().filter(|(id, _)| self.model.tree(id) == *tree);
            let keys = keys.filter_map(|(_, node)| node.key.as_ref()?.expires_at);
            let end = holds.chain(keys).filter(|end| crossed(low, high, *end)).min();
            end.or_else(|| minute(low, high))
        })
    }
}

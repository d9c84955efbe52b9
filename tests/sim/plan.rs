//! What a schedule is made of, drawn from its seed: who may spend what, where, and how much goes wrong.

use loopers::ledger::Overflow;

use crate::calendar::{Zone, first};
use crate::provider::{Fate, Wish};
use crate::rng::Rng;

pub struct KeyPlan {
    /// Its team, by its place among the nodes.
    pub team: Option<usize>,
    pub limits: [Option<u64>; 5],
    pub overflow: Overflow,
    pub session_budget: Option<u64>,
    pub session_steps: Option<u64>,
}

pub struct Plan {
    pub zone: Zone,
    /// The wall clock at the start.
    pub start: i64,
    pub gateways: usize,
    /// Parent and limits. Teams come before keys, parents before children.
    pub teams: Vec<(Option<usize>, [Option<u64>; 5])>,
    pub keys: Vec<KeyPlan>,
    /// Messages of a hundred that the network treats badly.
    pub faults: u64,
    /// The scheduler's steps before everything heals.
    pub storm: u64,
    /// A client's departure drops Anthropic's answer, or lets it be read to its end.
    pub cancels: bool,
}

const DAY: i64 = 86_400_000;

impl Plan {
    pub fn new(rng: &mut Rng, storm: u64) -> Plan {
        let zone = Zone::ALL[rng.place(3)];
        let teams = rng.within(1, 3) as usize;
        let teams = (0..teams)
            .map(|team| {
                let parent = (team > 0 && rng.chance(60)).then(|| rng.place(team));
                (parent, limits(rng, 3, 12))
            })
            .collect::<Vec<_>>();
        let keys = (0..rng.within(1, 6)).map(|_| key(rng, teams.len())).collect();
        Plan {
            zone,
            start: start(rng),
            gateways: rng.within(2, 4) as usize,
            teams,
            keys,
            faults: [0, 5, 15, 40][rng.place(4)],
            storm,
            cancels: rng.chance(50),
        }
    }
}

fn key(rng: &mut Rng, teams: usize) -> KeyPlan {
    let overflow = [Overflow::Clamp, Overflow::Clamp, Overflow::Refuse, Overflow::Cut, Overflow::Cut][rng.place(5)];
    KeyPlan {
        team: rng.chance(85).then(|| rng.place(teams)),
        limits: limits(rng, 1, 6),
        overflow,
        session_budget: rng.chance(20).then(|| amount(rng, 1, 5)),
        session_steps: rng.chance(10).then(|| rng.within(1, 6)),
    }
}

/// Limits that so many calls fill.
fn limits(rng: &mut Rng, least: u64, most: u64) -> [Option<u64>; 5] {
    std::array::from_fn(|window| {
        let calls = most * (window as u64 + 1);
        rng.chance(35).then(|| amount(rng, least, calls))
    })
}

/// Nano-dollars for so many calls, rarely a round number; now and then nothing.
pub fn amount(rng: &mut Rng, least: u64, most: u64) -> u64 {
    if rng.chance(2) { 0 } else { rng.within(least * 250_000, most * 2_500_000) }
}

/// Shortly before something: midnight, Monday, a month, a change of the clocks in Berlin.
fn start(rng: &mut Rng) -> i64 {
    let day = match rng.below(5) {
        0 => first(2026, 1) + rng.below(1000) as i64,
        1 => first(2026 + rng.below(3) as i64, rng.within(1, 12) as i64),
        2 => first(2028, 2) + 28 + rng.below(2) as i64,
        // The last Sundays of March and October 2026.
        3 => 20_541,
        _ => 20_751,
    };
    day * DAY + [0, 3_600_000, 43_200_000, -1_000, -60_000, -20_700_000][rng.place(6)] - rng.below(90_000) as i64
}

/// One call, as its client wants it.
pub struct CallPlan {
    pub wish: Wish,
    pub stream: bool,
    /// The limit in its body.
    pub limit: Option<u64>,
    pub session: Option<(u64, Option<u64>, Option<u64>)>,
}

pub fn call(rng: &mut Rng) -> CallPlan {
    let words = if rng.chance(10) { rng.within(1, 900) } else { rng.within(1, 60) };
    let length = if rng.chance(15) { rng.within(1, 8) } else { rng.within(1, 300) };
    let wish = Wish {
        model: rng.place(3),
        fate: Fate::any(rng),
        words,
        cached: if rng.chance(30) { rng.below(words + 1) } else { 0 },
        length,
        hidden: rng.below(length + 1),
    };
    let stream = rng.chance(60);
    let limit = rng.chance(90).then(|| if rng.chance(10) { rng.within(1, 20) } else { rng.within(16, 400) });
    let limit = if MODELS_NEED_LIMIT[wish.model] { Some(limit.unwrap_or(300)) } else { limit };
    let session = rng.chance(30).then(|| {
        let budget = rng.chance(40).then(|| amount(rng, 1, 6));
        (rng.below(3), budget, rng.chance(20).then(|| rng.within(1, 8)))
    });
    CallPlan { wish, stream, limit, session }
}

/// Anthropic's requests must have one.
const MODELS_NEED_LIMIT: [bool; 3] = [false, false, true];

impl CallPlan {
    /// The body as the client sends it.
    pub fn body(&self) -> String {
        let model = &crate::provider::MODELS[self.wish.model];
        let text = "go ".repeat(self.wish.words as usize);
        let field = if model.provider == "anthropic" { "max_tokens" } else { "max_completion_tokens" };
        let limit = self.limit.map(|limit| format!(",\"{field}\":{limit}")).unwrap_or_default();
        let stream = if self.stream { ",\"stream\":true" } else { "" };
        format!(
            "{{\"model\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]{limit}{stream}}}",
            model.name
        )
    }
}

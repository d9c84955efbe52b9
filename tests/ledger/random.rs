//! Random operations, each answer judged by the model at once, and the books of what it touched after it.
//!
//! A run is many episodes, each with an empty ledger, a zone, a date and a size of money of its own. What is judged:
//! every answer; I1, `spent + held ≤ limit`, on the engine's own books; I3, every hold ends exactly once; I4, what the answers
//! charged is what the books say; I5, a refusal changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::Result;

use crate::engines::Engine;
use crate::mutants::Fault;
use crate::random_run::{Divergence, Run};
use crate::rng::{Rng, number, seed};

/// What went wrong, and how to see it again.
pub struct Failure {
    pub engine: Engine,
    pub seed: u64,
    pub episode: u64,
    pub step: u64,
    pub why: Divergence,
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { engine, seed, episode, step, why, history } = self;
        writeln!(f, "{} differs from the model: {}", engine.name(), why.what)?;
        writeln!(f, "  expected {}\n  got      {}", why.expected, why.got)?;
        writeln!(f, "  LEDGER_SEED={seed}, episode {episode}, step {step}; the last operations:")?;
        history.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Plays `ops` operations; the counts of what happened, or the first failure.
pub async fn play(
    engine: Engine,
    fault: Fault,
    seed: u64,
    ops: u64,
) -> Result<Result<BTreeMap<&'static str, u64>, Failure>> {
    let mut rng = Rng::new(seed);
    let (mut done, mut episode, mut seen) = (0, 0, BTreeMap::new());
    while done < ops {
        let steps = rng.within(200, 1_800).min(ops - done);
        let mut run = Run::open(engine, fault, rng.next()).await?;
        if let Err((step, why)) = run.play(steps).await {
            let history = run.history.into();
            return Ok(Err(Failure { engine, seed, episode, step, why, history }));
        }
        run.seen.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
        (done, episode) = (done + steps, episode + 1);
    }
    Ok(Ok(seen))
}

fn judge(engine: Engine, ops: u64) -> Result<()> {
    let (seed, ops) = (seed(), number("LEDGER_OPS").unwrap_or(ops));
    println!("{}: LEDGER_SEED={seed} LEDGER_OPS={ops}", engine.name());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    match runtime.block_on(play(engine, Fault::None, seed, ops))? {
        Ok(seen) => {
            println!("{}: {ops} operations in {:?}: {seen:?}", engine.name(), started.elapsed());
            // A run that met too little of what can happen has judged nothing.
            for what in ALL_ANSWERS.iter().filter(|_| ops >= 20_000) {
                let count = seen.get(what).copied().unwrap_or_default();
                assert!(count >= 10, "LEDGER_SEED={seed}: `{what}` happened only {count} times");
            }
            Ok(())
        }
        Err(failure) => panic!("{failure}"),
    }
}

const ALL_ANSWERS: [&str; 17] = [
    "held",
    "held again",
    "stale",
    "spent",
    "refused by a window",
    "refused by a session's budget",
    "refused by a session's steps",
    "stopped",
    "expired",
    "applied",
    "overrun",
    "corrected",
    "already",
    "unknown",
    "swept",
    "standing",
    "session state",
];

#[test]
fn memory() -> Result<()> {
    judge(Engine::Memory, 100_000)
}

#[test]
fn file() -> Result<()> {
    judge(Engine::File, 100_000)
}

#[test]
fn redis() -> Result<()> {
    judge(Engine::Redis, 100_000)
}

#[test]
fn redis_cluster() -> Result<()> {
    judge(Engine::RedisCluster, 20_000)
}

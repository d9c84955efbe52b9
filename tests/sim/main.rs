//! A deterministic simulation: gateways, clients, a provider, a network, operators and clocks in one thread, without a socket.
//!
//! The program's own admission, holds, settler, meter, verdict and embedded ledger run; everything around them is a seeded scheduler's
//! choice. After each step the auditor (`audit`), who shares no code with the program, judges what was said, billed and booked.
//! `docs/TESTING.md` says what this covers and what it does not.
//!
//! `SEED=… make sim` repeats one schedule and prints it. `make sim` runs `SIMS` of them.

mod audit;
mod calendar;
mod client;
mod count;
mod mutant;
mod network;
mod operator;
mod plan;
mod provider;
mod rng;
mod schedule;
mod task;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use count::Counts;
use mutant::Mutant;
use schedule::{Outcome, run};

/// Schedules in `make test`.
const SCHEDULES: u64 = 10_000;
/// Scheduler steps of each before everything heals.
const STEPS: u64 = 210;
/// Seeds within which each wrong variant must be noticed.
const MUTANT_SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The schedule of a seed; a panic in it is a finding too.
fn judged(seed: u64, mutant: Option<Mutant>, story: bool) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, STEPS, mutant, story))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
    })
}

/// Repeats a seed, with its whole story.
fn show(seed: u64) -> String {
    match judged(seed, None, true) {
        Ok(outcome) => {
            let finding = outcome.finding.unwrap_or_else(|| String::from("nothing was found"));
            format!("{}\nseed {seed}: {finding}\nagain: SEED={seed} make sim", outcome.story.join("\n"))
        }
        Err(panic) => format!("seed {seed}: a panic: {panic}\nagain: SEED={seed} make sim"),
    }
}

/// Runs the seeds from `first` on all processors; the lowest seed with a finding is told.
fn run_many(first: u64, count: u64) -> Counts {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let (sum, bad) = (Mutex::new(Counts::default()), Mutex::new(None::<u64>));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counts = Counts::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(count) {
                        break;
                    }
                    match judged(seed, None, false) {
                        Ok(outcome) if outcome.finding.is_none() => counts.add(&outcome.counts),
                        _ => {
                            stop.store(true, Ordering::Relaxed);
                            let mut bad = task::lock(&bad);
                            *bad = Some(bad.map_or(seed, |other| other.min(seed)));
                        }
                    }
                }
                task::lock(&sum).add(&counts);
            });
        }
    });
    if let Some(seed) = *task::lock(&bad) {
        panic!("{}", show(seed));
    }
    task::lock(&sum).clone()
}

fn report(counts: &Counts, started: Instant) {
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    for (name, value) in counts.rows() {
        println!("{:>24}  {value}", name.replace('_', " "));
    }
    println!(
        "{:>24}  {:.0} schedules/s, {:.0} steps/s",
        "rate",
        counts.schedules as f64 / seconds,
        counts.steps as f64 / seconds
    );
}

#[test]
fn every_schedule_keeps_the_invariants() {
    if let Some(seed) = number("SEED") {
        let told = show(seed);
        println!("{told}");
        assert!(judged(seed, None, false).is_ok_and(|outcome| outcome.finding.is_none()), "see above");
        return;
    }
    let started = Instant::now();
    let counts = run_many(number("SIM_FIRST").unwrap_or(1), number("SIMS").unwrap_or(SCHEDULES));
    report(&counts, started);
    assert!(counts.steps >= counts.schedules * STEPS);
    // Everything that can happen did, or the sum says less than it seems to.
    if counts.schedules >= SCHEDULES {
        let missing: Vec<_> = counts.rows().into_iter().filter(|(_, value)| *value == 0).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

#[test]
fn a_seed_is_one_schedule_to_the_bit() {
    for seed in 1..=60 {
        let runs = [0, 1].map(|_| judged(seed, None, false).unwrap_or_else(|panic| panic!("{panic}")));
        assert_eq!(runs[0].hash, runs[1].hash, "seed {seed}");
        assert_eq!(runs[0].counts, runs[1].counts, "seed {seed}");
        let told = judged(seed, None, true).unwrap_or_else(|panic| panic!("{panic}"));
        assert_eq!(told.hash, runs[0].hash, "seed {seed}: looking changes nothing");
    }
}

#[test]
fn the_auditor_notices_every_wrong_variant() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let found = (1..=MUTANT_SEEDS).find_map(|seed| match judged(seed, Some(*mutant), false) {
            Ok(outcome) => outcome.finding.map(|finding| (seed, finding)),
            Err(panic) => Some((seed, panic)),
        });
        match found {
            Some((seed, finding)) => println!("{mutant:?}: seed {seed}: {finding:.160}"),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "{MUTANT_SEEDS} seeds did not notice {missed:?}");
}

//! Chaos: three gateways, a redis-server and the mock provider, under a random load and random faults; the mock's invoice judges.
//!
//! `cargo test --test chaos` runs for `CHAOS_SECONDS` (120) with `SEED`, or a seed that it prints, and exits with 1 on any breach of
//! invoice ≤ charged ≤ limit, on money held for nothing, and on a refusal without a reason. Before that it sees that it would:
//! with each deliberate mistake of [`judge::Mutant`] it must exit with 1. docs/TESTING.md tells more.

#[path = "../gateway/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

#[path = "../ledger_faults/lab.rs"]
#[allow(dead_code)]
mod lab;

#[path = "../ledger/rng.rs"]
#[allow(dead_code)]
mod rng;

mod faults;
mod judge;
mod load;
mod town;
mod wire;

use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use faults::{FAULTS, Fault, What};
use judge::{Judge, Mutant};
use rng::Rng;
use support::env_number;
use tokio::time::sleep;
use town::{Town, dollars};

const DEFAULT_SECONDS: usize = 120;
const DEFAULT_LENGTH: Duration = Duration::from_secs(DEFAULT_SECONDS as u64);
/// A run of this length or more injects each fault alone before it injects pairs.
const SINGLES_FROM: Duration = Duration::from_secs(300);
/// Episodes between two rests.
const REST_EVERY: usize = 10;
/// The longest time that a fault lasts, however few calls are made meanwhile.
const LASTS_MOST: Duration = Duration::from_millis(1500);
/// Different faults that a run must have injected; on a slow machine it goes on for up to [`LONGER`] times its length until it has.
const FAULTS_LEAST: usize = 40;
const LONGER: u32 = 3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // What `cargo test` passes on: a filter for names, which this has one of.
    let filtered = args.iter().any(|arg| !arg.starts_with('-') && !"chaos".contains(arg.as_str()));
    if args.iter().any(|arg| arg == "--list") || filtered {
        return ExitCode::SUCCESS;
    }
    let mutant = match std::env::var("CHAOS_MUTANT") {
        Ok(name) => match Mutant::ALL.into_iter().find(|(_, known, _)| *known == name) {
            Some((mutant, ..)) => Some(mutant),
            None => panic!("CHAOS_MUTANT: {name}?"),
        },
        Err(_) => None,
    };
    if mutant.is_none() && std::env::var("CHAOS_MUTANTS").as_deref() != Ok("no") && !mutants_are_found() {
        return ExitCode::FAILURE;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    // A panic of the harness is a failure, and ends the processes on its way.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(mutant))));
    let sound = ended.unwrap_or(false);
    // Clients that still run are of no interest.
    runtime.shutdown_background();
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each deliberate mistake ends in exit code 1, and in the breach that is its own.
fn mutants_are_found() -> bool {
    let mut found = true;
    for (_, name, says) in Mutant::ALL {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
        let output = command.env("CHAOS_MUTANT", name).env("CHAOS_SECONDS", "4").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let caught =
            output.status.code() == Some(1) && said.lines().any(|l| l.starts_with("BREACH") && l.contains(says));
        println!("mutant {name}: {}", if caught { "found" } else { "NOT FOUND" });
        if !caught {
            println!("{}: {}\n{said}", output.status, String::from_utf8_lossy(&output.stdout));
        }
        found &= caught;
    }
    found
}

/// One or two faults, and for how many calls they last.
struct Episode {
    faults: Vec<&'static Fault>,
    calls: u64,
    picks: [u64; 2],
}

/// The episodes of a seed, one after the other, for ever.
struct Schedule {
    rng: Rng,
    /// Faults that were not chosen since all others were.
    left: Vec<&'static Fault>,
    singles: usize,
}

impl Schedule {
    fn new(seed: u64, singles: bool) -> Schedule {
        Schedule { rng: Rng::new(seed ^ 0x5eed), left: Vec::new(), singles: if singles { FAULTS.len() } else { 0 } }
    }

    /// The next one: first those that come alone, each once, then pairs; no fault a second time before every other one was chosen.
    fn next(&mut self) -> Episode {
        let mut faults = vec![self.draw(|_| true).expect("a fault")];
        if self.singles > 0 {
            self.singles -= 1;
        } else {
            let first = faults[0].what;
            faults.extend(self.draw(|other| first.goes_with(other.what)));
        }
        // What the ledger suffers begins first and ends last: lost books are rebuilt when every gateway can say that they are.
        faults.sort_by_key(|fault| !matches!(fault.what, What::Server(_)));
        Episode { faults, calls: self.rng.within(15, 45), picks: [self.rng.next(), self.rng.next()] }
    }

    fn draw(&mut self, suits: impl Fn(&Fault) -> bool) -> Option<&'static Fault> {
        if self.left.is_empty() {
            self.left = FAULTS.iter().collect();
        }
        let suiting: Vec<usize> = (0..self.left.len()).filter(|at| suits(self.left[*at])).collect();
        let at = *self.rng.pick(&suiting)?;
        Some(self.left.swap_remove(at))
    }
}

async fn run(mutant: Option<Mutant>) -> bool {
    let seed = std::env::var("SEED").ok().filter(|text| !text.is_empty());
    let seed = seed.map_or_else(rng::seed, |text| text.parse().unwrap_or_else(|_| panic!("SEED must be a number")));
    let length = Duration::from_secs(env_number("CHAOS_SECONDS", DEFAULT_SECONDS) as u64);
    println!("chaos: SEED={seed}, {} faults, {} s", FAULTS.len(), length.as_secs());
    let mut town = Town::build(seed, mutant).await;
    let judge = town.judge.clone();
    tokio::spawn(judge.clone().watch());
    town.load.start();
    let (started, mut healing) = (Instant::now(), Duration::ZERO);
    let mut schedule = Schedule::new(seed, length >= SINGLES_FROM);
    let (mut episodes, mut pairs) = (0, 0);
    let wanted = if mutant.is_some() || length < DEFAULT_LENGTH { 0 } else { FAULTS_LEAST };
    let short = || judge.tally.lock().expect("tally").faults.len() < wanted;
    while started.elapsed() < length || (short() && started.elapsed() < LONGER * length) {
        if mutant.is_some() {
            sleep(Duration::from_millis(500)).await;
            continue;
        }
        let episode = schedule.next();
        let took = play(&mut town, &episode, episodes).await;
        healing = healing.max(took);
        episodes += 1;
        pairs += usize::from(episode.faults.len() > 1);
        if episodes % REST_EVERY == 0 {
            town.rest().await;
            town.calm().await;
        }
    }
    town.rest().await;
    if mutant.is_none() {
        town.calm().await;
    }
    town.load.pause().await;
    report(&town, &judge, episodes, pairs, healing, mutant).await
}

/// Begins the faults of an episode, lets calls run into them, ends them, and waits until calls go out again; how long that took.
async fn play(town: &mut Town, episode: &Episode, nth: usize) -> Duration {
    let names: Vec<&str> = episode.faults.iter().map(|fault| fault.name).collect();
    let from = town.load.next.load(SeqCst);
    *town.load.faults.lock().expect("faults") = episode.faults.clone();
    for (fault, pick) in episode.faults.iter().zip(episode.picks) {
        town.begin(fault, pick).await;
    }
    let (begun, at) = (Instant::now(), town.load.next.load(SeqCst));
    // Faults of calls need calls, and last a little longer.
    let most = if episode.faults.iter().any(|fault| fault.what.is_of_calls()) { 2 * LASTS_MOST } else { LASTS_MOST };
    while town.load.next.load(SeqCst) < at + episode.calls && begun.elapsed() < most {
        sleep(Duration::from_millis(10)).await;
    }
    town.load.faults.lock().expect("faults").clear();
    for (fault, pick) in episode.faults.iter().zip(episode.picks).rev() {
        town.end(fault, pick).await;
    }
    let took = town.healed().await;
    let to = town.load.next.load(SeqCst);
    println!("{nth:4}: {}: calls {from} to {to}, healed in {:.1} s", names.join(" + "), took.as_secs_f64());
    took
}

async fn report(
    town: &Town,
    judge: &Judge,
    episodes: usize,
    pairs: usize,
    healing: Duration,
    mutant: Option<Mutant>,
) -> bool {
    let (invoice, charged, posts) = town.totals().await;
    let limit = town.limit().await;
    let calls = town.load.next.load(SeqCst);
    if invoice > charged || charged > limit {
        judge.breach(format!("at the end: invoice {invoice}, charged {charged}, limit {limit}"));
    }
    let tally = judge.tally.lock().expect("tally");
    for fault in FAULTS {
        let count = tally.faults.get(fault.name).copied().unwrap_or(0);
        println!("{:>6} {:<20} {}", count, fault.what.group(), fault.name);
    }
    for (end, count) in &tally.ends {
        println!("{count:>6} calls ended: {end}");
    }
    let injected: u64 = tally.faults.values().sum();
    println!("episodes           {episodes}, of them pairs of faults {pairs}");
    println!("faults injected    {injected}, different ones {}", tally.faults.len());
    println!("calls              {calls}, requests that reached the provider {posts}");
    println!("invoice            {}", dollars(invoice));
    println!("charged            {}", dollars(charged));
    println!("limit              {}", dollars(limit));
    println!("held at rest       {}, in {} rests", dollars(tally.held_at_rest), tally.rests);
    println!("exact at rest      {} times a key without doubt was charged its invoice", tally.exact);
    println!("phantom refusals   {}, of {} refusals with numbers", tally.phantoms, tally.refusals_checked);
    println!("looks at the books {}, {} without an answer", tally.looks, tally.blind);
    println!(
        "slowest healing    {:.1} s, slowest 503 {:.1} s",
        healing.as_secs_f64(),
        tally.slowest_refusal.as_secs_f64()
    );
    let mut sound = tally.breaches.is_empty();
    if mutant.is_none() && env_number("CHAOS_SECONDS", DEFAULT_SECONDS) >= DEFAULT_SECONDS {
        if tally.faults.len() < FAULTS_LEAST {
            println!("fewer than {FAULTS_LEAST} different faults: the machine is too slow for so short a run");
            sound = false;
        }
        if tally.exact == 0 || tally.looks == 0 {
            println!("nothing was compared");
            sound = false;
        }
    }
    println!("breaches           {}", tally.breaches.len() as u64 + tally.breaches_beyond);
    for breach in &tally.breaches {
        println!("  {breach}");
    }
    if !sound && mutant.is_none() {
        println!("{}", town.gateways_said());
    }
    sound
}

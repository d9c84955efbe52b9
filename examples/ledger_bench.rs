//! How many reserve + settle pairs a ledger does in a second.
//!
//! `cargo run --release --example ledger_bench -- redis://127.0.0.1:6379 [pairs] [callers] [levels]`, or `file:bench.db`, or `memory:`
//!
//! The ledger should be an empty one: the bench makes keys and teams of its own in it. Callers wait for their reserve and for their
//! settlement. As in the gateway, one task settles: what has gathered while it waited for the ledger goes there together.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use loopers::clock::{Calendar, Clock};
use loopers::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use loopers::ledger::redis::{RedisLedger, RedisOptions};
use loopers::ledger::{
    Charge, HoldId, HoldRef, KeyRecord, Ledger, LedgerError, Limits, NodeId, Policy, Reserve, Settled, State,
    TeamRecord, Verdict,
};
use loopers::money::Money;
use loopers::secret::{KeyHash, new_key, random_hex};
use tokio::sync::{mpsc, oneshot};

/// Clock ticks in a second, as `/proc/self/stat` counts them on every Linux that we know.
const TICKS_PER_SECOND: u64 = 100;
/// Settlements that go to the ledger together, as in the gateway.
const BATCH: usize = 256;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args.next().context("usage: ledger_bench URL [pairs] [callers] [levels]")?;
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (pairs, callers, levels) = (number(100_000)?, number(64)?, number(2)?);

    let ledger = open(&url).await?;
    let view = Arc::new(key(&ledger, levels).await?);
    let left = Arc::new(AtomicUsize::new(pairs));
    let (settler, ends) = mpsc::channel(callers.max(1));
    tokio::spawn(settle(ledger.clone(), ends));
    let (start, cpu) = (Instant::now(), cpu_ms());
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (ledger, view, left, settler) = (ledger.clone(), Arc::clone(&view), Arc::clone(&left), settler.clone());
        running.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                pair(&ledger, &view, &settler).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    report(pairs, start.elapsed(), cpu, cpu_ms());
    Ok(())
}

async fn open(url: &str) -> Result<Ledger> {
    if url.starts_with("redis") {
        let mut options = RedisOptions::new(url);
        options.timeout = Duration::from_secs(5);
        return Ok(Ledger::Redis(RedisLedger::connect(options).await?));
    }
    let path = match url.split_once(':') {
        Some(("file", path)) => Some(path.into()),
        Some(("memory", "")) => None,
        _ => bail!("`{url}` is not a ledger: redis://…, file:PATH or memory:"),
    };
    let options =
        EmbeddedOptions { path, calendar: Calendar::utc(), clock: Clock::System, role: Role::Gateway, queue: 4_096 };
    Ok(Ledger::Embedded(EmbeddedLedger::open(options)?))
}

/// A key under `levels - 1` teams, with a daily limit that is never reached.
async fn key(ledger: &Ledger, levels: usize) -> Result<loopers::ledger::KeyView> {
    let mut limits = Limits::default();
    limits.0[2] = Some(Money::LIMIT_MAX);
    let mut parent = None;
    for _ in 1..levels {
        let id = NodeId::from(format!("t_{}", random_hex::<8>()?).as_str());
        let record =
            TeamRecord { id: id.clone(), name: id.to_string(), parent, created_at: 1, state: State::Active, limits };
        ledger.create_team(&record).await?;
        parent = Some(id);
    }
    let hash = KeyHash::of(new_key()?.expose()).context("a new key is well formed")?;
    let id = NodeId::from(format!("k_{}", random_hex::<8>()?).as_str());
    let record = KeyRecord {
        name: id.to_string(),
        id,
        hash: hash.hex(),
        team: parent,
        created_at: 1,
        expires_at: None,
        state: State::Active,
        limits,
        policy: Policy::default(),
    };
    ledger.create_key(&record).await?;
    ledger.key_by_hash(&hash).await?.context("the key that was just made")
}

/// One settlement, and whom to tell how it went.
type End = (Arc<HoldRef>, Charge, oneshot::Sender<Result<Settled, LedgerError>>);

/// Settles what has gathered, together, until nobody is left.
async fn settle(ledger: Ledger, mut ends: mpsc::Receiver<End>) {
    let mut batch = Vec::new();
    while ends.recv_many(&mut batch, BATCH).await > 0 {
        let (holds, tell): (Vec<_>, Vec<_>) = batch.drain(..).map(|(at, charge, tell)| ((at, charge), tell)).unzip();
        for (settled, tell) in ledger.settle_all(&holds).await.into_iter().zip(tell) {
            // A caller that stopped waiting has failed already.
            let _ = tell.send(settled);
        }
    }
}

async fn pair(ledger: &Ledger, view: &Arc<loopers::ledger::KeyView>, settler: &mpsc::Sender<End>) -> Result<()> {
    let ask = Reserve {
        hold: HoldId::random()?,
        view: Arc::clone(view),
        session: None,
        least: Money::from_nano(1_000),
        most: Money::from_nano(12_345_678),
        ttl_ms: 600_000,
        note: "openai/gpt-4o".into(),
    };
    let verdict = ledger.reserve(&ask).await?;
    let Verdict::Held(_) = verdict else { bail!("not held: {verdict:?}") };
    let (tell, answer) = oneshot::channel();
    let end = (Arc::new(ask.hold_ref()), Charge::Exact(Money::from_nano(4_321)), tell);
    settler.send(end).await.context("the settling task has ended")?;
    let settled = answer.await??;
    let Settled::Applied { .. } = settled else { bail!("not settled: {settled:?}") };
    Ok(())
}

/// CPU time of this process so far, in milliseconds; `None` where there is no `/proc`.
fn cpu_ms() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks * 1000 / TICKS_PER_SECOND)
}

fn report(pairs: usize, took: Duration, cpu_before: Option<u64>, cpu_after: Option<u64>) {
    let micros = took.as_micros().max(1);
    println!("pairs        {pairs}");
    println!("seconds      {}.{:03}", took.as_secs(), took.subsec_millis());
    println!("pairs/s      {}", pairs as u128 * 1_000_000 / micros);
    if let (Some(before), Some(after)) = (cpu_before, cpu_after) {
        let cpu = after - before;
        println!("client CPU   {cpu} ms, {} % of one core", u128::from(cpu) * 100_000 / micros);
        println!("             {} us a pair", u128::from(cpu) * 1000 / (pairs as u128).max(1));
    }
}

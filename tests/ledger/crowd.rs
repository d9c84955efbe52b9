//! A crowd of tasks that do random operations on one tree at once, and the books that they must leave.
//!
//! Nobody can say in which order their operations happened, so no answer is predicted here. But whatever the order was, the
//! answers alone say what must be in the books at the end, and no book may be above its limit at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use loopers::clock::Window;
use loopers::ledger::{Charge, HoldRef, HoldState, Ledger, NodeId, Reserve, Settled, Verdict};
use tokio::task::JoinSet;

use crate::lab::{Lab, limits, nano, same, session};
use crate::rng::{Rng, seed};

behaviours!(b15_a_random_crowd_leaves_true_books);

const TASKS: u64 = 12;
const CALLS: u64 = 120;

/// What the answers say about one hold.
#[derive(Clone, Debug)]
struct Known {
    at: HoldRef,
    granted: u64,
    /// What ended it, if anything did.
    charged: Option<u64>,
}

async fn b15_a_random_crowd_leaves_true_books(mut lab: Lab) -> Result<()> {
    let seed = seed();
    println!("{}: LEDGER_SEED={seed}", lab.world.engine.name());
    lab.team("root", None, limits(&[(Window::Monthly, 4_000)])).await?;
    lab.team("leaf", Some("root"), limits(&[(Window::Daily, 2_500), (Window::Minute, 2_400)])).await?;
    for (key, team) in [("one", "leaf"), ("two", "leaf"), ("three", "root")] {
        lab.key(key, Some(team), limits(&[(Window::Hourly, 1_900)])).await?;
    }
    let gateways = [lab.handle(), lab.world.another_gateway("UTC").await?, lab.world.another_gateway("UTC").await?];
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let mut rng = Rng::new(seed ^ (task << 32));
        let mut asks = Vec::new();
        for call in 0..CALLS {
            let key = ["one", "two", "three"][rng.below(3) as usize];
            let most = rng.within(0, 120);
            let least = rng.below(most + 2);
            let mut ask = lab.ask(&format!("{task}-{call}"), key, least, most)?;
            ask.session =
                if rng.chance(50) { session(&format!("s{}", rng.below(3)), Some(700), Some(90)) } else { None };
            // Some are over before they are settled: the sweeps find them.
            ask.ttl_ms = if rng.chance(25) { 0 } else { 3_600_000 };
            asks.push(ask);
        }
        tasks.spawn(one_of_many(gateways[task as usize % 3].clone(), asks, rng));
    }
    let done = Arc::new(AtomicBool::new(false));
    let nodes = ["root", "leaf", "one", "two", "three"].map(|name| lab.id(name));
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    let watch = tokio::spawn(watch(gateways[1].clone(), nodes.clone(), Arc::clone(&done)));
    let mut known = Vec::new();
    for task in tasks.join_all().await {
        known.extend(task?);
    }
    done.store(true, Ordering::SeqCst);
    let looks = watch.await??;
    ensure!(looks > 0, "nobody watched");
    audit(&lab, &nodes, known).await
}

/// One task: reserves, repeats, settles, sweeps; it knows only its own holds.
async fn one_of_many(ledger: Ledger, asks: Vec<Reserve>, mut rng: Rng) -> Result<Vec<Known>> {
    let mut known: Vec<Known> = Vec::new();
    for ask in asks {
        if rng.chance(8) {
            // Overtaken by its own settlement: never to be held.
            let settled = ledger.settle(&ask.hold_ref(), Charge::Full).await?;
            ensure!(settled == Settled::Unknown, "a settlement of nothing: {settled:?}");
            ensure!(ledger.reserve(&ask).await? == Verdict::Spent, "a reserve after its settlement");
            continue;
        }
        match ledger.reserve(&ask).await? {
            Verdict::Held(held) => {
                known.push(Known { at: ask.hold_ref(), granted: held.granted.nano(), charged: None })
            }
            Verdict::Refused(_) => {}
            other => bail!("a fresh reserve: {other:?}"),
        }
        if rng.chance(10) {
            ledger.sweep(rng.within(1, 20) as usize).await?;
        }
        if rng.chance(70)
            && let Some(hold) = known.len().checked_sub(1).map(|last| rng.within(0, last as u64) as usize)
        {
            settle(&ledger, &mut known[hold], &mut rng).await?;
        }
    }
    Ok(known)
}

async fn settle(ledger: &Ledger, hold: &mut Known, rng: &mut Rng) -> Result<()> {
    let charge = match rng.below(4) {
        0 => Charge::Full,
        _ => Charge::Exact(nano(rng.within(0, hold.granted))),
    };
    match (ledger.settle(&hold.at, charge).await?, hold.charged) {
        (Settled::Applied { charged, held }, None) => {
            ensure!(held.nano() == hold.granted, "held {held:?} of {hold:?}");
            hold.charged = Some(charged.nano());
        }
        (Settled::Corrected { charged, before }, None) => {
            ensure!(before.nano() == hold.granted, "expired at {before:?} of {hold:?}");
            hold.charged = Some(charged.nano());
        }
        // A full charge of a hold that was swept: it stays as it is, and may still be corrected.
        (Settled::Already { charged }, None) if charge == Charge::Full => {
            ensure!(charged.nano() == hold.granted, "swept for {charged:?} of {hold:?}");
        }
        (Settled::Already { charged }, Some(before)) => ensure!(charged.nano() == before, "{charged:?} of {hold:?}"),
        other => bail!("{other:?} of {hold:?}"),
    }
    Ok(())
}

/// Looks at all books until the crowd is done: none may be above its limit at any moment.
async fn watch(ledger: Ledger, nodes: Vec<NodeId>, done: Arc<AtomicBool>) -> Result<u64> {
    let mut looks = 0;
    // At least once, also when the crowd is done before this task first runs.
    loop {
        for id in &nodes {
            let status = ledger.status(id).await?;
            for row in status.windows {
                let used = row.spent.saturating_add(row.held);
                ensure!(row.limit.is_none_or(|limit| used <= limit), "I1 of {}: {row:?}", status.name);
            }
        }
        looks += 1;
        if done.load(Ordering::SeqCst) {
            return Ok(looks);
        }
        tokio::task::yield_now().await;
    }
}

/// The books at the end, from the answers alone.
async fn audit(lab: &Lab, nodes: &[NodeId], mut known: Vec<Known>) -> Result<()> {
    let ledger = lab.ledger();
    while ledger.sweep(50).await?.expired > 0 {}
    let mut listed = BTreeMap::new();
    for hold in ledger.holds(10_000).await? {
        listed.insert(hold.at.hold.clone(), hold);
    }
    let mut open = 0;
    for hold in &mut known {
        match (hold.charged, listed.remove(&hold.at.hold)) {
            (Some(_), None) => {}
            (None, Some(info)) => {
                ensure!(info.at == hold.at && info.amount.nano() == hold.granted, "{info:?} of {hold:?}");
                match info.state {
                    HoldState::Expired => hold.charged = Some(hold.granted),
                    _ => open += 1,
                }
            }
            other => bail!("{hold:?} is listed as {other:?}"),
        }
    }
    ensure!(listed.is_empty(), "holds that nobody was granted: {listed:?}");
    ensure!(known.len() > 100 && open > 0, "a crowd that did nothing: {} holds, {open} open", known.len());
    let sums = |of: &dyn Fn(&Known) -> bool| {
        let mine = known.iter().filter(|hold| of(hold));
        mine.fold((0, 0), |(spent, held), hold| match hold.charged {
            Some(charged) => (spent + charged, held),
            None => (spent, held + hold.granted),
        })
    };
    for id in nodes {
        let status = ledger.status(id).await?;
        let (spent, held) = sums(&|hold| hold.at.chain.contains(id));
        for row in status.windows {
            same(&format!("{} {:?}", status.name, row.window), (row.spent.nano(), row.held.nano()), (spent, held))?;
        }
        same("totals", (status.charged_total.nano(), status.overrun_total.nano()), (spent, 0))?;
    }
    for key in ["one", "two", "three"] {
        let key = lab.id(key)?;
        for id in ["s0", "s1", "s2"] {
            let mine = |hold: &Known| hold.at.chain.first() == Some(&key) && hold.at.session.as_deref() == Some(id);
            let Some(status) = ledger.session(&key, id).await? else { continue };
            same(id, (status.spent.nano(), status.held.nano()), sums(&mine))?;
            same(id, status.steps, known.iter().filter(|hold| mine(hold)).count() as u64)?;
        }
    }
    Ok(())
}

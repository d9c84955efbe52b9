//! Operations sent together do what they do alone: twins in two trees, one of them served one by one.

use std::sync::Arc;

use anyhow::{Result, bail};
use loopers::clock::Window;
use loopers::ledger::{Charge, HoldId, HoldRef, Ledger, LedgerError, Reserve, SessionStatus, Settled, Verdict};

use crate::engines::Engine;
use crate::lab::{Lab, limits, nano, same, session};
use crate::rng::Rng;

/// Settlements of one round: more than go into one script call.
const ROUND: usize = 70;
const KEYS: [&str; 3] = ["one", "two", "three"];
const SESSIONS: [&str; 2] = ["run", "night"];

behaviours!(
    settlements_together_do_what_they_do_alone,
    reserves_together_are_each_judged_alone_in_order,
    what_was_reserved_together_is_held_once,
);

/// One tree: two levels of teams, three keys at different depths.
async fn tree(lab: &mut Lab, side: &str) -> Result<()> {
    let named = |name: &str| format!("{side}-{name}");
    lab.team(&named("org"), None, limits(&[(Window::Daily, 1_000_000)])).await?;
    lab.team(&named("team"), Some(&named("org")), limits(&[])).await?;
    for (key, team) in KEYS.into_iter().zip(["org", "team", "team"]) {
        lab.key(&named(key), Some(&named(team)), limits(&[(Window::Monthly, 900_000)])).await?;
    }
    Ok(())
}

/// What an answer says, without the ids that differ between the twins.
fn said(answer: Result<Settled, LedgerError>) -> Result<String> {
    match answer {
        Ok(settled) => Ok(format!("{settled:?}")),
        Err(LedgerError::Conflict(_)) => Ok("another place".into()),
        Err(other) => bail!("{other}"),
    }
}

async fn settlements_together_do_what_they_do_alone(mut lab: Lab) -> Result<()> {
    tree(&mut lab, "left").await?;
    tree(&mut lab, "right").await?;
    let mut rng = Rng::new(0x7065_7266);
    // Rounds within an hour, after it (holds are due, windows have rolled), the next day and the next month.
    for (round, at) in [
        "2026-03-10T10:00:30Z",
        "2026-03-10T10:20:00Z",
        "2026-03-10T12:30:00Z",
        "2026-03-11T00:10:00Z",
        "2026-04-02T00:00:00Z",
    ]
    .into_iter()
    .enumerate()
    {
        lab.at(at)?;
        for hold in 0..ROUND {
            let key = KEYS[rng.below(3) as usize];
            let run = rng.chance(40).then(|| SESSIONS[rng.below(2) as usize]);
            let amount = rng.within(1, 500);
            for side in ["left", "right"] {
                let mut ask = lab.ask(&format!("{side}-{round}-{hold}"), &format!("{side}-{key}"), amount, amount)?;
                ask.session = run.and_then(|run| session(run, None, None));
                lab.remember_hold(&format!("{side}-{round}-{hold}"), &ask);
                let verdict = lab.ledger().reserve(&ask).await?;
                let Verdict::Held(_) = verdict else { bail!("{verdict:?}") };
            }
        }
        if rng.chance(50) {
            lab.ledger().sweep(10_000).await?;
        }
        let mut ends: [Vec<(Arc<HoldRef>, Charge)>; 2] = Default::default();
        for _ in 0..ROUND {
            // Of this round or an earlier one: open, expired, settled before, or named twice.
            let hold = format!("{}-{}", rng.below(round as u64 + 1), rng.below(ROUND as u64));
            let charge = match rng.below(4) {
                0 => Charge::Full,
                _ => Charge::Exact(nano(rng.below(600))),
            };
            let (stranger, moved) = (rng.chance(5), rng.chance(5));
            for (ends, side) in ends.iter_mut().zip(["left", "right"]) {
                let mut at = lab.hold_ref(&format!("{side}-{hold}"))?;
                if stranger {
                    at.hold = HoldId::random()?;
                }
                if moved {
                    at.session = Some("elsewhere".into());
                }
                ends.push((Arc::new(at), charge));
            }
        }
        let [together, alone] = ends;
        let answers = lab.ledger().settle_all(&together).await;
        same("answers", answers.len(), alone.len())?;
        for (place, (answer, (at, charge))) in answers.into_iter().zip(alone).enumerate() {
            let wanted = lab.ledger().settle(&at, charge).await;
            same(&format!("round {round}, answer {place}"), said(answer)?, said(wanted)?)?;
        }
        twins(&lab).await?;
    }
    Ok(())
}

/// Books and sessions of both sides are equal.
async fn twins(lab: &Lab) -> Result<()> {
    for name in ["org", "team"].into_iter().chain(KEYS) {
        let (left, right) = (lab.books(&format!("left-{name}")).await?, lab.books(&format!("right-{name}")).await?);
        same(name, left.windows, right.windows)?;
        same(name, (left.charged_total, left.overrun_total), (right.charged_total, right.overrun_total))?;
    }
    for key in KEYS {
        for run in SESSIONS {
            let (left, right) = (run_of(lab, "left", key, run).await?, run_of(lab, "right", key, run).await?);
            same(run, left, right)?;
        }
    }
    Ok(())
}

async fn run_of(lab: &Lab, side: &str, key: &str, run: &str) -> Result<Option<SessionStatus>> {
    Ok(lab.ledger().session(&lab.id(&format!("{side}-{key}"))?, run).await?)
}

fn held(verdict: &Result<Verdict, LedgerError>) -> Option<u64> {
    match verdict {
        Ok(Verdict::Held(held)) => Some(held.granted.nano()),
        _ => None,
    }
}

/// The first ones get what fits; each refusal is one's own; a view that is out of date, or another tree, concerns nobody else.
async fn reserves_together_are_each_judged_alone_in_order(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[(Window::Daily, 25)])).await?;
    lab.key("bot", Some("org"), limits(&[])).await?;
    lab.key("alone", None, limits(&[(Window::Hourly, 5)])).await?;
    lab.key("old", Some("org"), limits(&[])).await?;
    let old = lab.ask("old", "old", 1, 1)?;
    lab.rotate("old").await?;
    let asks = [
        lab.ask("a", "bot", 10, 10)?,
        lab.ask("b", "alone", 6, 6)?,
        old,
        lab.ask("c", "bot", 10, 10)?,
        lab.ask("d", "bot", 6, 10)?,
        lab.ask("e", "alone", 5, 5)?,
        lab.ask("f", "bot", 1, 10)?,
        lab.ask("g", "bot", 1, 10)?,
    ]
    .map(Arc::new);
    let verdicts = lab.ledger().reserve_all(&asks).await;
    let granted: Vec<Option<u64>> = verdicts.iter().map(held).collect();
    let taken: u64 = [0, 3, 4, 6, 7].iter().filter_map(|at| granted[*at]).sum();
    if lab.world.engine == Engine::RedisCluster {
        // A Cluster's client promises no order among commands that are sent together.
        for (ask, granted) in asks.iter().zip(&granted) {
            let fits = granted.is_none_or(|amount| nano(amount) >= ask.least && nano(amount) <= ask.most);
            same("a grant between least and most", fits, true)?;
        }
        same("the old key, and the poor one", (granted[1], granted[2], granted[5]), (None, None, Some(5)))?;
        same("as much as fits, and no more", (20..=25).contains(&taken), true)?;
    } else {
        same("granted", granted, vec![Some(10), None, None, Some(10), None, Some(5), Some(5), None])?;
        same("the last is refused", matches!(verdicts[7], Ok(Verdict::Refused(_))), true)?;
    }
    match (&verdicts[1], &verdicts[2]) {
        (Ok(Verdict::Refused(_)), Ok(Verdict::Stale)) => {}
        other => bail!("{other:?}"),
    }
    same("org", lab.window("org", Window::Daily).await?, (0, taken))?;
    same("alone", lab.window("alone", Window::Daily).await?, (0, 5))?;
    same("nothing", lab.ledger().reserve_all(&[]).await.len(), 0)
}

/// The same hold twice in one exchange, or once more later, is one hold; a frame of a past minute is no obstacle.
async fn what_was_reserved_together_is_held_once(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[(Window::Daily, 100)])).await?;
    let ask = |ledger: &Ledger, ask: &Arc<Reserve>| {
        let (ledger, asks) = (ledger.clone(), vec![ask.clone(), ask.clone()]);
        async move { ledger.reserve_all(&asks).await.iter().map(held).collect::<Vec<_>>() }
    };
    let one = Arc::new(lab.ask("a", "bot", 10, 10)?);
    same("at once", ask(lab.ledger(), &one).await, vec![Some(10); 2])?;
    lab.now += 40 * 86_400_000;
    let other = Arc::new(lab.ask("b", "bot", 7, 7)?);
    same("forty days later", ask(lab.ledger(), &other).await, vec![Some(7); 2])?;
    same("held", lab.window("bot", Window::Daily).await?, (0, 7))
}

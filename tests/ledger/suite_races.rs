//! Races: many tasks, one last cent.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use loopers::clock::Window;
use loopers::ledger::{
    Charge, Edit, HoldId, KeyRecord, Ledger, LedgerError, Refusal, Reserve, Settled, State, Verdict,
};
use tokio::task::JoinSet;

use crate::lab::{Lab, limits, nano, same, session};

behaviours!(
    b15_a_crowd_races_the_last_cent,
    b15_first_requests_of_a_new_key,
    b15_first_requests_of_a_new_session,
    b15_first_requests_of_a_new_window,
    b15_flexible_holds_share_what_there_is,
    b15_keys_of_one_team_race_for_its_money,
    b23_one_reserve_executed_by_many,
    b23_settlements_race_their_own_reserve,
    b23_settlements_race_each_other,
    b23_sweeps_race_settlements,
    b19_a_kill_in_a_crowd,
    names_are_given_once,
    hashes_are_given_once,
);

/// The gateways of a crowd: for Redis three connections of their own.
async fn gateways(lab: &Lab) -> Result<Vec<Ledger>> {
    Ok(vec![lab.handle(), lab.world.another_gateway("UTC").await?, lab.world.another_gateway("UTC").await?])
}

/// Sends all asks at once over all gateways; the verdicts in no order.
async fn crowd(lab: &Lab, asks: Vec<Reserve>) -> Result<Vec<Verdict>> {
    let gateways = gateways(lab).await?;
    let mut tasks = JoinSet::new();
    for (n, ask) in asks.into_iter().enumerate() {
        let ledger = gateways[n % gateways.len()].clone();
        tasks.spawn(async move { ledger.reserve(&ask).await });
    }
    let mut verdicts = Vec::new();
    for verdict in tasks.join_all().await {
        verdicts.push(verdict?);
    }
    Ok(verdicts)
}

/// How many were held, for how much together.
fn held(verdicts: &[Verdict]) -> (usize, u64) {
    let grants: Vec<u64> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Held(held) => Some(held.granted.nano()),
            _ => None,
        })
        .collect();
    (grants.len(), grants.iter().sum())
}

fn asks(lab: &mut Lab, key: &str, count: usize, least: u64, most: u64) -> Result<Vec<Reserve>> {
    (0..count).map(|n| lab.ask(&format!("{key}-{n}-{least}-{most}"), key, least, most)).collect()
}

async fn b15_a_crowd_races_the_last_cent(mut lab: Lab) -> Result<()> {
    for count in [2usize, 50, 2000] {
        let key = format!("bot-{count}");
        let room = (count as u64 / 2).min(100);
        lab.key(&key, None, limits(&[(Window::Daily, room * 10)])).await?;
        let asks = asks(&mut lab, &key, count, 10, 10)?;
        let verdicts = crowd(&lab, asks).await?;
        same(&format!("{count} racers"), held(&verdicts), (room as usize, room * 10))?;
        ensure!(
            verdicts.iter().all(|verdict| matches!(verdict, Verdict::Held(_) | Verdict::Refused(Refusal::Budget(_)))),
            "{verdicts:?}"
        );
        same("books", lab.window(&key, Window::Daily).await?, (0, room * 10))?;
        same("books", lab.window(&key, Window::Monthly).await?, (0, room * 10))?;
    }
    Ok(())
}

/// Nothing was ever stored for these keys but their records.
async fn b15_first_requests_of_a_new_key(mut lab: Lab) -> Result<()> {
    for round in 0..20 {
        let key = format!("bot-{round}");
        let limit = Window::ALL[round % 5];
        lab.key(&key, None, limits(&[(limit, 10)])).await?;
        let asks = asks(&mut lab, &key, 20, 10, 10)?;
        same(&key, held(&crowd(&lab, asks).await?), (1, 10))?;
        same(&key, lab.window(&key, limit).await?, (0, 10))?;
    }
    Ok(())
}

async fn b15_first_requests_of_a_new_session(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    for (name, budget, steps, wins) in
        [("money", Some(35), None, 3), ("calls", None, Some(4), 4), ("both", Some(50), Some(2), 2)]
    {
        let mut asks = asks(&mut lab, "bot", 200, 10, 10)?;
        for ask in &mut asks {
            (ask.hold, ask.session) = (HoldId::random()?, session(name, budget, steps));
        }
        same(name, held(&crowd(&lab, asks).await?), (wins, wins as u64 * 10))?;
        let Some(status) = lab.ledger().session(&lab.id("bot")?, name).await? else { bail!("no session {name}") };
        same(name, (status.steps, status.held.nano()), (wins as u64, wins as u64 * 10))?;
    }
    Ok(())
}

/// All of them meet a window that ended, with a hold of the old one still open.
async fn b15_first_requests_of_a_new_window(mut lab: Lab) -> Result<()> {
    lab.at("2027-12-31T23:59:30Z")?;
    lab.team("org", None, limits(&[(Window::Monthly, 30)])).await?;
    lab.key("bot", Some("org"), limits(&[(Window::Minute, 20)])).await?;
    lab.hold("old", "bot", 20).await?;
    lab.at("2028-01-01T00:00:20Z")?;
    let first = asks(&mut lab, "bot", 100, 10, 10)?;
    same("a new minute", held(&crowd(&lab, first).await?), (2, 20))?;
    lab.at("2028-01-01T00:01:20Z")?;
    let second = asks(&mut lab, "bot", 100, 5, 5)?;
    same("the rest of the month", held(&crowd(&lab, second).await?), (2, 10))?;
    lab.settle("old", Charge::Full).await?;
    same("the month", lab.window("org", Window::Monthly).await?, (0, 30))
}

async fn b15_flexible_holds_share_what_there_is(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[(Window::Hourly, 1003)])).await?;
    lab.key("bot", Some("org"), limits(&[])).await?;
    let asks = asks(&mut lab, "bot", 500, 1, 7)?;
    let verdicts = crowd(&lab, asks).await?;
    let (wins, sum) = held(&verdicts);
    same("granted", sum, 1003)?;
    same("winners", wins, 144)?;
    same("books", lab.window("org", Window::Hourly).await?, (0, 1003))
}

/// Four keys, two teams, one root: each limit holds for itself.
async fn b15_keys_of_one_team_race_for_its_money(mut lab: Lab) -> Result<()> {
    lab.team("root", None, limits(&[(Window::Monthly, 700)])).await?;
    lab.team("left", Some("root"), limits(&[(Window::Daily, 500)])).await?;
    lab.team("right", Some("root"), limits(&[(Window::Daily, 500)])).await?;
    let mut all = Vec::new();
    for (key, team) in [("one", "left"), ("two", "left"), ("three", "right"), ("four", "right")] {
        lab.key(key, Some(team), limits(&[(Window::Minute, 300)])).await?;
        all.push(asks(&mut lab, key, 150, 10, 10)?);
    }
    let mut mixed = Vec::new();
    for n in 0..150 {
        mixed.extend(all.iter().filter_map(|asks| asks.get(n).cloned()));
    }
    same("granted", held(&crowd(&lab, mixed).await?), (70, 700))?;
    same("root", lab.window("root", Window::Monthly).await?, (0, 700))?;
    let mut sum = 0;
    for (name, limit, window) in [
        ("left", 500, Window::Daily),
        ("right", 500, Window::Daily),
        ("one", 300, Window::Minute),
        ("two", 300, Window::Minute),
    ] {
        let (_, held) = lab.window(name, window).await?;
        ensure!(held <= limit, "{name} holds {held} of {limit}");
        sum += if name.len() > 3 { held } else { 0 };
    }
    same("left and right", sum, 700)
}

async fn b23_one_reserve_executed_by_many(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[(Window::Daily, 1000)])).await?;
    let mut ask = lab.ask("a", "bot", 10, 40)?;
    ask.session = session("s", None, Some(1));
    let verdicts = crowd(&lab, vec![ask; 300]).await?;
    same("answers", held(&verdicts), (300, 300 * 40))?;
    same("books", lab.window("bot", Window::Daily).await?, (0, 40))?;
    same("holds", lab.ledger().holds(10).await?.len(), 1)
}

/// Whoever is first, the hold is over in the end, and its books are true.
async fn b23_settlements_race_their_own_reserve(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    let gateways = gateways(&lab).await?;
    let mut tasks = JoinSet::new();
    for n in 0..300usize {
        let ask = lab.ask(&format!("call-{n}"), "bot", 10, 10)?;
        let (reserves, settles) = (gateways[n % 3].clone(), gateways[(n + 1) % 3].clone());
        tasks.spawn(async move {
            let at = ask.hold_ref();
            let (verdict, settled) = match n % 2 {
                0 => tokio::join!(reserves.reserve(&ask), settles.settle(&at, Charge::Exact(nano(3)))),
                _ => {
                    let (settled, verdict) =
                        tokio::join!(settles.settle(&at, Charge::Exact(nano(3))), reserves.reserve(&ask));
                    (verdict, settled)
                }
            };
            (verdict, settled)
        });
    }
    let mut charged = 0;
    for (verdict, settled) in tasks.join_all().await {
        match (verdict?, settled?) {
            (Verdict::Held(_), Settled::Applied { charged: cost, .. }) => charged += cost.nano(),
            (Verdict::Spent, Settled::Unknown) => {}
            other => bail!("{other:?}"),
        }
    }
    same("books", lab.window("bot", Window::Daily).await?, (charged, 0))?;
    same("holds", lab.ledger().holds(10).await?, vec![])
}

async fn b23_settlements_race_each_other(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    let gateways = gateways(&lab).await?;
    let mut total = 0;
    for round in 0..10 {
        let at = lab.hold(&format!("a-{round}"), "bot", 50).await?;
        let mut tasks = JoinSet::new();
        for n in 0..60usize {
            let (ledger, at) = (gateways[n % 3].clone(), at.clone());
            let charge = if n % 10 == 9 { Charge::Full } else { Charge::Exact(nano(n as u64)) };
            tasks.spawn(async move { ledger.settle(&at, charge).await });
        }
        let (mut applied, mut already) = (Vec::new(), Vec::new());
        for settled in tasks.join_all().await {
            match settled? {
                Settled::Applied { charged, .. } => applied.push(charged.nano()),
                Settled::Already { charged } => already.push(charged.nano()),
                other => bail!("{other:?}"),
            }
        }
        same("settlements that counted", applied.len(), 1)?;
        ensure!(already.iter().all(|charged| *charged == applied[0]), "{applied:?} and {already:?}");
        total += applied[0];
    }
    same("books", lab.window("bot", Window::Daily).await?, (total, 0))
}

/// Each hold ends once: settled before the sweep, or swept and corrected.
async fn b23_sweeps_race_settlements(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[])).await?;
    lab.key("bot", Some("org"), limits(&[])).await?;
    let mut holds = Vec::new();
    for n in 0..200 {
        let mut ask = lab.ask(&format!("call-{n}"), "bot", 10, 10)?;
        ask.ttl_ms = 5_000;
        lab.ledger().reserve(&ask).await?;
        holds.push(ask.hold_ref());
    }
    lab.now += 6_000;
    let gateways = gateways(&lab).await?;
    let mut sweeps = JoinSet::new();
    for n in 0..8usize {
        let ledger = gateways[n % 3].clone();
        sweeps.spawn(async move {
            let mut swept = 0;
            for _ in 0..40 {
                swept += ledger.sweep(7).await?.expired;
            }
            Ok::<_, LedgerError>(swept)
        });
    }
    let mut settles = JoinSet::new();
    for (n, at) in holds.into_iter().enumerate() {
        let ledger = gateways[n % 3].clone();
        settles.spawn(async move { ledger.settle(&at, Charge::Exact(nano(3))).await });
    }
    let mut corrected = 0;
    for settled in settles.join_all().await {
        match settled? {
            Settled::Applied { .. } => {}
            Settled::Corrected { before, .. } if before == nano(10) => corrected += 1,
            other => bail!("{other:?}"),
        }
    }
    let mut swept = 0;
    for count in sweeps.join_all().await {
        swept += count?;
    }
    same("swept and corrected", swept, corrected)?;
    for name in ["bot", "org"] {
        let books = lab.books(name).await?;
        same(
            name,
            (books.charged_total, books.windows[2].spent, books.windows[2].held),
            (nano(600), nano(600), nano(0)),
        )?;
    }
    Ok(())
}

/// When the kill switch has answered, nothing more is held, by whichever gateway and view.
async fn b19_a_kill_in_a_crowd(mut lab: Lab) -> Result<()> {
    for (n, target) in ["org", "bot-1"].into_iter().enumerate() {
        if n == 0 {
            lab.team("org", None, limits(&[])).await?;
        }
        let key = format!("bot-{n}");
        lab.key(&key, Some("org"), limits(&[])).await?;
        let before = asks(&mut lab, &key, 300, 1, 1)?;
        let gateways = Arc::new(gateways(&lab).await?);
        let (target, killer) = (lab.id(target)?, lab.handle());
        let running = tokio::spawn({
            let gateways = Arc::clone(&gateways);
            async move {
                let mut verdicts = Vec::new();
                for (n, ask) in before.iter().enumerate() {
                    verdicts.push(gateways[n % 3].reserve(ask).await?);
                }
                Ok::<_, LedgerError>(verdicts)
            }
        });
        killer.edit(&target, &Edit::State(State::Killed)).await?;
        let held_at_once = lab.window(&key, Window::Monthly).await?.1;
        let after = asks(&mut lab, &key, 100, 2, 2)?;
        let late = crowd(&lab, after).await?;
        ensure!(late.iter().all(|verdict| !matches!(verdict, Verdict::Held(_))), "held after the kill of {target}");
        let verdicts = running.await??;
        let first_refused =
            verdicts.iter().position(|verdict| !matches!(verdict, Verdict::Held(_))).unwrap_or(verdicts.len());
        ensure!(
            verdicts[first_refused..].iter().all(|verdict| !matches!(verdict, Verdict::Held(_))),
            "held after a refusal"
        );
        same("held", lab.window(&key, Window::Monthly).await?.1, held_at_once)?;
        lab.edit("org", Edit::State(State::Active)).await?;
    }
    Ok(())
}

/// Of many keys of one name one is made; the others leave nothing.
async fn names_are_given_once(mut lab: Lab) -> Result<()> {
    for round in 0..5 {
        let mut records = Vec::new();
        for n in 0..60 {
            let mut record = lab.key_record(&format!("own-{round}-{n}"), None, limits(&[]))?;
            record.name = format!("wanted-{round}");
            records.push(record);
        }
        same("keys made", create_all(&lab, &records).await?, 1)?;
        same("keys listed", lab.ledger().nodes().await?.len(), round + 1)?;
    }
    Ok(())
}

/// The same for one hash.
async fn hashes_are_given_once(mut lab: Lab) -> Result<()> {
    for round in 0..5 {
        let mut records: Vec<KeyRecord> = Vec::new();
        for n in 0..60 {
            let mut record = lab.key_record(&format!("own-{round}-{n}"), None, limits(&[]))?;
            record.hash = records.first().map_or(record.hash, |first| first.hash.clone());
            records.push(record);
        }
        same("keys made", create_all(&lab, &records).await?, 1)?;
        same("keys listed", lab.ledger().nodes().await?.len(), round + 1)?;
    }
    Ok(())
}

/// Creates them all at once; how many there are then. The others were told that they are in conflict.
async fn create_all(lab: &Lab, records: &[KeyRecord]) -> Result<usize> {
    let gateways = gateways(lab).await?;
    let mut tasks = JoinSet::new();
    for (n, record) in records.iter().cloned().enumerate() {
        let ledger = gateways[n % 3].clone();
        tasks.spawn(async move { ledger.create_key(&record).await });
    }
    let mut made = 0;
    for answer in tasks.join_all().await {
        match answer {
            Ok(()) => made += 1,
            Err(LedgerError::Conflict(_)) => {}
            Err(other) => bail!("{other:?}"),
        }
    }
    Ok(made)
}

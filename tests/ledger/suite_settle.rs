//! Settle, sweep and correction: every row of the table, for exact and full charges.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use loopers::clock::{Calendar, Window};
use loopers::ledger::rules::Counters;
use loopers::ledger::{
    Charge, Edit, HoldBooks, HoldId, HoldInfo, HoldRef, HoldState, KeyRecord, KeyView, LedgerError, Node, NodeBooks,
    Reserve, Settled, Snapshot, State, Verdict,
};
use loopers::secret::KeyHash;

use crate::engines::Engine;
use crate::lab::{Lab, limits, nano, same};

scripts! {
    /// Open: below, at and above what is held; then nothing more.
    an_open_hold_is_settled_once = "
        team org
        key bot in org daily=100
        reserve a bot 10   -> held 10
        reserve b bot 10   -> held 10
        reserve c bot 10   -> held 10
        reserve d bot 10   -> held 10
        settle a 7         -> applied 7 of 10
        settle b 10        -> applied 10 of 10
        settle c full      -> applied 10 of 10
        settle d 0         -> applied 0 of 10      # released
        settle a 7         -> already 7
        settle a 9         -> already 7
        settle a full      -> already 7
        settle c 1         -> already 10
        settle d full      -> already 0
        books bot          -> all 27+0 total 27
        books org          -> all 27+0 total 27
        holds              -> none";

    /// What was released is free again at once.
    a_released_hold_blocks_nobody = "
        key bot minute=10
        reserve a bot 10 session=s budget=10 -> held 10
        reserve b bot 1                      -> refused bot.minute limit 10 spent 0 held 10
        settle a 0                           -> applied 0 of 10
        reserve b bot 10 session=s           -> held 10 left 0 session
        show bot/s                           -> active 0+10 of 10 steps 2/none";

    /// A bill beyond the hold is debt: it is charged, counted, and blocks until its windows end.
    an_overrun_is_charged_as_debt = "
        team org monthly=1000
        key bot in org minute=10
        reserve a bot 10 session=s budget=20 -> held 10
        settle a 25        -> applied 25 of 10
        books bot          -> all 25+0 total 25 overrun 15
        books org          -> all 25+0 total 25 overrun 15
        show bot/s         -> active 25+0 of 20 steps 1/none
        reserve b bot 1    -> refused bot.minute limit 10 spent 25 held 0
        reserve b bot 0    -> refused bot.minute limit 10 spent 25 held 0
        standing a         -> over
        wait 60s
        reserve b bot 1 session=s -> refused session limit 20 spent 25 held 0
        reserve b bot 1    -> held 1
        settle b 3         -> applied 3 of 1
        books org          -> 3+0 28+0 28+0 28+0 28+0 total 28 overrun 17";

    /// Unknown: a tombstone, so that the reserve that is overtaken takes nothing.
    b23_a_settlement_that_overtakes_its_reserve_wins = "
        team org
        key bot in org daily=100
        plan a bot 10
        settle a 5         -> unknown
        settle a 5         -> already 0
        settle a full      -> already 0
        reserve a bot 10   -> spent
        reserve a bot 10   -> spent
        plan b bot 10 session=s steps=1
        settle b full      -> unknown
        reserve b bot 10 session=s steps=1 -> spent
        show bot/s         -> none
        reserve c bot 10 session=s steps=1 -> held 10
        books bot          -> all 0+10 total 0
        books org          -> all 0+10 total 0
        holds              -> c open 10";

    /// Expired: full at the sweep, then the true cost, once.
    a_late_settlement_corrects_once = "
        team org
        key bot in org daily=100
        reserve a bot 10 ttl=60s session=s   -> held 10
        reserve b bot 10 ttl=60s             -> held 10
        reserve c bot 10 ttl=2h              -> held 10
        wait 59s
        sweep 100          -> 0 charged 0
        wait 2s
        sweep 100          -> 2 charged 20
        sweep 100          -> 0 charged 0
        holds              -> a expired 10, b expired 10, c open 10
        books bot          -> 0+0 20+10 20+10 20+10 20+10 total 20
        show bot/s         -> active 10+0 of none steps 1/none
        settle a 4         -> corrected 4 from 10
        settle a 3         -> already 4
        settle a full      -> already 4
        holds              -> b expired 10, c open 10
        books bot          -> 0+0 14+10 14+10 14+10 14+10 total 14
        books org          -> 0+0 14+10 14+10 14+10 14+10 total 14
        show bot/s         -> active 4+0 of none steps 1/none
        settle b full      -> already 10
        settle b full      -> already 10
        settle b 10        -> corrected 10 from 10
        settle b 1         -> already 10
        books org          -> 0+0 14+10 14+10 14+10 14+10 total 14";

    /// A correction may also be upward: the true cost stands, and the rest is an overrun.
    a_late_settlement_may_cost_more = "
        key bot daily=10
        reserve a bot 10 ttl=10s session=s budget=10 -> held 10
        wait 11s
        sweep 1            -> 1 charged 10
        settle a 13        -> corrected 13 from 10
        books bot          -> all 13+0 total 13 overrun 3
        show bot/s         -> active 13+0 of 10 steps 1/none
        settle a 0         -> already 13
        reserve b bot 0..1 -> refused bot.daily limit 10 spent 13 held 0";

    /// A correction belongs to the windows that the hold was taken from: the new ones do not move.
    b21_a_correction_after_the_roll_touches_no_new_window = "
        at 2027-12-31T23:59:20Z
        key bot daily=100
        reserve a bot 50 ttl=10s   -> held 50
        reserve b bot 50 ttl=10s   -> held 50
        wait 11s
        sweep 10                   -> 2 charged 100
        at 2028-01-01T00:00:20Z
        reserve c bot 10           -> held 10
        settle a 1                 -> corrected 1 from 50
        books bot                  -> 0+10 0+10 0+10 51+10 0+10 total 51
        settle c 10                -> applied 10 of 10
        settle b 70                -> corrected 70 from 50
        books bot                  -> 10+0 10+0 10+0 81+0 10+0 total 81 overrun 20";

    /// A sweep in a later window charges the past one.
    b21_a_sweep_after_the_roll_touches_no_new_window = "
        at 2027-12-31T23:59:20Z
        key bot minute=50
        reserve a bot 50 ttl=10s session=s -> held 50
        at 2028-01-01T00:00:20Z
        reserve b bot 50           -> held 50
        sweep 10                   -> 1 charged 50
        books bot                  -> 0+50 0+50 0+50 50+50 0+50 total 50
        show bot/s                 -> active 50+0 of none steps 1/none
        settle b 0                 -> applied 0 of 50
        books bot                  -> 0+0 0+0 0+0 50+0 0+0 total 50";

    /// Expired holds of stopped keys and teams end like all others: doubt charges.
    holds_of_stopped_keys_end_too = "
        team org
        key one in org
        key two in org
        reserve a one 10 ttl=10s   -> held 10
        reserve b two 10           -> held 10
        revoke one
        kill org
        wait 11s
        settle b 4                 -> applied 4 of 10
        sweep 10                   -> 1 charged 10
        settle a 3                 -> corrected 3 from 10
        books org                  -> all 7+0 total 7";

    /// Settled holds are remembered for a day, expired ones for 35.
    endings_are_remembered = "
        key bot
        reserve a bot 10 ttl=60s   -> held 10
        reserve b bot 10           -> held 10
        plan c bot 10
        settle b 3                 -> applied 3 of 10
        settle c 3                 -> unknown
        wait 61s
        sweep 10                   -> 1 charged 10
        wait 23h
        settle b 3                 -> already 3
        reserve b bot 10           -> spent
        settle c 3                 -> already 0
        reserve c bot 10           -> spent
        wait 33d
        reserve a bot 10           -> spent
        settle a full              -> already 10
        wait 20h
        holds                      -> a expired 10
        settle a 4                 -> corrected 4 from 10
        books bot                  -> all 0+0 total 7";

    /// And then forgotten: what comes later is about a hold that never was.
    endings_are_forgotten = "
        key bot
        reserve a bot 10 ttl=60s   -> held 10
        reserve b bot 10           -> held 10
        settle b 3                 -> applied 3 of 10
        wait 61s
        sweep 10                   -> 1 charged 10
        wait 25h
        settle b 4                 -> unknown
        wait 35d
        sweep 10                   -> 0 charged 0
        holds                      -> none
        settle a 4                 -> unknown
        reserve a bot 10           -> spent
        books bot                  -> all 0+0 total 13";
}

behaviours!(
    counters_stay_at_the_largest,
    sweeps_are_bounded_and_reach_every_tree,
    a_settlement_of_an_unknown_key_is_unknown,
    the_books_end_equal_to_the_charges,
    embedded_engines_stand_on_the_millisecond_of_expiry,
    a_settlement_names_the_place_of_its_hold,
    settlements_sent_together_end_each_on_its_own,
    holds_under_a_team_without_a_record_end_and_no_other_is_taken,
);

/// Each gets the answer that it would get alone, in order; one that fails stops no other.
async fn settlements_sent_together_end_each_on_its_own(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[])).await?;
    lab.key("bot", Some("org"), limits(&[])).await?;
    lab.key("alone", None, limits(&[])).await?;
    for (hold, key) in [("a", "bot"), ("b", "bot"), ("c", "alone"), ("d", "bot")] {
        lab.hold(hold, key, 10).await?;
    }
    lab.settle("d", Charge::Exact(nano(1))).await?;
    let elsewhere = HoldRef { chain: lab.view("alone")?.chain.clone(), ..lab.hold_ref("b")? };
    let unknown = HoldRef { hold: HoldId::random()?, ..lab.hold_ref("a")? };
    let ends: Vec<(Arc<HoldRef>, Charge)> = [
        (lab.hold_ref("a")?, Charge::Exact(nano(3))),
        (elsewhere, Charge::Full),
        (unknown, Charge::Full),
        (lab.hold_ref("c")?, Charge::Full),
        (lab.hold_ref("d")?, Charge::Full),
        (lab.hold_ref("a")?, Charge::Full),
        (lab.hold_ref("b")?, Charge::Exact(nano(0))),
    ]
    .map(|(at, charge)| (Arc::new(at), charge))
    .into();
    let answers = lab.ledger().settle_all(&ends).await;
    let applied = |charged| Some(Settled::Applied { charged: nano(charged), held: nano(10) });
    let wanted = [
        applied(3),
        None,
        Some(Settled::Unknown),
        applied(10),
        Some(Settled::Already { charged: nano(1) }),
        Some(Settled::Already { charged: nano(3) }),
        applied(0),
    ];
    same("answers", answers.len(), wanted.len())?;
    for (at, (answer, wanted)) in answers.into_iter().zip(wanted).enumerate() {
        match (answer, wanted) {
            (Ok(answer), Some(wanted)) => same(&format!("answer {at}"), answer, wanted)?,
            // Of a tree in which it never was, a hold is simply not known there.
            (Err(LedgerError::Conflict(_)) | Ok(Settled::Unknown), None) => {}
            (answer, wanted) => bail!("answer {at}: {answer:?} instead of {wanted:?}"),
        }
    }
    same("bot", lab.window("bot", Window::Daily).await?, (4, 0))?;
    same("alone", lab.window("alone", Window::Daily).await?, (10, 0))?;
    same("nothing", lab.ledger().settle_all(&[]).await.len(), 0)
}

/// Another chain or session than the hold's changes nothing, whether the hold is open or expired.
async fn a_settlement_names_the_place_of_its_hold(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[])).await?;
    lab.key("bot", Some("org"), limits(&[])).await?;
    lab.key("other", Some("org"), limits(&[])).await?;
    lab.hold("a", "bot", 10).await?;
    let right = lab.hold_ref("a")?;
    let elsewhere = HoldRef { chain: lab.view("other")?.chain.clone(), ..right.clone() };
    let in_session = HoldRef { session: Some("s".into()), ..right };
    for state in ["open", "expired"] {
        for at in [&elsewhere, &in_session] {
            for charge in [Charge::Exact(nano(3)), Charge::Full] {
                let answer = lab.ledger().settle(at, charge).await;
                ensure!(matches!(answer, Err(LedgerError::Conflict(_))), "{state}: {answer:?}");
            }
        }
        let books = if state == "open" { (0, 10) } else { (10, 0) };
        same(state, lab.window("bot", Window::Monthly).await?, books)?;
        same(state, lab.window("other", Window::Monthly).await?, (0, 0))?;
        if state == "open" {
            // A second more than a hold lives: Redis has its own clock, which runs on while it is asked.
            lab.now += 3_601_000;
            lab.ledger().sweep(10).await?;
        }
    }
    let corrected = Settled::Corrected { charged: nano(3), before: nano(10) };
    same("the right place", lab.settle("a", Charge::Exact(nano(3))).await?, corrected)
}

/// Counters saturate at 2⁵³ − 1 and never wrap to something cheap.
async fn counters_stay_at_the_largest(mut lab: Lab) -> Result<()> {
    let max = loopers::money::Money::COUNTER_MAX;
    lab.team("org", None, limits(&[])).await?;
    lab.key("bot", Some("org"), limits(&[(Window::Monthly, 100)])).await?;
    lab.hold("a", "bot", 10).await?;
    lab.hold("b", "bot", 10).await?;
    lab.hold("c", "bot", 10).await?;
    let cost = nano(max.nano() - 5);
    same("a", lab.settle("a", Charge::Exact(cost)).await?, Settled::Applied { charged: cost, held: nano(10) })?;
    same("spent", lab.window("bot", Window::Daily).await?, (cost.nano(), 20))?;
    lab.settle("b", Charge::Exact(cost)).await?;
    lab.settle("c", Charge::Exact(nano(u64::MAX))).await?;
    for name in ["bot", "org"] {
        let books = lab.books(name).await?;
        for window in books.windows {
            same(&format!("{name} {:?}", window.window), (window.spent, window.held), (max, nano(0)))?;
        }
        same(&format!("totals of {name}"), (books.charged_total, books.overrun_total), (max, max))?;
    }
    let refused = lab.ask("d", "bot", 1, 1)?;
    let verdict = lab.ledger().reserve(&refused).await?;
    let shown = crate::show::verdict(&lab, &verdict);
    ensure!(shown.starts_with("refused bot.minute limit 9007199254740991 spent 9007199254740991 held 0"), "{shown}");
    lab.now += 60_000;
    let verdict = lab.ledger().reserve(&refused).await?;
    let shown = crate::show::verdict(&lab, &verdict);
    ensure!(shown.starts_with("refused bot.hourly limit 9007199254740991 spent 9007199254740991 held 0"), "{shown}");
    Ok(())
}

/// A sweep takes no more than it is told to; repeated, it reaches every expired hold of every tree.
async fn sweeps_are_bounded_and_reach_every_tree(mut lab: Lab) -> Result<()> {
    for tree in 0..12 {
        let key = format!("key-{tree}");
        lab.key(&key, None, limits(&[])).await?;
        for call in 0..5 {
            let mut ask = lab.ask(&format!("{tree}-{call}"), &key, 7, 7)?;
            ask.ttl_ms = 10_000 + call;
            lab.ledger().reserve(&ask).await?;
        }
    }
    same("too early", lab.ledger().sweep(100).await?.expired, 0)?;
    lab.now += 11_000;
    let (mut expired, mut charged) = (0, 0);
    for most in [1, 2, 7].into_iter().cycle().take(200) {
        let sweep = lab.ledger().sweep(most).await?;
        ensure!(sweep.expired <= most as u64, "asked for {most}, swept {}", sweep.expired);
        same("charged", sweep.charged.nano(), sweep.expired * 7)?;
        (expired, charged) = (expired + sweep.expired, charged + sweep.charged.nano());
    }
    same("all sweeps", (expired, charged), (60, 420))?;
    let holds = lab.ledger().holds(1000).await?;
    ensure!(holds.iter().all(|hold| hold.state == HoldState::Expired && hold.charged == nano(7)), "{holds:?}");
    same("holds listed", holds.len(), 60)?;
    ensure!(lab.ledger().holds(9).await?.len() <= 9, "a listing longer than asked for");
    for tree in 0..12 {
        same("books", lab.window(&format!("key-{tree}"), Window::Daily).await?, (35, 0))?;
    }
    Ok(())
}

/// Nothing is made of a settlement for a key that does not exist.
async fn a_settlement_of_an_unknown_key_is_unknown(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    let stranger = lab.key_record("stranger", None, limits(&[]))?;
    let hold = lab.ask("a", "bot", 1, 1)?.hold;
    let at = HoldRef { hold, chain: vec![stranger.id.clone()], session: None };
    same("settled", lab.ledger().settle(&at, Charge::Full).await?, Settled::Unknown)?;
    ensure!(lab.ledger().node(&stranger.id).await?.is_none(), "a settlement made a node");
    same("nodes", lab.ledger().nodes().await?.len(), 1)
}

/// At rest nothing is held, and what the answers say was charged is what the books say.
async fn the_books_end_equal_to_the_charges(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[(Window::Monthly, 1_000_000)])).await?;
    for key in ["one", "two", "three"] {
        lab.key(key, Some("org"), limits(&[(Window::Daily, 400_000)])).await?;
    }
    let mut charged = 0;
    for call in 0..120u64 {
        let key = ["one", "two", "three"][(call % 3) as usize];
        let hold = format!("call-{call}");
        lab.hold(&hold, key, 1000 + call).await?;
        let charge = match call % 4 {
            0 => Charge::Full,
            1 => Charge::Exact(nano(0)),
            _ => Charge::Exact(nano(call * 7)),
        };
        match lab.settle(&hold, charge).await? {
            Settled::Applied { charged: cost, .. } => charged += cost.nano(),
            other => anyhow::bail!("{hold}: {other:?}"),
        }
    }
    let mut keys = 0;
    for key in ["one", "two", "three"] {
        keys += lab.books(key).await?.charged_total.nano();
    }
    let org = lab.books("org").await?;
    same("the team, the keys and the answers", (org.charged_total.nano(), keys), (charged, charged))?;
    same("held", org.windows.map(|window| window.held), [nano(0); 5])
}

/// `expires_at ≤ now` to the millisecond, where the clock stands still.
async fn embedded_engines_stand_on_the_millisecond_of_expiry(mut lab: Lab) -> Result<()> {
    if !matches!(lab.world.engine, Engine::Memory | Engine::File) {
        return Ok(());
    }
    let mut record = lab.key_record("bot", None, limits(&[]))?;
    record.expires_at = Some(lab.now + 20_000);
    lab.add_key(&record).await?;
    let mut ask = lab.ask("a", "bot", 5, 5)?;
    ask.ttl_ms = 10_000;
    lab.ledger().reserve(&ask).await?;
    lab.now += 9_999;
    same("a millisecond before", lab.ledger().sweep(10).await?.expired, 0)?;
    lab.now += 1;
    same("at the millisecond", lab.ledger().sweep(10).await?.expired, 1)?;
    lab.now += 9_999;
    lab.hold("b", "bot", 5).await?;
    lab.now += 1;
    let late = lab.ask("c", "bot", 5, 5)?;
    let verdict = lab.ledger().reserve(&late).await?;
    same("an expired key", crate::show::verdict(&lab, &verdict), "expired 2027-03-10T12:34:40Z".to_string())
}

/// A key two teams deep with two open holds, as a rebuild finds it in journals that lack the record of one team.
fn without_a_record(lab: &mut Lab, missing: &str, snapshot: &mut Snapshot) -> Result<(KeyRecord, [HoldRef; 2])> {
    let names = ["bot", "team", "org"].map(|name| format!("{name} without {missing}"));
    let org = lab.team_record(&names[2], None, limits(&[]))?;
    let team = lab.team_record(&names[1], Some(&names[2]), limits(&[]))?;
    let key = lab.key_record(&names[0], Some(&names[1]), limits(&[]))?;
    let chain = vec![key.id.clone(), team.id.clone(), org.id.clone()];
    let (has_team, has_org) = (missing != "team", missing != "org");
    let records =
        [Some(Node::Key(key.clone())), has_team.then_some(Node::Team(team)), has_org.then_some(Node::Team(org))];
    let frame = Calendar::utc().frame(lab.now)?;
    // Each node after those above it.
    for (from, record) in records.into_iter().enumerate().rev() {
        let mut counters = Counters::starting(&frame);
        counters.take(nano(15));
        counters.clock = if from == 2 { lab.now } else { 0 };
        let record = record.map(|record| (record, 1));
        snapshot.nodes.push(NodeBooks { chain: chain[from..].to_vec(), record, counters });
    }
    let mut hold = |amount, ttl_ms| {
        let at = HoldRef { hold: HoldId::random()?, chain: chain.clone(), session: None };
        let (state, expires_at) = (HoldState::Open, lab.now + ttl_ms);
        let (amount, charged, note) = (nano(amount), nano(0), String::new());
        let info = HoldInfo { at: at.clone(), state, amount, charged, expires_at, note };
        snapshot.holds.push(HoldBooks { info, born: 0, starts: frame.starts });
        anyhow::Ok(at)
    };
    let holds = [hold(10, 3_600_000)?, hold(5, 60_000)?];
    Ok((key, holds))
}

/// They are settled, expired and corrected on the books that there are.
async fn holds_under_a_team_without_a_record_end_and_no_other_is_taken(mut lab: Lab) -> Result<()> {
    let mut snapshot = Snapshot { now: lab.now, ..Snapshot::default() };
    let mut trees = Vec::new();
    for missing in ["team", "org"] {
        trees.push((missing, without_a_record(&mut lab, missing, &mut snapshot)?));
    }
    let ledger = lab.handle();
    let halted = ledger.halt(&[]).await?;
    ledger.restore(&snapshot, &halted).await?;
    ledger.inspect(&|| ()).await?;
    let generation = ledger.books().await?.generation;

    for (missing, (key, [settled, _])) in &trees {
        let applied = Settled::Applied { charged: nano(3), held: nano(10) };
        same(missing, lab.ledger().settle(settled, Charge::Exact(nano(3))).await?, applied)?;
        let hash = KeyHash::from_hex(&key.hash).context("a hash")?;
        let view = KeyView { hash, chain: settled.chain.clone(), revision: 1, generation, key: key.clone() };
        let (hold, view, note) = (HoldId::random()?, Arc::new(view), String::new());
        let ask = Reserve { hold, view, session: None, least: nano(1), most: nano(1), ttl_ms: 60_000, note };
        same(missing, lab.ledger().reserve(&ask).await?, Verdict::Stale)?;
    }
    lab.now += 61_000;
    same("swept", lab.ledger().sweep(10).await?.expired, 2)?;
    for (missing, (key, [_, expired])) in &trees {
        let corrected = Settled::Corrected { charged: nano(1), before: nano(5) };
        same(missing, lab.ledger().settle(expired, Charge::Exact(nano(1))).await?, corrected)?;
        let other = if *missing == "org" { "team" } else { "org" };
        for name in [key.name.clone(), format!("{other} without {missing}")] {
            same(&name, lab.window(&name, Window::Daily).await?, (4, 0))?;
            lab.edit(&name, Edit::State(State::Killed)).await?;
            same(&name, lab.books(&name).await?.state, State::Killed)?;
        }
    }
    same("holds", lab.ledger().holds(10).await?, vec![])
}

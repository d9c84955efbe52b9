//! Reserve: what is granted, what is left, and that a refusal changes nothing anywhere.

use anyhow::{Result, bail, ensure};
use loopers::clock::{WINDOWS, Window};
use loopers::ledger::{BudgetRefusal, Level, NodeId, NodeStatus, Refusal, Verdict};

use crate::lab::{Lab, instant, limits, nano, same, session};

scripts! {
    /// The grant is the most that fits, and never less than the least.
    a_flexible_hold_takes_what_fits = "
        team org daily=25
        key bot in org hourly=100
        reserve a bot 5..10         -> held 10 left 15 team.daily
        reserve b bot 5..10         -> held 10 left 5 team.daily
        reserve c bot 6..10         -> refused org.daily limit 25 spent 0 held 20
        reserve c bot 5..10         -> held 5 left 0 team.daily
        reserve d bot 1..10         -> refused org.daily limit 25 spent 0 held 25
        reserve d bot 0..10         -> held 0 left 0 team.daily
        settle d full               -> applied 0 of 0
        settle a 1                  -> applied 1 of 10
        reserve e bot 9..100        -> held 9 left 0 team.daily
        books org                   -> all 1+24 total 1
        books bot                   -> all 1+24 total 1";

    /// `least > most` counts as `least = most`.
    a_least_above_the_most_is_the_most = "
        key bot daily=10
        reserve a bot 20..10        -> held 10 left 0 key.daily
        reserve b bot huge..0       -> held 0 left 0 key.daily
        reserve c bot huge..1       -> refused bot.daily limit 10 spent 0 held 10";

    /// Ties go to the first in the order of the checks; only limits that are set count.
    what_is_left_is_the_least_over_all_limits = "
        team root minute=50
        team leaf under root hourly=90 monthly=50
        key bot in leaf weekly=50 monthly=50
        reserve a bot 10                     -> held 10 left 40 key.weekly
        reserve b bot 5 session=s            -> held 5 left 35 key.weekly
        reserve c bot 5 session=s budget=40  -> held 5 left 30 session
        reserve d bot 5 session=s            -> held 5 left 25 session
        edit root minute=26
        reserve e bot 1 session=s            -> held 1 left 0 team.minute
        settle e 0                           -> applied 0 of 1
        edit root minute=none
        reserve f bot 1                      -> held 1 left 24 key.weekly
        key free
        reserve g free 7                     -> held 7 left none
        reserve h free 7 session=s steps=9   -> held 7 left none";

    /// A window without a limit has the largest limit that is counted exactly.
    without_a_limit_money_ends_where_counting_does = "
        key bot
        reserve a bot 1                          -> held 1 left none
        reserve b bot huge                       -> refused bot.minute limit 9007199254740991 spent 0 held 1
        reserve b bot max                        -> refused bot.minute limit 9007199254740991 spent 0 held 1
        reserve b bot 9007199254740989..huge     -> held 9007199254740990 left none
        reserve c bot 1                          -> refused bot.minute limit 9007199254740991 spent 0 held 9007199254740991
        reserve c bot 0..1                       -> held 0
        settle b 9007199254740989                -> applied 9007199254740989 of 9007199254740990
        books bot                                -> all 9007199254740989+1 total 9007199254740989
        reserve d bot 1..3                       -> held 1";

    /// No sum is rounded: fourteen digits are not enough.
    sums_are_exact_to_the_last_digit = "
        team org monthly=9000000000000000
        key bot in org daily=8999999999999999
        reserve a bot 4503599627370497           -> held 4503599627370497 left 4496400372629502 key.daily
        reserve b bot 4496400372629501           -> held 4496400372629501 left 1 key.daily
        reserve c bot 2                          -> refused bot.daily limit 8999999999999999 spent 0 held 8999999999999998
        reserve c bot 1                          -> held 1 left 0 key.daily
        reserve d bot 1                          -> refused bot.daily limit 8999999999999999 spent 0 held 8999999999999999
        settle a 4503599627370495                -> applied 4503599627370495 of 4503599627370497
        settle b full                            -> applied 4496400372629501 of 4496400372629501
        books bot                                -> all 8999999999999996+1 total 8999999999999996
        books org                                -> all 8999999999999996+1 total 8999999999999996";

    /// Limit 0 means that nothing may be spent, no limit that nothing stops it here.
    b20_a_limit_of_nothing_is_not_no_limit = "
        team org
        key none in org daily=0
        key some in org
        reserve a none 1             -> refused none.daily limit 0 spent 0 held 0
        reserve a none 1..10         -> refused none.daily limit 0 spent 0 held 0
        reserve a none 0..10         -> held 0 left 0 key.daily
        reserve b some 1             -> held 1 left none
        edit org minute=0
        reserve c some 1             -> refused org.minute limit 0 spent 0 held 1
        reserve d some 1 session=s budget=0 -> refused session limit 0 spent 0 held 0
        reserve e some 0 session=s steps=0  -> refused steps 0/0
        window none daily            -> 2027-03-10T00:00:00Z to 2027-03-11T00:00:00Z limit 0
        window none hourly           -> 2027-03-10T12:00:00Z to 2027-03-10T13:00:00Z limit none";

    /// Keys of one team share its money, keys of other teams do not.
    chains_that_share_teams_share_money = "
        team root monthly=100
        team left under root daily=60
        team right under root daily=60
        key one in left
        key two in left hourly=30
        key three in right
        key stray daily=60
        reserve a one 40       -> held 40 left 20 team.daily
        reserve b two 25       -> refused left.daily limit 60 spent 0 held 40
        reserve b two 20       -> held 20 left 0 team.daily
        reserve c three 41     -> refused root.monthly limit 100 spent 0 held 60
        reserve c three 40     -> held 40 left 0 team.monthly
        reserve d stray 60     -> held 60 left 0 key.daily
        books root             -> all 0+100 total 0
        books left             -> all 0+60 total 0
        books right            -> all 0+40 total 0
        books one              -> all 0+40 total 0
        settle a 10            -> applied 10 of 40
        reserve e three 21..30 -> refused right.daily limit 60 spent 0 held 40
        reserve e three 5..30  -> held 20 left 0 team.daily
        books root             -> all 10+80 total 10";
}

behaviours!(
    b16_every_window_of_every_level_refuses_alone,
    b16_a_refusal_changes_nothing,
    a_reserve_of_a_stranger_is_stale,
    b23_a_repeated_reserve_tells_when_it_was_taken,
);

/// A key three teams deep.
async fn tower(lab: &mut Lab, limited: Option<(usize, Window)>) -> Result<Vec<NodeId>> {
    let limit = |level: usize| match limited {
        Some((at, window)) if at == level => limits(&[(window, 10)]),
        _ => limits(&[]),
    };
    let tag = limited.map_or("free".to_string(), |(level, window)| format!("{level}-{}", window.name()));
    let (root, mid, leaf) = (format!("root-{tag}"), format!("mid-{tag}"), format!("leaf-{tag}"));
    lab.team(&root, None, limit(3)).await?;
    lab.team(&mid, Some(&root), limit(2)).await?;
    lab.team(&leaf, Some(&mid), limit(1)).await?;
    let view = lab.key(&format!("key-{tag}"), Some(&leaf), limit(0)).await?;
    same("the chain", view.chain.clone(), vec![view.key.id.clone(), lab.id(&leaf)?, lab.id(&mid)?, lab.id(&root)?])?;
    Ok(view.chain.clone())
}

async fn statuses(lab: &Lab, chain: &[NodeId]) -> Result<Vec<NodeStatus>> {
    let mut all = Vec::new();
    for id in chain {
        all.push(lab.ledger().status(id).await?);
    }
    Ok(all)
}

/// One limit in a chain of four nodes and five windows, at each of the twenty places in turn.
async fn b16_every_window_of_every_level_refuses_alone(mut lab: Lab) -> Result<()> {
    for level in 0..4 {
        for window in Window::ALL {
            let chain = tower(&mut lab, Some((level, window))).await?;
            let key = format!("key-{level}-{}", window.name());
            let before = statuses(&lab, &chain).await?;
            let ask = lab.ask("too-much", &key, 11, 20)?;
            let resets_at = before[level].windows[window.index()].resets_at;
            let want = Verdict::Refused(Refusal::Budget(BudgetRefusal {
                level: if level == 0 { Level::Key } else { Level::Team },
                id: chain[level].clone(),
                window,
                limit: nano(10),
                spent: nano(0),
                held: nano(0),
                resets_at,
            }));
            same(&format!("reserve at {key}"), lab.ledger().reserve(&ask).await?, want)?;
            same(&format!("books after the refusal at {key}"), statuses(&lab, &chain).await?, before)?;
            lab.hold(&format!("fits-{key}"), &key, 10).await?;
            for status in statuses(&lab, &chain).await? {
                let held = status.windows.map(|window| window.held);
                same(&format!("held by {} for {key}", status.name), held, [nano(10); WINDOWS])?;
            }
        }
    }
    Ok(())
}

/// Each kind of refusal leaves every book, the session and the list of holds as they were.
async fn b16_a_refusal_changes_nothing(mut lab: Lab) -> Result<()> {
    let chain = tower(&mut lab, Some((3, Window::Daily))).await?;
    let (key, root) = ("key-3-daily", "root-3-daily");
    let old = lab.view(key)?;
    lab.hold("open", key, 4).await?;
    let mut first = lab.ask("first", key, 3, 3)?;
    first.session = session("s", Some(5), Some(2));
    ensure!(matches!(lab.ledger().reserve(&first).await?, Verdict::Held(_)), "a first call of a session");
    let key_id = lab.id(key)?;
    let picture = async |lab: &Lab| -> Result<_> {
        let ledger = lab.ledger();
        let mut holds = ledger.holds(100).await?;
        holds.sort_by(|a, b| a.at.hold.cmp(&b.at.hold));
        Ok((statuses(lab, &chain).await?, ledger.session(&key_id, "s").await?, holds))
    };
    let before = picture(&lab).await?;
    for (what, least, asked) in [
        ("over the root's limit", 4, session("t", Some(1000), Some(9))),
        ("over the session's budget", 3, session("s", Some(5), None)),
        ("over a budget that would be tightened", 1, session("s", Some(1), Some(2))),
        ("over the session's steps", 0, session("s", Some(4), Some(1))),
    ] {
        let mut ask = lab.ask(what, key, least, least)?;
        ask.session = asked;
        let verdict = lab.ledger().reserve(&ask).await?;
        ensure!(matches!(verdict, Verdict::Refused(_)), "{what}: {verdict:?}");
        same(what, picture(&lab).await?, before.clone())?;
        // The id was not used up: it may come again.
        ensure!(lab.ledger().reserve(&ask).await? == verdict, "{what}: another answer the second time");
    }
    lab.edit(root, loopers::ledger::Edit::State(loopers::ledger::State::Paused)).await?;
    let ask = lab.ask("stopped", key, 1, 1)?;
    ensure!(matches!(lab.ledger().reserve(&ask).await?, Verdict::Refused(Refusal::Stopped { .. })), "a paused team");
    lab.edit(root, loopers::ledger::Edit::State(loopers::ledger::State::Active)).await?;
    same("a stopped team", picture(&lab).await?, before.clone())?;
    let mut stale = lab.ask("stale", key, 1, 1)?;
    let mut view = (*old).clone();
    view.revision -= 1;
    stale.view = view.into();
    same("a wrong revision", lab.ledger().reserve(&stale).await?, Verdict::Stale)?;
    same("a wrong revision", picture(&lab).await?, before)
}

/// A key that is not in the ledger, a hash that is not the key's, and a revision of another time.
async fn a_reserve_of_a_stranger_is_stale(mut lab: Lab) -> Result<()> {
    let known = lab.key("bot", None, limits(&[(Window::Daily, 10)])).await?;
    let stranger = lab.key_record("stranger", None, limits(&[]))?;
    let mut ask = lab.ask("a", "bot", 1, 1)?;

    let mut view = (*known).clone();
    view.hash = crate::lab::new_hash()?;
    ask.view = view.clone().into();
    same("a hash of another key", lab.ledger().reserve(&ask).await?, Verdict::Stale)?;

    // One to come would mean that the books are from before: that is another matter.
    (view.hash, view.revision) = (known.hash, known.revision - 1);
    ask.view = view.clone().into();
    same("a revision of before", lab.ledger().reserve(&ask).await?, Verdict::Stale)?;

    (view.revision, view.chain, view.key) = (known.revision, vec![stranger.id.clone()], stranger.clone());
    ask.view = view.into();
    same("a key that was never made", lab.ledger().reserve(&ask).await?, Verdict::Stale)?;
    ensure!(lab.ledger().node(&stranger.id).await?.is_none(), "a refused reserve made a node");

    ask.view = known;
    ensure!(matches!(lab.ledger().reserve(&ask).await?, Verdict::Held(_)), "the true view");
    same("books", lab.window("bot", Window::Daily).await?, (0, 1))
}

/// The windows that a hold counts in are those of the time when it was taken: what is journalled of it must not say another.
async fn b23_a_repeated_reserve_tells_when_it_was_taken(mut lab: Lab) -> Result<()> {
    lab.at("2027-03-31T23:59:58Z")?;
    lab.key("bot", None, limits(&[(Window::Monthly, 100)])).await?;
    let ask = lab.ask("a", "bot", 10, 10)?;
    let taken_at = |verdict: Verdict| match verdict {
        Verdict::Held(held) => Ok(held.now),
        other => bail!("not held: {other:?}"),
    };
    let first = taken_at(lab.ledger().reserve(&ask).await?)?;
    ensure!(first < instant("2027-04-01T00:00:00Z")?, "taken in the new month: {first}");
    lab.at("2027-04-01T00:00:03Z")?;
    same("the time of the repetition", taken_at(lab.ledger().reserve(&ask).await?)?, first)?;
    let other = lab.ask("b", "bot", 1, 1)?;
    let second = taken_at(lab.ledger().reserve(&other).await?)?;
    ensure!(second >= instant("2027-04-01T00:00:00Z")?, "the clock stood still: {second}");
    same("the new month holds the second only", lab.window("bot", Window::Monthly).await?, (0, 1))
}

//! Windows: where each begins and ends, what a call does that lives in two of them, and clocks that do not agree.

use anyhow::{Result, ensure};
use loopers::clock::Window;
use loopers::ledger::Verdict;

use crate::engines::Engine;
use crate::lab::{Lab, instant, limits, same};
use crate::script;

scripts! {
    /// The charge of a call belongs to the window in which it was held.
    b21_a_minute_that_ends_between_hold_and_settle = "
        key bot minute=10
        reserve a bot 10           -> held 10
        wait 60s
        books bot                  -> 0+0 0+10 0+10 0+10 0+10 total 0
        reserve b bot 10           -> held 10 left 0 key.minute
        settle a 8                 -> applied 8 of 10
        books bot                  -> 0+10 8+10 8+10 8+10 8+10 total 8
        settle b 9                 -> applied 9 of 10
        books bot                  -> 9+0 17+0 17+0 17+0 17+0 total 17
        window bot minute          -> 2027-03-10T12:35:00Z to 2027-03-10T12:36:00Z limit 10";

    /// The same when nothing else has touched the node since.
    b21_a_window_that_nobody_rolled_yet = "
        team org
        key bot in org daily=10
        reserve a bot 10           -> held 10
        at 2027-03-11T00:00:30Z
        settle a 10                -> applied 10 of 10
        books bot                  -> 0+0 0+0 0+0 10+0 10+0 total 10
        books org                  -> 0+0 0+0 0+0 10+0 10+0 total 10
        reserve b bot 10           -> held 10 left 0 key.daily";

    /// Each window's own edge.
    b21_every_window_rolls_at_its_own_edge = "
        at 2027-06-30T22:59:30Z
        key bot
        reserve a bot 1
        settle a 1
        books bot                  -> all 1+0 total 1
        at 2027-06-30T23:00:30Z
        books bot                  -> 0+0 0+0 1+0 1+0 1+0 total 1
        at 2027-07-01T00:00:30Z
        books bot                  -> 0+0 0+0 0+0 1+0 0+0 total 1
        at 2027-07-04T23:59:30Z
        books bot                  -> 0+0 0+0 0+0 1+0 0+0 total 1
        at 2027-07-05T00:00:30Z
        books bot                  -> all 0+0 total 1
        window bot weekly          -> 2027-07-05T00:00:00Z to 2027-07-12T00:00:00Z limit none
        window bot monthly         -> 2027-07-01T00:00:00Z to 2027-08-01T00:00:00Z limit none";

    b21_leap_day = "
        at 2028-02-28T23:59:30Z
        key bot daily=10 monthly=30
        reserve a bot 10           -> held 10
        reserve b bot 1            -> refused bot.daily limit 10 spent 0 held 10 until 2028-02-29T00:00:00Z
        at 2028-02-29T00:00:30Z
        reserve b bot 10           -> held 10
        reserve c bot 1            -> refused bot.daily limit 10 spent 0 held 10 until 2028-03-01T00:00:00Z
        window bot monthly         -> 2028-02-01T00:00:00Z to 2028-03-01T00:00:00Z limit 30
        at 2028-02-29T23:59:30Z
        settle a 10                -> applied 10 of 10
        books bot                  -> 0+0 0+0 0+10 10+10 10+10 total 10
        at 2028-03-01T00:00:30Z
        reserve c bot 10           -> held 10
        settle b 9                 -> applied 9 of 10
        books bot                  -> 0+10 0+10 0+10 19+10 0+10 total 19";

    b21_week_53_runs_into_the_new_year = "
        at 2026-12-31T23:59:30Z
        key bot weekly=15
        reserve a bot 10           -> held 10
        settle a 10
        window bot weekly          -> 2026-12-28T00:00:00Z to 2027-01-04T00:00:00Z limit 15
        at 2027-01-01T00:00:30Z
        books bot                  -> 0+0 0+0 0+0 10+0 0+0 total 10
        reserve b bot 10           -> refused bot.weekly limit 15 spent 10 held 0 until 2027-01-04T00:00:00Z
        at 2027-01-04T00:00:30Z
        reserve b bot 10           -> held 10
        books bot                  -> all 0+10 total 10";

    /// Idle for months: far past every end that a gateway could have sent ahead.
    b21_a_key_that_was_idle_for_long = "
        at 2027-01-15T10:00:30Z
        key bot minute=10 hourly=10 daily=10 weekly=10 monthly=10
        reserve a bot 10           -> held 10
        at 2027-09-20T10:00:30Z
        reserve b bot 10           -> held 10
        settle a 10                -> applied 10 of 10
        books bot                  -> all 0+10 total 10
        at 2031-01-01T00:00:30Z
        reserve c bot 10           -> held 10
        sweep 10                   -> 1 charged 10
        books bot                  -> all 0+10 total 20
        window bot monthly         -> 2031-01-01T00:00:00Z to 2031-02-01T00:00:00Z limit 10";

    /// A clock that goes back opens no window again and gives no money back.
    b21_a_clock_that_goes_back = "
        team org
        key bot in org minute=10 expires=10m
        key twin in org
        reserve a bot 10           -> held 10
        wait 60s
        reserve b bot 10           -> held 10
        back 60s
        reserve c bot 1            -> refused bot.minute limit 10 spent 0 held 10 until 2027-03-10T12:36:00Z
        settle a 10                -> applied 10 of 10
        books bot                  -> 0+10 10+10 10+10 10+10 10+10 total 10
        back 2h
        reserve c bot 1            -> refused bot.minute limit 10 spent 0 held 10 until 2027-03-10T12:36:00Z
        settle b 10                -> applied 10 of 10
        books bot                  -> 10+0 20+0 20+0 20+0 20+0 total 20
        window bot minute          -> 2027-03-10T12:35:00Z to 2027-03-10T12:36:00Z limit 10
        at 2027-03-10T12:36:20Z
        reserve c bot 10           -> held 10
        at 2027-03-10T12:44:30Z
        reserve d twin 1           -> held 1
        back 9m
        reserve e bot 1            -> expired 2027-03-10T12:44:20Z";

    /// Far back, over months: trees that have seen later times stay there, new ones live in the earlier time.
    b21_a_clock_that_goes_back_far = "
        key bot monthly=10
        reserve a bot 10           -> held 10
        at 2027-01-31T23:59:30Z
        reserve b bot 1            -> refused bot.monthly limit 10 spent 0 held 10 until 2027-04-01T00:00:00Z
        key late monthly=10
        reserve c late 10          -> held 10
        window late monthly        -> 2027-01-01T00:00:00Z to 2027-02-01T00:00:00Z limit 10
        settle a 10                -> applied 10 of 10
        reserve b bot 1            -> refused bot.monthly limit 10 spent 10 held 0 until 2027-04-01T00:00:00Z
        at 2027-02-01T00:00:30Z
        reserve d late 10          -> held 10
        reserve b bot 1            -> refused bot.monthly limit 10 spent 10 held 0
        at 2027-04-01T00:00:30Z
        reserve b bot 1            -> held 1";
}

behaviours!(
    b21_days_of_23_and_25_hours,
    b21_hours_follow_the_zone,
    b21_another_zone_does_not_reopen_a_window,
    b21_a_month_is_not_granted_twice_by_another_zone,
    b21_gateways_with_skewed_clocks,
    b21_windows_end_to_the_millisecond,
);

async fn in_zone(lab: Lab, zone: &str, text: &str) -> Result<()> {
    let engine = lab.world.engine;
    drop(lab);
    script::play(Lab::open(engine, zone, crate::lab::NOON).await?, text).await
}

async fn b21_days_of_23_and_25_hours(lab: Lab) -> Result<()> {
    let text = "
        at 2027-03-27T22:59:30Z
        key bot daily=10
        reserve a bot 10           -> held 10
        at 2027-03-27T23:00:30Z
        reserve b bot 10           -> held 10
        window bot daily           -> 2027-03-27T23:00:00Z to 2027-03-28T22:00:00Z limit 10
        at 2027-03-28T21:59:30Z
        reserve c bot 10           -> refused bot.daily limit 10 spent 0 held 10 until 2027-03-28T22:00:00Z
        at 2027-03-28T22:00:30Z
        reserve c bot 10           -> held 10
        window bot weekly          -> 2027-03-28T22:00:00Z to 2027-04-04T22:00:00Z limit none
        window bot monthly         -> 2027-02-28T23:00:00Z to 2027-03-31T22:00:00Z limit none
        books bot                  -> 0+10 0+10 0+10 0+10 0+30 total 0
        at 2027-10-30T22:00:30Z
        reserve d bot 10           -> held 10
        window bot daily           -> 2027-10-30T22:00:00Z to 2027-10-31T23:00:00Z limit 10
        at 2027-10-31T22:59:30Z
        reserve e bot 10           -> refused bot.daily limit 10 spent 0 held 10
        settle d 4                 -> applied 4 of 10
        reserve e bot 6            -> held 6 left 0 key.daily
        at 2027-10-31T23:00:30Z
        reserve f bot 10           -> held 10
        settle e 6                 -> applied 6 of 6
        books bot                  -> all 0+10 total 10";
    in_zone(lab, "Europe/Berlin", text).await
}

async fn b21_hours_follow_the_zone(lab: Lab) -> Result<()> {
    let text = "
        at 2027-03-10T12:29:30Z
        key bot hourly=10
        reserve a bot 10           -> held 10
        window bot hourly          -> 2027-03-10T11:30:00Z to 2027-03-10T12:30:00Z limit 10
        at 2027-03-10T12:30:30Z
        reserve b bot 10           -> held 10
        reserve c bot 1            -> refused bot.hourly limit 10 spent 0 held 10 until 2027-03-10T13:30:00Z
        window bot daily           -> 2027-03-09T18:30:00Z to 2027-03-10T18:30:00Z limit none
        at 2027-03-10T18:30:30Z
        books bot                  -> 0+0 0+0 0+0 0+20 0+20 total 0";
    in_zone(lab, "Asia/Kolkata", text).await
}

/// Configured in another zone, a day, week and month that have begun go on, until one of the new zone begins that is a later one: not
/// the same one, some hours later in the west.
async fn b21_another_zone_does_not_reopen_a_window(mut lab: Lab) -> Result<()> {
    if lab.world.engine == Engine::Memory {
        return Ok(());
    }
    lab.at("2027-03-11T02:00:20Z")?;
    lab.key("bot", None, limits(&[(Window::Daily, 10)])).await?;
    lab.hold("a", "bot", 10).await?;
    // In New York it is still the 10th, whose day began before the one that the node is in.
    lab = lab.reopen("America/New_York").await?;
    let ask = lab.ask("b", "bot", 1, 1)?;
    let verdict = lab.ledger().reserve(&ask).await?;
    let shown = crate::show::verdict(&lab, &verdict);
    ensure!(shown.starts_with("refused bot.daily limit 10 spent 0 held 10"), "in New York: {shown}");
    lab.settle("a", loopers::ledger::Charge::Full).await?;
    same("the day goes on", lab.window("bot", Window::Daily).await?, (10, 0))?;
    // There the 11th begins five hours after the node's own 11th: that is no other day.
    lab.at("2027-03-11T05:00:20Z")?;
    let ask = lab.ask("c", "bot", 1, 1)?;
    let verdict = lab.ledger().reserve(&ask).await?;
    let shown = crate::show::verdict(&lab, &verdict);
    ensure!(shown.starts_with("refused bot.daily limit 10 spent 10 held 0"), "at five: {shown}");
    same("still the same day", lab.window("bot", Window::Daily).await?, (10, 0))?;
    lab.at("2027-03-12T05:00:20Z")?;
    lab.hold("d", "bot", 10).await?;
    // In Kolkata the 12th began at 18:30 of the 11th in UTC: before the node's day, which stays.
    lab = lab.reopen("Asia/Kolkata").await?;
    same("the day stays", lab.window("bot", Window::Daily).await?, (0, 10))?;
    // Its 13th begins 13 hours and a half after it: too soon. The 14th is a new day.
    lab.at("2027-03-12T18:30:20Z")?;
    same("not yet", lab.window("bot", Window::Daily).await?, (0, 10))?;
    lab.at("2027-03-13T18:30:20Z")?;
    lab.hold("e", "bot", 10).await?;
    same("a new day", lab.window("bot", Window::Daily).await?, (0, 10))
}

/// The case that pays: a month whose limit is spent, and a gateway that is started again in a zone to the west after its first hours.
async fn b21_a_month_is_not_granted_twice_by_another_zone(mut lab: Lab) -> Result<()> {
    if lab.world.engine == Engine::Memory {
        return Ok(());
    }
    lab.at("2026-12-20T12:00:10Z")?;
    lab.key("bot", None, limits(&[(Window::Monthly, 100), (Window::Weekly, 100)])).await?;
    lab.hold("a", "bot", 100).await?;
    lab.settle("a", loopers::ledger::Charge::Full).await?;
    lab = lab.reopen("America/New_York").await?;
    let ask = lab.ask("b", "bot", 1, 1)?;
    let refused = lab.ledger().reserve(&ask).await?;
    let Verdict::Refused(loopers::ledger::Refusal::Budget(budget)) = refused else {
        anyhow::bail!("granted a second time: {refused:?}")
    };
    same("the week refuses first", (budget.window, budget.spent.nano()), (Window::Weekly, 100))?;
    same("until New York's Monday", budget.resets_at, instant("2026-12-21T05:00:00Z")?)?;
    for window in [Window::Weekly, Window::Monthly] {
        same(window.name(), lab.window("bot", window).await?, (100, 0))?;
    }
    // The next ones of the new zone are new.
    lab.at("2027-01-01T05:00:00Z")?;
    lab.hold("c", "bot", 100).await?;
    same("January", lab.window("bot", Window::Monthly).await?, (0, 100))
}

/// A gateway or a store whose clock is behind or ahead of the others'.
async fn b21_gateways_with_skewed_clocks(mut lab: Lab) -> Result<()> {
    if lab.world.engine.is_exact() {
        return Ok(());
    }
    let behind = lab.world.skewed_gateway("UTC", -90_000).await?;
    let ahead = lab.world.skewed_gateway("UTC", 3 * 3_600_000).await?;
    lab.key("bot", None, limits(&[(Window::Minute, 10)])).await?;
    lab.hold("a", "bot", 10).await?;
    let ask = lab.ask("b", "bot", 10, 10)?;
    let verdict = behind.reserve(&ask).await?;
    ensure!(crate::show::verdict(&lab, &verdict).starts_with("refused bot.minute"), "behind: {verdict:?}");
    let Verdict::Held(held) = ahead.reserve(&ask).await? else { anyhow::bail!("ahead: a new minute was not new") };
    ensure!(held.now >= lab.now + 3 * 3_600_000, "the later clock decides");
    for (who, ledger) in [("behind", &behind), ("first", &lab.handle()), ("ahead", &ahead)] {
        let ask = lab.ask(&format!("again {who}"), "bot", 1, 1)?;
        let verdict = ledger.reserve(&ask).await?;
        let shown = crate::show::verdict(&lab, &verdict);
        ensure!(shown.contains("held 10 until 2027-03-10T15:35:00Z"), "{who} sees an earlier minute: {shown}");
    }
    let status = behind.status(&lab.id("bot")?).await?;
    same("the window of all", status.windows[0].started_at, instant("2027-03-10T15:34:00Z")?)
}

/// A window's end is the next one's start, where the clock stands still.
async fn b21_windows_end_to_the_millisecond(mut lab: Lab) -> Result<()> {
    if !lab.world.engine.is_exact() {
        return Ok(());
    }
    for window in Window::ALL {
        let name = window.name();
        lab.at("2027-05-31T23:59:59.999Z")?;
        lab.key(name, None, limits(&[(window, 10)])).await?;
        lab.hold(&format!("{name} a"), name, 10).await?;
        let end = lab.books(name).await?.windows[window.index()].resets_at;
        let ask = lab.ask(&format!("{name} b"), name, 10, 10)?;
        lab.now = end - 1;
        let verdict = lab.ledger().reserve(&ask).await?;
        ensure!(matches!(verdict, Verdict::Refused(_)), "{name}: a millisecond early: {verdict:?}");
        lab.now = end;
        let verdict = lab.ledger().reserve(&ask).await?;
        ensure!(matches!(verdict, Verdict::Held(_)), "{name}: at its end: {verdict:?}");
        same("the new window", lab.books(name).await?.windows[window.index()].started_at, end)?;
    }
    Ok(())
}

//! Edits with calls running: limits that come, go, rise and fall, and states that stop what runs.

scripts! {
    /// All windows are counted always: a limit added later starts from the true spend.
    b22_a_limit_added_to_a_busy_key_knows_the_spend = "
        key bot
        reserve a bot 40          -> held 40 left none
        settle a 30
        reserve b bot 20          -> held 20
        edit bot hourly=55
        lookup bot
        reserve c bot 6           -> refused bot.hourly limit 55 spent 30 held 20
        reserve c bot 5           -> held 5 left 0 key.hourly
        edit bot monthly=60
        lookup bot
        settle b 0
        reserve d bot 100..200    -> refused bot.hourly limit 55 spent 30 held 5
        reserve d bot 1..200      -> held 20 left 0 key.hourly
        books bot                 -> all 30+25 total 30";

    /// What is held stays; new holds wait until they fit.
    b22_a_limit_lowered_below_what_is_held = "
        team org daily=100
        key bot in org
        reserve a bot 60          -> held 60
        reserve b bot 30          -> held 30
        edit org daily=50
        books bot                 -> all 0+90 total 0
        reserve c bot 1           -> refused org.daily limit 50 spent 0 held 90
        reserve c bot 0           -> refused org.daily limit 50 spent 0 held 90
        standing a b              -> good good
        settle a 40               -> applied 40 of 60
        reserve c bot 1           -> refused org.daily limit 50 spent 40 held 30
        standing b                -> good
        settle b 5                -> applied 5 of 30
        reserve c bot 6           -> refused org.daily limit 50 spent 45 held 0
        reserve c bot 1..6        -> held 5 left 0 team.daily";

    /// Lowered below what is spent: running calls are cut.
    b22_a_limit_lowered_below_what_is_spent = "
        key bot daily=100
        reserve a bot 60          -> held 60
        settle a 60
        reserve b bot 20          -> held 20
        edit bot daily=60
        standing b                -> good
        edit bot daily=59
        standing b                -> over
        edit bot daily=0
        standing b                -> over
        edit bot daily=none
        standing b                -> good
        settle b 20
        books bot                 -> all 80+0 total 80";

    b22_a_limit_raised_and_removed = "
        key bot daily=10 weekly=30
        reserve a bot 10          -> held 10
        reserve b bot 5           -> refused bot.daily limit 10 spent 0 held 10
        edit bot daily=14
        lookup bot
        reserve b bot 5           -> refused bot.daily limit 14 spent 0 held 10
        reserve b bot 4           -> held 4 left 0 key.daily
        edit bot daily=none
        lookup bot
        reserve c bot 20          -> refused bot.weekly limit 30 spent 0 held 14
        reserve c bot 10          -> held 10 left 6 key.weekly
        edit bot weekly=none monthly=none
        lookup bot
        reserve d bot 1000        -> held 1000 left none
        edit bot daily=10
        lookup bot
        reserve e bot 0           -> refused bot.daily limit 10 spent 0 held 1024";

    /// An edit names some windows; the others stay as they are.
    b22_an_edit_changes_only_what_it_names = "
        key bot minute=1 hourly=2 daily=3
        edit bot hourly=7 daily=none weekly=9
        window bot minute         -> 2027-03-10T12:34:00Z to 2027-03-10T12:35:00Z limit 1
        window bot hourly         -> 2027-03-10T12:00:00Z to 2027-03-10T13:00:00Z limit 7
        window bot daily          -> 2027-03-10T00:00:00Z to 2027-03-11T00:00:00Z limit none
        window bot weekly         -> 2027-03-08T00:00:00Z to 2027-03-15T00:00:00Z limit 9
        window bot monthly        -> 2027-03-01T00:00:00Z to 2027-04-01T00:00:00Z limit none
        edit bot hourly=none
        window bot hourly         -> 2027-03-10T12:00:00Z to 2027-03-10T13:00:00Z limit none
        window bot weekly         -> 2027-03-08T00:00:00Z to 2027-03-15T00:00:00Z limit 9";

    /// A limit at each level of a chain with calls running, and a team that is used by others.
    b22_limits_of_teams_with_holds_of_many_keys = "
        team root
        team leaf under root
        key one in leaf
        key two in leaf
        key far in root
        reserve a one 10          -> held 10
        reserve b two 10          -> held 10
        reserve c far 10          -> held 10
        edit leaf minute=25
        edit root minute=40
        reserve d one 6           -> refused leaf.minute limit 25 spent 0 held 20
        reserve d one 5           -> held 5 left 0 team.minute
        reserve e far 6           -> refused root.minute limit 40 spent 0 held 35
        reserve e far 5           -> held 5 left 0 team.minute
        settle c 10
        settle e 0
        reserve f far 5           -> held 5 left 0 team.minute
        books root                -> all 10+30 total 10
        books leaf                -> all 0+25 total 0";

    /// What a running call is told, and in which order.
    b19_standing_of_running_calls = "
        team root daily=100
        team leaf under root
        key one in leaf
        key two in root
        reserve a one 10 session=s budget=20 -> held 10
        reserve b two 10          -> held 10
        reserve c one 10          -> held 10
        plan x one 1
        standing                  ->
        standing a b c x          -> good good good good
        pause one
        standing a b c            -> stopped:paused good stopped:paused
        kill leaf
        standing a b c            -> stopped:paused good stopped:paused
        resume one
        standing a b c            -> stopped:killed good stopped:killed
        kill root
        standing b b a            -> stopped:killed stopped:killed stopped:killed
        resume root
        resume leaf
        standing a b c            -> good good good
        stop one/s paused
        standing a c              -> stopped:paused good
        stop one/s active
        settle c 30               -> applied 30 of 10
        edit root daily=30
        standing a b              -> good good
        edit root daily=29
        standing a b              -> over over
        pause two
        standing a b              -> over stopped:paused
        wait 24h
        standing a                -> good
        edit root daily=0
        standing a                -> over
        settle a 25               -> applied 25 of 10
        edit root daily=none
        standing a c              -> over good";

    /// Revoked is for ever; the books stay open for what was held.
    b19_a_revoked_key_stays_revoked = "
        key bot daily=100
        reserve a bot 10          -> held 10
        revoke bot
        state bot                 -> revoked
        reserve b bot 1           -> stale
        lookup bot
        reserve b bot 1           -> stopped bot revoked
        standing a                -> stopped:revoked
        edit bot daily=200
        state bot                 -> revoked
        lookup bot
        reserve b bot 1           -> stopped bot revoked
        settle a 7                -> applied 7 of 10
        books bot                 -> all 7+0 total 7";

    /// A key that was made paused waits for its resume.
    keys_and_teams_may_be_made_stopped = "
        team org state=paused
        key bot in org state=killed
        reserve a bot 1           -> stopped bot killed
        resume bot
        lookup bot
        reserve a bot 1           -> stopped org paused
        resume org
        reserve a bot 1           -> held 1";
}

use anyhow::{Result, ensure};
use loopers::clock::Window;
use loopers::ledger::{Edit, LedgerError, Node, State, Verdict};
use loopers::secret::KeyHash;

use crate::lab::{Lab, limits, nano, same};

behaviours!(b19_rotation_ends_the_old_key, every_edit_is_seen_in_the_record, b19_resume_does_not_lift_a_revocation);

/// Only the new hash finds the key; holds and books are the same.
async fn b19_rotation_ends_the_old_key(mut lab: Lab) -> Result<()> {
    let old = lab.key("bot", None, limits(&[(Window::Daily, 20)])).await?;
    lab.hold("a", "bot", 10).await?;
    let hash = lab.rotate("bot").await?;
    ensure!(lab.ledger().key_by_hash(&old.hash).await?.is_none(), "the old hash still finds the key");
    let mut ask = lab.ask("b", "bot", 5, 5)?;
    same("an old view", lab.ledger().reserve(&ask).await?, Verdict::Stale)?;
    let view = lab.ledger().key_by_hash(&hash).await?;
    let Some(new) = view else { anyhow::bail!("the new hash finds nothing") };
    same("the record's hash", new.key.hash.clone(), hash.hex())?;
    same("the view's hash", new.hash, hash)?;
    ensure!(new.revision > old.revision, "the revision stayed at {}", old.revision);
    same("the chain", new.chain.clone(), old.chain.clone())?;
    // The right revision with the old key is still not the key.
    let mut forged = new.clone();
    forged.hash = old.hash;
    ask.view = forged.into();
    same("the old hash under the new revision", lab.ledger().reserve(&ask).await?, Verdict::Stale)?;
    ask.view = new.into();
    ensure!(matches!(lab.ledger().reserve(&ask).await?, Verdict::Held(_)), "the new key");
    same("books", lab.window("bot", Window::Daily).await?, (0, 15))?;
    // A hash that another key has cannot be taken; the old one is free again.
    let other = lab.key("other", None, limits(&[])).await?;
    let taken = lab.ledger().edit(&lab.id("other")?, &Edit::Rotate(hash)).await;
    ensure!(matches!(taken, Err(LedgerError::Conflict(_))), "{taken:?}");
    ensure!(lab.ledger().key_by_hash(&other.hash).await?.is_some(), "a refused rotation took the hash away");
    same("who has the hash", found(&lab, &hash).await?, Some("bot".into()))?;
    lab.edit("other", Edit::Rotate(old.hash)).await?;
    same("who has the old hash", found(&lab, &old.hash).await?, Some("other".into()))
}

async fn found(lab: &Lab, hash: &KeyHash) -> Result<Option<String>> {
    Ok(lab.ledger().key_by_hash(hash).await?.map(|view| view.key.name))
}

/// Whatever was edited shows in every reading of the record, under a new revision.
async fn every_edit_is_seen_in_the_record(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[(Window::Daily, 5)])).await?;
    let mut view = lab.key("bot", Some("org"), limits(&[(Window::Minute, 5)])).await?;
    let edits = [
        Edit::Limits(vec![(Window::Weekly, Some(nano(9))), (Window::Minute, None)]),
        Edit::State(State::Paused),
        Edit::Limits(vec![(Window::Monthly, Some(nano(0)))]),
        Edit::State(State::Killed),
        Edit::State(State::Active),
    ];
    let mut record = view.key.clone();
    let Some(Node::Team(mut team)) = lab.ledger().node(&lab.id("org")?).await? else { anyhow::bail!("no team") };
    for edit in edits {
        lab.edit("bot", edit.clone()).await?;
        lab.edit("org", edit.clone()).await?;
        match &edit {
            Edit::Limits(changes) => {
                for (window, limit) in changes {
                    record.limits.0[window.index()] = *limit;
                    team.limits.0[window.index()] = *limit;
                }
            }
            Edit::State(state) => (record.state, team.state) = (*state, *state),
            Edit::Rotate(_) => {}
        }
        let what = format!("{edit:?}");
        let Some(now) = lab.lookup("bot").await? else { anyhow::bail!("{what}: not found") };
        ensure!(now.revision > view.revision, "{what}: the revision stayed at {}", view.revision);
        same(&what, now.key.clone(), record.clone())?;
        same(&what, lab.ledger().node(&record.id).await?, Some(Node::Key(record.clone())))?;
        same(&what, lab.ledger().node(&team.id).await?, Some(Node::Team(team.clone())))?;
        for name in ["bot", "org"] {
            let status = lab.books(name).await?;
            let (state, wanted) = if name == "bot" { (record.state, record.limits) } else { (team.state, team.limits) };
            same(&what, status.state, state)?;
            same(&what, status.windows.map(|window| window.limit), wanted.0)?;
        }
        view = now;
    }
    Ok(())
}

/// The answer to such a resume is the engine's own; the state is not.
async fn b19_resume_does_not_lift_a_revocation(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    lab.edit("bot", Edit::State(State::Revoked)).await?;
    for state in [State::Active, State::Paused, State::Killed] {
        match lab.ledger().edit(&lab.id("bot")?, &Edit::State(state)).await {
            Ok(()) | Err(LedgerError::Conflict(_)) => {}
            Err(other) => anyhow::bail!("{state:?}: {other:?}"),
        }
        same("the state", lab.books("bot").await?.state, State::Revoked)?;
        lab.lookup("bot").await?;
        let ask = lab.ask("a", "bot", 1, 1)?;
        let verdict = lab.ledger().reserve(&ask).await?;
        same("a reserve", crate::show::verdict(&lab, &verdict), "stopped bot revoked".into())?;
    }
    Ok(())
}

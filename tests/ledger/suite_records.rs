//! Records: what may be made, what is found again, what is listed, and what is unknown.

use anyhow::{Result, ensure};
use loopers::clock::Window;
use loopers::ledger::{Edit, KeyRecord, LedgerError, Level, Limits, Node, NodeId, Overflow, Policy, State, Verdict};
use loopers::money::Money;

use crate::lab::{Lab, limits, nano, new_hash, same, session};

behaviours!(
    a_record_comes_back_as_it_was_made,
    names_and_hashes_are_new,
    teams_and_parents_must_exist,
    unknown_ids_are_told_so,
    nodes_are_listed_oldest_first,
    holds_are_listed_with_their_notes,
    b24_session_ids_are_only_text,
    b24_strange_session_ids_do_not_meet,
    names_are_any_text,
    a_hold_for_ever,
    a_probe_leaves_nothing_behind,
    a_second_gateway_does_not_open_the_file,
    a_ledger_that_is_opened_again_remembers,
);

scripts! {
    /// Three teams deep, many trees, and nothing that one tree's call does to another.
    trees_share_nothing = "
        team r1
        team m1 under r1
        team l1 under m1
        key k1 in l1
        team r2
        key k2 in r2
        key k3
        reserve a k1 1
        reserve b k2 2
        reserve c k3 4
        settle a 1
        kill r1
        reserve d k2 2  -> held 2
        reserve e k3 4  -> held 4
        books r1        -> all 1+0 total 1
        books l1        -> all 1+0 total 1
        books r2        -> all 0+4 total 0
        books k3        -> all 0+8 total 0
        nodes           -> r1 m1 l1 k1 r2 k2 k3";
}

/// A key with everything that a record can have.
fn full_record(lab: &mut Lab, name: &str, team: Option<&str>) -> Result<KeyRecord> {
    let mut record =
        lab.key_record(name, team, limits(&[(Window::Minute, 0), (Window::Monthly, 9_000_000_000_000_000)]))?;
    record.expires_at = Some(lab.now + 86_400_000);
    record.policy = Policy {
        providers: vec!["openai".into()],
        models: vec!["openai/gpt-*".into(), "a \"quoted\"\\ model\n".into()],
        allow_ips: vec!["10.0.0.0/8".into(), "::1".into()],
        overflow: Overflow::Cut,
        session_budget: Some(nano(9_007_199_254_740_991)),
        session_steps: Some(17),
        unlimited: true,
        ..Policy::default()
    };
    Ok(record)
}

async fn a_record_comes_back_as_it_was_made(mut lab: Lab) -> Result<()> {
    let root = lab.team_record("root", None, limits(&[(Window::Weekly, 5)]))?;
    lab.ledger().create_team(&root).await?;
    let leaf = lab.team_record("leaf", Some("root"), Limits::default())?;
    lab.ledger().create_team(&leaf).await?;
    let record = full_record(&mut lab, "bot", Some("leaf"))?;
    let view = lab.add_key(&record).await?;
    same("the view's record", view.key.clone(), record.clone())?;
    same("the view's hash", view.hash.hex(), record.hash.clone())?;
    same("the chain", view.chain.clone(), vec![record.id.clone(), leaf.id.clone(), root.id.clone()])?;
    same("the tree", view.tree().clone(), root.id.clone())?;
    for (id, node) in [
        (&root.id, Node::Team(root.clone())),
        (&leaf.id, Node::Team(leaf.clone())),
        (&record.id, Node::Key(record.clone())),
    ] {
        same("a node", lab.ledger().node(id).await?, Some(node))?;
    }
    let status = lab.books("bot").await?;
    same(
        "status",
        (status.id, status.level, status.name, status.state),
        (record.id, Level::Key, "bot".into(), State::Active),
    )?;
    for (window, row) in Window::ALL.into_iter().zip(status.windows) {
        same("window", (row.window, row.limit), (window, record.limits.of(window)))?;
        ensure!(row.started_at <= lab.now && lab.now < row.resets_at, "{window:?}: {row:?}");
    }
    same("a team's level", lab.books("leaf").await?.level, Level::Team)
}

fn conflict(what: &str, answer: Result<(), LedgerError>) -> Result<()> {
    ensure!(matches!(answer, Err(LedgerError::Conflict(_))), "{what}: {answer:?}");
    Ok(())
}

fn not_found<T: std::fmt::Debug>(what: &str, answer: Result<T, LedgerError>) -> Result<()> {
    ensure!(matches!(answer, Err(LedgerError::NotFound(_))), "{what}: {answer:?}");
    Ok(())
}

/// A refused creation leaves nothing: not its name, not its hash, not a node.
async fn names_and_hashes_are_new(mut lab: Lab) -> Result<()> {
    lab.team("one", None, limits(&[])).await?;
    lab.key("one", Some("one"), limits(&[])).await?;
    let known = lab.view("one")?.key.clone();

    let mut twin = known.clone();
    twin.id = NodeId::from("k_00000000000000aa");
    twin.hash = new_hash()?.hex();
    conflict("a key's name", lab.ledger().create_key(&twin).await)?;
    let second_hash = twin.hash.clone();
    (twin.name, twin.hash) = ("fresh".into(), known.hash.clone());
    conflict("a key's hash", lab.ledger().create_key(&twin).await)?;
    ensure!(lab.ledger().node(&twin.id).await?.is_none(), "a refused key is a node");
    (twin.id, twin.hash) = (known.id.clone(), new_hash()?.hex());
    conflict("a key's id", lab.ledger().create_key(&twin).await)?;

    // Name and hash of refused keys are free.
    let mut fresh = lab.key_record("fresh", None, limits(&[]))?;
    fresh.hash = second_hash;
    lab.ledger().create_key(&fresh).await?;
    same("the first key", lab.ledger().node(&known.id).await?, Some(Node::Key(known.clone())))?;

    let mut team = lab.team_record("two", None, limits(&[]))?;
    team.name = "one".into();
    conflict("a team's name", lab.ledger().create_team(&team).await)?;
    ensure!(lab.ledger().node(&team.id).await?.is_none(), "a refused team is a node");
    team.name = "fresh".into();
    lab.ledger().create_team(&team).await?;
    team.name = "third".into();
    let above = nano(Money::COUNTER_MAX.nano() + 1);
    let rich = lab.key_record("rich", None, Limits([None, None, None, None, Some(above)]))?;
    conflict("a limit above every counter", lab.ledger().create_key(&rich).await)?;
    ensure!(lab.ledger().node(&rich.id).await?.is_none(), "a refused key is a node");
    let edit = Edit::Limits(vec![(Window::Daily, Some(above))]);
    conflict("an edited limit above every counter", lab.ledger().edit(&known.id, &edit).await)?;
    conflict("a team's id", lab.ledger().create_team(&team).await)?;
    same("nodes", lab.ledger().nodes().await?.len(), 4)
}

async fn teams_and_parents_must_exist(mut lab: Lab) -> Result<()> {
    let ghost = NodeId::from("t_00000000000000ff");
    let mut key = lab.key_record("bot", None, limits(&[]))?;
    key.team = Some(ghost.clone());
    let answer = lab.ledger().create_key(&key).await;
    ensure!(matches!(answer, Err(LedgerError::NotFound(_) | LedgerError::Conflict(_))), "{answer:?}");
    let mut team = lab.team_record("org", None, limits(&[]))?;
    team.parent = Some(ghost);
    let answer = lab.ledger().create_team(&team).await;
    ensure!(matches!(answer, Err(LedgerError::NotFound(_) | LedgerError::Conflict(_))), "{answer:?}");
    same("nodes", lab.ledger().nodes().await?, vec![])?;
    (key.team, team.parent) = (None, None);
    lab.ledger().create_key(&key).await?;
    lab.ledger().create_team(&team).await?;
    same("nodes", lab.ledger().nodes().await?, vec![Node::Key(key), Node::Team(team)])
}

async fn unknown_ids_are_told_so(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    for id in ["k_00000000000000ee", "t_00000000000000ee"] {
        let id = NodeId::from(id);
        let ledger = lab.ledger();
        same("node", ledger.node(&id).await?, None)?;
        not_found("status", ledger.status(&id).await)?;
        not_found("edit of a state", ledger.edit(&id, &Edit::State(State::Paused)).await)?;
        not_found("edit of limits", ledger.edit(&id, &Edit::Limits(vec![(Window::Daily, None)])).await)?;
    }
    let ghost = NodeId::from("k_00000000000000ee");
    not_found("rotate", lab.ledger().edit(&ghost, &Edit::Rotate(new_hash()?)).await)?;
    not_found("a session's state", lab.ledger().set_session_state(&ghost, "s", State::Paused).await)?;
    same("a key by its hash", lab.ledger().key_by_hash(&new_hash()?).await?, None)?;
    same("a session that made no call", lab.ledger().session(&lab.id("bot")?, "s").await?, None)?;
    let standing = lab.ledger().standing(&[]).await?;
    same("standing of nothing", standing, vec![])?;
    let team = lab.team("org", None, limits(&[])).await?;
    let rotated = lab.ledger().edit(&team, &Edit::Rotate(new_hash()?)).await;
    ensure!(rotated.is_err(), "a team has no hash to rotate");
    same("nodes", lab.ledger().nodes().await?.len(), 2)
}

async fn nodes_are_listed_oldest_first(mut lab: Lab) -> Result<()> {
    let mut names = Vec::new();
    for i in 0..12i64 {
        // Made in another order than their ages.
        let age = (i * 5) % 12;
        let name = format!("node-{age:02}");
        if i % 3 == 0 {
            let mut team = lab.team_record(&name, None, limits(&[]))?;
            team.created_at = lab.now + age * 1000;
            lab.ledger().create_team(&team).await?;
        } else {
            let mut key = lab.key_record(&name, None, limits(&[]))?;
            key.created_at = lab.now + age * 1000;
            lab.ledger().create_key(&key).await?;
        }
        names.push(name);
    }
    names.sort();
    let listed: Vec<String> = lab.ledger().nodes().await?.iter().map(|node| node.name().to_string()).collect();
    same("names", listed, names)
}

async fn holds_are_listed_with_their_notes(mut lab: Lab) -> Result<()> {
    lab.team("org", None, limits(&[])).await?;
    lab.key("bot", Some("org"), limits(&[])).await?;
    let mut ask = lab.ask("a", "bot", 5, 8)?;
    (ask.session, ask.note, ask.ttl_ms) = (session("run-1", None, None), "anthropic/claude \"x\"".into(), 90_000);
    let Verdict::Held(held) = lab.ledger().reserve(&ask).await? else { anyhow::bail!("not held") };
    let holds = lab.ledger().holds(10).await?;
    same("holds", holds.len(), 1)?;
    let hold = &holds[0];
    same("where", hold.at.clone(), ask.hold_ref())?;
    same("amounts", (hold.amount, hold.charged), (nano(8), nano(0)))?;
    same("until", hold.expires_at, held.now + 90_000)?;
    same("the note", hold.note.clone(), ask.note.clone())?;
    for call in 0..7 {
        lab.hold(&format!("more-{call}"), "bot", 1).await?;
    }
    same("all", lab.ledger().holds(100).await?.len(), 8)?;
    same("some", lab.ledger().holds(3).await?.len(), 3)?;
    same("none", lab.ledger().holds(0).await?.len(), 0)
}

/// Every character of a session id that the gateway lets through, and ids that differ in case or length only.
async fn b24_session_ids_are_only_text(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[])).await?;
    let long = "x".repeat(128);
    let ids = ["a", "A", "a.b", "a:b", "a_b", "a-b", "0", "-", "..", "session", "k_1", "spent", &long, &long[..127]];
    for (n, id) in ids.into_iter().enumerate() {
        let mut ask = lab.ask(&format!("hold-{n}"), "bot", n as u64, n as u64)?;
        ask.session = session(id, Some(100 + n as u64), Some(1));
        let verdict = lab.ledger().reserve(&ask).await?;
        ensure!(matches!(verdict, Verdict::Held(_)), "{id}: {verdict:?}");
    }
    for (n, id) in ids.into_iter().enumerate() {
        let status = lab.ledger().session(&lab.id("bot")?, id).await?;
        let Some(status) = status else { anyhow::bail!("no session `{id}`") };
        let (amount, limit) = (nano(n as u64), Some(nano(100 + n as u64)));
        same(id, (&*status.id, status.limit, status.held, status.steps), (id, limit, amount, 1))?;
    }
    Ok(())
}

/// The gateway lets none of these through. Should one arrive, it is refused, or it is a session of its own.
async fn b24_strange_session_ids_do_not_meet(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[(Window::Daily, 1000)])).await?;
    lab.key("bystander", None, limits(&[])).await?;
    let long = "y".repeat(5000);
    let mut taken = 0;
    for (n, id) in
        ["", " ", "a b", "a\nb", "a\0b", "a,b", "{a}", "ä", "\"", "a:b:c", "*", &long].into_iter().enumerate()
    {
        let mut ask = lab.ask(&format!("hold-{n}"), "bot", 10, 10)?;
        ask.session = session(id, Some(10), Some(1));
        match lab.ledger().reserve(&ask).await {
            Ok(Verdict::Held(held)) => {
                ensure!(held.granted == nano(10), "{id:?} shares a session: {held:?}");
                taken += 10;
                let status = lab.ledger().session(&lab.id("bot")?, id).await?;
                ensure!(status.as_ref().is_some_and(|s| s.held == nano(10) && &*s.id == id), "{id:?}: {status:?}");
                let settled = lab.ledger().settle(&ask.hold_ref(), loopers::ledger::Charge::Full).await?;
                same(id, settled, loopers::ledger::Settled::Applied { charged: nano(10), held: nano(10) })?;
            }
            Ok(other) => anyhow::bail!("{id:?}: {other:?}"),
            Err(LedgerError::Unavailable(why) | LedgerError::Lost(why)) => anyhow::bail!("{id:?}: {why}"),
            Err(LedgerError::NotFound(_) | LedgerError::Conflict(_)) => {}
        }
        same(id, lab.window("bot", Window::Daily).await?, (taken, 0))?;
    }
    same("a bystander", lab.window("bystander", Window::Daily).await?, (0, 0))
}

/// A name is for people: quotes, braces and other alphabets come back as they were written, and do not meet.
async fn names_are_any_text(mut lab: Lab) -> Result<()> {
    let names = ["büro", "a b", "a\tb", "\"q\"", "{x}", "x", "X", "?x", "日本", "a:b", "key:x", "%s", "\\", "-1", "0"];
    for name in names {
        lab.key(name, None, limits(&[])).await?;
        lab.team(name, None, limits(&[])).await?;
        let record = lab.key_record(name, None, limits(&[]))?;
        conflict(name, lab.ledger().create_key(&record).await)?;
    }
    let mut listed: Vec<String> = lab.ledger().nodes().await?.iter().map(|node| node.name().to_string()).collect();
    let mut wanted: Vec<String> = names.iter().flat_map(|name| [name.to_string(), name.to_string()]).collect();
    listed.sort();
    wanted.sort();
    same("names", listed, wanted)
}

/// A time to live beyond all calendars does not wrap into the past.
async fn a_hold_for_ever(mut lab: Lab) -> Result<()> {
    lab.key("bot", None, limits(&[(Window::Daily, 10)])).await?;
    for (n, ttl_ms) in [u64::MAX, i64::MAX as u64, 1 << 53].into_iter().enumerate() {
        let mut ask = lab.ask(&format!("hold-{n}"), "bot", 1, 1)?;
        ask.ttl_ms = ttl_ms;
        let verdict = lab.ledger().reserve(&ask).await?;
        ensure!(matches!(verdict, Verdict::Held(_)), "{ttl_ms}: {verdict:?}");
    }
    lab.now += 400 * 86_400_000;
    same("swept after a year", lab.ledger().sweep(10).await?.expired, 0)?;
    let holds = lab.ledger().holds(10).await?;
    ensure!(holds.len() == 3 && holds.iter().all(|hold| hold.expires_at > lab.now), "{holds:?}");
    Ok(())
}

async fn a_probe_leaves_nothing_behind(mut lab: Lab) -> Result<()> {
    lab.ledger().probe().await?;
    lab.key("bot", None, limits(&[(Window::Daily, 10)])).await?;
    for _ in 0..20 {
        lab.ledger().probe().await?;
        lab.now += 3_600_000;
    }
    lab.ledger().probe().await?;
    same("nodes", lab.ledger().nodes().await?.len(), 1)?;
    same("holds", lab.ledger().holds(100).await?, vec![])?;
    same("sweep", lab.ledger().sweep(100).await?.expired, 0)?;
    same("books", lab.window("bot", Window::Monthly).await?, (0, 0))
}

async fn a_second_gateway_does_not_open_the_file(lab: Lab) -> Result<()> {
    match lab.world.open_again().await {
        Some(answer) => ensure!(answer.is_err(), "two gateways on one file"),
        // Redis is made to be shared: the second gateway sees what the first one did.
        None => {
            let mut lab = lab;
            lab.key("bot", None, limits(&[])).await?;
            let other = lab.world.another_gateway("UTC").await?;
            same("nodes", other.nodes().await?.len(), 1)?;
        }
    }
    Ok(())
}

/// Everything is still there: books, holds, sessions, endings, records.
async fn a_ledger_that_is_opened_again_remembers(mut lab: Lab) -> Result<()> {
    use loopers::ledger::{Charge, Settled};
    if lab.world.engine == crate::engines::Engine::Memory {
        return Ok(());
    }
    lab.team("org", None, limits(&[(Window::Monthly, 1000)])).await?;
    let record = full_record(&mut lab, "full", Some("org"))?;
    lab.add_key(&record).await?;
    lab.key("bot", Some("org"), limits(&[(Window::Daily, 100)])).await?;
    for hold in ["a", "b", "c"] {
        let mut ask = lab.ask(hold, "bot", 10, 10)?;
        ask.session = session("s", Some(50), Some(5));
        ask.ttl_ms = if hold == "c" { 10_000 } else { 3_600_000 };
        lab.remember_hold(hold, &ask);
        lab.ledger().reserve(&ask).await?;
    }
    lab.settle("a", Charge::Exact(nano(7))).await?;
    lab.now += 11_000;
    lab.ledger().sweep(10).await?;
    let bot = lab.id("bot")?;
    let picture = async |lab: &Lab| -> Result<_> {
        let ledger = lab.ledger();
        let mut holds = ledger.holds(100).await?;
        holds.sort_by(|a, b| a.at.hold.cmp(&b.at.hold));
        Ok((
            lab.books("bot").await?,
            lab.books("org").await?,
            ledger.session(&bot, "s").await?,
            holds,
            ledger.nodes().await?,
        ))
    };
    let before = picture(&lab).await?;
    let view = lab.view("bot")?;
    let mut lab = lab.reopen("UTC").await?;
    same("after", picture(&lab).await?, before)?;
    same("the view", lab.lookup("bot").await?, Some(view))?;
    same("a", lab.settle("a", Charge::Full).await?, Settled::Already { charged: nano(7) })?;
    same("b", lab.settle("b", Charge::Exact(nano(1))).await?, Settled::Applied { charged: nano(1), held: nano(10) })?;
    same(
        "c",
        lab.settle("c", Charge::Exact(nano(2))).await?,
        Settled::Corrected { charged: nano(2), before: nano(10) },
    )?;
    same("books", lab.window("org", Window::Monthly).await?, (10, 0))
}

//! Behaviours as scripts: one line, one operation; after `->` the answer that the specification asks for.
//!
//! ```text
//! team org monthly=1000                  a team; `under` names its parent
//! key bot in org daily=100 expires=60s   a key; `in` names its team
//! reserve a bot 5..10 session=s budget=20 steps=3 ttl=60s     hold `a`; one number is both least and most
//! plan x bot 5                           a call whose reserve has not reached the ledger yet
//! settle a 7            settle a full
//! sweep 100             standing a b            holds             nodes
//! edit bot daily=20 hourly=none      pause/resume/kill/revoke/rotate bot
//! stop bot/s paused                      the state of session `s` of `bot`
//! books bot             window bot daily        show bot/s        state bot
//! lookup bot                             the gateway looks the key up again; until then it uses its old view
//! at 2028-02-29T23:59:30Z      wait 61s      back 5m
//! ```
//!
//! An answer's ` left …` and ` until …` need not be written. Without `->` any answer but an error will do.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use loopers::clock::{Millis, Window};
use loopers::ledger::{Charge, Edit, LedgerError, Limits, Node, Reserve, State};
use loopers::money::Money;

use crate::lab::{Lab, nano, session};
use crate::show;

/// Plays a script; the error names the line.
pub async fn play(mut lab: Lab, script: &str) -> Result<()> {
    for (number, line) in script.lines().enumerate() {
        let code = line.split('#').next().unwrap_or_default().trim();
        if code.is_empty() {
            continue;
        }
        let (operation, want) = match code.split_once("->") {
            Some((operation, want)) => (operation.trim(), Some(want.trim())),
            None => (code, None),
        };
        let got = match operate(&mut lab, &Line::read(operation)).await {
            Ok(got) => got,
            Err(e) => match e.downcast_ref::<LedgerError>() {
                Some(error) => show::error(error),
                None => return Err(e.context(format!("line {}: {code}", number + 1))),
            },
        };
        let matches = match want {
            Some(want) => agree(&got, want),
            None => !got.starts_with("error") && !got.starts_with("UNAVAILABLE"),
        };
        if !matches {
            let want = want.unwrap_or("no error");
            bail!("line {}: {operation}\n  expected {want}\n  got      {got}", number + 1);
        }
    }
    Ok(())
}

/// Equal, but for the parts that a script may leave out.
fn agree(got: &str, want: &str) -> bool {
    let mut got = got;
    for part in [" left ", " until "] {
        if !want.contains(part) {
            got = got.split(part).next().unwrap_or(got);
        }
    }
    got == want || (want == "expired" && got.starts_with("expired "))
}

/// An operation: its words, and its `name=value` pairs.
struct Line<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn read(text: &'a str) -> Line<'a> {
        let (pairs, words): (Vec<&str>, Vec<&str>) = text.split_whitespace().partition(|word| word.contains('='));
        Line { words, options: pairs.into_iter().filter_map(|pair| pair.split_once('=')).collect() }
    }

    fn word(&self, at: usize) -> Result<&'a str> {
        self.words.get(at).copied().context("a word is missing")
    }

    /// The word after `name`.
    fn after(&self, name: &str) -> Option<&'a str> {
        let at = self.words.iter().position(|word| *word == name)?;
        self.words.get(at + 1).copied()
    }

    fn limits(&self) -> Result<Vec<(Window, Option<Money>)>> {
        let named = Window::ALL.into_iter().filter_map(|window| Some((window, *self.options.get(window.name())?)));
        named
            .map(|(window, text)| Ok((window, if text == "none" { None } else { Some(nano(amount(text)?)) })))
            .collect()
    }

    /// `bot/s` as key and session.
    fn session(&self) -> Result<(&'a str, &'a str)> {
        self.word(1)?.split_once('/').context("a session is written key/session")
    }
}

async fn operate(lab: &mut Lab, line: &Line<'_>) -> Result<String> {
    let verb = line.word(0)?;
    let state = match verb {
        "pause" => Some(State::Paused),
        "resume" => Some(State::Active),
        "kill" => Some(State::Killed),
        "revoke" => Some(State::Revoked),
        _ => None,
    };
    if let Some(state) = state {
        lab.edit(line.word(1)?, Edit::State(state)).await?;
        return Ok("ok".into());
    }
    match verb {
        "at" => lab.at(line.word(1)?)?,
        "wait" => lab.now += duration(line.word(1)?)?,
        "back" => lab.now -= duration(line.word(1)?)?,
        "team" | "key" => create(lab, line).await?,
        "lookup" => return Ok(if lab.lookup(line.word(1)?).await?.is_some() { "ok".into() } else { "none".into() }),
        "rotate" => drop(lab.rotate(line.word(1)?).await?),
        "edit" => lab.edit(line.word(1)?, Edit::Limits(line.limits()?)).await?,
        "stop" => {
            let (key, id) = line.session()?;
            let state = State::from_name(line.word(2)?).context("no such state")?;
            lab.ledger().set_session_state(&lab.id(key)?, id, state).await?;
        }
        "reserve" => return reserve(lab, line).await,
        "plan" => drop(plan(lab, line)?),
        "settle" => {
            let charge = match line.word(2)? {
                "full" => Charge::Full,
                text => Charge::Exact(nano(amount(text)?)),
            };
            return Ok(show::settled(&lab.settle(line.word(1)?, charge).await?));
        }
        "sweep" => return Ok(show::sweep(&lab.ledger().sweep(amount(line.word(1)?)? as usize).await?)),
        "standing" => {
            let holds = line.words[1..].iter().map(|hold| lab.hold_ref(hold)).collect::<Result<Vec<_>>>()?;
            return Ok(show::standings(&lab.ledger().standing(&holds).await?));
        }
        "holds" => return Ok(show::holds(lab, &lab.ledger().holds(1000).await?)),
        "nodes" => return Ok(lab.ledger().nodes().await?.iter().map(Node::name).collect::<Vec<_>>().join(" ")),
        "books" => return Ok(show::books(&lab.books(line.word(1)?).await?)),
        "window" => {
            let window = Window::from_name(line.word(2)?).context("no such window")?;
            return Ok(show::window(&lab.books(line.word(1)?).await?, window));
        }
        "state" => return Ok(lab.books(line.word(1)?).await?.state.name().into()),
        "show" => {
            let (key, id) = line.session()?;
            return Ok(show::session(lab.ledger().session(&lab.id(key)?, id).await?.as_ref()));
        }
        "probe" => lab.ledger().probe().await?,
        other => bail!("no operation is called `{other}`"),
    }
    Ok("ok".into())
}

async fn create(lab: &mut Lab, line: &Line<'_>) -> Result<()> {
    let name = line.word(1)?;
    let mut limits = Limits::default();
    for (window, limit) in line.limits()? {
        limits.0[window.index()] = limit;
    }
    let state = line.options.get("state").map_or(Some(State::Active), |name| State::from_name(name));
    let state = state.context("no such state")?;
    if line.word(0)? == "team" {
        let mut record = lab.team_record(name, line.after("under"), limits)?;
        record.state = state;
        return Ok(lab.ledger().create_team(&record).await?);
    }
    let mut record = lab.key_record(name, line.after("in"), limits)?;
    record.state = state;
    record.expires_at =
        line.options.get("expires").map(|after| Ok::<_, anyhow::Error>(lab.now + duration(after)?)).transpose()?;
    lab.add_key(&record).await.map(drop)
}

async fn reserve(lab: &mut Lab, line: &Line<'_>) -> Result<String> {
    let ask = plan(lab, line)?;
    let verdict = lab.ledger().reserve(&ask).await?;
    Ok(show::verdict(lab, &verdict))
}

fn plan(lab: &mut Lab, line: &Line<'_>) -> Result<Reserve> {
    let (hold, key, range) = (line.word(1)?, line.word(2)?, line.word(3)?);
    let (least, most) = range.split_once("..").unwrap_or((range, range));
    let mut ask = lab.ask(hold, key, amount(least)?, amount(most)?)?;
    if let Some(ttl) = line.options.get("ttl") {
        ask.ttl_ms = u64::try_from(duration(ttl)?)?;
    }
    if let Some(id) = line.options.get("session") {
        let option = |name: &str| line.options.get(name).map(|text| amount(text)).transpose();
        ask.session = session(id, option("budget")?, option("steps")?);
    }
    lab.remember_hold(hold, &ask);
    Ok(ask)
}

/// Nano-dollars; `max` is the largest counter, `huge` the largest amount there is.
fn amount(text: &str) -> Result<u64> {
    match text {
        "max" => Ok(Money::COUNTER_MAX.nano()),
        "huge" => Ok(u64::MAX),
        _ => text.parse().map_err(|_| anyhow!("`{text}` is not an amount")),
    }
}

/// `500ms`, `30s`, `5m`, `2h`, `3d`.
fn duration(text: &str) -> Result<Millis> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => bail!("`{text}` is not a duration"),
    };
    Ok(digits.parse::<Millis>()? * unit)
}

//! Answers in the words of the scripts.

use loopers::clock::{Window, rfc3339};
use loopers::ledger::{
    HoldInfo, HoldState, LedgerError, Level, NodeStatus, Refusal, Remaining, SessionStatus, Settled, Standing, Sweep,
    Verdict,
};

use crate::lab::Lab;

/// `held 10 left 90 key.daily`, `refused bot.daily limit 10 spent 3 held 4 until …`, `stopped org killed`, ….
pub fn verdict(lab: &Lab, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Held(held) => format!("held {} left {}", held.granted.nano(), remaining(held.remaining.as_ref())),
        Verdict::Stale => "stale".into(),
        Verdict::Spent => "spent".into(),
        Verdict::Refused(Refusal::Budget(no)) => {
            let level = if no.id.is_team() { Level::Team } else { Level::Key };
            let wrong = if level == no.level { "" } else { " AT THE WRONG LEVEL" };
            let place = format!("{}.{}{wrong}", lab.name(&no.id), no.window.name());
            let (limit, spent, held) = (no.limit.nano(), no.spent.nano(), no.held.nano());
            format!("refused {place} limit {limit} spent {spent} held {held} until {}", rfc3339(no.resets_at))
        }
        Verdict::Refused(Refusal::SessionBudget { limit, spent, held }) => {
            format!("refused session limit {} spent {} held {}", limit.nano(), spent.nano(), held.nano())
        }
        Verdict::Refused(Refusal::SessionSteps { limit, used }) => format!("refused steps {used}/{limit}"),
        Verdict::Refused(Refusal::Stopped { level, id, state }) => {
            let who = match level {
                Level::Session => format!("session {id}"),
                _ => lab.name(&id.as_str().into()),
            };
            format!("stopped {who} {}", state.name())
        }
        Verdict::Refused(Refusal::Expired(at)) => format!("expired {}", rfc3339(*at)),
    }
}

fn remaining(remaining: Option<&Remaining>) -> String {
    remaining.map_or_else(
        || "none".into(),
        |left| {
            let window = left.window.map_or(String::new(), |window| format!(".{}", window.name()));
            format!("{} {}{window}", left.amount.nano(), left.level.name())
        },
    )
}

/// `applied 7 of 10`, `corrected 7 from 10`, `already 7`, `unknown`.
pub fn settled(settled: &Settled) -> String {
    match settled {
        Settled::Applied { charged, held } => format!("applied {} of {}", charged.nano(), held.nano()),
        Settled::Corrected { charged, before } => format!("corrected {} from {}", charged.nano(), before.nano()),
        Settled::Already { charged } => format!("already {}", charged.nano()),
        Settled::Unknown => "unknown".into(),
    }
}

/// `2 charged 30`.
pub fn sweep(sweep: &Sweep) -> String {
    format!("{} charged {}", sweep.expired, sweep.charged.nano())
}

/// `good stopped:paused over`.
pub fn standings(standings: &[Standing]) -> String {
    let one = |standing: &Standing| match standing {
        Standing::Good => "good".to_string(),
        Standing::Stopped(state) => format!("stopped:{}", state.name()),
        Standing::Unknown => "unknown".into(),
        Standing::OverLimit => "over".to_string(),
    };
    standings.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// `spent+held` of the five windows, or once with `all` where they agree; then the total, and what was charged beyond holds.
pub fn books(status: &NodeStatus) -> String {
    let windows = status.windows.map(|window| format!("{}+{}", window.spent.nano(), window.held.nano()));
    let windows = match windows.iter().all(|window| *window == windows[0]) {
        true => format!("all {}", windows[0]),
        false => windows.join(" "),
    };
    let overrun = match status.overrun_total.nano() {
        0 => String::new(),
        overrun => format!(" overrun {overrun}"),
    };
    format!("{windows} total {}{overrun}", status.charged_total.nano())
}

/// `2027-03-10T12:34:00Z to 2027-03-10T12:35:00Z limit 10`.
pub fn window(status: &NodeStatus, window: Window) -> String {
    let row = status.windows[window.index()];
    let limit = row.limit.map_or_else(|| "none".to_string(), |limit| limit.nano().to_string());
    let wrong = if row.window == window { "" } else { " IN THE WRONG PLACE" };
    format!("{} to {} limit {limit}{wrong}", rfc3339(row.started_at), rfc3339(row.resets_at))
}

/// `active 3+4 of 20 steps 1/3`.
pub fn session(status: Option<&SessionStatus>) -> String {
    let Some(status) = status else { return "none".into() };
    let limit = status.limit.map_or_else(|| "none".to_string(), |limit| limit.nano().to_string());
    let steps = status.steps_limit.map_or_else(|| "none".to_string(), |steps| steps.to_string());
    let (spent, held) = (status.spent.nano(), status.held.nano());
    format!("{} {spent}+{held} of {limit} steps {}/{steps}", status.state.name(), status.steps)
}

/// `a open 10, b expired 5`, by name.
pub fn holds(lab: &Lab, holds: &[HoldInfo]) -> String {
    let one = |hold: &HoldInfo| {
        let name = lab.hold_name(&hold.at.hold);
        let known = lab.hold_ref(&name).is_ok_and(|at| at == hold.at);
        let wrong = if known { "" } else { " IN THE WRONG PLACE" };
        let charged = hold.charged.nano();
        match hold.state {
            HoldState::Open => format!("{name} open {}{wrong}", hold.amount.nano()),
            HoldState::Expired => format!("{name} expired {charged}{wrong}"),
            HoldState::Settled => format!("{name} SETTLED {charged}{wrong}"),
        }
    };
    let mut lines: Vec<String> = holds.iter().map(one).collect();
    lines.sort();
    if lines.is_empty() { "none".into() } else { lines.join(", ") }
}

/// `error: not found`, `error: conflict`, or what is wrong.
pub fn error(error: &LedgerError) -> String {
    match error {
        LedgerError::NotFound(_) => "error: not found".into(),
        LedgerError::Conflict(_) => "error: conflict".into(),
        LedgerError::Lost(why) => format!("LOST: {why}"),
        LedgerError::Unavailable(why) => format!("UNAVAILABLE: {why}"),
    }
}

//! Commands that work on the ledger of the config, whether or not a gateway runs.

use std::path::Path;

use super::args::{BudgetCommand, Command, HoldsCommand, KeysCommand, Named, StopArgs, TeamsCommand};
use super::output::{Failure, answer, say, table};
use super::service::settings;
use crate::clock::Clock;
use crate::config::{LedgerUrl, Purpose, Settings};
use crate::control::ops::{self, BudgetView, Changed, HoldView, IssuedKey, KeyView, TeamView};
use crate::gateway;
use crate::ledger::embedded::Role;
use crate::ledger::{Ledger, State};
use crate::observe;

/// Runs a command on the books.
pub fn run(config: Option<&Path>, command: &Command) -> Result<(), Failure> {
    observe::log::init_quiet();
    let settings = settings(config, Purpose::Books)?;
    if settings.ledger == LedgerUrl::Memory {
        let hint = "use the admin API of the running gateway, or a ledger of file: or redis:";
        return Err(Failure::new(
            "the ledger memory: lives inside the gateway's process: no command can reach it",
            hint,
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ledger = gateway::open_ledger(&settings, Role::Visitor).await?;
        on_ledger(&ledger, &settings, command).await
    })
}

async fn on_ledger(ledger: &Ledger, settings: &Settings, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Keys { command } => keys(ledger, settings, command).await,
        Command::Teams { command } => teams(ledger, command).await,
        Command::Budget { command } => budget(ledger, command).await,
        Command::Holds { command } => holds(ledger, settings, command).await,
        Command::Kill(args) => kill(ledger, args).await,
        Command::Resume(args) => resume(ledger, args).await,
        Command::Ledger { command } => super::ledger::run(ledger, settings, command).await,
        _ => Err(Failure::new("this command does not work on the ledger", "")),
    }
}

async fn keys(ledger: &Ledger, settings: &Settings, command: &KeysCommand) -> Result<(), Failure> {
    let state = async |named: &Named, state: State| {
        let key = ops::key_state(ledger, &named.name, state).await?;
        answer(named.format.json, &key, |key| format!("key {} ({}) is {}", key.name, key.id, key.state.name()))
    };
    match command {
        KeysCommand::Create { flags, format } => {
            let now = Clock::System.now();
            let issued = ops::key_create(ledger, &settings.prices, now, &flags.new_key()).await?;
            issue(&issued, format.json)
        }
        KeysCommand::Rotate(named) => issue(&ops::key_rotate(ledger, &named.name).await?, named.format.json),
        KeysCommand::List(format) => answer(format.json, &ops::key_list(ledger).await?, |keys| key_table(keys)),
        KeysCommand::Show(named) => answer(named.format.json, &ops::key_show(ledger, &named.name).await?, key_card),
        KeysCommand::Pause(named) => state(named, State::Paused).await,
        KeysCommand::Resume(named) => state(named, State::Active).await,
        KeysCommand::Revoke(named) => state(named, State::Revoked).await,
    }
}

/// The key goes to stdout alone, so that `$(loopers keys create …)` is the key.
fn issue(issued: &IssuedKey, json: bool) -> Result<(), Failure> {
    if !json {
        say(&format!("key {} ({}): shown this once and stored nowhere, keep it", issued.view.name, issued.view.id));
    }
    answer(json, issued, |issued| issued.key.clone())
}

fn key_table(keys: &[KeyView]) -> String {
    let row = |key: &KeyView| {
        let team = key.team.as_ref().map_or("-", |team| &team.name).to_string();
        let limits = if key.unlimited { format!("{} (unlimited)", key.limits.summary()) } else { key.limits.summary() };
        let expires = key.expires_at.clone().unwrap_or_else(|| "-".into());
        vec![key.id.clone(), key.name.clone(), team, key.state.name().into(), limits, expires]
    };
    if keys.is_empty() {
        return "no keys yet: `loopers keys create --name me --daily 1.00` makes one".into();
    }
    table(&["ID", "NAME", "TEAM", "STATE", "LIMITS", "EXPIRES"], &keys.iter().map(row).collect::<Vec<_>>())
}

fn key_card(key: &KeyView) -> String {
    let list = |items: &[String]| if items.is_empty() { "all".to_string() } else { items.join(", ") };
    let none = || "-".to_string();
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default()
    };
    let rows = [
        ("id", key.id.clone()),
        ("name", key.name.clone()),
        ("team", key.team.as_ref().map_or_else(none, |team| format!("{} ({})", team.name, team.id))),
        ("state", key.state.name().into()),
        ("created", key.created_at.clone()),
        ("expires", key.expires_at.clone().unwrap_or_else(none)),
        ("limits", key.limits.summary()),
        ("unlimited", if key.unlimited { "yes".into() } else { "no".into() }),
        ("providers", list(&key.providers)),
        ("models", list(&key.models)),
        ("networks", list(&key.allow_ips)),
        ("overflow", word(serde_json::to_value(key.overflow))),
        ("provider key", word(serde_json::to_value(key.provider_key))),
        ("session budget", key.session_budget_usd.as_ref().map_or_else(none, |usd| format!("${usd}"))),
        ("session steps", key.session_steps.map_or_else(none, |steps| steps.to_string())),
    ];
    rows.map(|(name, value)| format!("{name:<15} {value}")).join("\n")
}

async fn teams(ledger: &Ledger, command: &TeamsCommand) -> Result<(), Failure> {
    match command {
        TeamsCommand::Create { name, parent, limits, format } => {
            let new = TeamsCommand::new_team(name, parent.as_ref(), limits);
            let team = ops::team_create(ledger, Clock::System.now(), &new).await?;
            answer(format.json, &team, |team| format!("team {} ({})", team.name, team.id))
        }
        TeamsCommand::List(format) => answer(format.json, &ops::team_list(ledger).await?, |teams| team_table(teams)),
        TeamsCommand::Show(named) => {
            let team = ops::team_show(ledger, &named.name).await?;
            answer(named.format.json, &team, |team| team_table(std::slice::from_ref(team)))
        }
        TeamsCommand::Pause(named) => team_state(ledger, named, State::Paused).await,
        TeamsCommand::Resume(named) => team_state(ledger, named, State::Active).await,
    }
}

async fn team_state(ledger: &Ledger, named: &Named, state: State) -> Result<(), Failure> {
    let team = ops::team_state(ledger, &named.name, state).await?;
    answer(named.format.json, &team, |team| format!("team {} ({}) is {}", team.name, team.id, team.state.name()))
}

fn team_table(teams: &[TeamView]) -> String {
    let row = |team: &TeamView| {
        let parent = team.parent.as_ref().map_or("-", |parent| &parent.name).to_string();
        let state = team.state.name().to_string();
        vec![team.id.clone(), team.name.clone(), parent, state, team.keys.to_string(), team.limits.summary()]
    };
    if teams.is_empty() {
        return "no teams yet: `loopers teams create --name us --monthly 100` makes one".into();
    }
    table(&["ID", "NAME", "PARENT", "STATE", ">KEYS", "LIMITS"], &teams.iter().map(row).collect::<Vec<_>>())
}

async fn budget(ledger: &Ledger, command: &BudgetCommand) -> Result<(), Failure> {
    let (budget, format) = match command {
        BudgetCommand::Set { name, limits, format } => {
            (ops::budget_set(ledger, name, &limits.amounts()).await?, format)
        }
        BudgetCommand::Unset { name, windows, format } => (ops::budget_unset(ledger, name, windows).await?, format),
        BudgetCommand::Status { name, format } => (ops::budget_status(ledger, name).await?, format),
    };
    answer(format.json, &budget, budget_tables)
}

fn budget_tables(budget: &BudgetView) -> String {
    let mut parts = Vec::new();
    for level in &budget.levels {
        let rows = level.windows.iter().map(|w| {
            let dash = || "-".to_string();
            vec![
                w.window.name().to_string(),
                w.limit_usd.clone().unwrap_or_else(dash),
                w.spent_usd.clone(),
                w.held_usd.clone(),
                w.remaining_usd.clone().unwrap_or_else(dash),
                w.resets_at.clone(),
            ]
        });
        let head = ["WINDOW", ">LIMIT USD", ">SPENT", ">HELD", ">REMAINING", "RESETS AT"];
        let title = format!("{} {} ({}), {}", level.level.name(), level.name, level.id, level.state.name());
        parts.push(format!("{title}\n{}", table(&head, &rows.collect::<Vec<_>>())));
    }
    parts.join("\n")
}

async fn holds(ledger: &Ledger, settings: &Settings, command: &HoldsCommand) -> Result<(), Failure> {
    match command {
        HoldsCommand::List(format) => {
            let holds = ops::holds_list(ledger).await?;
            let waiting = gateway::waiting_settlements(settings);
            let known = holds.iter().filter(|hold| waiting.contains(&hold.id)).count();
            if known > 0 {
                let state = settings.state.display();
                say(&format!(
                    "note: the true cost of {known} of these waits below {state}: a gateway there settles them"
                ));
            }
            answer(format.json, &holds, |holds| hold_table(holds))
        }
        HoldsCommand::Release { id, charged, force, format } => {
            if !*force && gateway::waiting_settlements(settings).contains(id) {
                // What is released is final: the cost that is known would not be charged any more.
                return Err(ops::OpError::conflict(format!(
                    "the true cost of hold {id} is known, and waits to be charged"
                ))
                .hint(format!(
                    "start a gateway with `state: {}`, which charges it; or say --force",
                    settings.state.display()
                ))
                .into());
            }
            let released = ops::holds_release(ledger, id, charged.as_deref(), *force).await?;
            answer(format.json, &released, |released| {
                format!(
                    "hold {}: charged ${}, ${} given back",
                    released.id, released.charged_usd, released.returned_usd
                )
            })
        }
    }
}

fn hold_table(holds: &[HoldView]) -> String {
    let row = |hold: &HoldView| {
        let state = match hold.state {
            crate::ledger::HoldState::Open => "open",
            crate::ledger::HoldState::Expired => "expired",
            crate::ledger::HoldState::Settled => "settled",
        };
        let session = hold.session.clone().unwrap_or_else(|| "-".into());
        let (amount, charged) = (hold.amount_usd.clone(), hold.charged_usd.clone());
        vec![
            hold.id.clone(),
            state.into(),
            hold.key.clone(),
            session,
            amount,
            charged,
            hold.expires_at.clone(),
            hold.note.clone(),
        ]
    };
    if holds.is_empty() {
        return "no open or expired holds".into();
    }
    let head = ["ID", "STATE", "KEY", "SESSION", ">HELD USD", ">CHARGED", "EXPIRES", "MODEL"];
    table(&head, &holds.iter().map(row).collect::<Vec<_>>())
}

async fn kill(ledger: &Ledger, args: &StopArgs) -> Result<(), Failure> {
    let killed = ops::kill(ledger, &args.target()).await?;
    answer(args.format.json, &killed, |killed| {
        let mut text = changes(&killed.states);
        text += &format!(
            "\n{} running calls were cut: {} USD held, {} charged, {} saved",
            killed.cut, killed.held_usd, killed.charged_usd, killed.saved_usd
        );
        if killed.running > 0 {
            text += &format!("\n{} calls still hold money: `loopers holds list` shows them", killed.running);
        }
        text
    })
}

async fn resume(ledger: &Ledger, args: &StopArgs) -> Result<(), Failure> {
    let changed = ops::set_state(ledger, &args.target(), State::Active).await?;
    answer(args.format.json, &changed, changes)
}

fn changes(Changed { changed, unchanged }: &Changed) -> String {
    let mut lines: Vec<String> = changed
        .iter()
        .map(|one| match one.level {
            crate::ledger::Level::Session => format!("session {} of key {} is {}", one.id, one.name, one.state.name()),
            level => format!("{} {} ({}) is {}", level.name(), one.name, one.id, one.state.name()),
        })
        .collect();
    for one in unchanged {
        lines.push(format!("{} {} ({}) was {} and stays so", one.level.name(), one.name, one.id, one.state.name()));
    }
    if lines.is_empty() {
        lines.push("there are no keys and no teams".into());
    }
    lines.join("\n")
}

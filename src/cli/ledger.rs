//! `loopers ledger …`: how the ledger stands, and what an operator decides when its books are lost.

use std::path::PathBuf;

use clap::Subcommand;

use super::args::Format;
use super::output::{Failure, answer};
use crate::config::Settings;
use crate::control::ops::{self, LedgerView, RebuildView};
use crate::ledger::Ledger;

/// `loopers ledger …`
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Say whether the books are whole, and if not, why
    Status(Format),
    /// Take the books as they are: what gateways have seen that is not in them is given up
    Accept(Format),
    /// Make the books anew from the journals of all gateways
    Rebuild {
        /// Journals, or folders of them: those that `state:` names on every machine with a gateway [default: this one's]
        #[arg(long, value_name = "FILES", num_args = 1..)]
        from: Vec<PathBuf>,
        /// How to answer
        #[command(flatten)]
        format: Format,
    },
}

/// Runs a command on the ledger as a whole.
pub async fn run(ledger: &Ledger, settings: &Settings, command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Status(format) => answer(format.json, &ops::ledger_status(ledger).await?, card),
        LedgerCommand::Accept(format) => {
            let view = ops::ledger_accept(ledger).await?;
            answer(format.json, &view, |view| {
                format!("{}\n\naccepted as they are: calls go out again within a second", card(view))
            })
        }
        LedgerCommand::Rebuild { from, format } => {
            let usual = [settings.state.clone()];
            let from = if from.is_empty() { &usual[..] } else { from };
            let done = ops::ledger_rebuild(ledger, &settings.calendar, from).await?;
            answer(format.json, &done, report)
        }
    }
}

fn card(view: &LedgerView) -> String {
    let mut rows = vec![("state", view.state.to_string())];
    let mut row = |name, value: &Option<String>| rows.extend(value.clone().map(|value| (name, value)));
    row("reason", &view.reason);
    row("lost since", &view.lost_at);
    row("books", &view.books);
    row("accepted at", &view.accepted_at);
    rows.push(("keys", view.keys.to_string()));
    rows.push(("teams", view.teams.to_string()));
    let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    if view.state == "lost" {
        lines.push(String::new());
        lines.push("Every call is refused until you decide:".into());
        lines.push(
            "  loopers ledger rebuild --from FILES   make the books anew from the journals of all gateways".into(),
        );
        lines.push("  loopers ledger accept                 go on with the books as they are".into());
    }
    lines.join("\n")
}

fn report(done: &RebuildView) -> String {
    let mut lines = vec![
        format!("{} files of {} gateways: {} holds, {} still open", done.files, done.gateways, done.holds, done.open),
        format!("{} keys and teams and {} sessions were written", done.nodes, done.sessions),
    ];
    for id in &done.without_record {
        lines
            .push(format!("warning: the journals have no record of {id}: if the ledger has none either, make it anew"));
    }
    for session in &done.paused {
        lines.push(format!(
            "warning: session {session} may be older than the journals: it is paused, resume it if it may go on"
        ));
    }
    lines.push("the books are accepted: calls go out again within a second".into());
    lines.join("\n")
}

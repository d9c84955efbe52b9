//! The ledger as a whole: what it is, and what an operator decides when its books are lost.

use std::path::PathBuf;

use serde::Serialize;

use super::OpError;
use crate::clock::{Calendar, rfc3339};
use crate::journal::{self, Files, Rebuilt};
use crate::ledger::{BooksStatus, Ledger, Node, NodeId};

/// What can be said of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerView {
    /// `good`, `lost` or `unfit`.
    pub state: &'static str,
    /// Why, where it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<String>,
    /// The id of its books; a file has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub books: Option<String>,
    /// When an operator last accepted or rebuilt them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<String>,
    /// Keys in it.
    pub keys: usize,
    /// Teams in it.
    pub teams: usize,
}

/// What a rebuild did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RebuildView {
    /// Files read.
    pub files: usize,
    /// Gateways that wrote them.
    pub gateways: usize,
    /// Holds found in them.
    pub holds: u64,
    /// Of these: not settled, so still held.
    pub open: usize,
    /// Keys and teams written.
    pub nodes: usize,
    /// Sessions written.
    pub sessions: usize,
    /// Spent from, without a record in the journal: only those that the ledger still has were restored.
    pub without_record: Vec<String>,
    /// Sessions, as `key/session`, that may be older than the journal: paused until someone resumes them.
    pub paused: Vec<String>,
}

/// How the ledger stands.
pub async fn ledger_status(ledger: &Ledger) -> Result<LedgerView, OpError> {
    let books = ledger.books().await?;
    view(ledger, books).await
}

/// Takes the books as they are: whatever gateways have seen that is not in them is given up.
pub async fn ledger_accept(ledger: &Ledger) -> Result<LedgerView, OpError> {
    let books = ledger.accept().await?;
    view(ledger, books).await
}

async fn view(ledger: &Ledger, books: BooksStatus) -> Result<LedgerView, OpError> {
    let nodes = ledger.nodes().await?;
    let keys = nodes.iter().filter(|node| matches!(node, Node::Key(_))).count();
    let state = match (&books.lost, &books.unfit) {
        (Some(_), _) => "lost",
        (None, Some(_)) => "unfit",
        (None, None) => "good",
    };
    let accepted_at = i64::try_from(books.generation).ok().filter(|at| *at > 0).map(rfc3339);
    let reason = books.lost.or(books.unfit);
    let lost_at = books.lost_at.map(rfc3339);
    let teams = nodes.len() - keys;
    Ok(LedgerView { state, reason, lost_at, books: books.id, accepted_at, keys, teams })
}

/// Makes whole books of journals, and writes them in the place of those that the ledger has.
pub async fn ledger_rebuild(ledger: &Ledger, calendar: &Calendar, from: &[PathBuf]) -> Result<RebuildView, OpError> {
    let engine = &ledger.engine().patient();
    // Journals that make no books stop nobody.
    let (_, before) = read(engine, calendar, from).await?;
    let roots: Vec<NodeId> = before.books.nodes.iter().filter_map(|node| node.chain.last().cloned()).collect();
    let blocked = |error: OpError| {
        let say = "the books may be blocked now: run the rebuild again, or `loopers ledger accept` to go on with them as they are";
        error.hint(say)
    };
    let halted = engine.halt(&roots).await.map_err(|error| blocked(error.into()))?;
    if !halted.quiet_after.is_zero() {
        // What was taken before has its line by then, or its call does not go out.
        tokio::time::sleep(halted.quiet_after + journal::PATIENCE).await;
    }
    let (files, rebuilt) = match read(engine, calendar, from).await {
        Ok(read) => read,
        Err(error) => {
            engine.give_up(&halted).await?;
            return Err(blocked(error));
        }
    };
    let half_way = |error: OpError| {
        let say =
            "unless somebody else has decided, the books are blocked and may be half written: run the rebuild again";
        error.hint(say)
    };
    engine.restore(&rebuilt.books, &halted).await.map_err(|error| half_way(error.into()))?;
    Ok(RebuildView {
        files: files.paths.len(),
        gateways: files.writers,
        holds: rebuilt.holds,
        open: rebuilt.books.holds.iter().filter(|hold| hold.info.state == crate::ledger::HoldState::Open).count(),
        nodes: rebuilt.books.nodes.len(),
        sessions: rebuilt.books.sessions.len(),
        without_record: rebuilt.without_record.iter().map(ToString::to_string).collect(),
        paused: rebuilt.paused.iter().map(|(key, session)| format!("{key}/{session}")).collect(),
    })
}

async fn read(ledger: &Ledger, calendar: &Calendar, from: &[PathBuf]) -> Result<(Files, Rebuilt), OpError> {
    let given = from.to_vec();
    let files = apart(move || Files::find(&given).map_err(OpError::invalid)).await?;
    let (now, calendar) = (ledger.time().await?, calendar.clone());
    apart(move || {
        let rebuilt = journal::rebuild(&files, &calendar, now).map_err(OpError::conflict)?;
        Ok((files, rebuilt))
    })
    .await
}

/// Reads on a thread of its own, which may take minutes: meanwhile this one tells the ledger that the rebuild still runs.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, OpError> + Send + 'static) -> Result<T, OpError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|ended| Err(OpError::conflict(format!("the journals could not be read: {ended}"))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// On a runtime of one thread, as a command has it.
    #[tokio::test]
    async fn while_journals_are_read_the_rebuild_is_heard_of() {
        let (say, heard) = std::sync::mpsc::channel();
        let renewal = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            say.send(()).unwrap();
        });
        let reading = move || heard.recv_timeout(Duration::from_secs(60)).map_err(|e| OpError::conflict(e.to_string()));
        apart(reading).await.unwrap();
        renewal.await.unwrap();
        let panics = apart(|| -> Result<(), OpError> { panic!("in the middle of it") }).await.unwrap_err();
        assert!(panics.message.contains("the journals could not be read"), "{panics}");
    }
}

//! The audit journal: every hold, every settlement and every record that a gateway saw, one JSON line each, in files that
//! only grow. `loopers ledger rebuild` makes whole books of them when the ledger has lost its own.
//!
//! * `line`: what is written.
//! * `writer`: the thread that writes, off the way of calls but before they go out.
//! * `read`: files back to lines, in order and without gaps.
//! * `sum`: lines to books.
//! * `tail`: what a gateway that was killed was about to settle.

pub mod line;
mod read;
mod sum;
mod tail;
mod writer;

pub use read::{Files, OPERATOR};
pub use sum::{Rebuilt, rebuild};
pub use tail::{Tail, is_answered, leave_unanswered, mark_answered};
pub use writer::PATIENCE;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::line::{HoldLine, How, Line, SessionLine};
use self::writer::Writer;
use crate::clock::{Clock, Millis, Window};
use crate::ledger::{
    Charge, Ended, Held, HoldBooks, HoldId, HoldInfo, HoldRef, LedgerError, Node, NodeId, Recorder, Reserve, Settled,
    State,
};

/// Records of which the revision written last is remembered.
const RECORDS_MAX: usize = 100_000;
/// Holds that are due of which is remembered that they have lines: those that cannot be charged yet are found again by each sweep.
const DUE_MAX: usize = 100_000;
/// How long a record that has not changed is not written again.
const RECORDS_AGAIN_AFTER: Duration = Duration::from_secs(12 * 3600);

/// How much is kept, and in which pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// A file that has become larger is followed by another one.
    pub file_bytes: u64,
    /// Files that were not written for longer are removed.
    pub days: u64,
    /// Pieces that may wait to be written.
    pub queue: usize,
}

/// The journal of one process.
#[derive(Debug)]
pub struct Journal {
    writer: Writer,
    /// The revision of each record that was written last, and when.
    records: Mutex<HashMap<NodeId, (u64, Instant)>>,
    /// Settlements that have a line and, so far, no answer: they are sent again. As many at most as wait for the ledger (`limits.unsettled`).
    unanswered: Mutex<HashSet<HoldId>>,
    /// Holds that have a line because they were found due.
    due: Mutex<HashSet<HoldId>>,
}

impl Journal {
    /// The journal of a gateway: files `journal-000001.jsonl` and so on in its own folder.
    pub fn of_gateway(folder: &Path, writer: &str, keep: Keep) -> io::Result<Journal> {
        Ok(Journal::through(Writer::rotating(folder, writer, keep)?))
    }

    /// The journal of commands: one file for all of them, made when there is something to write.
    pub fn of_operator(file: &Path) -> Journal {
        Journal::through(Writer::shared(file))
    }

    fn through(writer: Writer) -> Journal {
        Journal { writer, records: Mutex::default(), unanswered: Mutex::default(), due: Mutex::default() }
    }

    /// Writes lines together.
    async fn write(&self, lines: &[Line]) -> Result<(), LedgerError> {
        let mut text = Vec::with_capacity(400 * lines.len());
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|e| LedgerError::Unavailable(e.to_string()))?;
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        let done = self.writer.write(text).await;
        done.map_err(|why| LedgerError::Unavailable(format!("the journal cannot be written: {why}")))
    }

    /// True the first time that this revision of a record is seen here, and again after half a day: old files are removed.
    fn is_news(&self, id: &NodeId, revision: u64) -> bool {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= RECORDS_MAX {
            records.clear();
        }
        let known = records.get(id).is_some_and(|(known, at)| *known == revision && at.elapsed() < RECORDS_AGAIN_AFTER);
        if !known {
            records.insert(id.clone(), (revision, Instant::now()));
        }
        !known
    }

    fn unanswered(&self) -> MutexGuard<'_, HashSet<HoldId>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> MutexGuard<'_, HashSet<HoldId>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: &NodeId) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[async_trait]
impl Recorder for Journal {
    async fn held(&self, holds: &[(&Reserve, &Held)]) -> Result<(), LedgerError> {
        let lines: Vec<Line> = holds.iter().map(|(ask, held)| Line::Hold(hold_line(ask, held))).collect();
        self.write(&lines).await
    }

    async fn settling(&self, ends: &[(&HoldRef, Charge)]) -> bool {
        let at = Clock::System.now();
        let lines: Vec<Line> = {
            let unanswered = self.unanswered();
            let fresh = ends.iter().filter(|(end, _)| unanswered.is_empty() || !unanswered.contains(&end.hold));
            fresh.map(|(end, charge)| settling_line(end, *charge, at)).collect()
        };
        let written = self.write(&lines).await;
        if let Err(error) = &written {
            // After a rebuild these holds would be held until they are settled again, unless the next lines can be written.
            log::warn!("{} settlements have no lines: {error}", lines.len());
        }
        written.is_ok()
    }

    async fn settled(&self, ends: &[Ended<'_>], told: bool) {
        {
            let mut unanswered = self.unanswered();
            for (end, _, done) in ends {
                match done {
                    Err(_) if told => drop(unanswered.insert(end.hold.clone())),
                    Ok(_) if !unanswered.is_empty() => drop(unanswered.remove(&end.hold)),
                    _ => {}
                }
            }
        }
        let surprises = ends.iter().filter_map(|(end, charge, done)| {
            let settled = done.as_ref().ok()?;
            (!told || !is_as_announced(*charge, *settled)).then(|| settle_line(end, *charge, *settled)).flatten()
        });
        let lines: Vec<Line> = surprises.collect();
        if let Err(error) = self.write(&lines).await {
            log::warn!("what became of {} settlements has no lines: {error}", lines.len());
        }
    }

    async fn due(&self, holds: &[HoldBooks]) -> Result<(), LedgerError> {
        let fresh: Vec<&HoldBooks> = {
            let mut due = self.due();
            if due.len() >= DUE_MAX {
                due.clear();
            }
            holds.iter().filter(|hold| !due.contains(&hold.info.at.hold)).collect()
        };
        let lines: Vec<Line> = fresh.iter().map(|hold| Line::Due(due_line(hold))).collect();
        self.write(&lines).await?;
        self.due().extend(fresh.into_iter().map(|hold| hold.info.at.hold.clone()));
        Ok(())
    }

    async fn record(&self, node: &Node, revision: u64) {
        if !self.is_news(node.id(), revision) {
            return;
        }
        let line = match node.clone() {
            Node::Key(key) => Line::Key { revision, key },
            Node::Team(team) => Line::Team { revision, team },
        };
        if let Err(error) = self.write(&[line]).await {
            self.forget(node.id());
            log::warn!("the record of {} has no line: {error}", node.id());
        }
    }

    async fn session(&self, key: &NodeId, session: &str, state: State) {
        let line = Line::Session { key: key.clone(), session: session.into(), state, at: Clock::System.now() };
        if let Err(error) = self.write(&[line]).await {
            log::warn!("the state of session {session} has no line: {error}");
        }
    }
}

fn hold_line(ask: &Reserve, held: &Held) -> HoldLine {
    let session = ask.session.as_ref();
    let ttl_ms = i64::try_from(ask.ttl_ms).unwrap_or(i64::MAX);
    HoldLine {
        hold: ask.hold.clone(),
        chain: ask.view.chain.clone(),
        session: session.map(|s| SessionLine { id: s.id.clone(), budget: s.budget, steps: s.steps }),
        amount: held.granted,
        now: held.now,
        expires_at: held.now.saturating_add(ttl_ms),
        note: ask.note.clone(),
    }
}

fn settling_line(end: &HoldRef, charge: Charge, at: Millis) -> Line {
    let HoldRef { hold, chain, session } = end.clone();
    Line::Settling { hold, chain, session, charge, at }
}

fn due_line(hold: &HoldBooks) -> HoldLine {
    let HoldInfo { at, amount, expires_at, note, .. } = &hold.info;
    HoldLine {
        hold: at.hold.clone(),
        chain: at.chain.clone(),
        session: at.session.clone().map(|id| SessionLine { id, budget: None, steps: None }),
        amount: *amount,
        // Every longer window that this minute began in is one that the hold was taken from. Its session is not older than itself.
        now: hold.starts[Window::Minute.index()].max(hold.born),
        expires_at: *expires_at,
        note: note.clone(),
    }
}

/// True when [`Line::Settling`] says it all.
fn is_as_announced(charge: Charge, settled: Settled) -> bool {
    match settled {
        // After a full charge a repetition finds as much charged as after an expiry.
        Settled::Applied { .. } => charge != Charge::Full,
        Settled::Already { charged } => charge == Charge::Exact(charged),
        Settled::Corrected { .. } | Settled::Unknown => false,
    }
}

fn settle_line(at: &HoldRef, charge: Charge, settled: Settled) -> Option<Line> {
    let (how, charged) = match settled {
        Settled::Applied { charged, .. } => (How::Applied, charged),
        Settled::Corrected { charged, .. } => (How::Corrected, charged),
        // The very charge that was asked for: perhaps by this settlement, when it was sent for the first time.
        Settled::Already { charged } if charge == Charge::Exact(charged) => (How::Corrected, charged),
        Settled::Already { charged } => (How::Already, charged),
        // Without a hold there is nothing to say; with one, in its line, it stays open: doubt charges.
        Settled::Unknown => return None,
    };
    Some(Line::Settle { hold: at.hold.clone(), how, charged, at: Clock::System.now() })
}

#[cfg(test)]
mod tests;

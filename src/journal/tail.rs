//! The settlements that a gateway announced last: it may have ended before the ledger heard of them, and before they were owed for so
//! long that its spool had them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::line::Line;
use super::read::each_line;
use super::writer::{name, numbers};
use crate::clock::Millis;
use crate::ledger::{Charge, HoldRef, durable};

/// Says up to where a folder's journal is dealt with.
const MARK: &str = "answered.json";
/// What was announced so long before the last announcement has been answered since, or is in the spool, which has it a second after the end
/// of its call.
const LAST_MS: Millis = 5_000;
/// As many are taken in any case, whatever the clock did meanwhile.
const LEAST: usize = 1_024;
/// Folders whose tails this process could not read.
static UNREAD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The end of a folder's journal, as far as perhaps nobody knows what became of it. Most of these settlements were made: the ledger knows
/// each by its hold.
#[derive(Debug)]
pub struct Tail {
    /// Where each settlement belongs and what it charges, in the order of their lines. A hold may be there twice.
    pub ends: Vec<(HoldRef, Charge)>,
    folder: PathBuf,
    read_to: Option<Mark>,
}

/// Up to here every settlement is answered, or is in a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// The number of the file.
    file: u64,
    /// Bytes of it.
    bytes: u64,
}

/// One announcement.
struct End {
    at: HoldRef,
    charge: Charge,
    announced_at: Millis,
}

impl Tail {
    /// Reads what a folder's journal announced last, since the last mark: at most `most` settlements.
    pub fn read(folder: &Path, most: usize) -> io::Result<Tail> {
        let (mark, read_to) = (mark(folder)?, end(folder)?);
        let mut last = VecDeque::new();
        for number in numbers(folder)?.into_iter().rev() {
            let from = match mark {
                Some(mark) if number < mark.file => break,
                Some(mark) if number == mark.file => mark.bytes,
                _ => 0,
            };
            if !add_earlier(&mut last, &folder.join(name(number)), from, most)? {
                break;
            }
        }
        let ends = last.into_iter().map(|end| (end.at, end.charge)).collect();
        Ok(Tail { ends, folder: folder.into(), read_to })
    }

    /// Notes that all of these are answered, or are in a spool.
    pub fn mark_answered(&self) -> io::Result<()> {
        self.read_to.map_or(Ok(()), |end| set_mark(&self.folder, end))
    }
}

/// Puts what a file announces before what later ones do. False when it has more than is wanted.
fn add_earlier(last: &mut VecDeque<End>, path: &Path, from: u64, most: usize) -> io::Result<bool> {
    let (mut earlier, mut is_all) = (VecDeque::<End>::new(), true);
    each_line(path, from, |_, text| {
        // Before version 3 nothing said where a settlement belongs.
        if text.starts_with(br#"{"line":"file","#) {
            is_all &= !matches!(serde_json::from_slice(text), Ok(Line::File { version: ..3, .. }));
        }
        // What is damaged is told by a rebuild; here its hold stays in doubt.
        if text.starts_with(br#"{"line":"settling","#)
            && let Ok(Line::Settling { hold, chain, session, charge, at }) = serde_json::from_slice(text)
            && !chain.is_empty()
        {
            earlier.push_back(End { at: HoldRef { hold, chain, session }, charge, announced_at: at });
            let newest = last.back().map_or(at, |end| end.announced_at);
            let is_old = |end: &End| end.announced_at.saturating_add(LAST_MS) < newest;
            while let count = earlier.len() + last.len()
                && (count > most || (count > LEAST && earlier.front().is_some_and(is_old)))
                && earlier.pop_front().is_some()
            {
                is_all = false;
            }
        }
        Ok(())
    })
    .map_err(io::Error::other)?;
    earlier.append(last);
    *last = earlier;
    Ok(is_all)
}

/// True when nothing was written to a folder's journal since it was marked.
pub fn is_answered(folder: &Path) -> io::Result<bool> {
    let end = end(folder)?;
    Ok(end.is_none() || end == mark(folder)?)
}

/// The tail of a folder's journal could not be read: however this process ends, the next one in the folder asks what became of it.
pub fn leave_unanswered(folder: &Path) {
    UNREAD.lock().unwrap_or_else(PoisonError::into_inner).push(folder.into());
}

/// Notes that every settlement in a folder's journal is answered, or is in a spool; unless [`leave_unanswered`] was told otherwise.
pub fn mark_answered(folder: &Path) -> io::Result<()> {
    let is_unread = UNREAD.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|unread| unread == folder);
    match end(folder)? {
        Some(end) if !is_unread => set_mark(folder, end),
        _ => Ok(()),
    }
}

/// The end of a folder's journal.
fn end(folder: &Path) -> io::Result<Option<Mark>> {
    let Some(file) = numbers(folder)?.last().copied() else { return Ok(None) };
    let bytes = folder.join(name(file)).metadata()?.len();
    Ok(Some(Mark { file, bytes }))
}

fn set_mark(folder: &Path, mark: Mark) -> io::Result<()> {
    durable::replace(&folder.join(MARK), &serde_json::to_vec(&mark)?)
}

fn mark(folder: &Path) -> io::Result<Option<Mark>> {
    let text = match std::fs::read(folder.join(MARK)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // One that cannot be read says nothing, and one beyond the end is of files that were removed: the last settlements are then sent once more.
    let mark: Option<Mark> = serde_json::from_slice(&text).ok();
    let end = end(folder)?;
    Ok(mark.filter(|mark| end.is_some_and(|end| mark.file <= end.file)))
}

//! The settlements that a gateway announced last: it may have ended before the ledger heard of them, and before they were owed for so
//! long that its spool had them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::line::{HoldLine, Line};
use super::read::{each_line, head};
use super::writer::{name, numbers};
use crate::clock::Millis;
use crate::ledger::{Charge, HoldId, durable};

/// Says up to where a folder's journal is dealt with.
const MARK: &str = "answered.json";
/// What was announced so long before the last announcement has been answered since, or is in the spool, which has it a second after the end
/// of its call.
const LAST_MS: Millis = 5_000;
/// As many are returned in any case, whatever the clock did meanwhile.
const LEAST: usize = 1_024;
/// How these lines begin: all others need not be read.
const SETTLING: &[u8] = br#"{"line":"settling","#;
const HOLD: &[u8] = br#"{"line":"hold","hold":""#;

/// A settlement that was announced; perhaps nobody knows what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The hold.
    pub hold: HoldLine,
    /// How it ends.
    pub charge: Charge,
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

/// The settlements of a folder without a gateway that were announced last, since [`mark_answered`]. Most of them were made: the ledger
/// knows each by its hold. `reach` is the longest, in ms, that a hold may have been open.
pub fn announced_last(folder: &Path, reach: Millis) -> io::Result<Vec<Announced>> {
    let mark = mark(folder)?;
    let mut last = VecDeque::new();
    for number in numbers(folder)?.into_iter().rev() {
        let from = match mark {
            Some(mark) if number < mark.file => break,
            Some(mark) if number == mark.file => mark.bytes,
            _ => 0,
        };
        if !add_earlier(&mut last, &folder.join(name(number)), from)? {
            break;
        }
    }
    let mut holds = find_holds(folder, &last, reach)?;
    let with_hold = |end: End| Some(Announced { hold: holds.remove(&end.hold)?, charge: end.charge });
    Ok(last.into_iter().filter_map(with_hold).collect())
}

/// One announcement.
struct End {
    hold: HoldId,
    charge: Charge,
    at: Millis,
}

/// Puts what a file announces before what later ones do. False when it has more than is wanted.
fn add_earlier(last: &mut VecDeque<End>, path: &Path, from: u64) -> io::Result<bool> {
    let (mut earlier, mut is_all) = (VecDeque::<End>::new(), true);
    each_line(path, from, |_, text| {
        // What is damaged is told by a rebuild; here its hold stays in doubt.
        if text.starts_with(SETTLING)
            && let Ok(Line::Settling { hold, charge, at }) = serde_json::from_slice(text)
        {
            earlier.push_back(End { hold, charge, at });
            let newest = last.back().map_or(at, |end| end.at);
            let is_old = |end: &End| end.at.saturating_add(LAST_MS) < newest;
            while earlier.len() + last.len() > LEAST && earlier.front().is_some_and(is_old) {
                earlier.pop_front();
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

/// The lines of these holds. One that is not there was settled for another gateway, whose spool had it.
fn find_holds(folder: &Path, ends: &VecDeque<End>, reach: Millis) -> io::Result<HashMap<HoldId, HoldLine>> {
    let oldest = ends.iter().map(|end| end.at).min().unwrap_or_default().saturating_sub(reach);
    let mut wanted: HashSet<&str> = ends.iter().map(|end| &*end.hold.0).collect();
    let mut found = HashMap::new();
    for number in numbers(folder)?.into_iter().rev() {
        if wanted.is_empty() {
            break;
        }
        let path = folder.join(name(number));
        each_line(&path, 0, |_, text| {
            if let Some(id) = hold_of(text)
                && wanted.contains(id)
                && let Ok(Line::Hold(hold)) = serde_json::from_slice(text)
            {
                wanted.remove(id);
                found.insert(hold.hold.clone(), hold);
            }
            Ok(())
        })
        .map_err(io::Error::other)?;
        if head(&path).map_err(io::Error::other)?.is_some_and(|(_, _, begun)| begun < oldest) {
            break;
        }
    }
    Ok(found)
}

/// Whose hold a line is.
fn hold_of(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(HOLD)?;
    std::str::from_utf8(rest.split(|byte| *byte == b'"').next()?).ok()
}

/// True when a folder's journal has lines since [`mark_answered`].
pub fn is_marked(folder: &Path) -> io::Result<bool> {
    Ok(end(folder)?.is_none_or(|end| mark(folder).is_ok_and(|mark| mark == Some(end))))
}

/// Notes that every settlement in a folder's journal is answered so far, or is in a spool.
pub fn mark_answered(folder: &Path) -> io::Result<()> {
    match end(folder)? {
        Some(end) => durable::replace(&folder.join(MARK), &serde_json::to_vec(&end)?),
        None => Ok(()),
    }
}

/// The end of a folder's journal.
fn end(folder: &Path) -> io::Result<Option<Mark>> {
    let Some(file) = numbers(folder)?.last().copied() else { return Ok(None) };
    let bytes = folder.join(name(file)).metadata()?.len();
    Ok(Some(Mark { file, bytes }))
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

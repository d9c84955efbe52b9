//! Files back to lines. Whatever may hide a line that counts is an error, not a default.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::line::{How, Line, VERSION};
use crate::clock::Millis;
use crate::ledger::HoldId;

/// The writer of the commands' file, which several processes append to.
pub const OPERATOR: &str = "operator";

/// The files of a journal, in the order in which they are read, and how far back they reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The files: of each writer in order, its oldest first.
    pub paths: Vec<PathBuf>,
    /// Since when nothing is missing; `None` when they reach back to the beginning.
    pub complete_since: Option<Millis>,
    /// Gateways that wrote them.
    pub writers: usize,
}

impl Files {
    /// Finds out whose each file is. A directory stands for all `.jsonl` files in it and one level below.
    pub fn find(given: &[PathBuf]) -> Result<Files, String> {
        let mut writers: BTreeMap<String, BTreeMap<u64, (PathBuf, Millis)>> = BTreeMap::new();
        let mut files = Files::default();
        let mut shared = Vec::new();
        for path in expand(given)? {
            match head(&path)? {
                Some((writer, number, at)) => {
                    let of_writer = writers.entry(writer.clone()).or_default();
                    if let Some((other, _)) = of_writer.insert(number, (path.clone(), at)) {
                        let both = format!("{} and {}", other.display(), path.display());
                        return Err(format!("{both} are the same file (number {number}) of gateway {writer}"));
                    }
                }
                None => shared.push(path),
            }
        }
        if writers.is_empty() && shared.is_empty() {
            return Err("there is no journal: give its files, or the folder that `state:` names".into());
        }
        files.writers = writers.len();
        for (writer, numbered) in writers {
            let mut expected = None;
            for (number, (path, at)) in numbered {
                match expected {
                    Some(next) if next != number => {
                        return Err(format!(
                            "file {next} of gateway {writer} is missing: what it charged would be lost"
                        ));
                    }
                    // The first one that is kept: whatever was before is not known.
                    None if number > 1 => files.complete_since = files.complete_since.max(Some(at)),
                    _ => {}
                }
                expected = Some(number + 1);
                files.paths.push(path);
            }
        }
        files.paths.extend(shared);
        Ok(files)
    }
}

fn expand(given: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in given {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        for inner in list(path)? {
            if inner.is_dir() {
                found.extend(list(&inner)?.into_iter().filter(|path| is_journal(path)));
            } else if is_journal(&inner) {
                found.push(inner);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl")
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{} cannot be read: {e}", folder.display()))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| e.to_string())).collect()
}

/// The first line of a gateway's file: writer, number, time. `None` for a file of commands.
fn head(path: &Path) -> Result<Option<(String, u64, Millis)>, String> {
    let file = File::open(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    let mut text = String::new();
    BufReader::new(file).read_line(&mut text).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    match serde_json::from_str(&text) {
        Ok(Line::File { version: 1..=VERSION, writer, number, at }) => Ok(Some((writer, number, at))),
        Ok(Line::File { version, .. }) => {
            Err(format!("{} has version {version}; this program reads versions 1 to {VERSION}", path.display()))
        }
        Ok(_) => Ok(None),
        Err(_) if path.file_stem().is_some_and(|stem| stem == OPERATOR) => Ok(None),
        Err(error) => Err(format!("{} is not a journal: {error}", path.display())),
    }
}

/// Gives every line of a file to `take`. The last line may be cut short: it was being written when the process ended, so nobody
/// acted on it. Any other damage is an error.
pub fn read(path: &Path, mut take: impl FnMut(Line)) -> Result<(), String> {
    let shared = path.file_stem().is_some_and(|stem| stem == OPERATOR);
    each_line(path, 0, |number, text| {
        match serde_json::from_slice(text) {
            Ok(line) => take(line),
            // Half a line of a command: it has said so, and another one may have gone on behind it.
            Err(_) if !text.ends_with(b"\n") || shared => {}
            Err(error) => return Err(format!("{}:{number}: {error}", path.display())),
        }
        Ok(())
    })
}

/// Holds of which more may be said than their first lines say.
#[derive(Debug, Default)]
pub struct Disputed {
    /// More than one line may tell of their end.
    pub ends: HashSet<HoldId>,
    /// More than one line is about what the ledger said of their end.
    pub twice: HashSet<HoldId>,
    /// They have a [`Line::Due`].
    pub due: HashSet<HoldId>,
}

/// Collects what is disputed in a file. What is damaged is left to [`read`].
pub fn read_disputed(path: &Path, disputed: &mut Disputed) -> Result<(), String> {
    let mut has_announcements = true;
    each_line(path, 0, |number, text| {
        if number == 1 {
            has_announcements = !matches!(serde_json::from_slice(text), Ok(Line::File { version: 1, .. }));
        }
        // Of all other lines there are many, and no need to read them twice.
        if text.starts_with(br#"{"line":"settle","#)
            && let Ok(Line::Settle { hold, how, .. }) = serde_json::from_slice(text)
            && (has_announcements || how != How::Applied)
            && !disputed.ends.insert(hold.clone())
        {
            disputed.twice.insert(hold);
        }
        if text.starts_with(br#"{"line":"due","#)
            && let Ok(Line::Due(hold)) = serde_json::from_slice(text)
        {
            disputed.due.insert(hold.hold);
        }
        Ok(())
    })
}

/// Gives every line from a place in a file on, with its number from there, to `take`.
pub(super) fn each_line(
    path: &Path,
    from: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let cannot = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    let mut file = File::open(path).map_err(cannot)?;
    file.seek(SeekFrom::Start(from)).map_err(cannot)?;
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        if reader.read_until(b'\n', &mut text).map_err(cannot)? == 0 {
            break;
        }
        take(number, &text)?;
    }
    Ok(())
}

//! What one gateway knows of the books, in memory and in a file, so that lost or rewound ones are noticed.
//!
//! Of each tree it knows the name of its books and how many of its own writes were answered; of the ledger as a whole, its id
//! and when an operator last accepted it. Every script compares in its atomic step, so nothing is taken from books that know
//! less than the gateway. See `docs/LEDGER.md`, "Lost books".

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Millis};
use crate::ledger::{LedgerError, NodeId, durable};

/// The most trees that are remembered; beyond them, those that were used longest ago are forgotten.
const TREES_MAX: usize = 65_536;
/// The most trees in the file.
const TREES_IN_FILE_MAX: usize = 4_096;
/// What was not used for so long is not compared any more. Redis forgets a silent writer later (`lua/prelude.lua`).
const KEPT_MS: Millis = 30 * 86_400_000;
/// The version of the file.
const VERSION: u32 = 1;

/// Who this gateway is for the ledger, and where it keeps what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// 16 hexadecimal characters; no two running gateways have the same.
    pub writer: String,
    /// The file, in a folder that outlives the process.
    pub file: PathBuf,
}

/// What is known of one tree: the name of its books, this gateway's answered writes, and when it was last used. Of the last 64 of those
/// writes, which ones were answered: bit 0 is the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark(Arc<str>, u64, Millis, #[serde(skip)] u64);

impl Mark {
    /// The write of that number was answered. False when it had been before: books never count one number twice, unless they went back.
    fn answered(&mut self, count: u64, now: Millis) -> bool {
        let answered = self.3 | 1;
        let (ahead, behind) = (count.saturating_sub(self.1), self.1.saturating_sub(count));
        let shift = |bits: u64, by: u64| u32::try_from(by).ok().and_then(|by| bits.checked_shl(by)).unwrap_or(0);
        let bit = shift(1, behind);
        self.3 = if ahead > 0 { shift(answered, ahead) | 1 } else { answered | bit };
        (self.1, self.2) = (self.1.max(count), now);
        ahead > 0 || answered & bit == 0
    }
}

/// What is known of the ledger as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    /// The id of the books; `None` before they were first seen.
    pub(super) id: Option<String>,
    /// When an operator last accepted or rebuilt them, ms; 0 for never.
    pub(super) generation: u64,
    /// Why they count as lost.
    pub(super) lost: Option<String>,
    /// Keys that each server has evicted since it started, by its run id.
    #[serde(default)]
    pub(super) evicted: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    writer: String,
    books: Whole,
    trees: BTreeMap<String, Mark>,
}

#[derive(Default)]
struct Known {
    whole: Whole,
    trees: HashMap<NodeId, Mark>,
}

/// The memory of one gateway; shared by all its handles.
pub(super) struct Guard {
    field: String,
    writer: String,
    file: PathBuf,
    known: Mutex<Known>,
    /// Why nothing may be taken now.
    block: ArcSwapOption<LedgerError>,
    dirty: AtomicBool,
    /// The connection, counted, after which all that is known was compared.
    compared: AtomicU64,
}

/// What goes into a script: who writes, what it knows, and under which generation it knew that.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    /// The writer's field; empty for somebody who remembers nothing.
    pub(super) field: String,
    /// Generation, count and name of the books, packed for `lua/prelude.lua`; empty for somebody who remembers nothing.
    pub(super) known: Vec<u8>,
    pub(super) generation: u64,
}

impl Claim {
    /// This gateway's writes, and the name of the books.
    fn seen(&self) -> (u64, String) {
        let count = self.known.get(8..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        (count, String::from_utf8_lossy(self.known.get(16..).unwrap_or_default()).into_owned())
    }
}

impl Guard {
    /// Reads the file, if there is one. Nothing may be taken until the ledger was looked at.
    pub(super) fn open(memory: &Memory) -> Result<Guard, LedgerError> {
        let known = match std::fs::read(&memory.file) {
            Ok(bytes) => read(&memory.file, &memory.writer, &bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(unreadable(&memory.file, &error.to_string())),
        };
        let block = match &known.whole.lost {
            Some(reason) => LedgerError::Lost(reason.clone()),
            None => LedgerError::Unavailable("it was not looked at yet".into()),
        };
        Ok(Guard {
            field: format!("g{}", memory.writer),
            writer: memory.writer.clone(),
            file: memory.file.clone(),
            known: Mutex::new(known),
            block: ArcSwapOption::from_pointee(block),
            dirty: AtomicBool::new(true),
            compared: AtomicU64::new(u64::MAX),
        })
    }

    /// Why nothing may be taken now.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        match &*self.block.load() {
            None => Ok(()),
            Some(error) => Err(LedgerError::clone(error)),
        }
    }

    /// What is known of a tree, for a script.
    pub(super) fn claim(&self, root: &NodeId) -> Result<Claim, LedgerError> {
        self.check()?;
        let known = self.known();
        let generation = known.whole.generation;
        let (books, count) = known.trees.get(root).map_or(("-", 0), |mark| (&*mark.0, mark.1));
        let known = [&generation.to_be_bytes()[..], &count.to_be_bytes(), books.as_bytes()].concat();
        Ok(Claim { field: self.field.clone(), known, generation })
    }

    /// A write was answered: the tree's books and this gateway's count.
    /// An error when that shows that the books went back: nothing may go out by what they say.
    pub(super) fn note(&self, claim: &Claim, root: &NodeId, books: &str, count: u64) -> Result<(), LedgerError> {
        let now = Clock::System.now();
        let mut known = self.known();
        if known.whole.generation != claim.generation {
            return Ok(());
        }
        let is_new = match known.trees.get_mut(root).filter(|mark| *mark.0 == *books) {
            Some(mark) => mark.answered(count, now),
            None => {
                if known.trees.len() >= TREES_MAX {
                    forget_some(&mut known.trees, now);
                }
                known.trees.insert(root.clone(), Mark(books.into(), count, now, 1));
                true
            }
        };
        drop(known);
        self.dirty.store(true, Ordering::Relaxed);
        if is_new {
            return Ok(());
        }
        // What was on its way when the books went back carries an old claim, which books that went back may satisfy.
        let reason = format!("the tree {root} has counted write {count} of this gateway twice");
        self.lose(claim.generation, reason.clone());
        Err(LedgerError::Lost(reason))
    }

    /// A script found that this gateway knows better than the books. The error for who asked.
    pub(super) fn contradicted(&self, claim: &Claim, root: &NodeId, found: &str) -> LedgerError {
        let (count, books) = claim.seen();
        let reason = format!("the tree {root} has the books `{found}`, and this gateway has seen `{books} {count}`");
        self.lose(claim.generation, reason.clone());
        LedgerError::Lost(reason)
    }

    /// The books are lost, unless an operator has accepted others meanwhile.
    pub(super) fn lose(&self, generation: u64, reason: String) {
        let mut known = self.known();
        if known.whole.generation != generation || known.whole.lost.is_some() {
            return;
        }
        log::error!(
            "the ledger's books are lost: {reason}. No call goes out until an operator decides: `loopers ledger status` tells more"
        );
        self.block.store(Some(Arc::new(LedgerError::Lost(reason.clone()))));
        known.whole.lost = Some(reason);
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// The ledger was looked at, and is what it should be: `whole` replaces what was known, `block` what was wrong.
    pub(super) fn looked(&self, whole: Whole, unfit: Option<LedgerError>, forget: bool) {
        let mut known = self.known();
        if forget {
            known.trees.clear();
        } else if known.whole.lost.is_some() && whole.lost.is_none() {
            // Somebody lost the books while they were looked at: that stands.
            return;
        }
        if known.whole != whole {
            self.dirty.store(true, Ordering::Relaxed);
        }
        let block = whole.lost.clone().map(LedgerError::Lost).or(unfit);
        self.block.store(block.map(Arc::new));
        known.whole = whole;
    }

    /// After which connection all that is known was compared.
    pub(super) fn compared_at(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// All that is known was compared over this connection.
    pub(super) fn compared(&self, connects: u64) {
        self.compared.store(connects, Ordering::Relaxed);
    }

    /// The trees that were used last, at most `most`.
    pub(super) fn trees(&self, most: usize) -> Vec<NodeId> {
        let known = self.known();
        let mut trees: Vec<(Millis, &NodeId)> = known.trees.iter().map(|(root, mark)| (-mark.2, root)).collect();
        if trees.len() > most {
            trees.select_nth_unstable(most);
            trees.truncate(most);
        }
        trees.into_iter().map(|(_, root)| root.clone()).collect()
    }

    /// What is known of the ledger as a whole.
    pub(super) fn whole(&self) -> Whole {
        self.known().whole.clone()
    }

    /// The generation of the ledger that is known.
    pub(super) fn generation(&self) -> u64 {
        self.known().whole.generation
    }

    /// Writes the file if there is something new. Blocks.
    pub(super) fn save(&self) -> Result<(), LedgerError> {
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let oldest = Clock::System.now() - KEPT_MS;
        let stored = {
            let mut known = self.known();
            known.trees.retain(|_, mark| mark.2 > oldest);
            let mut marks: Vec<(&NodeId, &Mark)> = known.trees.iter().collect();
            if marks.len() > TREES_IN_FILE_MAX {
                marks.select_nth_unstable_by_key(TREES_IN_FILE_MAX, |(_, mark)| -mark.2);
                marks.truncate(TREES_IN_FILE_MAX);
            }
            let trees = marks.into_iter().map(|(root, mark)| (root.to_string(), mark.clone())).collect();
            Stored { version: VERSION, writer: self.writer.clone(), books: known.whole.clone(), trees }
        };
        let text = serde_json::to_vec(&stored).map_err(|e| LedgerError::Unavailable(e.to_string()));
        text.and_then(|text| {
            durable::replace(&self.file, &text)
                .map_err(|e| LedgerError::Unavailable(format!("{} cannot be written: {e}", self.file.display())))
        })
        .inspect_err(|_| self.dirty.store(true, Ordering::Relaxed))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path, writer: &str, bytes: &[u8]) -> Result<Known, LedgerError> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| unreadable(file, &e.to_string()))?;
    if stored.version != VERSION || stored.writer != writer {
        return Err(unreadable(file, "it is of another version or another gateway"));
    }
    let trees = stored.trees.into_iter().map(|(root, mark)| (NodeId::from(root.as_str()), mark)).collect();
    Ok(Known { whole: stored.books, trees })
}

fn unreadable(file: &Path, why: &str) -> LedgerError {
    LedgerError::Conflict(format!(
        "{} cannot be read ({why}): it says which books this gateway has seen; remove it only if you know that the ledger's \
         books are whole",
        file.display()
    ))
}

/// Makes room: the half that was used longest ago.
fn forget_some(trees: &mut HashMap<NodeId, Mark>, now: Millis) {
    let mut used: Vec<Millis> = trees.values().map(|mark| mark.2).collect();
    let half = used.len() / 2;
    let (_, middle, _) = used.select_nth_unstable(half);
    let middle = (*middle).min(now - 1);
    trees.retain(|_, mark| mark.2 > middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(folder: &Path) -> Guard {
        Guard::open(&Memory { writer: "0123456789abcdef".into(), file: folder.join("mark.json") }).unwrap()
    }

    fn seen(guard: &Guard, generation: u64) {
        let whole = Whole { id: Some("books".into()), generation, ..Whole::default() };
        guard.looked(whole, None, generation > guard.whole().generation);
    }

    #[test]
    fn what_is_known_survives_the_process_and_grows_only() {
        let folder = tempfile::tempdir().unwrap();
        let (first, root) = (guard(folder.path()), NodeId::from("t_1"));
        assert!(first.claim(&root).is_err(), "before the ledger was looked at");
        seen(&first, 0);
        let claim = first.claim(&root).unwrap();
        assert_eq!((claim.field.as_str(), claim.seen()), ("g0123456789abcdef", (0, "-".into())));
        for count in [2, 5, 4] {
            first.note(&claim, &root, "b", count).unwrap();
        }
        first.save().unwrap();
        let second = guard(folder.path());
        assert_eq!(second.whole().id.as_deref(), Some("books"));
        seen(&second, 0);
        assert_eq!(second.claim(&root).unwrap().seen(), (5, "b".into()));
    }

    #[test]
    fn a_write_that_is_counted_twice_says_that_the_books_went_back() {
        let folder = tempfile::tempdir().unwrap();
        let root = NodeId::from("t_1");
        for (answered, again) in [(&[1][..], 1), (&[7, 8, 9], 7), (&[9, 7, 8], 8), (&[3, 60, 66], 3), (&[200, 2], 200)]
        {
            let guard = guard(folder.path());
            seen(&guard, 0);
            let claim = guard.claim(&root).unwrap();
            for count in answered {
                guard.note(&claim, &root, "b", *count).unwrap();
                guard.check().unwrap();
            }
            assert!(matches!(guard.note(&claim, &root, "b", again), Err(LedgerError::Lost(_))));
            assert!(matches!(guard.check(), Err(LedgerError::Lost(_))), "{answered:?}, and {again} again");
        }
        // Also when the process that had the first answer has ended.
        let first = guard(folder.path());
        seen(&first, 0);
        let claim = first.claim(&root).unwrap();
        first.note(&claim, &root, "b", 5).unwrap();
        first.save().unwrap();
        let second = guard(folder.path());
        seen(&second, 0);
        assert!(second.note(&claim, &root, "b", 5).is_err() && second.check().is_err());
    }

    #[test]
    fn lost_books_block_until_a_later_generation_and_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (first, root) = (guard(folder.path()), NodeId::from("t_1"));
        seen(&first, 0);
        let claim = first.claim(&root).unwrap();
        first.note(&claim, &root, "b", 5).unwrap();
        assert!(matches!(first.contradicted(&claim, &root, "- 0"), LedgerError::Lost(_)));
        assert!(matches!(first.claim(&root), Err(LedgerError::Lost(_))));
        first.save().unwrap();
        let second = guard(folder.path());
        assert!(matches!(second.claim(&root), Err(LedgerError::Lost(_))));
        // An answer that was on its way says nothing of the books that were accepted.
        seen(&second, 7);
        second.note(&claim, &root, "b", 9).unwrap();
        second.contradicted(&claim, &root, "- 0");
        assert_eq!(second.claim(&root).unwrap().seen(), (0, "-".into()));
    }

    #[test]
    fn a_loss_noticed_while_the_ledger_was_looked_at_stands() {
        let folder = tempfile::tempdir().unwrap();
        let guard = guard(folder.path());
        seen(&guard, 0);
        guard.lose(0, "gone".into());
        seen(&guard, 0);
        assert!(guard.check().is_err());
    }

    #[test]
    fn a_damaged_file_and_that_of_another_gateway_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = guard(folder.path());
        first.save().unwrap();
        let file = folder.path().join("mark.json");
        let other = Memory { writer: "fedcba9876543210".into(), file: file.clone() };
        assert!(matches!(Guard::open(&other), Err(LedgerError::Conflict(_))));
        std::fs::write(&file, b"{").unwrap();
        let own = Memory { writer: "0123456789abcdef".into(), file };
        assert!(matches!(Guard::open(&own), Err(LedgerError::Conflict(_))));
    }

    #[test]
    fn a_full_memory_forgets_what_was_used_longest_ago() {
        let mut trees = HashMap::new();
        for i in 0..10 {
            trees.insert(NodeId::from(format!("t_{i}").as_str()), Mark("b".into(), 1, i, 1));
        }
        forget_some(&mut trees, 100);
        assert_eq!(trees.len(), 4);
        assert!(trees.values().all(|mark| mark.2 > 5));
    }
}

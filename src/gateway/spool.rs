//! Settlements that the ledger has not taken yet: known as long as they are owed, and after a while on disk as well.
//!
//! What is owed for longer than [`SAVE_AFTER`], or still owed when the process ends, is a line in the file `spool` in the gateway's own
//! folder, synced. A settlement that was made gets a line too; when nothing is owed, the file is emptied. The next gateway that
//! has the folder, or finds it without a gateway, settles what the file says is owed. That may repeat settlements that were made: the
//! ledger knows each by its hold and makes it once, so only the lines of what is owed have to be synced.
//!
//! A line is the CRC-32 of its JSON in eight hexadecimal digits, a space, and the JSON. A torn or damaged line counts as not there: its
//! hold is charged in full when it expires.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::settler::Job;
use crate::ledger::{HoldId, durable};

/// The name of the file.
pub const FILE: &str = "spool";
/// A settlement that the ledger has not taken for so long is written down.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How often that is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// With so many lines that say nothing any more, and more than half of all, the file is written anew.
const STALE_LINES_MAX: usize = 1024;

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// This settlement is owed.
    Owed(Job),
    /// The one of this hold was made.
    Made(HoldId),
}

/// What is owed to the ledger.
#[derive(Default)]
pub struct Spool {
    owed: Mutex<Owed>,
    /// The file, once there is one. Locked while it is written.
    disk: Mutex<Option<Disk>>,
    /// What should be on disk could not be written.
    failing: AtomicBool,
    /// The thread that writes is gone; who else may write does not replace it.
    lost: AtomicBool,
}

#[derive(Default)]
struct Owed {
    /// By the place of each among the endings.
    debts: BTreeMap<u64, Debt>,
    /// Settlements that were made and have a line.
    made: Vec<HoldId>,
}

struct Debt {
    job: Job,
    since: Instant,
    saved: bool,
}

impl Spool {
    /// A settlement is owed from now on. `saved` says that it has a line.
    pub fn owes(&self, job: &Job, saved: bool) {
        self.owed().debts.insert(job.ending, Debt { job: job.clone(), since: Instant::now(), saved });
    }

    /// Leaves out what is owed already.
    pub fn leave_out_owed(&self, jobs: &mut HashMap<HoldId, Job>) {
        if !jobs.is_empty() {
            self.owed().debts.values().for_each(|debt| drop(jobs.remove(&debt.job.at.hold)));
        }
    }

    /// These settlements, by their place among the endings, were made.
    pub fn made(&self, endings: &[u64]) {
        let mut owed = self.owed();
        for ending in endings {
            if let Some(debt) = owed.debts.remove(ending)
                && debt.saved
            {
                owed.made.push(debt.job.at.hold.clone());
            }
        }
    }

    /// True when what must be on disk is not, because the disk does not take it or nobody writes.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire) || self.lost.load(Ordering::Acquire)
    }

    /// Begins to keep the file in `folder`: returns what it says is owed, and `others` that may be owed as well and are in it from now on.
    pub fn open(&self, folder: &Path, others: Vec<Job>) -> io::Result<Vec<Job>> {
        let path = folder.join(FILE);
        let mut jobs: HashMap<HoldId, Job> = others.into_iter().map(|job| (job.at.hold.clone(), job)).collect();
        jobs.extend(read(&path)?);
        failpoint!("spool_read");
        let disk = Disk::begin(path, jobs.values())?;
        failpoint!("spool_taken_over");
        *self.disk() = Some(disk);
        Ok(jobs.into_values().collect())
    }

    /// Starts the thread that writes what is owed for too long, for as long as the process lives.
    pub fn keep(self: &Arc<Self>) -> io::Result<()> {
        let spool = self.clone();
        let keep = move || {
            let _writer = Writer(&spool);
            loop {
                std::thread::sleep(LOOK_EVERY);
                // Told where it happens; tried again in the next round.
                let _ = spool.save(SAVE_AFTER);
            }
        };
        std::thread::Builder::new().name("loopers-spool".into()).spawn(keep).map(drop)
    }

    /// Writes what is owed for at least `age`, and what was made. Returns how many settlements have a line now; `None` when there is no
    /// file. Blocks until it is synced.
    pub fn save(&self, age: Duration) -> io::Result<Option<usize>> {
        let mut disk = self.disk();
        let Some(disk) = &mut *disk else { return Ok(None) };
        let saved = self.save_to(disk, age);
        match (&saved, self.failing.swap(saved.is_err(), Ordering::AcqRel)) {
            (Err(error), false) => log::error!(
                "settlements that wait for the ledger cannot be written to {}: {error}. No call is taken meanwhile",
                disk.path.display()
            ),
            (Ok(_), true) => log::warn!("{} can be written again", disk.path.display()),
            _ => {}
        }
        saved.map(Some)
    }

    fn save_to(&self, disk: &mut Disk, age: Duration) -> io::Result<usize> {
        let (fresh, made) = {
            let mut owed = self.owed();
            let due = |debt: &&Debt| !debt.saved && debt.since.elapsed() >= age;
            let fresh: Vec<Job> = owed.debts.values().filter(due).map(|debt| debt.job.clone()).collect();
            (fresh, std::mem::take(&mut owed.made))
        };
        let mut lines: Vec<Line> = fresh.iter().cloned().map(Line::Owed).collect();
        lines.extend(made.into_iter().map(Line::Made));
        if !lines.is_empty() {
            disk.append(&lines, !fresh.is_empty())?;
        }
        let mut owed = self.owed();
        for job in fresh {
            match owed.debts.get_mut(&job.ending) {
                Some(debt) => debt.saved = true,
                None => owed.made.push(job.at.hold.clone()),
            }
        }
        let saved = || owed.debts.values().filter(|debt| debt.saved);
        let count = saved().count();
        let anew = disk.is_stale(count).then(|| saved().map(|debt| debt.job.clone()).collect::<Vec<_>>());
        drop(owed);
        disk.tidy(count, anew)?;
        Ok(count)
    }

    /// The folder of the file; `None` when there is no file.
    pub fn folder(&self) -> Option<PathBuf> {
        self.disk().as_ref().and_then(|disk| disk.path.parent().map(Path::to_path_buf))
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> MutexGuard<'_, Option<Disk>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes, which ends by a panic only.
struct Writer<'a>(&'a Spool);

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.0.lost.store(true, Ordering::Release);
        log::error!("the thread that writes down settlements has ended: no call is taken until a restart");
    }
}

/// The file.
struct Disk {
    path: PathBuf,
    file: File,
    /// Lines in it.
    lines: usize,
    /// The last line may be half of one.
    torn: bool,
    /// The path may lead to another file by now: it was to be replaced, and that failed somewhere.
    astray: bool,
}

impl Disk {
    /// A file that says that these are owed, and nothing else.
    fn begin<'a>(path: PathBuf, jobs: impl Iterator<Item = &'a Job>) -> io::Result<Disk> {
        let lines: Vec<Line> = jobs.cloned().map(Line::Owed).collect();
        durable::replace(&path, &text_of(&lines)?)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Disk { path, file, lines: lines.len(), torn: false, astray: false })
    }

    fn append(&mut self, lines: &[Line], sync: bool) -> io::Result<()> {
        if self.astray {
            self.file = OpenOptions::new().append(true).open(&self.path)?;
            (self.torn, self.astray) = (true, false);
        }
        let mut text = text_of(lines)?;
        if self.torn {
            text.insert(0, b'\n');
        }
        self.torn = true;
        self.file.write_all(&text)?;
        self.torn = false;
        self.lines += lines.len();
        if sync {
            failpoint!("spool_written");
            self.file.sync_data()?;
            failpoint!("spool_synced");
        }
        Ok(())
    }

    /// True when most of the lines say nothing any more, for so many are owed.
    fn is_stale(&self, owed: usize) -> bool {
        self.lines.saturating_sub(owed) > STALE_LINES_MAX.max(owed)
    }

    /// Empties the file when nothing in it is owed, or writes it anew.
    fn tidy(&mut self, owed: usize, anew: Option<Vec<Job>>) -> io::Result<()> {
        if owed == 0 && self.lines > 0 {
            failpoint!("spool_emptying");
            self.file.set_len(0)?;
            self.file.sync_data()?;
            (self.lines, self.torn) = (0, false);
        } else if let Some(owed) = anew {
            self.astray = true;
            *self = Disk::begin(self.path.clone(), owed.iter())?;
        }
        Ok(())
    }
}

fn text_of(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(300 * lines.len());
    for line in lines {
        let json = serde_json::to_vec(line)?;
        text.extend_from_slice(format!("{:08x} ", crc32fast::hash(&json)).as_bytes());
        text.extend_from_slice(&json);
        text.push(b'\n');
    }
    Ok(text)
}

/// What a file says is owed; nothing when there is no file.
pub fn read(path: &Path) -> io::Result<HashMap<HoldId, Job>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let (mut owed, mut damaged) = (HashMap::new(), 0_usize);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match line_of(line) {
            Some(Line::Owed(job)) => drop(owed.insert(job.at.hold.clone(), job)),
            Some(Line::Made(hold)) => drop(owed.remove(&hold)),
            None => damaged += 1,
        }
    }
    if damaged > 0 {
        log::warn!(
            "{}: {damaged} lines are torn or damaged and left out; their holds are charged in full when they expire",
            path.display()
        );
    }
    Ok(owed)
}

fn line_of(line: &[u8]) -> Option<Line> {
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    (line[8] == b' ' && crc == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok()).flatten()
}

/// True when a folder's file says that something may be owed.
pub fn is_owing(folder: &Path) -> bool {
    std::fs::metadata(folder.join(FILE)).is_ok_and(|about| about.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Charge, HoldRef};
    use crate::money::Money;

    fn job(ending: u64) -> Job {
        let hold = HoldId(format!("{ending:032x}").into());
        let at = Arc::new(HoldRef { hold, chain: vec!["k_1".into(), "t_1".into()], session: Some("s".into()) });
        let charge = if ending.is_multiple_of(2) { Charge::Full } else { Charge::Exact(Money::from_nano(ending)) };
        Job { at, charge, provider: "openai".into(), model: "openai/gpt".into(), taken: true, ending }
    }

    fn opened(folder: &Path) -> (Spool, Vec<u64>) {
        let spool = Spool::default();
        let owed = spool.open(folder, Vec::new()).unwrap();
        for job in &owed {
            spool.owes(&Job { ending: place(job), ..job.clone() }, true);
        }
        let mut places: Vec<u64> = owed.iter().map(place).collect();
        places.sort_unstable();
        (spool, places)
    }

    fn place(job: &Job) -> u64 {
        u64::from_str_radix(&job.at.hold.0, 16).unwrap()
    }

    fn length(folder: &Path) -> u64 {
        std::fs::metadata(folder.join(FILE)).unwrap().len()
    }

    #[test]
    fn what_is_owed_too_long_outlives_the_process_and_what_was_made_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (first, owed) = opened(folder.path());
        assert!(owed.is_empty());
        for ending in 1..=5 {
            first.owes(&job(ending), false);
        }
        assert_eq!(first.save(Duration::from_secs(3600)).unwrap(), Some(0), "they are fresh");
        first.made(&[1]);
        assert_eq!(first.save(Duration::ZERO).unwrap(), Some(4));
        first.made(&[3]);
        assert_eq!(first.save(Duration::ZERO).unwrap(), Some(3));
        drop(first);
        let (second, owed) = opened(folder.path());
        assert_eq!(owed, [2, 4, 5]);
        assert_eq!(second.owed().debts[&5].job.charge, Charge::Exact(Money::from_nano(5)));
        second.made(&[2, 4, 5]);
        assert_eq!(second.save(SAVE_AFTER).unwrap(), Some(0));
        assert_eq!(length(folder.path()), 0);
        assert!(opened(folder.path()).1.is_empty());
    }

    #[test]
    fn a_settlement_made_while_it_is_written_is_not_owed() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        spool.owes(&job(1), false);
        spool.owes(&job(2), false);
        // As if the ledger had taken it between the look and the line.
        let mut disk = spool.disk();
        let lines = [Line::Owed(job(1)), Line::Owed(job(2))];
        disk.as_mut().unwrap().append(&lines, true).unwrap();
        drop(disk);
        spool.owed().debts.get_mut(&2).unwrap().saved = true;
        spool.made(&[1, 2]);
        spool.save(Duration::ZERO).unwrap();
        assert_eq!(length(folder.path()), 0);
    }

    #[test]
    fn whatever_is_cut_off_the_end_only_the_last_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        for ending in 1..=3 {
            spool.owes(&job(ending), false);
            spool.save(Duration::ZERO).unwrap();
        }
        let whole = std::fs::read(folder.path().join(FILE)).unwrap();
        let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).collect();
        for cut in 0..whole.len() {
            std::fs::write(folder.path().join(FILE), &whole[..cut]).unwrap();
            let (again, owed) = opened(folder.path());
            let expected = ends.iter().filter(|end| **end <= cut).count() as u64;
            assert_eq!(owed, (1..=expected).collect::<Vec<_>>(), "cut at {cut}");
            // What is written afterwards is read.
            again.owes(&job(9), false);
            again.save(Duration::ZERO).unwrap();
            assert!(opened(folder.path()).1.contains(&9), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(folder.path().join(FILE), &damaged).unwrap();
            let owed = opened(folder.path()).1;
            // A line break that is no more takes two lines with it.
            assert!(owed.len() == 2 || (ends.contains(&at) && !owed.is_empty()), "byte {at}: {owed:?}");
        }
    }

    #[test]
    fn half_a_line_of_a_full_disk_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        let mut disk = spool.disk();
        let disk_ref = disk.as_mut().unwrap();
        disk_ref.file.write_all(b"0123").unwrap();
        disk_ref.torn = true;
        drop(disk);
        spool.owes(&job(7), false);
        assert_eq!(spool.save(Duration::ZERO).unwrap(), Some(1));
        assert_eq!(opened(folder.path()).1, [7]);
    }

    #[test]
    fn a_file_that_was_replaced_and_not_opened_again_gets_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        // Written anew, and the end of that failed: the open file has no name any more.
        durable::replace(&folder.path().join(FILE), &text_of(&[Line::Owed(job(1))]).unwrap()).unwrap();
        spool.disk().as_mut().unwrap().astray = true;
        spool.owes(&job(2), false);
        assert_eq!(spool.save(Duration::ZERO).unwrap(), Some(1));
        assert_eq!(opened(folder.path()).1, [1, 2]);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_and_nothing_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        spool.owes(&job(1), false);
        let read_only = File::open(folder.path().join(FILE)).unwrap();
        let before = std::mem::replace(&mut spool.disk().as_mut().unwrap().file, read_only);
        assert!(spool.save(Duration::ZERO).is_err() && spool.is_failing());
        spool.disk().as_mut().unwrap().file = before;
        assert_eq!(spool.save(Duration::ZERO).unwrap(), Some(1));
        assert!(!spool.is_failing());
        assert_eq!(opened(folder.path()).1, [1]);
    }

    #[test]
    fn a_writer_that_is_lost_to_a_panic_counts_as_failing_whoever_else_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        let panics = || -> io::Result<()> {
            let _writer = Writer(&spool);
            panic!("as the writer might")
        };
        assert!(std::thread::scope(|scope| scope.spawn(panics).join().is_err()));
        assert!(spool.save(Duration::ZERO).is_ok() && spool.is_failing());
    }

    #[test]
    fn a_long_outage_does_not_let_the_file_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        spool.owes(&job(1), false);
        for ending in 2..6000 {
            spool.owes(&job(ending), false);
            if ending % 100 == 0 {
                spool.save(Duration::ZERO).unwrap();
                spool.made(&(2..=ending).collect::<Vec<_>>());
            }
        }
        spool.save(Duration::ZERO).unwrap();
        assert!(spool.disk().as_ref().unwrap().lines <= 2 * STALE_LINES_MAX + 200);
        assert_eq!(opened(folder.path()).1[0], 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        spool.owes(&job(1), false);
        spool.save(Duration::ZERO).unwrap();
        assert!(is_owing(folder.path()));
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_may_be_owed_as_well_is_in_the_file_at_once_and_its_own_lines_count_more() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = opened(folder.path());
        spool.owes(&job(1), false);
        spool.save(Duration::ZERO).unwrap();
        let other = Job { charge: Charge::Full, ..job(1) };
        let owed = Spool::default().open(folder.path(), vec![other, job(2)]).unwrap();
        let one = owed.iter().find(|owed| owed.at.hold == job(1).at.hold).unwrap();
        assert_eq!((owed.len(), one.charge), (2, job(1).charge));
        assert_eq!(opened(folder.path()).1, [1, 2]);
    }
}

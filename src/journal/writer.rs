//! Writes lines in the order in which they come, many at once: a thread of its own, so that a slow disk holds up no worker.
//!
//! Who writes waits until the line was handed to the system (`write` has returned): from then on the end of this process
//! cannot lose it. The end of the machine can, for about a second: files are synced that often.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::Keep;
use super::line::{Line, VERSION};
use crate::clock::Clock;
use crate::ledger::durable;

/// Lines of one command that may wait for the thread.
const WAITING_MAX: usize = 64;
/// Bytes written at once.
const BATCH_BYTES: usize = 256 * 1024;
/// The longest that a line may be on its way to the file.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often a full queue is tried again.
const TRY_EVERY: Duration = Duration::from_millis(1);
/// How long what was written may be in the system's memory only.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often old files are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

type Done = Result<(), String>;

/// A line and who waits for it.
struct Job {
    line: Vec<u8>,
    done: oneshot::Sender<Done>,
}

/// Where lines are handed in.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Job>,
}

impl Writer {
    /// Files of one writer in a folder. Begins a new one.
    pub fn rotating(folder: &Path, writer: &str, keep: Keep) -> io::Result<Writer> {
        let number = numbers(folder)?.last().map_or(1, |last| last + 1);
        let mut files = Rotating {
            folder: folder.into(),
            writer: writer.into(),
            keep,
            number,
            file: begin(folder, writer, number)?,
            length: None,
            size: 0,
            tidied: Instant::now(),
        };
        files.tidy();
        Writer::start(Place::Rotating(files), keep.queue)
    }

    /// One file that several processes append to.
    pub fn shared(file: &Path) -> Writer {
        let (queue, jobs) = sync_channel(WAITING_MAX);
        let place = Place::Shared { path: file.into(), file: None };
        // Without a thread nobody takes the other end: each line is then refused, with a warning of who wrote it.
        let _ = std::thread::Builder::new().name("loopers-journal".into()).spawn(move || run(place, &jobs));
        Writer { queue }
    }

    fn start(place: Place, queue: usize) -> io::Result<Writer> {
        let (queue, jobs) = sync_channel(queue);
        std::thread::Builder::new().name("loopers-journal".into()).spawn(move || run(place, &jobs))?;
        Ok(Writer { queue })
    }

    /// Writes a line, and returns when the system has it.
    pub async fn write(&self, line: Vec<u8>) -> Done {
        let (done, answer) = oneshot::channel();
        let mut job = Job { line, done };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.queue.try_send(job) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return Err("its thread has ended".into()),
                Err(TrySendError::Full(_)) if Instant::now() > deadline => return Err("the disk is too slow".into()),
                Err(TrySendError::Full(back)) => job = back,
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err("its thread has ended".into()),
            Err(_) => Err("the disk is too slow".into()),
        }
    }
}

/// Takes what waits, writes it at once, and tells everybody; until nobody can hand in anything more.
fn run(mut place: Place, jobs: &Receiver<Job>) {
    let syncer = syncer();
    let mut unsynced: Option<Instant> = None;
    loop {
        let first = match unsynced {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => jobs.recv_timeout(SYNC_EVERY.saturating_sub(since.elapsed())),
        };
        let mut waiting = Vec::new();
        let mut text = Vec::new();
        let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        let mut next = first.ok();
        while let Some(job) = next {
            text.extend_from_slice(&job.line);
            waiting.push(job.done);
            next = if text.len() < BATCH_BYTES { jobs.try_recv().ok() } else { None };
        }
        if !text.is_empty() {
            let written = place.append(&text).map_err(|e| e.to_string());
            unsynced = unsynced.or_else(|| Some(Instant::now()));
            for done in waiting {
                // Who waited no longer has had an answer already.
                let _ = done.send(written.clone());
            }
        }
        if unsynced.is_some_and(|since| ended || since.elapsed() >= SYNC_EVERY) {
            // A sync that still runs covers what was written before it began: the rest waits for the next round.
            let handed = place.file().is_none_or(|file| syncer.try_send(file).is_ok());
            unsynced = if handed { None } else { Some(Instant::now()) };
        }
        if ended {
            return;
        }
    }
}

/// Syncs files one after the other: lines are written meanwhile.
fn syncer() -> SyncSender<File> {
    let (queue, files) = sync_channel::<File>(1);
    let sync = move || {
        for file in files {
            if let Err(error) = file.sync_data() {
                log::error!("the journal cannot be synced: {error}");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("loopers-sync".into()).spawn(sync) {
        log::error!("the journal cannot be synced: {error}");
    }
    queue
}

/// Where lines go.
enum Place {
    Rotating(Rotating),
    Shared { path: PathBuf, file: Option<File> },
}

impl Place {
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Place::Rotating(files) => files.append(text),
            Place::Shared { path, file } => {
                let file = match file {
                    Some(file) => file,
                    None => file.insert(open(path, false)?),
                };
                // One call: the system does not mix what two processes append.
                write_whole(file, text)?;
                // The command that wrote it ends at once.
                file.sync_data()
            }
        }
    }

    /// The file that is written now.
    fn file(&self) -> Option<File> {
        match self {
            Place::Rotating(files) => files.file.try_clone().ok(),
            Place::Shared { file, .. } => file.as_ref().and_then(|file| file.try_clone().ok()),
        }
    }
}

/// The files of a gateway.
struct Rotating {
    folder: PathBuf,
    writer: String,
    keep: Keep,
    number: u64,
    file: File,
    /// How long the file is: nobody else writes there. `None` at its beginning, and after an error.
    length: Option<u64>,
    size: u64,
    tidied: Instant,
}

impl Rotating {
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.size > self.keep.file_bytes {
            self.file.sync_data()?;
            self.file = begin(&self.folder, &self.writer, self.number + 1)?;
            (self.number, self.size, self.length) = (self.number + 1, 0, None);
        }
        if self.tidied.elapsed() > TIDY_EVERY {
            self.tidy();
        }
        let before = match self.length {
            Some(length) => length,
            None => self.file.metadata()?.len(),
        };
        self.length = None;
        if let Err(error) = self.file.write_all(text) {
            // Half a line would spoil the next one.
            self.file.set_len(before)?;
            return Err(error);
        }
        self.length = Some(before + text.len() as u64);
        self.size += text.len() as u64;
        Ok(())
    }

    /// Removes files that are older than what is kept.
    fn tidy(&mut self) {
        self.tidied = Instant::now();
        let oldest = SystemTime::now().checked_sub(Duration::from_secs(self.keep.days.saturating_mul(86_400)));
        let Some(oldest) = oldest else { return };
        for number in numbers(&self.folder).unwrap_or_default() {
            let path = self.folder.join(name(number));
            let old = path.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at < oldest);
            if number != self.number && old && std::fs::remove_file(&path).is_err() {
                log::warn!("{} is older than limits.journal_days, and cannot be removed", path.display());
            }
        }
        self.tidy_names();
    }

    /// Removes second names of files: those that a process had given for a moment, and could not take back before it ended.
    fn tidy_names(&self) {
        let Some(before) = SystemTime::now().checked_sub(Duration::from_secs(3600)) else { return };
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_one = entry.file_name().to_str().is_some_and(|n| n.starts_with("journal-") && n.ends_with(".new"));
            let old = is_one && entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at < before);
            if old && let Err(error) = std::fs::remove_file(entry.path()) {
                log::warn!("{} is of no use, and cannot be removed: {error}", entry.path().display());
            }
        }
    }
}

/// The file of a number.
pub(super) fn name(number: u64) -> String {
    format!("journal-{number:06}.jsonl")
}

/// The numbers of the files in a folder, ascending.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.file_name();
        let number: Option<u64> =
            file.to_str().and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A new file with its first line. An error where there is one of this name: somebody else writes in this folder, and has the right to.
fn begin(folder: &Path, writer: &str, number: u64) -> io::Result<File> {
    let path = folder.join(name(number));
    let line = Line::File { version: VERSION, writer: writer.into(), number, at: Clock::System.now() };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    // With its first line or not at all: of a file without one nobody could say whose it is, and a rebuild would refuse. So it is written
    // under a name that no reader knows and nobody else gives.
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let beside = folder.join(format!("{}.{}-{nanos}.new", name(number), std::process::id()));
    let mut file = open(&beside, true)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    let named = written.and_then(|()| give_name(&beside, &path));
    // By now the file has its own name, or is of no use.
    drop(std::fs::remove_file(&beside));
    named.map(|()| file)
}

/// Gives a file a name that no other one has.
fn give_name(file: &Path, path: &Path) -> io::Result<()> {
    let has_no_links =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied);
    let named = match std::fs::hard_link(file, path) {
        // An answer of a file server was lost.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_one_file(file, path)? => Ok(()),
        // Where a file system knows no links, it can only be looked before.
        Err(error) if has_no_links(&error) && !path.try_exists()? => std::fs::rename(file, path),
        named => named,
    };
    named.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let say = format!("{} is there already: does another gateway write in this folder?", path.display());
            io::Error::new(error.kind(), say)
        }
        _ => error,
    })?;
    // Without its entry it is not there after a power cut, and the name is free for the next attempt.
    durable::sync_folder(path).inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// True when two names are those of one file.
fn is_one_file(one: &Path, other: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// A file to append to, readable by its owner only; with `anew` one that is not there yet.
fn open(path: &Path, anew: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).create_new(anew);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write_whole(file: &mut File, text: &[u8]) -> io::Result<()> {
    let written = file.write(text)?;
    if written == text.len() {
        return Ok(());
    }
    // A line that was cut short is ended, so that it does not spoil the next one.
    file.write_all(b"\n")?;
    Err(io::Error::new(io::ErrorKind::WriteZero, "the line was not written whole"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_somebody_else_has_begun_stays_and_nothing_is_written_while_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Rotating {
            folder: folder.path().into(),
            writer: "aa".into(),
            keep: Keep { file_bytes: 3, days: 62, queue: 8 },
            number: 1,
            file: begin(folder.path(), "aa", 1).unwrap(),
            length: None,
            size: 0,
            tidied: Instant::now(),
        };
        files.append(b"line\n").unwrap();
        let theirs = folder.path().join(name(2));
        std::fs::write(&theirs, "theirs").unwrap();
        for _ in 0..2 {
            let error = files.append(b"more\n").unwrap_err();
            assert!(error.to_string().contains("does another gateway write in this folder?"), "{error}");
        }
        assert_eq!(begin(folder.path(), "aa", 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs");
        std::fs::remove_file(&theirs).unwrap();
        files.append(b"more\n").unwrap();
        let texts = [1, 2].map(|number| std::fs::read_to_string(folder.path().join(name(number))).unwrap());
        assert!(texts.iter().all(|text| text.starts_with(r#"{"line":"file","#)), "{texts:?}");
        assert!(texts[0].ends_with("}\nline\n") && texts[1].ends_with("}\nmore\n"), "{texts:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left of the attempts");
    }
}

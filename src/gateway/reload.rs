//! A new config or price table while calls run: all of it or nothing. Calls in flight keep what they were admitted with.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::app::{App, size};
use crate::config::Settings;
use crate::observe::metrics;
use crate::pricing::PriceTable;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the config and everything that it names once more; the error says all that is wrong.
pub type Source = Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// A file as it was last seen. Following links, so that a Kubernetes ConfigMap, which is swapped by one, is seen to change.
type Stamp = Option<(SystemTime, u64)>;

/// Files, each as it was at one look.
pub type Stamps = Vec<(PathBuf, Stamp)>;

/// Reloads on SIGHUP and when a file changes, for ever. A change counts once two looks in a row agree on it: a file that is
/// still being written is not read. `seen` is how the files were when this process started.
pub async fn watch(app: Arc<App>, prices: Arc<ArcSwap<PriceTable>>, source: Option<Source>, seen: Stamps) {
    metrics::reloads_begin();
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            log::error!("SIGHUP cannot be heard, so the config is not reloaded: {error}");
            return;
        }
    };
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks { read: seen.clone(), last: seen };
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = tick.tick() => false,
        };
        let files = app.settings.load().sources.clone();
        let Some(now) = beside(move || stamps(&files)).await else { continue };
        if !looks.are_due(&now, asked) {
            continue;
        }
        let Some(source) = source.clone() else {
            log::warn!("there is no config file to reload: this gateway runs on the defaults");
            continue;
        };
        let (app, prices) = (app.clone(), prices.clone());
        let takes = move || {
            let (seen, fresh) = read(&source, now);
            take(&app, &prices, fresh);
            seen
        };
        if let Some(seen) = beside(takes).await {
            looks.read = seen;
        }
    }
}

/// What was seen of the files.
struct Looks {
    /// How they were before they were last read, so that what is written meanwhile is a change. Taken or refused, they are not read again
    /// until something changes.
    read: Stamps,
    /// How they were at the last look.
    last: Stamps,
}

impl Looks {
    /// Whether the files are to be read now: somebody asked, or this look and the last one agree on a change.
    fn are_due(&mut self, now: &[(PathBuf, Stamp)], asked: bool) -> bool {
        let is_steady = now == std::mem::replace(&mut self.last, now.to_vec());
        let has_changed = now.iter().any(|seen| !self.read.contains(seen));
        let due = asked || (is_steady && has_changed);
        if due {
            self.read = now.to_vec();
        }
        due
    }
}

/// Works beside the only thread of this runtime, which cuts running calls as well and must not wait for a disk. A panic counts as a
/// refusal.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|ended| refused(&format!("reading it has failed: {ended}"))).ok()
}

/// How these files are now.
pub fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| -> Stamp {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    files.iter().map(|file| (file.clone(), stamp(file))).collect()
}

/// Reads the files, which were as `seen` before. A config that names further ones is read a second time, and not a third: only then is it
/// known how those were before. Returns how all of them were.
fn read(source: &Source, mut seen: Stamps) -> (Stamps, Result<Settings, String>) {
    let fresh = source();
    let is_seen = |file: &PathBuf| seen.iter().any(|(known, _)| known == file);
    let named = fresh.iter().flat_map(|fresh| &fresh.sources);
    let unseen: Vec<PathBuf> = named.filter(|file| !is_seen(file)).cloned().collect();
    if unseen.is_empty() {
        return (seen, fresh);
    }
    seen.extend(stamps(&unseen));
    (seen, source())
}

/// Puts what was read into force, or nothing of it.
fn take(app: &App, prices: &ArcSwap<PriceTable>, fresh: Result<Settings, String>) {
    let fresh = match fresh {
        Ok(fresh) => fresh,
        Err(problems) => return refused(&problems),
    };
    let fixed = needs_restart(&app.settings.load(), &fresh);
    if !fixed.is_empty() {
        return refused(&format!("a new value of {} takes a restart; undo it to reload the rest", fixed.join(", ")));
    }
    if let Err(problem) = app.trust.read_all(&fresh) {
        return refused(&problem);
    }
    prices.store(fresh.prices.clone());
    metrics::prices_at(fresh.prices.read_at().unwrap_or(0) / 1000);
    log::info!(
        "reloaded: {} providers, {} prices, version {}",
        fresh.providers.len(),
        fresh.prices.iter().count(),
        fresh.prices.version()
    );
    app.door.buffered_max.store(size(fresh.limits.buffered_bytes), Ordering::Relaxed);
    app.settings.store(Arc::new(fresh));
    metrics::config_reload("taken");
}

fn refused(why: &str) {
    log::error!("the config was not reloaded, the one before stays in force:\n{why}");
    metrics::config_reload("refused");
}

/// What is built into listeners, connections and queues at start.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let fields = [
        ("listen", old.listen != new.listen),
        ("admin", old.admin != new.admin),
        ("ledger", old.ledger != new.ledger),
        ("time_zone", old.time_zone != new.time_zone),
        ("tls", old.tls != new.tls),
        ("alerts", old.alerts != new.alerts),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("limits.admin_connections", old.limits.admin_connections != new.limits.admin_connections),
        ("limits.http2_streams", old.limits.http2_streams != new.limits.http2_streams),
        ("limits.http2_stream_bytes", old.limits.http2_stream_bytes != new.limits.http2_stream_bytes),
        ("limits.idle_upstreams", old.limits.idle_upstreams != new.limits.idle_upstreams),
        ("limits.head_seconds", old.limits.head_seconds != new.limits.head_seconds),
        ("limits.answer_bytes", old.limits.answer_bytes != new.limits.answer_bytes),
        ("log", old.log != new.log),
        ("otlp", old.otlp != new.otlp),
        ("limits.header_bytes", old.limits.header_bytes != new.limits.header_bytes),
        ("limits.key_cache", old.limits.key_cache != new.limits.key_cache),
        ("state", old.state != new.state),
        ("limits.ledger_ms", old.limits.ledger_ms != new.limits.ledger_ms),
        ("limits.ledger_connections", old.limits.ledger_connections != new.limits.ledger_connections),
        ("limits.ledger_wait_replicas", old.limits.ledger_wait_replicas != new.limits.ledger_wait_replicas),
        ("limits.ledger_queue", old.limits.ledger_queue != new.limits.ledger_queue),
        ("limits.journal_days", old.limits.journal_days != new.limits.journal_days),
        ("limits.journal_file_bytes", old.limits.journal_file_bytes != new.limits.journal_file_bytes),
        ("limits.journal_queue", old.limits.journal_queue != new.limits.journal_queue),
        ("limits.alert_notes", old.limits.alert_notes != new.limits.alert_notes),
        ("limits.drain_seconds", old.limits.drain_seconds != new.limits.drain_seconds),
    ];
    fields.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::config::{Limits, Purpose, parse};

    /// Limits that each use reads from the settings in force.
    const READ_ANEW: [&str; 11] = [
        "auth_addresses",
        "auth_failures_per_minute",
        "body_bytes",
        "body_seconds",
        "buffered_bytes",
        "call_seconds",
        "in_flight",
        "loop_bodies",
        "loop_repeats",
        "loop_seconds",
        "unsettled",
    ];

    fn settings(text: &str) -> Settings {
        parse(Path::new("loopers.yaml"), text, &|_: &str| None, Purpose::Serve).unwrap().settings
    }

    /// One file, of this length.
    fn seen(length: u64) -> Stamps {
        vec![("loopers.yaml".into(), Some((SystemTime::UNIX_EPOCH, length)))]
    }

    #[test]
    fn a_change_is_read_once_and_only_when_two_looks_agree_on_it() {
        let mut looks = Looks { read: seen(1), last: seen(1) };
        for (nth, (length, asked, due)) in [
            (1, false, false),
            (2, false, false),
            (3, false, false),
            (3, false, true),
            // Taken or refused: not once more, unless somebody asks.
            (3, false, false),
            (3, false, false),
            (3, true, true),
            (3, false, false),
            // Whoever asks does not wait for a second look.
            (4, true, true),
            (4, false, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(looks.are_due(&seen(length), asked), due, "look {nth}");
        }
    }

    #[test]
    fn what_is_written_while_the_files_are_read_is_read_next() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loopers.yaml");
        std::fs::write(&file, "short").unwrap();
        let files = vec![file.clone()];
        let source: Source = Arc::new(move || {
            let fresh = Settings { sources: vec![file.clone()], ..settings("") };
            std::fs::write(&file, "a longer text").unwrap();
            Ok(fresh)
        });
        let before = stamps(&files);
        let mut looks = Looks { read: before.clone(), last: before.clone() };
        assert!(looks.are_due(&before, true));
        looks.read = read(&source, before).0;
        let due: Vec<bool> = (0..2).map(|_| looks.are_due(&stamps(&files), false)).collect();
        assert_eq!(due, [false, true]);
    }

    #[test]
    fn a_file_that_a_config_newly_names_is_looked_at_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = ["loopers.yaml", "prices.yaml"].map(|name| folder.path().join(name)).into();
        files.iter().for_each(|file| std::fs::write(file, "short").unwrap());
        let reads = Arc::new(AtomicUsize::new(0));
        let (count, named) = (reads.clone(), files.clone());
        let source: Source = Arc::new(move || {
            let fresh = Settings { sources: named.clone(), ..settings("") };
            // Nobody knows how the new file was before this.
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                std::fs::write(&named[1], "a longer text").unwrap();
            }
            Ok(fresh)
        });
        let before = stamps(&files[..1]);
        let (seen, fresh) = read(&source, before.clone());
        assert!(fresh.is_ok_and(|fresh| fresh.sources == files));
        assert_eq!((reads.load(Ordering::Relaxed), &seen), (2, &stamps(&files)));
        // Whether the new config is taken or refused, there is nothing to do until something changes.
        for in_force in [&files[..], &files[..1]] {
            let mut looks = Looks { read: seen.clone(), last: before.clone() };
            assert!((0..3).all(|_| !looks.are_due(&stamps(in_force), false)));
        }
        assert_eq!(read(&source, seen.clone()).0, seen);
        assert_eq!(reads.load(Ordering::Relaxed), 3, "all files are known");
    }

    #[tokio::test]
    async fn a_panic_while_the_files_are_read_is_a_refusal() {
        assert_eq!(beside(|| 1).await, Some(1));
        assert_eq!(beside(|| -> u8 { panic!("as a parser might") }).await, None);
    }

    /// A new limit belongs into `needs_restart`, or into `READ_ANEW` if a reload really changes it.
    #[test]
    fn every_limit_takes_a_restart_or_is_read_anew_and_the_docs_say_which() {
        let docs = include_str!("../../docs/OPERATIONS.md");
        let told = docs.split_once("### Reloading").unwrap().1.split_once("\n## ").unwrap().0;
        let old = settings("");
        for (name, default, _, most) in Limits::TABLE {
            let other = if default < most { default + 1 } else { default - 1 };
            let fixed = needs_restart(&old, &settings(&format!("limits: {{ {name}: {other} }}")));
            let is_fixed = !READ_ANEW.contains(name);
            let expected = if is_fixed { vec![format!("limits.{name}")] } else { Vec::new() };
            assert_eq!(fixed, expected, "{name}");
            assert_eq!(told.contains(&format!("`{name}`")), is_fixed, "docs/OPERATIONS.md on {name}");
        }
        assert!(READ_ANEW.iter().all(|name| Limits::TABLE.iter().any(|row| row.0 == *name)));
    }
}

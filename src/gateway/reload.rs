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
pub type Source = Box<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// A file as it was last seen. Following links, so that a Kubernetes ConfigMap, which is swapped by one, is seen to change.
type Stamp = Option<(SystemTime, u64)>;

/// Reloads on SIGHUP and when a file changes, for ever. A change counts once two looks in a row agree on it: a file that is
/// still being written is not read.
pub async fn watch(app: Arc<App>, prices: Arc<ArcSwap<PriceTable>>, source: Option<Source>) {
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
    let mut loaded = stamps(&app.settings.load().sources);
    let mut last = loaded.clone();
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = tick.tick() => false,
        };
        let now = stamps(&app.settings.load().sources);
        let steady = now == std::mem::replace(&mut last, now.clone());
        if !asked && (now == loaded || !steady) {
            continue;
        }
        match &source {
            Some(source) => take(&app, &prices, source),
            None => log::warn!("there is no config file to reload: this gateway runs on the defaults"),
        }
        // With the files that the new config names. What was refused is not tried again until something changes.
        loaded = stamps(&app.settings.load().sources);
        last = loaded.clone();
    }
}

fn stamps(files: &[PathBuf]) -> Vec<(PathBuf, Stamp)> {
    let stamp = |file: &PathBuf| -> Stamp {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    files.iter().map(|file| (file.clone(), stamp(file))).collect()
}

fn take(app: &Arc<App>, prices: &ArcSwap<PriceTable>, source: &Source) {
    let fresh = match source() {
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

/// What is built into listeners and connections at start.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let fields = [
        ("listen", old.listen != new.listen),
        ("admin", old.admin != new.admin),
        ("ledger", old.ledger != new.ledger),
        ("time_zone", old.time_zone != new.time_zone),
        ("tls", old.tls != new.tls),
        ("alerts", old.alerts != new.alerts),
        ("limits.connections", old.limits.connections != new.limits.connections),
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
        ("limits.journal_days", old.limits.journal_days != new.limits.journal_days),
        ("limits.journal_file_bytes", old.limits.journal_file_bytes != new.limits.journal_file_bytes),
        ("limits.drain_seconds", old.limits.drain_seconds != new.limits.drain_seconds),
    ];
    fields.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

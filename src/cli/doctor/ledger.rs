//! The ledger: there, safe, and able to take money right now.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use super::report::Report;
use super::{keys, redis};
use crate::clock::{Clock, Millis, rfc3339};
use crate::config::Settings;
use crate::gateway;
use crate::ledger::LedgerError;
use crate::ledger::embedded::{self, Role};
use crate::ledger::redis::RedisOptions;
use crate::secret::random_hex;

/// How many holds are tried; the middle one counts.
const HOLDS: usize = 3;
/// A hold and its release on a file take two writes to the disk. Slower disks are worth a word.
const FILE_SLOW: Duration = Duration::from_millis(100);
/// How far the clock may be behind what the books have seen.
const BEHIND_MS_MAX: Millis = 2_000;

/// A ledger that ends with its gateway.
pub fn memory(report: &mut Report) {
    let message = "the books are in the gateway's memory: a restart forgets every key and every dollar spent";
    report.warning("ledger_in_memory", "ledger", message, "ledger: file:loopers.db");
}

/// A ledger file. `running` tells whether a gateway answers on this config's ports.
pub async fn file(report: &mut Report, settings: &Settings, path: &Path, running: bool) {
    if let Err((code, message)) = folder(path) {
        report.error(code, "ledger", message, "ledger: file:PATH    (in a folder that this user may write)");
        return;
    }
    let inspected = match embedded::inspect(path) {
        Ok(inspected) => inspected,
        Err(error) => return unusable(report, &error),
    };
    match (inspected.claimed, running) {
        (true, false) => {
            let message = "another gateway, with another config, runs on this ledger file: this one would not start";
            let fix =
                "ledger: file:OTHER.db    (or stop the other one, or give both a Redis: ledger: env:LOOPERS_LEDGER)";
            report.error("ledger_claimed", "ledger", message, fix);
        }
        (false, true) => {
            let message = format!("the gateway on {} works on another ledger than this config names", settings.listen);
            let fix = "listen: 0.0.0.0:8081    (or stop that gateway)";
            report.error("port_taken", "listen", message, fix);
        }
        _ => {}
    }
    let behind = inspected.latest.map_or(0, |latest| latest - Clock::System.now());
    if behind > BEHIND_MS_MAX {
        let seen = rfc3339(inspected.latest.unwrap_or_default());
        let message = format!("the books have seen {seen}, {} s from now: until then no window ends", behind / 1000);
        report.warning("clock_behind_ledger", "ledger", message, "timedatectl set-ntp true    (on this machine)");
    }
    hold(report, settings, FILE_SLOW).await;
}

/// Whether files can be made beside the ledger, as SQLite must.
fn folder(path: &Path) -> Result<(), (&'static str, String)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Err(error) => return Err(("ledger_folder_missing", format!("the folder {}: {error}", folder.display()))),
        Ok(found) if !found.is_dir() => {
            return Err(("ledger_folder_missing", format!("{} is not a folder", folder.display())));
        }
        Ok(_) => {}
    }
    let cannot =
        |why: String| ("ledger_folder_unwritable", format!("no file can be made in {}: {why}", folder.display()));
    let name = random_hex::<8>().map_err(|error| cannot(error.to_string()))?;
    let attempt = folder.join(format!(".loopers-doctor-{name}"));
    OpenOptions::new().write(true).create_new(true).open(&attempt).map_err(|error| cannot(error.to_string()))?;
    std::fs::remove_file(&attempt).map_err(|error| cannot(error.to_string()))
}

fn unusable(report: &mut Report, error: &LedgerError) {
    let text = error.to_string();
    let (code, fix) = if text.contains("newer Loopers") {
        ("ledger_newer", "run the version of Loopers that has written it, or a later one")
    } else if text.contains("damaged") || text.contains("not a ledger") {
        (
            "ledger_damaged",
            "loopers ledger rebuild --from FOLDER    (the one that `state:` names; move the file away first, with its \
             -wal and -shm. Only without journals restore the file from a backup: what was spent since is granted \
             again)",
        )
    } else if text.contains("locked") {
        ("ledger_locked", "stop the other program that has the file open")
    } else {
        ("ledger_unusable", "ledger: file:PATH    (of a file that this user may read and write)")
    };
    report.error(code, "ledger", text, fix);
}

/// A ledger in Redis.
pub async fn redis(report: &mut Report, settings: &Settings, url: &str) {
    let mut options = RedisOptions::new(url);
    options.timeout = Duration::from_millis(settings.limits.ledger_ms);
    let mut found = report.beside();
    redis::examine(&mut found, settings, &options).await;
    let is_safe = !found.has_errors();
    report.extend(found);
    if is_safe {
        hold(report, settings, options.timeout / 2).await;
    }
}

/// One real hold and release, and the keys.
async fn hold(report: &mut Report, settings: &Settings, slow: Duration) {
    let ledger = match gateway::open_ledger(settings, Role::Visitor).await {
        Ok(ledger) => ledger,
        Err(error) => return unusable(report, &error),
    };
    match ledger.books().await {
        Ok(books) => {
            if let Some(reason) = books.lost {
                let message = format!("its books are lost, and every call is refused: {reason}");
                let fix =
                    "loopers ledger rebuild --from FILES    (or `loopers ledger accept`; docs/LEDGER.md, Lost books)";
                return report.error("ledger_lost", "ledger", message, fix);
            }
        }
        Err(error) => return unusable(report, &error),
    }
    let mut times = Vec::new();
    for _ in 0..HOLDS {
        let started = Instant::now();
        if let Err(error) = ledger.probe().await {
            let message = format!("a hold could not be taken and released: {error}");
            report.error(
                "hold_failed",
                "ledger",
                message,
                "the message says what the ledger lacks; without it no call is let through",
            );
            return;
        }
        times.push(started.elapsed());
    }
    times.sort();
    let middle = times.get(HOLDS / 2).copied().unwrap_or_default();
    if middle > slow {
        let message = format!("a hold and its release take {} ms: every call waits that long", middle.as_millis());
        report.warning("ledger_slow", "ledger", message, "ledger: on a local disk, or a Redis in the same zone");
    } else {
        let micros = middle.as_micros();
        report.ok(
            "hold",
            format!(
                "ledger {}: a real hold and release took {}.{} ms",
                settings.ledger,
                micros / 1000,
                micros % 1000 / 100
            ),
        );
    }
    match ledger.nodes().await {
        Ok(nodes) => keys::examine(report, settings, &nodes),
        Err(error) => unusable(report, &error),
    }
}

//! What this machine allows.

use super::report::Report;
use crate::config::Settings;

/// Files that a gateway needs beside those of its calls: listeners, ledger, log, idle connections.
const FILES_BESIDE: u64 = 256;
/// Files of one call: the client's connection and the provider's.
const FILES_A_CALL: u64 = 2;

/// Looks at the limit of open files.
pub fn examine(report: &mut Report, settings: &Settings) {
    let Some(limit) = open_files() else { return };
    let in_flight = settings.limits.in_flight;
    let needed = in_flight * FILES_A_CALL + FILES_BESIDE;
    if limit >= needed {
        report.ok("file_limit", format!("{limit} open files allowed, {needed} needed for {in_flight} calls at once"));
        return;
    }
    let calls = limit.saturating_sub(FILES_BESIDE) / FILES_A_CALL;
    let message = format!(
        "{limit} open files are allowed, {in_flight} calls at once need {needed}: connections fail from about {calls} calls on"
    );
    let fix = format!(
        "ulimit -n {needed}    (systemd: LimitNOFILE={needed}; compose: ulimits: {{ nofile: {needed} }})\nlimits: {{ in_flight: {} }}    (or expect less)",
        calls.max(1)
    );
    report.warning("file_limit_low", "limits.in_flight", message, fix);
}

/// The limit of open files of this process; `None` where it cannot be learned, or there is none.
fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

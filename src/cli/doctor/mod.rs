//! `loopers doctor`: looks at everything that a gateway with this config would stand on, and says what to change.
//!
//! It finds, and changes nothing, with one exception: where there is no ledger file yet it makes an empty one, to try a real
//! hold on it. An error is what keeps the gateway from starting, makes calls fail or makes the cap unsafe.

mod keys;
mod ledger;
mod ports;
mod prices;
mod providers;
mod redis;
mod report;
mod setup;
mod system;
mod tls;

use std::path::Path;
use std::process::ExitCode;

use super::output::Failure;
use crate::config::{LedgerUrl, Settings};

pub use ports::local_url;
use report::Report;

/// Checks everything and reports. Exit code 1 when there is an error, 0 when there are only warnings.
pub fn run(config: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let (mut report, settings) = setup::examine(config);
    if let Some(settings) = settings {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(all(&mut report, &settings));
    }
    report.print(json)?;
    Ok(if report.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn all(report: &mut Report, settings: &Settings) {
    prices::examine(report, settings);
    system::examine(report, settings);
    tls::examine(report, settings);
    let others = providers::examine(report.beside(), settings);
    let ours = async {
        let mut report = report.beside();
        let running = ports::examine(&mut report, settings).await;
        match &settings.ledger {
            LedgerUrl::File(path) => ledger::file(&mut report, settings, path, running).await,
            LedgerUrl::Redis(url) => ledger::redis(&mut report, settings, url).await,
            LedgerUrl::Memory => ledger::memory(&mut report),
        }
        report
    };
    let (ours, others) = tokio::join!(ours, others);
    report.extend(ours);
    report.extend(others);
}

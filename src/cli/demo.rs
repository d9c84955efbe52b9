//! `loopers demo`: gateway, ledger in memory and mock provider in one process, and real HTTP calls until the budget is
//! used up. At the end the provider's own invoice judges.

mod client;
mod steps;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::output::{Failure, answer, print};
use crate::money::Money;
use crate::observe;
use world::World;

/// Everything together takes about three seconds; a machine that needs so long has another problem.
const TIME_MOST: Duration = Duration::from_secs(60);

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    ok: u64,
    clamped: u64,
    refused: u64,
    cut: u64,
}

/// The verdict.
#[derive(Serialize)]
struct Report {
    ok: bool,
    invoice_usd: String,
    charged_usd: String,
    limit_usd: String,
    calls_ok: u64,
    calls_clamped: u64,
    calls_refused: u64,
    streams_cut: u64,
}

/// Runs the demo. Success only when invoice ≤ charged ≤ limit, and every kind of ending was seen.
pub fn run(json: bool) -> Result<ExitCode, Failure> {
    observe::log::init_quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime
        .block_on(async { tokio::time::timeout(TIME_MOST, story(json)).await.context("the demo took too long")? })?;
    answer(json, &report, verdict)?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(report: &Report) -> String {
    let holds = if report.ok { "the cap held: invoice <= charged <= limit" } else { "THE CAP DID NOT HOLD" };
    let Report { calls_ok, calls_clamped, calls_refused, streams_cut, .. } = report;
    format!(
        "\n{calls_ok} calls answered in full, {calls_clamped} clamped, {calls_refused} refused, {streams_cut} cut\n\n\
         provider invoice  ${}\ncharged           ${}\nlimit             ${}\n{holds}",
        report.invoice_usd, report.charged_usd, report.limit_usd
    )
}

async fn story(json: bool) -> anyhow::Result<Report> {
    let tell = |line: &str| {
        if !json {
            print(line);
        }
    };
    let world = World::start().await?;
    let counts = steps::all(&world, &tell).await?;
    world.at_rest().await?;
    let invoice = world.invoice();
    let charged = world.books().await?.charged_total;
    let limit = world.limit();
    world.stop().await;
    Ok(judge(counts, invoice, charged, limit))
}

fn judge(counts: Counts, invoice: Money, charged: Money, limit: Money) -> Report {
    let shown = [counts.ok, counts.clamped, counts.refused, counts.cut].iter().all(|count| *count > 0);
    Report {
        ok: shown && !invoice.is_zero() && invoice <= charged && charged <= limit,
        invoice_usd: invoice.to_string(),
        charged_usd: charged.to_string(),
        limit_usd: limit.to_string(),
        calls_ok: counts.ok,
        calls_clamped: counts.clamped,
        calls_refused: counts.refused,
        streams_cut: counts.cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_books_in_order_are_a_success() {
        let all = Counts { ok: 1, clamped: 1, refused: 1, cut: 1 };
        let [one, two, three] = [1, 2, 3].map(Money::from_nano);
        for (counts, invoice, charged, limit, ok) in [
            (all, one, two, three, true),
            (all, two, two, two, true),
            (all, two, one, three, false),
            (all, one, three, two, false),
            (all, Money::ZERO, two, three, false),
            (Counts { cut: 0, ..all }, one, two, three, false),
        ] {
            assert_eq!(judge(counts, invoice, charged, limit).ok, ok, "{counts:?} {invoice} {charged} {limit}");
        }
    }
}

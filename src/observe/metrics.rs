//! Every metric, with its labels and help. Label values come only from the config, the price table and this program.
//!
//! Money is counted in whole nano-dollars and printed as an exact decimal: no float ever adds up money.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result, TextEncoder,
};

use crate::clock::Window;
use crate::ledger::Level;
use crate::money::Money;

/// From 50 microseconds to 2.5 seconds: the gateway's own work, and a ledger that is well or not.
const FAST_SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5,
];
/// From 50 milliseconds to 5 minutes: how long models think before their first word.
const SLOW_SECONDS: &[f64] =
    &[0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0];

const LOG_DROPPED: &str = "Calls whose line in the call log was not written: whoever reads stdout did not keep up.";
const OTLP_EXPORTS: &str = "Requests to the OpenTelemetry collector: delivered, or failed in all their tries.";
const OTLP_DROPPED: &str = "Calls and spans that were not told to the OpenTelemetry collector.";
const OVERHEAD: &str = "Time of a call spent in the gateway; neither the provider nor the client's sending is in it.";
const PRICES_AT: &str = "When the prices in force were read from their source.";

/// `None` only if a name or label below were invalid: metrics then stay silent, and calls go on. A test reads every one.
static METRICS: LazyLock<Option<Metrics>> = LazyLock::new(|| Metrics::new().ok());

fn with(record: impl FnOnce(&Metrics)) {
    if let Some(metrics) = &*METRICS {
        record(metrics);
    }
}

struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    cuts: IntCounterVec,
    tokens: IntCounterVec,
    odd_usage: IntCounterVec,
    reloads: IntCounterVec,
    alerts: IntCounterVec,
    alerts_dropped: IntCounterVec,
    log_dropped: IntCounter,
    otlp: IntCounterVec,
    otlp_dropped: IntCounterVec,
    budget_used: GaugeVec,
    prices_at: IntGauge,
    disconnects: IntCounterVec,
    overhead: Histogram,
    ledger: HistogramVec,
    ttft: HistogramVec,
    open_holds: IntGauge,
    unsettled: IntGauge,
    streams: IntGauge,
    ledger_up: IntGauge,
    charged: ChargedByModel,
    refunded: AtomicU64,
    overrun: AtomicU64,
    held: AtomicI64,
}

impl Metrics {
    fn new() -> Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let build = IntGaugeVec::new(Opts::new("loopers_build_info", "1, with the running version."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registered(r, build)?;
        let overhead = HistogramOpts::new("loopers_overhead_seconds", OVERHEAD).buckets(FAST_SECONDS.to_vec());
        Ok(Metrics {
            requests: counter(r, "requests_total", "Calls that ended.", &["provider", "route", "outcome"])?,
            refusals: counter(r, "refusals_total", "Calls refused by the gateway, by error code.", &["code"])?,
            cuts: counter(r, "cuts_total", "Streams cut by the gateway.", &["reason"])?,
            tokens: counter(r, "tokens_total", "Tokens billed.", &["provider", "model", "direction"])?,
            alerts: counter(
                r,
                "alerts_total",
                "Alerts sent, by receiver: delivered or failed.",
                &["webhook", "result"],
            )?,
            alerts_dropped: counter(r, "alerts_dropped_total", "Alerts that did not fit a queue.", &["queue"])?,
            log_dropped: registered(r, IntCounter::new("loopers_log_dropped_total", LOG_DROPPED)?)?,
            otlp: counter(r, "otlp_exports_total", OTLP_EXPORTS, &["signal", "result"])?,
            otlp_dropped: counter(r, "otlp_dropped_total", OTLP_DROPPED, &["what"])?,
            budget_used: registered(r, budget_used_gauge()?)?,
            prices_at: registered(r, IntGauge::new("loopers_price_table_timestamp_seconds", PRICES_AT)?)?,
            reloads: counter(r, "config_reloads_total", "Reloads of the config: taken or refused.", &["result"])?,
            odd_usage: counter(r, "odd_usage_total", "Answers whose usage report made no sense.", &["provider"])?,
            disconnects: counter(r, "client_disconnects_total", "Clients that left in mid-call.", &["provider"])?,
            overhead: registered(r, Histogram::with_opts(overhead)?)?,
            ledger: histogram(r, "ledger_seconds", "Time of one ledger operation.", "op", FAST_SECONDS)?,
            ttft: histogram(r, "ttft_seconds", "Time to the first byte of an answer.", "provider", SLOW_SECONDS)?,
            open_holds: gauge(r, "open_holds", "Holds of calls that run in this gateway.")?,
            unsettled: gauge(r, "unsettled_holds", "Ended calls whose charge the ledger has not taken yet.")?,
            streams: gauge(r, "streams_open", "Streams that run.")?,
            ledger_up: gauge(r, "ledger_up", "1 when the ledger takes holds.")?,
            charged: ChargedByModel::default(),
            refunded: AtomicU64::new(0),
            overrun: AtomicU64::new(0),
            held: AtomicI64::new(0),
            registry,
        })
    }
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn budget_used_gauge() -> Result<GaugeVec> {
    let help = "The most that is used of any budget of that level in its current window; 1 is the limit.";
    GaugeVec::new(Opts::new("loopers_budget_used_ratio_max", help), &["level", "window"])
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(format!("loopers_{name}"), help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    registered(registry, IntGauge::with_opts(Opts::new(format!("loopers_{name}"), help))?)
}

fn histogram(registry: &Registry, name: &str, help: &str, label: &str, buckets: &[f64]) -> Result<HistogramVec> {
    let options = HistogramOpts::new(format!("loopers_{name}"), help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(options, &[label])?)
}

/// Nano-dollars by provider and model.
#[derive(Default)]
struct ChargedByModel(RwLock<BTreeMap<String, BTreeMap<String, Arc<AtomicU64>>>>);

impl ChargedByModel {
    fn add(&self, provider: &str, model: &str, amount: Money) {
        let known = {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            all.get(provider).and_then(|models| models.get(model)).cloned()
        };
        let counter = known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.entry(provider.to_string()).or_default().entry(model.to_string()).or_default().clone()
        });
        counter.fetch_add(amount.nano(), Relaxed);
    }

    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "# HELP loopers_charged_usd_total Money charged, in USD.");
        let _ = writeln!(out, "# TYPE loopers_charged_usd_total counter");
        for (provider, models) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            for (model, nano) in models {
                let (provider, model) = (escaped(provider), escaped(model));
                let amount = Money::from_nano(nano.load(Relaxed));
                let _ =
                    writeln!(out, "loopers_charged_usd_total{{provider=\"{provider}\",model=\"{model}\"}} {amount}");
            }
        }
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A call was answered.
pub fn request(provider: &str, route: &str, outcome: &str) {
    with(|m| {
        m.requests.with_label_values(&[provider, route, outcome]).inc();
    });
}

/// A call was refused with this code.
pub fn refusal(code: &str) {
    with(|m| {
        m.refusals.with_label_values(&[code]).inc();
    });
}

/// A stream was cut.
pub fn cut(reason: &str) {
    with(|m| {
        m.cuts.with_label_values(&[reason]).inc();
    });
}

/// A call was charged.
pub fn charged(provider: &str, model: &str, amount: Money) {
    with(|m| {
        m.charged.add(provider, model, amount);
    });
}

/// The part of a hold that was not needed is free again.
pub fn refunded(amount: Money) {
    with(|m| {
        m.refunded.fetch_add(amount.nano(), Relaxed);
    });
}

/// A provider billed so much more than was held.
pub fn overrun(amount: Money) {
    with(|m| {
        m.overrun.fetch_add(amount.nano(), Relaxed);
    });
}

/// A hold was taken.
pub fn hold_opened(amount: Money) {
    with(|m| {
        m.open_holds.inc();
        m.held.fetch_add(signed(amount), Relaxed);
    });
}

/// A hold that was taken has ended.
pub fn hold_closed(amount: Money) {
    with(|m| {
        m.open_holds.dec();
        m.held.fetch_sub(signed(amount), Relaxed);
    });
}

fn signed(amount: Money) -> i64 {
    i64::try_from(amount.nano()).unwrap_or(i64::MAX)
}

/// So many more (or, below 0, fewer) ended calls wait for the ledger to take their charge.
pub fn unsettled(change: i64) {
    with(|m| m.unsettled.add(change));
}

/// Tokens were billed; `direction` is `input` or `output`.
pub fn tokens(provider: &str, model: &str, direction: &str, count: u64) {
    with(|m| {
        m.tokens.with_label_values(&[provider, model, direction]).inc_by(count);
    });
}

/// A call took so much of the gateway's own time.
pub fn overhead(time: Duration) {
    with(|m| {
        m.overhead.observe(time.as_secs_f64());
    });
}

/// A ledger operation took so long.
pub fn ledger(op: &str, time: Duration) {
    with(|m| {
        m.ledger.with_label_values(&[op]).observe(time.as_secs_f64());
    });
}

/// The first byte of an answer came after so long.
pub fn ttft(provider: &str, time: Duration) {
    with(|m| {
        m.ttft.with_label_values(&[provider]).observe(time.as_secs_f64());
    });
}

/// A stream began.
pub fn stream_opened() {
    with(|m| {
        m.streams.inc();
    });
}

/// A stream ended.
pub fn stream_closed() {
    with(|m| {
        m.streams.dec();
    });
}

/// A client left in mid-call.
pub fn client_disconnect(provider: &str) {
    with(|m| {
        m.disconnects.with_label_values(&[provider]).inc();
    });
}

/// Whether the ledger takes holds.
pub fn ledger_up(up: bool) {
    with(|m| {
        m.ledger_up.set(i64::from(up));
    });
}

/// The config was read again: `taken`, or `refused`.
pub fn config_reload(result: &str) {
    with(|m| m.reloads.with_label_values(&[result]).inc());
}

/// A receiver is there: what becomes of its alerts counts from 0, so that the first failure is seen as a step.
pub fn alerts_go_to(webhook: &str) {
    with(|m| {
        for result in ["delivered", "failed"] {
            m.alerts.with_label_values(&[webhook, result]);
        }
        for queue in ["notes", "queue"] {
            m.alerts_dropped.with_label_values(&[queue]);
        }
    });
}

/// A server starts: its reloads count from 0.
pub fn reloads_begin() {
    with(|m| {
        for result in ["taken", "refused"] {
            m.reloads.with_label_values(&[result]);
        }
    });
}

/// An alert was `delivered` to a receiver, or `failed` in all its tries.
pub fn alert_sent(webhook: &str, result: &str) {
    with(|m| m.alerts.with_label_values(&[webhook, result]).inc());
}

/// An alert did not fit: `notes` between calls and watcher, or the `queue` of a receiver.
pub fn alert_dropped(queue: &str) {
    with(|m| m.alerts_dropped.with_label_values(&[queue]).inc());
}

/// So many calls have no line in the call log.
pub fn log_dropped(calls: u64) {
    with(|m| m.log_dropped.inc_by(calls));
}

/// Telemetry is sent: what becomes of it counts from 0.
pub fn otlp_begins() {
    with(|m| {
        for signal in ["traces", "metrics"] {
            for result in ["delivered", "failed"] {
                m.otlp.with_label_values(&[signal, result]);
            }
        }
        for what in ["calls", "spans"] {
            m.otlp_dropped.with_label_values(&[what]);
        }
    });
}

/// A request with `traces` or `metrics` was `delivered` to the collector, or `failed` in all its tries.
pub fn otlp_export(signal: &str, result: &str) {
    with(|m| m.otlp.with_label_values(&[signal, result]).inc());
}

/// So many `calls` or `spans` are not told to the collector.
pub fn otlp_dropped(what: &str, count: u64) {
    with(|m| m.otlp_dropped.with_label_values(&[what]).inc_by(count));
}

/// What is held, open and owed right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Money held by calls of this gateway.
    pub held: Money,
    /// Money billed beyond what was held, since the start.
    pub overrun: Money,
    /// Holds of calls that run.
    pub open_holds: u64,
    /// Ended calls whose charge the ledger has not taken yet.
    pub unsettled: u64,
    /// Streams that run.
    pub streams: u64,
    /// Whether the ledger takes holds.
    pub ledger_up: bool,
}

/// The same as the gauges say.
pub fn standing() -> Standing {
    let Some(m) = &*METRICS else { return Standing::default() };
    let count = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
    Standing {
        held: Money::from_nano(u64::try_from(m.held.load(Relaxed)).unwrap_or(0)),
        overrun: Money::from_nano(m.overrun.load(Relaxed)),
        open_holds: count(&m.open_holds),
        unsettled: count(&m.unsettled),
        streams: count(&m.streams),
        ledger_up: m.ledger_up.get() == 1,
    }
}

/// The most that is used of any budget, by level and window, in millionths. What is not named is at nothing.
pub fn budget_used(most: &HashMap<(&str, &str), u64>) {
    with(|m| {
        for level in [Level::Key, Level::Team] {
            for window in Window::ALL {
                let used = most.get(&(level.name(), window.name())).copied().unwrap_or(0);
                let ratio = f64::from(u32::try_from(used).unwrap_or(u32::MAX)) / 1e6;
                m.budget_used.with_label_values(&[level.name(), window.name()]).set(ratio);
            }
        }
    });
}

/// When the prices in force were read from their source, as seconds since 1970.
pub fn prices_at(seconds: i64) {
    with(|m| m.prices_at.set(seconds));
}

/// An answer's usage report made no sense.
pub fn odd_usage(provider: &str) {
    with(|m| {
        m.odd_usage.with_label_values(&[provider]).inc();
    });
}

/// All metrics in Prometheus' text format.
pub fn render() -> String {
    let Some(metrics) = &*METRICS else { return String::new() };
    let mut bytes = Vec::with_capacity(8 * 1024);
    if let Err(error) = TextEncoder::new().encode(&metrics.registry.gather(), &mut bytes) {
        log::error!("metrics cannot be shown: {error}");
    }
    let mut out = String::from_utf8_lossy(&bytes).into_owned();
    metrics.charged.write(&mut out);
    for (name, help, amount) in [
        ("refunded_usd_total", "Held money that was not needed, in USD.", &metrics.refunded),
        ("overrun_usd_total", "Money billed beyond what was held, in USD: must stay 0.", &metrics.overrun),
    ] {
        let amount = Money::from_nano(amount.load(Relaxed));
        let _ = write!(out, "# HELP loopers_{name} {help}\n# TYPE loopers_{name} counter\nloopers_{name} {amount}\n");
    }
    let held = Money::from_nano(u64::try_from(metrics.held.load(Relaxed)).unwrap_or(0));
    let help = "# HELP loopers_held_usd Money held by calls of this gateway, in USD.";
    let _ = write!(out, "{help}\n# TYPE loopers_held_usd gauge\nloopers_held_usd {held}\n");
    out
}

#[cfg(test)]
mod tests;

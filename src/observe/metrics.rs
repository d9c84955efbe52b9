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
        let help = "Time spent in the gateway, the provider's time left out.";
        let overhead = HistogramOpts::new("loopers_overhead_seconds", help).buckets(FAST_SECONDS.to_vec());
        Ok(Metrics {
            requests: counter(r, "requests_total", "Calls answered.", &["provider", "route", "outcome"])?,
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
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_contract_is_there_with_its_labels() {
        let cent = Money::from_nano(10_000_000);
        request("openai", "chat_completions", "ok");
        refusal("budget_exceeded");
        cut("hold_reached");
        charged("openai", "gpt-\"4", cent);
        charged("openai", "gpt-\"4", Money::from_nano(1));
        refunded(cent);
        overrun(Money::ZERO);
        hold_opened(cent);
        hold_opened(cent);
        hold_closed(cent);
        unsettled(3);
        tokens("openai", "gpt-4o", "input", 7);
        overhead(Duration::from_micros(70));
        ledger("reserve", Duration::from_micros(300));
        ttft("openai", Duration::from_millis(300));
        stream_opened();
        stream_opened();
        stream_closed();
        client_disconnect("openai");
        ledger_up(true);
        odd_usage("openai");
        config_reload("taken");
        alert_sent("ops", "delivered");
        alert_dropped("queue");
        budget_used(&HashMap::from([(("key", "daily"), 750_000)]));
        prices_at(1_700_000_000);
        let text = render();
        for line in [
            "loopers_requests_total{outcome=\"ok\",provider=\"openai\",route=\"chat_completions\"} 1",
            "loopers_refusals_total{code=\"budget_exceeded\"} 1",
            "loopers_cuts_total{reason=\"hold_reached\"} 1",
            "loopers_charged_usd_total{provider=\"openai\",model=\"gpt-\\\"4\"} 0.010000001",
            "loopers_refunded_usd_total 0.01",
            "loopers_overrun_usd_total 0",
            "loopers_held_usd 0.01",
            "loopers_open_holds 1",
            "loopers_tokens_total{direction=\"input\",model=\"gpt-4o\",provider=\"openai\"} 7",
            "loopers_overhead_seconds_bucket{le=\"0.0001\"} 1",
            "loopers_ledger_seconds_count{op=\"reserve\"} 1",
            "loopers_ttft_seconds_bucket{provider=\"openai\",le=\"0.2\"} 0",
            "loopers_streams_open 1",
            "loopers_client_disconnects_total{provider=\"openai\"} 1",
            "loopers_ledger_up 1",
            "loopers_config_reloads_total{result=\"taken\"} 1",
            "loopers_alerts_total{result=\"delivered\",webhook=\"ops\"} 1",
            "loopers_alerts_dropped_total{queue=\"queue\"} 1",
            "loopers_budget_used_ratio_max{level=\"key\",window=\"daily\"} 0.75",
            "loopers_budget_used_ratio_max{level=\"team\",window=\"daily\"} 0",
            "loopers_price_table_timestamp_seconds 1700000000",
            concat!("loopers_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        // Other tests of this process settle holds too.
        assert!(text.lines().any(|line| line.starts_with("loopers_unsettled_holds ")), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = &line[..line.find(['{', ' ']).unwrap()];
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }
}

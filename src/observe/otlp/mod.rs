//! OpenTelemetry: a trace and metrics of calls, sent by OTLP over HTTP with protobuf bodies to the collector that the config names.
//!
//! Names and units follow the semantic conventions for generative AI; what they have no word for is `loopers.*`. A thread of its own
//! gathers and sends. Queues are bounded: what does not fit, because the collector hangs or is slow, is dropped and counted.

mod meters;
mod names;
mod spans;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::Notify;
use tokio::time::sleep;

use self::meters::Meters;
use super::calls::{CallRecord, Queue};
use super::metrics;
use crate::config::OtlpSettings;
use crate::post::Poster;

/// How often the calls that have ended are looked at.
const GATHER_EVERY: Duration = Duration::from_millis(200);
/// How often spans are sent.
const SPANS_EVERY: Duration = Duration::from_secs(1);
/// Spans of one request.
const SPANS_MAX: usize = 512;
/// How often one request is sent until the collector takes it, and the wait before the second; each one doubles it.
const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How often a flush looks whether all is sent.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Hands calls to the thread that sends.
pub struct Otlp {
    shared: Arc<Shared>,
    sample_percent: u64,
}

struct Shared {
    queue: Queue<Arc<CallRecord>>,
    spans: Mutex<Vec<Span>>,
    /// The process ends: what is there is sent once more, and nothing is tried again.
    closing: AtomicBool,
    closes: Notify,
    finished: AtomicBool,
}

impl Otlp {
    /// Starts the thread.
    pub fn start(settings: &OtlpSettings) -> std::io::Result<Otlp> {
        metrics::otlp_begins();
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue),
            spans: Mutex::default(),
            closing: AtomicBool::new(false),
            closes: Notify::new(),
            finished: AtomicBool::new(false),
        });
        let exporter = Exporter {
            meters: Meters::new(&settings.service_name),
            settings: settings.clone(),
            shared: shared.clone(),
            failing: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(exporter.run());
        thread::Builder::new().name("loopers-otlp".into()).spawn(run)?;
        Ok(Otlp { shared, sample_percent: settings.sample_percent })
    }

    /// Of a hundred traces that the gateway starts, so many are recorded.
    pub fn sample_percent(&self) -> u64 {
        self.sample_percent
    }

    /// Hands a call over, or counts it where there is no room.
    pub fn take(&self, record: Arc<CallRecord>) {
        if !self.shared.queue.push(record) {
            metrics::otlp_dropped("calls", 1);
        }
    }

    /// Sends what is there, at most until `deadline`; nothing is sent afterwards.
    pub async fn flush(&self, deadline: Instant) {
        self.shared.queue.flush(deadline).await;
        self.shared.closing.store(true, Ordering::Release);
        self.shared.closes.notify_one();
        while !self.shared.finished.load(Ordering::Acquire) {
            if Instant::now() >= deadline {
                return log::warn!("not all telemetry could be sent");
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Shared {
    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// What the thread does.
struct Exporter {
    settings: OtlpSettings,
    shared: Arc<Shared>,
    meters: Meters,
    /// The last request was not taken.
    failing: bool,
}

impl Exporter {
    async fn run(self) {
        let shared = self.shared.clone();
        let (meters, settings) = (self.meters.clone(), self.settings.clone());
        tokio::select! {
            () = gather(&shared, &meters, &settings) => {}
            () = self.export() => shared.finished.store(true, Ordering::Release),
        }
    }

    /// Sends for ever, or until the process ends.
    async fn export(mut self) {
        let poster = Poster::default();
        let mut metrics_at = Instant::now() + self.settings.metrics_every;
        loop {
            let closing = self.shared.is_closing();
            while let Some(spans) = self.next_spans() {
                let count = spans.len() as u64;
                if !self.send(&poster, "traces", spans::request(spans, &self.settings.service_name)).await {
                    metrics::otlp_dropped("spans", count);
                }
            }
            if self.settings.metrics && (closing || Instant::now() >= metrics_at) {
                metrics_at = Instant::now() + self.settings.metrics_every;
                if let Some(request) = self.meters.request() {
                    self.send(&poster, "metrics", request).await;
                }
            }
            if closing {
                return;
            }
            tokio::select! {
                () = sleep(SPANS_EVERY) => {}
                () = self.shared.closes.notified() => {}
            }
        }
    }

    fn next_spans(&self) -> Option<Vec<Span>> {
        let mut spans = self.shared.spans();
        let count = spans.len().min(SPANS_MAX);
        (count > 0).then(|| spans.drain(..count).collect())
    }

    /// Sends one request. What a collector may take later is tried again.
    async fn send(&mut self, poster: &Poster, signal: &str, request: Vec<u8>) -> bool {
        let (body, path) = (Bytes::from(request), format!("/v1/{signal}"));
        let mut headers = vec![("content-type".to_string(), "application/x-protobuf".to_string())];
        headers.extend(self.settings.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_string())));
        let mut wait = FIRST_WAIT;
        for attempt in 1..=TRIES {
            let answer =
                poster.post(&self.settings.endpoint, &path, &headers, body.clone(), self.settings.timeout).await;
            let (again, why) = match answer {
                Ok(200..300) => {
                    metrics::otlp_export(signal, "delivered");
                    self.failing = false;
                    return true;
                }
                Ok(status) => (matches!(status, 429 | 502 | 503 | 504), format!("status {status}")),
                Err(why) => (true, why),
            };
            if !again || attempt == TRIES || self.shared.is_closing() {
                // A collector that is down is one line, not one a second.
                if !std::mem::replace(&mut self.failing, true) {
                    log::warn!("OTLP: the collector does not take {signal}: {why}");
                }
                break;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shared.closes.notified() => {}
            }
            wait *= 2;
        }
        metrics::otlp_export(signal, "failed");
        false
    }
}

/// Turns calls that have ended into measurements and spans, whether or not the collector answers.
async fn gather(shared: &Shared, meters: &Meters, settings: &OtlpSettings) {
    let mut batch = Vec::new();
    loop {
        shared.queue.take(&mut batch);
        let mut dropped = 0;
        for record in &batch {
            if settings.metrics {
                meters.record(record);
            }
            if settings.traces && record.trace.is_some_and(|trace| trace.sampled) {
                let mut spans = shared.spans();
                if spans.len() < settings.queue {
                    spans::of_call(record, &mut spans);
                } else {
                    dropped += 1;
                }
            }
        }
        if dropped > 0 {
            metrics::otlp_dropped("spans", dropped);
        }
        shared.queue.done(batch.len());
        sleep(GATHER_EVERY).await;
    }
}

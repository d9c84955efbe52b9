//! The metrics of calls, aggregated by OpenTelemetry's own library.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use prost::Message as _;

use super::names;
use crate::observe::calls::CallRecord;
use crate::observe::metrics;

/// The buckets that the conventions name.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const DURATION_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKEN_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The gateway's own work.
const OVERHEAD_SECONDS: &[f64] = &[0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0];

/// The library collects at an interval of its own; this one is never over, for collections are asked for.
const NEVER: Duration = Duration::from_secs(3600 * 24 * 365);

/// All instruments, and what reads them.
#[derive(Clone)]
pub struct Meters {
    outbox: Outbox,
    provider: SdkMeterProvider,
    duration: Histogram<f64>,
    first_token: Histogram<f64>,
    tokens: Histogram<u64>,
    overhead: Histogram<f64>,
    calls: Counter<u64>,
    charged: Counter<u64>,
}

impl Meters {
    /// Instruments that start at nothing.
    pub fn new(service_name: &str) -> Meters {
        let outbox = Outbox::default();
        let reader = PeriodicReader::builder(outbox.clone()).with_interval(NEVER).build();
        let resource = Resource::builder_empty()
            .with_service_name(service_name.to_string())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        let meter = provider.meter("loopers");
        let seconds = |name: &'static str, bounds: &[f64], what: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_boundaries(bounds.to_vec()).with_description(what).build()
        };
        standing(&meter);
        Meters {
            duration: seconds("gen_ai.client.operation.duration", DURATION_SECONDS, "Time of one call to a provider."),
            first_token: seconds(
                "gen_ai.server.time_to_first_token",
                FIRST_TOKEN_SECONDS,
                "Time to the first byte of a provider's answer.",
            ),
            overhead: seconds("loopers.overhead", OVERHEAD_SECONDS, "Time of a call that was spent in the gateway."),
            tokens: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_unit("{token}")
                .with_boundaries(TOKENS.to_vec())
                .with_description("Tokens of one call, as the provider bills them.")
                .build(),
            calls: meter.u64_counter("loopers.calls").with_unit("{call}").with_description("Calls that ended.").build(),
            charged: meter
                .u64_counter("loopers.charged")
                .with_unit("{nano_usd}")
                .with_description("Money charged, in whole nano-dollars.")
                .build(),
            outbox,
            provider,
        }
    }

    /// Counts a call. Labels come from the config, the price table and this program only.
    pub fn record(&self, record: &CallRecord) {
        let label = |key: &'static str, value: &str| KeyValue::new(key, value.to_string());
        let provider = if record.provider.is_empty() { "none" } else { &record.provider };
        let model = record.model.as_deref().unwrap_or("none");
        self.overhead.record(record.times.overhead.as_secs_f64(), &[]);
        self.calls.add(
            1,
            &[
                label("loopers.provider", provider),
                label("loopers.route", record.route.unwrap_or("none")),
                label("loopers.ending", record.ending),
            ],
        );
        if let Some(cost) = record.cost() {
            self.charged.add(cost.nano(), &[label("loopers.provider", provider), label("loopers.model", model)]);
        }
        let (Some(took), Some(operation)) = (record.times.provider, record.route.and_then(names::operation)) else {
            return;
        };
        let mut labels = vec![
            label("gen_ai.operation.name", operation),
            label("gen_ai.provider.name", names::provider(record)),
            label("gen_ai.request.model", model),
        ];
        if let Some((host, port)) = &record.server {
            labels.push(label("server.address", host));
            labels.push(KeyValue::new("server.port", i64::from(*port)));
        }
        if let Some(first) = record.times.first_byte {
            self.first_token.record(first.as_secs_f64(), &labels);
        }
        if let Some(usage) = &record.usage {
            for (kind, count) in [("input", usage.total_input()), ("output", usage.total_output())] {
                labels.push(label("gen_ai.token.type", kind));
                self.tokens.record(count, &labels);
                labels.pop();
            }
        }
        labels.extend(names::error(record).map(|error| label("error.type", &error)));
        self.duration.record(took.as_secs_f64(), &labels);
    }

    /// An export request of everything counted so far, encoded.
    pub fn request(&self) -> Option<Vec<u8>> {
        if let Err(error) = self.provider.force_flush() {
            log::warn!("OTLP: metrics cannot be collected: {error}");
        }
        self.outbox.lock().take()
    }
}

/// What is held and open right now, read when it is asked for.
fn standing(meter: &Meter) {
    let gauge = |name: &'static str, unit: &'static str, read: fn(metrics::Standing) -> u64| {
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_callback(move |to| to.observe(read(metrics::standing()), &[]))
            .build();
    };
    gauge("loopers.held", "{nano_usd}", |now| now.held.nano());
    gauge("loopers.holds.open", "{hold}", |now| now.open_holds);
    gauge("loopers.holds.unsettled", "{hold}", |now| now.unsettled);
    gauge("loopers.streams.open", "{stream}", |now| now.streams);
    gauge("loopers.ledger.up", "1", |now| u64::from(now.ledger_up));
    meter
        .u64_observable_counter("loopers.overrun")
        .with_unit("{nano_usd}")
        .with_description("Money billed beyond what was held, in whole nano-dollars: must stay 0.")
        .with_callback(|to| to.observe(metrics::standing().overrun.nano(), &[]))
        .build();
}

/// Takes each collection as an encoded request. Collections are made only when one is asked for.
#[derive(Clone, Debug, Default)]
struct Outbox(Arc<Mutex<Option<Vec<u8>>>>);

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PushMetricExporter for Outbox {
    async fn export(&self, found: &ResourceMetrics) -> OTelSdkResult {
        *self.lock() = Some(ExportMetricsServiceRequest::from(found).encode_to_vec());
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

//! What a running gateway tells its operator: metrics, log lines, and what became of each call, also by OpenTelemetry.

pub mod calls;
pub mod log;
pub mod metrics;
pub mod otlp;

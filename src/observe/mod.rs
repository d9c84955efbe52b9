//! What a running gateway tells its operator: metrics and log lines.

pub mod log;
pub mod metrics;

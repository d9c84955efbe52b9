//! What a running gateway tells its operator: metrics, log lines, and what became of each call.

pub mod calls;
pub mod log;
pub mod metrics;

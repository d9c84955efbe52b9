//! Strict JSON and server-sent events, over bytes in any split.

pub mod json;
pub mod sse;

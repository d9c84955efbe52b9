//! Strict JSON and server-sent events. Stub.

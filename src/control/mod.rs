//! Operations on keys, teams, budgets and holds, and the admin listener.
//!
//! Command line, HTTP API and dashboard are skins over [`ops`]: what exists in one exists in all.

pub mod http;
pub mod ops;

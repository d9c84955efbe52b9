//! The gateway from outside: real processes on 127.0.0.1, the mock provider's invoice as the judge.
//!
//! Tests are named after the lines of the attack list that they close (`a01_…`, `b15_…`, `c28_…`); the others say what
//! part of the promise they hold. `WORLD_LEDGER=file` runs everything that does not ask for an engine over `file:`,
//! `RACE_REPEATS` and `MIXED_CALLS` set how long the two big ones go on.

// Other test crates use parts of it that this one does not.
#[allow(dead_code)]
mod support;

mod admission;
mod alerts;
mod answers;
mod bedrock;
mod bodies;
mod bound;
mod bound_json;
mod budgets;
mod compatible;
mod count;
mod crashes;
mod crowds;
mod denied;
mod departures;
mod endpoints;
mod faults;
mod framing;
mod hangups;
mod http2;
mod intruders;
mod key_sources;
mod kills;
mod mixed;
mod owed;
mod parameters;
mod prices;
mod race;
mod refusals;
mod reload;
mod routes;
mod sessions;
mod shutdown;
mod six_providers;
mod smuggling;
mod streams;
mod trust;
mod upstream;
mod usage;

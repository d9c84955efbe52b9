//! Loopers: a reverse proxy in front of LLM providers that enforces a hard dollar cap.
//!
//! The modules, in the order in which they depend on each other:
//!
//! * [`money`]: nano-dollars and exact rates; nothing else in the crate does money arithmetic.
//! * [`clock`]: wall time and the five calendar windows.
//! * [`secret`]: proxy keys, their hashes, and values that never print themselves.
//! * [`wire`]: strict JSON and server-sent events, bytes in any split.
//! * [`pricing`]: the price table, token usage, what a call costs and the most it can cost.
//! * [`provider`]: what differs between provider APIs, one file each.
//! * [`ledger`]: budgets, holds and settlements over Redis, a file or memory.
//! * [`journal`]: every hold and settlement in files that only grow, and the books that they make.
//! * [`config`]: `loopers.yaml` as typed by a person, and as used by the program.
//! * [`post`]: one bounded POST to a host of the config.
//! * [`observe`]: metrics, the one log line per call, and OpenTelemetry.
//! * [`alerts`]: tells a person of budgets that fill up, of cuts and of a ledger that is gone.
//! * [`gateway`]: the proxy itself: authenticate, bound, hold, forward, meter, settle.
//! * [`control`]: operations on keys, teams, budgets and holds, and the admin listener.
//! * [`mock`]: a mock provider that keeps its own invoice.
//! * [`cli`]: the command line.

#[macro_use]
pub mod failpoint;

pub mod alerts;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod gateway;
pub mod journal;
pub mod ledger;
pub mod mock;
pub mod money;
pub mod observe;
pub mod post;
pub mod pricing;
pub mod provider;
pub mod secret;
pub mod wire;

//! The ledger, judged from outside: `docs/LEDGER.md` says what must happen, these tests say whether it does.
//!
//! * `suite_*`: one behaviour a test, each over all four engines: `memory`, `file`, `redis` and `redis_cluster`.
//! * `random`: 100,000 random operations an engine, every answer judged by the independent books in `model`.
//!   `LEDGER_SEED=…` repeats a run, `LEDGER_OPS=…` sets its length.
//! * `mutants`: engines that are wrong on purpose; the model must catch each.
//!
//! Redis servers are this test's own, on free ports; `redis-server` must be installed. Nothing here knows how an engine
//! works inside.

/// Stamps behaviours over the engines: `async fn name(lab: Lab) -> Result<()>` becomes four tests `name::<engine>`.
macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use crate::engines::Engine;

            #[test]
            fn memory() {
                crate::lab::behaviour(stringify!($name), Engine::Memory, super::$name);
            }

            #[test]
            fn file() {
                crate::lab::behaviour(stringify!($name), Engine::File, super::$name);
            }

            #[test]
            fn redis() {
                crate::lab::behaviour(stringify!($name), Engine::Redis, super::$name);
            }

            #[test]
            fn redis_cluster() {
                crate::lab::behaviour(stringify!($name), Engine::RedisCluster, super::$name);
            }
        }
    )+ };
}

/// Stamps scripts (see `script`) over the engines in the same way.
macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)+) => { $(
        $(#[$doc])*
        async fn $name(lab: crate::lab::Lab) -> anyhow::Result<()> {
            crate::script::play(lab, $text).await
        }
        behaviours!($name);
    )+ };
}

mod crowd;
mod engines;
mod lab;
mod model;
mod mutants;
mod random;
mod random_ops;
mod random_run;
mod random_time;
mod redis_server;
mod rng;
mod script;
mod show;
mod suite_edits;
mod suite_order;
mod suite_races;
mod suite_records;
mod suite_reserve;
mod suite_sessions;
mod suite_settle;
mod suite_together;
mod suite_windows;

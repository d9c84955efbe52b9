//! The log: one line an event on stderr. Nothing that is logged may hold a key, a prompt or an answer.

use std::io::Write;

use env_logger::{Builder, Env};
use log::LevelFilter;

use crate::clock::{Clock, rfc3339};

/// The variable that sets what is logged: `error`, `warn`, `info` (the default), `debug`, or per module.
pub const VARIABLE: &str = "LOOPERS_LOG";

/// Libraries that are never heard, whatever `LOOPERS_LOG` says: they log whole heads and frames of requests, and keys travel in heads.
const UNSAID: [&str; 7] = ["pingora", "rustls", "h2", "hyper", "redis", "aws_sigv4", "tokio_util"];

/// Sets up the log of this process. A second call changes nothing.
pub fn init() {
    init_from("info");
}

/// The same for short commands: only warnings and errors, unless `LOOPERS_LOG` says otherwise.
pub fn init_quiet() {
    init_from("warn");
}

fn init_from(default: &str) {
    let mut builder = Builder::from_env(Env::new().filter_or(VARIABLE, default));
    for library in UNSAID {
        builder.filter_module(library, LevelFilter::Off);
    }
    builder.format(|out, record| {
        // A longer path in `LOOPERS_LOG` would win over the filter.
        if UNSAID.iter().any(|library| record.target().starts_with(library)) {
            return Ok(());
        }
        let now = rfc3339(Clock::System.now());
        writeln!(out, "{now} {:5} {}", record.level(), record.args())
    });
    // A logger that is there already stays: tests set it up more than once.
    let _ = builder.try_init();
}

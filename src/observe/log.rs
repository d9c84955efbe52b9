//! The log: one line an event on stderr. Nothing that is logged may hold a key, a prompt or an answer.

use std::io::Write;

use env_logger::{Builder, Env};
use log::LevelFilter;

use crate::clock::{Clock, rfc3339};

/// The variable that sets what is logged: `error`, `warn`, `info` (the default), `debug`, or per module.
pub const VARIABLE: &str = "LOOPERS_LOG";

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
    if std::env::var_os(VARIABLE).is_none() {
        // The proxy framework logs whole request heads on some errors, and keys travel in heads.
        for module in ["pingora_core", "pingora_proxy", "pingora", "pingora_http", "rustls", "h2"] {
            builder.filter_module(module, LevelFilter::Off);
        }
    }
    builder.format(|out, record| {
        let now = rfc3339(Clock::System.now());
        writeln!(out, "{now} {:5} {}", record.level(), record.args())
    });
    // A logger that is there already stays: tests set it up more than once.
    let _ = builder.try_init();
}

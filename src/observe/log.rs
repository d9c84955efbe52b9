//! The log: one line an event on stderr, as text or JSON. Nothing that is logged may hold a key, a prompt or an answer.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use env_logger::{Builder, Env};
use log::LevelFilter;
use serde_json::json;

use crate::clock::{Clock, rfc3339};
use crate::config::LogFormat;

/// The variable that sets what is logged: `error`, `warn`, `info` (the default), `debug`, or per module.
pub const VARIABLE: &str = "LOOPERS_LOG";

/// Libraries that are never heard, whatever `LOOPERS_LOG` says: they log whole heads and frames of requests, and keys travel in heads.
const UNSAID: [&str; 7] = ["pingora", "rustls", "h2", "hyper", "redis", "aws_sigv4", "tokio_util"];
/// Whether lines are JSON: known only when the config has been read.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets the shape of all further lines.
pub fn set_format(format: LogFormat) {
    AS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// The fields of a call's line that every line has, and the text. Quotes and line breaks are escaped: an event is one line.
fn json_line(now: &str, record: &log::Record<'_>) -> serde_json::Value {
    json!({
        "time": now,
        "type": "event",
        "level": record.level().as_str().to_ascii_lowercase(),
        "message": record.args().to_string(),
    })
}

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
        if AS_JSON.load(Ordering::Relaxed) {
            return writeln!(out, "{}", json_line(&now, record));
        }
        writeln!(out, "{now} {:5} {}", record.level(), record.args())
    });
    // A logger that is there already stays: tests set it up more than once.
    let _ = builder.try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_as_json_is_one_line_whatever_it_says() {
        let args = format_args!("a \"quoted\"\ntext");
        let record = log::Record::builder().level(log::Level::Warn).args(args).build();
        let line = json_line("2026-11-23T18:00:00Z", &record).to_string();
        assert!(!line.contains('\n'), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = json!({
            "time": "2026-11-23T18:00:00Z", "type": "event", "level": "warn", "message": "a \"quoted\"\ntext",
        });
        assert_eq!(read, expected);
    }
}

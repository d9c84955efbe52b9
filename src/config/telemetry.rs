//! The section `log:`: what a gateway writes of itself and of its calls.

use super::file::Section;
use super::settings::{LogFormat, LogSettings};

pub(super) fn log(mut section: Section<'_>) -> LogSettings {
    let calls = section.flag("calls", true);
    let format = section.parsed("format", LogFormat::Text, |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json"),
    });
    let queue = section.number("queue", 65_536, 100..=10_000_000);
    section.close();
    LogSettings { calls, format, queue: usize::try_from(queue).unwrap_or(usize::MAX) }
}

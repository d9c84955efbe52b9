//! The section `alerts:`: who is told of budgets that fill up, of cuts and of a ledger that is gone.

use std::time::Duration;

use super::fault::Fault;
use super::file::Section;
use super::settings::{AlertFormat, AlertSettings, WebhookSettings};
use super::values::{self, World};

/// What says when and how webhooks are called.
const RULES: [&str; 4] = ["thresholds", "queue", "tries", "timeout_seconds"];
/// Per cent of a limit.
const THRESHOLDS: [u64; 3] = [50, 80, 100];

pub(super) fn read(mut section: Section<'_>, world: &World<'_>) -> AlertSettings {
    let mut named = section.section("webhooks");
    let nobody = named.names().is_empty();
    let webhooks = named.names().into_iter().filter_map(|name| webhook(&name, named.section(&name), world)).collect();
    named.close();
    if nobody {
        for rule in section.names().into_iter().filter(|name| RULES.contains(&name.as_str())) {
            section.problem(&rule, "can never have an effect: there is no webhook that would be told");
        }
    }
    let thresholds = section.numbers("thresholds", &THRESHOLDS, 1..=1000);
    if (1..thresholds.len()).any(|at| thresholds[..at].contains(&thresholds[at])) {
        section.problem("thresholds", "names one twice: the second can never be reached first");
    }
    let queue = section.number("queue", 1000, 1..=100_000);
    let tries = section.number("tries", 8, 1..=100);
    let timeout = Duration::from_secs(section.number("timeout_seconds", 10, 1..=120));
    section.close();
    AlertSettings { webhooks, thresholds, queue: usize::try_from(queue).unwrap_or(usize::MAX), tries, timeout }
}

fn webhook(name: &str, mut section: Section<'_>, world: &World<'_>) -> Option<WebhookSettings> {
    let format = section.parsed("format", AlertFormat::Json, |text| match text {
        "json" => Ok(AlertFormat::Json),
        "slack" => Ok(AlertFormat::Slack),
        _ => Err("must be json or slack"),
    });
    let secret = super::build::secret(&mut section, "secret", world, |found| {
        (found.expose().len() < super::build::TOKEN_CHARS_LEAST).then(|| "is short and may be guessed".into())
    });
    // Whoever knows the address of a Slack webhook can post there, so it may be kept where secrets are.
    let url = section.text("url");
    if url.is_none() {
        section.problem("url", "is missing: it says where alerts are sent");
    }
    section.close();
    let entry = url?;
    let text = if entry.value.starts_with("env:") || entry.value.starts_with("file:") {
        world.secret(&entry.value).map(|found| found.map(|secret| secret.expose().to_string()))
    } else {
        Ok(Some(entry.value.clone()))
    };
    match text.and_then(|text| text.map(|text| values::base_url(&text).map_err(Fault::from)).transpose()) {
        Ok(url) => url.map(|url| WebhookSettings { name: name.into(), url, format, secret }),
        Err(problem) => {
            entry.problem(problem);
            None
        }
    }
}

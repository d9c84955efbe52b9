//! The sections `log:` and `otlp:`: what a gateway tells of itself and of its calls, and where.

use std::time::Duration;

use super::fault::{self, Fault};
use super::file::Section;
use super::settings::{LogFormat, LogSettings, OtlpSettings};
use super::values::{self, World};
use crate::secret::Secret;

/// The longest name of a header.
const HEADER_CHARS_MAX: usize = 64;

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

pub(super) fn otlp(mut section: Section<'_>, world: &World<'_>) -> Option<OtlpSettings> {
    let endpoint = section.text("endpoint");
    if endpoint.is_none() {
        section.problem("endpoint", "is missing: it says where the collector is, e.g. http://localhost:4318");
    }
    let endpoint = endpoint.and_then(|entry| {
        values::base_url(&entry.value)
            .map_err(|problem| entry.problem(Fault::new(fault::INVALID_BASE_URL, problem)))
            .ok()
    });
    let headers = headers(&mut section, world);
    let service_name = section.parsed("service_name", String::from("loopers"), |text| {
        let plain = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        plain.then(|| text.to_string()).ok_or("must be 1 to 64 letters, digits and signs without a blank")
    });
    let traces = section.flag("traces", true);
    let metrics = section.flag("metrics", true);
    let sample_percent = section.number("sample_percent", 100, 0..=100);
    let metrics_every = Duration::from_secs(section.number("metrics_seconds", 10, 1..=3600));
    let queue = section.number("queue", 16_384, 100..=1_000_000);
    let timeout = Duration::from_secs(section.number("timeout_seconds", 10, 1..=120));
    section.close();
    let queue = usize::try_from(queue).unwrap_or(usize::MAX);
    let endpoint = endpoint?;
    Some(OtlpSettings {
        endpoint,
        headers,
        service_name,
        traces,
        metrics,
        sample_percent,
        metrics_every,
        queue,
        timeout,
    })
}

/// `headers: env:NAME`, in the form of OTEL_EXPORTER_OTLP_HEADERS: `name=value,name=value`, with `%20` for a blank.
fn headers(section: &mut Section<'_>, world: &World<'_>) -> Vec<(String, Secret)> {
    let Some(entry) = section.text("headers") else { return Vec::new() };
    let found = world.secret(&entry.value).and_then(|found| match found {
        Some(secret) => parse_headers(secret.expose()).map_err(|problem| Fault::new(fault::UNUSABLE_SECRET, problem)),
        None => Ok(Vec::new()),
    });
    found.unwrap_or_else(|problem| {
        entry.problem(problem);
        Vec::new()
    })
}

/// What is wrong is told without the text: it holds a secret.
fn parse_headers(text: &str) -> Result<Vec<(String, Secret)>, &'static str> {
    const FORM: &str = "must be name=value,name=value, with %20 for a blank and %2C for a comma";
    let is_name = |name: &str| {
        (1..=HEADER_CHARS_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or(FORM)?;
        let value = percent_decoded(value).ok_or(FORM)?;
        if !is_name(name) || value.is_empty() || !value.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            return Err(FORM);
        }
        let name = name.to_ascii_lowercase();
        let ours = ["content-type", "content-length", "host", "transfer-encoding", "connection"];
        if ours.contains(&name.as_str()) {
            Err("must not set content-type, host or framing")
        } else {
            Ok((name, Secret::new(value)))
        }
    };
    text.split(',').map(header).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2).filter(|hex| !hex.starts_with('+'))?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_form_that_collectors_give_out() {
        let read = |text: &str| -> Option<Vec<(String, String)>> {
            let found = parse_headers(text).ok()?;
            Some(found.into_iter().map(|(name, value)| (name, value.expose().to_string())).collect())
        };
        let expected = vec![("authorization".into(), "Basic YTpi=".into()), ("x-scope".into(), "a,b".into())];
        assert_eq!(read("Authorization=Basic%20YTpi=,x-scope=a%2Cb"), Some(expected));
        for bad in
            ["", "a", "=b", "a=", "a b=c", "a=b,", "a=%", "a=%2", "a=%zz", "a=%+1", "a=%0a", "Host=x", "a=%c3%28"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

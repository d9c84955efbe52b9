//! The forms that single values of a config have: secrets, URLs, times, addresses.
//!
//! Messages never repeat a value that may hold a secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault::{self, Fault};
use super::settings::{BaseUrl, LedgerUrl, OnDisconnect};
use super::{Environment, Purpose};
use crate::provider::LimitField;
use crate::secret::Secret;

/// Where references are looked up.
pub(super) struct World<'a> {
    /// The folder that relative paths count from.
    pub folder: &'a Path,
    /// Looks up `env:NAME`.
    pub environment: Environment<'a>,
    /// Whether secrets are looked up.
    pub purpose: Purpose,
}

impl World<'_> {
    /// A path of the config, counted from the config's own folder.
    pub fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// A file that has to be there and readable.
    pub fn readable(&self, text: &str) -> Result<PathBuf, Fault> {
        let path = self.path(text);
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(meta) if meta.is_file() => Ok(path),
            Ok(_) => Err(unreadable(format!("{} is not a file", path.display()))),
            Err(error) => Err(unreadable(format!("{} cannot be read: {error}", path.display()))),
        }
    }

    /// A secret: `env:NAME` or `file:PATH`. Anything else may be the secret itself and is not repeated. `None` when this
    /// purpose needs no secrets.
    pub fn secret(&self, text: &str) -> Result<Option<Secret>, Fault> {
        if self.purpose == Purpose::Books && (text.starts_with("env:") || text.starts_with("file:")) {
            return Ok(None);
        }
        let (found, from) = if let Some(name) = text.strip_prefix("env:") {
            (self.variable(name)?, format!("environment variable {name}"))
        } else if let Some(path) = text.strip_prefix("file:") {
            let path = self.path(path);
            let read = std::fs::read_to_string(&path);
            let text = read.map_err(|error| unreadable(format!("file {} cannot be read: {error}", path.display())))?;
            let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
            (trimmed.to_string(), format!("file {}", path.display()))
        } else {
            let problem = "a secret must not stand in this file: write env:NAME or file:PATH";
            return Err(Fault::new(fault::SECRET_IN_CONFIG, problem));
        };
        if found.is_empty() {
            let code = if text.starts_with("env:") { fault::MISSING_ENV } else { fault::UNUSABLE_SECRET };
            return Err(Fault::new(code, format!("{from} is empty")));
        }
        if !found.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            let problem = format!("{from} holds a line break, a blank or a character that no header can carry");
            return Err(Fault::new(fault::UNUSABLE_SECRET, problem));
        }
        Ok(Some(Secret::new(found)))
    }

    fn variable(&self, name: &str) -> Result<String, Fault> {
        let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !word {
            return Err("after `env:` goes the name of an environment variable, such as OPENAI_API_KEY".into());
        }
        let value = (self.environment)(name)
            .ok_or_else(|| Fault::new(fault::MISSING_ENV, format!("environment variable {name} is not set")))?;
        let not_text = || Fault::new(fault::UNUSABLE_SECRET, format!("environment variable {name} is not text"));
        value.into_string().map_err(|_| not_text())
    }

    /// The place of the books. A URL with a password in it has to come from the environment.
    pub fn ledger(&self, text: &str) -> Result<LedgerUrl, Fault> {
        if let Some(name) = text.strip_prefix("env:") {
            let wrong = |e: String| Fault::new(fault::INVALID_LEDGER, format!("environment variable {name}: {e}"));
            return self.ledger_url(&self.variable(name)?).map_err(wrong);
        }
        let url = self.ledger_url(text).map_err(|e| Fault::new(fault::INVALID_LEDGER, e))?;
        match &url {
            LedgerUrl::Redis(url) if url.contains('@') => {
                let problem =
                    "a password must not stand in this file: write env:NAME, and put the whole URL in that variable";
                Err(Fault::new(fault::SECRET_IN_CONFIG, problem))
            }
            _ => Ok(url),
        }
    }

    fn ledger_url(&self, text: &str) -> Result<LedgerUrl, String> {
        const SCHEMES: [&str; 4] = ["redis://", "rediss://", "redis-cluster://", "rediss-cluster://"];
        if text == "memory:" || text == "memory" {
            return Ok(LedgerUrl::Memory);
        }
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(LedgerUrl::File(self.path(path)));
        }
        let host = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        match host {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(LedgerUrl::Redis(text.into())),
            _ => Err("must be file:PATH, \"memory:\", redis://HOST:PORT, rediss://… or redis-cluster://…".into()),
        }
    }
}

fn unreadable(problem: String) -> Fault {
    Fault::new(fault::UNREADABLE_FILE, problem)
}

/// `address:port`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` must be an address and a port, such as 0.0.0.0:8080 or [::1]:8080"))
}

/// A time with its unit: `300ms`, `5s`, `10m`, `1h`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let found = ms.zip(number.parse::<u64>().ok()).and_then(|(ms, number)| number.checked_mul(ms));
    match found.map(Duration::from_millis) {
        Some(time) if (least..=most).contains(&time) => Ok(time),
        Some(_) => Err(format!("must be from {least:?} to {most:?}")),
        None => Err(format!("`{text}` must be a time with its unit, such as 300ms, 5s, 10m or 1h")),
    }
}

/// `drain` or `cancel`.
pub(super) fn on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    match text {
        "drain" => Ok(OnDisconnect::Drain),
        "cancel" => Ok(OnDisconnect::Cancel),
        _ => Err("must be drain or cancel".into()),
    }
}

/// `provider`, where the provider called `name` has a count that is that of the bill.
pub(super) fn count(text: &str, api: &str, name: &str) -> Result<bool, String> {
    let counts = match (text, api) {
        ("provider", "openai") => name == api,
        ("provider", "gemini" | "bedrock") => true,
        ("provider", "anthropic") => return Err("Anthropic calls its count an estimate; leave it out".into()),
        ("provider", _) => false,
        _ => return Err("must be provider, or left out: then input is bounded by its own text".into()),
    };
    if counts { Ok(true) } else { Err("only openai, gemini and bedrock count for free; leave it out".into()) }
}

/// The name of a chat's output limit.
pub(super) fn limit_field(text: &str) -> Result<LimitField, String> {
    [LimitField::MaxTokens, LimitField::MaxCompletionTokens]
        .into_iter()
        .find(|field| field.name() == text)
        .ok_or_else(|| "must be max_tokens or max_completion_tokens".into())
}

/// `http://` or `https://`, a host, perhaps a port and a path. The text may hold a password and is not repeated.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, String> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("must begin with https:// or http://".into()),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("must not hold a user or password".into());
    }
    if path.contains(['?', '#']) {
        return Err("must not hold a query or fragment".into());
    }
    let path = path.trim_end_matches('/');
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    if !path.bytes().all(safe) || path.split('/').any(|part| part == "." || part == "..") || path.contains("//") {
        return Err("its path may hold letters, digits and -._~ between single slashes".into());
    }
    let (host, port) = host_and_port(authority)?;
    let port = match port {
        None => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("its port must be from 1 to 65535")?,
    };
    Ok(BaseUrl { tls, host, port, path: path.to_string() })
}

fn host_and_port(authority: &str) -> Result<(String, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("its IPv6 address must end with ]")?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| "it holds a wrong IPv6 address")?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) };
        return Ok((address.to_string(), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let named =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !host.split('.').all(named) {
        return Err("must name a host, such as https://api.openai.com".into());
    }
    Ok((host.to_ascii_lowercase(), port))
}

//! `serve`, `check`, `version`, `mock`, and how a config is found.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::output::{Failure, answer, say};
use super::prices::short;
use crate::config::{self, DEFAULT_FILE, Loaded, Purpose, Settings, environment};
use crate::gateway;
use crate::mock::{self, MockConfig};
use crate::observe;

/// The settings of `--config`, of `./loopers.yaml`, or the defaults when neither is there. Says what is worth saying.
pub fn settings(config: Option<&Path>, purpose: Purpose) -> Result<Settings, Failure> {
    let usual = Path::new(DEFAULT_FILE);
    let Loaded { settings, warnings } = match config {
        Some(file) if !file.exists() => {
            let hint = format!("give an existing file, or none: ./{DEFAULT_FILE} or the defaults are used then");
            return Err(Failure::new(format!("{}: there is no such config file", file.display()), hint));
        }
        Some(file) => config::load(file, &environment, purpose)?,
        None if usual.exists() => config::load(usual, &environment, purpose)?,
        None => {
            let loaded = config::defaults(&environment)?;
            let keyed = loaded.settings.providers.values().any(|provider| provider.key.is_some());
            let key = if keyed { "its key from OPENAI_API_KEY" } else { "without a key (OPENAI_API_KEY is not set)" };
            let ledger = &loaded.settings.ledger;
            say(&format!("note: no ./{DEFAULT_FILE}: ledger {ledger}, the built-in prices, provider openai {key}"));
            loaded
        }
    };
    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    Ok(settings)
}

/// Runs the gateway until a signal ends it.
pub fn serve(config: Option<&Path>) -> Result<(), Failure> {
    observe::log::init();
    let settings = settings(config, Purpose::Serve)?;
    observe::log::set_format(settings.log.format);
    for (field, address) in [("listen", settings.listen), ("admin.listen", settings.admin.listen)] {
        free(field, address)?;
    }
    Ok(gateway::run(settings, source(config))?)
}

/// How the config is read again while the gateway runs. None when there was no file.
fn source(config: Option<&Path>) -> Option<gateway::Source> {
    let file = config.unwrap_or(Path::new(DEFAULT_FILE)).to_path_buf();
    file.exists().then(|| -> gateway::Source {
        Arc::new(move || {
            let Loaded { settings, warnings } =
                config::load(&file, &environment, Purpose::Serve).map_err(|problems| problems.to_string())?;
            for warning in &warnings {
                log::warn!("{warning}");
            }
            Ok(settings)
        })
    })
}

/// The server shares its ports with whoever has them already, so that a second gateway, perhaps with another ledger, would
/// silently take half of the calls. This listener does not share: it fails where somebody else listens.
fn free(field: &str, address: SocketAddr) -> Result<(), Failure> {
    TcpListener::bind(address).map(drop).map_err(|error| {
        Failure::new(
            format!("{field}: cannot listen on {address}: {error}"),
            "stop what listens there, or choose another port",
        )
    })
}

/// Reads everything that `serve` would read.
pub fn check(config: Option<&Path>, json: bool) -> Result<(), Failure> {
    let settings = settings(config, Purpose::Serve)?;
    let providers = settings.providers.values().map(|provider| {
        json!({
            "name": provider.name,
            "base_url": provider.base_url.to_string(),
            "key": provider.key.is_some(),
        })
    });
    let models = settings.prices.iter().count();
    let report = json!({
        "ok": true,
        "listen": settings.listen.to_string(),
        "admin": { "listen": settings.admin.listen.to_string(), "token": settings.admin.token.is_some() },
        "ledger": settings.ledger.to_string(),
        "time_zone": settings.time_zone,
        "prices": { "version": settings.prices.version(), "models": models },
        "providers": providers.collect::<Vec<_>>(),
    });
    answer(json, &report, |_| {
        let admin = if settings.admin.token.is_some() { "" } else { " (no token: /admin answers 403)" };
        let mut lines = vec![
            "ok".to_string(),
            format!("listen     {}{}", settings.listen, if settings.tls.is_some() { " (TLS)" } else { "" }),
            format!("admin      {}{admin}", settings.admin.listen),
            format!("ledger     {}", settings.ledger),
            format!("time zone  {}", settings.time_zone),
            format!("prices     {models} models, version {}", short(&settings.prices)),
        ];
        for provider in settings.providers.values() {
            let key = if provider.key.is_some() { "" } else { " (no key: each request has to bring one)" };
            lines.push(format!("provider   {} at {}{key}", provider.name, provider.base_url));
        }
        lines.join("\n")
    })
}

/// The versions of the program and of its prices.
pub fn version(json: bool) -> Result<(), Failure> {
    let prices = config::defaults(&environment)?.settings.prices;
    let versions = json!({ "version": env!("CARGO_PKG_VERSION"), "prices": prices.version() });
    answer(json, &versions, |_| format!("loopers {} (prices {})", env!("CARGO_PKG_VERSION"), short(&prices)))
}

/// Runs the mock provider until a signal ends it.
pub fn mock(listen: SocketAddr) -> Result<(), Failure> {
    observe::log::init_quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(mock::serve(listen, MockConfig::default()))?;
    Ok(())
}

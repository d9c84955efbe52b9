//! `loopers exec`: runs one command with base URLs and keys of the gateway, in its environment only.
//!
//! This process becomes the command, so signals, terminal and exit code are its own. The key goes from the environment, or a
//! file, into the command's environment; it is never an argument, and is written nowhere.

mod tools;
mod variables;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use super::args::ExecArgs;
use super::doctor::local_url;
use super::net::{self, Trouble};
use super::output::Failure;
use crate::config::{self, BaseUrl, DEFAULT_FILE, Purpose, environment};
use crate::provider;
use crate::secret::{Secret, is_well_formed};

use variables::{Child, Target};

/// Where the key is, unless `--key` says otherwise.
const KEY_VARIABLE: &str = "LP_KEY";
/// Where the gateway is, unless `--url` says otherwise.
const URL_VARIABLE: &str = "LOOPERS_URL";
/// The longest wait for the gateway.
const GATEWAY_MOST: Duration = Duration::from_secs(5);
/// As shells say it: there is no such command.
const NOT_FOUND: u8 = 127;
/// As shells say it: the command cannot be run.
const NOT_RUNNABLE: u8 = 126;

/// Becomes the command. Returns only when that could not be.
pub fn run(config: Option<&Path>, args: &ExecArgs) -> Result<ExitCode, Failure> {
    let key = key(args)?;
    let (gateway, known) = gateway(config, args)?;
    let targets = targets(&args.provider, &known)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(&gateway, &key))?;
    drop(runtime);
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Failure::new("no command", "loopers exec -- COMMAND"))?;
    let mut child = Child::new(&gateway, &key);
    targets.iter().for_each(|target| child.point(target));
    let name = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    tools::adapt(&mut child, &name, &targets, &args.provider)?;
    let mut command = Command::new(program);
    command.args(&child.arguments).args(arguments);
    for (name, value) in &child.variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let error = command.exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    Failure::new(format!("{}: {error}", program.to_string_lossy()), "").print();
    Ok(ExitCode::from(code))
}

/// The Loopers key, from the environment or a file. Never from the command line, where every process could read it.
fn key(args: &ExecArgs) -> Result<Secret, Failure> {
    let hint = format!("export {KEY_VARIABLE}=\"$(loopers keys create --name me --daily 5.00)\"");
    let from = args.key.clone().unwrap_or_else(|| format!("env:{KEY_VARIABLE}"));
    let found = if let Some(name) = from.strip_prefix("env:") {
        std::env::var(name)
            .map_err(|_| Failure::new(format!("environment variable {name} is not set"), hint.clone()))?
    } else if let Some(path) = from.strip_prefix("file:") {
        std::fs::read_to_string(path).map_err(|error| Failure::new(format!("{path}: {error}"), hint.clone()))?
    } else {
        return Err(Failure::new("--key: a key must not be an argument", "--key env:NAME, or --key file:PATH"));
    };
    let found = found.trim();
    if is_well_formed(found) {
        Ok(Secret::new(found))
    } else {
        let place = from.split_once(':').map_or("", |(_, place)| place);
        Err(Failure::new(format!("{place} holds no Loopers key: lp- and 43 characters"), hint))
    }
}

/// Where the gateway is, and which providers it has, by name and API, with the region where one is set.
fn gateway(config: Option<&Path>, args: &ExecArgs) -> Result<(BaseUrl, Vec<Target>), Failure> {
    let said = args.url.clone().or_else(|| std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty()));
    let said = said.map(|url| BaseUrl::parse(&url)).transpose();
    let said = said.map_err(|why| Failure::new(format!("the gateway's URL {why}"), "--url http://127.0.0.1:8080"))?;
    let usual = Path::new(DEFAULT_FILE);
    let file = config.or_else(|| usual.exists().then_some(usual));
    let settings = match (file, &said) {
        (Some(file), _) => config::load(file, &environment, Purpose::Books)?.settings,
        (None, None) => config::defaults(&environment)?.settings,
        // A gateway elsewhere, whose config is not here: it may have any provider.
        (None, Some(url)) => {
            let all = provider::ALL.iter().map(|provider| Target::new(provider.name(), provider.name(), None));
            return Ok((url.clone(), all.collect()));
        }
    };
    let targets = settings
        .providers
        .values()
        .map(|provider| Target::new(&provider.name, &provider.api, provider.options.region.as_deref()));
    let here = || local_url(settings.listen, settings.tls.is_some());
    Ok((said.unwrap_or_else(here), targets.collect()))
}

/// The providers to point at: those that were named, or one for each API.
fn targets(named: &[String], known: &[Target]) -> Result<Vec<Target>, Failure> {
    let mut found: Vec<Target> = Vec::new();
    for name in named {
        let names: Vec<&str> = known.iter().map(|target| target.name.as_str()).collect();
        let unknown =
            || Failure::new(format!("the gateway has no provider `{name}`"), format!("it has: {}", names.join(", ")));
        let target = known.iter().find(|target| target.name == *name).ok_or_else(unknown)?;
        if let Some(other) = found.iter().find(|other| other.api == target.api && other.name != target.name) {
            let problem =
                format!("{name} and {} speak the same API: a program can be pointed at one of them", other.name);
            return Err(Failure::new(problem, format!("--provider {name}")));
        }
        found.push(target.clone());
    }
    if !named.is_empty() {
        return Ok(found);
    }
    for target in known {
        let is_own = target.name == target.api;
        if is_own || !known.iter().any(|other| other.api == target.api && other.name == other.api) {
            let is_first = !found.iter().any(|other| other.api == target.api);
            if is_first {
                found.push(target.clone());
            }
        }
    }
    Ok(found)
}

/// Asks the gateway for the key's budget: it is there, and the key works.
async fn ask(gateway: &BaseUrl, key: &Secret) -> Result<(), Failure> {
    let not_there = |trouble: Trouble| {
        let hint = format!("loopers serve, or say where it is: --url URL, or {URL_VARIABLE}");
        Failure::new(format!("the gateway at {gateway}: {trouble}"), hint)
    };
    let wire = net::connect(gateway, None, GATEWAY_MOST).await.map_err(not_there)?;
    let path = format!("{}/loopers/v1/budget", gateway.path);
    let headers = [("authorization", format!("Bearer {}", key.expose()))];
    let answer = wire.get(gateway, &path, &headers, GATEWAY_MOST).await.map_err(not_there)?;
    if answer.status == 200 {
        return Ok(());
    }
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let text = |place: &str| body.pointer(place).and_then(|value| value.as_str()).unwrap_or_default().to_string();
    match (text("/error/loopers/message"), text("/error/loopers/hint")) {
        (message, _) if message.is_empty() => {
            let problem = format!("what answers at {gateway} is no Loopers gateway ({})", answer.status);
            Err(Failure::new(problem, format!("--url URL, or {URL_VARIABLE}, of the gateway")))
        }
        (message, hint) => Err(Failure::new(message, hint)),
    }
}

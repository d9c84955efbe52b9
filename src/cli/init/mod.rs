//! `loopers init`: asks little, explains each default, writes `loopers.yaml`, `.env.example` and `compose.yaml`.

mod ask;
mod files;
mod write;

use std::path::{Path, PathBuf};

use super::args::InitArgs;
use super::output::{Failure, print, say};
use crate::config::{self, BaseUrl, DEFAULT_FILE, Purpose};
use crate::control::ops::Amounts;

use ask::Terminal;
use files::{KNOWN, Known};

/// The limit of the first key, where nobody says another.
const DAILY_USD: &str = "5.00";

/// What the files say.
#[derive(Debug)]
pub struct Plan {
    /// Providers and where each is reached.
    providers: Vec<(&'static Known, String)>,
    /// Whether the books are in Redis.
    redis: bool,
    /// The name of the first key.
    key: String,
    /// Its limits.
    limits: Amounts,
}

/// Asks, or takes the defaults, and writes all files or none.
pub fn run(config: Option<&Path>, args: &InitArgs) -> Result<(), Failure> {
    let config = config.unwrap_or(Path::new(DEFAULT_FILE));
    let name = config.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| Failure::new("--config: not the name of a file", "loopers init --config loopers.yaml"))?;
    let mut terminal = (!args.yes).then(Terminal::new);
    let plan = plan(args, terminal.as_mut())?;
    let folder = config.parent().unwrap_or(Path::new(""));
    let files = vec![
        (config.to_path_buf(), files::config(&plan)),
        (folder.join(".env.example"), files::environment(&plan)),
        (folder.join("compose.yaml"), files::compose(&plan, name)),
    ];
    verify(config, &files[0].1)?;
    let written = place(args, terminal.as_mut(), &files)?;
    print(&files::next_steps(&plan, config, &written));
    Ok(())
}

/// What was written must be read as it was meant.
fn verify(path: &Path, text: &str) -> Result<(), Failure> {
    let environment = |name: &str| (name == files::LEDGER_VARIABLE).then(|| "redis://localhost:6379".into());
    config::parse(path, text, &environment, Purpose::Books)?;
    Ok(())
}

fn place(
    args: &InitArgs,
    terminal: Option<&mut Terminal>,
    files: &[(PathBuf, String)],
) -> Result<Vec<String>, Failure> {
    let differs = |(path, text): &&(PathBuf, String)| std::fs::read_to_string(path).ok().as_ref() != Some(text);
    let changed: Vec<(PathBuf, String)> = files.iter().filter(differs).cloned().collect();
    let there: Vec<String> = changed
        .iter()
        .filter(|(path, _)| path.symlink_metadata().is_ok())
        .map(|(path, _)| path.display().to_string())
        .collect();
    if !there.is_empty() && !args.force {
        let list = there.join(", ");
        let may = match terminal {
            Some(terminal) => terminal.yes(&format!("Overwrite {list}?"))?,
            None => false,
        };
        if !may {
            let problem = format!("nothing was written: there is already {list}");
            return Err(Failure::new(problem, "move it away, or say --force to overwrite it"));
        }
    }
    write::all_or_nothing(&changed)
        .map_err(|error| Failure::new(format!("nothing was written: {error}"), "choose a folder that you may write"))?;
    Ok(changed.iter().map(|(path, _)| path.display().to_string()).collect())
}

fn plan(args: &InitArgs, terminal: Option<&mut Terminal>) -> Result<Plan, Failure> {
    let mut bases = base_urls(&args.base_url, &args.providers)?;
    let mut limits = args.limits.amounts();
    let mut redis = args.ledger.is_some_and(|ledger| ledger.is_redis());
    let mut names = args.providers.clone();
    let mut answers = None;
    if let Some(terminal) = terminal {
        say("Loopers keeps what programs spend on LLM providers under a limit. Enter takes the default in [brackets].");
        if names.is_empty() {
            names = terminal.providers(&usual())?;
        }
        for name in &names {
            terminal.base_url(name, &mut bases)?;
        }
        if args.ledger.is_none() {
            redis = terminal.redis()?;
        }
        if limits == Amounts::default() {
            limits = terminal.limits(DAILY_USD)?;
        }
        answers = Some(());
    }
    if names.is_empty() {
        names = usual().into_iter().map(String::from).collect();
    }
    if limits == Amounts::default() && answers.is_none() {
        limits.daily = Some(DAILY_USD.into());
    }
    limits.limits()?;
    names.sort_by_key(|name| KNOWN.iter().position(|known| known.name == name));
    names.dedup();
    let mut providers = Vec::new();
    for name in &names {
        let known = find(name)?;
        let given = bases.iter().find(|(of, _)| of == name).map(|(_, url)| url.clone());
        providers.push((known, given.unwrap_or_else(|| known.base_url.to_string())));
    }
    Ok(Plan { providers, redis, key: args.key.clone(), limits })
}

fn find(name: &str) -> Result<&'static Known, Failure> {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    let unknown = || Failure::new(format!("there is no provider `{name}`"), format!("known: {}", names.join(", ")));
    KNOWN.iter().find(|known| known.name == name).ok_or_else(unknown)
}

/// The providers whose keys this shell has; OpenAI where it has none.
fn usual() -> Vec<&'static str> {
    let has_key = |known: &&Known| std::env::var_os(known.variable).is_some_and(|key| !key.is_empty());
    let found: Vec<&str> =
        KNOWN.iter().filter(|known| known.is_public).filter(has_key).map(|known| known.name).collect();
    if found.is_empty() { vec!["openai"] } else { found }
}

/// `URL` for the only provider, or `PROVIDER=URL` for one of them.
fn base_urls(given: &[String], providers: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for text in given {
        let (name, url) = match (text.split_once('='), providers) {
            (Some((name, url)), _) if !name.contains(':') => (name.to_string(), url),
            (_, [only]) => (only.clone(), text.as_str()),
            (_, []) => ("openai".to_string(), text.as_str()),
            _ => {
                let problem = format!("--base-url {text}: for which of the providers?");
                return Err(Failure::new(problem, "--base-url PROVIDER=URL"));
            }
        };
        BaseUrl::parse(url).map_err(|why| Failure::new(format!("--base-url: {why}"), "--base-url https://HOST"))?;
        let is_written = providers.contains(&name) || (providers.is_empty() && name == "openai");
        if !is_written {
            let problem = format!("--base-url: {name} is none of the providers");
            return Err(Failure::new(problem, format!("--providers {name} --base-url {name}={url}")));
        }
        found.push((name, url.to_string()));
    }
    Ok(found)
}

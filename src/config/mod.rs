//! `loopers.yaml`: as a person types it (`file`), and as the program uses it ([`settings`]).
//!
//! Every problem is reported at once, each with file, line and path. Secrets are only ever referred to, and no message
//! shows the value of one. A reload compares two [`Settings`], which never change once they are made.

mod alerts;
mod build;
pub mod fault;
mod file;
mod limits;
mod lines;
mod reference;
pub mod settings;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use limits::Limits;
pub use reference::reference;
pub use settings::{
    AdminSettings, AlertFormat, AlertSettings, BaseUrl, LedgerUrl, OnDisconnect, ProviderSettings, Settings, TlsFiles,
    WebhookSettings,
};

/// The config that commands look for when they are not told of another.
pub const DEFAULT_FILE: &str = "loopers.yaml";

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, where there is one to point at.
    pub line: Option<usize>,
    /// The field, as `providers.openai.base_url`; empty when the file as a whole is meant.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
    /// What kind of mistake it is: one of [`fault`].
    pub code: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Everything that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Settings, and what is allowed but probably not meant.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Worth a line on stderr.
    pub warnings: Vec<Problem>,
}

/// Where `env:NAME` is looked up: the process's environment, or a test's.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment.
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// What the settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve: every secret has to be there, except a provider's key, which its requests may bring.
    Serve,
    /// To work on the books: the keys of providers and the admin token are not looked up, for an operator's shell need
    /// not have them.
    Books,
}

/// Reads and checks a config file. Paths in it count from its own folder, so that every command finds the same ledger.
pub fn load(path: &Path, environment: Environment<'_>, purpose: Purpose) -> Result<Loaded, ConfigErrors> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, environment, purpose),
        Err(error) => Err(ConfigErrors(vec![Problem {
            file: path.to_path_buf(),
            line: None,
            path: String::new(),
            problem: format!("cannot be read: {error}"),
            code: fault::CONFIG_UNREADABLE,
        }])),
    }
}

/// Checks the text of a config file.
pub fn parse(path: &Path, text: &str, environment: Environment<'_>, purpose: Purpose) -> Result<Loaded, ConfigErrors> {
    build::build(path, text, environment, purpose)
}

/// The line of a field such as `providers.openai.key` in the text of a config; where it is not there, that of the nearest
/// section around it. `None` when not even that is there.
pub fn line_of(text: &str, field: &str) -> Option<usize> {
    lines::of_field(text, field)
}

/// What holds without a config file: `file:loopers.db`, the built-in prices, and OpenAI with the key of `OPENAI_API_KEY`
/// if that is set.
pub fn defaults(environment: Environment<'_>) -> Result<Loaded, ConfigErrors> {
    let mut loaded = build::build(Path::new(DEFAULT_FILE), "", environment, Purpose::Serve)?;
    build::openai_key(&mut loaded.settings, environment);
    Ok(loaded)
}

#[cfg(test)]
mod tests;

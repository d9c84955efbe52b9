//! The commands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::clock::Window;
use crate::control::ops::{Amounts, NewKey, NewTeam, Target};
use crate::ledger::{Overflow, ProviderKeySource};

/// A reverse proxy in front of LLM providers that enforces hard dollar caps
#[derive(Debug, Parser)]
#[command(name = "loopers", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// The config file [default: ./loopers.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway and the admin listener
    Serve,
    /// Write loopers.yaml, .env.example and compose.yaml: asks little, and explains each default
    Init(InitArgs),
    /// Run a command with base URLs and key of the gateway in its environment: loopers exec -- COMMAND …
    Exec(ExecArgs),
    /// Read config and prices, and report every problem at once
    Check {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
        /// Print docs/CONFIG.md instead: every field that a config may have
        #[arg(long, conflicts_with = "json")]
        reference: bool,
    },
    /// Look for whatever is wrong with config, ledger, providers, ports and keys, and say what to change
    Doctor {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a budget hold: gateway, ledger and mock provider in one process, real HTTP calls
    Demo {
        /// Answer in JSON, without the story
        #[arg(long)]
        json: bool,
    },
    /// Print the version
    Version {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Make and manage keys
    Keys {
        /// What to do with them
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Make and manage teams: their limits apply to everything below them
    Teams {
        /// What to do with them
        #[command(subcommand)]
        command: TeamsCommand,
    },
    /// Set limits, and see what is spent and held
    Budget {
        /// What to do with it
        #[command(subcommand)]
        command: BudgetCommand,
    },
    /// Stop running calls within a second, and refuse new ones
    Kill(StopArgs),
    /// Lift a kill or a pause (with --all: every kill, no pause)
    Resume(StopArgs),
    /// See money held by running calls, and release what expired in doubt
    Holds {
        /// What to do with them
        #[command(subcommand)]
        command: HoldsCommand,
    },
    /// See whether the ledger's books are whole, and decide what holds when they are lost
    Ledger {
        /// What to do with it
        #[command(subcommand)]
        command: super::ledger::LedgerCommand,
    },
    /// Import prices, and look into the price table
    Prices {
        /// What to do with them
        #[command(subcommand)]
        command: PricesCommand,
    },
    /// Run a mock provider that keeps its own invoice
    Mock {
        /// Where it listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9999")]
        listen: SocketAddr,
    },
}

/// `loopers init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Ask nothing: what no flag says has its default
    #[arg(long)]
    pub yes: bool,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
    /// Providers that may be called [default: those whose key this shell has, else openai]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = ["openai", "anthropic", "gemini", "mistral", "azure", "bedrock"])]
    pub providers: Vec<String>,
    /// Where a provider is reached, e.g. a mock (may be repeated: one for each provider)
    #[arg(long, value_name = "[P=]URL")]
    pub base_url: Vec<String>,
    /// Where the books are [default: file]
    #[arg(long, value_enum)]
    pub ledger: Option<LedgerFlag>,
    /// The name of the first key
    #[arg(long, value_name = "N", default_value = "me")]
    pub key: String,
    /// Limits of the first key [default: --daily 5.00]
    #[command(flatten)]
    pub limits: WindowFlags,
}

/// `--ledger`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LedgerFlag {
    /// A file beside the config: one gateway, nothing to install
    File,
    /// Redis or Valkey, for several gateways: its URL stands in LOOPERS_LEDGER
    Redis,
}

impl LedgerFlag {
    /// True for Redis.
    pub fn is_redis(self) -> bool {
        matches!(self, LedgerFlag::Redis)
    }
}

/// `loopers exec`
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Only this provider (may be repeated) [default: every provider of the gateway]
    #[arg(long, value_name = "P", value_delimiter = ',')]
    pub provider: Vec<String>,
    /// Where the gateway is [default: LOOPERS_URL, or what the config listens on]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Where the Loopers key is: env:NAME or file:PATH [default: env:LP_KEY]
    #[arg(long, value_name = "REF")]
    pub key: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Limits by window. Amounts are `10`, `10.00` or `$10.00`; 0 means nothing may be spent.
#[derive(Clone, Debug, Default, Args)]
pub struct WindowFlags {
    /// Limit of each minute
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    minute: Option<String>,
    /// Limit of each hour
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    hourly: Option<String>,
    /// Limit of each day
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    daily: Option<String>,
    /// Limit of each week, from Monday
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    weekly: Option<String>,
    /// Limit of each month
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    monthly: Option<String>,
}

impl WindowFlags {
    /// As the operations take them.
    pub fn amounts(&self) -> Amounts {
        let WindowFlags { minute, hourly, daily, weekly, monthly } = self.clone();
        Amounts { minute, hourly, daily, weekly, monthly }
    }
}

/// `--overflow`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum OverflowFlag {
    /// Lower the call's output limit to what the money certainly pays for
    #[default]
    Clamp,
    /// Refuse the call
    Refuse,
    /// Let it start, and cut the stream when the money is used up
    Cut,
}

/// `--provider-key`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ProviderKeyFlag {
    /// The request's if it brings one, else the config's
    #[default]
    Any,
    /// Only the config's
    Config,
    /// Only the request's
    Request,
}

/// What a new key may do.
#[derive(Debug, Args)]
pub struct KeyFlags {
    /// A name that no other key has
    #[arg(long, value_name = "N")]
    name: String,
    /// The team that it belongs to, for ever
    #[arg(long, value_name = "T")]
    team: Option<String>,
    /// Providers that it may call [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    providers: Vec<String>,
    /// Models that it may call: model or provider/model, with an optional * at the end [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    models: Vec<String>,
    /// When it stops to work: 90m, 12h, 30d, 2026-12-31 or an RFC 3339 time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    expires: Option<String>,
    /// What happens when a call's worst case does not fit the money left
    #[arg(long, value_enum, default_value_t)]
    overflow: OverflowFlag,
    /// Where the provider's own key may come from
    #[arg(long, value_enum, default_value_t)]
    provider_key: ProviderKeyFlag,
    #[command(flatten)]
    limits: WindowFlags,
    /// The most that one session may spend
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    session_budget: Option<String>,
    /// The most calls that one session may make
    #[arg(long, value_name = "N")]
    session_steps: Option<u64>,
    /// A network that it may be used from; may be given more than once [default: all]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    allow_ip: Vec<String>,
    /// It may spend without any limit
    #[arg(long)]
    unlimited: bool,
}

impl KeyFlags {
    /// As the operations take it.
    pub fn new_key(&self) -> NewKey {
        NewKey {
            name: self.name.clone(),
            team: self.team.clone(),
            providers: self.providers.clone(),
            models: self.models.clone(),
            allow_ips: self.allow_ip.clone(),
            expires: self.expires.clone(),
            overflow: match self.overflow {
                OverflowFlag::Clamp => Overflow::Clamp,
                OverflowFlag::Refuse => Overflow::Refuse,
                OverflowFlag::Cut => Overflow::Cut,
            },
            provider_key: match self.provider_key {
                ProviderKeyFlag::Any => ProviderKeySource::Any,
                ProviderKeyFlag::Config => ProviderKeySource::Config,
                ProviderKeyFlag::Request => ProviderKeySource::Request,
            },
            limits: self.limits.amounts(),
            session_budget: self.session_budget.clone(),
            session_steps: self.session_steps,
            unlimited: self.unlimited,
        }
    }
}

/// `loopers keys …`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is printed once and never again
    Create {
        #[command(flatten)]
        flags: Box<KeyFlags>,
        #[command(flatten)]
        format: Format,
    },
    /// List all keys
    List(Format),
    /// Show one key
    Show(Named),
    /// Give a key a new secret; the old one is refused at once
    Rotate(Named),
    /// Stop a key for a while
    Pause(Named),
    /// Lift a pause or a kill
    Resume(Named),
    /// Stop a key for ever
    Revoke(Named),
}

/// `loopers teams …`
#[derive(Debug, Subcommand)]
pub enum TeamsCommand {
    /// Make a team
    Create {
        /// A name that no other team has
        #[arg(long, value_name = "N")]
        name: String,
        /// The team above it, for ever
        #[arg(long, value_name = "T")]
        parent: Option<String>,
        #[command(flatten)]
        limits: WindowFlags,
        #[command(flatten)]
        format: Format,
    },
    /// List all teams
    List(Format),
    /// Show one team
    Show(Named),
    /// Stop a team and everything below for a while
    Pause(Named),
    /// Lift a pause or a kill
    Resume(Named),
}

impl TeamsCommand {
    /// The team that `create` makes.
    pub fn new_team(name: &str, parent: Option<&String>, limits: &WindowFlags) -> NewTeam {
        NewTeam { name: name.to_string(), parent: parent.cloned(), limits: limits.amounts() }
    }
}

/// `loopers budget …`
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Set limits; windows that are not named keep theirs
    Set {
        /// A key or team, by id or name
        #[arg(value_name = "K|T")]
        name: String,
        #[command(flatten)]
        limits: WindowFlags,
        #[command(flatten)]
        format: Format,
    },
    /// Lift limits
    Unset {
        /// A key or team, by id or name
        #[arg(value_name = "K|T")]
        name: String,
        /// minute, hourly, daily, weekly or monthly
        #[arg(value_name = "WINDOW", required = true, value_parser = Window::ALL.map(Window::name))]
        windows: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Show limits, and what is spent, held and left, at every level
    Status {
        /// A key or team, by id or name
        #[arg(value_name = "K|T")]
        name: String,
        #[command(flatten)]
        format: Format,
    },
}

/// `loopers holds …`
#[derive(Debug, Subcommand)]
pub enum HoldsCommand {
    /// List holds that are open, or that expired and were charged in full
    List(Format),
    /// Correct a hold that expired in doubt: its call cost nothing, or what --charged says
    Release {
        /// The hold's id
        #[arg(value_name = "ID")]
        id: String,
        /// What the call really cost
        #[arg(long, value_name = "USD", allow_hyphen_values = true)]
        charged: Option<String>,
        /// Also when its call may still run
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        format: Format,
    },
}

/// `loopers prices …`
#[derive(Debug, Subcommand)]
pub enum PricesCommand {
    /// Make a price table from the public LiteLLM price file
    Import(ImportArgs),
    /// Show every rate of one model, and what a call costs
    Show {
        /// model or provider/model
        #[arg(value_name = "MODEL")]
        model: String,
        /// Input tokens of the call
        #[arg(long, value_name = "N", default_value_t = 1000)]
        input: u64,
        /// Output tokens of the call
        #[arg(long, value_name = "N", default_value_t = 1000)]
        output: u64,
        #[command(flatten)]
        format: Format,
    },
    /// Read the price files, report every problem at once, and what may be out of date
    Check(Format),
}

/// `loopers prices import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// model_prices_and_context_window_backup.json of the litellm package
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only this provider (may be repeated) [default: all six]
    #[arg(long = "provider", value_name = "P", value_delimiter = ',', value_parser = ["anthropic", "azure", "bedrock", "gemini", "mistral", "openai"])]
    pub providers: Vec<String>,
    /// Where the price table goes; - is standard output [default: -, with --json nowhere]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name and version of the file, recorded in each row
    #[arg(long, value_name = "TEXT", default_value = "litellm price file")]
    pub source: String,
    /// The day from which the prices are known to hold, YYYY-MM-DD [default: today]
    #[arg(long, value_name = "DAY")]
    pub date: Option<jiff::civil::Date>,
    /// Report what was imported and what was not, in JSON
    #[arg(long)]
    pub json: bool,
}

/// A key, a team, a session, or everything.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["name", "session", "all"]))]
pub struct StopArgs {
    /// A key or team, by id or name
    #[arg(value_name = "K|T")]
    name: Option<String>,
    /// A session
    #[arg(long, value_name = "S")]
    session: Option<String>,
    /// Its key, where more than one key has such a session
    #[arg(long, value_name = "K", conflicts_with_all = ["name", "all"])]
    key: Option<String>,
    /// Every key and every team
    #[arg(long)]
    all: bool,
    /// How to answer
    #[command(flatten)]
    pub format: Format,
}

impl StopArgs {
    /// As the operations take it.
    pub fn target(&self) -> Target {
        match (&self.name, &self.session) {
            (Some(name), _) => Target::Node(name.clone()),
            (None, Some(id)) => Target::Session { id: id.clone(), key: self.key.clone() },
            (None, None) => Target::All,
        }
    }
}

/// One key, team or the like, by id or name.
#[derive(Debug, Args)]
pub struct Named {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    pub name: String,
    /// How to answer
    #[command(flatten)]
    pub format: Format,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Format {
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

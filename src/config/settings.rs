//! The config as the program uses it: checked, complete and never changed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use crate::clock::Calendar;
use crate::pricing::PriceTable;
use crate::provider::Options;
use crate::secret::Secret;

/// Everything that a gateway or a command needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The control plane.
    pub admin: AdminSettings,
    /// Where the books are.
    pub ledger: LedgerUrl,
    /// The folder in which a gateway keeps what must outlive it: what it knows of the ledger, and its journal.
    pub state: PathBuf,
    /// The zone of the five windows.
    pub calendar: Calendar,
    /// The zone's name.
    pub time_zone: String,
    /// All prices in force.
    pub prices: Arc<PriceTable>,
    /// The providers that may be called, by name.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Sizes, times and numbers that bound every queue, buffer and wait.
    pub limits: Limits,
    /// Whether answers carry the `X-Loopers-*` headers.
    pub expose_headers: bool,
    /// TLS for `listen`, if it is wanted.
    pub tls: Option<TlsFiles>,
    /// Who is told of budgets that fill up.
    pub alerts: AlertSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where traces and metrics are sent, if anywhere.
    pub otlp: Option<OtlpSettings>,
    /// The files that all this was read from: the config and its price tables.
    pub sources: Vec<PathBuf>,
}

/// The control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where operators connect.
    pub listen: SocketAddr,
    /// What `/admin` routes ask for. Without one they all answer 403.
    pub token: Option<Secret>,
}

/// Who is told of budgets that fill up, of cuts, and of a ledger that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// The receivers.
    pub webhooks: Vec<WebhookSettings>,
    /// Per cent of a limit at which there is an alert.
    pub thresholds: Vec<u64>,
    /// Alerts that may wait for one receiver.
    pub queue: usize,
    /// How often one is sent until the receiver takes it.
    pub tries: u64,
    /// The longest wait for a receiver's answer.
    pub timeout: Duration,
}

/// One receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Its name in the config.
    pub name: Arc<str>,
    /// Where alerts are sent. Its path may be a secret.
    pub url: BaseUrl,
    /// In which shape.
    pub format: AlertFormat,
    /// What they are signed with.
    pub secret: Option<Secret>,
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("name", &self.name)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// The shape of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertFormat {
    /// An object of Loopers' own.
    Json,
    /// What Slack's incoming webhooks take.
    Slack,
}

/// What a gateway writes of itself, on stderr, and of its calls, on stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// One JSON line a call on stdout.
    pub calls: bool,
    /// The shape of all other lines.
    pub format: LogFormat,
    /// Calls whose line may wait to be written.
    pub queue: usize,
}

/// The shape of a line that is no call's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level and text.
    Text,
    /// An object with the same.
    Json,
}

/// The OpenTelemetry collector that is told of calls.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Where it is; `/v1/traces` and `/v1/metrics` are added.
    pub endpoint: BaseUrl,
    /// What is sent along, such as its own key.
    pub headers: Vec<(String, Secret)>,
    /// The name of this service.
    pub service_name: String,
    /// Whether traces are sent.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Of a hundred calls without a trace of their own, so many are recorded.
    pub sample_percent: u64,
    /// How often metrics are sent.
    pub metrics_every: Duration,
    /// Calls, and spans, that may wait to be sent.
    pub queue: usize,
    /// The longest wait for the collector's answer.
    pub timeout: Duration,
}

impl fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpSettings").field("service_name", &self.service_name).finish_non_exhaustive()
    }
}

/// Where the books are.
#[derive(Clone, PartialEq, Eq)]
pub enum LedgerUrl {
    /// A file of this machine.
    File(PathBuf),
    /// This process only; forgotten when it ends.
    Memory,
    /// A Redis or Valkey server or cluster, as a URL that may hold a password.
    Redis(String),
}

impl fmt::Display for LedgerUrl {
    /// As in the config, without any password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerUrl::File(path) => write!(f, "file:{}", path.display()),
            LedgerUrl::Memory => f.write_str("memory:"),
            LedgerUrl::Redis(url) => match (url.find("://"), url.rfind('@')) {
                (Some(scheme), Some(at)) if at > scheme => write!(f, "{}***{}", &url[..scheme + 3], &url[at..]),
                _ => f.write_str(url),
            },
        }
    }
}

impl fmt::Debug for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerUrl({self})")
    }
}

/// What happens upstream when the client leaves in the middle of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The answer is read to its usage, which is charged exactly.
    Drain,
    /// The provider is dropped, and what was generated is charged.
    Cancel,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Its name: the first path segment of its routes, and the prefix of its prices.
    pub name: Arc<str>,
    /// Whose API it speaks: one of the known providers' names.
    pub api: String,
    /// Where calls are sent.
    pub base_url: BaseUrl,
    /// The real key. Without one, the request has to bring it.
    pub key: Option<Secret>,
    /// What happens when the client leaves.
    pub on_disconnect: OnDisconnect,
    /// What the operator says of its requests: fields, deployments, region, fees.
    pub options: Options,
    /// The longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// The longest wait for the first byte of an answer.
    pub first_byte_timeout: Duration,
    /// The longest wait between two pieces of an answer.
    pub between_chunks_timeout: Duration,
    /// How long an idle connection is kept for the next call.
    pub keep_alive: Duration,
    /// Whether HTTP/2 may be spoken with it.
    pub http2: bool,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// A scheme, a host and a path that go before every route of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// True for `https`.
    pub tls: bool,
    /// Name or address, in lower case, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What goes before a route's own path: empty, or `/…` without a slash at its end.
    pub path: String,
}

impl BaseUrl {
    /// Reads `http://HOST` or `https://HOST`, perhaps with a port and a path. The error says what is wrong, and repeats nothing.
    pub fn parse(text: &str) -> Result<BaseUrl, String> {
        super::values::base_url(text)
    }

    /// The value of the `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let own = if self.tls { 443 } else { 80 };
        if self.port == own { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Certificate chain and private key of a listener, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

//! From the text of a config to settings, with every problem on the way.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::fault::{self, Fault};
use super::file::{Document, Section};
use super::settings::{AdminSettings, BaseUrl, LedgerUrl, OnDisconnect, ProviderSettings, Settings, TlsFiles};
use super::values::{self, World};
use super::{ConfigErrors, Environment, Limits, Loaded, Problem, Purpose};
use crate::clock::Calendar;
use crate::money::Money;
use crate::pricing::PriceTable;
use crate::provider::{self, Fee, Options};
use crate::secret::Secret;

const OPENAI_KEY: &str = "env:OPENAI_API_KEY";

/// What stands in `prices:` for the table inside the program.
const BUILTIN_PRICES: &str = "builtin";

/// Where providers with one address for everybody are reached.
pub(super) const PUBLIC: [(&str, &str); 4] = [
    ("openai", "https://api.openai.com"),
    ("anthropic", "https://api.anthropic.com"),
    ("gemini", "https://generativelanguage.googleapis.com"),
    ("mistral", "https://api.mistral.ai"),
];
/// Where OpenAI keeps the data of a project, as its hosts are named: `eu.api.openai.com`.
const OPENAI_REGIONS: [&str; 2] = ["us", "eu"];
/// Tokens shorter than this can be guessed.
pub(super) const TOKEN_CHARS_LEAST: usize = 16;

pub(super) fn build(
    file: &Path,
    text: &str,
    environment: Environment<'_>,
    purpose: Purpose,
) -> Result<Loaded, ConfigErrors> {
    let doc = Document::new(file, text).map_err(|problem| ConfigErrors(vec![problem]))?;
    let world = World { folder: file.parent().unwrap_or(Path::new("")), environment, purpose };
    let mut settings = read(&doc, &world);
    settings.sources.insert(0, file.to_path_buf());
    let (problems, warnings) = doc.findings();
    if problems.is_empty() { Ok(Loaded { settings, warnings }) } else { Err(ConfigErrors(problems)) }
}

/// Without a config, OpenAI's key is that of its usual variable, if it is there.
pub(super) fn openai_key(settings: &mut Settings, environment: Environment<'_>) {
    let world = World { folder: Path::new(""), environment, purpose: Purpose::Serve };
    if let Some(openai) = settings.providers.get_mut("openai") {
        openai.key = world.secret(OPENAI_KEY).ok().flatten();
    }
}

pub(super) fn read(doc: &Document<'_>, world: &World<'_>) -> Settings {
    let mut root = doc.root();
    let listen = root.parsed("listen", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)), values::address);
    let admin = admin(root.section("admin"), world);
    if listen.port() == admin.listen.port() && listen.port() != 0 {
        let problem = format!("port {} is also that of admin.listen; they must differ", listen.port());
        root.problem("listen", Fault::new(fault::SAME_PORT, problem));
    }
    let ledger = root.parsed("ledger", LedgerUrl::File(world.path("loopers.db")), |text| world.ledger(text));
    let state = root.parsed("state", world.path("loopers-state"), |text| Ok::<_, Fault>(world.path(text)));
    let (calendar, time_zone) = root.parsed("time_zone", (Calendar::utc(), "UTC".to_string()), |name| {
        Calendar::in_zone(name).map(|calendar| (calendar, name.to_string())).map_err(|e| e.to_string())
    });
    let (prices, sources) = prices(doc, &mut root, world);
    let providers = match root.given("providers") {
        Some(section) => providers(section, world),
        None => BTreeMap::from([("openai".into(), provider("openai", doc.nothing(), world))]),
    };
    let limits = limits(root.section("limits"));
    let alerts = super::alerts::read(root.section("alerts"), world);
    let log = super::telemetry::log(root.section("log"));
    let otlp = root.given("otlp").and_then(|section| super::telemetry::otlp(section, world));
    let mut headers = root.section("headers");
    let expose_headers = headers.flag("expose", true);
    headers.close();
    let tls = root.given("tls").and_then(|section| tls(section, world));
    root.close();
    Settings {
        listen,
        admin,
        ledger,
        state,
        calendar,
        time_zone,
        prices,
        providers,
        limits,
        expose_headers,
        tls,
        alerts,
        log,
        otlp,
        sources,
    }
}

fn admin(mut section: Section<'_>, world: &World<'_>) -> AdminSettings {
    let listen = section.parsed("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)), values::address);
    let token = secret(&mut section, "token", world, |found| {
        (found.expose().len() < TOKEN_CHARS_LEAST)
            .then(|| format!("is shorter than {TOKEN_CHARS_LEAST} characters and may be guessed"))
    });
    section.close();
    AdminSettings { listen, token }
}

/// A field that refers to a secret. `doubt` says what is wrong, though allowed, with the secret found.
pub(super) fn secret(
    section: &mut Section<'_>,
    name: &str,
    world: &World<'_>,
    doubt: impl Fn(&Secret) -> Option<String>,
) -> Option<Secret> {
    let entry = section.text(name)?;
    match world.secret(&entry.value) {
        Ok(found) => {
            if let Some(doubt) = found.as_ref().and_then(doubt) {
                entry.warning(Fault::new(fault::WEAK_TOKEN, doubt));
            }
            found
        }
        Err(problem) => {
            entry.problem(problem);
            None
        }
    }
}

fn prices(doc: &Document<'_>, root: &mut Section<'_>, world: &World<'_>) -> (Arc<PriceTable>, Vec<PathBuf>) {
    let (mut files, mut sources) = (Vec::new(), Vec::new());
    for entry in root.texts("prices") {
        if entry.value == BUILTIN_PRICES {
            files.push(PriceTable::builtin_file());
            continue;
        }
        let path = world.path(&entry.value);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                sources.push(path.clone());
                files.push((path, text));
            }
            Err(error) => {
                let problem = format!("{} cannot be read: {error}", path.display());
                entry.problem(Fault::new(fault::UNREADABLE_FILE, problem));
            }
        }
    }
    let loaded = if files.is_empty() { PriceTable::builtin() } else { PriceTable::load(&files) };
    let table = loaded.unwrap_or_else(|errors| {
        for error in errors {
            let line = Some(error.line);
            let code = fault::INVALID_PRICE;
            doc.foreign(Problem { file: error.file, line, path: error.path, problem: error.problem, code });
        }
        PriceTable::default()
    });
    (Arc::new(table), sources)
}

fn providers(mut section: Section<'_>, world: &World<'_>) -> BTreeMap<String, ProviderSettings> {
    let mut found = BTreeMap::new();
    for name in section.names() {
        let is_name = provider::is_name(&name);
        if !is_name {
            section.problem(&name, "is not a name: a small letter, then small letters, digits, `_` and `-`");
        }
        let inner = section.section(&name);
        if is_name {
            found.insert(name.clone(), provider(&name, inner, world));
        }
    }
    if found.is_empty() {
        section.problem("openai", "no provider is configured");
    }
    section.close();
    found
}

fn provider(name: &str, mut section: Section<'_>, world: &World<'_>) -> ProviderSettings {
    let api = api(name, &mut section);
    let base_url = base_url(name, &mut section);
    let key = provider_key(name, &mut section, world);
    let on_disconnect = section.parsed("on_disconnect", OnDisconnect::Drain, values::on_disconnect);
    let mut options = options(&mut section, &api, name);
    if api == "openai" && options.region.is_none() {
        options.region = regional(&base_url.host);
    }
    let http2 = section.flag("http2", true);
    let ca_file = section.parsed("ca_file", None, |text| world.readable(text).map(Some));
    let keep_alive = time(&mut section, "keep_alive", 30, 0..=600);
    let mut timeouts = section.section("timeouts");
    let connect_timeout = time(&mut timeouts, "connect", 5, 0..=120);
    let first_byte_timeout = time(&mut timeouts, "first_byte", 600, 1..=3600);
    let between_chunks_timeout = time(&mut timeouts, "between_chunks", 300, 1..=3600);
    timeouts.close();
    section.close();
    ProviderSettings {
        name: name.into(),
        api,
        base_url,
        key,
        on_disconnect,
        options,
        connect_timeout,
        first_byte_timeout,
        between_chunks_timeout,
        keep_alive,
        http2,
        ca_file,
    }
}

/// A provider's own key. One whose variable is not set, or empty, stops nothing: the others are served, and requests to this
/// one may bring a key of their own.
fn provider_key(provider: &str, section: &mut Section<'_>, world: &World<'_>) -> Option<Secret> {
    let entry = section.text("key")?;
    match world.secret(&entry.value) {
        Ok(found) => return found,
        Err(Fault { code: fault::MISSING_ENV, text }) => {
            let doubt = format!("{text}: calls to {provider} must bring a key of their own until it is");
            entry.warning(Fault::new(fault::MISSING_ENV, doubt));
        }
        Err(problem) => entry.problem(problem),
    }
    None
}

/// Whose API a provider speaks: `api:`, or that of its own name.
fn api(name: &str, section: &mut Section<'_>) -> String {
    let known: Vec<&str> = provider::ALL.iter().map(|provider| provider.name()).collect();
    let say = format!("known APIs: {}", known.join(", "));
    match section.text("api") {
        None if !known.contains(&name) => {
            section.problem("api", format!("is missing: it says whose API {name} speaks, e.g. `api: openai`; {say}"));
            String::new()
        }
        None => name.into(),
        Some(entry) if !known.contains(&entry.value.as_str()) => {
            entry.problem(format!("is none that this version knows; {say}"));
            String::new()
        }
        // Prices and routes of a known name are those of its own API.
        Some(entry) if known.contains(&name) && entry.value != name => {
            entry.problem(format!("{name} speaks its own API: give a provider with another one another name"));
            String::new()
        }
        Some(entry) => entry.value,
    }
}

/// The region of OpenAI's hosts that keep data in one: some models cost more there.
fn regional(host: &str) -> Option<String> {
    OPENAI_REGIONS.into_iter().find(|region| host.strip_suffix(".api.openai.com") == Some(*region)).map(String::from)
}

fn options(section: &mut Section<'_>, api: &str, name: &str) -> Options {
    let allow_fields = section.texts("allow_fields").into_iter().map(|entry| entry.value).collect();
    let region = section.text("region").map(|entry| {
        if api == "openai" && !OPENAI_REGIONS.contains(&entry.value.as_str()) {
            entry.problem(format!("must be one of {}, where OpenAI keeps the data", OPENAI_REGIONS.join(", ")));
        }
        entry.value
    });
    let mut named = section.section("deployments");
    // Azure's names may have capitals and dots, Bedrock's are ARNs.
    let deployments =
        named.keys().into_iter().filter_map(|name| Some((name.clone(), named.text(&name)?.value))).collect();
    named.close();
    let mut priced = section.section("fees");
    let fees = priced.names().into_iter().map(|name| (name.clone(), fee(priced.section(&name)))).collect();
    priced.close();
    let limit_field = section.parsed("limit_field", None, |text| values::limit_field(text).map(Some));
    let counts_by_provider = section.parsed("count", false, |text| values::count(text, api, name));
    let no_service_tier = section.parsed("service_tier", false, |text| match text {
        "none" => Ok(true),
        _ => Err("must be none, or left out: then calls are forced into the ordinary tier"),
    });
    Options { allow_fields, deployments, region, fees, limit_field, counts_by_provider, no_service_tier }
}

/// `{ usd: "0.01", calls: 5 }`: what one use costs, and the most uses in one request.
fn fee(mut section: Section<'_>) -> Fee {
    for name in ["usd", "calls"] {
        if !section.names().iter().any(|given| given == name) {
            section.problem(
                name,
                "is missing: a fee needs `usd`, what one use costs, and `calls`, the most in one request",
            );
        }
    }
    let usd = section.parsed("usd", Money::ZERO, |text| Money::parse_limit(text).map_err(|e| e.to_string()));
    let calls = section.parsed("calls", 0, |text| match text.parse::<u64>() {
        Ok(calls @ 1..=1000) => Ok(calls),
        _ => Err("must be a whole number from 1 to 1000"),
    });
    section.close();
    Fee { usd, calls }
}

fn base_url(provider: &str, section: &mut Section<'_>) -> BaseUrl {
    let nowhere = BaseUrl { tls: true, host: String::new(), port: 443, path: String::new() };
    let Some(entry) = section.text("base_url") else {
        let public = PUBLIC.iter().find(|(name, _)| *name == provider);
        return public.and_then(|(_, url)| values::base_url(url).ok()).unwrap_or_else(|| {
            section.problem("base_url", "is missing: it says where calls are sent");
            nowhere
        });
    };
    match values::base_url(&entry.value) {
        Ok(url) => {
            if url.path.ends_with("/v1") {
                let doubt = "ends with /v1, which requests carry themselves: calls will go to …/v1/v1/…";
                entry.warning(Fault::new(fault::INVALID_BASE_URL, doubt));
            }
            url
        }
        Err(problem) => {
            entry.problem(Fault::new(fault::INVALID_BASE_URL, problem));
            nowhere
        }
    }
}

fn time(section: &mut Section<'_>, name: &str, default: u64, seconds: std::ops::RangeInclusive<u64>) -> Duration {
    let least = Duration::from_secs(*seconds.start());
    let most = Duration::from_secs(*seconds.end());
    section.parsed(name, Duration::from_secs(default), |text| values::duration(text, least, most))
}

fn limits(mut section: Section<'_>) -> Limits {
    let limits = Limits::read(&mut section);
    let largest = limits.body_bytes.max(limits.answer_bytes);
    if limits.buffered_bytes < largest {
        let needed = "must not be less than body_bytes and answer_bytes, or the largest call could never run";
        section.problem("buffered_bytes", format!("{needed}: at least {largest}"));
    }
    section.close();
    limits
}

fn tls(mut section: Section<'_>, world: &World<'_>) -> Option<TlsFiles> {
    let mut file = |name: &str| {
        let Some(entry) = section.text(name) else {
            section.problem(name, "is missing: TLS needs both `cert` and `key`, as PEM files");
            return None;
        };
        world.readable(&entry.value).map_err(|problem| entry.problem(problem)).ok()
    };
    let files = (file("cert"), file("key"));
    section.close();
    let (Some(cert), Some(key)) = files else { return None };
    Some(TlsFiles { cert, key })
}

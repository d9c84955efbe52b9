//! docs/CONFIG.md: every field that the config is asked for, with what the asking itself says of form, default and range.
//!
//! The fields come from reading a config, so a field that is read and not described stands out on the page, and fails a test.

use std::fmt::Write as _;
use std::path::Path;

use super::build::{PUBLIC, read};
use super::file::{Document, Kind};
use super::values::World;
use super::{Limits, Purpose};

/// A config in which every section is given, so that each of its fields is asked for. `name` stands for any name.
const EXAMPLE: &str = r#"
providers: { name: { api: openai, base_url: "http://localhost", deployments: { name: x }, fees: { name: { usd: "1", calls: "1" } } } }
alerts: { webhooks: { name: { url: "http://localhost" } } }
otlp: { endpoint: "http://localhost" }
tls: { cert: a, key: b }
"#;

const INTRO: &str = "\
# loopers.yaml

Every field, as the program reads it; made by `loopers check --reference > docs/CONFIG.md`, and compared with the program by a test.
[conf/loopers.yaml](../conf/loopers.yaml) is what holds without a config, as a file with comments. Everything is optional, unless it says so. Unknown fields are errors,
and `loopers check` reports every problem at once, with file and line. Paths count from the folder of the config.

A secret is only referred to: `env:NAME`, an environment variable, or `file:PATH`, a file whose content is the secret. A time has its unit: `300ms`,
`5s`, `10m`, `1h`. `NAME` is a name of your choice: small letters, digits, `_` and `-`, at most 24 of them. What a reload takes over is in
[OPERATIONS.md](OPERATIONS.md#reloading). Price files have a page of their own: [PRICES.md](PRICES.md).
";

/// A field that is text, or a section: its path, its form or default, and its meaning. Of numbers and flags the code knows the rest.
pub(super) struct Row {
    /// As in `providers.NAME.key`.
    pub path: &'static str,
    /// What holds when it is missing; empty when that is nothing, or is said in the meaning.
    pub default: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

const fn row(path: &'static str, default: &'static str, meaning: &'static str) -> Row {
    Row { path, default, meaning }
}

/// What the code cannot say of itself. The limits have their own table.
pub(super) const ROWS: &[Row] = &[
    row(
        "listen",
        "0.0.0.0:8080",
        "Address and port for clients: HTTP/1.1, and HTTP/2 by prior knowledge; with `tls`, HTTPS.",
    ),
    row("admin", "", "The control plane."),
    row(
        "ledger",
        "file:loopers.db",
        "Where the books are: `file:PATH` (one gateway), `redis://HOST:PORT`, `rediss://…`, `redis-cluster://…`, `rediss-cluster://…`, or `\"memory:\"` (forgotten at the end). A URL with a password: `env:NAME`.",
    ),
    row(
        "state",
        "loopers-state",
        "Folder of what must outlive a gateway: which books it has seen, and its journal. Several gateways may share one.",
    ),
    row("time_zone", "UTC", "IANA name of the zone in which the five windows start; weeks start on Monday."),
    row(
        "prices",
        "",
        "Price files; a later file wins, model by model. `builtin` is the table inside the program, which alone holds without this field.",
    ),
    row("providers", "", "Who may be called. Without this section: `openai`."),
    row("limits", "", "What bounds every buffer, queue and wait. The unit is in each name."),
    row("alerts", "", "Who is told of budgets that fill up, of cuts, and of a ledger that is gone."),
    row("log", "", "What a gateway writes of itself and of its calls. See [OPERATIONS.md](OPERATIONS.md#call-log)."),
    row(
        "otlp",
        "",
        "The OpenTelemetry collector that gets traces and metrics; nothing is sent without this section. See [OPERATIONS.md](OPERATIONS.md#opentelemetry).",
    ),
    row("headers", "", "What answers tell."),
    row("tls", "", "HTTPS on `listen`."),
    row("admin.listen", "127.0.0.1:9090", "Address and port of `/metrics`, `/healthz`, `/readyz` and `/admin/v1`."),
    row(
        "admin.token",
        "",
        "A secret of at least 16 characters that `/admin` routes ask for. Without one they answer 403.",
    ),
    row(
        "providers.NAME",
        "",
        "`openai`, `anthropic`, `gemini`, `mistral`, `azure`, `bedrock`, or another name with `api`.",
    ),
    row(
        "providers.NAME.api",
        "",
        "Whose API it speaks; needed only when the name is none of the six. See [PROVIDERS.md](PROVIDERS.md).",
    ),
    row(
        "providers.NAME.base_url",
        "",
        "Where calls are sent: `http://` or `https://`, a host, perhaps a port and a path, without `/v1`. Only the config decides this, never a request.",
    ),
    row(
        "providers.NAME.key",
        "",
        "A secret: the provider's own key. Without it each request has to bring its own. Without a config file, that of OpenAI is `env:OPENAI_API_KEY`.",
    ),
    row(
        "providers.NAME.on_disconnect",
        "drain",
        "When the client leaves in mid-answer. `drain`: read on to the usage, and charge exactly that. `cancel`: drop the provider, and charge what was generated; for providers that stop billing then.",
    ),
    row(
        "providers.NAME.allow_fields",
        "",
        "Request fields to let through although their cost is not known. See first that they have none.",
    ),
    row(
        "providers.NAME.region",
        "",
        "Bedrock: the region of `base_url`. OpenAI: `us` or `eu`, where the project keeps its data; taken from the host by itself.",
    ),
    row(
        "providers.NAME.deployments",
        "",
        "Azure: the model behind each deployment. Bedrock: behind each ARN. Their names may be any text.",
    ),
    row("providers.NAME.deployments.NAME", "", "The model of this deployment, as in the price table."),
    row(
        "providers.NAME.fees",
        "",
        "Flat prices of what tokens do not bound, such as a web search. Without one, such a request is refused.",
    ),
    row("providers.NAME.fees.NAME", "", "The name is the one that the refusal gives."),
    row("providers.NAME.fees.NAME.usd", "", "What one use costs, in USD. Needed."),
    row(
        "providers.NAME.fees.NAME.calls",
        "",
        "The most uses in one request, `\"1\"` to `\"1000\"`; they are held for. Needed.",
    ),
    row(
        "providers.NAME.limit_field",
        "",
        "`max_tokens` or `max_completion_tokens`: the output limit that a provider with OpenAI's API reads, where it is not OpenAI's own.",
    ),
    row(
        "providers.NAME.count",
        "",
        "`provider`: ask OpenAI, Gemini or Bedrock itself for the input of a call whose bound does not fit. See [PROVIDERS.md](PROVIDERS.md).",
    ),
    row(
        "providers.NAME.service_tier",
        "",
        "`none`: the provider knows no service tiers, so the field is never sent. Otherwise calls are forced into the ordinary tier.",
    ),
    row("providers.NAME.http2", "", "Whether HTTP/2 may be spoken with it, where it offers that."),
    row("providers.NAME.ca_file", "", "PEM file of the certificates to trust instead of the system's."),
    row("providers.NAME.keep_alive", "30s", "How long an idle connection is kept for the next call; at most 10m."),
    row("providers.NAME.timeouts", "", "The longest waits for the provider."),
    row("providers.NAME.timeouts.connect", "5s", "For a connection, TLS included; at most 2m."),
    row("providers.NAME.timeouts.first_byte", "10m", "For the first byte of the answer; at most 1h."),
    row("providers.NAME.timeouts.between_chunks", "5m", "Between two pieces of an answer; at most 1h."),
    row("alerts.webhooks", "", "The receivers."),
    row("alerts.webhooks.NAME", "", "The name is for logs and metrics."),
    row("alerts.webhooks.NAME.format", "json", "`json`, or `slack` for an incoming webhook of Slack."),
    row("alerts.webhooks.NAME.secret", "", "A secret of at least 16 characters that alerts are signed with."),
    row(
        "alerts.webhooks.NAME.url",
        "",
        "Where alerts are sent; `env:NAME` or `file:PATH` where the address is a secret. Needed.",
    ),
    row("alerts.thresholds", "", "Per cent of any limit at which there is an alert."),
    row("alerts.queue", "", "Alerts that may wait for one receiver."),
    row("alerts.tries", "", "How often an alert is sent until the receiver takes it."),
    row("alerts.timeout_seconds", "", "The longest wait for a receiver's answer."),
    row("log.calls", "", "Whether each call is a line of JSON on stdout."),
    row("log.format", "text", "The form of all other lines, on stderr: `text` or `json`."),
    row("log.queue", "", "Calls whose line may wait to be written."),
    row(
        "otlp.endpoint",
        "",
        "`http://` or `https://`, a host, perhaps a port and a path; `/v1/traces` and `/v1/metrics` are added. Needed.",
    ),
    row("otlp.headers", "", "A secret: what is sent along, as `name=value,name=value`, with `%20` for a blank."),
    row("otlp.service_name", "", "`service.name` of what is sent: `loopers` without it."),
    row("otlp.traces", "", "Whether traces are sent."),
    row("otlp.metrics", "", "Whether metrics are sent."),
    row("otlp.sample_percent", "", "Of a hundred calls whose client brings no trace of its own, so many are recorded."),
    row("otlp.metrics_seconds", "", "How often metrics are sent."),
    row("otlp.queue", "", "Calls, and spans, that may wait to be sent."),
    row("otlp.timeout_seconds", "", "The longest wait for the collector's answer."),
    row("headers.expose", "", "Whether answers carry the `X-Loopers-*` headers."),
    row("tls.cert", "", "PEM file: the certificate chain, the server's own first. Needed."),
    row("tls.key", "", "PEM file: its private key. Needed."),
];

/// The page: every field of the config, by section.
pub fn reference() -> String {
    let mut groups: Vec<(String, String)> = Vec::new();
    for (path, kind) in fields() {
        let (group, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let line = line(&path, name, &kind);
        match groups.iter_mut().find(|(known, _)| known == group) {
            Some((_, lines)) => lines.push_str(&line),
            None => groups.push((group.into(), line)),
        }
    }
    let mut page = INTRO.to_string();
    for (group, lines) in groups {
        let title = if group.is_empty() { "The whole file".to_string() } else { format!("`{group}`") };
        let _ = write!(page, "\n## {title}\n\n| Field | Form | Default | Meaning |\n|---|---|---|---|\n{lines}");
    }
    page.push_str("\nPublic addresses that `base_url` has by itself:");
    for (name, url) in PUBLIC {
        let _ = write!(page, " {name} `{url}`{}", if name == "mistral" { "." } else { "," });
    }
    page.push_str(" Other providers need one.\n");
    page
}

/// Every field that is asked for, once, each name of an operator's choice as `NAME`; the file's own fields first.
pub(super) fn fields() -> Vec<(String, Kind)> {
    let world = World { folder: Path::new(""), environment: &|_| None, purpose: Purpose::Books };
    let Ok(doc) = Document::new(Path::new(super::DEFAULT_FILE), EXAMPLE) else { return Vec::new() };
    read(&doc, &world);
    let mut found: Vec<(String, Kind)> = Vec::new();
    for (path, kind) in doc.asked() {
        let steps: Vec<&str> = path.split('.').map(|step| if step == "name" { "NAME" } else { step }).collect();
        let path = steps.join(".");
        if !found.iter().any(|(known, _)| *known == path) {
            found.push((path, kind));
        }
    }
    found.sort_by_key(|(path, _)| path.contains('.'));
    found
}

fn line(path: &str, name: &str, kind: &Kind) -> String {
    let row = ROWS.iter().find(|row| row.path == path);
    let limit =
        path.strip_prefix("limits.").and_then(|name| Limits::TABLE.iter().position(|(known, ..)| *known == name));
    let meaning = match (row, limit.and_then(|at| Limits::MEANINGS.get(at))) {
        (Some(row), _) => row.meaning,
        (None, Some(meaning)) => meaning.trim(),
        (None, None) => "**not described: add a row to src/config/reference.rs**",
    };
    let written = row.map_or("", |row| row.default);
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let show = |number: u64| if name.ends_with("_bytes") { bytes(number) } else { number.to_string() };
    let (form, default) = match kind {
        Kind::Section => ("section".into(), String::new()),
        Kind::Text => ("text".into(), code(written)),
        Kind::Texts => ("list of texts".into(), code(written)),
        Kind::Flag(default) => ("`true` or `false`".into(), code(&default.to_string())),
        Kind::Number(default, range) => (format!("{} to {}", show(*range.start()), show(*range.end())), show(*default)),
        Kind::Numbers(default, range) => {
            (format!("list of numbers, {} to {}", range.start(), range.end()), code(&format!("{default:?}")))
        }
    };
    format!("| `{name}` | {form} | {default} | {meaning} |\n")
}

/// A number of bytes as it is typed, and as it is read.
fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| number >= *size && number.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{number} ({} {unit})", number / size),
        None => number.to_string(),
    }
}

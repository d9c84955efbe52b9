use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::secret::Secret;

const SECRET: &str = "sk-very-secret-0123456789";

fn world(name: &str) -> Option<OsString> {
    match name {
        "OPENAI_API_KEY" | "LOOPERS_ADMIN_TOKEN" => Some(SECRET.into()),
        "EMPTY" => Some("".into()),
        "BROKEN" => Some(format!("{SECRET}\nmore").into()),
        "REDIS_URL" => Some(format!("rediss://user:{SECRET}@books:6379/0").into()),
        _ => None,
    }
}

fn good(text: &str) -> Settings {
    parse(Path::new("loopers.yaml"), text, &world, Purpose::Serve).unwrap().settings
}

fn bad(text: &str) -> Vec<String> {
    let errors = parse(Path::new("loopers.yaml"), text, &world, Purpose::Serve).unwrap_err();
    let lines: Vec<String> = errors.0.iter().map(Problem::to_string).collect();
    assert!(!lines.concat().contains(SECRET), "{lines:?}");
    lines
}

#[test]
fn the_annotated_default_is_what_holds_without_it() {
    let text = include_str!("../../conf/loopers.yaml");
    let written = good(text);
    let mut default = good("");
    default.providers.get_mut("openai").unwrap().key = Some(Secret::new(SECRET));
    assert_eq!(written.listen, default.listen);
    assert_eq!(written.admin, default.admin);
    assert_eq!(written.ledger, default.ledger);
    assert_eq!(written.time_zone, default.time_zone);
    assert_eq!(written.providers, default.providers);
    assert_eq!(written.limits, default.limits);
    assert_eq!((written.expose_headers, written.tls), (default.expose_headers, default.tls));
    for (name, default, ..) in Limits::TABLE {
        assert!(text.contains(&format!("{name}: {default} ")), "{name} is not in conf/loopers.yaml");
    }
}

#[test]
fn every_field_is_read() {
    let settings = good(
        r#"
listen: 127.0.0.1:1
admin: { listen: "[::1]:2", token: env:LOOPERS_ADMIN_TOKEN }
ledger: redis-cluster://books:7000
time_zone: Europe/Berlin
providers:
  openai:
    base_url: http://LOCALHOST:8000/prefix/
    key: env:OPENAI_API_KEY
    on_disconnect: cancel
    allow_fields: [a, b]
    timeouts: { connect: 300ms, first_byte: 2m, between_chunks: 1h }
    http2: false
    keep_alive: 0s
limits: { body_bytes: 1024, in_flight: 1 }
headers: { expose: false }
log: { calls: false, format: json, queue: 100 }
otlp: { endpoint: "https://collector:4318/x", service_name: gw, metrics: false, sample_percent: 5, timeout_seconds: 1 }
"#,
    );
    assert_eq!(settings.log, LogSettings { calls: false, format: LogFormat::Json, queue: 100 });
    let otlp = settings.otlp.as_ref().unwrap();
    assert_eq!((otlp.endpoint.to_string().as_str(), &*otlp.service_name), ("https://collector:4318/x", "gw"));
    assert_eq!((otlp.traces, otlp.metrics, otlp.sample_percent, otlp.timeout.as_secs()), (true, false, 5, 1));
    assert!(good("").otlp.is_none(), "off by default");
    let openai = &settings.providers["openai"];
    assert_eq!(openai.base_url, BaseUrl { tls: false, host: "localhost".into(), port: 8000, path: "/prefix".into() });
    assert_eq!(openai.base_url.to_string(), "http://localhost:8000/prefix");
    assert_eq!(openai.key.as_ref().unwrap().expose(), SECRET);
    assert_eq!(openai.on_disconnect, OnDisconnect::Cancel);
    assert_eq!(openai.options.allow_fields, ["a", "b"]);
    assert_eq!(openai.connect_timeout, Duration::from_millis(300));
    assert_eq!(openai.between_chunks_timeout, Duration::from_secs(3600));
    assert!(!openai.http2 && !settings.expose_headers);
    assert_eq!((settings.limits.body_bytes, settings.limits.in_flight), (1024, 1));
    assert_eq!(settings.admin.listen.to_string(), "[::1]:2");
    assert_eq!(settings.ledger, LedgerUrl::Redis("redis-cluster://books:7000".into()));
    assert_eq!(settings.time_zone, "Europe/Berlin");
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let found = bad(
        "lissen: 0.0.0.0:80\nlisten: here\nadmin:\n  listen: 127.0.0.1:9090\n  token: hunter2-hunter2\nledger: mysql://x\ntime_zone: Mars\nproviders:\n  openai:\n    base_url: ftp://x\n    on_disconnect: maybe\n    timeouts: { connect: 5, first_byte: 5 minutes }\n  oponai: {}\nlimits:\n  body_bytes: 0\n  in_flight: 1e3\n  nope: 1\nheaders: { expose: 1 }\nprices: nothing.yaml\n",
    );
    let starts = [
        "loopers.yaml:2: listen: `here` must be an address",
        "loopers.yaml:5: admin.token: a secret must not stand in this file",
        "loopers.yaml:6: ledger: must be file:PATH",
        "loopers.yaml:7: time_zone: `Mars` is not an IANA time zone",
        "loopers.yaml:19: prices: must be a list",
        "loopers.yaml:10: providers.openai.base_url: must begin with https://",
        "loopers.yaml:11: providers.openai.on_disconnect: must be drain or cancel",
        "loopers.yaml:12: providers.openai.timeouts.connect: must be text, not a number",
        "loopers.yaml:12: providers.openai.timeouts.first_byte: `5 minutes` must be a time",
        "loopers.yaml:13: providers.oponai.api: is missing: it says whose API oponai speaks",
        "loopers.yaml:13: providers.oponai.base_url: is missing",
        "loopers.yaml:15: limits.body_bytes: must be a whole number from 1024",
        "loopers.yaml:16: limits.in_flight: must be a whole number",
        "loopers.yaml:17: limits.nope: unknown field; known here: admin_connections, alert_notes, answer_bytes",
        "loopers.yaml:18: headers.expose: must be true or false",
        "loopers.yaml:1: lissen: unknown field; did you mean `listen`?",
    ];
    for start in starts {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start}\nnot in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), starts.len(), "{}", found.join("\n"));
}

#[test]
fn secrets_are_references_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("good", &format!("{SECRET}\n"));
    write("crlf", &format!("{SECRET}\r\n"));
    write("two", &format!("{SECRET}\n{SECRET}\n"));
    write("empty", "\n");
    let config = folder.path().join("loopers.yaml");
    let key = |reference: &str| {
        let text = format!("providers: {{ openai: {{ key: \"{reference}\" }} }}");
        let loaded = parse(&config, &text, &world, Purpose::Serve).map_err(|errors| errors.to_string())?;
        Ok::<_, String>(loaded.settings.providers["openai"].key.clone().unwrap().expose().to_string())
    };
    for reference in ["file:good", "file:crlf", "env:OPENAI_API_KEY"] {
        assert_eq!(key(reference), Ok(SECRET.into()), "{reference}");
    }
    for (reference, problem) in [
        (SECRET, "must not stand in this file"),
        ("", "must not stand in this file"),
        ("env:", "the name of an environment variable"),
        ("env:sk-very-secret-0123456789", "the name of an environment variable"),
        ("env:BROKEN", "line break"),
        ("file:missing", "cannot be read"),
        ("file:two", "line break"),
        ("file:empty", "is empty"),
    ] {
        let said = key(reference).unwrap_err();
        assert!(said.contains(problem) && !said.contains(SECRET), "{reference}: {said}");
        assert!(said.contains("loopers.yaml:1: providers.openai.key: "), "{said}");
    }
    assert!(!format!("{:?}", good("admin: { token: env:LOOPERS_ADMIN_TOKEN }")).contains(SECRET));
}

#[test]
fn a_secret_typed_in_the_wrong_place_is_not_shown() {
    for text in [
        format!("providers: {{ openai: {{ key:{SECRET} }} }}"),
        format!("providers:\n  openai:\n    key:{SECRET}\n"),
        format!("providers:\n  openai: {SECRET}\n"),
        format!("providers:\n  openai:\n    base_url: https://user:{SECRET}@host\n"),
        format!("providers:\n  openai:\n    base_url: https://host?key={SECRET}\n"),
        format!("admin: [{SECRET}]\n"),
        format!("ledger: redis://:{SECRET}@host:6379\n"),
        format!("ledger: {SECRET}\n"),
        format!("{SECRET}: x\n"),
        format!("{SECRET}\n"),
        format!("providers:\n  {SECRET}: x\n"),
    ] {
        assert!(!bad(&text).is_empty(), "{text}");
    }
}

#[test]
fn text_that_is_not_yaml_names_the_line() {
    for (text, start) in [
        ("listen: a\n  admin: b\n", "loopers.yaml:2: not valid YAML"),
        ("listen: a\nlisten: b\n", "loopers.yaml:2: not valid YAML: a field is given twice"),
        ("listen: [\n", "loopers.yaml:"),
        ("ledger: memory:\n", "loopers.yaml:1: not valid YAML"),
        ("- a\n", "loopers.yaml: must be a section"),
    ] {
        let found = bad(text);
        assert!(found.len() == 1 && found[0].starts_with(start), "{text:?}: {found:?}");
    }
    assert!(bad("ledger: memory:\n")[0].contains("\"memory:\", in quotes"));
}

#[test]
fn ledgers() {
    for (text, shown) in [
        ("ledger: file:books.db", "file:books.db"),
        ("ledger: \"memory:\"", "memory:"),
        ("ledger: memory", "memory:"),
        ("ledger: redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
        ("ledger: env:REDIS_URL", "rediss://***@books:6379/0"),
    ] {
        let ledger = good(text).ledger;
        assert_eq!(ledger.to_string(), shown);
        assert!(!format!("{ledger:?}").contains(SECRET));
    }
    for text in
        ["ledger: \"file:\"", "ledger: redis://", "ledger: env:OPENAI_API_KEY", "ledger: env:NOT_SET", "ledger: 7"]
    {
        assert_eq!(bad(text).len(), 1, "{text}");
    }
    let elsewhere = parse(Path::new("/etc/loopers/loopers.yaml"), "", &world, Purpose::Serve).unwrap().settings;
    assert_eq!(elsewhere.ledger, LedgerUrl::File("/etc/loopers/loopers.db".into()));
}

#[test]
fn base_urls() {
    let url = |text: &str| values::base_url(text);
    for (text, authority, shown) in [
        ("https://api.openai.com", "api.openai.com", "https://api.openai.com"),
        ("http://127.0.0.1:9999/", "127.0.0.1:9999", "http://127.0.0.1:9999"),
        ("https://[2001:DB8::1]:443/a/b", "[2001:db8::1]", "https://[2001:db8::1]/a/b"),
        ("http://ollama:80", "ollama", "http://ollama"),
    ] {
        let url = url(text).unwrap();
        assert_eq!((url.authority().as_str(), url.to_string().as_str()), (authority, shown));
    }
    for text in [
        "",
        "api.openai.com",
        "https://",
        "https://:80",
        "https:///x",
        "https://a b",
        "https://h:0",
        "https://h:70000",
        "https://h:",
        "https://h:x",
        "https://u@h",
        "https://h?x",
        "https://h/#x",
        "https://h/a/../b",
        "https://h//a",
        "https://h/%2e",
        "https://[::1",
        "https://[::1]x",
        "https://h\\x",
        "HTTPS://h",
        "https://a..b",
    ] {
        assert!(url(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn doubts_are_warnings() {
    let text = "providers: { openai: { base_url: https://api.openai.com/v1 } }\nadmin: { token: env:SHORT }";
    let loaded = parse(Path::new("l.yaml"), text, &|_| Some("short".into()), Purpose::Serve).unwrap();
    let shown: Vec<String> = loaded.warnings.iter().map(Problem::to_string).collect();
    assert!(
        shown.iter().any(|line| line.starts_with("l.yaml:1: providers.openai.base_url: ends with /v1")),
        "{shown:?}"
    );
    assert!(shown.iter().any(|line| line.starts_with("l.yaml:2: admin.token: is shorter than 16")), "{shown:?}");
}

#[test]
fn the_region_of_openai_is_that_of_its_host_or_named() {
    let region = |provider: &str| {
        let settings = good(&format!("providers: {{ {provider} }}"));
        let (_, provider) = settings.providers.into_iter().next().unwrap();
        provider.options.region
    };
    for (provider, want) in [
        ("openai: {}", None),
        ("openai: { base_url: \"https://eu.api.openai.com\" }", Some("eu")),
        ("openai: { base_url: \"https://us.api.openai.com\" }", Some("us")),
        ("openai: { base_url: \"https://api.openai.com\", region: us }", Some("us")),
        ("mine: { api: openai, base_url: \"https://eu.api.openai.com\" }", Some("eu")),
        ("openai: { base_url: \"https://eu.api.openai.com.evil.test\" }", None),
        ("azure: { base_url: \"https://x.openai.azure.com\", region: swedencentral }", Some("swedencentral")),
    ] {
        assert_eq!(region(provider).as_deref(), want, "{provider}");
    }
    let found = bad("providers: { openai: { region: europe } }");
    assert!(found[0].contains("providers.openai.region: must be one of us, eu"), "{found:?}");
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    for (text, start) in [
        ("listen: 0.0.0.0:9090", "loopers.yaml: listen: port 9090 is also that of admin.listen"),
        (
            "limits: { body_bytes: 2097152, answer_bytes: 1024, buffered_bytes: 1048576 }",
            "loopers.yaml:1: limits.buffered_bytes",
        ),
        ("tls: { cert: missing.pem }", "loopers.yaml:1: tls.cert: missing.pem cannot be read"),
        ("providers: {}", "loopers.yaml:1: providers.openai: no provider is configured"),
    ] {
        let found = bad(text);
        assert!(found[0].replace("yaml:1: listen", "yaml: listen").starts_with(start), "{text}: {found:?}");
    }
}

#[test]
fn e51_a_rule_that_can_never_match_is_refused() {
    for (text, start) in [
        ("alerts: { thresholds: [50] }", "loopers.yaml:1: alerts.thresholds: can never have an effect"),
        ("alerts: { webhooks: {}, tries: 3 }", "loopers.yaml:1: alerts.tries: can never have an effect"),
        (
            "alerts: { webhooks: { ops: { url: \"http://10.0.0.1/\" } }, thresholds: [50, 80, 50] }",
            "loopers.yaml:1: alerts.thresholds: names one twice",
        ),
    ] {
        let found = bad(text);
        assert!(found.len() == 1 && found[0].starts_with(start), "{text}: {found:?}");
    }
    good("alerts: { webhooks: { ops: { url: \"http://10.0.0.1/\" } }, thresholds: [50, 80] }");
}

#[test]
fn without_a_config_openai_and_a_local_file_hold() {
    let settings = defaults(&world).unwrap().settings;
    assert_eq!(settings.ledger.to_string(), "file:loopers.db");
    let openai = &settings.providers["openai"];
    assert_eq!((openai.base_url.to_string().as_str(), openai.key.is_some()), ("https://api.openai.com", true));
    assert!(defaults(&|_| None).unwrap().settings.providers["openai"].key.is_none());
}

#[test]
fn work_on_the_books_needs_no_secrets() {
    let text = "admin: { token: env:NOT_SET }\nproviders: { openai: { key: file:missing } }";
    let settings = parse(Path::new("l.yaml"), text, &world, Purpose::Books).unwrap().settings;
    assert!(settings.admin.token.is_none() && settings.providers["openai"].key.is_none());
    assert!(parse(Path::new("l.yaml"), "admin: { token: hunter2 }", &world, Purpose::Books).is_err());
    assert!(parse(Path::new("l.yaml"), "ledger: env:NOT_SET", &world, Purpose::Books).is_err());
}

#[test]
fn a_provider_whose_key_is_not_set_stops_no_other() {
    let text = "providers:\n  openai: { key: env:OPENAI_API_KEY }\n  gemini:\n    key: env:NOT_SET\n  mistral: { key: env:EMPTY }\n";
    let loaded = parse(Path::new("l.yaml"), text, &world, Purpose::Serve).unwrap();
    let keyed = |name: &str| loaded.settings.providers[name].key.is_some();
    assert_eq!(["openai", "gemini", "mistral"].map(keyed), [true, false, false]);
    let shown: Vec<String> = loaded.warnings.iter().map(Problem::to_string).collect();
    let start = "l.yaml:4: providers.gemini.key: environment variable NOT_SET is not set: calls to gemini must bring";
    assert!(shown[0].starts_with(start) && shown[1].contains("EMPTY is empty"), "{shown:?}");
    assert!(loaded.warnings.iter().all(|warning| warning.code == fault::MISSING_ENV));
    // The admin token guards something: without it nothing starts.
    for token in ["env:NOT_SET", "env:EMPTY"] {
        let text = format!("admin: {{ token: {token} }}");
        let found = parse(Path::new("l.yaml"), &text, &world, Purpose::Serve).unwrap_err().0;
        assert_eq!((found.len(), found[0].code), (1, fault::MISSING_ENV), "{found:?}");
    }
}

#[test]
fn each_mistake_has_its_code() {
    for (text, code) in [
        ("lissen: x", fault::UNKNOWN_FIELD),
        ("listen: a\nlisten: b", fault::DUPLICATE_FIELD),
        ("listen: [", fault::INVALID_YAML),
        ("listen: here", fault::INVALID_VALUE),
        ("listen: 0.0.0.0:9090", fault::SAME_PORT),
        ("ledger: mysql://x", fault::INVALID_LEDGER),
        ("ledger: env:OPENAI_API_KEY", fault::INVALID_LEDGER),
        ("ledger: env:NOT_SET", fault::MISSING_ENV),
        ("ledger: \"redis://:p@h\"", fault::SECRET_IN_CONFIG),
        ("providers: { openai: { key: sk-1 } }", fault::SECRET_IN_CONFIG),
        ("providers: { openai: { key: env:BROKEN } }", fault::UNUSABLE_SECRET),
        ("providers: { openai: { key: file:missing } }", fault::UNREADABLE_FILE),
        ("providers: { openai: { base_url: api.openai.com } }", fault::INVALID_BASE_URL),
        ("prices: [missing.yaml]", fault::UNREADABLE_FILE),
    ] {
        let found = parse(Path::new("l.yaml"), text, &world, Purpose::Serve).unwrap_err().0;
        assert_eq!((found.len(), found[0].code), (1, code), "{text}: {found:?}");
    }
}

#[test]
fn a_price_file_adds_to_the_table_of_the_program_where_builtin_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let row = "openai/mine:\n  input: \"1\"\n  output: \"2\"\n  context_window: 1000\n  max_output: 100\n";
    std::fs::write(folder.path().join("mine.yaml"), row).unwrap();
    let read = |text: &str| parse(&folder.path().join("l.yaml"), text, &world, Purpose::Serve).unwrap().settings;
    for (text, mine, of_program, sources) in [
        ("prices: [builtin]", false, true, 0),
        ("prices: [mine.yaml]", true, false, 1),
        ("prices: [builtin, mine.yaml]", true, true, 1),
    ] {
        let settings = read(text);
        let has = |model: &str| settings.prices.get(model).is_some();
        assert_eq!((has("openai/mine"), has("openai/gpt-5")), (mine, of_program), "{text}");
        assert_eq!(settings.sources.len(), sources + 1, "the config and what may change beside it: {text}");
    }
}

#[test]
fn every_field_is_described_and_nothing_else_is() {
    let asked = reference::fields();
    let limit =
        |path: &str| path.strip_prefix("limits.").is_some_and(|name| Limits::TABLE.iter().any(|row| row.0 == name));
    for (path, _) in &asked {
        let rows = reference::ROWS.iter().filter(|row| row.path == path).count();
        assert_eq!(rows, usize::from(!limit(path)), "{path} needs one row in src/config/reference.rs");
    }
    for row in reference::ROWS {
        assert!(asked.iter().any(|(path, _)| path == row.path), "nobody asks for {}", row.path);
    }
}

#[test]
fn described_defaults_are_what_holds_without_the_field() {
    let without = format!("{:?}", good(""));
    let mut tried = 0;
    for row in reference::ROWS.iter().filter(|row| !row.default.is_empty() && !row.path.starts_with("alerts.webhooks"))
    {
        let steps: Vec<String> = row.path.split('.').map(|step| step.replace("NAME", "openai")).collect();
        let text = format!("{}: {}{}", steps.join(": { "), row.default, " }".repeat(steps.len() - 1));
        // Not `==`: it must also be the same in a field that is added later.
        assert_eq!(format!("{:?}", good(&text)), without, "{text}");
        tried += 1;
    }
    assert!(tried >= 10, "{tried}");
}

#[test]
fn deployments_have_the_names_that_their_clouds_give() {
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc";
    let text = format!(
        "providers:\n  azure: {{ base_url: \"https://x.openai.azure.com\", deployments: {{ My-GPT-4o.prod-in-western-europe: gpt-4o }} }}\n  \
         bedrock:\n    base_url: https://bedrock-runtime.us-east-1.amazonaws.com\n    deployments:\n      \"{arn}\": us.anthropic.claude-opus-5-5\n"
    );
    let settings = good(&text);
    assert_eq!(settings.providers["azure"].options.deployments["My-GPT-4o.prod-in-western-europe"], "gpt-4o");
    assert_eq!(settings.providers["bedrock"].options.deployments[arn], "us.anthropic.claude-opus-5-5");
    let wrong = bad(&text.replace("us.anthropic.claude-opus-5-5", "7"));
    assert!(wrong.len() == 1 && wrong[0].contains("must be text"), "{wrong:?}");
}

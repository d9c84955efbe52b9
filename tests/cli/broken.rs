//! Set-ups that are broken in one way each: each gets its own finding, with the line to change, and no other.

use std::net::TcpListener;

use super::servers::{Change, Redis, between, cert, plain, tls, told};
use super::setups::{PROVIDER_KEY, Setup};
use super::world::free_port;

/// A way to break a set-up, and what the doctor has to say: severity and code, the line, a part of the fix.
struct Case {
    name: &'static str,
    harm: fn(&mut Setup),
    says: (&'static str, &'static str),
    line: Option<u64>,
    fix: &'static str,
}

const fn case(
    name: &'static str,
    says: (&'static str, &'static str),
    line: u64,
    fix: &'static str,
    harm: fn(&mut Setup),
) -> Case {
    Case { name, harm, says, line: if line == 0 { None } else { Some(line) }, fix }
}

const fn error(code: &'static str) -> (&'static str, &'static str) {
    ("error", code)
}

const fn warning(code: &'static str) -> (&'static str, &'static str) {
    ("warning", code)
}

const CONFIG: [Case; 14] = [
    case("unknown field", error("unknown_field"), 9, "correct the name `lissten`", |s| s.more("lissten: x")),
    case("duplicate provider", error("duplicate_field"), 9, "remove one", |s| s.more("  openai: {}")),
    case("not YAML", error("invalid_yaml"), 2, "correct this line", |s| s.line(2, "admin: { listen: [ }")),
    case("missing key", warning("missing_env"), 8, "export OPENAI_API_KEY=", |s| s.world.env.clear()),
    case("missing token", error("missing_env"), 9, "export NO_SUCH_TOKEN=", |s| {
        let listen = format!("  listen: 127.0.0.1:{}", s.port(2));
        s.line(2, "# see below");
        s.more("admin: { token: env:NO_SUCH_TOKEN,");
        s.more(format!("{listen} }}"));
    }),
    case("secret in the file", error("secret_in_config"), 8, "key: env:NAME", |s| s.line(8, "    key: sk-live-1")),
    case("key with a line break", error("unusable_secret"), 8, "put the key alone", |s| {
        s.world.set("OPENAI_API_KEY", format!("{PROVIDER_KEY}\n"));
    }),
    case("no URL", error("invalid_base_url"), 7, "base_url: https://HOST", |s| s.base_url("api.openai.com".into())),
    case("unencrypted, and with /v1", warning("invalid_base_url"), 7, "no /v1", |s| {
        let with_version = s.lines[6].trim().trim_start_matches("base_url: ").to_string() + "/v1";
        s.base_url(with_version);
    }),
    case("price file away", error("unreadable_file"), 9, "the path of a file that is there", |s| {
        s.more("prices: [none.yaml]")
    }),
    case("broken price", error("invalid_price"), 2, "correct this row", |s| {
        s.world.write("mine.yaml", "openai/x:\n  input: 0.1\n  output: \"1\"\n  context_window: 1000\n");
        s.more("prices: [mine.yaml]");
    }),
    case("no such ledger", error("invalid_ledger"), 3, "ledger: file:", |s| s.line(3, "ledger: mysql://x")),
    case("one port for both", error("same_port"), 1, "admin: { listen:", |s| {
        let line = s.lines[0].clone();
        s.line(2, format!("admin: {{ {line} }}"));
    }),
    case("token that is guessed", warning("weak_token"), 2, "openssl rand", |s| {
        s.world.set("TOKEN", "short");
        let line = s.lines[1].replace(" }", ", token: env:TOKEN }");
        s.line(2, line);
    }),
];

const PRICES: [Case; 4] = [
    case("provider without prices", error("provider_without_prices"), 9, "prices: [builtin, groq.yaml]", |s| {
        let url = s.lines[6].trim().to_string();
        s.more(format!("  groq: {{ api: openai, {url}, key: env:OPENAI_API_KEY }}"));
    }),
    case("deployment without a price", error("model_without_price"), 9, "loopers prices show", |s| {
        let url = s.lines[6].trim().to_string();
        s.more(format!("  azure: {{ {url}, key: env:OPENAI_API_KEY, deployments: {{ mine: gpt-nope }} }}"));
    }),
    case("price that no longer holds", warning("prices_out_of_date"), 9, "import the price file again", |s| {
        s.world.write("mine.yaml", price("valid_to: \"2026-01-01\""));
        s.more("prices: [mine.yaml]");
    }),
    case("old prices", warning("prices_old"), 6, "loopers prices import", |s| {
        s.world.write("mine.yaml", price("valid_from: \"2025-01-01\""));
        s.more("prices: [mine.yaml]");
    }),
];

fn price(more: &str) -> String {
    format!(
        "openai/x:\n  input: \"1\"\n  output: \"2\"\n  context_window: 1000\n  max_output: 100\n  {more}\n  source: \"a test\"\n"
    )
}

const REDIS: [Case; 11] = [
    case("Redis down", error("redis_down"), 3, "start Redis", |s| {
        s.redis(format!("redis://127.0.0.1:{}", free_port()))
    }),
    case("wrong Redis password", error("redis_password"), 3, "redis://:PASSWORD@", |s| {
        let port = redis(s, &["--requirepass", "right"]);
        s.redis(format!("redis://:wrong-one@127.0.0.1:{port}"));
    }),
    case("no Redis password", error("redis_password"), 3, "redis://:PASSWORD@", |s| {
        let port = redis(s, &["--requirepass", "right"]);
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("Redis that evicts", error("redis_evicts"), 3, "maxmemory-policy noeviction", |s| {
        let port = redis(s, &["--maxmemory-policy", "allkeys-lru"]);
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("Redis that forgets", warning("redis_not_persisted"), 3, "appendonly yes", |s| {
        let port = redis(s, &["--appendonly", "no"]);
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("Redis with snapshots only", warning("redis_snapshots_only"), 3, "appendonly yes", |s| {
        let port = redis(s, &["--appendonly", "no", "--save", "3600 1"]);
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("lost books", error("ledger_lost"), 3, "loopers ledger rebuild", |s| {
        let port = redis(s, &[]);
        assert_eq!(told(port, "HSET lp1:books id b1 gen 0 lost emptied at 1790000000000"), Some(b':'));
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("a replica", error("redis_is_replica"), 3, "of the primary", |s| {
        let nobody = free_port().to_string();
        let port = redis(s, &["--replicaof", "127.0.0.1", &nobody]);
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("clock skew", warning("clock_skew"), 3, "set-ntp true", |s| {
        let port = between(redis(s, &[]), Change::Clock(90));
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("old Redis", error("redis_too_old"), 3, "update the server", |s| {
        let port = between(redis(s, &[]), Change::Reply("redis_version:7", "redis_version:6"));
        s.redis(format!("redis://127.0.0.1:{port}"));
    }),
    case("no Cluster", error("redis_mode"), 3, "ledger: redis://", |s| {
        let port = redis(s, &[]);
        s.redis(format!("redis-cluster://127.0.0.1:{port}"));
    }),
];

fn redis(setup: &mut Setup, options: &[&str]) -> u16 {
    let redis = Redis::start(options);
    let port = redis.port;
    setup.world.keep.push(Box::new(redis));
    port
}

const MACHINE: [Case; 12] = [
    case("folder away", error("ledger_folder_missing"), 3, "ledger: file:PATH", |s| s.line(3, "ledger: file:no/l.db")),
    // Not even root makes files there.
    case("unwritable folder", error("ledger_folder_unwritable"), 3, "ledger: file:PATH", |s| {
        s.line(3, "ledger: file:/proc/loopers.db");
    }),
    case("damaged ledger", error("ledger_damaged"), 3, "restore the file", |s| {
        s.world.write("loopers.db", vec![b'x'; 8192]);
    }),
    case("two gateways on one file", error("ledger_claimed"), 3, "stop the other one", |s| {
        let port = free_port();
        let other = s.lines.join("\n").replace(&s.lines[0], &format!("listen: 127.0.0.1:{port}"));
        let other = other.replace(&s.lines[1], &format!("admin: {{ listen: 127.0.0.1:{} }}", free_port()));
        s.world.write("other.yaml", other);
        s.world.serve("other.yaml", port);
    }),
    case("books in memory", warning("ledger_in_memory"), 3, "ledger: file:", |s| s.line(3, "ledger: \"memory:\"")),
    case("port taken", error("port_taken"), 1, "ss -ltnp", |s| {
        let taken = TcpListener::bind(("127.0.0.1", s.port(1))).unwrap();
        s.world.keep.push(Box::new(taken));
    }),
    case("admin port taken", error("port_taken"), 2, "admin: { listen:", |s| {
        let port = plain("404 Not Found");
        s.line(2, format!("admin: {{ listen: 127.0.0.1:{port} }}"));
    }),
    case("another machine's address", error("address_not_here"), 1, "listen: 0.0.0.0", |s| {
        s.line(1, "listen: 192.0.2.1:9")
    }),
    case("low file limit", warning("file_limit_low"), 4, "ulimit -n 20256", |s| {
        s.line(4, "limits: { in_flight: 10000 }");
        s.world.files = Some(256);
    }),
    case("expired certificate", error("certificate_expired"), 9, "renew it", |s| {
        own_certificate(s, "expired.pem", "server.key")
    }),
    case("key of another certificate", error("certificate_key_mismatch"), 9, "tls: { cert:", |s| {
        own_certificate(s, "good.pem", "another.key");
    }),
    case("no certificate at all", error("certificate_invalid"), 9, "tls: { cert:", |s| {
        own_certificate(s, "README.md", "server.key");
    }),
];

fn own_certificate(setup: &mut Setup, chain: &str, key: &str) {
    setup.more(format!("tls: {{ cert: \"{}\", key: \"{}\" }}", cert(chain).display(), cert(key).display()));
}

const PROVIDERS: [Case; 11] = [
    case("provider away", error("provider_unreachable"), 7, "base_url: https://HOST", |s| {
        s.base_url(format!("http://127.0.0.1:{}", free_port()));
    }),
    case("provider away, without a key", warning("provider_unreachable"), 7, "base_url: https://HOST", |s| {
        s.base_url(format!("http://127.0.0.1:{}", free_port()));
        s.lines.pop();
    }),
    case("no such host", error("provider_name_unknown"), 7, "a host that DNS knows", |s| {
        s.base_url("https://no-such-host.invalid".into());
    }),
    case("expired there", error("provider_certificate_expired"), 7, "renew the certificate", |s| at(s, "expired.pem")),
    case("self-signed there", error("provider_certificate_untrusted"), 6, "ca_file: ca.pem", |s| at(s, "self.pem")),
    case("unknown CA there", error("provider_certificate_untrusted"), 6, "ca_file: ca.pem", |s| at(s, "good.pem")),
    case("another name there", error("provider_certificate_wrong_name"), 7, "the name that", |s| {
        at(s, "other.pem");
        s.more(format!("    ca_file: \"{}\"", cert("ca.pem").display()));
    }),
    case("no TLS there", error("provider_no_tls"), 7, "http://HOST:PORT", |s| {
        s.base_url(format!("https://127.0.0.1:{}", plain("200 OK")));
    }),
    case("wrong key", error("provider_key_refused"), 8, "put the right key", |s| {
        s.base_url(format!("http://127.0.0.1:{}", plain("401 Unauthorized")));
    }),
    case("a Loopers key as the provider's", error("provider_key_is_loopers"), 8, "own key", |s| {
        s.world.set("OPENAI_API_KEY", format!("lp-{}", "a".repeat(43)));
    }),
    case("not the API", warning("provider_no_models"), 7, "without /v1", |s| {
        s.base_url(format!("http://127.0.0.1:{}", plain("404 Not Found")));
    }),
];

fn at(setup: &mut Setup, chain: &str) {
    setup.base_url(format!("https://127.0.0.1:{}", tls(chain)));
}

fn try_all(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let mut setup = Setup::new();
        (case.harm)(&mut setup);
        setup.write();
        if let Err(problem) = try_one(case, &setup) {
            wrong.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn try_one(case: &Case, setup: &Setup) -> Result<(), String> {
    let (report, code) = setup.world.doctor();
    let show = || serde_json::to_string_pretty(&report).unwrap();
    // A set-up that is new has no keys; that is not what is broken here.
    let all = report["findings"].as_array().unwrap();
    let found: Vec<_> = all.iter().filter(|one| one["severity"] != "ok" && one["code"] != "no_keys").collect();
    let [one] = found.as_slice() else { return Err(format!("not one finding: {}", show())) };
    let (severity, expected) = case.says;
    let is_right = one["code"] == expected
        && one["severity"] == severity
        && one["line"].as_u64() == case.line
        && one["fix"].as_str().is_some_and(|fix| fix.contains(case.fix))
        && one["message"].as_str().is_some_and(|message| message.len() > 20);
    if !is_right || code != i32::from(severity == "error") || report["ok"] != (severity != "error") {
        return Err(format!("exit code {code}: {}", show()));
    }
    if show().contains(PROVIDER_KEY) || show().contains("wrong-one") {
        return Err("a secret is shown".into());
    }
    let documented = include_str!("../../docs/CLI.md").contains(&format!("`{expected}`"));
    if documented { Ok(()) } else { Err(format!("{expected} is not in docs/CLI.md")) }
}

#[test]
fn what_is_sound_has_no_findings() {
    let mut setup = Setup::new();
    setup.write();
    setup.world.good(&["keys", "create", "--name", "me", "--daily", "1"]);
    for trusted in [false, true] {
        if trusted {
            at(&mut setup, "good.pem");
            setup.more(format!("    ca_file: \"{}\"", cert("ca.pem").display()));
            own_certificate(&mut setup, "good.pem", "server.key");
            setup.write();
        }
        let (report, code) = setup.world.doctor();
        let counted = (&report["errors"], &report["warnings"], &report["ok"]);
        assert_eq!((counted, code), ((&0.into(), &0.into(), &true.into()), 0), "{report:#}");
    }
    let mut on_redis = Setup::new();
    let port = redis(&mut on_redis, &[]);
    on_redis.redis(format!("redis://127.0.0.1:{port}"));
    on_redis.write();
    on_redis.world.good(&["keys", "create", "--name", "me", "--daily", "1"]);
    let (report, code) = on_redis.world.doctor();
    assert_eq!((&report["errors"], &report["warnings"], code), (&0.into(), &0.into(), 0), "{report:#}");
}

#[test]
fn a_running_gateway_is_no_port_that_is_taken() {
    let mut setup = Setup::new();
    setup.write();
    let port = setup.port(1);
    setup.world.serve("loopers.yaml", port);
    let (report, code) = setup.world.doctor();
    let codes: Vec<&str> =
        report["findings"].as_array().unwrap().iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(code == 0 && codes.contains(&"running") && codes.contains(&"hold"), "{report:#}");
    // The same ports with other books are another gateway's.
    setup.line(3, "ledger: file:other.db");
    setup.write();
    let (report, code) = setup.world.doctor();
    assert!(code == 1 && report["findings"].to_string().contains("another ledger"), "{report:#}");
}

#[test]
fn broken_configs() {
    try_all(&CONFIG);
}

#[test]
fn broken_prices() {
    try_all(&PRICES);
}

#[test]
fn broken_redis() {
    try_all(&REDIS);
}

#[test]
fn broken_machines() {
    try_all(&MACHINE);
}

#[test]
fn broken_providers() {
    try_all(&PROVIDERS);
}

#[test]
fn the_report_for_people_names_file_line_code_and_fix() {
    let mut setup = Setup::new();
    setup.more("lissten: x");
    setup.write();
    let said = setup.world.run(&["doctor"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("error   loopers.yaml:9: lissten: unknown field"), "{}", said.out);
    assert!(said.out.contains("[unknown_field]\n          -> correct the name"), "{}", said.out);
    assert!(said.out.trim_end().ends_with("1 error, 0 warnings"), "{}", said.out);
}

//! E 45, 49, 50: who tries keys, whose key is no longer good, and what a crash leaves behind.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::support::process::{LOOPERS, Process, free_port, local};
use crate::support::world::{ADMIN_TOKEN, CONFIG_PROVIDER_KEY};
use crate::support::*;

/// A well-formed key that was never made.
fn guess(at: usize) -> String {
    format!("lp-{at:043}")
}

/// A connection from one of this machine's other addresses.
async fn open_from(from: [u8; 4], to: SocketAddr) -> Conn {
    Conn::open_from(SocketAddr::from((from, 0)), to).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e49_guessing_is_limited_by_address_and_valid_keys_never_notice() {
    let world = World::new().limit("auth_failures_per_minute", 20).start().await;
    let key = world.rich();
    early_in_the_minute().await;
    let chat = |secret: &str| Request::chat(&ask("tokens=3")).bearer(secret);
    let mut codes = Vec::new();
    for at in 0..40 {
        let answer = world.send(&chat(&guess(at))).await;
        assert!(answer.header("x-should-retry") == Some("false") && answer.header("retry-after").is_none());
        codes.push((answer.status, answer.code()));
    }
    let (bad, limited) = ((401, "invalid_key".to_string()), (429, "rate_limited".to_string()));
    assert!(codes[..20].iter().all(|code| *code == bad), "{codes:?}");
    assert!(codes[20..].iter().all(|code| *code == limited), "{codes:?}");
    // Whatever is wrong with a key gets the same answer now as well.
    for secret in ["", "sk-other", "lp-short", ADMIN_TOKEN] {
        world.send(&chat(secret)).await.refused(429, "rate_limited");
    }
    let budget = Request::get("/loopers/v1/budget").bearer(&guess(1));
    world.send(&budget).await.refused(429, "rate_limited");
    // A valid key from the same address, known to this gateway or not, is served.
    world.send(&chat(&key.secret)).await.expect(200);
    let fresh = world.rich();
    world.send(&chat(&fresh.secret)).await.expect(200);
    // So is another address, with its own count.
    let other = open_from([127, 0, 0, 2], world.gateway()).await.call(&chat(&guess(0))).await;
    other.refused(401, "invalid_key");
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.posts, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e49_more_addresses_than_can_be_counted_limit_only_who_fails() {
    let world = World::new().limit("auth_addresses", 100).start().await;
    let key = world.rich();
    early_in_the_minute().await;
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for at in 0..150_u8 {
        let mut conn = open_from([127, 0, 1, at + 1], world.gateway()).await;
        let answer = conn.call(&Request::chat(&ask("tokens=3")).bearer(&guess(usize::from(at)))).await;
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses, [(401, 100), (429, 50)].into(), "{statuses:?}");
    let mut conn = open_from([127, 0, 2, 1], world.gateway()).await;
    conn.call(&Request::chat(&ask("tokens=3")).bearer(&key.secret)).await.expect(200);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e49_known_and_unknown_keys_take_the_same_way() {
    // Keys are compared by the hash of all of it: a key that differs in its last character is as unknown as any other, in status,
    // headers and body.
    let world = World::plain().await;
    let key = world.rich();
    let mut near = key.secret.clone();
    let last = if near.ends_with('0') { '1' } else { '0' };
    near.pop();
    near.push(last);
    let shape = |answer: &Answer| {
        let names: Vec<String> = answer.head.headers.iter().map(|(name, _)| name.clone()).collect();
        let mut body = answer.json();
        body["error"]["loopers"]["request_id"] = json!(null);
        let text = body.to_string().replace(answer.header("x-request-id").unwrap_or("-"), "ID");
        (answer.status, names, text)
    };
    let mut shapes = Vec::new();
    for secret in [near.as_str(), &guess(7), "lp-", "", "sk-1"] {
        shapes.push(shape(&world.send(&Request::chat(&ask("")).bearer(secret)).await));
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e50_expired_revoked_rotated_and_stopped_keys_do_not_go_on() {
    let world = World::new().redis().gateways(2).start().await;
    world.cli_ok(&["teams", "create", "--name", "crew", "--daily", "5"]);
    let member = world.key(&["--team", "crew"]);
    let soon = (jiff::Timestamp::now() + Duration::from_secs(45)).to_string();
    let brief = world.key(&["--daily", "1", "--expires", &soon]);
    let (rotated, revoked) = (world.key(&["--daily", "1"]), world.key(&["--daily", "1"]));
    let call = async |gateway: usize, secret: &str| {
        world.send_to(gateway, &Request::chat(&ask("tokens=5")).bearer(secret)).await
    };
    // Both gateways know all of them before anything changes.
    for gateway in 0..2 {
        for key in [&member, &brief, &rotated, &revoked] {
            call(gateway, &key.secret).await.expect(200);
        }
    }
    let posts = world.invoice().await.posts;
    world.cli_ok(&["keys", "rotate", &rotated.id]);
    world.cli_ok(&["keys", "revoke", &revoked.id]);
    world.cli_ok(&["kill", "crew"]);
    until("it expires", async || call(0, &brief.secret).await.status == 403).await;
    let after = world.invoice().await.posts;
    for gateway in 0..2 {
        call(gateway, &brief.secret).await.refused(403, "key_expired");
        call(gateway, &rotated.secret).await.refused(401, "invalid_key");
        call(gateway, &revoked.secret).await.refused(403, "key_revoked");
        // Of a team that was stopped no key goes on. A team is never deleted, so none outlives it.
        call(gateway, &member.secret).await.refused(403, "key_paused");
    }
    assert!(after >= posts && world.invoice().await.posts == after, "nothing went out");
    world.cli_ok(&["resume", "crew"]);
    call(1, &member.secret).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e50_a_key_opens_only_what_it_was_made_for() {
    let world = six::six().start().await;
    let key = world.key(&["--daily", "1", "--providers", "openai", "--models", "gpt-4o-mini"]);
    for kind in six::plain(50).iter().chain(&six::streams(50)) {
        let answer = world.send(&kind.request(&key, "")).await;
        if kind.provider() == "openai" {
            answer.expect(200);
        } else {
            assert_eq!(answer.status, 403, "{}: {}", kind.path, answer.text());
            assert!(answer.text().contains("provider_not_allowed"), "{}: {}", kind.path, answer.text());
        }
    }
    world.chat(&key, &json::ask_model("gpt-4o", "tokens=5")).await.refused(403, "model_not_allowed");
    let elsewhere = world.key(&["--daily", "1", "--allow-ip", "10.0.0.0/8"]);
    let forwarded = Request::chat(&ask("")).bearer(&elsewhere.secret).header("x-forwarded-for", "10.0.0.1");
    world.send(&forwarded).await.refused(403, "ip_not_allowed");
    world.assert_books_exact().await;
}

/// Everything below a folder, of files and their names.
fn everything(folder: &std::path::Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            everything(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
}

fn holds(text: &[u8], secret: &str) -> bool {
    text.windows(secret.len()).any(|window| window == secret.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e45_a_core_dump_holds_no_key() {
    let world = World::new().under(&["prlimit", "--core=unlimited:unlimited"]).start().await;
    let key = world.key(&["--daily", "1"]);
    let mut live = world.live(&key, &streamed("tokens=300;rate=50;leave=stop")).await;
    live.skip(3).await;
    let pid = world.gateways[0].process.id();
    let filter = std::fs::read_to_string(format!("/proc/{pid}/coredump_filter")).expect("a filter");
    assert_eq!(filter.trim().trim_start_matches('0'), "", "what a dump would hold: {filter}");
    world.gateways[0].process.signal("ABRT");
    live.finish().await;
    // Where the system writes dumps into the folder of the process there is one now.
    let mut files = Vec::new();
    everything(world.dir.path(), &mut files);
    for (name, bytes) in &files {
        assert!(!name.contains("core") || !holds(bytes, &key.secret), "{name} holds the proxy key");
        assert!(!name.contains("core") || !holds(bytes, CONFIG_PROVIDER_KEY), "{name} holds the provider's key");
    }
}

/// Keys in every place where a client may put them, in calls that end in every way.
fn calls_with_keys(lp: &str, own: &str) -> Vec<Request> {
    let gemini = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";
    let body = r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"maxOutputTokens":50}}"#;
    vec![
        Request::chat(&ask("tokens=3")).bearer(lp),
        Request::chat(&ask("tokens=3;status=500")).bearer(lp),
        Request::chat(&streamed("tokens=30;obey=0;rate=500")).bearer(lp),
        Request::post(&format!("/{lp}/openai/v1/chat/completions"), ask("tokens=3").to_string()).bearer(own),
        Request::post(&format!("/{lp}/gone/v1/chat/completions"), ask("tokens=3").to_string()).bearer(own),
        Request::post(&format!("/{lp}/openai/v1/nowhere"), "{}").bearer(own),
        Request::post(&format!("/{lp}/{lp}/openai/v1/chat/completions"), "{}").bearer(own),
        Request::post(&format!("{gemini}?key={lp}"), body),
        Request::post(&format!("{gemini}?key={lp}&key={lp}"), body),
        Request::post(&format!("/{lp}{gemini}?key={own}"), body),
        Request::chat(&ask("tokens=3")).bearer(lp).header("x-loopers-provider-key", own),
        Request::chat(&ask("tokens=3")).header("x-api-key", lp).header("content-length", "1x"),
        Request::chat(&ask("tokens=3")).header("api-key", &format!("{lp}\u{1}")),
        Request::get("/loopers/v1/budget").bearer(lp),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e45_the_most_talkative_log_names_no_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let mock = World::plain().await;
    let (port, admin) = (free_port(), free_port());
    let config = dir.path().join("loopers.yaml");
    let yaml = format!(
        "listen: 127.0.0.1:{port}\nadmin: {{ listen: \"127.0.0.1:{admin}\", token: env:LOOPERS_ADMIN_TOKEN }}\n\
         ledger: file:books.db\nproviders:\n  openai: {{ base_url: \"http://{}\", key: env:OPENAI_API_KEY }}\n  \
         gemini: {{ base_url: \"http://{}/gemini\", key: env:OPENAI_API_KEY }}\n  \
         gone: {{ api: openai, base_url: \"http://127.0.0.1:1\", key: env:OPENAI_API_KEY }}\nlimits: {{ ledger_ms: 10000 }}\n",
        mock.mock, mock.mock
    );
    std::fs::write(&config, yaml).expect("written");
    let command = || {
        let mut command = std::process::Command::new(LOOPERS);
        command.current_dir(dir.path()).env("LOOPERS_LOG", "trace,pingora_core::protocols=trace,pingora_proxy=trace");
        command.env("OPENAI_API_KEY", CONFIG_PROVIDER_KEY).env("LOOPERS_ADMIN_TOKEN", ADMIN_TOKEN);
        command
    };
    let mut serve = command();
    serve.args(["serve", "--config"]).arg(&config);
    let mut gateway = Process::start(serve, dir.path(), "gateway");
    let addr = local(port);
    until("it serves", async || {
        gateway.assert_alive();
        let Ok(mut conn) = Conn::try_open(addr).await else { return false };
        conn.try_call(&Request::get("/readyz")).await.is_some_and(|answer| answer.status == 200)
    })
    .await;
    let mut create = command();
    create.env_remove("LOOPERS_LOG");
    let made =
        create.args(["keys", "create", "--name", "a", "--daily", "5", "--json", "--config"]).arg(&config).output();
    let made: serde_json::Value = serde_json::from_slice(&made.expect("it runs").stdout).expect("JSON");
    let lp = made["key"].as_str().expect("a key");
    let own = "sk-the-clients-own-provider-key-123";
    for request in calls_with_keys(lp, own) {
        let mut conn = Conn::open(addr).await;
        if let Some(answer) = within("an answer", conn.try_call(&request)).await {
            for secret in [lp, own, CONFIG_PROVIDER_KEY, ADMIN_TOKEN] {
                let head = format!("{:?}", answer.head.headers);
                assert!(!holds(&answer.body, secret) && !head.contains(secret), "{} tells {secret}", request.target);
            }
        }
    }
    // A client that leaves in mid-call, and one whose bytes are no HTTP.
    let mut live = Conn::open(addr).await.stream(&Request::chat(&streamed("tokens=99;rate=50")).bearer(lp)).await;
    live.skip(1).await;
    live.reset();
    let mut torn = Conn::open(addr).await;
    let _ = torn.write(format!("POST /{lp}/openai HTTP/9.9\r\nAuthorization: Bearer {own}\r\n\r\n").as_bytes()).await;
    torn.rest().await;
    gateway.signal("TERM");
    gateway.wait(Duration::from_secs(60)).await;
    assert!(gateway.output().len() > 1000, "the log was as talkative as asked: {}", gateway.output());
    let mut files = Vec::new();
    everything(dir.path(), &mut files);
    assert!(
        files.iter().any(|(name, _)| name.contains("books.db")) && files.iter().any(|(name, _)| name.contains("jsonl"))
    );
    for (name, bytes) in &files {
        for secret in [lp, own, CONFIG_PROVIDER_KEY, ADMIN_TOKEN] {
            assert!(!holds(bytes, secret), "{name} holds {secret}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e51_webhooks_follow_no_redirect_and_no_request_names_one() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (addr, inside) = (receiver.local_addr().expect("an address"), World::plain().await);
    let (target, told) = (inside.mock, std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let counter = told.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = receiver.accept().await {
            let mut piece = [0; 16_384];
            let _ = stream.read(&mut piece).await;
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            // To a service that only this machine can reach.
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{target}/v1/models\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let section = format!("alerts: {{ webhooks: {{ ops: {{ url: \"http://{addr}/hook\" }} }}, tries: 1 }}");
    let world = World::new().section(&section).start().await;
    let key = world.key(&["--daily", "0.003"]);
    let request = Request::chat(&with_limit(1000)).bearer(&key.secret);
    let request = request
        .header("x-loopers-webhook", &format!("http://{target}/"))
        .header("x-callback-url", "http://169.254.169.254/");
    until("there is something to tell", async || {
        world.send(&request).await;
        told.load(std::sync::atomic::Ordering::SeqCst) > 0
    })
    .await;
    let page = async || {
        let ask = Request::get("/metrics").header("host", "localhost");
        Conn::open(world.gateways[0].admin).await.call(&ask).await.text()
    };
    until("that was no delivery", async || {
        page().await.contains("loopers_alerts_total{result=\"failed\",webhook=\"ops\"}")
    })
    .await;
    assert_eq!(inside.invoice().await.requests, 0, "the redirect was followed");
}

fn with_limit(tokens: u64) -> serde_json::Value {
    json::with(ask(&format!("tokens={tokens}")), json!({ "max_tokens": tokens }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_runs_in_a_circle_is_told_so() {
    let world = World::new().limit("loop_repeats", 3).limit("loop_seconds", 3000).start().await;
    let (key, other) = (world.rich(), world.rich());
    let call = |key: &Key, script: &str, session: &str| {
        let request = Request::chat(&ask(script)).bearer(&key.secret);
        if session.is_empty() { request } else { request.header("x-loopers-session-id", session) }
    };
    for _ in 0..3 {
        world.send(&call(&key, "tokens=5", "")).await.expect(200);
    }
    for _ in 0..2 {
        let answer = world.send(&call(&key, "tokens=5", "")).await.refused(429, "loop_detected");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    // Another body, another session, another key are no circle.
    world.send(&call(&key, "tokens=6", "")).await.expect(200);
    world.send(&call(&key, "tokens=5", "run-2")).await.expect(200);
    world.send(&call(&other, "tokens=5", "")).await.expect(200);
    assert_eq!(world.invoice().await.posts, 6);
    world.assert_books_exact().await;
}

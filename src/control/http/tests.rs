use http::HeaderName;
use serde_json::Value;

use super::*;
use crate::clock::Calendar;
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};

const TOKEN: &str = "admin-token-of-this-test";

fn state(token: Option<&str>, listen: &str) -> AdminState {
    let options = EmbeddedOptions {
        path: None,
        calendar: Calendar::utc(),
        clock: Clock::System,
        role: Role::Gateway,
        queue: 4_096,
    };
    let ledger = Ledger::Embedded(EmbeddedLedger::open(options).unwrap());
    let prices = Arc::new(ArcSwap::from_pointee(PriceTable::builtin().unwrap()));
    AdminState::new(ledger, prices, token.map(Secret::new), listen.parse().unwrap(), Arc::default())
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (name, value) in pairs {
        all.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    all
}

fn local(extra: &[(&str, &str)]) -> HeaderMap {
    let bearer = format!("Bearer {TOKEN}");
    let mut all =
        headers(&[("host", "127.0.0.1:9090"), ("authorization", &bearer), ("content-type", "application/json")]);
    for (name, value) in headers(extra).iter() {
        all.insert(name.clone(), value.clone());
    }
    all
}

async fn send(state: &AdminState, method: &str, path: &str, headers: &HeaderMap, body: &str) -> (u16, Value) {
    let method: Method = method.parse().unwrap();
    let answer = respond(state, &method, path, headers, Bytes::copy_from_slice(body.as_bytes())).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(answer.body()).unwrap_or_default())
}

#[tokio::test]
async fn health_and_metrics_are_open_and_all_else_unknown() {
    let state = state(None, "127.0.0.1:9090");
    let host = headers(&[("host", "localhost")]);
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/", 404),
        ("GET", "/openai/v1/models", 404),
        ("GET", "/administrator", 404),
        ("GET", "/admin", 403),
        ("GET", "/admin/v1/keys", 403),
        ("GET", "/admin/v1/nothing", 403),
    ] {
        assert_eq!(send(&state, method, path, &host, "").await.0, status, "{method} {path}");
    }
    state.draining.store(true, Ordering::Relaxed);
    assert_eq!(send(&state, "GET", "/readyz", &host, "").await.0, 503);
    assert_eq!(send(&state, "GET", "/healthz", &host, "").await.0, 200);
}

#[tokio::test]
async fn without_a_configured_token_the_answer_says_how_to_set_one() {
    let (status, body) = send(&state(None, "127.0.0.1:9090"), "GET", "/admin/v1/keys", &local(&[]), "").await;
    assert_eq!(status, 403);
    assert!(body["error"]["hint"].as_str().unwrap().contains("admin.token"), "{body}");
}

#[tokio::test]
async fn only_the_right_token_from_no_web_page_is_heard() {
    let state = state(Some(TOKEN), "127.0.0.1:9090");
    for (extra, status) in [
        (&[][..], 200),
        (&[("host", "localhost:1234")], 200),
        (&[("host", "[::1]:9090")], 200),
        (&[("authorization", "")], 401),
        (&[("authorization", "Bearer ")], 401),
        (&[("authorization", "Bearer admin-token-of-this-tes")], 401),
        (&[("authorization", "Bearer admin-token-of-this-test2")], 401),
        (&[("authorization", "bearer admin-token-of-this-test")], 401),
        (&[("authorization", TOKEN)], 401),
        (&[("origin", "http://127.0.0.1:9090")], 403),
        (&[("origin", "null")], 403),
        (&[("host", "evil.example")], 403),
        (&[("host", "127.0.0.1.evil.example")], 403),
        (&[("host", "")], 403),
    ] {
        assert_eq!(send(&state, "GET", "/admin/v1/keys", &local(extra), "").await.0, status, "{extra:?}");
    }
    let mut twice = local(&[]);
    twice.append("authorization", "Bearer x".parse().unwrap());
    assert_eq!(send(&state, "GET", "/admin/v1/keys", &twice, "").await.0, 401);
    let no_host = headers(&[("authorization", &format!("Bearer {TOKEN}"))]);
    assert_eq!(send(&state, "GET", "/admin/v1/keys", &no_host, "").await.0, 403);
    let open = self::state(Some(TOKEN), "0.0.0.0:9090");
    assert_eq!(send(&open, "GET", "/admin/v1/keys", &local(&[("host", "gateway.internal")]), "").await.0, 200);
}

#[tokio::test]
async fn bodies_are_json_of_the_right_shape() {
    let state = state(Some(TOKEN), "127.0.0.1:9090");
    let new = r#"{"name":"me","limits":{"daily":"1.00"}}"#;
    for (kind, body, status) in [
        ("text/plain", new, 415),
        ("application/x-www-form-urlencoded", new, 415),
        ("application/json", "{", 400),
        ("application/json", r#"{"name":"me","limit":{"daily":"1"}}"#, 400),
        ("application/json", r#"{"name":"me","limits":{"daily":1}}"#, 400),
        ("application/json", r#"{"name":"me","limits":{"daily":"1e3"}}"#, 400),
        ("application/json", r#"{"name":"me"}"#, 400),
        ("application/json; charset=utf-8", new, 201),
        ("application/json", new, 409),
    ] {
        let sent = send(&state, "POST", "/admin/v1/keys", &local(&[("content-type", kind)]), body).await;
        assert_eq!(sent.0, status, "{kind} {body}: {}", sent.1);
    }
    let large = " ".repeat(BODY_BYTES_MOST + 1);
    assert_eq!(send(&state, "POST", "/admin/v1/keys", &local(&[]), &large).await.0, 413);
}

#[tokio::test]
async fn every_operation_has_its_route() {
    let state = state(Some(TOKEN), "127.0.0.1:9090");
    let all = local(&[]);
    for (method, path, body, status) in [
        ("POST", "/admin/v1/teams", r#"{"name":"my team","limits":{"monthly":"$100"}}"#, 201),
        ("GET", "/admin/v1/teams", "", 200),
        ("GET", "/admin/v1/teams/my%20team", "", 200),
        ("GET", "/admin/v1/teams/my%2", "", 400),
        ("GET", "/admin/v1/teams/none", "", 404),
        ("POST", "/admin/v1/keys", r#"{"name":"me","team":"my team"}"#, 201),
        ("GET", "/admin/v1/keys/me", "", 200),
        ("POST", "/admin/v1/keys/me/rotate", "", 200),
        ("POST", "/admin/v1/keys/me/pause", "", 200),
        ("POST", "/admin/v1/keys/me/resume", "", 200),
        ("PUT", "/admin/v1/budgets/me", r#"{"daily":"5","minute":"1"}"#, 200),
        ("DELETE", "/admin/v1/budgets/me/minute", "", 200),
        ("DELETE", "/admin/v1/budgets/me/yearly", "", 400),
        ("GET", "/admin/v1/budgets/me", "", 200),
        ("POST", "/admin/v1/kill", r#"{"target":"me"}"#, 200),
        ("POST", "/admin/v1/resume", r#"{"target":"me"}"#, 200),
        ("POST", "/admin/v1/kill", r#"{"session":"run","key":"me"}"#, 200),
        ("POST", "/admin/v1/kill", r#"{"all":true}"#, 200),
        ("POST", "/admin/v1/resume", r#"{"all":true}"#, 200),
        ("POST", "/admin/v1/kill", r#"{"target":"me","all":true}"#, 400),
        ("POST", "/admin/v1/kill", "{}", 400),
        ("GET", "/admin/v1/kill", "", 404),
        ("GET", "/admin/v1/holds", "", 200),
        ("POST", "/admin/v1/holds/0123/release", "", 404),
        ("POST", "/admin/v1/keys/me/revoke", "", 200),
        ("POST", "/admin/v1/keys/me/resume", "", 409),
        ("GET", "/admin/v2/keys", "", 404),
        ("GET", "/admin/v1/", "", 404),
        ("PATCH", "/admin/v1/keys/me", "{}", 404),
    ] {
        let sent = send(&state, method, path, &all, body).await;
        assert_eq!(sent.0, status, "{method} {path} {body}: {}", sent.1);
    }
}

/// Keys that a gateway of a large company has.
const MANY: u64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_a_hundred_thousand_keys_slow_no_hold_and_lengthen_no_metrics() {
    use crate::ledger::{HoldId, KeyRecord, Policy, Reserve, State, Verdict};
    use crate::money::Money;
    use crate::secret::KeyHash;

    let state = state(Some(TOKEN), "127.0.0.1:9090");
    let hash = |number: u64| KeyHash::of(&format!("lp-{number:043}")).unwrap();
    let make = async |number: u64| {
        let record = KeyRecord {
            id: format!("k_{number:016x}").as_str().into(),
            name: format!("key {number}"),
            hash: hash(number).hex(),
            team: None,
            created_at: 1_795_000_000_000,
            expires_at: None,
            state: State::Active,
            limits: Default::default(),
            policy: Policy::default(),
        };
        state.ledger.create_key(&record).await.unwrap();
    };
    let take = async |number: u64| {
        let view = Arc::new(state.ledger.key_by_hash(&hash(number)).await.unwrap().unwrap());
        let amount = Money::from_nano(5);
        let hold = HoldId::random().unwrap();
        let ask =
            Reserve { hold, view, session: None, least: amount, most: amount, ttl_ms: 60_000, note: "x/y".into() };
        assert!(matches!(state.ledger.reserve(&ask).await.unwrap(), Verdict::Held(_)));
    };
    for number in 0..MANY {
        make(number).await;
    }
    for number in MANY - 300..MANY - 100 {
        take(number).await;
    }
    // Other tests of this process have series too, but none of a key.
    let page = respond(&state, &Method::GET, "/metrics", &local(&[]), Bytes::new()).await;
    let page = String::from_utf8_lossy(page.body()).into_owned();
    assert!(page.len() < 64 * 1024 && !page.contains("k_00000") && !page.contains("key 65534"), "{} bytes", page.len());
    // One key by its id, and the list of all.
    let (status, one) = send(&state, "GET", "/admin/v1/keys/k_000000000000fffe", &local(&[]), "").await;
    assert_eq!((status, one["name"].as_str()), (200, Some("key 65534")), "{one}");
    let (status, all) = send(&state, "GET", "/admin/v1/keys", &local(&[]), "").await;
    assert_eq!(status, 200);
    let listed = all.as_array().or_else(|| all["keys"].as_array()).map_or(0, Vec::len);
    assert_eq!(listed as u64, MANY);
}

/// The table of docs/API.md, row by row.
#[tokio::test]
async fn the_documented_routes_answer_as_documented() {
    let state = state(Some(TOKEN), "127.0.0.1:9090");
    let page = include_str!("../../../docs/API.md");
    let mut count = 0;
    for line in page.lines().filter(|line| line.contains("| `/admin/v1/")) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, method, path, body, status, ..] = cells[..] else { panic!("{line}") };
        let (answered, text) = send(&state, method, path, &local(&[]), body).await;
        assert_eq!(answered.to_string(), status, "{line}: {text}");
        let message = text["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.contains("no such route"), "{line}: {message}");
        count += 1;
    }
    assert!(count > 20, "{count} rows");
}

//! Health, budget, metrics, and a stop that waits for what runs.

use std::time::Duration;

use serde_json::json;

use crate::support::json::{nano, with};
use crate::support::world::ADMIN_TOKEN;
use crate::support::*;

async fn metrics(world: &World) -> String {
    let request = Request::get("/metrics").header("host", "localhost");
    Conn::open(world.gateways[0].admin).await.call(&request).await.expect(200).text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_readiness_on_both_ports() {
    let mut world = World::new().redis().start().await;
    let ports = [world.gateways[0].addr, world.gateways[0].admin];
    for addr in ports {
        for path in ["/healthz", "/readyz"] {
            Conn::open(addr).await.call(&Request::get(path)).await.expect(200);
        }
    }
    world.redis().kill();
    for addr in ports {
        let status = async |path: &str| Conn::open(addr).await.call(&Request::get(path)).await.status;
        until("not ready without a ledger", async || status("/readyz").await == 503).await;
        assert_eq!(status("/healthz").await, 200, "alive all the same");
    }
    world.start_redis().await;
    for addr in ports {
        let status = async |path: &str| Conn::open(addr).await.call(&Request::get(path)).await.status;
        until("ready again", async || status("/readyz").await == 200).await;
    }
    assert_eq!(world.invoice().await.requests, 0, "readiness costs the provider nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_of_a_key() {
    let world = World::plain().await;
    world.cli_ok(&["teams", "create", "--name", "crew", "--weekly", "7"]);
    let key = world.key(&["--team", "crew", "--daily", "1", "--monthly", "20.5"]);
    world.chat(&key, &ask("tokens=50")).await.expect(200);
    world.settled().await;
    let view = world.send(&Request::get("/loopers/v1/budget").bearer(&key.secret)).await.expect(200).json();
    assert!(view["key"].is_string() || view["key"].is_object(), "{view}");
    assert!(!view.to_string().contains(&key.secret), "{view}");
    let levels = view["levels"].as_array().expect("levels");
    assert_eq!(levels.len(), 2, "{view}");
    assert_eq!((levels[0]["level"].as_str(), levels[1]["level"].as_str()), (Some("key"), Some("team")));
    assert_eq!(levels[0]["id"], key.id.as_str());
    let invoice = world.invoice().await.nano;
    for level in levels {
        let windows = level["windows"].as_array().expect("windows");
        let names: Vec<_> = windows.iter().map(|window| window["window"].as_str().unwrap_or_default()).collect();
        assert_eq!(names, ["minute", "hourly", "daily", "weekly", "monthly"]);
        for window in &windows[1..] {
            assert_eq!((nano(&window["spent_usd"]), nano(&window["held_usd"])), (invoice, 0), "{window}");
            assert!(!window["resets_at"].is_null(), "{window}");
            if window["limit_usd"].is_null() {
                assert!(window["remaining_usd"].is_null(), "{window}");
            } else {
                assert_eq!(nano(&window["remaining_usd"]), nano(&window["limit_usd"]) - invoice, "{window}");
            }
        }
    }
    assert_eq!(nano(&levels[0]["windows"][4]["limit_usd"]), 20_500_000_000);
    assert_eq!(nano(&levels[1]["windows"][3]["limit_usd"]), 7_000_000_000);
    world.send(&Request::get("/loopers/v1/budget")).await.refused(401, "invalid_key");
    world.send(&Request::post("/loopers/v1/budget", "{}").bearer(&key.secret)).await.refused(404, "unknown_route");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_the_names_of_the_contract() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.chat(&key, &streamed("tokens=5")).await.expect(200);
    world.chat(&key, &ask_model("gpt-9-unheard-of", "")).await.refused(422, "unknown_model");
    let cut = with(streamed("tokens=300;obey=0;rate=200;leave=stop"), json!({ "max_tokens": 10 }));
    json::assert_cut(&world.chat(&key, &cut).await);
    world.live(&key, &streamed("tokens=200;rate=100")).await.hang_up();
    world.settled().await;
    let text = metrics(&world).await;
    for name in [
        "requests_total",
        "refusals_total",
        "cuts_total",
        "charged_usd_total",
        "refunded_usd_total",
        "overrun_usd_total",
        "held_usd",
        "open_holds",
        "unsettled_holds",
        "tokens_total",
        "overhead_seconds",
        "ledger_seconds",
        "ttft_seconds",
        "streams_open",
        "client_disconnects_total",
        "ledger_up",
        "build_info",
    ] {
        let sample = |line: &str| line.strip_prefix("loopers_").is_some_and(|rest| rest.starts_with(name));
        assert!(text.lines().any(sample), "no loopers_{name}:\n{text}");
    }
    let value = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).map(|rest| rest.trim().to_owned());
    assert_eq!(value("loopers_overrun_usd_total ").as_deref(), Some("0"), "{text}");
    assert_eq!(value("loopers_ledger_up ").as_deref(), Some("1"));
    assert_eq!(value("loopers_held_usd ").map(|v| v.trim_matches(['0', '.']).to_owned()).as_deref(), Some(""));
    assert_eq!(value("loopers_refusals_total{code=\"unknown_model\"} ").as_deref(), Some("1"), "{text}");
    for secret in [key.secret.as_str(), &key.id, &key.name, "unheard"] {
        assert!(!text.contains(secret), "{secret} is no label value");
    }
    let charged: u64 = text
        .lines()
        .filter(|line| line.starts_with("loopers_charged_usd_total{"))
        .map(|line| nano(&json!(line.rsplit(' ').next().unwrap_or_default())))
        .sum();
    assert_eq!(charged, world.charged().await, "what metrics say is what the books say");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e48_the_admin_port_is_another_world() {
    let world = World::plain().await;
    let key = world.rich();
    let admin = async |request: Request| {
        Conn::open(world.gateways[0].admin).await.call(&request.header("host", "localhost")).await
    };
    for request in [
        Request::get("/admin/v1/keys"),
        Request::get("/admin/v1/keys").bearer("wrong"),
        Request::get("/admin/v1/keys").bearer(&key.secret),
        Request::get("/admin/v1/keys").bearer(""),
        Request::get("/admin/v1/keys").bearer(&ADMIN_TOKEN[..20]),
    ] {
        let answer = admin(request).await;
        assert!(matches!(answer.status, 401 | 403 | 404), "{} {}", answer.status, answer.text());
        assert!(!answer.text().contains(&key.id));
    }
    let answer = admin(Request::chat(&ask("tokens=3")).bearer(&key.secret)).await;
    assert!((400..500).contains(&answer.status), "no calls over the admin port");
    world.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_what_runs() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world = World::new().engine(engine).start().await;
        let key = world.key(&["--daily", "1"]);
        let mut live = world.live(&key, &streamed("tokens=150;rate=100")).await;
        live.skip(3).await;
        world.gateways[0].process.signal("TERM");
        let answer = live.finish().await;
        json::assert_finished(&answer);
        let status = world.gateways[0].process.wait(Duration::from_secs(40)).await;
        assert!(status.success(), "{status}");
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_cannot_wait_settles_what_it_cuts() {
    for signal in ["TERM", "INT"] {
        let mut world = World::new().limit("drain_seconds", 1).start().await;
        let key = world.key(&["--daily", "1"]);
        let body = with(streamed("tokens=6000;rate=100;leave=stop"), json!({ "max_tokens": 6000 }));
        let mut live = world.live(&key, &body).await;
        live.skip(3).await;
        world.gateways[0].process.signal(signal);
        live.finish().await;
        world.gateways[0].process.wait(Duration::from_secs(40)).await;
        world.assert_books_sound().await;
        assert!(world.books(&key).await.spent > 0, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_gateway_stops_at_once() {
    let mut world = World::plain().await;
    let key = world.rich();
    world.chat(&key, &ask("tokens=3")).await.expect(200);
    world.gateways[0].process.signal("TERM");
    let status = world.gateways[0].process.wait(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_same_file_refuses_to_start() {
    let world = World::new().file().start().await;
    let output = world.cli(&["serve"]);
    assert!(!output.status.success());
    assert!(!output.stderr.is_empty());
    let key = world.rich();
    world.chat(&key, &ask("tokens=3")).await.expect(200);
    world.assert_books_exact().await;
}

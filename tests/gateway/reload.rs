//! Config and prices change while calls run: all or nothing, and a call keeps the prices that it was admitted with.

use serde_json::json;

use crate::support::json::with;
use crate::support::{World, ask, streamed, until};

/// Twice the price of the shipped table, for the model that these tests call.
const DOUBLE: &str =
    "openai/gpt-4o-mini:\n  input: \"0.30\"\n  output: \"1.20\"\n  context_window: 128000\n  max_output: 16384\n";

struct Edited {
    world: World,
    first: String,
}

impl Edited {
    async fn start() -> Edited {
        let world = World::plain().await;
        let first = std::fs::read_to_string(&world.gateways[0].config).expect("the config");
        Edited { world, first }
    }

    /// Writes the config anew, and waits until the gateway says what it thinks of it.
    async fn write(&self, text: &str, says: &str) {
        let before = self.world.gateways[0].process.output().matches(says).count();
        std::fs::write(&self.world.gateways[0].config, text).expect("written");
        self.says(says, before).await;
    }

    async fn says(&self, says: &str, before: usize) {
        until(says, async || self.world.gateways[0].process.output().matches(says).count() > before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_prices_are_for_new_calls() {
    let it = Edited::start().await;
    let key = it.world.key(&["--daily", "1"]);
    let body = with(streamed("tokens=100;rate=40"), json!({ "max_tokens": 100 }));
    let mut live = it.world.live(&key, &body).await;
    live.skip(3).await;
    std::fs::write(it.world.dir.path().join("double.yaml"), DOUBLE).expect("written");
    it.write(&it.first.replace("prices.yaml]", "prices.yaml, double.yaml]"), "reloaded:").await;
    live.finish().await;
    // The one that ran is charged as the provider bills it: at the prices of before.
    it.world.assert_books_exact().await;
    let (before, billed) = (it.world.books(&key).await.spent, it.world.invoice().await.nano);
    it.world.chat(&key, &ask("tokens=50")).await.expect(200);
    it.world.settled().await;
    let charged = it.world.books(&key).await.spent - before;
    assert_eq!(charged, 2 * (it.world.invoice().await.nano - billed), "the next one at the new prices");
    // The price file alone changes: it is watched like the config.
    let seen = it.world.gateways[0].process.output().matches("reloaded:").count();
    std::fs::write(it.world.dir.path().join("double.yaml"), DOUBLE.replace("gpt-4o-mini", "my-model"))
        .expect("written");
    it.says("reloaded:", seen).await;
    let before = it.world.books(&key).await.spent;
    let billed = it.world.invoice().await.nano;
    it.world.chat(&key, &ask("tokens=50")).await.expect(200);
    it.world.settled().await;
    assert_eq!(it.world.books(&key).await.spent - before, it.world.invoice().await.nano - billed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_changes_nothing() {
    let it = Edited::start().await;
    let key = it.world.key(&["--daily", "1"]);
    std::fs::write(it.world.dir.path().join("bad.yaml"), DOUBLE.replace("0.30", "-1")).expect("written");
    let refused = "the config was not reloaded";
    for bad in [
        "listen: [".to_string(),
        format!("{}\nunknown_field: 1\n", it.first),
        it.first.replace("prices.yaml]", "prices.yaml, bad.yaml]"),
        it.first.replace("prices.yaml]", "prices.yaml, missing.yaml]"),
        // Half of it is good: a limit that would refuse every call. All or nothing.
        it.first.replace("limits: {", "limits: { in_flight: 1, body_bytes: nonsense,"),
        // Good in itself, but built into the listeners, and into the connections.
        it.first.replace("limits: {", "limits: { body_bytes: 1024,").replace("listen: 127.0.0.1", "listen: 127.0.0.2"),
        it.first.replace("limits: {", "limits: { body_bytes: 1024, http2_streams: 7,"),
    ] {
        it.write(&bad, refused).await;
        let long = with(ask("tokens=5"), json!({ "user": "x".repeat(3000) }));
        it.world.chat(&key, &long).await.expect(200);
    }
    let said = it.world.gateways[0].process.output();
    assert!(said.contains("a new value of listen takes a restart"), "{said}");
    assert!(said.contains("a new value of limits.http2_streams takes a restart"), "{said}");
    assert!(said.contains("bad.yaml:2"), "file and line: {said}");
    // The same text as at first is a reload like any other.
    it.write(&it.first, "reloaded:").await;
    // SIGHUP asks for one, changed or not.
    let seen = it.world.gateways[0].process.output().matches("reloaded:").count();
    it.world.gateways[0].process.signal("HUP");
    it.says("reloaded:", seen).await;
    it.world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_change_under_load() {
    let it = Edited::start().await;
    let key = it.world.rich();
    let (addr, secret) = (it.world.gateway(), key.secret.clone());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let caller = tokio::spawn({
        let stop = stop.clone();
        async move {
            use crate::support::{Conn, Request};
            let mut conn = Conn::open(addr).await;
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                conn.call(&Request::chat(&ask("tokens=5")).bearer(&secret)).await.expect(200);
                done += 1;
            }
            done
        }
    });
    for size in [2048, 4096, 8192] {
        it.write(&it.first.replace("limits: {", &format!("limits: {{ body_bytes: {size},")), "reloaded:").await;
        let long = with(ask("tokens=5"), json!({ "user": "x".repeat(size) }));
        it.world.chat(&key, &long).await.refused(413, "request_too_large");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(caller.await.expect("no call fails") > 0);
    it.world.assert_books_exact().await;
}

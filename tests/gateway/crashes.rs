//! The process ends, or panics, at each named point of a call's life: no money is lost, none is held for nothing, and what had to
//! be charged in full can be corrected.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json as object};

use crate::support::json::{self, with};
use crate::support::{Answer, Conn, Engine, HANG, Key, Request, World, ask, streamed, until, within};

/// What becomes of the hold of a call whose gateway dies at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// There is none yet.
    Nothing,
    /// It expires, and is charged in full.
    Doubt,
    /// It was settled at the true cost.
    Settled,
    /// One of the two: the settlement is on its way beside the call.
    Either,
}

/// In the order of a call's life.
const POINTS: [(&str, Left); 17] = [
    ("request_parsed", Left::Nothing),
    ("reserve_unsent", Left::Nothing),
    ("hold_taken", Left::Doubt),
    ("hold_written", Left::Doubt),
    ("connecting", Left::Doubt),
    ("connected", Left::Doubt),
    ("call_sent", Left::Doubt),
    ("body_forwarded", Left::Doubt),
    ("answer_head", Left::Doubt),
    ("answer_piece", Left::Doubt),
    ("answer_complete", Left::Doubt),
    ("call_ended", Left::Doubt),
    ("settlement_queued", Left::Either),
    ("settlement_unsent", Left::Doubt),
    ("settlement_written", Left::Settled),
    ("settlement_made", Left::Settled),
    ("settlement_answered", Left::Settled),
];

/// A call that can be found in the books by its key, and in the invoice by the provider's key that it brings.
struct Marked {
    key: Key,
    mark: String,
}

impl Marked {
    fn new(world: &World, mark: String) -> Marked {
        Marked { key: world.key(&["--daily", "1", "--overflow", "refuse"]), mark: format!("sk-test-{mark}") }
    }

    fn request(&self, body: &Value) -> Request {
        Request::chat(body).bearer(&self.key.secret).header("x-loopers-provider-key", &self.mark)
    }
}

fn short(nth: usize) -> Value {
    let body = if nth.is_multiple_of(2) { ask("tokens=20") } else { streamed("tokens=20;rate=200") };
    with(body, object!({ "max_tokens": 40 }))
}

fn long() -> Value {
    with(streamed("tokens=900;rate=20;chunk=1;leave=stop"), object!({ "max_tokens": 900 }))
}

async fn try_call(addr: SocketAddr, request: Request) -> Option<Answer> {
    let mut conn = Conn::try_open(addr).await.ok()?;
    within("a call", conn.try_call(&request)).await
}

/// invoice ≤ charged + held, and nothing beyond a limit: at any moment.
async fn assert_sound_now(world: &World, when: &str) {
    let invoice = world.invoice().await.nano;
    let mut taken = 0;
    for key in world.all_keys() {
        let books = world.books(&key).await;
        taken += books.spent + books.held;
    }
    assert!(invoice <= taken, "{when}: invoice {invoice} > charged and held {taken}");
    world.assert_limits_hold().await;
}

/// What each call was billed, by the provider's key that it brought.
async fn bills(world: &World) -> HashMap<String, u64> {
    let invoice = Conn::open(world.mock).await.call(&Request::get("/invoice")).await.expect(200).json();
    let calls = invoice["last"].as_array().expect("calls").clone();
    let text = |call: &Value| call["authorization"].as_str().unwrap_or_default().to_owned();
    calls.iter().map(|call| (text(call), call["nano"].as_u64().expect("an amount"))).collect()
}

/// Kills the only gateway at a point of one call, with another one running, and starts it again.
async fn die_at(world: &mut World, nth: usize, point: &str) -> (Marked, Marked) {
    let (fatal, other) = (Marked::new(world, format!("fatal-{nth}")), Marked::new(world, format!("other-{nth}")));
    let mut live = Conn::open(world.gateway()).await.stream(&other.request(&long())).await;
    live.skip(2).await;
    world.arm(0, &format!("{point}=kill"));
    let answer = try_call(world.gateway(), fatal.request(&short(nth))).await;
    world.gateways[0].process.wait(HANG).await;
    world.arm(0, "");
    // Nobody is told that a call succeeded before it had; after its last byte the client may well know.
    let early =
        POINTS.iter().position(|(name, _)| *name == point) < POINTS.iter().position(|p| p.0 == "answer_complete");
    assert!(
        !early || answer.is_none_or(|answer| !answer.complete),
        "{point}: an answer although the gateway died before"
    );
    assert!(!live.finish().await.complete, "{point}: a torn stream must not look whole");
    until("the provider notices", async || world.invoice().await.in_flight == 0).await;
    world.restart_gateway(0).await;
    let next = Marked::new(world, format!("next-{nth}"));
    try_call(world.gateway(), next.request(&short(nth))).await.expect("an answer").expect(200);
    assert_sound_now(world, point).await;
    (fatal, other)
}

async fn dies_everywhere(engine: Engine) {
    // A hold lives for twice the longest call: 20 seconds.
    let mut world = World::new().engine(engine).failpoints().limit("call_seconds", 10).start().await;
    let mut died = Vec::new();
    for (nth, (point, left)) in POINTS.into_iter().enumerate() {
        let (fatal, other) = die_at(&mut world, nth, point).await;
        died.extend([(point, left, fatal), ("beside", Left::Doubt, other)]);
    }
    world.settled().await;
    let (charged, invoice) = (world.charged().await, world.invoice().await.nano);
    println!("{engine:?}: killed at {} points: invoice {invoice}, charged {charged}", POINTS.len());
    assert!(invoice <= charged, "invoice {invoice} > charged {charged}");
    world.assert_limits_hold().await;

    // What was charged in doubt is listed, and can be corrected to the truth, once.
    let holds = world.cli_json(&["holds", "list"]);
    let holds = holds["holds"].as_array().or_else(|| holds.as_array()).expect("a list").clone();
    let bills = bills(&world).await;
    for (point, left, call) in &died {
        let of_key: Vec<&Value> = holds.iter().filter(|hold| hold["key"] == *call.key.id).collect();
        match left {
            Left::Nothing | Left::Settled => assert!(of_key.is_empty(), "{point}: {of_key:?}"),
            Left::Doubt => assert_eq!(of_key.len(), 1, "{point}: {of_key:?}"),
            Left::Either => assert!(of_key.len() <= 1, "{point}: {of_key:?}"),
        }
        for hold in of_key {
            assert_eq!(hold["state"], "expired", "{point}: {hold}");
            let id = hold["id"].as_str().expect("an id");
            let truth = bills.get(&call.mark).copied().unwrap_or(0);
            let truth = format!("{}.{:09}", truth / 1_000_000_000, truth % 1_000_000_000);
            let released = world.cli_json(&["holds", "release", id, "--charged", &truth]);
            assert_eq!(json::nano(&released["charged_usd"]), bills.get(&call.mark).copied().unwrap_or(0), "{released}");
            assert!(!world.cli(&["holds", "release", id, "--charged", "0"]).status.success(), "only once");
        }
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_point_of_a_call_no_money_is_lost_on_redis() {
    dies_everywhere(Engine::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_point_of_a_call_no_money_is_lost_on_file() {
    dies_everywhere(Engine::File).await;
}

/// A panic ends one call at most: its money is charged, or free again where nothing was sent, and the process lives on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_at_each_point_ends_one_call_at_most() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world = World::new().engine(engine).failpoints().start().await;
        for (nth, (point, _)) in POINTS.into_iter().enumerate() {
            let (fatal, other) =
                (Marked::new(&world, format!("fatal-{nth}")), Marked::new(&world, format!("other-{nth}")));
            let running = with(streamed("tokens=60;rate=60;chunk=1"), object!({ "max_tokens": 60 }));
            let mut live = Conn::open(world.gateway()).await.stream(&other.request(&running)).await;
            live.skip(2).await;
            world.arm(0, &format!("{point}=panic"));
            let answer = try_call(world.gateway(), fatal.request(&short(nth))).await;
            let rest = live.finish().await;
            until("it panicked", async || {
                world.gateways[0].process.output().contains(&format!("failpoint {point}: Panic"))
            })
            .await;
            world.arm(0, "");
            // Points that both calls pass may have hit the other one.
            let whole = [answer.is_some_and(|answer| answer.complete), rest.complete];
            assert!(whole.contains(&true), "{point}: both calls ended");
            world.gateways[0].process.assert_alive();
            world.assert_books_sound().await;
            let next = Marked::new(&world, format!("next-{nth}"));
            try_call(world.gateway(), next.request(&short(nth))).await.expect("an answer").expect(200);
        }
        // What runs beside the calls begins again.
        for (point, says) in [("watching", "watches running calls"), ("sweeping", "charges expired holds")] {
            world.arm(0, &format!("{point}=panic"));
            until(says, async || world.gateways[0].process.output().contains(says)).await;
        }
        let key = world.rich();
        let mut live = world.live(&key, &long()).await;
        live.skip(2).await;
        world.cli_ok(&["kill", &key.id]);
        assert!(live.finish().await.text().contains("key_paused"), "the kill switch still works");
        world.assert_books_sound().await;
    }
}

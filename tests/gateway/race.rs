//! The race: thousands of calls at once on a cap that fits a few hundred of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::json::{nano, usd, with};
use crate::support::*;

const CALLS: usize = 2_000;
/// What one call really costs: 2,000 tokens of gpt-4o-mini at $0.60 per million, and some input.
const ONE: u64 = 1_206_000;
const FITTING: u64 = 300;

fn body(at: usize) -> Value {
    let body = with(ask("tokens=2000;chunk=250"), json!({ "max_tokens": 2000 }));
    if at.is_multiple_of(2) { body } else { with(body, json!({ "stream": true })) }
}

fn statuses(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.status).or_insert(0) += 1;
    }
    counts
}

/// One wave of calls over all gateways; how many passed, and the least hold that the refusals asked for.
async fn wave(world: &World, key: &Key, calls: usize) -> (u64, u64) {
    let gateways = world.gateways.len();
    let requests = (0..calls)
        .map(|at| (world.gateways[at % gateways].addr, Request::chat(&body(at)).bearer(&key.secret)))
        .collect();
    let answers = at_once(requests).await;
    let mut least_hold = 0;
    for answer in &answers {
        match answer.status {
            200 => assert!(answer.complete, "broken off: {}", answer.text()),
            _ => {
                assert_eq!((answer.status, answer.code().as_str()), (402, "budget_exceeded"), "{}", answer.text());
                let said = answer.loopers();
                let amount = |field: &str| nano(&said[field]);
                least_hold = least_hold.max(amount("requested_usd"));
                let taken = amount("spent_usd") + amount("held_usd");
                assert!(taken <= amount("limit_usd"), "{said}");
                assert!(taken + amount("requested_usd") > amount("limit_usd"), "refused although it fitted: {said}");
            }
        }
    }
    println!("  {calls} calls: {:?}", statuses(&answers));
    (answers.iter().filter(|answer| answer.status == 200).count() as u64, least_hold)
}

async fn race(engine: Engine, gateways: usize) {
    let repeats = env_number("RACE_REPEATS", 2);
    let world = World::new().engine(engine).gateways(gateways).start().await;
    for repeat in 0..repeats {
        let limit = FITTING * ONE;
        let overflow = if repeat % 2 == 0 { "refuse" } else { "clamp" };
        let key = world.key(&["--daily", &usd(limit), "--overflow", overflow]);
        let before = world.invoice().await;
        println!("race {repeat} over {engine:?}, {gateways} gateways, {overflow}");
        let (mut passed, mut least_hold) = wave(&world, &key, CALLS).await;
        assert!(passed > 0 && passed < CALLS as u64, "{passed} passed");
        world.settled().await;
        // What the first wave held too much is free again: more calls come until not one more fits.
        loop {
            let (more, least) = wave(&world, &key, 60).await;
            passed += more;
            least_hold = least_hold.max(least);
            world.settled().await;
            if more == 0 {
                break;
            }
        }
        let (books, after) = (world.books(&key).await, world.invoice().await);
        let invoice = after.nano - before.nano;
        println!("  invoice {invoice} charged {} limit {limit} passed {passed}", books.spent);
        assert_eq!(books.held, 0);
        assert_eq!(invoice, books.spent, "at rest the invoice is what was charged");
        assert!(books.spent <= limit, "{books:?}");
        assert!(limit - books.spent < least_hold, "{} left, and a call needs {least_hold}", limit - books.spent);
        assert_eq!(after.calls - before.calls, passed, "one call upstream for each that passed");
        assert_eq!(after.posts - before.posts, passed, "nothing of a refused call went out");
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_race_of_three_gateways_on_one_redis() {
    race(Engine::Redis, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_race_of_one_gateway_on_a_file() {
    race(Engine::File, 1).await;
}

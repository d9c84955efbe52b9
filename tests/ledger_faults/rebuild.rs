//! `loopers ledger rebuild`: a random load, everything gone, everything back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use serde_json::Value;

use super::lab::{Lab, Redis};
use crate::support::json::{usd, with};
use crate::support::*;

/// The books of every key and team, with every window, and of every session.
async fn everything(lab: &Lab, nodes: &[String], keys: &[Key], sessions: &[String]) -> Vec<Value> {
    let mut all: Vec<Value> = nodes.iter().map(|node| lab.world.cli_json(&["budget", "status", node])).collect();
    for key in keys {
        for session in sessions {
            let request =
                Request::get("/loopers/v1/budget").bearer(&key.secret).header("x-loopers-session-id", session);
            let mut read = None;
            // On a busy machine a ledger that is well may take longer than these gateways wait for it.
            until("the session's books are read", async || {
                let answer = lab.world.send(&request).await;
                let is_read = answer.code() != "ledger_unavailable";
                read = Some(answer);
                is_read
            })
            .await;
            all.push(read.expect("an answer").expect(200).json()["session"].clone());
        }
    }
    all
}

async fn load(lab: &Lab, keys: &[Key], sessions: &[String], calls: usize) {
    let mut requests = Vec::new();
    for nth in 0..calls {
        let script = ["tokens=5", "tokens=40", "tokens=15;status=500", "tokens=300"][nth % 4];
        let body = if nth % 3 == 0 { streamed(script) } else { ask(script) };
        let mut request = Request::chat(&body).bearer(&keys[nth % keys.len()].secret);
        if nth % 2 == 0 {
            request = request.header("x-loopers-session-id", &sessions[nth / 2 % sessions.len()]);
        }
        let gateways = &lab.world.gateways;
        requests.push((gateways[nth % gateways.len()].addr, request));
    }
    for part in requests.chunks(20) {
        at_once(part.to_vec()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_rebuilt_to_the_nano_dollar() {
    let lab = Lab::new(2).await;
    let teams = ["above", "below"];
    lab.world.cli_ok(&["teams", "create", "--name", "above", "--monthly", "50"]);
    lab.world.cli_ok(&["teams", "create", "--name", "below", "--parent", "above", "--daily", "20"]);
    let keys = [
        lab.world.key(&["--team", "below", "--daily", "1"]),
        lab.world.key(&["--team", "above", "--session-budget", "0.5", "--session-steps", "40"]),
        lab.world.key(&["--hourly", "0.001"]),
    ];
    let sessions = ["one".to_string(), "two".to_string()];
    load(&lab, &keys, &sessions, 120).await;
    lab.world.cli_ok(&["budget", "set", "above", "--weekly", "45"]);
    lab.world.cli_ok(&["keys", "pause", &keys[1].id]);
    lab.world.settled().await;
    let nodes: Vec<String> =
        teams.iter().map(ToString::to_string).chain(keys.iter().map(|key| key.id.clone())).collect();
    let free = Request::get("/openai/v1/models").bearer(&keys[0].secret);
    let records = || (lab.world.cli_json(&["keys", "list"]), lab.world.cli_json(&["teams", "list"]));
    for loss in LOSSES {
        early_in_the_minute().await;
        let before = (records(), everything(&lab, &nodes, &keys, &sessions).await);
        lose(&lab, loss);
        let report = lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
        assert_eq!((&report["open"], &report["gateways"]), (&0.into(), &2.into()), "{loss:?}: {report}");
        until("calls go out", async || lab.world.send(&free).await.status != 503).await;
        lab.world.settled().await;
        assert_eq!(before, (records(), everything(&lab, &nodes, &keys, &sessions).await), "{loss:?}");
    }
    load(&lab, &keys, &sessions, 20).await;
    lab.world.assert_books_sound().await;
}

/// What Redis forgets.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Everything,
    /// All by which keys and teams are found; their books stay.
    Directory,
    /// The books of keys and teams; all by which they are found stays.
    Nodes,
    /// Every second of its keys by name, as a server that evicts: the first, third, … or the second, fourth, ….
    EverySecond(usize),
}

const LOSSES: [Loss; 5] = [Loss::Everything, Loss::Directory, Loss::Nodes, Loss::EverySecond(0), Loss::EverySecond(1)];

fn lose(lab: &Lab, loss: Loss) {
    let mut names: Vec<String> = lab.redis.ask(&["KEYS", "lp1:*"]);
    names.sort();
    let of_node = |name: &str| name.contains("}:n:");
    let lost: Vec<&str> = match loss {
        Loss::Everything => names.iter().map(String::as_str).collect(),
        Loss::Directory => {
            let finds = |name: &&str| name.ends_with("}:m") || !name.contains('{') && *name != "lp1:books";
            names.iter().map(String::as_str).filter(finds).collect()
        }
        Loss::Nodes => names.iter().map(String::as_str).filter(|name| of_node(name)).collect(),
        Loss::EverySecond(from) => names.iter().skip(from).step_by(2).map(String::as_str).collect(),
    };
    assert!(lost.len() >= 5, "{loss:?} of {names:?}");
    let deleted: usize = lab.redis.ask(&[&["DEL"], &lost[..]].concat());
    assert_eq!(deleted, lost.len(), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_killed_in_the_middle_are_never_undercounted() {
    let mut lab = Lab::new(2).await;
    let key = lab.world.key(&["--daily", "1"]);
    let (addrs, secret) = (lab.world.gateways.iter().map(|g| g.addr).collect::<Vec<_>>(), key.secret.clone());
    let mut tasks = Vec::new();
    for nth in 0..8 {
        let (addr, secret) = (addrs[nth % 2], secret.clone());
        tasks.push(tokio::spawn(async move {
            // Until its gateway is gone.
            while let Ok(mut conn) = Conn::try_open(addr).await {
                let request = Request::chat(&ask("tokens=20")).bearer(&secret);
                if conn.try_call(&request).await.is_none() {
                    return;
                }
            }
        }));
    }
    until("many calls were made", async || lab.world.invoice().await.calls > 60).await;
    for gateway in &mut lab.world.gateways {
        gateway.process.kill();
    }
    for task in tasks {
        task.await.expect("a client");
    }
    lab.redis.tell("FLUSHALL");
    lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
    for gateway in 0..2 {
        lab.world.restart_gateway(gateway).await;
    }
    // What the journals do not know the end of is held, and charged in full when it is due.
    lab.world.assert_books_sound().await;
    lab.assert_heals(&key).await;
}

/// The gateway is killed between a settlement and its answer, others take the room that it made, and then the books are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_whose_answer_was_lost_counts_as_made() {
    let mut lab = Lab::on(Redis::durable().await, |world| world.gateways(2).failpoints()).await;
    let key = lab.world.key(&["--daily", "1", "--overflow", "refuse"]);
    let long = with(streamed("tokens=900;rate=20;chunk=1;leave=stop"), serde_json::json!({ "max_tokens": 900 }));
    let short = with(streamed("tokens=5"), serde_json::json!({ "max_tokens": 900 }));
    let call = |body: &Value| Request::chat(body).bearer(&key.secret);

    // What such a call holds; from now on there is room for one of them only.
    let mut live = Conn::open(lab.world.gateways[1].addr).await.stream(&call(&long)).await;
    live.skip(2).await;
    let held = lab.world.books(&key).await.held;
    drop(live);
    lab.world.settled().await;
    let limit = lab.world.books(&key).await.spent + held + held / 2;
    lab.world.cli_ok(&["budget", "set", &key.id, "--daily", &usd(limit)]);

    for (point, open) in [("settlement_written", 0), ("settlement_made", 1)] {
        lab.world.arm(0, &format!("{point}=kill"));
        let mut conn = Conn::open(lab.world.gateways[0].addr).await;
        let answer = within("a call", conn.try_call(&call(&short))).await;
        assert!(answer.is_none_or(|answer| answer.status == 200), "{point}");
        lab.world.gateways[0].process.wait(HANG).await;
        lab.world.arm(0, "");
        let mut live = None;
        if open == 1 {
            // The settlement was made: so another call fits.
            let mut other = Conn::open(lab.world.gateways[1].addr).await.stream(&call(&long)).await;
            other.skip(2).await;
            live = Some(other);
        }
        lab.redis.tell("FLUSHALL");
        let report = lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
        assert_eq!(report["open"], open, "{point}: {report}");
        let (books, invoice) = (lab.world.books(&key).await, lab.world.invoice().await.nano);
        assert!(books.spent + books.held <= limit, "{point}: {books:?} above {limit}");
        assert!(invoice <= books.spent + books.held, "{point}: {books:?} below {invoice}");
        drop(live);
        lab.world.restart_gateway(0).await;
        let free = Request::get("/openai/v1/models").bearer(&key.secret);
        until("calls go out", async || lab.world.send_to(1, &free).await.status != 503).await;
        lab.world.settled().await;
        lab.world.assert_books_sound().await;
    }
    lab.world.cli_ok(&["budget", "set", &key.id, "--daily", "1"]);
    lab.assert_heals(&key).await;
}

/// The books were fine, or lost without anybody knowing: gateways take calls and settle them while they are made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_amid_running_calls_loses_none_of_them() {
    let lab = Lab::new(2).await;
    let key = lab.world.key(&["--daily", "1"]);
    let ends = Arc::new(AtomicBool::new(false));
    let (ok, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for nth in 0..12 {
        let (addr, secret) = (lab.world.gateways[nth % 2].addr, key.secret.clone());
        let (ends, ok, refused) = (ends.clone(), ok.clone(), refused.clone());
        tasks.push(tokio::spawn(async move {
            let script = ["tokens=5", "tokens=20;rate=100", "tokens=40;rate=60"][nth % 3];
            while !ends.load(SeqCst) {
                let mut conn = Conn::open(addr).await;
                let answer = within("a call", conn.call(&Request::chat(&ask(script)).bearer(&secret))).await;
                match answer.status {
                    200 => drop(ok.fetch_add(1, SeqCst)),
                    503 => drop(refused.fetch_add(1, SeqCst)),
                    status => panic!("{status}: {}", answer.text()),
                }
            }
        }));
    }
    let more = async |least: u64| {
        let from = ok.load(SeqCst);
        until("calls go out", async || ok.load(SeqCst) >= from + least).await;
    };
    for _ in 0..3 {
        more(100).await;
        let report = lab.world.cli_json(&["ledger", "rebuild", "--from", &lab.state()]);
        assert!(report["holds"].as_u64().is_some_and(|holds| holds >= 100), "{report}");
    }
    more(100).await;
    ends.store(true, SeqCst);
    for task in tasks {
        task.await.expect("a client");
    }
    assert!(refused.load(SeqCst) > 0, "nobody was stopped meanwhile");
    lab.world.settled().await;
    lab.world.assert_books_exact().await;
}

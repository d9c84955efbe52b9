//! Settlements that the ledger does not take: they wait, outlive the process, and are made once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json as object;

use crate::support::json::with;
use crate::support::{Conn, Engine, HANG, Key, Request, World, ask, streamed, until};

/// Every file called `spool` below the state folder of this world, with its size.
fn spools(world: &World) -> Vec<(PathBuf, u64)> {
    let folders = std::fs::read_dir(world.dir.path().join("loopers-state")).into_iter().flatten().flatten();
    let files = folders.map(|folder| folder.path().join("spool"));
    files.filter_map(|file| file.metadata().ok().map(|about| (file, about.len()))).collect()
}

fn waiting(world: &World) -> u64 {
    spools(world).iter().map(|(_, bytes)| bytes).sum()
}

async fn unsettled(world: &World, gateway: usize) -> u64 {
    let text = Conn::open(world.gateways[gateway].admin)
        .await
        .call(&Request::get("/metrics").header("host", "localhost"))
        .await
        .expect(200)
        .text();
    let line = text.lines().find(|line| line.starts_with("loopers_unsettled_holds ")).expect("the metric");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// The list of holds says of so many that their true cost waits on disk.
fn assert_known(world: &World, count: usize) {
    let listed = world.cli(&["holds", "list"]);
    let note = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(note.contains(&format!("the true cost of {count} of these waits below")), "{note}");
    // Nobody gives that money back by mistake.
    for hold in world.cli_json(&["holds", "list"]).as_array().expect("a list") {
        let released = world.cli(&["holds", "release", hold["id"].as_str().expect("an id")]);
        assert!(!released.status.success(), "{hold}");
    }
}

/// Several calls that end while the ledger takes no settlement; all of it is on disk then.
async fn calls_that_nobody_settles(world: &World, key: &Key, stop: impl AsyncFnOnce()) {
    let mut lives = Vec::new();
    for at in 0..6 {
        let body = with(streamed("tokens=40;rate=40"), object!({ "max_tokens": 200 }));
        let addr = world.gateways[at % world.gateways.len()].addr;
        let mut live = Conn::open(addr).await.stream(&Request::chat(&body).bearer(&key.secret)).await;
        live.skip(2).await;
        lives.push(live);
    }
    stop().await;
    for live in lives {
        live.finish().await;
    }
}

fn owner_only(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600, "{}", file.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_redis_did_not_take_outlives_a_killed_gateway() {
    let mut world = World::new().redis().limit("ledger_ms", 500).gateways(2).start().await;
    let key = world.key(&["--daily", "1"]);
    let redis = world.redis().id();
    calls_that_nobody_settles(&world, &key, async || {
        let status = std::process::Command::new("kill").args(["-KILL", &redis.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    })
    .await;
    until("all is on disk", async || {
        let lines: usize = spools(&world)
            .iter()
            .map(|(file, _)| std::fs::read_to_string(file).unwrap_or_default().matches("\"owed\"").count())
            .sum();
        lines >= 6
    })
    .await;
    assert_eq!(unsettled(&world, 0).await + unsettled(&world, 1).await, 6);
    for (file, _) in spools(&world) {
        owner_only(&file);
        let text = std::fs::read_to_string(&file).expect("a spool");
        assert!(!text.contains(&key.secret) && !text.contains("sk-"), "a secret: {text}");
    }
    for gateway in &mut world.gateways {
        gateway.process.kill();
    }
    let read = |(file, _): (PathBuf, u64)| (file.clone(), std::fs::read(file).expect("a spool"));
    let files: Vec<(PathBuf, Vec<u8>)> = spools(&world).into_iter().map(read).collect();
    world.redis().kill();
    world.start_redis().await;
    assert_known(&world, 6);
    // One gateway only: it finds the folder of the other one without an owner.
    world.restart_gateway(0).await;
    until("all is settled", async || waiting(&world) == 0).await;
    assert_eq!(unsettled(&world, 0).await, 0);
    // At the true cost, although both gateways were killed: nothing was in doubt.
    world.assert_books_exact().await;
    assert!(world.cli_json(&["holds", "list"]).to_string().matches("expired").count() == 0);
    // Once more, with what is already made still in the files: nothing is charged twice.
    world.gateways[0].process.kill();
    for (file, bytes) in &files {
        std::fs::write(file, bytes).expect("written");
    }
    world.restart_gateway(0).await;
    world.restart_gateway(1).await;
    until("all is settled", async || waiting(&world) == 0).await;
    world.assert_books_exact().await;
}

/// The gateway dies at each step of writing the spool and of reading it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_writes_or_reads_what_is_owed() {
    for engine in [Engine::Redis, Engine::File] {
        let mut world =
            World::new().engine(engine).failpoints().limit("call_seconds", 10).limit("ledger_ms", 1000).start().await;
        let refuse = "settlement_refused=fail@*;";
        for (writing, reading) in [
            ("spool_written", "spool_read"),
            ("spool_synced", "spool_taken_over"),
            ("spool_synced", "spool_replayed"),
            ("spool_synced", "spool_replayed@2"),
            ("spool_synced", "settlement_made"),
            ("spool_synced", "spool_emptying"),
        ] {
            let key = world.key(&["--daily", "1"]);
            calls_that_nobody_settles(&world, &key, async || {
                world.arm(0, &format!("{refuse}{writing}=kill@3"));
            })
            .await;
            // Until the third write: some are saved, some are not.
            until("it writes", async || {
                // What is not saved when it dies is charged in full: let that be little.
                tokio::time::sleep(Duration::from_millis(300)).await;
                let call = Request::chat(&with(ask("tokens=5"), object!({ "max_tokens": 10 }))).bearer(&key.secret);
                if let Ok(mut conn) = Conn::try_open(world.gateway()).await {
                    let _ = tokio::time::timeout(HANG, conn.try_call(&call)).await;
                }
                !alive(&world.gateways[0].process.id())
            })
            .await;
            world.gateways[0].process.wait(HANG).await;
            assert!(waiting(&world) > 0, "{writing}");
            let (at, hit) = reading.split_once('@').unwrap_or((reading, "1"));
            world.arm(0, &format!("{at}=kill@{hit}"));
            world.relaunch_gateway(0);
            world.gateways[0].process.wait(HANG).await;
            world.arm(0, "");
            world.restart_gateway(0).await;
            until("all is made", async || waiting(&world) == 0).await;
        }
        world.assert_books_sound().await;
        println!("{engine:?}: charged {}, invoice {}", world.charged().await, world.invoice().await.nano);
    }
}

fn alive(pid: &u32) -> bool {
    // A zombie counts as dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_without_a_ledger_leaves_its_debts_to_the_next_gateway() {
    for signal in ["TERM", "INT"] {
        let mut world = World::new().redis().limit("ledger_ms", 300).limit("drain_seconds", 1).start().await;
        let key = world.key(&["--daily", "1"]);
        let redis = world.redis().id().to_string();
        calls_that_nobody_settles(&world, &key, async || {
            let status = std::process::Command::new("kill").args(["-STOP", &redis]).status();
            assert!(status.is_ok_and(|status| status.success()));
        })
        .await;
        world.gateways[0].process.signal(signal);
        world.gateways[0].process.wait(HANG).await;
        let said = world.gateways[0].process.output();
        assert!(said.contains("settlements wait below `state:`"), "{said}");
        world.redis().signal("CONT");
        world.restart_gateway(0).await;
        world.assert_books_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_after_the_hold_expired_corrects_it_once() {
    let mut world = World::new().failpoints().limit("call_seconds", 10).start().await;
    let key = world.key(&["--daily", "1"]);
    world.arm(0, "settlement_refused=fail@*");
    world.chat(&key, &with(ask("tokens=20"), object!({ "max_tokens": 500 }))).await.expect(200);
    until("it is on disk", async || waiting(&world) > 0).await;
    world.gateways[0].process.kill();
    // A second gateway on the ledger, with a state of its own, charges the hold in full when it expires.
    let state = world.dir.path().join("loopers-state");
    std::fs::rename(&state, world.dir.path().join("aside")).expect("renamed");
    world.arm(0, "");
    world.restart_gateway(0).await;
    world.assert_books_sound().await;
    let full = world.charged().await;
    assert!(full > world.invoice().await.nano, "charged in full");
    world.gateways[0].process.signal("TERM");
    world.gateways[0].process.wait(HANG).await;
    std::fs::remove_dir_all(&state).expect("removed");
    std::fs::rename(world.dir.path().join("aside"), &state).expect("renamed");
    world.restart_gateway(0).await;
    until("corrected", async || world.charged().await < full).await;
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_many_settlements_waiting_no_call_is_taken_and_nothing_is_dropped() {
    let world = World::new().failpoints().limit("unsettled", 5).start().await;
    let key = world.key(&["--daily", "1"]);
    world.arm(0, "settlement_refused=fail@*");
    for _ in 0..5 {
        world.chat(&key, &ask("tokens=5")).await.expect(200);
    }
    world.chat(&key, &ask("tokens=5")).await.refused(503, "overloaded");
    assert_eq!(unsettled(&world, 0).await, 5);
    world.arm(0, "");
    until("calls are taken again", async || world.chat(&key, &ask("tokens=5")).await.status == 200).await;
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_the_thread_that_writes_what_is_owed_is_lost_no_call_is_taken() {
    let world = World::new().failpoints().start().await;
    let key = world.key(&["--daily", "1"]);
    world.arm(0, "settlement_refused=fail@*;spool_written=panic");
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    until("no call is taken", async || world.chat(&key, &ask("tokens=5")).await.status == 503).await;
    world.arm(0, "");
    // The ledger takes settlements again, and the disk would take them too.
    world.assert_books_exact().await;
    world.chat(&key, &ask("tokens=5")).await.refused(503, "overloaded");
}

/// A panic while a gateway that has served nobody makes what an earlier one left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_gateway_left_is_made_after_a_panic_too() {
    let mut world = World::new().failpoints().start().await;
    let key = world.key(&["--daily", "1"]);
    world.arm(0, "settlement_refused=fail@*");
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    until("it is on disk", async || waiting(&world) > 0).await;
    world.gateways[0].process.kill();
    world.arm(0, "settlement_unsent=panic");
    // Nobody calls it: a request would start the task that settles from then on.
    world.relaunch_gateway(0);
    let says = "settles until the first call has ended and begins again";
    until(says, async || world.gateways[0].process.output().contains(says)).await;
    until("all is made", async || waiting(&world) == 0).await;
    world.assert_books_exact().await;
}

/// Lost books: settlements wait for the operator; after a rebuild they end their holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_to_lost_books_is_made_after_a_rebuild() {
    let mut world = World::new().redis().limit("ledger_ms", 500).start().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.settled().await;
    let body = with(streamed("tokens=40;rate=20"), object!({ "max_tokens": 200 }));
    let mut live = world.live(&key, &body).await;
    live.skip(2).await;
    world.redis_command("FLUSHALL").await;
    live.finish().await;
    until("it is on disk", async || waiting(&world) > 0).await;
    world.gateways[0].process.kill();
    world.relaunch_gateway(0);
    let state = world.dir.path().join("loopers-state").to_str().expect("UTF-8").to_owned();
    world.cli_json(&["ledger", "rebuild", "--from", &state]);
    until("all is made", async || waiting(&world) == 0).await;
    world.assert_books_exact().await;
}

async fn takes(gateway: SocketAddr, call: &Request) {
    until("calls are taken", async || Conn::open(gateway).await.call(call).await.status == 200).await;
}

/// Moves everything in a folder into another one.
fn move_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        std::fs::rename(entry.path(), to.join(entry.file_name())).expect("moved");
    }
}

async fn dies_at(world: &mut World, gateway: usize, point: &str, call: &Request) {
    takes(world.gateways[gateway].addr, call).await;
    world.settled().await;
    world.arm(gateway, &format!("{point}=kill"));
    let mut conn = Conn::open(world.gateways[gateway].addr).await;
    let _ = tokio::time::timeout(HANG, conn.try_call(call)).await;
    world.gateways[gateway].process.wait(HANG).await;
    world.arm(gateway, "");
}

/// The gateway dies between the line that announces a settlement and the ledger: before the spool has it. Whether the next gateway sends it
/// first or a rebuild counts it first, both say the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_had_announced_is_charged_truly_by_the_next_one_and_by_a_rebuild() {
    for rebuilt_first in [false, true] {
        let mut world = World::new().redis().failpoints().limit("call_seconds", 10).start().await;
        let (state, aside) = (world.dir.path().join("loopers-state"), world.dir.path().join("aside"));
        let key = world.key(&["--daily", "1", "--session-budget", "0.5"]);
        let body = with(ask("tokens=20"), object!({ "max_tokens": 500 }));
        let call = Request::chat(&body).bearer(&key.secret).header("x-loopers-session-id", "s");
        dies_at(&mut world, 0, "settlement_written", &call).await;
        assert_known(&world, 1);
        // A gateway that does not see its folder charges the hold in full when it expires.
        std::fs::rename(&state, &aside).expect("renamed");
        world.restart_gateway(0).await;
        world.settled().await;
        let full = world.charged().await;
        assert!(full > world.invoice().await.nano, "charged in full");
        world.gateways[0].process.signal("TERM");
        world.gateways[0].process.wait(HANG).await;
        move_all(&aside, &state);
        if !rebuilt_first {
            world.restart_gateway(0).await;
            until("corrected", async || world.charged().await < full).await;
            world.assert_books_exact().await;
        }
        world.redis_command("FLUSHALL").await;
        world.cli_json(&["ledger", "rebuild", "--from", state.to_str().expect("UTF-8")]);
        if rebuilt_first {
            world.restart_gateway(0).await;
        }
        takes(world.gateways[0].addr, &call).await;
        until("all is made", async || waiting(&world) == 0).await;
        world.assert_books_exact().await;
    }
}

/// Gateways that share a folder make what one of them leaves when it is killed, although none of them starts anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gateway_makes_what_a_killed_one_leaves() {
    let mut world = World::new().redis().failpoints().gateways(2).start().await;
    let key = world.key(&["--daily", "1"]);
    let call = Request::chat(&ask("tokens=20")).bearer(&key.secret);
    dies_at(&mut world, 0, "settlement_written", &call).await;
    assert!(world.books(&key).await.held > 0, "nobody has settled it");
    world.assert_books_exact().await;
    // And what is in its spool. The gateway that makes it has served nobody yet.
    world.restart_gateway(0).await;
    world.arm(0, "settlement_refused=fail@*");
    takes(world.gateways[0].addr, &call).await;
    until("it is on disk", async || waiting(&world) > 0).await;
    world.gateways[0].process.kill();
    world.arm(0, "");
    until("all is made", async || waiting(&world) == 0).await;
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_that_were_answered_are_sent_again_after_a_kill_only() {
    const AGAIN: &str = " settlements of an earlier run are made now";
    let number_before = |line: &str, what: &str| line.split_once(what)?.0.rsplit(' ').next()?.parse::<usize>().ok();
    let mut world = World::new().start().await;
    let key = world.key(&["--daily", "1"]);
    let mut sent_so_far = 0;
    for (signal, calls, sent) in [("TERM", 1, 0), ("KILL", 2, 2), ("TERM", 0, 0), ("KILL", 0, 0), ("KILL", 1, 1)] {
        for _ in 0..calls {
            world.chat(&key, &ask("tokens=5")).await.expect(200);
        }
        world.settled().await;
        world.gateways[0].process.signal(signal);
        world.gateways[0].process.wait(HANG).await;
        world.restart_gateway(0).await;
        let said = world.gateways[0].process.output();
        let sent_again: usize = said.lines().filter_map(|line| number_before(line, AGAIN)).sum();
        assert_eq!(sent_again - sent_so_far, sent, "{signal}: {said}");
        sent_so_far = sent_again;
        until("all is made", async || waiting(&world) == 0).await;
        world.assert_books_exact().await;
    }
}

/// The gateway dies between a hold and its line: nobody's journal knows of the hold until another gateway finds it due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_without_a_line_that_was_charged_in_full_is_charged_after_a_rebuild_too() {
    let mut world = World::new().redis().failpoints().gateways(2).limit("call_seconds", 10).start().await;
    let key = world.key(&["--daily", "1"]);
    let call = Request::chat(&with(ask("tokens=20"), object!({ "max_tokens": 500 }))).bearer(&key.secret);
    world.arm(0, "hold_taken=kill");
    let mut conn = Conn::open(world.gateways[0].addr).await;
    let _ = tokio::time::timeout(HANG, conn.try_call(&call)).await;
    world.gateways[0].process.wait(HANG).await;
    world.arm(0, "");
    world.settled().await;
    let full = world.charged().await;
    assert!(full > 0 && world.invoice().await.nano == 0, "charged in full: {full}");
    let listed = world.cli_json(&["holds", "list"]);
    world.redis_command("FLUSHALL").await;
    let state = world.dir.path().join("loopers-state").to_str().expect("UTF-8").to_owned();
    world.cli_json(&["ledger", "rebuild", "--from", &state]);
    assert_eq!((world.charged().await, &world.cli_json(&["holds", "list"])), (full, &listed));
    // And it can still be corrected.
    let id = listed["holds"].as_array().or_else(|| listed.as_array()).expect("a list")[0]["id"].clone();
    world.cli_json(&["holds", "release", id.as_str().expect("an id"), "--charged", "0"]);
    world.assert_books_exact().await;
}

/// A rebuild waits so long for the line of a hold, and no longer: a gateway that stood still must not send a call for a hold that the books may
/// have forgotten meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_was_written_down_too_late_sends_no_call() {
    let world = World::new().failpoints().limit("ledger_ms", 300).start().await;
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    let before = world.invoice().await.posts;
    // Longer than `ledger_ms` and the two seconds that a line may take.
    world.arm(0, "hold_taken=sleep:2500");
    world.chat(&key, &ask("tokens=5")).await.refused(503, "ledger_unavailable");
    assert_eq!(world.invoice().await.posts, before, "no call went out");
    world.assert_books_exact().await;
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.assert_books_exact().await;
}

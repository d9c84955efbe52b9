//! E 44: clients that are many, slow, huge or silent. Who behaves is served meanwhile, and nothing that they take stays taken.

use std::time::Duration;

use serde_json::json;

use crate::support::json::with;
use crate::support::world::ADMIN_TOKEN;
use crate::support::*;

/// A request that is never finished: all of its head but the blank line.
fn unfinished(key: &Key) -> Vec<u8> {
    let mut bytes = Request::chat(&ask("tokens=5")).bearer(&key.secret).head();
    bytes.truncate(bytes.len() - 2);
    bytes
}

/// Sends a byte at a time until the gateway closes; how long that took.
async fn trickle(mut conn: Conn, every: Duration) -> Duration {
    let start = std::time::Instant::now();
    within("a slow head is given up", async {
        loop {
            if conn.write(b"x").await.is_err() || conn.closed_within(every).await {
                return;
            }
        }
    })
    .await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_heads_that_come_byte_by_byte_have_a_deadline() {
    let world = World::new().limit("head_seconds", 2).start().await;
    let key = world.rich();
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut conn = Conn::open(world.gateway()).await;
        conn.write(b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ").await.expect("sent");
        slow.push(tokio::spawn(trickle(conn, Duration::from_millis(100))));
    }
    // A second request on a connection that has served one has the same deadline.
    let mut second = Conn::open(world.gateway()).await;
    second.call(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
    second.write(&unfinished(&key)).await.expect("sent");
    slow.push(tokio::spawn(trickle(second, Duration::from_millis(100))));
    // A connection that is only idle has not.
    let mut idle = Conn::open(world.gateway()).await;
    idle.call(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    for slow in slow {
        let took = slow.await.expect("a slow client");
        assert!(took >= Duration::from_secs(1), "given up before its time: {took:?}");
    }
    idle.call(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
    // Nor has a call that takes longer than a head may.
    world.chat(&key, &streamed("tokens=5;first_ms=4000")).await.expect(200);
    world.assert_books_exact().await;
}

/// A head of `bytes` bytes, as far as they go: in one header, or in the request line.
fn large_head(bytes: usize, in_line: bool) -> Vec<u8> {
    let fill = "a".repeat(bytes);
    let (line, header) = if in_line { (fill.as_str(), "") } else { ("", fill.as_str()) };
    format!("POST /openai/v1/chat/completions?{line} HTTP/1.1\r\nhost: x\r\nx-a: {header}").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_a_head_that_grows_and_grows_is_given_up() {
    // Long enough that only its size can be what ends it.
    let world = World::new().limit("header_bytes", 2048).limit("head_seconds", 3600).start().await;
    let key = world.rich();
    for in_line in [false, true] {
        let mut conn = Conn::open(world.gateway()).await;
        conn.write(&large_head(60_000, in_line)[..50_000]).await.expect("sent");
        assert!(conn.closed_within(HANG).await, "in the request line: {in_line}");
        // A little too much is answered.
        let mut conn = Conn::open(world.gateway()).await;
        let mut head = large_head(3_000, in_line);
        head.extend(b"\r\n\r\n");
        conn.write(&head).await.expect("sent");
        within("an answer", conn.try_answer("POST")).await.expect("an answer").refused(413, "request_too_large");
    }
    // What came before on a connection does not count.
    let mut conn = Conn::open(world.gateway()).await;
    let body = with(ask("tokens=5"), json!({ "user": "u".repeat(5_000) }));
    for _ in 0..10 {
        conn.call(&Request::chat(&body).bearer(&key.secret)).await.expect(200);
    }
    // Nor of those in which nothing is read, because the body came with the head.
    let poor = world.key(&["--daily", "0.000000001", "--overflow", "refuse"]);
    let mut conn = Conn::open(world.gateway()).await;
    for _ in 0..30 {
        let request = Request::chat(&ask("tokens=5")).bearer(&poor.secret).header("x-fill", &"f".repeat(1_500));
        conn.call(&request).await.refused(402, "budget_exceeded");
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_clients_that_never_end_their_tls_handshake_are_counted_and_given_up() {
    const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
    let section = format!("tls: {{ cert: \"{TLS}/server.pem\", key: \"{TLS}/server.key\" }}");
    let silent = async |world: &World| {
        let mut silent = Vec::new();
        for _ in 0..25 {
            silent.push(Conn::open(world.gateway()).await);
        }
        silent
    };
    let world = World::new().section(&section).limit("connections", 10).limit("head_seconds", 3600).start().await;
    let mut conns = silent(&world).await;
    let mut closed = 0;
    until("all but ten are closed", async || {
        closed = 0;
        for conn in &mut conns {
            closed += usize::from(conn.closed_within(Duration::from_millis(10)).await);
        }
        closed == 15
    })
    .await;
    let world = World::new().section(&section).limit("connections", 100).limit("head_seconds", 2).start().await;
    for mut conn in silent(&world).await {
        assert!(conn.closed_within(HANG).await, "a handshake that does not go on is given up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_the_admin_listener_has_its_own_limits() {
    let world = World::new().limit("admin_connections", 4).limit("head_seconds", 2).start().await;
    let addr = world.gateways[0].admin;
    let health = Request::get("/healthz").header("host", "localhost");
    // More than ever are open at once, one after the other; bodies included.
    for at in 0..20 {
        let body = format!(r#"{{"name":"team-{at}", "limits": {{}} {}}}"#, " ".repeat(30_000));
        let request = Request::post("/admin/v1/teams", body).bearer(ADMIN_TOKEN).header("host", "localhost");
        let request = request.header("content-type", "application/json");
        let answer = Conn::open(addr).await.call(&request).await;
        assert!(answer.status < 300, "{at}: {} {}", answer.status, answer.text());
        Conn::open(addr).await.call(&health).await.expect(200);
    }
    // Slow heads and bodies are given up, and make room.
    for start in [
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ",
        "POST /admin/v1/teams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let mut slow = Vec::new();
        for _ in 0..4 {
            let mut conn = Conn::open(addr).await;
            conn.write(start.as_bytes()).await.expect("sent");
            slow.push(conn);
        }
        let mut more = Conn::open(addr).await;
        until("one more is served again", async || {
            if let Some(answer) = within("an answer or a close", more.try_call(&health)).await {
                return answer.status == 200;
            }
            more = Conn::open(addr).await;
            false
        })
        .await;
        for conn in slow {
            within("a slow one is given up", conn.rest()).await;
        }
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_bodies_that_come_byte_by_byte_have_a_deadline_and_take_no_room() {
    let world = World::new().limit("body_seconds", 3).start().await;
    let key = world.rich();
    // 40 times 32 MiB are announced, more than all bodies together may have: but a byte has come of each.
    let mut slow = Vec::new();
    for at in 0..40 {
        let request = Request::chat(&json!({})).bearer(&key.secret);
        let head =
            if at % 2 == 0 { request.header("content-length", "33554432").head() } else { request.chunked().head() };
        let mut conn = Conn::open(world.gateway()).await;
        conn.write(&head).await.expect("sent");
        conn.write(if at % 2 == 0 { b"{" } else { b"1\r\n{\r\n" }).await.expect("sent");
        slow.push(conn);
    }
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    for mut conn in slow {
        let answer = within("a slow body is given up", conn.try_answer("POST")).await.expect("an answer");
        answer.refused(400, "invalid_request");
    }
    assert_eq!(world.invoice().await.posts, 1);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_bodies_together_are_bounded() {
    let mut world = World::new();
    for (name, bytes) in [("body_bytes", 3 << 20), ("answer_bytes", 1 << 20), ("buffered_bytes", 4 << 20)] {
        world = world.limit(name, bytes);
    }
    let world = world.start().await;
    let key = world.rich();
    let part = |bytes: usize| {
        let mut bytes_sent = Request::chat(&json!({})).bearer(&key.secret).header("content-length", "3000000").head();
        bytes_sent.extend(std::iter::repeat_n(b' ', bytes));
        bytes_sent
    };
    // Each alone would fit. Whichever fills the room first leaves none to the other; where they come piece by piece in turn, to neither.
    let (mut first, mut second) = (Conn::open(world.gateway()).await, Conn::open(world.gateway()).await);
    let bytes = part(2_500_000);
    let _ = tokio::join!(first.write(&bytes), second.write(&bytes));
    let told = async {
        tokio::select! {
            answer = first.try_answer("POST") => answer,
            answer = second.try_answer("POST") => answer,
        }
    };
    // Who still sends may see a reset instead of the answer.
    if let Some(answer) = within("one is refused", told).await {
        answer.refused(503, "overloaded");
    }
    let ask_page = Request::get("/metrics").header("host", "localhost");
    let page = Conn::open(world.gateways[0].admin).await.call(&ask_page).await.expect(200).text();
    let refused = ["1", "2"].map(|count| format!("loopers_refusals_total{{code=\"overloaded\"}} {count}\n"));
    assert!(refused.iter().any(|line| page.contains(line)), "{page}");
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    drop((first, second));
    let large = Request::post("/openai/v1/chat/completions", vec![b' '; 2_500_000]).bearer(&key.secret);
    until("there is room again", async || world.send(&large).await.code() != "overloaded").await;
    world.assert_books_exact().await;
}

/// Whether a client is served, told that there are too many, or not heard at all.
async fn knock(world: &World, key: &Key) -> u16 {
    let Ok(mut conn) = Conn::try_open(world.gateway()).await else { return 0 };
    let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
    match within("an answer or a close", conn.try_call(&request)).await {
        Some(answer) => {
            assert!(answer.status == 200 || answer.code() == "overloaded", "{} {}", answer.status, answer.text());
            answer.status
        }
        None => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_one_connection_too_many_is_refused_and_the_others_go_on() {
    let world = World::new().limit("connections", 40).start().await;
    let key = world.rich();
    let mut inside = Vec::new();
    for _ in 0..40 {
        let mut conn = Conn::open(world.gateway()).await;
        // Only who was answered is certainly in: the next one could otherwise be faster.
        conn.call(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
        inside.push(conn);
    }
    until("the door is shut", async || knock(&world, &key).await != 200).await;
    // Who is told, is told in the shape of an SDK's error, and not to come again at once.
    until("somebody is told", async || {
        let Ok(mut conn) = Conn::try_open(world.gateway()).await else { return false };
        let Some(answer) = conn.try_call(&Request::chat(&ask("")).bearer(&key.secret)).await else { return false };
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        answer.code() == "overloaded"
    })
    .await;
    for conn in &mut inside {
        conn.call(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
    }
    drop(inside);
    until("the door is open again", async || knock(&world, &key).await == 200).await;
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_few_open_files_refuse_clients_and_lose_nothing() {
    let world = World::new().under(&["prlimit", "--nofile=256:256"]).start().await;
    let key = world.key(&["--daily", "5"]);
    let body = with(streamed("tokens=20;rate=20;leave=stop"), json!({ "max_tokens": 40 }));
    let request = Request::chat(&body).bearer(&key.secret);
    let mut calls = Vec::new();
    for _ in 0..400 {
        let (addr, request) = (world.gateway(), request.clone());
        calls.push(tokio::spawn(async move {
            let mut conn = Conn::try_open(addr).await.ok()?;
            conn.try_call(&request).await
        }));
    }
    let (mut served, mut refused) = (0, 0);
    for call in calls {
        match within("each client has an end", call).await.expect("a client") {
            Some(answer) if answer.status == 200 => served += 1,
            // Its own connection to the provider may be the one that had no file left.
            Some(answer) => {
                assert!(matches!(answer.status, 502 | 503), "{} {}", answer.status, answer.text());
                refused += 1;
            }
            None => refused += 1,
        }
    }
    println!("of 400 clients under a limit of 256 files {served} were served, {refused} refused");
    assert!(served > 0 && refused > 0);
    until("it is well again", async || knock(&world, &key).await == 200).await;
    world.assert_books_exact().await;
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// So many clients with an unfinished head each.
async fn slow_clients(world: &World, key: &Key, count: usize) -> Vec<Conn> {
    let start = unfinished(key);
    let mut slow = Vec::with_capacity(count);
    for _ in 0..count {
        let mut conn = Conn::open(world.gateway()).await;
        conn.write(&start).await.expect("sent");
        slow.push(conn);
    }
    slow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_two_thousand_slow_clients_cost_little() {
    let world = World::new().limit("head_seconds", 3600).start().await;
    let key = world.rich();
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    let pid = world.gateways[0].process.id();
    let before = resident_kib(pid);
    let most = before + 2000 * 64;
    let slow = slow_clients(&world, &key, 2000).await;
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    let during = resident_kib(pid);
    println!("2,000 unfinished heads: {before} KiB before, {during} KiB with them");
    assert!(during < most, "each takes less than 64 KiB: {before} -> {during} KiB");
    // Others get the memory that these had, which must not cost more than fresh memory. What is free is kept for a second.
    drop(slow);
    let mut others = slow_clients(&world, &key, 2000).await;
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    until("2,000 others take less than 64 KiB each", async || resident_kib(pid) < most).await;
    println!("2,000 others: {} KiB with them", resident_kib(pid));
    for conn in &mut others {
        assert!(!conn.closed_within(Duration::ZERO).await, "all of them are still there");
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_two_thousand_slow_clients_are_given_up() {
    let world = World::new().limit("head_seconds", 5).start().await;
    let key = world.rich();
    let slow = slow_clients(&world, &key, 2000).await;
    within("a call beside them", world.chat(&key, &ask("tokens=5"))).await.expect(200);
    for mut conn in slow {
        assert!(conn.closed_within(HANG).await, "a slow head is given up");
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_calls_in_flight_are_bounded_and_health_is_still_told() {
    let world = World::new().limit("in_flight", 10).start().await;
    let key = world.key(&["--daily", "5"]);
    let mut lives = Vec::new();
    for _ in 0..10 {
        let mut live = world.live(&key, &streamed("tokens=400;rate=40;leave=stop")).await;
        live.skip(2).await;
        lives.push(live);
    }
    world.chat(&key, &ask("tokens=5")).await.refused(503, "overloaded");
    world.send(&Request::get("/healthz")).await.expect(200);
    world.send(&Request::get("/readyz")).await.expect(200);
    for live in lives {
        live.hang_up();
    }
    until("there is room again", async || world.chat(&key, &ask("tokens=5")).await.status == 200).await;
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_no_label_of_a_metric_comes_from_a_client() {
    let world = World::plain().await;
    let key = world.rich();
    let page = async || {
        let ask = Request::get("/metrics").header("host", "localhost");
        Conn::open(world.gateways[0].admin).await.call(&ask).await.expect(200).text()
    };
    let names = |page: &str| {
        page.lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| l.rsplit_once(' ').expect("a value").0.to_owned())
            .collect::<Vec<_>>()
    };
    // Once each, so that the series of what is refused are there.
    let odd = async |at: usize| {
        let name = format!("invented-{at}");
        world.chat(&key, &json::ask_model(&name, "")).await;
        world.send(&Request::chat(&ask("tokens=3")).bearer(&key.secret).header("x-loopers-session-id", &name)).await;
        world.send(&Request::post(&format!("/{name}/v1/chat/completions"), "{}").bearer(&key.secret)).await;
        world.send(&Request::post(&format!("/openai/v1/{name}"), "{}").bearer(&key.secret)).await;
        world.send(&Request::new(&format!("INVENTED{at}"), "/openai/v1/models").bearer(&key.secret)).await;
        world.send(&Request::chat(&ask("")).bearer(&name)).await;
        world.send(&Request::chat(&ask("tokens=3")).bearer(&key.secret).header("user-agent", &name)).await;
    };
    odd(0).await;
    let before = names(&page().await);
    for at in 1..60 {
        odd(at).await;
    }
    let after = page().await;
    assert!(!after.to_lowercase().contains("invented"), "{after}");
    let new: Vec<String> = names(&after).into_iter().filter(|name| !before.contains(name)).collect();
    assert!(new.is_empty(), "series that clients made: {new:?}");
    world.assert_books_exact().await;
}

//! Alerts: once, signed, and never in the way of a call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::json::with;
use crate::support::world::ADMIN_TOKEN;
use crate::support::{Builder, Conn, Request, World, ask, streamed, until};

/// What a receiver got: head and body of each request.
type Got = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver that answers with `statuses` in turn, the last one for ever; `None` never answers.
async fn receiver(statuses: &'static [Option<&'static str>]) -> (SocketAddr, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let got = Got::default();
    let seen = got.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut piece = [0; 4096];
                let Ok(count @ 1..) = stream.read(&mut piece).await else { break (String::new(), String::new()) };
                bytes.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = field(head, "content-length").and_then(|v| v.parse::<usize>().ok()).unwrap_or(0);
                if body.len() >= length {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let at = {
                let mut seen = seen.lock().expect("got");
                seen.push((head, body));
                seen.len() - 1
            };
            match statuses.get(at).or(statuses.last()).copied().flatten() {
                Some(status) => {
                    let answer =
                        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                None => kept.push(stream),
            }
        }
    });
    (addr, got)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// HMAC-SHA256 as RFC 2104 writes it, apart from the crate that the gateway uses.
fn hmac(secret: &[u8], message: &[u8]) -> String {
    let mut key = [0_u8; 64];
    key[..secret.len()].copy_from_slice(secret);
    let pad = |byte: u8| key.iter().map(|k| k ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
    let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn world(addr: SocketAddr, format: &str) -> Builder {
    // Any secret will do; this one is in the environment of every gateway of these tests.
    World::new().section(&format!(
        "alerts: {{ webhooks: {{ ops: {{ url: \"http://{addr}/hook\", format: {format}, secret: env:LOOPERS_ADMIN_TOKEN }} }}, timeout_seconds: 2 }}"
    ))
}

fn bodies(got: &Got) -> Vec<Value> {
    let got = got.lock().expect("got");
    got.iter().map(|(_, body)| serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))).collect()
}

fn thresholds(got: &Got) -> Vec<u64> {
    bodies(got).iter().filter_map(|alert| alert["threshold_percent"].as_u64()).collect()
}

/// Spends until the key's day has no room.
async fn spend_all(world: &World, gateway: usize, secret: &str) {
    loop {
        let request = Request::chat(&with(ask("tokens=20"), json!({ "max_tokens": 20 }))).bearer(secret);
        let answer = world.send_to(gateway, &request).await;
        if answer.status == 402 {
            return;
        }
        answer.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thresholds_arrive_once_and_signed_although_the_receiver_fails_twice() {
    let (addr, got) = receiver(&[Some("500 No"), Some("302 Found"), Some("200 OK")]).await;
    let world = world(addr, "json").redis().gateways(2).start().await;
    let key = world.key(&["--daily", "0.003"]);
    // Both gateways see every threshold being crossed; the answer to a call shows its charge before the next one.
    for at in 0.. {
        let request = Request::chat(&with(ask("tokens=20"), json!({ "max_tokens": 20 }))).bearer(&key.secret);
        let answer = world.send_to(at % 2, &request).await;
        if answer.status == 402 {
            break;
        }
        answer.expect(200);
    }
    until("the last threshold is told", async || thresholds(&got).contains(&100)).await;
    // Time for whatever would come twice.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let got = got.lock().expect("got").clone();
    let mut tries: HashMap<String, usize> = HashMap::new();
    for (head, body) in &got {
        assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
        let stamp = field(head, "x-loopers-timestamp").expect("a timestamp");
        let signed = format!("sha256={}", hmac(ADMIN_TOKEN.as_bytes(), format!("{stamp}.{body}").as_bytes()));
        assert_eq!(field(head, "x-loopers-signature"), Some(signed.as_str()));
        let alert: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(field(head, "x-loopers-alert-id"), alert["id"].as_str());
        assert_eq!((&alert["type"], &alert["budget_id"]), (&json!("budget.threshold"), &json!(key.id)), "{alert}");
        assert_eq!((&alert["window"], &alert["limit_usd"]), (&json!("daily"), &json!("0.003")), "{alert}");
        *tries.entry(alert["id"].as_str().expect("an id").into()).or_default() += 1;
        assert!(!body.contains(&key.secret) && !head.contains(ADMIN_TOKEN), "a secret");
    }
    // Two failures, so two alerts (or one twice) were sent again with the same id; none was delivered twice.
    assert_eq!(got.len(), tries.len() + 2, "{tries:?}");
    let told: Vec<u64> = got
        .iter()
        .skip(2)
        .filter_map(|(_, b)| serde_json::from_str::<Value>(b).ok()?["threshold_percent"].as_u64())
        .collect();
    let mut once = told.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), told.len(), "each threshold once: {told:?}");
    assert!(told.iter().all(|percent| [50, 80, 100].contains(percent)), "{told:?}");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_gateway_does_not_tell_it_again() {
    let (addr, got) = receiver(&[Some("200 OK")]).await;
    let mut world = world(addr, "json").file().start().await;
    let key = world.key(&["--daily", "0.003"]);
    spend_all(&world, 0, &key.secret).await;
    until("it is told", async || thresholds(&got).contains(&100)).await;
    world.gateways[0].process.signal("TERM");
    world.gateways[0].process.wait(Duration::from_secs(60)).await;
    let before = bodies(&got).len();
    world.restart_gateway(0).await;
    spend_all(&world, 0, &key.secret).await;
    let other = world.key(&["--daily", "0.003"]);
    spend_all(&world, 0, &other.secret).await;
    until("the other key's is told", async || bodies(&got).iter().any(|alert| alert["budget_id"] == other.id)).await;
    let again = bodies(&got)[before..].iter().filter(|alert| alert["budget_id"] == key.id).count();
    assert_eq!(again, 0, "{:?}", bodies(&got));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_delays_no_call() {
    let (addr, got) = receiver(&[None]).await;
    let world = world(addr, "json").start().await;
    // One call at a time, each with its time: first with nothing to tell, then with the receiver holding on.
    let mut times = [Vec::new(), Vec::new()];
    for (round, times) in times.iter_mut().enumerate() {
        if round == 1 {
            let small = world.key(&["--daily", "0.003"]);
            spend_all(&world, 0, &small.secret).await;
            until("the receiver hangs", async || !got.lock().expect("got").is_empty()).await;
        }
        let key = world.rich();
        let mut conn = Conn::open(world.gateway()).await;
        for _ in 0..400 {
            let start = std::time::Instant::now();
            conn.call(&Request::chat(&ask("tokens=5")).bearer(&key.secret)).await.expect(200);
            times.push(start.elapsed());
        }
        times.sort_unstable();
    }
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    println!(
        "p99 of 400 calls: {:?} with nothing to tell, {:?} while the receiver hangs",
        p99(&times[0]),
        p99(&times[1])
    );
    // What would be seen if calls waited for it: its time-out is two seconds.
    assert!(p99(&times[1]) < Duration::from_secs(2), "calls wait for the receiver");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_and_a_lost_ledger_are_told_in_slacks_shape_too() {
    let (addr, got) = receiver(&[Some("204 No Content")]).await;
    let mut world = world(addr, "slack").redis().limit("ledger_ms", 500).start().await;
    let key = world.key(&["--daily", "1"]);
    let body = with(streamed("tokens=4000;rate=4;chunk=1;leave=stop"), json!({ "max_tokens": 4000 }));
    let mut live = world.live(&key, &body).await;
    live.skip(3).await;
    world.cli_ok(&["kill", &key.id]);
    live.finish().await;
    let says =
        |what: &str| bodies(&got).iter().any(|alert| alert["text"].as_str().is_some_and(|text| text.contains(what)));
    until("the cut is told", async || says("was cut: key_paused")).await;
    world.settled().await;
    world.redis().signal("STOP");
    until("the ledger's silence is told", async || says("does not answer")).await;
    world.redis().signal("CONT");
    until("and its return", async || says("answers again")).await;
}

//! A Cluster of three masters: keys of one tree share a slot, trees are spread, every operation finds its way.

use std::time::Instant;

use super::server::{Server, free_port};
use super::*;
use crate::ledger::{Charge, Edit, LedgerError, Settled, Standing};

/// Three masters that know each other and share all slots.
fn cluster(policy: &str) -> Vec<Server> {
    let servers: Vec<Server> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            Server::start(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"])
        })
        .collect();
    for (server, slots) in servers.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        server.cli(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]);
    }
    for server in &servers[1..] {
        let (port, bus) = (servers[0].port.to_string(), servers[0].cli(&["CONFIG", "GET", "cluster-port"]));
        let bus: String = bus.chars().filter(char::is_ascii_digit).collect();
        server.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }
    servers[2].cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
    let until = Instant::now() + Duration::from_secs(20);
    for server in &servers {
        while !server.cli(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:3")
            || !server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        {
            assert!(Instant::now() < until, "the Cluster did not form");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    servers
}

fn url(servers: &[Server]) -> String {
    format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", servers[0].port, servers[1].port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_works_on_a_cluster() {
    let servers = cluster("noeviction");
    let mut options = RedisOptions::new(url(&servers));
    options.timeout = Duration::from_secs(5);
    let offset = Arc::clone(&options.time_offset_ms);
    let ledger = RedisLedger::connect(options).await.unwrap();
    ledger.probe().await.unwrap();
    for i in 0..12 {
        let team = team_record(&format!("team-{i}"), None, limit(Window::Monthly, 100));
        ledger.create_team(&team).await.unwrap();
        let (key, hash) = key_record(&format!("key-{i}"), Some(&team.id), Limits::default());
        ledger.create_key(&key).await.unwrap();
        let view = Arc::new(ledger.key_by_hash(&hash).await.unwrap().unwrap());
        let first = in_session(ask(&view, 1, 60), "s", Some(90), None);
        assert_eq!(granted(&ledger.reserve(&first).await.unwrap()), 60);
        let applied = Settled::Applied { charged: usd(50), held: usd(60) };
        assert_eq!(ledger.settle(&first.hold_ref(), Charge::Exact(usd(50))).await, Ok(applied));
        assert_eq!(granted(&ledger.reserve(&ask(&view, 1, 99)).await.unwrap()), 50);
        assert_eq!(ledger.standing(&[first.hold_ref()]).await, Ok(vec![Standing::Good]));
        ledger.edit(&key.id, &Edit::State(State::Paused)).await.unwrap();
        assert_eq!(books(&ledger.status(&team.id).await.unwrap(), Window::Monthly), (50, 50));
        assert_eq!(ledger.session(&key.id, "s").await.unwrap().map(|s| s.steps), Some(1));
    }
    let trees: Vec<String> = servers.iter().map(|server| server.cli(&["KEYS", "lp1:{t_*:d"])).collect();
    assert!(trees.iter().filter(|found| found.contains("lp1:")).count() > 1, "{trees:?}");
    assert_eq!(ledger.nodes().await.unwrap().len(), 24);
    assert_eq!(ledger.holds(100).await.unwrap().len(), 12);
    for server in &servers {
        server.cli(&["SCRIPT", "FLUSH"]);
    }
    offset.fetch_add(DAY, Ordering::SeqCst);
    assert_eq!(ledger.sweep(100, None).await.unwrap().expired, 12);
}

/// Also the client's own limit for a node's answer is that of the handle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patient_handle_waits_for_a_cluster_longer_than_a_call_would() {
    let servers = cluster("noeviction");
    let call_limit = Duration::from_millis(250);
    let options = RedisOptions { timeout: call_limit, ..RedisOptions::new(url(&servers)) };
    let hasty = RedisLedger::disconnected(&options).unwrap();
    let patient = hasty.patient();
    let team = team_record("team", None, Limits::default());
    patient.create_team(&team).await.unwrap();
    servers.iter().for_each(Server::freeze);
    let id = team.id.clone();
    let waiting = tokio::spawn(async move { patient.status(&id).await });
    assert!(matches!(hasty.status(&team.id).await, Err(LedgerError::Unavailable(_))));
    tokio::time::sleep(call_limit).await;
    servers.iter().for_each(Server::thaw);
    assert_eq!(waiting.await.unwrap().unwrap().name, "team");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_cluster_is_waited_for_with_a_new_connection_too() {
    let servers = cluster("noeviction");
    let options = RedisOptions { timeout: Duration::from_secs(20), ..RedisOptions::new(url(&servers)) };
    servers.iter().for_each(Server::freeze);
    let connecting = tokio::spawn(RedisLedger::connect(options));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    servers.iter().for_each(Server::thaw);
    connecting.await.unwrap().unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn every_master_must_be_fit_and_the_url_must_say_what_it_is() {
    let servers = cluster("allkeys-random");
    for url in [url(&servers), servers[0].url()] {
        assert!(matches!(RedisLedger::connect(RedisOptions::new(url)).await, Err(LedgerError::Conflict(_))));
    }
    let single = Server::start(&[]);
    let url = format!("redis-cluster://127.0.0.1:{}", single.port);
    assert!(RedisLedger::connect(RedisOptions::new(url)).await.is_err());
}

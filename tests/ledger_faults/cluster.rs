//! A Redis Cluster whose slots go away, or move to another master.

use super::lab::{LEDGER_MS, Redis, heals, refused};
use crate::support::process::free_port;
use crate::support::*;

/// Three masters with a third of the slots each.
struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    async fn start() -> Cluster {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..3 {
            let bus = free_port().to_string();
            let args = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
            let files = ["--appendonly", "yes", "--appendfsync", "no"];
            nodes.push(Redis::start(&[&args[..], &files[..]].concat()).await);
            buses.push(bus);
        }
        for (i, range) in ["0 5460", "5461 10922", "10923 16383"].into_iter().enumerate() {
            nodes[i].tell(&format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1));
            nodes[i].tell(&format!("CLUSTER ADDSLOTSRANGE {range}"));
            for other in 0..i {
                nodes[i].tell(&format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[other].port, buses[other]));
            }
        }
        let cluster = Cluster { nodes };
        cluster.agreed().await;
        cluster
    }

    /// Waits until every node says that all slots are served.
    async fn agreed(&self) {
        until("the cluster agrees", async || {
            self.nodes.iter().all(|node| {
                let info: String = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        })
        .await;
    }

    async fn world(&self) -> World {
        self.world_of(&[]).await
    }

    /// A gateway that is told of other hosts before those of the cluster.
    async fn world_of(&self, others: &[String]) -> World {
        let nodes = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let hosts: Vec<String> = others.iter().cloned().chain(nodes).collect();
        let url = format!("redis-cluster://{}", hosts.join(","));
        World::new().ledger(&url).limit("ledger_ms", LEDGER_MS * 2).limit("call_seconds", 10).start().await
    }

    /// The slot of a key's tree, and which node has it.
    fn home(&self, key: &Key) -> (u64, usize) {
        let slot: u64 = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", &format!("lp1:{{{}}}:d", key.id)]);
        (slot, (slot / 5461).min(2) as usize)
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].ask(&["CLUSTER", "MYID"])
    }
}

async fn spender(world: &World) -> Key {
    let key = world.key(&["--daily", "1"]);
    world.chat(&key, &ask("tokens=5")).await.expect(200);
    world.settled().await;
    key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_cluster_slot_down() {
    let mut cluster = Cluster::start().await;
    let world = cluster.world().await;
    let key = spender(&world).await;
    let (_, home) = cluster.home(&key);
    cluster.nodes[home].kill();
    refused(&world, &key, "ledger_unavailable").await;
    cluster.nodes[home].run().await;
    cluster.agreed().await;
    heals(&world, &key).await;
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_cluster_slot_moving() {
    let cluster = Cluster::start().await;
    let world = cluster.world().await;
    let key = spender(&world).await;
    let (slot, from) = cluster.home(&key);
    let to = (from + 1) % 3;
    let (from_id, to_id) = (cluster.id(from), cluster.id(to));
    cluster.nodes[to].tell(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    cluster.nodes[from].tell(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    let mut seen = Vec::new();
    loop {
        let names: Vec<String> = cluster.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1"]);
        let Some(name) = names.first() else { break };
        let port = cluster.nodes[to].port.to_string();
        cluster.nodes[from].ask::<redis::Value>(&["MIGRATE", "127.0.0.1", &port, name, "0", "5000"]);
        // Half of the tree is here and half of it there: a call is served or refused, and nothing in between.
        let answer = world.chat(&key, &ask("tokens=5")).await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        seen.push(answer.status);
        assert!(seen.len() < 500, "new keys come faster than they move");
    }
    for node in &cluster.nodes {
        node.tell(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
    heals(&world, &key).await;
    world.assert_books_exact().await;
    assert!(seen.contains(&503), "the slot was never between two masters: {seen:?}");
}

/// One host that hangs must not keep a gateway from those that answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d38_cluster_host_that_hangs() {
    let cluster = Cluster::start().await;
    // Connections are made, by the kernel, and nobody ever answers on them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let world = cluster.world_of(&[silent.local_addr().unwrap().to_string()]).await;
    spender(&world).await;
    world.assert_books_exact().await;
}

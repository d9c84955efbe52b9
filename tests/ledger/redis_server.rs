//! Redis servers of the test's own: standalone and a cluster of three masters, on free ports of this host.
//!
//! Each server is the child of a shell that ends it, and removes its directory, when the shell's input closes. The input is
//! held by this process, so the kernel closes it however the process ends: normally, by a panic, or by a kill that runs no
//! destructor.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redis::{FromRedisValue, cmd};
use tempfile::TempDir;

const KEEPER: &str = r#"trap '' INT TERM HUP; dir=$1; shift
redis-server "$@" --dir "$dir" >/dev/null 2>&1 &
cat >/dev/null; kill -9 $!; wait; rm -rf "$dir""#;
const PATIENCE: Duration = Duration::from_secs(30);

/// One `redis-server`.
struct Server {
    port: u16,
    bus: u16,
    keeper: Child,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The shell ends at once; a failure here leaves a finished child to the kernel and nothing else.
        let _ = self.keeper.wait();
    }
}

impl Server {
    fn start(cluster: bool) -> Result<Server> {
        // Another process may take a free port before the server does: then another port is tried.
        (0..5)
            .find_map(|_| Server::start_once(cluster).ok())
            .map_or_else(|| Server::start_once(cluster), Ok)
            .context("redis-server does not start: is it installed?")
    }

    fn start_once(cluster: bool) -> Result<Server> {
        let dir = tempfile::tempdir()?;
        let (port, bus) = (free_port()?, free_port()?);
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(dir.path()).args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ]);
        keeper.args(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]);
        if cluster {
            keeper.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
            keeper.args(["--cluster-port", &bus.to_string(), "--cluster-node-timeout", "15000"]);
        }
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Server { port, bus, keeper, dir };
        let home = server.dir.path().canonicalize()?;
        eventually("redis-server answers", || {
            let answer: Vec<String> = server.ask(&["CONFIG", "GET", "dir"])?;
            ensure!(answer.get(1).is_some_and(|dir| home.as_os_str() == dir.as_str()), "a stranger answers on {port}");
            Ok(())
        })?;
        Ok(server)
    }

    fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let (first, rest) = words.split_first().context("a command has a name")?;
        let mut command = cmd(first);
        for word in rest {
            command.arg(*word);
        }
        Ok(command.query(&mut connection)?)
    }
}

/// A standalone server (one) or a cluster (three).
struct Store {
    servers: Vec<Server>,
}

impl Store {
    fn start(cluster: bool) -> Result<Store> {
        let count = if cluster { 3 } else { 1 };
        let store = Store { servers: (0..count).map(|_| Server::start(cluster)).collect::<Result<_>>()? };
        if cluster {
            store.join()?;
        }
        Ok(store)
    }

    /// Gives each master a third of the slots and makes them one cluster.
    fn join(&self) -> Result<()> {
        let ranges = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (i, (server, (from, to))) in self.servers.iter().zip(ranges).enumerate() {
            server.ask::<String>(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()])?;
            server.ask::<String>(&["CLUSTER", "ADDSLOTSRANGE", from, to])?;
            for other in &self.servers[..i] {
                let (port, bus) = (other.port.to_string(), other.bus.to_string());
                server.ask::<String>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
            }
        }
        eventually("the cluster agrees on its slots", || {
            for server in &self.servers {
                let info: String = server.ask(&["CLUSTER", "INFO"])?;
                for wanted in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"] {
                    ensure!(info.contains(wanted), "no {wanted} on port {}", server.port);
                }
            }
            Ok(())
        })
    }

    fn is_cluster(&self) -> bool {
        self.servers.len() > 1
    }

    fn clear(&self) -> Result<()> {
        self.servers.iter().try_for_each(|server| server.ask::<String>(&["FLUSHALL"]).map(drop))
    }
}

/// Stores that no test uses right now. A test takes one, empties it and gives it back: starting one takes seconds.
static IDLE: Mutex<Vec<Store>> = Mutex::new(Vec::new());

/// An empty store that this test has for itself.
pub struct Lease {
    store: Option<Store>,
}

impl Lease {
    /// An empty standalone server, or an empty cluster of three masters.
    pub fn take(cluster: bool) -> Result<Lease> {
        let idle = {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            let found = idle.iter().position(|store| store.is_cluster() == cluster);
            found.map(|at| idle.swap_remove(at))
        };
        let store = match idle {
            Some(store) => store,
            None => Store::start(cluster)?,
        };
        store.clear()?;
        Ok(Lease { store: Some(store) })
    }

    /// The URL of the store.
    pub fn url(&self) -> String {
        let servers = self.store.iter().flat_map(|store| &store.servers);
        let hosts: Vec<String> = servers.map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let scheme = if hosts.len() > 1 { "redis-cluster" } else { "redis" };
        format!("{scheme}://{}", hosts.join(","))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.store.take());
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn eventually(what: &str, check: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match check() {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > end => bail!("waited {PATIENCE:?}, but it is not true that {what}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

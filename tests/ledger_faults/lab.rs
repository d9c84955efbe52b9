//! Redis servers of a test, a wire to them that can be cut, slowed and laid elsewhere, and a world behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::builder::Builder;
use crate::support::process::{Process, free_port, local};
use crate::support::*;

/// The time that the gateways give their ledger.
pub const LEDGER_MS: u64 = 400;
/// How long a refusal may take on a busy machine.
pub const REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// How long healing may take on a busy machine.
const HEALED_WITHIN: Duration = Duration::from_secs(20);

/// One redis-server.
pub struct Redis {
    pub port: u16,
    pub dir: TempDir,
    args: Vec<String>,
    process: Option<Process>,
}

impl Redis {
    /// A server with a memory that survives it only if `args` say so.
    pub async fn start(args: &[&str]) -> Redis {
        let dir = tempfile::tempdir().expect("a directory");
        let args = args.iter().map(ToString::to_string).collect();
        let mut redis = Redis { port: free_port(), dir, args, process: None };
        redis.run().await;
        redis
    }

    /// One that writes down everything before it answers. Not as far as the disk: these tests end processes, never the machine, and a disk
    /// that others keep busy would be one more fault than a test means.
    pub async fn durable() -> Redis {
        Redis::start(&["--appendonly", "yes", "--appendfsync", "no"]).await
    }

    /// Starts it, again, on its port and with its files.
    pub async fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--maxmemory-policy", "noeviction"]).args(&self.args);
        command.arg("--dir").arg(self.dir.path()).current_dir(self.dir.path());
        self.process = Some(Process::start(command, self.dir.path(), "redis"));
        let deadline = Instant::now() + HANG;
        while !self.answers() {
            self.process().assert_alive();
            assert!(Instant::now() < deadline, "redis does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut connection) = self.connect(None) else { return false };
        redis::cmd("PING").query::<String>(&mut connection).is_ok()
    }

    fn connect(&self, password: Option<&str>) -> redis::RedisResult<redis::Connection> {
        let login = password.map(|password| format!(":{password}@")).unwrap_or_default();
        redis::Client::open(format!("redis://{login}127.0.0.1:{}", self.port))?
            .get_connection_with_timeout(Duration::from_secs(5))
    }

    /// One command, its words apart.
    #[track_caller]
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.ask_as(None, words)
    }

    #[track_caller]
    pub fn ask_as<T: redis::FromRedisValue>(&self, password: Option<&str>, words: &[&str]) -> T {
        let mut connection = self.connect(password).expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// One command of which only the effect counts.
    #[track_caller]
    pub fn tell(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        self.ask::<redis::Value>(&words);
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running server")
    }

    pub fn kill(&mut self) {
        self.process().kill();
    }

    /// Ends it as an operator would.
    pub async fn stop(&mut self) {
        self.process().signal("TERM");
        self.process().wait(HANG).await;
    }

    pub fn addr(&self) -> SocketAddr {
        local(self.port)
    }
}

#[derive(Clone)]
struct Lay {
    target: SocketAddr,
    delay: Duration,
    reset: bool,
    /// Connections of an earlier one are closed.
    nth: u64,
}

/// A TCP proxy.
#[derive(Clone)]
pub struct Wire {
    pub port: u16,
    lay: Arc<Mutex<Lay>>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Wire {
        let port = free_port();
        let listener = TcpListener::bind(local(port)).await.expect("a port");
        let lay = Lay { target, delay: Duration::ZERO, reset: false, nth: 0 };
        let wire = Wire { port, lay: Arc::new(Mutex::new(lay)) };
        let shared = wire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(shared.clone().carry(client));
            }
        });
        wire
    }

    fn lay(&self) -> Lay {
        self.lay.lock().expect("the lay").clone()
    }

    /// From now on it leads elsewhere.
    pub fn switch(&self, target: SocketAddr) {
        let mut lay = self.lay.lock().expect("the lay");
        (lay.target, lay.nth) = (target, lay.nth + 1);
    }

    /// Holds up each answer for so long.
    pub fn delay(&self, delay: Duration) {
        self.lay.lock().expect("the lay").delay = delay;
    }

    /// Resets each connection in the middle of its next answer.
    pub fn reset(&self, yes: bool) {
        self.lay.lock().expect("the lay").reset = yes;
    }

    async fn carry(self, mut client: TcpStream) {
        let nth = self.lay().nth;
        let Ok(mut server) = TcpStream::connect(self.lay().target).await else { return };
        let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut look = tokio::time::interval(Duration::from_millis(10));
        loop {
            tokio::select! {
                _ = look.tick() => if self.lay().nth != nth { return },
                read = client.read(&mut up) => match read {
                    Ok(n) if n > 0 => if server.write_all(&up[..n]).await.is_err() { return },
                    _ => return,
                },
                read = server.read(&mut down) => match read {
                    Ok(n) if n > 0 => {
                        if self.lay().reset {
                            // Half of the answer, and a reset instead of an end.
                            let _ = client.write_all(&down[..n / 2]).await;
                            let _ = client.set_zero_linger();
                            return;
                        }
                        tokio::time::sleep(self.lay().delay).await;
                        if client.write_all(&down[..n]).await.is_err() { return }
                    }
                    _ => return,
                },
            }
        }
    }
}

/// Everything that a test of a fault needs.
pub struct Lab {
    pub world: World,
    pub redis: Redis,
    pub wire: Wire,
}

impl Lab {
    pub async fn new(gateways: usize) -> Lab {
        Lab::on(Redis::durable().await, |world| world.gateways(gateways)).await
    }

    /// A world behind a wire to this server.
    pub async fn on(redis: Redis, change: impl FnOnce(Builder) -> Builder) -> Lab {
        let wire = Wire::to(redis.addr()).await;
        let url = format!("redis://127.0.0.1:{}", wire.port);
        let world = World::new().ledger(&url).limit("ledger_ms", LEDGER_MS).limit("call_seconds", 10);
        let world = change(world).start().await;
        Lab { world, redis, wire }
    }

    /// A key that has spent something.
    pub async fn key(&self) -> Key {
        let key = self.world.key(&["--daily", "1"]);
        self.world.chat(&key, &ask("tokens=5")).await.expect(200);
        self.world.settled().await;
        key
    }

    /// The fault is there: nothing goes out, by any gateway, and the refusal comes in time.
    pub async fn assert_refused(&self, key: &Key, code: &str) {
        refused(&self.world, key, code).await;
    }

    /// The fault is gone: calls work again by themselves, and the books are what they must be.
    pub async fn assert_heals(&self, key: &Key) {
        heals(&self.world, key).await;
    }

    /// The folder of the gateways' memories and journals.
    pub fn state(&self) -> String {
        self.world.dir.path().join("loopers-state").to_str().expect("UTF-8").to_owned()
    }

    /// What every gateway says of its readiness.
    pub async fn assert_not_ready(&self) {
        for gateway in &self.world.gateways {
            // What was found is told again for a fifth of a second.
            until("it is not ready", async || {
                Conn::open(gateway.addr).await.call(&Request::get("/readyz")).await.status == 503
            })
            .await;
        }
    }
}

/// See [`Lab::assert_refused`].
pub async fn refused(world: &World, key: &Key, code: &str) {
    let before = world.invoice().await;
    for gateway in 0..world.gateways.len() {
        for body in [ask("tokens=5"), streamed("tokens=5")] {
            let started = Instant::now();
            let answer = world.send_to(gateway, &Request::chat(&body).bearer(&key.secret)).await;
            let took = started.elapsed();
            answer.refused(503, code);
            assert!(took < REFUSED_WITHIN, "a refusal took {took:?}");
        }
    }
    assert_eq!(world.invoice().await.posts, before.posts, "a call went out");
}

/// See [`Lab::assert_heals`].
pub async fn heals(world: &World, key: &Key) {
    let started = Instant::now();
    for gateway in 0..world.gateways.len() {
        let request = Request::chat(&ask("tokens=5")).bearer(&key.secret);
        until("it heals", async || world.send_to(gateway, &request).await.status == 200).await;
    }
    let took = started.elapsed();
    assert!(took < HEALED_WITHIN, "healing took {took:?}");
    world.assert_books_sound().await;
}

/// Copies a folder with what is below it.
pub fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp");
    assert!(status.success(), "cannot copy {}", from.display());
}

//! A world of its own for each test: mock provider, ledger, gateways, keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::builder::Builder;
use super::chaos::Chaos;
use super::http::{Answer, Conn, Live, Request};
use super::json::{find_window, read_window};
use super::process::{FailsLast, LOOPERS, Process, free_port, local};
use super::{HANG, secrets, until, within};

/// What the gateway's config says is the provider's key.
pub const CONFIG_PROVIDER_KEY: &str = "sk-test-from-the-config";
/// The admin token.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests-0123456789";

/// Where the books are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Redis,
    File,
}

/// A proxy key.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub name: String,
}

/// A key's books in nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    pub spent: u64,
    pub held: u64,
    pub limit: Option<u64>,
}

/// What the provider bills.
#[derive(Clone, Debug)]
pub struct Invoice {
    pub nano: u64,
    pub calls: u64,
    pub posts: u64,
    pub requests: u64,
    pub in_flight: u64,
    pub aborted: u64,
}

pub struct Gateway {
    pub process: Process,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub config: PathBuf,
}

/// Running processes and the keys made so far.
pub struct World {
    pub engine: Engine,
    pub gateways: Vec<Gateway>,
    pub mock: SocketAddr,
    pub chaos: Option<Chaos>,
    pub(super) builder: Builder,
    pub(super) redis: Option<Process>,
    pub(super) redis_port: u16,
    pub(super) mock_process: Process,
    pub(super) keys: Mutex<Vec<Key>>,
    pub(super) names: AtomicUsize,
    /// After the processes, which read their logs in it when they are dropped.
    pub dir: TempDir,
    pub(super) _fails_last: FailsLast,
}

impl World {
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Builder {
        let engine = match std::env::var("WORLD_LEDGER").as_deref() {
            Ok("file") => Engine::File,
            Ok("redis") | Err(_) => Engine::Redis,
            Ok(other) => panic!("WORLD_LEDGER: {other}?"),
        };
        Builder {
            engine,
            gateways: 1,
            chaos: false,
            upstream: None,
            provider: Vec::new(),
            sections: Vec::new(),
            providers: Vec::new(),
            prices: None,
            mock_args: Vec::new(),
            ledger: None,
            failpoints: false,
            under: Vec::new(),
            limits: vec![("ledger_ms".into(), 10_000)],
        }
    }

    /// The ordinary world: one gateway.
    pub async fn plain() -> World {
        World::new().start().await
    }

    pub async fn start_redis(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.redis_port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        // These tests end processes, never the machine: what was written is there, and a busy disk is nobody's fault.
        command.args(["--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction"]);
        command.arg("--dir").arg(self.dir.path()).current_dir(self.dir.path());
        let mut redis = Process::start(command, self.dir.path(), "redis");
        let addr = local(self.redis_port);
        until("redis answers", async || {
            redis.assert_alive();
            let Ok(mut conn) = Conn::try_open(addr).await else { return false };
            let _ = conn.write(b"PING\r\nQUIT\r\n").await;
            conn.rest().await.starts_with(b"+PONG")
        })
        .await;
        self.redis = Some(redis);
    }

    pub fn redis(&mut self) -> &mut Process {
        self.redis.as_mut().expect("a world with redis")
    }

    /// Runs one command, given as text.
    pub async fn redis_command(&self, line: &str) {
        let mut conn = Conn::open(local(self.redis_port)).await;
        conn.write(format!("{line}\r\nQUIT\r\n").as_bytes()).await.expect("sent");
        let said = conn.rest().await;
        assert!(said.starts_with(b"+") || said.starts_with(b":"), "{line}: {}", String::from_utf8_lossy(&said));
    }

    fn ledger_url(&self, port: u16) -> String {
        if let Some(url) = &self.builder.ledger {
            return url.clone();
        }
        match self.engine {
            Engine::Redis => format!("redis://127.0.0.1:{port}"),
            Engine::File => format!("file:{}", self.dir.path().join("books.db").display()),
        }
    }

    fn write_config(&self, name: &str, port: u16, admin: u16, ledger_port: u16) -> PathBuf {
        let mut prices = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/prices.yaml").to_string();
        if let Some(text) = &self.builder.prices {
            std::fs::write(self.dir.path().join("more.yaml"), text).expect("the prices are written");
            prices += ", more.yaml";
        }
        let url = format!("http://{}", self.builder.upstream.unwrap_or(self.mock));
        let mut yaml = format!("listen: 127.0.0.1:{port}\n");
        yaml += &format!("admin: {{ listen: \"127.0.0.1:{admin}\", token: env:LOOPERS_ADMIN_TOKEN }}\n");
        yaml += &format!("ledger: {}\nprices: [{prices}]\n", self.ledger_url(ledger_port));
        yaml += &format!("providers:\n  openai:\n    base_url: \"{url}\"\n    key: env:OPENAI_API_KEY\n");
        for (name, value) in &self.builder.provider {
            yaml += &format!("    {name}: {value}\n");
        }
        for provider in &self.builder.providers {
            yaml += &format!("  {}\n", provider.replace("MOCK", &url));
        }
        let limits = self.builder.limits.iter().map(|(name, value)| format!("{name}: {value}"));
        yaml += &format!("limits: {{ {} }}\n", limits.collect::<Vec<_>>().join(", "));
        for section in &self.builder.sections {
            yaml += &format!("{section}\n");
        }
        let path = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&path, yaml).expect("the config is written");
        path
    }

    fn command(config: &Path) -> Command {
        World::prepared(Command::new(LOOPERS), config)
    }

    fn prepared(mut command: Command, config: &Path) -> Command {
        command.env("OPENAI_API_KEY", CONFIG_PROVIDER_KEY).env("LOOPERS_ADMIN_TOKEN", ADMIN_TOKEN);
        command.current_dir(config.parent().expect("a directory"));
        command
    }

    /// Starts one more gateway on the same ledger.
    pub async fn add_gateway(&mut self) {
        let (port, admin) = (free_port(), free_port());
        let ledger_port = self.chaos.as_ref().map_or(self.redis_port, |chaos| chaos.port);
        let name = format!("gateway{}", self.gateways.len());
        let config = self.write_config(&name, port, admin, ledger_port);
        let process = self.serve(&name, &config);
        let mut gateway = Gateway { process, addr: local(port), admin: local(admin), config };
        let is_tls = self.builder.sections.iter().any(|section| section.starts_with("tls:"));
        let ready_at = if is_tls { gateway.admin } else { gateway.addr };
        answers_200(&mut gateway.process, ready_at, "/readyz").await;
        self.gateways.push(gateway);
    }

    /// Starts one more gateway that has its own ways to the ledger and to the providers.
    pub async fn add_gateway_via(&mut self, ledger: &str, upstream: SocketAddr) {
        let before = (self.builder.ledger.replace(ledger.into()), self.builder.upstream.replace(upstream));
        self.add_gateway().await;
        (self.builder.ledger, self.builder.upstream) = before;
    }

    fn serve(&self, name: &str, config: &Path) -> Process {
        let mut command = match self.builder.under.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(LOOPERS);
                World::prepared(command, config)
            }
            None => World::command(config),
        };
        command.arg("serve").arg("--config").arg(config);
        if self.builder.failpoints {
            command.env("LOOPERS_FAILPOINTS", format!("file:{}", self.failpoints(name).display()));
        }
        Process::start(command, self.dir.path(), name)
    }

    fn failpoints(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.failpoints"))
    }

    /// Waits until the provider generates nothing any more: it has ended, or nobody takes what it sends.
    pub async fn stands_still(&self) {
        until("the provider stands still", async || {
            let before = self.invoice().await.nano;
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.invoice().await.nano == before
        })
        .await;
    }

    /// From now on gateway `at` does at its failpoints what the text says (`src/failpoint.rs`).
    pub fn arm(&self, at: usize, text: &str) {
        let file = self.failpoints(&format!("gateway{at}"));
        // At once, or a gateway reads half of it.
        let beside = file.with_extension("new");
        std::fs::write(&beside, text).expect("written");
        std::fs::rename(&beside, &file).expect("renamed");
    }

    /// Starts gateway `at` again, and does not wait until it is ready.
    pub fn relaunch_gateway(&mut self, at: usize) {
        let process = self.serve(&format!("gateway{at}"), &self.gateways[at].config.clone());
        self.gateways[at].process = process;
    }

    /// Starts gateway `at` again (after its process has ended).
    pub async fn restart_gateway(&mut self, at: usize) {
        let process = self.serve(&format!("gateway{at}"), &self.gateways[at].config.clone());
        self.gateways[at].process = process;
        let addr = self.gateways[at].addr;
        answers_200(&mut self.gateways[at].process, addr, "/readyz").await;
    }

    /// Runs the command line on this world's ledger.
    pub fn cli(&self, args: &[&str]) -> Output {
        let config = self.dir.path().join("cli.yaml");
        if !config.exists() {
            self.write_config("cli", free_port(), free_port(), self.redis_port);
        }
        let mut command = World::command(&config);
        command.args(args).arg("--config").arg(&config);
        command.output().expect("the command runs")
    }

    /// Runs a command that must succeed, and reads what it prints with `--json`.
    #[track_caller]
    pub fn cli_json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let output = self.cli_ok(&args);
        serde_json::from_str(&output).unwrap_or_else(|e| panic!("loopers {args:?}: not JSON ({e}): {output}"))
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "loopers {args:?}: {}: {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes a key, e.g. `&["--daily", "0.5"]`.
    #[track_caller]
    pub fn key(&self, flags: &[&str]) -> Key {
        let name = format!("key-{}", self.names.fetch_add(1, Ordering::Relaxed));
        let args: Vec<&str> = ["keys", "create", "--name", &name].into_iter().chain(flags.iter().copied()).collect();
        let made = self.cli_json(&args);
        let text = |field: &str| made[field].as_str().unwrap_or_else(|| panic!("no {field}: {made}")).to_owned();
        let key = Key { id: text("id"), secret: text("key"), name: text("name") };
        self.keys.lock().expect("keys").push(key.clone());
        key
    }

    /// A key with plenty.
    #[track_caller]
    pub fn rich(&self) -> Key {
        self.key(&["--monthly", "1000"])
    }

    pub fn gateway(&self) -> SocketAddr {
        self.gateways[0].addr
    }

    /// Sends a request to the first gateway over a connection of its own.
    pub async fn send(&self, request: &Request) -> Answer {
        self.send_to(0, request).await
    }

    pub async fn send_to(&self, gateway: usize, request: &Request) -> Answer {
        Conn::open(self.gateways[gateway].addr).await.call(request).await
    }

    /// A chat call with the key as bearer token.
    pub async fn chat(&self, key: &Key, body: &Value) -> Answer {
        self.send(&Request::chat(body).bearer(&key.secret)).await
    }

    /// A streamed chat call: the answer's head is there, its events are read one by one.
    pub async fn live(&self, key: &Key, body: &Value) -> Live {
        Conn::open(self.gateway()).await.stream(&Request::chat(body).bearer(&key.secret)).await
    }

    async fn mock_json(&self, path: &str) -> Value {
        Conn::open(self.mock).await.call(&Request::get(path)).await.expect(200).json()
    }

    pub async fn invoice(&self) -> Invoice {
        let json = self.mock_json("/invoice").await;
        let number = |field: &str| json[field].as_u64().unwrap_or_else(|| panic!("no {field}: {json}"));
        Invoice {
            nano: number("invoice_nano"),
            calls: number("calls"),
            posts: number("posts"),
            requests: number("requests"),
            in_flight: number("in_flight"),
            aborted: number("aborted"),
        }
    }

    /// The requests that the provider saw, oldest first.
    pub async fn seen(&self) -> Vec<Value> {
        self.mock_json("/log").await["requests"].as_array().expect("a list").clone()
    }

    /// The body of the last request that the provider saw.
    pub async fn last_body(&self) -> Value {
        let seen = self.seen().await;
        let body = seen.last().expect("a request")["body"].as_str().unwrap_or_default().to_owned();
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("the provider got no JSON ({e}): {body}"))
    }

    pub async fn reset_mock(&self) {
        Conn::open(self.mock).await.call(&Request::post("/reset", "")).await;
    }

    pub fn kill_mock(&mut self) {
        self.mock_process.kill();
    }

    /// The gateway's view of a key's budgets, or the command line's where the key may not ask.
    pub async fn budget(&self, key: &Key) -> Value {
        for gateway in &self.gateways {
            let Ok(mut conn) = Conn::try_open(gateway.addr).await else { continue };
            let ask = Request::get("/loopers/v1/budget").bearer(&key.secret);
            match within("/loopers/v1/budget", conn.try_call(&ask)).await {
                Some(answer) if answer.status == 200 => return answer.json(),
                _ => continue,
            }
        }
        self.cli_json(&["budget", "status", &key.id])
    }

    pub async fn window(&self, key: &Key, level: &str, window: &str) -> Books {
        let view = self.budget(key).await;
        find_window(&view, level, window).unwrap_or_else(|| panic!("no {level}/{window} in {view}"))
    }

    /// The key's own books (its month).
    pub async fn books(&self, key: &Key) -> Books {
        self.window(key, "key", "monthly").await
    }

    /// Waits until the provider generates nothing and nothing is held.
    pub async fn settled(&self) {
        let deadline = std::time::Instant::now() + HANG;
        loop {
            let mut running = self.invoice().await.in_flight;
            for key in self.all_keys() {
                running += self.books(&key).await.held;
            }
            if running == 0 {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "never comes to rest: {:?}", self.invoice().await);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    pub fn all_keys(&self) -> Vec<Key> {
        self.keys.lock().expect("keys").clone()
    }

    /// Leaves the keys made so far out of the sums from now on.
    pub fn forget_keys(&self) {
        self.keys.lock().expect("keys").clear();
    }

    /// All that is charged to the keys made by this world.
    pub async fn charged(&self) -> u64 {
        let mut sum = 0;
        for key in self.all_keys() {
            sum += self.books(&key).await.spent;
        }
        sum
    }

    /// At rest: charged is the invoice to the nano-dollar, and no limit is crossed.
    pub async fn assert_books_exact(&self) {
        self.settled().await;
        let (charged, invoice) = (self.charged().await, self.invoice().await);
        assert_eq!(charged, invoice.nano, "charged (left) is not the invoice (right): {invoice:?}");
        self.assert_limits_hold().await;
    }

    /// At rest: invoice ≤ charged ≤ limit.
    pub async fn assert_books_sound(&self) {
        self.settled().await;
        let (charged, invoice) = (self.charged().await, self.invoice().await);
        assert!(invoice.nano <= charged, "invoice {} > charged {charged}: {invoice:?}", invoice.nano);
        self.assert_limits_hold().await;
    }

    pub async fn assert_limits_hold(&self) {
        for key in self.all_keys() {
            let view = self.budget(&key).await;
            for level in view["levels"].as_array().into_iter().flatten() {
                for window in level["windows"].as_array().into_iter().flatten() {
                    let books = read_window(window);
                    let fits = books.limit.is_none_or(|limit| books.spent + books.held <= limit);
                    assert!(fits, "over the limit: {level}");
                }
            }
        }
    }

    /// Nothing reached the provider, nothing is charged, nothing is held.
    pub async fn assert_untouched(&self) {
        let invoice = self.invoice().await;
        assert_eq!((invoice.requests, invoice.nano), (0, 0), "the provider saw {:?}", self.seen().await);
        for key in self.all_keys() {
            let books = self.books(&key).await;
            assert_eq!((books.spent, books.held), (0, 0), "{}", key.name);
        }
    }
}

/// At the end of each test nothing that its processes wrote may hold a key.
impl Drop for World {
    fn drop(&mut self) {
        let known = [CONFIG_PROVIDER_KEY, ADMIN_TOKEN];
        let mut told = Vec::new();
        for gateway in &mut self.gateways {
            let page = secrets::metrics(gateway.admin);
            told.extend(secrets::told(&page, &known).map(|secret| format!("/metrics holds {secret}")));
            gateway.process.kill();
        }
        told.extend(secrets::search(self.dir.path(), &known));
        if !told.is_empty() && !std::thread::panicking() {
            panic!("secrets were written: {}", told.join("; "));
        }
    }
}

/// Waits until a server answers 200 to a GET, while its process lives.
pub(super) async fn answers_200(process: &mut Process, addr: SocketAddr, path: &str) {
    until(&format!("{addr}{path} answers 200"), async || {
        process.assert_alive();
        let Ok(mut conn) = Conn::try_open(addr).await else { return false };
        let call = tokio::time::timeout(Duration::from_secs(5), conn.call(&Request::get(path))).await;
        call.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

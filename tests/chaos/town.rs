//! The processes: redis-server, mock, three gateways behind wires of their own, a witness; and what is done to them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::faults::{Fault, Operator, Process, Server, What};
use crate::judge::{Judge, Line, Mutant};
use crate::lab::{Redis, copy_folder};
use crate::load::{Load, Role};
use crate::support::json::{nano, usd};
use crate::support::process::local;
use crate::support::six::six_with;
use crate::support::world::World;
use crate::support::{Answer, Conn, Key, Request, ask};
use crate::wire::{Mode, Wire};

pub const GATEWAYS: usize = 3;
/// The time that gateways give their ledger.
const LEDGER_MS: u64 = 400;
/// The longest life of a call in seconds; a hold lives twice as long.
const CALL_SECONDS: u64 = 12;
/// How long healing may take on a machine that does much else; promised are two seconds.
pub const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Calls between two rests while nothing is done to anybody.
const CALM_CALLS: u64 = 80;
/// How long a program may take to start or to end.
const PROGRAM: Duration = Duration::from_secs(90);
/// The password of a Redis that wants one.
const PASSWORD: &str = "chaos-password";
/// Prices that differ from those of before: twice the shipped ones for one model.
const DOUBLE: &str =
    "openai/gpt-4o-mini:\n  input: \"0.30\"\n  output: \"1.20\"\n  context_window: 128000\n  max_output: 16384\n";
/// Half of what the mock bills.
const HALF: &str =
    "openai/gpt-4o-mini:\n  input: \"0.075\"\n  output: \"0.30\"\n  context_window: 128000\n  max_output: 16384\n";

/// Everything that runs.
pub struct Town {
    world: World,
    redis: Redis,
    ledger: Vec<Wire>,
    upstream: Vec<Wire>,
    configs: Vec<String>,
    /// Calls made by the conductor itself.
    probe: Key,
    /// Times that a wire was cut.
    cuts: u64,
    pub load: Arc<Load>,
    pub judge: Arc<Judge>,
}

impl Town {
    pub async fn build(seed: u64, mutant: Option<Mutant>) -> Town {
        let redis =
            Redis::start(&["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "local"]);
        let redis = redis.await;
        let direct = format!("redis://127.0.0.1:{}", redis.port);
        let timeouts = "{ connect: 2s, first_byte: 3s, between_chunks: 3s }";
        let mut builder = six_with(&format!(", timeouts: {timeouts}"))
            .provider("timeouts", timeouts)
            .ledger(&direct)
            .gateways(0)
            .limit("ledger_ms", LEDGER_MS);
        builder = builder.limit("call_seconds", CALL_SECONDS).limit("drain_seconds", 1).limit("answer_bytes", 1 << 20);
        builder = builder.section(&format!("time_zone: {}", quiet_zone()));
        if mutant == Some(Mutant::HalfPrices) {
            builder = builder.prices(HALF);
        }
        let mut world = builder.start().await;
        std::fs::write(world.dir.path().join("double.yaml"), DOUBLE).expect("written");
        world.cli_ok(&["teams", "create", "--name", "org", "--monthly", "5000"]);
        // Gateways must give up soon; an operator waits, also where the machine is busy.
        let (cli, hurried) = (world.dir.path().join("cli.yaml"), format!("ledger_ms: {LEDGER_MS}"));
        let text = std::fs::read_to_string(&cli).expect("a config");
        assert!(text.contains(&hurried), "{text}");
        std::fs::write(&cli, text.replace(&hurried, "ledger_ms: 3000")).expect("written");
        world.cli_ok(&["teams", "create", "--name", "crew", "--parent", "org", "--monthly", "4000"]);
        let probe = world.key(&["--monthly", "900"]);
        let (mut ledger, mut upstream) = (Vec::new(), Vec::new());
        for _ in 0..GATEWAYS {
            let (to_ledger, to_mock) = (Wire::to(redis.addr()).await, Wire::to(world.mock).await);
            world.add_gateway_via(&format!("redis://127.0.0.1:{}", to_ledger.port), local(to_mock.port)).await;
            ledger.push(to_ledger);
            upstream.push(to_mock);
        }
        // The judge's: no call goes through it, and nothing is done to it.
        world.add_gateway().await;
        let judge = Judge::new(world.gateways[GATEWAYS].admin, world.mock, mutant);
        for (role, _, flags) in Role::ALL {
            judge.set_key(role, world.key(flags));
        }
        let configs = world.gateways[..GATEWAYS]
            .iter()
            .map(|gateway| std::fs::read_to_string(&gateway.config).expect("a config"));
        let load = Load {
            seed,
            addrs: world.gateways[..GATEWAYS].iter().map(|gateway| gateway.addr).collect(),
            judge: judge.clone(),
            next: 0.into(),
            running: 0.into(),
            paused: false.into(),
            faults: Default::default(),
        };
        let configs = configs.collect();
        Town { configs, redis, ledger, upstream, probe, cuts: 0, load: Arc::new(load), judge, world }
    }

    /// The sum over all keys: invoice, charged.
    pub async fn totals(&self) -> (u64, u64, u64) {
        let invoice =
            self.judge.invoice().await.and_then(|invoice| invoice["invoice_nano"].as_u64()).unwrap_or(u64::MAX);
        let posts = self.world.invoice().await.posts;
        (invoice, self.world.charged().await, posts)
    }

    /// Bytes of log lines, for whoever wants to know why.
    pub fn gateways_said(&self) -> String {
        let tail = |text: String| {
            let from = text.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            text[from..].to_owned()
        };
        let each = self.world.gateways.iter().enumerate();
        each.map(|(at, gateway)| format!("--- gateway {at}:\n{}\n", tail(gateway.process.output()))).collect()
    }

    // --- Faults ---

    /// Begins a fault. `pick` chooses among gateways, and is the same for [`Town::end`].
    pub async fn begin(&mut self, fault: &'static Fault, pick: u64) {
        // One wire or all of them: a fault of the network is as often one as the other.
        let wires = |count: u64| {
            if pick.is_multiple_of(2) { 0..GATEWAYS } else { (count % 3) as usize..(count % 3) as usize + 1 }
        };
        let at = (pick / 2 % 3) as usize;
        match fault.what {
            What::Server(server) => self.begin_server(server).await,
            What::Ledger(mode) => {
                let mode = self.fresh(mode);
                wires(pick / 2).for_each(|at| self.ledger[at].set(mode));
            }
            What::Upstream(mode) => {
                let mode = self.fresh(mode);
                wires(pick / 2).for_each(|at| self.upstream[at].set(mode));
            }
            What::Process(process) => self.begin_process(process, at).await,
            What::Operator(operator) => block_in_place(|| self.begin_operator(operator)),
            What::Client(..) | What::Script(..) => return,
        }
        self.judge.injected(fault.name);
    }

    /// Ends it.
    pub async fn end(&mut self, fault: &'static Fault, pick: u64) {
        let at = (pick / 2 % 3) as usize;
        match fault.what {
            What::Server(server) => self.end_server(server).await,
            What::Ledger(_) => self.ledger.iter().for_each(|wire| wire.set(Mode::Open)),
            What::Upstream(_) => self.upstream.iter().for_each(|wire| wire.set(Mode::Open)),
            What::Process(process) => self.end_process(process, at).await,
            What::Operator(operator) => block_in_place(|| self.end_operator(operator)),
            What::Client(..) | What::Script(..) => {}
        }
    }

    fn fresh(&mut self, mode: Mode) -> Mode {
        self.cuts += 1;
        if let Mode::Cut(_) = mode { Mode::Cut(self.cuts) } else { mode }
    }

    fn tell(&self, line: &str) {
        block_in_place(|| self.redis.tell(line));
    }

    fn tell_with_password(&self, words: &[&str]) {
        block_in_place(|| self.redis.ask_as::<redis::Value>(Some(PASSWORD), words));
    }

    async fn begin_server(&mut self, server: Server) {
        if server.loses_books() {
            self.judge.books_lost(true);
        }
        match server {
            Server::Frozen => self.redis.process().signal("STOP"),
            Server::Killed => self.redis.kill(),
            Server::Stopped => self.redis.stop().await,
            Server::Busy => {
                // Nobody gets an answer, whoever asked; the harness does not wait for its own.
                let mut conn = Conn::open(self.redis.addr()).await;
                conn.write(b"DEBUG SLEEP 1\r\n").await.expect("sent");
                tokio::spawn(async move { timeout(PROGRAM, conn.read_byte()).await });
            }
            Server::PausedWrites => self.tell("CLIENT PAUSE 1500 WRITE"),
            Server::ScriptsFlushed => self.tell("SCRIPT FLUSH"),
            Server::LoadingForbidden => {
                self.tell("ACL SETUSER default -eval -script|load");
                self.tell("SCRIPT FLUSH");
            }
            Server::EvalForbidden => self.tell("ACL SETUSER default -evalsha -eval"),
            Server::EvictingPolicy => self.tell("CONFIG SET maxmemory-policy allkeys-lru"),
            Server::OutOfMemory => self.tell("CONFIG SET maxmemory 1"),
            Server::ReadOnly => self.tell("REPLICAOF 127.0.0.1 1"),
            Server::ClientsKilled => self.tell("CLIENT KILL TYPE normal SKIPME yes"),
            Server::PasswordChanged => {
                self.tell(&format!("CONFIG SET requirepass {PASSWORD}"));
                self.tell_with_password(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
            Server::Emptied => self.tell("FLUSHALL"),
            Server::RestartedEmpty => {
                self.redis.kill();
                self.remove_files();
                self.redis.run().await;
            }
            Server::RestartedOlder => self.restart_from_older_files().await,
            Server::Evicted => {
                self.tell("CONFIG SET maxmemory-policy allkeys-random");
                self.tell("CONFIG SET maxmemory 1");
                let deadline = Instant::now() + PROGRAM;
                while block_in_place(|| self.redis.ask::<String>(&["INFO", "stats"])).contains("\nevicted_keys:0\r") {
                    assert!(Instant::now() < deadline, "redis evicts nothing");
                    sleep(Duration::from_millis(20)).await;
                }
                self.tell("CONFIG SET maxmemory 0");
                self.tell("CONFIG SET maxmemory-policy noeviction");
            }
        }
    }

    fn remove_files(&self) {
        std::fs::remove_dir_all(self.redis.dir.path().join("appendonlydir")).expect("the files of redis");
    }

    async fn restart_from_older_files(&mut self) {
        let (files, older) = (self.redis.dir.path().join("appendonlydir"), self.redis.dir.path().join("older"));
        self.redis.stop().await;
        copy_folder(&files, &older);
        self.redis.run().await;
        // Something must be forgotten: calls go on until the clients have made some more.
        let from = self.load.next.load(SeqCst);
        let deadline = Instant::now() + PROGRAM;
        for gateway in 0..GATEWAYS {
            while self.probe(gateway).await.is_none_or(|answer| answer.status != 200) && Instant::now() < deadline {
                sleep(Duration::from_millis(50)).await;
            }
        }
        while self.load.next.load(SeqCst) < from + 10 && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.redis.kill();
        self.remove_files();
        std::fs::rename(&older, &files).expect("older files");
        self.redis.run().await;
    }

    async fn end_server(&mut self, server: Server) {
        match server {
            Server::Frozen => self.redis.process().signal("CONT"),
            Server::Killed | Server::Stopped => self.redis.run().await,
            Server::LoadingForbidden => self.tell("ACL SETUSER default +eval +script|load"),
            Server::EvalForbidden => self.tell("ACL SETUSER default +evalsha +eval"),
            Server::EvictingPolicy => self.tell("CONFIG SET maxmemory-policy noeviction"),
            Server::OutOfMemory => self.tell("CONFIG SET maxmemory 0"),
            Server::ReadOnly => self.tell("REPLICAOF NO ONE"),
            Server::PasswordChanged => self.tell_with_password(&["CONFIG", "SET", "requirepass", ""]),
            Server::Emptied | Server::RestartedEmpty | Server::RestartedOlder | Server::Evicted => self.rebuild().await,
            Server::Busy | Server::PausedWrites | Server::ScriptsFlushed | Server::ClientsKilled => {}
        }
    }

    /// The books are lost: every gateway that runs says so, and nothing goes out until an operator has had them rebuilt.
    async fn rebuild(&mut self) {
        let deadline = Instant::now() + HEALED_WITHIN;
        for gateway in 0..GATEWAYS {
            loop {
                let answer = self.probe(gateway).await;
                if answer.as_ref().is_some_and(|answer| answer.text().contains("ledger_lost")) {
                    break;
                }
                if Instant::now() > deadline {
                    self.judge.breach(format!("gateway {gateway} does not see that the books are lost: {answer:?}"));
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        // All of them block now, whatever clients send.
        sleep(Duration::from_millis(100)).await;
        let before = self.world.invoice().await.posts;
        for gateway in 0..GATEWAYS {
            let answer = self.probe(gateway).await;
            if answer.is_some_and(|answer| answer.status == 200) {
                self.judge.breach(format!("gateway {gateway} lets a call out although the books are lost"));
            }
        }
        let after = self.world.invoice().await.posts;
        if after != before {
            self.judge.breach(format!("{} calls went out although the books are lost", after - before));
        }
        let state = self.world.dir.path().join("loopers-state");
        let state = state.to_str().expect("UTF-8").to_owned();
        block_in_place(|| self.world.cli_ok(&["ledger", "rebuild", "--from", &state]));
        self.judge.books_lost(false);
    }

    async fn begin_process(&mut self, process: Process, at: usize) {
        match process {
            Process::Killed => self.kill(at),
            Process::KilledAll => (0..GATEWAYS).for_each(|at| self.kill(at)),
            Process::Terminated => {
                self.judge.doubt_all("a gateway ended, perhaps without a ledger to settle in");
                self.world.gateways[at].process.signal("TERM");
            }
            Process::TerminatedTwice => {
                self.judge.doubt_all("a gateway ended at once");
                self.world.gateways[at].process.signal("TERM");
                sleep(Duration::from_millis(100)).await;
                self.world.gateways[at].process.signal("TERM");
            }
            Process::Interrupted => {
                self.judge.doubt_all("a gateway ended, perhaps without a ledger to settle in");
                self.world.gateways[at].process.signal("INT");
            }
            Process::Frozen => self.world.gateways[at].process.signal("STOP"),
            Process::Reloaded => {
                self.reload(at, &self.configs[at].replace("limits: {", "limits: { body_bytes: 300000,"))
            }
            Process::BrokenConfig => self.reload(at, &format!("{}\nunknown_field: 1\n", self.configs[at])),
            Process::PricesChanged => {
                self.judge.doubt_all("prices changed");
                for at in 0..GATEWAYS {
                    let text = self.configs[at].replace("prices.yaml]", "prices.yaml, double.yaml]");
                    assert_ne!(text, self.configs[at], "there are prices in it");
                    self.reload(at, &text);
                }
            }
            Process::FilesExhausted => {
                let pid = self.world.gateways[at].process.id();
                let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(64, Iterator::count);
                limit_files(pid, Some(open as u64));
            }
        }
    }

    /// What it owed and nobody knows is charged in full, once its holds expire.
    fn kill(&mut self, at: usize) {
        self.judge.doubt_all("a gateway was killed");
        self.world.gateways[at].process.kill();
    }

    fn reload(&self, at: usize, text: &str) {
        std::fs::write(&self.world.gateways[at].config, text).expect("written");
        self.world.gateways[at].process.signal("HUP");
    }

    async fn end_process(&mut self, process: Process, at: usize) {
        match process {
            Process::Killed => self.world.relaunch_gateway(at),
            Process::KilledAll => (0..GATEWAYS).for_each(|at| self.world.relaunch_gateway(at)),
            Process::Terminated | Process::TerminatedTwice | Process::Interrupted => {
                self.world.gateways[at].process.wait(PROGRAM).await;
                self.world.relaunch_gateway(at);
            }
            Process::Frozen => self.world.gateways[at].process.signal("CONT"),
            Process::Reloaded | Process::BrokenConfig => self.reload(at, &self.configs[at]),
            Process::PricesChanged => {
                self.judge.doubt_all("prices changed");
                (0..GATEWAYS).for_each(|at| self.reload(at, &self.configs[at]));
            }
            Process::FilesExhausted => limit_files(self.world.gateways[at].process.id(), None),
        }
    }

    fn begin_operator(&mut self, operator: Operator) {
        let (target, session) = (self.judge.key(Role::Target), self.judge.key(Role::Session));
        let run = self.run_now();
        match operator {
            Operator::KillsKey => drop(self.world.cli_ok(&["kill", &target.id])),
            Operator::KillsTeam => drop(self.world.cli_ok(&["kill", "crew"])),
            Operator::KillsAll => drop(self.world.cli_ok(&["kill", "--all"])),
            // No session of that name, if no call of it was made yet: then there is nothing to kill.
            Operator::KillsSession => drop(self.world.cli(&["kill", "--session", &run, "--key", &session.id])),
            Operator::Pauses => drop(self.world.cli_ok(&["keys", "pause", &target.id])),
            Operator::Lowers => {
                self.judge.lowered(&target, "hourly", 900_000_000_000);
                self.world.cli_ok(&["budget", "set", &target.id, "--hourly", "0.000001"]);
            }
            Operator::Raises => drop(self.world.cli_ok(&["budget", "set", &target.id, "--hourly", "950"])),
            Operator::Revokes => drop(self.world.cli_ok(&["keys", "revoke", &target.id])),
            Operator::Rotates => {
                let secret =
                    self.world.cli_json(&["keys", "rotate", &target.id])["key"].as_str().expect("a key").to_owned();
                self.judge.set_key(Role::Target, Key { secret, ..target });
            }
        }
    }

    fn end_operator(&mut self, operator: Operator) {
        let (target, session) = (self.judge.key(Role::Target), self.judge.key(Role::Session));
        match operator {
            Operator::KillsKey => drop(self.world.cli_ok(&["resume", &target.id])),
            Operator::KillsTeam => drop(self.world.cli_ok(&["resume", "crew"])),
            Operator::KillsAll => drop(self.world.cli_ok(&["resume", "--all"])),
            Operator::KillsSession => {
                drop(self.world.cli(&["resume", "--session", &self.run_now(), "--key", &session.id]));
            }
            Operator::Pauses => drop(self.world.cli_ok(&["keys", "resume", &target.id])),
            Operator::Lowers | Operator::Raises => {
                self.judge.lowered(&target, "hourly", 950_000_000_000);
                self.world.cli_ok(&["budget", "set", &target.id, "--hourly", "900"]);
            }
            Operator::Revokes => {
                let (_, _, flags) = Role::ALL.into_iter().find(|(role, ..)| *role == Role::Target).expect("the target");
                self.judge.set_key(Role::Target, self.world.key(flags));
            }
            Operator::Rotates => {}
        }
    }

    fn run_now(&self) -> String {
        format!("run-{}", self.load.next.load(SeqCst) / 400)
    }

    // --- Healing and rest ---

    async fn probe(&self, gateway: usize) -> Option<Answer> {
        let body = ask("tokens=5");
        let request = Request::chat(&body).bearer(&self.probe.secret).header("x-mock-account", &self.probe.id);
        let mut conn = Conn::try_open(self.world.gateways[gateway].addr).await.ok()?;
        timeout(HEALED_WITHIN, conn.try_call(&request)).await.ok()?
    }

    /// Waits until every gateway takes calls again; how long that took.
    pub async fn healed(&self) -> Duration {
        let started = Instant::now();
        for gateway in 0..GATEWAYS {
            loop {
                let answer = self.probe(gateway).await;
                if answer.as_ref().is_some_and(|answer| answer.status == 200) {
                    break;
                }
                if started.elapsed() > HEALED_WITHIN {
                    let said = answer.map(|answer| format!("{} {}", answer.status, answer.text()));
                    self.judge.breach(format!("gateway {gateway} does not heal: {said:?}"));
                    return started.elapsed();
                }
                sleep(Duration::from_millis(30)).await;
            }
        }
        started.elapsed()
    }

    /// Everything ends, is settled and is compared; then each key asks whether it is blocked for nothing, and gets new money.
    pub async fn rest(&mut self) {
        let running = self.open_call().await;
        // Twice the life of a hold, and the machine may be busy.
        let patience =
            if running.is_some() { Duration::from_secs(5) } else { Duration::from_secs(90 + 4 * CALL_SECONDS) };
        let lines = self.settle_down(patience).await;
        for (role, key, line) in lines.into_iter().flatten() {
            if self.judge.key(role).id != key.id {
                continue;
            }
            self.ask_for_nothing(role, &key).await;
            if let Role::Poor | Role::Solo = role {
                let more = if role == Role::Poor { 10_000_000 } else { 2_000_000 };
                if line.limit < line.spent + more / 2 {
                    let limit = usd(line.spent + more);
                    block_in_place(|| self.world.cli_ok(&["budget", "set", &key.id, "--monthly", &limit]));
                }
            }
        }
        drop(running);
        self.load.resume();
    }

    async fn settle_down(&self, patience: Duration) -> Option<Vec<(Role, Key, Line)>> {
        self.load.pause().await;
        let admins: Vec<_> = self.world.gateways.iter().map(|gateway| gateway.admin).collect();
        self.judge.rest(&admins, patience).await
    }

    /// After a rest, calls without any fault: of these nothing is in doubt, so each fair key is charged its invoice to the nano-dollar.
    pub async fn calm(&mut self) {
        let to = self.load.next.load(SeqCst) + CALM_CALLS;
        let deadline = Instant::now() + HEALED_WITHIN;
        while self.load.next.load(SeqCst) < to && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        self.settle_down(HEALED_WITHIN).await;
        self.load.resume();
    }

    /// Calls one after the other, each when all is settled: a refusal has no excuse but the money that is spent.
    async fn ask_for_nothing(&self, role: Role, key: &Key) {
        let model = if role == Role::Poor { "gpt-4o" } else { "gpt-4o-mini" };
        for nth in 0..4 {
            let body = crate::support::ask_model(model, "tokens=150");
            let request = Request::chat(&body).bearer(&key.secret).header("x-mock-account", &key.id);
            let Some(answer) = self.call_at_rest(nth % GATEWAYS, &request).await else {
                self.judge.breach(format!("{}: no answer at rest", key.name));
                return;
            };
            self.judge.answer(key, &answer, "\"error\":{");
            if answer.status != 200 {
                let value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let detail = crate::load::detail(&value).cloned().unwrap_or_default();
                self.judge.refusal(&detail, true);
                // What held money keeps from a `cut` key is its minute; what else refuses is no budget.
                if answer.status != 402 {
                    self.judge.breach(format!("{}: at rest {} {}", key.name, answer.status, answer.text()));
                }
                return;
            }
            let deadline = Instant::now() + PROGRAM;
            while self.held(key).await != Some(0) && Instant::now() < deadline {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// A call that is made again while the ledger takes too long for it: nothing is broken, but the machine may be busy.
    async fn call_at_rest(&self, gateway: usize, request: &Request) -> Option<Answer> {
        let deadline = Instant::now() + HEALED_WITHIN;
        loop {
            let mut conn = Conn::try_open(self.world.gateways[gateway].addr).await.ok()?;
            let answer = timeout(HEALED_WITHIN, conn.try_call(request)).await.ok()??;
            let is_late = answer.status == 503 && answer.text().contains("ledger_unavailable");
            if !is_late || Instant::now() > deadline {
                return Some(answer);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn held(&self, key: &Key) -> Option<u64> {
        let lines = self.judge.look().await?;
        lines.iter().find(|(_, known, _)| known.id == key.id).map(|(_, _, line)| line.held)
    }

    /// For [`Mutant::OpenHold`]: a call that runs for the whole of a rest.
    async fn open_call(&self) -> Option<Conn> {
        if self.judge.mutant != Some(Mutant::OpenHold) {
            return None;
        }
        let key = self.judge.key(Role::Clamp);
        let body = crate::support::streamed("tokens=500;rate=10");
        let request = Request::chat(&body).bearer(&key.secret).header("x-mock-account", &key.id).bytes();
        let deadline = Instant::now() + HEALED_WITHIN;
        loop {
            let mut conn = Conn::open(self.world.gateways[0].addr).await;
            let _ = conn.write(&request).await;
            let is_open = conn.read_head().await.is_some_and(|head| head.status == 200);
            // On a busy machine the ledger may take too long for it.
            if is_open || Instant::now() > deadline {
                return Some(conn);
            }
        }
    }

    /// The largest sum that all keys together may spend.
    pub async fn limit(&self) -> u64 {
        let status = block_in_place(|| self.world.cli_json(&["budget", "status", "org"]));
        let found = crate::support::json::find_window(&status, "team", "monthly").and_then(|books| books.limit);
        let mut sum = found.unwrap_or(0);
        for key in [self.judge.key(Role::Solo), self.probe.clone()] {
            sum += self.world.books(&key).await.limit.unwrap_or(0);
        }
        sum
    }
}

/// Sets how many files a process may have open; `None` is as many as the system lets it.
fn limit_files(pid: u32, most: Option<u64>) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a process that runs");
    let hard = line.split_whitespace().nth(4).expect("a hard limit");
    let soft = most.map_or(hard.to_owned(), |most| most.to_string());
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit --nofile={soft}:");
}

/// A zone whose month does not end while this runs: the books of a month are compared with the whole invoice.
fn quiet_zone() -> &'static str {
    let month = |hours: i64| {
        let second = jiff::Timestamp::now().as_second() + 3600 * hours;
        let at = jiff::Timestamp::from_second(second).expect("a time");
        at.to_zoned_datetime(jiff::tz::TimeZone::UTC).month()
    };
    if month(0) == month(6) { "UTC" } else { "Etc/GMT+12" }
}

/// Dollars of a header, for reports.
pub fn dollars(amount: u64) -> String {
    let text = usd(amount);
    debug_assert_eq!(nano(&serde_json::json!(text)), amount);
    text
}

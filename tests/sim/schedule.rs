//! One schedule: a seed decides what every actor does and in which order; nothing else does.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use loopers::config::{self, OnDisconnect, Purpose, Settings};
use loopers::gateway::app::App;
use loopers::gateway::{keeper, running};
use loopers::ledger::{Carried, Ledger};
use loopers::pricing::PriceTable;

use crate::client;
use crate::count::Counts;
use crate::mutant::Mutant;
use crate::network::{carry_out, network, time_out};
use crate::operator::{edit, records};
use crate::plan::{self, Plan};
use crate::provider::prices;
use crate::rng::Rng;
use crate::task::{Kind, Task, lock};
use crate::world::{CallState, Line, Shared, World, hash_of};

/// Calls that run at once.
const CALLS_MAX: usize = 7;
/// The longest call; a hold lives twice as long.
const CALL_SECONDS: u64 = 60;
/// How long a gateway waits for the ledger.
const LEDGER_MS: u64 = 250;
/// Steps in which everything must have come to rest once it has healed.
const REST_STEPS_MAX: u64 = 20_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How a schedule went.
pub struct Outcome {
    pub hash: u64,
    pub counts: Counts,
    pub finding: Option<String>,
    pub story: Vec<String>,
}

struct Gateway {
    app: Option<Arc<App>>,
    ledger: Ledger,
}

struct Sim {
    shared: Shared,
    gateways: Vec<Gateway>,
    tasks: Vec<Task>,
    settings: &'static Settings,
    /// The instant from which waits are measured.
    base: tokio::time::Instant,
}

/// Runs the schedule of a seed, with `storm` steps before everything heals.
pub fn run(seed: u64, storm: u64, mutant: Option<Mutant>, story: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng, storm);
    let mut sim = Sim::new(rng, plan, mutant, story);
    sim.storm();
    sim.heal();
    let (gateways, tasks) = (std::mem::take(&mut sim.gateways), std::mem::take(&mut sim.tasks));
    drop((tasks, gateways));
    let mut world = lock(&sim.shared);
    let (invoice, charged, debt) = world.audit.sums();
    let counts = &mut world.counts;
    (counts.schedules, counts.invoice, counts.charged, counts.debt) = (1, invoice, charged, debt);
    Outcome {
        hash: world.hash(),
        counts: world.counts.clone(),
        finding: world.finding.take(),
        story: world.story.take().unwrap_or_default(),
    }
}

/// The config of every gateway: whether Anthropic's answers are dropped when their client leaves is the schedule's choice.
fn settings(cancels: bool) -> &'static Settings {
    static BOTH: OnceLock<[Settings; 2]> = OnceLock::new();
    let made = BOTH.get_or_init(|| {
        let text = "listen: 127.0.0.1:1\nledger: \"memory:\"\nproviders:\n  openai: {base_url: \"http://127.0.0.1:2\", key: env:K}\n  \
                    anthropic: {base_url: \"https://127.0.0.1:3\", key: env:K}\n";
        let environment = |_: &str| Some("provider-key".into());
        let loaded = config::parse("sim.yaml".as_ref(), text, &environment, Purpose::Serve);
        let mut settings = loaded.unwrap_or_else(|errors| panic!("{errors}")).settings;
        let table = PriceTable::load(&[("sim-prices.yaml".into(), prices())]);
        settings.prices = Arc::new(table.unwrap_or_else(|errors| panic!("{errors:?}")));
        settings.limits.call_seconds = CALL_SECONDS;
        [OnDisconnect::Drain, OnDisconnect::Cancel].map(|on_disconnect| {
            let mut settings = settings.clone();
            for (name, provider) in &mut settings.providers {
                // OpenAI bills to the end, whoever hangs up.
                provider.on_disconnect = if name == "anthropic" { on_disconnect } else { OnDisconnect::Drain };
            }
            settings
        })
    });
    &made[usize::from(cancels)]
}

impl Sim {
    fn new(rng: Rng, plan: Plan, mutant: Option<Mutant>, story: bool) -> Sim {
        let settings = settings(plan.cancels);
        let gateways = plan.gateways;
        let shared = Arc::new(Mutex::new(World::new(rng, plan, mutant, settings.prices.clone(), story)));
        let books = lock(&shared).books.clone();
        records(&mut lock(&shared));
        let mut sim =
            Sim { gateways: Vec::new(), tasks: Vec::new(), settings, base: tokio::time::Instant::now(), shared };
        for gateway in 0..gateways {
            let line = Line { shared: sim.shared.clone(), gateway, books: books.clone() };
            sim.gateways.push(Gateway { app: None, ledger: Ledger::Carried(Carried(Arc::new(line))) });
            sim.start(gateway);
        }
        sim
    }

    /// A gateway begins, with nothing in its memory.
    fn start(&mut self, gateway: usize) {
        let ledger = self.gateways[gateway].ledger.clone();
        let app = App::new(self.settings.clone(), ledger.clone());
        self.gateways[gateway].app = Some(app.clone());
        let (shared, base) = (self.shared.clone(), self.base);
        let settling = async move {
            loop {
                let clock = shared.clone();
                let now = move || base + Duration::from_millis(lock(&clock).mono.unsigned_abs());
                if app.settler.settle_some(&ledger, now).await {
                    continue;
                }
                let mut nudged = false;
                std::future::poll_fn(|context| {
                    if std::mem::replace(&mut nudged, true) {
                        return std::task::Poll::Ready(());
                    }
                    lock(&shared).nudges[gateway] = Some(context.waker().clone());
                    std::task::Poll::Pending
                })
                .await;
            }
        };
        self.tasks.push(Task::new(gateway, Kind::Settler, settling));
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        lock(&self.shared)
    }

    fn is_sound(&self) -> bool {
        self.world().finding.is_none()
    }

    // === The storm ===

    fn storm(&mut self) {
        let steps = self.world().plan.storm;
        for _ in 0..steps {
            self.step();
            if !self.is_sound() {
                return;
            }
        }
    }

    /// One action of whoever is picked.
    fn step(&mut self) {
        let pick = {
            let mut world = self.world();
            world.counts.steps += 1;
            world.rng.below(100)
        };
        let done = match pick {
            0..30 => self.run_task(),
            30..52 => self.deliver(),
            52..76 => self.provide(),
            76..85 => self.call(),
            85..87 => self.hang_up(),
            _ => false,
        };
        if done || (pick < 87 && (self.run_task() || self.deliver() || self.provide() || self.call())) {
            return;
        }
        self.environment();
    }

    /// A task that may go on does.
    fn run_task(&mut self) -> bool {
        let ready: Vec<usize> = (0..self.tasks.len()).filter(|at| self.tasks[*at].is_ready()).collect();
        if ready.is_empty() {
            return false;
        }
        let at = ready[self.world().rng.place(ready.len())];
        let (gateway, kind) = (self.tasks[at].gateway, self.tasks[at].kind);
        let code = match kind {
            Kind::Call(call) => call as u64 + 2,
            Kind::Settler => 0,
            Kind::Keeper => 1,
        };
        self.world().note("run", gateway as u64, code);
        if self.tasks[at].run() {
            self.tasks.swap_remove(at);
        }
        true
    }

    /// Something on the wire arrives, or does not.
    fn deliver(&mut self) -> bool {
        let world = &mut *self.world();
        if world.net.is_empty() {
            return false;
        }
        let at = world.rng.place(world.net.len());
        let message = world.net.swap_remove(at);
        network(world, message);
        true
    }

    /// A provider goes on with an answer.
    fn provide(&mut self) -> bool {
        let world = &mut *self.world();
        let open = |call: &CallState| call.served.as_ref().is_some_and(|served| !served.is_over);
        let calls: Vec<usize> = (0..world.calls.len()).filter(|at| open(&world.calls[*at])).collect();
        if calls.is_empty() {
            return false;
        }
        let call = calls[world.rng.place(calls.len())];
        let unread = world.calls[call].inbound.iter().map(|(_, tokens)| tokens).sum();
        let Some(served) = &mut world.calls[call].served else { return false };
        let arrival = served.step(unread, &mut world.rng);
        world.note("provide", call as u64, u64::from(arrival.is_some()));
        if let Some((arrival, tokens)) = arrival {
            world.arrives(call, arrival, tokens);
        }
        world.look_at_invoice(call);
        true
    }

    /// A client calls.
    fn call(&mut self) -> bool {
        let alive: Vec<usize> = (0..self.gateways.len()).filter(|at| self.gateways[*at].app.is_some()).collect();
        let running = self.tasks.iter().filter(|task| matches!(task.kind, Kind::Call(_))).count();
        if running >= CALLS_MAX || alive.is_empty() {
            return false;
        }
        let (gateway, call, hash) = {
            let world = &mut *self.world();
            let gateway = alive[world.rng.place(alive.len())];
            let teams = world.plan.teams.len();
            let key = teams + world.rng.place(world.plan.keys.len());
            let plan = plan::call(&mut world.rng);
            let hash = hash_of(world.audit.secret(key));
            world.counts.calls += 1;
            let call = world.calls.len();
            world.note("call", gateway as u64, key as u64);
            world.tell(|| {
                format!(
                    "call {call}: {:?} stream {} limit {:?} session {:?}",
                    plan.wish, plan.stream, plan.limit, plan.session
                )
            });
            world.calls.push(CallState::new(gateway, plan, world.mono));
            (gateway, call, hash)
        };
        if let Some(app) = self.gateways[gateway].app.clone() {
            let serving = client::serve(self.shared.clone(), app, call, hash);
            self.tasks.push(Task::new(gateway, Kind::Call(call), serving));
        }
        true
    }

    fn hang_up(&mut self) -> bool {
        let world = &mut *self.world();
        let here = |call: &CallState| !call.is_over && !call.left;
        let calls: Vec<usize> = (0..world.calls.len()).filter(|at| here(&world.calls[*at])).collect();
        if calls.is_empty() {
            return false;
        }
        let call = calls[world.rng.place(calls.len())];
        world.note("hang up", call as u64, 0);
        world.counts.hang_ups += 1;
        world.calls[call].left = true;
        world.wake(call);
        true
    }

    /// What happens around everybody.
    fn environment(&mut self) {
        if self.world().is_out && self.world().rng.chance(50) {
            return self.outage();
        }
        let pick = self.world().rng.below(100);
        match pick {
            0..26 => self.tick(),
            26..48 => self.nudge(),
            48..62 => self.keep(),
            62..70 => self.world().sweep_somewhere(),
            70..82 => edit(&mut self.world()),
            82..86 => self.outage(),
            86..90 => self.leap(),
            90..94 => self.turn_clocks(),
            94..97 => self.crash(),
            _ => self.restart(),
        }
    }

    /// A little time passes.
    fn tick(&mut self) {
        let mut world = self.world();
        let ms = [1, 20, 200, 1_000, 10_000][world.rng.place(5)];
        world.note("tick", ms, 0);
        if ms > LEDGER_MS {
            time_out(&mut world);
        }
        world.pass(ms as i64, ms as i64);
    }

    /// Settlers look whether something is due again.
    fn nudge(&mut self) {
        let mut world = self.world();
        let gateway = world.rng.place(self.gateways.len());
        world.note("nudge", gateway as u64, 0);
        if let Some(waker) = world.nudges[gateway].take() {
            waker.wake();
        }
    }

    /// A gateway's keeper looks after the running calls.
    fn keep(&mut self) {
        let at = self.world().rng.place(self.gateways.len());
        let is_busy = self.tasks.iter().any(|task| task.gateway == at && task.kind == Kind::Keeper);
        let Some(app) = self.gateways[at].app.clone().filter(|_| !is_busy) else { return };
        self.world().note("keep", at as u64, 0);
        self.world().counts.keeper_checks += 1;
        let (shared, ledger) = (self.shared.clone(), self.gateways[at].ledger.clone());
        self.tasks.push(Task::new(at, Kind::Keeper, async move {
            let calls = app.running.older_than(Duration::ZERO);
            let longest = Duration::from_secs(CALL_SECONDS);
            lock(&shared)
                .overdue(at, CALL_SECONDS as i64 * 1000, |switch| switch.cut(running::deadline_reason(longest)));
            keeper::check(&calls, &ledger).await;
            lock(&shared).checked(at, &calls);
        }));
    }

    /// The ledger goes, or comes back.
    fn outage(&mut self) {
        let mut world = self.world();
        world.is_out = !world.is_out;
        let is_out = u64::from(world.is_out);
        world.counts.outages += is_out;
        world.note("outage", is_out, 0);
    }

    /// A long time passes at once. Nothing stays that long on the wire.
    fn leap(&mut self) {
        let mut world = self.world();
        time_out(&mut world);
        let by = [MINUTE, 3 * MINUTE, HOUR, DAY, 7 * DAY, 31 * DAY][world.rng.place(6)] + world.rng.below(5_000) as i64;
        let late: Vec<usize> = (0..world.net.len()).rev().filter(|at| world.net[*at].is_late()).collect();
        for at in late {
            let message = world.net.swap_remove(at);
            carry_out(&mut world, message);
        }
        world.counts.leaps += 1;
        world.note("leap", by as u64, 0);
        world.pass(by, by);
    }

    /// A clock is set: the ledger's as one gateway sees it, or the true one.
    fn turn_clocks(&mut self) {
        let mut world = self.world();
        let by = [-40_000, -1_000, 700, 65_000][world.rng.place(4)];
        let at = world.rng.place(self.gateways.len() * 2);
        world.note("clock", at as u64, by as u64);
        match world.skews.get_mut(at) {
            Some(skew) => {
                *skew = by;
                world.counts.skews += 1;
            }
            None => {
                world.pass(0, by);
                world.counts.clock_steps += 1;
            }
        }
    }

    /// A gateway dies; what it had in memory is gone.
    fn crash(&mut self) {
        let at = self.world().rng.place(self.gateways.len());
        if self.gateways[at].app.is_none() {
            return;
        }
        self.tasks.retain(|task| task.gateway != at);
        self.gateways[at].app = None;
        let mut world = self.world();
        world.note("crash", at as u64, 0);
        world.counts.crashes += 1;
        world.orphan(at);
        for call in 0..world.calls.len() {
            if world.calls[call].gateway == at && !world.calls[call].is_over {
                world.calls[call].is_over = true;
                world.drop_connection(call);
            }
        }
        // What it had sent may still arrive.
        let World { net, rng, .. } = &mut *world;
        net.retain(|message| message.gateway != at || rng.chance(50));
        for message in net.iter_mut().filter(|message| message.gateway == at) {
            message.forget_sender();
        }
        net.retain(|message| message.gateway != at || message.is_late());
    }

    fn restart(&mut self) {
        let Some(at) = self.gateways.iter().position(|gateway| gateway.app.is_none()) else { return };
        self.world().note("restart", at as u64, 0);
        self.world().counts.restarts += 1;
        self.start(at);
    }

    // === Healing ===

    /// Everything works again: calls end, settlements arrive, holds of the dead expire; then nothing may be held.
    fn heal(&mut self) {
        {
            let mut world = self.world();
            world.is_healing = true;
            world.is_out = false;
            world.skews.iter_mut().for_each(|skew| *skew = 0);
        }
        while self.gateways.iter().any(|gateway| gateway.app.is_none()) {
            self.restart();
        }
        for _ in 0..REST_STEPS_MAX {
            if !self.is_sound() {
                return;
            }
            if self.rest_step() {
                break;
            }
        }
        self.judge_rest();
    }

    /// One step towards rest; true when it is reached.
    fn rest_step(&mut self) -> bool {
        self.world().counts.steps += 1;
        let first = self.world().rng.below(3);
        let moved = match first {
            0 => self.run_task() || self.deliver() || self.provide(),
            1 => self.deliver() || self.provide() || self.run_task(),
            _ => self.provide() && self.world().rng.chance(80) || self.run_task() || self.deliver(),
        };
        if moved {
            return false;
        }
        let owed = self.gateways.iter().filter_map(|gateway| gateway.app.as_ref()).any(|app| app.settler.pending() > 0);
        let calls = self.tasks.iter().any(|task| matches!(task.kind, Kind::Call(_)));
        if !owed && !calls {
            return true;
        }
        self.world().pass(2_000, 2_000);
        for gateway in 0..self.gateways.len() {
            if let Some(waker) = self.world().nudges[gateway].take() {
                waker.wake();
            }
        }
        if calls && self.world().rng.chance(20) {
            self.keep();
        }
        false
    }

    fn judge_rest(&mut self) {
        let mut world = self.world();
        let owed = self.gateways.iter().filter_map(|gateway| gateway.app.as_ref()).map(|app| app.settler.pending());
        let owed: usize = owed.sum();
        if owed > 0 || self.tasks.iter().any(|task| matches!(task.kind, Kind::Call(_))) {
            let tasks: Vec<Kind> = self.tasks.iter().map(|task| task.kind).collect();
            return world
                .judge(Err(format!("no rest after {REST_STEPS_MAX} steps: {owed} settlements owed, {tasks:?}")));
        }
        // Trees may have seen later times than the clock shows.
        world.pass(2 * HOUR, 2 * HOUR);
        world.sweep(0);
        let finding = world.audit.rest();
        world.judge(finding);
        let held = world.held();
        world.note("rest", held, 0);
        if held > 0 {
            world.judge(Err(format!("at rest {held} nano-dollars are held for nothing")));
        }
    }
}

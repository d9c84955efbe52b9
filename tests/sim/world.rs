//! The world between the actors: wires, clocks, calls, the books, and the auditor who looks at every step.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use async_trait::async_trait;
use loopers::clock::{Calendar, Clock};
use loopers::gateway::running::CutSwitch;
use loopers::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use loopers::ledger::{
    Carrier, Charge, HoldId, HoldRef, Ledger, LedgerError, NodeId, Refusal, Reserve, SessionAsk, Settled, Verdict,
};
use loopers::money::Money;
use loopers::pricing::PriceTable;
use loopers::secret::KeyHash;

use crate::audit::{Ask, Auditor, Ended, Finding, Shown, Taken};
use crate::count::Counts;
use crate::mutant::Mutant;
use crate::plan::{CallPlan, Plan};
use crate::provider::{Arrival, Served};
use crate::rng::Rng;
use crate::task::{Slot, at_once, lock};

pub type Shared = Arc<Mutex<World>>;

/// What is on its way to the ledger. Without a slot nobody waits for the answer any more.
pub enum What {
    Reserve(Box<Reserve>, Option<Slot<Result<Verdict, LedgerError>>>),
    Settle(Vec<(Arc<HoldRef>, Charge)>, Option<Slot<Vec<Result<Settled, LedgerError>>>>),
    Pass(Slot<Result<(), LedgerError>>),
    /// Answers on their way back.
    Reserved(Result<Verdict, LedgerError>, Slot<Result<Verdict, LedgerError>>),
    Settled(Vec<Result<Settled, LedgerError>>, Slot<Vec<Result<Settled, LedgerError>>>),
}

pub struct Message {
    pub gateway: usize,
    pub what: What,
}

impl Message {
    /// True for what nobody waits for.
    pub fn is_late(&self) -> bool {
        matches!(self.what, What::Reserve(_, None) | What::Settle(_, None))
    }
}

/// One call of a client.
pub struct CallState {
    pub gateway: usize,
    pub plan: CallPlan,
    pub body: String,
    /// The client has left.
    pub left: bool,
    pub is_over: bool,
    /// Its task waits with this.
    pub waker: Option<Waker>,
    pub switch: Option<Arc<CutSwitch>>,
    pub started: i64,
    /// The holds that were asked for, one for each attempt.
    pub holds: Vec<u64>,
    /// The last reserve that the ledger judged: what it asked for at least, and whether it was refused for money.
    pub judged: Option<(u64, bool)>,
    pub served: Option<Served>,
    /// The hold that the call at the provider runs on.
    pub runs_on: u64,
    pub inbound: VecDeque<(Arrival, u64)>,
    /// Bytes of the answer that have come to the gateway's machine.
    pub received: u64,
}

impl CallState {
    pub fn new(gateway: usize, plan: CallPlan, started: i64) -> CallState {
        CallState {
            gateway,
            body: plan.body(),
            plan,
            left: false,
            is_over: false,
            waker: None,
            switch: None,
            started,
            holds: Vec::new(),
            judged: None,
            served: None,
            runs_on: 0,
            inbound: VecDeque::new(),
            received: 0,
        }
    }
}

/// Bytes of an answer's head.
const HEAD_BYTES: u64 = 180;

pub struct World {
    pub rng: Rng,
    pub plan: Plan,
    pub prices: Arc<PriceTable>,
    pub mutant: Option<Mutant>,
    /// What a good clock on the wall shows, and how far each gateway's is off.
    pub wall: i64,
    pub skews: Vec<i64>,
    /// Time that only passes: what waits are measured in.
    pub mono: i64,
    clock: Clock,
    pub books: Ledger,
    pub net: Vec<Message>,
    /// The ledger answers nothing.
    pub is_out: bool,
    /// Nothing goes wrong any more.
    pub is_healing: bool,
    pub calls: Vec<CallState>,
    pub audit: Auditor,
    /// Ids of the nodes, in the auditor's order.
    pub ids: Vec<NodeId>,
    pub secrets: u64,
    holds: u64,
    timers: Vec<(i64, Waker)>,
    /// Settlers that have nothing to do.
    pub nudges: Vec<Option<Waker>>,
    /// Whether the last thing that passed for a gateway's keeper did.
    pub passed: Vec<bool>,
    pub counts: Counts,
    pub finding: Option<String>,
    hash: u64,
    /// The trace, when it is wanted.
    pub story: Option<Vec<String>>,
}

pub fn hash_of(secret: u64) -> KeyHash {
    KeyHash::from_hex(&format!("{secret:064x}")).unwrap_or_else(|| unreachable!("64 digits"))
}

fn secret_of(hash: &KeyHash) -> u64 {
    u64::from_str_radix(&hash.hex()[48..], 16).unwrap_or_default()
}

pub fn number_of(hold: &HoldId) -> u64 {
    u64::from_str_radix(&hold.0[16..], 16).unwrap_or(u64::MAX)
}

pub fn down() -> LedgerError {
    LedgerError::Unavailable("the simulated ledger does not answer".into())
}

impl World {
    pub fn new(rng: Rng, plan: Plan, mutant: Option<Mutant>, prices: Arc<PriceTable>, story: bool) -> World {
        let clock = Clock::manual(plan.start);
        let zone = Calendar::in_zone(plan.zone.name()).unwrap_or_else(|_| Calendar::utc());
        let options =
            EmbeddedOptions { path: None, calendar: zone, clock: clock.clone(), role: Role::Gateway, queue: 4_096 };
        let books = Ledger::Embedded(EmbeddedLedger::open(options).unwrap_or_else(|e| panic!("{e}")));
        let audit = Auditor::new(plan.zone);
        World {
            rng,
            prices,
            wall: plan.start,
            skews: vec![0; plan.gateways],
            mono: 0,
            clock,
            books,
            net: Vec::new(),
            is_out: false,
            is_healing: false,
            calls: Vec::new(),
            audit,
            ids: Vec::new(),
            secrets: 0,
            holds: 0,
            timers: Vec::new(),
            nudges: (0..plan.gateways).map(|_| None).collect(),
            passed: vec![false; plan.gateways],
            counts: Counts::default(),
            finding: None,
            hash: 0xcbf2_9ce4_8422_2325,
            story: story.then(Vec::new),
            plan,
            mutant,
        }
    }

    // === What happened ===

    /// Writes a step into the trace: a code and two numbers, which also make its hash.
    pub fn note(&mut self, what: &'static str, one: u64, two: u64) {
        for value in [what.len() as u64 ^ (u64::from(what.as_bytes()[0]) << 8), one, two] {
            self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        if let Some(story) = &mut self.story {
            story.push(format!("{what} {one} {two}"));
        }
    }

    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let line = line();
            story.push(format!("    {line}"));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The auditor's word on a step. Only the first finding counts.
    pub fn judge(&mut self, finding: Finding) {
        if let (Err(finding), None) = (finding, &self.finding) {
            self.finding = Some(finding);
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    // === Time ===

    pub fn wait_until(&mut self, due: i64, waker: Waker) {
        self.timers.push((due, waker));
    }

    /// Time passes, or is set: waits end by the former, the ledger's clock shows the latter.
    pub fn pass(&mut self, passes: i64, wall: i64) {
        self.mono += passes;
        self.wall += wall;
        let now = self.mono;
        self.timers.retain(|(due, waker)| {
            if *due <= now {
                waker.wake_by_ref();
            }
            *due > now
        });
    }

    /// Sets the ledger's clock as seen through a gateway, and returns what it should show.
    pub fn set_clock(&mut self, skew: i64) -> i64 {
        let right = self.wall + skew;
        let shown = match self.mutant {
            Some(Mutant::NeverRolls) => self.plan.start,
            Some(Mutant::RollsEarly) => right + 3_600_000,
            _ => right,
        };
        self.clock.set(shown);
        right
    }

    // === Calls ===

    pub fn hold_id(&mut self, call: usize) -> HoldId {
        self.holds += 1;
        self.calls[call].holds.push(self.holds);
        self.audit.bill(self.holds).exact = Some(0);
        HoldId(format!("{:032x}", self.holds).into())
    }

    pub fn wake(&mut self, call: usize) {
        if let Some(waker) = self.calls[call].waker.take() {
            waker.wake();
        }
    }

    pub fn arrives(&mut self, call: usize, arrival: Arrival, tokens: u64) {
        self.calls[call].received += match &arrival {
            Arrival::Head { .. } => HEAD_BYTES,
            Arrival::Bytes(bytes) => bytes.len() as u64,
            Arrival::End | Arrival::Broken => 0,
        };
        self.calls[call].inbound.push_back((arrival, tokens));
        self.wake(call);
    }

    /// The provider's invoice has moved: it must be covered.
    pub fn look_at_invoice(&mut self, call: usize) {
        let Some(served) = &self.calls[call].served else { return };
        let (invoice, fate) = (served.invoice(), served.fate);
        let hold = self.calls[call].runs_on;
        let bill = self.audit.bill(hold);
        bill.invoice = bill.invoice.max(invoice);
        bill.disobeyed |= fate == crate::provider::Fate::Disobeys;
        let finding = self.audit.judge(hold);
        self.judge(finding);
    }

    /// Calls of a gateway that run for too long are cut.
    pub fn overdue(&mut self, gateway: usize, longest: i64, cut: impl Fn(&CutSwitch)) {
        for call in 0..self.calls.len() {
            let state = &self.calls[call];
            if state.gateway == gateway && !state.is_over && self.mono - state.started >= longest {
                if let Some(switch) = state.switch.as_ref().filter(|switch| switch.reason().is_none()) {
                    cut(switch);
                    self.counts.cut_by_deadline += 1;
                }
                self.wake(call);
            }
        }
    }

    /// A gateway's keeper has looked: whoever had to be stopped is.
    pub fn checked(&mut self, gateway: usize, calls: &[(Arc<HoldRef>, Arc<CutSwitch>)]) {
        if self.passed[gateway] {
            let clock = self.wall + self.skews[gateway];
            for (at, switch) in calls {
                let hold = number_of(&at.hold);
                if self.audit.must_stop(hold, clock) && switch.reason().is_none() {
                    self.judge(Err(format!("a call on hold {hold} was not stopped")));
                }
            }
        }
        for call in 0..self.calls.len() {
            if self.calls[call].gateway == gateway && !self.calls[call].is_over {
                self.wake(call);
            }
        }
    }

    /// A gateway has died: who is to settle its calls?
    pub fn orphan(&mut self, gateway: usize) {
        let holds: Vec<u64> =
            self.calls.iter().filter(|call| call.gateway == gateway).flat_map(|call| call.holds.clone()).collect();
        holds.into_iter().for_each(|hold| self.audit.orphan(hold));
    }

    /// Puts an answer on its way back.
    pub fn later(&mut self, gateway: usize, what: What) {
        self.counts.answers_late += 1;
        self.net.push(Message { gateway, what });
    }

    /// The gateway's end of a call's connection is gone.
    pub fn drop_connection(&mut self, call: usize) {
        if let Some(served) = &mut self.calls[call].served {
            served.dropped();
            self.look_at_invoice(call);
        }
    }

    // === The ledger ===

    /// Carries a reserve out.
    pub fn reserve(&mut self, gateway: usize, ask: &Reserve) -> Result<Verdict, LedgerError> {
        let clock = self.set_clock(self.skews[gateway]);
        let key = self.place(&ask.view.key.id);
        let mut sent = ask.clone();
        if self.is(Mutant::AcceptsStale)
            && let Ok(Some(view)) = at_once(self.books.key_by_hash(&ask.view.hash))
        {
            sent.view = Arc::new(view);
        }
        if self.is(Mutant::HoldsHalf) {
            sent.least = Money::from_nano(sent.least.nano() / 2);
            sent.most = Money::from_nano(sent.most.nano() / 2);
        }
        let refuses = self.is(Mutant::RefusesForNothing) && self.rng.chance(30);
        let mut verdict = if refuses {
            let zero = Money::ZERO;
            Ok(Verdict::Refused(Refusal::SessionBudget { limit: zero, spent: zero, held: zero }))
        } else {
            at_once(self.books.reserve(&sent))
        };
        if let (true, Ok(Verdict::Held(held))) = (self.is(Mutant::HoldsHalf), &mut verdict) {
            held.granted = Money::from_nano(held.granted.nano() * 2);
        }
        let asked = Ask {
            hold: number_of(&ask.hold),
            key,
            revision: ask.view.revision,
            secret: secret_of(&ask.view.hash),
            session: ask
                .session
                .as_ref()
                .map(|SessionAsk { id, budget, steps }| (id.to_string(), budget.map(Money::nano), *steps)),
            least: ask.least.nano(),
            most: ask.most.nano(),
            lives_ms: i64::try_from(ask.ttl_ms).unwrap_or(i64::MAX),
        };
        self.tell(|| format!("reserve at {clock}: {asked:?} -> {verdict:?}"));
        let Ok(answer) = &verdict else {
            self.judge(Err(format!("the books answered {verdict:?}")));
            return verdict;
        };
        let taken = taken(answer);
        self.counts.verdict(&taken);
        let finding = self.audit.reserve(&asked, &taken, clock);
        self.judge(finding);
        let (call, is_refused) = (self.call_of(asked.hold), taken == Taken::NoMoney);
        if let Some(call) = call {
            self.calls[call].judged = Some((asked.least, is_refused));
        }
        self.inspect(clock);
        if let Some((id, ..)) = &asked.session {
            self.inspect_session(key, id, clock);
        }
        verdict
    }

    pub fn call_of(&self, hold: u64) -> Option<usize> {
        self.calls.iter().rposition(|call| call.holds.contains(&hold))
    }

    /// Carries settlements out.
    pub fn settle(&mut self, gateway: usize, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        let clock = self.set_clock(self.skews[gateway]);
        let mut answers = Vec::with_capacity(ends.len());
        for (at, charge) in ends {
            if let Some(answer) = self.mutant_settles(at, *charge) {
                answers.push(Ok(answer));
                continue;
            }
            let answer = at_once(self.books.settle(at, *charge));
            let (hold, key) = (number_of(&at.hold), self.place(&at.chain[0]));
            self.tell(|| format!("settle at {clock}: {hold} {charge:?} -> {answer:?}"));
            let Ok(settled) = answer else {
                self.judge(Err(format!("the books answered {answer:?}")));
                answers.push(answer);
                continue;
            };
            self.counts.settled(&settled);
            if self.is(Mutant::ChargesTwice) && matches!(settled, Settled::Already { .. }) {
                self.charge_more(at);
            }
            let cost = match charge {
                Charge::Exact(cost) => Some(cost.nano()),
                Charge::Full => None,
            };
            let finding = self.audit.settle(hold, key, cost, ended(settled), clock);
            self.judge(finding);
            if let Some(id) = &at.session {
                self.inspect_session(key, id, clock);
            }
            answers.push(answer);
        }
        self.inspect(clock);
        answers
    }

    /// What wrong ledgers do instead.
    fn mutant_settles(&mut self, at: &HoldRef, charge: Charge) -> Option<Settled> {
        let zero = Money::ZERO;
        match self.mutant? {
            Mutant::LosesSettlements if self.rng.chance(30) => Some(Settled::Applied { charged: zero, held: zero }),
            Mutant::LeaksHolds if charge == Charge::Exact(zero) => {
                let call = self.call_of(number_of(&at.hold))?;
                (self.calls[call].served.is_none()).then_some(Settled::Unknown)
            }
            _ => None,
        }
    }

    /// Takes a nano-dollar more from where a hold was, without a word.
    fn charge_more(&mut self, at: &HoldRef) {
        let secret = self.audit.secret(self.place(&at.chain[0]));
        let Ok(Some(view)) = at_once(self.books.key_by_hash(&hash_of(secret))) else { return };
        self.holds += 1;
        let more = Reserve {
            hold: HoldId(format!("{:032x}", self.holds).into()),
            view: Arc::new(view),
            session: None,
            least: Money::from_nano(1),
            most: Money::from_nano(1),
            ttl_ms: 1000,
            note: String::new(),
        };
        let _ = at_once(self.books.reserve(&more));
        let _ = at_once(self.books.settle(&more.hold_ref(), Charge::Full));
    }

    /// A gateway sweeps.
    pub fn sweep_somewhere(&mut self) {
        let at = self.rng.place(self.skews.len());
        if !self.is_out {
            self.counts.sweeps += 1;
            self.sweep(self.skews[at]);
        }
    }

    /// What is held in all windows of all nodes.
    pub fn held(&mut self) -> u64 {
        self.set_clock(0);
        let statuses = self.ids.iter().filter_map(|id| at_once(self.books.status(id)).ok());
        statuses.flat_map(|status| status.windows).map(|window| window.held.nano()).sum()
    }

    /// Charges what is due.
    pub fn sweep(&mut self, skew: i64) {
        let clock = self.set_clock(skew);
        if self.is(Mutant::RefundsExpired) {
            let holds = at_once(self.books.holds(1000)).unwrap_or_default();
            for hold in holds.iter().filter(|hold| hold.expires_at <= clock) {
                let _ = at_once(self.books.settle(&hold.at, Charge::Exact(Money::ZERO)));
            }
        }
        match at_once(self.books.sweep(100_000)) {
            Ok(swept) => {
                self.counts.expired += swept.expired;
                self.note("sweep", swept.expired, swept.charged.nano());
                let finding = self.audit.sweep(swept.expired, swept.charged.nano(), clock);
                self.judge(finding);
            }
            Err(error) => self.judge(Err(format!("the sweep failed: {error}"))),
        }
        self.inspect(clock);
    }

    /// All books must be what the auditor adds up.
    pub fn inspect(&mut self, clock: i64) {
        for node in 0..self.ids.len() {
            let status = match at_once(self.books.status(&self.ids[node])) {
                Ok(status) => status,
                Err(error) => return self.judge(Err(format!("the books of {node}: {error}"))),
            };
            let shown = Shown {
                node,
                windows: status.windows.map(|window| (window.started_at, window.spent.nano(), window.held.nano())),
                charged: status.charged_total.nano(),
                overrun: status.overrun_total.nano(),
            };
            let finding = self.audit.books(&shown, clock);
            self.judge(finding);
        }
    }

    fn inspect_session(&mut self, key: usize, id: &str, clock: i64) {
        let shown = at_once(self.books.session(&self.ids[key], id)).unwrap_or_default();
        let shown = shown.map(|session| (session.spent.nano(), session.held.nano(), session.steps));
        let finding = self.audit.session_books(key, id, shown, clock);
        self.judge(finding);
    }

    /// A node's place in the auditor's list.
    pub fn place(&self, id: &NodeId) -> usize {
        usize::from_str_radix(&id.as_str()[2..], 16).unwrap_or(usize::MAX)
    }
}

fn taken(verdict: &Verdict) -> Taken {
    match verdict {
        Verdict::Held(held) => Taken::Held(held.granted.nano()),
        Verdict::Refused(Refusal::Budget(_) | Refusal::SessionBudget { .. }) => Taken::NoMoney,
        Verdict::Refused(Refusal::SessionSteps { .. }) => Taken::NoSteps,
        Verdict::Refused(Refusal::Stopped { .. } | Refusal::Expired(_)) => Taken::Stopped,
        Verdict::Stale => Taken::Stale,
        Verdict::Spent => Taken::Spent,
    }
}

fn ended(settled: Settled) -> Ended {
    match settled {
        Settled::Applied { charged, held } => Ended::Applied { charged: charged.nano(), held: held.nano() },
        Settled::Corrected { charged, before } => Ended::Corrected { charged: charged.nano(), before: before.nano() },
        Settled::Already { charged } => Ended::Already { charged: charged.nano() },
        Settled::Unknown => Ended::Unknown,
    }
}

/// The wire between one gateway and the ledger.
pub struct Line {
    pub shared: Shared,
    pub gateway: usize,
    pub books: Ledger,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line of gateway {}", self.gateway)
    }
}

impl Line {
    fn send(&self, what: What) {
        lock(&self.shared).net.push(Message { gateway: self.gateway, what });
    }
}

#[async_trait]
impl Carrier for Line {
    fn books(&self) -> &Ledger {
        &self.books
    }

    async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        let slot = Slot::new();
        self.send(What::Reserve(Box::new(ask.clone()), Some(slot.clone())));
        slot.await
    }

    async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        let slot = Slot::new();
        self.send(What::Settle(ends.to_vec(), Some(slot.clone())));
        slot.await
    }

    async fn pass(&self) -> Result<(), LedgerError> {
        let slot = Slot::new();
        self.send(What::Pass(slot.clone()));
        let passed = slot.await;
        let mut world = lock(&self.shared);
        world.passed[self.gateway] = passed.is_ok();
        let skew = world.skews[self.gateway];
        world.set_clock(skew);
        passed
    }
}

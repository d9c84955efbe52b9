//! One call as a gateway carries it: the program's own admission, meter, verdict and hold, with a simulated wire on either side.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, Method};
use loopers::config::{OnDisconnect, Settings};
use loopers::gateway::admit::{self, Admitted, Denied};
use loopers::gateway::answer::{CutReason, Meter};
use loopers::gateway::app::App;
use loopers::gateway::around::Around;
use loopers::gateway::intake;
use loopers::gateway::verdict::{self, Outcome};
use loopers::ledger::{Charge, HoldId, LedgerError, Overflow};
use loopers::money::Money;
use loopers::provider::{self, AnswerHead, Call, Ceiling, Provider, Reading, Request, Route};
use loopers::secret::KeyHash;
use pingora::{Error, ErrorType};

use crate::mutant::Mutant;
use crate::provider::{Arrival, Fate, MODELS, Served, worst};
use crate::task::{give_way, lock};
use crate::world::{Shared, World};

/// With more than this unread nothing is counted; see the gateway's own limit.
const UNMETERED_MAX: u64 = 16 << 10;

/// The surroundings of an admission in this world.
struct Here {
    shared: Shared,
    call: usize,
}

impl Around for Here {
    async fn left(&mut self) -> Box<Error> {
        poll_fn(|context| {
            let mut world = lock(&self.shared);
            let state = &mut world.calls[self.call];
            if state.left {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        Error::new(ErrorType::ConnectionClosed).into_down()
    }

    async fn pause(&mut self, time: Duration) {
        let due = lock(&self.shared).mono + i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        poll_fn(|context| {
            let mut world = lock(&self.shared);
            if world.mono >= due {
                return Poll::Ready(());
            }
            world.wait_until(due, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn hold_id(&mut self) -> Result<HoldId, LedgerError> {
        Ok(lock(&self.shared).hold_id(self.call))
    }
}

/// What the gateway knows of a call that goes out.
struct Running {
    api: &'static dyn Provider,
    route: Route,
    call: Arc<Call>,
    admitted: Admitted,
    on_disconnect: OnDisconnect,
}

/// Serves a call from its first byte to its settlement.
pub async fn serve(shared: Shared, app: Arc<App>, call: usize, hash: KeyHash) {
    let settings = app.settings.load_full();
    if let Some(mut running) = admission(&shared, &app, &settings, call, hash).await {
        let outcome = forward(&shared, call, &mut running, &settings).await;
        end(&shared, call, running, outcome).await;
    }
    lock(&shared).calls[call].is_over = true;
}

async fn admission(
    shared: &Shared,
    app: &Arc<App>,
    settings: &Arc<Settings>,
    call: usize,
    hash: KeyHash,
) -> Option<Running> {
    let (name, body, headers) = {
        let world = lock(shared);
        let state = &world.calls[call];
        (MODELS[state.plan.wish.model].provider, state.body.clone(), session_headers(state.plan.session))
    };
    let view = match admit::key_view(app, &hash).await {
        Ok(view) => view,
        Err(refusal) => {
            refused(shared, call, refusal.code, None);
            return None;
        }
    };
    let api = provider::find(name, name)?;
    let path = if name == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" };
    let route = api.route(&Method::POST, path, None)?;
    let reading = Reading::plain(name, &settings.prices);
    let request = Request::plain(route, path, bytes::Bytes::from(body));
    let read = match api.read(request, &reading) {
        Ok(read) => Arc::new(read),
        Err(reject) => {
            lock(shared).judge(Err(format!("a good request was rejected: {reject:?}")));
            return None;
        }
    };
    let run = intake::session_headers(&headers).ok()?;
    let request = admit::Request {
        app,
        settings,
        provider: name.into(),
        key: hash,
        session: Some(&run),
        client: None,
        link: None,
        counter: None,
    };
    if lock(shared).is(Mutant::SendsBeforeHolding) {
        let hold = number_to_be(shared, call);
        let body = lock(shared).calls[call].body.clone();
        accept(shared, call, hold, &body, true);
    }
    let overflow = view.key.policy.overflow;
    let mut here = Here { shared: shared.clone(), call };
    match admit::admit(&mut here, &request, view, &read).await {
        Ok(admitted) => {
            let mut world = lock(shared);
            world.counts.clamped += u64::from(admitted.clamped_to.is_some());
            world.calls[call].switch = Some(admitted.switch.clone());
            drop(world);
            let on_disconnect = settings.providers.get(name)?.on_disconnect;
            Some(Running { api, route, call: read, admitted, on_disconnect })
        }
        Err(Denied::Refused(refusal)) => {
            refused(shared, call, refusal.code, Some(overflow));
            None
        }
        Err(Denied::Gone(_)) => {
            lock(shared).counts.gone_while_admitted += 1;
            None
        }
    }
}

/// The hold that the next attempt will ask for.
fn number_to_be(shared: &Shared, call: usize) -> u64 {
    let mut world = lock(shared);
    let id = world.hold_id(call);
    crate::world::number_of(&id)
}

fn session_headers(session: Option<(u64, Option<u64>, Option<u64>)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some((id, budget, steps)) = session else { return headers };
    let mut put = |name: &'static str, value: String| {
        headers.insert(name, value.parse().unwrap_or_else(|_| unreachable!("plain text")));
    };
    put("x-loopers-session-id", format!("run-{id}"));
    if let Some(budget) = budget {
        put("x-loopers-session-budget", Money::from_nano(budget).to_string());
    }
    if let Some(steps) = steps {
        put("x-loopers-session-max-steps", steps.to_string());
    }
    headers
}

/// The client was told no.
fn refused(shared: &Shared, call: usize, code: &'static str, overflow: Option<Overflow>) {
    let mut world = lock(shared);
    world.tell(|| format!("call {call} is refused: {code}"));
    if code.starts_with("ledger") {
        world.counts.refused_ledger += 1;
        if world.is(Mutant::FailsOpen) {
            let hold = world.calls[call].holds.last().copied().unwrap_or_default();
            let body = world.calls[call].body.clone();
            drop(world);
            accept(shared, call, hold, &body, true);
        }
        return;
    }
    let (Some(overflow), true) = (overflow, code.ends_with("budget_exceeded")) else { return };
    let state = &world.calls[call];
    let most = own_least(state.plan.wish.model, state.body.len() as u64, state.plan.limit, overflow);
    let finding = match state.judged {
        Some((least, true)) if least <= most => Ok(()),
        judged => Err(format!("a phantom refusal: {judged:?} was asked for last, {most} at the most would have done")),
    };
    world.judge(finding);
}

/// More than the least that a call must be admitted with: every byte a token, all frames, and the least output.
fn own_least(model: usize, bytes: u64, limit: Option<u64>, overflow: Overflow) -> u64 {
    let asked = limit.unwrap_or(u64::MAX);
    let output = match overflow {
        Overflow::Clamp => asked.min(16),
        Overflow::Cut => asked.min(16 + 64 + 1),
        Overflow::Refuse => asked.min(200_000),
    };
    // The dearest input token, one that is written to a cache for an hour, costs twice as much.
    MODELS[model].cost(2 * (bytes + 1024 + 64), 0, output)
}

/// The body reaches the provider.
fn accept(shared: &Shared, call: usize, hold: u64, body: &str, is_cut: bool) {
    let world = &mut *lock(shared);
    let wish = world.calls[call].plan.wish;
    let most = (!is_cut).then(|| worst(&wish, body));
    world.tell(|| format!("call {call} goes out on hold {hold}: {body:.120}"));
    world.counts.sent += 1;
    let finding = world.audit.goes_out(hold, most);
    world.judge(finding);
    let served = Served::accept(&wish, body, is_cut, &mut world.rng);
    world.calls[call].served = Some(served);
    world.calls[call].runs_on = hold;
    world.look_at_invoice(call);
}

/// How the answer ended.
struct Ending {
    sent: bool,
    status: Option<u16>,
    meter: Option<Meter>,
    cut: Option<CutReason>,
    is_complete: bool,
    client_left: bool,
    /// Bytes that had come when it was decided to end the call.
    received: Option<u64>,
}

/// Sends the call and meters its answer.
async fn forward(shared: &Shared, call: usize, running: &mut Running, settings: &Settings) -> Ending {
    let mut ending = Ending {
        sent: false,
        status: None,
        meter: None,
        cut: None,
        is_complete: false,
        client_left: false,
        received: None,
    };
    give_way().await;
    let hold = crate::world::number_of(&running.admitted.hold.at().hold);
    let (fate, never_clamps) = {
        let world = lock(shared);
        (world.calls[call].plan.wish.fate, world.is(Mutant::NeverClamps))
    };
    if fate == Fate::Unreachable {
        lock(shared).counts.unreachable += 1;
        return ending;
    }
    // Pingora looks at neither before it writes: what was decided meanwhile bites at the first byte of the answer.
    running.admitted.hold.sent();
    ending.sent = true;
    let limit = if never_clamps { None } else { running.admitted.clamped_to };
    let body = String::from_utf8_lossy(&running.call.body.render(limit)).into_owned();
    let is_cut = matches!(running.admitted.ceiling, Ceiling::Possible(_));
    {
        let mut world = lock(shared);
        world.audit.bill(hold).exact = None;
        if lock_chance(&mut world, 2) {
            // The connection breaks under the request.
            world.counts.broken += 1;
            return ending;
        }
    }
    accept(shared, call, hold, &body, is_cut);
    read_answer(shared, call, running, settings, &mut ending).await;
    if lock(shared).is(Mutant::SendsTwice) && !ending.is_complete && ending.cut.is_none() {
        accept(shared, call, hold, &body, is_cut);
    }
    lock(shared).drop_connection(call);
    ending
}

fn lock_chance(world: &mut World, percent: u64) -> bool {
    !world.is_healing && world.rng.chance(percent)
}

/// What a running call notices next.
enum Next {
    Stopped,
    Left,
    Arrived(Arrival),
}

async fn next(shared: &Shared, call: usize, running: &Running, ending: &mut Ending) -> Next {
    poll_fn(|context| {
        let mut world = lock(shared);
        let state = &mut world.calls[call];
        if running.admitted.switch.reason().is_some() {
            ending.received.get_or_insert(state.received);
            return Poll::Ready(Next::Stopped);
        }
        if state.left && running.on_disconnect == OnDisconnect::Cancel {
            // What had come by then is metered first.
            let received = *ending.received.get_or_insert(state.received);
            if ending.meter.as_ref().map_or(0, Meter::accounted) >= received {
                return Poll::Ready(Next::Left);
            }
        }
        match state.inbound.pop_front() {
            Some((arrival, _)) => Poll::Ready(Next::Arrived(arrival)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

async fn read_answer(shared: &Shared, call: usize, running: &mut Running, settings: &Settings, ending: &mut Ending) {
    let name = MODELS[lock(shared).calls[call].plan.wish.model].provider;
    let mut emit = BytesMut::new();
    loop {
        let judged = match next(shared, call, running, ending).await {
            Next::Stopped => return,
            Next::Left => {
                ending.client_left = true;
                return;
            }
            Next::Arrived(Arrival::Broken) => {
                lock(shared).counts.broken += 1;
                return;
            }
            Next::Arrived(Arrival::Head { status, content_type }) => {
                let head = AnswerHead { status, ..AnswerHead::plain(content_type) };
                let late = if lock(shared).is(Mutant::CutsLate) { 200 } else { 0 };
                let ceiling = match running.admitted.ceiling {
                    Ceiling::Possible(most) => Ceiling::Possible(most + late),
                    certain => certain,
                };
                let reader = running.api.answer(running.route, &running.call, &head, ceiling);
                let granted = running.admitted.hold.granted();
                let is_tls = settings.providers.get(name).is_some_and(|settings| settings.base_url.tls);
                ending.status = Some(status);
                ending.meter = Some(Meter::new(reader, running.call.clone(), granted, 100, is_tls));
                Ok(())
            }
            Next::Arrived(Arrival::Bytes(bytes)) => match &mut ending.meter {
                Some(meter) => meter.feed(&bytes, &mut emit),
                None => Ok(()),
            },
            Next::Arrived(Arrival::End) => {
                let judged = ending.meter.as_mut().map_or(Ok(()), |meter| meter.finish(&mut emit));
                ending.is_complete = judged.is_ok();
                judged
            }
        };
        if let Err(reason) = judged {
            ending.cut = Some(reason);
            ending.received.get_or_insert(lock(shared).calls[call].received);
            return;
        }
        if ending.is_complete || ending.meter.as_mut().is_some_and(Meter::finished) {
            running.admitted.hold.ends();
        }
        if ending.is_complete {
            return;
        }
        emit.clear();
    }
}

/// Settles the call: the program's verdict, and what the auditor must know of how it came about.
async fn end(shared: &Shared, call: usize, running: Running, mut ending: Ending) {
    give_way().await;
    let hold = &running.admitted.hold;
    let is_stopped = running.admitted.switch.reason().is_some();
    let received = ending.received;
    let unmetered = received.map(|received| ending.meter.as_ref().map_or(received, |meter| meter.unmetered(received)));
    let outcome = Outcome {
        sent: hold.was_sent(),
        granted: hold.granted(),
        is_stopped,
        cut: ending.cut,
        status: ending.status,
        is_complete: ending.is_complete,
        client_left: ending.client_left,
        on_disconnect: Some(running.on_disconnect),
        unmetered: unmetered.filter(|unmetered| *unmetered <= UNMETERED_MAX),
    };
    let name = running.api.name();
    let number = crate::world::number_of(&hold.at().hold);
    let mut world = lock(shared);
    let settings = world.prices.clone();
    let charge = verdict::charge(&outcome, running.api, &running.call, (&settings, name), ending.meter.as_mut());
    world.tell(|| format!("call {call} ends: {outcome:?} -> {charge:?}"));
    count(&mut world, &outcome);
    let state = &world.calls[call];
    let exact = state.served.as_ref().and_then(|served| {
        // Also of a call that was stopped when its answer had come to its end.
        let is_told = outcome.is_complete && served.tells_usage();
        let is_free = outcome.is_complete && !is_stopped && served.fate == Fate::FreeError;
        (is_told || is_free).then(|| served.invoice())
    });
    if outcome.sent {
        world.audit.bill(number).exact = exact;
    }
    let charge = wrong(&world, charge, &outcome, exact);
    drop(world);
    running.admitted.hold.settle(charge);
}

fn count(world: &mut World, outcome: &Outcome) {
    let counts = &mut world.counts;
    counts.completed += u64::from(outcome.is_complete);
    counts.cut_by_meter += u64::from(outcome.cut.is_some());
    counts.cut_by_operator += u64::from(outcome.is_stopped);
    counts.free_errors += u64::from(outcome.status == Some(429));
}

/// What wrong gateways charge.
fn wrong(world: &World, charge: Charge, outcome: &Outcome, exact: Option<u64>) -> Charge {
    let free = Charge::Exact(Money::ZERO);
    match world.mutant {
        Some(Mutant::RefundsDoubt) if charge == Charge::Full => free,
        Some(Mutant::CutsAreFree) if outcome.cut.is_some() || outcome.is_stopped => free,
        Some(Mutant::HangUpsAreFree) if outcome.client_left => free,
        Some(Mutant::ChargesErrors) if exact == Some(0) => Charge::Full,
        Some(Mutant::ChargesUnsent) if !outcome.sent => Charge::Full,
        Some(Mutant::RoundsDown) => match charge {
            Charge::Exact(cost) => Charge::Exact(Money::from_nano(cost.nano().saturating_sub(1))),
            full => full,
        },
        _ => charge,
    }
}

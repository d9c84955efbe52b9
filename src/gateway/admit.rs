//! Takes a call's worst case from the budgets, or the largest part of it that makes sense, before anything is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::app::App;
use super::around::Around;
use super::count::Counter;
use super::hold::Hold;
use super::intake::{self, SessionHeaders};
use super::link::ClientLink;
use super::refusal::Refusal;
use super::running::CutSwitch;
use crate::config::Settings;
use crate::ledger::{
    Charge, Held, KeyView, LedgerError, Overflow, Refusal as LedgerRefusal, Remaining, Reserve, SessionAsk, Verdict,
};
use crate::money::Money;
use crate::observe::metrics;
use crate::provider::{Call, Ceiling, CountAsk};
use crate::secret::KeyHash;

/// Tokens that a provider may have on their way when a stream is cut in `cut` mode, and so many per hundred on top: a model's own
/// way to write a text can take a little more tokens than the tokenizer's shortest.
const IN_FLIGHT_TOKENS: u64 = 64;
const IN_FLIGHT_PER_CENT: u64 = 5;
/// Bodies above this are tokenized off the workers.
const TOKENIZE_INLINE_BYTES_MAX: u64 = 4 * 1024;
/// How long a call that does not fit waits for the settlements of calls that have just ended.
const ENDINGS_PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);
/// How often a reserve starts over when the key's record changes meanwhile.
const ATTEMPTS_MAX: usize = 4;

/// A call that may go out.
pub struct Admitted {
    /// The money.
    pub hold: Hold,
    /// The output limit a sample that was put into the body, if it was lowered.
    pub clamped_to: Option<u64>,
    /// How much output the hold pays for.
    pub ceiling: Ceiling,
    /// The tightest budget after the hold.
    pub remaining: Option<Remaining>,
    /// Ends the call from outside.
    pub switch: Arc<CutSwitch>,
}

/// Why a call may not go out.
pub enum Denied {
    /// The client gets this answer.
    Refused(Refusal),
    /// The client left while the ledger was asked.
    Gone(Box<pingora::Error>),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Refused(refusal)
    }
}

/// Everything that an admission needs to know of a request.
pub struct Request<'a> {
    /// The shared state.
    pub app: &'a Arc<App>,
    /// This request's snapshot of the config.
    pub settings: &'a Settings,
    /// The provider's name in the config.
    pub provider: Arc<str>,
    /// Hash of the key that was presented.
    pub key: KeyHash,
    /// What the request says of its session; `None` for calls that cost nothing, which are no steps of a session.
    pub session: Option<&'a SessionHeaders>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's connection, if the call has it for itself (HTTP/1).
    pub link: Option<Arc<ClientLink>>,
    /// Who counts the input of a call whose bound does not fit.
    pub counter: Option<Counter<'a>>,
}

/// The key, as remembered or as the ledger has it.
pub async fn key_view(app: &Arc<App>, hash: &KeyHash) -> Result<Arc<KeyView>, Refusal> {
    match app.keys.get(hash) {
        Some(view) => Ok(view),
        None => fresh_view(app, hash).await,
    }
}

/// The key as the ledger has it now.
pub async fn fresh_view(app: &Arc<App>, hash: &KeyHash) -> Result<Arc<KeyView>, Refusal> {
    let started = Instant::now();
    let found = app.ledger.key_by_hash(hash).await;
    metrics::ledger("key_by_hash", started.elapsed());
    match found {
        Ok(Some(view)) => {
            let view = Arc::new(view);
            app.keys.put(view.clone());
            Ok(view)
        }
        Ok(None) => {
            app.keys.forget(hash);
            Err(Refusal::invalid_key())
        }
        Err(error) => Err(ledger_down(&error)),
    }
}

/// Holds the most that `call` can cost. Where that does not fit: a tighter bound by the exact tokenizer or the provider's own count, and
/// what the key's `overflow` says.
pub async fn admit(
    around: &mut impl Around,
    request: &Request<'_>,
    view: Arc<KeyView>,
    call: &Arc<Call>,
) -> Result<Admitted, Denied> {
    let full = call.bound(call.input_max, call.output_max);
    let ended = request.app.settler.ended_so_far();
    let mut taking = Taking { request, view, model: Some(call.model.clone()), id: call.price.id.clone() };
    let over = match taking.take(around, full, full).await? {
        Ok((hold, held)) => {
            let switch = watched(request, &hold);
            return Ok(admitted(switch, call, call.input_max, hold, held, full, false));
        }
        Err(refused) if !is_budget(&refused) => return Err(taking.refusal(refused, full).into()),
        Err(refused) => refused,
    };
    let mut input = exact_input(call).await.unwrap_or(call.input_max).min(call.input_max);
    let mut most = call.bound(input, call.output_max);
    let overflow = match taking.view.key.policy.overflow {
        Overflow::Cut if !call.cuttable => Overflow::Clamp,
        overflow => overflow,
    };
    let ask = request.counter.as_ref().and_then(|counter| Some((counter, counter.ask(call)?)));
    // Who asks the provider to count holds money for the least that the call can be.
    let least = least_hold(call, overflow, if ask.is_some() { 1 } else { input });
    let mut verdict = taking.take(around, least, most).await?;
    if verdict.as_ref().is_err_and(|refused| would_fit_at_rest(refused, least))
        && has_ended(around, request.app, ended).await
    {
        verdict = taking.take(around, least, most).await?;
    }
    let (hold, held) = verdict.map_err(|refused| taking.refusal(refused, least))?;
    let switch = watched(request, &hold);
    if let Some((counter, ask)) = ask.filter(|_| held.granted < most) {
        let count = counted(around, counter, &ask).await;
        // A stop ends the wait like a departure; but there is somebody to tell.
        let count = count.map_err(|gone| switch.reason().map_or(gone, |stopped| stopped.clone().into()))?;
        input = count.unwrap_or(input).min(input);
        most = call.bound(input, call.output_max);
        let least = least_hold(call, overflow, input);
        let refusal = match switch.reason() {
            Some(stopped) => Some(stopped.clone()),
            None if held.granted < least => Some(taking.refusal(over, least)),
            None => None,
        };
        if let Some(refusal) = refusal {
            hold.settle(Charge::Exact(Money::ZERO));
            return Err(refusal.into());
        }
    }
    Ok(admitted(switch, call, input, hold, held, most, overflow == Overflow::Cut))
}

/// The least that a call with so much input is admitted with.
fn least_hold(call: &Call, overflow: Overflow, input: u64) -> Money {
    match overflow {
        Overflow::Refuse => call.bound(input, call.output_max),
        Overflow::Clamp => call.bound(input, call.output_min),
        Overflow::Cut => call.bound(input, (call.output_min + in_flight(call.output_min)).min(call.output_max)),
    }
}

/// The most input by the provider's own count; `None` where it says nothing. A client that leaves meanwhile ends the call.
async fn counted(around: &mut impl Around, counter: &Counter<'_>, ask: &CountAsk) -> Result<Option<u64>, Denied> {
    // Apart: it is rare and 10 KB large, and every call would carry the room for it.
    let input = Box::pin(counter.input(ask));
    tokio::select! {
        input = input => Ok(input),
        gone = around.left() => Err(Denied::Gone(gone)),
    }
}

/// Admits a call that costs nothing, such as a list of models: key, states and expiry are checked in the same atomic step.
pub async fn admit_free(around: &mut impl Around, request: &Request<'_>, view: Arc<KeyView>) -> Result<(), Denied> {
    let mut taking = Taking { request, view, model: None, id: Arc::from("-") };
    match taking.take(around, Money::ZERO, Money::ZERO).await? {
        Ok((hold, _)) => {
            hold.settle(Charge::Exact(Money::ZERO));
            Ok(())
        }
        Err(refused) => Err(taking.refusal(refused, Money::ZERO).into()),
    }
}

fn is_budget(refused: &LedgerRefusal) -> bool {
    matches!(refused, LedgerRefusal::Budget(_) | LedgerRefusal::SessionBudget { .. })
}

/// True when only money that running calls hold keeps `least` from fitting.
fn would_fit_at_rest(refused: &LedgerRefusal, least: Money) -> bool {
    let (limit, spent) = match refused {
        LedgerRefusal::Budget(budget) => (budget.limit, budget.spent),
        LedgerRefusal::SessionBudget { limit, spent, .. } => (*limit, *spent),
        _ => return false,
    };
    spent.checked_add(least).is_some_and(|sum| sum <= limit)
}

/// Whether a call has ended in the ledger since `ended` were counted. Those whose clients may have seen their end are waited for: whoever
/// makes one call after the other must not be refused for what the one before still holds.
async fn has_ended(around: &mut impl Around, app: &App, ended: u64) -> bool {
    app.settler.earlier_endings(around.pause(ENDINGS_PATIENCE)).await;
    app.settler.ended_so_far() != ended
}

fn ledger_down(error: &LedgerError) -> Refusal {
    metrics::ledger_up(false);
    log::error!("a call was refused: {error}");
    Refusal::from_ledger_error(error)
}

/// Tokens to allow for beyond `tokens` that were counted.
pub fn in_flight(tokens: u64) -> u64 {
    IN_FLIGHT_TOKENS.saturating_add(tokens.saturating_mul(IN_FLIGHT_PER_CENT) / 100)
}

async fn exact_input(call: &Arc<Call>) -> Option<u64> {
    if call.input_max <= TOKENIZE_INLINE_BYTES_MAX {
        return call.body.exact_input();
    }
    let call = call.clone();
    tokio::task::spawn_blocking(move || call.body.exact_input()).await.ok().flatten()
}

/// From now on an operator's stop reaches the call.
fn watched(request: &Request<'_>, hold: &Hold) -> Arc<CutSwitch> {
    let switch = CutSwitch::new(request.link.clone());
    request.app.running.add(hold.at(), switch.clone());
    switch
}

/// What a hold means for the call: the output limit to forward, and the output it pays for.
fn admitted(
    switch: Arc<CutSwitch>,
    call: &Call,
    input: u64,
    hold: Hold,
    held: Held,
    most: Money,
    cut: bool,
) -> Admitted {
    let short = held.granted < most;
    let output = if short && !cut { call.output_within(input, held.granted) } else { None };
    let clamped_to = output.map(|output| call.body.limit_within(output));
    let paid = call.output_paid(input, held.granted);
    let ceiling =
        if short && cut { Ceiling::Possible(paid.saturating_sub(in_flight(paid))) } else { Ceiling::Certain(paid) };
    Admitted { hold, clamped_to, ceiling, remaining: held.remaining, switch }
}

/// One or more attempts to take money for one call.
struct Taking<'a, 'b> {
    request: &'a Request<'b>,
    view: Arc<KeyView>,
    /// The model, where the call names one.
    model: Option<Arc<str>>,
    /// `provider/model` of the price table.
    id: Arc<str>,
}

impl Taking<'_, '_> {
    /// Reserves once; starts over when the key's record changed under it.
    async fn take(
        &mut self,
        around: &mut impl Around,
        least: Money,
        most: Money,
    ) -> Result<Result<(Hold, Held), LedgerRefusal>, Denied> {
        for _ in 0..ATTEMPTS_MAX {
            let ask = Arc::new(self.ask(around, least, most)?);
            let (app, provider) = (self.request.app.clone(), self.request.provider.clone());
            let mut hold = Hold::before_reserve(app, ask.hold_ref(), provider, self.id.clone());
            failpoint!("reserve_unsent");
            match self.reserve(around, &ask).await? {
                Ok(Verdict::Held(held)) => {
                    hold.taken(held.granted);
                    return Ok(Ok((hold, held)));
                }
                Ok(Verdict::Refused(refused)) => {
                    hold.nothing_taken();
                    return Ok(Err(refused));
                }
                Ok(Verdict::Stale) => {
                    hold.nothing_taken();
                    self.view = fresh_view(self.request.app, &self.request.key).await?;
                    self.check_policy()?;
                }
                // The id is burnt: a release of an earlier attempt came first. Nothing was taken.
                Ok(Verdict::Spent) => hold.nothing_taken(),
                // The outcome is unknown: dropping the hold releases it.
                Err(error) => return Err(ledger_down(&error).into()),
            }
        }
        log::error!("key {} changed under each of {ATTEMPTS_MAX} attempts to reserve", self.view.key.id);
        Err(Refusal::ledger_unavailable().into())
    }

    /// Sends the reserve. A client that leaves meanwhile ends the call, but only after the answer is known.
    async fn reserve(
        &self,
        around: &mut impl Around,
        ask: &Arc<Reserve>,
    ) -> Result<Result<Verdict, LedgerError>, Denied> {
        let started = Instant::now();
        let reserve = self.request.app.reserver.reserve(&self.request.app.ledger, ask.clone());
        tokio::pin!(reserve);
        let verdict = tokio::select! {
            biased;
            verdict = &mut reserve => verdict,
            gone = around.left() => {
                let _ = reserve.await;
                return Err(Denied::Gone(gone));
            }
        };
        metrics::ledger("reserve", started.elapsed());
        if verdict.is_ok() {
            metrics::ledger_up(true);
        }
        Ok(verdict)
    }

    fn ask(&self, around: &mut impl Around, least: Money, most: Money) -> Result<Reserve, Refusal> {
        Ok(Reserve {
            hold: around.hold_id().map_err(|e| ledger_down(&e))?,
            view: self.view.clone(),
            session: self.session(),
            least,
            most,
            // Twice the longest call: a hold that expires belongs to a gateway that died.
            ttl_ms: self.request.settings.limits.call_seconds.saturating_mul(2000),
            note: self.id.to_string(),
        })
    }

    fn check_policy(&self) -> Result<(), Refusal> {
        let policy = &self.view.key.policy;
        intake::admits(policy, &self.request.provider, self.request.client)?;
        self.model.as_deref().map_or(Ok(()), |model| intake::admits_model(policy, &self.request.provider, model))
    }

    fn refusal(&self, refused: LedgerRefusal, requested: Money) -> Refusal {
        let session = self.session();
        let named = session.as_ref().map(|session| &session.id);
        self.request.app.notes.refused(&self.view.chain, named, &refused);
        Refusal::from_ledger(refused, requested, session.as_ref().map(|session| &*session.id))
    }

    /// Made anew for each attempt: the key's session policy may have changed.
    fn session(&self) -> Option<SessionAsk> {
        self.request.session?.ask(&self.view.key.policy)
    }
}

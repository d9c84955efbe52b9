//! Engines that are wrong on purpose: the model must catch each of them, or it judges nothing.

use std::collections::BTreeSet;

use anyhow::Result;
use loopers::clock::Window;
use loopers::ledger::{
    Charge, Edit, HoldId, HoldRef, HoldState, Ledger, LedgerError, Level, NodeId, NodeStatus, Refusal, Reserve,
    Settled, Sweep, Verdict,
};
use loopers::money::Money;
use tokio::task::JoinSet;

use crate::engines::Engine;
use crate::random;
use crate::rng::seed;

/// What an engine gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A settlement is charged a second time.
    SettlesTwice,
    /// Nothing is counted in weeks.
    ForgetsAWindow,
    /// Charges lose their last digit.
    Rounds,
    /// The answer to a settlement is right, the charge is a nano-dollar short.
    LosesANano,
    /// A team's limit is checked, and then the hold is taken all the same.
    OverlooksTeams,
    /// A refused call leaves a hold behind.
    KeepsWhatItRefused,
    /// An old view is as good as a new one.
    AcceptsOldViews,
    /// An expired hold is given back.
    RefundsExpiredHolds,
    /// A settlement of an unknown hold leaves no tombstone.
    ForgetsTombstones,
    /// Each call starts its session anew.
    ForgetsSessions,
    /// A session's budget is not tightened.
    LoosensSessions,
    /// A release is answered, but not done.
    LeaksReleasedHolds,
    /// The grant is what was asked for, not what fits.
    SaysMoreThanItHolds,
    /// A team is stopped on paper.
    IgnoresStopOfTeams,
    /// A limit of nothing is taken for no limit.
    TakesZeroForNone,
}

/// A ledger with a fault in front of it.
pub struct Subject {
    pub ledger: Ledger,
    fault: Fault,
    known: BTreeSet<HoldId>,
}

impl Subject {
    pub fn new(ledger: Ledger, fault: Fault) -> Subject {
        Subject { ledger, fault, known: BTreeSet::new() }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    pub async fn reserve(&mut self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        self.known.insert(ask.hold.clone());
        let mut ask = ask.clone();
        if self.is(Fault::ForgetsSessions) {
            ask.session.iter_mut().for_each(|session| session.id = ask.hold.0.clone());
        }
        if self.is(Fault::LoosensSessions) {
            ask.session.iter_mut().for_each(|session| session.budget = None);
        }
        let verdict = self.ledger.reserve(&ask).await?;
        match (self.fault, verdict) {
            (Fault::AcceptsOldViews, Verdict::Stale) => match self.ledger.key_by_hash(&ask.view.hash).await? {
                Some(view) => self.ledger.reserve(&Reserve { view: view.into(), ..ask }).await,
                None => Ok(Verdict::Stale),
            },
            (Fault::KeepsWhatItRefused, Verdict::Refused(refusal)) => {
                let least = Money::ZERO;
                self.ledger.reserve(&Reserve { least, ..ask }).await?;
                Ok(Verdict::Refused(refusal))
            }
            (Fault::OverlooksTeams, Verdict::Refused(Refusal::Budget(no))) if no.level == Level::Team => {
                self.ledger.edit(&no.id, &Edit::Limits(vec![(no.window, None)])).await?;
                let verdict = self.ledger.reserve(&ask).await?;
                self.ledger.edit(&no.id, &Edit::Limits(vec![(no.window, Some(no.limit))])).await?;
                Ok(verdict)
            }
            (Fault::SaysMoreThanItHolds, Verdict::Held(mut held)) => {
                held.granted = ask.most;
                Ok(Verdict::Held(held))
            }
            (_, verdict) => Ok(verdict),
        }
    }

    pub async fn settle(&mut self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        let cost = match charge {
            Charge::Exact(cost) => cost,
            Charge::Full => Money::ZERO,
        };
        match self.fault {
            Fault::ForgetsTombstones if !self.known.contains(&at.hold) => return Ok(Settled::Unknown),
            Fault::LeaksReleasedHolds if charge == Charge::Exact(Money::ZERO) => {
                let held = self.ledger.holds(100_000).await?.into_iter().find(|hold| hold.at == *at);
                if let Some(open) = held.filter(|hold| hold.state == HoldState::Open) {
                    return Ok(Settled::Applied { charged: Money::ZERO, held: open.amount });
                }
            }
            Fault::Rounds | Fault::LosesANano if cost.nano() > 10 => {
                let short = if self.is(Fault::Rounds) { cost.nano() / 10 * 10 } else { cost.nano() - 1 };
                return Ok(match self.ledger.settle(at, Charge::Exact(Money::from_nano(short))).await? {
                    Settled::Applied { held, .. } => Settled::Applied { charged: cost, held },
                    Settled::Corrected { before, .. } => Settled::Corrected { charged: cost, before },
                    other => other,
                });
            }
            _ => {}
        }
        let settled = self.ledger.settle(at, charge).await?;
        if let (Fault::SettlesTwice, Settled::Applied { charged, held }) = (self.fault, settled) {
            // The same charge once more, under an id of its own.
            if let Some(view) = self.view_of(at).await? {
                let hold = HoldId::random()?;
                let ask = Reserve {
                    hold,
                    view,
                    session: None,
                    least: Money::ZERO,
                    most: held,
                    ttl_ms: 1_000,
                    note: String::new(),
                };
                self.ledger.reserve(&ask).await?;
                self.ledger.settle(&ask.hold_ref(), Charge::Exact(charged)).await?;
            }
        }
        Ok(settled)
    }

    async fn view_of(&self, at: &HoldRef) -> Result<Option<std::sync::Arc<loopers::ledger::KeyView>>, LedgerError> {
        let Some(key) = at.chain.first() else { return Ok(None) };
        let Some(loopers::ledger::Node::Key(key)) = self.ledger.node(key).await? else { return Ok(None) };
        let Some(hash) = loopers::secret::KeyHash::from_hex(&key.hash) else { return Ok(None) };
        Ok(self.ledger.key_by_hash(&hash).await?.map(Into::into))
    }

    pub async fn sweep(&mut self, most: usize) -> Result<Sweep, LedgerError> {
        let sweep = self.ledger.sweep(most).await?;
        if self.is(Fault::RefundsExpiredHolds) {
            for hold in self.ledger.holds(100_000).await?.iter().filter(|hold| hold.state == HoldState::Expired) {
                self.ledger.settle(&hold.at, Charge::Exact(Money::ZERO)).await?;
            }
        }
        Ok(sweep)
    }

    pub async fn edit(&mut self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        match edit {
            Edit::State(_) if self.is(Fault::IgnoresStopOfTeams) && id.is_team() => Ok(()),
            Edit::Limits(limits) if self.is(Fault::TakesZeroForNone) => {
                let limits = limits.iter().map(|(window, limit)| (*window, limit.filter(|limit| !limit.is_zero())));
                self.ledger.edit(id, &Edit::Limits(limits.collect())).await
            }
            _ => self.ledger.edit(id, edit).await,
        }
    }

    /// The books of these nodes, asked for all at once: one trip to Redis instead of many.
    pub async fn statuses(&self, ids: impl IntoIterator<Item = &NodeId>) -> Result<Vec<NodeStatus>, LedgerError> {
        let mut asked = JoinSet::new();
        for id in ids {
            let (ledger, id) = (self.ledger.clone(), id.clone());
            asked.spawn(async move { ledger.status(&id).await });
        }
        let mut statuses = asked.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
        if self.is(Fault::ForgetsAWindow) {
            statuses.iter_mut().for_each(|status| status.windows[Window::Weekly.index()].spent = Money::ZERO);
        }
        Ok(statuses)
    }
}

macro_rules! caught {
    ($($name:ident: $fault:ident),+ $(,)?) => { $(
        #[test]
        fn $name() -> Result<()> {
            is_caught(Fault::$fault)
        }
    )+ };
}

caught! {
    settles_twice: SettlesTwice,
    forgets_a_window: ForgetsAWindow,
    rounds: Rounds,
    loses_a_nano: LosesANano,
    overlooks_teams: OverlooksTeams,
    keeps_what_it_refused: KeepsWhatItRefused,
    accepts_old_views: AcceptsOldViews,
    refunds_expired_holds: RefundsExpiredHolds,
    forgets_tombstones: ForgetsTombstones,
    forgets_sessions: ForgetsSessions,
    loosens_sessions: LoosensSessions,
    leaks_released_holds: LeaksReleasedHolds,
    says_more_than_it_holds: SaysMoreThanItHolds,
    ignores_stop_of_teams: IgnoresStopOfTeams,
    takes_zero_for_none: TakesZeroForNone,
}

fn is_caught(fault: Fault) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seed = seed();
    match runtime.block_on(random::play(Engine::Memory, fault, seed, 20_000))? {
        Ok(_) => panic!("LEDGER_SEED={seed}: the model did not see that an engine {fault:?}"),
        Err(caught) => {
            println!("{fault:?} was caught in episode {}, step {}: {}", caught.episode, caught.step, caught.why.what);
            Ok(())
        }
    }
}

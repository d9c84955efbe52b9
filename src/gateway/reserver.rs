//! Reserves of calls that are admitted in the same moment go to the ledger together, each judged on its own.
//!
//! The first call of a moment leads: it lets the calls that are ready to run on its worker come this far, then sends all of them.
//! There is no timer: a call that is alone goes at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::ledger::{Ledger, LedgerError, Reserve, Verdict};

/// Reserves that go together; one that finds so many goes alone.
const TOGETHER_MAX: usize = 128;

type Answer = Result<Verdict, LedgerError>;

/// A call that waits for the one that leads; that one waits for itself.
struct Waiting {
    ask: Arc<Reserve>,
    tell: Option<oneshot::Sender<Answer>>,
}

/// Where reserves meet.
#[derive(Default)]
pub struct Reserver {
    /// The next to go. The first one leads.
    waiting: Mutex<Vec<Waiting>>,
}

impl Reserver {
    /// As [`Ledger::reserve`]. When the task of the call that leads ends before there is an answer, those that went with it are told that the
    /// ledger is unavailable: their holds may have been taken.
    pub async fn reserve(&self, ledger: &Ledger, ask: Arc<Reserve>) -> Answer {
        match self.enter(&ask) {
            Place::Alone => ledger.reserve(&ask).await,
            Place::Behind(answer) => answer.await.unwrap_or_else(|_| {
                Err(LedgerError::Unavailable("the call that asked for several others was given up".into()))
            }),
            Place::Leads => self.lead(ledger, &ask).await,
        }
    }

    fn enter(&self, ask: &Arc<Reserve>) -> Place {
        let mut waiting = self.waiting();
        if waiting.len() >= TOGETHER_MAX {
            return Place::Alone;
        }
        let (tell, place) = if waiting.is_empty() {
            (None, Place::Leads)
        } else {
            let (tell, answer) = oneshot::channel();
            (Some(tell), Place::Behind(answer))
        };
        waiting.push(Waiting { ask: ask.clone(), tell });
        place
    }

    async fn lead(&self, ledger: &Ledger, ask: &Arc<Reserve>) -> Answer {
        let leading = Leading { reserver: self, went: false };
        tokio::task::yield_now().await;
        let all = leading.go();
        if all.len() <= 1 {
            return ledger.reserve(ask).await;
        }
        let asks: Vec<Arc<Reserve>> = all.iter().map(|waiting| waiting.ask.clone()).collect();
        let mut own = Err(LedgerError::Unavailable("no answer to the call that asked for several others".into()));
        for (waiting, answer) in all.into_iter().zip(ledger.reserve_all(&asks).await) {
            match waiting.tell {
                None => own = answer,
                // Who is gone owns a hold that it releases.
                Some(tell) => drop(tell.send(answer)),
            }
        }
        own
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a call stands.
enum Place {
    /// It sends those that wait.
    Leads,
    /// It is sent by the one that leads.
    Behind(oneshot::Receiver<Answer>),
    /// There are enough.
    Alone,
}

/// The lead. If its task is dropped before it went, those that wait are told, and the next call leads.
struct Leading<'a> {
    reserver: &'a Reserver,
    went: bool,
}

impl Leading<'_> {
    fn go(mut self) -> Vec<Waiting> {
        self.went = true;
        std::mem::take(&mut *self.reserver.waiting())
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if !self.went {
            let all = std::mem::take(&mut *self.reserver.waiting());
            drop(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Calendar, Clock};
    use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
    use crate::ledger::{HoldId, KeyRecord, KeyView, Limits, Policy, State};
    use crate::money::Money;
    use crate::secret::{KeyHash, new_key};

    async fn ledger() -> (Ledger, Arc<KeyView>) {
        let options = EmbeddedOptions {
            path: None,
            calendar: Calendar::utc(),
            clock: Clock::System,
            role: Role::Gateway,
            queue: 4_096,
        };
        let ledger = Ledger::Embedded(EmbeddedLedger::open(options).unwrap());
        let hash = KeyHash::of(new_key().unwrap().expose()).unwrap();
        let mut limits = Limits::default();
        limits.0[4] = Some(Money::from_nano(10));
        let key = KeyRecord {
            id: "k_1".into(),
            name: "one".into(),
            hash: hash.hex(),
            team: None,
            created_at: 1,
            expires_at: None,
            state: State::Active,
            limits,
            policy: Policy::default(),
        };
        ledger.create_key(&key).await.unwrap();
        let view = ledger.key_by_hash(&hash).await.unwrap().unwrap();
        (ledger, Arc::new(view))
    }

    fn ask(view: &Arc<KeyView>) -> Arc<Reserve> {
        let one = Money::from_nano(1);
        Arc::new(Reserve {
            hold: HoldId::random().unwrap(),
            view: view.clone(),
            session: None,
            least: one,
            most: one,
            ttl_ms: 1000,
            note: String::new(),
        })
    }

    #[tokio::test]
    async fn calls_of_one_moment_are_each_judged_alone() {
        let (ledger, view) = ledger().await;
        let reserver = Arc::new(Reserver::default());
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 * TOGETHER_MAX {
            let (reserver, ledger, ask) = (reserver.clone(), ledger.clone(), ask(&view));
            calls.spawn(async move { reserver.reserve(&ledger, ask).await.unwrap() });
        }
        let verdicts = calls.join_all().await;
        let held = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Held(_))).count();
        assert_eq!((held, verdicts.len()), (10, 3 * TOGETHER_MAX));
        assert!(reserver.waiting().is_empty());
    }

    #[tokio::test]
    async fn calls_behind_a_lead_that_is_dropped_are_told_and_the_next_one_leads() {
        let (ledger, view) = ledger().await;
        let reserver = Reserver::default();
        let mut lead = Box::pin(reserver.reserve(&ledger, ask(&view)));
        let mut behind = Box::pin(reserver.reserve(&ledger, ask(&view)));
        std::future::poll_fn(|cx| {
            assert!(lead.as_mut().poll(cx).is_pending());
            assert!(behind.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(lead);
        assert!(matches!(behind.await, Err(LedgerError::Unavailable(_))));
        assert!(matches!(reserver.reserve(&ledger, ask(&view)).await, Ok(Verdict::Held(_))));
    }
}

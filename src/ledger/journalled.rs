//! A ledger whose every change is told to a recorder: the audit journal.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::sleep;

use super::{
    Charge, Edit, Held, HoldBooks, HoldRef, KeyRecord, KeyView, Ledger, LedgerError, Node, NodeId, Reserve, Settled,
    State, TeamRecord, Verdict,
};
use crate::secret::KeyHash;

/// How often an operator's settlement without an answer is sent again, and after which time.
const ASK_AGAIN: usize = 5;
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A hold, how it was to end, and what the ledger said.
pub type Ended<'a> = (&'a HoldRef, Charge, &'a Result<Settled, LedgerError>);

/// Writes down what happened.
#[async_trait]
pub trait Recorder: fmt::Debug + Send + Sync {
    /// Holds were taken. Their calls go out only when this has returned `Ok`: the lines were handed to the system.
    async fn held(&self, holds: &[(&Reserve, &Held)]) -> Result<(), LedgerError>;
    /// Calls have ended, and their holds are about to be settled. False when that could not be written down; they are settled all the same.
    async fn settling(&self, ends: &[(&HoldRef, Charge)]) -> bool;
    /// What became of that; `told` is what [`Recorder::settling`] answered, false where nobody asked it.
    async fn settled(&self, ends: &[Ended<'_>], told: bool);
    /// These holds are due. Some have no line: whoever took them died before it was written. They are charged in full only when this has
    /// returned `Ok`.
    async fn due(&self, holds: &[HoldBooks]) -> Result<(), LedgerError>;
    /// A key or team is like this under a revision.
    async fn record(&self, node: &Node, revision: u64);
    /// A session of a key was given a state.
    async fn session(&self, key: &NodeId, session: &str, state: State);
}

/// See [`Ledger::Journalled`].
#[derive(Clone, Debug)]
pub struct Journalled {
    /// The ledger that decides.
    pub books: Arc<Ledger>,
    /// Who is told.
    pub recorder: Arc<dyn Recorder>,
    /// The longest that a hold may take until its line is written: a rebuild waits for so long before it reads the lines.
    pub patience: Duration,
}

impl Journalled {
    pub(super) async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        let began = Instant::now();
        let verdict = Box::pin(self.books.reserve(ask)).await?;
        if let Verdict::Held(held) = &verdict {
            failpoint!("hold_taken");
            // An error here leaves a hold that the caller must release, as after any error.
            self.recorder.held(&[(ask, held)]).await?;
            self.in_time(began)?;
            failpoint!("hold_written");
        }
        Ok(verdict)
    }

    pub(super) async fn reserve_all(&self, asks: &[Arc<Reserve>]) -> Vec<Result<Verdict, LedgerError>> {
        let began = Instant::now();
        let mut done = Box::pin(self.books.reserve_all(asks)).await;
        let held: Vec<(&Reserve, &Held)> = asks
            .iter()
            .zip(&done)
            .filter_map(|(ask, verdict)| match verdict {
                Ok(Verdict::Held(held)) => Some((&**ask, held)),
                _ => None,
            })
            .collect();
        if held.is_empty() {
            return done;
        }
        failpoint!("hold_taken");
        let told = self.recorder.held(&held).await.and_then(|()| self.in_time(began));
        if let Err(error) = told {
            // As after one reserve: holds that their callers must release.
            for verdict in done.iter_mut().filter(|verdict| matches!(verdict, Ok(Verdict::Held(_)))) {
                *verdict = Err(error.clone());
            }
        }
        failpoint!("hold_written");
        done
    }

    /// An error where a hold may be one that a rebuild has not seen: this process, or its machine, stood still meanwhile.
    fn in_time(&self, began: Instant) -> Result<(), LedgerError> {
        let took = began.elapsed();
        if took <= self.patience {
            return Ok(());
        }
        Err(LedgerError::Unavailable(format!("a hold took {} ms until it was written down", took.as_millis())))
    }

    /// An operator's word, which a refusal of the ledger makes void: so nothing is written before.
    pub(super) async fn settle(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        let mut done = Box::pin(self.books.settle(at, charge)).await;
        // It may have been made, and its answer lost: what was made needs a line.
        for _ in 0..ASK_AGAIN {
            if !matches!(done, Err(LedgerError::Unavailable(_))) {
                break;
            }
            sleep(ASK_AGAIN_AFTER).await;
            done = Box::pin(self.books.settle(at, charge)).await;
        }
        self.recorder.settled(&[(at, charge, &done)], false).await;
        done
    }

    pub(super) async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        let sent: Vec<(&HoldRef, Charge)> = ends.iter().map(|(at, charge)| (&**at, *charge)).collect();
        let told = self.recorder.settling(&sent).await;
        failpoint!("settlement_written");
        let done = if fails_at!("settlement_refused") {
            ends.iter().map(|_| Err(LedgerError::Unavailable("a failpoint".into()))).collect()
        } else {
            Box::pin(self.books.settle_all(ends)).await
        };
        failpoint!("settlement_made");
        let ended: Vec<Ended<'_>> = sent.iter().zip(&done).map(|((at, charge), done)| (*at, *charge, done)).collect();
        self.recorder.settled(&ended, told).await;
        done
    }

    pub(super) async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        let found = Box::pin(self.books.key_by_hash(hash)).await?;
        if let Some(view) = &found {
            self.recorder.record(&Node::Key(view.key.clone()), view.revision).await;
        }
        Ok(found)
    }

    pub(super) async fn create_key(&self, record: &KeyRecord) -> Result<(), LedgerError> {
        Box::pin(self.books.create_key(record)).await?;
        self.tell(&record.id).await
    }

    pub(super) async fn create_team(&self, record: &TeamRecord) -> Result<(), LedgerError> {
        Box::pin(self.books.create_team(record)).await?;
        self.tell(&record.id).await
    }

    pub(super) async fn edit(&self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        Box::pin(self.books.edit(id, edit)).await?;
        self.tell(id).await
    }

    pub(super) async fn set_session_state(&self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        Box::pin(self.books.set_session_state(key, session, state)).await?;
        self.recorder.session(key, session, state).await;
        Ok(())
    }

    /// Writes down every key and team.
    pub(super) async fn tell_all(&self) -> Result<(), LedgerError> {
        for node in Box::pin(self.books.nodes()).await? {
            self.tell(node.id()).await?;
        }
        Ok(())
    }

    async fn tell(&self, id: &NodeId) -> Result<(), LedgerError> {
        if let Some((node, revision)) = Box::pin(self.books.record(id)).await? {
            self.recorder.record(&node, revision).await;
        }
        Ok(())
    }
}

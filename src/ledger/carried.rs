//! A ledger behind a carrier, which decides what of an operation arrives, when, and how often: the network of a simulation.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Charge, Edit, HoldRef, KeyRecord, KeyView, Ledger, LedgerError, NodeId, Reserve, Settled, State, TeamRecord,
    Verdict,
};
use crate::secret::KeyHash;

/// Carries operations to the books, and their answers back.
#[async_trait]
pub trait Carrier: fmt::Debug + Send + Sync {
    /// The books at the far end.
    fn books(&self) -> &Ledger;
    /// Carries a reserve.
    async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError>;
    /// Carries settlements. One answer for each, in order.
    async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>>;
    /// Lets any other operation pass, or says why it may not.
    async fn pass(&self) -> Result<(), LedgerError>;
}

/// See [`Ledger::Carried`].
#[derive(Clone, Debug)]
pub struct Carried(pub Arc<dyn Carrier>);

impl Carried {
    pub(super) async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        self.0.reserve(ask).await
    }

    pub(super) async fn settle(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        let done = self.0.settle_all(&[(Arc::new(at.clone()), charge)]).await.pop();
        done.unwrap_or_else(|| Err(LedgerError::Unavailable("a settlement has no answer".into())))
    }

    pub(super) async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        self.0.settle_all(ends).await
    }

    pub(super) async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        self.0.pass().await?;
        Box::pin(self.0.books().key_by_hash(hash)).await
    }

    pub(super) async fn create_key(&self, record: &KeyRecord) -> Result<(), LedgerError> {
        self.0.pass().await?;
        Box::pin(self.0.books().create_key(record)).await
    }

    pub(super) async fn create_team(&self, record: &TeamRecord) -> Result<(), LedgerError> {
        self.0.pass().await?;
        Box::pin(self.0.books().create_team(record)).await
    }

    pub(super) async fn edit(&self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        self.0.pass().await?;
        Box::pin(self.0.books().edit(id, edit)).await
    }

    pub(super) async fn set_session_state(&self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        self.0.pass().await?;
        Box::pin(self.0.books().set_session_state(key, session, state)).await
    }
}

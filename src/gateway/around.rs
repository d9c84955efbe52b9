//! What an admission waits for beside the ledger: its client, the time, chance. Pingora's session in the gateway; `tests/sim` has its own.

use std::future::Future;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use crate::ledger::{HoldId, LedgerError};

/// The surroundings of one call while it is admitted.
pub trait Around: Send {
    /// Returns when the client has left, with the error that ends its call.
    fn left(&mut self) -> impl Future<Output = Box<Error>> + Send;

    /// Waits.
    fn pause(&mut self, time: Duration) -> impl Future<Output = ()> + Send;

    /// An id that no hold ever had.
    fn hold_id(&mut self) -> Result<HoldId, LedgerError>;
}

impl Around for Session {
    async fn left(&mut self) -> Box<Error> {
        let gone = self.read_body_or_idle(true).await;
        gone.err().unwrap_or_else(|| Error::new(ErrorType::ConnectionClosed)).into_down()
    }

    async fn pause(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn hold_id(&mut self) -> Result<HoldId, LedgerError> {
        HoldId::random()
    }
}

//! Replicas that must have a write before it counts: `WAIT` on the connection that wrote.

use ::redis::{Cmd, Pipeline, Value, cmd};
use tokio::time::Instant;

use super::RedisLedger;
use super::link::RedisFault;
use super::reply;
use super::script::Call;
use crate::ledger::LedgerError;

/// Kept of an operation's time for the way back of the answer: the server waits so much shorter.
const WAY_BACK: u32 = 5;

impl RedisLedger {
    /// Sends a call that writes, and waits until as many replicas have it as this ledger wants. Too few are an error, although
    /// the write may have happened: who asked must undo or repeat it.
    pub(super) async fn confirmed(
        &self,
        call: &Call<'_>,
        first: &[&[u8]],
        deadline: Instant,
    ) -> Result<Value, LedgerError> {
        if self.wait_replicas == 0 {
            return self.invoke(call, first, deadline).await;
        }
        if self.link.is_cluster() {
            let value = self.invoke(call, first, deadline).await?;
            let replicas = self.link.ask_master_of(call.slot_key()?, &self.wait(deadline), deadline).await?;
            return self.enough(&replicas).map(|()| value);
        }
        for whole in [false, true] {
            let mut commands = Pipeline::with_capacity(2);
            commands.add_command(call.command(first, whole));
            commands.add_command(self.wait(deadline));
            let replies = self.link.send_all(&commands, deadline).await?;
            let [value, replicas] = <[Value; 2]>::try_from(replies).map_err(|_| reply::unexpected("no two replies"))?;
            match value.extract_error().map_err(|error| RedisFault::from(&error)) {
                Err(RedisFault::NoScript) if !whole => {}
                Err(fault) => return Err(fault.into()),
                Ok(value) => return self.enough(&replicas).map(|()| value),
            }
        }
        Err(reply::unexpected("a script that is forgotten while it is sent"))
    }

    /// The command that waits for the replicas.
    pub(super) fn wait(&self, deadline: Instant) -> Cmd {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = (left - left / WAY_BACK).as_millis().max(1);
        let mut wait = cmd("WAIT");
        wait.arg(self.wait_replicas).arg(u64::try_from(patience).unwrap_or(1));
        wait
    }

    /// An error unless as many replicas answered as this ledger wants.
    pub(super) fn enough(&self, replicas: &Value) -> Result<(), LedgerError> {
        match replicas {
            Value::Int(count) if u64::try_from(*count).is_ok_and(|count| count >= self.wait_replicas) => Ok(()),
            Value::Int(count) => Err(LedgerError::Unavailable(format!(
                "{count} replicas have it in time, and limits.ledger_wait_replicas wants {}",
                self.wait_replicas
            ))),
            Value::ServerError(error) => Err(LedgerError::Unavailable(format!("WAIT was refused: {error:?}"))),
            _ => Err(reply::unexpected("WAIT without a number")),
        }
    }
}

//! Budgets, holds and settlements: the operations, and the words in which every engine answers.
//!
//! `docs/LEDGER.md` is the specification that the engines implement, each in its own way: [`redis`] in Lua, [`embedded`]
//! in Rust over SQLite or memory. One behaviour suite and one independent model judge both.

mod answers;
mod carried;
pub mod durable;
pub mod embedded;
mod journalled;
pub mod names;
mod records;
pub mod redis;
pub mod rules;
mod snapshot;

pub use answers::*;
pub use carried::{Carried, Carrier};
pub use journalled::{Ended, Journalled, Recorder};
pub use records::*;
pub use snapshot::*;

use std::sync::Arc;

use crate::clock::Millis;
use crate::money::Money;
use crate::secret::KeyHash;

/// Why the ledger did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It did not answer, or answered something that cannot be trusted. The operation may or may not have happened.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
    /// Its books are not those that this gateway has seen: they were lost, or are from before. An operator must decide.
    #[error("the ledger's books are lost: {0}")]
    Lost(String),
    /// There is no such key, team, session or hold.
    #[error("{0}")]
    NotFound(String),
    /// The change contradicts what is there.
    #[error("{0}")]
    Conflict(String),
}

/// A ledger: one of two engines. Everything that touches money is one atomic step of the engine.
#[derive(Clone, Debug)]
pub enum Ledger {
    /// Redis ≥ 7 or Valkey, standalone or Cluster.
    Redis(redis::RedisLedger),
    /// A file or memory in this process.
    Embedded(embedded::EmbeddedLedger),
    /// One of the two, whose every change is written down.
    Journalled(Journalled),
    /// One of them at the far end of something that may lose, delay or repeat what passes. No config makes one.
    Carried(Carried),
}

/// Passes one operation to the engine behind.
macro_rules! each {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Ledger::Redis($engine) => $call,
            Ledger::Embedded($engine) => $call,
            Ledger::Journalled($engine) => $call,
            Ledger::Carried($engine) => $call,
        }
    };
}

/// Passes one operation that changes nothing worth a line to the engine behind the journal, if there is one.
macro_rules! unwritten {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Ledger::Redis($engine) => $call,
            Ledger::Embedded($engine) => $call,
            Ledger::Journalled(Journalled { books: $engine, .. }) => Box::pin(async move { $call }).await,
            Ledger::Carried(carried) => {
                carried.0.pass().await?;
                let $engine = carried.0.books();
                Box::pin(async move { $call }).await
            }
        }
    };
}

impl Ledger {
    /// Authenticates the key and takes a hold from every window of every level, or takes nothing: one atomic step.
    pub async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        each!(self, engine => engine.reserve(ask).await)
    }

    /// Takes several holds, each as [`Ledger::reserve`] does, in one exchange where the engine can. One answer for each, in order.
    pub async fn reserve_all(&self, asks: &[Arc<Reserve>]) -> Vec<Result<Verdict, LedgerError>> {
        each!(self, engine => engine.reserve_all(asks).await)
    }

    /// Ends a hold. Idempotent: only the first settlement counts, except that a true cost corrects an expired hold once.
    pub async fn settle(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        each!(self, engine => engine.settle(at, charge).await)
    }

    /// Ends several holds, each as [`Ledger::settle`] does, in one exchange where the engine can. One answer for each, in order.
    pub async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        each!(self, engine => engine.settle_all(ends).await)
    }

    /// Sets a mark in the tree of `chain`, which stays for a day. True for whoever set it, false when it was there: of any number of
    /// gateways that ask, one is told so. A mark is the id of a hold that nobody takes, settled with nothing.
    pub async fn mark(&self, chain: &[NodeId], name: &str) -> Result<bool, LedgerError> {
        let at = HoldRef { hold: HoldId(format!("mark-{name}").into()), chain: chain.to_vec(), session: None };
        let zero = Charge::Exact(Money::ZERO);
        let settled: Result<Settled, LedgerError> = unwritten!(self, engine => engine.settle(&at, zero).await);
        Ok(settled? == Settled::Unknown)
    }

    /// Charges up to `most` expired holds in full.
    pub async fn sweep(&self, most: usize) -> Result<Sweep, LedgerError> {
        self.sweep_telling(most, None).await
    }

    /// The same; `told` hears of every such hold before, and its error ends the sweep.
    async fn sweep_telling(&self, most: usize, told: Option<&dyn Recorder>) -> Result<Sweep, LedgerError> {
        match self {
            Ledger::Redis(engine) => engine.sweep(most, told).await,
            Ledger::Embedded(engine) => engine.sweep(most, told).await,
            Ledger::Journalled(Journalled { books, recorder, .. }) => {
                Box::pin(books.sweep_telling(most, Some(&**recorder))).await
            }
            Ledger::Carried(carried) => {
                carried.0.pass().await?;
                Box::pin(carried.0.books().sweep_telling(most, told)).await
            }
        }
    }

    /// Whether running calls may go on, in the order asked.
    pub async fn standing(&self, holds: &[HoldRef]) -> Result<Vec<Standing>, LedgerError> {
        unwritten!(self, engine => engine.standing(holds).await)
    }

    /// Finds a key by its hash. `None` when there is none.
    pub async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<KeyView>, LedgerError> {
        each!(self, engine => engine.key_by_hash(hash).await)
    }

    /// Adds a key. Its name and hash must be new, its team must exist.
    pub async fn create_key(&self, record: &KeyRecord) -> Result<(), LedgerError> {
        each!(self, engine => engine.create_key(record).await)
    }

    /// Adds a team. Its name must be new, its parent must exist.
    pub async fn create_team(&self, record: &TeamRecord) -> Result<(), LedgerError> {
        each!(self, engine => engine.create_team(record).await)
    }

    /// All keys and teams, oldest first.
    pub async fn nodes(&self) -> Result<Vec<Node>, LedgerError> {
        unwritten!(self, engine => engine.nodes().await)
    }

    /// One key or team by id.
    pub async fn node(&self, id: &NodeId) -> Result<Option<Node>, LedgerError> {
        unwritten!(self, engine => engine.node(id).await)
    }

    /// Changes a record; running calls and the next reserve see it.
    pub async fn edit(&self, id: &NodeId, edit: &Edit) -> Result<(), LedgerError> {
        each!(self, engine => engine.edit(id, edit).await)
    }

    /// The books of a key or team.
    pub async fn status(&self, id: &NodeId) -> Result<NodeStatus, LedgerError> {
        unwritten!(self, engine => engine.status(id).await)
    }

    /// The books of a session of a key. `None` when it made no call yet.
    pub async fn session(&self, key: &NodeId, session: &str) -> Result<Option<SessionStatus>, LedgerError> {
        unwritten!(self, engine => engine.session(key, session).await)
    }

    /// Sets the state of a session of a key, also before its first call.
    pub async fn set_session_state(&self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        each!(self, engine => engine.set_session_state(key, session, state).await)
    }

    /// Open and expired holds, at most `most`.
    pub async fn holds(&self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        unwritten!(self, engine => engine.holds(most).await)
    }

    /// A real hold and release on a budget of its own: succeeds only when the ledger can take money right now.
    pub async fn probe(&self) -> Result<(), LedgerError> {
        unwritten!(self, engine => engine.probe().await)
    }

    /// One key or team by id, and how often its record was changed.
    pub async fn record(&self, id: &NodeId) -> Result<Option<(Node, u64)>, LedgerError> {
        unwritten!(self, engine => engine.record(id).await)
    }

    /// Looks whether the books are still those that this gateway has seen, and its servers may be used; blocks every call if not, and
    /// lets them go again when an operator has decided. `forget` is called before: what is remembered of keys counts no more.
    pub async fn inspect(&self, forget: &(dyn Fn() + Sync)) -> Result<(), LedgerError> {
        unwritten!(self, engine => engine.inspect(forget).await)
    }

    /// What the ledger says of its books as a whole.
    pub async fn books(&self) -> Result<BooksStatus, LedgerError> {
        unwritten!(self, engine => engine.books().await)
    }

    /// An operator takes the books as they are: gateways that had seen others go on with these.
    pub async fn accept(&self) -> Result<BooksStatus, LedgerError> {
        unwritten!(self, engine => engine.accept().await)
    }

    /// Stops every gateway on every tree, those of `roots` among them, until somebody restores or accepts the books. A Conflict where somebody
    /// else is about to rebuild them.
    pub async fn halt(&self, roots: &[NodeId]) -> Result<Halted, LedgerError> {
        unwritten!(self, engine => engine.halt(roots).await)
    }

    /// Writes whole books in the place of lost ones, and accepts them. Nobody is at work: see [`Ledger::halt`].
    pub async fn restore(&self, snapshot: &Snapshot, halted: &Halted) -> Result<(), LedgerError> {
        unwritten!(self, engine => engine.restore(snapshot, halted).await)
    }

    /// Gives up a rebuild: the books stay blocked, and anybody may decide.
    pub async fn give_up(&self, halted: &Halted) -> Result<(), LedgerError> {
        unwritten!(self, engine => engine.give_up(halted).await)
    }

    /// The time by which the ledger decides.
    pub async fn time(&self) -> Result<Millis, LedgerError> {
        unwritten!(self, engine => engine.time().await)
    }

    /// Writes down every key and team, where there is a journal.
    pub async fn tell_all(&self) -> Result<(), LedgerError> {
        match self {
            Ledger::Journalled(journalled) => journalled.tell_all().await,
            Ledger::Redis(_) | Ledger::Embedded(_) | Ledger::Carried(_) => Ok(()),
        }
    }

    /// The same ledger for work of many steps that blocks everybody when it is given up: a step may take longer than a call would wait.
    pub fn patient(&self) -> Ledger {
        match self {
            Ledger::Redis(redis) => Ledger::Redis(redis.patient()),
            other => other.clone(),
        }
    }

    /// The engine, without its journal.
    pub fn engine(&self) -> &Ledger {
        match self {
            Ledger::Journalled(journalled) => journalled.books.engine(),
            Ledger::Carried(carried) => carried.0.books().engine(),
            engine => engine,
        }
    }
}

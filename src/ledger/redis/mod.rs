//! The Redis engine: every verb of `docs/LEDGER.md` is one Lua script in `lua/`, one atomic step in one hash slot.
//!
//! * `link`: connections, their loss and their deadline.
//! * `check`: what a server must be before it is used; [`facts`]: what it says of itself.
//! * `script`: the verbs and how one is called.
//! * `time`: the estimate of the server's time that a frame is made for.
//! * `reply`, `shape`: strict reading of answers and of packed records.
//! * `calls`: reserve, standing; `settle`: settlements.
//! * `books`: status, sessions, holds, sweep, probe.
//! * `directory`: keys and teams.
//! * `guard`, `whole`: whether the books are still those that this gateway has seen.
//! * `confirm`: replicas that must have a hold before its call goes out.
//! * `restore`: books written anew.

mod books;
mod calls;
mod check;
mod confirm;
mod directory;
pub mod facts;
mod guard;
mod link;
mod reply;
mod restore;
mod script;
mod settle;
mod shape;
#[cfg(test)]
mod tests;
mod time;
mod whole;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use ::redis::{Cmd, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::guard::Memory;
use self::guard::{Claim, Guard};
use self::link::{Link, RedisFault, Target};
use self::script::Call;
use self::time::Frames;
use super::{LedgerError, NodeId};
use crate::clock::Calendar;

/// How often a call is repeated with the frame of the time that the server told.
const CLOCK_RETRIES: usize = 3;
/// How many commands of one listing or sweep are on their way at once.
const FAN_OUT: usize = 64;

/// How to reach Redis and how to count time.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://…`, `rediss://…`, `redis-cluster://host:port[,host:port…]` or `rediss-cluster://…`.
    pub url: String,
    /// The calendar that cuts time into windows.
    pub calendar: Calendar,
    /// The longest that one operation may take; after that its answer is `Unavailable`.
    pub timeout: Duration,
    /// Added to the server's clock: 0 in production; tests move it.
    pub time_offset_ms: Arc<AtomicI64>,
    /// Connections of each handle to a standalone server. A Cluster has one to each node.
    pub connections: usize,
    /// Replicas that must have a hold before its call may go out; 0 for none.
    pub wait_replicas: u64,
    /// What a gateway remembers of the books. Without it, nothing is compared: commands of an operator must work on lost books.
    pub memory: Option<Memory>,
}

impl RedisOptions {
    /// Options for a URL, with a UTC calendar, 250 ms for each operation and one connection.
    pub fn new(url: impl Into<String>) -> Self {
        RedisOptions {
            url: url.into(),
            calendar: Calendar::utc(),
            timeout: Duration::from_millis(250),
            time_offset_ms: Arc::default(),
            connections: 1,
            wait_replicas: 0,
            memory: None,
        }
    }
}

impl fmt::Debug for RedisOptions {
    /// Without the URL: it may have a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// A ledger in Redis ≥ 7 or Valkey, standalone or Cluster. Clones share their connections; see [`RedisLedger::handle`].
#[derive(Clone)]
pub struct RedisLedger {
    link: Arc<Link>,
    /// How long a call waits for the ledger: what gateways do, whatever this handle does.
    call_limit: Duration,
    frames: Arc<Frames>,
    /// Where the next sweep goes on in the set of trees.
    sweep_cursor: Arc<AtomicU64>,
    guard: Option<Arc<Guard>>,
    wait_replicas: u64,
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLedger").field("link", &self.link).finish_non_exhaustive()
    }
}

impl RedisLedger {
    /// Checks that the server can be entrusted with money, and returns a ledger on it.
    ///
    /// The connection of the check is closed again: the ledger connects when it is first used, on the runtime that uses it.
    pub async fn connect(options: RedisOptions) -> Result<RedisLedger, LedgerError> {
        let ledger = RedisLedger::disconnected(&options)?;
        ledger.check().await?;
        Ok(ledger)
    }

    /// Checks that the server can be entrusted with money, over a connection that is closed again.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let target = self.link.target();
        let checked = async { check::servers(&target, &mut target.connect().await?).await };
        // A check is several round trips, and a cold one may start with TLS.
        let limit = self.link.timeout().saturating_mul(10);
        tokio::time::timeout(limit, checked)
            .await
            .map_err(|_| LedgerError::Unavailable(format!("no answer within {} ms", limit.as_millis())))?
    }

    /// A ledger whose server nobody has asked anything yet. Each connection is checked before it is used.
    pub fn disconnected(options: &RedisOptions) -> Result<RedisLedger, LedgerError> {
        let target = Arc::new(Target::parse(&options.url, options.timeout)?);
        let guard = options.memory.as_ref().map(Guard::open).transpose()?;
        Ok(RedisLedger {
            link: Arc::new(Link::new(target, options.timeout, options.connections)),
            call_limit: options.timeout,
            frames: Arc::new(Frames::new(options.calendar.clone(), Arc::clone(&options.time_offset_ms))),
            sweep_cursor: Arc::default(),
            guard: guard.map(Arc::new),
            wait_replicas: options.wait_replicas,
        })
    }

    /// What this gateway knows of a tree; nothing without a memory.
    fn claim(&self, root: &NodeId) -> Result<Claim, LedgerError> {
        self.guard.as_ref().map_or_else(|| Ok(Claim::default()), |guard| guard.claim(root))
    }

    /// The generation of the books that this gateway works with; 0 for one that remembers nothing.
    fn generation(&self) -> u64 {
        self.guard.as_ref().map_or(0, |guard| guard.generation())
    }

    /// The same ledger with connections of its own, for another runtime. It connects when it is first used there.
    ///
    /// A connection lives on the runtime on which it was made, and dies with it: give each runtime its own handle.
    pub fn handle(&self) -> RedisLedger {
        RedisLedger { link: Arc::new(self.link.another()), ..self.clone() }
    }

    /// One command, within the time of one operation.
    async fn command(&self, cmd: &Cmd) -> Result<Value, LedgerError> {
        Ok(self.link.send(cmd, self.link.deadline()).await?)
    }

    /// One call of a verb that does not look at the time.
    async fn call(&self, call: &Call<'_>) -> Result<Value, LedgerError> {
        self.invoke(call, &[], self.link.deadline()).await
    }

    /// One call of a verb that looks at the time but not at windows: the offset comes before its arguments.
    async fn timed(&self, call: &Call<'_>) -> Result<Value, LedgerError> {
        let offset = self.frames.offset().to_string();
        self.invoke(call, &[offset.as_bytes()], self.link.deadline()).await
    }

    /// As [`RedisLedger::timed`], and waits for the replicas that this ledger wants.
    async fn timed_confirmed(&self, call: &Call<'_>) -> Result<Value, LedgerError> {
        let offset = self.frames.offset().to_string();
        self.confirmed(call, &[offset.as_bytes()], self.link.deadline()).await
    }

    /// One call of a verb that looks at windows: offset and frame come before its arguments. Where the frame does not
    /// reach the tree's time, the call is repeated with the frame of that time.
    async fn framed(&self, call: &Call<'_>) -> Result<Value, LedgerError> {
        self.framed_as(call, false).await
    }

    /// As [`RedisLedger::framed`]; `confirm` waits for the replicas that this ledger wants.
    async fn framed_as(&self, call: &Call<'_>, confirm: bool) -> Result<Value, LedgerError> {
        let deadline = self.link.deadline();
        let offset = self.frames.offset().to_string();
        let mut frame = self.frames.current()?;
        for _ in 0..=CLOCK_RETRIES {
            let first: [&[u8]; 2] = [offset.as_bytes(), &frame];
            let value = match confirm {
                true => self.confirmed(call, &first, deadline).await?,
                false => self.invoke(call, &first, deadline).await?,
            };
            let Some((now, clock)) = wrong_frame(&value)? else { return Ok(value) };
            frame = self.frames.corrected(now, clock)?;
        }
        Err(LedgerError::Unavailable("the server's clock jumps".into()))
    }

    /// Sends a call by its hash, and whole if the server does not know it.
    async fn invoke(&self, call: &Call<'_>, first: &[&[u8]], deadline: Instant) -> Result<Value, LedgerError> {
        match self.link.send(&call.command(first, false), deadline).await {
            Err(RedisFault::NoScript) => Ok(self.link.send(&call.command(first, true), deadline).await?),
            other => Ok(other?),
        }
    }

    /// Does one thing for each item, several at once, and returns the results in the order of the items; the first error ends it.
    async fn each<I, T, F>(&self, items: Vec<I>, work: impl Fn(RedisLedger, I) -> F) -> Result<Vec<T>, LedgerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LedgerError>> + Send + 'static,
    {
        let mut done = Ok(Vec::with_capacity(items.len()));
        for result in self.each_until(items, work, |result| result.is_err()).await {
            match (result, &mut done) {
                (Some(Ok(value)), Ok(values)) => values.push(value),
                (Some(Err(error)), _) => return Err(error),
                (None, _) => done = Err(gave_up()),
                (Some(Ok(_)), Err(_)) => {}
            }
        }
        done
    }

    /// As [`RedisLedger::each`], but an item that fails stops no other: there may be one that is reached when its neighbour is not.
    async fn each_apart<I, T, F>(
        &self,
        items: Vec<I>,
        work: impl Fn(RedisLedger, I) -> F,
    ) -> Vec<Result<T, LedgerError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LedgerError>> + Send + 'static,
    {
        let results = self.each_until(items, work, |_| false).await;
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(gave_up()))).collect()
    }

    /// The results so far in the order of the items, when all are there or one is that ends it.
    async fn each_until<I, T, F>(
        &self,
        items: Vec<I>,
        work: impl Fn(RedisLedger, I) -> F,
        ends: impl Fn(&Result<T, LedgerError>) -> bool,
    ) -> Vec<Option<Result<T, LedgerError>>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LedgerError>> + Send + 'static,
    {
        let mut results: Vec<Option<Result<T, LedgerError>>> = items.iter().map(|_| None).collect();
        let mut items = items.into_iter().enumerate();
        let mut running = JoinSet::new();
        loop {
            while running.len() < FAN_OUT {
                let Some((i, item)) = items.next() else { break };
                let task = work(self.clone(), item);
                running.spawn(async move { (i, task.await) });
            }
            let Some(done) = running.join_next().await else { return results };
            // A task that was dropped, or has panicked, has no result.
            let Ok((i, result)) = done else { continue };
            let is_last = ends(&result);
            results[i] = Some(result);
            if is_last {
                return results;
            }
        }
    }
}

/// The tree's time and the server's clock, when the frame that was sent does not reach there.
fn wrong_frame(value: &Value) -> Result<Option<(i64, i64)>, LedgerError> {
    let Value::BulkString(bytes) = value else { return Ok(None) };
    let Some(times) = bytes.strip_prefix(b"CLOCK ") else { return Ok(None) };
    let text = std::str::from_utf8(times).map_err(|_| reply::unexpected("not UTF-8"))?;
    let mut words = reply::Words::new(text);
    let times = (words.number()?, words.number()?);
    words.end(Some(times))
}

/// An item that has no result: its task was dropped.
fn gave_up() -> LedgerError {
    LedgerError::Unavailable("the runtime is shutting down".into())
}

//! The four engines under test, and the clock that each of them sees.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use loopers::clock::{Calendar, Clock, Millis};
use loopers::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use loopers::ledger::redis::{Memory, RedisLedger, RedisOptions};
use loopers::ledger::{Ledger, LedgerError};
use tempfile::TempDir;

use crate::redis_server::Lease;

/// An engine and the kind of store behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Memory,
    File,
    Redis,
    RedisCluster,
}

impl Engine {
    pub const fn name(self) -> &'static str {
        match self {
            Engine::Memory => "memory",
            Engine::File => "file",
            Engine::Redis => "redis",
            Engine::RedisCluster => "redis_cluster",
        }
    }

    /// True when its clock stands still between two steps, so that a test may stand on an edge to the millisecond.
    pub const fn is_exact(self) -> bool {
        matches!(self, Engine::Memory | Engine::File)
    }
}

/// What a ledger takes for the time.
#[derive(Clone)]
pub enum Time {
    /// A clock that stands where it was put.
    Manual(Clock),
    /// The host's clock plus so much: Redis has its own clock, which runs on.
    Offset(Arc<AtomicI64>),
}

impl Time {
    pub fn set(&self, at: Millis) {
        match self {
            Time::Manual(clock) => clock.set(at),
            Time::Offset(offset) => offset.store(at - Clock::System.now(), Ordering::SeqCst),
        }
    }
}

enum Home {
    Memory,
    File(TempDir),
    Redis(Lease),
}

/// An empty ledger with its store and its clock.
pub struct World {
    pub engine: Engine,
    // Dropped before the store that it speaks to.
    pub ledger: Ledger,
    pub time: Time,
    home: Home,
}

impl World {
    /// A new, empty world at `at`, whose windows follow `zone`.
    pub async fn open(engine: Engine, zone: &str, at: Millis) -> Result<World> {
        let time = match engine {
            Engine::Memory | Engine::File => Time::Manual(Clock::manual(at)),
            Engine::Redis | Engine::RedisCluster => Time::Offset(Arc::default()),
        };
        time.set(at);
        let home = match engine {
            Engine::Memory => Home::Memory,
            Engine::File => Home::File(fast_dir()?),
            Engine::Redis => Home::Redis(Lease::take(false)?),
            Engine::RedisCluster => Home::Redis(Lease::take(true)?),
        };
        let ledger = connect(&home, &time, zone).await?;
        Ok(World { engine, ledger, time, home })
    }

    /// The same store through another gateway of zone `zone` that sees the same clock: one more connection to Redis, a clone
    /// of an embedded ledger. An embedded ledger belongs to one gateway, so its zone stays what it was.
    pub async fn another_gateway(&self, zone: &str) -> Result<Ledger> {
        match &self.home {
            Home::Redis(_) => Ok(connect(&self.home, &self.time, zone).await?),
            _ => Ok(self.ledger.clone()),
        }
    }

    /// Another gateway whose clock differs by `skew` from the first one's.
    pub async fn skewed_gateway(&self, zone: &str, skew: Millis) -> Result<Ledger> {
        match (&self.home, &self.time) {
            (Home::Redis(_), Time::Offset(offset)) => {
                let time = Time::Offset(Arc::new(AtomicI64::new(offset.load(Ordering::SeqCst) + skew)));
                Ok(connect(&self.home, &time, zone).await?)
            }
            _ => bail!("an embedded ledger has one clock"),
        }
    }

    /// Closes the ledger and opens it again in another zone. A ledger in memory cannot.
    pub async fn reopen(self, zone: &str) -> Result<World> {
        let World { engine, ledger, time, home } = self;
        drop(ledger);
        // A closed file may stay locked until the engine's own thread has ended.
        let mut tries = 0;
        let ledger = loop {
            match connect(&home, &time, zone).await {
                Ok(ledger) => break ledger,
                Err(e) if tries >= 100 => return Err(e.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            tries += 1;
        };
        Ok(World { engine, ledger, time, home })
    }

    /// Opens the same file a second time while it is in use. `None` where there is no file.
    pub async fn open_again(&self) -> Option<Result<Ledger, LedgerError>> {
        match &self.home {
            Home::File(_) => Some(connect(&self.home, &self.time, "UTC").await),
            _ => None,
        }
    }
}

async fn connect(home: &Home, time: &Time, zone: &str) -> Result<Ledger, LedgerError> {
    let calendar = Calendar::in_zone(zone).map_err(|e| LedgerError::Unavailable(e.to_string()))?;
    match (home, time) {
        (Home::Redis(lease), Time::Offset(offset)) => {
            let options = RedisOptions {
                url: lease.url(),
                calendar,
                timeout: Duration::from_secs(30),
                time_offset_ms: Arc::clone(offset),
                connections: 2,
                wait_replicas: 0,
                memory: Some(memory()?),
            };
            let ledger = RedisLedger::connect(options).await?;
            ledger.inspect(&|| ()).await?;
            Ok(Ledger::Redis(ledger))
        }
        (Home::File(dir), Time::Manual(clock)) => embedded(Some(dir.path().join("ledger.db")), calendar, clock),
        (Home::Memory, Time::Manual(clock)) => embedded(None, calendar, clock),
        _ => Err(LedgerError::Unavailable("a store with another one's clock".into())),
    }
}

/// Each handle is a gateway of its own, which compares the books with what it has seen: here they are always the same.
fn memory() -> Result<Memory, LedgerError> {
    let writer = loopers::secret::random_hex::<8>().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mark-{writer}.json"));
    Ok(Memory { writer, file })
}

fn embedded(path: Option<PathBuf>, calendar: Calendar, clock: &Clock) -> Result<Ledger, LedgerError> {
    let options = EmbeddedOptions { path, calendar, clock: clock.clone(), role: Role::Gateway, queue: 4_096 };
    Ok(Ledger::Embedded(EmbeddedLedger::open(options)?))
}

/// A directory in memory where the host has one: these tests judge answers, not a disk.
fn fast_dir() -> std::io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

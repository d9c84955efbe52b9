//! What a Redis server says of itself, for a person who looks for what is wrong with it. `check` decides on its own.

use std::time::{Duration, Instant};

use ::redis::{ErrorKind, RedisError, Value, cmd};

use super::check::field;
use super::link::{Connection, Target};
use super::{RedisOptions, reply};
use crate::clock::{Clock, Millis};
use crate::ledger::LedgerError;

/// How often the clock is read; the reading with the shortest way counts.
const CLOCK_READINGS: usize = 3;

/// What every server of a ledger says, one entry for each master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The masters.
    pub servers: Vec<Server>,
    /// Their clock less this machine's, in milliseconds: of all masters the one that is off the most.
    pub clock_skew_ms: Millis,
    /// One exchange with the slowest master.
    pub round_trip: Duration,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Its version, as `7.2.4`.
    pub version: String,
    /// 64, or what must not be.
    pub bits: String,
    /// Whether it belongs to a Cluster.
    pub cluster: bool,
    /// True for a replica, which takes no writes.
    pub replica: bool,
    /// What it does when its memory is full.
    pub eviction: String,
    /// The most memory that it may use; 0 means no limit.
    pub max_memory: u64,
    /// What it uses now.
    pub used_memory: u64,
    /// Whether every write goes to a log on its disk.
    pub append_only: bool,
    /// When that log is written: `always`, `everysec`, `no`; `None` where CONFIG is forbidden.
    pub append_fsync: Option<String>,
    /// Whether it writes snapshots; `None` where CONFIG is forbidden.
    pub snapshots: Option<bool>,
    /// Whether its last write to the disk failed.
    pub write_failed: bool,
    /// Replicas that are connected.
    pub replicas: u64,
    /// The replicas that are connected and behind by more than a few seconds.
    pub late_replicas: u64,
}

/// Why nothing could be learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The URL is none.
    Url(String),
    /// It wants another password or user, or this user may do too little.
    Password(String),
    /// The URL says Cluster and the server is none, or the other way round.
    Mode(String),
    /// TLS with it failed.
    Tls(String),
    /// It is not there, or does not answer in time.
    Unreachable(String),
}

/// Asks every server of a ledger's URL. Needs nothing but a password that is right.
pub async fn inspect(options: &RedisOptions) -> Result<Facts, Trouble> {
    let target = Target::parse(&options.url, options.timeout).map_err(|e| Trouble::Url(e.to_string()))?;
    let limit = options.timeout.saturating_mul(10);
    let asked = async {
        let mut connection = target.open().await.map_err(|e| trouble(&target, &e))?;
        ask(&mut connection).await.map_err(|e| trouble(&target, &e))
    };
    tokio::time::timeout(limit, asked)
        .await
        .unwrap_or_else(|_| Err(Trouble::Unreachable(format!("no answer within {} ms", limit.as_millis()))))
}

async fn ask(connection: &mut Connection) -> Result<Facts, RedisError> {
    let mut facts = Facts::default();
    for info in connection.send_to_masters(&cmd("INFO")).await? {
        facts.servers.push(server(&reply::text(info).unwrap_or_default()));
    }
    let policies = setting(connection, "maxmemory-policy").await;
    let fsync = setting(connection, "appendfsync").await;
    let saves = setting(connection, "save").await;
    // One reply for each master, but in no order that could be relied on: what is said of one is said of all.
    for server in &mut facts.servers {
        if let Some(worst) = policies.as_ref().and_then(|all| all.iter().find(|one| *one != "noeviction")) {
            server.eviction.clone_from(worst);
        }
        server.append_fsync =
            fsync.as_ref().and_then(|all| all.iter().find(|one| *one == "no").or(all.first())).cloned();
        server.snapshots = saves.as_ref().map(|all| all.iter().all(|save| !save.is_empty()));
    }
    facts.round_trip = Duration::MAX;
    for _ in 0..CLOCK_READINGS {
        let (sent, before) = (Instant::now(), Clock::System.now());
        let replies = connection.send_to_masters(&cmd("TIME")).await?;
        let took = sent.elapsed();
        if took >= facts.round_trip {
            continue;
        }
        let way = Millis::try_from(took.as_millis() / 2).unwrap_or_default();
        let skews = replies.into_iter().filter_map(clock).map(|time| time - (before + way));
        facts.clock_skew_ms = skews.max_by_key(|skew| skew.abs()).unwrap_or_default();
        facts.round_trip = took;
    }
    Ok(facts)
}

fn server(info: &str) -> Server {
    let text = |name: &str| field(info, name).unwrap_or_default().trim().to_string();
    let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
    let failed = |name: &str| field(info, name).is_some_and(|status| status.trim() != "ok");
    let late = info.lines().filter(|line| line.starts_with("slave") && line.contains("state=")).filter(|line| {
        let lag = line.split(',').find_map(|part| part.trim().strip_prefix("lag=")?.parse::<i64>().ok());
        !line.contains("state=online") || lag.is_some_and(|seconds| !(0..=LAG_SECONDS).contains(&seconds))
    });
    Server {
        version: text("redis_version"),
        bits: text("arch_bits"),
        cluster: text("cluster_enabled") == "1",
        replica: text("role") == "slave",
        eviction: text("maxmemory_policy"),
        max_memory: number("maxmemory"),
        used_memory: number("used_memory"),
        append_only: text("aof_enabled") == "1",
        write_failed: failed("aof_last_write_status") || failed("rdb_last_bgsave_status"),
        replicas: number("connected_slaves"),
        late_replicas: late.count() as u64,
        ..Server::default()
    }
}

/// Seconds that a replica may be behind.
const LAG_SECONDS: i64 = 5;

/// A setting of every master, where CONFIG is allowed.
async fn setting(connection: &mut Connection, name: &str) -> Option<Vec<String>> {
    super::check::config(connection, name).await
}

/// The reply to TIME: seconds and microseconds.
fn clock(reply: Value) -> Option<Millis> {
    let words = reply::texts(reply).ok()?;
    let number = |i: usize| words.get(i)?.parse::<Millis>().ok();
    Some(number(0)?.checked_mul(1000)? + number(1)? / 1000)
}

/// The kind of an error. Its text names hosts and rules; passwords are never part of it.
fn trouble(target: &Target, error: &RedisError) -> Trouble {
    let text = error.to_string();
    let code = error.code().unwrap_or_default();
    if error.kind() == ErrorKind::AuthenticationFailed || ["NOAUTH", "WRONGPASS", "NOPERM"].contains(&code) {
        return Trouble::Password(text);
    }
    if target.is_cluster() && text.contains("cluster support disabled") {
        return Trouble::Mode(text);
    }
    let lower = text.to_ascii_lowercase();
    if ["certificate", "tls", "handshake", "corrupt message"].iter().any(|word| lower.contains(word)) {
        return Trouble::Tls(text);
    }
    Trouble::Unreachable(text)
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Self {
        Trouble::Unreachable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_from_what_it_says() {
        let info = "# Server\r\nredis_version:7.2.4\r\narch_bits:64\r\nused_memory:5\r\nmaxmemory:10\r\n\
                    maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\naof_last_write_status:err\r\n\
                    rdb_last_bgsave_status:ok\r\nrole:master\r\nconnected_slaves:3\r\n\
                    slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
                    slave1:ip=10.0.0.2,port=6379,state=online,offset=1,lag=60\r\n\
                    slave2:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\ncluster_enabled:0\r\n";
        let found = server(info);
        assert_eq!((found.version.as_str(), found.bits.as_str()), ("7.2.4", "64"));
        assert_eq!((found.eviction.as_str(), found.max_memory, found.used_memory), ("allkeys-lru", 10, 5));
        assert!(found.append_only && found.write_failed && !found.replica && !found.cluster);
        assert_eq!((found.replicas, found.late_replicas), (3, 2));
        assert!(server("role:slave\r\ncluster_enabled:1\r\n").replica);
    }

    #[test]
    fn the_time_is_read_in_milliseconds() {
        let reply = Value::Array(vec![Value::BulkString(b"12".to_vec()), Value::BulkString(b"345678".to_vec())]);
        assert_eq!(clock(reply), Some(12_345));
        assert_eq!(clock(Value::Nil), None);
    }
}

//! What Redis must be before money is entrusted to it, and what makes the books safer in it.

use std::time::Duration;

use super::report::Report;
use crate::clock::Millis;
use crate::config::Settings;
use crate::ledger::redis::RedisOptions;
use crate::ledger::redis::facts::{self, Facts, Server, Trouble};

/// The oldest version that is supported.
const OLDEST_MAJOR: u32 = 7;
/// How far Redis's clock, which decides, may be off this machine's.
const SKEW_MS_MAX: Millis = 2_000;
/// How full the memory may be, in hundredths.
const FULL_HUNDREDTHS: u64 = 80;

/// Asks Redis, and judges what it says.
pub async fn examine(report: &mut Report, settings: &Settings, options: &RedisOptions) {
    match facts::inspect(options).await {
        Err(trouble) => unreachable(report, settings, &trouble),
        Ok(facts) => {
            let is_cluster = options.url.contains("-cluster://");
            for server in &facts.servers {
                must(report, server, is_cluster);
                should(report, server);
            }
            whole(report, settings, &facts);
        }
    }
}

fn unreachable(report: &mut Report, settings: &Settings, trouble: &Trouble) {
    let ledger = &settings.ledger;
    let (code, message, fix) = match trouble {
        Trouble::Url(why) => ("redis_url", why.clone(), "ledger: redis://HOST:6379"),
        Trouble::Password(why) => (
            "redis_password",
            format!("{ledger} does not accept user and password: {why}"),
            "LOOPERS_LEDGER=redis://:PASSWORD@HOST:6379    (and in the config: ledger: env:LOOPERS_LEDGER)",
        ),
        Trouble::Mode(why) => {
            ("redis_mode", format!("{ledger}: {why}"), "ledger: redis://HOST:6379    (it is no Cluster)")
        }
        Trouble::Tls(why) => {
            ("redis_tls", format!("{ledger}: {why}"), "ledger: rediss://HOST:PORT    (rediss with TLS, redis without)")
        }
        Trouble::Unreachable(why) => (
            "redis_down",
            format!("{ledger} is not reached: {why}"),
            "start Redis, or correct host and port: ledger: redis://HOST:6379",
        ),
    };
    report.error(code, "ledger", message, fix);
}

/// Without these a gateway does not start.
fn must(report: &mut Report, server: &Server, is_cluster: bool) {
    let major = server.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        let message = format!("the ledger needs Redis 7 or later, or Valkey; this server is `{}`", server.version);
        report.error("redis_too_old", "ledger", message, "update the server");
    }
    if server.bits != "64" {
        report.error("redis_not_64_bit", "ledger", "the ledger needs a 64-bit Redis", "update the server");
    }
    match (server.cluster, is_cluster) {
        (true, false) => {
            let message = "this server belongs to a Redis Cluster";
            report.error("redis_mode", "ledger", message, "ledger: redis-cluster://HOST:PORT");
        }
        (false, true) => {
            report.error("redis_mode", "ledger", "this server is no Redis Cluster", "ledger: redis://HOST:6379");
        }
        _ => {}
    }
    if server.replica {
        let message = "this server is a replica: it takes no writes";
        report.error("redis_is_replica", "ledger", message, "ledger: redis://HOST:6379    (of the primary)");
    }
    if server.eviction != "noeviction" {
        let message =
            format!("Redis throws away budgets when its memory is full: maxmemory-policy is `{}`", server.eviction);
        let fix =
            "maxmemory-policy noeviction    (in redis.conf; now: redis-cli config set maxmemory-policy noeviction)";
        report.error("redis_evicts", "ledger", message, fix);
    }
}

/// With these the books survive more.
fn should(report: &mut Report, server: &Server) {
    if server.write_failed {
        let message = "Redis could not write to its disk the last time that it tried";
        report.error("redis_disk", "ledger", message, "look at its log and its disk: full, read-only?");
    }
    if !server.append_only && server.snapshots == Some(false) {
        let message = "Redis keeps nothing on disk: a restart forgets every key and every dollar spent";
        let fix = "appendonly yes    (in redis.conf; now: redis-cli config set appendonly yes)";
        report.warning("redis_not_persisted", "ledger", message, fix);
    } else if !server.append_only && server.snapshots == Some(true) {
        let message = "Redis keeps snapshots only: a crash forgets what was spent since the last one";
        let fix = "appendonly yes    (in redis.conf; now: redis-cli config set appendonly yes)";
        report.warning("redis_snapshots_only", "ledger", message, fix);
    } else if server.append_fsync.as_deref() == Some("no") {
        let message = "Redis leaves it to the system when its log reaches the disk: a power cut forgets up to 30 s";
        report.warning("redis_fsync", "ledger", message, "appendfsync everysec    (in redis.conf)");
    }
    if server.max_memory > 0 && server.used_memory / FULL_HUNDREDTHS.max(1) * 100 > server.max_memory {
        let message = format!(
            "Redis uses {} of {} bytes; when it is full, every call is refused",
            server.used_memory, server.max_memory
        );
        report.warning("redis_memory", "ledger", message, "maxmemory    (a larger one, in redis.conf)");
    }
    if server.late_replicas > 0 {
        let message = format!(
            "{} of {} replicas are behind: a failover would forget what was spent",
            server.late_replicas, server.replicas
        );
        report.warning(
            "redis_replica_late",
            "ledger",
            message,
            "min-replicas-max-lag 10    (in redis.conf; and look at the replica)",
        );
    }
}

fn whole(report: &mut Report, settings: &Settings, facts: &Facts) {
    if facts.clock_skew_ms.abs() > SKEW_MS_MAX {
        let way = if facts.clock_skew_ms > 0 { "before" } else { "behind" };
        let seconds = facts.clock_skew_ms.abs() / 1000;
        let message =
            format!("the clock of Redis, which decides when windows end, is {seconds} s {way} this machine's");
        report.warning("clock_skew", "ledger", message, "timedatectl set-ntp true    (on both machines)");
    }
    let limit = Duration::from_millis(settings.limits.ledger_ms);
    if facts.round_trip > limit / 5 {
        let message = format!("one exchange with Redis takes {} ms, each call needs two", facts.round_trip.as_millis());
        report.warning(
            "ledger_slow",
            "ledger",
            message,
            "ledger: a Redis in the same zone    (limits.ledger_ms bounds the wait)",
        );
    }
    if !report.has_errors() {
        let versions: Vec<&str> = facts.servers.iter().map(|server| server.version.as_str()).collect();
        let replicas: u64 = facts.servers.iter().map(|server| server.replicas).sum();
        let persisted =
            if facts.servers.iter().all(|server| server.append_only) { "append-only" } else { "no append-only log" };
        report.ok(
            "redis",
            format!(
                "Redis {}, {persisted}, {replicas} replicas, {} µs away",
                versions.join(", "),
                facts.round_trip.as_micros()
            ),
        );
    }
}

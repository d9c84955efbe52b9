//! What a server must be before money is entrusted to it.

use ::redis::{Cmd, Value, cmd};

use super::link::{Connection, Target, unavailable};
use super::reply;
use crate::ledger::LedgerError;

/// The oldest Redis that is supported. Valkey calls itself 7.2.4 or later.
const OLDEST_MAJOR: u32 = 7;

/// Checks every server behind `connection` as [`fitting`] does; warns when nothing is persisted.
pub(super) async fn servers(target: &Target, connection: &mut Connection) -> Result<(), LedgerError> {
    fitting(target, connection).await?;
    if !persisted(connection).await? {
        log::warn!(
            "the ledger's Redis persists nothing (no AOF, no RDB): a restart of it forgets every budget and key"
        );
    }
    Ok(())
}

/// Checks every server behind `connection`: version, word size, mode, role, eviction.
pub(super) async fn fitting(target: &Target, connection: &mut Connection) -> Result<(), LedgerError> {
    for info in ask(connection, &cmd("INFO")).await? {
        let info = reply::text(info)?;
        version(&info)?;
        word_size(&info)?;
        mode(&info, target.is_cluster())?;
        role(&info)?;
    }
    for policy in policies(connection).await? {
        eviction(&policy)?;
    }
    Ok(())
}

async fn ask(connection: &mut Connection, cmd: &Cmd) -> Result<Vec<Value>, LedgerError> {
    connection.send_to_masters(cmd).await.map_err(|e| unavailable(&e))
}

/// The value of a line `field:value` of an INFO reply.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn version(info: &str) -> Result<(), LedgerError> {
    let version = field(info, "redis_version").ok_or_else(|| reply::unexpected("INFO without redis_version"))?;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= OLDEST_MAJOR => Ok(()),
        _ => Err(LedgerError::Conflict(format!(
            "the ledger needs Redis 7 or later, or Valkey; this server is {version}"
        ))),
    }
}

/// The scripts print money as a C long.
fn word_size(info: &str) -> Result<(), LedgerError> {
    if field(info, "arch_bits") == Some("64") {
        return Ok(());
    }
    Err(LedgerError::Conflict("the ledger needs a 64-bit Redis; this server does not say that it is one".into()))
}

fn mode(info: &str, as_cluster: bool) -> Result<(), LedgerError> {
    match (field(info, "cluster_enabled"), as_cluster) {
        (Some("1"), false) => Err(LedgerError::Conflict(
            "this server belongs to a Redis Cluster: write the ledger's URL as redis-cluster://host:port".into(),
        )),
        (Some("0"), true) => Err(LedgerError::Conflict(
            "this server does not belong to a Redis Cluster: write the ledger's URL as redis://host:port".into(),
        )),
        _ => Ok(()),
    }
}

/// Only the master knows what its books are. A replica to which a name or a proxy leads may still be empty: that is no loss of them, and
/// heals by itself.
fn role(info: &str) -> Result<(), LedgerError> {
    match field(info, "role") {
        Some("master") => Ok(()),
        Some(role) => Err(LedgerError::Unavailable(format!("this server is no master: its role is `{role}`"))),
        None => Err(reply::unexpected("INFO without role")),
    }
}

/// The eviction policy of every master: from CONFIG, or from INFO where CONFIG is forbidden.
async fn policies(connection: &mut Connection) -> Result<Vec<String>, LedgerError> {
    if let Some(values) = config(connection, "maxmemory-policy").await {
        return Ok(values);
    }
    let mut policies = Vec::new();
    for info in ask(connection, cmd("INFO").arg("memory")).await? {
        let info = reply::text(info)?;
        let policy =
            field(&info, "maxmemory_policy").ok_or_else(|| reply::unexpected("INFO without maxmemory_policy"))?;
        policies.push(policy.to_string());
    }
    Ok(policies)
}

/// Only a server that throws nothing away may hold budgets.
pub(super) fn eviction(policy: &str) -> Result<(), LedgerError> {
    if policy == "noeviction" {
        return Ok(());
    }
    Err(LedgerError::Conflict(format!(
        "the ledger's Redis may throw away budgets when its memory is full (maxmemory-policy is `{policy}`): set \
         `maxmemory-policy noeviction`"
    )))
}

/// False when a master is known to persist nothing.
async fn persisted(connection: &mut Connection) -> Result<bool, LedgerError> {
    let mut with_aof = Vec::new();
    for info in ask(connection, cmd("INFO").arg("persistence")).await? {
        with_aof.push(field(&reply::text(info)?, "aof_enabled") == Some("1"));
    }
    if with_aof.iter().all(|aof| *aof) {
        return Ok(true);
    }
    // Where CONFIG is forbidden, nobody can tell; such services have backups of their own.
    Ok(config(connection, "save").await.is_none_or(|saves| saves.iter().all(|save| !save.is_empty())))
}

/// A setting of every master, `None` where CONFIG is forbidden or hides it.
pub(super) async fn config(connection: &mut Connection, name: &str) -> Option<Vec<String>> {
    let replies = connection.send_to_masters(cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
    replies.into_iter().map(setting).collect()
}

fn setting(reply: Value) -> Option<String> {
    match reply {
        Value::Map(pairs) => pairs.into_iter().next().and_then(|(_, value)| reply::text(value).ok()),
        other => reply::texts(other).ok()?.into_iter().nth(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_seven_are_refused() {
        assert!(version("# Server\r\nredis_version:7.0.15\r\n").is_ok());
        assert!(version("redis_version:8.2.0\r\n").is_ok());
        let error = version("redis_version:6.2.14\r\n").unwrap_err();
        assert!(error.to_string().contains("Redis 7"), "{error}");
        assert!(version("nothing").is_err());
    }

    #[test]
    fn only_servers_of_64_bits_are_accepted() {
        assert!(word_size("redis_version:7.0.15\r\narch_bits:64\r\n").is_ok());
        assert!(word_size("arch_bits:32\r\n").unwrap_err().to_string().contains("64-bit"));
        assert!(word_size("redis_version:7.0.15\r\n").is_err());
    }

    #[test]
    fn a_url_that_does_not_fit_the_server_says_what_to_write() {
        assert!(mode("cluster_enabled:1\r\n", true).is_ok());
        assert!(mode("cluster_enabled:0\r\n", false).is_ok());
        assert!(mode("cluster_enabled:1\r\n", false).unwrap_err().to_string().contains("redis-cluster://"));
        assert!(mode("cluster_enabled:0\r\n", true).unwrap_err().to_string().contains("redis://"));
    }

    #[test]
    fn only_a_master_is_accepted_and_a_replica_may_become_one() {
        assert!(role("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n").is_ok());
        for info in ["# Replication\r\nrole:slave\r\nmaster_host:a\r\n", "redis_version:7.0.15\r\n"] {
            assert!(matches!(role(info), Err(LedgerError::Unavailable(_))), "{info}");
        }
    }

    #[test]
    fn only_noeviction_is_accepted() {
        assert!(eviction("noeviction").is_ok());
        assert!(eviction("allkeys-lru").unwrap_err().to_string().contains("maxmemory-policy noeviction"));
    }
}

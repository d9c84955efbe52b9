//! Keys: made, listed, shown, rotated, paused, resumed, revoked.

use serde::Deserialize;

use super::directory::{CHAIN_MOST, Directory, check_name};
use super::views::amount;
use super::{Amounts, IssuedKey, KeyView, OpError, expires_at, policy};
use crate::clock::Millis;
use crate::ledger::{Edit, KeyRecord, Ledger, Node, NodeId, Overflow, Policy, ProviderKeySource, State};
use crate::pricing::PriceTable;
use crate::secret::{KeyHash, Secret, new_key, random_hex};

/// What a new key may do, as a person says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    /// A name that no other key has.
    pub name: String,
    /// Its team, by id or name.
    pub team: Option<String>,
    /// Providers that it may call; empty means all.
    pub providers: Vec<String>,
    /// Models that it may call, as `model` or `provider/model`, with an optional `*` at the end; empty means all.
    pub models: Vec<String>,
    /// Networks that it may call from; empty means all.
    pub allow_ips: Vec<String>,
    /// `90m`, `12h`, `30d`, a day, or an instant.
    pub expires: Option<String>,
    /// What happens when a call's worst case does not fit.
    pub overflow: Overflow,
    /// Where the provider's key may come from.
    pub provider_key: ProviderKeySource,
    /// Its own limits.
    pub limits: Amounts,
    /// The most that one session may spend.
    pub session_budget: Option<String>,
    /// The most calls that one session may make.
    pub session_steps: Option<u64>,
    /// It may go without any limit.
    pub unlimited: bool,
}

/// Makes a key. The answer is the only place where the key itself is ever shown.
pub async fn key_create(ledger: &Ledger, prices: &PriceTable, now: Millis, new: &NewKey) -> Result<IssuedKey, OpError> {
    check_name(&new.name)?;
    policy::check_providers(&new.providers, prices)?;
    policy::check_models(&new.models, &new.providers, prices)?;
    policy::check_networks(&new.allow_ips)?;
    if new.session_steps == Some(0) {
        return Err(OpError::invalid("session_steps: a session of 0 calls can do nothing").hint("give 1 or more"));
    }
    let directory = Directory::load(ledger).await?;
    if directory.keys().any(|key| key.name == new.name) {
        return Err(OpError::conflict(format!("there is a key `{}` already", new.name)));
    }
    let team = new.team.as_deref().map(|team| directory.team(team)).transpose()?;
    let (key, hash) = issue()?;
    let record = KeyRecord {
        id: NodeId::from(format!("k_{}", random_hex::<8>()?).as_str()),
        name: new.name.clone(),
        hash: hash.hex(),
        team: team.map(|team| team.id.clone()),
        created_at: now,
        expires_at: new.expires.as_deref().map(|text| expires_at(text, now)).transpose()?,
        state: State::Active,
        limits: new.limits.limits()?,
        policy: policy_of(new)?,
    };
    if directory.above(&Node::Key(record.clone())).len() + 1 > CHAIN_MOST {
        return Err(OpError::invalid(format!("a tree has at most {CHAIN_MOST} levels")));
    }
    if !new.unlimited && !directory.is_covered(&record) {
        return Err(OpError::invalid("no limit covers this key: neither one of its own nor one of a team above it")
            .hint("give one, such as --daily 5, or say --unlimited if it really may spend without end"));
    }
    ledger.create_key(&record).await?;
    Ok(IssuedKey { key: key.expose().to_string(), view: KeyView::of(&record, &directory) })
}

fn policy_of(new: &NewKey) -> Result<Policy, OpError> {
    Ok(Policy {
        providers: new.providers.clone(),
        models: new.models.clone(),
        allow_ips: new.allow_ips.clone(),
        overflow: new.overflow,
        provider_key: new.provider_key,
        session_budget: new.session_budget.as_deref().map(|text| amount("session_budget", text)).transpose()?,
        session_steps: new.session_steps,
        unlimited: new.unlimited,
    })
}

fn issue() -> Result<(Secret, KeyHash), OpError> {
    let key = new_key()?;
    let hash = KeyHash::of(key.expose()).ok_or_else(|| OpError::invalid("a new key was malformed"))?;
    Ok((key, hash))
}

/// All keys, oldest first.
pub async fn key_list(ledger: &Ledger) -> Result<Vec<KeyView>, OpError> {
    let directory = Directory::load(ledger).await?;
    Ok(directory.keys().map(|key| KeyView::of(key, &directory)).collect())
}

/// One key.
pub async fn key_show(ledger: &Ledger, name: &str) -> Result<KeyView, OpError> {
    let directory = Directory::load(ledger).await?;
    Ok(KeyView::of(directory.key(name)?, &directory))
}

/// Gives a key a new secret; the old one is unknown at once. The answer is the only place where the new one is shown.
pub async fn key_rotate(ledger: &Ledger, name: &str) -> Result<IssuedKey, OpError> {
    let directory = Directory::load(ledger).await?;
    let record = directory.key(name)?;
    if record.state == State::Revoked {
        return Err(OpError::conflict(format!("key `{}` is revoked for ever", record.name)).hint("make a new key"));
    }
    let (key, hash) = issue()?;
    ledger.edit(&record.id, &Edit::Rotate(hash)).await?;
    Ok(IssuedKey { key: key.expose().to_string(), view: KeyView::of(record, &directory) })
}

/// Pauses, resumes or revokes a key.
pub async fn key_state(ledger: &Ledger, name: &str, state: State) -> Result<KeyView, OpError> {
    let id = {
        let directory = Directory::load(ledger).await?;
        let record = directory.key(name)?;
        if record.state == State::Revoked && state != State::Revoked {
            return Err(OpError::conflict(format!("key `{}` is revoked for ever", record.name)).hint("make a new key"));
        }
        if record.state == State::Killed && state == State::Paused {
            return Err(OpError::conflict(format!("key `{}` is killed, which stops it already", record.name)));
        }
        record.id.clone()
    };
    ledger.edit(&id, &Edit::State(state)).await?;
    key_show(ledger, id.as_str()).await
}

//! What operations answer: the same words for tables, `--json` and HTTP. Money is a decimal string of USD.

use serde::{Deserialize, Serialize};

use super::OpError;
use super::directory::Directory;
use crate::clock::{Window, rfc3339};
use crate::ledger::{
    HoldInfo, HoldState, KeyRecord, Limits, NodeStatus, Overflow, Policy, ProviderKeySource, State, TeamRecord,
};
use crate::money::Money;

/// Amounts for windows as a person gives them: `10`, `10.00` or `$10.00`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    /// The most that may be spent in a minute.
    pub minute: Option<String>,
    /// In an hour.
    pub hourly: Option<String>,
    /// In a day.
    pub daily: Option<String>,
    /// In a week, from Monday.
    pub weekly: Option<String>,
    /// In a calendar month.
    pub monthly: Option<String>,
}

impl Amounts {
    /// The limits, or the first amount that is none.
    pub fn limits(&self) -> Result<Limits, OpError> {
        let typed = [&self.minute, &self.hourly, &self.daily, &self.weekly, &self.monthly];
        let mut limits = Limits::default();
        for (limit, (text, window)) in limits.0.iter_mut().zip(typed.into_iter().zip(Window::ALL)) {
            *limit = text.as_deref().map(|text| amount(window.name(), text)).transpose()?;
        }
        Ok(limits)
    }
}

/// Reads an amount; the error says of which field.
pub(super) fn amount(field: &str, text: &str) -> Result<Money, OpError> {
    Money::parse_limit(text).map_err(|error| OpError::invalid(format!("{field}: {error}")))
}

/// A limit for each window; `null` where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitsView {
    minute: Option<String>,
    hourly: Option<String>,
    daily: Option<String>,
    weekly: Option<String>,
    monthly: Option<String>,
}

impl From<&Limits> for LimitsView {
    fn from(limits: &Limits) -> Self {
        let [minute, hourly, daily, weekly, monthly] = limits.0.map(|limit| limit.map(|money| money.to_string()));
        LimitsView { minute, hourly, daily, weekly, monthly }
    }
}

impl LimitsView {
    /// For one cell of a table: `$5 daily, $100 monthly`.
    pub fn summary(&self) -> String {
        let each = [&self.minute, &self.hourly, &self.daily, &self.weekly, &self.monthly];
        let set = each.into_iter().zip(Window::ALL).filter_map(|(limit, window)| Some((limit.as_ref()?, window)));
        let words: Vec<String> = set.map(|(limit, window)| format!("${limit} {}", window.name())).collect();
        if words.is_empty() { "-".into() } else { words.join(", ") }
    }
}

/// A team that something belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TeamRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A key, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its team.
    pub team: Option<TeamRef>,
    /// `active`, `paused`, `killed`, `revoked`.
    pub state: State,
    /// When it was made.
    pub created_at: String,
    /// When it stops to work.
    pub expires_at: Option<String>,
    /// Its own limits.
    pub limits: LimitsView,
    /// Providers that it may call; empty means all.
    pub providers: Vec<String>,
    /// Models that it may call; empty means all.
    pub models: Vec<String>,
    /// Networks that it may call from; empty means all.
    pub allow_ips: Vec<String>,
    /// What happens when a call's worst case does not fit.
    pub overflow: Overflow,
    /// Where the provider's key may come from.
    pub provider_key: ProviderKeySource,
    /// The most that one session may spend.
    pub session_budget_usd: Option<String>,
    /// The most calls of one session.
    pub session_steps: Option<u64>,
    /// The operator said that it may go without any limit.
    pub unlimited: bool,
}

impl KeyView {
    pub(super) fn of(key: &KeyRecord, directory: &Directory) -> KeyView {
        let Policy { providers, models, allow_ips, overflow, provider_key, session_budget, session_steps, unlimited } =
            key.policy.clone();
        KeyView {
            id: key.id.to_string(),
            name: key.name.clone(),
            team: key.team.as_ref().map(|id| team_ref(id, directory)),
            state: key.state,
            created_at: rfc3339(key.created_at),
            expires_at: key.expires_at.map(rfc3339),
            limits: LimitsView::from(&key.limits),
            providers,
            models,
            allow_ips,
            overflow,
            provider_key,
            session_budget_usd: session_budget.map(|money| money.to_string()),
            session_steps,
            unlimited,
        }
    }
}

fn team_ref(id: &crate::ledger::NodeId, directory: &Directory) -> TeamRef {
    let name = directory.by_id(id).map(|node| node.name().to_string()).unwrap_or_default();
    TeamRef { id: id.to_string(), name }
}

/// A key that was just made or rotated: the only time that the key itself is shown.
#[derive(Clone, Serialize)]
pub struct IssuedKey {
    /// The key.
    pub key: String,
    /// The rest.
    #[serde(flatten)]
    pub view: KeyView,
}

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TeamView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The team above it.
    pub parent: Option<TeamRef>,
    /// `active`, `paused`, `killed`, `revoked`.
    pub state: State,
    /// When it was made.
    pub created_at: String,
    /// Its limits.
    pub limits: LimitsView,
    /// Keys that belong to it directly.
    pub keys: usize,
}

impl TeamView {
    pub(super) fn of(team: &TeamRecord, directory: &Directory) -> TeamView {
        TeamView {
            id: team.id.to_string(),
            name: team.name.clone(),
            parent: team.parent.as_ref().map(|id| team_ref(id, directory)),
            state: team.state,
            created_at: rfc3339(team.created_at),
            limits: LimitsView::from(&team.limits),
            keys: directory.keys().filter(|key| key.team.as_ref() == Some(&team.id)).count(),
        }
    }
}

/// One window of one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowView {
    /// Which window.
    pub window: Window,
    /// Its limit.
    pub limit_usd: Option<String>,
    /// Spent in it.
    pub spent_usd: String,
    /// Held by calls that run.
    pub held_usd: String,
    /// What is left; `null` without a limit.
    pub remaining_usd: Option<String>,
    /// When it ends.
    pub resets_at: String,
}

/// The books of a key or team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelView {
    /// `key` or `team`.
    pub level: crate::ledger::Level,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it may spend.
    pub state: State,
    /// The five windows.
    pub windows: Vec<WindowView>,
    /// Everything ever charged to it.
    pub charged_total_usd: String,
    /// Everything charged beyond what was held.
    pub overrun_total_usd: String,
}

impl From<NodeStatus> for LevelView {
    fn from(status: NodeStatus) -> Self {
        let windows = status.windows.iter().map(|w| WindowView {
            window: w.window,
            limit_usd: w.limit.map(|limit| limit.to_string()),
            spent_usd: w.spent.to_string(),
            held_usd: w.held.to_string(),
            remaining_usd: w.limit.map(|limit| limit.saturating_sub(w.spent).saturating_sub(w.held).to_string()),
            resets_at: rfc3339(w.resets_at),
        });
        LevelView {
            level: status.level,
            windows: windows.collect(),
            id: status.id.to_string(),
            name: status.name,
            state: status.state,
            charged_total_usd: status.charged_total.to_string(),
            overrun_total_usd: status.overrun_total.to_string(),
        }
    }
}

/// The books of a key or team and of everything above it, nearest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetView {
    /// The key or team asked for.
    pub id: String,
    /// Its books, then those of its team, and so on up to the root.
    pub levels: Vec<LevelView>,
}

/// A hold that is open, or that expired and was charged in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldView {
    /// Its id.
    pub id: String,
    /// `open` or `expired`.
    pub state: HoldState,
    /// The key that it was taken for.
    pub key: String,
    /// The session.
    pub session: Option<String>,
    /// The money held.
    pub amount_usd: String,
    /// The money charged.
    pub charged_usd: String,
    /// When it is, or was, charged in full.
    pub expires_at: String,
    /// `provider/model`.
    pub note: String,
}

impl From<&HoldInfo> for HoldView {
    fn from(hold: &HoldInfo) -> Self {
        HoldView {
            id: hold.at.hold.to_string(),
            state: hold.state,
            key: hold.at.chain.first().map(ToString::to_string).unwrap_or_default(),
            session: hold.at.session.as_ref().map(ToString::to_string),
            amount_usd: hold.amount.to_string(),
            charged_usd: hold.charged.to_string(),
            expires_at: rfc3339(hold.expires_at),
            note: hold.note.clone(),
        }
    }
}

/// What a change of state was applied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// The id of a key or team, or of a session.
    pub id: String,
    /// The name of the key or team; a session's is that of its key.
    pub name: String,
    /// `key`, `team` or `session`.
    pub level: crate::ledger::Level,
    /// Its state now.
    pub state: State,
}

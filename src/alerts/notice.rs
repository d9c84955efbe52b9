//! One alert, in the two shapes in which it is sent.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::{Millis, rfc3339};
use crate::ledger::Level;
use crate::money::Money;

/// One alert. Amounts are decimal strings in USD; what does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The same in every try to send it, and on every gateway: a receiver may drop what it has seen.
    pub id: String,
    /// `budget.threshold`, `call.cut`, `ledger.unavailable` or `ledger.recovered`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When, RFC 3339.
    pub at: String,
    /// For people.
    pub message: String,
    /// The budget, where one is concerned.
    #[serde(flatten)]
    pub budget: Option<Budget>,
    /// What was cut.
    #[serde(flatten)]
    pub cut: Option<CutCall>,
}

/// A budget as it stood when the alert was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// `key`, `team` or `session`.
    pub level: &'static str,
    /// Id of the key, team or session.
    pub budget_id: String,
    /// Its name.
    pub name: String,
    /// `minute` to `monthly`; a session has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<&'static str>,
    /// The threshold that was reached, in per cent of the limit.
    pub threshold_percent: u64,
    /// The limit.
    pub limit_usd: String,
    /// Spent in this window.
    pub spent_usd: String,
    /// Held by calls that run.
    pub held_usd: String,
    /// When the window ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
}

/// The call behind a `call.cut`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CutCall {
    /// Its key's id.
    pub key: String,
    /// Why: the code of the error that its client got.
    pub reason: &'static str,
    /// `provider/model`.
    pub model: String,
}

/// Where a budget stands.
pub struct Standing<'a> {
    /// Its level.
    pub level: Level,
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its window and the window's end.
    pub window: Option<(&'static str, Millis)>,
    /// The limit.
    pub limit: Money,
    /// Spent.
    pub spent: Money,
    /// Held.
    pub held: Money,
}

impl Notice {
    /// A threshold was reached. `full`: not by what is spent, but because a call did not fit any more.
    pub fn threshold(id: String, now: Millis, percent: u64, full: bool, it: &Standing<'_>) -> Notice {
        let window = it.window.map(|(name, _)| format!("{name} ")).unwrap_or_default();
        let level = it.level.name();
        let message = if full {
            format!(
                "The {window}budget of {level} {} is used up: a call did not fit. Spent {} of {} USD.",
                it.name, it.spent, it.limit
            )
        } else {
            format!(
                "The {window}budget of {level} {} has reached {percent} %: {} of {} USD.",
                it.name, it.spent, it.limit
            )
        };
        Notice {
            id,
            kind: "budget.threshold",
            at: rfc3339(now),
            message,
            budget: Some(Budget {
                level,
                budget_id: it.id.to_string(),
                name: it.name.to_string(),
                window: it.window.map(|(name, _)| name),
                threshold_percent: percent,
                limit_usd: it.limit.to_string(),
                spent_usd: it.spent.to_string(),
                held_usd: it.held.to_string(),
                resets_at: it.window.map(|(_, end)| rfc3339(end)),
            }),
            cut: None,
        }
    }

    /// A call was cut.
    pub fn cut(id: String, now: Millis, cut: super::Cut) -> Notice {
        let key = cut.chain.first().map_or_else(String::new, ToString::to_string);
        let message = format!("A call of key {key} to {} was cut: {}.", cut.model, cut.reason);
        let call = CutCall { key, reason: cut.reason, model: cut.model };
        Notice { id, kind: "call.cut", at: rfc3339(now), message, budget: None, cut: Some(call) }
    }

    /// The ledger does not answer, or does again.
    pub fn ledger(id: String, now: Millis, up: bool) -> Notice {
        let (kind, message) = if up {
            ("ledger.recovered", "The budget ledger answers again.")
        } else {
            ("ledger.unavailable", "The budget ledger does not answer, or cannot be trusted: every call is refused.")
        };
        Notice { id, kind, at: rfc3339(now), message: message.to_string(), budget: None, cut: None }
    }

    /// As a message for Slack's incoming webhooks.
    pub fn slack(&self) -> Value {
        let sign = match (self.kind, self.budget.as_ref().map(|budget| budget.threshold_percent)) {
            ("ledger.recovered", _) => ":white_check_mark:",
            ("budget.threshold", Some(percent)) if percent < 100 => ":warning:",
            _ => ":rotating_light:",
        };
        // Names come from operators, but may hold what Slack would read as a link or a mention.
        let text = self.message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        json!({ "text": format!("{sign} {text}") })
    }
}

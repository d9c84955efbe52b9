//! Every answer that the gateway gives instead of the provider: one type, one place that writes it.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::{Value, json};

use crate::clock::{Millis, Window, rfc3339};
use crate::ledger::{LedgerError, Level, Refusal as LedgerRefusal, State};
use crate::money::Money;
use crate::provider::{ErrorAnswer, ErrorReply, Provider, Reject, Route, openai};

/// A refusal or failure, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The contract's code.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The budget that had no room.
    pub budget: Option<Box<BudgetDetail>>,
}

/// The budget that refused, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetDetail {
    /// Whose budget.
    pub level: Level,
    /// Its id: a key, a team or a session.
    pub id: String,
    /// Which window; a session has none.
    pub window: Option<Window>,
    /// The limit.
    pub limit: Money,
    /// Spent.
    pub spent: Money,
    /// Held by running calls.
    pub held: Money,
    /// The least that the call needed.
    pub requested: Money,
    /// When the window ends.
    pub resets_at: Option<Millis>,
}

impl Refusal {
    /// A refusal without a budget.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { status, code, message: message.into(), hint: hint.into(), budget: None }
    }

    /// One answer for every key that does not work, so that nobody can tell which part was wrong.
    pub fn invalid_key() -> Self {
        Refusal::new(
            401,
            "invalid_key",
            "This is not a valid Loopers key.",
            "Send a key made by `loopers keys create` where your SDK puts its API key.",
        )
    }

    /// More requests without a valid key came from one address than the config admits.
    pub fn too_many_failures() -> Self {
        Refusal::new(
            429,
            "rate_limited",
            "Too many requests without a valid Loopers key came from this address.",
            "Send a key made by `loopers keys create`: a valid one is admitted at once.",
        )
    }

    /// A key sent the same body again and again.
    pub fn loop_detected(repeats: u64, seconds: u64) -> Self {
        Refusal::new(
            429,
            "loop_detected",
            format!(
                "This key sent the same request more than {repeats} times in {seconds} seconds: it may run in a circle."
            ),
            "Change the request, name another X-Loopers-Session-ID, or raise limits.loop_repeats in loopers.yaml.",
        )
    }

    /// A path, or a method on it, that is not proxied.
    pub fn unknown_route() -> Self {
        Refusal::new(
            404,
            "unknown_route",
            "Loopers does not proxy this route, because it cannot meter it.",
            "docs/PROVIDERS.md lists the routes.",
        )
    }

    /// A malformed request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal::new(400, "invalid_request", message, "")
    }

    /// The body, or the head, is larger than the config admits.
    pub fn too_large(what: &str, limit: usize, field: &str) -> Self {
        Refusal::new(
            413,
            "request_too_large",
            format!("The {what} is larger than {limit} bytes."),
            format!("Raise {field} in loopers.yaml."),
        )
    }

    /// More calls at once than the config admits.
    pub fn overloaded(field: &str) -> Self {
        Refusal::new(
            503,
            "overloaded",
            "The gateway is at its limit of concurrent work.",
            format!("Raise {field} in loopers.yaml or add a replica."),
        )
    }

    /// More calls at once than the system allows files for.
    pub fn too_few_files() -> Self {
        Refusal::new(
            503,
            "overloaded",
            "The gateway is at its limit of open files.",
            "Raise `ulimit -n` (LimitNOFILE, nofile) for the gateway, or add a replica.",
        )
    }

    /// The ledger cannot be asked: nothing may be spent.
    pub fn ledger_unavailable() -> Self {
        Refusal::new(
            503,
            "ledger_unavailable",
            "The budget ledger cannot be reached, so no call may go out.",
            "The provider was not called. Calls work again as soon as the ledger answers.",
        )
    }

    /// The ledger's books were lost or rewound: nothing may be spent until an operator decides.
    pub fn ledger_lost() -> Self {
        Refusal::new(
            503,
            "ledger_lost",
            "The budget ledger has lost books that this gateway has seen, so no call may go out.",
            "The provider was not called. An operator must decide: loopers ledger status",
        )
    }

    /// What a ledger that did not do its work means for the call.
    pub fn from_ledger_error(error: &LedgerError) -> Self {
        match error {
            LedgerError::Lost(_) => Refusal::ledger_lost(),
            _ => Refusal::ledger_unavailable(),
        }
    }

    /// The gateway is shutting down.
    pub fn draining() -> Self {
        Refusal::new(
            503,
            "draining",
            "This gateway is shutting down.",
            "Send the call again; another replica will take it.",
        )
    }

    /// The gateway shut down while the call ran.
    pub fn shut_down() -> Self {
        Refusal::new(
            503,
            "draining",
            "This gateway shut down before the answer ended.",
            "Raise limits.drain_seconds in loopers.yaml to give running calls longer.",
        )
    }

    /// What a provider's reading of the request found.
    pub fn from_reject(reject: Reject) -> Self {
        let status = if matches!(reject.code, "unknown_model" | "unpriced_model") { 422 } else { 400 };
        Refusal::new(status, reject.code, reject.message, reject.hint)
    }

    /// What the ledger said; `requested` is the least that would have had to fit.
    pub fn from_ledger(refused: LedgerRefusal, requested: Money, session: Option<&str>) -> Self {
        let session = || session.unwrap_or_default().to_string();
        match refused {
            LedgerRefusal::Budget(b) => Refusal {
                budget: Some(Box::new(BudgetDetail {
                    level: b.level,
                    id: b.id.to_string(),
                    window: Some(b.window),
                    limit: b.limit,
                    spent: b.spent,
                    held: b.held,
                    requested,
                    resets_at: Some(b.resets_at),
                })),
                ..Refusal::new(
                    402,
                    "budget_exceeded",
                    format!(
                        "The {} {} budget is used up: {} spent and {} held of {} USD; this call needs at least {} USD. It resets at {}.",
                        b.window.name(),
                        b.level.name(),
                        b.spent,
                        b.held,
                        b.limit,
                        requested,
                        rfc3339(b.resets_at)
                    ),
                    format!("An operator can raise it: loopers budget set {} --{} USD", b.id, b.window.name()),
                )
            },
            LedgerRefusal::SessionBudget { limit, spent, held } => Refusal {
                budget: Some(Box::new(BudgetDetail {
                    level: Level::Session,
                    id: session(),
                    window: None,
                    limit,
                    spent,
                    held,
                    requested,
                    resets_at: None,
                })),
                ..Refusal::new(
                    402,
                    "session_budget_exceeded",
                    format!(
                        "The session's budget is used up: {spent} spent and {held} held of {limit} USD; this call needs at least {requested} USD."
                    ),
                    "Start a new session: send another X-Loopers-Session-ID.",
                )
            },
            LedgerRefusal::SessionSteps { limit, used } => Refusal::new(
                402,
                "session_steps_exceeded",
                format!("The session made {used} of {limit} calls."),
                "Start a new session: send another X-Loopers-Session-ID.",
            ),
            LedgerRefusal::Stopped { level, id, state } => Refusal::stopped(level, &id, state),
            LedgerRefusal::Expired(at) => Refusal::new(
                403,
                "key_expired",
                format!("This key expired at {}.", rfc3339(at)),
                "Ask for a new key: loopers keys create",
            ),
        }
    }

    /// A key, team or session that was stopped.
    pub fn stopped(level: Level, id: &str, state: State) -> Self {
        match state {
            State::Revoked => Refusal::new(
                403,
                "key_revoked",
                format!("This {} was revoked.", level.name()),
                "Ask for a new key: loopers keys create",
            ),
            _ => Refusal::new(
                403,
                "key_paused",
                format!("This {} was stopped by an operator ({}).", level.name(), state.name()),
                match level {
                    Level::Session => format!("An operator can lift it: loopers resume --session {id}"),
                    Level::Key | Level::Team => format!("An operator can lift it: loopers resume {id}"),
                },
            ),
        }
    }

    /// A running call whose key, team or session was stopped: which of them it was is not told.
    pub fn stopped_while_running(key: &str, state: State) -> Self {
        if state == State::Revoked {
            return Self::stopped(Level::Key, key, state);
        }
        Refusal::new(
            403,
            "key_paused",
            format!("This key, one of its teams or its session was stopped by an operator ({}).", state.name()),
            format!("An operator sees which, and lifts it: loopers budget status {key}, loopers resume"),
        )
    }

    /// The `loopers` object of the error.
    pub fn detail(&self) -> Value {
        let budget = self.budget.as_deref();
        let usd = |money: fn(&BudgetDetail) -> Money| budget.map(|b| money(b).to_string());
        json!({
            "code": self.code,
            "message": self.message,
            "budget": budget.map(|b| b.id.clone()),
            "level": budget.map(|b| b.level.name()),
            "window": budget.and_then(|b| b.window).map(Window::name),
            "limit_usd": usd(|b| b.limit),
            "spent_usd": usd(|b| b.spent),
            "held_usd": usd(|b| b.held),
            "requested_usd": usd(|b| b.requested),
            "resets_at": budget.and_then(|b| b.resets_at).map(rfc3339),
            "hint": self.hint,
        })
    }

    /// The answer in the shape of `provider`'s SDK; OpenAI's where the provider is not known.
    pub fn reply(&self, provider: Option<&'static dyn Provider>, route: Option<Route>, request_id: &str) -> ErrorReply {
        self.with_answer(request_id, route, |answer| provider.unwrap_or(&openai::OpenAi).refusal(answer))
    }

    /// Hands the refusal to whoever knows the provider's shape.
    pub fn with_answer<T>(
        &self,
        request_id: &str,
        route: Option<Route>,
        write: impl FnOnce(&ErrorAnswer<'_>) -> T,
    ) -> T {
        write(&ErrorAnswer {
            status: self.status,
            code: self.code,
            message: &self.message,
            loopers: self.detail(),
            request_id,
            route,
        })
    }

    /// Writes the refusal as the whole answer.
    pub async fn write(
        &self,
        session: &mut Session,
        provider: Option<&'static dyn Provider>,
        route: Option<Route>,
        request_id: &str,
    ) -> pingora::Result<()> {
        let reply = self.reply(provider, route, request_id);
        let mut header = ResponseHeader::build(reply.status, Some(8))?;
        header.insert_header("content-type", "application/json")?;
        header.insert_header("content-length", reply.body.len())?;
        header.insert_header("cache-control", "no-store")?;
        header.insert_header("x-should-retry", "false")?;
        header.insert_header("x-request-id", request_id)?;
        for (name, value) in reply.headers {
            header.insert_header(name, value)?;
        }
        session.write_response_header(Box::new(header), false).await?;
        session.write_response_body(Some(Bytes::from(reply.body)), true).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{BudgetRefusal, NodeId};

    #[test]
    fn a_budget_refusal_names_budget_window_numbers_and_reset() {
        let refused = LedgerRefusal::Budget(BudgetRefusal {
            level: Level::Key,
            id: NodeId::from("k_1"),
            window: Window::Daily,
            limit: Money::from_nano(5_000_000_000),
            spent: Money::from_nano(4_000_000_000),
            held: Money::from_nano(999_999_999),
            resets_at: 1_700_000_000_000,
        });
        let refusal = Refusal::from_ledger(refused, Money::from_nano(2), None);
        assert_eq!((refusal.status, refusal.code), (402, "budget_exceeded"));
        let detail = refusal.detail();
        assert_eq!(detail["budget"], "k_1");
        assert_eq!(detail["window"], "daily");
        assert_eq!(detail["limit_usd"], "5");
        assert_eq!(detail["held_usd"], "0.999999999");
        assert_eq!(detail["requested_usd"], "0.000000002");
        assert_eq!(detail["resets_at"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_revoked_key_and_a_paused_one_have_their_own_codes() {
        assert_eq!(Refusal::stopped(Level::Key, "k", State::Revoked).code, "key_revoked");
        assert_eq!(Refusal::stopped(Level::Team, "t", State::Killed).code, "key_paused");
        for (level, command) in [(Level::Team, "loopers resume x"), (Level::Session, "loopers resume --session x")] {
            assert!(Refusal::stopped(level, "x", State::Killed).hint.ends_with(command));
        }
    }
}

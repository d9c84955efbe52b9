//! The routes of `/admin/v1`: each is one operation of [`ops`].

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{AdminState, error, json_page};
use crate::clock::Millis;
use crate::control::ops::{self, Amounts, Kind, NewKey, NewTeam, OpError, Target};
use crate::ledger::State;

/// One request that may be answered.
pub(super) struct Call<'a> {
    pub state: &'a AdminState,
    pub now: Millis,
    pub body: &'a Bytes,
}

type Answer = Result<Response<Vec<u8>>, OpError>;

impl Call<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, OpError> {
        serde_json::from_slice(self.body)
            .map_err(|e| OpError::invalid(format!("the body is not what this route takes: {e}")))
    }

    /// A body that may be left out.
    fn read_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, OpError> {
        if self.body.is_empty() { Ok(T::default()) } else { self.read() }
    }
}

/// The answer of the route, or `None` when there is no such route.
pub(super) async fn route(call: &Call<'_>, method: &Method, parts: &[&str]) -> Option<Answer> {
    let verb = method.as_str();
    match parts {
        ["keys", rest @ ..] => keys(call, verb, rest).await,
        ["teams", rest @ ..] => teams(call, verb, rest).await,
        ["budgets", rest @ ..] => budgets(call, verb, rest).await,
        ["holds", rest @ ..] => holds(call, verb, rest).await,
        ["ledger"] if verb == "GET" => Some(ops::ledger_status(&call.state.ledger).await.map(|view| ok(&view))),
        ["ledger", "accept"] if verb == "POST" => {
            Some(ops::ledger_accept(&call.state.ledger).await.map(|view| ok(&view)))
        }
        ["kill"] if verb == "POST" => Some(kill(call).await),
        ["resume"] if verb == "POST" => Some(stop(call, State::Active).await),
        _ => None,
    }
}

async fn keys(call: &Call<'_>, verb: &str, rest: &[&str]) -> Option<Answer> {
    let ledger = &call.state.ledger;
    Some(match (verb, rest) {
        ("GET", []) => ops::key_list(ledger).await.map(|list| ok(&list)),
        ("POST", []) => create_key(call).await,
        ("GET", [key]) => ops::key_show(ledger, key).await.map(|key| ok(&key)),
        ("POST", [key, "rotate"]) => ops::key_rotate(ledger, key).await.map(|key| ok(&key)),
        ("POST", [key, "pause"]) => ops::key_state(ledger, key, State::Paused).await.map(|key| ok(&key)),
        ("POST", [key, "resume"]) => ops::key_state(ledger, key, State::Active).await.map(|key| ok(&key)),
        ("POST", [key, "revoke"]) => ops::key_state(ledger, key, State::Revoked).await.map(|key| ok(&key)),
        _ => return None,
    })
}

async fn create_key(call: &Call<'_>) -> Answer {
    let new: NewKey = call.read()?;
    let issued = ops::key_create(&call.state.ledger, &call.state.prices.load(), call.now, &new).await?;
    Ok(json_page(StatusCode::CREATED, &issued))
}

async fn teams(call: &Call<'_>, verb: &str, rest: &[&str]) -> Option<Answer> {
    let ledger = &call.state.ledger;
    Some(match (verb, rest) {
        ("GET", []) => ops::team_list(ledger).await.map(|list| ok(&list)),
        ("POST", []) => create_team(call).await,
        ("GET", [team]) => ops::team_show(ledger, team).await.map(|team| ok(&team)),
        ("POST", [team, "pause"]) => ops::team_state(ledger, team, State::Paused).await.map(|team| ok(&team)),
        ("POST", [team, "resume"]) => ops::team_state(ledger, team, State::Active).await.map(|team| ok(&team)),
        _ => return None,
    })
}

async fn create_team(call: &Call<'_>) -> Answer {
    let new: NewTeam = call.read()?;
    let team = ops::team_create(&call.state.ledger, call.now, &new).await?;
    Ok(json_page(StatusCode::CREATED, &team))
}

async fn budgets(call: &Call<'_>, verb: &str, rest: &[&str]) -> Option<Answer> {
    let ledger = &call.state.ledger;
    Some(match (verb, rest) {
        ("GET", [node]) => ops::budget_status(ledger, node).await.map(|budget| ok(&budget)),
        ("PUT", [node]) => match call.read::<Amounts>() {
            Ok(amounts) => ops::budget_set(ledger, node, &amounts).await.map(|budget| ok(&budget)),
            Err(refused) => Err(refused),
        },
        ("DELETE", [node, window]) => {
            ops::budget_unset(ledger, node, &[window.to_string()]).await.map(|budget| ok(&budget))
        }
        _ => return None,
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Release {
    charged: Option<String>,
    force: bool,
}

async fn holds(call: &Call<'_>, verb: &str, rest: &[&str]) -> Option<Answer> {
    let ledger = &call.state.ledger;
    Some(match (verb, rest) {
        ("GET", []) => ops::holds_list(ledger).await.map(|list| ok(&list)),
        ("POST", [id, "release"]) => match call.read_or_default::<Release>() {
            Ok(Release { charged, force }) => {
                ops::holds_release(ledger, id, charged.as_deref(), force).await.map(|released| ok(&released))
            }
            Err(refused) => Err(refused),
        },
        _ => return None,
    })
}

/// `{"target": "K or T"}`, `{"session": "S", "key": "K"}` or `{"all": true}`: exactly one of the three.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stop {
    target: Option<String>,
    session: Option<String>,
    key: Option<String>,
    all: bool,
}

async fn kill(call: &Call<'_>) -> Answer {
    ops::kill(&call.state.ledger, &target(call)?).await.map(|killed| ok(&killed))
}

async fn stop(call: &Call<'_>, state: State) -> Answer {
    ops::set_state(&call.state.ledger, &target(call)?, state).await.map(|changed| ok(&changed))
}

fn target(call: &Call<'_>) -> Result<Target, OpError> {
    Ok(match call.read::<Stop>()? {
        Stop { target: Some(name), session: None, key: None, all: false } => Target::Node(name),
        Stop { target: None, session: Some(id), key, all: false } => Target::Session { id, key },
        Stop { target: None, session: None, key: None, all: true } => Target::All,
        _ => {
            return Err(OpError::invalid("say exactly one of target, session (perhaps with key) and all"));
        }
    })
}

fn ok(value: &impl serde::Serialize) -> Response<Vec<u8>> {
    json_page(StatusCode::OK, value)
}

/// An operation that was not done, as an answer.
pub(super) fn refusal(refused: &OpError) -> Response<Vec<u8>> {
    let status = match refused.kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(status, &refused.message, &refused.hint)
}

//! What the gateway answers by itself on the data plane: health, readiness, a key's own budgets; and what no request's head may be.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Version};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::{Value, json};

use super::app::{App, size};
use super::refusal::Refusal;
use super::{admit, attempts, intake};
use crate::clock::rfc3339;
use crate::config::Settings;
use crate::ledger::{LedgerError, NodeStatus, SessionStatus, WindowStatus};
use crate::money::Money;

/// Checks a request's head, and returns its target as it came.
pub fn sane_head(session: &Session, settings: &Settings) -> Result<String, Refusal> {
    let head = session.req_header();
    let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes = lines.sum::<usize>() + head.method.as_str().len() + head.raw_path().len();
    let max = size(settings.limits.header_bytes);
    if bytes > max {
        return Err(Refusal::too_large("request head", max, "limits.header_bytes"));
    }
    if head.version < Version::HTTP_11 {
        return Err(Refusal::invalid("HTTP/1.0 is not supported."));
    }
    if head.headers.contains_key("upgrade") {
        return Err(Refusal::invalid("Protocol upgrades are not proxied."));
    }
    // Pingora takes the one and drops the other; a proxy in front may have decided the other way round.
    let framings = ["content-length", "transfer-encoding"].map(|name| head.headers.get_all(name).iter().count());
    let both_sent = session
        .as_http1()
        .is_some_and(|h1| framings[1] > 0 && mentions(&h1.get_headers_raw_bytes(), b"\ncontent-length"));
    if both_sent || framings[0] > 1 || framings[1] > 1 {
        return Err(Refusal::invalid("The length of the body is given in more than one way."));
    }
    let target = match session.as_http1() {
        Some(_) => std::str::from_utf8(head.raw_path()).map_err(|_| Refusal::unknown_route())?.to_string(),
        None => head.uri.path_and_query().map_or_else(|| String::from("/"), |target| target.as_str().to_string()),
    };
    Ok(target)
}

/// True when `raw` holds `name` (lower case) in any case.
fn mentions(raw: &[u8], name: &[u8]) -> bool {
    raw.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name))
}

/// Answers the gateway's own routes. False for everything else.
pub async fn answers(session: &mut Session, app: &Arc<App>, settings: &Settings, target: &str) -> Result<bool> {
    let path = target.split('?').next().unwrap_or_default();
    if session.req_header().method != Method::GET {
        return Ok(false);
    }
    let (status, body) = match path {
        "/healthz" => (200, json!({ "status": "alive" })),
        "/readyz" => readiness(app).await,
        "/loopers/v1/budget" => match budget(session, app, settings, target).await {
            Ok(body) => (200, body),
            Err(refusal) => {
                refusal.write(session, None, None, "-").await?;
                return Ok(true);
            }
        },
        _ => return Ok(false),
    };
    write_json(session, status, &body).await?;
    Ok(true)
}

async fn write_json(session: &mut Session, status: u16, body: &Value) -> Result<()> {
    let body = Bytes::from(body.to_string());
    let mut header = ResponseHeader::build(status, Some(4))?;
    header.insert_header("content-type", "application/json")?;
    header.insert_header("content-length", body.len())?;
    header.insert_header("cache-control", "no-store")?;
    session.write_response_header(Box::new(header), false).await?;
    session.write_response_body(Some(body), true).await
}

/// Ready means: a real hold and release on the ledger just worked.
async fn readiness(app: &Arc<App>) -> (u16, Value) {
    if app.is_draining() {
        return (503, json!({ "status": "draining" }));
    }
    match app.readiness.check(&app.ledger).await {
        Ok(()) => (200, json!({ "status": "ready" })),
        Err(reason) => (503, json!({ "status": "not ready", "reason": reason })),
    }
}

/// The budgets that a key's calls are taken from.
async fn budget(session: &Session, app: &Arc<App>, settings: &Settings, target: &str) -> Result<Value, Refusal> {
    let headers = &session.req_header().headers;
    let target = intake::target(target).ok_or_else(Refusal::unknown_route)?;
    let (credentials, _) = attempts::authenticate(session, app, settings, &target).await?;
    let view = admit::fresh_view(app, &credentials.key).await?;
    let down = |error: LedgerError| Refusal::from_ledger_error(&error);
    let mut levels = Vec::new();
    for id in &view.chain {
        levels.push(level(&app.ledger.status(id).await.map_err(down)?));
    }
    let ask = intake::session_headers(headers)?.ask(&view.key.policy);
    let run = match &ask {
        Some(ask) => app.ledger.session(&view.key.id, &ask.id).await.map_err(down)?,
        None => None,
    };
    Ok(json!({ "key": view.key.id, "levels": levels, "session": run.as_ref().map(session_books) }))
}

fn level(status: &NodeStatus) -> Value {
    let windows: Vec<Value> = status.windows.iter().map(window).collect();
    json!({ "level": status.level.name(), "id": status.id, "windows": windows })
}

fn window(w: &WindowStatus) -> Value {
    json!({
        "window": w.window.name(),
        "limit_usd": w.limit.map(|limit| limit.to_string()),
        "spent_usd": w.spent.to_string(),
        "held_usd": w.held.to_string(),
        "remaining_usd": remaining(w.limit, w.spent, w.held),
        "resets_at": rfc3339(w.resets_at),
    })
}

fn session_books(run: &SessionStatus) -> Value {
    json!({
        "id": run.id,
        "limit_usd": run.limit.map(|limit| limit.to_string()),
        "spent_usd": run.spent.to_string(),
        "held_usd": run.held.to_string(),
        "remaining_usd": remaining(run.limit, run.spent, run.held),
        "steps": run.steps,
        "steps_limit": run.steps_limit,
    })
}

fn remaining(limit: Option<Money>, spent: Money, held: Money) -> Option<String> {
    limit.map(|limit| limit.saturating_sub(spent).saturating_sub(held).to_string())
}

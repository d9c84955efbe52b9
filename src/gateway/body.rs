//! Reads a whole request body before the call is forwarded, of any size and framing, and has it bounded.
//!
//! Pingora 0.9 forwards a body that a filter has read only if something of it is left to forward: its retry buffer (at most 64 KiB)
//! or a body that is not fully read yet. So the buffer is switched on for the last piece only; that piece is what
//! `request_body_filter` later replaces by the whole new body. For a chunked body, whose last piece nobody can foresee, the
//! session is given a one-byte body to forward instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora::proxy::Session;

use super::Ctx;
use super::admit::Denied;
use super::app::{Permit, size};
use super::refusal::Refusal;
use crate::config::ProviderSettings;
use crate::provider::{Call, Provider, Reading, Request, Route};

/// Pingora's retry buffer takes no more than this.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// Reads the whole body of a request, within its own limits and those of all bodies together.
pub async fn read(session: &mut Session, ctx: &mut Ctx) -> Result<Bytes, Denied> {
    if session.get_header("content-encoding").is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::new(
            415,
            "unsupported_encoding",
            "A compressed request body cannot be bounded.",
            "Send it without Content-Encoding.",
        )
        .into());
    }
    let limits = &ctx.settings.limits;
    let (max, patience) = (size(limits.body_bytes), Duration::from_secs(limits.body_seconds));
    let length = declared_length(session)?;
    let all_max = size(limits.buffered_bytes);
    let permit = Permit::take(&ctx.app, |app| &app.door.buffered, 0, all_max).ok_or_else(no_room)?;
    let mut room = Room { permit, all_max };
    let started = Instant::now();
    let app = ctx.app.clone();
    let body = tokio::select! {
        biased;
        body = read_whole(session, length, max, patience, &mut room) => body,
        // A call whose body comes now would be refused after it.
        () = app.told_to_end() => Err(Refusal::draining().into()),
    };
    ctx.story.sending = started.elapsed();
    ctx.permits.push(room.permit);
    body
}

/// This body's share of the memory for all bodies: taken as its bytes come, so that a slow client has no more than it sent.
struct Room {
    permit: Permit,
    all_max: usize,
}

fn no_room() -> Refusal {
    Refusal::overloaded("limits.buffered_bytes")
}

/// The declared length of the body; `None` when it is chunked.
fn declared_length(session: &Session) -> Result<Option<usize>, Refusal> {
    let Some(value) = session.get_header("content-length") else { return Ok(None) };
    let length =
        value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit())).and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Refusal::invalid("The content-length is not a number."))
}

/// Reads the whole body, at most `max` bytes, in at most `patience`.
async fn read_whole(
    session: &mut Session,
    length: Option<usize>,
    max: usize,
    patience: Duration,
    room: &mut Room,
) -> Result<Bytes, Denied> {
    let too_large = || Refusal::too_large("request body", max, "limits.body_bytes");
    if length.is_some_and(|length| length > max) {
        return Err(too_large().into());
    }
    if session.is_body_empty() {
        return Ok(Bytes::new());
    }
    let expects =
        session.get_header("expect").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects {
        session.write_continue_response().await.map_err(|e| Denied::Gone(e.into_down()))?;
    }
    let body = match tokio::time::timeout(patience, read_pieces(session, length, max, room)).await {
        Ok(body) => body?,
        Err(_) => return Err(Refusal::invalid("The request body did not arrive in time.").into()),
    };
    if length.is_none() {
        leave_something_to_forward(session).await?;
    }
    Ok(body)
}

async fn read_pieces(
    session: &mut Session,
    length: Option<usize>,
    max: usize,
    room: &mut Room,
) -> Result<Bytes, Denied> {
    let mut body = BytesMut::with_capacity(length.unwrap_or(0).min(TAIL_BYTES_MAX));
    loop {
        match length {
            Some(length) if length.saturating_sub(body.len()) <= TAIL_BYTES_MAX => session.enable_retry_buffering(),
            _ => {}
        }
        let Some(piece) = session.read_request_body().await.map_err(|e| Denied::Gone(e.into_down()))? else {
            return Ok(body.freeze());
        };
        if body.len() + piece.len() > max {
            return Err(Refusal::too_large("request body", max, "limits.body_bytes").into());
        }
        if !room.permit.grow(piece.len(), room.all_max) {
            return Err(no_room().into());
        }
        if body.is_empty() && length == Some(piece.len()) {
            // The usual small body, whole in one piece: no copy. The next read sees its end.
            if session.is_body_done() {
                return Ok(piece);
            }
        }
        body.extend_from_slice(&piece);
    }
}

/// A body without a declared length left nothing that Pingora would forward: put one byte there.
async fn leave_something_to_forward(session: &mut Session) -> Result<(), Denied> {
    let head = session.req_header().clone();
    session.set_pipelined_prefix(BytesMut::from(&b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"[..]));
    session.read_request().await.map_err(|e| Denied::Gone(e.into_down()))?;
    // The body reader must be set up from the substitute before the real head comes back.
    let _ = session.is_body_empty();
    *session.req_header_mut() = head;
    // A request pipelined behind this one would be lost.
    session.set_keepalive(None);
    Ok(())
}

/// Reads and bounds a metered call; `path` with its query.
pub fn read_call(
    session: &Session,
    ctx: &Ctx,
    (provider, route): (&'static dyn Provider, Route),
    (path, query): (&str, Option<&str>),
    body: Bytes,
    provider_settings: &ProviderSettings,
) -> Result<Arc<Call>, Refusal> {
    let reading = Reading {
        provider: &provider_settings.name,
        prices: &ctx.settings.prices,
        options: &provider_settings.options,
    };
    let request = Request { route, path, query, headers: &session.req_header().headers, body };
    let call = provider.read(request, &reading).map_err(Refusal::from_reject)?;
    failpoint!("request_parsed");
    Ok(Arc::new(call))
}

//! How a call ends: what its client is told, and what its hold is charged.

use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::answer::CutReason;
use super::refusal::Refusal;
use super::verdict::{self, Outcome};
use super::{CUT, Ctx, report};
use crate::ledger::Charge;
use crate::money::Money;
use crate::observe::metrics;

/// With more than this unread, the provider may have sent more than this machine could take in.
const UNMETERED_BYTES_MAX: u64 = 16 << 10;
/// Room for the header lines of one answer.
const LINES_ROOM: usize = 256;
/// The status under which a call is reported whose client left.
const CLIENT_CLOSED: u16 = 499;

/// Ends an answer in its middle.
pub fn cut<T>() -> Result<T> {
    // Marked as the client's side: that resets an HTTP/2 stream at the provider explicitly.
    Error::e_explain(CUT, "the call was cut").map_err(|error: Box<Error>| error.into_down())
}

/// Adds what Loopers says of the call to the answer's head. Where the head is kept back for the cost, all of it goes there as text: a
/// header that passes through Pingora's maps costs much more.
pub fn answer_headers(head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    failpoint!("answer_head");
    if let (Some(link), true) = (&ctx.link, cost_goes_into_head(head, ctx)) {
        let mut lines = String::with_capacity(LINES_ROOM);
        said(head, ctx, |name, value| {
            // A text takes whatever is written into it.
            let _ = write!(lines, "{name}: {value}\r\n");
        });
        link.hold_head(lines);
        return Ok(());
    }
    let mut all: Vec<(&'static str, String)> = Vec::with_capacity(5);
    said(head, ctx, |name, value| {
        all.push((name, value.to_string()));
    });
    for (name, value) in all {
        head.insert_header(name, value)?;
    }
    Ok(())
}

/// What Loopers says of the call, its cost left out.
fn said(head: &ResponseHeader, ctx: &Ctx, mut say: impl FnMut(&'static str, &dyn fmt::Display)) {
    if !head.headers.contains_key("x-request-id") {
        say("X-Request-ID", &ctx.request_id);
    }
    let (Some(admitted), true) = (&ctx.admitted, ctx.settings.expose_headers) else { return };
    say("X-Loopers-Held-USD", &admitted.hold.granted());
    if let Some(remaining) = &admitted.remaining {
        say("X-Loopers-Remaining-USD", &remaining.amount);
        let level = remaining.level.name();
        match remaining.window {
            Some(window) => say("X-Loopers-Remaining-Window", &format_args!("{level}/{}", window.name())),
            None => say("X-Loopers-Remaining-Window", &level),
        }
    }
    if let Some(limit) = admitted.clamped_to {
        say("X-Loopers-Max-Tokens", &limit);
    }
}

/// True when the head is kept back until the cost of the answer is known: a metered answer in one piece.
fn cost_goes_into_head(head: &ResponseHeader, ctx: &Ctx) -> bool {
    let empty = head.headers.get("content-length").is_some_and(|length| length.as_bytes() == b"0");
    ctx.settings.expose_headers && ctx.meter.is_some() && !ctx.is_stream() && !empty && head.status.is_success()
}

/// The answer is complete: puts its cost into the head that was kept back.
pub fn announce_cost(ctx: &mut Ctx) {
    failpoint!("answer_complete");
    if ctx.is_stream() {
        return;
    }
    let Some(link) = ctx.link.clone() else { return };
    let granted = ctx.admitted.as_ref().map_or(Money::ZERO, |admitted| admitted.hold.granted());
    let cost = match charge(None, ctx) {
        Charge::Exact(cost) => cost,
        Charge::Full => granted,
    };
    link.release_head(format_args!("X-Loopers-Cost-USD: {cost}"));
}

/// Tells the client why there is no answer, or no more of it. Returns the status for logs.
pub async fn tell_client(session: &mut Session, error: &Error, ctx: &mut Ctx) -> u16 {
    let reason = reason(error, ctx);
    if let Some(refusal) = &reason {
        ctx.refused = Some(refusal.code);
    }
    let Some(refusal) = reason else { return CLIENT_CLOSED };
    // A `100 Continue` is no answer yet.
    if session.response_written().is_none_or(|head| head.status.is_informational()) {
        metrics::refusal(refusal.code);
        if let Err(error) = refusal.write(session, ctx.provider, ctx.route, &ctx.request_id).await {
            log::debug!("{}: a refusal could not be written: {error}", ctx.request_id);
        }
        return refusal.status;
    }
    let written = if ctx.is_stream() {
        end_stream(session, &refusal, ctx).await
    } else {
        replace_answer(session, &refusal, ctx).await
    };
    if let Err(error) = written {
        log::debug!("{}: the end of an answer could not be written: {error}", ctx.request_id);
    }
    refusal.status
}

/// What happened, as an answer; `None` when there is nobody to tell.
fn reason(error: &Error, ctx: &Ctx) -> Option<Refusal> {
    if let Some(stopped) = ctx.stopped() {
        return Some(stopped);
    }
    match (error.etype(), error.esource()) {
        (etype, _) if *etype == CUT => Some(match ctx.cut {
            Some(CutReason::Unreadable) | None => Refusal::new(
                502,
                "upstream_unreachable",
                "The provider's answer could not be metered, so it was cut.",
                "The call was charged in full, because its cost is not known.",
            ),
            Some(CutReason::HoldReached) => Refusal::new(
                402,
                "budget_exceeded",
                "The money held for this call is used up, so its answer was cut.",
                "An operator can raise the limit: loopers budget set",
            ),
        }),
        (_, ErrorSource::Downstream) => None,
        (
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
            _,
        ) => Some(Refusal::new(504, "upstream_timeout", "The provider did not answer in time.", "")),
        (ErrorType::HTTPStatus(400), ErrorSource::Unset) => Some(Refusal::invalid("The request is malformed.")),
        _ => Some(Refusal::new(
            502,
            "upstream_unreachable",
            "The provider could not be reached, or broke off its answer.",
            "",
        )),
    }
}

/// Ends a stream so that no SDK takes it for a success: what was let through, an error event, a clean end.
async fn end_stream(session: &mut Session, refusal: &Refusal, ctx: &mut Ctx) -> Result<()> {
    let mut rest: BytesMut = ctx.tail.unsent(session.body_bytes_sent());
    close_stream(&mut rest, refusal, ctx);
    session.write_response_body(Some(rest.freeze()), true).await
}

/// The last bytes that the client may have, and the event that says why there are no more.
fn close_stream(rest: &mut BytesMut, refusal: &Refusal, ctx: &mut Ctx) {
    let Some(meter) = &mut ctx.meter else { return };
    rest.extend_from_slice(&ctx.last);
    let closing = refusal.with_answer(&ctx.request_id, ctx.route, |answer| meter.closing_event(answer));
    rest.extend_from_slice(&closing);
}

/// What an answer that fails at its trailers ends with: Pingora goes on there whatever a filter says.
pub fn end_at_trailers(error: &Error, ctx: &mut Ctx) -> Option<Bytes> {
    let refusal = reason(error, ctx)?;
    ctx.refused = Some(refusal.code);
    let mut rest = BytesMut::new();
    if ctx.is_stream() {
        close_stream(&mut rest, &refusal, ctx);
    }
    (!rest.is_empty()).then(|| rest.freeze())
}

/// An answer in one piece that broke off while its head was kept back: the client gets a whole error instead of a torn answer.
async fn replace_answer(session: &mut Session, refusal: &Refusal, ctx: &mut Ctx) -> Result<()> {
    let Some(link) = &ctx.link else { return Ok(()) };
    let reply = refusal.reply(ctx.provider, ctx.route, &ctx.request_id);
    let mut answer = format!(
        "HTTP/1.1 {} Loopers\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-should-retry: false\r\nx-request-id: {}\r\nconnection: close\r\n",
        reply.status,
        reply.body.len(),
        ctx.request_id
    );
    for (name, value) in &reply.headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(&reply.body);
    if !link.replace_answer(answer) {
        return Ok(());
    }
    ctx.story.told = Some(reply.status);
    // Any byte of the old answer makes the connection send the new one.
    session.write_response_body(Some(Bytes::from_static(b" ")), false).await
}

/// Settles the call's hold, and tells what happened; `written` is the status that went to the client. Runs exactly once a request;
/// never waits.
pub fn settle(error: Option<&Error>, written: Option<u16>, ctx: &mut Ctx) {
    failpoint!("call_ended");
    let charge = charge(error, ctx);
    let gone = ctx.link.as_ref().is_some_and(|link| link.gone())
        || error.is_some_and(|e| e.esource() == &ErrorSource::Downstream && e.etype() != &CUT);
    if let Some(admitted) = &ctx.admitted {
        log::debug!("{}: {:?} of {} held, {charge:?}", ctx.request_id, ctx.status, admitted.hold.granted());
    }
    report::tell(error.is_some(), gone, written, charge, ctx);
    if let Some(admitted) = ctx.admitted.take() {
        admitted.hold.settle(charge);
    }
    if let Some(link) = &ctx.link {
        link.end_call();
    }
}

/// What the call is charged.
fn charge(error: Option<&Error>, ctx: &mut Ctx) -> Charge {
    let unmetered = unmetered(ctx);
    let (Some(admitted), Some(provider), Some(call)) = (&ctx.admitted, ctx.provider, ctx.call.clone()) else {
        // Without a hold there is nothing to charge; with one there are a provider and a call.
        return if ctx.admitted.is_some() { Charge::Full } else { Charge::Exact(Money::ZERO) };
    };
    let settings = ctx.settings.clone();
    let outcome = Outcome {
        sent: admitted.hold.was_sent(),
        granted: admitted.hold.granted(),
        is_stopped: admitted.switch.reason().is_some(),
        cut: ctx.cut,
        status: ctx.status,
        is_complete: ctx.complete,
        client_left: error.is_some_and(|e| e.esource() == &ErrorSource::Downstream),
        on_disconnect: ctx.provider_settings().map(|settings| settings.on_disconnect),
        unmetered,
    };
    verdict::charge(&outcome, provider, &call, (&settings.prices, &ctx.provider_name.clone()), ctx.meter.as_mut())
}

/// Bytes of the answer that had reached this machine, when it was decided to end the call, without having been metered; each may be a
/// token. `None` when that is not known or too much to tell what else is on its way: a client that does not keep up, or a gateway.
fn unmetered(ctx: &Ctx) -> Option<u64> {
    let link = ctx.link.as_ref().filter(|link| !link.waited())?;
    let received = link.received()?;
    let unmetered = ctx.meter.as_ref().map_or(received, |meter| meter.unmetered(received));
    (unmetered <= UNMETERED_BYTES_MAX).then_some(unmetered)
}

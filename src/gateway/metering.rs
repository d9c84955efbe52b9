//! The provider's answer while it passes: metered, and let through as far as the hold pays.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, Result};

use super::answer::{CutReason, Meter};
use super::{CUT, Ctx, ending};
use crate::observe::metrics;
use crate::provider::AnswerHead;

/// The head of an answer is there: decides how its body is read.
pub fn begin(head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    ctx.status = Some(head.status.as_u16());
    ctx.first_byte_at = Some(Instant::now());
    ctx.story.provider_answered(&head.headers);
    let (Some(provider), Some(route), Some(call), Some(admitted)) = (ctx.provider, ctx.route, &ctx.call, &ctx.admitted)
    else {
        return Ok(());
    };
    let encoding = head.headers.get("content-encoding").map(|value| value.as_bytes());
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        if provider.unbilled_status(head.status.as_u16()) {
            // Whatever it says, it costs nothing.
            return Ok(());
        }
        ctx.cut = Some(CutReason::Unreadable);
        return Error::e_explain(CUT, "the answer is compressed although that was not asked for");
    }
    let content_type = head.headers.get("content-type").and_then(|kind| kind.to_str().ok());
    let answer = AnswerHead { status: head.status.as_u16(), content_type, headers: &head.headers };
    let reader = provider.answer(route, call, &answer, admitted.ceiling);
    let length = head.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    if reader.is_stream() {
        // A cut ends the stream early, and an event may be hidden: the length cannot be promised.
        head.remove_header("content-length");
        metrics::stream_opened();
    }
    let head_bytes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let is_tls = ctx.provider_settings().is_some_and(|settings| settings.base_url.tls);
    let mut meter = Meter::new(reader, call.clone(), admitted.hold.granted(), head_bytes, is_tls);
    meter.awaits(length);
    ctx.meter = Some(meter);
    Ok(())
}

/// Meters what came, and lets through what the hold pays for.
pub fn pass(session: &Session, body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    if ctx.stopped().is_some() {
        ctx.note_received();
        return ending::cut();
    }
    let came_at = Instant::now();
    ctx.last_byte_at = Some(came_at);
    let Some(meter) = &mut ctx.meter else { return Ok(()) };
    let piece = body.take().unwrap_or_default();
    let mut emit = BytesMut::with_capacity(piece.len());
    let mut judged = if piece.is_empty() { Ok(()) } else { meter.feed(&piece, &mut emit) };
    // Pingora is done when the last promised byte is written, whether or not the provider has told the end by then.
    let end = (end || meter.is_whole()) && !ctx.complete;
    if end && judged.is_ok() {
        judged = meter.finish(&mut emit);
    }
    if let Some(link) = &ctx.link {
        link.metered(meter.accounted());
    }
    if let Err(reason) = judged {
        ctx.cut = Some(reason);
        ctx.note_received();
        ctx.last = emit.freeze();
        return ending::cut();
    }
    let emit = emit.freeze();
    if meter.is_stream() {
        ctx.tail.push(emit.clone(), session.body_bytes_sent());
    }
    if let Some(admitted) = &mut ctx.admitted
        && (end || meter.finished())
    {
        admitted.hold.ends();
    }
    if end {
        ctx.complete = true;
        ending::announce_cost(ctx);
    } else {
        ctx.story.metering += came_at.elapsed();
    }
    *body = (!emit.is_empty()).then_some(emit);
    Ok(())
}

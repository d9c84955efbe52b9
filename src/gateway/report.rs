//! What is told of a call when it has ended: its counters, and the record that goes to log and traces.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::Ctx;
use super::answer::CutReason;
use crate::alerts::Cut;
use crate::clock::Clock;
use crate::ledger::{Charge, KeyView};
use crate::observe::calls::{CallRecord, TEXT_BYTES_MAX, Times, Trace};
use crate::observe::metrics;
use crate::pricing::Usage;

/// Headers in which providers name a request: the first one that is there counts.
const PROVIDER_IDS: [&str; 4] = ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"];

/// What is worth telling of a call and needed for nothing else.
#[derive(Default)]
pub struct Story {
    /// A route of the gateway's own, such as health: no call.
    pub own: bool,
    /// The key, once it was found.
    pub view: Option<Arc<KeyView>>,
    /// The session that the request names.
    pub session: Option<Arc<str>>,
    /// The client's trace.
    pub trace: Option<Trace>,
    /// The provider's id of the request.
    pub provider_request_id: Option<Box<str>>,
    /// The status that the client got, where it is not the one that the connection was told to write.
    pub told: Option<u16>,
    /// Time that passed while the client sent its body.
    pub sending: Duration,
    /// Time spent on the pieces of the answer before its last one came.
    pub metering: Duration,
}

impl Story {
    /// Remembers the client's trace, if it names exactly one.
    pub fn client_asked(&mut self, headers: &HeaderMap) {
        let mut named = headers.get_all("traceparent").iter();
        if let (Some(trace), None) = (named.next(), named.next()) {
            self.trace = trace.to_str().ok().and_then(Trace::parse);
        }
    }

    /// Remembers the provider's id of the request: visible ASCII, and not too long.
    pub fn provider_answered(&mut self, headers: &HeaderMap) {
        let named = PROVIDER_IDS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
        self.provider_request_id =
            named.filter(|id| id.len() <= TEXT_BYTES_MAX && id.bytes().all(|b| b.is_ascii_graphic())).map(Box::from);
    }
}

/// How a call ended, in the words of metrics and log.
struct Ended {
    ending: &'static str,
    cut: Option<&'static str>,
    usage: Option<Usage>,
    times: Times,
}

/// Counts a call, and tells of it. `written` is the status on the wire, `gone` whether its client left early. The gateway's own
/// routes, such as health, are no calls.
pub fn tell(failed: bool, gone: bool, written: Option<u16>, charge: Charge, ctx: &mut Ctx) {
    if ctx.story.own {
        return;
    }
    let ended = count(failed, gone, ctx);
    let app = ctx.app.clone();
    if app.reports.wanted() {
        app.reports.tell(record(ended, written, charge, ctx));
    }
}

fn record(ended: Ended, written: Option<u16>, charge: Charge, ctx: &mut Ctx) -> CallRecord {
    let hold = ctx.admitted.as_ref().map(|admitted| admitted.hold.at().clone());
    let price = ctx.call.as_ref().map(|call| &call.price.id);
    CallRecord {
        ended_at: Clock::System.now(),
        request_id: std::mem::take(&mut ctx.request_id),
        provider_request_id: ctx.story.provider_request_id.take(),
        trace: ctx.app.reports.trace(ctx.story.trace),
        session: hold.as_ref().map_or_else(|| ctx.story.session.take(), |hold| hold.session.clone()),
        view: ctx.story.view.take(),
        api: ctx.provider.map(|provider| provider.name()),
        provider: ctx.provider_name.clone(),
        server: server_of(ctx),
        route: ctx.route.map(|route| route.label),
        model: price.map(|id| model_of(id).into()),
        requested_model: ctx.call.as_ref().map(|call| call.model.clone()),
        response_model: ctx.meter.as_mut().and_then(|meter| meter.model()).map(Box::from),
        stream: ctx.call.as_ref().is_some_and(|call| call.stream) || ctx.is_stream(),
        status: ctx.story.told.or(written),
        ending: ended.ending,
        code: ctx.refused,
        cut: ended.cut,
        usage: ended.usage,
        held: ctx.admitted.as_ref().map(|admitted| admitted.hold.granted()),
        charge: hold.is_some().then_some(charge),
        clamped_to: ctx.admitted.as_ref().and_then(|admitted| admitted.clamped_to),
        times: ended.times,
        hold,
    }
}

/// Where the provider is, for traces.
fn server_of(ctx: &Ctx) -> Option<(Box<str>, u16)> {
    let url = ctx.app.reports.wants_servers().then(|| ctx.provider_settings()).flatten()?.base_url.clone();
    Some((url.host.into(), url.port))
}

/// The model of a price row's id, `provider/model`.
fn model_of(id: &str) -> &str {
    id.split_once('/').map_or(id, |(_, model)| model)
}

fn count(failed: bool, gone: bool, ctx: &mut Ctx) -> Ended {
    let name = ctx.provider_name.clone();
    let provider = if name.is_empty() { "none" } else { &*name };
    let route = ctx.route.map_or("none", |route| route.label);
    let ending = ending(failed, gone, ctx);
    metrics::request(provider, route, ending);
    if ctx.is_stream() {
        metrics::stream_closed();
    }
    if gone {
        metrics::client_disconnect(provider);
    }
    let cut = count_cut(ctx);
    let prices = ctx.settings.prices.clone();
    let mut usage = None;
    if let (Some(meter), Some(call)) = (&mut ctx.meter, &ctx.call) {
        let model = model_of(&call.price.id);
        usage = meter.reported_cost(&prices, provider).map(|(_, usage)| usage);
        if let Some(usage) = &usage {
            metrics::tokens(provider, model, "input", usage.total_input());
            metrics::tokens(provider, model, "output", usage.total_output());
        }
        if meter.odd() {
            metrics::odd_usage(provider);
        }
    }
    Ended { ending, cut, usage, times: times(provider, ctx) }
}

/// One of a fixed set of words, a label of `loopers_requests_total`.
fn ending(failed: bool, gone: bool, ctx: &Ctx) -> &'static str {
    let was_sent = ctx.admitted.as_ref().is_none_or(|admitted| admitted.hold.was_sent());
    match (ctx.refused, ctx.status) {
        _ if ctx.cut.is_some() || ctx.stopped().is_some() => "cut",
        _ if gone => "client_gone",
        (Some(_), None) if ctx.upstream_at.is_none() => "refused",
        (Some(_), None) if !was_sent => "unreached",
        (Some(_), _) => "upstream_failed",
        (None, Some(status)) if status >= 400 => "provider_error",
        (None, _) if failed => "failed",
        _ => "ok",
    }
}

fn count_cut(ctx: &Ctx) -> Option<&'static str> {
    let reason = match (ctx.cut, ctx.stopped()) {
        (_, Some(stopped)) => stopped.code,
        (Some(CutReason::HoldReached), None) => "hold_reached",
        (Some(CutReason::Unreadable), None) => "unreadable",
        (None, None) => return None,
    };
    metrics::cut(reason);
    if let (Some(admitted), Some(call)) = (&ctx.admitted, &ctx.call) {
        let chain = admitted.hold.at().chain.clone();
        ctx.app.notes.cut(Cut { chain, reason, model: call.price.id.to_string() });
    }
    Some(reason)
}

/// Time spent in the gateway: before the provider was called, on the pieces of its answer, and after its last byte. The client's
/// sending of the body is left out like the provider's thinking.
fn times(provider: &str, ctx: &Ctx) -> Times {
    let total = ctx.started.elapsed();
    let after = ctx.last_byte_at.map(|at| at.elapsed()).unwrap_or_default();
    let before = ctx.upstream_at.map_or(total, |at| at.duration_since(ctx.started));
    let overhead = before.saturating_sub(ctx.story.sending) + ctx.story.metering + after;
    let first_byte = ctx.upstream_at.zip(ctx.first_byte_at).map(|(start, first)| first.duration_since(start));
    metrics::overhead(overhead);
    if let Some(first) = first_byte {
        metrics::ttft(provider, first);
    }
    let end = ctx.last_byte_at.unwrap_or_else(std::time::Instant::now);
    let provider = ctx.upstream_at.map(|start| end.saturating_duration_since(start));
    Times { total, before, overhead, first_byte, provider }
}

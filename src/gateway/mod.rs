//! The proxy: a call's life from its first byte to its settlement.
//!
//! The phases of [`ProxyHttp`] stand below in the order in which a call passes them; each is a few lines that name the step's own
//! module. `docs/ARCHITECTURE.md` tells the same story with its invariants.
//!
//! The modules that decide about money know nothing of sockets and are public, so that the simulation in `tests/sim` drives them too.

pub mod admit;
pub mod answer;
pub mod app;
pub mod around;
mod attempts;
mod body;
mod client;
mod count;
mod counts;
mod door;
mod ending;
mod forward;
mod health;
pub mod hold;
mod http2;
pub mod intake;
pub mod keeper;
mod link;
mod loops;
mod metering;
mod refusal;
mod reload;
mod report;
mod reserver;
mod resolver;
pub mod running;
mod serve;
pub mod settler;
mod spool;
mod state;
mod trust;
pub mod verdict;

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use self::admit::{Admitted, Denied};
use self::answer::{CutReason, Meter, Tail};
use self::app::{App, Permit};
use self::forward::Outbound;
use self::link::ClientLink;
use self::refusal::Refusal;
use self::report::Story;
use crate::config::{OnDisconnect, ProviderSettings, Settings};
use crate::observe::metrics;
use crate::provider::{Call, Provider, Route};

pub use reload::Source;
pub use serve::{InProcess, run, start_in_process};
pub use state::{open_ledger, waiting_settlements};

/// The error with which a filter ends an answer; `fail_to_proxy` then finishes the client's stream.
const CUT: ErrorType = ErrorType::Custom("loopers_cut");

/// The gateway as Pingora knows it.
struct Gateway {
    app: Arc<App>,
    started: Once,
}

/// One request, from its first byte to its settlement.
struct Ctx {
    app: Arc<App>,
    settings: Arc<Settings>,
    started: Instant,
    request_id: String,
    provider: Option<&'static dyn Provider>,
    /// Its name in the config, empty where the config has none: one API may have several names.
    provider_name: Arc<str>,
    route: Option<Route>,
    link: Option<Arc<ClientLink>>,
    /// The metered call, and the money held for it.
    call: Option<Arc<Call>>,
    admitted: Option<Admitted>,
    /// What is sent to the provider.
    outbound: Option<Outbound>,
    body: Bytes,
    /// The answer so far.
    status: Option<u16>,
    meter: Option<Meter>,
    complete: bool,
    tail: Tail,
    /// Why the answer was cut, and the last bytes that the client may still have.
    cut: Option<CutReason>,
    last: Bytes,
    /// What the client was told instead of an answer.
    refused: Option<&'static str>,
    upstream_at: Option<Instant>,
    first_byte_at: Option<Instant>,
    last_byte_at: Option<Instant>,
    /// Shares of bounded resources, given back at the end.
    permits: Vec<Permit>,
    /// What is only told.
    story: Story,
}

impl Ctx {
    fn provider_settings(&self) -> Option<&ProviderSettings> {
        self.settings.providers.get(&*self.provider_name)
    }

    /// The call ends early, here.
    fn note_received(&self) {
        if let Some(link) = &self.link {
            link.note_received();
        }
    }

    /// The request names this provider, which may be configured.
    fn goes_to(&mut self, name: &str, configured: Option<&ProviderSettings>) {
        self.provider = match configured {
            Some(configured) => crate::provider::find(&configured.api, &configured.name),
            // Only so that the refusal has the shape that the SDK expects.
            None => crate::provider::find(name, name),
        };
        if let Some(configured) = configured {
            self.provider_name = configured.name.clone();
        }
    }

    /// True when the answer comes in events.
    fn is_stream(&self) -> bool {
        self.meter.as_ref().is_some_and(Meter::is_stream)
    }

    /// The answer that ends this call from outside, if an operator or a deadline did.
    fn stopped(&self) -> Option<Refusal> {
        self.admitted.as_ref()?.switch.reason().cloned()
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            app: self.app.clone(),
            settings: self.app.settings.load_full(),
            started: Instant::now(),
            request_id: crate::secret::random_hex::<12>()
                .map_or_else(|_| String::from("req_"), |hex| format!("req_{hex}")),
            provider: None,
            provider_name: Arc::from(""),
            route: None,
            link: None,
            call: None,
            admitted: None,
            outbound: None,
            body: Bytes::new(),
            status: None,
            meter: None,
            complete: false,
            tail: Tail::default(),
            cut: None,
            last: Bytes::new(),
            refused: None,
            upstream_at: None,
            first_byte_at: None,
            last_byte_at: None,
            permits: Vec::new(),
            story: Story::default(),
        }
    }

    /// Authenticate, read, bound, hold. Nothing has been sent anywhere when this refuses.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        self.start_settling();
        ctx.link = if session.as_http1().is_some() { client::link_of(session.as_downstream()) } else { None };
        ctx.story.client_asked(&session.req_header().headers);
        match self.admission(session, ctx).await {
            Ok(Next::Forward) => Ok(false),
            Ok(Next::Answered) => {
                ctx.story.own = true;
                Ok(true)
            }
            Err(Denied::Gone(error)) => Err(error),
            Err(Denied::Refused(refusal)) => {
                ctx.refused = Some(refusal.code);
                metrics::refusal(refusal.code);
                // What was not read of the body would have to be read before the connection serves again.
                if matches!(refusal.status, 401 | 404 | 413 | 415 | 429) || refusal.code == "overloaded" {
                    session.set_keepalive(None);
                }
                refusal.write(session, ctx.provider, ctx.route, &ctx.request_id).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        ctx.upstream_at = Some(Instant::now());
        let settings = ctx.provider_settings().ok_or_else(|| Error::new(ErrorType::InternalError))?;
        forward::reach(&ctx.app, settings).await
    }

    /// Remembers the connection, to know how far behind its answer the meter is when the call ends early.
    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        fd: std::os::fd::RawFd,
        _digest: Option<&pingora::protocols::Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let (Some(link), Some(_), Some(provider)) = (&ctx.link, &ctx.admitted, ctx.provider) else { return Ok(()) };
        // Where a hang-up ends no bill, nobody asks how much had come by then.
        let drains = ctx.provider_settings().is_some_and(|settings| settings.on_disconnect == OnDisconnect::Drain);
        if provider.drop_stops_bill() || !drains {
            link.goes_out_on(fd);
        }
        Ok(())
    }

    /// The connection stands: from here on the provider may see the call.
    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let (Some(provider), Some(settings), Some(outbound)) = (ctx.provider, ctx.provider_settings(), &ctx.outbound)
        else {
            return Err(Error::new(ErrorType::InternalError));
        };
        // Stopped while the connection was made: nothing was sent yet, and nothing will be.
        if ctx.stopped().is_some() {
            return ending::cut();
        }
        forward::rewrite_head(head, outbound, &ctx.body, settings, provider)?;
        if let Some(admitted) = &mut ctx.admitted {
            admitted.hold.sent();
        }
        Ok(())
    }

    /// The body to forward is the one that was parsed and bounded; it takes the place of the last piece of what came.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if ctx.outbound.as_ref().is_some_and(|outbound| outbound.content_length.is_some()) {
            failpoint!("body_forwarded");
            *body = Some(if end { ctx.body.clone() } else { Bytes::new() });
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        metering::begin(head, ctx)
    }

    async fn response_filter(&self, _session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        if head.status.is_informational() {
            return Ok(());
        }
        ending::answer_headers(head, ctx)
    }

    /// Meters what came, and lets through what the hold pays for.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        metering::pass(session, body, end, ctx)?;
        Ok(None)
    }

    /// An answer that ends in trailers has no last piece: what its end decides is decided here.
    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        _trailers: &mut http::HeaderMap,
        ctx: &mut Ctx,
    ) -> Result<Option<Bytes>> {
        let mut rest = None;
        if let Err(error) = metering::pass(session, &mut rest, true, ctx) {
            rest = ending::end_at_trailers(&error, ctx);
        }
        Ok(rest)
    }

    /// A call that failed once is never sent again by us: each attempt may be billed.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        _ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(false);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        _ctx: &mut Ctx,
        _reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("peer {}", peer._address));
        error.set_retry(false);
        error
    }

    /// Says what went wrong in the provider's own shape: as the answer, or as the last event of a stream.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let code = ending::tell_client(session, error, ctx).await;
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    /// The end of every call, however it ended: its one settlement.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        ending::settle(error, session.response_written().map(|head| head.status.as_u16()), ctx);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, error: &Error) -> bool {
        error.etype() == &CUT || error.esource() == &pingora::ErrorSource::Downstream
    }
}

/// What happens after the admission.
enum Next {
    /// The call goes to the provider.
    Forward,
    /// The gateway itself has answered.
    Answered,
}

impl Gateway {
    fn new(app: Arc<App>) -> Self {
        Gateway { app, started: Once::new() }
    }

    /// Settlements run on the runtime that serves requests, next to its ledger connection.
    fn start_settling(&self) {
        self.started.call_once(|| self.app.settler.start(&self.app.ledger));
    }

    /// Everything before the provider is called.
    async fn admission(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Next, Denied> {
        let (app, settings) = (ctx.app.clone(), ctx.settings.clone());
        // Health is told also when the gateway is full: full is not dead.
        let head = health::sane_head(session, &settings)?;
        if health::answers(session, &app, &settings, &head).await.map_err(Denied::Gone)? {
            return Ok(Next::Answered);
        }
        let permit = Permit::of_a_call(&app, &settings)?;
        ctx.permits.push(permit);
        app.takes_calls(&settings)?;
        let target = intake::target(&head).ok_or_else(Refusal::unknown_route)?;
        let configured = settings.providers.get(target.provider);
        ctx.goes_to(target.provider, configured);
        let (credentials, view) = attempts::authenticate(session, &app, &settings, &target).await?;
        ctx.story.view = Some(view.clone());
        let (Some(provider), Some(provider_settings)) = (ctx.provider, configured) else {
            return Err(Refusal::unknown_route().into());
        };
        let route = provider
            .route(&session.req_header().method, target.path, target.query.as_deref())
            .ok_or_else(Refusal::unknown_route)?;
        ctx.route = Some(route);
        let (client, name) = (intake::client_ip(session), &provider_settings.name);
        intake::admits(&view.key.policy, name, client)?;
        let provider_key =
            intake::provider_key(&view.key.policy, credentials.provider_key, provider_settings.key.as_ref(), name)?;
        let run = intake::session_headers(&session.req_header().headers)?;
        ctx.story.session = run.id();
        let path = &*provider.sent_path(target.path);
        let path_and_query = forward::path_and_query(provider_settings, path, target.query.as_deref());
        let mut outbound = Outbound { path_and_query, credential: provider_key, content_length: None };
        let key = &outbound.credential;
        let counter = count::Counter { app: &app, provider, settings: provider_settings, key, path };
        let request = admit::Request {
            app: &app,
            settings: &settings,
            provider: ctx.provider_name.clone(),
            key: credentials.key,
            session: route.metered.then_some(&run),
            client,
            link: ctx.link.clone(),
            counter: Some(counter),
        };
        let body = if route.body { Some(body::read(session, ctx).await?) } else { None };
        // A body may take a minute: by now this gateway may be on its way out.
        app.takes_calls(&settings)?;
        if route.metered {
            let path = (target.path, target.query.as_deref());
            loops::check(&app, &settings, &credentials.key, run.id().as_deref(), body.as_deref().unwrap_or_default())?;
            let call =
                body::read_call(session, ctx, (provider, route), path, body.unwrap_or_default(), provider_settings)?;
            ctx.call = Some(call.clone());
            intake::admits_model(&view.key.policy, name, &call.model)?;
            let admitted = admit::admit(session, &request, view, &call).await?;
            ctx.body = call.body.render(admitted.clamped_to);
            outbound.content_length = Some(ctx.body.len());
            ctx.admitted = Some(admitted);
            if let (OnDisconnect::Drain, Some(link)) = (provider_settings.on_disconnect, &ctx.link) {
                link.survive();
            }
        } else {
            admit::admit_free(session, &request, view).await?;
            if let Some(body) = body {
                outbound.content_length = Some(body.len());
                ctx.body = body;
            }
        }
        ctx.outbound = Some(outbound);
        Ok(Next::Forward)
    }
}

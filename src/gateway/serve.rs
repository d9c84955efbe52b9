//! Starts a gateway: as a server of its own, or inside a process that already has a runtime (the demo, tests).

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora::apps::ServerApp;
use pingora::apps::http_app::ServeHttp;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Gateway;
use super::app::{App, size};
use super::client::{ClientStream, Front, link_of};
use super::door::{Door, Files};
use super::keeper;
use super::refusal::Refusal;
use super::reload::{self, Source};
use super::state::{Own, adopt_orphans, for_other_runtime, keep_settlements, open_gateway};
use crate::alerts;
use crate::config::Settings;
use crate::control::http::{AdminState, respond};
use crate::ledger::Ledger;
use crate::observe::calls::Reports;
use crate::pricing::PriceTable;

/// How long settlements may take at the very end.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(5);
/// How often folders whose gateways are gone are looked for.
const ADOPT_EVERY: Duration = Duration::from_secs(10);
/// How long after a panic a task begins again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long what is told of the last calls may take after that.
const LAST_REPORTS: Duration = Duration::from_secs(2);
/// What each client's connection keeps to read into. Pingora's default, 64 KiB, is more than all else that a waiting client takes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The largest body of an admin request.
const ADMIN_BODY_BYTES_MAX: usize = 1 << 20;

/// Serves until a signal ends it. SIGTERM drains: nothing new is admitted, running calls finish or are settled. SIGINT cuts and settles
/// what runs. `source` reads the
/// config again when it changes.
pub fn run(settings: Settings, source: Option<Source>) -> anyhow::Result<()> {
    // Before the ledger is opened, which may take a while: what is written meanwhile is a change.
    let seen = reload::stamps(&settings.sources);
    let core = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("loopers-core")
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let (ledger, own) = core.block_on(open_gateway(&settings))?;
    let reports = Reports::start(&settings).context("the threads that tell of calls could not be started")?;
    let app = App::telling(settings, for_other_runtime(&ledger), reports);
    let settings = app.settings.load_full();
    app.trust.read_all(&settings).map_err(anyhow::Error::msg)?;
    if let Some(own) = &own {
        keep_settlements(&app.settler, &settings, own)?;
        let settles = |app: Arc<App>, ledger: Ledger| app.settler.clone().run_until_served(ledger);
        for_ever(&core, "settles until the first call", &app, &ledger, settles);
        core.spawn(adopt_for_ever(app.clone(), own.clone()));
    }
    for_ever(&core, "watches running calls", &app, &ledger, keeper::watch);
    for_ever(&core, "charges expired holds", &app, &ledger, keeper::sweep);
    for_ever(&core, "looks after the ledger", &app, &ledger, keeper::guard);
    core.spawn(alerts::watch(app.notes.clone(), settings.alerts.clone(), ledger.clone()));
    let prices = Arc::new(ArcSwap::from(settings.prices.clone()));
    core.spawn(reload::watch(app.clone(), prices.clone(), source, seen));

    let mut server = Server::new_with_opt_and_conf(None, server_conf(&settings, app.files));
    server.bootstrap();
    let tls = settings.tls.as_ref().map(tls).transpose()?;
    let mut data = Service::new(String::from("gateway"), front(&app, server.configuration.clone(), tls));
    data.add_listener(listener(settings.listen));
    server.add_service(data);
    let patience = Duration::from_secs(settings.limits.head_seconds);
    let admin = Admin { state: admin_state(&app, &ledger, prices), patience };
    let admin = AdminFront {
        admin: Arc::new(admin),
        door: Door::new(size(settings.limits.admin_connections), &settings.limits),
    };
    let mut admin = Service::new(String::from("admin"), admin);
    admin.threads = Some(1);
    admin.add_listener(listener(settings.admin.listen));
    server.add_service(admin);
    let at_once = Arc::new(AtomicBool::new(false));
    let drainer = Drainer { app: app.clone(), ledger: ledger.clone(), at_once: at_once.clone() };
    server.add_service(background_service("drainer", drainer));
    log::info!(
        "loopers serves on {} and its admin listener on {}, with the ledger {}",
        settings.listen,
        settings.admin.listen,
        settings.ledger
    );

    // Not `run_forever`, which would end the process before the last settlements are written.
    server.run(RunArgs { shutdown_signal: Box::new(Signals { at_once }) });
    core.block_on(finish(&app, &ledger));
    std::process::exit(0)
}

/// Runs a task that must not end too early: after a panic it begins again.
fn for_ever<F>(core: &Runtime, what: &'static str, app: &Arc<App>, ledger: &Ledger, task: fn(Arc<App>, Ledger) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (app, ledger) = (app.clone(), ledger.clone());
    core.spawn(async move {
        while let Err(ended) = tokio::spawn(task(app.clone(), ledger.clone())).await {
            log::error!("the task that {what} has ended and begins again: {ended}");
            sleep(AGAIN_AFTER).await;
        }
    });
}

/// Makes what gateways that end meanwhile leave in their folders.
async fn adopt_for_ever(app: Arc<App>, own: Own) {
    let mut told = HashSet::new();
    loop {
        sleep(ADOPT_EVERY).await;
        let (app, own) = (app.clone(), own.clone());
        let adopts = move || {
            adopt_orphans(&app.settler, &app.settings.load(), &own, &mut told);
            told
        };
        told = tokio::task::spawn_blocking(adopts).await.unwrap_or_else(|ended| {
            log::error!("taking over what other gateways left to be settled has failed: {ended}");
            HashSet::new()
        });
    }
}

fn server_conf(settings: &Settings, files: Files) -> ServerConf {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    ServerConf {
        threads,
        // Only if a call or the drainer hangs: it ends the process before. What the server drops then is settled by `run`.
        grace_period_seconds: Some(settings.limits.drain_seconds + (2 * LAST_SETTLEMENTS + LAST_REPORTS).as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: 1,
        // Pingora takes it for the number of one thread.
        upstream_keepalive_pool_size: (files.idle_upstream / threads).max(1),
        ..ServerConf::default()
    }
}

/// Where clients come in. Their connections read in small pieces; what is larger than the buffer goes past it.
fn listener(addr: SocketAddr) -> ListenerConfig {
    ListenerConfig::tcp(addr.to_string()).l4_buffer(L4BufferSettings::default().read(READ_BUFFER_BYTES))
}

/// The proxy, behind the layer that sees its clients' connections. HTTP/2 ends in that layer.
fn front(app: &Arc<App>, conf: Arc<ServerConf>, tls: Option<Acceptor>) -> Front<HttpProxy<Gateway>> {
    let mut proxy = HttpProxy::new(Gateway::new(app.clone()), conf);
    proxy.handle_init_modules();
    Front { inner: Arc::new(proxy), door: app.door.clone(), tls }
}

fn tls(files: &crate::config::TlsFiles) -> anyhow::Result<Acceptor> {
    let path = |path: &std::path::Path| path.to_str().map(String::from).context("a TLS file's path is not UTF-8");
    let mut tls = TlsSettings::intermediate(&path(&files.cert)?, &path(&files.key)?)
        .map_err(|error| anyhow::anyhow!("the TLS certificate or key cannot be used: {error}"))?;
    tls.enable_h2();
    Ok(tls.build())
}

fn admin_state(app: &Arc<App>, ledger: &Ledger, prices: Arc<ArcSwap<PriceTable>>) -> AdminState {
    let settings = app.settings.load();
    let (token, listen) = (settings.admin.token.clone(), settings.admin.listen);
    AdminState::new(for_other_runtime(ledger), prices, token, listen, app.draining.clone())
}

/// The end of every process: what is still owed to the ledger.
async fn finish(app: &Arc<App>, ledger: &Ledger) {
    let deadline = Instant::now() + LAST_SETTLEMENTS;
    // A stop that comes before the drainer runs does not wait for the server's runtimes: calls may still be handing over their holds.
    while app.in_flight.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
    let is_quiet = app.in_flight.load(Ordering::Acquire) == 0;
    let is_kept = app.settler.drain(ledger, deadline).await || leave_on_disk(app);
    if is_quiet
        && is_kept
        && let Err(error) = app.settler.leaves_nothing()
    {
        log::warn!("the next gateway settles the last calls once more, which changes nothing: {error}");
    }
    app.reports.flush(std::time::Instant::now() + LAST_REPORTS).await;
}

/// Settlements that the ledger did not take in time wait for the next gateway. False when they cannot.
fn leave_on_disk(app: &App) -> bool {
    let left = app.settler.pending();
    match app.settler.save_all() {
        Ok(Some(saved)) if saved > 0 => {
            log::warn!("{saved} settlements wait below `state:`; the next gateway there makes them");
            true
        }
        _ => {
            log::error!(
                "{left} settlements could not be written: unless the journal has them, their holds will be charged in full when they expire"
            );
            false
        }
    }
}

/// The first signal. Whichever it is, the drainer gives every call an end, where the server's own quick stop would drop them.
struct Signals {
    at_once: Arc<AtomicBool>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let kinds = [SignalKind::terminate(), SignalKind::quit(), SignalKind::interrupt()];
        let [Ok(mut terminate), Ok(mut quit), Ok(mut interrupt)] = kinds.map(signal) else {
            // The system's own handling of signals stays: they end the process.
            log::error!("signals cannot be heard, so a stop does not drain");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            _ = interrupt.recv() => self.at_once.store(true, Ordering::Release),
        }
        ShutdownSignal::GracefulTerminate
    }
}

/// Ends the process as soon as the last call has ended, instead of sleeping out the grace period.
struct Drainer {
    app: Arc<App>,
    ledger: Ledger,
    /// Running calls get no time.
    at_once: Arc<AtomicBool>,
}

#[async_trait]
impl BackgroundService for Drainer {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if shutdown.changed().await.is_err() {
            return;
        }
        self.app.draining.store(true, Ordering::Release);
        failpoint!("draining");
        let at_once = self.at_once.load(Ordering::Acquire);
        let limit = Duration::from_secs(if at_once { 0 } else { self.app.settings.load().limits.drain_seconds });
        let in_flight = || self.app.in_flight.load(Ordering::Acquire);
        log::info!("draining: {} requests in flight, which have {} seconds", in_flight(), limit.as_secs());
        tokio::select! {
            () = all_done(&self.app) => {}
            () = sleep(limit) => log::warn!("{} calls are cut: the time to drain is over", in_flight()),
            () = second_signal() => log::warn!("{} calls are cut: asked to stop a second time", in_flight()),
        }
        // Whoever is left gets an error that its SDK understands, and is settled like any cut call.
        self.app.over.send_replace(true);
        let until = Instant::now() + LAST_SETTLEMENTS;
        while in_flight() > 0 && Instant::now() < until {
            for (_, switch) in self.app.running.older_than(Duration::ZERO) {
                switch.cut(Refusal::shut_down());
            }
            sleep(Duration::from_millis(20)).await;
        }
        finish(&self.app, &self.ledger).await;
        if in_flight() > 0 {
            // One that still connects, say: its hold would be left behind. The server's own grace ends what never ends.
            log::warn!("{} calls cannot be cut yet, and are waited for", in_flight());
            all_done(&self.app).await;
            finish(&self.app, &self.ledger).await;
        }
        log::info!("drained");
        std::process::exit(0)
    }
}

async fn all_done(app: &App) {
    while app.in_flight.load(Ordering::Acquire) > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

/// SIGTERM or SIGINT while draining. The server takes only the first one.
async fn second_signal() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        _ => std::future::pending().await,
    }
}

/// The door of the admin listener: its clients are counted, and none may take long to say what it wants.
struct AdminFront {
    admin: Arc<Admin>,
    door: Arc<Door>,
}

#[async_trait]
impl ServerApp for AdminFront {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Some(_inside) = self.door.enter() else {
            log::debug!("a connection to the admin listener was closed: limits.admin_connections are open");
            return None;
        };
        let stream = ClientStream::new(stream, Vec::new(), None, self.door.clone());
        self.admin.process_new(Box::new(stream), shutdown).await
    }
}

/// The admin listener.
struct Admin {
    state: AdminState,
    /// The longest time for a request's body.
    patience: Duration,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> http::Response<Vec<u8>> {
        let link = link_of(session);
        let answer = match timeout(self.patience, admin_body(session)).await {
            Ok(Ok(body)) => {
                let head = session.req_header();
                respond(&self.state, &head.method, head.uri.path(), &head.headers, body).await
            }
            Ok(Err(status)) => without_body(session, status),
            Err(_) => without_body(session, StatusCode::REQUEST_TIMEOUT),
        };
        if let Some(link) = link {
            link.end_call();
        }
        answer
    }
}

/// The body of an admin request, or with which status there is none.
async fn admin_body(session: &mut ServerSession) -> Result<Bytes, StatusCode> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_request_body().await.map_err(|_| StatusCode::BAD_REQUEST)? {
        if body.len() + piece.len() > ADMIN_BODY_BYTES_MAX {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// What is left of the body is not waited for.
fn without_body(session: &mut ServerSession, status: StatusCode) -> http::Response<Vec<u8>> {
    session.set_keepalive(None);
    http::Response::builder().status(status).body(Vec::new()).unwrap_or_default()
}

/// A gateway inside this process.
pub struct InProcess {
    address: SocketAddr,
    app: Arc<App>,
    ledger: Ledger,
    tasks: Vec<JoinHandle<()>>,
    _shutdown: watch::Sender<bool>,
}

/// Serves `listener` on the current tokio runtime, without signals, admin listener and TLS.
pub fn start_in_process(settings: Settings, ledger: Ledger, listener: TcpListener) -> anyhow::Result<InProcess> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = App::new(settings, ledger.clone());
    let conf = Arc::new(server_conf(&app.settings.load(), app.files));
    let front = Arc::new(front(&app, conf, None));
    let (shutdown, watch) = watch::channel(false);
    let tasks = vec![
        tokio::spawn(accept(listener, front, watch)),
        tokio::spawn(keeper::watch(app.clone(), ledger.clone())),
        tokio::spawn(keeper::sweep(app.clone(), ledger.clone())),
        tokio::spawn(alerts::watch(app.notes.clone(), app.settings.load().alerts.clone(), ledger.clone())),
        tokio::spawn(keeper::guard(app.clone(), ledger.clone())),
    ];
    Ok(InProcess { address, app, ledger, tasks, _shutdown: shutdown })
}

async fn accept<A: ServerApp + Send + Sync + 'static>(
    listener: tokio::net::TcpListener,
    front: Arc<Front<A>>,
    shutdown: ShutdownWatch,
) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let stream: Stream = Box::new(L4Stream::from(socket));
        let (front, shutdown) = (front.clone(), shutdown.clone());
        tokio::spawn(async move {
            let mut next = Some(stream);
            while let Some(stream) = next {
                next = front.process_new(stream, &shutdown).await;
            }
        });
    }
}

impl InProcess {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits until no request runs and every settlement is written, at most `limit`. False when something is left.
    pub async fn quiet(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.app.in_flight.load(Ordering::Acquire) > 0 || self.app.settler.pending() > 0 {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Stops listening and writes what is owed to the ledger.
    pub async fn stop(self) {
        self.app.draining.store(true, Ordering::Release);
        self.quiet(LAST_SETTLEMENTS).await;
        for task in &self.tasks {
            task.abort();
        }
        finish(&self.app, &self.ledger).await;
    }
}

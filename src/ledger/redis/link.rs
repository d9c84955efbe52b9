//! Connections: made when first used, on the runtime that uses them, and made anew when they are lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder, ClusterConfig};
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use ::redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{check, reply};
use crate::ledger::LedgerError;

/// How long one attempt to connect may take at least. The operation that waits for it has its own limit, shorter or longer: an attempt must
/// not give up before that.
const CONNECT_LIMIT_MIN: Duration = Duration::from_secs(2);
/// How much of it one host of a Cluster may take, in per cent: a host that hangs must leave time for those that answer.
const NODE_CONNECT_PER_CENT: u32 = 30;
/// Commands that may wait for the connection to write them; beyond them, callers wait to be let in.
const COMMANDS_WAITING: usize = 1024;
/// After so many timeouts in a row a Cluster connection is replaced: one frozen master must not cost the others theirs.
const CLUSTER_TIMEOUTS: u32 = 8;

/// Where Redis is.
#[derive(Clone)]
enum Servers {
    /// One server.
    Single(Box<Client>),
    /// A Cluster.
    Cluster(Box<ClusterClient>),
}

/// Where Redis is, and how long it may take for an answer.
pub(super) struct Target {
    servers: Servers,
    timeout: Duration,
}

impl Target {
    /// The target of a URL: `redis://`, `rediss://`, `redis-cluster://host:port,…` or `rediss-cluster://…`.
    pub(super) fn parse(url: &str, timeout: Duration) -> Result<Self, LedgerError> {
        let wrong = |e: RedisError| LedgerError::Conflict(format!("the ledger's URL is not usable: {}", e.category()));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            LedgerError::Conflict("the ledger's URL must start with redis://, rediss:// or redis-cluster://".into())
        })?;
        let node_scheme = match scheme {
            "redis" | "rediss" => {
                let client = Client::open(url).map_err(wrong)?;
                return Ok(Target { servers: Servers::Single(Box::new(client)), timeout });
            }
            "redis-cluster" => "redis",
            "rediss-cluster" => "rediss",
            _ => return Err(LedgerError::Conflict(format!("a Redis ledger cannot have the scheme `{scheme}`"))),
        };
        let (user, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
        let at = if user.is_empty() { "" } else { "@" };
        let nodes = hosts.trim_end_matches('/').split(',').map(|host| format!("{node_scheme}://{user}{at}{host}"));
        let client =
            ClusterClientBuilder::new(nodes).retries(2).min_retry_wait(5).max_retry_wait(50).build().map_err(wrong)?;
        Ok(Target { servers: Servers::Cluster(Box::new(client)), timeout })
    }

    /// The same servers, with another time for their answers.
    fn within(&self, timeout: Duration) -> Target {
        Target { servers: self.servers.clone(), timeout }
    }

    /// How long one attempt to connect may take.
    fn connect_limit(&self) -> Duration {
        CONNECT_LIMIT_MIN.max(self.timeout)
    }

    /// A new connection, to servers that may be entrusted with money.
    async fn connect_checked(&self) -> Result<Connection, LedgerError> {
        let mut connection = self.connect().await?;
        // A server that was given another setting meanwhile is one that cannot be used now.
        check::fitting(self, &mut connection).await.map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        Ok(connection)
    }

    /// A new connection, on the runtime that runs this.
    pub(super) async fn connect(&self) -> Result<Connection, LedgerError> {
        self.open().await.map_err(|e| unavailable(&e))
    }

    /// The same, with the client's own words for what went wrong.
    pub(super) async fn open(&self) -> Result<Connection, RedisError> {
        let limit = self.connect_limit();
        match &self.servers {
            Servers::Single(client) => {
                // Every command has a limit of its own.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(limit))
                    .set_response_timeout(None)
                    .set_pipeline_buffer_size(COMMANDS_WAITING);
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            Servers::Cluster(client) => {
                let config = ClusterConfig::new()
                    .set_response_timeout(self.timeout)
                    .set_connection_timeout(limit * NODE_CONNECT_PER_CENT / 100);
                client.get_async_connection_with_config(config).await.map(Connection::Cluster)
            }
        }
    }

    /// True for a Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }
}

/// A connection; clones share its socket.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To every node of a Cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends one command to the node that has its keys.
    pub(super) async fn send(&mut self, cmd: &Cmd) -> Result<Value, RedisError> {
        match self {
            Connection::Single(connection) => connection.send_packed_command(cmd).await,
            Connection::Cluster(connection) => connection.req_packed_command(cmd).await,
        }?
        .extract_error()
    }

    /// Sends a command without keys to the master that has `key`.
    async fn send_to_master_of(&mut self, key: &str, cmd: &Cmd) -> Result<Value, RedisError> {
        match self {
            Connection::Single(_) => self.send(cmd).await,
            Connection::Cluster(connection) => {
                let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                connection.route_command(cmd.clone(), RoutingInfo::SingleNode(route)).await?.extract_error()
            }
        }
    }

    /// Sends one command to every master; one reply for each.
    pub(super) async fn send_to_masters(&mut self, cmd: &Cmd) -> Result<Vec<Value>, RedisError> {
        match self {
            Connection::Single(_) => Ok(vec![self.send(cmd).await?]),
            Connection::Cluster(connection) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let replies = connection.route_command(cmd.clone(), masters).await?.extract_error()?;
                Ok(match replies {
                    Value::Map(replies) => replies.into_iter().map(|(_, reply)| reply).collect(),
                    other => vec![other],
                })
            }
        }
    }
}

/// What is sent in one piece.
#[derive(Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    /// One command for the master that has a key.
    MasterOf(&'a str, &'a Cmd),
    /// One command for every master. Their replies come as a list.
    Masters(&'a Cmd),
    /// Commands for one server. Their replies come as a list, in which one may be an error.
    Many(&'a Pipeline),
}

impl Connection {
    async fn exchange(&mut self, request: Request<'_>) -> Result<Value, RedisError> {
        let commands = match request {
            Request::One(cmd) => return self.send(cmd).await,
            Request::MasterOf(key, cmd) => return self.send_to_master_of(key, cmd).await,
            Request::Masters(cmd) => return self.send_to_masters(cmd).await.map(Value::Array),
            Request::Many(commands) => commands,
        };
        let replies = match self {
            Connection::Single(connection) => connection.send_packed_commands(commands, 0, commands.len()).await,
            Connection::Cluster(connection) => connection.req_packed_commands(commands, 0, commands.len()).await,
        }?;
        for reply in &replies {
            if let Value::ServerError(error) = reply {
                let error = RedisError::from(error.clone());
                if is_lost(&error) {
                    return Err(error);
                }
            }
        }
        Ok(Value::Array(replies))
    }
}

/// A connection in use, and how many commands in a row have had no answer on it.
struct Live {
    connection: Connection,
    timeouts: AtomicU32,
}

/// One place for a connection.
#[derive(Default)]
struct Slot {
    live: ArcSwapOption<Live>,
    /// Held by the task that connects, so that there is only one.
    connecting: Arc<Mutex<()>>,
}

/// The connections of one runtime.
pub(super) struct Link {
    target: Arc<Target>,
    timeout: Duration,
    slots: Arc<[Slot]>,
    next: AtomicUsize,
    connects: Arc<AtomicU64>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connected = self.slots.iter().filter(|slot| slot.live.load().is_some()).count();
        f.debug_struct("Link").field("connected", &connected).field("of", &self.slots.len()).finish()
    }
}

impl Link {
    /// A link without a connection: the first command makes one.
    pub(super) fn new(target: Arc<Target>, timeout: Duration, connections: usize) -> Self {
        // A Cluster connection has a socket to every node; one is enough.
        let count = if target.is_cluster() { 1 } else { connections.max(1) };
        let slots = (0..count).map(|_| Slot::default()).collect();
        Link { target, timeout, slots, next: AtomicUsize::new(0), connects: Arc::default() }
    }

    /// A link of the same kind for another runtime.
    pub(super) fn another(&self) -> Self {
        Link::new(Arc::clone(&self.target), self.timeout, self.slots.len())
    }

    /// A link of the same kind on which an operation may take so long.
    pub(super) fn within(&self, timeout: Duration) -> Self {
        Link::new(Arc::new(self.target.within(timeout)), timeout, self.slots.len())
    }

    /// Where it leads.
    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    /// How many connections were made so far.
    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// The time of one operation.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When an operation that starts now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends a command and returns its reply. A lost connection is replaced and the command sent once more, within the
    /// deadline: so every command sent here must be safe to repeat.
    pub(super) async fn send(&self, cmd: &Cmd, deadline: Instant) -> Result<Value, RedisFault> {
        self.exchange(Request::One(cmd), deadline).await
    }

    /// Sends commands to a standalone server, in one piece, as [`Link::send`] does one. A reply for each, in order; a server's
    /// error is one of them, unless another connection may do better.
    pub(super) async fn send_all(&self, commands: &Pipeline, deadline: Instant) -> Result<Vec<Value>, LedgerError> {
        let replies = reply::list(self.exchange(Request::Many(commands), deadline).await?)?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(reply::unexpected("wrong number of replies")) }
    }

    /// Sends a command without keys to the master that has `key`.
    pub(super) async fn ask_master_of(&self, key: &str, cmd: &Cmd, deadline: Instant) -> Result<Value, LedgerError> {
        Ok(self.exchange(Request::MasterOf(key, cmd), deadline).await?)
    }

    /// Sends a command to every master; a reply for each.
    pub(super) async fn ask_masters(&self, cmd: &Cmd, deadline: Instant) -> Result<Vec<Value>, LedgerError> {
        reply::list(self.exchange(Request::Masters(cmd), deadline).await?)
    }

    /// True when the ledger is a Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.target.is_cluster()
    }

    async fn exchange(&self, request: Request<'_>, deadline: Instant) -> Result<Value, RedisFault> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let slot = &self.slots[index];
        let mut again = true;
        loop {
            let live = match slot.live.load_full() {
                Some(live) => live,
                None => match tokio::time::timeout_at(deadline, self.live(index)).await {
                    Ok(live) => live?,
                    Err(_) => return Err(self.no_answer()),
                },
            };
            let mut connection = live.connection.clone();
            let Ok(reply) = tokio::time::timeout_at(deadline, connection.exchange(request)).await else {
                self.after_timeout(slot, &live);
                return Err(self.no_answer());
            };
            match reply {
                Ok(value) => {
                    live.timeouts.store(0, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) if is_lost(&error) => {
                    discard(slot, &live);
                    if !again {
                        return Err(unavailable(&error).into());
                    }
                    again = false;
                }
                Err(error) => return Err(RedisFault::from(&error)),
            }
        }
    }

    /// The connection of a slot, made now if there is none.
    async fn live(&self, index: usize) -> Result<Arc<Live>, LedgerError> {
        let slot = &self.slots[index];
        if let Some(live) = slot.live.load_full() {
            return Ok(live);
        }
        let guard = Arc::clone(&slot.connecting).lock_owned().await;
        if let Some(live) = slot.live.load_full() {
            return Ok(live);
        }
        // A task of its own: it goes on when the operation that started it runs out of time, so that a server which is
        // slow to greet is reached all the same.
        let (slots, target) = (Arc::clone(&self.slots), Arc::clone(&self.target));
        let connects = Arc::clone(&self.connects);
        let task = tokio::spawn(async move {
            let _guard = guard;
            let connection = tokio::time::timeout(target.connect_limit(), target.connect_checked())
                .await
                .map_err(|_| LedgerError::Unavailable("no connection in time".into()))??;
            let live = Arc::new(Live { connection, timeouts: AtomicU32::new(0) });
            slots[index].live.store(Some(Arc::clone(&live)));
            connects.fetch_add(1, Ordering::Relaxed);
            Ok(live)
        });
        task.await.unwrap_or_else(|_| Err(LedgerError::Unavailable("the runtime is shutting down".into())))
    }

    /// A connection that does not answer may be dead without a sign of it: the next command gets a new one.
    fn after_timeout(&self, slot: &Slot, live: &Arc<Live>) {
        let timeouts = live.timeouts.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.target.is_cluster() || timeouts >= CLUSTER_TIMEOUTS {
            discard(slot, live);
        }
    }

    fn no_answer(&self) -> RedisFault {
        LedgerError::Unavailable(format!("no answer within {} ms", self.timeout.as_millis())).into()
    }
}

/// What went wrong with a command.
#[derive(Debug)]
pub(super) enum RedisFault {
    /// The server does not know the script.
    NoScript,
    /// Everything else.
    Failed(LedgerError),
}

impl From<LedgerError> for RedisFault {
    fn from(error: LedgerError) -> Self {
        RedisFault::Failed(error)
    }
}

impl From<&RedisError> for RedisFault {
    fn from(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => RedisFault::NoScript,
            _ => RedisFault::Failed(unavailable(error)),
        }
    }
}

impl From<RedisFault> for LedgerError {
    fn from(fault: RedisFault) -> Self {
        match fault {
            RedisFault::NoScript => LedgerError::Unavailable("the server lost a script while it was sent".into()),
            RedisFault::Failed(error) => error,
        }
    }
}

/// An error of the client or the server, as the ledger's.
pub(super) fn unavailable(error: &RedisError) -> LedgerError {
    LedgerError::Unavailable(error.to_string())
}

/// True when another connection may do better: this one is gone, or leads to a server that is no longer the master.
fn is_lost(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

/// Empties the slot, unless somebody put another connection there.
fn discard(slot: &Slot, live: &Arc<Live>) {
    let current = slot.live.load();
    if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, live)) {
        slot.live.compare_and_swap(&*current, None);
    }
}

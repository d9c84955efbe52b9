//! The load: what call number n is follows from the seed and n alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::faults::{Client, Fault, Kinds, What};
use crate::judge::Judge;
use crate::rng::Rng;
use crate::support::six::{Kind, plain, streams};
use crate::support::{Answer, Conn, Request};

/// Clients at once.
pub const CLIENTS: usize = 8;
/// How long a client that means to leave in the middle of an answer waits for its next byte.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a client waits for the end of an answer before it counts as hanging: far above the longest life of a call.
const PATIENCE: Duration = Duration::from_secs(60);
/// The output limit that ordinary calls ask for.
const OUTPUT: u64 = 200;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Clamp,
    Refuse,
    Cut,
    Poor,
    Rough,
    Session,
    Solo,
    Target,
}

impl Role {
    /// All, with how often they call out of a hundred, and the flags of their keys.
    pub const ALL: [(Role, u64, &'static [&'static str]); 8] = [
        (Role::Clamp, 22, &["--team", "crew", "--daily", "500", "--monthly", "900"]),
        (Role::Refuse, 14, &["--team", "crew", "--monthly", "900", "--overflow", "refuse"]),
        (Role::Cut, 2, &["--team", "crew", "--minute", "0.00009", "--monthly", "900", "--overflow", "cut"]),
        (Role::Poor, 10, &["--team", "crew", "--monthly", "0.01"]),
        (Role::Rough, 26, &["--team", "crew", "--monthly", "900"]),
        (
            Role::Session,
            12,
            &["--team", "crew", "--monthly", "900", "--session-budget", "0.01", "--session-steps", "30"],
        ),
        (Role::Solo, 6, &["--monthly", "0.002"]),
        (Role::Target, 8, &["--team", "crew", "--hourly", "900", "--monthly", "900"]),
    ];

    /// True when nothing but faults around it can make its charge differ from the invoice.
    pub fn is_fair(self) -> bool {
        matches!(self, Role::Clamp | Role::Refuse | Role::Poor | Role::Session | Role::Solo)
    }
}

/// One call.
pub struct Shape {
    pub role: Role,
    pub gateway: usize,
    kind: Kind,
    script: String,
    session: Option<String>,
    client: Client,
    /// The fault that this call carries, by its name.
    pub fault: Option<&'static str>,
    pub pause: Duration,
}

fn role(rng: &mut Rng) -> Role {
    let mut at = rng.below(100);
    for (role, share, _) in Role::ALL {
        if at < share {
            return role;
        }
        at -= share;
    }
    Role::Rough
}

fn kind(rng: &mut Rng, kinds: Kinds) -> Kind {
    let list = match kinds {
        Kinds::Plain => plain(OUTPUT),
        Kinds::Any if rng.chance(50) => plain(OUTPUT),
        _ => streams(OUTPUT),
    };
    let at = if matches!(kinds, Kinds::OpenAiStream) { 0 } else { rng.below(list.len() as u64) as usize };
    list[at].clone()
}

/// Call number `n` among `gateways` gateways, while `faults` are about.
pub fn shape(seed: u64, n: u64, gateways: usize, faults: &[&'static Fault]) -> Shape {
    let mut rng = Rng::new(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let role = role(&mut rng);
    let gateway = rng.below(gateways as u64) as usize;
    let pause = Duration::from_millis(rng.within(5, 40));
    let (tokens, rate, pieces) = (rng.within(1, 60), [0, 0, 60, 200][rng.below(4) as usize], rng.within(1, 12));
    let mut script = format!("tokens={tokens};chunk={pieces};rate={rate}");
    let mut shape = Shape {
        role,
        gateway,
        kind: kind(&mut rng, Kinds::Any),
        script: String::new(),
        session: (role == Role::Session).then(|| format!("run-{}", n / 400)),
        client: Client::Whole,
        fault: None,
        pause,
    };
    match role {
        Role::Poor | Role::Solo => {
            shape.kind = kind(&mut rng, Kinds::OpenAiStream);
            shape.kind.body["model"] = json!(if role == Role::Poor { "gpt-4o" } else { "gpt-4o-mini" });
        }
        Role::Cut => {
            shape.kind = kind(&mut rng, Kinds::OpenAiStream);
            shape.kind.body["max_tokens"] = json!(4000);
            // Slow, so that what is on its way when a fault holds it up stays within the allowance for tokens in flight.
            script = "tokens=1000;rate=12;chunk=1;leave=stop".into();
        }
        // Long enough to be stopped.
        Role::Target => script = "tokens=60;rate=25;chunk=1".into(),
        Role::Rough => {
            let about = faults.iter().filter(|fault| matches!(fault.what, What::Client(..) | What::Script(..)));
            let about: Vec<_> = about.collect();
            if let (Some(fault), true) = (rng.pick(&about), rng.chance(80)) {
                shape.fault = Some(fault.name);
                match fault.what {
                    What::Client(client, kinds) => {
                        shape.client = client;
                        shape.kind = kind(&mut rng, kinds);
                        script = "tokens=60;rate=80;chunk=2".into();
                    }
                    What::Script(text, kinds) => {
                        shape.kind = kind(&mut rng, kinds);
                        script = text.into();
                    }
                    _ => {}
                }
            }
        }
        Role::Clamp | Role::Refuse | Role::Session => {}
    }
    // This one documents that a dropped connection stops the bill; all others run on, and are billed, in this test.
    if shape.kind.provider() == "anthropic" {
        script += ";leave=stop";
    }
    shape.script = script;
    shape
}

/// How a call ended, as its client saw it.
enum Seen {
    /// The gateway did not take the connection.
    Nobody,
    /// A whole answer.
    Answer(Box<Answer>),
    /// Anything else: left on purpose, broken off.
    Doubt,
    /// Nothing came for so long that it hangs.
    Hangs,
}

/// What clients and conductor share.
pub struct Load {
    pub seed: u64,
    pub addrs: Vec<SocketAddr>,
    pub judge: Arc<Judge>,
    /// Calls begun.
    pub next: AtomicU64,
    /// Calls that run.
    pub running: AtomicUsize,
    pub paused: AtomicBool,
    /// The faults that are about.
    pub faults: std::sync::Mutex<Vec<&'static Fault>>,
}

impl Load {
    /// Starts the clients; they run until the runtime ends.
    pub fn start(self: &Arc<Load>) {
        for _ in 0..CLIENTS {
            let load = self.clone();
            tokio::spawn(async move {
                loop {
                    load.running.fetch_add(1, SeqCst);
                    if load.paused.load(SeqCst) {
                        load.running.fetch_sub(1, SeqCst);
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    let n = load.next.fetch_add(1, SeqCst);
                    let faults = load.faults.lock().expect("faults").clone();
                    let shape = shape(load.seed, n, load.addrs.len(), &faults);
                    load.judge.guarded(load.call(n, &shape)).await;
                    load.running.fetch_sub(1, SeqCst);
                    sleep(shape.pause).await;
                }
            });
        }
    }

    /// Lets what runs end, and begins nothing new.
    pub async fn pause(&self) {
        self.paused.store(true, SeqCst);
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.running.load(SeqCst) > 0 {
            if Instant::now() > deadline {
                self.judge.breach("clients do not come to rest".into());
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn resume(&self) {
        self.paused.store(false, SeqCst);
    }

    async fn call(&self, n: u64, shape: &Shape) {
        let key = self.judge.key(shape.role);
        let mut request = shape.kind.request(&key, &shape.script).header("x-mock-account", &key.id);
        if let Some(session) = &shape.session {
            request = request.header("x-loopers-session-id", session);
        }
        let started = Instant::now();
        let seen = match timeout(PATIENCE, behave(self.addrs[shape.gateway], &request, shape.client)).await {
            Ok(seen) => seen,
            Err(_) => Seen::Hangs,
        };
        if let Some(name) = shape.fault {
            self.judge.injected(name);
        }
        match seen {
            Seen::Nobody => self.judge.count("nobody listened"),
            Seen::Doubt => self.judge.doubt(&key, "left or broken off"),
            Seen::Hangs => {
                self.judge.doubt(&key, "hangs");
                self.judge.breach(format!("call {n} ({}) got no end within {PATIENCE:?}", shape.kind.path));
            }
            Seen::Answer(answer) => {
                self.judge.took(started.elapsed(), &answer);
                self.judge.answer(&key, &answer, shape.kind.cut);
            }
        }
    }
}

/// Sends the request the way this client does.
async fn behave(addr: SocketAddr, request: &Request, client: Client) -> Seen {
    let Ok(mut conn) = Conn::try_open(addr).await else { return Seen::Nobody };
    let whole = |answer: Option<Answer>| answer.map_or(Seen::Doubt, |answer| Seen::Answer(Box::new(answer)));
    match client {
        Client::Whole => return whole(conn.try_call(request).await),
        Client::Garbage => {
            let mut bad = request.clone();
            bad.body.truncate(request.body.len() / 2);
            return whole(conn.try_call(&bad).await);
        }
        Client::HugeHeader => {
            let bad = request.clone().header("x-huge", &"a".repeat(200_000));
            return whole(conn.try_call(&bad).await);
        }
        Client::SlowBody => {
            let _ = conn.write(&request.head()).await;
            for piece in request.body.chunks(request.body.len() / 8 + 1) {
                sleep(Duration::from_millis(60)).await;
                let _ = conn.write(piece).await;
            }
            return whole(conn.try_answer(&request.method).await);
        }
        Client::HalfClose => {
            let _ = conn.write(&request.bytes()).await;
            conn.half_close().await;
            // It listens on; what it hears may be cut short.
            let _ = conn.try_answer(&request.method).await;
        }
        Client::LeavesInUpload => {
            let _ = conn.write(&request.bytes()[..request.head().len() + request.body.len() / 2]).await;
            conn.reset();
        }
        Client::LeavesBeforeHead { reset } => {
            let _ = conn.write(&request.bytes()).await;
            sleep(Duration::from_millis(40)).await;
            leave(conn, reset);
        }
        Client::LeavesAfter { bytes, reset } => {
            let _ = conn.write(&request.bytes()).await;
            if conn.read_head().await.is_some() {
                // An answer may be shorter, and its connection stay open: who hears nothing more leaves too.
                for _ in 0..bytes {
                    if timeout(SILENCE, conn.read_byte()).await.ok().flatten().is_none() {
                        break;
                    }
                }
            }
            leave(conn, reset);
        }
        Client::StopsReading => {
            let _ = conn.write(&request.bytes()).await;
            let _ = conn.read_head().await;
            sleep(Duration::from_millis(1500)).await;
            leave(conn, true);
        }
    }
    Seen::Doubt
}

fn leave(conn: Conn, reset: bool) {
    if reset {
        conn.reset();
    }
}

/// The `loopers` object of a refusal, wherever the provider's shape has it.
pub fn detail(value: &Value) -> Option<&Value> {
    match value {
        Value::Object(fields) => fields.get("loopers").or_else(|| fields.values().find_map(detail)),
        Value::Array(items) => items.iter().find_map(detail),
        _ => None,
    }
}

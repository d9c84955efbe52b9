//! D 43: providers that cannot be reached, or break off. One POST on the wire at most, and what was surely not billed is free at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::tls::{ServerConfig, TlsAcceptor, install_default_crypto_provider, load_certs_and_key_files};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::json::with;
use crate::support::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
/// A whole answer with usage: 19 tokens in, 3 out, at gpt-4o-mini's price 4,650 nano-dollars.
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 198\r\n\r\n";
const BODY: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"a b"}}],"usage":{"prompt_tokens":19,"completion_tokens":3,"total_tokens":22}}"#;
const COST: u64 = 4_650;

/// What a provider made for these tests does with the n-th request that it reads on a connection, the first being 0.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Answers the first, resets the connection at each later one.
    AnswersOnce,
    /// Answers the first and closes the idle connection at once.
    AnswersAndCloses,
    /// Reads and says nothing.
    Hangs,
    /// Reads and resets.
    Resets,
    /// Half a head.
    HalfAHead,
    /// Says just this, and nothing more.
    Says(&'static [u8]),
}

struct Provider {
    addr: SocketAddr,
    posts: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(does: Does) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let posts = Arc::new(AtomicUsize::new(0));
        let counter = posts.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, does, counter.clone()));
            }
        });
        Provider { addr, posts }
    }

    fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }
}

async fn read_request(socket: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    // The gateway's body ends with the object that it renders.
    while request.last() != Some(&b'}') {
        match socket.read(&mut piece).await {
            Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    true
}

async fn serve(mut socket: TcpStream, does: Does, posts: Arc<AtomicUsize>) {
    for nth in 0.. {
        if !read_request(&mut socket).await {
            return;
        }
        posts.fetch_add(1, Ordering::SeqCst);
        match does {
            Does::AnswersOnce if nth > 0 => return drop(socket.set_zero_linger()),
            Does::AnswersOnce | Does::AnswersAndCloses => {
                let head = ANSWER.replace("198", &BODY.len().to_string());
                let _ = socket.write_all(format!("{head}{BODY}").as_bytes()).await;
                if matches!(does, Does::AnswersAndCloses) {
                    return;
                }
            }
            Does::Hangs => tokio::time::sleep(HANG).await,
            Does::Resets => return drop(socket.set_zero_linger()),
            Does::Says(bytes) => drop(socket.write_all(bytes).await),
            Does::HalfAHead => return drop(socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-ty").await),
        }
    }
}

const TIMEOUTS: &str = "{ connect: 1s, first_byte: 2s, between_chunks: 2s }";

/// A world whose provider is this one.
async fn world(addr: SocketAddr) -> World {
    World::new().upstream(addr).provider("timeouts", TIMEOUTS).start().await
}

/// The key's books once nothing is held: the calls above have ended, so that takes no healing and no expiry.
async fn at_rest(world: &World, key: &Key) -> u64 {
    until("nothing is held", async || world.books(key).await.held == 0).await;
    world.books(key).await.spent
}

fn call(key: &Key) -> Request {
    Request::chat(&with(ask(""), json!({ "max_tokens": 50 }))).bearer(&key.secret)
}

/// A port whose queue of connections is full: who connects waits for ever.
async fn full_port() -> (SocketAddr, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let mut queue = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(addr)).await {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue does not fill");
    }
    std::mem::forget(listener);
    (addr, queue)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_a_connection_that_is_never_made_costs_nothing() {
    let closed = local_closed().await;
    let (full, _queue) = full_port().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let tls_silent = silent.local_addr().expect("an address");
    let yaml = |name: &str, url: &str| {
        format!("{name}: {{ api: openai, base_url: \"{url}\", key: env:OPENAI_API_KEY, timeouts: {TIMEOUTS} }}")
    };
    let names = ["refuses", "full", "silent", "plain", "nowhere"];
    let prices: String = names.iter().map(|name| price(name)).collect();
    // What speaks plain HTTP where TLS is expected, and a name without an address.
    let plain = Provider::start(Does::Resets).await;
    let world = World::new()
        .other_provider(&yaml("refuses", &format!("http://{closed}")))
        .other_provider(&yaml("full", &format!("http://{full}")))
        .other_provider(&yaml("silent", &format!("https://{tls_silent}")))
        .other_provider(&yaml("plain", &format!("https://{}", plain.addr)))
        .other_provider(&yaml("nowhere", "https://no-such-host.invalid"))
        .prices(&prices)
        .start()
        .await;
    let key = world.key(&["--daily", "1"]);
    for (name, status, code) in [
        ("refuses", 502, "upstream_unreachable"),
        ("full", 504, "upstream_timeout"),
        ("silent", 504, "upstream_timeout"),
        ("plain", 0, ""),
        ("nowhere", 502, "upstream_unreachable"),
    ] {
        for stream in [false, true] {
            let body = with(ask(""), json!({ "max_tokens": 50, "stream": stream }));
            let request = Request::post(&format!("/{name}/v1/chat/completions"), body.to_string()).bearer(&key.secret);
            let answer = world.send(&request).await;
            let as_expected = (answer.status, answer.code()) == (status, code.into());
            assert!(
                as_expected || status == 0 && matches!(answer.status, 502 | 504),
                "{name}: {} {}",
                answer.status,
                answer.text()
            );
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            assert_eq!(at_rest(&world, &key).await, 0, "{name}: charged for nothing");
        }
    }
    assert_eq!(plain.posts(), 0);
    assert_eq!(world.invoice().await.requests, 0);
}

/// A port that nobody listens on.
async fn local_closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address")
}

fn price(provider: &str) -> String {
    format!(
        "{provider}/gpt-4o-mini: {{input: \"0.15\", output: \"0.6\", cache_read: \"0.075\", context_window: 128000, max_output: 16384}}\n"
    )
}

/// A TLS server with this certificate; counts the requests that come through.
async fn tls(chain: &str, key: &str, protocols: &[&[u8]]) -> (TcpListener, TlsAcceptor) {
    install_default_crypto_provider();
    let file = |name: &str| format!("{FOLDER}/{name}");
    let (chain, key) = load_certs_and_key_files(&file(chain), &file(key)).expect("PEM").expect("both");
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a key pair");
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (TcpListener::bind("0.0.0.0:0").await.expect("a port"), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_a_certificate_that_is_not_the_providers_gets_no_request() {
    let through = Arc::new(AtomicUsize::new(0));
    let mut ports = Vec::new();
    for (chain, key) in [("server.pem", "server.key"), ("expired.pem", "expired.key")] {
        let (listener, acceptor) = tls(chain, key, &[]).await;
        ports.push(listener.local_addr().expect("an address").port());
        let through = through.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, through) = (acceptor.clone(), through.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut byte = [0];
                    if stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
                        through.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
    let (sound, expired) = (ports[0], ports[1]);
    let yaml = |name: &str, host: &str, port: u16, ca: &str| {
        format!(
            "{name}: {{ api: openai, base_url: \"https://{host}:{port}\", key: env:OPENAI_API_KEY, ca_file: \"{FOLDER}/{ca}\" }}"
        )
    };
    let prices: String = ["stranger", "name", "expired", "sound"].iter().map(|name| price(name)).collect();
    let world = World::new()
        .other_provider(&yaml("stranger", "127.0.0.1", sound, "other.pem"))
        .other_provider(&yaml("name", "127.0.0.2", sound, "ca.pem"))
        .other_provider(&yaml("expired", "127.0.0.1", expired, "expired_ca.pem"))
        .other_provider(&yaml("sound", "127.0.0.1", sound, "ca.pem"))
        .prices(&prices)
        .start()
        .await;
    let key = world.key(&["--daily", "1"]);
    let call =
        |name: &str| Request::post(&format!("/{name}/v1/chat/completions"), ask("").to_string()).bearer(&key.secret);
    for name in ["stranger", "name", "expired"] {
        world.send(&call(name)).await.refused(502, "upstream_unreachable");
        assert_eq!(at_rest(&world, &key).await, 0, "{name}");
        assert_eq!(through.load(Ordering::SeqCst), 0, "{name}: a byte of the request went out");
    }
    // The certificate itself is good: with the right name and authority the request goes out.
    world.send(&call("sound")).await;
    assert_eq!(through.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_what_was_sent_and_not_answered_is_charged_and_sent_once() {
    for (does, status, code) in [
        (Does::Hangs, 504, "upstream_timeout"),
        (Does::Resets, 502, "upstream_unreachable"),
        (Does::HalfAHead, 502, "upstream_unreachable"),
    ] {
        let provider = Provider::start(does).await;
        let world = world(provider.addr).await;
        let key = world.key(&["--daily", "1"]);
        let mut spent = 0;
        for calls in 1..=2 {
            let answer = world.send(&call(&key)).await.refused(status, code);
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            let now = at_rest(&world, &key).await;
            assert!(now > spent, "{does:?}: nobody knows whether it was billed");
            assert_eq!(provider.posts(), calls, "{does:?}: one POST a call");
            spent = now;
        }
        world.assert_limits_hold().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_a_reset_of_a_reused_connection_is_not_sent_again() {
    let provider = Provider::start(Does::AnswersOnce).await;
    let world = world(provider.addr).await;
    let key = world.key(&["--daily", "1"]);
    world.send(&call(&key)).await.expect(200);
    assert_eq!(at_rest(&world, &key).await, COST);
    // The second goes out on the connection that the first left, and is lost there.
    world.send(&call(&key)).await.refused(502, "upstream_unreachable");
    assert_eq!(provider.posts(), 2, "the second was sent once");
    let doubt = at_rest(&world, &key).await;
    assert!(doubt > 2 * COST, "it was sent, so it may have been billed");
    // A connection of its own serves the third.
    world.send(&call(&key)).await.expect(200);
    assert_eq!(at_rest(&world, &key).await, doubt + COST);
    assert_eq!(provider.posts(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_connections_closed_while_idle_are_not_used() {
    let provider = Provider::start(Does::AnswersAndCloses).await;
    let world = world(provider.addr).await;
    let key = world.key(&["--daily", "1"]);
    for calls in 1..=5 {
        world.send(&call(&key)).await.expect(200);
        assert_eq!(at_rest(&world, &key).await, calls * COST);
        assert_eq!(provider.posts() as u64, calls);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// What is said to a request over HTTP/2 instead of an answer.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// GOAWAY, with no stream taken, and no error.
    GoAway,
    /// RST_STREAM, REFUSED_STREAM.
    Refused,
    /// GOAWAY at once, before any request.
    GoAwayFirst,
    /// An answer, and that it was the last of it a moment later.
    LateEnd,
    /// The same with trailers; its head promises a length, or not.
    Trailers { length: bool },
}

impl Says {
    /// The frames of an answer, and those that come a moment later.
    fn answer(self, stream: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let length = BODY.len().to_string();
        // `:status: 200`, `content-type`, `content-length`, by their places in HPACK's table.
        let mut head = [&[0x88, 0x0f, 0x10, 16][..], b"application/json"].concat();
        if !matches!(self, Says::Trailers { length: false }) {
            head.extend([&[0x0f, 0x0d, length.len() as u8][..], length.as_bytes()].concat());
        }
        let first = [frame(1, 4, stream, &head), frame(0, 0, stream, BODY.as_bytes())].concat();
        match self {
            Says::LateEnd => Some((first, frame(0, 1, stream, &[]))),
            Says::Trailers { .. } => Some((first, frame(1, 5, stream, b"\x00\x01x\x01y"))),
            _ => None,
        }
    }
}

/// Speaks HTTP/2 by hand on a connection; counts requests.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, says: Says, requests: Arc<AtomicUsize>) -> Option<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    stream.write_all(&frame(4, 0, 0, &[])).await.ok()?;
    let goaway = frame(7, 0, 0, &[0; 8]);
    if let Says::GoAwayFirst = says {
        stream.write_all(&goaway).await.ok()?;
    }
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        match kind {
            4 if flags & 1 == 0 => stream.write_all(&frame(4, 1, 0, &[])).await.ok()?,
            // The end of the request.
            0 if flags & 1 == 1 => {
                if let Some((answer, end)) = says.answer(id) {
                    stream.write_all(&answer).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    stream.write_all(&end).await.ok()?;
                }
            }
            1 => {
                requests.fetch_add(1, Ordering::SeqCst);
                match says {
                    Says::GoAway => stream.write_all(&goaway).await.ok()?,
                    Says::Refused => stream.write_all(&frame(3, 0, id, &7_u32.to_be_bytes())).await.ok()?,
                    Says::GoAwayFirst | Says::LateEnd | Says::Trailers { .. } => {}
                }
            }
            _ => {}
        }
    }
}

/// A world with a provider `h2` that speaks HTTP/2, and how many requests it has seen.
async fn http2_world(says: Says) -> (World, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let (listener, acceptor) = tls("server.pem", "server.key", &[b"h2"]).await;
    let port = listener.local_addr().expect("an address").port();
    let counter = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counter) = (acceptor.clone(), counter.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                speak(stream, says, counter).await;
            });
        }
    });
    let yaml = format!(
        "h2: {{ api: openai, base_url: \"https://127.0.0.1:{port}\", key: env:OPENAI_API_KEY, ca_file: \"{FOLDER}/ca.pem\", timeouts: {TIMEOUTS} }}"
    );
    (World::new().other_provider(&yaml).prices(&price("h2")).start().await, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_an_http2_answer_is_over_when_its_promised_bytes_are_there_or_its_trailers() {
    for says in [Says::LateEnd, Says::Trailers { length: true }, Says::Trailers { length: false }] {
        let (world, _) = http2_world(says).await;
        let key = world.key(&["--daily", "1"]);
        let body = with(ask(""), json!({ "max_tokens": 50 })).to_string();
        for calls in 1..=2 {
            let request = Request::post("/h2/v1/chat/completions", body.clone()).bearer(&key.secret);
            let answer = world.send(&request).await.expect(200);
            assert_eq!(answer.text(), BODY, "{says:?}");
            assert_eq!(at_rest(&world, &key).await, calls * COST, "{says:?}: its usage is known");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c30_a_refusal_that_is_compressed_is_free_and_passes() {
    let says = b"HTTP/1.1 429 Too Many Requests\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00";
    let provider = Provider::start(Does::Says(says)).await;
    let world = world(provider.addr).await;
    let key = world.key(&["--daily", "1"]);
    let answer = world.send(&call(&key)).await;
    assert_eq!((answer.status, answer.header("content-encoding")), (429, Some("gzip")), "{}", answer.text());
    assert_eq!((at_rest(&world, &key).await, provider.posts()), (0, 1));
}

/// A provider that stops billing at a hang-up is charged what was generated: which nobody knows of what cannot be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c30_a_stream_that_cannot_be_read_costs_its_whole_hold() {
    let says = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
        c\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\r\n";
    let provider = Provider::start(Does::Says(says)).await;
    let yaml = format!(
        "anthropic: {{ base_url: \"http://{}\", key: env:OPENAI_API_KEY, timeouts: {TIMEOUTS} }}",
        provider.addr
    );
    let world = World::new().other_provider(&yaml).start().await;
    let key = world.key(&["--daily", "1"]);
    let body = json!({"model": "claude-haiku-4-5", "max_tokens": 5000, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.send(&Request::post("/anthropic/v1/messages", body.to_string()).bearer(&key.secret)).await;
    let answer = answer.refused(502, "upstream_unreachable");
    assert!(answer.text().contains("charged in full"), "{}", answer.text());
    // 5,000 tokens of output at 5 USD a million: all of them may have been in what came.
    let charged = at_rest(&world, &key).await;
    assert!(charged >= 25_000_000, "charged {charged}");
    assert_eq!(provider.posts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_who_was_told_to_continue_is_told_of_a_failure_too() {
    let provider = Provider::start(Does::Hangs).await;
    let world = world(provider.addr).await;
    let key = world.key(&["--daily", "1"]);
    let mut conn = Conn::open(world.gateway()).await;
    conn.write(&call(&key).header("expect", "100-continue").bytes()).await.expect("sent");
    let told = String::from_utf8_lossy(&within("the end", conn.rest()).await).to_lowercase();
    let (before, after) = told.split_once("100 continue").expect("told to continue");
    assert!(!before.contains("504") && after.contains("http/1.1 504"), "{told}");
    assert!(after.contains("x-should-retry: false") && after.contains("upstream_timeout"), "{told}");
    assert_eq!(provider.posts(), 1);
}

/// A stop while the provider is asked to count is told like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_call_that_is_stopped_while_its_input_is_counted_is_told() {
    let provider = Provider::start(Does::Hangs).await;
    let world = World::new().provider("count", "provider").upstream(provider.addr).start().await;
    let key = world.key(&["--daily", "0.0013"]);
    let body = json!({"model": "gpt-6-luna", "input": "word ".repeat(6_000), "max_output_tokens": 20});
    let request = Request::post("/openai/v1/responses", body.to_string()).bearer(&key.secret);
    let addr = world.gateway();
    let call = tokio::spawn(async move { Conn::open(addr).await.call(&request).await });
    until("its input is counted", async || provider.posts() == 1).await;
    world.cli_ok(&["kill", &key.id]);
    call.await.expect("the call").refused(403, "key_paused");
    assert_eq!((at_rest(&world, &key).await, provider.posts()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d43_http2_refusals_and_goaway_are_not_sent_again() {
    for says in [Says::GoAway, Says::Refused, Says::GoAwayFirst] {
        let (world, requests) = http2_world(says).await;
        let key = world.key(&["--daily", "1"]);
        let body = with(ask(""), json!({ "max_tokens": 50 })).to_string();
        for calls in 1..=2 {
            let answer = world.send(&Request::post("/h2/v1/chat/completions", body.clone()).bearer(&key.secret)).await;
            assert!(matches!(answer.status, 502 | 504), "{says:?}: {} {}", answer.status, answer.text());
            let sent = requests.load(Ordering::SeqCst);
            assert!(sent <= calls, "{says:?}: {sent} requests for {calls} calls");
            at_rest(&world, &key).await;
        }
        assert!(requests.load(Ordering::SeqCst) == 2 || matches!(says, Says::GoAwayFirst), "{says:?}");
        world.assert_limits_hold().await;
    }
}

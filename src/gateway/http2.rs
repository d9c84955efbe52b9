//! HTTP/2 clients: each of their streams becomes an HTTP/1.1 connection to the proxy, inside this process.
//!
//! So one pipeline serves both protocols, and what it does for a connection (notice a departure, keep it from the provider, wake a
//! call that waits, keep an answer's head back) it does for a stream. hyper speaks both ends; a duplex pipe is between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora::apps::ServerApp;
use pingora::protocols::tls::ALPN;
use pingora::protocols::{SocketDigest, Stream};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::client::ClientStream;
use super::door::Door;

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection may take to say which protocol it speaks.
const OPENING_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections without a stream are closed after so long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often a silent peer is asked whether it is there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Headers that concern one connection only; HTTP/2 must not have them.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Which protocol a connection speaks, and the bytes that were read to find out.
pub async fn opening(stream: &mut Stream) -> io::Result<(bool, Vec<u8>)> {
    if stream.get_ssl_digest().is_some() {
        return Ok((matches!(stream.selected_alpn_proto(), Some(ALPN::H2)), Vec::new()));
    }
    let mut seen = Vec::with_capacity(PREFACE.len());
    let mut piece = [0; PREFACE.len()];
    let reading = async {
        loop {
            let room = PREFACE.len() - seen.len();
            let count = stream.read(&mut piece[..room]).await?;
            seen.extend_from_slice(&piece[..count]);
            if count == 0 || !PREFACE.starts_with(&seen) {
                return Ok::<bool, io::Error>(false);
            }
            if seen.len() == PREFACE.len() {
                return Ok(true);
            }
        }
    };
    let is_http2 =
        tokio::time::timeout(OPENING_TIMEOUT, reading).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok((is_http2, seen))
}

/// Serves an HTTP/2 connection whose first bytes were read already.
pub async fn serve<A>(app: Arc<A>, door: &Arc<Door>, stream: Stream, read: Vec<u8>, shutdown: &ShutdownWatch)
where
    A: ServerApp + Send + Sync + 'static,
{
    let socket = stream.get_socket_digest();
    let open = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request| {
        let guard = OpenStream::new(open.clone());
        let (app, door, socket, shutdown) = (app.clone(), door.clone(), socket.clone(), shutdown.clone());
        async move { forward(app, door, socket, shutdown, guard, request).await }
    });
    let io = TokioIo::new(Rewound { read, inner: stream });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(door.http2_streams)
        .max_header_list_size(u32::try_from(door.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .serve_connection(io, service);
    tokio::pin!(serving);
    let mut stopping = shutdown.clone();
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = told_to_stop(&mut stopping) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = idle(&open) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        log::debug!("an HTTP/2 connection ended: {error}");
    }
}

/// Ready when the server begins to shut down.
async fn told_to_stop(shutdown: &mut ShutdownWatch) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Ready when the connection had no stream for [`IDLE_MAX`].
async fn idle(open: &AtomicUsize) {
    let step = IDLE_MAX / 4;
    let mut quiet = Duration::ZERO;
    while quiet < IDLE_MAX {
        tokio::time::sleep(step).await;
        quiet = if open.load(Ordering::Acquire) == 0 { quiet + step } else { Duration::ZERO };
    }
}

/// Counts a stream as long as it lives.
struct OpenStream(Arc<AtomicUsize>);

impl OpenStream {
    fn new(open: Arc<AtomicUsize>) -> OpenStream {
        open.fetch_add(1, Ordering::AcqRel);
        OpenStream(open)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes one request through the proxy. When the client resets its stream, hyper drops this future or the answer's body, and with it
/// the pipe: the proxy sees a client that hung up.
async fn forward<A>(
    app: Arc<A>,
    door: Arc<Door>,
    socket: Option<Arc<SocketDigest>>,
    shutdown: ShutdownWatch,
    open: OpenStream,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, hyper::Error>
where
    A: ServerApp + Send + Sync + 'static,
{
    let Some(request) = as_http1(request) else {
        let mut refused = Response::new(AnswerBody::empty(open));
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let (ours, theirs) = tokio::io::duplex(door.http2_stream_bytes);
    // Not tied to this future: the proxy settles its call also when the client is gone.
    tokio::spawn(async move {
        let client = ClientStream::new(Box::new(theirs), Vec::new(), socket, door);
        app.process_new(Box::new(client), &shutdown).await;
    });
    let (mut sender, pipe) = http1::handshake(TokioIo::new(ours)).await?;
    let pipe = Pipe(tokio::spawn(async move {
        if let Err(error) = pipe.await {
            log::debug!("an HTTP/2 stream's pipe ended: {error}");
        }
    }));
    let (mut head, body) = sender.send_request(request).await?.into_parts();
    head.version = Version::HTTP_2;
    without_hop_by_hop(&mut head.headers);
    Ok(Response::from_parts(head, AnswerBody { body: Some(body), _pipe: Some(pipe), _open: open }))
}

/// The request as HTTP/1.1 says it: a path, and a host in a header. `None` for what has no path (`CONNECT`).
fn as_http1(mut request: Request<Incoming>) -> Option<Request<Incoming>> {
    let path = request.uri().path_and_query().filter(|path| path.as_str().starts_with('/'))?.clone();
    if !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
    {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    without_hop_by_hop(request.headers_mut());
    Some(request)
}

fn without_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The task that moves a stream's bytes; ends with whoever holds it.
struct Pipe(JoinHandle<()>);

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer on its way to the client. Dropped, it hangs up.
struct AnswerBody {
    body: Option<Incoming>,
    _pipe: Option<Pipe>,
    _open: OpenStream,
}

impl AnswerBody {
    fn empty(open: OpenStream) -> AnswerBody {
        AnswerBody { body: None, _pipe: None, _open: open }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A connection whose first bytes were read already.
struct Rewound {
    read: Vec<u8>,
    inner: Stream,
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if give_back(&mut self.read, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

/// Moves bytes that were read already into `buf`. False when there are none.
pub fn give_back(read: &mut Vec<u8>, buf: &mut ReadBuf<'_>) -> bool {
    if read.is_empty() {
        return false;
    }
    let count = read.len().min(buf.remaining());
    buf.put_slice(&read[..count]);
    read.drain(..count);
    true
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

//! The client's side of a connection, between the socket and Pingora.
//!
//! Pingora ends a call the moment its client leaves. Where a provider goes on billing after a hang-up, the call must be read to its
//! usage instead, so this layer can keep a departure to itself: reads stay silent and writes go nowhere until the call has ended.
//! It also lets the gateway wake a call that waits for a stalled provider (kill switch, deadline), which no Pingora hook can, and
//! keep back the head of a short answer until its cost is known.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::l4::ext::get_tcp_info;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{ALPN, SslDigest, TlsRef};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::http2;

/// A client that takes no byte for so long is treated as gone.
const STALL_MAX: Duration = Duration::from_secs(30);
/// The largest answer that is kept back until its cost is known; a larger one goes out without the cost header.
const HEAD_HELD_BYTES_MAX: usize = 4 << 20;

/// What the gateway and a client's connection tell each other. One per connection.
#[derive(Default)]
pub struct ClientLink {
    /// A departure is kept from Pingora.
    surviving: AtomicBool,
    /// The client left, or takes nothing any more.
    gone: AtomicBool,
    /// A write had to wait in this call: the provider may have sent more than was read of it.
    waited: AtomicBool,
    /// The call must end now, whatever it waits for.
    aborted: AtomicBool,
    reader: Mutex<Option<Waker>>,
    head: Mutex<HeadHold>,
    upstream: Mutex<Option<Upstream>>,
}

/// The connection that this call's answer comes on.
struct Upstream {
    fd: RawFd,
    /// Bytes that had come on it before this call.
    before: u64,
    /// Bytes of this call that had come when it was decided to end it.
    received: Option<u64>,
}

/// The state of an answer that is kept back.
#[derive(Default)]
enum HeadHold {
    /// Bytes go straight through.
    #[default]
    Off,
    /// Bytes are kept.
    Holding,
    /// The next write sends what was kept, with this header line put in.
    Release(String),
    /// The next write sends this whole answer instead of what was kept.
    Replace(Vec<u8>),
    /// Another answer was sent: nothing more of the kept one may follow.
    Replaced,
}

impl ClientLink {
    /// From now on a departure does not end the call.
    pub fn survive(&self) {
        self.surviving.store(true, Ordering::Release);
    }

    /// The call has ended: the connection behaves as usual again.
    pub fn end_call(&self) {
        self.surviving.store(false, Ordering::Release);
        self.aborted.store(false, Ordering::Release);
        self.waited.store(false, Ordering::Release);
        *lock(&self.head) = HeadHold::Off;
        *lock(&self.upstream) = None;
    }

    /// The call goes out on this connection, which stays open as long as the call runs.
    pub fn goes_out_on(&self, fd: RawFd) {
        *lock(&self.upstream) = bytes_received(fd).map(|before| Upstream { fd, before, received: None });
    }

    /// The call is about to end early: remembers how much of its answer had reached this machine. Only the first time counts.
    pub fn note_received(&self) {
        if let Some(upstream) = &mut *lock(&self.upstream)
            && upstream.received.is_none()
        {
            upstream.received = bytes_received(upstream.fd).map(|now| now.saturating_sub(upstream.before));
        }
    }

    /// Bytes of the answer, with all framing, that had reached this machine by then. `None`: not known.
    pub fn received(&self) -> Option<u64> {
        lock(&self.upstream).as_ref()?.received
    }

    /// True once the client left.
    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// True when the client took its answer more slowly than it came: what the provider sent may then be more than what was metered.
    pub fn waited(&self) -> bool {
        self.waited.load(Ordering::Acquire)
    }

    /// Ends the call that runs on this connection, also while it waits for the provider.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.reader).take() {
            waker.wake();
        }
    }

    /// Keeps the answer back until [`ClientLink::release_head`].
    pub fn hold_head(&self) {
        *lock(&self.head) = HeadHold::Holding;
    }

    /// Lets the answer go, with `line` (`name: value`) added to its head. Nothing happens when it already went.
    pub fn release_head(&self, line: String) {
        let mut head = lock(&self.head);
        if matches!(*head, HeadHold::Holding) {
            *head = HeadHold::Release(line);
        }
    }

    /// Sends `answer`, a whole HTTP/1.1 answer, instead of the one that is kept back. False when that already went.
    pub fn replace_answer(&self, answer: Vec<u8>) -> bool {
        let mut head = lock(&self.head);
        let held = matches!(*head, HeadHold::Holding);
        if held {
            *head = HeadHold::Replace(answer);
        }
        held
    }
}

impl fmt::Debug for ClientLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLink").field("gone", &self.gone).finish_non_exhaustive()
    }
}

/// Bytes that the kernel took in on a connection, read by us or not yet. Known on Linux only.
fn bytes_received(fd: RawFd) -> Option<u64> {
    if cfg!(target_os = "linux") { get_tcp_info(fd).ok().map(|info| info.tcpi_bytes_received) } else { None }
}

/// A poisoned lock only means that another request panicked; the data behind is plain flags.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Finds the link of the connection that a request came on.
pub fn link_of(session: &pingora::proxy::Session) -> Option<Arc<ClientLink>> {
    let digest = session.as_downstream().digest()?.proxy_digest.as_ref()?;
    digest.user_data.as_ref()?.downcast_ref::<Arc<ClientLink>>().cloned()
}

/// Puts a [`ClientStream`] under every connection before the proxy sees it.
pub struct Front<A> {
    /// The proxy.
    pub inner: Arc<A>,
    /// The largest head of a request.
    pub head_bytes: u32,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Front<A> {
    async fn process_new(self: &Arc<Self>, mut session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let (is_http2, read) = http2::opening(&mut session).await.ok()?;
        if is_http2 {
            http2::serve(self.inner.clone(), session, read, self.head_bytes, shutdown).await;
            return None;
        }
        let socket = session.get_socket_digest();
        self.inner.process_new(Box::new(ClientStream::new(session, read, socket)), shutdown).await
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}

/// A client's connection with its [`ClientLink`].
pub struct ClientStream {
    inner: Stream,
    /// Bytes that were read before, and come first.
    read: Vec<u8>,
    /// The client's socket, which may be another one than `inner`'s.
    socket: Option<Arc<SocketDigest>>,
    link: Arc<ClientLink>,
    digest: Arc<ProxyDigest>,
    /// Bytes kept back, or on their way out after a release (`sent` of them are gone).
    kept: Vec<u8>,
    sent: usize,
    stall: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    /// A connection of which `read` was read already, from a client at `socket`.
    pub fn new(inner: Stream, read: Vec<u8>, socket: Option<Arc<SocketDigest>>) -> Self {
        let link = Arc::new(ClientLink::default());
        let user_data: Box<dyn Any + Send + Sync> = Box::new(link.clone());
        // A digest wants a response header; nobody reads this one.
        let (parts, ()) = http::Response::new(()).into_parts();
        let digest = Arc::new(ProxyDigest::new(Box::new(ResponseHeader::from(parts)), Some(user_data)));
        ClientStream { inner, read, socket, link, digest, kept: Vec::new(), sent: 0, stall: None }
    }

    /// The client left. True when the call must not notice.
    fn departed(&self) -> bool {
        self.link.note_received();
        self.link.gone.store(true, Ordering::Release);
        self.link.surviving.load(Ordering::Acquire)
    }

    /// True when everything written is to be thrown away.
    fn discards(&self) -> bool {
        self.link.gone() && self.link.surviving.load(Ordering::Acquire)
    }

    /// Takes a finished write's result: a client that cannot be written to has left.
    fn written(&mut self, result: io::Result<usize>, len: usize) -> io::Result<usize> {
        self.stall = None;
        match result {
            Err(_) if self.departed() => Ok(len),
            other => other,
        }
    }

    /// A write waits. Bounded: a client that takes nothing for [`STALL_MAX`] is treated as gone.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.waited.store(true, Ordering::Release);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_MAX)));
        ready!(stall.as_mut().poll(cx));
        self.stall = None;
        Poll::Ready(if self.departed() { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) })
    }

    /// Takes `buf` into what is kept, while an answer is held back or its head waits for one more line. True when it was taken.
    fn keep(&mut self, buf: &[u8]) -> bool {
        let mut head = lock(&self.link.head);
        match *head {
            HeadHold::Holding if self.kept.len() + buf.len() > HEAD_HELD_BYTES_MAX => *head = HeadHold::Off,
            HeadHold::Holding | HeadHold::Release(_) => {
                drop(head);
                self.kept.extend_from_slice(buf);
                return true;
            }
            HeadHold::Off | HeadHold::Replace(_) | HeadHold::Replaced => {}
        }
        false
    }

    /// Applies what was decided about the kept answer.
    fn apply_decision(&mut self) {
        let mut head = lock(&self.link.head);
        match std::mem::take(&mut *head) {
            // The line becomes the first of the head, behind the status line.
            HeadHold::Release(line) => match self.kept.windows(2).position(|two| two == b"\r\n") {
                Some(end) => drop(self.kept.splice(end..end, b"\r\n".iter().copied().chain(line.bytes()))),
                // The decision came before the head was written.
                None => *head = HeadHold::Release(line),
            },
            HeadHold::Replace(answer) => {
                self.kept = answer;
                *head = HeadHold::Replaced;
            }
            other => *head = other,
        }
    }

    /// Sends what was kept back and is released by now.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.apply_decision();
        if self.awaits_head() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.kept.len() {
            if self.discards() {
                break;
            }
            let polled = Pin::new(&mut self.inner).poll_write(cx, &self.kept[self.sent..]);
            let Poll::Ready(result) = polled else {
                ready!(self.poll_stalled(cx))?;
                continue;
            };
            let rest = self.kept.len() - self.sent;
            match self.written(result, rest)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.kept.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// True while an answer is held back.
    fn holding(&self) -> bool {
        matches!(*lock(&self.link.head), HeadHold::Holding)
    }

    /// True while a decided line waits for a head to be put into.
    fn awaits_head(&self) -> bool {
        matches!(*lock(&self.link.head), HeadHold::Release(_))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.link.aborted.load(Ordering::Acquire) {
            self.link.note_received();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.discards() {
            self.remember_reader(cx);
            return Poll::Pending;
        }
        if http2::give_back(&mut self.read, buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let ended = match &polled {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended && self.departed() || polled.is_pending() {
            self.remember_reader(cx);
            // An abort that came before the waker was stored must not be missed.
            if self.link.aborted.load(Ordering::Acquire) {
                self.link.note_received();
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            return Poll::Pending;
        }
        polled
    }
}

impl ClientStream {
    fn remember_reader(&self, cx: &Context<'_>) {
        let mut reader = lock(&self.link.reader);
        match &*reader {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *reader = Some(cx.waker().clone()),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.discards() {
            return Poll::Ready(Ok(buf.len()));
        }
        if self.keep(buf) {
            // What is released goes out now as far as it can; the flush at the end of the answer sends the rest.
            if !self.holding()
                && let Poll::Ready(Err(error)) = self.poll_kept(cx)
            {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(buf.len()));
        }
        if !self.kept.is_empty() {
            ready!(self.poll_kept(cx))?;
            if matches!(*lock(&self.link.head), HeadHold::Replaced) {
                ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
                return Poll::Ready(Ok(buf.len()));
            }
        }
        match Pin::new(&mut self.inner).poll_write(cx, buf) {
            Poll::Ready(result) => Poll::Ready(self.written(result, buf.len())),
            Poll::Pending => self.poll_stalled(cx).map_ok(|()| buf.len()),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.kept.is_empty() || self.discards() || self.holding() || self.awaits_head() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        let total = bufs.iter().map(|buf| buf.len()).sum();
        match Pin::new(&mut self.inner).poll_write_vectored(cx, bufs) {
            Poll::Ready(result) => Poll::Ready(self.written(result, total)),
            Poll::Pending => self.poll_stalled(cx).map_ok(|()| total),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discards() || self.holding() {
            return Poll::Ready(Ok(()));
        }
        if !self.kept.is_empty() {
            ready!(self.poll_kept(cx))?;
        }
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Ready(result) => Poll::Ready(self.written(result.map(|()| 0), 0).map(|_| ())),
            Poll::Pending => self.poll_stalled(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for ClientStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.socket.clone()
    }
}

#[async_trait]
impl Peek for ClientStream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("link", &self.link).finish_non_exhaustive()
    }
}

//! The client's side of a connection, between the socket and Pingora.
//!
//! Pingora ends a call the moment its client leaves. Where a provider goes on billing after a hang-up, the call must be read to its
//! usage instead, so this layer can keep a departure to itself: reads stay silent and writes go nowhere until the call has ended.
//! It also lets the gateway wake a call that waits for a stalled provider (kill switch, deadline), which no Pingora hook can, and
//! keep back the head of a short answer until its cost is known.

use std::any::Any;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::server::handshake;
use pingora::protocols::tls::{ALPN, SslDigest, TlsRef};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::door::Door;
use super::http2;
use super::link::{ClientLink, HeadHold, lock};

/// A client that takes no byte for so long is treated as gone.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How long a client that is slow to read may take, all in all, for the end of an answer whose call was stopped.
const LAST_WORDS_MAX: Duration = Duration::from_millis(300);

/// A head that is larger than allowed by no more than this is answered, with what is wrong.
const HEAD_SLACK: usize = 16 << 10;

/// The most memory that a connection keeps between two answers.
const KEPT_IDLE_BYTES_MAX: usize = 64 << 10;

/// A request's head is there: finds the link of the connection that it came on.
pub fn link_of(session: &ServerSession) -> Option<Arc<ClientLink>> {
    let digest = session.digest()?.proxy_digest.as_ref()?;
    let link = digest.user_data.as_ref()?.downcast_ref::<Arc<ClientLink>>()?;
    link.begin_call();
    Some(link.clone())
}

/// Puts a [`ClientStream`] under every connection before the proxy sees it.
pub struct Front<A> {
    /// The proxy.
    pub inner: Arc<A>,
    /// How many clients come in, and what they may take.
    pub door: Arc<Door>,
    /// Ends TLS. Here, not in Pingora's listener: a connection whose handshake never ends has to be counted too.
    pub tls: Option<Acceptor>,
}

impl<A> Front<A> {
    /// The connection behind its TLS, if there is any. `None` for a client that does not get through in time.
    async fn opened(&self, stream: Stream) -> Option<Stream> {
        let Some(acceptor) = &self.tls else { return Some(stream) };
        let socket = stream.into_any().downcast::<L4Stream>().ok()?;
        // Apart: it is large, and every connection would carry the room for it.
        let secured = Box::pin(handshake(acceptor, *socket));
        match tokio::time::timeout(self.door.head_patience, secured).await {
            Ok(Ok(secured)) => Some(Box::new(secured)),
            Ok(Err(error)) => {
                log::debug!("a TLS handshake failed: {error}");
                None
            }
            Err(_) => None,
        }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Front<A> {
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Some(_inside) = self.door.enter() else {
            Box::pin(self.door.turn_away(self.opened(session))).await;
            return None;
        };
        let mut session = self.opened(session).await?;
        let (is_http2, read) = http2::opening(&mut session).await.ok()?;
        if is_http2 {
            http2::serve(self.inner.clone(), &self.door, session, read, shutdown).await;
            return None;
        }
        let socket = session.get_socket_digest();
        self.inner.process_new(Box::new(ClientStream::new(session, read, socket, self.door.clone())), shutdown).await
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
    /// Until when the client may take the end of an answer whose call was ended.
    last_words: Option<Instant>,
    /// What clients may take, and how many bytes of it were taken for what is kept back.
    door: Arc<Door>,
    taken: usize,
    /// When the head of a request began that is not there as a whole yet, and the end of the patience with it.
    head_since: Option<Instant>,
    head_late: Option<Pin<Box<Sleep>>>,
    /// Bytes of that head, and how many calls had begun before it.
    head_read: usize,
    head_after: u64,
}

impl ClientStream {
    /// A connection of which `read` was read already, from a client at `socket`.
    pub fn new(inner: Stream, read: Vec<u8>, socket: Option<Arc<SocketDigest>>, door: Arc<Door>) -> Self {
        let link = Arc::new(ClientLink::default());
        let user_data: Box<dyn Any + Send + Sync> = Box::new(link.clone());
        // A digest wants a response header; nobody reads this one.
        let (parts, ()) = http::Response::new(()).into_parts();
        let digest = Arc::new(ProxyDigest::new(Box::new(ResponseHeader::from(parts)), Some(user_data)));
        ClientStream {
            inner,
            read,
            socket,
            link,
            digest,
            kept: Vec::new(),
            sent: 0,
            stall: None,
            last_words: None,
            door,
            taken: 0,
            head_since: None,
            head_late: None,
            head_read: 0,
            head_after: 0,
        }
    }

    /// The client left. True when the call must not notice.
    fn departed(&self) -> bool {
        self.link.note_received();
        self.link.gone.store(true, Ordering::Release);
        // A provider bills what it sent, read or not: that is metered first.
        if !self.link.goes_on() && self.link.lags() {
            self.link.catching_up.store(true, Ordering::Release);
        }
        self.link.goes_on()
    }

    /// True when everything written is to be thrown away.
    fn discards(&self) -> bool {
        self.link.gone() && self.link.goes_on()
    }

    /// Takes a finished write's result: a client that cannot be written to has left.
    fn written(&mut self, result: io::Result<usize>, len: usize) -> io::Result<usize> {
        self.stall = None;
        match result {
            Err(_) if self.departed() => Ok(len),
            other => other,
        }
    }

    /// A write waits. Bounded: a client that takes nothing for [`STALL_MAX`] is treated as gone, and a stopped call waits for nobody.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.waited.store(true, Ordering::Release);
        if !self.link.is_aborted() {
            self.last_words = None;
        } else if self.last_words.is_none() {
            self.last_words = Some(Instant::now() + LAST_WORDS_MAX);
            self.stall = None;
        }
        let end = self.last_words.unwrap_or_else(|| Instant::now() + STALL_MAX);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        ready!(stall.as_mut().poll(cx));
        self.stall = None;
        if self.link.is_aborted() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(if self.departed() { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) })
    }

    /// Takes `buf` into what is kept, while an answer is held back or its head waits for lines. True when it was taken.
    fn keep(&mut self, buf: &[u8]) -> bool {
        let mut head = lock(&self.link.head);
        match &mut *head {
            HeadHold::Holding(_) if self.door.keep(self.taken, buf.len()) => self.taken += buf.len(),
            // Too much to wait for the cost: it goes with the lines that are known.
            HeadHold::Holding(lines) => {
                let lines = std::mem::take(lines);
                *head = HeadHold::Release(lines);
            }
            HeadHold::Release(_) => {}
            HeadHold::Off | HeadHold::Replace(_) | HeadHold::Replaced => return false,
        }
        drop(head);
        self.kept.extend_from_slice(buf);
        true
    }

    /// Applies what was decided about the kept answer.
    fn apply_decision(&mut self) {
        let mut head = lock(&self.link.head);
        match std::mem::take(&mut *head) {
            // The lines become the first of the head, behind the status line.
            HeadHold::Release(lines) => match self.kept.windows(2).position(|two| two == b"\r\n") {
                Some(end) => drop(self.kept.splice(end + 2..end + 2, lines.bytes())),
                // The decision came before the head was written.
                None => *head = HeadHold::Release(lines),
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
        // A connection that idles shall not keep the memory of its largest answer.
        if self.kept.capacity() > KEPT_IDLE_BYTES_MAX {
            self.kept = Vec::new();
        }
        self.kept.clear();
        self.sent = 0;
        self.door.give_back(std::mem::take(&mut self.taken));
        Poll::Ready(Ok(()))
    }

    /// True while an answer is held back.
    fn holding(&self) -> bool {
        matches!(*lock(&self.link.head), HeadHold::Holding(_))
    }

    /// True while decided lines wait for a head to be put into.
    fn awaits_head(&self) -> bool {
        matches!(*lock(&self.link.head), HeadHold::Release(_))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.link.is_aborted() {
            self.link.note_received();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.discards() {
            self.remember_reader(cx);
            return Poll::Pending;
        }
        self.forget_last_head();
        let before = buf.filled().len();
        if http2::give_back(&mut self.read, buf) {
            self.head_goes_on(buf.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        if self.head_is_too_large() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.head_goes_on(buf.filled().len() - before);
        if polled.is_pending() && self.head_is_late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let ended = match &polled {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended && self.departed() || polled.is_pending() {
            self.remember_reader(cx);
            // An abort that came before the waker was stored must not be missed.
            if self.link.is_aborted() {
                self.link.note_received();
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            return Poll::Pending;
        }
        polled
    }
}

impl ClientStream {
    /// What was counted belongs to the head of a call that has begun since. Its body may have come with it: then nothing was read in that call.
    fn forget_last_head(&mut self) {
        let begun = self.link.begun();
        if begun != self.head_after {
            self.head_after = begun;
            self.head_since = None;
            self.head_late = None;
            self.head_read = 0;
        }
    }

    /// So many bytes of a request came. Outside a call they are those of the next request's head.
    fn head_goes_on(&mut self, came: usize) {
        if self.link.call() == 0 && came > 0 {
            self.head_since.get_or_insert_with(Instant::now);
            self.head_read += came;
        }
    }

    /// True when a head has come that is far too large and still not there as a whole. Pingora would keep a megabyte of it, and look at all of
    /// that again whenever more comes.
    fn head_is_too_large(&self) -> bool {
        self.link.call() == 0 && self.head_read > self.door.head_bytes + HEAD_SLACK
    }

    /// True when the head of a request, of which a part came, is not there in time: a client that sends a byte now and then would
    /// otherwise keep its connection for ever.
    fn head_is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(since) = self.head_since else { return false };
        let end = since + self.door.head_patience;
        let late = self.head_late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        late.as_mut().poll(cx).is_ready()
    }

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

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.door.give_back(self.taken);
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

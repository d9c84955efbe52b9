//! What the gateway and a client's connection tell each other about the call that runs on it.

use std::fmt::{self, Write as _};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use pingora::protocols::l4::ext::get_tcp_info;

/// What the gateway and a client's connection tell each other. One per connection.
#[derive(Default)]
pub struct ClientLink {
    /// A departure is kept from Pingora.
    pub(super) surviving: AtomicBool,
    /// The client left, or takes nothing any more.
    pub(super) gone: AtomicBool,
    /// A write had to wait in this call: the provider may have sent more than was read of it.
    pub(super) waited: AtomicBool,
    /// Calls that have begun on this connection.
    calls: AtomicU64,
    /// The one whose head is there and that has not ended; 0 between calls.
    call: AtomicU64,
    /// The one that must end now, whatever it waits for.
    aborted: AtomicU64,
    pub(super) reader: Mutex<Option<Waker>>,
    pub(super) head: Mutex<HeadHold>,
    upstream: Mutex<Option<Upstream>>,
    /// Bytes of the answer that the meter has taken, with the most that their framing can have had.
    metered: AtomicU64,
    /// The client left; the call ends as soon as the meter has taken what had come by then.
    pub(super) catching_up: AtomicBool,
}

/// The connection that this call's answer comes on.
struct Upstream {
    fd: RawFd,
    /// Bytes that had come on it before this call.
    before: u64,
    /// Bytes of this call that had come when it was last decided to end it.
    received: Option<u64>,
}

/// The state of an answer that is kept back.
#[derive(Default)]
pub(super) enum HeadHold {
    /// Bytes go straight through.
    #[default]
    Off,
    /// Bytes are kept. These header lines are put in whenever they go, each with its line end.
    Holding(String),
    /// The next write sends what was kept, with these header lines put in.
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

    /// The head of a request is there.
    pub fn begin_call(&self) {
        self.call.store(self.calls.fetch_add(1, Ordering::AcqRel) + 1, Ordering::Release);
    }

    /// The call from the end of its request's head to its own end; 0 between calls. No two calls of a connection have the same number.
    pub fn call(&self) -> u64 {
        self.call.load(Ordering::Acquire)
    }

    /// Calls that have begun on this connection.
    pub(super) fn begun(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    /// True when the call that runs must end now.
    pub(super) fn is_aborted(&self) -> bool {
        let call = self.call();
        call != 0 && self.aborted.load(Ordering::Acquire) == call
    }

    /// The call has ended: the connection behaves as usual again.
    pub fn end_call(&self) {
        self.call.store(0, Ordering::Release);
        self.surviving.store(false, Ordering::Release);
        self.waited.store(false, Ordering::Release);
        *lock(&self.head) = HeadHold::Off;
        *lock(&self.upstream) = None;
        self.metered.store(0, Ordering::Release);
        self.catching_up.store(false, Ordering::Release);
    }

    /// The meter has taken so many bytes of the answer. Ends a call whose client left, once it has caught up.
    pub fn metered(&self, bytes: u64) {
        self.metered.store(bytes, Ordering::Release);
        if self.catching_up.load(Ordering::Acquire) && !self.lags() {
            self.abort(self.call());
        }
    }

    /// True when more of the answer had come by the noted moment than was metered.
    pub(super) fn lags(&self) -> bool {
        self.received().is_some_and(|received| received > self.metered.load(Ordering::Acquire))
    }

    /// True when a departure is kept from Pingora, for good or for now.
    pub(super) fn goes_on(&self) -> bool {
        self.surviving.load(Ordering::Acquire) || self.catching_up.load(Ordering::Acquire)
    }

    /// The call goes out on this connection, which stays open as long as the call runs.
    pub fn goes_out_on(&self, fd: RawFd) {
        *lock(&self.upstream) = bytes_received(fd).map(|before| Upstream { fd, before, received: None });
    }

    /// The call is about to end early: remembers how much of its answer had reached this machine. The last time counts: a call that goes on
    /// without its client may be ended later, by somebody else.
    pub fn note_received(&self) {
        if let Some(upstream) = &mut *lock(&self.upstream) {
            let received = bytes_received(upstream.fd).map(|now| now.saturating_sub(upstream.before));
            upstream.received = upstream.received.max(received);
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

    /// Ends a call of this connection, if it still runs, also while it waits for the provider. A later one is not touched: whoever ends a
    /// call may have looked at it a while ago.
    pub fn abort(&self, call: u64) {
        // Numbers only grow: who comes late with an earlier call takes nothing back.
        self.aborted.fetch_max(call, Ordering::AcqRel);
        if let Some(waker) = lock(&self.reader).take() {
            waker.wake();
        }
    }

    /// Keeps the answer back until [`ClientLink::release_head`]. Its head gets `lines` (`name: value` and a line end, each).
    pub fn hold_head(&self, lines: String) {
        *lock(&self.head) = HeadHold::Holding(lines);
    }

    /// Lets the answer go, with `line` added to its head as well. Nothing happens when it already went.
    pub fn release_head(&self, line: fmt::Arguments<'_>) {
        let mut head = lock(&self.head);
        if let HeadHold::Holding(lines) = &mut *head {
            let mut lines = std::mem::take(lines);
            // A text takes whatever is written into it.
            let _ = write!(lines, "{line}\r\n");
            *head = HeadHold::Release(lines);
        }
    }

    /// Sends `answer`, a whole HTTP/1.1 answer, instead of the one that is kept back. False when that already went.
    pub fn replace_answer(&self, answer: Vec<u8>) -> bool {
        let mut head = lock(&self.head);
        let held = matches!(*head, HeadHold::Holding(_));
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
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_ends_its_own_call_and_no_later_one() {
        let link = ClientLink::default();
        link.abort(link.call());
        assert!(!link.is_aborted(), "nothing runs");
        link.begin_call();
        let first = link.call();
        link.end_call();
        link.begin_call();
        link.abort(first);
        assert!(!link.is_aborted(), "another call runs");
        link.abort(link.call());
        assert!(link.is_aborted());
        link.abort(first);
        assert!(link.is_aborted(), "an abort of another call took it back");
        link.end_call();
        assert!(!link.is_aborted());
    }
}

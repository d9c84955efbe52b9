//! How many clients are let in, before a byte of theirs is read, and what all of them together may take of memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::app::size;
use super::refusal::Refusal;
use crate::config::Limits;

/// Files that a gateway needs beside its clients' and its providers' connections: listeners, ledger, journal, runtimes.
const FILES_BESIDE: usize = 128;
/// Clients that were refused and may still have to read that.
const REFUSED_MAX: usize = 64;
/// How long such a client has for it, and how much of what it sends meanwhile is thrown away.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);
const REFUSED_BYTES_MAX: usize = 64 * 1024;

/// How the files that the system allows are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Connections of clients.
    pub clients: usize,
    /// Calls at once, each with a connection to its provider.
    pub calls: usize,
    /// Idle connections to providers.
    pub idle_upstream: usize,
}

impl Files {
    /// As many clients as `limits.connections` says; fewer where that many, each with a connection to a provider, would not fit the files
    /// that this process may open.
    pub fn divided(limits: &Limits) -> Files {
        let allowed = open_files().map(|allowed| allowed.saturating_sub(size(limits.admin_connections)));
        let files = Files::of(size(limits.connections), size(limits.idle_upstreams), allowed);
        if files.clients < size(limits.connections) {
            log::warn!(
                "the system allows so few open files that at most {} clients, and as many calls, are served at once, not \
                 limits.connections: {} (raise `ulimit -n`, LimitNOFILE or nofile)",
                files.clients,
                limits.connections
            );
        }
        files
    }

    fn of(connections: usize, idle_upstream: usize, allowed: Option<usize>) -> Files {
        let Some(allowed) = allowed else { return Files { clients: connections, calls: usize::MAX, idle_upstream } };
        let free = allowed.saturating_sub(FILES_BESIDE);
        let idle_upstream = (free / 8).clamp(1, idle_upstream);
        let half = (free.saturating_sub(idle_upstream) / 2).max(1);
        let clients = half.min(connections);
        // What few clients leave free is for the calls of those that have many.
        Files { clients, calls: free.saturating_sub(idle_upstream + clients).max(1), idle_upstream }
    }
}

/// The limit of open files of this process; `None` where it cannot be learned, or there is none.
fn open_files() -> Option<usize> {
    static ALLOWED: OnceLock<Option<usize>> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse().ok()
    })
}

/// Counts the clients that are in, and the bodies that are in memory for them.
#[derive(Debug)]
pub struct Door {
    inside: AtomicUsize,
    refused: AtomicUsize,
    most: usize,
    /// The longest time for a request's head, from its first byte.
    pub head_patience: Duration,
    /// The largest such head.
    pub head_bytes: usize,
    /// Streams of an HTTP/2 connection.
    pub http2_streams: u32,
    /// Bytes of such a stream between the client and the proxy.
    pub http2_stream_bytes: usize,
    /// Bytes of bodies in memory: requests, and answers that are kept back.
    pub buffered: AtomicUsize,
    /// The most of them. A reload may change it.
    pub buffered_max: AtomicUsize,
    /// The largest answer that is kept back.
    answer_max: usize,
}

impl Door {
    /// A door for so many clients at once.
    pub fn new(most: usize, limits: &Limits) -> Arc<Door> {
        Arc::new(Door {
            inside: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            most,
            head_patience: Duration::from_secs(limits.head_seconds),
            head_bytes: size(limits.header_bytes),
            http2_streams: u32::try_from(limits.http2_streams).unwrap_or(u32::MAX),
            http2_stream_bytes: size(limits.http2_stream_bytes),
            buffered: AtomicUsize::new(0),
            buffered_max: AtomicUsize::new(size(limits.buffered_bytes)),
            answer_max: size(limits.answer_bytes),
        })
    }

    /// An answer of which `before` bytes are kept back may keep so many more. Who got them gives them back.
    pub fn keep(&self, before: usize, more: usize) -> bool {
        if before.saturating_add(more) > self.answer_max {
            return false;
        }
        let all = self.buffered.fetch_add(more, Ordering::AcqRel).saturating_add(more);
        let fits = all <= self.buffered_max.load(Ordering::Relaxed);
        if !fits {
            self.give_back(more);
        }
        fits
    }

    /// So many bytes are in memory no more.
    pub fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.buffered.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// Lets a client in, unless there are too many.
    pub fn enter(self: &Arc<Self>) -> Option<Inside> {
        let before = self.inside.fetch_add(1, Ordering::AcqRel);
        let inside = Inside { door: self.clone(), counter: |door| &door.inside };
        (before < self.most).then_some(inside)
    }

    /// Tells a client that there are too many, if it is one of a few to be told: the others are closed without a word. `opened` gets
    /// through TLS, if there is any.
    pub async fn turn_away(self: &Arc<Self>, opened: impl Future<Output = Option<Stream>>) {
        let before = self.refused.fetch_add(1, Ordering::AcqRel);
        let _refused = Inside { door: self.clone(), counter: |door| &door.refused };
        crate::observe::metrics::refusal("overloaded");
        if before < REFUSED_MAX {
            let told = async {
                match opened.await {
                    Some(mut stream) => tell(&mut stream).await,
                    None => Ok(()),
                }
            };
            let _ = timeout(REFUSED_PATIENCE, told).await;
        }
    }
}

/// Writes the refusal, and reads what the client sends meanwhile: closing a connection with unread bytes would take the answer back.
async fn tell(stream: &mut Stream) -> std::io::Result<()> {
    let reply = Refusal::overloaded("limits.connections").reply(None, None, "-");
    let mut answer = format!(
        "HTTP/1.1 {} Loopers\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-should-retry: false\r\nconnection: close\r\n\r\n",
        reply.status,
        reply.body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&reply.body);
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let (mut piece, mut read) = (vec![0; 4096], 0);
    while read < REFUSED_BYTES_MAX {
        match stream.read(&mut piece).await? {
            0 => break,
            count => read += count,
        }
    }
    Ok(())
}

/// One client's place.
pub struct Inside {
    door: Arc<Door>,
    counter: fn(&Door) -> &AtomicUsize,
}

impl Drop for Inside {
    fn drop(&mut self) {
        (self.counter)(&self.door).fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e44_no_more_come_in_than_there_is_room_for() {
        let door = Door::new(2, &Limits::default());
        let (first, second) = (door.enter(), door.enter());
        assert!(first.is_some() && second.is_some());
        assert!(door.enter().is_none() && door.enter().is_none());
        drop(first);
        let third = door.enter();
        assert!(third.is_some() && door.enter().is_none());
        drop((second, third));
        assert_eq!(door.inside.load(Ordering::Acquire), 0);
    }

    #[test]
    fn e44_answers_that_are_kept_back_have_a_limit_each_and_all_together() {
        let door = Door::new(2, &Limits { answer_bytes: 100, buffered_bytes: 150, ..Limits::default() });
        assert!(door.keep(0, 60) && door.keep(60, 40) && !door.keep(100, 1), "one answer");
        assert!(door.keep(0, 50) && !door.keep(50, 1), "all of them");
        door.give_back(100);
        assert!(door.keep(50, 50));
        assert_eq!(door.buffered.load(Ordering::Acquire), 100);
    }

    #[test]
    fn e44_clients_and_their_providers_fit_the_files_that_are_allowed() {
        assert_eq!(Files::of(20_000, 512, None), Files { clients: 20_000, calls: usize::MAX, idle_upstream: 512 });
        let many = Files::of(20_000, 512, Some(1_000_000));
        assert_eq!(many, Files { clients: 20_000, calls: 1_000_000 - FILES_BESIDE - 512 - 20_000, idle_upstream: 512 });
        for allowed in [64, 128, 256, 1024, 4096, 20_000, 65_536] {
            let Files { clients, calls, idle_upstream } = Files::of(20_000, 512, Some(allowed));
            assert!(clients >= 1 && calls >= clients && idle_upstream >= 1);
            let all = clients + calls + idle_upstream + FILES_BESIDE;
            assert!(allowed <= 256 || all <= allowed, "{allowed}: {clients} clients, {calls} calls");
        }
    }
}

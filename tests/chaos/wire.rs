//! A TCP proxy that can do to a connection what networks do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::support::process::{free_port, local};

/// Bytes carried at once.
const PIECE: usize = 16 * 1024;
/// How long one byte takes while the wire is throttled.
const BYTE_TAKES: Duration = Duration::from_millis(10);
/// How long a truncated connection stays half open.
const HALF_OPEN: Duration = Duration::from_secs(1);

/// What the wire does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Carries everything at once.
    #[default]
    Open,
    /// Nobody listens; connections that stand are reset.
    Refuse,
    /// Takes connections and carries nothing.
    BlackHole,
    /// Holds up each answer for so many milliseconds.
    Delay(u64),
    /// Resets each connection in the middle of its next answer.
    ResetInAnswer,
    /// Closes each connection instead of carrying its next answer: what was asked has been done, and nobody hears of it.
    DropAnswers,
    /// Carries half of the next answer, then says that nothing more comes, and stays half open.
    Truncate,
    /// Carries a byte at a time.
    Throttle,
    /// Resets every connection that stands, each time this is set, and is open otherwise.
    Cut(u64),
}

/// The proxy; it runs until the runtime ends.
pub struct Wire {
    pub port: u16,
    mode: watch::Sender<Mode>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Wire {
        let port = free_port();
        let listener = TcpListener::bind(local(port)).await.expect("a port for a wire");
        let (mode, seen) = watch::channel(Mode::Open);
        tokio::spawn(listen(listener, local(port), target, seen));
        Wire { port, mode }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn listen(listener: TcpListener, at: SocketAddr, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let mut listener = Some(listener);
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            // Somebody else may have the port for a moment.
            listener = TcpListener::bind(at).await.ok();
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::select! {
            taken = open.accept() => if let Ok((client, _)) = taken {
                tokio::spawn(carry(client, target, mode.clone()));
            },
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

fn reset(client: TcpStream, server: TcpStream) {
    // Without lingering, a close is a reset.
    let _ = client.set_zero_linger();
    let _ = server.set_zero_linger();
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let first = *mode.borrow_and_update();
    let (mut up, mut down) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Refuse || (matches!(now, Mode::Cut(_)) && now != first) {
            return reset(client, server);
        }
        if now == Mode::BlackHole {
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            read = client.read(&mut up) => match read {
                Ok(n) if n > 0 => if !write(&mut server, &up[..n], &mode).await { return },
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(n) if n > 0 => {
                    let now = *mode.borrow();
                    match now {
                        Mode::DropAnswers => return,
                        Mode::ResetInAnswer => {
                            let _ = client.write_all(&down[..n / 2]).await;
                            return reset(client, server);
                        }
                        Mode::Truncate => {
                            let _ = client.write_all(&down[..n / 2]).await;
                            let _ = client.shutdown().await;
                            let _ = timeout(HALF_OPEN, client.read(&mut up)).await;
                            return;
                        }
                        Mode::Delay(ms) => sleep(Duration::from_millis(ms)).await,
                        _ => {}
                    }
                    if !write(&mut client, &down[..n], &mode).await { return }
                }
                _ => return,
            },
        }
    }
}

/// Writes the bytes: one at a time for as long as the wire is throttled.
async fn write(to: &mut TcpStream, bytes: &[u8], mode: &watch::Receiver<Mode>) -> bool {
    let mut left = bytes;
    while let Some((first, rest)) = left.split_first() {
        if *mode.borrow() != Mode::Throttle {
            break;
        }
        if to.write_all(&[*first]).await.is_err() {
            return false;
        }
        left = rest;
        sleep(BYTE_TAKES).await;
    }
    to.write_all(left).await.is_ok()
}

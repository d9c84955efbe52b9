//! A TCP proxy that loses answers: what went in was carried out, but nobody hears of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::process::{free_port, local};

/// The proxy; it runs until the test's runtime ends.
#[derive(Clone)]
pub struct Chaos {
    pub port: u16,
    deaf: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Chaos {
    /// A proxy in front of `target`.
    pub async fn before(target: SocketAddr) -> Chaos {
        let port = free_port();
        let listener = TcpListener::bind(local(port)).await.expect("a port for the proxy");
        let chaos = Chaos { port, deaf: Arc::default(), lost: Arc::default() };
        let shared = chaos.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(shared.clone().carry(client, target));
            }
        });
        chaos
    }

    /// From now on the next answer of each connection is lost, and the connection with it.
    pub fn lose_answers(&self, yes: bool) {
        self.deaf.store(yes, Ordering::SeqCst);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    async fn carry(self, mut client: TcpStream, target: SocketAddr) {
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => match read {
                    Ok(n) if n > 0 => if server.write_all(&up[..n]).await.is_err() { return },
                    _ => return,
                },
                read = server.read(&mut down) => match read {
                    Ok(_) if self.deaf.load(Ordering::SeqCst) => {
                        self.lost.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    Ok(n) if n > 0 => if client.write_all(&down[..n]).await.is_err() { return },
                    _ => return,
                },
            }
        }
    }
}

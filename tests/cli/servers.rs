//! Servers that are wrong on purpose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::tls::{ServerConfig, TlsAcceptor, install_default_crypto_provider, load_certs_and_key_files};

use super::world::{Running, free_port};

/// A file of `tests/cli/certs`.
pub fn cert(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/certs").join(name)
}

/// A server that answers everything with this status; its port. Its thread ends with the process.
pub fn plain(status: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = socket.read(&mut [0; 4096]);
            let _ = write!(socket, "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            let _ = socket.shutdown(Shutdown::Both);
        }
    });
    port
}

/// The same with TLS and this certificate.
pub fn tls(chain: &str) -> u16 {
    install_default_crypto_provider();
    let path = |name: &str| cert(name).display().to_string();
    let (chain, key) = load_certs_and_key_files(&path(chain), &path("server.key")).unwrap().unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
    });
    port
}

/// A Redis server with these options, on a port of its own.
pub struct Redis {
    pub port: u16,
    _child: Running,
    _folder: tempfile::TempDir,
}

impl Redis {
    pub fn start(options: &[&str]) -> Redis {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &folder.path().to_string_lossy()])
            .args(["--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server (7 or later) must be installed");
        let redis = Redis { port, _child: Running(child), _folder: folder };
        let until = Instant::now() + Duration::from_secs(20);
        while told(port, "PING").is_none() {
            assert!(Instant::now() < until, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        redis
    }
}

/// The first byte of what the Redis at a port answers to a command, which tells its kind.
pub fn told(port: u16, command: &str) -> Option<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let _ = socket.set_read_timeout(Some(Duration::from_secs(2)));
    let mut reply = [0; 64];
    socket.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let bytes = socket.read(&mut reply).ok()?;
    reply[..bytes].first().copied()
}

/// Stands between a client and Redis; `change` may answer a request itself, or rewrite a reply of the same length.
pub fn between(redis: u16, change: Change) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", redis)) else { continue };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || requests(from, to, change));
            std::thread::spawn(move || replies(server, client, change));
        }
    });
    port
}

/// What is changed on the way.
#[derive(Clone, Copy)]
pub enum Change {
    /// `TIME` is answered with this machine's clock and so many seconds more.
    Clock(u64),
    /// This text in replies becomes that one, of the same length.
    Reply(&'static str, &'static str),
}

fn requests(mut from: TcpStream, mut to: TcpStream, change: Change) {
    let mut back = from.try_clone().unwrap();
    let mut buffer = [0; 65536];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let asks_time = buffer[..bytes].windows(6).any(|window| window == b"TIME\r\n");
        let done = match change {
            Change::Clock(more) if asks_time => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                let seconds = (now.as_secs() + more).to_string();
                write!(back, "*2\r\n${}\r\n{seconds}\r\n$1\r\n0\r\n", seconds.len())
            }
            _ => to.write_all(&buffer[..bytes]),
        };
        if done.is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn replies(mut from: TcpStream, mut to: TcpStream, change: Change) {
    let mut buffer = [0; 65536];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if let Change::Reply(old, new) = change {
            assert_eq!(old.len(), new.len());
            if let Some(at) = buffer[..bytes].windows(old.len()).position(|window| window == old.as_bytes()) {
                buffer[at..at + new.len()].copy_from_slice(new.as_bytes());
            }
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

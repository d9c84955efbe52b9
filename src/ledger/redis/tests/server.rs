//! A redis-server that lives as long as a test.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A server on a free port; it ends with the value.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    folder: PathBuf,
}

impl Server {
    /// Starts a server with nothing persisted and these further options.
    pub(super) fn start(options: &[&str]) -> Server {
        let mut server = Self::spawn(free_port(), options);
        for _ in 0..3 {
            if server.is_up() {
                return server;
            }
            // Somebody else took the port between our look and the start.
            server = Self::spawn(free_port(), options);
        }
        panic!("redis-server did not start");
    }

    /// Starts it again on its port, empty.
    pub(super) fn restart(&mut self) {
        self.kill();
        *self = Self::spawn(self.port, &[]);
        assert!(self.is_up(), "redis-server did not start again");
    }

    fn spawn(port: u16, options: &[&str]) -> Server {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let nth = STARTED.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("ledger-redis-{}-{nth}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
            .args(["--dir", &folder.to_string_lossy()])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server (7 or later) must be installed to test the ledger");
        Server { child, port, folder }
    }

    fn is_up(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the process without ending it: it accepts connections and answers nothing.
    pub(super) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.signal("CONT");
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// One command straight to the server.
    pub(super) fn cli(&self, args: &[&str]) -> String {
        let client = ::redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut cmd = ::redis::Cmd::new();
        for arg in args {
            cmd.arg(*arg);
        }
        let value: ::redis::Value = cmd.query(&mut connection).unwrap();
        format!("{value:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

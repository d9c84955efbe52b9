//! A folder, an environment, and the binary in it.

#[path = "../gateway/support/secrets.rs"]
#[allow(dead_code)]
mod secrets;

use std::any::Any;
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const LOOPERS: &str = env!("CARGO_BIN_EXE_loopers");
const PATIENCE: Duration = Duration::from_secs(60);
/// Commands that show a key on stdout, once: that is what they are for. What a program under `exec` shows is its own.
const SHOWS_KEYS: [&[&str]; 4] = [&["keys", "create"], &["keys", "rotate"], &["init"], &["exec"]];

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A child that ends with its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder and an environment that no other test has.
pub struct World {
    pub folder: TempDir,
    pub env: Vec<(String, String)>,
    /// Open files that the commands may have.
    pub files: Option<u32>,
    /// Servers and processes that live as long as this.
    pub keep: Vec<Box<dyn Any>>,
    /// Files that the test itself wrote: a secret in them is its own.
    written: RefCell<Vec<PathBuf>>,
}

impl World {
    pub fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            env: Vec::new(),
            files: None,
            keep: Vec::new(),
            written: RefCell::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
        self.written.borrow_mut().push(self.path(name));
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The paths of all files, also those in folders.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.push((name.into(), value.into()));
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.files {
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh", LOOPERS]);
                shell
            }
            None => Command::new(LOOPERS),
        };
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "")
    }

    /// Runs it with these lines on stdin.
    pub fn run_with(&self, arguments: &[&str], typed: &str) -> Said {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let told = secrets::told(&done.stderr, &[]).or_else(|| {
            let shows = SHOWS_KEYS.iter().any(|words| arguments.windows(words.len()).any(|two| two == *words));
            if shows { None } else { secrets::told(&done.stdout, &[]) }
        });
        assert_eq!(told, None, "{arguments:?} shows a secret");
        Said { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
    }

    /// Runs it and expects success.
    pub fn good(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
        said.out
    }

    /// The doctor's report, and its exit code.
    pub fn doctor(&self) -> (Value, i32) {
        let said = self.run(&["doctor", "--json"]);
        let report = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}{}", said.out, said.err));
        (report, said.code)
    }

    /// Starts a gateway with the config of the folder, and waits until it answers.
    pub fn serve(&mut self, config: &str, port: u16) {
        let log = std::fs::File::create(self.path("serve.log")).unwrap();
        let twin = log.try_clone().unwrap();
        let child = self.command(&["--config", config, "serve"]).stdout(log).stderr(twin).spawn().unwrap();
        self.keep.push(Box::new(Running(child)));
        self.wait_for(port, "serve.log");
    }

    /// Starts the mock provider; its port.
    pub fn mock(&mut self) -> u16 {
        let port = free_port();
        let log = std::fs::File::create(self.path("mock.log")).unwrap();
        let listen = format!("127.0.0.1:{port}");
        let twin = log.try_clone().unwrap();
        let child = self.command(&["mock", "--listen", &listen]).stdout(log).stderr(twin).spawn().unwrap();
        self.keep.push(Box::new(Running(child)));
        self.wait_for(port, "mock.log");
        port
    }

    fn wait_for(&self, port: u16, log: &str) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "nobody listens on {port}:\n{}", self.read(log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// At the end of each test no file that the commands wrote may hold a key.
impl Drop for World {
    fn drop(&mut self) {
        self.keep.clear();
        let mut told = secrets::search(self.folder.path(), &[]);
        told.retain(|line| !self.written.borrow().iter().any(|path| line.starts_with(&*path.to_string_lossy())));
        if !told.is_empty() && !std::thread::panicking() {
            panic!("secrets were written: {}", told.join("; "));
        }
    }
}

/// A port that nobody listens on, below the range from which the kernel takes ports for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 100) as u16 * 20;
    for _ in 0..2_000 {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// One request; the status and the whole answer.
pub fn http(port: u16, head: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let request = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {answer}")), answer)
}

//! Whatever the processes of a test wrote is searched for every secret that they knew, when the test ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What may hold secrets: the mock's own output (it logs whole requests on purpose).
const MAY_HOLD: [&str; 1] = ["mock"];
/// Characters of a proxy key after `lp-`.
const KEY_DIGITS: usize = 43;
/// Characters after `sk-` that make a word the key of a provider, as these tests have them.
const PROVIDER_KEY_DIGITS: usize = 4;

/// The first proxy key in a text, whosever it is.
pub fn proxy_key(text: &[u8]) -> Option<&[u8]> {
    let mut from = 0;
    while let Some(at) = find(&text[from..], b"lp-").map(|at| from + at) {
        let digits = text[at + 3..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if digits >= KEY_DIGITS {
            return Some(&text[at..at + 3 + KEY_DIGITS]);
        }
        from = at + 3;
    }
    None
}

/// The first provider's key in a text, whosever it is: no test has one that begins otherwise and is given by a client.
pub fn provider_key(text: &[u8]) -> Option<&[u8]> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut from = 0;
    while let Some(at) = find(&text[from..], b"sk-").map(|at| from + at) {
        let part = text[at + 3..].iter().take_while(|byte| is_part(byte)).count();
        // A `disk-something` is none.
        if part >= PROVIDER_KEY_DIGITS && !text[..at].last().is_some_and(is_part) {
            return Some(&text[at..at + 3 + part]);
        }
        from = at + 3;
    }
    None
}

/// Where `needle` begins.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == first).map(|at| from + at) {
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// What of `secrets`, or which key, stands in a text.
pub fn told(text: &[u8], secrets: &[&str]) -> Option<String> {
    let key = proxy_key(text).or_else(|| provider_key(text)).map(|key| String::from_utf8_lossy(key).into_owned());
    key.or_else(|| {
        secrets.iter().find(|secret| find(text, secret.as_bytes()).is_some()).map(|secret| secret.to_string())
    })
}

/// Every file below a folder: logs, journals, ledgers, dumps.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // A link may lead anywhere.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Says where a secret stands that should stand nowhere.
pub fn search(folder: &Path, secrets: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    files(folder, &mut all);
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    all.iter()
        .filter(|path| !MAY_HOLD.iter().any(|may| name(path).starts_with(may)))
        .filter_map(|path| {
            let text = std::fs::read(path).ok()?;
            told(&text, secrets).map(|secret| format!("{} holds {secret}", path.display()))
        })
        .collect()
}

/// The page of metrics, if somebody answers in time; without an asynchronous runtime, which may be gone.
pub fn metrics(addr: SocketAddr) -> Vec<u8> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut page = Vec::new();
        let _ = stream.read_to_end(&mut page);
        Ok(page)
    };
    ask().unwrap_or_default()
}

#[test]
fn e45_the_search_finds_what_it_should() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = format!("lp-{}", "a1".repeat(22));
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("gateway0.log", "nothing but lp-short, lp-, help-, sk-, sk-abc and task-force disk-full");
    write("mock.log", &format!("Bearer {key} hunter-two sk-secret"));
    assert_eq!(search(folder.path(), &["hunter-two"]), Vec::<String>::new());
    write("state/journal-1.jsonl", &format!("lp- lp-{{\"x\":\"{key}\"}}"));
    write("books.db-wal", "\0\u{1}hunter-two\0");
    write("serve.log", "disk-full sk-x: sk-test-1 is not valid");
    let found = search(folder.path(), &["hunter-two"]).join("\n");
    for told in ["journal-1.jsonl holds lp-a1a1", "books.db-wal holds hunter-two", "serve.log holds sk-test-1"] {
        assert!(found.contains(told), "{found}");
    }
}

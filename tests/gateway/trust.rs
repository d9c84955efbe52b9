//! A provider behind TLS with a certificate authority of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pingora::tls::{ServerConfig, TlsAcceptor, install_default_crypto_provider, load_certs_and_key_files};
use tokio::net::{TcpListener, TcpStream};

use crate::support::process::LOOPERS;
use crate::support::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");

/// Ends TLS before `to`, which is told to it later.
struct Terminator {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Terminator {
    async fn open() -> Terminator {
        install_default_crypto_provider();
        let file = |name: &str| format!("{FOLDER}/{name}");
        let (chain, key) =
            load_certs_and_key_files(&file("server.pem"), &file("server.key")).expect("PEM").expect("both");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a key pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Terminator { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    fn run(self, to: SocketAddr) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let acceptor = self.acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut inner) = acceptor.accept(stream).await else { return };
                    let Ok(mut outer) = TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_trusted_by_its_own_authority_and_by_no_other() {
    let tls = Terminator::open().await;
    let provider = |name: &str, ca: &str| {
        let ca = if ca.is_empty() { String::new() } else { format!(", ca_file: \"{FOLDER}/{ca}\"") };
        format!("{name}: {{ api: openai, base_url: \"https://{}\", key: env:OPENAI_API_KEY{ca} }}", tls.addr())
    };
    let prices = ["own", "other", "system"].map(|name| {
        format!("{name}/gpt-4o-mini: {{input: \"0.15\", output: \"0.6\", cache_read: \"0.075\", context_window: 128000, max_output: 16384}}\n")
    });
    let world = World::new()
        .other_provider(&provider("own", "ca.pem"))
        .other_provider(&provider("other", "other.pem"))
        .other_provider(&provider("system", ""))
        .prices(&prices.concat())
        .start()
        .await;
    tls.run(world.mock);
    let key = world.rich();
    // One connection's trust must not serve another provider at the same address.
    for _ in 0..2 {
        for (name, status) in [("own", 200), ("other", 502), ("system", 502)] {
            let path = format!("/{name}/v1/chat/completions");
            let request = Request::post(&path, ask("tokens=5").to_string()).bearer(&key.secret);
            let answer = world.send(&request).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.text());
        }
    }
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.posts, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_certificate_stops_the_start() {
    let world = World::plain().await;
    let config = world.dir.path().join("bad.yaml");
    let bad = Path::new(FOLDER).join("server.key");
    let text = format!(
        "ledger: \"memory:\"\nproviders: {{ openai: {{ base_url: \"https://127.0.0.1:1\", ca_file: \"{}\" }} }}\n",
        bad.display()
    );
    std::fs::write(&config, text).expect("written");
    let mut command = Command::new(LOOPERS);
    command.arg("serve").arg("--config").arg(&config).current_dir(world.dir.path());
    let output = command.output().expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("server.key: holds a PRIVATE KEY"), "{said}");
}

//! A mock provider that keeps its own invoice.
//!
//! It speaks the HTTP APIs of six providers, generates deterministic text, and bills each token at the moment it is
//! generated, from its own price list and with its own arithmetic: nothing here is shared with the
//! gateway's pricing or metering, because the invoice is the judge of every money test. Scripts
//! (`docs/MOCK.md`) make it slow, broken, dishonest about usage, or deaf to limits; the invoice stays true.
//!
//! * `server`: listener, connections, `/invoice`, `/reset`, `/log`.
//! * `openai`, `anthropic`, `gemini`, `mistral`, `azure`, `bedrock`: the dialects, in and out; `dialect`: what they have
//!   in common, and which paths are whose; `read`, `error`: their requests and errors before they have a shape.
//! * `order`, `flow`, `generate`, `words`, `body`: accidents, generation and framing, the same for all dialects.
//! * `cache`: prompts seen before.
//! * `prices`, `invoice`: the price list and the books.
//! * `script`, `log`: what tests say to the mock, and what they can read back.

mod anthropic;
mod azure;
mod bedrock;
mod body;
mod cache;
mod dialect;
mod error;
mod flow;
mod gemini;
mod generate;
mod invoice;
mod log;
mod mistral;
mod openai;
mod order;
mod prices;
mod read;
mod script;
mod server;
#[cfg(test)]
mod tests;
mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;

pub use invoice::{CallRecord, InvoiceSnapshot, Outcome, Totals};
pub use script::{OnLeave, Script, Tier, UsageMode};

/// How the mock behaves towards requests that bring no script of their own.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// What becomes of a generation whose caller leaves. OpenAI documents no stop, so: `Complete`.
    pub on_leave: OnLeave,
    /// The script under every request's own one.
    pub default_script: Script,
    /// What `service_tier: auto` means, the way a project setting decides it at OpenAI.
    pub auto_tier: Tier,
}

impl Default for MockConfig {
    fn default() -> MockConfig {
        MockConfig { on_leave: OnLeave::Complete, default_script: Script::default(), auto_tier: Tier::Default }
    }
}

/// A running mock. Dropping the handle leaves the mock running as long as its runtime.
pub struct MockHandle {
    /// The address it listens on.
    pub addr: SocketAddr,
    app: Arc<flow::App>,
    stop: watch::Sender<bool>,
}

impl MockHandle {
    /// Closes the listener and all connections. Generations that run on without a reader run on.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// The invoice at this instant.
    pub fn invoice(&self) -> InvoiceSnapshot {
        self.app.books.snapshot()
    }

    /// Forgets invoice and log, as `POST /reset` does.
    pub fn reset(&self) {
        self.app.reset();
    }

    /// The base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// Starts a mock on the current tokio runtime. Port 0 picks a free port; see [`MockHandle::addr`].
pub async fn start(addr: SocketAddr, cfg: MockConfig) -> io::Result<MockHandle> {
    let listener = server::listen(addr)?;
    let addr = listener.local_addr()?;
    let app = Arc::new(flow::App {
        books: Arc::default(),
        log: log::RequestLog::default(),
        cache: cache::Cache::default(),
        stored: openai::responses::Stored::default(),
        default_script: cfg.default_script,
        on_leave: cfg.on_leave,
        auto_tier: cfg.auto_tier,
        replies: AtomicU64::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(server::accept(listener, app.clone(), stopped));
    Ok(MockHandle { addr, app, stop })
}

/// Runs a mock for ever, after printing its address on one line.
pub async fn serve(addr: SocketAddr, cfg: MockConfig) -> io::Result<()> {
    let handle = start(addr, cfg).await?;
    println!("mock provider listening on {}", handle.url());
    std::future::pending::<io::Result<()>>().await
}

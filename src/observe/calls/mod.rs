//! What became of a call, told once, when it has ended: ids, tokens, money, times. Never a key, a prompt or an answer.
//!
//! A call hands its [`CallRecord`] over and goes on: queues are bounded, what does not fit is dropped and counted, and threads beside
//! the calls write and send.

mod line;
mod log;
mod queue;
mod trace;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use line::{bounded, write_line};
pub use log::CallLog;
pub use queue::Queue;
pub use trace::Trace;

use super::otlp::Otlp;
use crate::clock::Millis;
use crate::config::Settings;
use crate::ledger::{Charge, HoldRef, KeyView, NodeId};
use crate::money::Money;
use crate::pricing::Usage;

/// The longest text of a client's or a provider's making that is told, in bytes: the rest is left out.
pub const TEXT_BYTES_MAX: usize = 128;

/// One call that has ended.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// When it ended.
    pub ended_at: Millis,
    /// The gateway's id of the request.
    pub request_id: String,
    /// The provider's id of it, as its answer named it.
    pub provider_request_id: Option<Box<str>>,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
    /// The hold that was taken for it, and from where.
    pub hold: Option<Arc<HoldRef>>,
    /// The key; none when it was not found.
    pub view: Option<Arc<KeyView>>,
    /// The session.
    pub session: Option<Arc<str>>,
    /// Whose API was spoken.
    pub api: Option<&'static str>,
    /// The provider's name in the config; empty when the request named none of them.
    pub provider: Arc<str>,
    /// Host and port of the provider; only where traces or metrics are sent.
    pub server: Option<(Box<str>, u16)>,
    /// The route's fixed name.
    pub route: Option<&'static str>,
    /// The row of the price table, without its provider.
    pub model: Option<Arc<str>>,
    /// The model as the request named it.
    pub requested_model: Option<Arc<str>>,
    /// The model as the answer named it.
    pub response_model: Option<Box<str>>,
    /// Whether the answer came in events, or was to.
    pub stream: bool,
    /// The status that the client got; none when it got nothing.
    pub status: Option<u16>,
    /// How it ended: one of a fixed set, as in `loopers_requests_total`.
    pub ending: &'static str,
    /// The code of the refusal or error that the gateway told the client.
    pub code: Option<&'static str>,
    /// Why it was cut.
    pub cut: Option<&'static str>,
    /// What the provider reported.
    pub usage: Option<Usage>,
    /// What was held.
    pub held: Option<Money>,
    /// How the hold ends; none where nothing was held.
    pub charge: Option<Charge>,
    /// The output limit that was put into its body.
    pub clamped_to: Option<u64>,
    /// Its times.
    pub times: Times,
}

impl CallRecord {
    /// The key and the teams above it, root last; empty when the key was not found.
    pub fn chain(&self) -> &[NodeId] {
        match (&self.hold, &self.view) {
            (Some(hold), _) => &hold.chain,
            (None, Some(view)) => &view.chain,
            (None, None) => &[],
        }
    }

    /// What it is charged; none where nothing was held.
    pub fn cost(&self) -> Option<Money> {
        match self.charge? {
            Charge::Exact(cost) => Some(cost),
            Charge::Full => self.held,
        }
    }
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From its first byte to its end.
    pub total: Duration,
    /// From its first byte until the provider was called, or to its end.
    pub before: Duration,
    /// Spent in the gateway: neither the provider nor the client is waited for.
    pub overhead: Duration,
    /// From the start of the call to the provider to the first byte of its answer.
    pub first_byte: Option<Duration>,
    /// From the start of the call to the provider to the last byte of its answer, or to the end of the call.
    pub provider: Option<Duration>,
}

/// Everybody who is told of calls.
#[derive(Default)]
pub struct Reports {
    log: Option<CallLog>,
    otlp: Option<Otlp>,
}

impl Reports {
    /// Nobody is told.
    pub fn none() -> Reports {
        Reports::default()
    }

    /// Starts what the config asks for.
    pub fn start(settings: &Settings) -> std::io::Result<Reports> {
        let log = settings.log.calls.then(|| CallLog::start(settings.log.queue)).transpose()?;
        let otlp = settings.otlp.as_ref().map(Otlp::start).transpose()?;
        Ok(Reports { log, otlp })
    }

    /// True when somebody is told.
    pub fn wanted(&self) -> bool {
        self.log.is_some() || self.otlp.is_some()
    }

    /// True when somebody is told where calls went.
    pub fn wants_servers(&self) -> bool {
        self.otlp.is_some()
    }

    /// The trace of a call: its client's, or a new one where traces are recorded.
    pub fn trace(&self, of_client: Option<Trace>) -> Option<Trace> {
        of_client.or_else(|| Trace::start(self.otlp.as_ref()?.sample_percent()))
    }

    /// Tells of a call; never waits.
    pub fn tell(&self, record: CallRecord) {
        let record = Arc::new(record);
        if let Some(otlp) = &self.otlp {
            otlp.take(record.clone());
        }
        if let Some(log) = &self.log {
            log.take(record);
        }
    }

    /// Waits until all that was told is written, at most until `deadline`.
    pub async fn flush(&self, deadline: Instant) {
        let log = async {
            if let Some(log) = &self.log {
                log.flush(deadline).await;
            }
        };
        let otlp = async {
            if let Some(otlp) = &self.otlp {
                otlp.flush(deadline).await;
            }
        };
        tokio::join!(log, otlp);
    }
}

#[cfg(test)]
pub use line::tests::record as sample;

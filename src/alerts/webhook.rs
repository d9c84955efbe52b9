//! Sends alerts to the receivers of the config: signed, tried again, and never in the way of anything.
//!
//! Only the config names hosts. Redirects are not followed, and nothing is read of an answer but its status.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::notice::Notice;
use crate::clock::Clock;
use crate::config::{AlertFormat, AlertSettings, WebhookSettings};
use crate::observe::metrics;

/// The first wait before another try; each one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The queues to all receivers.
pub struct Senders {
    queues: Vec<mpsc::Sender<Arc<Notice>>>,
}

impl Senders {
    /// Starts one task a receiver, so that none waits for another.
    pub fn start(alerts: &AlertSettings) -> Senders {
        let queues = alerts.webhooks.iter().map(|webhook| {
            metrics::alerts_go_to(&webhook.name);
            let (queue, notices) = mpsc::channel(alerts.queue);
            tokio::spawn(run(webhook.clone(), alerts.tries, alerts.timeout, notices));
            queue
        });
        Senders { queues: queues.collect() }
    }

    /// True when somebody listens.
    pub fn any(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Hands an alert to every receiver's queue. Where that is full, the alert is dropped and counted.
    pub fn send(&self, notice: &Notice) {
        log::warn!("alert {}: {}", notice.kind, notice.message);
        let notice = Arc::new(notice.clone());
        for queue in &self.queues {
            if queue.try_send(notice.clone()).is_err() {
                metrics::alert_dropped("queue");
            }
        }
    }
}

async fn run(webhook: WebhookSettings, tries: u64, limit: Duration, mut notices: mpsc::Receiver<Arc<Notice>>) {
    let connector: Connector = Connector::new(None);
    while let Some(notice) = notices.recv().await {
        let body = match webhook.format {
            AlertFormat::Json => serde_json::to_vec(&*notice),
            AlertFormat::Slack => serde_json::to_vec(&notice.slack()),
        };
        let Ok(body) = body.map(Bytes::from) else { continue };
        let mut wait = FIRST_WAIT;
        for attempt in 1..=tries {
            let sent = match timeout(limit, post(&connector, &webhook, &notice.id, body.clone())).await {
                Ok(sent) => sent,
                Err(_) => Err(format!("no answer in {} s", limit.as_secs())),
            };
            match sent {
                Ok(()) => {
                    metrics::alert_sent(&webhook.name, "delivered");
                    break;
                }
                Err(why) => {
                    log::warn!("webhook {}: try {attempt} of {tries} failed: {why}", webhook.name);
                    if attempt == tries {
                        metrics::alert_sent(&webhook.name, "failed");
                        break;
                    }
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// One POST. Any 2xx is a delivery.
async fn post(connector: &Connector, webhook: &WebhookSettings, id: &str, body: Bytes) -> Result<(), String> {
    let address = match webhook.url.host.parse::<IpAddr>() {
        Ok(ip) => (ip, webhook.url.port).into(),
        Err(_) => tokio::net::lookup_host((webhook.url.host.as_str(), webhook.url.port))
            .await
            .map_err(|error| error.to_string())?
            .next()
            .ok_or("its name has no address")?,
    };
    let mut peer = HttpPeer::new(address, webhook.url.tls, webhook.url.host.clone());
    peer.options.alpn = ALPN::H1;
    let said = |error: Box<pingora::Error>| error.etype().as_str().to_string();
    let (mut session, _) = connector.get_http_session(&peer).await.map_err(said)?;
    let head = head(webhook, id, &body, Clock::System.now() / 1000).map_err(said)?;
    session.write_request_header(Box::new(head)).await.map_err(said)?;
    session.write_request_body(body, true).await.map_err(said)?;
    session.finish_request_body().await.map_err(said)?;
    session.read_response_header().await.map_err(said)?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    session.shutdown().await;
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
}

fn head(webhook: &WebhookSettings, id: &str, body: &[u8], now: i64) -> Result<RequestHeader, Box<pingora::Error>> {
    let path = if webhook.url.path.is_empty() { "/" } else { &webhook.url.path };
    let mut head = RequestHeader::build("POST", path.as_bytes(), Some(8))?;
    head.insert_header("host", webhook.url.authority())?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("content-length", body.len())?;
    head.insert_header("user-agent", concat!("loopers/", env!("CARGO_PKG_VERSION")))?;
    head.insert_header("x-loopers-alert-id", id)?;
    if let Some(secret) = &webhook.secret {
        head.insert_header("x-loopers-timestamp", now.to_string())?;
        head.insert_header("x-loopers-signature", signature(secret.expose().as_bytes(), now, body))?;
    }
    Ok(head)
}

/// `sha256=` and the HMAC-SHA256, in hex, of the timestamp in seconds, a full stop and the body.
fn signature(secret: &[u8], now: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(now.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let code = mac.finalize().into_bytes();
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

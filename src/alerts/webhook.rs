//! Sends alerts to the receivers of the config: signed, tried again, and never in the way of anything.
//!
//! Only the config names hosts. Redirects are not followed, and nothing is read of an answer but its status.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::notice::Notice;
use crate::clock::Clock;
use crate::config::{AlertFormat, AlertSettings, WebhookSettings};
use crate::observe::metrics;
use crate::post::Poster;

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
    let poster = Poster::default();
    while let Some(notice) = notices.recv().await {
        let body = match webhook.format {
            AlertFormat::Json => serde_json::to_vec(&*notice),
            AlertFormat::Slack => serde_json::to_vec(&notice.slack()),
        };
        let Ok(body) = body.map(Bytes::from) else { continue };
        let mut wait = FIRST_WAIT;
        for attempt in 1..=tries {
            match post(&poster, &webhook, &notice.id, body.clone(), limit).await {
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
async fn post(
    poster: &Poster,
    webhook: &WebhookSettings,
    id: &str,
    body: Bytes,
    limit: Duration,
) -> Result<(), String> {
    let headers = headers(webhook, id, &body, Clock::System.now() / 1000);
    match poster.post(&webhook.url, "", &headers, body, limit).await? {
        200..300 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

fn headers(webhook: &WebhookSettings, id: &str, body: &[u8], now: i64) -> Vec<(String, String)> {
    let mut headers = vec![("content-type", "application/json".to_string()), ("x-loopers-alert-id", id.to_string())];
    if let Some(secret) = &webhook.secret {
        headers.push(("x-loopers-timestamp", now.to_string()));
        headers.push(("x-loopers-signature", signature(secret.expose().as_bytes(), now, body)));
    }
    headers.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
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

//! Asks a provider how many tokens a call's input has, where the operator wants that (`count: provider`): one more round trip, free of
//! charge, and only for a call that already holds money but is not paid for by its own bound.

use std::time::Duration;

use bytes::Bytes;
use pingora::http::RequestHeader;

use super::app::App;
use super::forward::{self, Outbound};
use crate::config::ProviderSettings;
use crate::provider::{Call, CountAsk, Provider};
use crate::secret::Secret;

/// The longest wait for a count; without one the bound stays as it was.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer to a count.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A kept connection may be closed under the first try.
const TRIES_MAX: usize = 2;

/// Who is asked, and how.
pub struct Counter<'a> {
    /// The shared state.
    pub app: &'a App,
    /// The API.
    pub provider: &'static dyn Provider,
    /// What the config says of the provider.
    pub settings: &'a ProviderSettings,
    /// The provider's key.
    pub key: &'a Secret,
    /// The path of the call, as it is forwarded.
    pub path: &'a str,
}

impl Counter<'_> {
    /// What to ask for a call; `None` where nothing is asked.
    pub fn ask(&self, call: &Call) -> Option<CountAsk> {
        if self.settings.options.counts_by_provider { call.body.count(self.path) } else { None }
    }

    /// The most input tokens of the call, by the provider's count. `None`: it did not say.
    pub async fn input(&self, ask: &CountAsk) -> Option<u64> {
        let said = match tokio::time::timeout(PATIENCE, self.counted(ask)).await {
            Ok(said) => said,
            Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
        };
        said.inspect_err(|why| log::warn!("{}: {} did not count: {why}", self.settings.name, ask.path)).ok()
    }

    async fn counted(&self, ask: &CountAsk) -> Result<u64, String> {
        let mut said = Err(String::from("never asked"));
        for _ in 0..TRIES_MAX {
            let (answer, is_reused) = self.post(ask).await?;
            said = answer.and_then(|answer| number(&answer, ask.field));
            if said.is_ok() || !is_reused {
                break;
            }
        }
        said.map(|counted| ask.bound(counted))
    }

    /// The answer, and whether it came over a connection that was kept.
    async fn post(&self, ask: &CountAsk) -> Result<(Result<Vec<u8>, String>, bool), String> {
        let said = |error: Box<pingora::Error>| error.etype().as_str().to_string();
        let peer = forward::reach(self.app, self.settings).await.map_err(said)?;
        let head = self.head(ask).map_err(said)?;
        let (mut session, is_reused) = self.app.counts.get_http_session(&*peer).await.map_err(said)?;
        let answer = exchange(&mut session, head, ask.body.clone()).await;
        match answer {
            Ok(_) => self.app.counts.release_http_session(session, &*peer, Some(self.settings.keep_alive)).await,
            Err(_) => session.shutdown().await,
        }
        Ok((answer, is_reused))
    }

    fn head(&self, ask: &CountAsk) -> Result<RequestHeader, Box<pingora::Error>> {
        let out = Outbound {
            path_and_query: format!("{}{}", self.settings.base_url.path, ask.path),
            credential: self.key.clone(),
            content_length: Some(ask.body.len()),
        };
        let mut head = RequestHeader::build("POST", out.path_and_query.as_bytes(), Some(8))?;
        head.insert_header("content-type", "application/json")?;
        forward::rewrite_head(&mut head, &out, &ask.body, self.settings, self.provider)?;
        Ok(head)
    }
}

type Session = pingora::protocols::http::client::HttpSession<()>;

/// Sends one request, and reads the whole of a good answer.
async fn exchange(session: &mut Session, head: RequestHeader, body: Bytes) -> Result<Vec<u8>, String> {
    let said = |error: Box<pingora::Error>| error.etype().as_str().to_string();
    session.write_request_header(Box::new(head)).await.map_err(said)?;
    session.write_request_body(body, true).await.map_err(said)?;
    session.finish_request_body().await.map_err(said)?;
    session.read_response_header().await.map_err(said)?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    if status != 200 {
        return Err(format!("status {status}"));
    }
    let mut answer = Vec::new();
    while let Some(piece) = session.read_response_body().await.map_err(said)? {
        if answer.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
        }
        answer.extend_from_slice(&piece);
    }
    Ok(answer)
}

/// A count in an answer; every request has input.
fn number(answer: &[u8], field: &str) -> Result<u64, String> {
    let said: serde_json::Value =
        serde_json::from_slice(answer).map_err(|_| "an answer that is no JSON".to_string())?;
    said[field].as_u64().filter(|&counted| counted > 0).ok_or_else(|| format!("an answer without `{field}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_positive_whole_number_is_a_count() {
        assert_eq!(number(br#"{"input_tokens":7}"#, "input_tokens"), Ok(7));
        for odd in ["", "{}", "[]", r#"{"input_tokens":0}"#, r#"{"input_tokens":-1}"#, r#"{"input_tokens":1.5}"#] {
            assert!(number(odd.as_bytes(), "input_tokens").is_err(), "{odd}");
        }
        assert!(number(br#"{"input_tokens":"7"}"#, "input_tokens").is_err());
    }

    #[test]
    fn slack_is_rounded_up() {
        let ask = CountAsk { path: String::new(), body: Bytes::new(), field: "x", slack: (1, 64) };
        assert_eq!([0, 1, 100, 101].map(|counted| ask.bound(counted)), [64, 66, 165, 167]);
        assert_eq!(ask.bound(u64::MAX), u64::MAX);
        assert_eq!(CountAsk { slack: (0, 0), ..ask }.bound(9), 9);
    }
}

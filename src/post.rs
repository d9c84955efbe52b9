//! One bounded POST to a host that the config names. Redirects are not followed, and nothing is read of an answer but its status.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use crate::config::BaseUrl;

/// What sends requests: one for each task that does.
pub struct Poster {
    connector: Connector,
}

impl Default for Poster {
    fn default() -> Self {
        Poster { connector: Connector::new(None) }
    }
}

impl Poster {
    /// Sends `body` to the path of `url` and what `below` adds to it; waits at most `limit`. The status of the answer, or why there is
    /// none. What is said never holds the path or a header: both may be secret.
    pub async fn post(
        &self,
        url: &BaseUrl,
        below: &str,
        headers: &[(String, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<u16, String> {
        match timeout(limit, self.send(url, below, headers, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer in {} s", limit.as_secs())),
        }
    }

    async fn send(&self, url: &BaseUrl, below: &str, headers: &[(String, String)], body: Bytes) -> Result<u16, String> {
        let address = match url.host.parse::<IpAddr>() {
            Ok(ip) => (ip, url.port).into(),
            Err(_) => tokio::net::lookup_host((url.host.as_str(), url.port))
                .await
                .map_err(|error| error.to_string())?
                .next()
                .ok_or("its name has no address")?,
        };
        let mut peer = HttpPeer::new(address, url.tls, url.host.clone());
        peer.options.alpn = ALPN::H1;
        let said = |error: Box<pingora::Error>| error.etype().as_str().to_string();
        let (mut session, _) = self.connector.get_http_session(&peer).await.map_err(said)?;
        let head = head(url, below, headers, body.len()).map_err(said)?;
        session.write_request_header(Box::new(head)).await.map_err(said)?;
        session.write_request_body(body, true).await.map_err(said)?;
        session.finish_request_body().await.map_err(said)?;
        session.read_response_header().await.map_err(said)?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        session.shutdown().await;
        Ok(status)
    }
}

fn head(
    url: &BaseUrl,
    below: &str,
    headers: &[(String, String)],
    length: usize,
) -> Result<RequestHeader, Box<pingora::Error>> {
    let path = format!("{}{below}", url.path);
    let path = if path.is_empty() { "/" } else { &path };
    let mut head = RequestHeader::build("POST", path.as_bytes(), Some(8))?;
    head.insert_header("host", url.authority())?;
    head.insert_header("content-length", length)?;
    head.insert_header("user-agent", concat!("loopers/", env!("CARGO_PKG_VERSION")))?;
    for (name, value) in headers {
        head.insert_header(name.clone(), value.as_str())?;
    }
    Ok(head)
}

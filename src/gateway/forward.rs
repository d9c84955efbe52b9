//! Where a call is sent, and what its head looks like there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::app::App;
use super::intake::KEY_HEADERS;
use crate::config::{OnDisconnect, ProviderSettings};
use crate::provider::{Outgoing, Provider};
use crate::secret::Secret;

/// Headers that never reach a provider: who the client is, how it got here, and what only concerns this hop.
const DROPPED: [&str; 14] = [
    "proxy-authorization",
    "cookie",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
    "expect",
    "te",
    "trailer",
    "upgrade",
    "transfer-encoding",
    "content-encoding",
];

/// Which of Pingora's pools a provider's connections go to: Pingora does not tell certificate authorities or protocols apart.
fn pool(provider: &ProviderSettings) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&provider.name, &provider.ca_file, provider.http2).hash(&mut hasher);
    hasher.finish()
}

/// The peer of one call, with every time-out set.
fn peer(address: SocketAddr, provider: &ProviderSettings) -> Box<HttpPeer> {
    failpoint!("connecting");
    let mut peer = HttpPeer::new(address, provider.base_url.tls, provider.base_url.host.clone());
    peer.group_key = pool(provider);
    let options = &mut peer.options;
    // In cancel mode what came is counted by connection: calls must not share one.
    let may_share = provider.on_disconnect == OnDisconnect::Drain;
    options.alpn = if provider.http2 && may_share { ALPN::H2H1 } else { ALPN::H1 };
    options.max_h2_streams = 100;
    options.connection_timeout = Some(provider.connect_timeout);
    options.total_connection_timeout = Some(provider.connect_timeout.saturating_mul(2));
    // Per read: it bounds the wait for the first byte. The gap between chunks is tightened once the answer started.
    options.read_timeout = Some(provider.first_byte_timeout.max(provider.between_chunks_timeout));
    options.write_timeout = Some(Duration::from_secs(30));
    options.idle_timeout = Some(provider.keep_alive);
    Box::new(peer)
}

/// The peer of a call to a provider: its next address, and its own certificate authorities.
pub async fn reach(app: &App, provider: &ProviderSettings) -> Result<Box<HttpPeer>> {
    let address = app.resolver.address(&provider.base_url.host, provider.base_url.port).await?;
    let mut peer = peer(address, provider);
    if let Some(file) = &provider.ca_file {
        let authorities = app.trust.authorities(file);
        peer.options.ca = Some(authorities.map_err(|problem| Error::explain(ErrorType::InvalidCert, problem))?);
    }
    Ok(peer)
}

/// Where a call goes, decided when it was admitted.
pub struct Outbound {
    /// Path and query at the provider.
    pub path_and_query: String,
    /// The provider's key.
    pub credential: Secret,
    /// Length of the new body; `None` where there is none.
    pub content_length: Option<usize>,
}

/// What stands in the first line of the request that goes out.
pub fn path_and_query(settings: &ProviderSettings, path: &str, query: Option<&str>) -> String {
    let mark = if query.is_some() { "?" } else { "" };
    format!("{}{path}{mark}{}", settings.base_url.path, query.unwrap_or_default())
}

/// Turns the client's head into the provider's: its host, path and key; nothing of ours.
pub fn rewrite_head(
    head: &mut RequestHeader,
    out: &Outbound,
    body: &[u8],
    settings: &ProviderSettings,
    provider: &'static dyn Provider,
) -> Result<()> {
    failpoint!("connected");
    let is_dropped = |name: &str| {
        name.starts_with("x-loopers-")
            || DROPPED.contains(&name)
            || KEY_HEADERS.contains(&name)
            || provider.dropped_headers().iter().any(|dropped| dropped.eq_ignore_ascii_case(name))
    };
    let dropped: Vec<HeaderName> = head.headers.keys().filter(|name| is_dropped(name.as_str())).cloned().collect();
    for name in &dropped {
        head.remove_header(name);
    }
    let uri = out
        .path_and_query
        .parse()
        .map_err(|_| Error::explain(ErrorType::InvalidHTTPHeader, "the target is not a valid path"))?;
    head.set_uri(uri);
    let authority = settings.base_url.authority();
    let outgoing = Outgoing {
        method: &head.method,
        authority: &authority,
        path_and_query: &out.path_and_query,
        headers: &head.headers,
        body,
        options: &settings.options,
    };
    let authorization = provider
        .authorize(&outgoing, &out.credential)
        .map_err(|problem| Error::explain(ErrorType::InternalError, format!("the provider's key: {problem}")))?;
    head.insert_header("host", authority)?;
    for (name, value) in authorization {
        head.insert_header(name, value)?;
    }
    // A compressed answer could not be metered.
    head.insert_header("accept-encoding", "identity")?;
    match out.content_length {
        Some(length) => head.insert_header("content-length", length)?,
        None => drop(head.remove_header("content-length")),
    }
    Ok(())
}

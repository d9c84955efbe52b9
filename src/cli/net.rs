//! A client for one question: is something there, what certificate does it show, what does it answer.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pingora::tls::{
    CertificateError, ClientConfig, ClientTlsStream, RootCertStore, RusTlsError, ServerName, TlsConnector,
    install_default_crypto_provider, load_ca_file_into_store, load_platform_certs_incl_env_into_store,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::BaseUrl;

/// The longest wait for a name's addresses.
const DNS_MOST: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What stood in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The name has no address.
    Name(String),
    /// Nobody listens, or nobody answers.
    Unreachable(String),
    /// The certificate is not one to trust.
    Certificate(Certificate),
    /// TLS failed in another way.
    Tls(String),
    /// What answers does not speak HTTP.
    Http(String),
}

/// Why a certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is for other names.
    WrongName,
    /// It is signed by itself, or by somebody who is not trusted here.
    Untrusted,
    /// Anything else.
    Invalid,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Name(why) => write!(f, "its name cannot be looked up: {why}"),
            Trouble::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Trouble::Certificate(why) => f.write_str(match why {
                Certificate::Expired => "its certificate has expired",
                Certificate::NotYetValid => "its certificate is not valid yet, or the clock of this machine is late",
                Certificate::WrongName => "its certificate is for another name",
                Certificate::Untrusted => "its certificate is signed by itself, or by nobody whom this machine trusts",
                Certificate::Invalid => "its certificate is malformed",
            }),
            Trouble::Tls(why) => write!(f, "no TLS with it: {why}"),
            Trouble::Http(why) => write!(f, "it does not answer HTTP: {why}"),
        }
    }
}

/// A connection that stands.
pub enum Wire {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, and a certificate that is trusted.
    Tls(Box<ClientTlsStream<TcpStream>>),
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// Connects as the gateway would. `roots` is a file of certificates to trust instead of the system's.
pub async fn connect(url: &BaseUrl, roots: Option<&Path>, limit: Duration) -> Result<Wire, Trouble> {
    let looked_up = timeout(DNS_MOST, tokio::net::lookup_host((url.host.as_str(), url.port))).await;
    let addresses: Vec<_> = match looked_up {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(Trouble::Name(error.to_string())),
        Err(_) => return Err(Trouble::Name(format!("no answer within {DNS_MOST:?}"))),
    };
    if addresses.is_empty() {
        return Err(Trouble::Name("it has no address".into()));
    }
    let slow = || Trouble::Unreachable(format!("no connection within {limit:?}"));
    let connected = timeout(limit, TcpStream::connect(addresses.as_slice())).await.map_err(|_| slow())?;
    let socket = connected.map_err(|error| Trouble::Unreachable(error.to_string()))?;
    if !url.tls {
        return Ok(Wire::Plain(socket));
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|error| Trouble::Tls(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(client_config(roots)?));
    let shaken = timeout(limit, connector.connect(name, socket)).await.map_err(|_| slow())?;
    shaken.map(|stream| Wire::Tls(Box::new(stream))).map_err(|error| handshake_trouble(&error))
}

/// The certificates that are trusted: those of a file, or the system's.
pub fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    install_default_crypto_provider();
    let mut store = RootCertStore::empty();
    match file {
        Some(file) => load_ca_file_into_store(file, &mut store),
        None => load_platform_certs_incl_env_into_store(&mut store),
    }
    .map_err(|error| error.to_string())?;
    Ok(store)
}

fn client_config(file: Option<&Path>) -> Result<ClientConfig, Trouble> {
    let roots = roots(file).map_err(Trouble::Tls)?;
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn handshake_trouble(error: &std::io::Error) -> Trouble {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<RusTlsError>()) {
        Some(RusTlsError::InvalidCertificate(why)) => Trouble::Certificate(certificate(why)),
        Some(other) => Trouble::Tls(other.to_string()),
        None => Trouble::Tls(error.to_string()),
    }
}

/// The kind of a certificate's fault.
pub fn certificate(why: &CertificateError) -> Certificate {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Certificate::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Certificate::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Certificate::WrongName,
        CertificateError::UnknownIssuer => Certificate::Untrusted,
        // A certificate that signs others and shows itself: what `openssl req -x509` makes.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => Certificate::Untrusted,
        _ => Certificate::Invalid,
    }
}

impl Wire {
    /// Asks one GET.
    pub async fn get(
        self,
        url: &BaseUrl,
        path_and_query: &str,
        headers: &[(&'static str, String)],
        limit: Duration,
    ) -> Result<Answer, Trouble> {
        let asked = async {
            match self {
                Wire::Plain(socket) => ask(socket, url, path_and_query, headers).await,
                Wire::Tls(stream) => ask(stream, url, path_and_query, headers).await,
            }
        };
        let slow = || Trouble::Http(format!("no answer within {limit:?}"));
        timeout(limit, asked).await.map_err(|_| slow())?
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    url: &BaseUrl,
    path_and_query: &str,
    headers: &[(&'static str, String)],
) -> Result<Answer, Trouble> {
    let http = |error: &dyn fmt::Display| Trouble::Http(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| http(&e))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(Method::GET).uri(path_and_query).header("host", url.authority());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.header("connection", "close").body(Empty::<Bytes>::new()).map_err(|e| http(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| http(&e))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| http(&e))?.to_bytes();
    connection.abort();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

//! The gateway's own certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pingora::tls::{
    CertificateDer, RootCertStore, RusTlsError, ServerCertVerifier, ServerConfig, ServerName, UnixTime,
    WebPkiServerVerifier, install_default_crypto_provider, load_certs_and_key_files,
};

use super::report::Report;
use crate::cli::net::{self, Certificate};
use crate::config::{Settings, TlsFiles};

/// How long before its end a certificate is worth a word.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Looks at certificate and key of `listen`, if it has them.
pub fn examine(report: &mut Report, settings: &Settings) {
    let Some(files) = &settings.tls else { return };
    install_default_crypto_provider();
    let chain = match load(files) {
        Ok(chain) => chain,
        Err((field, code, problem)) => {
            let fix =
                "tls: { cert: CHAIN.pem, key: KEY.pem }    (the chain, own certificate first, and its private key)";
            report.error(code, field, problem, fix);
            return;
        }
    };
    let now = SystemTime::now();
    let renew = "renew it, and write the new chain to this file";
    match at(&chain, now) {
        Some(Certificate::Expired) => {
            report.error("certificate_expired", "tls.cert", "the gateway's certificate has expired", renew);
        }
        Some(Certificate::NotYetValid) => {
            let message = "the gateway's certificate is not valid yet, or the clock of this machine is late";
            report.error("certificate_not_yet_valid", "tls.cert", message, "wait, or set the clock");
        }
        _ if at(&chain, now + SOON) == Some(Certificate::Expired) => {
            let message = "the gateway's certificate expires within 14 days";
            report.warning("certificate_expires_soon", "tls.cert", message, renew);
        }
        _ => report.ok("certificate", "the gateway's certificate is valid, and the key is its own"),
    }
}

type Wrong = (&'static str, &'static str, String);

fn load(files: &TlsFiles) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let invalid = |problem: String| ("tls.cert", "certificate_invalid", problem);
    let (Some(cert), Some(key)) = (files.cert.to_str(), files.key.to_str()) else {
        return Err(invalid("a path that is not UTF-8".into()));
    };
    let loaded = load_certs_and_key_files(cert, key).map_err(|error| invalid(error.to_string()))?;
    let (chain, key) =
        loaded.ok_or_else(|| invalid(format!("no certificate in {cert}, or no private key in {key}")))?;
    if chain.is_empty() {
        return Err(invalid(format!("no certificate in {cert}")));
    }
    let made = ServerConfig::builder().with_no_client_auth().with_single_cert(chain.clone(), key);
    match made {
        Ok(_) => Ok(chain),
        Err(RusTlsError::InconsistentKeys(_)) => {
            Err(("tls.key", "certificate_key_mismatch", "this is not the key of the certificate".into()))
        }
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// What is wrong with the own certificate at that time, apart from who signed it and for which name.
fn at(chain: &[CertificateDer<'static>], time: SystemTime) -> Option<Certificate> {
    let (own, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(own, rest, &name, &[], UnixTime::since_unix_epoch(since)) {
        Err(RusTlsError::InvalidCertificate(why)) => Some(net::certificate(&why)),
        _ => None,
    }
}

//! Certificate authorities that a provider is trusted by, where they are not the system's (`ca_file`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use pingora::protocols::tls::CaType;
use pingora::utils::tls::WrappedX509;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Settings;

/// Files of certificates, read once and again when they change.
#[derive(Default)]
pub struct Trust {
    known: RwLock<HashMap<PathBuf, Known>>,
}

struct Known {
    list: Arc<CaType>,
    /// When the file was last written; `None` where the system does not say.
    written: Option<SystemTime>,
}

impl Trust {
    /// Reads the files of all providers, so that a wrong one is told at the start and not by the first call.
    pub fn read_all(&self, settings: &Settings) -> Result<(), String> {
        settings.providers.values().filter_map(|provider| provider.ca_file.as_deref()).try_for_each(|file| {
            self.authorities(file)?;
            Ok(())
        })
    }

    /// The certificates of a file. One that was replaced by a file that cannot be read stays in force.
    pub fn authorities(&self, file: &Path) -> Result<Arc<CaType>, String> {
        let written = std::fs::metadata(file).and_then(|meta| meta.modified()).ok();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(file).map(|known| (known.list.clone(), known.written));
        drop(known);
        if let Some((list, at)) = &before
            && *at == written
        {
            return Ok(list.clone());
        }
        match (read(file), before) {
            (Ok(list), _) => {
                let fresh = Known { list: list.clone(), written };
                self.known.write().unwrap_or_else(PoisonError::into_inner).insert(file.into(), fresh);
                Ok(list)
            }
            (Err(problem), Some((list, _))) => {
                log::error!("{problem}; the certificates that it held before are used");
                Ok(list)
            }
            (Err(problem), None) => Err(problem),
        }
    }
}

fn read(file: &Path) -> Result<Arc<CaType>, String> {
    let bad = |problem: String| format!("ca_file {}: {problem}", file.display());
    let text = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
    let mut list = Vec::new();
    for block in Pem::iter_from_buffer(&text) {
        let block = block.map_err(|error| bad(format!("is not a PEM file: {error}")))?;
        if block.label != "CERTIFICATE" {
            return Err(bad(format!("holds a {}, where only certificates belong", block.label)));
        }
        let number = list.len() + 1;
        let parsed = WrappedX509::try_new(block.contents, |der| {
            let (_, certificate) = X509Certificate::from_der(der)
                .map_err(|error| bad(format!("certificate {number} cannot be read: {error}")))?;
            Ok::<_, String>(certificate)
        });
        list.push(parsed?);
    }
    if list.is_empty() {
        return Err(bad("holds no certificate".into()));
    }
    Ok(list.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = include_str!("../../tests/fixtures/tls/ca.pem");
    const OTHER: &str = include_str!("../../tests/fixtures/tls/other.pem");

    #[test]
    fn a_file_holds_certificates_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let trust = Trust::default();
        let key = include_str!("../../tests/fixtures/tls/server.key");
        let torn = &CA[..CA.len() / 2];
        for (text, problem) in [
            ("", "holds no certificate"),
            ("hello", "holds no certificate"),
            (key, "holds a PRIVATE KEY"),
            (torn, "is not a PEM file"),
            ("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "certificate 1 cannot be read"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = trust.authorities(&file).unwrap_err();
            assert!(error.contains(problem) && error.contains("ca.pem"), "{text}: {error}");
        }
        assert!(trust.authorities(&folder.path().join("missing.pem")).is_err());
        std::fs::write(&file, format!("{CA}{OTHER}")).unwrap();
        assert_eq!(trust.authorities(&file).unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let write = |text: &str, second: u64| {
            std::fs::write(&file, text).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
        };
        let trust = Trust::default();
        write(CA, 1_000_000);
        let first = trust.authorities(&file).unwrap();
        assert!(Arc::ptr_eq(&first, &trust.authorities(&file).unwrap()));
        write(&format!("{CA}{OTHER}"), 2_000_000);
        assert_eq!(trust.authorities(&file).unwrap().len(), 2);
        write("broken", 3_000_000);
        assert_eq!(trust.authorities(&file).unwrap().len(), 2);
    }
}

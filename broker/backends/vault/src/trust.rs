//! Whom the client trusts: the system's roots, or the authorities in a file, which may be replaced while the broker runs.
//!
//! The file is read again when a certificate was refused, and never else: whoever replaces an authority does so in the
//! file first and at the store after, and until the store shows a certificate of the new one the old will do.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bursar_core::BackendName;
use reqwest::{Certificate, redirect};

use crate::config::{ConfigError, VaultConfig};

pub(crate) struct Trust {
    backend: BackendName,
    settings: Settings,
    current: RwLock<Arc<Trusting>>,
}

/// A client and the authorities that it trusts.
pub(crate) struct Trusting {
    pub(crate) http: reqwest::Client,
    /// Empty for the system's.
    authorities: Vec<u8>,
}

#[derive(Clone)]
struct Settings {
    ca_file: Option<PathBuf>,
    allow_plaintext: bool,
    timeout: Duration,
}

impl Trust {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] when it is no file of certificates.
    pub(crate) fn new(config: &VaultConfig) -> Result<Self, ConfigError> {
        let VaultConfig { ca_file, allow_plaintext, timeout, .. } = config;
        let settings =
            Settings { ca_file: ca_file.clone(), allow_plaintext: *allow_plaintext, timeout: *timeout };
        let current = RwLock::new(Arc::new(settings.trusting()?));
        Ok(Self { backend: config.name.clone(), settings, current })
    }

    pub(crate) fn current(&self) -> Arc<Trusting> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// After a certificate was refused that `used` does not trust: whether others are trusted now.
    pub(crate) async fn renew(&self, used: &Arc<Trusting>) -> bool {
        if !Arc::ptr_eq(used, &self.current()) {
            // Another call has been here.
            return true;
        }
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || settings.trusting()).await;
        match read {
            Ok(Ok(new)) if new.authorities != used.authorities => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(backend = %self.backend, "the authorities in `ca_file` were replaced");
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(backend = %self.backend, %error, "the authorities are those of before");
                false
            }
            _ => false,
        }
    }
}

impl Settings {
    fn trusting(&self) -> Result<Trusting, ConfigError> {
        let mut http = reqwest::Client::builder()
            .tls_backend_rustls()
            .https_only(!self.allow_plaintext)
            .redirect(redirect::Policy::none())
            // `HTTPS_PROXY` would send the token to whoever sets the environment.
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent("bursar")
            .timeout(self.timeout);
        let mut authorities = Vec::new();
        if let Some(path) = &self.ca_file {
            authorities =
                fs::read(path).map_err(|source| ConfigError::CaFile { path: path.clone(), source })?;
            let certificates = Certificate::from_pem_bundle(&authorities).ok();
            let certificates = certificates.filter(|certificates| !certificates.is_empty());
            http = http.tls_certs_only(
                certificates.ok_or_else(|| ConfigError::NoCertificate { path: path.clone() })?,
            );
        }
        let http = http.build().map_err(|source| ConfigError::Client { source })?;
        Ok(Trusting { http, authorities })
    }
}

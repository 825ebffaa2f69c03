//! Whom the client trusts, and who it is: the system's roots or the authorities in a file, and the certificate by which it
//! logs in, where it does. All of them may be replaced while the broker runs.
//!
//! The authorities are read again when a certificate was refused, and never else: whoever replaces one does so in the
//! file first and at the store after, and until the store shows a certificate of the new one the old will do. The
//! client's own certificate is read at each login, like every other credential.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bursar_backend_http::{Authorities, Plaintext, SetupError};
use bursar_core::BackendName;
use bursar_core::secret::SecretReader;
use reqwest::Identity;
use zeroize::Zeroizing;

use crate::config::{Auth, ConfigError, VaultConfig};

pub(crate) struct Trust {
    backend: BackendName,
    settings: Settings,
    current: RwLock<Arc<Trusting>>,
}

/// A client and the authorities that it trusts.
pub(crate) struct Trusting {
    pub(crate) http: reqwest::Client,
    /// None for the system's.
    authorities: Option<Authorities>,
}

#[derive(Clone)]
struct Settings {
    ca_file: Option<PathBuf>,
    /// A certificate and its key.
    identity: Option<(PathBuf, SecretReader)>,
    plaintext: Plaintext,
    timeout: Duration,
}

impl Trust {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] when it is no file of certificates.
    pub(crate) fn new(config: &VaultConfig) -> Result<Self, ConfigError> {
        let VaultConfig { ca_file, allow_plaintext, timeout, .. } = config;
        let identity = match &config.auth {
            Auth::Certificate { certificate, key, .. } => Some((certificate.clone(), key.clone())),
            Auth::AppRole { .. } | Auth::Jwt { .. } | Auth::Token(_) => None,
        };
        let (ca_file, plaintext, timeout) = (ca_file.clone(), Plaintext::allowed(*allow_plaintext), *timeout);
        let settings = Settings { ca_file, identity, plaintext, timeout };
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
        match self.read().await {
            Some(new) if new.authorities != used.authorities => {
                self.replace(new);
                tracing::info!(backend = %self.backend, "the authorities in `ca_file` were replaced");
                true
            }
            _ => false,
        }
    }

    /// Reads the certificate anew by which the client logs in. Answers whether it can.
    pub(crate) async fn present_anew(&self) -> bool {
        let new = self.read().await;
        let can = new.is_some();
        new.into_iter().for_each(|new| self.replace(new));
        can
    }

    async fn read(&self) -> Option<Trusting> {
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || settings.trusting()).await.ok()?;
        let told = |error: &ConfigError| {
            tracing::warn!(backend = %self.backend, %error, "the files are as they were read before");
        };
        read.inspect_err(told).ok()
    }

    fn replace(&self, new: Trusting) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }
}

impl Settings {
    fn trusting(&self) -> Result<Trusting, ConfigError> {
        let authorities = self.ca_file.as_deref().map(Authorities::read).transpose()?;
        let mut http = bursar_backend_http::client(authorities.as_ref(), self.plaintext)?
            // One that cannot be connected to leaves time for another node.
            .connect_timeout(self.timeout / 2)
            .timeout(self.timeout);
        if let Some((path, key)) = &self.identity {
            http = http.identity(identity(path, key)?);
        }
        let http = http.build().map_err(SetupError::from)?;
        Ok(Trusting { http, authorities })
    }
}

fn identity(path: &Path, key: &SecretReader) -> Result<Identity, ConfigError> {
    let certificate =
        fs::read(path).map_err(|source| ConfigError::Certificate { path: path.to_owned(), source })?;
    let secret =
        key.read().map_err(|error| ConfigError::Key { key: key.source().to_owned(), kind: error.kind() })?;
    // Of its final size from the start, so that it leaves no copy behind.
    let mut pem = Zeroizing::new(Vec::with_capacity(secret.len() + 1 + certificate.len()));
    pem.extend_from_slice(secret.expose());
    pem.push(b'\n');
    pem.extend_from_slice(&certificate);
    let unfit = |_| ConfigError::NoIdentity { path: path.to_owned(), key: key.source().to_owned() };
    Identity::from_pem(&pem).map_err(unfit)
}

//! An HTTP client as stores are called by.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, redirect};
use rustls::crypto::CryptoProvider;

/// Whether calls may go out in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plaintext {
    Refused,
    Allowed,
}

impl Plaintext {
    /// As a configuration's `allow_plaintext` says it.
    pub fn allowed(allowed: bool) -> Self {
        if allowed { Self::Allowed } else { Self::Refused }
    }
}

/// Begins a client that trusts `authorities`, or the system's. Time limits are for the caller to set.
///
/// # Errors
/// [`SetupError::NoTlsProvider`].
pub fn client(authorities: Option<&Authorities>, plaintext: Plaintext) -> Result<ClientBuilder, SetupError> {
    if CryptoProvider::get_default().is_none() {
        return Err(SetupError::NoTlsProvider);
    }
    let client = reqwest::Client::builder()
        .tls_backend_rustls()
        .https_only(plaintext == Plaintext::Refused)
        // One that is followed takes the credential elsewhere.
        .redirect(redirect::Policy::none())
        // `HTTPS_PROXY` would send credentials to whoever sets the environment.
        .no_proxy()
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent("bursar");
    Ok(match authorities {
        Some(authorities) => client.tls_certs_only(authorities.certificates.iter().cloned()),
        None => client,
    })
}

/// Whom a client trusts instead of the system's authorities.
#[derive(Debug, Clone)]
pub struct Authorities {
    pem: Vec<u8>,
    certificates: Vec<Certificate>,
}

impl Authorities {
    /// Reads a file of PEM certificates. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or holds none.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let pem =
            std::fs::read(path).map_err(|source| SetupError::CaFile { path: path.to_owned(), source })?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(SetupError::NoCertificate { path: path.to_owned() });
        }
        Ok(Self { pem, certificates })
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for Authorities {}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the CA file `{}` cannot be read", path.display())]
    CaFile { path: PathBuf, source: io::Error },
    #[error("the CA file `{}` holds no PEM certificate that can be read", path.display())]
    NoCertificate { path: PathBuf },
    #[error("no TLS provider is installed in this process; install rustls's ring provider first")]
    NoTlsProvider,
    #[error("the HTTP client cannot be set up")]
    Client {
        #[from]
        source: reqwest::Error,
    },
}

//! The client by which an issuer's servers are called, and whom it trusts: the system's roots, or the authorities that
//! `ca_file` holds now.
//!
//! The file is looked at before each use, which is a round of fetching keys or a question to a cluster, and the client
//! is made anew when its content is another: an authority that was put in counts at once, and one that was taken out
//! counts no more, open connections included. A bad file leaves in force what was there and is logged once, so that a
//! half-written one locks nobody out. At the start it is fatal.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bursar_backend_http::{Authorities, Plaintext, SetupError, client};
use bursar_core::Explained;

#[derive(Debug)]
pub(super) struct Servers {
    issuer: String,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    trusting: Mutex<Trusting>,
}

#[derive(Debug)]
struct Trusting {
    http: reqwest::Client,
    /// None for the system's.
    authorities: Option<Authorities>,
    /// Whether the file was bad when somebody looked last.
    faulty: bool,
}

impl Servers {
    /// Reads `ca_file`. Each call is to take at most `timeout`.
    ///
    /// # Errors
    /// [`SetupError`].
    pub(super) fn new(issuer: &str, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, SetupError> {
        let authorities = ca_file.map(Authorities::read).transpose()?;
        let http = http(authorities.as_ref(), timeout)?;
        let trusting = Mutex::new(Trusting { http, authorities, faulty: false });
        Ok(Self { issuer: issuer.to_owned(), ca_file: ca_file.map(Path::to_owned), timeout, trusting })
    }

    /// The client that trusts what the file holds now.
    pub(super) async fn client(&self) -> reqwest::Client {
        if let Some(path) = self.ca_file.clone() {
            let read = tokio::task::spawn_blocking(move || Authorities::read(&path)).await;
            if let Ok(read) = read {
                self.take(read);
            }
        }
        self.trusting.lock().unwrap_or_else(PoisonError::into_inner).http.clone()
    }

    fn take(&self, read: Result<Authorities, SetupError>) {
        let mut trusting = self.trusting.lock().unwrap_or_else(PoisonError::into_inner);
        let was_faulty = trusting.faulty;
        let fault = match read {
            Ok(read) if trusting.authorities.as_ref() == Some(&read) => None,
            Ok(read) => match http(Some(&read), self.timeout) {
                Ok(http) => {
                    *trusting = Trusting { http, authorities: Some(read), faulty: false };
                    tracing::info!(issuer = self.issuer, "the authorities in `ca_file` were replaced");
                    return;
                }
                Err(error) => Some(error),
            },
            Err(error) => Some(error),
        };
        trusting.faulty = fault.is_some();
        if let Some(error) = fault.filter(|_| !was_faulty) {
            tracing::warn!(issuer = self.issuer, error = %Explained(&error), "the authorities are as `ca_file` had them before");
        }
    }
}

fn http(authorities: Option<&Authorities>, timeout: Duration) -> Result<reqwest::Client, SetupError> {
    Ok(client(authorities, Plaintext::Refused)?.timeout(timeout).build()?)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn authority() -> String {
        let key = KeyPair::generate().expect("a key");
        CertificateParams::new([]).expect("params").self_signed(&key).expect("a certificate").pem()
    }

    impl Servers {
        fn pem(&self) -> Option<Authorities> {
            self.trusting.lock().expect("state").authorities.clone()
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_taken_up_and_a_bad_one_is_not() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let place = tempfile::tempdir().expect("directory");
        let file = place.path().join("ca.pem");
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        write(&authority());
        let servers = Servers::new("ci", Some(&file), Duration::from_secs(1)).expect("servers");
        let first = servers.pem();

        write("half a certif");
        servers.client().await;
        assert_eq!(servers.pem(), first, "a bad file changes nothing");

        write(&authority());
        servers.client().await;
        assert_ne!(servers.pem(), first, "another authority is taken up");
        assert_eq!(servers.pem(), Authorities::read(&file).ok());
    }

    #[test]
    fn a_bad_file_at_the_start_is_fatal() {
        let missing = Servers::new("ci", Some(Path::new("/nowhere/ca.pem")), Duration::from_secs(1));
        assert!(matches!(missing, Err(SetupError::CaFile { .. })));
    }
}

//! What the port is served with, and where that comes from.
//!
//! Files of somebody else's are read again when they change ([`files`]). A certificate of our own is made by the replica
//! that leads ([`lease`]), kept in a Secret that all replicas read ([`kept`]), signed by an authority that the API server is
//! told to trust, and replaced before it ends ([`course`], a pure function of what there is and what time it is). [`keep`]
//! does what that says. Every write names the version that it replaces, so two that believe to lead cannot undo each other.

mod course;
mod files;
mod keep;
mod kept;
mod lease;
mod made;

use std::sync::Arc;

use bursar_core::Secret;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(super) use files::watch as watch_files;
pub(super) use keep::Keeper;

use crate::telemetry::webhook::Metrics;

/// What is served now. Replacing it concerns the connections that come.
#[derive(Debug, Clone)]
pub(super) struct Served {
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    metrics: Metrics,
}

impl Served {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { tls: watch::Sender::new(None), metrics }
    }

    /// Follows it.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.tls.subscribe()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Serves this certificate with its key, both PEM, from now on.
    fn replace(&self, chain: &[u8], key: &Secret) -> Result<(), Unusable> {
        let served = server_config(chain, key).and_then(|config| Ok((config, ends(chain)?)));
        match served {
            Ok((config, ends)) => {
                self.metrics.certificate("loaded");
                self.metrics.certificate_end.set(ends);
                self.tls.send_replace(Some(Arc::new(config)));
                Ok(())
            }
            Err(error) => {
                self.metrics.certificate("unusable");
                Err(error)
            }
        }
    }
}

fn server_config(chain: &[u8], key: &Secret) -> Result<ServerConfig, Unusable> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(Unusable::NoCertificate)?;
    // The cause is dropped: it may quote a line of the key.
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| Unusable::NoKey)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(Unusable::Pair)?.with_no_client_auth();
    config.with_single_cert(chain, key).map_err(Unusable::Pair)
}

/// When the first certificate ends, in seconds since 1970.
fn ends(chain: &[u8]) -> Result<i64, Unusable> {
    let first = CertificateDer::from_pem_slice(chain).map_err(|_| Unusable::NoCertificate)?;
    let (_, read) = X509Certificate::from_der(&first).map_err(|_| Unusable::NoCertificate)?;
    Ok(read.validity().not_after.timestamp())
}

/// Why something cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("there is no certificate that can be read")]
    NoCertificate,
    #[error("there is no private key that can be read")]
    NoKey,
    #[error("certificate and key do not belong together")]
    Pair(#[source] rustls::Error),
    #[error("a file of the certificate cannot be read")]
    Unreadable(#[from] crate::source::SourceError),
}

#[cfg(test)]
mod tests;

//! The TLS side of the gRPC port: TLS 1.3, HTTP/2, client certificates asked for and verified, but not demanded: a node
//! that joins has none yet. What a call without one may do is decided by the surface table of the API. And that of the
//! HTTPS port, which asks for none.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use super::authority::IssuedIdentity;

/// Serves whichever certificate was set last, so that renewing one drops no connection.
#[derive(Debug)]
pub struct ServerCertificate(RwLock<Served>);

#[derive(Debug)]
struct Served {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl ServerCertificate {
    /// Starts with `identity`.
    ///
    /// # Errors
    /// [`TlsError`] when rustls cannot use the key.
    pub fn new(identity: &IssuedIdentity, root: &CertificateDer<'static>) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(certified(identity, root)?)))
    }

    /// Serves `identity` from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`] when rustls cannot use the key; the old certificate stays.
    pub fn replace(&self, identity: &IssuedIdentity, root: &CertificateDer<'static>) -> Result<(), TlsError> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(identity, root)?;
        Ok(())
    }

    /// When the certificate that is served ends.
    pub fn not_after(&self) -> Timestamp {
        self.0.read().unwrap_or_else(PoisonError::into_inner).not_after
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

/// The configuration of the gRPC listener: callers are verified by `clients`.
///
/// # Errors
/// [`TlsError`] when rustls knows no TLS 1.3.
pub fn server_config(
    certificate: Arc<ServerCertificate>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The configuration of the HTTPS listener: the same certificate, and callers present tokens alone.
///
/// # Errors
/// [`TlsError`] when rustls knows no TLS 1.3.
pub fn https_config(certificate: Arc<ServerCertificate>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certified(identity: &IssuedIdentity, root: &CertificateDer<'static>) -> Result<Served, TlsError> {
    let key = ring::sign::any_supported_type(&identity.key_der())?;
    let chain = vec![identity.certificate.der.clone(), root.clone()];
    Ok(Served { key: Arc::new(CertifiedKey::new(chain, key)), not_after: identity.certificate.not_after })
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("a certificate or key cannot be used")]
    Certificate(#[from] rustls::Error),
}

//! Whom the client trusts, and who it is.

use std::fmt;
use std::sync::Arc;

use bursar_core::Secret;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::ConnectError;

/// What a connection to a broker needs besides its address.
pub struct Tls {
    /// The certificate authorities that vouch for the broker, in PEM. No others are trusted.
    pub ca_pem: Vec<u8>,
    /// Who the caller is. Without one the broker answers nothing but a node's request to join.
    pub identity: Option<Identity>,
    /// The name that the broker's certificate has to be for. The host of the address when absent.
    pub server_name: Option<String>,
}

/// A client certificate with its key.
pub struct Identity {
    /// The certificate, followed by those that lead to its authority, in PEM.
    pub cert_pem: Vec<u8>,
    /// The private key, in PEM.
    pub key_pem: Secret,
}

impl Tls {
    /// TLS 1.3 alone, with ring, whatever provider the process has installed.
    pub(super) fn client_config(&self) -> Result<ClientConfig, ConnectError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca_pem, "certificate authority")? {
            roots.add(certificate).map_err(ConnectError::Authority)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(ConnectError::Tls)?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(identity) => config
                .with_client_auth_cert(identity.certificates()?, identity.key()?)
                .map_err(ConnectError::Identity)?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl Identity {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        certificates(&self.cert_pem, "client certificate")
    }

    /// The cause is dropped: it may quote a line of the key.
    fn key(&self) -> Result<PrivateKeyDer<'static>, ConnectError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.expose()).map_err(|_| ConnectError::NoKey)
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        // The cause is dropped: a key that was given by mistake would be quoted.
        _ => Err(ConnectError::NoCertificate { what }),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

//! Whom the client believes to be the server, and the TLS of a session.
//!
//! Always `verify-full` in libpq's words: the certificate is of a trusted authority and for the host that was
//! configured. The authorities in a file are read for each session, of which there are few, so that they may be
//! replaced while the broker runs.
//!
//! A small connector of our own: the crates that offer one either choose a provider of cryptography themselves or are
//! forks that come and go, and what is needed is a page.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ring::digest::{self, SHA256, SHA384, SHA512};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How sessions cross the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By TLS, with a certificate for the host by an authority in the file (PEM), or one that the system trusts.
    Tls { ca_file: Option<PathBuf> },
    /// In the clear.
    Plaintext,
}

/// A certificate that the client shows, and its key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes connectors for one server.
#[derive(Debug)]
pub struct Trust {
    server: ServerName<'static>,
    ca_file: Option<PathBuf>,
    client: Option<ClientFiles>,
    /// With the system's authorities and no certificate of the client's, which is read once.
    system: Option<Arc<ClientConfig>>,
}

impl Trust {
    /// Trusts the authorities in `ca_file`, or the system's, for `host`, and shows the certificate in `client`. Reads
    /// them, to see that they can be read.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(
        host: &str,
        ca_file: Option<PathBuf>,
        client: Option<ClientFiles>,
    ) -> Result<Self, ConfigError> {
        let server = ServerName::try_from(host.to_owned()).map_err(|_| ConfigError::Host)?;
        let config = Arc::new(config(ca_file.as_deref(), client.as_ref())?);
        let system = (ca_file.is_none() && client.is_none()).then_some(config);
        Ok(Self { server, ca_file, client, system })
    }

    /// A connector for one session. May read files.
    ///
    /// # Errors
    /// [`ConfigError`] when a file is not what it was.
    pub fn connector(&self) -> Result<Tls, ConfigError> {
        let config = match &self.system {
            Some(config) => Arc::clone(config),
            None => Arc::new(config(self.ca_file.as_deref(), self.client.as_ref())?),
        };
        Ok(Tls { connector: TlsConnector::from(config), server: self.server.clone() })
    }
}

fn config(ca_file: Option<&Path>, client: Option<&ClientFiles>) -> Result<ClientConfig, ConfigError> {
    let trusting = match ca_file {
        Some(path) => builder()?.with_root_certificates(authorities(path)?),
        None => builder()?.with_platform_verifier().map_err(ConfigError::Tls)?,
    };
    let Some(ClientFiles { certificate, key }) = client else { return Ok(trusting.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let read = std::fs::read(key).map_err(|source| ConfigError::File { path: key.clone(), source })?;
    let key = PrivateKeyDer::from_pem_slice(&read).map_err(|_| ConfigError::NoKey { path: key.clone() })?;
    trusting.with_client_auth_cert(chain, key).map_err(ConfigError::Tls)
}

fn authorities(path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let no_certificate = |_| ConfigError::NoCertificate { path: path.to_owned() };
        roots.add(certificate).map_err(no_certificate)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let no_certificate = || ConfigError::NoCertificate { path: path.to_owned() };
    let pem = std::fs::read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(no_certificate)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, ConfigError> {
    let provider = Arc::new(default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Tls)
}

/// Files or names that no session can be made with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`host` is no name or address that a certificate can be for")]
    Host,
    #[error("the file `{}` cannot be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the file `{}` holds no PEM certificate that can be read", path.display())]
    NoCertificate { path: PathBuf },
    #[error("the file `{}` holds no PEM key that can be read", path.display())]
    NoKey { path: PathBuf },
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The TLS of one session, to be.
#[expect(missing_debug_implementations, reason = "it is handed from one call to the next")]
pub struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl<S> TlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.server, stream).await.map(Encrypted) })
    }
}

/// A stream within TLS.
#[expect(missing_debug_implementations, reason = "nobody holds one but the client of PostgreSQL")]
pub struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S> TlsStream for Encrypted<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Binds the login to this certificate, so that nobody between can pass it on.
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        match certificate.and_then(|certificate| end_point(certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

/// The certificate by the hash of its own signature; RFC 5929, section 4.1. None where the signature has no hash of its
/// own, and for the old ones that rustls does not take.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        RSA_SHA256 | ECDSA_SHA256 => &SHA256,
        RSA_SHA384 | ECDSA_SHA384 => &SHA384,
        RSA_SHA512 | ECDSA_SHA512 => &SHA512,
        _ => return None,
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

impl<S> AsyncRead for Encrypted<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S> AsyncWrite for Encrypted<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// RFC 8017, appendix A.2.4.
const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
const RSA_SHA384: &str = "1.2.840.113549.1.1.12";
const RSA_SHA512: &str = "1.2.840.113549.1.1.13";
/// RFC 5758, section 3.2.
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
const ECDSA_SHA512: &str = "1.2.840.10045.4.3.4";

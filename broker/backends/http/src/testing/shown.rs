//! A server that shows a certificate and hangs up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bursar_core::backend::ErrorKind;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::install_provider;

/// It closes a connection once the handshake is over. Stopped when dropped.
pub struct Shown {
    pub address: String,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    _server: JoinSet<()>,
}

impl Shown {
    /// Shows this certificate.
    pub async fn start(certificate: CertifiedKey<KeyPair>) -> Self {
        let acceptor = Arc::new(Mutex::new(acceptor(certificate)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("https://{}", listener.local_addr().expect("address"));
        let mut server = JoinSet::new();
        let shown = Arc::clone(&acceptor);
        server.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let acceptor = shown.lock().expect("lock").clone();
                drop(acceptor.accept(stream).await);
            }
        });
        Self { address, acceptor, _server: server }
    }

    /// Shows another from now on.
    pub fn show(&self, certificate: CertifiedKey<KeyPair>) {
        *self.acceptor.lock().expect("lock") = acceptor(certificate);
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A certificate for `name` that nobody else vouches for.
pub fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).expect("certificate")
}

/// Tries that a certificate which does not fit is a fault of the configuration. `kind` is what a call ends in at an
/// address that trusts the certificates of a file, and where nobody speaks HTTP.
pub async fn each_certificate_has_its_kind(kind: impl AsyncFn(String, PathBuf) -> ErrorKind) {
    for (name, trusted, expected) in [
        // It is trusted, and the connection is closed.
        ("127.0.0.1", true, ErrorKind::Unavailable),
        ("127.0.0.1", false, ErrorKind::Misconfigured),
        ("elsewhere.example", true, ErrorKind::Misconfigured),
    ] {
        let (shown, other) = (certificate(name), certificate("127.0.0.1"));
        let directory = tempfile::tempdir().expect("directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, if trusted { shown.cert.pem() } else { other.cert.pem() }).expect("written");
        let server = Shown::start(shown).await;
        let kind = kind(server.address.clone(), ca_file).await;
        assert_eq!(kind, expected, "a certificate for {name}, trusted: {trusted}");
    }
}

pub(super) fn acceptor(certificate: CertifiedKey<KeyPair>) -> TlsAcceptor {
    install_provider();
    let CertifiedKey { cert, signing_key } = certificate;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("key");
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    TlsAcceptor::from(Arc::new(tls.with_single_cert(vec![cert.der().clone()], key).expect("TLS")))
}

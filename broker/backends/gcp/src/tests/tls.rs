//! Certificates and endpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::{AddressError, SetupError};
use bursar_core::backend::{Backend, ErrorKind};
use bursar_core::clock::TestClock;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::fake::{backend, config, install_provider, path};
use crate::{ConfigError, GcpBackend, GcpConfig};

fn with_ca(address: &str, ca_file: Option<PathBuf>) -> GcpConfig {
    GcpConfig { allow_plaintext: false, ca_file, ..config(address) }
}

fn refusal(config: GcpConfig) -> ConfigError {
    install_provider();
    GcpBackend::new(config, Arc::new(TestClock::new())).expect_err("a refusal")
}

#[tokio::test]
async fn what_can_never_work_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("ca.pem");
    let made = || refusal(with_ca("https://127.0.0.1:1", Some(file.clone())));
    assert!(matches!(made(), ConfigError::Setup(SetupError::CaFile { .. })));
    std::fs::write(&file, "no certificate").expect("written");
    assert!(matches!(made(), ConfigError::Setup(SetupError::NoCertificate { .. })));

    let plaintext = refusal(with_ca("http://127.0.0.1:1", None));
    assert!(matches!(plaintext, ConfigError::Endpoint(AddressError::Plaintext)));
    assert!(matches!(refusal(with_ca("https://a/b", None)), ConfigError::EndpointWithPath));
    let none = GcpConfig { endpoint: None, ..config("https://127.0.0.1:1") };
    assert!(matches!(refusal(none), ConfigError::NoToken));
    let zero = GcpConfig { timeout: Duration::ZERO, ..config("https://127.0.0.1:1") };
    assert!(matches!(refusal(zero), ConfigError::ZeroTimeout));
}

/// What a read ends in at a server that shows a certificate for `name`, trusted or not, and closes the connection.
async fn read_at(name: &str, trusted: bool) -> ErrorKind {
    install_provider();
    let certificate = |name: &str| generate_simple_self_signed([name.to_owned()]).expect("certificate");
    let (shown, other) = (certificate(name), certificate("127.0.0.1"));
    let dir = tempfile::tempdir().expect("directory");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, if trusted { shown.cert.pem() } else { other.cert.pem() }).expect("written");
    let acceptor = acceptor(shown);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("https://{}", listener.local_addr().expect("address"));
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            drop(acceptor.accept(stream).await);
        }
    });
    let backend = backend(with_ca(&address, Some(ca_file)));
    backend.read(&path("db"), None).await.err().expect("no HTTP behind it").kind
}

fn acceptor(certificate: CertifiedKey<KeyPair>) -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } = certificate;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("key");
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    TlsAcceptor::from(Arc::new(tls.with_single_cert(vec![cert.der().clone()], key).expect("TLS")))
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_fault_of_the_configuration() {
    assert_eq!(read_at("127.0.0.1", true).await, ErrorKind::Unavailable, "trusted, then closed");
    assert_eq!(read_at("127.0.0.1", false).await, ErrorKind::Misconfigured, "another CA");
    assert_eq!(read_at("elsewhere.example", true).await, ErrorKind::Misconfigured, "another host");
}

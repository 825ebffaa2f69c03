//! Servers that no real one can be made to be: silent, slow, of another kind, without TLS, with the certificate of
//! another host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::backend::{Backend, BackendError, ErrorKind, Leasing, Operation, StoreHandle};
use bursar_core::{BackendName, LeaseId, Secret, SecretPath, SystemClock};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that does something with each connection, and counts them. Stopped when dropped.
struct Odd {
    port: u16,
    connections: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Odd {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, mut server) = (Arc::clone(&connections), JoinSet::new());
        server.spawn(async move {
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::Relaxed);
                served.spawn(serve(stream));
            }
        });
        Self { port, connections, _server: server }
    }

    fn backend(&self, transport: Transport) -> PostgresBackend {
        PostgresBackend::new(config(self.port, transport), Arc::new(SystemClock)).expect("backend")
    }
}

fn config(port: u16, transport: Transport) -> PostgresConfig {
    PostgresConfig {
        name: BackendName::parse("pg").expect("name"),
        owner: "example.org/broker".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        database: "app".to_owned(),
        user: "bursar".to_owned(),
        password: Arc::new(Fixed),
        transport,
        connections: 2,
        timeout: Duration::from_millis(300),
        roles: BTreeMap::new(),
        scram_iterations: PostgresConfig::DEFAULT_SCRAM_ITERATIONS,
        standing: BTreeMap::new(),
    }
}

struct Fixed;

#[async_trait]
impl RootPassword for Fixed {
    async fn before(&self, back: usize) -> Result<Option<Kept>, BackendError> {
        let password = || Arc::new(Secret::from("root-canary-Vt5".to_owned()));
        Ok((back == 0).then(|| Kept { password: password(), version: None }))
    }
}

async fn met(server: &Odd, transport: Transport) -> ErrorKind {
    server.backend(transport).health().await.expect_err("a refusal").kind
}

#[tokio::test]
async fn a_server_that_takes_connections_and_answers_nothing_costs_one_timeout() {
    let silent = Odd::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let silent = silent.await;
    assert_eq!(met(&silent, Transport::Plaintext).await, ErrorKind::Timeout);
    assert_eq!(silent.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_drips_bytes_is_not_waited_for() {
    let dripping = Odd::start(|mut stream| async move {
        // The beginning of a message that is announced to be long.
        for byte in b"R\x00\x01\x00\x00".iter().cycle() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(met(&dripping.await, Transport::Plaintext).await, ErrorKind::Timeout);
}

#[tokio::test]
async fn a_server_of_another_kind_is_not_waited_for() {
    let web = Odd::start(|mut stream| async move {
        let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        drop(stream.write_all(page).await);
        std::future::pending::<()>().await;
    });
    let kind = met(&web.await, Transport::Plaintext).await;
    assert!(matches!(kind, ErrorKind::Malformed | ErrorKind::Timeout), "{kind:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_unavailable() {
    let closing = Odd::start(|stream| async move { drop(stream) }).await;
    assert_eq!(met(&closing, Transport::Plaintext).await, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_without_tls_is_not_given_a_login() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let plain = Odd::start(move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut request = [0; 8];
            drop(stream.read_exact(&mut request).await);
            drop(stream.write_all(b"N").await);
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest).await);
            drop(heard.send(rest));
        }
    });
    let (plain, tls) = (plain.await, Transport::Tls { ca_file: None });
    assert_eq!(met(&plain, tls).await, ErrorKind::Misconfigured);
    assert_eq!(hears.recv().await, Some(Vec::new()), "something was said in the clear");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_and_asked_for_seldom() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("certificate");
    let folder = tempfile::tempdir().expect("folder");
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, cert.pem()).expect("written");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("server");
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let other = Odd::start(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut request = [0; 8];
            drop(stream.read_exact(&mut request).await);
            drop(stream.write_all(b"S").await);
            drop(acceptor.accept(stream).await);
        }
    });
    let other = other.await;
    let backend = other.backend(Transport::Tls { ca_file: Some(ca_file) });
    for _ in 0..3 {
        let error = backend.health().await.expect_err("a refusal");
        assert_eq!((error.kind, error.operation), (ErrorKind::Misconfigured, Operation::Login));
    }
    assert_eq!(other.connections.load(Ordering::Relaxed), 1, "a refusal was asked for again at once");
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("folder");
    let ca_file = folder.path().join("ca.pem");
    let refusal = || {
        let transport = Transport::Tls { ca_file: Some(ca_file.clone()) };
        PostgresBackend::new(config(1, transport), Arc::new(SystemClock)).expect_err("a refusal")
    };
    assert!(matches!(refusal(), ConfigError::File { .. }));
    std::fs::write(&ca_file, "no certificate").expect("written");
    assert!(matches!(refusal(), ConfigError::NoCertificate { .. }));
}

#[tokio::test]
async fn what_is_not_ours_is_neither_renewed_nor_dropped_nor_asked_for() {
    let silent = Odd::start(|_| std::future::pending()).await;
    let backend = silent.backend(Transport::Plaintext);
    for name in ["postgres", "bursar", "bursar_app_aaaaaaaa_01arz3ndektsv4rrffq69g5fav"] {
        let handle = StoreHandle::new(name.to_owned());
        let (renewed, revoked) =
            (backend.renew(&handle, Duration::from_secs(1)).await, backend.revoke(&handle).await);
        assert_eq!(renewed.expect_err("a refusal").kind, ErrorKind::Misconfigured, "{name}");
        assert_eq!(revoked.expect_err("a refusal").kind, ErrorKind::Misconfigured, "{name}");
    }
    let path = SecretPath::from_store("creds/unknown").expect("path");
    let lease = LeaseId::from_bytes([1; 16]);
    let issued = backend.issue(&path, lease, Duration::from_secs(1)).await.err();
    assert_eq!(issued.map(|error| error.kind), Some(ErrorKind::NotFound));
    assert_eq!(silent.connections.load(Ordering::Relaxed), 0);
}

use bursar_core::Secret;
use bursar_core::tasks::Tasks;
use bursar_proto::v1::secrets_server::SecretsServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Certificate, Server, ServerTlsConfig};

use super::*;
use crate::fake::Fake;
use crate::{Client, Error, ReadOptions, Reference};

/// A certificate authority and what it issues.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
type Issued = (String, String);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("certificate");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, (from, until): (i32, i32)) -> Issued {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("name");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn trusted(&self, identity: Option<Issued>) -> Tls {
        let identity =
            identity.map(|(cert, key)| Identity { cert_pem: cert.into_bytes(), key_pem: Secret::from(key) });
        Tls { ca_pem: self.pem.clone().into_bytes(), identity, server_name: None }
    }
}

/// Serves by TLS, to those whose certificate is from `clients`.
async fn serve(server: Issued, clients: &Authority) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = format!("https://{}", listener.local_addr().expect("address"));
    let tls = ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(server.0, server.1))
        .client_ca_root(Certificate::from_pem(&clients.pem));
    let mut server = Server::builder().tls_config(tls).expect("server TLS");
    let server = server.add_service(SecretsServer::new(Fake::new(false)));
    drop(Tasks::new().finish(server.serve_with_incoming(TcpListenerStream::new(listener))));
    Address::parse(&address).expect("address")
}

/// One read, by a client that connects when it has to.
async fn read(address: &Address, tls: Option<&Tls>) -> Result<(), Error> {
    let client = Client::connect_lazy(address, tls)?.with_deadline(Duration::from_secs(30));
    let reference = Reference::parse("local/db").expect("reference");
    client.read(&reference, &ReadOptions::default()).await.map(drop)
}

/// Why one read found no connection.
async fn fault(address: &Address, tls: Option<&Tls>) -> ConnectError {
    match read(address, tls).await {
        Err(Error::Connect { source, .. }) => source,
        other => panic!("instead of a connection error: {other:?}"),
    }
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let authority = Authority::new();
    let address = serve(authority.issue("127.0.0.1", NOW), &authority).await;
    let tls = authority.trusted(Some(authority.issue("client", NOW)));
    read(&address, Some(&tls)).await.expect("read");
    channel(&address, Some(&tls)).await.expect("channel");
}

#[tokio::test]
async fn another_name_may_be_asked_for() {
    let authority = Authority::new();
    let address = serve(authority.issue("broker.example.org", NOW), &authority).await;
    let mut tls = authority.trusted(Some(authority.issue("client", NOW)));
    assert!(matches!(fault(&address, Some(&tls)).await, ConnectError::ServerOtherName));
    tls.server_name = Some("broker.example.org".to_owned());
    read(&address, Some(&tls)).await.expect("read");
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = serve(other.issue("127.0.0.1", NOW), &authority).await;
    let tls = authority.trusted(Some(authority.issue("client", NOW)));
    assert!(matches!(fault(&address, Some(&tls)).await, ConnectError::ServerUnknownAuthority));
    let eager = channel(&address, Some(&tls)).await;
    assert!(matches!(eager, Err(ConnectError::ServerUnknownAuthority)));
}

#[tokio::test]
async fn a_server_whose_certificate_has_expired_is_refused() {
    let authority = Authority::new();
    let address = serve(authority.issue("127.0.0.1", PAST), &authority).await;
    let tls = authority.trusted(Some(authority.issue("client", NOW)));
    assert!(matches!(fault(&address, Some(&tls)).await, ConnectError::ServerExpired));
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_valid_yet_is_refused() {
    let authority = Authority::new();
    let address = serve(authority.issue("127.0.0.1", FUTURE), &authority).await;
    let tls = authority.trusted(Some(authority.issue("client", NOW)));
    assert!(matches!(fault(&address, Some(&tls)).await, ConnectError::ServerNotYetValid));
}

#[tokio::test]
async fn a_refused_client_certificate_is_told_from_other_ends() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = serve(authority.issue("127.0.0.1", NOW), &authority).await;
    let cases = [
        (Some(authority.issue("client", PAST)), "CertificateExpired"),
        (Some(other.issue("client", NOW)), "DecryptError"),
        (None, "CertificateRequired"),
    ];
    for (identity, expected) in cases {
        // The alert races with the request; each order has to be told.
        for _ in 0..20 {
            let tls = authority.trusted(identity.clone());
            let fault = fault(&address, Some(&tls)).await;
            assert!(
                matches!(&fault, ConnectError::CertificateRefused { alert } if alert == expected),
                "instead of {expected}: {fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_agent_is_reached_by_its_socket() {
    let place = tempfile::tempdir().expect("directory");
    let path = place.path().join("agent.sock");
    let listener = UnixListener::bind(&path).expect("socket");
    let server = Server::builder().add_service(SecretsServer::new(Fake::new(false)));
    drop(Tasks::new().finish(server.serve_with_incoming(UnixListenerStream::new(listener))));
    read(&Address::unix(path), None).await.expect("read");
}

#[tokio::test]
async fn a_missing_socket_is_named() {
    let place = tempfile::tempdir().expect("directory");
    let path = place.path().join("agent.sock");
    let fault = fault(&Address::unix(&path), None).await;
    assert!(matches!(&fault, ConnectError::SocketMissing { path: named } if *named == path), "{fault:?}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = format!("https://{}", listener.local_addr().expect("address"));
    drop(listener);
    let tls = Authority::new().trusted(None);
    let fault = fault(&Address::parse(&address).expect("address"), Some(&tls)).await;
    assert!(matches!(fault, ConnectError::NobodyListens), "{fault:?}");
}

#[tokio::test]
async fn a_broker_is_not_reached_without_an_authority() {
    let address = Address::parse("https://127.0.0.1:1").expect("address");
    assert!(matches!(fault(&address, None).await, ConnectError::NoAuthority));
}

#[tokio::test]
async fn what_is_no_certificate_or_key_is_refused_before_connecting() {
    let authority = Authority::new();
    let address = Address::parse("https://127.0.0.1:1").expect("address");
    let (certificate, key) = authority.issue("client", NOW);
    let other_key = authority.issue("client", NOW).1;
    let faulty = |ca: &str, certificate: &str, key: &str| Tls {
        ca_pem: ca.into(),
        identity: Some(Identity { cert_pem: certificate.into(), key_pem: Secret::from(key.to_owned()) }),
        server_name: None,
    };
    let of = |tls: Tls| channel_lazy(&address, Some(&tls)).expect_err("refused");
    assert!(matches!(of(faulty("", &certificate, &key)), ConnectError::NoCertificate { .. }));
    assert!(matches!(of(faulty("hunter2", &certificate, &key)), ConnectError::NoCertificate { .. }));
    assert!(matches!(of(faulty(&authority.pem, &key, &key)), ConnectError::NoCertificate { .. }));
    assert!(matches!(of(faulty(&authority.pem, &certificate, &certificate)), ConnectError::NoKey));
    assert!(matches!(of(faulty(&authority.pem, &certificate, &other_key)), ConnectError::Identity(_)));
}

#[test]
fn formatting_an_identity_shows_no_key() {
    let tls = Authority::new().trusted(Some(("certificate".to_owned(), "hunter2".to_owned())));
    assert!(!format!("{tls:?}").contains("hunter2"));
}

const PAST: (i32, i32) = (2001, 2002);
const NOW: (i32, i32) = (2001, 2999);
const FUTURE: (i32, i32) = (2998, 2999);

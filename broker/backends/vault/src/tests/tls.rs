//! Addresses and certificates.

use std::sync::Arc;

use bursar_backend_http::testing::{Shown, certificate, each_certificate_has_its_kind};
use bursar_backend_http::{AddressError, SetupError};
use bursar_core::backend::{Backend, ErrorKind};
use bursar_core::clock::TestClock;

use super::fake::{backend, config, install_provider};
use crate::{ConfigError, VaultBackend, VaultConfig};

fn refusal(config: VaultConfig) -> ConfigError {
    install_provider();
    VaultBackend::new(config, Arc::new(TestClock::new())).expect_err("a refusal")
}

fn with_address(address: &str) -> VaultConfig {
    VaultConfig { allow_plaintext: false, ..config(address) }
}

#[tokio::test]
async fn plaintext_has_to_be_asked_for() {
    assert!(matches!(
        refusal(with_address("http://vault.example:8200")),
        ConfigError::Address(AddressError::Plaintext)
    ));
}

#[tokio::test]
async fn an_address_is_scheme_host_port_and_path() {
    for address in ["", "vault.example", "vault:8200", "ftp://vault.example", "https://", "unix:/run/v"] {
        assert!(
            matches!(refusal(with_address(address)), ConfigError::Address(AddressError::NotAUrl)),
            "`{address}`"
        );
    }
    for address in ["https://user:pw@vault.example", "https://u@v.example", "https://v/?a=b", "https://v/#f"]
    {
        let error = refusal(with_address(address));
        assert!(matches!(error, ConfigError::Address(AddressError::Extras)), "`{address}`");
        assert!(!format!("{error} {error:?}").contains("pw"));
    }
}

#[tokio::test]
async fn parameters_are_for_what_creates_credentials() {
    for path in ["kv/a", "elsewhere/creds/ro", "db//ro", ""] {
        let parameters = [(path.to_owned(), [].into())].into();
        let config = VaultConfig { parameters, ..config("http://127.0.0.1:1") };
        assert!(matches!(refusal(config), ConfigError::Parameters { .. }), "`{path}`");
    }
}

#[tokio::test]
async fn a_namespace_is_a_header() {
    for namespace in ["", "a b", "é", "a\r\nX-Vault-Token: t"] {
        let config = VaultConfig { namespace: Some(namespace.to_owned()), ..config("http://127.0.0.1:1") };
        assert!(matches!(refusal(config), ConfigError::Namespace { .. }), "`{}`", namespace.escape_debug());
    }
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("ca.pem");
    let with_file = || VaultConfig { ca_file: Some(file.clone()), ..with_address("https://127.0.0.1:1") };
    assert!(matches!(refusal(with_file()), ConfigError::Setup(SetupError::CaFile { .. })));
    std::fs::write(&file, "no certificate").expect("written");
    assert!(matches!(refusal(with_file()), ConfigError::Setup(SetupError::NoCertificate { .. })));
}

async fn kind(backend: &VaultBackend) -> ErrorKind {
    backend.health().await.expect_err("no HTTP behind it").kind
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_fault_of_the_configuration() {
    each_certificate_has_its_kind(async |address, ca_file| {
        kind(&backend(VaultConfig { ca_file: Some(ca_file), ..with_address(&address) })).await
    })
    .await;
}

#[tokio::test]
async fn an_authority_that_was_replaced_is_trusted_from_the_first_certificate_on() {
    let (old, new) = (certificate("127.0.0.1"), certificate("127.0.0.1"));
    let dir = tempfile::tempdir().expect("directory");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, old.cert.pem()).expect("written");
    let (old_pem, new_pem) = (old.cert.pem(), new.cert.pem());
    let server = Shown::start(old).await;
    let backend = backend(VaultConfig { ca_file: Some(ca_file.clone()), ..with_address(&server.address) });
    assert_eq!(kind(&backend).await, ErrorKind::Unavailable, "trusted, then closed");

    server.show(new);
    assert_eq!(kind(&backend).await, ErrorKind::Misconfigured, "nobody has told of the new one");
    std::fs::write(&ca_file, "half of a fi").expect("written");
    assert_eq!(kind(&backend).await, ErrorKind::Misconfigured, "a file that is being written");
    std::fs::write(&ca_file, format!("{old_pem}{new_pem}")).expect("written");
    assert_eq!(kind(&backend).await, ErrorKind::Unavailable, "trusted, then closed");
}

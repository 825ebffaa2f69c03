//! Certificates and endpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing::each_certificate_has_its_kind;
use bursar_backend_http::{AddressError, SetupError};
use bursar_core::backend::Backend;
use bursar_core::clock::TestClock;

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

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_fault_of_the_configuration() {
    each_certificate_has_its_kind(async |address, ca_file| {
        let backend = backend(with_ca(&address, Some(ca_file)));
        backend.read(&path("db"), None).await.err().expect("no HTTP behind it").kind
    })
    .await;
}

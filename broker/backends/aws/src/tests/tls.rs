//! Certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing::each_certificate_has_its_kind;
use bursar_backend_http::{AddressError, SetupError};
use bursar_core::backend::Backend;
use bursar_core::clock::TestClock;

use super::fake::{backend, config, install_provider, path};
use crate::{AwsBackend, AwsConfig, ConfigError};

fn with_ca(address: &str, ca_file: Option<PathBuf>) -> AwsConfig {
    AwsConfig { allow_plaintext: false, ca_file, ..config(address) }
}

fn refusal(config: AwsConfig) -> ConfigError {
    install_provider();
    AwsBackend::new(config, Arc::new(TestClock::new())).expect_err("a refusal")
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("ca.pem");
    let made = || refusal(with_ca("https://127.0.0.1:1", Some(file.clone())));
    assert!(matches!(made(), ConfigError::Setup(SetupError::CaFile { .. })));
    for bad in ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, bad).expect("written");
        let ConfigError::Setup(error) = made() else { panic!("{bad}") };
        assert!(matches!(error, SetupError::NoCertificate { .. } | SetupError::Client { .. }), "{bad}");
    }
}

#[tokio::test]
async fn no_time_is_no_timeout() {
    let config = AwsConfig { timeout: Duration::ZERO, ..config("https://127.0.0.1:1") };
    assert!(matches!(refusal(config), ConfigError::ZeroTimeout));
}

#[tokio::test]
async fn an_endpoint_is_scheme_host_and_port() {
    let refused = |endpoint: &str| {
        let sts = AwsConfig { endpoint: None, ..with_ca(endpoint, None) };
        let [one, other] = [refusal(with_ca(endpoint, None)), refusal(sts)].map(|error| error.to_string());
        assert_eq!(one, other);
        refusal(with_ca(endpoint, None))
    };
    assert!(matches!(refused("http://127.0.0.1:1"), ConfigError::Endpoint(AddressError::Plaintext)));
    for endpoint in ["", "aws.example", "ftp://aws.example", "https://"] {
        assert!(matches!(refused(endpoint), ConfigError::Endpoint(AddressError::NotAUrl)), "`{endpoint}`");
    }
    assert!(matches!(refused("https://a/b"), ConfigError::EndpointWithPath));
    for endpoint in ["https://u:pw@a.example", "https://a/?b", "https://a/#b"] {
        let error = refused(endpoint);
        assert!(matches!(error, ConfigError::Endpoint(AddressError::Extras)), "`{endpoint}`");
        assert!(!format!("{error} {error:?}").contains("pw"));
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_fault_of_the_configuration() {
    each_certificate_has_its_kind(async |address, ca_file| {
        let backend = backend(with_ca(&address, Some(ca_file)));
        backend.read(&path("db"), None).await.err().expect("no HTTP behind it").kind
    })
    .await;
}

//! Configurations that can never work, and certificates.

use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::SetupError;
use bursar_core::backend::{Backend, ErrorKind, Operation};
use bursar_core::clock::TestClock;

use super::fake::{Fake, backend, install_provider, path};
use crate::{AzureBackend, AzureConfig, ConfigError, Credentials};

fn refusal(config: AzureConfig) -> ConfigError {
    install_provider();
    AzureBackend::new(config, Arc::new(TestClock::new())).expect_err("a refusal")
}

#[tokio::test]
async fn what_can_never_work_is_refused_at_the_start() {
    let fake = Fake::start(|_| None).await;
    let with = |change: fn(&mut AzureConfig)| {
        let mut config = fake.config();
        change(&mut config);
        refusal(config)
    };
    assert!(matches!(with(|config| config.timeout = Duration::ZERO), ConfigError::ZeroTimeout));
    assert!(matches!(with(|config| config.resource = None), ConfigError::NoResource));
    assert!(matches!(
        with(|config| config.vault = "v".to_owned()),
        ConfigError::Address { key: "vault", .. }
    ));
    assert!(matches!(
        with(|config| config.ca_file = Some("/nonexistent".into())),
        ConfigError::Setup(SetupError::CaFile { .. })
    ));
    let plain = with(|config| {
        let endpoint = Some("http://identity.example".to_owned());
        config.credentials = Credentials::ManagedIdentity { client_id: None, endpoint };
    });
    assert!(matches!(plain, ConfigError::PlaintextIdentity));
    assert_eq!(fake.calls().len(), 0);
}

/// What a read of the vault of `shown` ends in, by who trusts the certificate of `trusted`.
async fn read_at(shown: &Fake, trusted: &Fake) -> (ErrorKind, Operation) {
    let config = AzureConfig { vault: shown.address.clone(), ..trusted.config() };
    let error = backend(config).read(&path("db"), None).await.err().expect("no such secret");
    (error.kind, error.operation)
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_fault_of_the_configuration() {
    let (fake, other) = (Fake::start(|_| None).await, Fake::start(|_| None).await);
    assert_eq!(read_at(&fake, &fake).await, (ErrorKind::NotFound, Operation::Read));
    assert_eq!(
        read_at(&other, &fake).await,
        (ErrorKind::Misconfigured, Operation::Read),
        "another authority"
    );
    assert_eq!(other.calls().len(), 0);

    let elsewhere = Fake::start_as("elsewhere.example", |_| None).await;
    let config = AzureConfig { ca_file: Some(elsewhere.ca_file()), ..elsewhere.config() };
    let error = backend(config).read(&path("db"), None).await.err().expect("another host");
    assert_eq!((error.kind, error.operation), (ErrorKind::Misconfigured, Operation::Login));
    assert_eq!(elsewhere.calls().len(), 0, "the client's secret was shown to somebody else");
}

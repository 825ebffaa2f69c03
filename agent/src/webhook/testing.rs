//! What tests of the webhook begin with.

use crate::config::{Injection, WebhookConfig};

use super::Settings;

/// That of the least configuration.
pub(crate) fn injection() -> Injection {
    config().injection
}

pub(crate) fn settings() -> Settings {
    Settings { injection: injection(), trust_bundle: TRUST_BUNDLE.to_owned() }
}

pub(crate) fn config() -> WebhookConfig {
    WebhookConfig::parse(LEAST).expect("a good configuration")
}

const LEAST: &str = "image = 'registry.example.org/bursar:0.1.0'\nbroker = 'https://broker.bursar.svc:8443'\nca_file = 'ca.pem'\n\
                     [certificate]\ncert = 'tls.crt'\nkey = 'tls.key'\n";
const TRUST_BUNDLE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

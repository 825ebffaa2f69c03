//! Opens AWS.

use std::sync::Arc;

use bursar_backend_aws::{AwsBackend, AwsConfig, Credentials, Revocation, Role};
use bursar_core::{BackendName, Clock};

use super::reader::{reader, token_reader};
use super::{Opened, fault};
use crate::config::{AwsCredentials, AwsRole, AwsSettings};
use crate::start::StartError;

pub(super) fn open(
    name: &BackendName,
    settings: &AwsSettings,
    origin: &str,
    clock: Arc<dyn Clock>,
) -> Result<Opened, StartError> {
    let credentials = match &settings.credentials {
        AwsCredentials::Chain => Credentials::Chain,
        AwsCredentials::Keys { access_key_id, secret_access_key, session_token } => Credentials::Keys {
            access_key_id: access_key_id.clone(),
            secret_access_key: reader(secret_access_key),
            session_token: session_token.as_ref().map(reader),
        },
        AwsCredentials::WebIdentity { role, token } => {
            Credentials::WebIdentity { role: role.clone(), token: token_reader(token) }
        }
    };
    let config = AwsConfig {
        name: name.clone(),
        owner: origin.to_owned(),
        region: settings.region.clone(),
        endpoint: settings.endpoint.clone(),
        sts_endpoint: settings.sts_endpoint.clone(),
        kms_endpoint: settings.kms_endpoint.clone(),
        iam_endpoint: settings.iam_endpoint.clone(),
        allow_plaintext: settings.allow_plaintext,
        ca_file: settings.ca_file.clone(),
        timeout: settings.timeout,
        prefix: settings.prefix.clone(),
        credentials,
        assume_role: settings.assume_role.clone(),
        roles: settings.roles.iter().map(|(name, settings)| (name.clone(), role(settings))).collect(),
    };
    let backend = AwsBackend::new(config, clock).map_err(|error| fault(name, &error))?;
    Ok(Opened { backend: Arc::new(backend), upkeep: None })
}

fn role(settings: &AwsRole) -> Role {
    Role {
        arn: settings.arn.clone(),
        ttl: settings.ttl,
        external_id: settings.external_id.clone(),
        policy: settings.policy.clone(),
        session_tags: settings.session_tags.clone(),
        revoke: if settings.deny { Revocation::Deny } else { Revocation::AtEnd },
    }
}

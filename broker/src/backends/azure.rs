//! Opens an Azure Key Vault.

use std::path::PathBuf;
use std::sync::Arc;

use bursar_backend_azure::{AzureBackend, AzureConfig, Credentials, Proof};
use bursar_core::settings::SecretSource;
use bursar_core::{BackendName, Clock};

use super::reader::{reader, token_reader};
use super::{Opened, fault};
use crate::config::{AzureCredentials, AzureProof, AzureSettings};
use crate::source::{SourceError, variable};
use crate::start::StartError;

pub(super) fn open(
    name: &BackendName,
    settings: &AzureSettings,
    clock: Arc<dyn Clock>,
) -> Result<Opened, StartError> {
    let credentials = match &settings.credentials {
        AzureCredentials::Surroundings => surroundings().map_err(|error| fault(name, &error))?,
        AzureCredentials::Application { authority, tenant, client_id, proof } => Credentials::Application {
            authority: authority.clone(),
            tenant: tenant.clone(),
            client_id: client_id.clone(),
            proof: match proof {
                AzureProof::ClientSecret(secret) => Proof::ClientSecret(reader(secret)),
                AzureProof::Certificate(pem) => Proof::Certificate(reader(pem)),
                AzureProof::FederatedToken(token) => Proof::FederatedToken(token_reader(token)),
            },
        },
        AzureCredentials::ManagedIdentity { client_id, endpoint } => {
            Credentials::ManagedIdentity { client_id: client_id.clone(), endpoint: endpoint.clone() }
        }
    };
    let config = AzureConfig {
        name: name.clone(),
        vault: settings.vault.clone(),
        resource: settings.resource.clone(),
        ca_file: settings.ca_file.clone(),
        timeout: settings.timeout,
        prefix: settings.prefix.clone(),
        separator: settings.separator.clone(),
        credentials,
    };
    let backend = AzureBackend::new(config, clock).map_err(|error| fault(name, &error))?;
    Ok(Opened { backend: Arc::new(backend), upkeep: None })
}

/// What a cluster tells its pods of their identity, else what a platform tells its apps, else the machine's. Half of the
/// first is a fault: the machine's would be somebody else.
fn surroundings() -> Result<Credentials, SourceError> {
    let Ok(token) = variable("AZURE_FEDERATED_TOKEN_FILE") else {
        let client_id = variable("AZURE_CLIENT_ID").ok();
        // Both are an app's; a machine of Azure Arc has the former alone, and Service Fabric a third.
        let of_app = variable(APP_HEADER).is_ok() && variable("IDENTITY_SERVER_THUMBPRINT").is_err();
        return Ok(match variable("IDENTITY_ENDPOINT") {
            Ok(endpoint) if of_app => {
                let header = reader(&SecretSource::Env(APP_HEADER.to_owned()));
                Credentials::AppIdentity { client_id, endpoint, header }
            }
            _ => Credentials::ManagedIdentity { client_id, endpoint: None },
        });
    };
    Ok(Credentials::Application {
        authority: variable("AZURE_AUTHORITY_HOST").ok(),
        tenant: variable("AZURE_TENANT_ID")?,
        client_id: variable("AZURE_CLIENT_ID")?,
        proof: Proof::FederatedToken(token_reader(&SecretSource::File(PathBuf::from(token)))),
    })
}

const APP_HEADER: &str = "IDENTITY_HEADER";

//! Opens a Vault or OpenBao.

use std::sync::Arc;

use bursar_backend_vault::{Auth, Credential, MountKind, VaultBackend, VaultConfig};
use bursar_core::{BackendName, Clock};

use super::reader::{reader, token_reader};
use super::{Opened, fault};
use crate::config::{VaultAuth, VaultCredential, VaultMount, VaultSettings};
use crate::start::StartError;

pub(super) fn open(
    name: &BackendName,
    settings: &VaultSettings,
    clock: Arc<dyn Clock>,
) -> Result<Opened, StartError> {
    let auth = match &settings.auth {
        VaultAuth::AppRole { mount, role_id, secret_id } => {
            Auth::AppRole { mount: mount.clone(), role_id: role_id.clone(), secret_id: credential(secret_id) }
        }
        VaultAuth::Certificate { mount, role, certificate, key } => Auth::Certificate {
            mount: mount.clone(),
            role: role.clone(),
            certificate: certificate.clone(),
            key: reader(key),
        },
        VaultAuth::Jwt { mount, role, jwt } => {
            Auth::Jwt { mount: mount.clone(), role: role.clone(), jwt: token_reader(jwt) }
        }
        VaultAuth::Token(token) => Auth::Token(credential(token)),
    };
    let kind = |mount: &VaultMount| match mount {
        VaultMount::KvV1 => MountKind::KvV1,
        VaultMount::KvV2 => MountKind::KvV2,
        VaultMount::Leased => MountKind::Leased,
        VaultMount::Pki => MountKind::Pki,
    };
    let config = VaultConfig {
        name: name.clone(),
        addresses: settings.addresses.clone(),
        allow_plaintext: settings.allow_plaintext,
        namespace: settings.namespace.clone(),
        auth,
        mounts: settings.mounts.iter().map(|(path, mount)| (path.clone(), kind(mount))).collect(),
        parameters: settings.parameters.clone(),
        ca_file: settings.ca_file.clone(),
        timeout: settings.timeout,
    };
    let backend = Arc::new(VaultBackend::new(config, clock).map_err(|error| fault(name, &error))?);
    let kept = Arc::clone(&backend);
    Ok(Opened { backend, upkeep: Some(Box::new(|_| Box::pin(async move { kept.keep_alive().await }))) })
}

fn credential(given: &VaultCredential) -> Credential {
    let wrapping_path = given.wrapping_path.clone();
    Credential { reader: reader(&given.source), wrapping_path }
}

//! Opens the configured stores: the only place that knows which kinds there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bursar_backend_local::{LocalBackend, LocalConfig};
use bursar_core::backend::Backend;
use bursar_core::{BackendName, Clock, SpiffeId};

use crate::config::{BackendConfig, BackendKind};
use crate::ledger::Ledger;
use crate::mounts::{Mount, Mounts};
use crate::seal::Seal;
use crate::start::StartError;

/// A store that is open.
pub struct Opened {
    pub backend: Arc<dyn Backend>,
    /// What has to run as long as the store is used, such as the renewal of the broker's login.
    pub upkeep: Option<Upkeep>,
}

/// Work in the background that a store needs, once all stores are mounted.
pub type Upkeep = Box<dyn FnOnce(Surroundings) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What that work has around it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub mounts: Arc<Mounts>,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    /// The broker's own name.
    pub broker: SpiffeId,
}

/// What stores are opened with.
#[derive(Debug)]
pub struct Ground<'a> {
    pub data_dir: &'a Path,
    pub seal: &'a Seal,
    pub clock: &'a Arc<dyn Clock>,
    /// Tells this broker from every other.
    pub origin: &'a str,
    /// The stores that are open already, and may keep what this one needs.
    pub opened: &'a BTreeMap<BackendName, Arc<Mount>>,
}

/// Those that keep a password of another's come first.
pub fn in_order(backends: &[BackendConfig]) -> Vec<&BackendConfig> {
    let mut ordered: Vec<_> = backends.iter().collect();
    ordered.sort_by_key(|backend| !matches!(backend.kind, BackendKind::Local { .. } | BackendKind::Vault(_)));
    ordered
}

/// Opens one store.
///
/// # Errors
/// [`StartError::Backend`], which names it.
pub fn open(config: &BackendConfig, ground: &Ground<'_>) -> Result<Opened, StartError> {
    let Ground { data_dir, seal, clock, .. } = ground;
    match &config.kind {
        BackendKind::Local { max_versions } => {
            let key = seal.key_for(&format!("local store {}", config.name))?;
            let opened = LocalBackend::open(LocalConfig {
                name: config.name.clone(),
                path: data_dir.join(format!("{}.store.db", config.name)),
                clock: Arc::clone(clock),
                key,
                max_versions: *max_versions,
            });
            let backend = opened.map_err(|error| fault(&config.name, &error))?;
            Ok(Opened { backend: Arc::new(backend), upkeep: None })
        }
        #[cfg(feature = "postgres")]
        BackendKind::Postgres(settings) => postgres::open(&config.name, settings, ground),
        #[cfg(feature = "vault")]
        BackendKind::Vault(settings) => vault::open(&config.name, settings, Arc::clone(clock)),
        #[cfg(not(feature = "vault"))]
        BackendKind::Vault(_) => Err(StartError::Backend {
            name: config.name.clone(),
            message: "this broker was built without the feature `vault`".to_owned(),
        }),
    }
}

#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "vault")]
mod vault {
    use std::io;
    use std::sync::Arc;

    use bursar_backend_vault::{Auth, MountKind, SecretReader, VaultBackend, VaultConfig};
    use bursar_core::settings::SecretSource;

    use bursar_core::{BackendName, Clock};

    use super::{Opened, fault};
    use crate::config::{VaultAuth, VaultMount, VaultSettings};
    use crate::source;
    use crate::start::StartError;

    pub(super) fn open(
        name: &BackendName,
        settings: &VaultSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Opened, StartError> {
        let auth = match &settings.auth {
            VaultAuth::AppRole { mount, role_id, secret_id } => Auth::AppRole {
                mount: mount.clone(),
                role_id: role_id.clone(),
                secret_id: reader(secret_id.clone()),
            },
            VaultAuth::Certificate { mount, role, certificate, key } => Auth::Certificate {
                mount: mount.clone(),
                role: role.clone(),
                certificate: certificate.clone(),
                key: reader(key.clone()),
            },
            VaultAuth::Jwt { mount, role, jwt } => {
                Auth::Jwt { mount: mount.clone(), role: role.clone(), jwt: token_reader(jwt.clone()) }
            }
            VaultAuth::Token(token) => Auth::Token(reader(token.clone())),
        };
        let kind = |mount: &VaultMount| match mount {
            VaultMount::KvV1 => MountKind::KvV1,
            VaultMount::KvV2 => MountKind::KvV2,
            VaultMount::Leased => MountKind::Leased,
        };
        let config = VaultConfig {
            name: name.clone(),
            address: settings.address.clone(),
            allow_plaintext: settings.allow_plaintext,
            namespace: settings.namespace.clone(),
            auth,
            mounts: settings.mounts.iter().map(|(path, mount)| (path.clone(), kind(mount))).collect(),
            ca_file: settings.ca_file.clone(),
            timeout: settings.timeout,
        };
        let backend = Arc::new(VaultBackend::new(config, clock).map_err(|error| fault(name, &error))?);
        let kept = Arc::clone(&backend);
        Ok(Opened { backend, upkeep: Some(Box::new(|_| Box::pin(async move { kept.keep_alive().await }))) })
    }

    fn token_reader(source: SecretSource) -> SecretReader {
        SecretReader::new(&source.to_string(), move || source::fetch_token(&source).map_err(io::Error::other))
    }

    fn reader(source: SecretSource) -> SecretReader {
        SecretReader::new(&source.to_string(), move || source::fetch(&source).map_err(io::Error::other))
    }
}

fn fault(name: &BackendName, error: &dyn std::error::Error) -> StartError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        message.push_str(&format!(": {next}"));
        cause = next.source();
    }
    StartError::Backend { name: name.clone(), message }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("upkeep", &self.upkeep.is_some()).finish_non_exhaustive()
    }
}

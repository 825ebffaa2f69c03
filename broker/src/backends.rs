//! Opens the configured stores: the only place that knows which kinds there are.

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcp")]
mod gcp;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp", feature = "vault"))]
mod reader;
#[cfg(feature = "vault")]
mod vault;

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bursar_backend_local::{LocalBackend, LocalConfig};
use bursar_core::backend::Backend;
use bursar_core::{BackendName, Clock, Explained, SpiffeId};

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

/// Those whose own password another may keep come last.
pub fn in_order(backends: &[BackendConfig]) -> Vec<&BackendConfig> {
    #[cfg(feature = "postgres")]
    let is_kept = |backend: &&BackendConfig| matches!(backend.kind, BackendKind::Postgres(_));
    #[cfg(not(feature = "postgres"))]
    let is_kept = |_: &&BackendConfig| false;
    let (last, first): (Vec<_>, Vec<_>) = backends.iter().partition(is_kept);
    [first, last].concat()
}

/// Opens one store.
///
/// # Errors
/// [`StartError::Backend`], which names it.
pub fn open(config: &BackendConfig, ground: &Ground<'_>) -> Result<Opened, StartError> {
    let Ground { data_dir, seal, clock, .. } = ground;
    match &config.kind {
        BackendKind::Local { max_versions } => {
            let purpose = format!("local store {}", config.name);
            let (key, previous) = (seal.key_for(&purpose)?, seal.previous_key_for(&purpose)?);
            let opened = LocalBackend::open(LocalConfig {
                name: config.name.clone(),
                path: data_dir.join(format!("{}.store.db", config.name)),
                clock: Arc::clone(clock),
                key,
                previous,
                max_versions: *max_versions,
            });
            let backend = opened.map_err(|error| fault(&config.name, &error))?;
            Ok(Opened { backend: Arc::new(backend), upkeep: None })
        }
        #[cfg(feature = "aws")]
        BackendKind::Aws(settings) => aws::open(&config.name, settings, ground.origin, Arc::clone(clock)),
        #[cfg(not(feature = "aws"))]
        BackendKind::Aws(_) => Err(left_out(&config.name, "aws")),
        #[cfg(feature = "azure")]
        BackendKind::Azure(settings) => azure::open(&config.name, settings, Arc::clone(clock)),
        #[cfg(not(feature = "azure"))]
        BackendKind::Azure(_) => Err(left_out(&config.name, "azure")),
        #[cfg(feature = "gcp")]
        BackendKind::Gcp(settings) => gcp::open(&config.name, settings, Arc::clone(clock)),
        #[cfg(not(feature = "gcp"))]
        BackendKind::Gcp(_) => Err(left_out(&config.name, "gcp")),
        #[cfg(feature = "postgres")]
        BackendKind::Postgres(settings) => postgres::open(&config.name, settings, ground),
        #[cfg(feature = "vault")]
        BackendKind::Vault(settings) => vault::open(&config.name, settings, Arc::clone(clock)),
        #[cfg(not(feature = "vault"))]
        BackendKind::Vault(_) => Err(left_out(&config.name, "vault")),
    }
}

/// Opens one of the stores that need no seal, before there is one.
///
/// # Errors
/// As [`open`].
#[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "what is built in needs less"))]
pub fn open_unsealed(
    config: &BackendConfig,
    origin: &str,
    clock: &Arc<dyn Clock>,
) -> Result<Opened, StartError> {
    match &config.kind {
        #[cfg(feature = "aws")]
        BackendKind::Aws(settings) => aws::open(&config.name, settings, origin, Arc::clone(clock)),
        #[cfg(feature = "vault")]
        BackendKind::Vault(settings) => vault::open(&config.name, settings, Arc::clone(clock)),
        _ => {
            let message = "it has no keys, or this broker was built without its feature".to_owned();
            Err(StartError::Backend { name: config.name.clone(), message })
        }
    }
}

/// The crates that no log may be seen of, since they write down what stores answer.
pub fn silenced() -> &'static [&'static str] {
    #[cfg(feature = "aws")]
    let silenced = bursar_backend_aws::SILENCED;
    #[cfg(not(feature = "aws"))]
    let silenced = &[];
    silenced
}

#[cfg(not(all(feature = "aws", feature = "azure", feature = "gcp", feature = "vault")))]
fn left_out(name: &BackendName, feature: &str) -> StartError {
    let message = format!("this broker was built without the feature `{feature}`");
    StartError::Backend { name: name.clone(), message }
}

fn fault(name: &BackendName, error: &(dyn std::error::Error + 'static)) -> StartError {
    StartError::Backend { name: name.clone(), message: Explained(error).to_string() }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("upkeep", &self.upkeep.is_some()).finish_non_exhaustive()
    }
}

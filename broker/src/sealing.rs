//! The seal key, from where the configuration says that it is: out of a source as it stands, or wrapped there by a key
//! of a store that never leaves it.
//!
//! A key that is wrapped is bound to the name of the broker's log, so one that was made for another broker does not open
//! under its name. The stores that unwrap it are opened before everything else, and once: logins may be good for one use.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_core::backend::Wrapping;
use bursar_core::settings::SecretSource;
use bursar_core::{BackendName, Clock, Secret};
use ring::rand::SystemRandom;

use crate::backends::{self, Opened};
use crate::config::{Config, KeyPlace, SealKey};
use crate::init::directory;
use crate::seal::{Seal, SealError};
use crate::source;
use crate::start::{StartError, origin};

/// The seal, with the stores that had to be opened for it.
#[derive(Debug)]
pub struct Sealing {
    pub seal: Seal,
    pub stores: BTreeMap<BackendName, Opened>,
}

/// Opens the seal, and what came before it where the configuration names that.
///
/// # Errors
/// [`StartError`], which names the source, or the store and its key.
pub async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Sealing, StartError> {
    let mut stores = Stores { config, clock, opened: BTreeMap::new() };
    let mut seal = Seal::from_key(&stores.key(&config.seal.key).await?)?;
    if let Some(previous) = &config.seal.previous {
        seal = seal.after(Seal::from_key(&stores.key(previous).await?)?);
    }
    Ok(Sealing { seal, stores: stores.opened })
}

/// Makes a seal key where its source is a file that is not there; answers which.
///
/// # Errors
/// [`StartError`].
pub async fn make(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<PathBuf>, StartError> {
    let SealKey { source, wrapped_by } = &config.seal.key;
    let SecretSource::File(path) = source else { return Ok(None) };
    if path.exists() {
        return Ok(None);
    }
    let key = Seal::generate_key(&SystemRandom::new())?;
    let kept = match wrapped_by {
        None => key,
        Some(place) => {
            let mut stores = Stores { config, clock, opened: BTreeMap::new() };
            let wrapped = stores.wrapping(place)?.wrap_key(&place.key, &key, &origin(config)).await;
            Secret::from(wrapped.map_err(|source| StartError::SealStore { place: place.clone(), source })?)
        }
    };
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    write(path, &kept).map_err(|source| StartError::File { path: path.clone(), source })?;
    Ok(Some(path.clone()))
}

struct Stores<'a> {
    config: &'a Config,
    clock: &'a Arc<dyn Clock>,
    opened: BTreeMap<BackendName, Opened>,
}

impl Stores<'_> {
    /// The key in clear.
    async fn key(&mut self, key: &SealKey) -> Result<Secret, StartError> {
        let Some(place) = &key.wrapped_by else { return Ok(source::fetch(&key.source)?) };
        let wrapped = source::fetch_token(&key.source)?;
        let wrapped = str::from_utf8(wrapped.expose()).map_err(|_| SealError::WrappedForm)?;
        let context = origin(self.config);
        let key = self.wrapping(place)?.unwrap_key(&place.key, wrapped.trim(), &context).await;
        key.map_err(|source| StartError::SealStore { place: place.clone(), source })
    }

    fn wrapping(&mut self, place: &KeyPlace) -> Result<&dyn Wrapping, StartError> {
        let fault =
            |message: &str| StartError::Backend { name: place.backend.clone(), message: message.to_owned() };
        if !self.opened.contains_key(&place.backend) {
            let configured = self.config.backends.iter().find(|backend| backend.name == place.backend);
            let configured = configured.ok_or_else(|| fault("there is no such backend"))?;
            let opened = backends::open_unsealed(configured, &origin(self.config), self.clock)?;
            self.opened.insert(place.backend.clone(), opened);
        }
        let opened = self.opened.get(&place.backend);
        opened.and_then(|opened| opened.backend.wrapping()).ok_or_else(|| fault("it has no keys"))
    }
}

/// Under its name at once and whole: a key that is half there would be taken for one that is there.
fn write(path: &Path, key: &Secret) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(key.expose())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // Refuses where somebody else has made one meanwhile.
    std::fs::hard_link(&new, path)?;
    std::fs::remove_file(&new)
}

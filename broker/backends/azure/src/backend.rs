//! The contract of a backend, kept by Key Vault.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_backend_http::{Authorities, Plaintext, SetupError, client};
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, FlatNames, Labels, Operation, Session,
    VersionInfo,
};
use bursar_core::{Clock, SecretPath, Version};

use crate::access::Access;
use crate::address::{LONGEST_PAGE, Vault};
use crate::call::Caller;
use crate::config::{AzureConfig, ConfigError};
use crate::listing::{Item, Page, newest_first};
use crate::name::{Id, Names, is_version};
use crate::value::{self, Asked, Unfit};

/// The secrets of one vault.
pub struct AzureBackend {
    pub(crate) caller: Caller,
    pub(crate) vault: Vault,
    names: Names,
    clock: Arc<dyn Clock>,
}

impl AzureBackend {
    /// Checks the configuration and reads its CA file. Calls nothing: Azure may be out of reach when the broker starts.
    ///
    /// # Errors
    /// [`ConfigError`], for configurations that can never work.
    pub fn new(config: AzureConfig, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        if config.timeout.is_zero() {
            return Err(ConfigError::ZeroTimeout);
        }
        let vault = Vault::new(&config.vault)?;
        let resource = config.resource.or_else(|| vault.resource()).ok_or(ConfigError::NoResource)?;
        let trusted = config.ca_file.as_deref().map(Authorities::read).transpose()?;
        let (name, credentials) = (config.name.clone(), config.credentials);
        let access = Access::new(name, Arc::clone(&clock), credentials, &resource, &vault, trusted.as_ref())?;
        let http = client(trusted.as_ref(), Plaintext::Refused)?.build().map_err(SetupError::from)?;
        let session = Session::new(config.name.clone(), access, config.timeout);
        let caller = Caller::new(config.name, http, session, config.timeout);
        let names = Names(FlatNames { prefix: config.prefix, separator: config.separator });
        Ok(Self { caller, vault, names, clock })
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        BackendError::new(kind, &self.caller.backend, operation)
    }

    /// Newest first.
    async fn all_versions(&self, path: &SecretPath, operation: Operation) -> Result<Vec<Item>, BackendError> {
        let name = self.name(path, operation)?;
        let versions = self.listed(operation, self.vault.versions(&name), Some).await?;
        if versions.is_empty() {
            // Key Vault may say of a secret that is not there that it has no versions.
            return Err(self.error(ErrorKind::NotFound, operation));
        }
        Ok(newest_first(versions))
    }

    fn name(&self, path: &SecretPath, operation: Operation) -> Result<String, BackendError> {
        self.names.of(path).ok_or_else(|| self.error(ErrorKind::NotFound, operation))
    }
}

#[async_trait]
impl Backend for AzureBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "azure", versions: true, list: true, leasing: false, writing: false }
    }

    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let name = self.name(path, Operation::Read)?;
        if version.is_some_and(|version| !is_version(version)) {
            return Err(self.error(ErrorKind::NotFound, Operation::Read));
        }
        let url = self.vault.secret(&name, version.map(Version::as_str));
        let body = self.caller.ask(Operation::Read, &url).await?;
        let asked = Asked { name: &name, version };
        value::fetched(body.bytes(), asked, self.clock.now()).map_err(|unfit| match unfit {
            Unfit::Malformed => self.error(ErrorKind::Malformed, Operation::Read),
            Unfit::Withheld(reason) => {
                tracing::info!(backend = %self.caller.backend, reason, "a secret is withheld");
                self.error(ErrorKind::NotFound, Operation::Read)
            }
        })
    }

    /// All is read, 25 at a time, whatever is asked for: Key Vault neither knows folders nor lists in the order of names.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError> {
        let above = match folder {
            // There is nothing that could lie in it.
            Some(_) if self.names.0.separator.is_none() => return Ok(Vec::new()),
            Some(folder) => format!("{}/", folder.as_str()),
            None => String::new(),
        };
        let path = |item: Item| self.names.path(Id::parse(&item.id)?.name);
        let paths = self.listed(Operation::List, self.vault.secrets(LONGEST_PAGE), path).await?;
        let entries: BTreeSet<_> =
            paths.iter().filter_map(|path| Some(entry(path.as_str().strip_prefix(&above)?))).collect();
        let later = entries.into_iter().filter(|entry| after.is_none_or(|after| entry.as_str() > after));
        Ok(later.take(limit).collect())
    }

    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        let (versions, now) = (self.all_versions(path, Operation::Versions).await?, self.clock.now());
        Ok(versions.iter().filter_map(|version| version.info(now)).collect())
    }

    /// The tags of the newest version. Read with the versions, since the value would come with it alone.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn labels(&self, path: &SecretPath) -> Result<Labels, BackendError> {
        let versions = self.all_versions(path, Operation::Labels).await?;
        Ok(versions.into_iter().next().and_then(|newest| newest.tags).unwrap_or_default())
    }

    /// A broker that may not list is told so by the vault, which then has been reached and has taken its token. Where the
    /// last call was answered a moment ago nothing is asked.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn health(&self) -> Result<(), BackendError> {
        if self.caller.was_well() {
            return Ok(());
        }
        match self.caller.make(Operation::Health, &self.vault.secrets(1)).await {
            Ok(body) => Page::parse(&self.caller.backend, Operation::Health, body.bytes()).map(drop),
            Err(refusal) if refusal.is_of_rights() => Ok(()),
            Err(refusal) => Err(refusal.error),
        }
    }
}

/// The entry of a folder that `rest` of a path lies in or is.
fn entry(rest: &str) -> String {
    match rest.split_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => rest.to_owned(),
    }
}

impl fmt::Debug for AzureBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureBackend").field("name", &self.caller.backend).finish_non_exhaustive()
    }
}

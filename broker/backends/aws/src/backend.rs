//! The contract of a backend, kept by Secrets Manager.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::config::Region;
use aws_sdk_secretsmanager::types::Tag;
use bursar_backend_http::Plaintext;
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, Labels, Leasing, Operation, VersionInfo,
    Wrapping,
};
use bursar_core::{Clock, SecretPath, Version};

use crate::access::Access;
use crate::call::{Caller, Sts, kms, secrets_manager};
use crate::config::{AwsConfig, ConfigError, Revocation, Role};
use crate::http::{self, Http};
use crate::iam::{Iam, Place};
use crate::leasing::ROLES;
use crate::name::Names;
use crate::revoking::Revoking;
use crate::session::Session;
use crate::together::Together;
use crate::value;
use crate::version::{self, Asked};

/// Secrets Manager of one region, and roles that STS makes sessions of.
pub struct AwsBackend {
    pub(crate) caller: Caller,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
    pub(crate) sts: aws_sdk_sts::Client,
    pub(crate) kms: aws_sdk_kms::Client,
    pub(crate) together: Together,
    pub(crate) names: Names,
    pub(crate) roles: BTreeMap<String, Role>,
    /// Where a role has its sessions denied.
    pub(crate) revoking: Option<Revoking>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl AwsBackend {
    /// Checks the configuration and reads its CA file. Calls nothing: AWS may be out of reach when the broker starts.
    ///
    /// # Errors
    /// [`ConfigError`], for configurations that can never work.
    pub fn new(config: AwsConfig, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        if config.timeout.is_zero() {
            return Err(ConfigError::ZeroTimeout);
        }
        let plaintext = Plaintext::allowed(config.allow_plaintext);
        let endpoints = [&config.endpoint, &config.sts_endpoint, &config.kms_endpoint, &config.iam_endpoint];
        for endpoint in endpoints.into_iter().flatten() {
            http::check(endpoint, plaintext)?;
        }
        let iam = Place::of(&config.region, config.iam_endpoint.as_deref());
        let http = Http::new(config.ca_file.as_deref(), plaintext)?;
        // The services that hand credentials to containers and instances speak it, on addresses of the machine's own.
        let chain = Http::new(config.ca_file.as_deref(), Plaintext::Allowed)?;
        let region = Region::new(config.region);
        let sts = Sts { region: region.clone(), endpoint: config.sts_endpoint, http: http.clone() };
        let (source, assume_role) = (config.credentials, config.assume_role);
        let access = Access { source, assume_role, sts: sts.clone(), chain };
        let session = Session::new(config.name.clone(), access, Arc::clone(&clock), config.timeout);
        let session = Arc::new(session);
        let revoking = match config.roles.values().any(|role| role.revoke == Revocation::Deny) {
            true => {
                let (session, clock) = (Arc::clone(&session), Arc::clone(&clock));
                let iam = Iam { place: iam.ok_or(ConfigError::NoIam)?, http: http.clone(), session, clock };
                Some(Revoking::new(iam, &config.owner, &config.name, &config.roles))
            }
            false => None,
        };
        Ok(Self {
            kms: kms(region.clone(), config.kms_endpoint.as_deref(), http.clone(), Arc::clone(&session) as _),
            secrets: secrets_manager(region, config.endpoint.as_deref(), http, Arc::clone(&session) as _),
            sts: sts.signed_by(Arc::clone(&session) as _),
            caller: Caller::new(config.name, session, config.timeout),
            together: Together::default(),
            names: Names { prefix: config.prefix },
            roles: config.roles,
            revoking,
            clock,
        })
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        BackendError::new(kind, &self.caller.backend, operation)
    }

    pub(crate) async fn read_one(
        &self,
        name: &str,
        version: Option<&Version>,
    ) -> Result<Fetched, BackendError> {
        let (id, stage) = Asked::parameters(version.map(Asked::of));
        let call = || {
            let call = self.secrets.get_secret_value().secret_id(name);
            call.set_version_id(id.clone()).set_version_stage(stage.clone()).send()
        };
        let answer = self.caller.ask(Operation::Read, call).await?;
        let fetched = value::fetched(answer.secret_string, answer.secret_binary, answer.version_id);
        fetched.ok_or_else(|| self.error(ErrorKind::Malformed, Operation::Read))
    }

    /// The name of the static secret at `path`.
    fn name(&self, path: &SecretPath, operation: Operation) -> Result<String, BackendError> {
        if self.is_leased(path) {
            return Err(self.error(ErrorKind::Misconfigured, operation));
        }
        self.names.of(path).ok_or_else(|| self.error(ErrorKind::NotFound, operation))
    }
}

#[async_trait]
impl Backend for AwsBackend {
    fn capabilities(&self) -> Capabilities {
        let leasing = !self.roles.is_empty();
        Capabilities { kind: "aws", versions: true, list: true, leasing, writing: false }
    }

    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let name = self.name(path, Operation::Read)?;
        match version {
            Some(version) => self.read_one(&name, Some(version)).await,
            None => self.read_newest(&name).await,
        }
    }

    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError> {
        let mut entries = match folder {
            Some(folder) if self.is_of_roles(folder) => self.roles_in(folder),
            folder => self.entries(folder).await?,
        };
        if folder.is_none() && !self.roles.is_empty() {
            // Instead of the folder of that name that the account may have.
            entries.insert(format!("{ROLES}/"));
        }
        let later = entries.into_iter().filter(|entry| after.is_none_or(|after| entry.as_str() > after));
        Ok(later.take(limit).collect())
    }

    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        let name = self.name(path, Operation::Versions)?;
        let mut entries = Vec::new();
        let mut from = None;
        for _ in 0..MOST_PAGES {
            let call = || {
                let call = self.secrets.list_secret_version_ids().secret_id(&name).include_deprecated(true);
                call.max_results(PAGE).set_next_token(from.clone()).send()
            };
            let answer = self.caller.ask(Operation::Versions, call).await?;
            entries.extend(answer.versions.unwrap_or_default());
            from = answer.next_token.filter(|token| !token.is_empty());
            if from.is_none() {
                break;
            }
        }
        Ok(version::newest_first(entries))
    }

    /// What the stage `AWSCURRENT` is on.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn newest(&self, path: &SecretPath) -> Result<Option<Version>, BackendError> {
        let name = self.name(path, Operation::Newest)?;
        let call = || self.secrets.describe_secret().secret_id(&name).send();
        let about = self.caller.ask(Operation::Newest, call).await?;
        if about.deleted_date.is_some() {
            return Err(self.error(ErrorKind::NotFound, Operation::Newest));
        }
        let staged = about.version_ids_to_stages.unwrap_or_default();
        let is_current = |stages: &Vec<String>| stages.iter().any(|stage| stage == version::CURRENT);
        let current = staged.iter().find(|(_, stages)| is_current(stages));
        Ok(current.and_then(|(id, _)| Version::from_store(id).ok()))
    }

    /// The tags.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn labels(&self, path: &SecretPath) -> Result<Labels, BackendError> {
        let name = self.name(path, Operation::Labels)?;
        let call = || self.secrets.describe_secret().secret_id(&name).send();
        let tags = self.caller.ask(Operation::Labels, call).await?.tags.unwrap_or_default();
        let label = |tag: Tag| Some((tag.key?, tag.value.unwrap_or_default()));
        Ok(tags.into_iter().filter_map(label).collect())
    }

    /// A broker that may not list is told so by AWS, which then has been reached and has taken its credentials. Where the
    /// last call was answered a moment ago nothing is asked: AWS bills each.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn health(&self) -> Result<(), BackendError> {
        if self.caller.was_well() {
            return Ok(());
        }
        let call = || self.secrets.list_secrets().max_results(1).send();
        match self.caller.make(Operation::Health, call).await {
            Err(refusal) if !refusal.is_of_rights() => Err(refusal.error),
            _ => Ok(()),
        }
    }

    fn leasing(&self) -> Option<&dyn Leasing> {
        (!self.roles.is_empty()).then_some(self)
    }

    fn wrapping(&self) -> Option<&dyn Wrapping> {
        Some(self)
    }
}

impl fmt::Debug for AwsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsBackend")
            .field("name", &self.caller.backend)
            .field("roles", &self.roles.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

const PAGE: i32 = 100;
/// AWS keeps about a hundred versions of a secret, so this is no limit in practice; it ends a list that does not.
const MOST_PAGES: usize = 20;

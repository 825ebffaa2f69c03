//! The contract of a backend, kept by Secret Manager.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bursar_backend_http::{Authorities, Plaintext, SetupError};
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, FlatNames, Labels, Operation, Session,
    VersionInfo, VersionState, repeat,
};
use bursar_core::{Clock, SecretPath, Version};
use reqwest::Url;
use serde::Deserialize;

use crate::client::{Client, Request};
use crate::config::{ConfigError, GcpConfig};
use crate::login::Source;
use crate::name::Names;
use crate::payload::{self, Accessed, Fault};
use crate::version::{self, Info, LATEST};

/// The secrets of one project.
pub struct GcpBackend {
    pub(crate) client: Client,
    pub(crate) names: Names,
}

impl GcpBackend {
    /// Checks the configuration and reads its CA file. Calls nothing: Google may be out of reach when the broker starts.
    ///
    /// # Errors
    /// [`ConfigError`], for configurations that can never work.
    pub fn new(config: GcpConfig, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        if config.timeout.is_zero() {
            return Err(ConfigError::ZeroTimeout);
        }
        if config.credentials.is_none() && config.endpoint.is_none() {
            return Err(ConfigError::NoToken);
        }
        let plaintext = Plaintext::allowed(config.allow_plaintext);
        let parent = parent(&config, plaintext)?;
        let authorities = config.ca_file.as_deref().map(Authorities::read).transpose()?;
        let http = |plaintext| {
            let http = bursar_backend_http::client(authorities.as_ref(), plaintext)?;
            http.timeout(config.timeout).build().map_err(SetupError::from)
        };
        let (google, machine) = (http(plaintext)?, http(Plaintext::Allowed)?);
        let session = |credentials| {
            let (backend, http) = (config.name.clone(), google.clone());
            let source = Source { backend, credentials, http, machine, plaintext, clock };
            Session::new(config.name.clone(), source, config.timeout)
        };
        let session = config.credentials.map(session);
        let client = Client {
            backend: config.name,
            http: google,
            parent,
            session,
            timeout: config.timeout,
            well_at: Mutex::new(None),
        };
        Ok(Self { client, names: Names(FlatNames { prefix: config.prefix, separator: config.separator }) })
    }

    /// The id of the secret at `path`.
    fn id(&self, path: &SecretPath, operation: Operation) -> Result<String, BackendError> {
        self.names.of(path).ok_or_else(|| self.client.error(ErrorKind::NotFound, operation))
    }

    async fn access(&self, id: &str, version: &str) -> Result<Fetched, BackendError> {
        let access = format!("{version}:access");
        let path = ["secrets", id, "versions", &access];
        let request = Request { operation: Operation::Read, path: &path, query: &[] };
        let answer = self.client.make(request).await.map_err(|refusal| refusal.error)?;
        let accessed: Accessed<'_> = answer.parse()?;
        match payload::secret(&accessed, id) {
            Ok((data, version)) => Ok(Fetched { data, version: Some(version), expires_at: None }),
            Err(Fault::Unreadable) => Err(answer.error(ErrorKind::Malformed)),
            Err(Fault::Damaged) => {
                tracing::warn!(backend = %self.client.backend, "a payload does not match its checksum");
                Err(answer.error(ErrorKind::Unavailable))
            }
        }
    }
}

/// Where the secrets of the project are.
fn parent(config: &GcpConfig, plaintext: Plaintext) -> Result<Url, ConfigError> {
    let endpoint = match (&config.endpoint, &config.location) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(location)) => format!("https://secretmanager.{location}.rep.googleapis.com"),
        (None, None) => "https://secretmanager.googleapis.com".to_owned(),
    };
    let mut parent = bursar_backend_http::address(&endpoint, plaintext)?;
    if parent.path() != "/" {
        return Err(ConfigError::EndpointWithPath);
    }
    let place = config.location.iter().flat_map(|location| ["locations", location]);
    let segments = ["v1", "projects", &config.project].into_iter().chain(place);
    let mut path = parent.path_segments_mut().map_err(|()| ConfigError::EndpointWithPath)?;
    path.pop_if_empty().extend(segments);
    drop(path);
    Ok(parent)
}

#[async_trait]
impl Backend for GcpBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "gcp", versions: true, list: true, leasing: false, writing: false }
    }

    /// What was damaged on the way is asked for again, as any failure on Google's side.
    #[tracing::instrument(skip_all, fields(backend = %self.client.backend))]
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let id = self.id(path, Operation::Read)?;
        let asked = version.map_or(Some(LATEST), version::asked);
        let asked = asked.ok_or_else(|| self.client.error(ErrorKind::NotFound, Operation::Read))?;
        repeat(self.client.timeout, || self.access(&id, asked)).await
    }

    #[tracing::instrument(skip_all, fields(backend = %self.client.backend))]
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError> {
        let entries = self.entries(folder).await?;
        let later = entries.into_iter().filter(|entry| after.is_none_or(|after| entry.as_str() > after));
        Ok(later.take(limit).collect())
    }

    #[tracing::instrument(skip_all, fields(backend = %self.client.backend))]
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            #[serde(default)]
            versions: Vec<Info>,
            next_page_token: Option<String>,
        }
        let id = self.id(path, Operation::Versions)?;
        let path = ["secrets", &id, "versions"];
        let mut versions = Vec::new();
        let mut from: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![("pageSize", PAGE), ("fields", FIELDS)];
            query.extend(from.as_deref().map(|from| ("pageToken", from)));
            let request = Request { operation: Operation::Versions, path: &path, query: &query };
            let answer = self.client.ask(request).await?;
            let page: Page = answer.parse()?;
            let infos = page.versions.iter().map(|info| info.of(&id));
            let infos = infos.collect::<Option<Vec<_>>>();
            versions.extend(infos.ok_or_else(|| answer.error(ErrorKind::Malformed))?);
            from = page.next_page_token.filter(|token| !token.is_empty());
            if from.is_none() {
                break;
            }
        }
        version::newest_first(&mut versions);
        Ok(versions)
    }

    /// Asks for the version that was made last, without its value.
    #[tracing::instrument(skip_all, fields(backend = %self.client.backend))]
    async fn newest(&self, path: &SecretPath) -> Result<Option<Version>, BackendError> {
        let id = self.id(path, Operation::Newest)?;
        let path = ["secrets", &id, "versions", LATEST];
        let answer =
            self.client.ask(Request { operation: Operation::Newest, path: &path, query: &[] }).await?;
        let info = answer.parse::<Info>()?.of(&id).ok_or_else(|| answer.error(ErrorKind::Malformed))?;
        match info.state {
            VersionState::Kept => Ok(Some(info.version)),
            _ => Err(answer.error(ErrorKind::NotFound)),
        }
    }

    #[tracing::instrument(skip_all, fields(backend = %self.client.backend))]
    async fn labels(&self, path: &SecretPath) -> Result<Labels, BackendError> {
        #[derive(Deserialize)]
        struct Labelled {
            #[serde(default)]
            labels: Labels,
        }
        let id = self.id(path, Operation::Labels)?;
        let (path, query) = (["secrets", &id], [("fields", "labels")]);
        let request = Request { operation: Operation::Labels, path: &path, query: &query };
        Ok(self.client.ask(request).await?.parse::<Labelled>()?.labels)
    }

    /// A broker that may not list is told so by Google, which then has been reached and has taken its token. Where the
    /// last call was answered a moment ago nothing is asked: each counts against the project's quota.
    #[tracing::instrument(skip_all, fields(backend = %self.client.backend))]
    async fn health(&self) -> Result<(), BackendError> {
        if self.client.was_well() {
            return Ok(());
        }
        let query = [("pageSize", "1"), ("fields", "secrets/name")];
        let request = Request { operation: Operation::Health, path: &["secrets"], query: &query };
        match self.client.make(request).await {
            Err(refusal) if !refusal.is_of_rights() => Err(refusal.error),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for GcpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpBackend").field("name", &self.client.backend).finish_non_exhaustive()
    }
}

const PAGE: &str = "250";
/// The rest is about replicas.
const FIELDS: &str = "versions(name,createTime,state),nextPageToken";
/// Google lists the newest first and sets no limit to how many there are; who needs the oldest of 5,000 names it.
const MOST_PAGES: usize = 20;

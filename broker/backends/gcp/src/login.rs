//! The broker's own token for Google, from what Google's own tools take it from.
//!
//! Application Default Credentials are looked for as they describe it (<https://google.aip.dev/auth/4110>): the file that
//! the environment names, the file that `gcloud` left for the user, the metadata server. Everything is read anew for each
//! login, so that a key that was replaced is found.
//!
//! A credential of Google's says itself where it is to be sent. Whoever may write it decides that anyhow; it still goes
//! over TLS, to no redirect and by no proxy.

mod assertion;
mod grant;
mod key;
mod subject;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_backend_http::{Bearer, Plaintext};
use bursar_core::backend::{self, BackendError, ErrorKind, Granted, Operation};
use bursar_core::secret::SecretReader;
use bursar_core::{BackendName, Clock, Secret};
use http::{HeaderValue, header};

use crate::config::{Credentials, Machine};
use key::{Key, Unfit};

/// Where tokens come from.
pub(crate) struct Source {
    pub(crate) backend: BackendName,
    pub(crate) credentials: Credentials,
    /// For what Google serves.
    pub(crate) http: reqwest::Client,
    /// For what the machine serves: it may do so in the clear.
    pub(crate) machine: reqwest::Client,
    pub(crate) plaintext: Plaintext,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A token of Google's, as the headers of a call.
#[derive(PartialEq)]
pub(crate) struct Token {
    bearer: Bearer,
    /// The project whose quota is used, where the credential says so.
    quota_project: Option<HeaderValue>,
}

impl Token {
    /// Makes a call with this token.
    pub(crate) fn sign(&self, call: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let call = call.header(header::AUTHORIZATION, self.bearer.header());
        match &self.quota_project {
            Some(project) => call.header("x-goog-user-project", project.clone()),
            None => call,
        }
    }
}

#[async_trait]
impl backend::Login for Source {
    type Credential = Token;

    async fn log_in(&self) -> Result<Granted<Token>, BackendError> {
        match &self.credentials {
            Credentials::Machine(machine) => self.by_machine(machine).await,
            Credentials::Json(source) => self.by_json(&self.read(source).await?).await,
        }
    }
}

impl Source {
    async fn by_machine(&self, machine: &Machine) -> Result<Granted<Token>, BackendError> {
        if let Some(named) = &machine.named {
            return self.by_json(&self.read(named).await?).await;
        }
        if let Some(left) = &machine.left {
            match left.read_apart().await {
                Ok(json) => return self.by_json(&json).await,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.unreadable(left, &error)),
            }
        }
        self.by_metadata(&machine.metadata).await
    }

    async fn by_json(&self, json: &Secret) -> Result<Granted<Token>, BackendError> {
        let key = Key::read(json, self.plaintext).map_err(|unfit| self.unfit(&unfit))?;
        match key {
            Key::ServiceAccount(account) => self.by_service_account(&account).await,
            Key::User(user) => self.by_user(&user).await,
            Key::External(external) => self.by_external(&external).await,
        }
    }

    async fn read(&self, source: &SecretReader) -> Result<Secret, BackendError> {
        source.read_apart().await.map_err(|error| self.unreadable(source, &error))
    }

    /// The kind alone: what a source says about its content may quote it.
    fn unreadable(&self, source: &SecretReader, error: &io::Error) -> BackendError {
        let (source, cause) = (source.source(), error.kind());
        tracing::warn!(backend = %self.backend, source, %cause, "login credential not readable");
        self.error(ErrorKind::Misconfigured)
    }

    fn unfit(&self, unfit: &Unfit) -> BackendError {
        tracing::warn!(backend = %self.backend, cause = unfit.cause(), "login credential not usable");
        self.error(ErrorKind::Misconfigured)
    }

    fn error(&self, kind: ErrorKind) -> BackendError {
        BackendError::new(kind, &self.backend, Operation::Login)
    }
}

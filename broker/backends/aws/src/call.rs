//! Calls to AWS: who makes them, how long they may take, what happens when the broker's credentials are refused.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::error::SdkError;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bursar_core::BackendName;
use bursar_core::backend::{BackendError, Operation, repeat};
use tokio::time::{Instant, timeout};

use crate::http::Http;
use crate::refusal::Refusal;
use crate::session::Session;

/// Makes calls with the broker's credentials.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) backend: BackendName,
    pub(crate) session: Arc<Session>,
    pub(crate) timeout: Duration,
    well_at: Mutex<Option<Instant>>,
}

impl Caller {
    pub(crate) fn new(backend: BackendName, session: Arc<Session>, timeout: Duration) -> Self {
        Self { backend, session, timeout, well_at: Mutex::new(None) }
    }

    /// Whether the last call was answered, a moment ago: by somebody who knows the broker, be it that there is no such
    /// secret.
    pub(crate) fn was_well(&self) -> bool {
        let well_at = *self.well_at.lock().unwrap_or_else(PoisonError::into_inner);
        well_at.is_some_and(|at| at.elapsed() < MOMENT)
    }

    /// Makes a call that changes nothing, again if need be.
    pub(crate) async fn ask<T, E, F>(
        &self,
        operation: Operation,
        call: impl Fn() -> F + Sync,
    ) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        repeat(self.timeout, || async { self.make(operation, &call).await.map_err(|refusal| refusal.error) })
            .await
    }

    /// Makes a call, and once more with other credentials where AWS does not take the first: it was not carried out.
    pub(crate) async fn make<T, E, F>(
        &self,
        operation: Operation,
        call: impl Fn() -> F + Sync,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let no_login = |error| Refusal { error, meaning: None };
        let used = self.session.login().await.map_err(no_login)?;
        match self.once(operation, call()).await {
            Err(refusal) if refusal.is_of_login() => {
                if self.session.replace(&used).await.map_err(no_login)? {
                    self.once(operation, call()).await
                } else {
                    Err(refusal)
                }
            }
            other => other,
        }
    }

    async fn once<T, E>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Refusal>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let answer = match timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(|error| Refusal::of(&self.backend, operation, &error)),
            Err(_) => Err(Refusal::timeout(&self.backend, operation)),
        };
        // Sessions are made and taken back elsewhere, by STS and IAM.
        if !matches!(operation, Operation::Issue | Operation::Revoke) {
            let well = answer.as_ref().err().is_none_or(Refusal::is_of_a_healthy_store);
            *self.well_at.lock().unwrap_or_else(PoisonError::into_inner) = well.then(Instant::now);
        }
        answer
    }
}

/// Secrets Manager of `region`, called with the credentials of `session`.
pub(crate) fn secrets_manager(
    region: Region,
    endpoint: Option<&str>,
    http: Http,
    session: Arc<dyn ProvideCredentials>,
) -> aws_sdk_secretsmanager::Client {
    let mut config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .http_client(http)
        .credentials_provider(session)
        .identity_cache(aws_sdk_secretsmanager::config::IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(endpoint.map(str::to_owned));
    aws_sdk_secretsmanager::Client::from_conf(config.build())
}

/// KMS of `region`, called with the credentials of `session`.
pub(crate) fn kms(
    region: Region,
    endpoint: Option<&str>,
    http: Http,
    session: Arc<dyn ProvideCredentials>,
) -> aws_sdk_kms::Client {
    let mut config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .http_client(http)
        .credentials_provider(session)
        .identity_cache(aws_sdk_kms::config::IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(endpoint.map(str::to_owned));
    aws_sdk_kms::Client::from_conf(config.build())
}

/// STS of a region.
#[derive(Debug, Clone)]
pub(crate) struct Sts {
    pub(crate) region: Region,
    pub(crate) endpoint: Option<String>,
    pub(crate) http: Http,
}

impl Sts {
    /// For the calls that need no credentials.
    pub(crate) fn unsigned(&self) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::from_conf(self.config().build())
    }

    /// Called with these credentials.
    pub(crate) fn signed_with(&self, credentials: Credentials) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::from_conf(self.config().credentials_provider(credentials).build())
    }

    /// Called with the credentials of `session`.
    pub(crate) fn signed_by(&self, session: Arc<dyn ProvideCredentials>) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::from_conf(self.config().credentials_provider(session).build())
    }

    fn config(&self) -> aws_sdk_sts::config::Builder {
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region.clone())
            .http_client(self.http.clone())
            .identity_cache(aws_sdk_sts::config::IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        config.set_endpoint_url(self.endpoint.clone());
        config
    }
}

/// AWS bills a health check like any other call, and they come every few seconds.
const MOMENT: Duration = Duration::from_secs(60);

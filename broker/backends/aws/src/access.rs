//! Where the broker's own credentials come from, one set at a time.
//!
//! Nothing is kept between two logins: the chain is built anew for each, since it would otherwise remember the shared
//! files as they were when it first read them.

use std::pin::Pin;
use std::str;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_types::retry::RetryConfig;
use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation, causes};
use bursar_core::secret::SecretReader;

use crate::call::Sts;
use crate::config;
use crate::http::Http;
use crate::refusal::Refusal;

type Obtained<'call> = Pin<Box<dyn Future<Output = Result<Credentials, BackendError>> + Send + 'call>>;

/// How credentials are obtained.
pub(crate) struct Access {
    pub(crate) source: config::Credentials,
    /// A role to take on with what the source gives.
    pub(crate) assume_role: Option<String>,
    pub(crate) sts: Sts,
    /// For what the chain asks: STS, and the services of the machine's own that hand out credentials.
    pub(crate) chain: Http,
}

impl Access {
    /// Obtains credentials. Behind a pointer: the SDK's futures are nested deeper than the compiler looks.
    pub(crate) fn obtain<'call>(&'call self, backend: &'call BackendName) -> Obtained<'call> {
        Box::pin(self.obtain_by_source(backend))
    }

    async fn obtain_by_source(&self, backend: &BackendName) -> Result<Credentials, BackendError> {
        let own = match &self.source {
            config::Credentials::Chain => self.by_chain(backend).await?,
            config::Credentials::Keys { access_key_id, secret_access_key, session_token } => {
                let secret = text(backend, secret_access_key).await?;
                let token = match session_token {
                    Some(token) => Some(text(backend, token).await?),
                    None => None,
                };
                Credentials::new(access_key_id, secret, token, None, "bursar")
            }
            config::Credentials::WebIdentity { role, token } => {
                self.by_web_identity(backend, role, text(backend, token).await?).await?
            }
        };
        match &self.assume_role {
            Some(role) => self.by_role(backend, own, role).await,
            None => Ok(own),
        }
    }

    async fn by_chain(&self, backend: &BackendName) -> Result<Credentials, BackendError> {
        let config = ProviderConfig::default()
            .with_region(Some(self.sts.region.clone()))
            .with_retry_config(RetryConfig::disabled())
            .with_http_client(self.chain.clone());
        let imds = imds::Client::builder().configure(&config).max_attempts(1).build();
        let chain = DefaultCredentialsChain::builder()
            .configure(config)
            .region(self.sts.region.clone())
            .imds_client(imds)
            .build()
            .await;
        chain.provide_credentials().await.map_err(|error| chain_error(backend, &error))
    }

    async fn by_web_identity(
        &self,
        backend: &BackendName,
        role: &str,
        token: String,
    ) -> Result<Credentials, BackendError> {
        let sts = self.sts.unsigned();
        let call = sts.assume_role_with_web_identity().role_arn(role).role_session_name(SESSION);
        let answer = call.web_identity_token(token).send().await;
        let answer = answer.map_err(|error| Refusal::of(backend, Operation::Login, &error).error)?;
        received(backend, answer.credentials)
    }

    async fn by_role(
        &self,
        backend: &BackendName,
        own: Credentials,
        role: &str,
    ) -> Result<Credentials, BackendError> {
        let sts = self.sts.signed_with(own);
        let answer = sts.assume_role().role_arn(role).role_session_name(SESSION).send().await;
        let answer = answer.map_err(|error| Refusal::of(backend, Operation::Login, &error).error)?;
        received(backend, answer.credentials)
    }
}

/// What STS made.
fn received(
    backend: &BackendName,
    made: Option<aws_sdk_sts::types::Credentials>,
) -> Result<Credentials, BackendError> {
    let malformed = || BackendError::new(ErrorKind::Malformed, backend, Operation::Login);
    let made = made.ok_or_else(malformed)?;
    let end = made.expiration.try_into().map_err(|_| malformed())?;
    let token = Some(made.session_token);
    Ok(Credentials::new(made.access_key_id, made.secret_access_key, token, Some(end), "bursar"))
}

/// A credential as the SDK wants it, which wipes it; without the line end and blanks that files carry around one.
async fn text(backend: &BackendName, source: &SecretReader) -> Result<String, BackendError> {
    let unusable = |cause: &str| {
        tracing::warn!(%backend, source = source.source(), cause, "login credential not readable");
        BackendError::new(ErrorKind::Misconfigured, backend, Operation::Login)
    };
    // The kind alone: what a source says about its content may quote it.
    let read = source.read_apart().await.map_err(|error| unusable(&error.kind().to_string()))?;
    match str::from_utf8(read.expose()).map(str::trim) {
        Ok("") => Err(unusable("it is empty")),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(unusable("it is no text")),
    }
}

/// What the chain says, without what the services behind it wrote.
fn chain_error(backend: &BackendName, error: &CredentialsError) -> BackendError {
    let error: &(dyn std::error::Error + 'static) = error;
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        let role = cause.downcast_ref::<SdkError<AssumeRoleError>>();
        let web = cause.downcast_ref::<SdkError<AssumeRoleWithWebIdentityError>>();
        let role = role.map(|error| Refusal::of(backend, Operation::Login, error));
        role.or_else(|| web.map(|error| Refusal::of(backend, Operation::Login, error)))
    };
    if let Some(refusal) = causes(error).find_map(refused) {
        return refusal.error;
    }
    let (kind, cause) = match error.downcast_ref() {
        Some(CredentialsError::InvalidConfiguration(_)) => {
            (ErrorKind::Misconfigured, "a source of credentials is not configured as it must be")
        }
        Some(CredentialsError::ProviderTimedOut(_)) => {
            (ErrorKind::Timeout, "a source of credentials did not answer")
        }
        // Also said where the instance's own service is away for a while.
        Some(CredentialsError::CredentialsNotLoaded(_)) => {
            (ErrorKind::Unavailable, "no source had credentials")
        }
        _ => (ErrorKind::Unavailable, "a source of credentials failed"),
    };
    tracing::warn!(%backend, %kind, cause, "login credential not readable");
    BackendError::new(kind, backend, Operation::Login)
}

/// As what the broker's own sessions are seen in CloudTrail.
const SESSION: &str = "bursar";

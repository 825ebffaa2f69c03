//! How the broker comes to a token: from Entra ID for an application, or from the service of the machine's own.
//!
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
//! <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
//! <https://learn.microsoft.com/en-us/azure/app-service/overview-managed-identity#rest-endpoint-reference>

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bursar_backend_http::{Authorities, Bearer, Plaintext, SetupError, client, form, header, trimmed};
use bursar_core::backend::{BackendError, ErrorKind, Granted, Login, Operation};
use bursar_core::secret::{SecretReader, json};
use bursar_core::{BackendName, Clock, Secret};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::address::{Vault, app_endpoint, identity_endpoint, token_endpoint};
use crate::assertion;
use crate::config::{ConfigError, Credentials, Proof};
use crate::exchange::{Reply, exchange};

/// How tokens are obtained.
pub(crate) struct Access {
    backend: BackendName,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
    source: Source,
}

enum Source {
    Application { endpoint: Url, client_id: String, scope: String, proof: Proof },
    ManagedIdentity { endpoint: Url },
    AppIdentity { endpoint: Url, header: SecretReader },
}

impl Access {
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn new(
        backend: BackendName,
        clock: Arc<dyn Clock>,
        credentials: Credentials,
        resource: &str,
        vault: &Vault,
        trusted: Option<&Authorities>,
    ) -> Result<Self, ConfigError> {
        let (source, plaintext) = match credentials {
            Credentials::Application { authority, tenant, client_id, proof } => {
                let endpoint = token_endpoint(authority.as_deref().unwrap_or(vault.authority()), &tenant)?;
                let scope = format!("{resource}/.default");
                (Source::Application { endpoint, client_id, scope, proof }, Plaintext::Refused)
            }
            Credentials::ManagedIdentity { client_id, endpoint } => {
                let endpoint = identity_endpoint(endpoint.as_deref(), resource, client_id.as_deref())?;
                (Source::ManagedIdentity { endpoint }, Plaintext::Allowed)
            }
            Credentials::AppIdentity { client_id, endpoint, header } => {
                let endpoint = app_endpoint(&endpoint, resource, client_id.as_deref())?;
                (Source::AppIdentity { endpoint, header }, Plaintext::Allowed)
            }
        };
        let http = client(trusted, plaintext)?.build().map_err(SetupError::from)?;
        Ok(Self { backend, clock, http, source })
    }

    async fn call(&self) -> Result<RequestBuilder, BackendError> {
        let (endpoint, client_id, scope, proof) = match &self.source {
            Source::ManagedIdentity { endpoint } => {
                return Ok(self.http.get(endpoint.clone()).header("Metadata", "true"));
            }
            Source::AppIdentity { endpoint, header: shown } => {
                let unusable = || self.unusable(shown, "it is none that a header can hold");
                let value = header(self.credential(shown).await?).ok_or_else(unusable)?;
                return Ok(self.http.get(endpoint.clone()).header(APP_HEADER, value));
            }
            Source::Application { endpoint, client_id, scope, proof } => (endpoint, client_id, scope, proof),
        };
        let whose = [
            ("grant_type", b"client_credentials".as_slice()),
            ("client_id", client_id.as_bytes()),
            ("scope", scope.as_bytes()),
        ];
        let body = match proof {
            Proof::ClientSecret(secret) => {
                let secret = self.credential(secret).await?;
                form(&[&whose[..], &[("client_secret", secret.expose())]].concat())
            }
            Proof::FederatedToken(token) => {
                let token = self.credential(token).await?;
                form(&[&whose[..], &asserted(&token)].concat())
            }
            Proof::Certificate(pem) => {
                let content = self.credential(pem).await?;
                let signed = assertion::signed(&content, client_id, endpoint.as_str(), self.clock.now());
                let signed = signed.map_err(|cause| self.unusable(pem, cause))?;
                form(&[&whose[..], &asserted(&signed)].concat())
            }
        };
        let call = self.http.post(endpoint.clone()).header(CONTENT_TYPE, FORM);
        Ok(call.body(body))
    }

    /// A credential of the broker's own, without the line end and blanks that files carry around one.
    async fn credential(&self, source: &SecretReader) -> Result<Secret, BackendError> {
        // The kind alone: what a source says about its content may quote it.
        let read =
            source.read_apart().await.map_err(|error| self.unusable(source, &error.kind().to_string()))?;
        let credential = trimmed(&read);
        if credential.is_empty() { Err(self.unusable(source, "it is empty")) } else { Ok(credential) }
    }

    fn unusable(&self, source: &SecretReader, cause: &str) -> BackendError {
        let backend = &self.backend;
        tracing::warn!(%backend, source = source.source(), cause, "login credential not readable");
        BackendError::new(ErrorKind::Misconfigured, backend, Operation::Login)
    }

    /// Why there is no token. The log gets codes that are known beforehand, and Entra ID's number, by which its errors are
    /// looked up.
    fn refusal(&self, reply: &Reply) -> BackendError {
        let backend = &self.backend;
        let said: Said = serde_json::from_slice(reply.body.bytes()).unwrap_or_default();
        let known = CODES.iter().find(|(code, _)| said.error.as_deref() == Some(*code));
        let kind = match (&self.source, known) {
            (Source::Application { .. }, Some((_, kind))) => *kind,
            (Source::Application { .. }, None) => of_status(reply.status),
            (Source::ManagedIdentity { .. } | Source::AppIdentity { .. }, _) => {
                of_identity_status(reply.status)
            }
        };
        let (status, code) = (reply.status, known.map(|(code, _)| code));
        let number = said.error_codes.and_then(|numbers| numbers.first().copied());
        tracing::warn!(%backend, %kind, status, code, number, "login refused");
        let error = BackendError::new(kind, backend, Operation::Login).with_code(status);
        BackendError { retry_after: reply.retry_after, ..error }
    }
}

#[async_trait]
impl Login for Access {
    type Credential = Bearer;

    async fn log_in(&self) -> Result<Granted<Bearer>, BackendError> {
        let reply = exchange(&self.backend, Operation::Login, self.call().await?).await?;
        if reply.status != 200 {
            return Err(self.refusal(&reply));
        }
        granted(reply.body.bytes(), self.clock.now()).ok_or_else(|| {
            BackendError::new(ErrorKind::Malformed, &self.backend, Operation::Login).with_code(200)
        })
    }
}

fn asserted(token: &Secret) -> [(&'static str, &[u8]); 2] {
    [("client_assertion_type", JWT_BEARER), ("client_assertion", token.expose())]
}

fn granted(body: &[u8], now: Timestamp) -> Option<Granted<Bearer>> {
    let granted: Grant<'_> = serde_json::from_slice(body).ok()?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") || !granted.access_token.get().starts_with('"') {
        return None;
    }
    let left = match (granted.expires_in, granted.expires_on) {
        (Some(left), _) => seconds(left)?,
        (None, Some(end)) => seconds(end)?.checked_sub(now.as_second())?,
        (None, None) => return None,
    };
    let life = Duration::from_secs(u64::try_from(left).ok().filter(|left| *left > 0)?);
    let credential = Bearer::new(&json::secret(granted.access_token)?)?;
    Some(Granted { credential, life: Some(life.min(LONGEST_LIFE)) })
}

/// Entra ID writes numbers, the machine's service texts of digits.
fn seconds(value: &RawValue) -> Option<i64> {
    value.get().trim_matches('"').parse().ok()
}

/// What a refusal of Entra ID without a code that is known means.
fn of_status(status: u16) -> ErrorKind {
    match status {
        429 => ErrorKind::Throttled,
        408 | 504 => ErrorKind::Timeout,
        500..=599 => ErrorKind::Unavailable,
        401 | 403 => ErrorKind::Denied,
        300..=499 => ErrorKind::Misconfigured,
        _ => ErrorKind::Malformed,
    }
}

/// What a refusal of the machine's service means. It is not found while the service is being brought up to date, and a bad
/// request is one for an identity that the machine has not.
fn of_identity_status(status: u16) -> ErrorKind {
    match status {
        404 | 410 => ErrorKind::Unavailable,
        status => of_status(status),
    }
}

#[derive(Deserialize)]
struct Grant<'body> {
    token_type: String,
    #[serde(borrow)]
    access_token: &'body RawValue,
    #[serde(borrow)]
    expires_in: Option<&'body RawValue>,
    #[serde(borrow)]
    expires_on: Option<&'body RawValue>,
}

#[derive(Default, Deserialize)]
struct Said {
    error: Option<String>,
    error_codes: Option<Vec<u32>>,
}

/// <https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes>
const CODES: [(&str, ErrorKind); 10] = [
    ("access_denied", ErrorKind::Denied),
    ("invalid_client", ErrorKind::Denied),
    ("invalid_grant", ErrorKind::Denied),
    ("unauthorized_client", ErrorKind::Denied),
    ("invalid_request", ErrorKind::Misconfigured),
    ("invalid_resource", ErrorKind::Misconfigured),
    ("invalid_scope", ErrorKind::Misconfigured),
    ("unsupported_grant_type", ErrorKind::Misconfigured),
    ("server_error", ErrorKind::Unavailable),
    ("temporarily_unavailable", ErrorKind::Unavailable),
];
const JWT_BEARER: &[u8] = b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const APP_HEADER: &str = "X-IDENTITY-HEADER";
const FORM: &str = "application/x-www-form-urlencoded";
/// Longer than any token lives: those of a managed identity are good for a day.
const LONGEST_LIFE: Duration = Duration::from_secs(48 * 3600);

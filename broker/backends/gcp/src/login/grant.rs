//! The calls that turn a credential into a token.

use std::time::Duration;

use bursar_backend_http::{Bearer, NotReached, form};
use bursar_core::backend::{BackendError, ErrorKind, Granted};
use bursar_core::secret::json;
use bytes::Bytes;
use http::header;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{External, ServiceAccount, Unfit, User};
use super::{Source, Token, assertion};
use crate::client::{Reply, send};
use crate::status;

/// What a token is asked for. Secret Manager has no narrower scope: what it may do is what IAM allows.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

impl Source {
    /// RFC 7523.
    pub(super) async fn by_service_account(
        &self,
        account: &ServiceAccount,
    ) -> Result<Granted<Token>, BackendError> {
        let assertion = assertion::signed(account, self.clock.now());
        let assertion = assertion.ok_or_else(|| self.unfit(&Unfit::NotUsable("private_key")))?;
        let grant = ("grant_type", b"urn:ietf:params:oauth:grant-type:jwt-bearer".as_slice());
        let form = form(&[grant, ("assertion", assertion.expose())]);
        self.granted(self.http.post(account.token_uri.clone()), form).await
    }

    /// RFC 6749, section 6.
    pub(super) async fn by_user(&self, user: &User) -> Result<Granted<Token>, BackendError> {
        let form = form(&[
            ("grant_type", b"refresh_token"),
            ("client_id", user.client_id.as_bytes()),
            ("client_secret", user.client_secret.expose()),
            ("refresh_token", user.refresh_token.expose()),
        ]);
        let mut granted = self.granted(self.http.post(user.token_uri.clone()), form).await?;
        granted.credential.quota_project.clone_from(&user.quota_project);
        Ok(granted)
    }

    /// RFC 8693, and then as the service account that the identity may act as.
    pub(super) async fn by_external(&self, external: &External) -> Result<Granted<Token>, BackendError> {
        let subject = self.subject_token(&external.source).await?;
        let form = form(&[
            ("grant_type", b"urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", external.audience.as_bytes()),
            ("scope", SCOPE.as_bytes()),
            ("requested_token_type", b"urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", external.subject_token_type.as_bytes()),
            ("subject_token", subject.expose()),
        ]);
        let mut granted = self.granted(self.http.post(external.token_url.clone()), form).await?;
        if let Some(url) = &external.impersonation {
            let call = granted.credential.sign(self.http.post(url.clone()));
            granted = self.impersonated(call).await?;
        }
        granted.credential.quota_project.clone_from(&external.quota_project);
        Ok(granted)
    }

    /// <https://cloud.google.com/compute/docs/access/authenticate-workloads#applications>
    pub(super) async fn by_metadata(&self, host: &str) -> Result<Granted<Token>, BackendError> {
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let call = self.machine.get(url).header("Metadata-Flavor", "Google");
        self.token_of(&self.exchange(call).await?)
    }

    /// Asks a token endpoint.
    async fn granted(
        &self,
        call: reqwest::RequestBuilder,
        form: Bytes,
    ) -> Result<Granted<Token>, BackendError> {
        let call = call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.token_of(&self.exchange(call.body(form)).await?)
    }

    fn token_of(&self, reply: &Reply) -> Result<Granted<Token>, BackendError> {
        #[derive(Deserialize)]
        struct Body<'body> {
            #[serde(borrow)]
            access_token: &'body RawValue,
            expires_in: Option<u64>,
        }
        let body: Body<'_> = self.parse(reply)?;
        let life = body.expires_in.map(|seconds| Duration::from_secs(seconds).min(LONGEST_LIFE));
        self.token(reply, body.access_token, life)
    }

    /// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>
    async fn impersonated(&self, call: reqwest::RequestBuilder) -> Result<Granted<Token>, BackendError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'body> {
            #[serde(borrow)]
            access_token: &'body RawValue,
            expire_time: Timestamp,
        }
        let asked = serde_json::json!({ "scope": [SCOPE], "lifetime": "3600s" });
        let call = call.header(header::CONTENT_TYPE, "application/json").body(asked.to_string());
        let reply = self.exchange(call).await?;
        let body: Body<'_> = self.parse(&reply)?;
        let left = body.expire_time.duration_since(self.clock.now());
        let life = Duration::try_from(left).unwrap_or_default();
        self.token(&reply, body.access_token, Some(life.min(LONGEST_LIFE)))
    }

    fn token(
        &self,
        reply: &Reply,
        token: &RawValue,
        life: Option<Duration>,
    ) -> Result<Granted<Token>, BackendError> {
        // What is no text would be made one.
        let token = token.get().starts_with('"').then(|| json::secret(token)).flatten();
        let bearer = token.as_ref().and_then(Bearer::new).ok_or_else(|| self.malformed(reply))?;
        Ok(Granted { credential: Token { bearer, quota_project: None }, life })
    }

    fn parse<'body, T: Deserialize<'body>>(&self, reply: &'body Reply) -> Result<T, BackendError> {
        serde_json::from_slice(reply.body.bytes()).map_err(|_| self.malformed(reply))
    }

    fn malformed(&self, reply: &Reply) -> BackendError {
        self.error(ErrorKind::Malformed).with_code(reply.status.as_u16())
    }

    /// Sends a call; answers what came back, if that was yes.
    pub(super) async fn exchange(&self, call: reqwest::RequestBuilder) -> Result<Reply, BackendError> {
        let reply = send(call).await.map_err(|failure| self.not_reached(&failure))?;
        if reply.status.is_success() { Ok(reply) } else { Err(self.refused(&reply)) }
    }

    fn not_reached(&self, failure: &NotReached) -> BackendError {
        let NotReached { kind, cause, .. } = failure;
        tracing::warn!(backend = %self.backend, %kind, cause, "no token: nobody reached who gives one");
        self.error(*kind)
    }

    fn refused(&self, reply: &Reply) -> BackendError {
        #[derive(Deserialize)]
        struct Body {
            error: String,
        }
        let status = reply.status.as_u16();
        let said = serde_json::from_slice(reply.body.bytes()).ok().map(|Body { error }| error);
        let known = said.as_deref().and_then(status::of_token_endpoint);
        let kind = known.map_or_else(|| status::of_status(status), |(_, kind)| kind);
        let code = known.map(|(code, _)| code);
        tracing::warn!(backend = %self.backend, %kind, status, code, "no token: refused");
        BackendError { retry_after: reply.retry_after, ..self.error(kind).with_code(status) }
    }
}

/// Whatever an answer says: nobody gives tokens for longer, and a number that is none must not be believed.
const LONGEST_LIFE: Duration = Duration::from_secs(12 * 3600);

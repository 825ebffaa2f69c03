//! The calls that obtain, renew and look at the broker's own token.

use std::time::Duration;

use bursar_backend_http::trimmed;
use bursar_core::Secret;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bursar_core::secret::{SecretReader, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::{Answer, Reply};
use crate::client::{Client, Request};
use crate::config::{Auth, Credential};
use crate::token::{Token, certificate_login, login};
use crate::wrapping::{self, Unwrapped};

/// A token as the store granted it.
pub(crate) struct Granted {
    pub(crate) token: Token,
    pub(crate) life: Life,
}

/// How long a token lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// From now; none for a token that never ends, such as a root token.
    pub(crate) left: Option<Duration>,
    pub(crate) renewable: bool,
}

/// Logs in once. `unwrapped` is what was unwrapped for the logins before.
pub(crate) async fn log_in(
    client: &Client,
    auth: &Auth,
    unwrapped: &mut Option<Unwrapped>,
) -> Result<Granted, BackendError> {
    let misconfigured = || client.error(ErrorKind::Misconfigured, Operation::Login);
    let (mount, body) = match auth {
        Auth::AppRole { mount, role_id, secret_id } => {
            let secret_id = handed_over(client, secret_id, unwrapped).await?;
            (mount, login(("role_id", role_id), ("secret_id", &secret_id)))
        }
        Auth::Certificate { mount, role, .. } => {
            client.present_anew().await?;
            (mount, certificate_login(role.as_deref()))
        }
        Auth::Jwt { mount, role, jwt } => {
            let jwt = read(client, jwt).await?;
            (mount, login(("role", role), ("jwt", &jwt)))
        }
        Auth::Token(source) => {
            let token = handed_over(client, source, unwrapped).await?;
            let token = Token::new(token).ok_or_else(misconfigured)?;
            let life = look_up(client, &token).await?;
            return Ok(Granted { token, life });
        }
    };
    let body = body.ok_or_else(misconfigured)?;
    let request = client.update_with(Operation::Login, &format!("auth/{mount}/login"), body);
    // The store answers 400 to a wrong or used-up secret id, and to a token that it does not believe.
    let answer = client.send(&request, None).await.map_err(refused_login)?;
    let granted: AuthReply<'_> = answer.parse()?;
    let token = json::secret(granted.auth.client_token).and_then(Token::new);
    let token = token.ok_or_else(|| answer.error(ErrorKind::Malformed))?;
    Ok(Granted { token, life: granted.auth.life() })
}

/// Extends the token by its own period.
pub(crate) async fn renew(client: &Client, token: &Token) -> Result<Life, BackendError> {
    #[derive(Serialize)]
    struct Nothing {}
    let request = client.update(Operation::Login, "auth/token/renew-self", &Nothing {});
    let answer = client.send(&request, Some(token)).await?;
    Ok(answer.parse::<AuthReply<'_>>()?.auth.life())
}

/// Whether the store knows the token, and for how long.
pub(crate) async fn look_up(client: &Client, token: &Token) -> Result<Life, BackendError> {
    let answer = client.send(&look_up_request(client, Operation::Login), Some(token)).await?;
    life_from_lookup(&answer)
}

/// Asks for the token that the request is sent with.
pub(crate) fn look_up_request(client: &Client, operation: Operation) -> Request {
    client.read(operation, "auth/token/lookup-self")
}

fn life_from_lookup(answer: &Answer) -> Result<Life, BackendError> {
    #[derive(Deserialize)]
    struct Lookup {
        ttl: u64,
        #[serde(default)]
        renewable: bool,
    }
    let Lookup { ttl, renewable } = answer.parse::<Reply<Lookup>>()?.data;
    Ok(Life { left: seconds(ttl), renewable })
}

/// Reads a credential, and unwraps it where it is wrapped.
async fn handed_over(
    client: &Client,
    credential: &Credential,
    unwrapped: &mut Option<Unwrapped>,
) -> Result<Secret, BackendError> {
    let read = read(client, &credential.reader).await?;
    match &credential.wrapping_path {
        Some(path) => wrapping::unwrap(client, read, path, unwrapped).await,
        None => Ok(read),
    }
}

/// Reads where that may block.
async fn read(client: &Client, source: &SecretReader) -> Result<Secret, BackendError> {
    match source.read_apart().await {
        Ok(credential) => Ok(trimmed(&credential)),
        Err(error) => {
            // The kind alone: what a source says about its content may quote it.
            let (source, cause) = (source.source(), error.kind());
            tracing::warn!(backend = %client.backend, source, %cause, "login credential not readable");
            Err(client.error(ErrorKind::Misconfigured, Operation::Login))
        }
    }
}

fn refused_login(error: BackendError) -> BackendError {
    match error.code {
        Some(400) => BackendError { kind: ErrorKind::Denied, ..error },
        _ => error,
    }
}

#[derive(Deserialize)]
struct AuthReply<'body> {
    #[serde(borrow)]
    auth: AuthData<'body>,
}

#[derive(Deserialize)]
struct AuthData<'body> {
    #[serde(borrow)]
    client_token: &'body RawValue,
    lease_duration: u64,
    renewable: bool,
}

impl AuthData<'_> {
    fn life(&self) -> Life {
        Life { left: seconds(self.lease_duration), renewable: self.renewable }
    }
}

/// The store writes 0 for a token that never ends.
fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

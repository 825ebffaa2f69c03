//! Credentials of the broker's own that are handed over wrapped: what lies at their place is a token for one use, and the
//! store gives the credential for it. Whoever takes such a token on the way uses it up, so that the theft is noticed.
//! Endpoints: <https://openbao.org/docs/concepts/response-wrapping/>.

use bursar_core::Secret;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::Reply;
use crate::client::Client;
use crate::token::Token;
use bursar_core::secret::json;

/// What was unwrapped last: the token is used up, so the credential is kept for the logins to come.
pub(crate) struct Unwrapped {
    token: Secret,
    credential: Secret,
}

/// The credential that `token` stands for, or the kept one where it is the same token.
///
/// # Errors
/// [`ErrorKind::Denied`] for a token that was used, has expired or was wrapped elsewhere than at `path`; the log says so.
pub(crate) async fn unwrap(
    client: &Client,
    token: Secret,
    path: &str,
    kept: &mut Option<Unwrapped>,
) -> Result<Secret, BackendError> {
    if let Some(kept) = kept.as_ref().filter(|kept| kept.token.ct_eq(token.expose())) {
        return Ok(copy(&kept.credential));
    }
    let misconfigured = || client.error(ErrorKind::Misconfigured, Operation::Login);
    let header = Token::new(copy(&token)).ok_or_else(misconfigured)?;
    // Before it is used: one of somebody else's would be taken for what was meant.
    let lookup = client.read(Operation::Login, "sys/wrapping/lookup");
    let looked_up = client.send(&lookup, Some(&header)).await.map_err(|error| spent(client, error))?;
    if looked_up.parse::<Reply<Wrapping>>()?.data.creation_path.trim_matches('/') != path.trim_matches('/') {
        tracing::error!(
            backend = %client.backend,
            wanted = path,
            "the wrapping token holds something else than was configured: find out who put it there"
        );
        return Err(client.error(ErrorKind::Denied, Operation::Login));
    }
    let request = client.update_with(Operation::Login, "sys/wrapping/unwrap", Bytes::from_static(b"{}"));
    let answer = client.send(&request, Some(&header)).await.map_err(|error| spent(client, error))?;
    let inside: Inside<'_> = answer.parse()?;
    let held = inside.data.and_then(|data| data.secret_id).or(inside.auth.map(|auth| auth.client_token));
    let credential = held.and_then(json::secret).ok_or_else(|| answer.error(ErrorKind::Malformed))?;
    let copied = copy(&credential);
    *kept = Some(Unwrapped { token, credential });
    Ok(copied)
}

fn copy(secret: &Secret) -> Secret {
    Secret::new(secret.expose().to_vec())
}

/// The store says 400 to a wrapping token that it does not know, and 403 where it is none at all.
fn spent(client: &Client, error: BackendError) -> BackendError {
    match error.code {
        Some(400 | 403) => {
            tracing::error!(
                backend = %client.backend,
                "the wrapping token has expired or was used: if the broker did not use it, somebody else has what it held"
            );
            BackendError { kind: ErrorKind::Denied, ..error }
        }
        _ => error,
    }
}

#[derive(Deserialize)]
struct Wrapping {
    creation_path: String,
}

#[derive(Deserialize)]
struct Inside<'body> {
    #[serde(borrow)]
    data: Option<SecretId<'body>>,
    #[serde(borrow)]
    auth: Option<WrappedAuth<'body>>,
}

#[derive(Deserialize)]
struct SecretId<'body> {
    #[serde(borrow)]
    secret_id: Option<&'body RawValue>,
}

#[derive(Deserialize)]
struct WrappedAuth<'body> {
    #[serde(borrow)]
    client_token: &'body RawValue,
}

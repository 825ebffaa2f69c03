//! What a service account says of itself, signed with its key: a JSON Web Token by RS256.
//! <https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests>

use bursar_backend_http::{Algorithm, assertion};
use bursar_core::Secret;
use jiff::Timestamp;
use serde::Serialize;

use super::grant::SCOPE;
use super::key::ServiceAccount;

/// An assertion that is good for an hour from `now`; none where the private key is none that signs so.
pub(super) fn signed(account: &ServiceAccount, now: Timestamp) -> Option<Secret> {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'a str,
        typ: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        kid: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Claims<'a> {
        iss: &'a str,
        scope: &'a str,
        aud: &'a str,
        iat: i64,
        exp: i64,
    }
    let header = Header { alg: "RS256", typ: "JWT", kid: account.key_id.as_deref() };
    // A clock that is a little ahead of Google's must not make an assertion of the future.
    let iat = now.as_second() - SKEW;
    let claims =
        Claims { iss: &account.email, scope: SCOPE, aud: account.token_uri.as_str(), iat, exp: iat + LIFE };
    let (header, claims) = (serde_json::to_vec(&header).ok()?, serde_json::to_vec(&claims).ok()?);
    assertion(&header, &claims, &account.private_key, Algorithm::Rs256)
}

const SKEW: i64 = 10;
/// Google takes no assertion that is good for longer.
const LIFE: i64 = 3600;

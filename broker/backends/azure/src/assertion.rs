//! What an application says of itself, signed with the key of a certificate that Entra ID knows.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials>

use bursar_backend_http::{Algorithm, assertion, pem_part};
use bursar_core::Secret;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

/// An assertion for the token endpoint `audience`, good for five minutes from `now`. `pem` holds the certificate, before
/// those that vouch for it, and its key.
///
/// # Errors
/// What is wrong with `pem`, for the log.
pub(crate) fn signed(
    pem: &Secret,
    client_id: &str,
    audience: &str,
    now: Timestamp,
) -> Result<Secret, &'static str> {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'a str,
        typ: &'a str,
        #[serde(rename = "x5t#S256")]
        thumbprint: String,
    }
    #[derive(Serialize)]
    struct Claims<'a> {
        aud: &'a str,
        iss: &'a str,
        sub: &'a str,
        jti: String,
        nbf: i64,
        iat: i64,
        exp: i64,
    }
    let certificate = pem_part(pem, "CERTIFICATE").ok_or("it has no certificate (PEM)")?;
    let thumbprint = BASE64URL_NOPAD.encode(digest(&SHA256, &certificate).as_ref());
    let header = Header { alg: "PS256", typ: "JWT", thumbprint };
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| "the machine gives no random numbers")?;
    // A clock that is a little ahead of Microsoft's must not make an assertion of the future.
    let iat = now.as_second() - SKEW;
    let (jti, exp) = (HEXLOWER.encode(&random), now.as_second() + LIFE);
    let claims = Claims { aud: audience, iss: client_id, sub: client_id, jti, nbf: iat, iat, exp };
    let json = |_| "it cannot be written as JSON";
    let (header, claims) =
        (serde_json::to_vec(&header).map_err(json)?, serde_json::to_vec(&claims).map_err(json)?);
    let signed = assertion(&header, &claims, pem, Algorithm::Ps256);
    signed.ok_or("it has no RSA key of 2048 bits or more (PEM: `PRIVATE KEY` or `RSA PRIVATE KEY`)")
}

const SKEW: i64 = 10;
const LIFE: i64 = 300;

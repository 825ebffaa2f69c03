//! What a service account says of itself, signed with its key: a JSON Web Token by RS256.
//! <https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests>

use std::str;

use bursar_core::Secret;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Serialize;
use zeroize::Zeroizing;

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
    let key = private_key(&account.private_key)?;
    let key = RsaKeyPair::from_pkcs8(&key).ok()?;
    let header = Header { alg: "RS256", typ: "JWT", kid: account.key_id.as_deref() };
    // A clock that is a little ahead of Google's must not make an assertion of the future.
    let iat = now.as_second() - SKEW;
    let claims =
        Claims { iss: &account.email, scope: SCOPE, aud: account.token_uri.as_str(), iat, exp: iat + LIFE };
    let part = |json: Vec<u8>| BASE64URL_NOPAD.encode(&json);
    let said =
        format!("{}.{}", part(serde_json::to_vec(&header).ok()?), part(serde_json::to_vec(&claims).ok()?));
    let mut signature = Zeroizing::new(vec![0; key.public().modulus_len()]);
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature).ok()?;

    // Of its final size from the start, so that it leaves no copy behind.
    let length = BASE64URL_NOPAD.encode_len(signature.len());
    let mut assertion = Zeroizing::new(vec![0; said.len() + 1 + length]);
    let (before, after) = assertion.split_at_mut(said.len() + 1);
    before.copy_from_slice(&[said.as_bytes(), b"."].concat());
    BASE64URL_NOPAD.encode_mut(&signature, after);
    Some(Secret::from(assertion))
}

/// What is between the lines of a PEM.
fn private_key(pem: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let pem = str::from_utf8(pem.expose()).ok()?;
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (text, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let mut joined = Zeroizing::new(Vec::with_capacity(text.len()));
    joined.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut key = Zeroizing::new(vec![0; BASE64.decode_len(joined.len()).ok()?]);
    let written = BASE64.decode_mut(&joined, &mut key).ok()?;
    key.truncate(written);
    Some(key)
}

const SKEW: i64 = 10;
/// Google takes no assertion that is good for longer.
const LIFE: i64 = 3600;

//! A JSON Web Token as it arrives: JWS compact form (RFC 7515, section 7.1), claims in JSON (RFC 7519). Nothing of it is
//! believed yet.
//!
//! Written here and not taken from a library: those that there are bring a second cryptography (aws-lc or the RustCrypto
//! crates) beside ring, and take from the header what a careful verifier takes from the key.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::json;
use super::refused::Refused;

/// A token that was taken apart.
pub(super) struct Jws<'token> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
    pub(super) claims: Map<String, Value>,
    /// What the signature is over: header and claims as they came.
    pub(super) signed: &'token [u8],
    pub(super) signature: Vec<u8>,
}

impl<'token> Jws<'token> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// What its form or its header is refused for.
    pub(super) fn parse(token: &'token [u8]) -> Result<Self, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(Refused::TooLong);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Form);
        };
        let signed = token.get(..header.len() + 1 + claims.len()).ok_or(Refused::Form)?;
        let header = json::object(&decoded(header)?).ok_or(Refused::Header)?;
        let (algorithm, kid) = read_header(&header)?;
        let claims = json::object(&decoded(claims)?).ok_or(Refused::Claims)?;
        Ok(Self { algorithm, kid, claims, signed, signature: decoded(signature)? })
    }
}

/// Keys and certificates that a header brings along (`jwk`, `jku`, `x5c`, `x5u`) are not looked at: whoever forges a
/// token forges them too.
fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, String), Refused> {
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Refused::Critical);
    }
    let is_jwt = |typ: &Value| {
        let known = |typ: &str| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known));
        typ.as_str().is_some_and(known)
    };
    // With a `cty` the claims would be another token.
    if !header.get("typ").is_none_or(is_jwt) || header.contains_key("cty") {
        return Err(Refused::Type);
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
    let algorithm = algorithm.ok_or(Refused::Algorithm)?;
    let kid = header.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty());
    Ok((algorithm, kid.ok_or(Refused::KeyUnnamed)?.to_owned()))
}

fn decoded(part: &[u8]) -> Result<Vec<u8>, Refused> {
    BASE64URL_NOPAD.decode(part).map_err(|_| Refused::Form)
}

/// The signatures that are accepted (RFC 7518, section 3.1; RFC 8037): none by a shared secret, and not `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

const MAX_TOKEN: usize = 16 * 1024;
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

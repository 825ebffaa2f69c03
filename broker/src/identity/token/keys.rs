//! The keys of an issuer: a JSON Web Key Set (RFC 7517), and signatures checked by it.
//!
//! What a signature may be is said by the key, never by the token: an RSA key verifies RSA signatures and nothing else,
//! whatever a header calls them, so a public key can never pass for a shared secret.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Map, Value};

use super::json;
use super::jws::{Algorithm, Jws};
use super::refused::Refused;

/// The keys that an issuer signs with now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set. Keys that are not for signatures, or of a kind that is not accepted, are left out.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let set = json::object(text)?;
        let keys = set.get("keys")?.as_array()?;
        let keys: Vec<_> = keys.iter().filter_map(Value::as_object).filter_map(Key::of).collect();
        (!keys.is_empty() && keys.len() <= MAX_KEYS).then_some(Self(keys))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Checks a token's signature.
    ///
    /// # Errors
    /// [`Refused::KeyUnknown`], [`Refused::KeyOther`], [`Refused::Signature`].
    pub(super) fn verify(&self, token: &Jws<'_>) -> Result<(), Refused> {
        let mut named = self.0.iter().filter(|key| key.kid == token.kid).peekable();
        named.peek().ok_or(Refused::KeyUnknown)?;
        // Keys of different kinds may share a name.
        let mut fault = Refused::KeyOther;
        for check in named.filter_map(|key| key.check(token.algorithm)) {
            match check.holds(token.signed, &token.signature) {
                true => return Ok(()),
                false => fault = Refused::Signature,
            }
        }
        Err(fault)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    kid: String,
    /// The only algorithm that it is for, when it says one.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    fn of(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok();
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == size && y.len() == size).then(|| [[4].as_slice(), &x, &y].concat())
        };
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let operations = jwk.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|operations| !operations.iter().any(|one| one == "verify")) {
            return None;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa { n: unsigned(bytes("n")?), e: unsigned(bytes("e")?) },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::parse(name)?),
        };
        Some(Self { kid: text("kid")?.to_owned(), algorithm, material })
    }

    /// How to check a signature that the token calls `algorithm`; nothing when the key is not for it.
    fn check(&self, algorithm: Algorithm) -> Option<Check<'_>> {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return None;
        }
        use Algorithm as A;
        let parameters = match (&self.material, algorithm) {
            (Material::P256(point), A::Es256) => return Some(Check::Whole(&ECDSA_P256_SHA256_FIXED, point)),
            (Material::P384(point), A::Es384) => return Some(Check::Whole(&ECDSA_P384_SHA384_FIXED, point)),
            (Material::Ed25519(key), A::EdDsa) => return Some(Check::Whole(&ED25519, key)),
            (Material::Rsa { .. }, A::Rs256) => &RSA_PKCS1_2048_8192_SHA256,
            (Material::Rsa { .. }, A::Rs384) => &RSA_PKCS1_2048_8192_SHA384,
            (Material::Rsa { .. }, A::Rs512) => &RSA_PKCS1_2048_8192_SHA512,
            (Material::Rsa { .. }, A::Ps256) => &RSA_PSS_2048_8192_SHA256,
            (Material::Rsa { .. }, A::Ps384) => &RSA_PSS_2048_8192_SHA384,
            (Material::Rsa { .. }, A::Ps512) => &RSA_PSS_2048_8192_SHA512,
            _ => return None,
        };
        match &self.material {
            Material::Rsa { n, e } => Some(Check::Rsa(parameters, n, e)),
            _ => None,
        }
    }
}

enum Check<'key> {
    Whole(&'static dyn VerificationAlgorithm, &'key [u8]),
    Rsa(&'static RsaParameters, &'key [u8], &'key [u8]),
}

impl Check<'_> {
    fn holds(&self, signed: &[u8], signature: &[u8]) -> bool {
        match *self {
            Self::Whole(algorithm, key) => {
                UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
            }
            Self::Rsa(parameters, n, e) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
        }
    }
}

/// Some issuers pad the numbers of RSA keys with zeros in front, which ring does not take.
fn unsigned(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

const MAX_KEYS: usize = 64;

#[cfg(test)]
mod tests;

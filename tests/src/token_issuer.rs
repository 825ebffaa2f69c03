//! Whoever signs tokens for workloads: a CI system, a cluster's API server.

use std::fmt;

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Signs JSON Web Tokens by ES256, with a key of its own.
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    public: String,
    kid: String,
    jwk: Value,
}

impl TokenIssuer {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self> {
        let pair = KeyPair::generate()?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &pair.serialize_der(),
            &SystemRandom::new(),
        );
        let key = key.ok().context("a key that cannot sign")?;
        let kid = format!("key-{:016x}", fastrand::u64(..));
        // An uncompressed point: a byte that says so, then both coordinates.
        let coordinate = |at: std::ops::Range<usize>| {
            let bytes = key.public_key().as_ref().get(at).context("a point that is too short")?;
            anyhow::Ok(BASE64URL_NOPAD.encode(bytes))
        };
        let (x, y) = (coordinate(1..33)?, coordinate(33..65)?);
        let jwk =
            json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y });
        Ok(Self { key, public: pair.public_key_pem(), kid, jwk })
    }

    /// What checks its signatures, in PEM.
    pub fn public_key_pem(&self) -> &str {
        &self.public
    }

    /// The same as a JSON Web Key.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// What a token says, by whomever it is.
    ///
    /// # Errors
    /// It is no token.
    pub fn claims(token: &str) -> Result<Value> {
        let claims = token.split('.').nth(1).context("no token")?;
        Ok(serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes())?)?)
    }

    /// A token that says `claims`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn token(&self, claims: &Value) -> Result<String> {
        self.token_by(&self.kid, claims)
    }

    /// A token that says `claims`, and that its key is called `kid`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn token_by(&self, kid: &str, claims: &Value) -> Result<String> {
        self.sign(kid, claims.to_string().as_bytes())
    }

    /// A token that says `claims`, which may be no claims at all.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn token_of(&self, claims: &[u8]) -> Result<String> {
        self.sign(&self.kid, claims)
    }

    fn sign(&self, kid: &str, claims: &[u8]) -> Result<String> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": kid }).to_string();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let signed = format!("{}.{}", part(header.as_bytes()), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.ok().context("no randomness for a signature")?;
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref())))
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").finish_non_exhaustive()
    }
}

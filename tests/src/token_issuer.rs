//! Whoever signs tokens for workloads: a CI system, a cluster's API server.

use std::fmt;

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// Signs JSON Web Tokens by ES256, with a key of its own.
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    public: String,
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
        Ok(Self { key: key.ok().context("a key that cannot sign")?, public: pair.public_key_pem() })
    }

    /// What checks its signatures, in PEM.
    pub fn public_key_pem(&self) -> &str {
        &self.public
    }

    /// A token that says `claims`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&json!({ "alg": "ES256", "typ": "JWT" })), part(claims));
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

//! The seal: what keeps the broker's own keys unreadable at rest.
//!
//! One 32-byte key, given from outside the data directory, wraps the certificate authority's key, the ledger's signing
//! key and the key of the local store. Nothing else is encrypted with it directly: each purpose has a key of its own,
//! derived by HKDF-SHA256 (RFC 5869), so a blob wrapped for one purpose opens for no other.

use bursar_core::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The opened seal.
pub struct Seal {
    root: Prk,
}

impl Seal {
    /// Takes the key as its file holds it: 32 bytes in base64, white space around it ignored.
    ///
    /// # Errors
    /// [`SealError::KeyForm`] when it is anything else.
    pub fn from_key(encoded: &Secret) -> Result<Self, SealError> {
        let text = encoded.expose().trim_ascii();
        let key = Zeroizing::new(data_encoding::BASE64.decode(text).map_err(|_| SealError::KeyForm)?);
        if key.len() != KEY_LENGTH {
            return Err(SealError::KeyForm);
        }
        Ok(Self { root: Salt::new(HKDF_SHA256, SALT).extract(&key) })
    }

    /// Makes a new key in the form of its file.
    ///
    /// # Errors
    /// [`SealError::Random`] when the operating system gives no randomness.
    pub fn generate_key(random: &SystemRandom) -> Result<Secret, SealError> {
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        random.fill(key.as_mut_slice()).map_err(|_| SealError::Random)?;
        Ok(Secret::from(data_encoding::BASE64.encode(key.as_slice())))
    }

    /// A key of 32 bytes for `purpose` alone.
    ///
    /// # Errors
    /// [`SealError::Crypto`], which does not happen for this length.
    pub fn key_for(&self, purpose: &str) -> Result<Secret, SealError> {
        let info = [purpose.as_bytes()];
        let derived = self.root.expand(&info, Length).map_err(|_| SealError::Crypto)?;
        Secret::try_filled(KEY_LENGTH, |out| derived.fill(out).map_err(|_| SealError::Crypto))
    }

    /// Encrypts `plain` for `purpose`: nonce, ciphertext, tag.
    ///
    /// # Errors
    /// [`SealError::Random`] when the operating system gives no randomness.
    pub fn wrap(&self, purpose: &str, plain: &Secret) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
        body.extend_from_slice(plain.expose());
        self.cipher(purpose)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut *body)
            .map_err(|_| SealError::Crypto)?;
        Ok([nonce.as_slice(), body.as_slice()].concat())
    }

    /// Decrypts what [`Seal::wrap`] made for the same purpose.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] when it was made with another key or for another purpose, or was changed since.
    pub fn open(&self, purpose: &str, wrapped: &[u8]) -> Result<Secret, SealError> {
        let wrong = || SealError::WrongKey { purpose: purpose.to_owned() };
        let (nonce, body) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .cipher(purpose)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose), &mut body)
            .map_err(|_| wrong())?;
        Ok(Secret::new(plain.to_vec()))
    }

    fn cipher(&self, purpose: &str) -> Result<LessSafeKey, SealError> {
        let key = self.key_for(purpose)?;
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| SealError::Crypto)?;
        Ok(LessSafeKey::new(key))
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// Why the seal does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the seal key is not 32 bytes in base64; `bursar-broker init` makes one")]
    KeyForm,
    #[error(
        "the seal key does not open the {purpose} in the ledger: it is the key of another broker, or the ledger was \
         changed; give the key that this data directory was made with"
    )]
    WrongKey { purpose: String },
    #[error("the operating system gives no randomness")]
    Random,
    #[error("the cipher refused its input")]
    Crypto,
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_LENGTH
    }
}

const KEY_LENGTH: usize = 32;
const SALT: &[u8] = b"bursar seal v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        let key = Seal::generate_key(&SystemRandom::new()).expect("key");
        Seal::from_key(&key).expect("seal")
    }

    #[test]
    fn what_is_wrapped_opens_for_the_same_purpose_only() {
        let seal = seal();
        let wrapped = seal.wrap("authority key", &Secret::new(b"plain".to_vec())).expect("wrapped");
        assert!(seal.open("authority key", &wrapped).is_ok_and(|plain| plain.ct_eq(b"plain")));
        assert!(matches!(seal.open("signing key", &wrapped), Err(SealError::WrongKey { .. })));
    }

    #[test]
    fn another_key_or_a_changed_byte_is_refused() {
        let first = seal();
        let mut wrapped = first.wrap("p", &Secret::new(b"plain".to_vec())).expect("wrapped");
        assert!(matches!(seal().open("p", &wrapped), Err(SealError::WrongKey { .. })));
        wrapped[NONCE_LEN] ^= 1;
        assert!(matches!(first.open("p", &wrapped), Err(SealError::WrongKey { .. })));
        assert!(matches!(first.open("p", b"short"), Err(SealError::WrongKey { .. })));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for bad in ["", "aGVsbG8=", "not base64!"] {
            assert!(matches!(Seal::from_key(&Secret::from(bad.to_owned())), Err(SealError::KeyForm)));
        }
    }
}

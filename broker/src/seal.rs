//! The seal: what keeps the broker's own keys unreadable at rest.
//!
//! One 32-byte key, given from outside the data directory, wraps the certificate authority's key, the ledger's signing
//! key and the key of the local store. Nothing else is encrypted with it directly: each purpose has a key of its own,
//! derived by HKDF-SHA256 (RFC 5869), so a blob wrapped for one purpose opens for no other.
//!
//! While the key is being replaced, the seal knows the one before too: what that wrapped opens still, and everything is
//! wrapped by the new one.

use bursar_core::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The opened seal.
pub struct Seal {
    root: Prk,
    previous: Option<Prk>,
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
        Ok(Self { root: Salt::new(HKDF_SHA256, SALT).extract(&key), previous: None })
    }

    /// The same, which opens what `previous` wrapped too.
    #[must_use]
    pub fn after(self, previous: Self) -> Self {
        Self { previous: Some(previous.root), ..self }
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
        derive(&self.root, purpose)
    }

    /// The same of the key before, where there is one.
    ///
    /// # Errors
    /// As [`Seal::key_for`].
    pub fn previous_key_for(&self, purpose: &str) -> Result<Option<Secret>, SealError> {
        self.previous.as_ref().map(|previous| derive(previous, purpose)).transpose()
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
        cipher(&self.root, purpose)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut *body)
            .map_err(|_| SealError::Crypto)?;
        Ok([nonce.as_slice(), body.as_slice()].concat())
    }

    /// Decrypts what [`Seal::wrap`] made for the same purpose.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] when it was made with another key or for another purpose, or was changed since.
    pub fn open(&self, purpose: &str, wrapped: &[u8]) -> Result<Secret, SealError> {
        let opened = open(&self.root, purpose, wrapped);
        match (&self.previous, opened) {
            (Some(previous), Err(SealError::WrongKey { .. })) => open(previous, purpose, wrapped),
            (_, opened) => opened,
        }
    }

    /// What the key before wrapped, wrapped by this one; none where it is already.
    ///
    /// # Errors
    /// As [`Seal::open`].
    pub fn rewrap(&self, purpose: &str, wrapped: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        match open(&self.root, purpose, wrapped) {
            Ok(_) => Ok(None),
            Err(_) => self.wrap(purpose, &self.open(purpose, wrapped)?).map(Some),
        }
    }
}

fn open(root: &Prk, purpose: &str, wrapped: &[u8]) -> Result<Secret, SealError> {
    let wrong = || SealError::WrongKey { purpose: purpose.to_owned() };
    let (nonce, body) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain = cipher(root, purpose)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose), &mut body)
        .map_err(|_| wrong())?;
    Ok(Secret::new(plain.to_vec()))
}

fn cipher(root: &Prk, purpose: &str) -> Result<LessSafeKey, SealError> {
    let key = derive(root, purpose)?;
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| SealError::Crypto)?;
    Ok(LessSafeKey::new(key))
}

fn derive(root: &Prk, purpose: &str) -> Result<Secret, SealError> {
    let info = [purpose.as_bytes()];
    let derived = root.expand(&info, Length).map_err(|_| SealError::Crypto)?;
    Secret::try_filled(KEY_LENGTH, |out| derived.fill(out).map_err(|_| SealError::Crypto))
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// Why the seal does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(
        "the seal key is not 32 bytes in base64; `bursar-broker seal-key` makes one; one that a store wrapped takes \
         `seal.wrapped_by`"
    )]
    KeyForm,
    #[error("the seal key that a store has wrapped is no text; `bursar-broker seal-key` makes one")]
    WrappedForm,
    #[error(
        "the seal key does not open the {purpose} in the ledger: it is the key of another broker, or the ledger was \
         changed; give the key that this data directory was made with, or as `seal.previous` where it is being replaced"
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
    fn a_seal_opens_what_the_one_before_wrapped_and_wraps_by_itself() {
        let key = || Seal::generate_key(&SystemRandom::new()).expect("key");
        let (old, new) = (key(), key());
        let seal = |key: &Secret| Seal::from_key(key).expect("seal");
        let wrapped = seal(&old).wrap("p", &Secret::new(b"plain".to_vec())).expect("wrapped");
        let both = seal(&new).after(seal(&old));
        assert!(both.open("p", &wrapped).is_ok_and(|plain| plain.ct_eq(b"plain")));
        let again = both.rewrap("p", &wrapped).expect("rewrapped").expect("it was wrapped by the old key");
        assert!(seal(&new).open("p", &again).is_ok_and(|plain| plain.ct_eq(b"plain")));
        assert!(seal(&old).open("p", &again).is_err());
        assert_eq!(both.rewrap("p", &again).expect("looked at"), None);
        assert!(both.rewrap("other", &wrapped).is_err());
        let old_key = both.previous_key_for("p").expect("derived").expect("there is one");
        assert!(old_key.ct_eq(seal(&old).key_for("p").expect("derived").expose()));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for bad in ["", "aGVsbG8=", "not base64!"] {
            assert!(matches!(Seal::from_key(&Secret::from(bad.to_owned())), Err(SealError::KeyForm)));
        }
    }
}

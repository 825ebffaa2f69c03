//! The data key: made once for a store, wrapped by the key-encryption key, and the root of every sealing key.

use bursar_core::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The opened data key of one store.
pub(crate) struct DataKey {
    key: Secret,
    store: StoreId,
}

impl DataKey {
    /// Makes the key of a new store.
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let key = Secret::try_filled(KEY_LENGTH, |key| random.fill(key))?;
        let mut store = StoreId([0; STORE_ID_LENGTH]);
        random.fill(&mut store.0)?;
        Ok(Self { key, store })
    }

    /// Opens what [`DataKey::wrap`] made. Refuses when `kek` is another key, or `store` or `wrapped` were changed.
    pub(crate) fn unwrap(kek: &Secret, store: StoreId, wrapped: &[u8]) -> Result<Self, Unspecified> {
        let (nonce, body) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(Unspecified)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = wrapping(kek)?.open_in_place(nonce, wrapping_aad(store), &mut body)?;
        if key.len() != KEY_LENGTH {
            return Err(Unspecified);
        }
        Ok(Self { key: Secret::new(key.to_vec()), store })
    }

    /// Encrypts this key under `kek`, 32 bytes: nonce, ciphertext, tag. A random nonce is safe here, since a
    /// key-encryption key wraps a few keys in its life and not 2^32.
    pub(crate) fn wrap(&self, kek: &Secret) -> Result<Vec<u8>, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        let mut body = Zeroizing::new(Vec::with_capacity(KEY_LENGTH + AES_256_GCM.tag_len()));
        body.extend_from_slice(self.key.expose());
        let unique = Nonce::assume_unique_for_key(nonce);
        wrapping(kek)?.seal_in_place_append_tag(unique, wrapping_aad(self.store), &mut *body)?;
        Ok([nonce.as_slice(), body.as_slice()].concat())
    }

    /// Which store this is the key of.
    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// Encrypts `plain` in place; it opens only with the same `purpose` and `context`.
    pub(crate) fn seal(
        &self,
        purpose: Purpose,
        context: &[u8],
        mut plain: Zeroizing<Vec<u8>>,
    ) -> Result<Sealed, Unspecified> {
        let mut salt = [0; SALT_LENGTH];
        SystemRandom::new().fill(&mut salt)?;
        let key = self.sealing(purpose, &salt)?;
        key.seal_in_place_append_tag(only_nonce(), Aad::from(context), &mut *plain)?;
        Ok(Sealed { salt, body: std::mem::take(&mut *plain) })
    }

    /// Decrypts in place what [`DataKey::seal`] made for the same `purpose` and `context`.
    pub(crate) fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        let mut body = Zeroizing::new(sealed.body);
        let key = self.sealing(purpose, &sealed.salt)?;
        let length = key.open_in_place(only_nonce(), Aad::from(context), &mut body)?.len();
        body.truncate(length);
        Ok(body)
    }

    fn sealing(&self, purpose: Purpose, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
        let info = [purpose.label(), self.store.0.as_slice()];
        let root = Salt::new(HKDF_SHA256, salt).extract(self.key.expose());
        Ok(LessSafeKey::new(UnboundKey::from(root.expand(&info, &AES_256_GCM)?)))
    }
}

/// What a sealing key is for; a box sealed for one opens for no other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// One version of one secret.
    Value,
    /// The same for one that cannot be read after a time.
    ExpiringValue,
    /// The labels of one secret.
    Labels,
    /// An empty message that shows that the data key in memory is that of the file.
    Proof,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Value => b"bursar local store: value v1",
            Self::ExpiringValue => b"bursar local store: expiring value v1",
            Self::Labels => b"bursar local store: labels v1",
            Self::Proof => b"bursar local store: proof v1",
        }
    }
}

/// Ciphertext and tag, with the salt of the key that made them.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) salt: [u8; SALT_LENGTH],
    pub(crate) body: Vec<u8>,
}

/// Tells stores apart, so that neither a wrapped key nor a value fits into another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) [u8; STORE_ID_LENGTH]);

fn wrapping(kek: &Secret) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&AES_256_GCM, kek.expose()).map(LessSafeKey::new)
}

fn wrapping_aad(store: StoreId) -> Aad<Vec<u8>> {
    Aad::from([WRAPPING, store.0.as_slice()].concat())
}

/// Each sealing key encrypts one message, so one nonce is enough.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

pub(crate) const KEY_LENGTH: usize = 32;
const SALT_LENGTH: usize = 32;
const STORE_ID_LENGTH: usize = 16;
const WRAPPING: &[u8] = b"bursar local store: data key v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn kek(byte: u8) -> Secret {
        Secret::new(vec![byte; KEY_LENGTH])
    }

    fn sealed(key: &DataKey) -> Sealed {
        key.seal(Purpose::Value, b"here", Zeroizing::new(b"plain".to_vec())).expect("sealed")
    }

    #[test]
    fn a_wrapped_key_opens_what_the_key_sealed() {
        let key = DataKey::generate().expect("key");
        let again = DataKey::unwrap(&kek(1), key.store(), &key.wrap(&kek(1)).expect("wrapped")).expect("key");
        let opened = again.open(Purpose::Value, b"here", sealed(&key)).expect("opened");
        assert_eq!(opened.as_slice(), b"plain");
    }

    #[test]
    fn a_wrapped_key_opens_for_its_store_and_its_wrapper_only() {
        let key = DataKey::generate().expect("key");
        let wrapped = key.wrap(&kek(1)).expect("wrapped");
        assert!(DataKey::unwrap(&kek(2), key.store(), &wrapped).is_err());
        assert!(DataKey::unwrap(&kek(1), StoreId([0; STORE_ID_LENGTH]), &wrapped).is_err());
        assert!(DataKey::unwrap(&kek(1), key.store(), &wrapped[..NONCE_LEN - 1]).is_err());
    }

    #[test]
    fn a_box_opens_for_its_purpose_and_context_only() {
        let key = DataKey::generate().expect("key");
        assert!(key.open(Purpose::Proof, b"here", sealed(&key)).is_err());
        assert!(key.open(Purpose::Value, b"there", sealed(&key)).is_err());
        assert!(DataKey::generate().expect("key").open(Purpose::Value, b"here", sealed(&key)).is_err());
    }

    #[test]
    fn the_same_plaintext_never_gives_the_same_box() {
        let key = DataKey::generate().expect("key");
        let (one, other) = (sealed(&key), sealed(&key));
        assert_ne!((one.salt, one.body), (other.salt, other.body));
    }
}

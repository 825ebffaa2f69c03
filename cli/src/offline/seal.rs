//! How a copy is sealed: by a key that is derived from the identity for each file, with all that stands before it.
//!
//! Behind the head come a salt, what tells which identity it was, and the values, by AES-256-GCM. One piece, since a copy
//! is made and opened whole, and one nonce, since each key seals one thing.

use std::path::Path;

use bursar_core::Secret;
use bursar_sdk::ResolvedEnvironment;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::copy::{Head, decoded, encoded};
use super::error::OfflineError;
use super::identity::Identity;

/// A file with all values of `environment`, bound to `head`.
///
/// # Errors
/// [`OfflineError::Unsealable`].
pub(crate) fn seal(
    head: &Head,
    environment: &ResolvedEnvironment,
    identity: &Identity,
) -> Result<Vec<u8>, OfflineError> {
    let unsealable = || OfflineError::Unsealable;
    let key = identity.keys.first().ok_or_else(unsealable)?;
    let mut salt = [0; SALT];
    SystemRandom::new().fill(&mut salt).map_err(|_| unsealable())?;
    let derived = Derived::of(key, &salt).ok_or_else(unsealable)?;
    let mut file = head.written()?;
    file.extend_from_slice(&salt);
    file.extend_from_slice(&derived.mark);
    let mut sealed = encoded(environment, AES_256_GCM.tag_len())?;
    let done = derived.cipher.seal_in_place_append_tag(only(), Aad::from(&file), &mut *sealed);
    done.map_err(|_| unsealable())?;
    file.extend_from_slice(&sealed);
    Ok(file)
}

/// What is in `file`, which is at `path`, and begins with a head of `length` bytes.
///
/// # Errors
/// [`OfflineError::OtherIdentity`], [`OfflineError::Changed`].
pub(crate) fn open(
    file: &[u8],
    length: usize,
    identity: &Identity,
    path: &Path,
) -> Result<ResolvedEnvironment, OfflineError> {
    let changed = || OfflineError::Changed { path: path.to_owned() };
    let (before, sealed) = file.split_at_checked(length + SALT + MARK).ok_or_else(changed)?;
    let (salt, mark) = before.get(length..).and_then(<[u8]>::split_first_chunk).ok_or_else(changed)?;
    let mut derived = identity.keys.iter().filter_map(|key| Derived::of(key, salt));
    let derived = derived.find(|derived| derived.mark == mark);
    let derived = derived.ok_or_else(|| OfflineError::OtherIdentity { path: path.to_owned() })?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let plain = derived.cipher.open_in_place(only(), Aad::from(before), &mut plain);
    plain.ok().and_then(|plain| decoded(plain)).ok_or_else(changed)
}

/// What one file has of an identity (HKDF-SHA256, RFC 5869).
struct Derived {
    cipher: LessSafeKey,
    /// Tells whether it was this identity. Says nothing of it to who does not have it, and is another in each file.
    mark: [u8; MARK],
}

impl Derived {
    fn of(key: &Secret, salt: &[u8; SALT]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, salt).extract(key.expose());
        let key = Secret::try_filled(KEY, |out| expand(&root, SEALS, out)).ok()?;
        let mut mark = [0; MARK];
        expand(&root, MARKS, &mut mark).ok()?;
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).ok()?);
        Some(Self { cipher, mark })
    }
}

fn expand(root: &Prk, purpose: &[u8], out: &mut [u8]) -> Result<(), ring::error::Unspecified> {
    root.expand(&[purpose], Length(out.len()))?.fill(out)
}

fn only() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

const SEALS: &[u8] = b"bursar offline copy v1 seal";
const MARKS: &[u8] = b"bursar offline copy v1 mark";
const SALT: usize = 32;
const MARK: usize = 16;
const KEY: usize = 32;

#[cfg(test)]
mod tests;

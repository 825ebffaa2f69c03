//! The key that the state is sealed with, which is never where the state is.
//!
//! Without another source it is in the kernel's keyring: in the persistent keyring of the agent's user, which outlives
//! every process of that user and no boot. The keyrings that end with a session or with the last process of a user would
//! be gone just when the agent starts again. Beside the key stands the number of the state that was written last, so that
//! an older file does not pass for the newest.
//!
//! A key that comes from elsewhere, such as a credential that systemd unseals by the TPM, has no number beside it.

use std::path::{Path, PathBuf};

use bursar_core::Secret;
use bursar_core::settings::SecretSource;
use data_encoding::HEXLOWER;
use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::source::{self, SourceError};

/// Where the key is.
#[derive(Debug)]
pub(super) enum Keeping {
    /// In the kernel's keyring, under this name.
    Keyring { name: String },
    /// Where the configuration says.
    Source(SecretSource),
}

/// The key of the moment.
pub(super) struct StateKey {
    pub(super) key: Secret,
    /// The number of the state that was written last, where that is known.
    pub(super) written: Option<u64>,
}

impl Keeping {
    /// For the state in `directory`.
    ///
    /// # Errors
    /// [`KeyFault::Beside`].
    pub(super) fn of(source: Option<SecretSource>, directory: &Path) -> Result<Self, KeyFault> {
        let Some(source) = source else {
            // One machine may have several agents.
            let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
            let short = HEXLOWER.encode(digest.get(..8).unwrap_or_default());
            return Ok(Self::Keyring { name: format!("bursar-agent:state:{short}") });
        };
        if let SecretSource::File(path) = &source {
            let place = path.canonicalize().ok();
            if place.as_deref().and_then(Path::parent) == directory.canonicalize().ok().as_deref() {
                return Err(KeyFault::Beside { path: path.clone() });
            }
        }
        Ok(Self::Source(source))
    }

    /// The key, made now where the keyring has none. Blocks.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub(super) fn key(&self) -> Result<StateKey, KeyFault> {
        match self {
            Self::Keyring { name } => match in_keyring(name)? {
                Some(key) => Ok(key),
                None => made(name),
            },
            Self::Source(source) => {
                let key = source::fetch(source)?;
                if key.len() < KEY {
                    return Err(KeyFault::Short);
                }
                Ok(StateKey { key, written: None })
            }
        }
    }

    /// The state with this number was written. Blocks.
    ///
    /// # Errors
    /// [`KeyFault::Keyring`].
    pub(super) fn written(&self, key: &StateKey, number: u64) -> Result<(), KeyFault> {
        match self {
            Self::Keyring { name } => put(name, &key.key, number),
            Self::Source(_) => Ok(()),
        }
    }
}

fn in_keyring(name: &str) -> Result<Option<StateKey>, KeyFault> {
    let key = match ring()?.search(name) {
        Ok(key) => key,
        Err(KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked) => return Ok(None),
        Err(error) => return Err(KeyFault::Keyring(error)),
    };
    let mut held = Zeroizing::new([0_u8; KEY + NUMBER]);
    // Of another length it was not put there by an agent.
    if key.read(&mut *held).map_err(KeyFault::Keyring)? != KEY + NUMBER {
        return Ok(None);
    }
    let Some((key, number)) = held.split_first_chunk::<KEY>() else { return Ok(None) };
    let number = <[u8; NUMBER]>::try_from(number).map(u64::from_be_bytes).unwrap_or_default();
    Ok(Some(StateKey { key: Secret::new(key.to_vec()), written: Some(number) }))
}

fn made(name: &str) -> Result<StateKey, KeyFault> {
    let key = Secret::try_filled(KEY, |key| SystemRandom::new().fill(key)).map_err(|_| KeyFault::Random)?;
    put(name, &key, 0)?;
    Ok(StateKey { key, written: Some(0) })
}

fn put(name: &str, key: &Secret, number: u64) -> Result<(), KeyFault> {
    let mut held = Zeroizing::new(Vec::with_capacity(KEY + NUMBER));
    held.extend_from_slice(key.expose());
    held.extend_from_slice(&number.to_be_bytes());
    // In the place of the one of that name.
    let put: Result<Key, KeyError> = ring()?.add_key(name, &*held);
    put.and_then(|key| key.set_timeout(LIFE)).map_err(KeyFault::Keyring)
}

/// The persistent keyring. It is linked to the keyring of this thread: whoever has that may read what is in it, and each
/// thread has to ask for itself.
fn ring() -> Result<KeyRing, KeyFault> {
    KeyRing::get_persistent(KeyRingIdentifier::Thread).map_err(KeyFault::Keyring)
}

impl std::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateKey").field("written", &self.written).finish_non_exhaustive()
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    #[error("`{}` lies beside what it would seal; keep it elsewhere, best as a credential of systemd", path.display())]
    Beside { path: PathBuf },
    #[error("the key is shorter than {KEY} bytes; make one by `head -c {KEY} /dev/urandom`")]
    Short,
    #[error("the key cannot be had")]
    Source(#[from] SourceError),
    #[error(
        "the kernel's keyring cannot be used; where it is closed to the agent, give a key by `state.key`"
    )]
    Keyring(#[source] KeyError),
    #[error("the operating system gives no randomness")]
    Random,
}

const KEY: usize = 32;
const NUMBER: usize = 8;
/// Of the key, from each writing on, in seconds. No lease through an agent is longer than a day.
const LIFE: usize = 3 * 24 * 3600;

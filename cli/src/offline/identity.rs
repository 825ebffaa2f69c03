//! The age identities by which copies are encrypted: files as `age-keygen` makes them.
//!
//! An identity is a key of 32 random bytes, as Bech32 (C2SP, `age`: the X25519 identity). Only what it is made of is used
//! here, for a key of our own; no curve is computed with it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use bursar_core::Secret;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::error::OfflineError;
use crate::error::Error;
use crate::{input, text};

/// What opens copies, and makes them.
pub(crate) struct Identity {
    /// At least one. Copies are made with the first.
    pub(super) keys: Vec<Secret>,
}

impl Identity {
    /// Reads the file at `path`, which may be a pipe.
    ///
    /// # Errors
    /// [`OfflineError::NoIdentity`], [`OfflineError::OpenIdentity`], [`OfflineError::BadIdentity`],
    /// [`Error::Unreadable`], [`Error::TooLarge`].
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::Offline(OfflineError::NoIdentity { path: path.to_owned() }),
            _ => unreadable(error),
        })?;
        // The mode is that of what is then read, not of whatever the path names a moment later.
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(OfflineError::OpenIdentity { path: path.to_owned(), mode }.into());
        }
        let content = input::bounded(file, path, LARGEST)?;
        let bad = |what| Error::Offline(OfflineError::BadIdentity { path: path.to_owned(), what });
        Self::parse(&content).map_err(bad)
    }

    /// Reads identities: one a line, with empty lines and comments between them.
    pub(super) fn parse(content: &[u8]) -> Result<Self, &'static str> {
        if ENCRYPTED.iter().any(|beginning| content.starts_with(beginning)) {
            return Err("it is encrypted; hand it over decrypted, by `--offline-identity <(age -d FILE)`");
        }
        let text = str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match lines.map(key).collect::<Result<Vec<_>, _>>()? {
            keys if keys.is_empty() => Err("there is no identity in it"),
            keys => Ok(Self { keys }),
        }
    }
}

/// The key that a line is.
fn key(line: &str) -> Result<Secret, &'static str> {
    if !line.starts_with(PREFIX) {
        return Err(match line.starts_with("AGE-") {
            true => {
                "copies are kept with identities `AGE-SECRET-KEY-1…` alone, not with those of plugins or others"
            }
            false => "it has a line that is neither an identity nor a comment",
        });
    }
    let none = "a line begins as an identity and is none";
    let checked = CheckedHrpstring::new::<Bech32>(line).map_err(|_| none)?;
    let bytes = checked.byte_iter();
    if bytes.len() != KEY {
        return Err(none);
    }
    Secret::try_filled(KEY, |key| {
        key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(())
    })
}

/// A new identity file.
///
/// # Errors
/// [`OfflineError::Unsealable`], where the system has no random numbers.
pub(crate) fn generate(now: Timestamp) -> Result<Secret, OfflineError> {
    let mut key = Zeroizing::new([0; KEY]);
    SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| OfflineError::Unsealable)?;
    // Room for all of it, so that it does not grow and leave copies behind.
    let mut file = Zeroizing::new(String::with_capacity(ROOM));
    file.push_str("# created: ");
    file.push_str(&text::time(now));
    file.push_str("\n# `age-keygen -y` says what its recipient is\n");
    let encoded = bech32::encode_upper_to_fmt::<Bech32, String>(&mut file, HRP, key.as_slice());
    encoded.map_err(|_| OfflineError::Unsealable)?;
    file.push('\n');
    Ok(Secret::from(std::mem::take(&mut *file)))
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

const HRP: Hrp = Hrp::parse_unchecked("age-secret-key-");
const PREFIX: &str = "AGE-SECRET-KEY-1";
const KEY: usize = 32;
/// Reading or writing by anybody but its owner.
const OTHERS: u32 = 0o077;
const LARGEST: usize = 64 * 1024;
const ROOM: usize = 256;
/// How files begin that `age` has to decrypt first.
const ENCRYPTED: [&[u8]; 2] = [b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----"];

#[cfg(test)]
mod tests;

//! Fetches the secrets that the configuration itself needs from where it says they are.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bursar_core::Secret;
use bursar_core::settings::SecretSource;
use zeroize::Zeroizing;

/// Reads the secret anew; it is not kept.
///
/// # Errors
/// [`SourceError`], which names the source.
pub fn fetch(source: &SecretSource) -> Result<Secret, SourceError> {
    fetch_by(source, Modes::Private)
}

/// Reads a token that something else puts there and replaces before it ends. Whoever does that chooses the file's mode:
/// kubelet's tokens can be read by all of a pod, and by nobody outside.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_token(source: &SecretSource) -> Result<Secret, SourceError> {
    fetch_by(source, Modes::Any)
}

fn fetch_by(source: &SecretSource, modes: Modes) -> Result<Secret, SourceError> {
    match source {
        SecretSource::File(path) => read_file(path, modes),
        SecretSource::Env(name) => variable(name).map(Secret::from),
        SecretSource::Credential(name) => {
            let directory = variable("CREDENTIALS_DIRECTORY")?;
            read_file(&PathBuf::from(directory).join(name), modes)
        }
    }
}

/// Which modes a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modes {
    /// None by which everybody can read it.
    Private,
    Any,
}

/// A variable of the environment.
///
/// # Errors
/// [`SourceError::Unset`], also where it is no text.
#[expect(clippy::disallowed_methods, reason = "a source in the environment is read here and nowhere else")]
pub(crate) fn variable(name: &str) -> Result<String, SourceError> {
    std::env::var(name).map_err(|_| SourceError::Unset { name: name.to_owned() })
}

fn read_file(path: &Path, modes: Modes) -> Result<Secret, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if modes == Modes::Private && about.permissions().mode() & WORLD != 0 {
        return Err(SourceError::WorldReadable { path: path.to_owned() });
    }
    // Room for the whole file and one byte more, so that reading neither grows the buffer nor trusts the length.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LENGTH + 1));
    file.take(MAX_LENGTH as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_LENGTH {
        return Err(SourceError::TooLong { path: path.to_owned() });
    }
    let kept = bytes.trim_ascii_end().len();
    bytes.truncate(kept);
    Ok(Secret::from(bytes))
}

/// Why a source gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read file `{}`; check that it exists and that this user may read it", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("file `{}` can be read by everybody; run `chmod 600` on it", path.display())]
    WorldReadable { path: PathBuf },
    #[error("file `{}` is longer than 64 KiB, which no key or credential is", path.display())]
    TooLong { path: PathBuf },
    #[error("environment variable `{name}` is not set")]
    Unset { name: String },
}

const WORLD: u32 = 0o007;
const MAX_LENGTH: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, content: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("key");
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        (dir, SecretSource::File(path))
    }

    #[test]
    fn a_file_is_read_without_its_last_newline() {
        let (_dir, source) = file(0o600, b"key\n");
        assert!(fetch(&source).is_ok_and(|key| key.ct_eq(b"key")));
    }

    #[test]
    fn a_file_that_everybody_may_read_is_refused() {
        let (_dir, source) = file(0o644, b"key");
        assert!(matches!(fetch(&source), Err(SourceError::WorldReadable { .. })));
        assert!(fetch_token(&source).is_ok_and(|token| token.ct_eq(b"key")), "kubelet chose the mode");
    }

    #[test]
    fn what_is_missing_is_named() {
        let absent = SecretSource::Env("BURSAR_TEST_NOT_SET".to_owned());
        assert!(fetch(&absent).err().is_some_and(|error| error.to_string().contains("BURSAR_TEST_NOT_SET")));
    }
}

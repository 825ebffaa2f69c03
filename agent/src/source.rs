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
    match source {
        SecretSource::File(path) => read_file(path, WORLD),
        SecretSource::Env(name) => variable(name).map(Secret::from),
        SecretSource::Credential(name) => {
            let directory = variable("CREDENTIALS_DIRECTORY")?;
            read_file(&PathBuf::from(directory).join(name), WORLD)
        }
    }
}

/// Reads what kubelet puts into a volume, with the mode that the pod asks for.
///
/// # Errors
/// [`SourceError`], which names the file.
pub fn projected(path: &Path) -> Result<Secret, SourceError> {
    read_file(path, 0)
}

#[expect(clippy::disallowed_methods, reason = "a source in the environment is read here and nowhere else")]
fn variable(name: &str) -> Result<String, SourceError> {
    std::env::var(name).map_err(|_| SourceError::Unset { name: name.to_owned() })
}

/// Reads a certificate.
///
/// # Errors
/// [`SourceError`], which names the file.
pub fn public(path: &Path) -> Result<Vec<u8>, SourceError> {
    std::fs::read(path).map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })
}

fn read_file(path: &Path, refused: u32) -> Result<Secret, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.permissions().mode() & refused != 0 {
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
    }

    #[test]
    fn what_kubelet_keeps_has_the_mode_that_it_gave_it() {
        let (dir, _) = file(0o644, b"token\n");
        assert!(projected(&dir.path().join("key")).is_ok_and(|token| token.ct_eq(b"token")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let absent = SecretSource::Env("BURSAR_TEST_NOT_SET".to_owned());
        assert!(fetch(&absent).err().is_some_and(|error| error.to_string().contains("BURSAR_TEST_NOT_SET")));
    }
}

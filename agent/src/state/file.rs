//! The file of the state: where it may be, and how it is replaced.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::KeyFault;
use crate::node::{CredentialError, write_private};

/// The one file.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// In bytes.
    limit: usize,
}

impl StateFile {
    /// In `directory`, which only the agent's user may read and write.
    ///
    /// # Errors
    /// [`FileFault`].
    pub(super) fn in_directory(directory: &Path, limit: u64) -> Result<Self, FileFault> {
        let unusable = |source| FileFault::Directory { path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let about = fs::metadata(directory).map_err(unusable)?;
        if about.mode() & OTHERS != 0 || about.uid() != rustix::process::geteuid().as_raw() {
            return Err(FileFault::Open { path: directory.to_owned() });
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self { path: directory.join(NAME), limit })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// What was written last; nothing where nothing was. What a crash left half written is not looked at.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Unusable> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unusable::Unreadable(error)),
        };
        let most = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(SLACK);
        let mut sealed = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut sealed).map_err(Unusable::Unreadable)?;
        if u64::try_from(sealed.len()).is_ok_and(|length| length <= most) {
            return Ok(Some(sealed));
        }
        Err(Unusable::TooLong)
    }

    /// Puts `sealed` in the place of what was there.
    ///
    /// # Errors
    /// [`FileFault::Unwritable`]; what was there is untouched then.
    pub(super) fn write(&self, sealed: &[u8]) -> Result<(), FileFault> {
        Ok(write_private(&self.path, &[sealed])?)
    }

    /// Removes it, where it is there.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "what was kept cannot be removed");
        }
    }
}

/// Why there is no place for a state.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error("`{}` cannot be used; check that its parent exists and that this user may write there", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` has to belong to the agent's user and be closed to others; run `chmod 700` on it", path.display())]
    Open { path: PathBuf },
    #[error("the file cannot be written")]
    Unwritable(#[from] CredentialError),
}

/// Why what was kept is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("it is longer than `state.bytes` allows")]
    TooLong,
    #[error("it is no state of an agent, or one of another release")]
    NoState,
    #[error("it is of an earlier boot of the machine")]
    OtherBoot,
    #[error("it is of the node `{node}`, which this is not")]
    OtherNode { node: String },
    #[error("it is older than what was kept last: somebody put it back")]
    Older,
    #[error("it was sealed with another key, or was changed or cut off")]
    Closed,
    #[error("there is no key for it")]
    Key(#[from] KeyFault),
}

const NAME: &str = "state";
const OTHERS: u32 = 0o077;
/// Heads, ends and the journal beside the answers.
const SLACK: u64 = 16 * 1024 * 1024;

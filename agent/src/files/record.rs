//! Until when the files of a set may stay, for the agent that comes after this one.
//!
//! An agent that starts finds files and does not know their leases. What it knows is written down here: the moment at which
//! the first of them is over if nobody extends it. Until then the files may stay while the broker is asked; after it, or
//! where nothing is written down, they are removed first. No secret, and no name but the set's.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// The file that says it, one for each set.
#[derive(Debug, Clone)]
pub(super) struct Record {
    folder: PathBuf,
    name: String,
}

impl Record {
    /// Of the set `name`.
    pub(super) fn of(name: &str, data_dir: &Path) -> Self {
        Self { folder: data_dir.join("files"), name: name.to_owned() }
    }

    /// Until when files that are there may stay. Nothing when they may not.
    pub(super) fn read(&self) -> Option<Timestamp> {
        fs::read_to_string(self.path()).ok()?.trim().parse().ok()
    }

    /// They may stay until then.
    pub(super) fn write(&self, until: Timestamp) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let new = self.folder.join(format!("{}.new", self.name));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        writeln!(options.open(&new)?, "{until}")?;
        fs::rename(new, self.path())
    }

    /// There are none.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read_by_the_next_agent() {
        let folder = tempfile::tempdir().expect("folder");
        let (until, record) = (Timestamp::MAX, Record::of("web", &folder.path().join("data")));
        assert_eq!(record.read(), None);
        record.write(Timestamp::UNIX_EPOCH).expect("written");
        record.write(until).expect("written");
        assert_eq!(Record::of("web", &folder.path().join("data")).read(), Some(until));
        assert_eq!(Record::of("api", &folder.path().join("data")).read(), None);
        record.remove().expect("removed");
        record.remove().expect("removed");
        assert_eq!(record.read(), None);
    }

    #[test]
    fn what_cannot_be_read_lets_nothing_stay() {
        let folder = tempfile::tempdir().expect("folder");
        let record = Record::of("web", folder.path());
        record.write(Timestamp::MAX).expect("written");
        fs::write(folder.path().join("files/web"), "soon").expect("written");
        assert_eq!(record.read(), None);
    }
}

//! Where the files of a set are and until when they may stay, for the agent that comes after this one.
//!
//! An agent that starts finds files and does not know their leases. What it knows is written down here: the moment at which
//! the first of them is over if nobody extends it. Until then the files may stay while the broker is asked; after it, or
//! where nothing is written down, they are removed first. So are those of a set that is configured no more, which nobody
//! else would remember. No secret is in a record.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::FileSet;

/// The file that says it, one for each set.
#[derive(Debug, Clone)]
pub(super) struct Record {
    folder: PathBuf,
    name: String,
    directory: PathBuf,
}

impl Record {
    /// Of `set`.
    pub(super) fn of(set: &FileSet, data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER), name: set.name.clone(), directory: set.directory.clone() }
    }

    /// What is written down of sets that are not among `sets`, or that had another directory.
    pub(super) fn forgotten(sets: &[FileSet], data_dir: &Path) -> Vec<Self> {
        let folder = data_dir.join(FOLDER);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let record = |name: String| {
            let (_, directory) = read(&folder.join(&name))?;
            let known = sets.iter().any(|set| set.name == name && set.directory == directory);
            (!known).then(|| Self { folder: folder.clone(), name, directory })
        };
        names.filter_map(record).collect()
    }

    /// The set's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Until when files that are there may stay. Nothing when they may not.
    pub(super) fn read(&self) -> Option<Timestamp> {
        let (until, directory) = read(&self.path())?;
        (directory == self.directory).then_some(until)
    }

    /// They may stay until then.
    pub(super) fn write(&self, until: Timestamp) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // No set is called so.
        let new = self.folder.join(format!(".{}", self.name));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&[format!("{until}\n").as_bytes(), self.directory.as_os_str().as_bytes()].concat())?;
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

/// The time and the directory that a record has.
fn read(path: &Path) -> Option<(Timestamp, PathBuf)> {
    let mut text = fs::read(path).ok()?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let directory = PathBuf::from(std::ffi::OsString::from_vec(text.split_off(end).split_off(1)));
    let until = std::str::from_utf8(&text).ok()?.parse().ok()?;
    directory.is_absolute().then_some((until, directory))
}

const FOLDER: &str = "files";

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, directory: &str) -> FileSet {
        FileSet {
            name: name.to_owned(),
            directory: directory.into(),
            on_disk: false,
            environment: String::new(),
            owner: None,
            group: None,
            outputs: Vec::new(),
            hook: None,
        }
    }

    #[test]
    fn what_was_written_down_is_read_by_the_next_agent() {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().join("data");
        let (until, record) = (Timestamp::MAX, Record::of(&set("web", "/run/web"), &data));
        assert_eq!(record.read(), None);
        record.write(Timestamp::UNIX_EPOCH).expect("written");
        record.write(until).expect("written");
        assert_eq!(Record::of(&set("web", "/run/web"), &data).read(), Some(until));
        assert_eq!(Record::of(&set("api", "/run/web"), &data).read(), None);
        assert_eq!(Record::of(&set("web", "/run/other"), &data).read(), None);
        record.remove().expect("removed");
        record.remove().expect("removed");
        assert_eq!(record.read(), None);
    }

    #[test]
    fn what_cannot_be_read_lets_nothing_stay() {
        let folder = tempfile::tempdir().expect("folder");
        let record = Record::of(&set("web", "/run/web"), folder.path());
        record.write(Timestamp::MAX).expect("written");
        for text in ["", "soon\n/run/web", "2026-01-01T00:00:00Z", "\n", "2026-01-01T00:00:00Z\nweb"] {
            fs::write(folder.path().join("files/web"), text).expect("written");
            assert_eq!(record.read(), None, "{text}");
        }
    }

    #[test]
    fn a_set_that_is_configured_no_more_or_elsewhere_is_remembered() {
        let folder = tempfile::tempdir().expect("folder");
        for (name, directory) in [("web", "/run/web"), ("api", "/run/api"), ("gone", "/run/gone")] {
            Record::of(&set(name, directory), folder.path()).write(Timestamp::MAX).expect("written");
        }
        let sets = [set("web", "/run/web"), set("api", "/run/elsewhere"), set("new", "/run/new")];
        let mut forgotten: Vec<_> = Record::forgotten(&sets, folder.path())
            .iter()
            .map(|record| (record.name().to_owned(), record.directory().display().to_string()))
            .collect();
        forgotten.sort();
        let known = [("api", "/run/api"), ("gone", "/run/gone")];
        assert_eq!(forgotten, known.map(|(name, directory)| (name.to_owned(), directory.to_owned())));
    }
}

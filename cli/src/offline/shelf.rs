//! The folder of copies: one file for each environment of each broker.
//!
//! It is its user's alone, and so is each file; what is not, or is reached by a link, is not used. A file gets its name
//! when it is whole.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use bursar_core::Secret;
use bursar_proto::limits;
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::copy::Head;
use super::error::OfflineError;
use crate::error::Error;
use crate::settings::Folders;
use crate::{disclose, input};

/// Where copies are.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(super) folder: PathBuf,
}

/// A file among the copies.
#[derive(Debug)]
pub(crate) struct Shelved {
    pub(crate) path: PathBuf,
    /// What it says of itself, which is believed only once it is opened; or why it cannot be used at all.
    pub(crate) head: Result<Head, Error>,
}

impl Shelf {
    /// The one of this user, whether there is one yet or not.
    ///
    /// # Errors
    /// [`OfflineError::Nowhere`].
    pub(crate) fn of(folders: &Folders) -> Result<Self, OfflineError> {
        let cache = folders.cache().ok_or(OfflineError::Nowhere)?;
        Ok(Self { folder: cache.join("bursar").join("offline") })
    }

    /// Where the copy of an environment is, or would be.
    pub(crate) fn path(&self, environment: &str, broker: &str) -> PathBuf {
        self.folder.join(name(environment, broker))
    }

    /// Puts a copy there, in the place of an older one.
    ///
    /// # Errors
    /// [`OfflineError::NotOurs`], [`Error::Unwritable`].
    pub(crate) fn put(&self, head: &Head, file: Vec<u8>) -> Result<PathBuf, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|source| Error::Unwritable { path: self.folder.clone(), source })?;
        self.folder()?;
        let path = self.path(&head.environment, &head.broker);
        disclose::replace_file(&path, &Secret::new(file))?;
        Ok(path)
    }

    /// The copy of an environment.
    ///
    /// # Errors
    /// [`OfflineError::NotKept`], [`OfflineError::NotOurs`], [`Error::Unreadable`], [`Error::TooLarge`].
    pub(crate) fn read(&self, environment: &str, broker: &str) -> Result<Vec<u8>, Error> {
        let file = match self.folder()? {
            Some(folder) => self.file(&folder, &name(environment, broker))?,
            None => None,
        };
        let not_kept =
            || OfflineError::NotKept { environment: environment.to_owned(), broker: broker.to_owned() };
        file.ok_or_else(not_kept).map_err(Error::from)
    }

    /// Every file there, in order of their names; none where there is no folder.
    ///
    /// # Errors
    /// [`OfflineError::NotOurs`] for the folder itself, [`Error::Unreadable`].
    pub(crate) fn all(&self) -> Result<Vec<Shelved>, Error> {
        let Some(folder) = self.folder()? else { return Ok(Vec::new()) };
        let unreadable = |source| Error::Unreadable { path: self.folder.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort();
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let path = self.folder.join(&name);
            let file = name.to_str().map(|name| self.file(&folder, name));
            let head = match file.unwrap_or(Ok(Some(Vec::new()))) {
                // It went in between.
                Ok(None) => continue,
                Ok(Some(file)) => match Head::read(&file) {
                    Some((head, _)) => Ok(head),
                    None => Err(OfflineError::NoCopy { path: path.clone() }.into()),
                },
                Err(error) => Err(error),
            };
            all.push(Shelved { path, head });
        }
        Ok(all)
    }

    /// Removes a file of the folder; whether it was there.
    ///
    /// # Errors
    /// [`Error::Unwritable`].
    pub(crate) fn remove(path: &Path) -> Result<bool, Error> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Unwritable { path: path.to_owned(), source }),
        }
    }

    /// The folder, opened, if there is one and it is this user's alone.
    fn folder(&self) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = checked(open(&self.folder, flags, Mode::empty()), &self.folder)?;
        opened.map(|file| is_ours(&file, &self.folder).map(|()| file.into())).transpose()
    }

    /// What is in a file of the folder, if there is one and it is this user's alone.
    fn file(&self, folder: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.folder.join(name);
        // Without waiting for whoever would write into a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Some(file) = checked(openat(folder, name, flags, Mode::empty()), &path)? else { return Ok(None) };
        is_ours(&file, &path)?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(not_ours(&path, "it is no file").into());
        }
        let mut content = input::bounded(file, &path, LARGEST)?;
        Ok(Some(std::mem::take(&mut *content)))
    }
}

/// What was opened; nothing, where nothing is.
fn checked(opened: Result<OwnedFd, Errno>, path: &Path) -> Result<Option<File>, Error> {
    match opened {
        Ok(opened) => Ok(Some(opened.into())),
        Err(Errno::NOENT) => Ok(None),
        // What a link looks like to one who does not follow it; for a folder it is no folder.
        Err(Errno::LOOP | Errno::NOTDIR) => {
            Err(not_ours(path, "it is a link, or something in its place").into())
        }
        Err(error) => Err(Error::Unreadable { path: path.to_owned(), source: error.into() }),
    }
}

fn is_ours(file: &File, path: &Path) -> Result<(), Error> {
    let metadata = file.metadata().map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_ours(path, "it is another user's").into());
    }
    match metadata.mode() & OTHERS {
        0 => Ok(()),
        _ => Err(not_ours(path, "others may read or write it").into()),
    }
}

fn not_ours(path: &Path, what: &'static str) -> OfflineError {
    OfflineError::NotOurs { path: path.to_owned(), what }
}

/// A name that says nothing, whatever characters the environment has in its own.
fn name(environment: &str, broker: &str) -> String {
    let mut digest = Sha256::new();
    for part in [environment, broker] {
        // With its length, so that no two pairs are the same text.
        digest.update(format!("{}:{part}", part.len()));
    }
    format!("{}.copy", data_encoding::HEXLOWER.encode(&digest.finalize()))
}

const OTHERS: u32 = 0o077;
/// What a broker sends at most, and what the head and encryption add.
const LARGEST: usize = limits::MESSAGE + 64 * 1024;

#[cfg(test)]
mod tests;

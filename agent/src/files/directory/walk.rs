//! The way to the directory, step by step.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use super::{DirectoryError, Ownership};

/// Opens the directory at `path`, and makes what is not there yet. It has to be in memory, unless it may be on a disk.
pub(super) fn open(path: &Path, ground: Ground, owner: Ownership) -> Result<OwnedFd, DirectoryError> {
    let make = |parent: &OwnedFd, name: &Path, here: &Path, last: bool| {
        make(parent, name, here, last.then_some(owner)).map(Some)
    };
    let directory = walk(path, ground, make)?.ok_or_else(|| failed(path, Errno::NOENT))?;
    let kind = rustix::fs::fstatfs(&directory).map_err(|error| failed(path, error))?.f_type;
    // Their width differs from machine to machine.
    if ground != Ground::OnDisk && !IN_MEMORY.iter().any(|memory| i128::from(kind) == i128::from(*memory)) {
        return Err(DirectoryError::OnDisk { path: path.to_owned() });
    }
    Ok(directory)
}

/// Opens the directory at `path`, wherever it lies. Nothing, where there is none.
pub(super) fn find(path: &Path, ground: Ground) -> Result<Option<OwnedFd>, DirectoryError> {
    walk(path, ground, |_, _, _, _| Ok(None))
}

/// What a directory lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    InMemory,
    /// Or in memory.
    OnDisk,
    /// A volume in memory of a pod's own, which kubelet makes open to everybody: who may write there is who mounts it so.
    Pod,
}

/// Goes to `path`. What is not there is what `missing` makes of it, for the last step or one before.
fn walk(
    path: &Path,
    ground: Ground,
    missing: impl Fn(&OwnedFd, &Path, &Path, bool) -> Result<Option<OwnedFd>, DirectoryError>,
) -> Result<Option<OwnedFd>, DirectoryError> {
    let mut here = PathBuf::from("/");
    let mut directory = step(CWD, Path::new("/"), &here)?;
    let mut parts = path.components().skip(1).peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { continue };
        here.push(name);
        let (name, last) = (Path::new(name), parts.peek().is_none());
        let next = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => missing(&directory, name, &here, last)?,
            _ => Some(step(&directory, name, &here)?),
        };
        let Some(next) = next else { return Ok(None) };
        directory = next;
        if ground != Ground::Pod {
            trust(&rustix::fs::fstat(&directory).map_err(|error| failed(&here, error))?, &here, last)?;
        }
    }
    // For reading, which the steps were not opened for: they may be passable only.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&directory, ".", flags, Mode::empty());
    opened.map(Some).map_err(|error| failed(&here, error))
}

fn step(from: impl AsFd, name: &Path, here: &Path) -> Result<OwnedFd, DirectoryError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&from, name, flags, Mode::empty()).map_err(|error| {
        let found = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
            Some(FileType::Symlink) => DirectoryError::Link { path: here.to_owned() },
            Some(FileType::Directory) | None => failed(here, error),
            Some(_) => DirectoryError::NoDirectory { path: here.to_owned() },
        }
    })
}

/// That nobody but root and the agent can put something else there. In a directory with the sticky bit others may add
/// names and not take those of root away, so the way may go through one.
fn trust(found: &Stat, here: &Path, last: bool) -> Result<(), DirectoryError> {
    if found.st_uid != 0 && found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(DirectoryError::Foreign { path: here.to_owned(), uid: found.st_uid });
    }
    let sticky = RawMode::from(found.st_mode) & 0o1000 != 0 && !last;
    if found.st_mode & 0o022 != 0 && !sticky {
        return Err(DirectoryError::Open { path: here.to_owned() });
    }
    Ok(())
}

/// Makes the directory `name`; the last of the way for `owner`, whose group is let in and nobody else.
fn make(
    parent: &OwnedFd,
    name: &Path,
    here: &Path,
    owner: Option<Ownership>,
) -> Result<OwnedFd, DirectoryError> {
    let made = rustix::fs::mkdirat(parent, name, if owner.is_some() { CLOSED } else { PASSABLE });
    made.map_err(|error| failed(here, error))?;
    let directory = step(parent, name, here)?;
    let Some(owner) = owner else { return Ok(directory) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let given = rustix::fs::openat(&directory, ".", flags, Mode::empty()).and_then(|directory| {
        rustix::fs::fchown(&directory, None, Some(owner.group))?;
        rustix::fs::fchmod(&directory, owner.folder)
    });
    match given {
        Ok(()) => Ok(directory),
        Err(Errno::PERM) => Err(DirectoryError::NotAllowed { path: here.to_owned() }),
        Err(other) => Err(failed(here, other)),
    }
}

fn failed(path: &Path, error: Errno) -> DirectoryError {
    DirectoryError::Failed { path: path.to_owned(), source: error.into() }
}

/// Of folders with files in them, for the group of the files.
pub(super) const FOLDER: Mode = Mode::from_raw_mode(0o750);
/// Of folders that are not complete.
pub(super) const CLOSED: Mode = Mode::from_raw_mode(0o700);
const PASSABLE: Mode = Mode::from_raw_mode(0o755);
/// tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

//! Writing a new version, and taking old ones away.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::walk::CLOSED;
use super::{DATA, Ownership, Step, at, through, top};
use crate::files::render::Rendered;

/// The folder of what is delivered at `now`. The number at its end keeps two of one moment apart.
pub(super) fn version(now: Timestamp) -> String {
    format!("{OWN}{}.{}", now.strftime("%Y_%m_%d_%H_%M_%S"), fastrand::u32(..))
}

/// Writes `rendered` into a folder of its own, points to it, and takes what was there before away.
pub(super) fn swap(
    directory: &OwnedFd,
    version: &str,
    rendered: &Rendered,
    owner: Ownership,
) -> Result<(), Step> {
    for path in rendered.keys() {
        // Nothing that a link could replace. Found out before anything is written.
        if is_folder(directory, top(path)) {
            return Err(at(top(path))(Errno::ISDIR));
        }
    }
    let written = write(directory, version, rendered, owner)
        .and_then(|()| link(directory, Path::new(version), DATA))
        // What it says is of less worth than why nothing was written; the next delivery tidies up.
        .inspect_err(|_| remove(directory, version).unwrap_or_default());
    written?;
    let linked = rendered.keys().try_for_each(|path| link(directory, &through(top(path)), top(path)));
    tidy(directory, version, |name| rendered.keys().any(|path| top(path) == name))?;
    linked
}

/// Takes everything of the set away. Answers whether there was anything.
pub(super) fn clear(directory: &OwnedFd) -> Result<bool, Step> {
    // First, so that every file is out of reach at once.
    let had = match rustix::fs::unlinkat(directory, DATA, AtFlags::empty()) {
        Ok(()) => true,
        Err(Errno::NOENT) => false,
        Err(error) => return Err(at(DATA)(error)),
    };
    tidy(directory, "", |_| false)?;
    Ok(had)
}

fn write(directory: &OwnedFd, version: &str, rendered: &Rendered, owner: Ownership) -> Result<(), Step> {
    rustix::fs::mkdirat(directory, version, CLOSED).map_err(at(version))?;
    let root = folder(directory, version).map_err(at(version))?;
    for (path, file) in rendered {
        let named = || format!("{version}/{path}");
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut place = root.try_clone().map_err(|_| Errno::MFILE).map_err(at(version))?;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            match rustix::fs::mkdirat(&place, part, CLOSED) {
                Ok(()) | Err(Errno::EXIST) => place = folder(&place, part).map_err(at(named()))?,
                Err(error) => return Err(at(named())(error)),
            }
            open_up(&place, owner).map_err(at(named()))?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = rustix::fs::openat(&place, name, flags, Mode::empty()).map_err(at(named()))?;
        // Owner and mode before anything is in it. The mode first: it takes a privilege to change that of another's file.
        rustix::fs::fchmod(&created, Mode::from_raw_mode(file.mode)).map_err(at(named()))?;
        rustix::fs::fchown(&created, Some(owner.user), Some(owner.group)).map_err(at(named()))?;
        let written = File::from(created).write_all(file.contents.expose());
        written.map_err(|error| at(named())(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    }
    open_up(&root, owner).map_err(at(version))
}

/// Lets the group of the files into a folder.
fn open_up(folder: &OwnedFd, owner: Ownership) -> Result<(), Errno> {
    rustix::fs::fchown(folder, None, Some(owner.group))?;
    rustix::fs::fchmod(folder, owner.folder)
}

/// Has `name` lead to `target`, in one step, whatever it led to before.
fn link(directory: &OwnedFd, target: &Path, name: &str) -> Result<(), Step> {
    if rustix::fs::readlinkat(directory, name, Vec::new())
        .is_ok_and(|found| found.as_bytes() == target.as_os_str().as_encoded_bytes())
    {
        return Ok(());
    }
    match rustix::fs::unlinkat(directory, NEW_LINK, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(at(NEW_LINK)(error)),
    }
    rustix::fs::symlinkat(target, directory, NEW_LINK).map_err(at(NEW_LINK))?;
    rustix::fs::renameat(directory, NEW_LINK, directory, name).map_err(at(name))
}

/// Removes what the agent made and nothing leads to any more: older versions, and links of names that are not `wanted`.
fn tidy(directory: &OwnedFd, version: &str, wanted: impl Fn(&str) -> bool) -> Result<(), Step> {
    for name in names(directory).map_err(at("."))? {
        if (is_version(&name) && name != version) || name == NEW_LINK {
            remove(directory, &name).map_err(at(&name))?;
            continue;
        }
        let leads = rustix::fs::readlinkat(directory, &name, Vec::new());
        let is_own =
            leads.is_ok_and(|leads| leads.as_bytes() == through(&name).as_os_str().as_encoded_bytes());
        if is_own && !wanted(&name) {
            rustix::fs::unlinkat(directory, &name, AtFlags::empty()).map_err(at(&name))?;
        }
    }
    Ok(())
}

fn is_version(name: &str) -> bool {
    let of_version = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
    name.strip_prefix(OWN).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(of_version))
}

fn is_folder(directory: &OwnedFd, name: &str) -> bool {
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

/// Removes a file, a link, or a folder with all that is in it, and follows no link.
fn remove(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(parent, name, AtFlags::empty());
    }
    let inside = folder(parent, name)?;
    for name in names(&inside)? {
        remove(&inside, &name)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Everything in a folder. A name that is not UTF-8 is nobody's that the agent made.
fn names(folder: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

pub(super) fn folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// What names of versions begin with.
const OWN: &str = "..";
/// A link before it gets its name.
const NEW_LINK: &str = "..link";

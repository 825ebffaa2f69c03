//! Whether the files are as they have to be.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::write::folder;
use super::{DATA, Ownership, through, top};
use crate::files::render::{self, Rendered};

/// What a set's files have to be, without their contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected(Vec<ExpectedFile>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct ExpectedFile {
    path: String,
    mode: u32,
    /// SHA-256.
    digest: [u8; 32],
}

impl Expected {
    pub(super) fn of(rendered: &Rendered) -> Self {
        let file = |(path, file): (&String, &render::File)| ExpectedFile {
            path: path.clone(),
            mode: file.mode,
            digest: Sha256::digest(file.contents.expose()).into(),
        };
        Self(rendered.iter().map(file).collect())
    }
}

/// The first name that is not as `expected` has it.
pub(super) fn differs(directory: &OwnedFd, expected: &Expected, owner: Ownership) -> Option<String> {
    let Some(version) = version(directory, owner) else { return Some(DATA.to_owned()) };
    let mut seen = expected.0.iter().filter(|file| !is_there(directory, &version, file, owner));
    seen.next().map(|file| file.path.clone())
}

/// The folder that `..data` leads to, when it is one of the directory itself and open to nobody else.
fn version(directory: &OwnedFd, owner: Ownership) -> Option<OwnedFd> {
    let name = rustix::fs::readlinkat(directory, DATA, Vec::new()).ok()?;
    let name = name.to_str().ok().filter(|name| name.starts_with("..") && !name.contains('/'))?;
    closed_folder(directory, name, owner)
}

fn closed_folder(parent: &OwnedFd, name: &str, owner: Ownership) -> Option<OwnedFd> {
    let folder = folder(parent, name).ok()?;
    let found = rustix::fs::fstat(&folder).ok()?;
    let mode = Mode::from_raw_mode(found.st_mode);
    let fits = mode == owner.folder && found.st_gid == owner.group.as_raw();
    fits.then_some(folder)
}

fn is_there(directory: &OwnedFd, version: &OwnedFd, file: &ExpectedFile, owner: Ownership) -> bool {
    let name = top(&file.path);
    let leads = rustix::fs::readlinkat(directory, name, Vec::new());
    let led = leads.is_ok_and(|leads| leads.as_bytes() == through(name).as_os_str().as_encoded_bytes());
    led && opened(version, &file.path, owner)
        .is_some_and(|opened| is_it(opened, file, owner).unwrap_or(false))
}

/// Opens a file below `version` through no link.
fn opened(version: &OwnedFd, path: &str, owner: Ownership) -> Option<File> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut place = version.try_clone().ok()?;
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        place = closed_folder(&place, part, owner)?;
    }
    // Not waiting, should somebody have put a pipe there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(&place, name, flags, Mode::empty()).ok().map(File::from)
}

fn is_it(mut opened: File, file: &ExpectedFile, owner: Ownership) -> std::io::Result<bool> {
    let Stat { st_mode, st_uid, st_gid, .. } = rustix::fs::fstat(&opened)?;
    let fits = FileType::from_raw_mode(st_mode) == FileType::RegularFile
        && Mode::from_raw_mode(st_mode).as_raw_mode() == file.mode
        && (st_uid, st_gid) == (owner.user.as_raw(), owner.group.as_raw());
    if !fits {
        return Ok(false);
    }
    let (mut digest, mut piece) = (Sha256::new(), Zeroizing::new([0; 8192]));
    loop {
        match opened.read(piece.as_mut_slice())? {
            0 => return Ok(<[u8; 32]>::from(digest.finalize()) == file.digest),
            read => digest.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

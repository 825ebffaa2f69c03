//! The executable of a process: its path, where that can be believed, and its SHA-256.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::process::Process;

/// What could be found out. An executable that the agent may not read, as an agent without privileges may not read that
/// of another user, has no hash; that is no error, only nothing to match on.
#[derive(Debug, Default)]
pub(super) struct Exe {
    pub(super) path: Option<Vec<u8>>,
    /// As hexadecimal digits.
    pub(super) sha256: Option<Vec<u8>>,
}

pub(super) fn look(process: &Process, hashes: &Hashes) -> Exe {
    let sha256 = process.exe_file().ok().and_then(|file| hashes.of(file));
    Exe { path: believed_path(process), sha256 }
}

/// The path, if the agent finds the very file there that the process executes.
fn believed_path(process: &Process) -> Option<Vec<u8>> {
    let path = process.exe_path().ok()?;
    let executed = process.exe_stat().ok()?;
    let found = std::fs::symlink_metadata(Path::new(OsStr::from_bytes(&path))).ok()?;
    (found.dev() == executed.st_dev && found.ino() == executed.st_ino).then_some(path)
}

/// Hashes of executables that were seen, so that each is read once.
#[derive(Debug)]
pub(super) struct Hashes(Cache<Version, [u8; 32]>);

impl Hashes {
    fn of(&self, mut file: File) -> Option<Vec<u8>> {
        let version = Version::of(&file.metadata().ok()?)?;
        let hash = match self.0.get(&version) {
            Some(hash) => hash,
            None => {
                let hash = hash(&mut file)?;
                // Written to while it was read: the hash is of neither version.
                if Version::of(&file.metadata().ok()?).as_ref() != Some(&version) {
                    return None;
                }
                self.0.insert(version, hash);
                hash
            }
        };
        Some(HEXLOWER.encode(&hash).into_bytes())
    }
}

impl Default for Hashes {
    fn default() -> Self {
        Self(Cache::new(SEEN))
    }
}

/// One state of one file. The change time moves with every write and cannot be set back by the file's owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Version {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(file: &Metadata) -> Option<Self> {
        (file.is_file() && file.len() <= MAX_SIZE).then(|| Self {
            dev: file.dev(),
            ino: file.ino(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

fn hash(file: &mut File) -> Option<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut left = MAX_SIZE;
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(digest.finalize().into()),
            read => {
                left = left.checked_sub(u64::try_from(read).ok()?)?;
                digest.update(piece.get(..read)?);
            }
        }
    }
}

const SEEN: usize = 1024;
const PIECE: usize = 64 * 1024;
/// Larger executables have no hash: reading one takes a second or two of a core.
const MAX_SIZE: u64 = 512 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_whole_and_again_when_it_changed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("exe");
        std::fs::write(&path, vec![7; PIECE + 1]).expect("written");
        let hashes = Hashes::default();
        let of = || hashes.of(File::open(&path).expect("open")).expect("hash");
        assert_eq!(of(), HEXLOWER.encode(&Sha256::digest(vec![7; PIECE + 1])).into_bytes());
        std::fs::write(&path, b"other").expect("written");
        assert_eq!(of(), HEXLOWER.encode(&Sha256::digest(b"other")).into_bytes());
    }

    #[test]
    fn what_is_no_regular_file_has_no_hash() {
        assert_eq!(Hashes::default().of(File::open("/dev/zero").expect("open")), None);
    }
}

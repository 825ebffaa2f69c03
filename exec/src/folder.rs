//! Files for a program, in a folder in memory that goes when the program does.
//!
//! Each program has a folder of its own in `bursar-run-UID`, which is the user's alone. The folder of a program is
//! removed when its [`Folder`] is dropped. A supervisor that is killed leaves it behind: each holds a lock on its folder
//! for as long as it lives, and whoever makes the next removes all that nobody holds. Making and removing happen under
//! a lock on `bursar-run-UID`, so that nobody removes what is just being made.
//!
//! A file gets its name when it is whole and has its mode, and takes the place of an older one in one step.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use bursar_core::{Secret, memory};
use rustix::process::geteuid;
use tempfile::TempDir;

/// The files of one program.
#[derive(Debug)]
pub struct Folder {
    directory: TempDir,
    /// Of the folder, for as long as this lives.
    _lock: File,
}

/// Why files cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is nowhere to put them.
    #[error(
        "there is no directory in memory for files: neither $XDG_RUNTIME_DIR nor `{}` is one",
        SHARED_MEMORY
    )]
    NoMemory,
    /// What was named is on a disk.
    #[error("`{}` is on a disk, and secrets are not written to one", path.display())]
    OnDisk { path: PathBuf },
    /// Somebody else was there first.
    #[error("`{}` is no directory of this user alone", path.display())]
    NotOurs { path: PathBuf },
    /// The path leads out of the folder.
    #[error("`{path}` is no path within a directory")]
    Outside { path: String },
    /// The system refused.
    #[error("cannot write `{}`", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where folders are made.
#[derive(Debug, Clone)]
pub struct Site(PathBuf);

impl Site {
    /// In memory: the user's runtime directory, else that of shared memory.
    ///
    /// # Errors
    /// [`FolderError::NoMemory`].
    pub fn in_memory(runtime: Option<&Path>) -> Result<Self, FolderError> {
        let mut places = runtime.into_iter().chain([Path::new(SHARED_MEMORY)]);
        let found = places.find(|place| is_in_memory(place));
        found.map(|place| Self(place.to_owned())).ok_or(FolderError::NoMemory)
    }

    /// This directory, which may be on a disk only where `on_disk` says so.
    ///
    /// # Errors
    /// [`FolderError::OnDisk`].
    pub fn named(path: PathBuf, on_disk: bool) -> Result<Self, FolderError> {
        if on_disk || is_in_memory(&path) { Ok(Self(path)) } else { Err(FolderError::OnDisk { path }) }
    }
}

impl Folder {
    /// A new one, empty.
    ///
    /// # Errors
    /// [`FolderError::NotOurs`], [`FolderError::Unwritable`].
    pub fn make(site: &Site) -> Result<Self, FolderError> {
        let all = site.0.join(format!("bursar-run-{}", geteuid().as_raw()));
        let unwritable = |source| FolderError::Unwritable { path: all.clone(), source };
        make_private(&all)?;
        let turn = File::open(&all).map_err(unwritable)?;
        turn.lock().map_err(unwritable)?;
        remove_abandoned(&all).map_err(unwritable)?;
        let mut folder = tempfile::Builder::new();
        folder.prefix("run-").permissions(Permissions::from_mode(0o700));
        let directory = folder.tempdir_in(&all).map_err(unwritable)?;
        let lock = File::open(directory.path()).map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Puts a file into it, or another in its place, with these permission bits.
    ///
    /// # Errors
    /// [`FolderError::Outside`], [`FolderError::Unwritable`].
    pub fn put(&self, path: &str, mode: u32, contents: &Secret) -> Result<PathBuf, FolderError> {
        let is_within = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !is_within {
            return Err(FolderError::Outside { path: path.to_owned() });
        }
        let whole = self.path().join(path);
        let parent = whole.parent().unwrap_or_else(|| self.path());
        let put = || {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            let mut file = tempfile::NamedTempFile::new_in(parent)?;
            file.write_all(contents.expose())?;
            file.as_file().set_permissions(Permissions::from_mode(mode & 0o777))?;
            file.persist(&whole).map_err(|error| error.error).map(drop)
        };
        put().map_err(|source| FolderError::Unwritable { path: whole.clone(), source })?;
        Ok(whole)
    }
}

/// Makes `all` where it is not there, and looks at whose it is: in shared memory anybody may have made it.
fn make_private(all: &Path) -> Result<(), FolderError> {
    let unwritable = |source| FolderError::Unwritable { path: all.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(all) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unwritable(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(all).map_err(unwritable)?;
    let is_ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
    if is_ours { Ok(()) } else { Err(FolderError::NotOurs { path: all.to_owned() }) }
}

/// Removes the folders whose supervisors are gone.
fn remove_abandoned(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        // What somebody removes meanwhile, or holds, is left to him.
        if File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok()) {
            drop(fs::remove_dir_all(&path));
        }
    }
    Ok(())
}

/// Whether what is written there is written to no disk, but for swap.
pub fn is_in_memory(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| memory::is_in_memory(found.f_type))
}

const SHARED_MEMORY: &str = "/dev/shm";

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> (TempDir, Site) {
        let place = tempfile::tempdir().expect("directory");
        let site = Site::named(place.path().to_owned(), true).expect("site");
        (place, site)
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn a_file_is_its_users_alone_and_goes_with_its_folder() {
        let (place, site) = site();
        let folder = Folder::make(&site).expect("folder");
        let path = folder.put("tls/key.pem", 0o440, &secret("key")).expect("put");
        assert_eq!(fs::read_to_string(&path).expect("read"), "key");
        let mode = |path: &Path| path.metadata().expect("metadata").mode() & 0o777;
        assert_eq!(mode(&path), 0o440);
        for above in path.ancestors().skip(1).take_while(|above| *above != place.path()) {
            assert_eq!(mode(above), 0o700, "{}", above.display());
        }
        folder.put("tls/key.pem", 0o400, &secret("another")).expect("put again");
        assert_eq!(fs::read_to_string(&path).expect("read"), "another");
        assert_eq!(fs::read_dir(path.parent().expect("parent")).expect("listed").count(), 1);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_supervisor_left_is_removed_and_what_is_held_is_not() {
        let (_place, site) = site();
        let held = Folder::make(&site).expect("folder");
        let abandoned = Folder::make(&site).expect("folder");
        let left = abandoned.path().to_owned();
        // As a kill leaves it: the lock is gone, the folder is not.
        let Folder { directory, _lock } = abandoned;
        drop(directory.keep());
        drop(_lock);
        let next = Folder::make(&site).expect("folder");
        assert!(!left.exists() && held.path().exists() && next.path().exists());
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let (_place, site) = site();
        let folder = Folder::make(&site).expect("folder");
        for path in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
            assert!(
                matches!(folder.put(path, 0o400, &secret("x")), Err(FolderError::Outside { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn what_somebody_else_planted_is_refused() {
        let (place, site) = site();
        let all = place.path().join(format!("bursar-run-{}", geteuid().as_raw()));
        std::os::unix::fs::symlink("/tmp", &all).expect("link");
        assert!(matches!(Folder::make(&site), Err(FolderError::NotOurs { .. })));
        fs::remove_file(&all).expect("removed");
        fs::create_dir(&all).expect("made");
        fs::set_permissions(&all, Permissions::from_mode(0o755)).expect("mode");
        assert!(matches!(Folder::make(&site), Err(FolderError::NotOurs { .. })));
    }

    #[test]
    fn a_disk_is_refused_until_it_is_allowed() {
        let disk = PathBuf::from("/proc");
        assert!(matches!(Site::named(disk.clone(), false), Err(FolderError::OnDisk { .. })));
        assert!(Site::named(disk, true).is_ok());
        assert!(Site::named(PathBuf::from(SHARED_MEMORY), false).is_ok(), "/dev/shm is needed, a tmpfs");
        let none = Site::in_memory(Some(Path::new("/nowhere"))).expect("shared memory");
        assert_eq!(none.0, Path::new(SHARED_MEMORY));
    }
}

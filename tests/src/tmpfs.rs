//! A file system in memory, of a size that a test can fill.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Mounted in a directory of its own; unmounted on drop.
#[derive(Debug)]
pub struct Tmpfs {
    directory: TempDir,
}

impl Tmpfs {
    /// Mounts one of so many bytes.
    ///
    /// # Errors
    /// The system refuses: mounting is for root.
    pub fn mount(bytes: u64) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-tmpfs-").tempdir()?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "bursar-test"]);
        let mounted = command.arg(directory.path()).output().context("`mount` cannot be run")?;
        ensure!(
            mounted.status.success(),
            "a file system in memory cannot be mounted: {}; run the tests as root, or in a user namespace of their own: \
             `unshare --map-root-user --mount`",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Ok(Self { directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Fills it but for so many bytes, by a file that may be removed again.
    ///
    /// # Errors
    /// The system refuses.
    pub fn fill_but(&self, bytes: u64) -> Result<PathBuf> {
        let path = self.path().join("filler");
        let space = rustix::fs::statvfs(self.path())?;
        let free = space.f_bavail * space.f_frsize;
        let mut file = File::create(&path)?;
        let mut left = free.saturating_sub(bytes);
        let block = vec![0; 64 * 1024];
        while left > 0 {
            let part = usize::try_from(left.min(block.len() as u64))?;
            file.write_all(block.get(..part).unwrap_or_default())?;
            left -= part as u64;
        }
        Ok(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What could not be unmounted is left to the end of the machine: its directory stays.
        drop(Command::new("umount").arg(self.directory.path()).output());
        drop(fs::remove_dir(self.directory.path()));
    }
}

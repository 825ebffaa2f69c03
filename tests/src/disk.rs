//! A disk so small that a test can fill it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// A file system in memory of a fixed size. Unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many bytes.
    ///
    /// # Errors
    /// The system does not let this process mount: it has to be root, with the capability to.
    pub fn mount(bytes: u64) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-disk-").tempdir()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "bursar-test"])
            .arg(directory.path())
            .output()
            .context("`mount` cannot be run")?;
        ensure!(
            output.status.success(),
            "a small disk cannot be mounted: {}; run the tests as root, with CAP_SYS_ADMIN",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Self { directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Fills it to the last byte. Done again, it takes what was freed since.
    ///
    /// # Errors
    /// Writing fails for another reason than that it is full.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        // Large blocks first, then single bytes into what is left of the last page.
        for size in [64 * 1024, 512, 1] {
            let block = vec![0; size];
            loop {
                match ballast.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("the small disk cannot be filled: {error}"),
                }
            }
        }
        Ok(())
    }

    /// Fills it but for so many bytes. Done again, it takes more.
    ///
    /// # Errors
    /// The system refuses.
    pub fn fill_but(&self, bytes: u64) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        let space = rustix::fs::statvfs(self.path())?;
        let mut left = (space.f_bavail * space.f_frsize).saturating_sub(bytes);
        let block = vec![0; 64 * 1024];
        while left > 0 {
            let part = usize::try_from(left)?.min(block.len());
            ballast.write_all(block.get(..part).unwrap_or_default())?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Gives back what filling took.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.directory.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a broker that is being stopped may still hold files of it.
        drop(Command::new("umount").arg("--lazy").arg(self.directory.path()).output());
    }
}

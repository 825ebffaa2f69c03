//! The directory that a set lies in, written as kubelet writes volumes.
//!
//! The files lie in a folder of their own, `..2026_11_27…`, that nobody can look into before it is complete. A link,
//! `..data`, points to it, and the names that programs open are links through that one. Replacing the one link by a rename
//! replaces all files at once. A program that needs several of them to agree opens `..data` and reads them from there.
//!
//! Whoever may write in the directory, or in one above it, could put another in its place, or a link that leads the agent
//! to a file of somebody else. So the way there is gone step by step, through no link, and every step has to belong to
//! root or the agent and be closed to others. From then on the open directory is what counts, whatever its path becomes.
//!
//! All of this blocks.

mod compare;
mod owner;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

use bursar_core::Clock;
use rustix::io::Errno;

pub(crate) use compare::Expected;
pub(super) use owner::Ownership;
use walk::Ground;

use super::render::Rendered;
use crate::account::NoAccount;
use crate::config::FileSet;

/// Where a set is delivered.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    ground: Ground,
    owner: Ownership,
}

/// What a delivery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The files were there as they have to be.
    AsTheyWere,
    /// They were replaced.
    Replaced,
}

impl Directory {
    /// The directory of `set`.
    ///
    /// # Errors
    /// [`NoAccount`], when nobody here is called as the configuration has it.
    pub(super) fn of(set: &FileSet) -> Result<Self, NoAccount> {
        Ok(Self {
            path: set.directory.clone(),
            ground: if set.on_disk { Ground::OnDisk } else { Ground::InMemory },
            owner: Ownership::find(set.owner.as_ref(), set.group.as_ref())?,
        })
    }

    /// A volume of the pod that this process is part of.
    pub(crate) fn in_pod(path: &Path) -> Self {
        Self { path: path.to_owned(), ground: Ground::Pod, owner: Ownership::in_pod() }
    }

    /// A directory from before, in which nothing is to be written any more.
    pub(super) fn left_behind(path: &Path) -> Self {
        Self { path: path.to_owned(), ground: Ground::InMemory, owner: Ownership::own() }
    }

    /// Puts the files of `rendered` there, and nothing else; does nothing where they are there already.
    ///
    /// # Errors
    /// [`DirectoryError`]; the files are then as they were before.
    pub(crate) fn deliver(
        &self,
        rendered: &Rendered,
        clock: &dyn Clock,
    ) -> Result<(Delivered, Expected), DirectoryError> {
        let expected = Expected::of(rendered);
        let directory = walk::open(&self.path, self.ground, self.owner)?;
        if compare::differs(&directory, &expected, self.owner).is_none() {
            return Ok((Delivered::AsTheyWere, expected));
        }
        let version = write::version(clock.now());
        self.told(write::swap(&directory, &version, rendered, self.owner))?;
        Ok((Delivered::Replaced, expected))
    }

    /// The first thing that is not as it has to be.
    ///
    /// # Errors
    /// [`DirectoryError`], when the directory itself will not do.
    pub(super) fn drift(&self, expected: &Expected) -> Result<Option<String>, DirectoryError> {
        let directory = walk::find(&self.path, self.ground)?;
        let drift = |directory| compare::differs(&directory, expected, self.owner);
        Ok(directory.map_or_else(|| Some(DATA.to_owned()), drift))
    }

    /// Removes all files of the set. Answers whether there were any.
    ///
    /// # Errors
    /// [`DirectoryError`]; some of them may be gone.
    pub(crate) fn clear(&self) -> Result<bool, DirectoryError> {
        match walk::find(&self.path, self.ground)? {
            Some(directory) => self.told(write::clear(&directory)),
            None => Ok(false),
        }
    }

    fn told<T>(&self, outcome: Result<T, Step>) -> Result<T, DirectoryError> {
        outcome.map_err(|Step { name, error }| match error {
            Errno::NOSPC | Errno::DQUOT => DirectoryError::Full { path: self.path.clone() },
            Errno::PERM => DirectoryError::NotAllowed { path: self.path.join(name) },
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
                DirectoryError::InTheWay { path: self.path.join(name) }
            }
            other => DirectoryError::Failed { path: self.path.join(name), source: other.into() },
        })
    }
}

/// What was being done to which name of the directory when the system refused.
#[derive(Debug)]
struct Step {
    name: String,
    error: Errno,
}

/// Ties what the system says to the name that it was about.
fn at(name: impl fmt::Display) -> impl FnOnce(Errno) -> Step {
    move |error| Step { name: name.to_string(), error }
}

/// Why files cannot be put into a directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error("`{}` is a symbolic link, which may lead anywhere; write the path that it leads to", path.display())]
    Link { path: PathBuf },
    #[error("`{}` is no directory", path.display())]
    NoDirectory { path: PathBuf },
    #[error("`{}` belongs to user {uid}, who could replace what is in it; give it to root or to the agent's user", path.display())]
    Foreign { path: PathBuf, uid: u32 },
    #[error("others may write in `{}`, and so replace what is in it; `chmod go-w` it", path.display())]
    Open { path: PathBuf },
    #[error("`{}` is on a disk, which would keep the values; put it on a tmpfs, or set `on_disk = true`", path.display())]
    OnDisk { path: PathBuf },
    #[error("there is no room for the files in `{}`; those from before stay", path.display())]
    Full { path: PathBuf },
    #[error("the agent may not give `{}` to its owner; it needs the capability CAP_CHOWN", path.display())]
    NotAllowed { path: PathBuf },
    #[error("`{}` is there already and is none of the set's files; take it away", path.display())]
    InTheWay { path: PathBuf },
    #[error("`{}` cannot be written", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The first part of a path: what has a link in the directory.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Where the link of a name leads.
fn through(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

/// The link to the files in force.
const DATA: &str = "..data";

//! Whose the files are.

use rustix::fs::{Gid, Mode, Uid};

use super::walk::FOLDER;
use crate::account::{Identity, NoAccount};
use crate::config::Account;

/// The owner and group of the files of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) struct Ownership {
    pub(super) user: Uid,
    pub(super) group: Gid,
    /// Of folders with files in them.
    pub(super) folder: Mode,
}

impl Ownership {
    /// The agent's own user and group.
    pub(in crate::files) fn own() -> Self {
        Self::of(&Identity::own())
    }

    /// The same, and everybody may look into the folders: who gets there at all is decided by who mounts the volume.
    pub(in crate::files) fn in_pod() -> Self {
        Self { folder: OPEN_FOLDER, ..Self::own() }
    }

    /// The accounts of the machine that the configuration names.
    pub(in crate::files) fn find(
        owner: Option<&Account>,
        group: Option<&Account>,
    ) -> Result<Self, NoAccount> {
        Identity::find(owner, group).map(|found| Self::of(&found))
    }

    fn of(identity: &Identity) -> Self {
        Self { user: Uid::from_raw(identity.user), group: Gid::from_raw(identity.group), folder: FOLDER }
    }
}

const OPEN_FOLDER: Mode = Mode::from_raw_mode(0o755);

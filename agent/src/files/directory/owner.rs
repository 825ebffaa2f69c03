//! Whose the files are.

use rustix::fs::{Gid, Uid};

use crate::account::{Identity, NoAccount};
use crate::config::Account;

/// The owner and group of the files of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) struct Ownership {
    pub(super) user: Uid,
    pub(super) group: Gid,
}

impl Ownership {
    /// The agent's own user and group.
    pub(in crate::files) fn own() -> Self {
        Self::of(&Identity::own())
    }

    /// The accounts of the machine that the configuration names.
    pub(in crate::files) fn find(
        owner: Option<&Account>,
        group: Option<&Account>,
    ) -> Result<Self, NoAccount> {
        Identity::find(owner, group).map(|found| Self::of(&found))
    }

    fn of(identity: &Identity) -> Self {
        Self { user: Uid::from_raw(identity.user), group: Gid::from_raw(identity.group) }
    }
}

//! Whose the files are.

use std::fs;

use rustix::fs::{Gid, Uid};
use rustix::process::{getegid, geteuid};

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
        Self { user: geteuid(), group: getegid() }
    }

    /// The accounts of the machine that the configuration names. Without an owner the agent's own user and group; without a
    /// group the owner's.
    pub(in crate::files) fn find(
        owner: Option<&Account>,
        group: Option<&Account>,
    ) -> Result<Self, NoAccount> {
        let user = owner.map(|owner| User::find(owner, USERS)).transpose()?;
        let group = match (group, &user) {
            (Some(group), _) => number_of(group, GROUPS)?,
            (None, Some(user)) => user.group.ok_or(NoAccount::NoGroup { user: user.number })?,
            (None, None) => return Ok(Self::own()),
        };
        let user = user.map_or_else(geteuid, |user| Uid::from_raw(user.number));
        Ok(Self { user, group: Gid::from_raw(group) })
    }
}

struct User {
    number: u32,
    group: Option<u32>,
}

impl User {
    /// Of passwd(5): `NAME:x:UID:GID:…`.
    fn find(account: &Account, file: &'static str) -> Result<Self, NoAccount> {
        let text = read(file)?;
        let mut users = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let number = fields.nth(1)?.parse::<u32>().ok()?;
            Some((name, Self { number, group: fields.next()?.parse().ok() }))
        });
        match account {
            Account::Name(name) => {
                let found = users.find(|(known, _)| known == name).map(|(_, user)| user);
                found.ok_or_else(|| NoAccount::Unknown { name: name.clone(), file })
            }
            Account::Number(number) => {
                let found = users.find(|(_, user)| user.number == *number).map(|(_, user)| user);
                Ok(found.unwrap_or(Self { number: *number, group: None }))
            }
        }
    }
}

/// Of group(5): `NAME:x:GID:…`.
fn number_of(account: &Account, file: &'static str) -> Result<u32, NoAccount> {
    let name = match account {
        Account::Number(number) => return Ok(*number),
        Account::Name(name) => name,
    };
    let text = read(file)?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(name);
        fields.nth(1).filter(|_| named)?.parse().ok()
    });
    found.ok_or_else(|| NoAccount::Unknown { name: name.clone(), file })
}

fn read(file: &'static str) -> Result<String, NoAccount> {
    let bytes = fs::read(file).map_err(|source| NoAccount::Unreadable { file, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Why nobody here can own the files.
#[derive(Debug, thiserror::Error)]
pub enum NoAccount {
    #[error("`{file}` has no `{name}`; for an account from elsewhere, write its number")]
    Unknown { name: String, file: &'static str },
    #[error("the group of user {user} is not known here; give `group`")]
    NoGroup { user: u32 },
    #[error("`{file}` cannot be read")]
    Unreadable {
        file: &'static str,
        #[source]
        source: std::io::Error,
    },
}

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

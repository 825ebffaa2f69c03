//! The accounts of this machine, as `/etc/passwd` and `/etc/group` have them. Accounts from elsewhere are given by number.

use std::fs;
use std::path::PathBuf;

use rustix::process::{getegid, geteuid};

use crate::config::Account;

/// A user with a group: whose a file is, or whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// What is written down of the user; nothing for one who is known by number alone.
    pub(crate) person: Option<Person>,
}

/// What a program is told of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
}

impl Identity {
    /// The agent's own.
    pub(crate) fn own() -> Self {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        // Whoever is not written down is known by number all the same.
        let known = User::find(&Account::Number(user)).ok();
        Self { user, group, person: known.and_then(|user| user.person) }
    }

    /// Those that the configuration names. Without an owner the agent's own user and group; without a group the owner's.
    pub(crate) fn find(owner: Option<&Account>, group: Option<&Account>) -> Result<Self, NoAccount> {
        let own = Self::own();
        let user = owner.map(User::find).transpose()?;
        let group = match (group, &user) {
            (Some(group), _) => number_of(group)?,
            (None, Some(user)) => user.group.ok_or(NoAccount::NoGroup { user: user.number })?,
            (None, None) => own.group,
        };
        Ok(match user {
            Some(user) => Self { user: user.number, group, person: user.person },
            None => Self { group, ..own },
        })
    }

    /// Whether it is the agent's own.
    pub(crate) fn is_own(&self) -> bool {
        (self.user, self.group) == (geteuid().as_raw(), getegid().as_raw())
    }
}

struct User {
    number: u32,
    group: Option<u32>,
    person: Option<Person>,
}

impl User {
    /// Of passwd(5): `NAME:x:UID:GID:COMMENT:HOME:SHELL`.
    fn find(account: &Account) -> Result<Self, NoAccount> {
        let text = read(USERS)?;
        let mut users = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let number = fields.nth(1)?.parse::<u32>().ok()?;
            let group = fields.next()?.parse().ok();
            let home = fields.nth(1).filter(|home| home.starts_with('/'));
            let home = home.map_or_else(|| PathBuf::from("/"), PathBuf::from);
            Some(Self { number, group, person: Some(Person { name, home }) })
        });
        match account {
            Account::Name(name) => {
                let found = users.find(|user| user.person.as_ref().is_some_and(|known| known.name == *name));
                found.ok_or_else(|| NoAccount::Unknown { name: name.clone(), file: USERS })
            }
            Account::Number(number) => {
                let found = users.find(|user| user.number == *number);
                Ok(found.unwrap_or(Self { number: *number, group: None, person: None }))
            }
        }
    }
}

/// Of group(5): `NAME:x:GID:…`.
fn number_of(account: &Account) -> Result<u32, NoAccount> {
    let name = match account {
        Account::Number(number) => return Ok(*number),
        Account::Name(name) => name,
    };
    let text = read(GROUPS)?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(name);
        fields.nth(1).filter(|_| named)?.parse().ok()
    });
    found.ok_or_else(|| NoAccount::Unknown { name: name.clone(), file: GROUPS })
}

fn read(file: &'static str) -> Result<String, NoAccount> {
    let bytes = fs::read(file).map_err(|source| NoAccount::Unreadable { file, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Why nobody here is meant.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_by_number_with_group_and_home() {
        for account in [Account::Name("root".to_owned()), Account::Number(0)] {
            let found = Identity::find(Some(&account), None).expect("root");
            assert_eq!((found.user, found.group), (0, 0));
            let person = found.person.expect("written down");
            assert_eq!((person.name.as_str(), person.home.is_absolute()), ("root", true));
        }
    }

    #[test]
    fn nobody_named_is_whoever_the_agent_is() {
        let found = Identity::find(None, None).expect("own");
        assert!(found.is_own() && found == Identity::own());
    }
}

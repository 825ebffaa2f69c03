//! Names of credentials: `bursar_ROLE_TAG_LEASE`.
//!
//! ROLE is for people. LEASE is the lease's id in small letters, whose first half is a time, so that names sort by when
//! their leases were asked for. TAG is made of who this broker is, its backend's name and the path: brokers that share
//! a server do not take each other's roles back, nor does one of them those of another path. A name that was not made
//! so is not ours, and neither renewed nor dropped.

use std::fmt;
use std::ops::Range;

use bursar_core::{BackendName, LeaseId};
use jiff::Timestamp;
use ring::digest::{Context, SHA256};

/// The name of a role in the configuration, the last part of its path: 1 to 20 of `a-z`, `0-9`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleName(String);

impl RoleName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`RoleNameError`], which shows the form.
    pub fn parse(text: &str) -> Result<Self, RoleNameError> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(allowed) {
            return Err(RoleNameError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as it stands in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is no name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a role's name has 1 to {LONGEST} of a-z, 0-9, `_` and `-`: it becomes part of names that PostgreSQL keeps 63 bytes of"
)]
pub struct RoleNameError;

/// Makes the names of one broker's credentials at one backend.
#[derive(Debug)]
pub(crate) struct Names {
    owner: String,
    backend: BackendName,
}

/// What a name says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) role: RoleName,
    /// When its lease was asked for.
    pub(crate) asked_at: Timestamp,
}

impl Names {
    /// `owner` tells this broker from all others.
    pub(crate) fn new(owner: String, backend: BackendName) -> Self {
        Self { owner, backend }
    }

    /// The name of the credential of `lease`.
    pub(crate) fn of(&self, role: &RoleName, lease: LeaseId) -> String {
        format!("{}{}", self.prefix(role), small(lease))
    }

    /// The names that the credentials of `role` have whose leases were asked for within `asked`: from the first up to
    /// the second without it. Ids know milliseconds: of those at the edges, all.
    pub(crate) fn range(&self, role: &RoleName, asked: &Range<Timestamp>) -> (String, String) {
        let prefix = self.prefix(role);
        let after = asked.end.saturating_add(ROUNDING).unwrap_or(Timestamp::MAX);
        let [from, to] =
            [asked.start, after].map(|time| format!("{prefix}{}", small(LeaseId::new(time, [0; 10]))));
        (from, to)
    }

    /// Reads a name of ours; none for any other.
    pub(crate) fn read(&self, name: &str) -> Option<Credential> {
        let (rest, lease) = name.split_at_checked(name.len().checked_sub(LEASE)?)?;
        let role = rest.strip_prefix(PREFIX)?.strip_suffix('_')?.rsplit_once('_')?.0;
        let role = RoleName::parse(role).ok()?;
        let id: LeaseId = lease.to_ascii_uppercase().parse().ok()?;
        // What is read loosely, such as a letter that stands for a digit, is not written again.
        (self.of(&role, id) == name).then(|| Credential { role, asked_at: time_of(id) })
    }

    fn prefix(&self, role: &RoleName) -> String {
        format!("{PREFIX}{role}_{}_", self.tag(role))
    }

    fn tag(&self, role: &RoleName) -> String {
        let mut context = Context::new(&SHA256);
        for part in ["bursar postgres role", &self.owner, self.backend.as_str(), role.as_str()] {
            context.update(part.as_bytes());
            // None of them has this byte.
            context.update(&[0]);
        }
        let digest = context.finish();
        let tag = digest.as_ref().get(..TAG_BYTES).unwrap_or_default();
        data_encoding::BASE32_NOPAD.encode(tag).to_ascii_lowercase()
    }
}

fn small(lease: LeaseId) -> String {
    lease.to_string().to_ascii_lowercase()
}

fn time_of(lease: LeaseId) -> Timestamp {
    let [a, b, c, d, e, f, ..] = lease.to_bytes();
    let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}

const PREFIX: &str = "bursar_";
const ROUNDING: jiff::SignedDuration = jiff::SignedDuration::from_millis(1);
/// Characters of a lease's id.
const LEASE: usize = 26;
/// Eight characters.
const TAG_BYTES: usize = 5;
/// PostgreSQL keeps 63 bytes of a name: 7 for the prefix, 8 for the tag, 26 for the lease, 2 between them.
const LONGEST: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(owner: &str, backend: &str) -> Names {
        Names::new(owner.to_owned(), BackendName::parse(backend).expect("backend"))
    }

    fn role(name: &str) -> RoleName {
        RoleName::parse(name).expect("role")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("time")
    }

    #[test]
    fn the_longest_name_is_kept_whole_and_read_back() {
        let (names, role) = (names("example.org/broker", "pg"), role("a-role_of-20-letters"));
        let lease = LeaseId::new(at(0), [7; 10]);
        let name = names.of(&role, lease);
        assert!(name.len() <= 63, "{name}");
        assert_eq!(names.read(&name), Some(Credential { role, asked_at: at(0) }));
    }

    #[test]
    fn another_brokers_backends_or_paths_names_are_not_ours() {
        let lease = LeaseId::new(at(0), [7; 10]);
        let name = names("example.org/one", "pg").of(&role("app"), lease);
        assert!(names("example.org/two", "pg").read(&name).is_none());
        assert!(names("example.org/one", "other").read(&name).is_none());
        assert!(names("example.org/one", "pg").read(&name.replace("_app_", "_ape_")).is_none());
    }

    #[test]
    fn what_is_no_credentials_name_is_not_ours() {
        let names = names("example.org/one", "pg");
        let good = names.of(&role("app"), LeaseId::new(at(0), [7; 10]));
        let bad = [
            "",
            "postgres",
            "bursar_",
            good.trim_start_matches('b'),
            &good.to_uppercase(),
            &format!("{good}0"),
            &good.replace('7', "l"),
        ];
        let accepted: Vec<_> = bad.iter().filter(|name| names.read(name).is_some()).collect();
        assert!(accepted.is_empty(), "{accepted:?}");
    }

    #[test]
    fn names_within_a_time_are_those_of_leases_asked_for_then() {
        let (names, role) = (names("example.org/one", "pg"), role("app"));
        let (from, to) = names.range(&role, &(at(10)..at(20)));
        let within = |second, random| {
            let name = names.of(&role, LeaseId::new(at(second), random));
            from <= name && name < to
        };
        assert!(within(10, [0; 10]) && within(19, [255; 10]));
        assert!(!within(9, [255; 10]) && !within(21, [0; 10]));
        let (_, last) = names.range(&role, &(at(0)..Timestamp::MAX));
        assert!(names.of(&role, LeaseId::new(at(1_000_000_000), [255; 10])) < last);
    }

    proptest! {
        #[test]
        fn any_role_and_lease_are_read_back(name in "[a-z0-9_-]{1,20}", second in 0_i64..1_000_000_000, random: [u8; 10]) {
            let (names, role) = (names("example.org/one", "pg"), role(&name));
            let made = names.of(&role, LeaseId::new(at(second), random));
            prop_assert_eq!(names.read(&made), Some(Credential { role, asked_at: at(second) }));
        }
    }
}

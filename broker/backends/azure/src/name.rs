//! Paths and the names that Key Vault has for them.
//! <https://learn.microsoft.com/en-us/azure/key-vault/general/about-keys-secrets-certificates>
//!
//! Key Vault takes `Db`, `DB` and `db` for one secret. Policies, the cache and leases tell paths apart by their letters:
//! were all spellings served, a policy that forbids `db` would not stop who asks for `DB`. To serve only the spelling
//! that an answer has was the alternative, but nothing says that it is not the asker's own. So it is lower case.

use bursar_core::backend::FlatNames;
use bursar_core::{SecretPath, Version};

/// Names of secrets.
#[derive(Debug)]
pub(crate) struct Names(pub(crate) FlatNames);

impl Names {
    /// The name of the secret at `path`; none where no secret is served by it.
    pub(crate) fn of(&self, path: &SecretPath) -> Option<String> {
        self.0.of(path, |name| name.len() <= LONGEST && name.bytes().all(is_of_names))
    }

    /// The path of a secret that is called so, however that is spelt; none where it has none.
    pub(crate) fn path(&self, name: &str) -> Option<SecretPath> {
        let name = name.to_ascii_lowercase();
        name.bytes().all(is_of_names).then(|| self.0.path(&name))?
    }
}

/// What Key Vault's name for a secret, or for a version of it, says: `https://HOST/secrets/NAME[/VERSION]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Id<'id> {
    pub(crate) name: &'id str,
    pub(crate) version: Option<&'id str>,
}

impl<'id> Id<'id> {
    pub(crate) fn parse(id: &'id str) -> Option<Self> {
        let (_, rest) = id.split_once("://")?;
        let (_, path) = rest.split_once('/')?;
        let mut parts = path.split('/');
        if parts.next() != Some("secrets") {
            return None;
        }
        let name = parts.next().filter(|name| !name.is_empty())?;
        let version = parts.next().filter(|version| !version.is_empty());
        parts.next().is_none().then_some(Self { name, version })
    }
}

/// Whether Key Vault can have given this id to a version. Capitals would be a second spelling of one.
pub(crate) fn is_version(version: &Version) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    version.as_str().len() == 32 && version.as_str().bytes().all(hex)
}

fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

const LONGEST: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(separator: Option<&str>) -> Names {
        Names(FlatNames { prefix: "prod-".to_owned(), separator: separator.map(str::to_owned) })
    }

    fn path(text: &str) -> SecretPath {
        SecretPath::from_store(text).expect("path")
    }

    fn name(text: &str) -> Option<String> {
        names(None).of(&path(text))
    }

    #[test]
    fn a_name_is_the_prefix_and_the_path() {
        assert_eq!(name("pay-db-1").as_deref(), Some("prod-pay-db-1"));
    }

    #[test]
    fn one_spelling_of_each_name_is_served() {
        for path in ["Pay-db", "PAY-DB", "pay-dB"] {
            assert_eq!(name(path), None, "`{path}`");
        }
    }

    #[test]
    fn what_key_vault_has_no_name_for_is_no_secret() {
        for path in ["a/b", "a b", "a.b", "a_b", "a%b", "a?b", "ключ", "ﬀ", &"a".repeat(123)] {
            assert_eq!(name(path), None, "`{path}`");
        }
        assert!(name(&"a".repeat(122)).is_some());
    }

    #[test]
    fn a_secret_is_listed_by_the_spelling_that_is_served() {
        assert_eq!(names(None).path("PROD-Db"), Some(path("db")));
        assert_eq!(names(Some("--")).path("PROD-Pay--Db"), Some(path("pay/db")));
        for other in ["test-db", "prod-", "prod", "prod-a/b"] {
            assert_eq!(names(None).path(other), None, "`{other}`");
        }
    }

    #[test]
    fn a_separator_stands_for_the_folders() {
        let names = names(Some("--"));
        assert_eq!(names.of(&path("pay/team/db-1")).as_deref(), Some("prod-pay--team--db-1"));
        for second_path in ["pay--db", "pay-/db", "Pay/db"] {
            assert_eq!(names.of(&path(second_path)), None, "`{second_path}`");
        }
        for no_path in ["prod---a", "prod-a--", "prod-a----b"] {
            assert_eq!(names.path(no_path), None, "`{no_path}`");
        }
    }

    #[test]
    fn an_id_says_name_and_version() {
        let version = "0123456789abcdef0123456789abcdef";
        let whole = format!("https://v.vault.azure.net:443/secrets/Db/{version}");
        assert_eq!(Id::parse(&whole), Some(Id { name: "Db", version: Some(version) }));
        let short = Id::parse("https://v.vault.azure.net/secrets/Db");
        assert_eq!(short, Some(Id { name: "Db", version: None }));
        for bad in
            ["", "Db", "https://v", "https://v/keys/Db/1", "https://v/secrets/", "https://v/secrets/a/b/c"]
        {
            assert_eq!(Id::parse(bad), None, "`{bad}`");
        }
    }

    #[test]
    fn a_version_is_32_small_hexadecimal_digits() {
        let is = |text: &str| is_version(&Version::from_store(text).expect("version"));
        assert!(is("0123456789abcdef0123456789abcdef"));
        for other in
            ["1", "0123456789ABCDEF0123456789ABCDEF", "0123456789abcdef0123456789abcde.", &"a".repeat(33)]
        {
            assert!(!is(other), "`{other}`");
        }
    }
}

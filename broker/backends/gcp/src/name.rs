//! Paths and the ids that Google has for them: 1 to 255 letters, digits, `_` and `-`, and no folders.
//! <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create>

use bursar_core::SecretPath;
use bursar_core::backend::FlatNames;

/// Ids of secrets.
#[derive(Debug)]
pub(crate) struct Names(pub(crate) FlatNames);

impl Names {
    /// The id of the secret at `path`; none where no secret can be called so.
    pub(crate) fn of(&self, path: &SecretPath) -> Option<String> {
        self.0.of(path, |id| id.len() <= LONGEST && id.bytes().all(is_of_ids))
    }

    /// What the ids of the secrets in `folder`, or of all, begin with; none where no secret's can.
    pub(crate) fn start(&self, folder: Option<&SecretPath>) -> Option<String> {
        match folder {
            Some(folder) => Some(format!("{}{}", self.of(folder)?, self.0.separator.as_deref()?)),
            None => Some(self.0.prefix.clone()),
        }
    }

    /// The path of the secret that is called `id`; none where it has none.
    pub(crate) fn path(&self, id: &str) -> Option<SecretPath> {
        self.0.path(id)
    }
}

fn is_of_ids(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str, separator: Option<&str>) -> Names {
        Names(FlatNames { prefix: prefix.to_owned(), separator: separator.map(str::to_owned) })
    }

    fn path(text: &str) -> SecretPath {
        SecretPath::from_store(text).expect("path")
    }

    #[test]
    fn an_id_is_the_prefix_and_the_path() {
        let id = |text| names("prod-", None).of(&path(text));
        assert_eq!(id("pay_DB-1").as_deref(), Some("prod-pay_DB-1"));
        assert_eq!(id("pay/db"), None, "without a separator there are no folders");
    }

    #[test]
    fn a_separator_stands_for_the_folders() {
        let names = names("prod-", Some("--"));
        assert_eq!(names.of(&path("pay/team/db")).as_deref(), Some("prod-pay--team--db"));
        assert_eq!(names.path("prod-pay--team--db"), Some(path("pay/team/db")));
        assert_eq!(names.start(Some(&path("pay"))).as_deref(), Some("prod-pay--"));
        assert_eq!(names.path("test-pay"), None);
    }

    #[test]
    fn what_google_has_no_id_for_is_no_secret() {
        let names = names("", None);
        for text in ["a b", "a.b", "a:b", "ключ", "a%b", "a@b", "latest:access", "?a", &"a".repeat(256)] {
            assert_eq!(names.of(&path(text)), None, "`{text}`");
        }
        assert!(names.of(&path(&"a".repeat(255))).is_some());
    }
}

//! Paths and the ids that Google has for them: 1 to 255 letters, digits, `_` and `-`, and no folders.
//! <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create>
//!
//! A separator makes folders of ids. Not every path has an id then: `a--b` and `a/b` would both be `a--b`. Of several
//! paths the one counts that the id is read back as, so no two paths are one secret, and a secret has one path.

use bursar_core::SecretPath;

/// Ids of secrets, below a prefix.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) prefix: String,
    pub(crate) separator: Option<String>,
}

impl Names {
    /// The id of the secret at `path`; none where no secret can be called so.
    pub(crate) fn of(&self, path: &SecretPath) -> Option<String> {
        let id = format!("{}{}", self.prefix, self.joined(path)?);
        let fits = id.len() <= LONGEST && id.bytes().all(is_of_ids);
        (fits && self.path(&id).as_ref() == Some(path)).then_some(id)
    }

    /// What the ids of the secrets in `folder`, or of all, begin with; none where no secret's can.
    pub(crate) fn start(&self, folder: Option<&SecretPath>) -> Option<String> {
        match folder {
            Some(folder) => Some(format!("{}{}", self.of(folder)?, self.separator.as_deref()?)),
            None => Some(self.prefix.clone()),
        }
    }

    /// The path of the secret that is called `id`; none where it has none.
    pub(crate) fn path(&self, id: &str) -> Option<SecretPath> {
        let rest = id.strip_prefix(&self.prefix)?;
        match &self.separator {
            Some(separator) => SecretPath::from_store(&rest.replace(separator, "/")).ok(),
            None => SecretPath::from_store(rest).ok(),
        }
    }

    fn joined(&self, path: &SecretPath) -> Option<String> {
        match &self.separator {
            Some(separator) => Some(path.as_str().replace('/', separator)),
            None => (!path.as_str().contains('/')).then(|| path.as_str().to_owned()),
        }
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
        Names { prefix: prefix.to_owned(), separator: separator.map(str::to_owned) }
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

    #[test]
    fn no_two_paths_are_one_secret() {
        // Every path of up to five of these characters.
        let letters = ['a', '-', '_', '/'];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            let longer = |text: &String| letters.map(|letter| format!("{text}{letter}"));
            let more: Vec<_> = texts.iter().flat_map(longer).collect();
            texts.extend(more);
        }
        texts.sort();
        texts.dedup();
        for separator in [None, Some("-"), Some("--"), Some("_"), Some("-_")] {
            let names = names("", separator);
            let mut ids: Vec<_> =
                texts.iter().filter_map(|text| names.of(&SecretPath::from_store(text).ok()?)).collect();
            let count = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), count, "with {separator:?}");
            assert!(count > 50, "only {count} paths have an id with {separator:?}");
        }
    }
}

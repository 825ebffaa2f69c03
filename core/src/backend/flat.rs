//! Paths at a store that has no folders.
//!
//! A separator makes folders of names. Not every path has a name then: with `--`, `a--b` and `a/b` would both be `a--b`.
//! Of several paths the one counts that the name is read back as, so no two paths are one secret, and a secret has one
//! path. Policies tell secrets apart by their paths: with two, one that forbids the first would not stop the second.

use crate::reference::SecretPath;

/// Names of secrets, below a prefix.
#[derive(Debug)]
pub struct FlatNames {
    /// What all names begin with, and no path.
    pub prefix: String,
    /// What stands in a name for the `/` of a path. Without one there are no folders.
    pub separator: Option<String>,
}

impl FlatNames {
    /// The name of the secret at `path`; none where it would be one that does not `fit` the store, or has another path.
    /// No name with a `/` may fit.
    pub fn of(&self, path: &SecretPath, fits: impl Fn(&str) -> bool) -> Option<String> {
        let rest = match &self.separator {
            Some(separator) => path.as_str().replace('/', separator),
            None => path.as_str().to_owned(),
        };
        let name = format!("{}{rest}", self.prefix);
        (fits(&name) && self.path(&name).as_ref() == Some(path)).then_some(name)
    }

    /// The path of the secret that is called `name`; none where it has none.
    pub fn path(&self, name: &str) -> Option<SecretPath> {
        let rest = name.strip_prefix(&self.prefix)?;
        match &self.separator {
            Some(separator) => SecretPath::from_store(&rest.replace(separator, "/")).ok(),
            None => SecretPath::from_store(rest).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_paths_are_one_secret() {
        let stores: [(&str, &[Option<&str>]); 2] = [
            ("a-", &[None, Some("-"), Some("--"), Some("-a-")]),
            ("a-_", &[None, Some("-"), Some("--"), Some("_"), Some("-_")]),
        ];
        for (letters, separators) in stores {
            // Every path of up to six of these, of a letter that no name has, and of `/`.
            let mut texts = vec![String::new()];
            let mut longest = texts.clone();
            for _ in 0..6 {
                let longer =
                    |text: &String| format!("{letters}A/").chars().map(|c| format!("{text}{c}")).collect();
                longest = longest.iter().flat_map(|text| -> Vec<_> { longer(text) }).collect();
                texts.extend(longest.iter().cloned());
            }
            for separator in separators {
                let names = FlatNames { prefix: String::new(), separator: separator.map(str::to_owned) };
                let fits = |name: &str| name.chars().all(|letter| letters.contains(letter));
                let name = |text: &String| names.of(&SecretPath::from_store(text).ok()?, fits);
                let mut all: Vec<_> = texts.iter().filter_map(name).collect();
                let count = all.len();
                all.sort();
                all.dedup();
                assert!(count > 10 && all.len() == count, "{count} with {separator:?}, {} apart", all.len());
            }
        }
    }
}

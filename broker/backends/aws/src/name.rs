//! Paths and the names that AWS has for them.
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html>

use bursar_core::SecretPath;

/// Names of secrets, below a prefix.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) prefix: String,
}

impl Names {
    /// The name of the secret at `path`; none where no secret can be called so.
    pub(crate) fn of(&self, path: &SecretPath) -> Option<String> {
        let name = format!("{}{}", self.prefix, path.as_str());
        let fits = name.len() <= LONGEST && path.as_str().bytes().all(is_of_names);
        fits.then_some(name)
    }

    /// What the names of the secrets in `folder`, or of all, begin with; none where no secret's can.
    pub(crate) fn start(&self, folder: Option<&SecretPath>) -> Option<String> {
        match folder {
            Some(folder) => self.of(folder).map(|name| format!("{name}/")),
            None => Some(self.prefix.clone()),
        }
    }
}

fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte)
}

const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Option<String> {
        let names = Names { prefix: "prod/".to_owned() };
        names.of(&SecretPath::from_store(path).expect("path"))
    }

    #[test]
    fn a_name_is_the_prefix_and_the_path() {
        assert_eq!(name("pay/db_+=.@-1").as_deref(), Some("prod/pay/db_+=.@-1"));
    }

    #[test]
    fn what_aws_has_no_name_for_is_no_secret() {
        for path in ["a b", "a:b", "arn:aws:secretsmanager", "ключ", "a%b", "!a", "a#b", &"a".repeat(508)]
        {
            assert_eq!(name(path), None, "`{path}`");
        }
        assert!(name(&"a".repeat(507)).is_some());
    }

    #[test]
    fn a_folder_is_what_names_begin_with() {
        let names = Names { prefix: String::new() };
        let folder = SecretPath::from_store("pay").expect("path");
        assert_eq!(names.start(Some(&folder)).as_deref(), Some("pay/"));
        assert_eq!(names.start(None).as_deref(), Some(""));
    }
}

//! What a program calls a secret, and the reference that it means here.

use std::collections::BTreeMap;

use bursar_core::reference::{Reference, SecretPath};

use super::fault::Fault;
use crate::config::{Aws, Mount};

/// The names that are configured, and where all others lead.
#[derive(Debug)]
pub(super) struct Names {
    secrets: BTreeMap<String, Reference>,
    mount: Option<Mount>,
}

/// A secret as a program named it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    /// The one that it was asked for by, or one that says that it is of no account of AWS.
    pub(super) arn: String,
    pub(super) reference: Reference,
}

impl Names {
    pub(super) fn of(config: &Aws) -> Self {
        Self { secrets: config.secrets.clone(), mount: config.mount.clone() }
    }

    /// The secret that `id`, a name or an ARN, means. A name that is configured goes before the mount; of an ARN, all of it
    /// before the name in it, and that without the six characters that AWS adds before that with them.
    pub(super) fn find(&self, id: &str) -> Result<Named, Fault> {
        if id.is_empty() || id.len() > LONGEST {
            return Err(Fault::parameter(format!("the id of a secret has 1 to {LONGEST} bytes")));
        }
        let whole = name_in(id)?;
        let (name, arn) = match id == whole {
            true => (id, format!("arn:bursar:secretsmanager:::secret:{id}")),
            false => (without_suffix(whole), id.to_owned()),
        };
        let named = |name: &str, reference| Named { name: name.to_owned(), arn: arn.clone(), reference };
        for (key, name) in [(id, name), (name, name), (whole, whole)] {
            if let Some(reference) = self.secrets.get(key) {
                return Ok(named(name, reference.clone()));
            }
        }
        let nowhere = "the agent's configuration has no such name in `aws.secrets`, and no `aws.mount`";
        let mount = self.mount.as_ref().ok_or_else(|| Fault::not_found(nowhere))?;
        let path = match &mount.folder {
            Some(folder) => format!("{}/{name}", folder.as_str()),
            None => name.to_owned(),
        };
        let path = SecretPath::from_store(&path).map_err(|error| Fault::parameter(error.to_string()))?;
        let reference = Reference { backend: mount.backend.clone(), path, field: None, version: None };
        Ok(named(name, reference))
    }
}

/// The name of a secret in its ARN: `arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME`. Another id is a name.
fn name_in(id: &str) -> Result<&str, Fault> {
    let Some(arn) = id.strip_prefix("arn:") else { return Ok(id) };
    let mut parts = arn.splitn(6, ':');
    let (service, kind) = (parts.nth(1), parts.nth(2));
    match (service, kind, parts.next()) {
        (Some("secretsmanager"), Some("secret"), Some(name)) if !name.is_empty() => Ok(name),
        _ => Err(Fault::parameter("this is no ARN of a secret of Secrets Manager")),
    }
}

/// The name without what AWS puts behind it in an ARN: a hyphen and six letters and digits.
fn without_suffix(name: &str) -> &str {
    let is_suffix =
        |suffix: &str| suffix.len() == 6 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match name.rsplit_once('-') {
        Some((name, suffix)) if !name.is_empty() && is_suffix(suffix) => name,
        _ => name,
    }
}

/// As long as AWS lets an ARN be.
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn names(aws: &str) -> Names {
        let text = format!(
            "broker = 'https://b'\nca_file = 'c'\nnode = 'n'\ndata_dir = 'd'\n[aws]\nlisten = '127.0.0.1:0'\n{aws}"
        );
        Names::of(&Config::parse(&text).expect("good").aws.expect("a port"))
    }

    fn found(names: &Names, id: &str) -> (String, String, String) {
        let Named { name, arn, reference } = names.find(id).expect("found");
        (name, arn, reference.to_string())
    }

    #[test]
    fn a_name_that_is_configured_goes_before_the_mount() {
        let names = names("mount = 'vault/secret'\n[aws.secrets]\n'shop/db' = 'local/db#password'\n");
        let arn = "arn:bursar:secretsmanager:::secret:shop/db";
        assert_eq!(
            found(&names, "shop/db"),
            ("shop/db".to_owned(), arn.to_owned(), "local/db#password".to_owned())
        );
        assert_eq!(found(&names, "shop/api").2, "vault/secret/shop/api");
        assert_eq!(found(&names, "a@b#c%d").2, "vault/secret/a%40b%23c%25d");
    }

    #[test]
    fn an_arn_means_the_name_in_it() {
        let names =
            names("mount = 'local'\n[aws.secrets]\n'shop/db' = 'local/db'\n'old-abcdef' = 'local/old'\n");
        let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}");
        for name in ["shop/db-Ab12Cd", "shop/db"] {
            let found = found(&names, &arn(name));
            assert_eq!((found.0.as_str(), found.1, found.2.as_str()), ("shop/db", arn(name), "local/db"));
        }
        assert_eq!(found(&names, &arn("old-abcdef")).2, "local/old");
        assert_eq!(found(&names, &arn("new-abcdef")).2, "local/new");
        assert_eq!(found(&names, "new-abcdef").2, "local/new-abcdef");
    }

    proptest! {
        /// The mount is a border: no name leads out of it.
        #[test]
        fn every_name_leads_below_the_mount(id in "(arn:|secretsmanager:|[ -~]|/|\\.|%2f|é){0,40}") {
            if let Ok(named) = names("mount = 'local/folder'\n").find(&id) {
                prop_assert!(named.reference.to_string().starts_with("local/folder/"));
                prop_assert_eq!(Reference::parse(&named.reference.to_string()).ok(), Some(named.reference));
            }
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let mounted = names("mount = 'local/folder'\n");
        let long = "x".repeat(LONGEST + 1);
        let bad = [
            "",
            &long,
            "a/../b",
            "/a",
            "a/",
            "a\nb",
            "arn:aws:s3:::bucket",
            "arn:",
            "arn:a:secretsmanager:r:1:secret:",
        ];
        for id in bad {
            assert_eq!(mounted.find(id).expect_err("refused").kind, "InvalidParameterException", "{id}");
        }
        let named = names("[aws.secrets]\n'a' = 'local/a'\n");
        assert_eq!(named.find("b").expect_err("refused").kind, "ResourceNotFoundException");
    }
}

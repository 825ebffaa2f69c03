//! Things named by a text, where somebody speaks of a resource without touching it: in a check, in an approval.

use std::fmt;

use bursar_core::audit::Action;
use bursar_core::reference::ReferenceError;
use bursar_core::{BackendName, Reference};

use super::request::Resource;

/// A [`Resource`] that is owned, as a text names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Secret(Reference),
    /// Everything below a path. Of the reference, backend and path count.
    Folder(Reference),
    Backend(BackendName),
    Environment(String),
    Node(String),
    System,
}

impl Target {
    /// What `text` names to somebody who speaks of `action`: the kind follows from the action, and for renewals and
    /// revocations from the form of the text. Of secrets, `vault/payments/` is a folder, and `vault/` the backend.
    ///
    /// # Errors
    /// [`ReferenceError`] for a text that has to be a reference, or a backend's name, and is none.
    pub fn parse(action: Action, text: &str) -> Result<Self, ReferenceError> {
        use Action as A;
        match action {
            A::Read | A::Write | A::Delete | A::Destroy | A::List => Self::secret(text),
            A::Resolve | A::Keep | A::ApplyEnvironment | A::DeleteEnvironment => {
                Ok(Self::Environment(text.to_owned()))
            }
            A::ViewEnvironment if !text.is_empty() => Ok(Self::Environment(text.to_owned())),
            A::CreateJoinToken | A::EvictNode | A::ReadmitNode => Ok(Self::Node(text.to_owned())),
            A::RotateRoot => Ok(Self::Backend(BackendName::parse(text.strip_suffix('/').unwrap_or(text))?)),
            A::Renew | A::Revoke if !text.is_empty() => Self::secret(text),
            _ => Ok(Self::System),
        }
    }

    fn secret(text: &str) -> Result<Self, ReferenceError> {
        match text.strip_suffix('/') {
            None => Ok(Self::Secret(Reference::parse(text)?)),
            Some(folder) if folder.contains('/') => Ok(Self::Folder(Reference::parse(folder)?)),
            Some(backend) => Ok(Self::Backend(BackendName::parse(backend)?)),
        }
    }

    /// The same, as it is asked of policy.
    pub fn as_resource(&self) -> Resource<'_> {
        match self {
            Self::Secret(reference) => Resource::secret(reference),
            Self::Folder(reference) => {
                Resource::Folder { backend: &reference.backend, path: &reference.path }
            }
            Self::Backend(name) => Resource::Backend(name),
            Self::Environment(name) => Resource::Environment(name),
            Self::Node(name) => Resource::Node(name),
            Self::System => Resource::System,
        }
    }

    /// Whether `resource` is this, in whatever version, or below it: as policies have it with `in`.
    pub fn covers(&self, resource: Resource<'_>) -> bool {
        use Resource as R;
        match (self, resource) {
            (Self::Secret(kept), R::Secret { backend, path, .. }) => {
                kept.backend == *backend && kept.path == *path
            }
            (Self::Folder(kept), R::Secret { backend, path, .. }) => {
                kept.backend == *backend && path.folders().any(|folder| folder == kept.path.as_str())
            }
            (Self::Folder(kept), R::Folder { backend, path }) => {
                let mut here_and_above = path.folders().chain([path.as_str()]);
                kept.backend == *backend && here_and_above.any(|folder| folder == kept.path.as_str())
            }
            (
                Self::Backend(kept),
                R::Secret { backend, .. } | R::Folder { backend, .. } | R::Backend(backend),
            ) => kept == backend,
            (Self::Environment(kept), R::Environment(name)) | (Self::Node(kept), R::Node(name)) => {
                kept == name
            }
            (Self::System, R::System) => true,
            _ => false,
        }
    }
}

/// A text that [`Target::parse`] reads.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(reference) => fmt::Display::fmt(reference, f),
            Self::Folder(reference) => write!(f, "{reference}/"),
            Self::Backend(name) => write!(f, "{name}/"),
            Self::Environment(name) | Self::Node(name) => f.write_str(name),
            Self::System => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(action: Action, kept: &str, asked: &str) -> bool {
        let parse = |text| Target::parse(action, text).expect("a target");
        parse(kept).covers(parse(asked).as_resource())
    }

    #[test]
    fn a_secret_covers_its_versions_and_nothing_else() {
        for covered in ["vault/a/db", "vault/a/db@3", "vault/a/db#password"] {
            assert!(covers(Action::Read, "vault/a/db", covered), "{covered}");
        }
        for other in ["vault/a/db/x", "vault/a", "vault/a/db2", "aws/a/db", "vault/a/"] {
            assert!(!covers(Action::Read, "vault/a/db", other), "{other}");
        }
    }

    #[test]
    fn a_folder_covers_what_is_below_it() {
        for covered in ["vault/a/b/db", "vault/a/b/c/d@1", "vault/a/b/", "vault/a/b/c/"] {
            assert!(covers(Action::List, "vault/a/b/", covered), "{covered}");
        }
        for other in ["vault/a/b", "vault/a/bc/db", "vault/x/a/b/db", "aws/a/b/db", "vault/a/", "vault/"] {
            assert!(!covers(Action::List, "vault/a/b/", other), "{other}");
        }
    }

    #[test]
    fn a_backend_covers_its_secrets() {
        for covered in ["vault/db", "vault/a/b", "vault/a/", "vault/"] {
            assert!(covers(Action::List, "vault/", covered), "{covered}");
        }
        assert!(!covers(Action::List, "vault/", "vault2/db"));
    }

    #[test]
    fn names_and_the_broker_cover_themselves() {
        assert!(covers(Action::Resolve, "shop/prod", "shop/prod"));
        assert!(!covers(Action::Resolve, "shop", "shop/prod"));
        assert!(covers(Action::EvictNode, "web-1", "web-1") && !covers(Action::EvictNode, "web-1", "web-2"));
        assert!(covers(Action::ApplyPolicy, "", ""));
        assert!(!covers(Action::Revoke, "", "vault/db") && !covers(Action::Revoke, "vault/db", ""));
        let environment = Target::Environment("web-1".to_owned());
        assert!(!environment.covers(Resource::Node("web-1")), "kinds do not mix");
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["vault/a/db", "vault/a%23b/", "vault/"] {
            let target = Target::parse(Action::Read, text).expect("a target");
            assert_eq!(target.to_string(), text);
        }
        let backend = Target::parse(Action::RotateRoot, "pg").expect("a backend");
        assert_eq!(Target::parse(Action::RotateRoot, &backend.to_string()), Ok(backend));
        for bad in ["", "/", "vault", "vault//", "vault/a//", "Vault/a"] {
            assert!(Target::parse(Action::Read, bad).is_err(), "`{bad}` must be refused");
        }
    }
}

//! What is asked of policy.

use bursar_core::audit::Action;
use bursar_core::{BackendName, Reference, SecretPath, SpiffeId, Version};
use jiff::Timestamp;

use super::fingerprint::Fingerprint;
use super::principal::PrincipalFacts;

/// May `principal` do `action` to `resource`?
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub principal: &'a PrincipalFacts,
    pub action: Action,
    pub resource: Resource<'a>,
    pub context: Context<'a>,
}

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A secret; policies see the version, when one is asked for, as `context.version`.
    Secret { backend: &'a BackendName, path: &'a SecretPath, version: Option<&'a Version> },
    /// Everything below a path.
    Folder { backend: &'a BackendName, path: &'a SecretPath },
    /// A whole store.
    Backend(&'a BackendName),
    /// An environment, by its name.
    Environment(&'a str),
    /// A node, by its name.
    Node(&'a str),
    /// The broker itself.
    System,
}

/// What a decision may depend on beside who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// When the request came.
    pub time: Timestamp,
    /// Why, in the caller's words; blank for no reason.
    pub reason: &'a str,
    /// Who approved it, of those whose approval is in force: sorted, each once, never the principal. Where
    /// [`Policies::looks_at_approvals`](super::Policies::looks_at_approvals) says no, it may be left empty.
    pub approved_by: &'a [SpiffeId],
}

impl<'a> Resource<'a> {
    /// The secret that `reference` names.
    pub fn secret(reference: &'a Reference) -> Self {
        Self::Secret {
            backend: &reference.backend,
            path: &reference.path,
            version: reference.version.as_ref(),
        }
    }

    /// The version asked for.
    pub(super) fn version(&self) -> Option<&'a Version> {
        match self {
            Self::Secret { version, .. } => *version,
            _ => None,
        }
    }

    /// The kind, in words for a person.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "a secret",
            Self::Folder { .. } => "a folder",
            Self::Backend(_) => "a backend",
            Self::Environment(_) => "an environment",
            Self::Node(_) => "a node",
            Self::System => "the system",
        }
    }

    pub(super) fn digest_into(self, print: Fingerprint) -> Fingerprint {
        let print = print.text(self.kind());
        match self {
            Self::Secret { backend, path, version } => {
                print.text(backend.as_str()).text(path.as_str()).optional(version.map(Version::as_str))
            }
            Self::Folder { backend, path } => print.text(backend.as_str()).text(path.as_str()),
            Self::Backend(backend) => print.text(backend.as_str()),
            Self::Environment(name) | Self::Node(name) => print.text(name),
            Self::System => print,
        }
    }
}

impl<'a> Context<'a> {
    /// The reason, if one was given.
    pub(super) fn reason(&self) -> Option<&'a str> {
        (!self.reason.trim().is_empty()).then_some(self.reason)
    }
}

//! What a store must offer to be a backend.
//!
//! [`Backend`] is what every store can do. Two powers are optional and found by asking: [`Leasing`], for stores that
//! create a credential for each lease and take it back, and [`Writing`], for stores that Bursar may write.
//!
//! An error of a backend is names and numbers: kind, backend, operation, status code. It never holds an upstream body
//! or error object, since stores put values into those.

mod causes;
mod flat;
mod pacing;
mod repeat;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::lease::LeaseId;
use crate::reference::{BackendName, Reference, SecretPath, Version};
use crate::retry::Transient;
use crate::secret::{Secret, SecretData};

pub use causes::causes;
pub use flat::FlatNames;
pub use pacing::Pacing;
pub use repeat::{repeat, retry_after};
pub use session::{Granted, Held, Login, Session};

/// One configured store.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What this store can do; the same for its whole life.
    fn capabilities(&self) -> Capabilities;

    /// Reads a static secret: `version`, or the newest.
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError>;

    /// Lists the entries right below `folder` (the top when absent) in order of name, at most `limit` of them, those
    /// after `after`. Folders end in `/`.
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError>;

    /// The versions of one secret, newest first.
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError>;

    /// The newest version of a secret, by the cheapest call that tells; nothing where only reading it tells.
    async fn newest(&self, _path: &SecretPath) -> Result<Option<Version>, BackendError> {
        Ok(None)
    }

    /// What people wrote on a secret beside its value; nothing where the store has no place for it.
    async fn labels(&self, _path: &SecretPath) -> Result<Labels, BackendError> {
        Ok(Labels::new())
    }

    /// Whether the store can answer a read now: reached, authenticated, unsealed.
    async fn health(&self) -> Result<(), BackendError>;

    /// The power to create credentials, where the store has it.
    fn leasing(&self) -> Option<&dyn Leasing> {
        None
    }

    /// The power to write, where Bursar has it.
    fn writing(&self) -> Option<&dyn Writing> {
        None
    }

    /// The power to change the password of Bursar's own login there, where another backend keeps it that Bursar may write.
    fn rotating(&self) -> Option<&dyn Rotating> {
        None
    }

    /// The power to wrap keys, where the store has it.
    fn wrapping(&self) -> Option<&dyn Wrapping> {
        None
    }
}

/// Stores that create a credential for each lease.
#[async_trait]
pub trait Leasing: Send + Sync {
    /// Whether reading `path` creates a credential.
    fn is_leased(&self, path: &SecretPath) -> bool;

    /// Creates a credential for `lease`, whose id is unique for ever: a store that lets names be chosen derives the
    /// credential's from it. Not repeated on failure: a call whose answer was lost may have created one, which
    /// [`Leasing::find_orphans`] finds.
    async fn issue(&self, path: &SecretPath, lease: LeaseId, ttl: Duration) -> Result<Issued, BackendError>;

    /// Extends a credential by `ttl` from now; answers how long the store granted.
    async fn renew(&self, handle: &StoreHandle, ttl: Duration) -> Result<Duration, BackendError>;

    /// Takes a credential back. One that is gone already is success.
    async fn revoke(&self, handle: &StoreHandle) -> Result<Removal, BackendError>;

    /// The credentials under `path` that the store created within `created`, whoever asked for them.
    async fn find_orphans(
        &self,
        path: &SecretPath,
        created: Range<Timestamp>,
    ) -> Result<Vec<StoreHandle>, BackendError>;
}

/// What came of taking a credential back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, or was already.
    Gone,
    /// The store takes none back: this one ends by itself, then and not before.
    EndsAt(Timestamp),
}

/// Stores that Bursar may write.
#[async_trait]
pub trait Writing: Send + Sync {
    /// Writes a new version and answers which.
    async fn put(
        &self,
        path: &SecretPath,
        data: SecretData,
        terms: PutTerms,
    ) -> Result<Version, BackendError>;

    /// Marks versions deleted (the newest when empty); they can be undeleted.
    async fn delete(&self, path: &SecretPath, versions: &[Version]) -> Result<(), BackendError>;

    /// Takes a deletion back.
    async fn undelete(&self, path: &SecretPath, versions: &[Version]) -> Result<(), BackendError>;

    /// Removes the values of versions for good, or with none named all that there is of the secret. Their numbers are
    /// not given out again.
    async fn destroy(&self, path: &SecretPath, versions: &[Version]) -> Result<(), BackendError>;

    /// Sets and removes labels of a secret, and answers all that it has then.
    async fn label(&self, path: &SecretPath, change: LabelChange) -> Result<Labels, BackendError>;
}

/// What a write is bound to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutTerms {
    /// The version that must be the newest; 0 where there must be none.
    pub expected: Option<u64>,
    /// When the version can no longer be read.
    pub expires_at: Option<Timestamp>,
}

impl PutTerms {
    /// Upon this version, and no other; upon none with 0.
    pub fn over(expected: u64) -> Self {
        Self { expected: Some(expected), expires_at: None }
    }
}

/// What people wrote on a secret, such as its owner: AWS and Azure call them tags, Vault custom metadata. No secrets.
pub type Labels = BTreeMap<String, String>;

/// A change to labels; the others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelChange {
    pub set: Labels,
    pub remove: BTreeSet<String>,
}

/// Stores whose login by Bursar has a password that Bursar may change.
#[async_trait]
pub trait Rotating: Send + Sync {
    /// Makes a new password, has it kept, and then has the store take it. Wherever this is broken off, a login works
    /// afterwards, and the next rotation finishes what was begun.
    async fn rotate_root(&self) -> Result<Rotated, BackendError>;
}

/// Stores that encrypt keys by one that never leaves them, such as AWS by KMS and Vault by its transit engine.
#[async_trait]
pub trait Wrapping: Send + Sync {
    /// Encrypts `plain` by the key called `key`, as a line of text. It opens with the same `context` only.
    async fn wrap_key(&self, key: &str, plain: &Secret, context: &str) -> Result<String, BackendError>;

    /// Decrypts what [`Wrapping::wrap_key`] made.
    async fn unwrap_key(&self, key: &str, wrapped: &str, context: &str) -> Result<Secret, BackendError>;
}

/// A password that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Where it is kept, in which version.
    pub kept: Reference,
}

/// A static secret as it was read.
#[expect(missing_debug_implementations, reason = "holds secrets")]
pub struct Fetched {
    pub data: SecretData,
    /// Which version this is; stores without versions have none.
    pub version: Option<Version>,
    /// It is not to be used after this: no lease on it lasts longer.
    pub expires_at: Option<Timestamp>,
}

/// A credential that the store created.
#[expect(missing_debug_implementations, reason = "holds secrets")]
pub struct Issued {
    pub data: SecretData,
    pub handle: StoreHandle,
    /// How long the store lets it live.
    pub ttl: Duration,
    /// Whether the store renews it.
    pub renewable: bool,
}

/// The store's own name for a credential that it created, such as Vault's lease id. Whoever has it and the broker's
/// login could take the credential back, so it stays between broker, ledger and store, and out of logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreHandle(String);

impl StoreHandle {
    /// Takes the store's name.
    pub fn new(name: String) -> Self {
        Self(name)
    }

    /// The store's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreHandle(..)")
    }
}

/// One version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    pub version: Version,
    pub created_at: Option<Timestamp>,
    /// It cannot be read after this.
    pub expires_at: Option<Timestamp>,
    pub state: VersionState,
}

/// What has become of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// It can be read, unless it has expired.
    Kept,
    /// It cannot be read; its store may take that back.
    Deleted,
    /// Its value is gone for good.
    Destroyed,
}

impl VersionInfo {
    /// Whether it can be read at `now`.
    pub fn is_readable(&self, now: Timestamp) -> bool {
        self.state == VersionState::Kept && self.expires_at.is_none_or(|end| now < end)
    }
}

/// What a store can do, for `bursar backend list` and the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `local`, `vault`…
    pub kind: &'static str,
    pub versions: bool,
    pub list: bool,
    pub leasing: bool,
    pub writing: bool,
}

/// A store that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("backend `{backend}` {kind} on {operation}{}", status(.code.as_ref()))]
pub struct BackendError {
    pub kind: ErrorKind,
    pub backend: BackendName,
    pub operation: Operation,
    /// The status code of the store's protocol, where it gave one.
    pub code: Option<u16>,
    /// How long the store asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl BackendError {
    /// An error without a status code.
    pub fn new(kind: ErrorKind, backend: &BackendName, operation: Operation) -> Self {
        Self { kind, backend: backend.clone(), operation, code: None, retry_after: None }
    }

    /// The same with the status code of the store's protocol.
    #[must_use]
    pub fn with_code(self, code: u16) -> Self {
        Self { code: Some(code), ..self }
    }
}

fn status(code: Option<&u16>) -> String {
    code.map(|code| format!(" (status {code})")).unwrap_or_default()
}

/// Why a store did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such path or version.
    NotFound,
    /// A check-and-set found another version than expected.
    Conflict,
    /// The store refused the broker's own login or its rights.
    Denied,
    /// The store asked for fewer calls.
    Throttled,
    /// Not reached, sealed, or failing on its side.
    Unavailable,
    /// Reached and locked: nobody can read until an operator unseals it.
    Sealed,
    /// No answer in time.
    Timeout,
    /// An answer that cannot be read.
    Malformed,
    /// The request can never succeed as the broker is configured.
    Misconfigured,
}

impl ErrorKind {
    /// The name that metrics and the ledger use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Sealed => "sealed",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "has no such secret or version",
            Self::Conflict => "holds another version than expected",
            Self::Denied => "denied the broker",
            Self::Throttled => "is throttling",
            Self::Unavailable => "is unavailable",
            Self::Sealed => "is sealed",
            Self::Timeout => "did not answer in time",
            Self::Malformed => "gave an answer that cannot be read",
            Self::Misconfigured => "is not configured for this",
        })
    }
}

impl Transient for BackendError {
    fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// What was asked of a store. Low in cardinality: a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Login,
    Read,
    List,
    Versions,
    Newest,
    Labels,
    Health,
    Issue,
    Renew,
    Revoke,
    FindOrphans,
    Put,
    Delete,
    Undelete,
    Destroy,
    Label,
    Rotate,
    WrapKey,
    UnwrapKey,
}

impl Operation {
    /// The name that metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Read => "read",
            Self::List => "list",
            Self::Versions => "versions",
            Self::Newest => "newest",
            Self::Labels => "labels",
            Self::Health => "health",
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::FindOrphans => "find_orphans",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Destroy => "destroy",
            Self::Label => "label",
            Self::Rotate => "rotate",
            Self::WrapKey => "wrap_key",
            Self::UnwrapKey => "unwrap_key",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a whole secret into fields from UTF-8 pairs, for backends and tests.
pub fn fields_from<N, I>(entries: I) -> Result<SecretData, crate::reference::ReferenceError>
where
    N: AsRef<str>,
    I: IntoIterator<Item = (N, Secret)>,
{
    let entry = |(name, value): (N, Secret)| {
        Ok((crate::reference::FieldName::parse(name.as_ref())?, std::sync::Arc::new(value)))
    };
    entries.into_iter().map(entry).collect::<Result<_, _>>().map(SecretData::Fields)
}

//! What the broker's configuration says about one Vault or OpenBao.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bursar_backend_http::{AddressError, SetupError};
use bursar_core::BackendName;
use bursar_core::secret::SecretReader;

/// One Vault or OpenBao, as configured.
#[derive(Debug)]
pub struct VaultConfig {
    /// The name it is mounted under in Bursar.
    pub name: BackendName,
    /// `https://HOST[:PORT][/PREFIX]`, without `/v1`: one for each node of the cluster that may be asked.
    pub addresses: Vec<String>,
    /// Lets an address be `http://`: tokens and secrets then cross the network in the clear.
    pub allow_plaintext: bool,
    /// The namespace that login and paths are in; the root namespace when absent.
    pub namespace: Option<String>,
    /// How the broker logs in.
    pub auth: Auth,
    /// Which engine is mounted where. Nothing else is served.
    pub mounts: BTreeMap<String, MountKind>,
    /// What is sent where a credential is created: names and values by the path, such as `pki/issue/web`. An engine that
    /// creates by writing needs one; without, the path is read.
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
    /// Certificates (PEM) that replace the system's trust for this store.
    pub ca_file: Option<PathBuf>,
    /// The longest that one call to one node may take, connection and answer included.
    pub timeout: Duration,
}

impl VaultConfig {
    /// What `timeout` is when the configuration does not say.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// The engine behind a mount, as far as reading differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Key-value without versions.
    KvV1,
    /// Key-value with versions.
    KvV2,
    /// An engine that creates a leased credential on each read, such as `database`.
    Leased,
    /// An engine that issues certificates. Below `issue/ROLE`, the last segment of a path is the common name.
    Pki,
}

impl MountKind {
    /// Whether each read creates a credential.
    pub(crate) fn creates(self) -> bool {
        matches!(self, Self::Leased | Self::Pki)
    }
}

/// How the broker logs in. Each form reads its credential anew at each login and forgets it after.
pub enum Auth {
    /// AppRole at `auth/MOUNT`.
    AppRole { mount: String, role_id: String, secret_id: Credential },
    /// A client certificate (PEM, with what links it to its authority), at `auth/MOUNT`. The store looks for a role that
    /// fits where `role` is absent. Connections made after a login present it, those of renewals too, as stores demand.
    Certificate { mount: String, role: Option<String>, certificate: PathBuf, key: SecretReader },
    /// A JSON Web Token that somebody else signed, at `auth/MOUNT`: the methods `jwt` and `kubernetes`.
    Jwt { mount: String, role: String, jwt: SecretReader },
    /// A token that something else obtained, such as an agent that keeps a file fresh.
    Token(Credential),
}

/// A credential that somebody hands to the broker.
#[derive(Debug, Clone)]
pub struct Credential {
    pub reader: SecretReader,
    /// Where what is read is a token for one use that holds the credential: the path at which the store must have wrapped
    /// it, such as `auth/approle/role/bursar/secret-id`. One that was wrapped elsewhere is not what was meant to be handed
    /// over.
    pub wrapping_path: Option<String>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppRole { mount, secret_id, .. } => f
                .debug_struct("AppRole")
                .field("mount", mount)
                .field("secret_id", secret_id)
                .finish_non_exhaustive(),
            Self::Certificate { mount, role, certificate, key } => f
                .debug_struct("Certificate")
                .field("mount", mount)
                .field("role", role)
                .field("certificate", certificate)
                .field("key", key)
                .finish(),
            Self::Jwt { mount, role, jwt } => {
                f.debug_struct("Jwt").field("mount", mount).field("role", role).field("jwt", jwt).finish()
            }
            Self::Token(token) => f.debug_tuple("Token").field(token).finish(),
        }
    }
}

/// A configuration that no backend can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the namespace `{namespace}` cannot be sent in a header; use visible ASCII characters")]
    Namespace { namespace: String },
    #[error(
        "`{mount}` is no mount path; write it without empty segments, such as `secret` or `team-a/database`"
    )]
    MountPath { mount: String },
    #[error(
        "`parameters` are given for `{path}`, where no engine creates credentials; mount one there as `leased` or `pki`"
    )]
    Parameters { path: String },
    #[error("the timeout is zero; give a duration such as `5s`")]
    ZeroTimeout,
    #[error("the client certificate `{}` cannot be read", path.display())]
    Certificate { path: PathBuf, source: io::Error },
    /// The kind alone: what a source says about its content may quote it.
    #[error("the private key in {key} cannot be read: {kind}")]
    Key { key: String, kind: io::ErrorKind },
    #[error("`{}` and {key} are no PEM certificate and private key that fit", path.display())]
    NoIdentity { path: PathBuf, key: String },
    #[error(transparent)]
    Setup(#[from] SetupError),
}

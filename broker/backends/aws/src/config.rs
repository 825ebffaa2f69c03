//! What the broker's configuration says about one account and region of AWS.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bursar_backend_http::{AddressError, SetupError};
use bursar_core::BackendName;
use bursar_core::secret::SecretReader;

/// Secrets Manager of one region, and roles that STS makes sessions of.
#[derive(Debug)]
pub struct AwsConfig {
    /// The name it is mounted under in Bursar.
    pub name: BackendName,
    /// Tells this broker from all others: part of what its policies are called, so that brokers may share a role.
    pub owner: String,
    /// `eu-central-1`
    pub region: String,
    /// Where Secrets Manager is, instead of AWS's own address for the region: `https://HOST[:PORT]`.
    pub endpoint: Option<String>,
    /// The same for STS.
    pub sts_endpoint: Option<String>,
    /// The same for KMS.
    pub kms_endpoint: Option<String>,
    /// The same for IAM, where sessions are [denied](Revocation::Deny).
    pub iam_endpoint: Option<String>,
    /// Lets those four be `http://`: secrets then cross the network in the clear.
    pub allow_plaintext: bool,
    /// Certificates (PEM) that replace the system's trust for this store.
    pub ca_file: Option<PathBuf>,
    /// The longest that one call may take, connection and answer included.
    pub timeout: Duration,
    /// What the name of every secret begins with, and its path does not.
    pub prefix: String,
    /// Where the broker's own credentials come from.
    pub credentials: Credentials,
    /// The ARN of a role that the broker takes on with those credentials, and works as.
    pub assume_role: Option<String>,
    /// The roles that sessions are made of, by the name under `sts/`.
    pub roles: BTreeMap<String, Role>,
}

impl AwsConfig {
    /// What `timeout` is when the configuration does not say.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// Where the broker's own credentials come from. Each is read anew at each login and forgotten after.
#[derive(Debug)]
pub enum Credentials {
    /// The chain of AWS's own tools: environment, shared files, web identity, container, instance.
    Chain,
    /// A key.
    Keys {
        access_key_id: String,
        secret_access_key: SecretReader,
        /// Of temporary credentials that something else keeps fresh.
        session_token: Option<SecretReader>,
    },
    /// A JSON Web Token that somebody else signed, with which a role is taken on.
    WebIdentity { role: String, token: SecretReader },
}

/// A role that sessions are made of.
#[derive(Debug, Clone)]
pub struct Role {
    pub arn: String,
    /// The longest session, [`Role::SHORTEST`] to [`Role::LONGEST`] and no longer than the role itself allows.
    pub ttl: Duration,
    /// What the role's trust policy asks for where it belongs to somebody else.
    pub external_id: Option<String>,
    /// A policy (JSON) that narrows what the session may do.
    pub policy: Option<String>,
    pub session_tags: BTreeMap<String, String>,
    pub revoke: Revocation,
}

/// How a session is taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Revocation {
    /// It is not: it ends by itself.
    #[default]
    AtEnd,
    /// An inline policy of the role denies everything to it.
    Deny,
}

impl Role {
    /// STS makes no shorter session.
    pub const SHORTEST: Duration = Duration::from_secs(15 * 60);
    /// STS makes no longer session.
    pub const LONGEST: Duration = Duration::from_secs(12 * 3600);
    /// What `ttl` is when the configuration does not say: what a role allows unless somebody changed it.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(3600);
}

/// A configuration that no backend can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Endpoint(#[from] AddressError),
    #[error("an endpoint has a path; leave only scheme, host and port")]
    EndpointWithPath,
    #[error(
        "sessions are to be denied, and it is not known where IAM is for this region; set `iam_endpoint`"
    )]
    NoIam,
    #[error("the timeout is zero; give a duration such as `5s`")]
    ZeroTimeout,
    #[error(transparent)]
    Setup(#[from] SetupError),
}

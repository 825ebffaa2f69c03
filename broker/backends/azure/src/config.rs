//! What the broker's configuration says about one vault.

use std::path::PathBuf;
use std::time::Duration;

use bursar_backend_http::{AddressError, SetupError};
use bursar_core::BackendName;
use bursar_core::secret::SecretReader;

/// The secrets of one vault.
#[derive(Debug)]
pub struct AzureConfig {
    /// The name it is mounted under in Bursar.
    pub name: BackendName,
    /// Where the vault is: `https://NAME.vault.azure.net`.
    pub vault: String,
    /// What tokens are asked for, instead of what the vault's host name says: `https://vault.azure.net`.
    pub resource: Option<String>,
    /// Certificates (PEM) that replace the system's trust for this vault and for whoever gives tokens.
    pub ca_file: Option<PathBuf>,
    /// The longest that one call may take, connection and answer included.
    pub timeout: Duration,
    /// What the name of every secret begins with, and its path does not.
    pub prefix: String,
    /// What stands in names for the `/` of paths, where they are to have one: `--`.
    pub separator: Option<String>,
    /// As whom the broker works.
    pub credentials: Credentials,
}

/// As whom the broker works. What proves it is read anew at each login and forgotten after.
#[derive(Debug)]
pub enum Credentials {
    /// An application of Entra ID.
    Application {
        /// Where Entra ID is, instead of where it is for the vault's cloud: `https://login.microsoftonline.com`.
        authority: Option<String>,
        /// The id or domain of the directory.
        tenant: String,
        client_id: String,
        proof: Proof,
    },
    /// The identity that Azure gives to the machine.
    ManagedIdentity {
        /// Which, where there are several.
        client_id: Option<String>,
        /// Where the machine's own service is, instead of at its address on every machine of Azure.
        endpoint: Option<String>,
    },
    /// The identity that Azure gives to an app of App Service, Functions or Container Apps.
    AppIdentity {
        /// Which, where there are several.
        client_id: Option<String>,
        /// Where the platform says that tokens are (`IDENTITY_ENDPOINT`).
        endpoint: String,
        /// What it wants to be shown there (`IDENTITY_HEADER`).
        header: SecretReader,
    },
}

/// What shows that the broker is an application.
#[derive(Debug)]
pub enum Proof {
    /// A secret of the application.
    ClientSecret(SecretReader),
    /// A certificate of the application and its RSA key, together as PEM.
    Certificate(SecretReader),
    /// A JSON Web Token that somebody else signed whom the application trusts, such as a cluster.
    FederatedToken(SecretReader),
}

impl AzureConfig {
    /// What `timeout` is when the configuration does not say.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// A configuration that no backend can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`{key}` is no address")]
    Address { key: &'static str, source: AddressError },
    #[error("`{key}` has a path; leave only scheme, host and port")]
    Path { key: &'static str },
    #[error(
        "the vault's host does not say what tokens are to be for; set `resource`, `https://vault.azure.net` but for other clouds"
    )]
    NoResource,
    #[error("the directory `{tenant}` is no id and no domain")]
    Tenant { tenant: String },
    #[error("`IDENTITY_ENDPOINT` is no address that can be called")]
    AppIdentity { source: AddressError },
    #[error(
        "the service of managed identities is at a host and not https; plain text is for addresses of the machine's own"
    )]
    PlaintextIdentity,
    #[error("the timeout is zero; give a duration such as `5s`")]
    ZeroTimeout,
    #[error(transparent)]
    Setup(#[from] SetupError),
}

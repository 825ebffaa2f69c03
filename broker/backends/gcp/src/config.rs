//! What the broker's configuration says about the secrets of one project of Google Cloud.

use std::path::PathBuf;
use std::time::Duration;

use bursar_backend_http::{AddressError, SetupError};
use bursar_core::BackendName;
use bursar_core::secret::SecretReader;

/// The secrets of one project, or those that it keeps in one location.
#[derive(Debug)]
pub struct GcpConfig {
    /// The name it is mounted under in Bursar.
    pub name: BackendName,
    /// The project's id or number.
    pub project: String,
    /// For regional secrets: where they are, such as `europe-west3`.
    pub location: Option<String>,
    /// Where Secret Manager is, instead of Google's own address: `https://HOST[:PORT]`.
    pub endpoint: Option<String>,
    /// Lets addresses be `http://`, those in a credential too: tokens and secrets then cross the network in the clear.
    pub allow_plaintext: bool,
    /// Certificates (PEM) that replace the system's trust for this store.
    pub ca_file: Option<PathBuf>,
    /// The longest that one call may take, connection and answer included.
    pub timeout: Duration,
    /// What the id of every secret begins with, and its path does not.
    pub prefix: String,
    /// What an id has for each `/` of a path. Without it paths have none.
    pub separator: Option<String>,
    /// Where the broker's own token comes from. Without, none is sent: an emulator asks for none.
    pub credentials: Option<Credentials>,
}

/// Where the broker's own token comes from. Each is read anew at each login and forgotten after.
#[derive(Debug)]
pub enum Credentials {
    /// What the machine offers, in the order of Google's own tools.
    Machine(Machine),
    /// A credential in Google's JSON: a service account's key, an external account, a user's login.
    Json(SecretReader),
}

/// What a machine offers.
#[derive(Debug)]
pub struct Machine {
    /// A file that must be there, since somebody named it.
    pub named: Option<SecretReader>,
    /// A file that may be there: what `gcloud` left behind for the user.
    pub left: Option<SecretReader>,
    /// `HOST[:PORT]` of the metadata server.
    pub metadata: String,
}

impl Machine {
    /// Where the metadata server is on Google's machines. It has no TLS, and no way off the machine.
    pub const METADATA: &str = "metadata.google.internal";
}

/// A configuration that no backend can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Endpoint(#[from] AddressError),
    #[error("an endpoint has a path; leave only scheme, host and port")]
    EndpointWithPath,
    #[error("without a token Google gives no secret; leave it out only before an emulator, at `endpoint`")]
    NoToken,
    #[error("the timeout is zero; give a duration such as `5s`")]
    ZeroTimeout,
    #[error(transparent)]
    Setup(#[from] SetupError),
}

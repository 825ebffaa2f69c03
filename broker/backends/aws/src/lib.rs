//! AWS Secrets Manager, STS and KMS as a Bursar backend.
//!
//! **Paths.** A path is the name of a secret, below the configured prefix: `payments/stripe`. Where roles are configured,
//! all below `sts/` is theirs: `sts/deploy` makes a session of the role `deploy`, and a secret of such a name is not
//! served. So whoever may name secrets in the account cannot decide what a read of `sts/` gives.
//!
//! **Versions.** What a read answers is always the id of a version, so that a rotation is seen. What is asked for may
//! be an id or a stage; see `version`.
//!
//! **Sessions.** STS takes none back. A session is made for one lease, lives to the end that STS gave it, and its lease
//! is kept until then; or, for a role that says so, it is denied everything by a policy of the role, see `denial`. One
//! whose answer was lost was received by nobody and ends too, so there are no orphans to find.
//!
//! **The broker's own credentials** come from the sources that AWS's own tools know, or from what the configuration
//! says; they are read anew before they end, and when AWS no longer takes them. See `session`.
//!
//! **Values.** The SDK parses into strings of its own. They are moved into [`bursar_core::Secret`] at once, and the body
//! that they were parsed from is wiped. What stays beyond reach: `docs/decisions/0029-aws-client.md`.

mod access;
mod backend;
mod call;
mod config;
mod denial;
mod http;
mod iam;
mod leasing;
mod listing;
mod name;
mod refusal;
mod revoking;
mod session;
mod status;
#[cfg(test)]
mod tests;
mod together;
mod value;
mod version;
mod wrapping;

pub use backend::AwsBackend;
pub use bursar_core::secret::SecretReader;
pub use config::{AwsConfig, ConfigError, Credentials, Revocation, Role};

/// What the names of the crates begin with whose logs nobody may see: at one level or another they write down requests,
/// bodies, lines of shared files and what services wrote about an error. This crate says what there is to say.
pub const SILENCED: &[&str] =
    &["aws_config", "aws_credential_types", "aws_runtime", "aws_sdk", "aws_sigv4", "aws_smithy", "aws_types"];

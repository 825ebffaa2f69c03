//! Google Secret Manager as a Bursar backend.
//!
//! **Paths.** A path is the id of a secret, below the configured prefix: `stripe`. Google's ids have no folders. Where a
//! separator is configured it stands for the `/` of paths, so that `payments/stripe` is the secret `payments--stripe`;
//! without one, a path with a `/` is no secret. See `name`.
//!
//! **Versions.** What a read answers is always the number of a version, so that a rotation is seen. What is asked for may
//! be a number or an alias; see `version`.
//!
//! **Values.** The body of an answer is one wiped buffer. The payload is taken out of it, decoded in place of the secret
//! that it becomes, and compared with the checksum that Google sent along. See `payload`.
//!
//! **The broker's own token** comes from a key, a federated identity, or what the machine offers, as Google's own tools
//! find it; it is obtained anew before it ends, and when Google no longer takes it. See `login`.
//!
//! Why neither Google's client for Secret Manager nor its `google-cloud-auth` is here: `docs/decisions/0031-gcp-client.md`.

mod backend;
mod client;
mod config;
mod crc32c;
mod listing;
mod login;
mod name;
mod payload;
mod refusal;
mod status;
#[cfg(test)]
mod tests;
mod version;

pub use backend::GcpBackend;
pub use bursar_core::secret::SecretReader;
pub use config::{ConfigError, Credentials, GcpConfig, Machine};

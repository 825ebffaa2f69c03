//! Azure Key Vault as a Bursar backend: the secrets of one vault.
//!
//! **Paths.** A path is the name of a secret, below the configured prefix. Key Vault knows no folders, so no path has a
//! `/` unless a separator is configured that stands for it, and takes names in any mixture of capitals for one. A policy tells paths apart by their letters; so that nobody
//! gets round one by writing a name otherwise, lower case is the only spelling that is served. See `name`.
//!
//! **Versions.** What a read answers is always the id of a version, so that a rotation is seen.
//!
//! **What is withheld.** A version that is disabled, has expired or is not valid yet is not found. Key Vault answers the
//! last two all the same, and leaves it to its callers; see `value`. An expiry that is to come goes along with the value,
//! so that no lease outlives it.
//!
//! **Whom the broker asks.** Tokens are asked for in the name of the resource and at the authority that the
//! configuration says, or that follow from the vault's host. What a vault writes into a refusal, Azure's own clients
//! take both from; here a vault has no say in where credentials go and what for. Nor has it in where a list goes on: a
//! page that is somewhere else is not fetched.
//!
//! **Values.** They go from the body into [`bursar_core::Secret`] without a copy that stays. Why this is no client of
//! Microsoft's: `docs/decisions/0032-azure-client.md`.

mod access;
mod address;
mod assertion;
mod backend;
mod call;
mod config;
mod exchange;
mod listing;
mod name;
mod refusal;
mod status;
#[cfg(test)]
mod tests;
mod value;

pub use backend::AzureBackend;
pub use bursar_core::secret::SecretReader;
pub use config::{AzureConfig, ConfigError, Credentials, Proof};

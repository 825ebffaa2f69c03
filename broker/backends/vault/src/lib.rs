//! HashiCorp Vault and OpenBao as a Bursar backend.
//!
//! **Paths.** A path is `MOUNT/REST` as the store writes it, without the `data/` of a KV version 2 engine:
//! `secret/payments/db`, `database/creds/readonly`. Which engine is mounted where comes from the configuration; a path
//! under no configured mount is refused without a call. Asking the store (`sys/internal/ui/mounts`) was the
//! alternative: whoever may mount engines there would then decide whether a read creates credentials.
//!
//! **The broker's own login.** One token, obtained at the first call, shared by all. The store revokes every leased
//! credential when the token that made it ends, so the token has to outlive the leases: the broker runs
//! [`VaultBackend::keep_alive`], which renews it at two thirds of its life, and nothing revokes it at shutdown. Give the
//! role a `token_period`: a token with a maximum life takes its leases along when that is reached, whoever renews it.
//! After a restart there is a new token; leases of the one before live until that one ends.
//!
//! **Rights** that the login's policy needs: `read` and `list` on what it serves; where it leases, `update` on
//! `sys/leases/renew`, `sys/leases/revoke` and `sys/leases/lookup`, and `list` with `sudo` on
//! `sys/leases/lookup/MOUNT/*`, without which no orphan can be found. The store's `default` policy must stay, since a
//! refused call is told from a dead token by `auth/token/lookup-self`.
//!
//! **Values.** An answer is read into one wiped buffer and its values are copied from there straight into
//! [`bursar_core::Secret`]. Errors carry a kind and a status code, and nothing that the store wrote. Why there is no
//! Vault client library here: `docs/decisions/0004-vault-client.md`.

mod answer;
mod auth;
mod backend;
mod client;
mod config;
mod kv;
mod leasing;
mod mounts;
mod nodes;
mod session;
mod status;
#[cfg(test)]
mod tests;
mod token;
mod transit;
mod trust;
mod wrapping;

pub use backend::VaultBackend;
pub use bursar_core::secret::SecretReader;
pub use config::{Auth, ConfigError, Credential, MountKind, VaultConfig};

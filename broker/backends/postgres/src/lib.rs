//! PostgreSQL roles that are made for a lease and dropped with it, as a Bursar backend.
//!
//! **Paths.** `creds/ROLE` makes a role by the statements that the configuration has under `roles.ROLE`, and answers
//! its `username` and `password`. `static/NAME` reads those of a role that is there anyway. Nothing else is served.
//!
//! **Names.** A credential's name is made of the lease's id, so that what an interrupted issuance left behind is found
//! by its name alone, whatever the server's clock says: [`name`].
//!
//! **Passwords.** The server gets a SCRAM verifier that is computed here, never the password: [`scram`].
//!
//! **Statements** are the operator's, with placeholders; how a value stands in one is decided here, by what it is:
//! [`statement`].
//!
//! **Sessions.** A few, in a pool. One that a call was broken off on is closed and never used again: [`pool`]. What is
//! sent in one piece is one transaction, which the server takes back by itself when a statement fails. Nothing is
//! repeated: what the broker asks for again, it asks for again itself.
//!
//! **The broker's own password** may be kept by another backend, and changed: [`rotation`]. So are those of standing
//! roles, on schedule: [`standing`].
//!
//! Why it is so: `docs/decisions/0028-postgresql-roles.md`.

mod backend;
mod batch;
mod config;
mod leasing;
mod name;
mod pacing;
mod password;
mod pool;
mod rotation;
mod run;
mod scram;
mod sql;
mod standing;
mod statement;
#[cfg(test)]
mod tests;

pub use backend::PostgresBackend;
pub use bursar_postgres::{ConfigError, Transport};
pub use config::{PostgresConfig, Role, Standing};
pub use name::{RoleName, RoleNameError};
pub use password::{Keeper, Kept, RootPassword};
pub use statement::{Purpose, StatementFault, Statements};

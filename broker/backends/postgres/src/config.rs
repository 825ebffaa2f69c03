//! What the broker's configuration says about one PostgreSQL.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::BackendName;
use bursar_postgres::Transport;

use crate::name::RoleName;
use crate::password::{Keeper, RootPassword};
use crate::statement::Statements;

/// One PostgreSQL, as configured.
pub struct PostgresConfig {
    /// The name it is mounted under in Bursar.
    pub name: BackendName,
    /// Tells this broker from every other that may use the same server; part of the names of what it makes.
    pub owner: String,
    /// A name or address.
    pub host: String,
    pub port: u16,
    /// Statements are run in this database.
    pub database: String,
    /// The broker's own role there.
    pub user: String,
    pub password: Arc<dyn RootPassword>,
    pub transport: Transport,
    /// Sessions at a time, at least one.
    pub connections: usize,
    /// The longest that one call may take, a login included.
    pub timeout: Duration,
    /// Of the verifiers that the server gets.
    pub scram_iterations: NonZeroU32,
    pub roles: BTreeMap<RoleName, Role>,
    pub standing: BTreeMap<RoleName, Standing>,
}

/// A kind of credential: what its path makes.
#[derive(Debug, Clone)]
pub struct Role {
    pub creation: Statements,
    pub renewal: Statements,
    pub revocation: Statements,
    /// Granted at most at a time.
    pub ttl: Duration,
    /// No renewal goes past this, counted from when the lease was asked for.
    pub max_ttl: Duration,
}

/// A role that is there whether or not somebody holds a lease, whose password is changed now and then.
pub struct Standing {
    /// Its name at the server.
    pub user: String,
    /// Its password lives so long.
    pub rotation: Duration,
    /// Keeps the password that is in force.
    pub current: Arc<dyn Keeper>,
    /// Keeps the one that is to come, from before the server has it.
    pub next: Arc<dyn Keeper>,
}

impl PostgresConfig {
    /// Where PostgreSQL listens.
    pub const DEFAULT_PORT: u16 = 5432;
    /// What there is when the configuration does not say.
    pub const DEFAULT_CONNECTIONS: usize = 8;
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
    /// What RFC 7677 asks for and PostgreSQL takes itself, and fewer than which some clients refuse.
    pub const DEFAULT_SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);
    pub const DEFAULT_TTL: Duration = Duration::from_secs(3600);
    pub const DEFAULT_MAX_TTL: Duration = Duration::from_secs(24 * 3600);
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("name", &self.name)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing")
            .field("user", &self.user)
            .field("rotation", &self.rotation)
            .field("current", self.current.place())
            .field("next", self.next.place())
            .finish()
    }
}

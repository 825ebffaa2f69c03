//! Roles that are made for a lease.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::backend::{
    BackendError, ErrorKind, Issued, Leasing, Operation, Removal, StoreHandle, fields_from,
};
use bursar_core::{LeaseId, Secret, SecretPath};
use jiff::Timestamp;

use crate::backend::{FOLDER, PostgresBackend};
use crate::batch::Batch;
use crate::config::Role;
use crate::name::{Credential, RoleName};
use crate::run::Stopped;
use crate::scram;
use crate::sql;
use crate::statement::{Purpose, Statements, Values};

#[async_trait]
impl Leasing for PostgresBackend {
    /// Also under the name of a role that the configuration does not have any more: what it made is still to be dropped.
    fn is_leased(&self, path: &SecretPath) -> bool {
        role_name(path).is_some()
    }

    /// One transaction, in one round trip.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn issue(&self, path: &SecretPath, lease: LeaseId, ttl: Duration) -> Result<Issued, BackendError> {
        let absent = || self.error(ErrorKind::NotFound, Operation::Issue);
        let name = role_name(path).ok_or_else(absent)?;
        let role = self.roles.get(&name).ok_or_else(absent)?;
        let ttl = ttl.min(role.ttl).min(role.max_ttl);
        let iterations = self.scram_iterations;
        let made = self.made(Operation::Issue, move |random| {
            let password = scram::password(random)?;
            let verifier = scram::verifier(&password, iterations, random)?;
            Ok((password, verifier))
        });
        let (password, verifier) = made.await?;
        let username = self.names.of(&name, lease);
        let expiration = self.end(ttl);
        let values = Values { name: &username, password: verifier.as_str(), expiration: &expiration };
        let batch =
            Batch::default().alone(role.creation.change_what_is_shared()).and(role.creation.written(values));
        self.run(Operation::Issue, &name, batch).await?.map_err(|(error, _)| error)?;
        let fields = [("username", Secret::from(username.clone())), ("password", password)];
        let data = fields_from(fields).map_err(|_| self.error(ErrorKind::Malformed, Operation::Issue))?;
        Ok(Issued { data, handle: StoreHandle::new(username), ttl, renewable: true })
    }

    /// Moves the end, never past what the role's `max_ttl` allows.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn renew(&self, handle: &StoreHandle, ttl: Duration) -> Result<Duration, BackendError> {
        let misconfigured = || self.error(ErrorKind::Misconfigured, Operation::Renew);
        let credential = self.names.read(handle.as_str()).ok_or_else(misconfigured)?;
        let role = self.roles.get(&credential.role).ok_or_else(misconfigured)?;
        let ttl = ttl.min(role.ttl).min(self.left(&credential, role));
        if ttl.is_zero() {
            return Err(misconfigured());
        }
        let expiration = self.end(ttl);
        let values = Values { name: handle.as_str(), password: "", expiration: &expiration };
        let batch =
            Batch::default().alone(role.renewal.change_what_is_shared()).and(role.renewal.written(values));
        match self.run(Operation::Renew, &credential.role, batch).await? {
            Ok(()) => Ok(ttl),
            Err((_, stopped))
                if stopped.refusal.is_undefined() && !self.is_there(handle, Operation::Renew).await? =>
            {
                Err(self.error(ErrorKind::NotFound, Operation::Renew))
            }
            Err((error, _)) => Err(error),
        }
    }

    /// Two transactions, sent together. The first takes the right to log in away, so that what the second cuts cannot
    /// come back; it is not waited for to be on disk, since the second is.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn revoke(&self, handle: &StoreHandle) -> Result<Removal, BackendError> {
        let misconfigured = || self.error(ErrorKind::Misconfigured, Operation::Revoke);
        let credential = self.names.read(handle.as_str()).ok_or_else(misconfigured)?;
        let (name, text) = (sql::identifier(handle.as_str()), sql::literal(handle.as_str()));
        let fence = ["SET LOCAL synchronous_commit TO off".to_owned(), format!("ALTER ROLE {name} NOLOGIN")];
        // Only a member of a role may cut its sessions and drop what it owns.
        let cut = [
            format!("GRANT {name} TO CURRENT_USER"),
            format!(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = {text}"
            ),
        ];
        let configured = self.roles.get(&credential.role).map(|role| role.revocation.clone());
        let statements =
            configured.or_else(|| Statements::default_for(Purpose::Revocation)).ok_or_else(misconfigured)?;
        let values = Values { name: handle.as_str(), password: "", expiration: "" };
        let removal = Batch::default()
            .alone(statements.change_what_is_shared())
            .own(cut)
            .and(statements.written(values));
        let batches = [Batch::default().own(fence), removal];
        let mut answers = self.pool.run(Operation::Revoke, &batches).await?;
        match (answers.pop(), batches.last()) {
            (Some(Err(stopped)), Some(removal)) => {
                if stopped.refusal.is_undefined() && !self.is_there(handle, Operation::Revoke).await? {
                    return Ok(Removal::Gone);
                }
                Err(self.told(Operation::Revoke, Some(&credential.role), removal, &stopped))
            }
            _ => Ok(Removal::Gone),
        }
    }

    /// One query, by name. The time that counts is the one in the name: when the lease was asked for.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn find_orphans(
        &self,
        path: &SecretPath,
        created: Range<Timestamp>,
    ) -> Result<Vec<StoreHandle>, BackendError> {
        let misconfigured = || self.error(ErrorKind::Misconfigured, Operation::FindOrphans);
        let role = role_name(path).ok_or_else(misconfigured)?;
        let (from, to) = self.names.range(&role, &created);
        let query = format!(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname >= {} AND rolname < {} LIMIT {}",
            sql::literal(&from),
            sql::literal(&to),
            MOST_FOUND + 1
        );
        let found = self.ask(Operation::FindOrphans, &query).await?;
        if found.len() > MOST_FOUND {
            // A part of the answer would be taken for the whole.
            tracing::warn!(limit = MOST_FOUND, "too many roles to search for orphans");
            return Err(misconfigured());
        }
        let ours = found.into_iter().flatten().filter(|name| self.names.read(name).is_some());
        Ok(ours.map(StoreHandle::new).collect())
    }
}

impl PostgresBackend {
    /// Runs one batch of a role's; the inner error tells also what stopped it.
    async fn run(
        &self,
        operation: Operation,
        role: &RoleName,
        batch: Batch,
    ) -> Result<Result<(), (BackendError, Stopped)>, BackendError> {
        let mut answers = self.pool.run(operation, std::slice::from_ref(&batch)).await?;
        Ok(match answers.pop() {
            Some(Err(stopped)) => Err((self.told(operation, Some(role), &batch, &stopped), stopped)),
            _ => Ok(()),
        })
    }

    async fn is_there(&self, handle: &StoreHandle, operation: Operation) -> Result<bool, BackendError> {
        let name = sql::literal(handle.as_str());
        let found =
            self.ask(operation, &format!("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {name}")).await?;
        Ok(!found.is_empty())
    }

    /// When a credential ends that is given `ttl` now, as PostgreSQL reads it.
    fn end(&self, ttl: Duration) -> String {
        let end = self.clock.now().saturating_add(ttl).unwrap_or(Timestamp::MAX);
        format!("{end:.3}")
    }

    /// How long a credential may still live.
    fn left(&self, credential: &Credential, role: &Role) -> Duration {
        let end = credential.asked_at.saturating_add(role.max_ttl).unwrap_or(Timestamp::MAX);
        Duration::try_from(end.duration_since(self.clock.now())).unwrap_or_default()
    }
}

/// The role that a path makes.
fn role_name(path: &SecretPath) -> Option<RoleName> {
    let name = path.as_str().strip_prefix(FOLDER)?.strip_prefix('/')?;
    RoleName::parse(name).ok()
}

/// About 8 MB of names.
const MOST_FOUND: usize = 100_000;

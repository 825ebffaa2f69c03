//! Passwords of standing roles: roles that somebody else made, and that Bursar changes the password of, on schedule.
//!
//! A password is kept in two places. The one that is to come is kept first (`next`), then the server gets it, then it is
//! kept as the one in force (`current`), which is what is read. So nobody reads a password that the server does not have,
//! but for the moment between the last two. A rotation that was broken off is known by the two being different, and
//! finished with the password that is to come: the server may have it already.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind, Fetched, Operation, VersionInfo, VersionState};
use bursar_core::retry::Retry;
use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Secret, SecretPath, Version};
use futures_util::future::join_all;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use tokio::time::sleep;

use crate::backend::PostgresBackend;
use crate::config::Standing;
use crate::name::RoleName;
use crate::password::Kept;
use crate::{scram, sql};

impl PostgresBackend {
    /// Changes the passwords of standing roles when they are due, and at once where there is none yet or a rotation was
    /// broken off. `tell` hears what came of each, by its path: the new version, or why there is none; that is tried
    /// again. Never returns; the broker runs it beside the backend and drops it to stop.
    pub async fn keep_rotating<F, T>(&self, tell: F)
    where
        F: Fn(SecretPath, Result<Version, BackendError>) -> T + Send + Sync,
        T: Future<Output = ()> + Send,
    {
        let turns = self.standing.iter().map(|(name, standing)| self.rotate_in_turn(name, standing, &tell));
        join_all(turns.collect::<Vec<_>>()).await;
        // Without standing roles there is nothing to do, for ever.
        std::future::pending::<()>().await;
    }

    async fn rotate_in_turn<F, T>(&self, name: &RoleName, standing: &Standing, tell: &F)
    where
        F: Fn(SecretPath, Result<Version, BackendError>) -> T + Send + Sync,
        T: Future<Output = ()> + Send,
    {
        let Ok(path) = SecretPath::from_store(&format!("{FOLDER}/{name}")) else { return };
        let mut failed = 0;
        loop {
            let wait = match self.rotate_if_due(standing).await {
                Ok((wait, rotated)) => {
                    failed = 0;
                    if let Some(version) = rotated {
                        tracing::info!(backend = %self.name, role = %name, %version, "the password was changed");
                        tell(path.clone(), Ok(version)).await;
                    }
                    wait
                }
                Err(error) => {
                    failed += 1;
                    tracing::warn!(backend = %self.name, role = %name, %error, failed, "the password was not changed");
                    tell(path.clone(), Err(error)).await;
                    Retry::BACKGROUND.delay(failed)
                }
            };
            sleep(wait.min(LONGEST_SLEEP)).await;
        }
    }

    /// How long until it is due next, and the version of its new password, where it was.
    async fn rotate_if_due(&self, standing: &Standing) -> Result<(Duration, Option<Version>), BackendError> {
        let (current, next) = (standing.current.newest().await?, standing.next.newest().await?);
        let begun = match (&current, &next) {
            (Some(current), Some(next)) => !scram::are_one(&current.password, &next.password),
            (None, next) => next.is_some(),
            (Some(_), None) => false,
        };
        if let (false, Some(_)) = (begun, &current) {
            let kept_at = standing.current.kept_at().await?.unwrap_or(Timestamp::MIN);
            let due = kept_at.saturating_add(standing.rotation).unwrap_or(Timestamp::MAX);
            let left = Duration::try_from(due.duration_since(self.clock.now())).unwrap_or_default();
            if !left.is_zero() {
                return Ok((left, None));
            }
        }
        let password = match next {
            Some(next) if begun => next.password,
            next => {
                let password = Arc::new(self.made(Operation::Rotate, scram::password).await?);
                let over = next.and_then(|next| next.version);
                standing.next.keep(Arc::clone(&password), over.as_ref()).await?;
                password
            }
        };
        self.give(&standing.user, &password).await?;
        let over = current.and_then(|current| current.version);
        let version = standing.current.keep(password, over.as_ref()).await?;
        Ok((standing.rotation, Some(version)))
    }

    /// Gives a role of the server a password.
    async fn give(&self, user: &str, password: &Arc<Secret>) -> Result<(), BackendError> {
        let password = Arc::clone(password);
        let iterations = self.scram_iterations;
        let verifier = move |random: &SystemRandom| scram::verifier(&password, iterations, random);
        let verifier = self.made(Operation::Rotate, verifier).await?;
        let (user, verifier) = (sql::identifier(user), sql::literal(verifier.as_str()));
        self.ask(Operation::Rotate, &format!("ALTER ROLE {user} PASSWORD {verifier}")).await.map(drop)
    }

    /// Reads the password that is in force. Its version is how many there have been.
    pub(crate) async fn read_standing(
        &self,
        path: &SecretPath,
        version: Option<&Version>,
    ) -> Result<Fetched, BackendError> {
        let (standing, kept) = self.newest(path, Operation::Read).await?;
        if version.is_some() && version != kept.version.as_ref() {
            return Err(self.error(ErrorKind::NotFound, Operation::Read));
        }
        let malformed = |_| self.error(ErrorKind::Malformed, Operation::Read);
        let username = FieldName::parse("username").map_err(malformed)?;
        let password = FieldName::parse("password").map_err(malformed)?;
        let user = Arc::new(Secret::from(standing.user.clone()));
        let data = SecretData::Fields([(username, user), (password, kept.password)].into());
        Ok(Fetched { data, version: kept.version, expires_at: None })
    }

    /// The version that is in force; those before are good for nothing.
    pub(crate) async fn standing_versions(
        &self,
        path: &SecretPath,
    ) -> Result<Vec<VersionInfo>, BackendError> {
        let (standing, kept) = self.newest(path, Operation::Versions).await?;
        let created_at = standing.current.kept_at().await?;
        Ok(kept
            .version
            .map(|version| VersionInfo { version, created_at, expires_at: None, state: VersionState::Kept })
            .into_iter()
            .collect())
    }

    async fn newest(
        &self,
        path: &SecretPath,
        operation: Operation,
    ) -> Result<(&Standing, Kept), BackendError> {
        let absent = || self.error(ErrorKind::NotFound, operation);
        let name = path.as_str().strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
        let name = name.and_then(|name| RoleName::parse(name).ok()).ok_or_else(absent)?;
        let standing = self.standing.get(&name).ok_or_else(absent)?;
        // Its first password is not there yet.
        let missing = || self.error(ErrorKind::Unavailable, operation);
        Ok((standing, standing.current.newest().await?.ok_or_else(missing)?))
    }
}

/// What the paths of standing roles begin with.
pub(crate) const FOLDER: &str = "static";
/// A machine that slept, or a clock that was set, is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

//! The broker's own credentials: one set, shared, read anew before it ends, replaced when AWS no longer takes it.
//!
//! Invariants. One login is in flight at most. While the credentials of the last are good nobody waits for a new one but
//! whoever obtains it, and a login that fails leaves them in use. Logins that fail, or that succeed and are refused, are
//! paced ([`Pacing`]): whoever needs one meanwhile gets the last refusal at once. The SDK's own cache of credentials is
//! switched off, since it can be told neither to drop what was refused nor to be slow.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use bursar_core::backend::{BackendError, ErrorKind, Operation, Pacing};
use bursar_core::{BackendName, Clock};
use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};

use crate::access::Access;

/// Holds the credentials that calls are signed with.
pub(crate) struct Session {
    backend: BackendName,
    access: Access,
    clock: Arc<dyn Clock>,
    /// The longest that a login may take.
    limit: Duration,
    login: RwLock<Option<Arc<Login>>>,
    turn: Mutex<Pacing>,
}

/// Credentials, and how long they are good.
pub(crate) struct Login {
    credentials: Credentials,
    since: Instant,
    /// None for credentials that name no end.
    life: Option<Duration>,
}

impl Session {
    pub(crate) fn new(backend: BackendName, access: Access, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let (login, turn) = (RwLock::new(None), Mutex::new(Pacing::new()));
        Self { backend, access, clock, limit, login, turn }
    }

    /// Credentials that are good now.
    pub(crate) async fn login(&self) -> Result<Arc<Login>, BackendError> {
        let mut turn = match self.alive() {
            Some(login) if !login.is_due() => return Ok(login),
            Some(login) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(login),
            },
            None => self.turn.lock().await,
        };
        match self.alive() {
            Some(login) if !login.is_due() => Ok(login),
            Some(login) => Ok(self.log_in(&mut turn).await.unwrap_or(login)),
            None => self.log_in(&mut turn).await,
        }
    }

    /// After AWS refused the credentials of `used`: whether there are others now.
    pub(crate) async fn replace(&self, used: &Arc<Login>) -> Result<bool, BackendError> {
        let mut turn = self.turn.lock().await;
        if self.current().is_some_and(|current| current.credentials != used.credentials) {
            // Another call has been here.
            return Ok(true);
        }
        Ok(self.log_in(&mut turn).await?.credentials != used.credentials)
    }

    async fn log_in(&self, turn: &mut MutexGuard<'_, Pacing>) -> Result<Arc<Login>, BackendError> {
        let refusal = |kind| BackendError::new(kind, &self.backend, Operation::Login);
        turn.begin(refusal(ErrorKind::Unavailable))?;
        let obtained = timeout(self.limit, self.access.obtain(&self.backend)).await;
        match obtained.unwrap_or_else(|_| Err(refusal(ErrorKind::Timeout))) {
            Ok(credentials) => {
                turn.succeeded(refusal(ErrorKind::Denied));
                let life = credentials.expiry().map(|end| self.left(end));
                tracing::info!(backend = %self.backend, ?life, "logged in");
                let login = Arc::new(Login { credentials, since: Instant::now(), life });
                *self.login.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&login));
                Ok(login)
            }
            Err(error) => {
                tracing::warn!(%error, "not logged in");
                turn.refused(error.clone());
                Err(error)
            }
        }
    }

    fn alive(&self) -> Option<Arc<Login>> {
        self.current().filter(|login| login.is_alive())
    }

    fn current(&self) -> Option<Arc<Login>> {
        self.login.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn left(&self, end: SystemTime) -> Duration {
        let left = Timestamp::try_from(end).map(|end| end.duration_since(self.clock.now()));
        left.ok().and_then(|left| left.try_into().ok()).unwrap_or_default()
    }
}

impl Login {
    fn is_alive(&self) -> bool {
        self.life.is_none_or(|life| self.since.elapsed() < life)
    }

    /// Whether the next are to be obtained while these are good: a sixth of their life before the end, and so often
    /// where they name none, so that a rotated key is found.
    fn is_due(&self) -> bool {
        let due = self.life.map_or(REREAD, |life| life / 6 * 5);
        self.since.elapsed() >= due
    }
}

/// For the SDK, which asks each time that it signs.
impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let login = self.login().await.map_err(CredentialsError::provider_error)?;
            Ok(login.credentials.clone())
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("backend", &self.backend).finish_non_exhaustive()
    }
}

const REREAD: Duration = Duration::from_secs(300);

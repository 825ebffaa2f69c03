//! The broker's own credential at a store that neither renews nor revokes one: shared, obtained anew before it ends and
//! when the store no longer takes it.
//!
//! Invariants. One login is in flight at most. While the credential of the last is good nobody waits for a new one but
//! whoever obtains it, and a login that fails leaves it in use. Logins that fail, or that succeed and are refused, are
//! paced ([`Pacing`]): whoever needs one meanwhile gets the last refusal at once.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};

use super::{BackendError, ErrorKind, Operation, Pacing};
use crate::reference::BackendName;

/// Where the broker's credential for a store comes from.
#[async_trait]
pub trait Login: Send + Sync {
    /// What calls are made with. Two that are equal are refused alike.
    type Credential: PartialEq + Send + Sync;

    /// Obtains one.
    async fn log_in(&self) -> Result<Granted<Self::Credential>, BackendError>;
}

/// A credential as it was obtained.
#[expect(missing_debug_implementations, reason = "holds a credential")]
pub struct Granted<C> {
    pub credential: C,
    /// From now; none for one that names no end.
    pub life: Option<Duration>,
}

/// Holds the credential that calls are made with.
pub struct Session<L: Login> {
    backend: BackendName,
    login: L,
    /// The longest that a login may take.
    limit: Duration,
    held: RwLock<Option<Arc<Held<L::Credential>>>>,
    turn: Mutex<Pacing>,
}

/// A credential that is in use, and how long it is good.
#[expect(missing_debug_implementations, reason = "holds a credential")]
pub struct Held<C> {
    pub credential: C,
    since: Instant,
    life: Option<Duration>,
}

impl<L: Login> Session<L> {
    /// Nobody has logged in yet.
    pub fn new(backend: BackendName, login: L, limit: Duration) -> Self {
        Self { backend, login, limit, held: RwLock::new(None), turn: Mutex::new(Pacing::new()) }
    }

    /// A credential that is good now.
    ///
    /// # Errors
    /// There is none, and none is to be had.
    pub async fn credential(&self) -> Result<Arc<Held<L::Credential>>, BackendError> {
        let mut turn = match self.alive() {
            Some(held) if !held.is_due() => return Ok(held),
            Some(held) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(held),
            },
            None => self.turn.lock().await,
        };
        match self.alive() {
            Some(held) if !held.is_due() => Ok(held),
            Some(held) => Ok(self.obtain(&mut turn).await.unwrap_or(held)),
            None => self.obtain(&mut turn).await,
        }
    }

    /// After the store refused `used`: whether there is another now.
    ///
    /// # Errors
    /// None is to be had.
    pub async fn replace(&self, used: &Held<L::Credential>) -> Result<bool, BackendError> {
        let mut turn = self.turn.lock().await;
        if self.current().is_some_and(|current| current.credential != used.credential) {
            // Another call has been here.
            return Ok(true);
        }
        Ok(self.obtain(&mut turn).await?.credential != used.credential)
    }

    async fn obtain(
        &self,
        turn: &mut MutexGuard<'_, Pacing>,
    ) -> Result<Arc<Held<L::Credential>>, BackendError> {
        let refusal = |kind| BackendError::new(kind, &self.backend, Operation::Login);
        turn.begin(refusal(ErrorKind::Unavailable))?;
        let obtained = timeout(self.limit, self.login.log_in()).await;
        match obtained.unwrap_or_else(|_| Err(refusal(ErrorKind::Timeout))) {
            Ok(Granted { credential, life }) => {
                turn.succeeded(refusal(ErrorKind::Denied));
                tracing::info!(backend = %self.backend, ?life, "logged in");
                let held = Arc::new(Held { credential, since: Instant::now(), life });
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&held));
                Ok(held)
            }
            Err(error) => {
                tracing::warn!(%error, "not logged in");
                turn.refused(error.clone());
                Err(error)
            }
        }
    }

    fn alive(&self) -> Option<Arc<Held<L::Credential>>> {
        self.current().filter(|held| held.is_alive())
    }

    fn current(&self) -> Option<Arc<Held<L::Credential>>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<C> Held<C> {
    fn is_alive(&self) -> bool {
        self.life.is_none_or(|life| self.since.elapsed() < life)
    }

    /// Whether the next is to be obtained while this is good: a sixth of its life before the end, and so often where it
    /// names none, so that a rotated key is found.
    fn is_due(&self) -> bool {
        let due = self.life.map_or(REREAD, |life| life / 6 * 5);
        self.since.elapsed() >= due
    }
}

impl<L: Login> fmt::Debug for Session<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("backend", &self.backend).finish_non_exhaustive()
    }
}

const REREAD: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    /// Credentials that count up, or refusals.
    #[derive(Default)]
    struct Counting {
        logins: AtomicU32,
        refuses: AtomicBool,
        /// Gives the same again.
        stuck: bool,
        life: Option<Duration>,
    }

    #[async_trait]
    impl Login for Counting {
        type Credential = u32;

        async fn log_in(&self) -> Result<Granted<u32>, BackendError> {
            let logins = self.logins.fetch_add(1, Ordering::Relaxed) + 1;
            if self.refuses.load(Ordering::Relaxed) {
                return Err(BackendError::new(ErrorKind::Denied, &name(), Operation::Login));
            }
            Ok(Granted { credential: if self.stuck { 1 } else { logins }, life: self.life })
        }
    }

    fn name() -> BackendName {
        BackendName::parse("store").expect("name")
    }

    fn session(login: Counting) -> Session<Counting> {
        Session::new(name(), login, Duration::from_secs(5))
    }

    async fn held(session: &Session<Counting>) -> u32 {
        session.credential().await.unwrap_or_else(|error| panic!("{error}")).credential
    }

    #[tokio::test(start_paused = true)]
    async fn one_login_is_for_all_until_five_sixths_of_its_life() {
        let session = session(Counting { life: Some(Duration::from_secs(3600)), ..Counting::default() });
        for _ in 0..3 {
            assert_eq!(held(&session).await, 1);
        }
        tokio::time::advance(Duration::from_secs(2999)).await;
        assert_eq!(held(&session).await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(held(&session).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_fails_leaves_the_credential_in_use_until_it_ends() {
        let session = session(Counting { life: Some(Duration::from_secs(600)), ..Counting::default() });
        assert_eq!(held(&session).await, 1);
        session.login.refuses.store(true, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert_eq!(held(&session).await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(session.credential().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_refused_is_replaced_once_for_all_who_used_it() {
        let session = session(Counting::default());
        let used = session.credential().await.expect("a credential");
        assert_eq!(session.replace(&used).await, Ok(true));
        assert_eq!(session.replace(&used).await, Ok(true));
        assert_eq!(session.login.logins.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_again_is_no_other() {
        let session = session(Counting { stuck: true, ..Counting::default() });
        let used = session.credential().await.expect("a credential");
        assert_eq!(session.replace(&used).await, Ok(false));
    }
}

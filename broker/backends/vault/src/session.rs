//! The broker's login at one store: one token, shared, kept alive, replaced when it is dead.
//!
//! Invariants. One login is in flight at most; whoever needs a token meanwhile waits for it. A refused call does not by
//! itself cost a login: the store answers 403 both to a dead token and to a path that the policy does not allow, so the
//! token is looked up first, and only one that the store does not know is replaced. Otherwise every caller who asks for
//! a forbidden path would make the broker log in, and each login leaves a token behind at the store.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind, Operation, Pacing};
use bursar_core::retry::Retry;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use crate::answer::Answer;
use crate::auth::{self, Life};
use crate::client::{Client, Request};
use crate::config::Auth;
use crate::token::Token;
use crate::wrapping::Unwrapped;

/// Sends calls with the broker's token.
pub(crate) struct Session {
    pub(crate) client: Client,
    auth: Auth,
    login: watch::Sender<Option<Arc<Login>>>,
    turn: Mutex<Turn>,
}

/// A login that worked.
struct Login {
    token: Arc<Token>,
    /// What the store granted last.
    life: Life,
    since: Instant,
}

/// What whoever logs in, renews or checks holds meanwhile.
struct Turn {
    pacing: Pacing,
    /// When a lookup last found the token good.
    good_at: Option<Instant>,
    /// What was handed over wrapped.
    unwrapped: Option<Unwrapped>,
}

impl Session {
    pub(crate) fn new(client: Client, auth: Auth) -> Self {
        let turn = Turn { pacing: Pacing::new(), good_at: None, unwrapped: None };
        Self { client, auth, login: watch::Sender::new(None), turn: Mutex::new(turn) }
    }

    /// Sends `request` with the token, and once more with a new one if the store no longer knows the first.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, BackendError> {
        let sent_at = Instant::now();
        let login = self.login().await?;
        match self.client.send(request, Some(&login.token)).await {
            Err(denied) if denied.kind == ErrorKind::Denied => match self.replacement(&login, sent_at).await?
            {
                Some(fresh) => self.client.send(request, Some(&fresh.token)).await,
                None => Err(denied),
            },
            answer => answer,
        }
    }

    /// How long leases of the present token live at most, where that is known: a token that cannot be renewed any more
    /// takes them along.
    pub(crate) fn lease_bound(&self) -> Option<Duration> {
        let login = self.alive().filter(|login| !login.life.renewable)?;
        login.ends_at().map(|end| end.duration_since(Instant::now()))
    }

    /// Renews the token at two thirds of its life, and logs in anew where that cannot be. Never returns.
    pub(crate) async fn keep_alive(&self) {
        let mut changed = self.login.subscribe();
        let mut failed = 0;
        loop {
            let due = match failed {
                0 => changed.borrow_and_update().as_ref().and_then(|login| login.renew_at()),
                _ => Some(Instant::now() + Retry::BACKGROUND.delay(failed)),
            };
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => match self.renew().await {
                    Ok(()) => failed = 0,
                    Err(error) => {
                        failed = failed.saturating_add(1);
                        tracing::warn!(%error, failed, "token not renewed");
                    }
                },
                // Somebody else logged in. The sender lives in `self`, so this cannot fail.
                _ = changed.changed() => failed = 0,
            }
        }
    }

    async fn login(&self) -> Result<Arc<Login>, BackendError> {
        if let Some(login) = self.alive() {
            return Ok(login);
        }
        let mut turn = self.turn.lock().await;
        match self.alive() {
            Some(login) => Ok(login),
            None => self.log_in(&mut turn).await,
        }
    }

    /// The login to use instead of one whose call was refused; none if its token is good, so that the refusal stands.
    async fn replacement(&self, used: &Login, sent_at: Instant) -> Result<Option<Arc<Login>>, BackendError> {
        let mut turn = self.turn.lock().await;
        if let Some(other) = self.alive().filter(|login| !Arc::ptr_eq(&login.token, &used.token)) {
            return Ok(Some(other));
        }
        if turn.good_at.is_some_and(|at| at > sent_at) {
            return Ok(None);
        }
        match auth::look_up(&self.client, &used.token).await {
            Ok(_) => {
                turn.good_at = Some(Instant::now());
                Ok(None)
            }
            Err(error) if error.kind == ErrorKind::Denied => self.log_in(&mut turn).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn renew(&self) -> Result<(), BackendError> {
        let mut turn = self.turn.lock().await;
        if let Some(login) = self.alive().filter(|login| login.life.renewable) {
            match auth::renew(&self.client, &login.token).await {
                Ok(granted) => {
                    self.publish(login.renewed(granted));
                    return Ok(());
                }
                Err(error) if error.kind == ErrorKind::Denied => {}
                Err(error) => return Err(error),
            }
        }
        self.log_in(&mut turn).await.map(drop)
    }

    async fn log_in(&self, turn: &mut Turn) -> Result<Arc<Login>, BackendError> {
        turn.pacing.begin(self.client.error(ErrorKind::Unavailable, Operation::Login))?;
        match auth::log_in(&self.client, &self.auth, &mut turn.unwrapped).await {
            Ok(granted) => {
                turn.pacing.succeeded(self.client.error(ErrorKind::Denied, Operation::Login));
                tracing::info!(backend = %self.client.backend, life = ?granted.life, "logged in");
                let token = Arc::new(granted.token);
                Ok(self.publish(Login { token, life: granted.life, since: Instant::now() }))
            }
            Err(error) => {
                turn.pacing.refused(error.clone());
                Err(error)
            }
        }
    }

    fn publish(&self, login: Login) -> Arc<Login> {
        let login = Arc::new(login);
        self.login.send_replace(Some(Arc::clone(&login)));
        login
    }

    fn alive(&self) -> Option<Arc<Login>> {
        let login = self.login.borrow().clone()?;
        login.ends_at().is_none_or(|end| Instant::now() < end).then_some(login)
    }
}

impl Login {
    fn renewed(&self, granted: Life) -> Self {
        // The store grants less than before once the token comes near its maximum life: it renews no further than that.
        let shrunk = match (self.life.left, granted.left) {
            (Some(before), Some(now)) => now + ROUNDING < before,
            _ => false,
        };
        let life = Life { renewable: granted.renewable && !shrunk, ..granted };
        Self { token: Arc::clone(&self.token), life, since: Instant::now() }
    }

    /// None for a token that never ends, or later than the clock can tell.
    fn ends_at(&self) -> Option<Instant> {
        self.since.checked_add(self.life.left?)
    }

    fn renew_at(&self) -> Option<Instant> {
        let wait = self.life.left? / 3 * 2;
        self.since.checked_add(wait.max(SHORTEST_WAIT))
    }
}

/// A renewed life may come back this much shorter for no reason.
const ROUNDING: Duration = Duration::from_secs(5);
/// A token that is nearly dead is not renewed in a tight loop.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

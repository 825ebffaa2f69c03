//! Sessions, as many as are allowed, lent to one call at a time.
//!
//! A session comes back only when its call was answered whole. One whose call timed out, was broken off or lost its
//! connection is closed: what it would answer next belongs to somebody who is gone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bursar_postgres::{Refusal, Server, Session};
use tokio::sync::Semaphore;

use crate::batch::Batch;
use crate::pacing::Pacing;
use crate::password::{Keeper, Kept, RootPassword};
use crate::run::{Column, Stopped, run};

pub(crate) struct Pool {
    backend: BackendName,
    server: Server,
    password: Arc<dyn RootPassword>,
    timeout: Duration,
    places: Semaphore,
    /// Those used last are used first, so that what is not needed is left alone.
    idle: Mutex<Vec<Session>>,
    pacing: Pacing,
}

impl Pool {
    pub(crate) fn new(
        backend: BackendName,
        server: Server,
        password: Arc<dyn RootPassword>,
        connections: usize,
        timeout: Duration,
    ) -> Self {
        Self {
            backend,
            server,
            password,
            timeout,
            places: Semaphore::new(connections.max(1)),
            idle: Mutex::default(),
            pacing: Pacing::default(),
        }
    }

    /// Runs batches, in one round trip, within the limit of a call. Answers what each of them met.
    ///
    /// # Errors
    /// There is no session, or no answer in time.
    pub(crate) async fn run(
        &self,
        operation: Operation,
        batches: &[Batch],
    ) -> Result<Vec<Result<Column, Stopped>>, BackendError> {
        let work = async {
            let _place =
                self.places.acquire().await.map_err(|_| self.error(ErrorKind::Unavailable, operation))?;
            let mut session = self.session().await?;
            let answers = run(&mut session, batches).await;
            let intact = |answer: &Result<_, Stopped>| {
                answer.as_ref().err().is_none_or(|stopped| stopped.refusal.leaves_session())
            };
            if answers.iter().all(intact) {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            }
            Ok(answers)
        };
        let answers = tokio::time::timeout(self.timeout, work).await;
        answers.unwrap_or_else(|_| Err(self.error(ErrorKind::Timeout, operation)))
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        BackendError::new(kind, &self.backend, operation)
    }

    async fn session(&self) -> Result<Session, BackendError> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut session) = idle else { break };
            if session.is_open() {
                return Ok(session);
            }
        }
        self.pacing.admit()?;
        self.log_in().await.map(|(session, _)| session)
    }

    /// The password that was the newest `back` changes ago.
    pub(crate) async fn password(&self, back: usize) -> Result<Option<Kept>, BackendError> {
        self.password.before(back).await
    }

    /// The power to keep another password, where there is one.
    pub(crate) fn keeper(&self) -> Option<&dyn Keeper> {
        self.password.keeper()
    }

    /// By which password a login works now: that of how many changes ago.
    pub(crate) async fn good_password(&self) -> Result<usize, BackendError> {
        let opened = tokio::time::timeout(self.timeout, self.log_in()).await;
        let opened = opened.unwrap_or_else(|_| Err(self.error(ErrorKind::Timeout, Operation::Login)));
        opened.map(|(_, back)| back)
    }

    /// A session, and by which password it was opened.
    async fn log_in(&self) -> Result<(Session, usize), BackendError> {
        let mut opened = Err(self.error(ErrorKind::Misconfigured, Operation::Login));
        for back in 0..PASSWORDS {
            let Some(Kept { password, .. }) = self.password(back).await? else { break };
            let refusal = match self.server.log_in(Some(&*password)).await {
                Ok(session) => {
                    opened = Ok((session, back));
                    break;
                }
                Err(refusal) => refusal,
            };
            let Refusal { kind, sqlstate, cause, .. } = refusal;
            tracing::warn!(backend = %self.backend, %kind, sqlstate, cause, back, "login failed");
            opened = Err(self.error(kind, Operation::Login));
            // Only where the password was refused another is worth trying.
            if kind != ErrorKind::Denied {
                break;
            }
        }
        // Of what keeps the password the server knows nothing, so that does not make it wait.
        self.pacing.ended(&opened);
        opened
    }
}

/// The newest, and the one before.
const PASSWORDS: usize = 2;

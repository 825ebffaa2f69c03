//! Calls to the vault: who makes them, how long they may take, what happens when the broker's token is refused.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bursar_backend_http::Bearer;
use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation, Session, repeat};
use bursar_core::secret::Gathered;
use http::header::{ACCEPT, AUTHORIZATION};
use reqwest::Url;
use tokio::time::{Instant, timeout};

use crate::access::Access;
use crate::exchange::exchange;
use crate::refusal::Refusal;

/// Makes calls with the broker's token. All of them read.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) backend: BackendName,
    http: reqwest::Client,
    session: Session<Access>,
    timeout: Duration,
    well_at: Mutex<Option<Instant>>,
}

impl Caller {
    pub(crate) fn new(
        backend: BackendName,
        http: reqwest::Client,
        session: Session<Access>,
        timeout: Duration,
    ) -> Self {
        Self { backend, http, session, timeout, well_at: Mutex::new(None) }
    }

    /// Whether the last call was answered, a moment ago: by somebody who knows the broker, be it that there is no such
    /// secret.
    pub(crate) fn was_well(&self) -> bool {
        let well_at = *self.well_at.lock().unwrap_or_else(PoisonError::into_inner);
        well_at.is_some_and(|at| at.elapsed() < MOMENT)
    }

    /// Reads what is at `url`, again if need be.
    pub(crate) async fn ask(&self, operation: Operation, url: &Url) -> Result<Gathered, BackendError> {
        let once = || async { self.make(operation, url).await.map_err(|refusal| refusal.error) };
        repeat(self.timeout, once).await
    }

    /// Makes a call, and once more with another token where the vault does not take the first.
    pub(crate) async fn make(&self, operation: Operation, url: &Url) -> Result<Gathered, Refusal> {
        let used = self.session.credential().await.map_err(Refusal::unsaid)?;
        match self.once(operation, url, &used.credential).await {
            Err(refusal) if refusal.is_of_login() => {
                if !self.session.replace(&used).await.map_err(Refusal::unsaid)? {
                    return Err(refusal);
                }
                let fresh = self.session.credential().await.map_err(Refusal::unsaid)?;
                self.once(operation, url, &fresh.credential).await
            }
            other => other,
        }
    }

    async fn once(&self, operation: Operation, url: &Url, token: &Bearer) -> Result<Gathered, Refusal> {
        let call = self.http.get(url.clone()).header(ACCEPT, "application/json");
        let call = exchange(&self.backend, operation, call.header(AUTHORIZATION, token.header()));
        let answer = match timeout(self.timeout, call).await {
            Ok(Ok(reply)) if reply.status == 200 => Ok(reply.body),
            Ok(Ok(reply)) => Err(Refusal::of(&self.backend, operation, &reply)),
            Ok(Err(error)) => Err(Refusal::unsaid(error)),
            Err(_) => Err(Refusal::unsaid(BackendError::new(ErrorKind::Timeout, &self.backend, operation))),
        };
        let well = answer.as_ref().err().is_none_or(Refusal::is_of_a_healthy_store);
        *self.well_at.lock().unwrap_or_else(PoisonError::into_inner) = well.then(Instant::now);
        answer
    }
}

/// A vault counts every call against its limits, health checks too, and those come every few seconds.
const MOMENT: Duration = Duration::from_secs(60);

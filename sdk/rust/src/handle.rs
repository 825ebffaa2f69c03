//! A secret that stays fresh for as long as somebody holds it.
//!
//! The task behind a [`Handle`] acts at a random 60 to 70 % of what was granted, so that handles that began together do
//! not act together. A static secret is read again, which costs the broker what a renewal costs, extends the same lease
//! and brings a new version along. A credential that the store made is renewed, as a second read has nothing to bring.
//!
//! Promise 6: a renewal that fails never leads to a second credential beside a first that still works. Whatever went
//! wrong, the old lease runs to its end before a new one is asked for; with a lease that can be extended, that is only
//! after an outage longer than a third of its life. When the lease ends and there is no other, the value is dropped:
//! a handle never hands out a secret that its holder has no right to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::retry::Retry;
use bursar_core::tasks::Tasks;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::call::Setback;
use crate::client::Client;
use crate::error::Error;
use crate::read::{Leased, ReadOptions};
use crate::{Lease, Reference, Secret};

/// Holds one secret and keeps it fresh. Dropping it stops that and revokes nothing: the lease runs out by itself.
pub struct Handle {
    reference: Reference,
    held: watch::Receiver<Option<Arc<Secret>>>,
    task: AbortHandle,
}

impl Client {
    /// Reads a secret and keeps it fresh.
    ///
    /// # Errors
    /// [`Error`], when the first read fails. Later failures are tried again until they succeed.
    pub async fn hold(&self, reference: Reference, options: ReadOptions) -> Result<Handle, Error> {
        let asked = Instant::now();
        let leased = self.read(&reference, &options).await?;
        let grant = Grant::new(&leased.lease, asked);
        let (held, receiver) = watch::channel(Some(Arc::new(leased.value)));
        let keeper =
            Keeper { client: self.clone(), reference: reference.clone(), options, held, lease: leased.lease };
        let task = Tasks::new().finish(keeper.keep(grant)).abort_handle();
        Ok(Handle { reference, held: receiver, task })
    }
}

impl Handle {
    /// What is held.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The value, or nothing while the lease on it has ended and no other could be had.
    pub fn current(&self) -> Option<Arc<Secret>> {
        self.held.borrow().clone()
    }

    /// Waits until the value is another than when this was called last, or since the handle was made. The value may
    /// also have gone.
    pub async fn changed(&mut self) {
        if self.held.changed().await.is_err() {
            // The task ends with the handle alone, or with the runtime: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("reference", &self.reference.to_string()).finish_non_exhaustive()
    }
}

/// The time that a lease has, by this process's clock alone.
#[derive(Debug, Clone, Copy)]
struct Grant {
    /// Counted from before the request, so never later than the broker's end.
    end: Instant,
    /// How much was granted.
    life: Duration,
}

impl Grant {
    fn new(lease: &Lease, asked: Instant) -> Self {
        let life = Duration::try_from(lease.expires_at.duration_since(lease.renewed_at)).unwrap_or_default();
        let life = life.min(LONGEST);
        Self { end: asked + life, life }
    }

    /// When to ask for more: at 60 to 70 % of the life, but never before a pause, so that a broker that grants next to
    /// nothing is not asked without end.
    fn due(&self) -> Instant {
        let share = 0.6 + fastrand::f64() / 10.0;
        (self.end - self.life.mul_f64(1.0 - share)).max(Instant::now() + PAUSE)
    }
}

/// The work behind a handle.
struct Keeper {
    client: Client,
    reference: Reference,
    options: ReadOptions,
    held: watch::Sender<Option<Arc<Secret>>>,
    lease: Lease,
}

impl Keeper {
    #[tracing::instrument(name = "hold", skip_all, fields(reference = %self.reference))]
    async fn keep(mut self, mut grant: Grant) {
        loop {
            tokio::time::sleep_until(grant.due()).await;
            grant = match self.extended(grant).await {
                Some(extended) => extended,
                None => self.replaced(grant).await,
            };
        }
    }

    /// Gets more time on the lease; nothing when there is none to be had before its end.
    async fn extended(&mut self, grant: Grant) -> Option<Grant> {
        let attempts = Retry::BACKGROUND.run(|| async {
            let extended = if self.lease.dynamic { self.renew().await } else { self.read().await };
            extended.map_err(|error| Setback { passes: error.may_pass_in_time(), error })
        });
        match tokio::time::timeout_at(grant.end, attempts).await {
            // A lease at its longest is answered as it is. Asking again and again would not move its end.
            Ok(Ok(update)) => Some(self.take(update)).filter(|extended| extended.end > grant.end),
            Ok(Err(Setback { error, .. })) => {
                tracing::warn!(lease_id = %self.lease.id, %error, "lease cannot be extended");
                None
            }
            Err(_) => {
                tracing::warn!(lease_id = %self.lease.id, "lease was not extended before its end");
                None
            }
        }
    }

    /// Lets the lease run out, and takes another however long that takes.
    async fn replaced(&mut self, grant: Grant) -> Grant {
        // The broker began to count after this process did, so its end is a little later.
        tokio::time::sleep_until(grant.end + PAUSE).await;
        self.held.send_replace(None);
        loop {
            let attempts = Retry::BACKGROUND.run(|| async {
                self.read().await.map_err(|error| {
                    tracing::warn!(%error, "no new lease yet");
                    Setback { passes: true, error }
                })
            });
            // The attempts have no end, so this is one that worked.
            if let Ok(update) = attempts.await {
                return self.take(update);
            }
        }
    }

    async fn renew(&self) -> Result<Update, Error> {
        let asked = Instant::now();
        let lease = self.client.renew_once(self.lease.id, self.options.ttl).await?;
        Ok(Update { value: None, grant: Grant::new(&lease, asked), lease })
    }

    async fn read(&self) -> Result<Update, Error> {
        let asked = Instant::now();
        let Leased { value, lease, .. } = self.client.read_once(&self.reference, &self.options).await?;
        Ok(Update { value: Some(value), grant: Grant::new(&lease, asked), lease })
    }

    fn take(&mut self, update: Update) -> Grant {
        self.lease = update.lease;
        if let Some(value) = update.value {
            self.held.send_if_modified(|held| {
                let same = held.as_ref().is_some_and(|held| held.ct_eq(value.expose()));
                if !same {
                    *held = Some(Arc::new(value));
                }
                !same
            });
        }
        update.grant
    }
}

/// What a successful attempt brings; no value when the lease was only renewed.
struct Update {
    value: Option<Secret>,
    grant: Grant,
    lease: Lease,
}

/// Between two requests at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A year, so that adding a life to an instant cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;

//! The credential of a live lease, handed out again.
//!
//! A workload that crashes and starts again, or asks each time it opens a connection, holds one credential and not one
//! for each time (promise 6). The credential lies in the ledger, sealed, from the transaction that made its lease active
//! until the lease is active no longer. Why not in memory is in decision 24.
//!
//! It is handed out as it is for the first third of its life, by the process that had it made. After that its store is
//! asked for more time, by the way of any renewal, once for all who read it. A renewal that fails issues nothing: what
//! there is runs to its end. Where no more time is to be had, a credential is handed out until a third of its life is
//! left; then another is made beside it, so that nobody starts with one that is about to end. One that its store has lost
//! is taken back, and another made: what was made under the login of a broker that stopped is gone with that login, so
//! after a restart a store is asked at the first read.

use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::secret::{BytesError, SecretData};
use bursar_core::{Explained, Lease, LeaseId, Reference, Secret};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::grant::Terms;
use super::{Leases, until};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::ledger::{Change, CredentialSlot, Entry, LedgerError};
use crate::seal::{Seal, SealError};

/// A live credential that a read repeats.
pub(super) struct Repeated {
    pub(super) lease: Lease,
    pub(super) data: SecretData,
    /// Whether the store gave it another end, which the lease has already and the ledger has not.
    pub(super) renewed: bool,
}

impl Repeated {
    /// What makes it durable that it is handed out.
    pub(super) fn change(&self, at: Timestamp) -> Change {
        let Lease { id, expires_at, ttl_bound, .. } = self.lease;
        match self.renewed {
            true => Change::Renew { id, expires_at, ttl_bound, at },
            false => Change::Repeat { id },
        }
    }
}

impl Leases {
    /// The live credential in `slot`, with more time where it needs some; none when another has to be made.
    ///
    /// # Errors
    /// That of the ledger.
    pub(super) async fn repeated(
        &self,
        caller: &Caller,
        terms: &Terms,
        slot: &CredentialSlot,
        now: Timestamp,
    ) -> Result<Option<Repeated>, Failure> {
        let Some(kept) = self.ledger.kept(slot).await? else { return Ok(None) };
        let lease = kept.lease;
        if !lease.state.is_live() || lease.expires_at <= now {
            return Ok(None);
        }
        let data = match unsealed(&self.seal, &lease, &kept.sealed) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(lease = %lease.id, error = %Explained(&error), "a kept credential cannot be opened; another is made");
                return Ok(None);
            }
        };
        let (life, left) = (until(lease.renewed_at, lease.expires_at), until(now, lease.expires_at));
        if left.saturating_mul(3) > life.saturating_mul(2) && lease.renewed_at >= self.started {
            return Ok(Some(Repeated { lease, data, renewed: false }));
        }
        match self.more_time(caller, terms, &lease, now).await {
            Ok(Some((expires_at, ttl_bound))) => {
                let lease = Lease { renewed_at: now, expires_at, ttl_bound, ..lease };
                Ok(Some(Repeated { lease, data, renewed: true }))
            }
            Ok(None) if left.saturating_mul(3) < life => Ok(None),
            Ok(None) | Err(Unextended::Failed) => Ok(Some(Repeated { lease, data, renewed: false })),
            Err(Unextended::Lost) => {
                self.take_back_lost(&lease, now).await?;
                Ok(None)
            }
        }
    }

    /// The new end of a lease and what bound it; none where its store gives it no more time than it has.
    async fn more_time(
        &self,
        caller: &Caller,
        terms: &Terms,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Option<(Timestamp, TtlBound)>, Unextended> {
        let (life, left) = (until(lease.renewed_at, lease.expires_at), until(now, lease.expires_at));
        if !lease.renewable || lease.max_expires_at.is_some_and(|last| last <= lease.expires_at) {
            return Ok(None);
        }
        if self.longest(caller, terms.ttl, None, now).0 <= left {
            // Nobody asks for more than there is.
            return Err(Unextended::Failed);
        }
        if let Some(fruitless) = self.fruitless.latest(lease.id) {
            return fruitless.map(|()| None);
        }
        let again = life / RETRIES;
        match self.extension(caller, lease, terms.ttl, now).await {
            // A store may take time away; that has to be known.
            Ok((end, bound)) if end < lease.expires_at || until(lease.expires_at, end) > life / 10 => {
                Ok(Some((end, bound)))
            }
            Ok(_) | Err(Failure::NotRenewable { .. }) => {
                self.fruitless.insert(lease.id, again, Ok(()));
                Ok(None)
            }
            Err(Failure::SecretNotFound(_)) => Err(Unextended::Lost),
            Err(error) => {
                tracing::warn!(lease = %lease.id, error = %Explained(&error), "a credential that is read again could not be renewed");
                self.fruitless.insert(lease.id, again, Err(Unextended::Failed));
                Err(Unextended::Failed)
            }
        }
    }

    /// The store does not know its credential any more. Its queue makes sure of that.
    async fn take_back_lost(&self, lease: &Lease, at: Timestamp) -> Result<(), Failure> {
        self.metrics.credential(lease.reference.backend.as_str(), "lost");
        tracing::warn!(lease = %lease.id, "a store lost the credential of a live lease; another is made");
        let event = LeaseEvent::Revoke;
        let change = Change::Apply { id: lease.id, event, at, error: None, next_attempt_at: Some(at) };
        let record = self.own(lease, Action::Revoke, at);
        match self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await {
            // Somebody took it back already.
            Err(LedgerError::IllegalTransition { .. }) => return Ok(()),
            other => drop(other?),
        }
        self.announce(lease);
        self.hurry();
        Ok(())
    }
}

/// Seals a credential for the lease on it, and for no other.
///
/// # Errors
/// [`SealingError`].
pub(super) fn sealed(seal: &Seal, lease: &Lease, data: &SecretData) -> Result<Vec<u8>, SealingError> {
    let plain = Secret::from(data.to_bytes(0)?);
    Ok(seal.wrap(&purpose(lease.id, &lease.reference), &plain)?)
}

fn unsealed(seal: &Seal, lease: &Lease, sealed: &[u8]) -> Result<SecretData, SealingError> {
    let plain = seal.open(&purpose(lease.id, &lease.reference), sealed)?;
    Ok(SecretData::from_bytes(plain.expose())?)
}

/// Each has a key of its own, so that none is used for more than one credential.
fn purpose(id: LeaseId, reference: &Reference) -> String {
    format!("credential of the lease {id} on {reference}")
}

/// Why a credential was not sealed, or does not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealingError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Bytes(#[from] BytesError),
}

/// Why a lease got no more time.
#[derive(Debug, Clone, Copy)]
enum Unextended {
    /// It runs to the end that it has.
    Failed,
    /// Its store does not know its credential.
    Lost,
}

/// Renewals that brought nothing, so that reads which are repeated all the time do not ask a store all the time.
pub(super) struct Fruitless(Cache<LeaseId, (Instant, Result<(), Unextended>)>);

impl Default for Fruitless {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Fruitless {
    fn insert(&self, id: LeaseId, again: Duration, outcome: Result<(), Unextended>) {
        self.0.insert(id, (Instant::now() + again.max(SHORTEST_PAUSE), outcome));
    }

    fn latest(&self, id: LeaseId) -> Option<Result<(), Unextended>> {
        self.0.get(&id).filter(|(until, _)| Instant::now() < *until).map(|(_, outcome)| outcome)
    }
}

/// Into so many parts a lease's life is cut, in each of which its store is asked in vain at most once.
const RETRIES: u32 = 20;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Leases whose last renewal is remembered; forgetting one costs a call.
const REMEMBERED: usize = 4096;

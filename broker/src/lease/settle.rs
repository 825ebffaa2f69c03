//! Settling intents whose outcome was lost: the broker was killed, or the store's answer never came.
//!
//! The credential may be there, not be there, or come into being after we have looked: a store can go on with a request
//! whose client is gone. So it is looked for twice. The first look is as soon as nobody can have an answer any more: at
//! once for the intents of a process that ended, since a lock on the ledger says that it did. The second, which closes
//! the intent, is when the store must be done with the request. What either finds is taken back. It is never adopted:
//! a value leaves only after its lease is durable, so nobody has one of an intent.
//!
//! A search finds whatever lies under a path, also what an issuance that is under way has just been given. Before
//! something counts as an orphan, every issuance that was under way when it was found has ended, and no lease holds it.
//! Intents of one path share their searches: what one finds is what all of them look for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind, Leasing, Operation, StoreHandle};
use bursar_core::{BackendName, Lease, Reference, SecretPath};
use jiff::Timestamp;

use super::Leases;
use super::revoker::Unremoved;
use crate::kill::{self, Point};
use crate::ledger::LedgerError;
use crate::mounts::Mount;

impl Leases {
    /// Intents from then or before have lost their outcome.
    pub(super) fn outcome_lost_before(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(ISSUANCE).unwrap_or(Timestamp::MIN).max(self.started)
    }

    /// When the store is done with the request that `intent` was written for.
    pub(super) fn store_is_done(&self, intent: &Lease) -> Timestamp {
        later(self.hung_up(intent), self.limits.settle_after)
    }

    /// Takes back what the store made for a lease whose outcome was lost: everything under its path since its issuance
    /// that no lease holds.
    pub(super) async fn search(
        &self,
        mount: &Mount,
        leasing: &dyn Leasing,
        lease: &Lease,
    ) -> Result<(), Unremoved> {
        let since = lease.issued_at.saturating_sub(CLOCK_SKEW).unwrap_or(Timestamp::MIN);
        let turn = self.searches.turn(&lease.reference);
        let mut last = turn.0.lock().await;
        let began = self.clock.now();
        let needed = match self.store_is_done(lease) {
            done if done <= began => done,
            _ => self.hung_up(lease),
        };
        if last.is_some_and(|last| last.began >= needed && last.since <= since) {
            return Ok(());
        }
        for orphan in self.orphans(mount, leasing, &lease.reference, since).await? {
            let admitted = mount.admit(Operation::Revoke).map_err(|_| Unremoved::NotAsked)?;
            admitted.make(leasing.revoke(&orphan)).await?;
            self.metrics.orphan(lease.reference.backend.as_str());
        }
        *last = Some(Search { began, since });
        Ok(())
    }

    async fn orphans(
        &self,
        mount: &Mount,
        leasing: &dyn Leasing,
        reference: &Reference,
        since: Timestamp,
    ) -> Result<Vec<StoreHandle>, Unremoved> {
        let backend = &reference.backend;
        let admitted = mount.admit(Operation::FindOrphans).map_err(|_| Unremoved::NotAsked)?;
        let found = admitted.make(leasing.find_orphans(&reference.path, since..Timestamp::MAX)).await?;
        let unreadable = |_| BackendError::new(ErrorKind::Unavailable, backend, Operation::FindOrphans);
        let mut orphans = self.unheld(backend, found).await.map_err(unreadable)?;
        if !orphans.is_empty() {
            self.under_way.ended().await;
            orphans = self.unheld(backend, orphans).await.map_err(unreadable)?;
        }
        if !orphans.is_empty() {
            tracing::warn!(%backend, count = orphans.len(), "credentials without a lease are taken back");
            kill::at(Point::OrphanFound);
        }
        Ok(orphans)
    }

    async fn unheld(
        &self,
        backend: &BackendName,
        found: Vec<StoreHandle>,
    ) -> Result<Vec<StoreHandle>, LedgerError> {
        let mut unheld = Vec::new();
        for handle in found {
            if self.ledger.lease_of_handle(backend.clone(), handle.clone()).await?.is_none() {
                unheld.push(handle);
            }
        }
        Ok(unheld)
    }

    /// When nobody waited for the store's answer to `intent` any more.
    fn hung_up(&self, intent: &Lease) -> Timestamp {
        match intent.issued_at < self.started {
            true => self.started,
            false => later(intent.issued_at, ISSUANCE),
        }
    }
}

/// The last search of each path that had one.
#[derive(Debug, Default)]
pub(super) struct Searches(Mutex<BTreeMap<(BackendName, SecretPath), Arc<Turn>>>);

/// To be held while a path is searched: one search of it at a time.
#[derive(Debug, Default)]
struct Turn(tokio::sync::Mutex<Option<Search>>);

/// A search whose every find was taken back.
#[derive(Debug, Clone, Copy)]
struct Search {
    began: Timestamp,
    /// What was made before was not looked at.
    since: Timestamp,
}

impl Searches {
    fn turn(&self, reference: &Reference) -> Arc<Turn> {
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if searches.len() >= MOST_PATHS {
            searches.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(searches.entry((reference.backend.clone(), reference.path.clone())).or_default())
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The longest that the broker waits for a store to create a credential.
pub(super) const ISSUANCE: Duration = Duration::from_secs(30);
/// The store's clock may be this far from ours.
const CLOCK_SKEW: Duration = Duration::from_secs(5);
/// Paths whose last search is remembered; forgetting one costs a search.
const MOST_PATHS: usize = 1024;

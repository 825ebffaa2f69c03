//! The way in: from wanted secrets to leases that are durable and values that may be handed out.
//!
//! All of a request's secrets are granted or none. What there is of them is obtained ([`super::obtain`]); then one entry
//! makes all leases and audit records durable together, and only then do values leave (promise 1). What was created for a
//! request that fails is taken back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::AuditRecord;
use bursar_core::lease::TtlBound;
use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Lease, LeaseState, Reference, Version};
use jiff::Timestamp;

use super::obtain::{Obtained, activation, slot};
use super::turns::Turn;
use super::{Leases, until};
use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kill::{self, Point};
use crate::ledger::{Change, CredentialSlot, Entry, LedgerError, Outcome};

/// One secret that a caller wants and may have.
pub struct Wanted {
    /// Without a field.
    pub reference: Reference,
    /// What will be selected from it; each has to be there.
    pub fields: Vec<Option<FieldName>>,
    /// A cached value must not be older.
    pub max_age: Option<Duration>,
    /// The audit record of this disclosure.
    pub draft: Draft,
}

/// What all secrets of one request have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    pub ttl: Option<Duration>,
    pub instance: String,
    pub environment: Option<String>,
    pub reason: String,
    /// Whether a credential is to be made also where the caller holds one.
    pub new_lease: bool,
    /// Whether the caller keeps what it gets for when it can present no credential: then the end of the one that it has
    /// now does not end the leases.
    pub kept: bool,
}

/// One secret, leased: it may be handed out.
pub struct Granted {
    pub lease: Lease,
    pub data: Arc<SecretData>,
    pub version: Option<Version>,
    /// How long ago the store was asked.
    pub age: Duration,
}

/// Why a secret of a request was not granted; `index` is its place among those wanted.
#[derive(Debug)]
pub struct Refused {
    pub index: usize,
    pub failure: Failure,
}

impl Leases {
    /// Grants all of `wanted` or none.
    ///
    /// # Errors
    /// Every secret that stood in the way. Their failures are in the ledger.
    pub async fn grant(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        terms: Terms,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<Granted>, Vec<Refused>> {
        let leased = wanted.iter().filter(|wanted| self.creates(&wanted.reference));
        let slots: Vec<_> = leased.map(|wanted| slot(caller, &terms, &wanted.reference)).collect();
        if slots.is_empty() {
            return self.grant_now(caller, &terms, wanted, &mut HashMap::new()).await;
        }
        // Here, so that whoever hangs up while it waits asks nothing of the store.
        let mut turns = self.turns.take(slots).await;
        // A caller that hangs up must not stop an issuance half-way: the work goes on without it.
        let (leases, caller) = (Arc::clone(self), Arc::clone(caller));
        let work = self.tasks.finish(async move {
            let _issuing = leases.under_way.begin();
            leases.grant_now(&caller, &terms, wanted, &mut turns).await
        });
        work.await.unwrap_or_else(|_| Err(vec![Refused { index: 0, failure: Failure::Stopping }]))
    }

    async fn grant_now(
        &self,
        caller: &Caller,
        terms: &Terms,
        wanted: Vec<Wanted>,
        turns: &mut HashMap<CredentialSlot, Turn>,
    ) -> Result<Vec<Granted>, Vec<Refused>> {
        let mut attempt = 1;
        let mut refused = loop {
            let now = self.clock.now();
            let (got, mut refused) = self.obtain_all(caller, terms, &wanted, turns, now).await;
            let mut revoked_meanwhile = false;
            if refused.is_empty() {
                match self.commit(caller, terms, &wanted, &got, now).await {
                    Ok(leases) => return Ok(self.granted(leases, got)),
                    Err(failure) => {
                        revoked_meanwhile = matches!(failure, Failure::Ledger(LedgerError::NotActive { .. }));
                        refused.push(Refused { index: 0, failure });
                    }
                }
            }
            for obtained in got {
                if let Obtained::Created { intent, issued, .. } = obtained {
                    self.abandon(&intent, issued).await;
                }
            }
            if !revoked_meanwhile || attempt == ATTEMPTS {
                break refused;
            }
            attempt += 1;
        };
        self.record_refusals(&wanted, &mut refused).await;
        Err(refused)
    }

    /// The one durable step: every lease and every record, or nothing.
    async fn commit(
        &self,
        caller: &Caller,
        terms: &Terms,
        wanted: &[Wanted],
        got: &[Obtained],
        now: Timestamp,
    ) -> Result<Vec<Lease>, Failure> {
        let (mut leases, mut changes, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for (wanted, obtained) in wanted.iter().zip(got) {
            let (lease, change) = match obtained {
                Obtained::Read(cached) => {
                    let mut reference = wanted.reference.clone();
                    reference.version = cached.version.clone();
                    let left = cached.expires_at.map(|end| until(now, end));
                    let effective = self.effective(caller, terms, left, now);
                    let mut lease = self.lease(caller, terms, reference, effective, now)?;
                    lease.max_expires_at = lease.max_expires_at.into_iter().chain(cached.expires_at).min();
                    (lease.clone(), Change::Grant(lease))
                }
                Obtained::Created { intent, issued, sealed, ttl, bound } => {
                    activation(intent, issued, sealed.clone(), (*ttl, *bound), now)
                }
                Obtained::Repeated(repeated) => (repeated.lease.clone(), repeated.change(now)),
            };
            records.push(disclosure(wanted, &lease));
            leases.push(lease);
            changes.push(change);
        }
        let committed = self.ledger.commit(Entry { changes, records }).await?;
        kill::at(Point::LeaseDurable);
        for (lease, outcome) in leases.iter_mut().zip(committed.outcomes) {
            if let Outcome::Granted { id, issued_at, expires_at, ttl_bound, .. } = outcome {
                (lease.id, lease.issued_at) = (id, issued_at);
                (lease.expires_at, lease.ttl_bound) = (expires_at, ttl_bound);
            }
        }
        Ok(leases)
    }

    fn granted(&self, leases: Vec<Lease>, got: Vec<Obtained>) -> Vec<Granted> {
        let pair = |(lease, obtained): (Lease, Obtained)| {
            if let Obtained::Read(cached) = &obtained {
                self.note(&lease, Some(&cached.content));
            }
            let backend = lease.reference.backend.as_str();
            self.metrics.disclosure(backend);
            let outcome = match &obtained {
                Obtained::Read(_) => None,
                Obtained::Created { .. } => Some("created"),
                Obtained::Repeated(repeated) => Some(if repeated.renewed { "renewed" } else { "repeated" }),
            };
            outcome.into_iter().for_each(|outcome| self.metrics.credential(backend, outcome));
            let (data, age) = match obtained {
                Obtained::Read(cached) => (Arc::clone(&cached.data), cached.age()),
                Obtained::Created { issued, .. } => (Arc::new(issued.data), Duration::ZERO),
                Obtained::Repeated(repeated) => {
                    (Arc::new(repeated.data), until(lease.renewed_at, self.clock.now()))
                }
            };
            Granted { version: lease.reference.version.clone(), lease, data, age }
        };
        leases.into_iter().zip(got).map(pair).collect()
    }

    pub(super) fn lease(
        &self,
        caller: &Caller,
        terms: &Terms,
        reference: Reference,
        (ttl, ttl_bound): (Duration, TtlBound),
        now: Timestamp,
    ) -> Result<Lease, Failure> {
        Ok(Lease {
            id: self.ids.next(now)?,
            reference,
            principal: caller.id().clone(),
            node: caller.facts.node.clone(),
            instance: instance(caller, terms).to_owned(),
            environment: terms.environment.clone(),
            state: LeaseState::Active,
            dynamic: false,
            issued_at: now,
            renewed_at: now,
            expires_at: now.saturating_add(ttl)?,
            max_expires_at: Some(now.saturating_add(self.limits.max_life)?),
            renewable: true,
            ttl_bound,
            attempts: 0,
            last_error: None,
            reason: (!terms.reason.is_empty()).then(|| terms.reason.clone()),
        })
    }

    /// Commits why secrets were refused. If even that cannot be kept, the caller hears of the ledger instead.
    async fn record_refusals(&self, wanted: &[Wanted], refused: &mut Vec<Refused>) {
        for Refused { failure, .. } in refused.iter() {
            if let Failure::Ledger(LedgerError::Quota(exceeded)) = failure {
                self.metrics.quota_refusal(exceeded.of.as_str(), exceeded.limit.as_str());
            }
        }
        let record = |refused: &Refused| {
            wanted.get(refused.index).map(|wanted| wanted.draft.clone().failed(&refused.failure))
        };
        let records: Vec<AuditRecord> = refused.iter().filter_map(record).collect();
        if let Err(error) = self.ledger.commit(Entry { changes: Vec::new(), records }).await {
            refused.clear();
            refused.push(Refused { index: 0, failure: Failure::Ledger(error) });
        }
    }
}

/// The instance that a lease is for.
pub(super) fn instance<'a>(caller: &'a Caller, terms: &'a Terms) -> &'a str {
    caller.instance.as_deref().unwrap_or(&terms.instance)
}

fn disclosure(wanted: &Wanted, lease: &Lease) -> AuditRecord {
    wanted.draft.clone().lease(lease.id).version(lease.reference.version.as_ref()).ok()
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("reference", &self.reference)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").field("lease", &self.lease).field("age", &self.age).finish_non_exhaustive()
    }
}

/// A read whose credential is taken back between being found and being handed out looks again; one that meets that twice
/// is told.
const ATTEMPTS: u32 = 2;

//! The way in: from wanted secrets to leases that are durable and values that may be handed out.
//!
//! All of a request's secrets are granted or none. Static secrets are read, leased ones created at their store after an
//! intent is durable; then one entry makes all leases and audit records durable together, and only then do values leave
//! (promise 1). What was created for a request that fails is taken back.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::AuditRecord;
use bursar_core::backend::{BackendError, ErrorKind, Issued, Operation};
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Lease, LeaseState, Reference, Version};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Leases;
use super::settle::ISSUANCE;
use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, Outcome};
use crate::mounts::{Cached, Mount};

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
        let creates = |wanted: &Wanted| {
            let mount = self.mounts.mount(&wanted.reference.backend);
            mount.is_some_and(|mount| mount.leasing(&wanted.reference.path).is_some())
        };
        if !wanted.iter().any(creates) {
            return self.grant_now(caller, &terms, wanted).await;
        }
        // A caller that hangs up must not stop an issuance half-way: the work goes on without it.
        let (leases, caller) = (Arc::clone(self), Arc::clone(caller));
        let work = self.tasks.finish(async move {
            let _issuing = leases.under_way.begin();
            leases.grant_now(&caller, &terms, wanted).await
        });
        work.await.unwrap_or_else(|_| Err(vec![Refused { index: 0, failure: Failure::Stopping }]))
    }

    async fn grant_now(
        &self,
        caller: &Caller,
        terms: &Terms,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<Granted>, Vec<Refused>> {
        let now = self.clock.now();
        let obtained = join_all(wanted.iter().map(|wanted| self.obtain(caller, terms, wanted, now))).await;
        let (mut got, mut refused) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (index, (wanted, obtained)) in wanted.iter().zip(obtained).enumerate() {
            match obtained {
                Ok(obtained) => {
                    refused.extend(obtained.lacks(wanted).map(|failure| Refused { index, failure }));
                    got.push(obtained);
                }
                Err(failure) => refused.push(Refused { index, failure }),
            }
        }
        if refused.is_empty() {
            match self.commit(caller, terms, &wanted, &got, now).await {
                Ok(leases) => return Ok(self.granted(leases, got)),
                Err(failure) => refused.push(Refused { index: 0, failure }),
            }
        }
        for obtained in got {
            if let Obtained::Created { intent, issued, .. } = obtained {
                self.abandon(&intent, issued).await;
            }
        }
        self.record_refusals(&wanted, &mut refused).await;
        Err(refused)
    }

    async fn obtain(
        &self,
        caller: &Caller,
        terms: &Terms,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Obtained, Failure> {
        let reference = &wanted.reference;
        let mount = self
            .mounts
            .mount(&reference.backend)
            .ok_or_else(|| Failure::BackendUnknown(reference.backend.clone()))?;
        if mount.leasing(&reference.path).is_some() {
            return self.create(caller, terms, mount, reference, now).await;
        }
        let read = self.mounts.fetch(mount, reference, wanted.max_age).await;
        read.map(Obtained::Read).map_err(|error| Failure::of_store(reference, error))
    }

    async fn create(
        &self,
        caller: &Caller,
        terms: &Terms,
        mount: &Mount,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<Obtained, Failure> {
        let Some(leasing) = mount.leasing(&reference.path) else {
            return Err(Failure::BackendUnknown(reference.backend.clone()));
        };
        let admitted = mount.admit(Operation::Issue).map_err(|error| Failure::of_store(reference, error))?;
        let (ttl, bound) = self.longest(caller, terms.ttl, None, now);
        let intent = Lease {
            state: LeaseState::Intent,
            dynamic: true,
            ..self.lease(caller, terms, reference.clone(), (ttl, bound), now)?
        };
        kill::at(Point::IssueBegun);
        self.ledger
            .commit(Entry { changes: vec![Change::Intent(intent.clone())], records: Vec::new() })
            .await?;
        kill::at(Point::IntentDurable);
        let issued = admitted.within(ISSUANCE, leasing.issue(&reference.path, ttl)).await;
        kill::at(Point::StoreCreated);
        match issued {
            Ok(issued) => {
                let (ttl, bound) = self.effective(caller, terms.ttl, Some(issued.ttl), now);
                Ok(Obtained::Created { intent: Box::new(intent), issued, ttl, bound })
            }
            Err(error) => {
                if nothing_was_created(&error) {
                    self.close_intent(&intent).await;
                }
                Err(Failure::of_store(reference, error))
            }
        }
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
                    let effective = self.effective(caller, terms.ttl, None, now);
                    let lease = self.lease(caller, terms, reference, effective, now)?;
                    (lease.clone(), Change::Grant(lease))
                }
                Obtained::Created { intent, issued, ttl, bound } => {
                    activation(intent, issued, (*ttl, *bound), now)
                }
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
            self.metrics.disclosure(lease.reference.backend.as_str());
            let (data, age) = match obtained {
                Obtained::Read(cached) => (Arc::clone(&cached.data), cached.age()),
                Obtained::Created { issued, .. } => (Arc::new(issued.data), Duration::ZERO),
            };
            Granted { version: lease.reference.version.clone(), lease, data, age }
        };
        leases.into_iter().zip(got).map(pair).collect()
    }

    fn lease(
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
            instance: caller.instance.clone().unwrap_or_else(|| terms.instance.clone()),
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

    /// Hands a credential that nobody will get to the revoker.
    async fn abandon(&self, intent: &Lease, issued: Issued) {
        let now = self.clock.now();
        let handle = issued.handle.clone();
        let (_, activate) = activation(intent, &issued, (issued.ttl, TtlBound::Backend), now);
        let revoke = Change::Apply {
            id: intent.id,
            event: LeaseEvent::Revoke,
            at: now,
            error: None,
            next_attempt_at: Some(now),
        };
        let entry = Entry { changes: vec![activate, revoke], records: Vec::new() };
        kill::at(Point::AbandonBegun);
        if self.ledger.commit(entry).await.is_ok() {
            kill::at(Point::AbandonDurable);
            self.hurry();
            return;
        }
        // The ledger cannot take it: the intent stays and will be found, and the store is asked right away.
        let mount = self.mounts.mount(&intent.reference.backend);
        let power = mount.and_then(|mount| Some((mount, mount.leasing(&intent.reference.path)?)));
        if let Some((mount, leasing)) = power {
            drop(mount.call(Operation::Revoke, leasing.revoke(&handle)).await);
        }
    }

    async fn close_intent(&self, intent: &Lease) {
        let at = self.clock.now();
        let event = LeaseEvent::Removed;
        let change = Change::Apply { id: intent.id, event, at, error: None, next_attempt_at: None };
        if let Err(error) = self.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await {
            tracing::warn!(lease = %intent.id, %error, "an intent stays open; it is looked into later");
        }
    }

    /// Commits why secrets were refused. If even that cannot be kept, the caller hears of the ledger instead.
    async fn record_refusals(&self, wanted: &[Wanted], refused: &mut Vec<Refused>) {
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

enum Obtained {
    Read(Arc<Cached>),
    Created { intent: Box<Lease>, issued: Issued, ttl: Duration, bound: TtlBound },
}

impl Obtained {
    /// Every field that is wanted and not there.
    fn lacks(&self, wanted: &Wanted) -> impl Iterator<Item = Failure> {
        let data = match self {
            Self::Read(cached) => &cached.data,
            Self::Created { issued, .. } => &issued.data,
        };
        wanted
            .fields
            .iter()
            .filter_map(|field| data.check(field.as_ref()).err())
            .map(|fault| Failure::Field { reference: wanted.reference.clone(), fault })
    }
}

fn activation(
    intent: &Lease,
    issued: &Issued,
    (ttl, ttl_bound): (Duration, TtlBound),
    at: Timestamp,
) -> (Lease, Change) {
    let expires_at = at.saturating_add(ttl).unwrap_or(Timestamp::MAX);
    let lease = Lease {
        state: LeaseState::Active,
        expires_at,
        renewable: issued.renewable,
        ttl_bound,
        ..intent.clone()
    };
    let change = Change::Activate {
        id: intent.id,
        handle: issued.handle.clone(),
        version: None,
        expires_at,
        max_expires_at: intent.max_expires_at,
        renewable: issued.renewable,
        ttl_bound,
        at,
    };
    (lease, change)
}

fn disclosure(wanted: &Wanted, lease: &Lease) -> AuditRecord {
    wanted.draft.clone().lease(lease.id).version(lease.reference.version.as_ref()).ok()
}

/// Whether the error rules out that the store made a credential. A lost answer does not.
fn nothing_was_created(error: &BackendError) -> bool {
    !matches!(error.kind, ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Malformed)
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

//! The way in: from wanted secrets to leases that are durable and values that may be handed out.
//!
//! All of a request's secrets are granted or none. Static secrets are read; of leased ones the caller's live credential
//! is found ([`super::again`]), or one is created at the store after an intent is durable; then one entry makes all
//! leases and audit records durable together, and only then do values leave (promise 1). What was
//! created for a request that fails is taken back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::AuditRecord;
use bursar_core::backend::{BackendError, ErrorKind, Issued, Leasing, Operation};
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Lease, LeaseState, Reference, Version};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::again::{self, Repeated};
use super::settle::ISSUANCE;
use super::turns::Turn;
use super::{Leases, until};
use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kill::{self, Point};
use crate::ledger::{Change, CredentialSlot, Entry, LedgerError, Outcome};
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

    /// What there is of all that is wanted, in its order, and what stands in the way.
    async fn obtain_all(
        &self,
        caller: &Caller,
        terms: &Terms,
        wanted: &[Wanted],
        turns: &mut HashMap<CredentialSlot, Turn>,
        now: Timestamp,
    ) -> (Vec<Obtained>, Vec<Refused>) {
        // Without a turn there is nothing that a store makes.
        let leased = !turns.is_empty();
        let mut turns: HashMap<_, _> = turns.iter_mut().collect();
        let work = wanted.iter().map(|wanted| {
            let made = leased && self.creates(&wanted.reference);
            let slot = made.then(|| slot(caller, terms, &wanted.reference));
            let turn = slot.as_ref().and_then(|slot| turns.remove(slot));
            async move {
                match (slot, turn) {
                    (None, _) => self.read(wanted, now).await.map(Some),
                    (Some(slot), Some(turn)) => {
                        // Boxed, so that a read of a static secret does not carry the size of this.
                        let found = self.credential(caller, terms, &wanted.reference, (&slot, turn), now);
                        Box::pin(found).await.map(Some)
                    }
                    // The same as one before it, which has the turn.
                    (Some(_), None) => Ok(None),
                }
            }
        });
        let obtained = join_all(work.collect::<Vec<_>>()).await;
        let (mut got, mut refused) = (Vec::<Obtained>::with_capacity(wanted.len()), Vec::new());
        for (index, (want, obtained)) in wanted.iter().zip(obtained).enumerate() {
            let obtained = match obtained {
                Ok(Some(obtained)) => obtained,
                Ok(None) => {
                    let first = wanted.iter().position(|other| other.reference == want.reference);
                    match first.filter(|_| refused.is_empty()).and_then(|first| got.get(first)) {
                        Some(first) => first.again(now),
                        None => continue,
                    }
                }
                Err(failure) => {
                    refused.push(Refused { index, failure });
                    continue;
                }
            };
            refused.extend(obtained.lacks(want).map(|failure| Refused { index, failure }));
            got.push(obtained);
        }
        (got, refused)
    }

    async fn read(&self, wanted: &Wanted, now: Timestamp) -> Result<Obtained, Failure> {
        let reference = &wanted.reference;
        let mount = self
            .mounts
            .mount(&reference.backend)
            .ok_or_else(|| Failure::BackendUnknown(reference.backend.clone()))?;
        let fetch = async |max_age| {
            let read = self.mounts.fetch(mount, reference, max_age).await;
            read.map_err(|error| Failure::of_store(reference, error))
        };
        let over = |cached: &Cached| cached.expires_at.is_some_and(|end| end <= now);
        let mut cached = fetch(wanted.max_age).await?;
        if over(&cached) {
            // The store may have a newer one by now.
            cached = fetch(Some(Duration::ZERO)).await?;
        }
        match over(&cached) {
            true => Err(Failure::SecretNotFound(reference.clone())),
            false => Ok(Obtained::Read(cached)),
        }
    }

    /// The caller's live credential, or a new one.
    async fn credential(
        &self,
        caller: &Caller,
        terms: &Terms,
        reference: &Reference,
        (slot, turn): (&CredentialSlot, &mut Turn),
        now: Timestamp,
    ) -> Result<Obtained, Failure> {
        let repeated = match terms.new_lease {
            true => None,
            false => self.repeated(caller, terms, slot, now).await?,
        };
        if let Some(repeated) = repeated {
            return Ok(Obtained::Repeated(Box::new(repeated)));
        }
        let created = match turn.failure() {
            Some(failure) => Err(failure),
            None => self.create(caller, terms, reference, now).await?.inspect_err(|error| turn.failed(error)),
        };
        created.map_err(|error| Failure::of_store(reference, error))
    }

    /// Creates a credential; the inner error is the store's.
    async fn create(
        &self,
        caller: &Caller,
        terms: &Terms,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<Result<Obtained, BackendError>, Failure> {
        let Some((mount, leasing)) = self.leasing(reference) else {
            return Err(Failure::BackendUnknown(reference.backend.clone()));
        };
        let admitted = match mount.admit(Operation::Issue) {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Err(error)),
        };
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
        let issued = admitted.within(ISSUANCE, leasing.issue(&reference.path, intent.id, ttl)).await;
        kill::at(Point::StoreCreated);
        match issued {
            Ok(issued) => {
                let (ttl, bound) = self.effective(caller, terms, Some(issued.ttl), now);
                let sealed = again::sealed(&self.seal, &intent, &issued.data).inspect_err(|error| {
                    tracing::error!(lease = %intent.id, %error, "a credential is not kept to be handed out again");
                });
                let sealed = sealed.ok();
                Ok(Ok(Obtained::Created { intent: Box::new(intent), issued, sealed, ttl, bound }))
            }
            Err(error) => {
                if nothing_was_created(&error) {
                    self.close_intent(&intent).await;
                }
                Ok(Err(error))
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

    /// The store that makes a credential for each read of `reference`, if one does.
    fn leasing(&self, reference: &Reference) -> Option<(&Mount, &dyn Leasing)> {
        let mount = self.mounts.mount(&reference.backend)?;
        Some((mount, mount.leasing(&reference.path)?))
    }

    /// Whether a store makes a credential for each read of `reference`.
    pub fn creates(&self, reference: &Reference) -> bool {
        self.leasing(reference).is_some()
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

    /// Hands a credential that nobody will get to the revoker.
    async fn abandon(&self, intent: &Lease, issued: Issued) {
        let now = self.clock.now();
        let handle = issued.handle.clone();
        let (_, activate) = activation(intent, &issued, None, (issued.ttl, TtlBound::Backend), now);
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
        if let Some((mount, leasing)) = self.leasing(&intent.reference) {
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

enum Obtained {
    Read(Arc<Cached>),
    Created { intent: Box<Lease>, issued: Issued, sealed: Option<Vec<u8>>, ttl: Duration, bound: TtlBound },
    Repeated(Box<Repeated>),
}

impl Obtained {
    /// Every field that is wanted and not there.
    fn lacks(&self, wanted: &Wanted) -> impl Iterator<Item = Failure> {
        let data = match self {
            Self::Read(cached) => &cached.data,
            Self::Created { issued, .. } => &issued.data,
            Self::Repeated(repeated) => &repeated.data,
        };
        wanted
            .fields
            .iter()
            .filter_map(|field| data.check(field.as_ref()).err())
            .map(|fault| Failure::Field { reference: wanted.reference.clone(), fault })
    }

    /// The same for another place in the same request, after this one.
    fn again(&self, now: Timestamp) -> Self {
        let (lease, data) = match self {
            Self::Read(cached) => return Self::Read(Arc::clone(cached)),
            Self::Created { intent, issued, ttl, bound, .. } => {
                (activation(intent, issued, None, (*ttl, *bound), now).0, issued.data.clone())
            }
            Self::Repeated(repeated) => (repeated.lease.clone(), repeated.data.clone()),
        };
        Self::Repeated(Box::new(Repeated { lease, data, renewed: false }))
    }
}

/// Where the credential of a read is kept.
fn slot(caller: &Caller, terms: &Terms, reference: &Reference) -> CredentialSlot {
    let (node, environment) = (caller.facts.node.as_ref(), terms.environment.as_deref());
    CredentialSlot::new(caller.id(), node, instance(caller, terms), environment, reference)
}

/// The instance that a lease is for.
fn instance<'a>(caller: &'a Caller, terms: &'a Terms) -> &'a str {
    caller.instance.as_deref().unwrap_or(&terms.instance)
}

fn activation(
    intent: &Lease,
    issued: &Issued,
    sealed: Option<Vec<u8>>,
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
        sealed,
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

/// A read whose credential is taken back between being found and being handed out looks again; one that meets that twice
/// is told.
const ATTEMPTS: u32 = 2;

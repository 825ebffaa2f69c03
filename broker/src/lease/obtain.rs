//! What a request is granted once that is durable: static secrets are read; of leased ones the caller's live credential is
//! found, or one is created at the store after an intent is durable. What was created for nothing is taken back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind, Issued, Leasing, Operation};
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::{Explained, Lease, LeaseState, Reference};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Leases;
use super::again::{self, Repeated};
use super::grant::{Refused, Terms, Wanted, instance};
use super::settle::ISSUANCE;
use super::turns::Turn;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kill::{self, Point};
use crate::ledger::{Change, CredentialSlot, Entry};
use crate::mounts::{Cached, Mount};

/// One secret that may be granted once that is durable.
pub(super) enum Obtained {
    /// Of a static secret.
    Read(Arc<Cached>),
    /// Made by the store for this request.
    Created { intent: Box<Lease>, issued: Issued, sealed: Option<Vec<u8>>, ttl: Duration, bound: TtlBound },
    /// The caller's live credential.
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

impl Leases {
    /// What there is of all that is wanted, in its order, and what stands in the way.
    pub(super) async fn obtain_all(
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
                    tracing::error!(lease = %intent.id, error = %Explained(error), "a credential is not kept to be handed out again");
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

    /// The store that makes a credential for each read of `reference`, if one does.
    fn leasing(&self, reference: &Reference) -> Option<(&Mount, &dyn Leasing)> {
        let mount = self.mounts.mount(&reference.backend)?;
        Some((mount, mount.leasing(&reference.path)?))
    }

    /// Whether a store makes a credential for each read of `reference`.
    pub fn creates(&self, reference: &Reference) -> bool {
        self.leasing(reference).is_some()
    }

    /// Hands a credential that nobody will get to the revoker.
    pub(super) async fn abandon(&self, intent: &Lease, issued: Issued) {
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
            tracing::warn!(lease = %intent.id, error = %Explained(&error), "an intent stays open; it is looked into later");
        }
    }
}

/// Where the credential of a read is kept.
pub(super) fn slot(caller: &Caller, terms: &Terms, reference: &Reference) -> CredentialSlot {
    let (node, environment) = (caller.facts.node.as_ref(), terms.environment.as_deref());
    CredentialSlot::new(caller.id(), node, instance(caller, terms), environment, reference)
}

/// The lease of a credential that was made for `intent`, and what makes it active.
pub(super) fn activation(
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

/// Whether the error rules out that the store made a credential. A lost answer does not.
fn nothing_was_created(error: &BackendError) -> bool {
    !matches!(error.kind, ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Malformed)
}

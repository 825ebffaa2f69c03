//! The story of a request.
//!
//! Each method reads from top to bottom: what is asked for, whether policy allows it, what is done, what the ledger
//! keeps. A denial and a failure are kept like a success, since who was refused is part of the record.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Decision};
use bursar_core::{Clock, FieldName, Lease, LeaseId, Reference, Secret, Version};

use crate::call::{Call, Draft};
use crate::catalog::Catalog;
use crate::environment::{Flat, Rendered};
use crate::failure::{Failure, Unresolved};
use crate::lease::Leases;
use crate::lease::grant::{Granted, Refused, Terms, Wanted};
use crate::ledger::{Entry, Ledger};
use crate::mounts::Mounts;
use crate::policy::Resource;
use crate::rulebook::{Rulebook, Ruling};

/// What a request goes through.
#[derive(Debug)]
pub struct Broker {
    pub ledger: Ledger,
    pub mounts: Arc<Mounts>,
    pub leases: Arc<Leases>,
    pub rulebook: Rulebook,
    pub catalog: Catalog,
    pub clock: Arc<dyn Clock>,
}

/// A read of one secret.
#[derive(Debug, Clone)]
pub struct Query {
    pub reference: Reference,
    pub max_age: Option<Duration>,
}

/// A secret that may leave the broker: its lease and its audit record are durable.
pub struct Disclosure {
    pub value: Arc<Secret>,
    pub version: Option<Version>,
    pub lease: Lease,
    pub age: Duration,
}

/// An environment that may leave the broker.
pub struct ResolvedEnvironment {
    pub revision: u64,
    pub flat: Arc<Flat>,
    pub rendered: Rendered,
    /// The lease of each of its secrets.
    pub leases: BTreeMap<Reference, Leased>,
}

/// A lease, and how old the value under it was when it was handed out.
#[derive(Debug)]
pub struct Leased {
    pub lease: Lease,
    pub age: Duration,
}

impl From<Granted> for Leased {
    fn from(granted: Granted) -> Self {
        Self { lease: granted.lease, age: granted.age }
    }
}

impl Broker {
    /// Hands out secrets under leases: all of `queries` or none.
    ///
    /// # Errors
    /// The failure of the first secret that stood in the way; the ledger has them all.
    pub async fn read(
        &self,
        call: &Call,
        terms: Terms,
        queries: Vec<Query>,
    ) -> Result<Vec<Disclosure>, Failure> {
        let mut wanted = Vec::with_capacity(queries.len());
        for query in &queries {
            let draft = self.permit_secret(call, Action::Read, &query.reference, &terms).await?;
            wanted.push(Wanted {
                reference: query.reference.without_field(),
                fields: vec![query.reference.field.clone()],
                max_age: query.max_age,
                draft,
            });
        }
        let granted = self.leases.grant(&call.caller, terms, wanted).await.map_err(first)?;
        queries
            .iter()
            .zip(granted)
            .map(|(query, granted)| disclose(query.reference.field.as_ref(), granted))
            .collect()
    }

    /// Hands out a whole environment: every reference in it or nothing.
    ///
    /// # Errors
    /// [`Failure::Unresolved`] with every reference that stood in the way.
    pub async fn resolve(
        &self,
        call: &Call,
        name: &str,
        terms: Terms,
    ) -> Result<ResolvedEnvironment, Failure> {
        let draft =
            self.permit(call, Action::Resolve, Resource::Environment(name), name, &terms.reason).await?;
        let work = async {
            let found = self.catalog.flat(name).await?;
            self.resolve_permitted(call, name, found, terms).await
        };
        self.observe(draft, work).await
    }

    /// Extends a lease: of its owner, or of anybody for whoever administers leases.
    ///
    /// # Errors
    /// [`Failure::LeaseNotFound`] for a lease that is not there or not the caller's, which look the same.
    pub async fn renew(&self, call: &Call, id: LeaseId, ttl: Option<Duration>) -> Result<Lease, Failure> {
        let (lease, draft) = self.permit_lease(call, Action::Renew, id, "").await?;
        // Awaited here: a future that is passed on is copied each time, and this one is large and often made.
        let done = self.leases.renew(&call.caller, lease, ttl, draft.clone()).await;
        self.conclude(draft, done).await
    }

    /// Takes a lease back.
    ///
    /// # Errors
    /// As [`Broker::renew`].
    pub async fn revoke(&self, call: &Call, id: LeaseId, reason: &str) -> Result<Lease, Failure> {
        let (lease, draft) = self.permit_lease(call, Action::Revoke, id, reason).await?;
        self.settle(draft.clone(), self.leases.revoke(lease, draft)).await
    }

    /// Takes a lease back even where its store does not. Whoever holds the lease has no part in this right.
    ///
    /// # Errors
    /// [`Failure::LeaseNotFound`] for a caller without the right, as for a lease that is not there.
    pub async fn force_revoke(&self, call: &Call, id: LeaseId, reason: &str) -> Result<Lease, Failure> {
        let shown = id.to_string();
        let permitted = self.permit(call, Action::ForceRevoke, Resource::System, &shown, reason).await;
        let draft = match permitted {
            Err(Failure::Denied) => return Err(Failure::LeaseNotFound(id)),
            permitted => permitted?,
        };
        let work = async {
            let lease = self.leases.find(id).await?;
            self.leases.give_up(lease, draft.clone()).await
        };
        self.settle(draft.clone(), work).await
    }

    /// Whether `call` may do `action` to `resource`. A denial is durable before the caller hears of it.
    ///
    /// # Errors
    /// [`Failure::Denied`].
    pub async fn permit(
        &self,
        call: &Call,
        action: Action,
        resource: Resource<'_>,
        shown: &str,
        reason: &str,
    ) -> Result<Draft, Failure> {
        let draft = call.asks(action, shown).because(reason);
        let Ruling { verdict, approvals } =
            self.rulebook.decide(&call.caller, action, resource, reason, call.time);
        let draft = draft.decided(verdict.decision, verdict.policies).approved(approvals);
        match verdict.decision {
            Decision::Allow => Ok(draft),
            Decision::Deny => Err(self.failed(draft, Failure::Denied).await),
        }
    }

    /// Keeps the record of something that changed nothing.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn note(&self, draft: Draft) -> Result<(), Failure> {
        self.ledger.commit(Entry { changes: Vec::new(), records: vec![draft.ok()] }).await?;
        Ok(())
    }

    /// Does `work`, which keeps the record of its own success; keeps its failure.
    ///
    /// # Errors
    /// That of `work`, or that of the ledger when even the failure cannot be kept.
    pub async fn settle<T>(
        &self,
        draft: Draft,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = work.await;
        self.conclude(draft, done).await
    }

    /// [`Broker::settle`] for work that is over: a success has its record already.
    async fn conclude<T>(&self, draft: Draft, done: Result<T, Failure>) -> Result<T, Failure> {
        match done {
            Ok(done) => Ok(done),
            Err(failure) => Err(self.failed(draft, failure).await),
        }
    }

    /// Does `work`, which changes nothing, and keeps what came of it.
    ///
    /// # Errors
    /// As [`Broker::settle`].
    pub async fn observe<T>(
        &self,
        draft: Draft,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let seen = self.settle(draft.clone(), work).await?;
        self.note(draft).await?;
        Ok(seen)
    }

    /// Keeps a failure and hands it back; when even that fails, the caller hears of the ledger instead.
    pub async fn failed(&self, draft: Draft, failure: Failure) -> Failure {
        let record = draft.failed(&failure);
        match self.ledger.commit(Entry { changes: Vec::new(), records: vec![record] }).await {
            Ok(_) => failure,
            Err(error) => Failure::Ledger(error),
        }
    }

    /// The work of [`Broker::resolve`] for an environment that was found, once policy allows it.
    ///
    /// # Errors
    /// As [`Broker::resolve`].
    pub(crate) async fn resolve_permitted(
        &self,
        call: &Call,
        name: &str,
        (revision, flat): (u64, Arc<Flat>),
        terms: Terms,
    ) -> Result<ResolvedEnvironment, Failure> {
        let terms = Terms { environment: Some(name.to_owned()), ..terms };
        let unresolved = |entries| Failure::Unresolved { name: name.to_owned(), entries };
        let (mut wanted, mut refused) = (Vec::new(), Vec::new());
        let max_ages = flat.max_ages();
        for (secret, references) in flat.references() {
            match self.permit_secret(call, Action::Read, &secret, &terms).await {
                Ok(draft) => {
                    let fields = references.into_iter().map(|reference| reference.field).collect();
                    let max_age = max_ages.get(&secret).copied();
                    wanted.push(Wanted { reference: secret, fields, max_age, draft });
                }
                Err(failure) => refused.push(Unresolved { reference: secret, failure }),
            }
        }
        if !refused.is_empty() {
            return Err(unresolved(refused));
        }
        let secrets: Vec<Reference> = wanted.iter().map(|wanted| wanted.reference.clone()).collect();
        let granted = self.leases.grant(&call.caller, terms, wanted).await.map_err(|refused| {
            let named = refused.into_iter().filter_map(|refused| {
                let reference = secrets.get(refused.index).cloned();
                reference.map(|reference| Unresolved { reference, failure: refused.failure })
            });
            unresolved(named.collect())
        })?;
        let rendered = flat.render(|wanted| {
            let secret = wanted.without_field();
            let at = secrets.iter().position(|reference| *reference == secret)?;
            granted.get(at)?.data.select(wanted.field.as_ref()).ok()
        })?;
        let leases = secrets.into_iter().zip(granted).map(|(secret, granted)| (secret, granted.into()));
        Ok(ResolvedEnvironment { revision, flat, rendered, leases: leases.collect() })
    }

    async fn permit_secret(
        &self,
        call: &Call,
        action: Action,
        reference: &Reference,
        terms: &Terms,
    ) -> Result<Draft, Failure> {
        let resource = Resource::secret(reference);
        let draft = self.permit(call, action, resource, &reference.to_string(), &terms.reason).await?;
        Ok(draft.within(terms.environment.as_deref()))
    }

    /// A lease id is no capability (promise 5): the owner is judged by the secret that it is for, anybody else by the
    /// right over the whole system. The node that asked for it may give it back, which takes nothing from anybody that the
    /// node could not keep from him.
    async fn permit_lease(
        &self,
        call: &Call,
        action: Action,
        id: LeaseId,
        reason: &str,
    ) -> Result<(Lease, Draft), Failure> {
        let shown = id.to_string();
        let lease = match self.leases.find(id).await {
            Ok(lease) => lease,
            Err(failure) => return Err(self.failed(call.asks(action, shown).because(reason), failure).await),
        };
        if action == Action::Revoke && lease.node.as_ref() == Some(call.caller.id()) {
            return Ok((lease, call.asks(action, shown).because(reason).allowed_as_owner()));
        }
        let resource = match lease.principal == *call.caller.id() {
            true => Resource::secret(&lease.reference),
            false => Resource::System,
        };
        match self.permit(call, action, resource, &shown, reason).await {
            Ok(draft) => Ok((lease, draft)),
            Err(Failure::Denied) => Err(Failure::LeaseNotFound(id)),
            Err(other) => Err(other),
        }
    }
}

fn disclose(field: Option<&FieldName>, granted: Granted) -> Result<Disclosure, Failure> {
    let Granted { lease, data, version, age } = granted;
    let value =
        data.select(field).map_err(|fault| Failure::Field { reference: lease.reference.clone(), fault })?;
    Ok(Disclosure { value, version, lease, age })
}

fn first(refused: Vec<Refused>) -> Failure {
    refused.into_iter().next().map_or(Failure::Stopping, |refused| refused.failure)
}

impl std::fmt::Debug for Disclosure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disclosure")
            .field("lease", &self.lease)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ResolvedEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolvedEnvironment").field("revision", &self.revision).finish_non_exhaustive()
    }
}

//! What may be kept: environments that are given out to be used later, where no broker answers.
//!
//! What is kept is out of reach. No revocation, new version or change of policy comes to it, so everything that would end
//! a lease has to be decided when it is given out. Somebody has said for this environment, by `offline`, that copies may
//! be kept at all and how long; somebody else, by policy, who may keep one (`keep`, which comes with no other right); and
//! what a store made for a lease is never in one, since the store takes it back.
//!
//! The leases under a copy last as long as the copy, so that a list of leases shows who has what. The caller's credential
//! does not shorten them, as it does others: a copy is there for when no credential can be presented.

use bursar_core::SpiffeId;
use bursar_core::audit::Action;
use jiff::Timestamp;

use crate::broker::{Broker, ResolvedEnvironment};
use crate::call::Call;
use crate::environment::{EntryName, Flat};
use crate::failure::Failure;
use crate::lease::grant::Terms;
use crate::ledger::Entry;
use crate::policy::Resource;

/// What a copy is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfflineCopy {
    /// To whom it was given.
    pub principal: SpiffeId,
    pub given_at: Timestamp,
    pub usable_until: Timestamp,
}

impl Broker {
    /// Hands out a whole environment to be kept: every reference in it or nothing. It may be used as long as the
    /// environment says, or `terms` ask for where that is less; no longer than its leases last, and no value longer than
    /// its `max_stale`.
    ///
    /// # Errors
    /// [`Failure::NotOffline`] for an environment that does not say so itself, [`Failure::MadeForLeases`] with what its
    /// stores make for each lease, and those of [`Broker::resolve`].
    pub async fn resolve_to_keep(
        &self,
        call: &Call,
        name: &str,
        terms: Terms,
    ) -> Result<(ResolvedEnvironment, OfflineCopy), Failure> {
        let (resource, reason) = (Resource::Environment(name), terms.reason.clone());
        let resolving = self.permit(call, Action::Resolve, resource, name, &reason).await?;
        let keeping = self.permit(call, Action::Keep, resource, name, &reason).await?;
        let work = async {
            let (revision, flat) = self.catalog.flat(name).await?;
            let longest = flat.offline().ok_or_else(|| Failure::NotOffline(name.to_owned()))?;
            let entries = self.made_for_leases(&flat);
            if !entries.is_empty() {
                return Err(Failure::MadeForLeases { name: name.to_owned(), entries });
            }
            let longest = terms.ttl.map_or(longest, |asked| asked.min(longest));
            let terms = Terms { ttl: Some(longest), kept: true, ..terms };
            let given_at = self.clock.now();
            let resolved = self.resolve_permitted(call, name, (revision, flat), terms).await?;
            let usable_until = given_at.saturating_add(longest)?.min(over(&resolved, given_at)?);
            Ok((resolved, OfflineCopy { principal: call.caller.id().clone(), given_at, usable_until }))
        };
        let (resolved, copy) = self.settle(keeping.clone(), work).await?;
        let records = vec![resolving.ok(), keeping.kept_until(copy.usable_until).ok()];
        self.ledger.commit(Entry { changes: Vec::new(), records }).await?;
        Ok((resolved, copy))
    }

    fn made_for_leases(&self, flat: &Flat) -> Vec<EntryName> {
        let entries = flat.entries();
        let made = entries.filter(|(_, entry)| {
            let references = flat.basis(entry).references;
            references.into_iter().any(|reference| self.leases.creates(reference))
        });
        made.map(|(name, _)| name).collect()
    }
}

/// When the first of the leases ends, or the first of the values is as old as it may become.
fn over(resolved: &ResolvedEnvironment, now: Timestamp) -> Result<Timestamp, Failure> {
    let mut over = Timestamp::MAX;
    for leased in resolved.leases.values() {
        over = over.min(leased.lease.expires_at);
    }
    for (secret, max_age) in resolved.flat.max_ages() {
        let age = resolved.leases.get(&secret).map(|leased| leased.age).unwrap_or_default();
        over = over.min(now.saturating_add(max_age.saturating_sub(age))?);
    }
    Ok(over)
}

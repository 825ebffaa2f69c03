//! The policies whose scope can fit a request, found without looking at the others.
//!
//! A policy names a principal or a group, and a resource or a folder, or leaves either open. What it names has to be who
//! asks, or something that he is in, and the same for the resource: so policies are kept by the two names, and a request
//! looks under its own names and those above them. What is left out is false for it and cannot fail, so leaving it out
//! changes no decision. A set that was made once is kept, since many requests are for the same few.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    Entities, EntityUid, Policy, PolicySet, PolicySetError, PrincipalConstraint, Request as CedarRequest,
    ResourceConstraint,
};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Policies by what their scopes name.
pub(super) struct Scopes {
    policies: Vec<Policy>,
    by_principal: HashMap<Option<EntityUid>, ByResource>,
    sets: Cache<Box<[u32]>, Arc<PolicySet>, InPolicies>,
}

/// Places in the list of policies.
type ByResource = HashMap<Option<EntityUid>, Vec<u32>>;

impl Scopes {
    pub(super) fn new(policies: Vec<Policy>) -> Self {
        let mut by_principal: HashMap<_, ByResource> = HashMap::new();
        for (place, policy) in (0..).zip(&policies) {
            let by_resource = by_principal.entry(principal(policy)).or_default();
            by_resource.entry(resource(policy)).or_default().push(place);
        }
        Self { policies, by_principal, sets: Cache::with_weighter(SETS, KEPT, InPolicies) }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Policy] {
        &self.policies
    }

    /// Those that can matter to `asked`.
    ///
    /// # Errors
    /// Never for a reason that policies give: their ids differ.
    pub(super) fn fitting(
        &self,
        asked: &CedarRequest,
        entities: &Entities,
    ) -> Result<Arc<PolicySet>, Box<PolicySetError>> {
        let above = |entity: Option<&EntityUid>| -> Vec<Option<EntityUid>> {
            let ancestors = entity.and_then(|entity| entities.ancestors(entity)).into_iter().flatten();
            std::iter::once(None).chain(entity.into_iter().chain(ancestors).cloned().map(Some)).collect()
        };
        let (principals, resources) = (above(asked.principal()), above(asked.resource()));
        let mut places = Vec::new();
        for by_resource in principals.iter().filter_map(|name| self.by_principal.get(name)) {
            for found in resources.iter().filter_map(|name| by_resource.get(name)) {
                places.extend_from_slice(found);
            }
        }
        // In one order, so that the same policies are the same set.
        places.sort_unstable();
        let key = places.into_boxed_slice();
        if let Some(known) = self.sets.get(&key) {
            return Ok(known);
        }
        let mut set = PolicySet::new();
        // Each is the place of one.
        let policy = |place: &u32| self.policies.get(usize::try_from(*place).ok()?);
        for policy in key.iter().filter_map(policy) {
            set.add(policy.clone()).map_err(Box::new)?;
        }
        let set = Arc::new(set);
        self.sets.insert(key, Arc::clone(&set));
        Ok(set)
    }
}

fn principal(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::Eq(named)
        | PrincipalConstraint::In(named)
        | PrincipalConstraint::IsIn(_, named) => Some(named),
    }
}

fn resource(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::Eq(named)
        | ResourceConstraint::In(named)
        | ResourceConstraint::IsIn(_, named) => Some(named),
    }
}

/// A set counts by its policies.
#[derive(Clone)]
struct InPolicies;

impl Weighter<Box<[u32]>, Arc<PolicySet>> for InPolicies {
    fn weight(&self, places: &Box<[u32]>, _: &Arc<PolicySet>) -> u64 {
        places.len() as u64 + 1
    }
}

/// For sizing the table of sets.
const SETS: usize = 1024;
/// Policies in all sets that are kept, about a kilobyte each.
const KEPT: u64 = 16_384;

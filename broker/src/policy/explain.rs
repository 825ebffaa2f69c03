//! Why a decision came out as it did.

use std::sync::Arc;

use bursar_core::audit::Decision;
use cedar_policy::{
    Effect, Entities, EntityTypeName, EntityUid, Policy, PrincipalConstraint, Request as CedarRequest,
    ResourceConstraint,
};

use super::context_use::ContextUse;
use super::policies::{Policies, Verdict};
use super::request::Request;

/// A decision with the reasons for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub verdict: Verdict,
    /// When no policy permits it and none forbids it: those that come closest, at most five.
    pub near_misses: Vec<NearMiss>,
    /// Why not, and what would have to change. Empty when it is allowed.
    pub words: String,
}

/// A policy that permits the action on the resource, though not this request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearMiss {
    pub obstacle: Obstacle,
    pub policy: Arc<str>,
}

/// What stands between a request and a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The scope covers the request; a `when` or `unless` does not hold.
    Conditions,
    /// It is for other principals.
    Principal,
}

impl Policies {
    /// Says what would be decided, and why.
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let verdict = self.evaluate(request);
        let unpermitted = verdict.decision == Decision::Deny && verdict.policies.is_empty();
        let near_misses = if unpermitted { self.near_misses(request) } else { Vec::new() };
        let mut words = words(&verdict, &near_misses);
        if verdict.decision == Decision::Deny && verdict.errors.is_empty() {
            words.extend(self.approvals_wanted(request, &verdict, &near_misses));
        }
        Explanation { words, near_misses, verdict }
    }

    /// That approvals are what a denial may lack: where a policy that it names looks at them.
    fn approvals_wanted(
        &self,
        request: &Request<'_>,
        verdict: &Verdict,
        near_misses: &[NearMiss],
    ) -> Option<String> {
        let missed = near_misses.iter().filter(|miss| miss.obstacle == Obstacle::Conditions);
        let named: Vec<&Arc<str>> = verdict.policies.iter().chain(missed.map(|miss| &miss.policy)).collect();
        let looks = |policy: &&Policy| ContextUse::of(policy).is_ok_and(|uses| uses.approvals);
        let policies = self.slices.of(request.action)?.scopes.all().iter();
        let names = policies.filter(looks).filter_map(|policy| self.names.get(policy.id()));
        let looking = names.into_iter().find(|name| named.contains(name))?;
        Some(match request.context.approved_by.len() {
            0 => format!("; `{looking}` looks at approvals, and nobody has approved this"),
            1 => format!("; `{looking}` looks at approvals, and one person has approved this"),
            approved => format!("; `{looking}` looks at approvals, and {approved} people have approved this"),
        })
    }

    fn near_misses(&self, request: &Request<'_>) -> Vec<NearMiss> {
        let (Some(slice), Ok((asked, entities))) =
            (self.slices.of(request.action), self.vocabulary.translate(request))
        else {
            return Vec::new();
        };
        let permits = slice.scopes.all().iter().filter(|policy| policy.effect() == Effect::Permit);
        let near = permits.filter_map(|policy| {
            let obstacle = obstacle(policy, &asked, &entities)?;
            Some(NearMiss { obstacle, policy: Arc::clone(self.names.get(policy.id())?) })
        });
        let mut near: Vec<NearMiss> = near.collect();
        near.sort_unstable();
        near.truncate(NEAR_MISSES);
        near
    }
}

fn obstacle(policy: &Policy, asked: &CedarRequest, entities: &Entities) -> Option<Obstacle> {
    let is_in = |group: &EntityUid, entity: &EntityUid| entities.is_ancestor_of(group, entity);
    let is = |of: &EntityTypeName, entity: &EntityUid| entity.type_name() == of;
    let resource = asked.resource()?;
    let covers_resource = match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Eq(named) => named == *resource,
        ResourceConstraint::In(folder) => is_in(&folder, resource),
        ResourceConstraint::Is(of) => is(&of, resource),
        ResourceConstraint::IsIn(of, folder) => is(&of, resource) && is_in(&folder, resource),
    };
    let principal = asked.principal()?;
    let covers_principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Eq(named) => named == *principal,
        PrincipalConstraint::In(group) => is_in(&group, principal),
        PrincipalConstraint::Is(of) => is(&of, principal),
        PrincipalConstraint::IsIn(of, group) => is(&of, principal) && is_in(&group, principal),
    };
    match (covers_resource, covers_principal) {
        (false, _) => None,
        (true, true) => Some(Obstacle::Conditions),
        (true, false) => Some(Obstacle::Principal),
    }
}

fn words(verdict: &Verdict, near_misses: &[NearMiss]) -> String {
    let quoted = |policies: &[Arc<str>]| format!("`{}`", policies.join("`, `"));
    match (verdict.decision, verdict.errors.first()) {
        (Decision::Allow, _) => String::new(),
        (Decision::Deny, Some(error)) => {
            format!("{error}; what cannot be evaluated is denied")
        }
        (Decision::Deny, None) if !verdict.policies.is_empty() => {
            format!(
                "forbidden by {}, which no policy that permits it can outweigh",
                quoted(&verdict.policies)
            )
        }
        (Decision::Deny, None) => {
            let near = near_misses.iter().map(|miss| match miss.obstacle {
                Obstacle::Conditions => format!("; `{}` would, but its conditions do not hold", miss.policy),
                Obstacle::Principal => format!("; `{}` does for other principals", miss.policy),
            });
            std::iter::once("no policy permits this".to_owned()).chain(near).collect()
        }
    }
}

const NEAR_MISSES: usize = 5;

//! Decisions that were made before, of one revision.

use bursar_core::SpiffeId;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::context_use::ContextUse;
use super::fingerprint::Fingerprint;
use super::policies::Verdict;
use super::request::Request;

/// A bounded memory of decisions. Its size is counted in bytes and not in entries, since a verdict names every policy
/// that decided and there can be many.
pub(super) struct Decisions(Cache<[u8; 32], Verdict, InBytes>);

impl Decisions {
    pub(super) fn with_capacity(bytes: u64) -> Self {
        let entries = usize::try_from(bytes / ENTRY).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(entries, bytes, InBytes))
    }

    /// The decision that was made before, or the one that `decide` makes.
    pub(super) fn recall(
        &self,
        request: &Request<'_>,
        uses: ContextUse,
        decide: impl FnOnce() -> Verdict,
    ) -> Verdict {
        let Some(key) = key(request, uses) else { return decide() };
        if let Some(verdict) = self.0.get(&key) {
            return verdict;
        }
        let verdict = decide();
        self.0.insert(key, verdict.clone());
        verdict
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Everything that the decision may depend on; nothing when that changes with each request.
fn key(request: &Request<'_>, uses: ContextUse) -> Option<[u8; 32]> {
    if uses.changing {
        return None;
    }
    let reason_given = uses.reason_given && request.context.reason().is_some();
    let print = Fingerprint::new()
        .part(request.principal.digest())
        .text(request.action.as_str())
        .part(&[u8::from(reason_given)]);
    let print = request.resource.digest_into(print);
    let approved_by = request.context.approved_by.iter().map(SpiffeId::as_str);
    // Whoever approved is looked up for each request, so an approval that ended is no part of the key any more.
    let print = if uses.approvals { print.texts(approved_by) } else { print };
    Some(print.finish())
}

#[derive(Clone)]
struct InBytes;

impl Weighter<[u8; 32], Verdict> for InBytes {
    fn weight(&self, _: &[u8; 32], verdict: &Verdict) -> u64 {
        let errors: usize = verdict.errors.iter().map(String::len).sum();
        let lists = 16 * verdict.policies.len() + 24 * verdict.errors.len() + errors;
        ENTRY + lists as u64
    }
}

/// What an entry takes without its lists: key, verdict, the heads of two lists and the cache's own upkeep.
const ENTRY: u64 = 192;
/// Enough for about 65,000 decisions by one policy each.
pub(super) const CAPACITY: u64 = 65_536 * (ENTRY + 16);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bursar_core::Reference;
    use bursar_core::audit::{Action, Decision};
    use jiff::Timestamp;

    use super::*;
    use crate::policy::{Context, Facts, PrincipalFacts, Resource};

    /// Asks about `number` secrets, one after the other, and is told `verdict`.
    fn fill(decisions: &Decisions, number: u32, verdict: &Verdict) {
        let id = SpiffeId::parse("spiffe://example.org/user/ada").expect("id");
        let (method, selectors, groups) = ("mtls".to_owned(), Vec::new(), Vec::new());
        let principal = PrincipalFacts::new(Facts { id, method, node: None, selectors, groups });
        for number in 0..number {
            let reference = Reference::parse(&format!("vault/{number}")).expect("reference");
            let context = Context { time: Timestamp::UNIX_EPOCH, reason: "", approved_by: &[] };
            let resource = Resource::secret(&reference);
            let request = Request { principal: &principal, action: Action::Read, resource, context };
            decisions.recall(&request, ContextUse::default(), || verdict.clone());
        }
    }

    fn verdict(policies: usize) -> Verdict {
        let policies = vec![Arc::from("p"); policies].into();
        Verdict { decision: Decision::Allow, policies, errors: Arc::default() }
    }

    #[test]
    fn what_is_kept_is_capped_however_much_is_asked() {
        let decisions = Decisions::with_capacity(1000 * (ENTRY + 16));
        fill(&decisions, 10_000, &verdict(1));
        assert!((500..=1000).contains(&decisions.len()), "{} are kept", decisions.len());
    }

    #[test]
    fn a_decision_by_many_policies_counts_for_more() {
        let decisions = Decisions::with_capacity(1000 * (ENTRY + 16));
        fill(&decisions, 10_000, &verdict(100));
        let kept = decisions.len() as u64;
        assert!(kept * (ENTRY + 1600) <= 1000 * (ENTRY + 16), "{kept} are kept");
    }
}

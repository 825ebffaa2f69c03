//! One revision of the policies.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bursar_core::SpiffeId;
use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::TrustDomain;
use cedar_policy::{AuthorizationError, Authorizer, Decision as CedarDecision, PolicyId};

use super::compile::{self, Compiled};
use super::decisions::{CAPACITY, Decisions};
use super::diagnostic::Diagnostic;
use super::registrations::Registrations;
use super::request::Request;
use super::slices::{Slice, Slices};
use super::vocabulary::Vocabulary;

/// One file of a set: `registrations.toml`, `grants.toml`, or policies in a file whose name ends in `.cedar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    pub name: String,
    pub text: String,
}

/// What policy says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub decision: Decision,
    /// The ids of the policies that decided, sorted; none when no policy applied, which is a denial.
    pub policies: Arc<[Arc<str>]>,
    /// Why the request could not be evaluated, which is a denial; none when it could.
    pub errors: Arc<[String]>,
}

/// One revision, ready to decide. It never changes.
pub struct Policies {
    pub(super) vocabulary: Vocabulary,
    pub(super) slices: Slices,
    pub(super) names: HashMap<PolicyId, Arc<str>>,
    authorizer: Authorizer,
    decisions: Decisions,
    registrations: Registrations,
    warnings: Vec<Diagnostic>,
}

impl Policies {
    /// Checks a whole set and makes it ready. `domain` is the broker's own trust domain, and `administrator` the
    /// principal whose certificate was made at first start: no registration may name it.
    ///
    /// # Errors
    /// Every fault of every file, in order of file and line.
    pub fn compile(
        files: &[PolicyFile],
        domain: &TrustDomain,
        administrator: &SpiffeId,
    ) -> Result<Self, Vec<Diagnostic>> {
        let Compiled { vocabulary, slices, names, registrations, warnings } =
            compile::compile(files, domain, administrator)?;
        let (authorizer, decisions) = (Authorizer::new(), Decisions::with_capacity(CAPACITY));
        Ok(Self { vocabulary, slices, names, authorizer, decisions, registrations, warnings })
    }

    /// Whether `request` is allowed. A decision that was made before costs about half a microsecond; a new one some tens
    /// of microseconds, and two more for every policy whose scope fits it.
    pub fn decide(&self, request: &Request<'_>) -> Verdict {
        if request.principal.breaks_glass() {
            return self.around(request.action);
        }
        let Some(slice) = self.slices.of(request.action) else { return self.evaluate(request) };
        self.decisions.recall(request, slice.uses, || self.evaluate(request))
    }

    /// Whether a policy about `action` looks at who approved a request: only then [`Context::approved_by`] is needed.
    ///
    /// [`Context::approved_by`]: super::Context::approved_by
    pub fn looks_at_approvals(&self, action: Action) -> bool {
        self.slices.of(action).is_some_and(|slice| slice.uses.approvals)
    }

    /// Whether policies decide about `action` at all.
    pub fn governs(&self, action: Action) -> bool {
        self.slices.of(action).is_some()
    }

    /// What the break-glass path may do. Cedar is not asked: a `forbid`, or a policy that cannot be evaluated, is what it
    /// has to get past.
    fn around(&self, action: Action) -> Verdict {
        let decision = if self.vocabulary.administers(action) { Decision::Allow } else { Decision::Deny };
        Verdict { decision, policies: Arc::new([BREAK_GLASS_RULE.into()]), errors: Arc::default() }
    }

    /// Which nodes speak for which workloads.
    pub fn registrations(&self) -> &Registrations {
        &self.registrations
    }

    /// What is allowed and looks like a mistake, in order of file and line.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// How many decisions are kept.
    pub fn cached(&self) -> usize {
        self.decisions.len()
    }

    /// Decides without looking at earlier decisions.
    pub(super) fn evaluate(&self, request: &Request<'_>) -> Verdict {
        let (asked, entities) = match self.vocabulary.translate(request) {
            Ok(translated) => translated,
            Err(error) => return Verdict::unanswerable(error.to_string()),
        };
        let Some(Slice { scopes, .. }) = self.slices.of(request.action) else {
            return Verdict::unanswerable(format!("no policy governs `{}`", request.action.as_str()));
        };
        let policies = match scopes.fitting(&asked, &entities) {
            Ok(policies) => policies,
            Err(error) => return Verdict::unanswerable(error.to_string()),
        };
        let response = self.authorizer.is_authorized(&asked, &policies, &entities);
        let failed: Vec<&AuthorizationError> = response.diagnostics().errors().collect();
        if failed.is_empty() {
            let decision = match response.decision() {
                CedarDecision::Allow => Decision::Allow,
                CedarDecision::Deny => Decision::Deny,
            };
            let policies = self.named(response.diagnostics().reason());
            return Verdict { decision, policies, errors: Arc::default() };
        }
        let ids = failed.iter().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        });
        let errors = failed.iter().take(ERRORS).map(ToString::to_string).collect();
        Verdict { decision: Decision::Deny, policies: self.named(ids), errors }
    }

    fn named(&self, ids: impl Iterator<Item: Borrow<PolicyId>>) -> Arc<[Arc<str>]> {
        let mut named: Vec<Arc<str>> = ids.filter_map(|id| self.names.get(id.borrow())).cloned().collect();
        named.sort_unstable();
        named.into()
    }
}

impl Verdict {
    fn unanswerable(error: String) -> Self {
        Self { decision: Decision::Deny, policies: Arc::default(), errors: Arc::new([error]) }
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("policies", &self.names.len()).finish_non_exhaustive()
    }
}

/// What records name as the policy that decided; no policy of a set begins so.
const BREAK_GLASS_RULE: &str = "bursar.break-glass";
/// Enough to find a fault by; a set where every policy fails must not make a large answer.
const ERRORS: usize = 8;

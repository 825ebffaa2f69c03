//! What the module promises, through its public face.

mod approving;
mod compiling;
mod deciding;
mod explaining;
mod granting;
mod scoping;

use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::TrustDomain;
use bursar_core::{BackendName, Reference, SecretPath, SpiffeId};
use jiff::Timestamp;

use super::*;

const WEDNESDAY_TEN: Timestamp = Timestamp::constant(1_795_600_800, 0);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("domain")
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/{path}")).expect("id")
}

fn files(given: &[(&str, &str)]) -> Vec<PolicyFile> {
    given
        .iter()
        .map(|(name, text)| PolicyFile { name: (*name).to_owned(), text: (*text).to_owned() })
        .collect()
}

fn try_compile(given: &[(&str, &str)]) -> Result<Policies, Vec<Diagnostic>> {
    Policies::compile(&files(given), &domain(), &id("user/admin"))
}

/// A set of one file, `p.cedar`.
fn compile(text: &str) -> Policies {
    try_compile(&[("p.cedar", text)]).unwrap_or_else(|faults| panic!("the set has faults: {faults:#?}"))
}

fn facts(path: &str) -> PrincipalFacts {
    let (id, method) = (id(path), "mtls".to_owned());
    PrincipalFacts::new(Facts { id, method, node: None, selectors: Vec::new(), groups: Vec::new() })
}

/// A workload that the node `web-1` speaks for.
fn spoken_for(path: &str, selectors: &[&str], groups: &[&str]) -> PrincipalFacts {
    PrincipalFacts::new(Facts {
        id: id(path),
        method: "node".to_owned(),
        node: Some(id("node/web-1")),
        selectors: selectors.iter().map(|text| Selector::parse(text).expect("selector")).collect(),
        groups: groups.iter().map(|text| GroupName::parse(text).expect("group")).collect(),
    })
}

fn ask<'a>(principal: &'a PrincipalFacts, action: Action, resource: Resource<'a>) -> Request<'a> {
    let context = Context { time: WEDNESDAY_TEN, reason: "", approved_by: &[] };
    Request { principal, action, resource, context }
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

fn reads(policies: &Policies, principal: &PrincipalFacts, secret: &str) -> Verdict {
    policies.decide(&ask(principal, Action::Read, Resource::secret(&reference(secret))))
}

fn may_read(policies: &Policies, principal: &PrincipalFacts, secret: &str) -> bool {
    reads(policies, principal, secret).decision == Decision::Allow
}

fn names(verdict: &Verdict) -> Vec<&str> {
    verdict.policies.iter().map(AsRef::as_ref).collect()
}

//! A request meets few policies, and what they say is what all of them would.

use cedar_policy::{Authorizer, PolicyId, PolicySet};
use proptest::prelude::*;

use super::*;

const PRINCIPALS: [&str; 6] = [
    "",
    "== Bursar::Principal::\"spiffe://example.org/ns/shop/sa/web\"",
    "in Bursar::Group::\"spiffe://example.org/ns/shop\"",
    "in Bursar::Group::\"ops\"",
    "is Bursar::Principal",
    "is Bursar::Principal in Bursar::Group::\"spiffe://example.org/ns\"",
];

const RESOURCES: [&str; 6] = [
    "",
    "== Bursar::Secret::\"vault/shop/db\"",
    "in Bursar::Folder::\"vault/shop\"",
    "in Bursar::Backend::\"vault\"",
    "is Bursar::Secret",
    "is Bursar::Secret in Bursar::Folder::\"aws/a/b\"",
];

/// The last fails wherever its scope fits.
const CONDITIONS: [&str; 3] =
    ["", "when { principal.kind == \"user\" }", "when { 9223372036854775807 + context.weekday > 0 }"];

fn policies() -> impl Strategy<Value = String> {
    let one = (any::<bool>(), 0..PRINCIPALS.len(), 0..RESOURCES.len(), 0..CONDITIONS.len());
    prop::collection::vec(one, 0..30).prop_map(|all| {
        let text =
            |(number, (permit, principal, resource, condition)): (usize, (bool, usize, usize, usize))| {
                let effect = if permit { "permit" } else { "forbid" };
                let (principal, resource) = (PRINCIPALS[principal], RESOURCES[resource]);
                let condition = CONDITIONS[condition];
                format!(
                    "@id(\"p{number}\") {effect} (principal {principal}, action == Bursar::Action::\"read\", \
                 resource {resource}) {condition};\n"
                )
            };
        all.into_iter().enumerate().map(text).collect()
    })
}

/// Decides by every policy of the action at once.
fn by_all(policies: &Policies, request: &Request<'_>) -> (bool, Vec<String>, Vec<String>) {
    let (asked, entities) = policies.vocabulary.translate(request).expect("translated");
    let mut all = PolicySet::new();
    for policy in policies.slices.of(request.action).expect("slice").scopes.all() {
        all.add(policy.clone()).expect("another id");
    }
    let response = Authorizer::new().is_authorized(&asked, &all, &entities);
    let named = |ids: Vec<&PolicyId>| {
        let mut named: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
        named.sort_unstable();
        named
    };
    let failed = response.diagnostics().errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    });
    let failed = named(failed.collect());
    let reasons = named(response.diagnostics().reason().collect());
    (response.decision() == cedar_policy::Decision::Allow, reasons, failed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_left_out_changes_no_decision(text in policies()) {
        let policies = compile(&text);
        let ops = spoken_for("workload/ops", &["unix:uid:1001"], &["ops"]);
        let who = [facts("ns/shop/sa/web"), facts("ns/shop/sa/api"), facts("ns/other/sa/web"), facts("user/ada"), ops];
        for principal in &who {
            for secret in ["vault/shop/db", "vault/shop/db/deep", "vault/top", "aws/a/b/c", "aws/a/x"] {
                let reference = reference(secret);
                let request = ask(principal, Action::Read, Resource::secret(&reference));
                let (allowed, reasons, failed) = by_all(&policies, &request);
                // Twice: made, and then known.
                for verdict in [policies.evaluate(&request), policies.evaluate(&request)] {
                    let due = allowed && failed.is_empty();
                    prop_assert_eq!(verdict.decision == Decision::Allow, due, "{} {}\n{}", principal.id, secret, &text);
                    let told: Vec<&str> = names(&verdict);
                    let known = if failed.is_empty() { &reasons } else { &failed };
                    prop_assert_eq!(told, known.iter().map(String::as_str).collect::<Vec<_>>());
                }
            }
        }
    }
}

#[test]
fn a_request_meets_those_that_are_about_it() {
    let text: String = (0..200)
        .map(|number| {
            format!(
                "permit (principal in Bursar::Group::\"spiffe://example.org/ns/team-{number}\", \
                 action in Bursar::Action::\"use\", resource in Bursar::Folder::\"vault/team-{number}\");\n"
            )
        })
        .collect();
    let policies = compile(&text);
    let (web, secret) = (facts("ns/team-7/sa/web"), reference("vault/team-7/db"));
    let request = ask(&web, Action::Read, Resource::secret(&secret));
    let (asked, entities) = policies.vocabulary.translate(&request).expect("translated");
    let slice = policies.slices.of(Action::Read).expect("slice");
    let fitting = slice.scopes.fitting(&asked, &entities).expect("a set");
    assert_eq!(fitting.policies().count(), 1, "of {}", slice.scopes.all().len());
    assert!(may_read(&policies, &web, "vault/team-7/db") && !may_read(&policies, &web, "vault/team-8/db"));
}

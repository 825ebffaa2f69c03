use super::*;

const FOUR_EYES: &str = r#"
    permit (principal, action, resource);
    @id("four-eyes")
    forbid (principal, action == Bursar::Action::"read", resource in Bursar::Folder::"vault/prod")
    unless { context.approvals >= 1 };
"#;

fn decide(policies: &Policies, action: Action, approved_by: &[SpiffeId]) -> Decision {
    let (ada, secret) = (facts("user/ada"), reference("vault/prod/db"));
    let request = ask(&ada, action, Resource::secret(&secret));
    let context = Context { approved_by, ..request.context };
    policies.decide(&Request { context, ..request }).decision
}

#[test]
fn a_decision_is_kept_for_those_who_approved_and_no_others() {
    let policies = compile(FOUR_EYES);
    let bob = [id("user/bob")];
    let asked: [&[SpiffeId]; 4] = [&[], &bob, &[], &bob];
    let decided = asked.map(|approved_by| decide(&policies, Action::Read, approved_by));
    assert_eq!(decided, [Decision::Deny, Decision::Allow, Decision::Deny, Decision::Allow]);
    assert_eq!(policies.cached(), 2, "one without and one with the approval");
}

#[test]
fn who_approved_and_how_many_can_be_asked_for() {
    let policies = compile(
        "permit (principal, action == Bursar::Action::\"read\", resource) when {
           context has approved_by && context.approved_by.contains(\"spiffe://example.org/user/bob\")
         };
         permit (principal, action == Bursar::Action::\"write\", resource) when { context.approvals >= 2 };",
    );
    let (bob, eve) = (id("user/bob"), id("user/eve"));
    let both = [bob.clone(), eve.clone()];
    assert_eq!(decide(&policies, Action::Read, &[]), Decision::Deny);
    assert_eq!(decide(&policies, Action::Read, &[eve]), Decision::Deny);
    assert_eq!(decide(&policies, Action::Read, &both), Decision::Allow);
    assert_eq!(decide(&policies, Action::Write, &[bob]), Decision::Deny);
    assert_eq!(decide(&policies, Action::Write, &both), Decision::Allow);
}

#[test]
fn only_actions_whose_policies_look_at_approvals_have_them_looked_up() {
    let policies = compile(FOUR_EYES);
    assert!(policies.looks_at_approvals(Action::Read));
    for action in [Action::Write, Action::Resolve, Action::Watch, Action::Expire] {
        assert!(!policies.looks_at_approvals(action), "{}", action.as_str());
    }
    assert!(!compile("permit (principal, action, resource);").looks_at_approvals(Action::Read));
}

#[test]
fn a_text_names_what_its_action_can_be_done_to() {
    let policies = compile("permit (principal, action, resource);");
    let ada = facts("user/ada");
    for action in Action::ALL.into_iter().filter(|action| policies.governs(*action)) {
        let text = if action == Action::RotateRoot { "vault" } else { "vault/a" };
        let target = Target::parse(action, text).expect("a target");
        let verdict = policies.decide(&ask(&ada, action, target.as_resource()));
        assert!(verdict.errors.is_empty(), "say in `Target::parse` what it is: {:?}", verdict.errors);
    }
}

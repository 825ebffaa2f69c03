use super::*;

const PAYMENTS: &str = r#"
    @id("payments")
    permit (
      principal in Bursar::Group::"spiffe://example.org/ns/payments",
      action in Bursar::Action::"use",
      resource in Bursar::Folder::"vault/payments"
    );
"#;

#[test]
fn what_no_policy_permits_is_denied() {
    let verdict = reads(&compile(""), &facts("ns/payments/sa/web"), "vault/payments/db");
    assert_eq!((verdict.decision, verdict.policies.len(), verdict.errors.len()), (Decision::Deny, 0, 0));
}

#[test]
fn a_folder_holds_what_is_below_it_and_nothing_else() {
    let policies = compile(PAYMENTS);
    let web = facts("ns/payments/sa/web");
    assert!(may_read(&policies, &web, "vault/payments/db"));
    assert!(may_read(&policies, &web, "vault/payments/eu/west/db#password@3"));
    for outside in ["vault/payments", "vault/payments2/db", "vault/other/payments/db", "aws/payments/db"] {
        assert!(!may_read(&policies, &web, outside), "`{outside}` is not in the folder");
    }
}

#[test]
fn a_backend_holds_all_its_secrets() {
    let policies = compile("permit (principal, action, resource in Bursar::Backend::\"vault\");");
    assert!(may_read(&policies, &facts("user/ada"), "vault/db"));
    assert!(may_read(&policies, &facts("user/ada"), "vault/a/b/c"));
    assert!(!may_read(&policies, &facts("user/ada"), "aws/db"));
}

#[test]
fn a_prefix_of_ids_ends_at_a_segment() {
    let policies = compile(PAYMENTS);
    for (outside, why) in [
        ("ns/payments2/sa/web", "another namespace"),
        ("ns/shop/sa/payments", "another namespace"),
        ("ns/payments", "the prefix itself, which is no member of itself"),
    ] {
        assert!(!may_read(&policies, &facts(outside), "vault/payments/db"), "{outside}: {why}");
    }
}

#[test]
fn a_forbid_outweighs_every_permit() {
    let policies = compile(&format!(
        "{PAYMENTS} @id(\"no-root\") forbid (principal, action, resource == Bursar::Secret::\"vault/payments/root\");"
    ));
    let web = facts("ns/payments/sa/web");
    let verdict = reads(&policies, &web, "vault/payments/root");
    assert_eq!((verdict.decision, names(&verdict)), (Decision::Deny, vec!["no-root"]));
    assert_eq!(names(&reads(&policies, &web, "vault/payments/db")), ["payments"]);
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    for effect in ["forbid", "permit"] {
        let policies = compile(&format!(
            "{PAYMENTS} @id(\"overflow\") {effect} (principal, action == Bursar::Action::\"read\", resource)
             when {{ context.weekday + 9223372036854775807 == 0 }};"
        ));
        let verdict = reads(&policies, &facts("ns/payments/sa/web"), "vault/payments/db");
        assert_eq!((verdict.decision, names(&verdict)), (Decision::Deny, vec!["overflow"]), "{effect}");
        assert!(verdict.errors.iter().any(|error| error.contains("overflow")), "{:?}", verdict.errors);
    }
}

#[test]
fn a_faulty_policy_about_one_action_leaves_the_others_alone() {
    let policies = compile(&format!(
        "{PAYMENTS} forbid (principal, action == Bursar::Action::\"write\", resource)
         when {{ context.weekday + 9223372036854775807 == 0 }};"
    ));
    assert!(may_read(&policies, &facts("ns/payments/sa/web"), "vault/payments/db"));
}

#[test]
fn every_action_is_decided_only_for_what_it_can_be_done_to() {
    let policies = compile("permit (principal, action, resource);");
    let (ada, secret) = (facts("user/ada"), reference("vault/a/b"));
    let backend = BackendName::parse("vault").expect("name");
    let folder = SecretPath::from_store("a").expect("path");
    let resources = [
        ("secret", Resource::secret(&secret)),
        ("folder", Resource::Folder { backend: &backend, path: &folder }),
        ("backend", Resource::Backend(&backend)),
        ("environment", Resource::Environment("payments/prod")),
        ("node", Resource::Node("web-1")),
        ("system", Resource::System),
    ];
    let allowed = |action| {
        let allowed = resources.iter().filter(|(_, resource)| {
            policies.decide(&ask(&ada, action, *resource)).decision == Decision::Allow
        });
        allowed.map(|(kind, _)| format!(" {kind}")).collect::<String>()
    };
    let table: Vec<String> =
        Action::ALL.into_iter().map(|action| format!("{}:{}", action.as_str(), allowed(action))).collect();
    assert_eq!(table.join("\n"), include_str!("../testdata/actions.golden").trim_end());
}

#[test]
fn a_request_that_makes_no_sense_says_so() {
    let policies = compile("permit (principal, action, resource);");
    let ada = facts("user/ada");
    let errors = |action, resource| policies.decide(&ask(&ada, action, resource)).errors.join("");
    assert_eq!(errors(Action::Read, Resource::Node("web-1")), "`read` cannot be done to a node");
    assert_eq!(errors(Action::Expire, Resource::System), "no policy governs `expire`");
}

#[test]
fn principals_show_what_their_ids_say() {
    let cases = [
        (
            "ns/shop/sa/web",
            "principal.kind == \"service-account\" && principal has namespace && \
          principal.namespace == \"shop\" && principal has service_account && principal.service_account == \"web\"",
        ),
        ("node/n1", "principal.kind == \"node\" && principal has name && principal.name == \"n1\""),
        ("user/ada", "principal.kind == \"user\" && principal has name && principal.name == \"ada\""),
        ("workload/w", "principal.kind == \"workload\" && principal has name && principal.name == \"w\""),
        (
            "a/b/c",
            "principal.kind == \"other\" && !(principal has name) && principal.trust_domain == \"example.org\"",
        ),
    ];
    for (path, condition) in cases {
        let policies = compile(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        assert!(may_read(&policies, &facts(path), "vault/a"), "`{path}` must fit `{condition}`");
    }
}

#[test]
fn what_a_node_attests_can_be_asked_for() {
    let policies = compile(
        "permit (principal in Bursar::Group::\"payments\", action, resource) when {
           principal.method == \"node\" && principal has node && principal.node like \"*/node/web-*\" &&
           principal.selectors.contains(\"unix:uid:1001\")
         };",
    );
    assert!(may_read(
        &policies,
        &spoken_for("workload/pay", &["unix:uid:1001", "unix:gid:5"], &["payments"]),
        "v/a"
    ));
    assert!(!may_read(&policies, &spoken_for("workload/pay", &["unix:uid:1002"], &["payments"]), "v/a"));
    assert!(!may_read(&policies, &spoken_for("workload/pay", &["unix:uid:1001"], &[]), "v/a"));
}

#[test]
fn an_environment_is_in_its_folders() {
    let policies = compile(
        "permit (principal, action == Bursar::Action::\"resolve\", \
         resource in Bursar::EnvironmentFolder::\"payments\");",
    );
    let ada = facts("user/ada");
    let resolves = |name| {
        policies.decide(&ask(&ada, Action::Resolve, Resource::Environment(name))).decision == Decision::Allow
    };
    assert!(resolves("payments/prod") && resolves("payments/eu/prod"));
    assert!(!resolves("payments") && !resolves("payments2/prod"));
}

#[test]
fn the_reason_and_the_time_are_those_of_the_request() {
    let policies = compile(
        "permit (principal, action, resource) when {
           context has reason && context.reason like \"INC-*\" && context.weekday < 6 &&
           context.time.toTime() >= duration(\"8h\") && context.time.toTime() < duration(\"18h\")
         };",
    );
    let (ada, secret) = (facts("user/ada"), reference("vault/a"));
    let allowed = |reason, time| {
        let request = ask(&ada, Action::Read, Resource::secret(&secret));
        let context = Context { time, reason, ..request.context };
        policies.decide(&Request { context, ..request }).decision == Decision::Allow
    };
    let hours = |hours: i64| Timestamp::from_second(WEDNESDAY_TEN.as_second() + hours * 3600).expect("time");
    assert!(allowed("INC-7", WEDNESDAY_TEN));
    assert!(!allowed("because", WEDNESDAY_TEN), "another reason");
    assert!(!allowed("INC-7", hours(9)), "in the evening");
    assert!(!allowed("INC-7", hours(3 * 24)), "on a Saturday");
    assert!(allowed("INC-7", hours(7)), "the answers before must not be kept");
    assert_eq!(policies.cached(), 0);
}

#[test]
fn a_blank_reason_is_none() {
    let policies = compile("permit (principal, action, resource) when { context has reason };");
    let (ada, secret) = (facts("user/ada"), reference("vault/a"));
    let allowed = |reason| {
        let request = ask(&ada, Action::Read, Resource::secret(&secret));
        let context = Context { reason, ..request.context };
        policies.decide(&Request { context, ..request }).decision == Decision::Allow
    };
    let answers = ["", "INC-7", " \t", "INC-8", ""].map(allowed);
    assert_eq!(answers, [false, true, false, true, false]);
    assert_eq!(policies.cached(), 2, "with and without a reason");
}

#[test]
fn the_version_asked_for_is_part_of_what_a_decision_is_kept_by() {
    let policies = compile("permit (principal, action, resource) unless { context has version };");
    let ada = facts("user/ada");
    assert!(may_read(&policies, &ada, "vault/a"));
    assert!(!may_read(&policies, &ada, "vault/a@3"));
    assert_eq!(policies.cached(), 2);
}

#[test]
fn a_decision_is_kept_for_equal_facts_only() {
    let policies = compile(
        "permit (principal, action, resource) when { principal.selectors.contains(\"unix:uid:1001\") };",
    );
    assert!(may_read(&policies, &spoken_for("workload/a", &["unix:uid:1001"], &[]), "vault/a"));
    assert!(!may_read(&policies, &spoken_for("workload/a", &["unix:uid:1002"], &[]), "vault/a"));
    assert!(may_read(&policies, &spoken_for("workload/a", &["unix:uid:1001"], &[]), "vault/a"));
    assert_eq!(policies.cached(), 2);
}

#[test]
fn revisions_do_not_share_decisions() {
    let before = compile("permit (principal, action, resource);");
    let after = compile("");
    let ada = facts("user/ada");
    assert!(may_read(&before, &ada, "vault/a"));
    assert!(!may_read(&after, &ada, "vault/a"));
    assert!(may_read(&before, &ada, "vault/a"));
}

#[test]
fn a_policy_about_the_time_of_writes_lets_reads_be_kept() {
    let policies = compile(
        "permit (principal, action == Bursar::Action::\"read\", resource);
         permit (principal, action == Bursar::Action::\"write\", resource) when { context.weekday < 6 };",
    );
    assert!(may_read(&policies, &facts("user/ada"), "vault/a"));
    assert_eq!(policies.cached(), 1);
}

#[test]
fn nodes_and_what_they_speak_for_never_govern() {
    let policies = compile("permit (principal, action, resource);");
    let governs = |facts: &PrincipalFacts, action, resource| {
        let verdict = policies.decide(&ask(facts, action, resource));
        (verdict.decision == Decision::Allow, names(&verdict).contains(&"bursar.nodes-never-govern"))
    };
    let (workload, node) = (spoken_for("workload/ci", &[], &[]), facts("node/web-1"));
    for (action, resource) in [
        (Action::ApplyPolicy, Resource::System),
        (Action::CreateJoinToken, Resource::Node("web-2")),
        (Action::EvictNode, Resource::Node("web-2")),
        (Action::Approve, Resource::Environment("payments/prod")),
        (Action::WithdrawApproval, Resource::System),
    ] {
        assert_eq!(governs(&workload, action, resource), (false, true), "{}", action.as_str());
        assert_eq!(governs(&node, action, resource), (false, true), "{}", action.as_str());
        assert_eq!(
            governs(&facts("workload/ci"), action, resource),
            (true, false),
            "with its own certificate"
        );
    }
}

#[test]
fn whoever_broke_the_glass_administers_past_every_policy_and_does_nothing_else() {
    let locked = r#"
        @id("nobody") forbid (principal, action, resource);
        @id("overflow") permit (principal, action, resource) when { 9223372036854775807 + context.weekday > 0 };
    "#;
    let policies = compile(locked);
    let known_by = |method: &str| {
        PrincipalFacts::new(Facts {
            id: id("user/break-glass"),
            method: method.to_owned(),
            node: None,
            selectors: Vec::new(),
            groups: Vec::new(),
        })
    };
    let (glass, certificate) = (known_by(BREAK_GLASS), known_by("mtls"));
    let secret = reference("vault/a");
    for (action, resource, decision) in [
        (Action::ApplyPolicy, Resource::System, Decision::Allow),
        (Action::EvictNode, Resource::Node("web-1"), Decision::Allow),
        (Action::Revoke, Resource::secret(&secret), Decision::Allow),
        (Action::QueryAudit, Resource::System, Decision::Allow),
        (Action::Read, Resource::secret(&secret), Decision::Deny),
        (Action::Resolve, Resource::Environment("a/b"), Decision::Deny),
        (Action::Watch, Resource::System, Decision::Deny),
    ] {
        let verdict = policies.decide(&ask(&glass, action, resource));
        assert_eq!(verdict.decision, decision, "{}", action.as_str());
        assert_eq!(names(&verdict), ["bursar.break-glass"]);
        let verdict = policies.decide(&ask(&certificate, action, resource));
        assert_eq!(verdict.decision, Decision::Deny, "a name alone breaks nothing: {}", action.as_str());
    }
}

#[test]
fn the_first_administrator_may_do_everything_but_read() {
    let administrator = id("user/admin");
    let set = Policies::bootstrap(&administrator);
    let policies = Policies::compile(&set, &domain(), &administrator).expect("a good set");
    let (admin, ada) = (facts("user/admin"), facts("user/ada"));
    let secret = reference("vault/a");
    let resource = |action| match action {
        Action::Read | Action::Write | Action::Delete | Action::List => Resource::secret(&secret),
        Action::Resolve | Action::Keep | Action::ApplyEnvironment | Action::DeleteEnvironment => {
            Resource::Environment("a/b")
        }
        Action::CreateJoinToken | Action::EvictNode => Resource::Node("web-1"),
        _ => Resource::System,
    };
    let denied = |who| -> Vec<&str> {
        let verdict = |action: &Action| policies.decide(&ask(who, *action, resource(*action)));
        let governed = Action::ALL.into_iter().filter(|action| verdict(action).errors.is_empty());
        let denied = governed.filter(|action| verdict(action).decision == Decision::Deny);
        denied.map(Action::as_str).collect()
    };
    assert_eq!(denied(&admin), ["read", "resolve", "keep"]);
    assert!(denied(&ada).len() > 15 && !denied(&ada).contains(&"watch"), "anybody else may only watch");
}

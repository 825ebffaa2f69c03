use super::*;

const TEMPLATE: &str = r#"
    @id("on-call")
    permit (principal in ?principal, action in Bursar::Action::"use", resource in ?resource)
    when { context has reason && context.reason like "INC-*" };
"#;

fn granting(grants: &str) -> Policies {
    try_compile(&[("t.cedar", TEMPLATE), ("grants.toml", grants)])
        .unwrap_or_else(|faults| panic!("the set has faults: {faults:#?}"))
}

fn because(policies: &Policies, principal: &PrincipalFacts, secret: &str, reason: &str) -> Decision {
    let (reference, time) = (reference(secret), WEDNESDAY_TEN);
    let resource = Resource::secret(&reference);
    let context = Context { time, reason, approved_by: &[] };
    policies.decide(&Request { principal, action: Action::Read, resource, context }).decision
}

#[test]
fn a_template_of_the_set_holds_for_whom_and_for_what_a_grant_says() {
    let policies = granting(
        r#"
        [[grant]]
        id = "payments-on-call"
        template = "on-call"
        principal = "payments"
        secrets = "vault/payments/*"
        "#,
    );
    let member = spoken_for("workload/web", &["unix:uid:1"], &["payments"]);
    let (allow, deny) = (Decision::Allow, Decision::Deny);
    assert_eq!(because(&policies, &member, "vault/payments/db", "INC-1"), allow);
    assert_eq!(because(&policies, &member, "vault/payments/db", "curious"), deny);
    assert_eq!(because(&policies, &member, "vault/shop/db", "INC-1"), deny);
    assert_eq!(because(&policies, &facts("user/ada"), "vault/payments/db", "INC-1"), deny);
    let asked = reference("vault/payments/db");
    let context = Context { time: WEDNESDAY_TEN, reason: "INC-1", approved_by: &[] };
    let resource = Resource::secret(&asked);
    let verdict = policies.decide(&Request { principal: &member, action: Action::Read, resource, context });
    assert_eq!(names(&verdict), ["payments-on-call"], "records name the grant");
}

#[test]
fn the_common_cases_need_no_cedar() {
    let policies = granting(
        r#"
        [[grant]]
        template = "bursar.use"
        principal = "spiffe://example.org/ns/shop/*"
        secrets = "vault/shop/*"
        [[grant]]
        template = "bursar.use"
        principal = "spiffe://example.org/ns/shop/*"
        environments = "shop/*"
        [[grant]]
        template = "bursar.use-with-reason"
        principal = "spiffe://example.org/user/ada"
        secrets = "vault/shop/db"
        [[grant]]
        template = "bursar.write"
        principal = "writers"
        secrets = "local/*"
        [[grant]]
        template = "bursar.administer"
        principal = "spiffe://example.org/user/ada"
        "#,
    );
    let (web, ada) = (facts("ns/shop/sa/web"), facts("user/ada"));
    let writer = spoken_for("workload/w", &["unix:uid:1"], &["writers"]);
    let allowed = |principal: &PrincipalFacts, action, resource| {
        policies.decide(&ask(principal, action, resource)).decision == Decision::Allow
    };
    let (db, local) = (reference("vault/shop/db"), reference("local/a"));
    assert!(may_read(&policies, &web, "vault/shop/db") && may_read(&policies, &web, "vault/shop/eu/db"));
    assert!(!may_read(&policies, &web, "vault/shops/db") && !may_read(&policies, &web, "local/a"));
    assert!(allowed(&web, Action::Resolve, Resource::Environment("shop/prod")));
    assert!(!allowed(&web, Action::Resolve, Resource::Environment("shop")));
    assert!(!may_read(&policies, &facts("ns/shop2/sa/web"), "vault/shop/db"));
    assert!(!may_read(&policies, &ada, "vault/shop/db"), "without a reason");
    assert_eq!(because(&policies, &ada, "vault/shop/db", "why"), Decision::Allow);
    assert!(
        allowed(&writer, Action::Write, Resource::secret(&local)) && !may_read(&policies, &writer, "local/a")
    );
    assert!(
        allowed(&ada, Action::ApplyPolicy, Resource::System)
            && !allowed(&web, Action::Delete, Resource::secret(&db))
    );
    // The guard is in force for what grants permit too.
    let policies = granting("[[grant]]\ntemplate = 'bursar.administer'\nprincipal = 'writers'\n");
    let verdict = policies.decide(&ask(&writer, Action::ApplyPolicy, Resource::System));
    assert_eq!((verdict.decision, names(&verdict)), (Decision::Deny, vec!["bursar.nodes-never-govern"]));
}

#[test]
fn a_copy_is_kept_by_a_right_of_its_own_that_comes_with_no_other() {
    let grant = |template: &str, resource: &str| {
        granting(&format!(
            "[[grant]]\ntemplate = '{template}'\nprincipal = 'spiffe://example.org/user/ada'\n{resource}"
        ))
    };
    let shop = "environments = 'shop/*'\n";
    let ada = facts("user/ada");
    let keeps = |policies: &Policies, environment| {
        policies.decide(&ask(&ada, Action::Keep, Resource::Environment(environment))).decision
            == Decision::Allow
    };
    for (template, resource) in [("bursar.use", shop), ("bursar.define", shop), ("bursar.administer", "")] {
        assert!(!keeps(&grant(template, resource), "shop/dev"), "{template}");
    }
    let policies = grant("bursar.keep", shop);
    assert!(keeps(&policies, "shop/dev") && !keeps(&policies, "pay/dev"));
    let resolve = ask(&ada, Action::Resolve, Resource::Environment("shop/dev"));
    assert_eq!(policies.decide(&resolve).decision, Decision::Deny, "nor does it come with one");
}

#[test]
fn nothing_that_a_grant_says_is_read_as_policy() {
    for principal in [
        r#"x\" || true"#,
        r#"spiffe://example.org/user/ada\", action, resource); permit (principal"#,
        "spiffe://example.org/*/x",
        "spiffe://*",
        "*",
        "",
    ] {
        let grants =
            format!("[[grant]]\ntemplate = 'bursar.use'\nprincipal = \"{principal}\"\nsecrets = 'vault/*'\n");
        let faults = try_compile(&[("grants.toml", &grants)]).expect_err(principal);
        assert!(faults.iter().all(|fault| fault.file == "grants.toml" && fault.line == 3), "{faults:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_grant_is_said_where_it_stands() {
    for (grant, line, said) in [
        ("template = 'nothing'", 2, "there is no template `nothing`"),
        ("template = 'on-call'\nprincipal = 'a'", 1, "`secrets`, `environments` or `node` is required"),
        ("template = 'on-call'\nsecrets = 'vault/*'", 1, "`principal` is required"),
        ("template = 'bursar.administer'\nprincipal = 'a'\nnode = 'web-1'", 4, "has no `?resource`"),
        ("template = 'bursar.use'\nprincipal = 'a'\nsecrets = 'vault/a#b'", 4, "names no secrets"),
        ("template = 'bursar.use'\nprincipal = 'a'\nsecrets = '/*'", 4, "names no secrets"),
        ("template = 'bursar.use'\nprincipal = 'a'\nenvironments = 'a//b'", 4, "names no environment"),
        ("template = 'bursar.use'\nprincipal = 'a'\nsecrets = 'v/*'\nnode = 'n'", 5, "for one thing"),
        ("template = 'bursar.use'\nprincipal = 'a'\nsecrets = 'v/*'\nid = 'a b'", 1, "is no id"),
        ("template = 'bursar.use'\nprincipal = 'a'\nsecrets = 'v/*'\nid = 'bursar.x'", 1, "the broker's own"),
        ("template = 'bursar.use'\nprincipal = 'a'\nsecrets = 'v/*'\nid = 'on-call'", 1, "is given twice"),
        ("template = 'bursar.use'\nwho = 'a'", 3, "unknown field `who`"),
    ] {
        let grants = format!("[[grant]]\n{grant}\n");
        let faults = try_compile(&[("t.cedar", TEMPLATE), ("grants.toml", &grants)]).expect_err(grant);
        let found = faults.iter().any(|fault| fault.line == line && fault.message.contains(said));
        assert!(found, "`{said}` in line {line}: {faults:#?}");
    }
}

#[test]
fn a_template_that_nobody_uses_or_could_name_is_said() {
    let policies = try_compile(&[("t.cedar", TEMPLATE)]).expect("no fault");
    let warned: Vec<String> = policies.warnings().iter().map(ToString::to_string).collect();
    assert!(warned.iter().any(|warning| warning.contains("t.cedar:2:5: no grant fills")), "{warned:?}");
    assert!(!may_read(&policies, &facts("user/ada"), "vault/a"), "it permits nothing by itself");
    let nameless = "permit (principal in ?principal, action, resource);";
    let faults = try_compile(&[("t.cedar", nameless)]).expect_err("a fault");
    assert!(faults.iter().any(|fault| fault.message.contains("has no `@id`")), "{faults:#?}");
    // What is wrong inside a template is found though nobody uses it.
    let faulty = TEMPLATE.replace("context.reason", "context.raeson");
    assert!(try_compile(&[("t.cedar", &faulty)]).is_err());
}

use super::*;

const SET: &str = r#"
    @id("payments")
    permit (
      principal in Bursar::Group::"spiffe://example.org/ns/payments",
      action in Bursar::Action::"use",
      resource in Bursar::Folder::"vault/payments"
    );
    @id("with-reason")
    permit (principal, action == Bursar::Action::"read", resource in Bursar::Folder::"vault/payments")
    when { context has reason };
    @id("elsewhere")
    permit (principal, action, resource in Bursar::Folder::"vault/shop");
    @id("no-root")
    forbid (principal, action, resource == Bursar::Secret::"vault/payments/root");
"#;

fn explain(path: &str, action: Action, secret: &str) -> Explanation {
    compile(SET).explain(&ask(&facts(path), action, Resource::secret(&reference(secret))))
}

#[test]
fn what_is_allowed_needs_no_words() {
    let explanation = explain("ns/payments/sa/web", Action::Read, "vault/payments/db");
    assert_eq!((names(&explanation.verdict), explanation.words.as_str()), (vec!["payments"], ""));
}

#[test]
fn a_denial_names_the_policies_that_come_close() {
    let explanation = explain("ns/shop/sa/web", Action::Read, "vault/payments/db");
    assert_eq!(
        explanation.words,
        "no policy permits this; `with-reason` would, but its conditions do not hold; `payments` does for other \
         principals"
    );
    let obstacles: Vec<_> = explanation.near_misses.iter().map(|miss| miss.obstacle).collect();
    assert_eq!(obstacles, [Obstacle::Conditions, Obstacle::Principal]);
}

#[test]
fn a_denial_that_nothing_comes_close_to_is_short() {
    assert_eq!(explain("user/ada", Action::Write, "vault/payments/db").words, "no policy permits this");
}

#[test]
fn a_forbid_is_named() {
    assert_eq!(
        explain("ns/payments/sa/web", Action::Read, "vault/payments/root").words,
        "forbidden by `no-root`, which no policy that permits it can outweigh"
    );
}

#[test]
fn a_request_that_makes_no_sense_is_explained() {
    let policies = compile(SET);
    let explanation = policies.explain(&ask(&facts("user/ada"), Action::EvictNode, Resource::System));
    assert_eq!(
        explanation.words,
        "`evict-node` cannot be done to the system; what cannot be evaluated is denied"
    );
}

#[test]
fn a_denial_says_that_approvals_are_looked_at() {
    let policies = compile(
        "@id(\"readers\") permit (principal, action == Bursar::Action::\"read\", resource);
         @id(\"four-eyes\") forbid (principal, action == Bursar::Action::\"read\", resource)
         unless { context.approvals >= 2 };
         @id(\"writers\") permit (principal, action == Bursar::Action::\"write\", resource)
         when { context.approvals >= 1 };",
    );
    let (ada, secret, bob) = (facts("user/ada"), reference("vault/a"), [id("user/bob")]);
    let words = |action, approved_by| {
        let request = ask(&ada, action, Resource::secret(&secret));
        let context = Context { approved_by, ..request.context };
        policies.explain(&Request { context, ..request }).words
    };
    assert_eq!(
        words(Action::Read, &[]),
        "forbidden by `four-eyes`, which no policy that permits it can outweigh; `four-eyes` looks at approvals, and \
         nobody has approved this"
    );
    assert!(words(Action::Read, &bob).ends_with("and one person has approved this"));
    assert_eq!(
        words(Action::Write, &[]),
        "no policy permits this; `writers` would, but its conditions do not hold; `writers` looks at approvals, and \
         nobody has approved this"
    );
    assert_eq!(words(Action::Write, &bob), "");
}
